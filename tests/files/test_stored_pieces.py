"""Saved maps by pieces: they come back in every bit, and forged entries are refused."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation
from support.forgeries import forge, refused
from support.stored import assert_same, parts


def map_of(seed):
    """A linear map of the plane to three numbers, and in its second piece to other ones."""
    linear = np.random.default_rng(seed).normal(size=(2, 2, 3))

    def measure(x):
        far = x[:, 0] > 0.5
        values, slopes = np.zeros((len(x), 6)), np.zeros((len(x), 6, 2))
        for piece, rows in enumerate((~far, far)):
            columns = slice(3 * piece, 3 * piece + 3)
            values[rows, columns] = x[rows] @ linear[piece] + 4.0 * piece
            slopes[rows, columns] = linear[piece].T
        return values, slopes

    return measure


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    x = np.random.default_rng(0).random((2, 160, 2))
    marks = np.array([[0.1, 0.1], [0.4, 0.2], [0.2, 0.9], [0.9, 0.1], [0.6, 0.2], [0.8, 0.9]])
    a, b = map_of(1), map_of(2)
    sides = Observation.from_jacobians(*a(x[0])), Observation.from_jacobians(*b(x[1]))
    t = diffeo.match(*sides, landmarks=(a(marks)[0], b(marks)[0]))
    assert t.coordinates == "pieces"
    path = tmp_path_factory.mktemp("pieces") / "t.safetensors"
    t.save(path)
    return t, path


def test_it_comes_back_in_every_bit(saved):
    t, path = saved
    again = diffeo.load(path)
    t.transform(t.a.observation.points[:3])  # which makes what is made on request
    again.transform(t.a.observation.points[:3])
    for name in ("landmarks", "scale", "candidates", "diagnostics"):
        assert_same(getattr(again, name), getattr(t, name), name)
    assert_same(list(again.map.rows), list(t.map.rows))
    assert_same(again.map.unmatched, t.map.unmatched)
    for one, other in zip(again.map.parts, t.map.parts, strict=True):
        assert_same(one, other)
    new = np.random.default_rng(3).random((50, 6))
    with diffeo.errors.unsaid(diffeo.errors.OutOfDomainWarning):
        assert again.transform(new).tobytes() == t.transform(new).tobytes()
        assert again.predicted_error(new).tobytes() == t.predicted_error(new).tobytes()


REMOVED = object()
FORGERIES = [
    ("kinds", [], "kinds are"),
    ("kinds", ["isometric", "pieces"], "kinds are"),
    ("kinds", ["isometric"], "unexpected entries"),
    ("kinds", ["isometric"] * 3, "entries are missing: rows.2|entries are missing: a.rows.2"),
    ("a.rows.0", REMOVED, "entries are missing: a.rows.0"),
    ("a.rows.0", lambda x: x + 1000, "outside of"),
    ("a.rows.0", lambda x: x[:-1], "other samples than its rows"),
    ("a.rows.1", lambda x: np.append(x[:-1], x[0]), "more than once"),
    ("b.unmatched", np.array([0]), "more than once"),
    ("b.unmatched", np.array([0.5]), "unmatched is float64"),
    ("expected_error", -0.1, "expected_error must be"),
    ("parts.1.landmarks.a", REMOVED, "entries are missing: landmarks.a"),
    ("parts.1.extra", 1, "unexpected entries: 'extra'"),
    ("parts.0.alignments.0.linear", np.zeros_like, "singular matrix"),
]


@pytest.mark.parametrize(("name", "change", "message"), FORGERIES, ids=range(len(FORGERIES)))
def test_forgeries_are_refused(name, change, message, saved, tmp_path):
    description, tensors = parts(saved[1])
    old = tensors.pop(name, None)
    description["entries"].pop(name, None)
    value = change(old) if callable(change) else change
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
    elif value is not REMOVED:
        description["entries"][name] = value
    description["orders"] = {}
    path = tmp_path / "forged.safetensors"
    forge(path, description, tensors)
    refused(path, message)
