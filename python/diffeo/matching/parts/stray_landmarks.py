"""What a map misses of landmarks that it does not use, although it stands for the whole sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.isometry.trust import too_many_strays
from diffeo.matching.expected_error import ErrorField, ExpectedError, spread_of
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation

# A landmark without a place that the map misses by no more than this, both ways, is not wrong, and shows no fold: in maps that
# are right to a fraction of a percent, the worst of a hundred rows were missed by a percent or two.
NEITHER_WRONG_NOR_FOLDED = 0.05


def missed_unused(problem: MatchProblem, t: Transformation) -> float:
    """Relative error of the map at these, spread over all landmarks: the geometric mean of both ways; 0 where there are none.

    Of the landmarks that a chart found no place for, of those in pieces that were left out or that no map reaches, and of
    those apart from the others; not of wrong ones. None of them could make the map better where it is compared, so that they
    say without a bias what it is worth beside one that is learned from all.
    """
    off = _unused(problem, t)
    if problem.landmarks is None or not len(off):
        return 0.0
    tiny = float(np.finfo(float).tiny)
    missed = [
        float(np.linalg.norm(away)) / max(float(np.linalg.norm(true - true.mean(axis=0))), tiny)
        for away, true in zip(_away(problem, t, off), problem.landmarks.points[::-1], strict=False)
    ]
    return float(np.exp(np.mean(np.log(np.maximum(missed, tiny)))))


def are_sent_right(problem: MatchProblem, t: Transformation, rows: IntArray) -> bool:
    """Whether the map misses none of these landmarks, of which it knows nothing, by more than a few percent, both ways."""
    return all(np.sqrt(squares.max(initial=0.0)) <= NEITHER_WRONG_NOR_FOLDED for squares in _squares(problem, t, rows))


def with_strays(problem: MatchProblem, t: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of a map, with what it misses of landmarks without a place, if these are not wrong."""
    off = _strays(problem, t)
    if not len(off) or not are_sent_right(problem, t, off):
        return expected
    more = [float(squares.sum()) / problem.count for squares in _squares(problem, t, off)]
    back = expected.backward
    return ExpectedError(_and(expected.forward, more[0]), None if back is None else _and(back, more[1]))


def _and(own: ErrorField, square: float) -> ErrorField:
    return replace(own, whole=float(np.hypot(own.relative, np.sqrt(square))))


def _unused(problem: MatchProblem, t: Transformation) -> IntArray:
    """Landmarks of the problem that the map was made without, and that are not wrong."""
    none = np.empty(0, dtype=np.int64)
    if t.landmarks is None or problem.landmarks is None:
        return none
    kept = {row.tobytes() for row in np.hstack(t.landmarks)}
    off = np.flatnonzero([row.tobytes() not in kept for row in np.hstack(problem.landmarks.points)])
    found: IntArray = np.setdiff1d(off, t.diagnostics.wrong_landmarks)
    return found


def _strays(problem: MatchProblem, t: Transformation) -> IntArray:
    """Of these, the ones that a chart found no place for, although it stands for the whole sample."""
    if any(too_many_strays(len(side.left_out), len(side.observation)) for side in (t.a, t.b)):
        return np.empty(0, dtype=np.int64)
    found: IntArray = np.setdiff1d(_unused(problem, t), t.diagnostics.apart_landmarks)
    return found


def _squares(problem: MatchProblem, t: Transformation, rows: IntArray) -> list[FloatArray]:
    """By how much landmarks are missed, squared and relative to the spread of the side they are sent to, on each way."""
    sides = (t.b, t.a)
    return [
        (away**2).sum(axis=1) / max(spread_of(side.observation.points), float(np.finfo(float).tiny)) ** 2
        for away, side in zip(_away(problem, t, rows), sides, strict=False)
    ]


def _away(problem: MatchProblem, t: Transformation, rows: IntArray) -> list[FloatArray]:
    """From where landmarks are to where they are sent, forward and, where there is a way back, backward."""
    if problem.landmarks is None:
        return []
    at_a, at_b = (points[rows] for points in problem.landmarks.points)
    # That they lie outside is what is asked.
    with errors.unsaid(errors.OutOfDomainWarning):
        found = [t.sent(at_a).values - at_b]
        if t.invertible:
            found.append(t.sent_back(at_b).values - at_a)
    return found
