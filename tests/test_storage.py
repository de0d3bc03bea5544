"""Saving and loading: bit-equal round trips of all kinds, and atomic writes of nothing that is broken."""

from __future__ import annotations

import copy
import dataclasses
import functools
import itertools
import json
import os
import warnings

import diffeo
import numpy as np
import pytest
import safetensors.numpy
from conftest import random_orthogonal, smooth_map, smooth_observation, square
from diffeo import Observation, _container, errors
from diffeo.interpolation import HermiteChart
from scipy.spatial import cKDTree


def assert_same(a, b, where="object"):
    """Equal in every dataclass field, every instance attribute and every bit."""
    assert type(a) is type(b), where
    if isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        assert a.shape == b.shape, where
        assert a.tobytes() == b.tobytes(), where
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]")
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        assert_same([*a.values()], [*b.values()], where)
    elif dataclasses.is_dataclass(a):
        for entry in dataclasses.fields(a):
            if entry.name != "_tree":
                assert_same(getattr(a, entry.name), getattr(b, entry.name), f"{where}.{entry.name}")
    elif isinstance(a, cKDTree):
        assert_same(a.data, b.data, where)
        assert_same(a.indices, b.indices, where)
    elif isinstance(a, (diffeo.DiffusionMap, diffeo.IsometricEmbedding)):
        assert vars(a).keys() == vars(b).keys(), where
        for name, value in vars(a).items():
            assert_same(value, vars(b)[name], f"{where}.{name}")
    else:
        assert a == b or (a != a and b != b), where


def parts(path):
    """Description and tensors of a file."""
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return json.loads(header["__metadata__"]["diffeo"]), safetensors.numpy.load(data)


def with_deficient():
    points, jacobians = smooth_map(2, 4, 5)(square(300, 2, 1))
    jacobians[[7, 100]] = 0.0
    with pytest.warns(errors.RankWarning):
        observation = Observation.from_jacobians(points, jacobians, dim=2)
    assert observation.deficient.tolist() == [7, 100]
    return observation


def observations():
    x, rng = square(120, 2, 4), np.random.default_rng(0)
    points, jacobians = smooth_map(2, 3, 6)(x)
    bursts = points[:, None] + 0.01 * np.einsum("nmp,nkp->nkm", jacobians, rng.normal(size=(120, 12, 2)))
    circle = np.linspace(0.0, 3.0, 80)
    plain = Observation.from_jacobians(points, jacobians)
    return {
        "jacobians": plain,
        "deficient": with_deficient(),
        "bursts": Observation.from_bursts(points, bursts, scale=0.01, dim=2),
        "covariances": Observation.from_covariances(points, jacobians @ jacobians.transpose(0, 2, 1), dim=2),
        "neighbors": Observation.from_neighbors(points, x, dim=2),
        "unknown unit": Observation.from_neighbors(np.column_stack([np.cos(circle), np.sin(circle)]), dim=1),
        "layer": dataclasses.replace(plain, layer="net.3 \u2192 \U0001f40e", neurons=np.array([5, 0, 2**40])),
    }


def circle(u):
    """Points of the unit circle at angles 2 pi u, and tangents (n, 2, 1) per unit of u."""
    x = np.column_stack([np.cos(2 * np.pi * u), np.sin(2 * np.pi * u)])
    return x, 2 * np.pi * np.column_stack([-x[:, 1], x[:, 0]])[:, :, None]


def sphere(n, seed):
    """Points of the unit sphere and orthonormal tangents (n, 3, 2)."""
    x = np.random.default_rng(seed).normal(size=(n, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    frame = np.concatenate([x[:, :, None], random_orthogonal(n, 3, seed)[:, :, :2]], axis=2)
    return x, np.linalg.qr(frame)[0][:, :, 1:]


def lift(x):
    """A first coordinate, as one that the other side does not see."""
    return x[:, :1]


def same(x):
    return x


# Measurements of both sides as functions of common inputs: what B sees of them, and the maps.
MAPS = {
    "isometric": (same, smooth_map(2, 4, 5), smooth_map(2, 3, 6)),
    "diffusion": (same, smooth_map(2, 4, 5), smooth_map(2, 3, 6)),
    "projection": (lift, smooth_map(2, 4, 5), smooth_map(1, 3, 6)),
    "circle": (same, smooth_map(2, 4, 5), smooth_map(2, 5, 7)),
    "candidates": (same, smooth_map(2, 4, 5), smooth_map(2, 5, 7)),
    "sphere": (same, smooth_map(3, 6, 5, 0.1), smooth_map(3, 5, 7, 0.1)),
}


def at(kind, x):
    """Measurements of A and of B."""
    seen, a, b = MAPS[kind]
    return a(x)[0], b(seen(x))[0]


def sides(kind):
    """Both observations; those of square and sphere with rank-deficient samples on side A."""
    _, a, b = MAPS[kind]
    if kind in ("circle", "candidates"):
        rng, found = np.random.default_rng(0), []
        for measure, n in ((a, 120), (b, 130)):
            x, tangents = circle(rng.random(n))
            points, jacobians = measure(x)
            found.append(Observation.from_jacobians(points, jacobians @ tangents))
        return tuple(found)
    if kind == "sphere":
        (x, tangents_a), (z, tangents_b) = sphere(400, 0), sphere(350, 1)
        (points_a, jacobians_a), (points_b, jacobians_b) = a(x), b(z)
        jacobians_a[[7, 100]] = 0.0
        with pytest.warns(errors.RankWarning):
            first = Observation.from_jacobians(points_a, jacobians_a @ tangents_a, dim=2)
        return first, Observation.from_jacobians(points_b, jacobians_b @ tangents_b, dim=2)
    if kind == "projection":
        return with_deficient(), Observation.from_jacobians(*b(square(250, 1, 4)))
    return with_deficient(), smooth_observation(250, 2, 3, 6)


def landmarks(kind):
    """Common inputs; a single one on a circle leaves a choice."""
    if kind in ("circle", "candidates"):
        return circle(np.array([0.05, 0.3, 0.71, 0.86])[: 1 if kind == "candidates" else None])[0]
    return sphere(4, 3)[0] if kind == "sphere" else square(10, 2, 9)


@functools.cache
def matched(kind):
    wanted = "diffusion" if kind == "diffusion" else "auto" if kind == "sphere" else "isometric"
    return diffeo.match(*sides(kind), landmarks=at(kind, landmarks(kind)), coordinates=wanted, n_jobs=2)


def new_inputs(kind):
    """Some of them outside of the sampled domain."""
    if kind in ("circle", "candidates"):
        return circle(np.linspace(0.0, 1.0, 101))[0] * np.linspace(1.0, 1.2, 101)[:, None]
    if kind == "sphere":
        return sphere(100, 11)[0] * np.linspace(1.0, 1.2, 100)[:, None]
    return 1.2 * square(200, 2, 11) - 0.1


KINDS = ["observation", *MAPS]


def write_files(folder):
    """One file of each kind: path, saved object."""
    saved = {kind: matched(kind) for kind in MAPS} | {"observation": smooth_observation(40, 2, 3, 6)}
    for kind in KINDS:
        saved[kind].save(folder / f"{kind}.safetensors")
    return {kind: (folder / f"{kind}.safetensors", saved[kind]) for kind in KINDS}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_files(tmp_path_factory.mktemp("files"))


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
    assert loaded.coordinates == ("diffusion" if kind in ("diffusion", "sphere") else "isometric")
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
    embedding = copy.copy(t.b.embedding)
    embedding._chart = HermiteChart(old.nodes[order], old.values[order], old.gradients[order], old.periods)
    t = dataclasses.replace(t, b=dataclasses.replace(t.b, embedding=embedding))
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
        a=dataclasses.replace(t.a, embedding=embedding),
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
        b=side,
        diagnostics=diagnostics,
        scale=float("nan"),
        n_jobs=None,
        alignment=alignment,
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
            t, forward=dataclasses.replace(t.forward, dual=dual), candidates=[first, t.alignment]
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

    return dataclasses.replace(t, a=closed(t.a), b=closed(t.b), forward=None, backward=None)


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


def test_file_is_plain_safetensors(files):
    path, saved = files["observation"]
    description, tensors = parts(path)
    assert set(tensors) == {"points", "whitening", "singular_values", "deficient"}
    assert_same(tensors["points"], saved.points)
    stated = [description[name] for name in ("format", "format_version", "kind")]
    assert stated == ["diffeo", 1, "observation"]
    assert description["diffeo_version"] == diffeo.__version__
    # Kernels are not stored: the file is far smaller than their entries.
    path, saved = files["diffusion"]
    assert path.stat().st_size < 12 * saved.a.diffusion_map.kernel_.nnz
    # Nor are atlases, nor the metric of A twice.
    path, saved = files["sphere"]
    counterparts = saved.registration.counterparts
    needed = sum(x.nbytes for x in (counterparts.points, counterparts.whitening, counterparts.singular_values))
    assert sum(x.nbytes for name, x in parts(path)[1].items() if name.startswith("registration.")) < 1.2 * needed
    # Neither are the nodes of the interpolant, which are samples.
    path, saved = files["isometric"]
    described, tensors = parts(path)
    assert described["kind"] == "isometric"
    assert_same(saved.a.embedding._chart.values, tensors["a.observation.points"][tensors["a.rows"]])


# Writing


def failing(*_args, **_kwargs):
    raise OSError(28, "No space left on device")


def interrupted(*_args, **_kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(("failure", "error"), [(failing, errors.StorageError), (interrupted, KeyboardInterrupt)])
def test_failed_write_leaves_the_old_file_and_nothing_else(step, failure, error, files, tmp_path, monkeypatch):
    path = tmp_path / "o.safetensors"
    files["observation"][1].save(path)
    before = path.read_bytes()
    monkeypatch.setattr(_container.os, step, failure)
    with pytest.raises(error) as caught:
        files["isometric"][1].save(path)
    monkeypatch.undo()
    if error is errors.StorageError:
        assert caught.value.errno == 28
        assert "o.safetensors" in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["o.safetensors"]


def test_write_replaces_the_target_of_a_link_and_obeys_the_umask(files, tmp_path):
    target, link = tmp_path / "target.safetensors", tmp_path / "link.safetensors"
    target.write_bytes(b"old")
    link.symlink_to(target)
    old = os.umask(0o027)
    try:
        files["observation"][1].save(link)
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert_same(diffeo.load(target), files["observation"][1])


def test_unwritable_targets_are_storage_errors(files, tmp_path):
    observation = files["observation"][1]
    for target in (tmp_path, tmp_path / "no" / "folder.safetensors", "/dev/null", "a\0b"):
        with pytest.raises(errors.StorageError):
            observation.save(target)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        {"points": np.full((40, 3), np.nan)},
        {"points": np.zeros((40, 3), dtype=np.float32)},
        {"neurons": np.arange(7)},
        {"scale": np.inf},
        {"layer": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_could_not_be_read_back_is_not_written(change, files, tmp_path):
    broken = dataclasses.replace(files["observation"][1], **change)
    with pytest.raises(errors.StorageError, match=f"was not written: {next(iter(change))}"):
        broken.save(tmp_path / "o.safetensors")
    assert os.listdir(tmp_path) == []


def with_own_map(t):
    own = diffeo.DiffusionMap(n_components=10, random_state=np.random.default_rng(0)).fit(t.b.observation)
    return dataclasses.replace(t, b=dataclasses.replace(t.b, diffusion_map=own))


def with_side_a(**change):
    return lambda t: dataclasses.replace(t, a=dataclasses.replace(t.a, **change))


def with_known(**change):
    return lambda t: dataclasses.replace(t, diagnostics=dataclasses.replace(t.diagnostics, **change))


def with_embedding(**change):
    def changed(t):
        embedding = copy.copy(t.a.embedding)
        vars(embedding).update(change)
        return with_side_a(embedding=embedding)(t)

    return changed


def with_forward(**change):
    return lambda t: dataclasses.replace(t, forward=dataclasses.replace(t.forward, **change))


def with_registration(**change):
    return lambda t: dataclasses.replace(t, registration=dataclasses.replace(t.registration, **change))


def with_alignment(**change):
    return lambda t: dataclasses.replace(t, alignment=dataclasses.replace(t.alignment, **change))


BROKEN = [
    ("diffusion", with_own_map, r"b\.fitted\.random_state must be an integer"),
    (
        "isometric",
        lambda t: dataclasses.replace(t, b=matched("diffusion").b),
        "of one kind and b of the other",
    ),
    (
        "diffusion",
        lambda t: dataclasses.replace(t, a=matched("isometric").a),
        "of one kind and b of the other",
    ),
    ("isometric", lambda t: with_side_a(coordinates=t.a.coordinates + 1.0)(t), "not of the same samples"),
    ("isometric", with_side_a(observation=smooth_observation(300, 2, 4, 7)), "not of the same samples"),
    ("isometric", with_side_a(observation=smooth_observation(40, 2, 4, 7)), "was not written"),
    ("isometric", with_embedding(left_out_=np.array([7])), "not of the same samples|was not written"),
    ("isometric", with_embedding(left_out_=np.array([7, 7, 100])), "do not list every sample once"),
    ("isometric", with_embedding(embedding_=np.zeros((300, 2))), "not of the same samples"),
    ("isometric", with_embedding(embedding_=np.zeros((5, 2))), "was not written"),
    ("isometric", with_embedding(stress_=np.nan), r"a\.fitted\.stress_ must be a finite number"),
    ("isometric", with_known(stress=None), "a.diagnosed.stress must be"),
    ("isometric", with_known(gated_share=(0.1, 0.2)), "a.diagnosed.gated_share must be null"),
    ("sphere", with_known(stress=None), "a.diagnosed.stress must be"),
    ("diffusion", with_known(stress=(0.1, 0.2)), "a.diagnosed.stress must be null"),
    ("sphere", lambda t: dataclasses.replace(t, registration=None), "a.diagnosed.stress must be null"),
    (
        "isometric",
        lambda t: dataclasses.replace(t, registration=matched("sphere").registration),
        "not that of a's observation",
    ),
    ("sphere", with_registration(observation=sides("sphere")[0]), "not that of a's observation"),
    ("sphere", with_registration(counterparts=sides("sphere")[1]), r"counterparts\.points has shape"),
    ("sphere", with_registration(stress=np.nan), r"registration\.stress must be a finite number"),
    ("sphere", with_registration(uncovered=np.array([350])), r"registration\.uncovered: .* outside of"),
    ("isometric", lambda t: dataclasses.replace(t, forward=t.backward), r"forward\.landmarks has shape"),
    ("isometric", with_forward(errors={}), r"forward\.errors\.values has shape"),
    ("isometric", with_forward(errors={"aligned": 0.1}), r"forward\.errors\.names do not name"),
    ("isometric", with_forward(errors={"combined": np.inf}), r"forward\.errors\.values holds infinity"),
    ("isometric", with_forward(errors={"combined": "0.1"}), r"forward\.errors\.values is <U3"),
    ("isometric", with_forward(kinds=("aligned",)), r"forward\.kinds .* 4 predictors"),
    ("candidates", with_alignment(name=None), r"alignments\.name must be texts"),
    ("candidates", with_alignment(kind="projection"), "a projection is what joins different"),
    ("projection", with_alignment(kind="rigid"), "a projection is what joins different"),
    ("isometric", lambda t: dataclasses.replace(t, candidates=[]), "or no candidate"),
    ("circle", with_embedding(periods_=np.array([[1.1]])), "not of the same samples"),
    ("circle", with_embedding(periods_=np.empty((0, 1))), "not of the same samples"),
    ("diffusion", with_known(near_folds=None), "a.diagnosed.near_folds is <class 'NoneType'>"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BROKEN, ids=range(len(BROKEN)))
def test_broken_transformations_are_not_written(kind, change, message, tmp_path):
    with pytest.raises(errors.StorageError, match=message):
        change(matched(kind)).save(tmp_path / "t.safetensors")
    assert os.listdir(tmp_path) == []
