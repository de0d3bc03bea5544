"""What a map misses of landmarks that it does not use, although it stands for the whole sample."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import IntArray
from diffeo.isometry.trust import too_many_strays
from diffeo.matching.expected_error import ErrorField, ExpectedError
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.matching.wrong_landmarks import are_sent_right, away, squares_away


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
        float(np.linalg.norm(found)) / max(float(np.linalg.norm(true - true.mean(axis=0))), tiny)
        for found, true in zip(away(problem, t, off), problem.landmarks.points[::-1], strict=False)
    ]
    return float(np.exp(np.mean(np.log(np.maximum(missed, tiny)))))


def with_strays(problem: MatchProblem, t: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of a map, with what it misses of landmarks without a place, if these are not wrong."""
    off = _strays(problem, t)
    if not len(off) or not are_sent_right(problem, t, off):
        return expected
    more = [float(squares.sum()) / problem.count for squares in squares_away(problem, t, off)]
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
    found: IntArray = np.setdiff1d(off, problem.positions(t.diagnostics.wrong_landmarks))
    return found


def _strays(problem: MatchProblem, t: Transformation) -> IntArray:
    """Of these, the ones that a chart found no place for, although it stands for the whole sample."""
    if any(too_many_strays(len(side.left_out), len(side.observation)) for side in (t.a, t.b)):
        return np.empty(0, dtype=np.int64)
    found: IntArray = np.setdiff1d(_unused(problem, t), problem.positions(t.diagnostics.apart_landmarks))
    return found
