"""What the user says of both sides together is parsed strictly."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.matching.pairs import as_pairs, parse_observables
from support.samples import smooth_observation

A, B = smooth_observation(30, 2, 4, seed=1), smooth_observation(40, 2, 5, seed=2)


def test_no_landmarks_are_none():
    assert as_pairs(None, A, B) is None
    assert as_pairs(np.empty((0, 2), int), A, B) is None


@pytest.mark.parametrize("kind", [tuple, list])
def test_points_and_rows(kind):
    pairs = as_pairs(kind([A.points[:3].tolist(), B.points[:3]]), A, B)
    np.testing.assert_array_equal(pairs.points_a, A.points[:3])
    np.testing.assert_array_equal(pairs.points_b, B.points[:3])
    assert pairs.rows is None
    pairs = as_pairs([[0, 39], [29, 1], [4, 4]], A, B)
    np.testing.assert_array_equal(pairs.rows, [[0, 39], [29, 1], [4, 4]])
    np.testing.assert_array_equal(pairs.points_a, A.points[[0, 29, 4]])
    np.testing.assert_array_equal(pairs.points_b, B.points[[39, 1, 4]])
    assert [marks.rows.tolist() for marks in pairs.marks] == [[0, 29, 4], [39, 1, 4]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (([0, 1], [2, 3]), errors.LandmarkError, "one-dimensional sequences; give row numbers as one"),
        ([[0, 30], [30, 0]], errors.LandmarkError, r"landmarks\[:, 0\].*outside of \[0, 30\)"),
        ([[0, 40], [2, 3]], errors.LandmarkError, r"landmarks\[:, 1\].*outside of \[0, 40\)"),
        ([[0, 1, 2]], errors.LandmarkError, r"shape \(1, 3\)"),
        ([0, 1], errors.LandmarkError, r"shape \(2,\)"),
        ("ab", errors.LandmarkError, r"shape \(\)"),
        ([[0.5, 1.5]], errors.DataTypeError, "integers are needed"),
        ((A.points[:3], B.points[:2]), errors.ShapeError, r"landmarks\[1\]"),
        ((B.points[:3], A.points[:3]), errors.ShapeError, r"landmarks\[0\]"),
        ((A.points[:3] * np.nan, B.points[:3]), errors.NonFiniteError, r"landmarks\[0\]"),
    ],
)
def test_landmarks_of_the_wrong_form(given, error, message):
    with pytest.raises(error, match=message):
        as_pairs(given, A, B)


def test_observables_become_columns():
    assert parse_observables(None, A, B) is None
    values = parse_observables((np.arange(30), np.arange(40.0)), A, B)
    assert [side.shape for side in values] == [(30, 1), (40, 1)]
    assert all(side.dtype == np.float64 for side in values)
    values = parse_observables([A.points, B.points[:, :4]], A, B)
    assert [side.shape for side in values] == [(30, 4), (40, 4)]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.arange(30.0), errors.ParameterError, "must be a pair"),
        ((np.arange(30.0),), errors.ParameterError, "must be a pair"),
        ((np.arange(30.0), np.arange(30.0)), errors.ShapeError, r"observables\[1\].*length 40"),
        ((np.arange(31.0), np.arange(40.0)), errors.ShapeError, r"observables\[0\].*length 30"),
        ((A.points, B.points), errors.ShapeError, "4 and 5 columns"),
        ((np.ones(30), np.arange(40.0)), errors.InputError, "column 0 of the observables is constant"),
        ((A.points, np.pad(B.points[:, :3], ((0, 0), (0, 1)))), errors.InputError, "column 3 of the observables"),
        ((np.full(30, np.nan), np.arange(40.0)), errors.NonFiniteError, r"observables\[0\]"),
        ((np.arange(30.0), np.full(40, np.inf)), errors.NonFiniteError, r"observables\[1\]"),
        ((np.arange(30) + 1j, np.arange(40.0)), errors.DataTypeError, r"observables\[0\]"),
    ],
)
def test_observables_of_the_wrong_form(given, error, message):
    with pytest.raises(error, match=message):
        parse_observables(given, A, B)
