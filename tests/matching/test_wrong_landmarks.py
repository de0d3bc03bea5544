"""Wrong landmarks are named by row and left out, whatever joins the sides; shifted rows are an error; good ones are kept."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, embed, errors, match, relative_error
from diffeo._support.arrays import index_array
from diffeo.matching.diagnostics import _coverage_problems, without_counterpart
from support.domains import closed
from support.pairs import NEW, assert_names, at, maps, observations
from support.samples import smooth_map, square


def landmarks(count, wrong, seed=0):
    """Measurements of common inputs, of which some rows have those of others on B."""
    rng = np.random.default_rng([8, seed])
    a, b = at(maps(), rng.random((count, 2)))
    rows = np.sort(rng.permutation(count)[:wrong])
    b[rows] = maps()[1](rng.random((wrong, 2)))[0]
    return a, b, rows


@pytest.mark.parametrize(("count", "wrong"), [(8, 1), (20, 3), (60, 20), (200, 60)])
def test_wrong_landmarks_are_named_and_left_out(count, wrong, tmp_path):
    a, b, rows = landmarks(count, wrong, count)
    found = match(*observations(), landmarks=(a, b))
    good = np.setdiff1d(np.arange(count), rows)
    right = match(*observations(), landmarks=(a[good], b[good]))
    assert found.diagnostics.wrong_landmarks.dtype == np.int64
    assert np.array_equal(found.diagnostics.wrong_landmarks, rows)
    assert_names(found, f"{wrong} of {count} landmarks (row", f" {rows[0]}")
    assert np.array_equal(found.landmarks[0], a[good])
    source, target = at(maps(), NEW)
    assert relative_error(found.transform(source), target) <= 1.5 * relative_error(right.transform(source), target)
    found.save(tmp_path / "t.safetensors")
    assert np.array_equal(diffeo.load(tmp_path / "t.safetensors").diagnostics.wrong_landmarks, rows)


def test_rows_are_those_of_the_landmarks_given_though_strays_go_first():
    a, b, rows = landmarks(20, 2, 5)
    first = int(np.setdiff1d(np.arange(20), rows)[0])
    a[first] += 100.0
    found = match(*observations(), landmarks=(a, b))
    assert np.array_equal(found.diagnostics.wrong_landmarks, rows)
    assert_names(found, f"1 of 20 landmarks (row {first}) lie off")


def test_good_landmarks_are_all_kept():
    for seed in range(3):
        a, b, _ = landmarks(40, 0, seed)
        found = match(*observations(), landmarks=(a, b))
        assert len(found.diagnostics.wrong_landmarks) == 0
        assert found.diagnostics.problems == []


def test_with_diffusion_coordinates():
    a, b, rows = landmarks(30, 3, 2)
    found = match(*observations(), landmarks=(a, b), coordinates="diffusion")
    assert np.array_equal(found.diagnostics.wrong_landmarks, rows)


def test_on_a_circle():
    sides = [closed(600, [[2.0]], seed=seed, m=5) for seed in (0, 1)]
    x = 0.1 * np.arange(20)[:, None]
    # The inputs of both sides are the same at the same coordinate of the circle: take samples next to these.
    near = [np.abs((side[0] - x.T + 1.0) % 2.0 - 1.0).argmin(axis=0) for side in sides]
    rows = np.column_stack(near)
    rows[[3, 11], 1] = rows[[8, 1], 1]
    found = match(*(side[1] for side in sides), landmarks=index_array(rows, "rows", 600, 2))
    assert np.array_equal(found.diagnostics.wrong_landmarks, [3, 11])


def test_shifted_rows_are_an_error_that_says_so():
    a, b, _ = landmarks(60, 0)
    with pytest.raises(errors.UnrelatedLandmarksError, match=r"shifted, .* With those of B moved by 1 up"):
        match(*observations(), landmarks=(a, np.roll(b, 1, axis=0)))
    order = np.random.default_rng(0).permutation(60)
    with pytest.raises(errors.LandmarkError, match="in another order"):
        match(*observations(), landmarks=(a, b[order]))


def folded_pair(count, wrong):
    """A side that keeps the square, and one that folds it; landmarks, of which one is wrong, and new inputs."""
    keeps, after = smooth_map(2, 5, 4), smooth_map(2, 5, 5)

    def folds(x):
        y, jacobians = after(np.column_stack([(x[:, 0] - 0.45) ** 2, x[:, 1]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= 2.0 * (x[:, 0] - 0.45)[:, None]
        return y, jacobians

    pair = [Observation.from_jacobians(*f(square(1200, 2, seed))) for f, seed in ((keeps, 1), (folds, 2))]
    x = np.random.default_rng(3).random((count, 2))
    a, b = keeps(x)[0], folds(x)[0]
    b[wrong] = folds(1.0 - x[wrong])[0]
    return pair, (a, b), (keeps, folds)


def test_where_a_side_folds_those_beside_a_wrong_landmark_contradict_it():
    pair, marks, ways = folded_pair(120, [17])
    found = match(*pair, landmarks=marks)
    assert np.array_equal(found.diagnostics.wrong_landmarks, [17])
    new = square(200, 2, 9)
    assert relative_error(found.transform(ways[0](new)[0]), ways[1](new)[0]) < 0.02


def test_where_a_side_folds_a_tenth_of_wrong_landmarks_is_found():
    wrong = np.arange(5, 120, 10)
    pair, (a, b), (_, folds) = folded_pair(120, [])
    b[wrong] = folds(np.random.default_rng(8).random((len(wrong), 2)))[0]
    named = match(*pair, landmarks=(a, b), check=False).diagnostics.wrong_landmarks
    assert len(np.setdiff1d(named, wrong)) == 0
    assert len(np.setdiff1d(wrong, named)) <= 1


def test_where_a_side_folds_good_landmarks_are_kept():
    pair, marks, _ = folded_pair(120, [])
    assert len(match(*pair, landmarks=marks).diagnostics.wrong_landmarks) == 0


def test_samples_too_few_for_their_curvature_name_no_good_landmark():
    named = 0
    for seed in range(4):
        a = embed(Observation.from_jacobians(*smooth_map(2, 5, seed)(square(800, 2, seed))))
        b = embed(Observation.from_jacobians(*smooth_map(2, 5, seed + 10)(square(60, 2, seed + 20))))
        x = square(20, 2, seed + 30)
        pairs = smooth_map(2, 5, seed)(x)[0], smooth_map(2, 5, seed + 10)(x)[0]
        named += len(match(a, b, landmarks=pairs, check=False, coordinates="isometric").diagnostics.wrong_landmarks)
    assert named == 0


@pytest.mark.parametrize("along_a_curve", [False, True])
def test_a_stretch_of_shifted_rows_is_named(along_a_curve):
    """Neighbours on a curve are exchanged: wrong by little, and all in one direction."""
    s = np.linspace(0.0, 1.0, 60)
    x = np.column_stack([0.5 + 0.42 * np.cos(5.0 * s) * (0.4 + 0.6 * s), 0.5 + 0.42 * np.sin(9.0 * s)])
    x = x if along_a_curve else np.random.default_rng(1).random((60, 2))
    a, b = at(maps(), x)
    b[20:38] = b[21:39].copy()
    found = match(*observations(), landmarks=(a, b), check=False)
    assert np.array_equal(found.diagnostics.wrong_landmarks, np.arange(20, 38))
    source, target = at(maps(), NEW)
    assert relative_error(found.transform(source), target) < 1e-3


def test_samples_without_counterpart_are_told_by_distances_among_the_others():
    rng = np.random.default_rng(2)
    there, own = rng.random((300, 2)), rng.random((400, 2))
    assert len(without_counterpart(own, there)) <= 8
    assert len(without_counterpart(own, np.repeat(there, 2, axis=0))) <= 8
    hole = there[there[:, 0] < 0.8]
    lost = without_counterpart(own, hole)
    assert (own[lost, 0] > 0.75).mean() > 0.95
    assert len(lost) > 0.5 * (own[:, 0] > 0.8).sum()


def test_few_samples_beyond_the_ends_of_a_line_are_chance():
    """Two lines of 60 samples drawn alike are no problem, but for one pair of 20; half as long again is."""
    named = []
    for seed in range(60):
        own, there = np.random.default_rng(seed).random((2, 60, 1))
        named.append([is_more for _, is_more in _coverage_problems(own, there, ("A", "B"))])
        assert any(is_more for _, is_more in _coverage_problems(own * 1.5, there, ("A", "B")))
    assert sum(map(len, named)) > 5
    assert sum(map(any, named)) <= 3
