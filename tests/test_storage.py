"""Saving and loading: bit-equal round trips of all kinds, and atomic writes of nothing that is broken."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import os
import warnings

import diffeo
import numpy as np
import pytest
import safetensors.numpy
from conftest import smooth_map, smooth_observation, square
from diffeo import Observation, errors, storage
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


@functools.cache
def matched(kind):
    """A match with rank-deficient samples on side A."""
    landmarks = square(8, 2, 9)
    pairs = smooth_map(2, 4, 5)(landmarks)[0], smooth_map(2, 3, 6)(landmarks)[0]
    sides = with_deficient(), smooth_observation(250, 2, 3, 6)
    return diffeo.match(*sides, landmarks=pairs, coordinates=kind, n_jobs=2)


KINDS = ["observation", "isometric", "diffusion"]


def write_files(folder):
    """One file of each kind: path, saved object."""
    saved = {kind: matched(kind) for kind in KINDS[1:]} | {"observation": smooth_observation(40, 2, 3, 6)}
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
    assert loaded.coordinates == kind
    assert repr(loaded) == repr(saved)
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("kind", KINDS[1:])
def test_transformation_maps_to_the_same_bits(kind, files):
    path, saved = files[kind]
    loaded = diffeo.load(path)
    # A part of these points lies outside of the sampled domain.
    x = 1.2 * square(200, 2, 11) - 0.1
    points_a, points_b = smooth_map(2, 4, 5)(x)[0], smooth_map(2, 3, 6)(x)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        assert_same(saved.transform(points_a), loaded.transform(points_a))
        assert_same(saved.inverse_transform(points_b), loaded.inverse_transform(points_b))
        assert_same(saved.intrinsic(points_a), loaded.intrinsic(points_a))


def test_parts_of_a_transformation_stay_one_object(files):
    isometric, diffusion = diffeo.load(files["isometric"][0]), diffeo.load(files["diffusion"][0])
    assert isometric.a.coordinates is isometric.a.embedding.embedding_
    assert diffusion.a.diffusion_map.kernel_.curve is diffusion.a.diffusion_map.epsilon_curve_
    assert diffusion.a.diffusion_map.kernel_.observation is diffusion.a.observation
    operators = [t.b.diffusion_map.operator_.toarray() for t in (diffusion, files["diffusion"][1])]
    assert_same(*operators)


def test_nodes_come_back_in_their_order(tmp_path):
    # Another machine may build another tree; the order also decides between neighbours equally far.
    t = matched("isometric")
    old, order = t.b.embedding._chart, np.random.default_rng(0).permutation(250)
    embedding = copy.copy(t.b.embedding)
    embedding._chart = HermiteChart(old.nodes[order], old.values[order], old.gradients[order])
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
    assert t.alignment.kind == "rigid"


def test_unusual_numbers_of_an_isometric_transformation_come_back(tmp_path):
    t = matched("isometric")
    embedding = copy.copy(t.a.embedding)
    embedding.n_jobs, embedding.random_state, embedding.n_neighbors = -1, None, np.int64(7)
    assert embedding.left_out_.tolist() == [7, 100]
    assert np.isinf(embedding.misfit_[[7, 100]]).all()
    diagnostics = dataclasses.replace(t.diagnostics, problems=["\u00e9"], stress=(0.0, np.float64(3.0)))
    similar = dataclasses.replace(t.alignment, kind="similarity", left_out=np.inf, scale=2.5)
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


@pytest.mark.parametrize("kind", KINDS[1:])
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
    monkeypatch.setattr(storage.os, step, failure)
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
    ("diffusion", with_known(stress=(0.1, 0.2)), "a.diagnosed.stress must be null"),
    ("diffusion", with_known(near_folds=None), "a.diagnosed.near_folds is <class 'NoneType'>"),
]


@pytest.mark.parametrize(("kind", "change", "message"), BROKEN, ids=range(len(BROKEN)))
def test_broken_transformations_are_not_written(kind, change, message, tmp_path):
    with pytest.raises(errors.StorageError, match=message):
        change(matched(kind)).save(tmp_path / "t.safetensors")
    assert os.listdir(tmp_path) == []
