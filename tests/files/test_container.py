"""Saving: files that others can read, atomic writes, and nothing written that is broken."""

from __future__ import annotations

import copy
import dataclasses
import os

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.files import container
from diffeo.matching.maps import ByDiffusion
from diffeo.observation.how_measured import MeasureOptions
from support.samples import smooth_observation
from support.stored import assert_same, matched, parts, sides


def test_file_is_plain_safetensors(files):
    path, saved = files["observation"]
    description, tensors = parts(path)
    assert set(tensors) == {"points", "whitening", "singular_values", "deficient", "degrees_of_freedom"}
    assert_same(tensors["points"], saved.points)
    stated = [description[name] for name in ("format", "format_version", "kind")]
    assert stated == ["diffeo", 3, "observation"]
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
    monkeypatch.setattr(container.os, step, failure)
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
        {"options": MeasureOptions(neurons=np.arange(7))},
        {"options": MeasureOptions(scale=np.inf)},
        {"options": MeasureOptions(layer=3)},
        {"precision": "half"},
        {"degrees_of_freedom": np.ones(7)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_could_not_be_read_back_is_not_written(change, files, tmp_path):
    broken = dataclasses.replace(files["observation"][1], **change)
    with pytest.raises(errors.StorageError, match=f"was not written: {next(iter(change))}"):
        broken.save(tmp_path / "o.safetensors")
    assert os.listdir(tmp_path) == []


def with_map(t, **change):
    return dataclasses.replace(t, map=dataclasses.replace(t.map, **change))


def with_own_map(t):
    own = diffeo.DiffusionMap(n_components=10, random_state=np.random.default_rng(0)).fit(t.b.observation)
    return with_map(t, b=dataclasses.replace(t.b, diffusion_map=own))


def with_side_a(**change):
    return lambda t: with_map(t, a=dataclasses.replace(t.a, **change))


def with_known(**change):
    return lambda t: dataclasses.replace(t, diagnostics=dataclasses.replace(t.diagnostics, **change))


def with_embedding(**change):
    def changed(t):
        embedding = copy.copy(t.a.embedding)
        vars(embedding).update(change)
        return with_side_a(embedding=embedding)(t)

    return changed


def with_forward(**change):
    return lambda t: with_map(t, taught=dataclasses.replace(t.forward, **change))


def with_registration(**change):
    return lambda t: with_map(t, registration=dataclasses.replace(t.registration, **change))


def with_alignment(**change):
    return lambda t: with_map(t, alignment=dataclasses.replace(t.alignment, **change))


BROKEN = [
    ("diffusion", with_own_map, r"b\.fitted\.random_state must be an integer"),
    (
        "isometric",
        lambda t: with_map(t, b=matched("diffusion").b),
        "of one kind and b of the other",
    ),
    (
        "diffusion",
        lambda t: with_map(t, a=matched("isometric").a),
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
    (
        "sphere",
        lambda t: dataclasses.replace(t, map=ByDiffusion(t.a, t.b, t.alignment)),
        "a.diagnosed.stress must be null",
    ),
    ("sphere", with_registration(observation=sides("sphere")[0]), "not that of a's observation"),
    ("sphere", with_registration(counterparts=sides("sphere")[1]), r"counterparts\.points has shape"),
    ("sphere", with_registration(stress=np.nan), r"registration\.stress must be a finite number"),
    ("sphere", with_registration(uncovered=np.array([350])), r"registration\.uncovered: .* outside of"),
    ("isometric", lambda t: with_map(t, taught=t.backward), r"forward\.landmarks has shape"),
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
