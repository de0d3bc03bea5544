"""Charts: made once, matched many times, with the same bits as their observations; saved and loaded."""

from __future__ import annotations

import functools
import pickle

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from diffeo.charts import chart as module
from support.forgeries import forge
from support.samples import random_orthogonal, smooth_map, square
from support.stored import assert_same, parts

A, B = smooth_map(2, 5, 10), smooth_map(2, 6, 11)
LANDMARKS, NEW = square(12, 2, 98), 0.02 + 0.96 * square(50, 2, 99)


@functools.cache
def observed(kind, seed=0):
    """An observation: of a square, by bursts, of a sphere, or of two squares far apart."""
    if kind == "sphere":
        x = np.random.default_rng(seed).normal(size=(500, 3))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        frame = np.linalg.qr(np.concatenate([x[:, :, None], random_orthogonal(500, 3, seed)[:, :, :2]], axis=2))[0]
        points, jacobians = smooth_map(3, 6, 5 + seed, 0.1)(x)
        return Observation.from_jacobians(points, jacobians @ frame[:, :, 1:])
    x = square(300, 2, 50 + seed)
    if kind == "pieces":
        x = x + 10.0 * (x[:, :1] > 0.5)
    measure = (A, B)[seed]
    if kind != "bursts":
        return Observation.from_jacobians(*measure(x))
    moved = x[:, None] + 0.01 * np.random.default_rng(3 + seed).normal(size=(300, 20, 2))
    return Observation.from_bursts(
        measure(x)[0], measure(moved.reshape(-1, 2))[0].reshape(300, 20, -1), scale=0.01, dim=2
    )


def landmarks():
    return A(LANDMARKS)[0], B(LANDMARKS)[0]


def sphere_landmarks():
    x = np.random.default_rng(9).normal(size=(5, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return smooth_map(3, 6, 5, 0.1)(x)[0], smooth_map(3, 6, 6, 0.1)(x)[0]


# What a chart is


def test_isometric_coordinates_are_the_inputs_up_to_a_motion():
    chart = diffeo.embed(observed("square"))
    assert (chart.kind, chart.problems, chart.periods.shape) == ("isometric", [], (0, 2))
    x = square(300, 2, 50)
    p, q = chart.coordinates - chart.coordinates.mean(axis=0), x - x.mean(axis=0)
    u, _, vt = np.linalg.svd(p.T @ q)
    assert relative_error(p @ u @ vt, q) < 1e-3
    there = chart.transform(A(NEW)[0])
    assert relative_error(chart.inverse_transform(there), A(NEW)[0]) < 1e-3
    assert repr(chart).startswith("Chart(isometric coordinates of Observation(300 samples")


def test_kinds():
    assert diffeo.embed(observed("square"), coordinates="diffusion").kind == "diffusion"
    sphere = diffeo.embed(observed("sphere"))
    assert sphere.kind == "diffusion"
    assert sphere.coordinates.shape == (500, 3)
    assert "no isometric coordinates (relative stress" in sphere.problems[0]
    forced = diffeo.embed(observed("sphere"), coordinates="isometric")
    assert forced.kind == "isometric"
    assert "cannot keep all local lengths" in forced.problems[0]


def test_an_observation_in_pieces_has_no_coordinates():
    chart = diffeo.embed(observed("pieces"))
    assert chart.kind == "none"
    assert [text.split(":")[0] for text in chart.problems] == ["no isometric coordinates", "no diffusion coordinates"]
    for use in (lambda: chart.coordinates, lambda: chart.transform(A(NEW)[0]), lambda: chart.left_out):
        with pytest.raises(errors.DisconnectedError, match=r"has no coordinates: .*pieces"):
            use()
    for coordinates in ("isometric", "diffusion"):
        with pytest.raises(errors.DisconnectedError, match=r"the observation.* falls into"):
            diffeo.embed(observed("pieces"), coordinates=coordinates)


def test_what_is_left_out_is_said():
    points, jacobians = A(square(300, 2, 50))
    jacobians = jacobians.copy()
    jacobians[[7, 100]] = 0.0
    with pytest.warns(errors.RankWarning):
        observation = Observation.from_jacobians(points, jacobians, dim=2)
    for coordinates in ("isometric", "diffusion"):
        chart = diffeo.embed(observation, coordinates=coordinates)
        assert {7, 100} <= set(chart.left_out.tolist())
        assert any("2 samples are rank-deficient" in text for text in chart.problems)


def test_points_outside_are_warned_of():
    chart = diffeo.embed(observed("square"))
    with pytest.warns(errors.OutOfDomainWarning, match="1 of 2 points"):
        chart.transform(np.vstack([A(NEW)[0][:1], A(NEW)[0][:1] + 100.0]))
    with pytest.raises(errors.ShapeError, match="points has shape"):
        chart.transform(np.ones((3, 4)))
    with pytest.raises(errors.ShapeError, match="coordinates has shape"):
        chart.inverse_transform(np.ones((3, 3)))
    with pytest.raises(errors.NonFiniteError):
        chart.transform(np.full((1, 5), np.nan))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((30, 2)),), errors.DataTypeError, "must be a diffeo.Observation, not ndarray"),
        ((None,), errors.DataTypeError, "NoneType"),
    ],
)
def test_only_observations_are_embedded(arguments, error, message):
    with pytest.raises(error, match=message):
        diffeo.embed(*arguments)


@pytest.mark.parametrize("coordinates", ["linear", None, ["auto"]])
def test_other_coordinates_are_refused(coordinates):
    with pytest.raises(errors.ParameterError, match="coordinates must be"):
        diffeo.embed(observed("square"), coordinates=coordinates)


# Matching charts


@pytest.mark.parametrize("coordinates", ["auto", "isometric", "diffusion"])
@pytest.mark.parametrize("kind", ["square", "bursts"])
def test_charts_match_with_the_bits_of_their_observations(kind, coordinates):
    sides = observed(kind, 0), observed(kind, 1)
    plain = match(*sides, landmarks=landmarks(), coordinates=coordinates)
    charts = [diffeo.embed(side, coordinates=coordinates) for side in sides]
    mixed = sides[0], diffeo.embed(sides[1])
    for pair, asked in ((charts, "auto"), (charts, coordinates), (mixed, coordinates)):
        found = match(*pair, landmarks=landmarks(), coordinates=asked)
        assert found.transform(A(NEW)[0]).tobytes() == plain.transform(A(NEW)[0]).tobytes()
        assert found.inverse_transform(B(NEW)[0]).tobytes() == plain.inverse_transform(B(NEW)[0]).tobytes()
        assert found.diagnostics.problems == plain.diagnostics.problems


def test_charts_of_curved_domains_are_registered_with_the_same_bits():
    sides = observed("sphere", 0), observed("sphere", 1)
    plain = match(*sides, landmarks=sphere_landmarks())
    charts = [diffeo.embed(side) for side in sides]
    for _ in range(2):
        found = match(*charts, landmarks=sphere_landmarks())
        assert found.registration is not None
        assert found.transform(sphere_landmarks()[0]).tobytes() == plain.transform(sphere_landmarks()[0]).tobytes()


def test_a_chart_is_made_once(monkeypatch):
    made = []

    def counted(function):
        def call(*arguments):
            made.append(function.__name__)
            return function(*arguments)

        return call

    for name in ("isometric_chart", "diffusion_chart", "automatic_epsilon"):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    charts = [diffeo.embed(observed("square", seed)) for seed in (0, 1)]
    assert made == ["isometric_chart"] * 2
    for _ in range(2):
        match(*charts, landmarks=landmarks())
        diffeo.screen(*charts)
        diffeo.reconstruct(charts[0], np.arange(8), square(300, 2, 50)[:8])
    # Two halves of each, to check the match, are made once as well.
    assert made == ["isometric_chart"] * (2 + 4)
    for _ in range(2):
        match(*charts, landmarks=landmarks(), coordinates="diffusion")
    assert made[6:].count("diffusion_chart") == 2 + 4
    assert made[6:].count("automatic_epsilon") == 2 + 4


def test_charts_keep_few_kernels():
    chart = diffeo.embed(observed("square"), coordinates="diffusion")
    own = chart.diffusion(*chart.own_bandwidth)
    others = [chart.diffusion(factor * chart.epsilon, "the observation") for factor in (1.1, 1.2, 1.3)]
    kept = [made for key, made in chart._made.items() if key[0] == "diffusion"]
    assert kept == [own, others[-1]]
    assert chart.diffusion(*chart.own_bandwidth) is own
    assert chart.diffusion(1.3 * chart.epsilon, "the observation") is others[-1]


def test_screen_and_reconstruct_give_the_bits_of_the_observation():
    for kind in ("square", "bursts"):
        sides = observed(kind, 0), observed(kind, 1)
        charts = [diffeo.embed(sides[0]), diffeo.embed(sides[1], coordinates="diffusion")]
        assert diffeo.screen(*charts).to_dict() == diffeo.screen(*sides).to_dict()
        x = square(300, 2, 50)
        plain, found = (diffeo.reconstruct(one, np.arange(8), x[:8]) for one in (sides[0], charts[0]))
        assert found.predict(A(NEW)[0]).tobytes() == plain.predict(A(NEW)[0]).tobytes()
    with pytest.raises(errors.ParameterError, match="chart of diffusion coordinates"):
        diffeo.reconstruct(charts[1], np.arange(8), x[:8])
    with pytest.raises(errors.DisconnectedError, match=r"observation to reconstruct from: .*pieces"):
        diffeo.reconstruct(diffeo.embed(observed("pieces")), np.arange(8), x[:8])


def test_charts_in_pieces_are_matched_as_their_observations_are():
    with pytest.raises(errors.LandmarkError) as plain:
        match(observed("pieces"), observed("square", 1))
    with pytest.raises(errors.LandmarkError) as found:
        match(diffeo.embed(observed("pieces")), observed("square", 1))
    assert str(found.value) == str(plain.value)
    assert "observation A" in str(plain.value)


def test_charts_of_two_kinds_are_not_joined():
    one = diffeo.embed(observed("square"), coordinates="isometric")
    other = diffeo.embed(observed("square", 1), coordinates="diffusion")
    with pytest.raises(errors.ParameterError, match="cannot be joined; embed both alike"):
        match(one, other, landmarks=landmarks())
    with pytest.raises(errors.ParameterError, match=r'obs_a is a chart of isometric .*"diffusion" needs'):
        match(one, observed("square", 1), landmarks=landmarks(), coordinates="diffusion")
    with pytest.raises(
        errors.DataTypeError, match=r"obs_b must be a diffeo.Observation or a diffeo.Chart, not ndarray"
    ):
        match(one, observed("square").points)


def test_charts_are_sent_to_other_processes():
    for name, marks in (("square", landmarks()), ("sphere", sphere_landmarks())):
        charts = [diffeo.embed(observed(name, seed)) for seed in (0, 1)]
        sent = pickle.loads(pickle.dumps(charts))
        plain, found = match(*charts, landmarks=marks), match(*sent, landmarks=marks)
        assert found.transform(marks[0]).tobytes() == plain.transform(marks[0]).tobytes()


# Files


def charts():
    return {
        "isometric": diffeo.embed(observed("square")),
        "bursts": diffeo.embed(observed("bursts")),
        "diffusion": diffeo.embed(observed("bursts"), coordinates="diffusion", random_state=3),
        "sphere": diffeo.embed(observed("sphere")),
        "stressed": diffeo.embed(observed("sphere"), coordinates="isometric"),
        "pieces": diffeo.embed(observed("pieces")),
        "unknown unit": diffeo.embed(
            Observation.from_neighbors(
                np.column_stack([np.cos(np.arange(80) / 40), np.sin(np.arange(80) / 40)]), dim=1
            ),
            coordinates="diffusion",
        ),
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("charts"), charts()
    for name, chart in found.items():
        chart.save(folder / f"{name}.safetensors")
    return folder, found


@pytest.mark.parametrize("name", ["isometric", "bursts", "diffusion", "sphere", "stressed", "pieces", "unknown unit"])
def test_charts_come_back(name, saved, tmp_path, monkeypatch):
    folder, found = saved
    chart = found[name]
    # Nothing is embedded again.
    for function in ("isometric_chart", "diffusion_chart", "automatic_epsilon"):
        monkeypatch.setattr(module, function, None)
    loaded = diffeo.load(folder / f"{name}.safetensors")
    assert isinstance(loaded, diffeo.Chart)
    assert_same(chart.observation, loaded.observation)
    assert (loaded.kind, loaded.problems, loaded.asked) == (chart.kind, chart.problems, chart.asked)
    assert loaded.random_state == chart.random_state
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (folder / f"{name}.safetensors").read_bytes()
    if name == "pieces":
        return
    assert loaded.coordinates.tobytes() == chart.coordinates.tobytes()
    if name == "stressed":
        return  # whose samples are off their own layout
    points = chart.observation.points[:20]
    assert loaded.transform(points).tobytes() == chart.transform(points).tobytes()
    at = chart.coordinates[:20]
    assert loaded.inverse_transform(at).tobytes() == chart.inverse_transform(at).tobytes()


def test_loaded_charts_match_with_the_same_bits(saved):
    folder, found = saved
    for name, side, marks in (
        ("bursts", observed("bursts", 1), landmarks()),
        ("sphere", observed("sphere", 1), sphere_landmarks()),
    ):
        plain = match(found[name].observation, side, landmarks=marks)
        again = match(diffeo.load(folder / f"{name}.safetensors"), side, landmarks=marks)
        assert again.transform(marks[0]).tobytes() == plain.transform(marks[0]).tobytes()


HOSTILE = [
    ("isometric", {"asked": "linear"}, "asked is 'linear'"),
    ("isometric", {"asked": "diffusion"}, "does not hold what a chart"),
    ("isometric", {"asked": 3}, "asked must be str"),
    ("isometric", {"disconnected": "pieces"}, "disconnected is said"),
    ("isometric", {"no_diffusion": 0}, "no_diffusion must be str"),
    ("isometric", {"random_state": -1}, "random_state"),
    ("isometric", {"epsilon": 0.0}, "epsilon must be"),
    ("isometric", {"more": 1}, "unexpected entries: 'more'"),
    ("pieces", {"disconnected": ""}, "disconnected is said"),
    ("pieces", {"asked": "isometric"}, "does not hold what a chart"),
    ("pieces", {"no_diffusion": ""}, "its diffusion coordinates are missing"),
    ("sphere", {"no_diffusion": "none"}, "diffusion coordinates that are there"),
    ("bursts", {"observation.dim": 1}, "dim = 1 does not fit"),
]


@pytest.mark.parametrize(("name", "change", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_charts_are_refused(name, change, message, saved, tmp_path):
    description, tensors = parts(saved[0] / f"{name}.safetensors")
    description["entries"] |= change
    forge(tmp_path / "c.safetensors", description, tensors)
    with pytest.raises(errors.StorageError, match=message):
        diffeo.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize(("name", "at"), [("bursts", "isometric."), ("diffusion", "diffusion.")])
def test_charts_of_other_observations_are_refused(name, at, saved, tmp_path):
    description, tensors = parts(saved[0] / f"{name}.safetensors")
    tensors["observation.points"] = tensors["observation.points"] + 1.0
    forge(tmp_path / "c.safetensors", description, tensors)
    with pytest.raises(errors.StorageError, match=r"the observation is not that of its|not those of the kernel"):
        diffeo.load(tmp_path / "c.safetensors")
