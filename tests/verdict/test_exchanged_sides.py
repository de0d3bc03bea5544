"""Sides that are exchanged for the match, since B has more dimensions: every message names them as the caller does."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from diffeo import Observation, errors, match
from diffeo.matching.match_observations import match_problem, solved
from diffeo.verdict.assess_transformation import compare
from support.samples import smooth_map, square

LINE, WHOLE = smooth_map(1, 3, 6), smooth_map(2, 5, 0)
LANDMARKS, HELD_OUT = square(30, 2, 7), square(80, 2, 8)


@functools.cache
def line(name="line"):
    """The first coordinate of a square, in one piece or in several."""
    x = square(400, 2, 1)[:, :1]
    return Observation.from_jacobians(*LINE(x + 5.0 * (x > 0.5) if name == "pieces" else x))


@functools.cache
def whole(name="whole"):
    x = square(400, 2, 2)
    return Observation.from_jacobians(*WHOLE(x + 5.0 * (x[:, :1] > 0.5) if name == "pieces" else x))


def at(x):
    return LINE(x[:, :1])[0], WHOLE(x)[0]


def compared(a, b, landmarks=None, **options):
    marks = at(LANDMARKS) if landmarks is None else landmarks
    return compare(a, b, landmarks=marks, held_out=at(HELD_OUT), n_jobs=1, **options)


@functools.cache
def report():
    return compared(line(), whole())


def test_the_report_tells_what_the_caller_called_a_and_b():
    found = report()
    assert found.verdict == "b_to_a"
    assert found.reason.startswith("B determines A")
    assert "A lost a direction that B keeps" in found.reason
    assert "A has intrinsic dimension 1, B has 2, so that there is no way back" in found.forward.how
    assert [x.shape[1] for x in found.held_out] == [1, 2]
    paper = next(one for one in found.baselines if "paper" in one.name)
    # The match that was refused leads from B to A.
    assert paper.note.startswith("B has intrinsic dimension 2, A has 1: diffusion coordinates cannot join them")


def test_the_other_way_round_says_the_same_of_the_other_names():
    there = compare(whole(), line(), landmarks=at(LANDMARKS)[::-1], held_out=at(HELD_OUT)[::-1], n_jobs=1)
    assert there.verdict == "a_to_b"
    assert there.forward.predicted.tobytes() == report().backward.predicted.tobytes()
    assert "B lost a direction that A keeps" in there.reason
    assert len(there.problems) == len(report().problems)


def off(points):
    """The fifth point far off."""
    return points + 50.0 * (np.arange(len(points)) == 4)[:, None]


def with_few(side):
    """Three landmarks, the last of which is off on one side."""
    a, b = (points[:4].copy() for points in at(LANDMARKS))
    (a, b)[side][3] += 50.0
    return a, b


@pytest.mark.parametrize("side", [0, 1])
def test_landmarks_off_a_side_are_said_to_be_off_that_side(side):
    with pytest.raises(errors.LandmarkError, match=f"landmarks on side {'AB'[side]}: 1 of 4 points"):
        compared(line(), whole(), with_few(side), coordinates="isometric")


@pytest.mark.parametrize("side", [0, 1])
def test_held_out_pairs_off_a_side_are_said_to_be_off_that_side(side):
    pairs = [*at(HELD_OUT)]
    pairs[side] = off(pairs[side])
    found = compare(line(), whole(), landmarks=at(LANDMARKS), held_out=tuple(pairs), baselines=False, n_jobs=1)
    said = [text for text in found.problems if text.startswith("held-out pairs")]
    assert len(said) == 1
    assert said[0].startswith(f"held-out pairs on side {'AB'[side]}: 1 of 80 points")


@pytest.mark.parametrize(("a", "b", "name"), [("pieces", "whole", "A"), ("line", "pieces", "B")])
def test_a_side_in_pieces_is_called_as_the_caller_does(a, b, name):
    with pytest.raises(errors.DisconnectedError, match=f"^observation {name}: .*pieces"):
        compared(line(a), whole(b), at(LANDMARKS[:2]), coordinates="isometric")


def test_landmarks_in_a_line_are_open_on_the_side_that_sees_it():
    x = np.column_stack([np.linspace(0.1, 0.9, 8), np.full(8, 0.5)])
    with pytest.raises(errors.LandmarkError, match="leave a direction of the alignment open on side B"):
        compared(line(), whole(), at(x), coordinates="isometric")


def test_problems_name_the_sides():
    problem = match_problem(whole(), line(), names=("B", "A")).given(at(LANDMARKS)[::-1])
    found = solved(problem)
    plain = match(whole(), line(), landmarks=at(LANDMARKS)[::-1])
    assert found.transform(at(HELD_OUT)[1]).tobytes() == plain.transform(at(HELD_OUT)[1]).tobytes()
    with pytest.raises(
        errors.DimensionMismatchError, match=r"^B has intrinsic dimension 1, A has 2: A keeps more than B"
    ):
        solved(match_problem(line(), whole(), names=("B", "A")).given(at(LANDMARKS)))
