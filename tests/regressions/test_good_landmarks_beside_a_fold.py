"""One side folds, and all landmarks are right: those on the other branch are not called wrong, and count as errors."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, match, relative_error
from support.pairs import assert_names
from support.samples import smooth_map

pytestmark = pytest.mark.filterwarnings("ignore::diffeo.errors.DiffeoWarning")


def bow(at, lean):
    """A polynomial of the first input that turns back there, with one arm steeper than the other."""
    return lambda x: (x - at) ** 2 * (1.0 + lean * (x - at)), lambda x: (x - at) * (2.0 + 3.0 * lean * (x - at))


def arc(at, _):
    """A cosine."""
    return lambda x: 0.5 * np.cos(2.5 * (x - at)), lambda x: -1.25 * np.sin(2.5 * (x - at))


def after(network, fold):
    """A network that sees its first input through a fold."""
    value, slope = fold

    def measure(x):
        y, jacobians = network(np.column_stack([value(x[:, 0]), x[:, 1:]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= slope(x[:, :1])
        return y, jacobians

    return measure


def line(x):
    """One output that is one-to-one."""
    y = np.tanh(1.5 * x - 0.6) + 0.4 * x
    return y, (1.5 * (1.0 - np.tanh(1.5 * x - 0.6) ** 2) + 0.4)[:, :, None]


def solved(ways, d, n, count, seed, spoil=None):
    """A match of two sides by landmarks, with true errors both ways, and those expected."""
    rng = np.random.default_rng(seed)
    sides = [Observation.from_jacobians(*f(rng.random((n, d))), dim=d) for f in ways]
    x, new = rng.random((count, d)), 0.01 + 0.98 * rng.random((200, d))
    marks = [f(x)[0] for f in ways]
    if spoil is not None:
        marks[1][spoil] = ways[1](rng.random((len(spoil), d)))[0]
    at_a, at_b = (f(new)[0] for f in ways)
    found = match(*sides, landmarks=(marks[0], marks[1]))
    true = relative_error(found.transform(at_a), at_b), relative_error(found.inverse_transform(at_b), at_a)
    return found, true, (found.diagnostics.expected_error, found.diagnostics.expected_error_back)


@pytest.mark.parametrize(
    ("fold", "at", "lean", "count", "seed"),
    [
        (bow, 0.66, 0.0, 12, 0),
        (bow, 0.3, 0.5, 10, 1),
        (arc, 0.75, 0.0, 14, 2),
        (arc, 0.2, 0.0, 8, 3),
        (bow, 0.88, -0.4, 24, 4),
    ],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_one_folded_input(fold, at, lean, count, seed, swapped):
    ways = (after(line, fold(at, lean)), line)
    found, true, expected = solved(ways[::-1] if swapped else ways, 1, 400, count, seed)
    assert len(found.diagnostics.wrong_landmarks) == 0
    assert found.diagnostics.problems
    for error, told in zip(true, expected, strict=True):
        assert told is None or error <= 2.0 * told or error < 0.005


@pytest.mark.parametrize(("at", "lean", "count", "seed"), [(0.7, 0.0, 16, 5), (0.8, 0.4, 30, 6)])
def test_one_of_two_inputs_folded(at, lean, count, seed, tmp_path):
    ways = (after(smooth_map(2, 5, seed), bow(at, lean)), smooth_map(2, 6, seed + 10))
    found, true, expected = solved(ways, 2, 500, count, seed)
    assert len(found.diagnostics.wrong_landmarks) == 0
    for error, told in zip(true, expected, strict=True):
        assert told is None or error <= 2.0 * told or error < 0.005
    assert_names(found, "counterpart" if found.coordinates == "isometric" else "learned")
    found.save(tmp_path / "t.safetensors")
    back = diffeo.load(tmp_path / "t.safetensors").diagnostics
    assert np.array_equal(back.apart_landmarks, found.diagnostics.apart_landmarks)
    assert (back.expected_error, back.expected_error_back) == expected


def test_landmarks_of_the_other_branch_are_named_as_apart():
    ways = (after(line, bow(0.66, 0.0)), line)
    rng = np.random.default_rng(0)
    sides = [Observation.from_jacobians(*f(rng.random((400, 1))), dim=1) for f in ways]
    x = np.array([[0.05], [0.2], [0.3], [0.41], [0.5], [0.6], [0.9], [0.96]])
    found = match(*sides, landmarks=tuple(f(x)[0] for f in ways), coordinates="isometric")
    assert np.array_equal(found.diagnostics.apart_landmarks, [6, 7])
    assert_names(found, "2 of 8 landmarks (rows 6, 7) do not fit the motion")
    new = np.linspace(0.01, 0.99, 99)[:, None]
    true = relative_error(found.transform(ways[0](new)[0]), ways[1](new)[0])
    assert true / 2 < found.diagnostics.expected_error < 2 * true


def test_without_a_landmark_on_the_other_branch_the_fold_still_counts():
    ways = (after(line, arc(0.7, 0.0)), line)
    rng = np.random.default_rng(1)
    sides = [Observation.from_jacobians(*f(rng.random((400, 1))), dim=1) for f in ways]
    x, new = np.linspace(0.05, 0.6, 9)[:, None], np.linspace(0.01, 0.99, 99)[:, None]
    at_a, at_b = (f(new)[0] for f in ways)
    for coordinates in ("auto", "isometric"):
        found = match(*sides, landmarks=tuple(f(x)[0] for f in ways), coordinates=coordinates)
        true = relative_error(found.transform(at_a), at_b)
        assert true > 0.2
        assert true / 2 < found.diagnostics.expected_error < 2 * true
    back = relative_error(found.inverse_transform(at_b), at_a)
    assert back / 2 < found.diagnostics.expected_error_back < 2 * back


def test_a_wrong_landmark_where_nothing_folds_is_still_named():
    found, _, _ = solved((line, lambda x: line(1.0 - x)), 1, 400, 12, 7, spoil=np.array([4]))
    assert np.array_equal(found.diagnostics.wrong_landmarks, [4])
    assert len(found.diagnostics.apart_landmarks) == 0
