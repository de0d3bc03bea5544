"""`match` on measurement maps with exact Jacobians: how accurate it is, and what it says where it is not."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace

import numpy as np
import pytest
from conftest import smooth_map, square
from diffeo import Observation, errors, match, relative_error

THREE = np.array([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8]])
SIX = np.vstack([THREE, [[0.7, 0.6], [0.2, 0.5], [0.85, 0.9]]])
NEW = 0.01 + 0.98 * square(300, seed=999)


def maps(seed=0):
    """The measurements of the two networks."""
    return smooth_map(2, 5, 2 * seed), smooth_map(2, 6, 2 * seed + 1)


@functools.cache
def observations(seed=0, n=2000):
    """Both observations; they share no input."""
    a, b = maps(seed)
    return (
        Observation.from_jacobians(*a(square(n, 2, 50 + seed))),
        Observation.from_jacobians(*b(square(n, 2, 150 + seed))),
    )


def at(measures, x):
    """Measurements of both networks at common inputs."""
    return tuple(measure(x)[0] for measure in measures)


@functools.cache
def matched(seed=0, coordinates="auto"):
    return match(*observations(seed), landmarks=at(maps(seed), THREE), coordinates=coordinates)


def both_errors(found, measures, x):
    """Relative errors of the forward and the backward map at new inputs."""
    a, b = at(measures, x)
    return relative_error(found.transform(a), b), relative_error(found.inverse_transform(b), a)


def assert_names(found, *words):
    """Some problem mentions each of the words."""
    for word in words:
        assert any(word in problem for problem in found.diagnostics.problems), found.diagnostics.problems


# --- good pairs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_three_landmarks_are_enough_with_isometric_coordinates(seed):
    found = matched(seed)
    assert found.coordinates == "isometric"
    assert max(both_errors(found, maps(seed), NEW)) < 0.005
    assert found.diagnostics.problems == []
    assert found.alignment.kind == "rigid"
    assert found.candidates == [found.alignment]
    assert found.scale == pytest.approx(1.0, abs=5e-3)
    assert max(found.diagnostics.stress) < 2e-3
    assert found.diagnostics.generator_eigenvalues is None
    assert repr(found).startswith("Transformation(5 measurements of A <-> 6 of B, dim=2, isometric coordinates")


@pytest.mark.parametrize("seed", range(4))
def test_three_landmarks_with_diffusion_coordinates(seed):
    found = matched(seed, "diffusion")
    assert found.coordinates == "diffusion"
    forward, backward = both_errors(found, maps(seed), NEW)
    assert forward < 0.11
    assert backward < 0.11
    assert found.diagnostics.problems == []
    assert found.scale == pytest.approx(1.0, abs=0.03)
    a, b = found.diagnostics.generator_eigenvalues
    np.testing.assert_allclose(a[:4] / b[:4], 1.0, atol=0.05)
    assert all(0 <= share < 0.05 for share in found.diagnostics.gated_share)
    assert found.diagnostics.stress is None


def test_many_landmarks_do_no_worse():
    x = square(60, seed=77)
    found = match(*observations(), landmarks=at(maps(), x))
    assert max(both_errors(found, maps(), NEW)) < 0.002
    assert found.diagnostics.landmark_residual < 0.002


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_landmarks_as_rows(coordinates):
    measures = maps()
    a, b = square(2000, seed=50), square(2000, seed=150)
    rows = np.array([[5, 1999], [700, 3], [1400, 44], [9, 8]])
    b[rows[:, 1]] = a[rows[:, 0]]
    pair = [Observation.from_jacobians(*measure(x)) for measure, x in zip(measures, (a, b), strict=True)]
    by_rows = match(*pair, landmarks=rows, coordinates=coordinates)
    by_points = match(*pair, landmarks=at(measures, a[rows[:, 0]]), coordinates=coordinates)
    assert max(both_errors(by_rows, measures, NEW)) < (0.005 if coordinates == "isometric" else 0.12)
    y = measures[0](NEW)[0]
    tolerance = 1e-3 if coordinates == "isometric" else 0.05
    assert relative_error(by_rows.transform(y), by_points.transform(y)) < tolerance
    again = match(*pair, landmarks=rows.tolist(), coordinates=coordinates)
    np.testing.assert_array_equal(again.transform(y), by_rows.transform(y))


def test_backward_undoes_forward():
    found = matched()
    y = maps()[0](NEW)[0]
    assert relative_error(found.inverse_transform(found.transform(y)), y) < 1e-4
    c = found.intrinsic(y)
    assert c.shape == (300, 2)
    # Intrinsic coordinates are isometric to the inputs.
    spread = np.linalg.norm(c - c.mean(axis=0))
    assert spread == pytest.approx(np.linalg.norm(NEW - NEW.mean(axis=0)), rel=2e-3)


def test_one_and_three_dimensions():
    for dim, n, tolerance in ((1, 600, 1e-3), (3, 3000, 0.03)):
        measures = smooth_map(dim, 2 * dim + 1, 3), smooth_map(dim, 2 * dim + 2, 4)
        pair = [Observation.from_jacobians(*m(square(n, dim, s))) for s, m in enumerate(measures)]
        found = match(*pair, landmarks=at(measures, square(dim + 3, dim, 8)))
        assert max(both_errors(found, measures, 0.05 + 0.9 * square(200, dim, 9))) < tolerance
        assert found.diagnostics.problems == []


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_bits_do_not_depend_on_the_number_of_threads(coordinates):
    pair, y = observations(1), maps(1)[0](NEW)[0]
    results = [
        match(*pair, landmarks=at(maps(1), THREE), coordinates=coordinates, n_jobs=n_jobs).transform(y)
        for n_jobs in (1, 2, 1)
    ]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


# --- closed domains -----------------------------------------------------------------------------------------


def circle_map(seed):
    measure = smooth_map(2, 5, seed, bend=0.2)

    def along(angle):
        y, jacobians = measure(np.hstack([np.cos(angle), np.sin(angle)]))
        return y, jacobians @ np.hstack([-np.sin(angle), np.cos(angle)])[:, :, None]

    return along


@pytest.mark.parametrize(
    ("n", "coordinates", "tolerance"), [(500, "auto", 0.15), (1500, "auto", 0.05), (1500, "diffusion", 0.05)]
)
def test_a_circle_is_matched_on_diffusion_coordinates(n, coordinates, tolerance):
    measures = circle_map(2), circle_map(3)
    pair = [Observation.from_jacobians(*m(2 * np.pi * square(n, 1, s))) for s, m in zip((2, 21), measures, strict=True)]
    landmarks = at(measures, np.array([[0.3], [1.7], [3.1], [5.0]]))
    found = match(*pair, landmarks=landmarks, coordinates=coordinates)
    assert found.coordinates == "diffusion"
    assert found.diagnostics.problems == []
    assert max(both_errors(found, measures, 2 * np.pi * square(300, 1, 7))) < tolerance


def test_isometric_coordinates_of_a_circle_have_problems():
    measures = circle_map(1), circle_map(2)
    angles = [2 * np.pi * square(1500, 1, s) for s in (1, 20)]
    angles[1][:4] = angles[0][:4] = [[0.3], [1.7], [3.1], [5.0]]
    pair = [Observation.from_jacobians(*m(t)) for m, t in zip(measures, angles, strict=True)]
    found = match(*pair, landmarks=np.arange(4)[:, None] * [1, 1], coordinates="isometric")
    assert_names(found, "on side A the coordinates cannot keep all local lengths", "on side B the coordinates cannot")


# --- units --------------------------------------------------------------------------------------------------


def test_an_unknown_unit_gives_a_similarity_and_its_scale():
    a, b = observations()
    thrice = replace(b, whitening=b.whitening / 3.0, singular_values=b.singular_values * 3.0, known_unit=False)
    found = match(a, thrice, landmarks=at(maps(), SIX))
    assert found.alignment.kind == "similarity"
    assert found.scale == pytest.approx(1 / 3, rel=5e-3)
    assert found.diagnostics.problems == []
    assert max(both_errors(found, maps(), NEW)) < 0.005


@pytest.mark.parametrize(("factor", "suspicious"), [(3.0, True), (1.03, True), (1.01, False)])
def test_a_known_unit_that_is_off_is_a_problem(factor, suspicious):
    a, b = observations()
    found = match(a, replace(b, whitening=b.whitening * factor), landmarks=at(maps(), SIX))
    assert found.alignment.kind == "rigid"
    assert found.alignment.scale == pytest.approx(factor, rel=5e-3)
    assert any("times as far apart" in problem for problem in found.diagnostics.problems) == suspicious


def test_neighbors_of_a_curve_leave_the_unit_open():
    # By arc length both sides see their own curve: equal up to a factor only where the stretch is constant.
    def helix(t):
        return np.hstack([np.cos(3 * t), np.sin(3 * t), 2 * t])

    def line(t):
        return np.hstack([5 * t, -t])

    x = square(800, 1), square(800, 1, seed=1)
    pair = [
        Observation.from_neighbors(curve(t), n_neighbors=9, dim=1) for curve, t in zip((helix, line), x, strict=True)
    ]
    t = np.array([[0.1], [0.5], [0.9]])
    found = match(*pair, landmarks=(helix(t), line(t)))
    assert found.alignment.kind == "similarity"
    assert found.scale == pytest.approx(np.sqrt(26 / 13), rel=0.02)
    new = 0.02 + 0.96 * square(100, 1, seed=4)
    assert relative_error(found.transform(helix(new)), line(new)) < 0.02


# --- what cannot be matched ---------------------------------------------------------------------------------


def folded(x):
    """The second network's measurements of (|x1 - 1/2|, x2), which fold the square along its middle."""
    inner = np.abs(x[:, :1] - 0.5)
    y, jacobians = maps()[1](np.hstack([inner, x[:, 1:]]))
    jacobians = jacobians.copy()
    jacobians[:, :, 0] *= np.sign(x[:, :1] - 0.5)
    return y, jacobians


@pytest.mark.parametrize("coordinates", ["auto", "diffusion"])
def test_a_folded_side_is_named(coordinates):
    measures = maps()[0], folded
    pair = observations()[0], Observation.from_jacobians(*folded(square(2000, seed=150)))
    found = match(*pair, landmarks=at(measures, SIX), coordinates=coordinates)
    assert_names(found, "a side folds the domain")
    assert both_errors(found, measures, NEW)[1] > 0.3


def test_a_smooth_fold_is_located():
    def squashed(x):
        y, jacobians = maps()[1](np.hstack([(x[:, :1] - 0.5) ** 2, x[:, 1:]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= 2 * (x[:, :1] - 0.5)
        return y, jacobians

    x = square(4000, seed=150)
    pair = observations()[0], Observation.from_jacobians(*squashed(x))
    found = match(*pair, landmarks=at((maps()[0], squashed), SIX))
    assert_names(found, "on side B the Jacobian nearly vanishes", "on side B the coordinates cannot keep")
    near = found.diagnostics.near_folds[1]
    assert len(near) > 0
    assert np.abs(x[near, 0] - 0.5).max() < 0.05
    assert len(found.diagnostics.near_folds[0]) == 0


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
@pytest.mark.parametrize("order", [[1, 2, 0], [1, 2, 3, 4, 5, 0], [1, 0, 2, 3, 4, 5]])
def test_permuted_landmarks_are_named(order, coordinates):
    a, b = at(maps(), SIX[: len(order)])
    found = match(*observations(), landmarks=(a, b[order]), coordinates=coordinates)
    assert_names(found, "landmarks miss their partners")


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_different_domains_are_named(coordinates):
    a, b = maps()
    wide = Observation.from_jacobians(*b(square(2000, seed=150) * [1.5, 1.0]))
    found = match(observations()[0], wide, landmarks=at((a, b), SIX), coordinates=coordinates)
    if coordinates == "isometric":
        assert_names(found, "of B's samples", "have no counterpart in A's domain")
        # Where both have samples the map is right.
        assert both_errors(found, (a, b), NEW)[0] < 0.005
    else:
        assert_names(found, "the spectra differ")


def test_left_out_samples_are_a_problem():
    y, jacobians = maps()[0](square(2000, seed=50))
    jacobians[[10, 20, 30]] = 0.0
    with pytest.warns(errors.RankWarning):
        a = Observation.from_jacobians(y, jacobians)
    for coordinates in ("isometric", "diffusion"):
        found = match(a, observations()[1], landmarks=at(maps(), THREE), coordinates=coordinates)
        assert_names(found, "on side A 3 samples are rank-deficient")
        assert np.isfinite(found.a.coordinates).all()


def test_pieces_are_an_error_that_names_the_side():
    y, jacobians = maps()[0](square(1000, seed=50))
    y, jacobians = np.pad(y, ((0, 0), (0, 5))), np.pad(jacobians, ((0, 0), (0, 5), (0, 0)))
    y[600:], jacobians[600:] = np.roll(y[600:], 5, axis=1) + 9.0, np.roll(jacobians[600:], 5, axis=1)
    pair = observations()[1], Observation.from_jacobians(y, jacobians)
    rows = [[0, 0], [1, 1], [2, 2], [3, 3]]
    for coordinates in ("auto", "isometric", "diffusion"):
        with pytest.raises(errors.DisconnectedError, match=r"observation B.*600, 400"):
            match(*pair, landmarks=rows, coordinates=coordinates)


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_points_out_of_the_domain_are_named_and_finite(coordinates):
    found = matched(0, coordinates)
    a, b = at(maps(), np.array([[0.5, 0.5], [3.0, 3.0]]))
    for transform, y in ((found.transform, a), (found.inverse_transform, b), (found.intrinsic, a)):
        with pytest.warns(errors.OutOfDomainWarning, match="1 of 2"):
            result = transform(y)
        assert np.isfinite(result).all()


# --- arguments ----------------------------------------------------------------------------------------------


A, B = at(maps(), THREE)
CURVE = Observation.from_jacobians(*smooth_map(1, 3)(square(200, 1)))
LINE = at(maps(), np.linspace(0.1, 0.9, 5)[:, None] * [1.0, 0.0] + [0.0, 0.5])


@pytest.mark.parametrize(
    ("landmarks", "error", "message"),
    [
        (None, errors.LandmarkError, "landmarks are needed"),
        ((A[:2], B[:2]), errors.LandmarkError, "2 landmarks cannot align"),
        ([[0, 0], [1, 1]], errors.LandmarkError, "2 landmarks cannot align"),
        (np.empty((0, 2), int), errors.LandmarkError, "0 landmarks cannot align"),
        ((A[[0, 0, 0]], B[[0, 0, 0]]), errors.LandmarkError, "some coincide"),
        ((A[[0, 0, 1]], B[[0, 0, 1]]), errors.LandmarkError, "leave a direction of the alignment open"),
        (LINE, errors.LandmarkError, "leave a direction of the alignment open"),
        ([[7, 7]] * 4, errors.LandmarkError, "some coincide"),
        ([[0, 0], [1, 1], [2, 600]], errors.LandmarkError, r"outside of \[0, 600\)"),
        ([[0, 0], [1, 1], [-1, 2]], errors.LandmarkError, r"outside of \[0, 600\)"),
        ([[0, 0, 0]] * 3, errors.LandmarkError, r"shape \(3, 3\)"),
        (A, errors.LandmarkError, "expected"),
        ("first.csv", errors.LandmarkError, "expected"),
        ((A + 100.0, B), errors.LandmarkError, "landmarks on side A: 3 of 3 points lie off"),
        ((A, B + 100.0), errors.LandmarkError, "landmarks on side B: 3 of 3 points lie off"),
        ((A, B[:2]), errors.ShapeError, r"landmarks\[1\]"),
        ((A[:, :4], B), errors.ShapeError, r"landmarks\[0\]"),
        ((B, A), errors.ShapeError, r"landmarks\[0\]"),
        ((A * np.nan, B), errors.NonFiniteError, r"landmarks\[0\] holds NaN"),
        ((A, B + 0j), errors.DataTypeError, r"landmarks\[1\] has dtype complex"),
        (np.zeros((3, 2)), errors.DataTypeError, "integers are needed"),
        (np.zeros((3, 2), bool), errors.DataTypeError, "integers are needed"),
        ([[1, 2], [3]], errors.DiffeoError, "landmarks"),
    ],
)
def test_landmarks_that_do_not_do(landmarks, error, message):
    with pytest.raises(error, match=message):
        match(*observations(0, 600), landmarks=landmarks, coordinates="isometric")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coordinates": "pca"}, errors.ParameterError, "coordinates must be"),
        ({"coordinates": None}, errors.ParameterError, "coordinates must be"),
        ({"observables": (A, B)}, errors.ParameterError, "observables"),
        ({"random_state": "x"}, errors.ParameterError, "random_state"),
        ({"n_jobs": 0}, errors.ParameterError, "n_jobs"),
        ({"obs_b": CURVE}, errors.DimensionMismatchError, "A has intrinsic dimension 2, B has 1"),
        ({"obs_a": A}, errors.DataTypeError, "obs_a must be a diffeo.Observation, not ndarray"),
        ({"obs_b": None}, errors.DataTypeError, "obs_b must be a diffeo.Observation, not NoneType"),
    ],
)
def test_arguments_that_do_not_do(options, error, message):
    pair = dict(zip(("obs_a", "obs_b"), observations(0, 600), strict=True))
    with pytest.raises(error, match=message):
        match(**{**pair, "landmarks": (A, B), **options})


@pytest.mark.parametrize(
    ("points", "error"),
    [
        (A[:, :3], errors.ShapeError),
        (A[0], errors.ShapeError),
        (A[:0], errors.ShapeError),
        (A * np.inf, errors.NonFiniteError),
        (A + 0j, errors.DataTypeError),
        (None, errors.DataTypeError),
    ],
)
def test_points_that_cannot_be_transformed(points, error):
    found = matched()
    for transform in (found.transform, found.intrinsic):
        with pytest.raises(error):
            transform(points)


def test_too_few_samples_for_diffusion_coordinates():
    with pytest.raises(errors.SampleSizeError, match="observation A has 9 samples"):
        match(*observations(0, 9), landmarks=[[0, 0], [1, 1], [2, 2]], coordinates="diffusion")


def test_nothing_is_nan_even_where_the_match_is_poor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DiffeoWarning)
        found = match(*observations(0, 60), landmarks=[[0, 0], [1, 1], [2, 2], [3, 3]], coordinates="isometric")
        y = at(maps(), square(200, seed=3) * 4.0 - 2.0)
        for values in (found.transform(y[0]), found.inverse_transform(y[1]), found.intrinsic(y[0])):
            assert np.isfinite(values).all()
    assert len(found.diagnostics.problems) > 0
