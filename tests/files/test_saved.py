"""Saving and loading: bit-equal round trips of all kinds."""

from __future__ import annotations

import copy
import dataclasses
import io
import itertools
import warnings

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.isometry.hermite import HermiteChart
from support.forgeries import forge
from support.samples import smooth_map, square
from support.stored import (
    KINDS,
    assert_same,
    at,
    circle,
    matched,
    new_inputs,
    observations,
    older,
    parts,
)

# Round trips


@pytest.mark.parametrize("name", list(observations()))
def test_observation_comes_back_equal_in_every_field(name, tmp_path):
    observation = observations()[name]
    observation.save(tmp_path / "o.safetensors")
    loaded = diffeo.load(str(tmp_path / "o.safetensors"))
    assert_same(observation, loaded)
    assert loaded.points.flags.writeable
    assert loaded.known_unit is (name != "unknown unit")
    # The file, too, is a function of the object alone.
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "o.safetensors").read_bytes()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_transformation_comes_back_equal_in_every_field(kind, files, tmp_path):
    path, saved = files[kind]
    loaded = diffeo.load(path)
    assert_same(saved, loaded)
    others = {"diffusion": "diffusion", "sphere": "diffusion", "regression": "regression"}
    assert loaded.coordinates == others.get(kind, "isometric")
    assert repr(loaded) == repr(saved)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_transformation_maps_to_the_same_bits(kind, files):
    path, saved = files[kind]
    loaded = diffeo.load(path)
    points_a, points_b = at(kind, new_inputs(kind))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        assert_same(saved.transform(points_a), loaded.transform(points_a))
        assert_same(saved.intrinsic(points_a), loaded.intrinsic(points_a))
        if kind != "projection":
            assert_same(saved.inverse_transform(points_b), loaded.inverse_transform(points_b))
            return
    for t in (saved, loaded):
        assert not t.invertible
        with pytest.raises(errors.NotInvertibleError, match="2 intrinsic dimensions and B only 1"):
            t.inverse_transform(points_b)


def test_samples_of_files_hold_what_they_are_to_test(files):
    found = {kind: saved for kind, (_, saved) in files.items() if kind != "observation"}
    assert [t.alignment.kind for t in (found["isometric"], found["projection"])] == ["rigid", "projection"]
    assert found["projection"].alignment.linear.shape == (2, 1)
    assert found["circle"].a.embedding.periods_.shape == found["circle"].b.embedding.periods_.shape == (1, 1)
    names = [alignment.name for alignment in found["candidates"].candidates]
    assert names[0] == "the one used"
    assert len({*names}) == 2
    assert found["sphere"].registration.misfit.tolist().count(np.inf) == 2
    learned = [found[kind].forward.learned for kind in ("isometric", "projection", "candidates", "circle")]
    assert learned == [True, True, False, False]
    assert len(found["isometric"].backward.kinds) == 4
    assert found["projection"].backward is None
    assert found["diffusion"].forward is found["diffusion"].backward is found["diffusion"].registration is None


def test_parts_of_a_transformation_stay_one_object(files):
    isometric, diffusion = diffeo.load(files["isometric"][0]), diffeo.load(files["diffusion"][0])
    assert isometric.a.coordinates is isometric.a.embedding.embedding_
    assert diffusion.a.diffusion_map.kernel_.curve is diffusion.a.diffusion_map.epsilon_curve_
    assert diffusion.a.diffusion_map.kernel_.observation is diffusion.a.observation
    sphere = diffeo.load(files["sphere"][0])
    assert sphere.registration.observation is sphere.a.observation
    # Atlases are fitted when they are first used.
    assert not {"forward", "backward"} & vars(sphere.registration).keys()
    operators = [t.b.diffusion_map.operator_.toarray() for t in (diffusion, files["diffusion"][1])]
    assert_same(*operators)


def test_nodes_come_back_in_their_order(tmp_path):
    # Another machine may build another tree; the order also decides between neighbours equally far.
    t = matched("isometric")
    old, order = t.b.embedding._chart, np.random.default_rng(0).permutation(250)
    embedding, old_rows = copy.copy(t.b.embedding), t.b.embedding._rows
    embedding._chart = HermiteChart(old.nodes[order], old.values[order], old.gradients[order], old.periods)
    embedding._rows = old_rows[order]
    t = dataclasses.replace(t, map=dataclasses.replace(t.map, b=dataclasses.replace(t.b, embedding=embedding)))
    t.save(tmp_path / "t.safetensors")
    assert_same(t, diffeo.load(tmp_path / "t.safetensors"))


def test_isometric_transformations_of_all_sources_come_back(tmp_path):
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 12)] * 2), axis=-1).reshape(-1, 2)  # many equal distances
    unit = Observation.from_jacobians(grid, np.broadcast_to(np.eye(2), (144, 2, 2)))
    x = np.linspace(0.0, 1.0, 80)
    curve = Observation.from_neighbors(np.column_stack([np.cos(x), np.sin(x)]), dim=1)
    rows = np.column_stack([np.arange(0, 80, 9)] * 2)
    found = observations()
    pairs = [(found[name], found["jacobians"]) for name in ("bursts", "covariances", "neighbors")]
    for a, b in [(unit, unit), (curve, curve), *pairs]:
        t = diffeo.match(a, b, landmarks=rows, coordinates="isometric")
        t.save(tmp_path / "t.safetensors")
        loaded = diffeo.load(tmp_path / "t.safetensors")
        assert_same(t, loaded)
        assert_same(t.a.measurements(t.a.coordinates, 0), loaded.a.measurements(t.a.coordinates, 0))
        source = "smoothed" if a.source == "bursts" else a.source
        assert t.a.observation.source == loaded.a.observation.source == source
        assert loaded.a.observation.length_noise == t.a.observation.length_noise
    assert t.alignment.kind == "rigid"


def test_unusual_numbers_of_an_isometric_transformation_come_back(tmp_path):
    t = matched("isometric")
    embedding = copy.copy(t.a.embedding)
    embedding.n_jobs, embedding.random_state, embedding.n_neighbors = -1, None, np.int64(7)
    assert embedding.left_out_.tolist() == [7, 100]
    assert np.isinf(embedding.misfit_[[7, 100]]).all()
    diagnostics = dataclasses.replace(t.diagnostics, problems=["\u00e9"], stress=(0.0, np.float64(3.0)))
    similar = dataclasses.replace(t.alignment, kind="similarity", left_out=np.inf, scale=2.5, name="\u00e9")
    t = dataclasses.replace(
        t,
        map=dataclasses.replace(t.map, a=dataclasses.replace(t.a, embedding=embedding)),
        diagnostics=diagnostics,
        candidates=[t.alignment, similar],
        n_jobs=None,
    )
    t.save(tmp_path / "t.safetensors")
    loaded = diffeo.load(tmp_path / "t.safetensors")
    embedding.n_neighbors = 7
    assert_same(dataclasses.replace(t, diagnostics=dataclasses.replace(diagnostics, stress=(0.0, 3.0))), loaded)


def test_diffusion_transformation_with_epsilon_curve_and_unusual_numbers_comes_back(tmp_path):
    original = matched("diffusion")
    side = original.b
    own = diffeo.DiffusionMap(n_components=6, random_state=None, n_jobs=-1).fit(side.observation)
    selection = dataclasses.replace(
        side.selection,
        mixing=np.asfortranarray(np.eye(6)[:, :2]),
        components=np.arange(2),
        unexplained=np.ones(6),
    )
    own.generator_eigenvalues_[-1] = np.inf
    side = dataclasses.replace(side, diffusion_map=own, selection=selection, coordinates=own.embedding_[:, :2])
    assert own.epsilon_curve_ is not None
    diagnostics = dataclasses.replace(
        original.diagnostics, problems=['a "problem"', "\u00e9"], landmark_residual=np.inf
    )
    alignment = dataclasses.replace(original.alignment, kind="affine", left_out=np.inf)
    t = dataclasses.replace(
        original,
        map=dataclasses.replace(original.map, b=side, alignment=alignment),
        diagnostics=diagnostics,
        scale=float("nan"),
        n_jobs=None,
        candidates=[alignment, original.alignment],
    )
    t.save(tmp_path / "t.safetensors")
    loaded = diffeo.load(tmp_path / "t.safetensors")
    assert_same(t, loaded)
    assert loaded.b.selection.mixing.flags.f_contiguous


@pytest.mark.parametrize("kind", ["isometric", "diffusion"])
def test_loading_repeats_no_warning_given_before(kind, tmp_path):
    points, jacobians = smooth_map(2, 3, 6)(square(150, 2, 4))
    points[10], jacobians[10] = points[11], jacobians[11]
    observation = Observation.from_jacobians(points, jacobians)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DuplicateWarning)
        rows = np.column_stack([np.arange(0, 150, 15)] * 2)
        t = diffeo.match(observation, observation, landmarks=rows, coordinates=kind)
    t.save(tmp_path / "t.safetensors")
    assert_same(t, diffeo.load(tmp_path / "t.safetensors"))


def dense(array):
    """The array in the usual order; and in every other one."""
    axes = range(array.ndim)
    return [array.transpose(order).copy().transpose(np.argsort(order)) for order in itertools.permutations(axes)]


def test_orders_in_memory_come_back(files, tmp_path):
    # Products of matrices round differently in different orders, and so do maps that use them.
    t = files["isometric"][1]
    points = at("isometric", square(60, 2, 3))[0]
    for dual in dense(t.forward.dual):
        first = dataclasses.replace(t.alignment, linear=np.asfortranarray(t.alignment.linear))
        changed = dataclasses.replace(
            t,
            map=dataclasses.replace(t.map, taught=dataclasses.replace(t.forward, dual=dual)),
            candidates=[first, t.alignment],
        )
        changed.save(tmp_path / "t.safetensors")
        loaded = diffeo.load(tmp_path / "t.safetensors")
        assert_same(changed, loaded)
        assert loaded.forward.dual.strides == dual.strides
        assert [one.linear.strides for one in loaded.candidates] == [(8, 16), (16, 8)]
        assert_same(changed.transform(points), loaded.transform(points))
        before = (tmp_path / "t.safetensors").read_bytes()
        loaded.save(tmp_path / "t.safetensors")
        assert (tmp_path / "t.safetensors").read_bytes() == before


def with_periods(t, periods):
    """The transformation as if its domain were closed: the charts of both sides get these periods."""

    def closed(side):
        embedding, old = copy.copy(side.embedding), side.embedding._chart
        embedding.periods_ = periods
        embedding._chart = HermiteChart(old.nodes, old.values, old.gradients, periods)
        embedding.embedding_ = embedding._chart.wrapped(side.coordinates)
        return dataclasses.replace(side, embedding=embedding, coordinates=embedding.embedding_)

    changed = dataclasses.replace(t.map, a=closed(t.a), b=closed(t.b), taught=None, taught_back=None)
    unknown = dataclasses.replace(t.diagnostics, expected_error=None, expected_error_back=None)
    return dataclasses.replace(t, map=changed, diagnostics=unknown, expected=None)


@pytest.mark.parametrize("count", [1, 2])
def test_domains_closed_in_two_dimensions_come_back(count, files, tmp_path):
    # Numbers whose multiples are exact.
    t = with_periods(files["isometric"][1], np.array([[0.125, 1.5], [1.75, -0.25]])[:count])
    chart = t.a.embedding._chart
    assert len(chart._images) > len(chart.nodes)
    t.save(tmp_path / "t.safetensors")
    loaded = diffeo.load(tmp_path / "t.safetensors")
    assert_same(t, loaded)
    points = at("isometric", square(60, 2, 3))[0]
    # Its samples do not fill the cells.
    with errors.unsaid(errors.OutOfDomainWarning):
        assert_same(t.transform(points), loaded.transform(points))


def test_node_at_the_edge_of_its_cell_comes_back(tmp_path):
    # Samples at equal distances put a node where rounding decides on which side of the cell it lies.
    n = 53
    x, tangents = circle(np.arange(n) / n)
    observation = Observation.from_jacobians(x, tangents)
    rows = np.column_stack([np.arange(0, n, 10)] * 2)
    t = diffeo.match(observation, observation, landmarks=rows, coordinates="isometric")
    turns = t.a.coordinates / t.a.embedding.periods_
    assert np.abs(turns - np.round(turns)).min() < 1e-14
    t.save(tmp_path / "t.safetensors")
    loaded = diffeo.load(tmp_path / "t.safetensors")
    points = circle(np.linspace(0.0, 1.0, 40))[0]
    np.testing.assert_allclose(loaded.transform(points), t.transform(points), rtol=0.0, atol=1e-12)


def test_files_of_the_first_version_have_no_landmarks(files, tmp_path):
    path, saved = files["isometric"]
    description, tensors = parts(path)
    kept = {name: value for name, value in tensors.items() if not name.startswith("landmarks.")}
    forge(tmp_path / "old.safetensors", *older(description, kept, 1))
    loaded = diffeo.load(tmp_path / "old.safetensors")
    assert loaded.landmarks is None
    assert_same(dataclasses.replace(saved, landmarks=None), loaded)


def test_open_files_are_written_and_read(tmp_path):
    observation = diffeo.Observation.from_jacobians(np.eye(4)[:, :2] + 1, np.broadcast_to(np.eye(2), (4, 2, 2)))
    memory = io.BytesIO()
    observation.save(memory)
    observation.save(tmp_path / "a.safetensors")
    assert memory.getvalue() == (tmp_path / "a.safetensors").read_bytes()
    memory.seek(0)
    assert np.array_equal(diffeo.load(memory).points, observation.points)
    with open(tmp_path / "a.safetensors", "rb") as file:
        assert np.array_equal(diffeo.load(file).points, observation.points)
    with open(tmp_path / "a.safetensors", encoding="latin-1") as file, pytest.raises(errors.StorageError, match='"rb"'):
        diffeo.load(file)
    with pytest.raises(errors.StorageError, match='"wb"'):
        observation.save(io.StringIO())
    with pytest.raises(errors.StorageError, match="damaged"):
        diffeo.load(io.BytesIO(b"nothing"))
    for wrong in (3, None, ["a"]):
        with pytest.raises(errors.DataTypeError, match="by its path"):
            diffeo.load(wrong)
        with pytest.raises(errors.DataTypeError, match="by its path"):
            observation.save(wrong)
