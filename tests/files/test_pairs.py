"""Pairs, and maps learned from them, come back bit for bit; forged files are refused."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Pairs, errors
from diffeo.matching.by_pairs.matched import learned as learn
from diffeo.matching.by_pairs.matched import observed_sides
from diffeo.matching.paired.kernel_choice import Effort
from diffeo.matching.paired.local_kernels import LocalKernels
from support.forgeries import forge, refused
from support.paired import smooth_pairs
from support.samples import square
from support.stored import assert_same, parts


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """Maps learned with derivatives and without, and their files."""
    pairs, a, b = smooth_pairs(120)
    found = {}
    for name, given in (("slopes", pairs), ("values", Pairs(*pairs.points))):
        t, path = diffeo.match_pairs(given), tmp_path_factory.mktemp(name) / "t.safetensors"
        t.save(path)
        found[name] = t, path
    return found, a(square(40, 2, 3))[0], b(square(40, 2, 3))[0]


@pytest.mark.parametrize(
    "ids", [None, range(5, 35), [f"input {k}" for k in range(30)]], ids=["none", "numbers", "texts"]
)
def test_pairs_come_back(ids, tmp_path):
    pairs, *_ = smooth_pairs(30)
    for given in (pairs, Pairs(*pairs.points)):
        given = Pairs(*given.points, given.jacobians_a, given.jacobians_b, ids_a=ids, ids_b=ids)
        given.save(tmp_path / "p.safetensors")
        loaded = diffeo.load(tmp_path / "p.safetensors")
        assert_same(given, loaded)
        loaded.save(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "p.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["slopes", "values"])
def test_maps_learned_from_pairs_give_the_same_bits(name, learned, tmp_path):
    found, at_a, at_b = learned
    t, path = found[name]
    loaded = diffeo.load(path)
    assert loaded.coordinates == "pairs"
    assert loaded.diagnostics.problems == t.diagnostics.problems
    assert_same(t.map.fit, loaded.map.fit)
    assert_same(t.held_out, loaded.held_out)
    assert_same(t.transform(at_a), loaded.transform(at_a))
    assert_same(t.inverse_transform(at_b), loaded.inverse_transform(at_b))
    assert_same(t.predicted_error(at_b, inverse=True), loaded.predicted_error(at_b, inverse=True))
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    report = diffeo.assess(loaded, baselines=False)
    report.save(tmp_path / "r.safetensors")
    assert diffeo.load(tmp_path / "r.safetensors").coordinates == "pairs"


def test_kernels_around_each_query_come_back(tmp_path):
    pairs, a, b = smooth_pairs(330)
    effort = Effort(300, known=100, tried=30)
    t, path = (
        learn(observed_sides(pairs[:300]), pairs[300:], 0, None, efforts=(effort, effort)),
        tmp_path / "t.safetensors",
    )
    t.save(path)
    loaded, new = diffeo.load(path), square(40, 2, 3)
    assert isinstance(loaded.map.fit.kernel, LocalKernels)
    assert_same(t.transform(a(new)[0]), loaded.transform(a(new)[0]))
    assert_same(t.predicted_error(b(new)[0], inverse=True), loaded.predicted_error(b(new)[0], inverse=True))
    description, tensors = parts(path)
    description["entries"]["fit.ridge"] = 0.0
    forge(path, description, tensors)
    refused(path, "fit.ridge must be > 0")


FORGERIES = [
    ("pairs.points_a", lambda x: x[:-1].copy(), "pairs.jacobians_a has shape|pairs.points_b has shape"),
    ("pairs.jacobians_b", lambda x: x[:, :, :1].copy(), "pairs.jacobians_b has shape"),
    ("a.axes", lambda x: 2.0 * x, "a.axes are not orthonormal"),
    ("fit.degrees", lambda x: x + 20, "fit.degrees are not those"),
    ("fit.degrees", lambda x: x[::-1].copy(), "fit.degrees are not those"),
    ("fit.known", lambda x: x + 1000, "outside of"),
    ("fit.missed", lambda x: -1.0 - x, "negative"),
    ("fit.trust", lambda x: x[:-1].copy(), "fit.trust or fit.missed"),
    ("fit_back.dual", lambda x: x[:-1].copy(), "fit_back.dual does not fit"),
    ("fit_back.directions", lambda x: x[:-1].copy(), "fit_back.directions has shape"),
    ("fit_back.centres", lambda x: x * np.nan, "holds NaN"),
    ("held_out.points_a", lambda x: x[:, :-1].copy(), "held_out.jacobians_a has shape"),
]


@pytest.mark.parametrize(("name", "change", "message"), FORGERIES)
def test_forged_arrays_are_refused(name, change, message, learned, tmp_path):
    description, tensors = parts(learned[0]["slopes"][1])
    tensors[name] = change(tensors[name])
    path = tmp_path / "forged.safetensors"
    forge(path, description, tensors)
    refused(path, message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("fit.width", 0.0, "fit.width must be > 0"),
        ("fit.profile", "bell", "fit.profile is 'bell'"),
        ("fit.scale", -1.0, "fit.scale must be > 0"),
        ("problems", "none", "problems must be texts"),
        ("extra", 1, "unexpected entries"),
        ("pairs.names", ["a"], "ids_a have shape"),
    ],
)
def test_forged_entries_are_refused(name, value, message, learned, tmp_path):
    description, tensors = parts(learned[0]["slopes"][1])
    description["entries"][name] = value
    path = tmp_path / "forged.safetensors"
    forge(path, description, tensors)
    refused(path, message)


def test_a_file_of_another_kind_is_no_transformation(learned, tmp_path):
    description, tensors = parts(learned[0]["slopes"][1])
    description["kind"] = "regression"
    path = tmp_path / "forged.safetensors"
    forge(path, description, tensors)
    with pytest.raises(errors.StorageError):
        diffeo.load(path)
