"""What samples without a counterpart, and landmarks apart from the others, add to the error that a map is expected to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import thread_count, workers
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.diagnostics import many_without, without_counterpart
from diffeo.matching.expected_error import ErrorField, ExpectedError, some_of, spread_of
from diffeo.matching.maps import ByIsometry
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.observation.folds import many_near_folds, near_folds

# A side folds if its stretch falls to this share of the median beside samples of the other side that it has no counterpart of.
FLAT = 0.05
# Landmarks on a hidden branch, below which those left out say nothing of it.
FEWEST_SEEN = 3


def with_no_counterpart(problem: MatchProblem, t: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of a map, where samples of a side have no counterpart, or landmarks are apart from the others.

    Parts of the samples do not see it: a fold is the same in all of them. What samples of the source without counterpart are
    sent to lies beyond all samples of the target, but belongs among them. If the source folds, those of the target without
    counterpart belong to samples that are sent elsewhere. And landmarks apart are missed by what they are missed by.
    """
    if not isinstance(t.map, ByIsometry) or not t.invertible:
        return expected
    both = _Both(t.map, problem, t)
    forward = both.over_all(expected.forward, backward=False)
    return ExpectedError(
        forward, None if expected.backward is None else both.over_all(expected.backward, backward=True)
    )


def with_unseen(problem: MatchProblem, by_motion: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of another map of the same sides, where a motion shows a fold of which no landmark tells."""
    if not isinstance(by_motion.map, ByIsometry) or not by_motion.invertible:
        return expected
    both = _Both(by_motion.map, problem, by_motion)
    forward = _more(expected.forward, both.unseen(backward=False))
    back = expected.backward
    return ExpectedError(forward, None if back is None else _more(back, both.unseen(backward=True)))


def _more(own: ErrorField, everywhere: float) -> ErrorField:
    if everywhere == 0.0:
        return own
    whole = float(np.sqrt(own.relative**2 + everywhere))
    return replace(own, errors=np.sqrt(own.errors**2 + everywhere), whole=whole)


class _Both:
    """A map between charts, with the samples of each that have no counterpart."""

    def __init__(self, joined: ByIsometry, problem: MatchProblem, t: Transformation) -> None:
        self.t, self.problem, self.n = t, problem, thread_count(t.n_jobs)
        a, b = joined.a, joined.b
        moved = b.wrapped(joined.alignment.forward(a.coordinates))
        self.sides: tuple[IsometricChart, IsometricChart] = a, b
        self.lost: list[IntArray] = []
        self.folds: list[bool] = []
        for own, there, other in ((moved, b.coordinates, b), (b.coordinates, moved, a)):
            lost = without_counterpart(own, there)
            lost = lost if many_without(lost, own, there) else lost[:0]
            self.lost.append(lost)
            self.folds.append(len(lost) > 0 and _folds(other, own[lost], there))
        self.apart = problem.positions(t.diagnostics.apart_landmarks)

    def unseen(self, *, backward: bool) -> float:
        """Mean square error of one direction by what a fold hides, if no landmarks show it, in whatever map these made."""
        target = 0 if backward else 1
        if not self.folds[target] or self.problem.landmarks is None:
            return 0.0
        own = self.sides[target]
        ends = own.place(self.problem.landmarks.marks[target].points, self.n).values
        hidden = own.features(own.coordinates[self.lost[target]])
        seen = np.delete(own.features(own.coordinates), self.lost[target], axis=0)
        tree = PointTree(hidden), PointTree(seen)
        near = [one.query(own.features(ends), workers=workers())[0] for one in tree]
        return 0.0 if (near[0] < near[1]).sum() >= FEWEST_SEEN else self._hidden(target)

    def over_all(self, own: ErrorField, *, backward: bool) -> ErrorField:
        """One direction's errors with what this adds."""
        source, target = (1, 0) if backward else (0, 1)
        everywhere = max(self._of_landmarks(backward=backward), self._hidden(target) if self.folds[target] else 0.0)
        beyond = self._beyond(source, target, backward=backward)
        if everywhere == 0.0 and beyond == 0.0:
            return own
        whole = float(np.sqrt(own.relative**2 + max(everywhere, beyond)))
        return replace(own, errors=np.sqrt(own.errors**2 + everywhere), whole=whole)

    def _of_landmarks(self, *, backward: bool) -> float:
        """Mean square of what landmarks apart are missed by, over all landmarks."""
        if not len(self.apart) or self.problem.landmarks is None:
            return 0.0
        at_a, at_b = (x[self.apart] for x in self.problem.landmarks.points)
        if backward:
            missed, side = self.t.sent_back(at_b).values - at_a, self.sides[0]
        else:
            missed, side = self.t.sent(at_a).values - at_b, self.sides[1]
        return float((missed**2).sum()) / self.problem.count / spread_of(side.observation.points) ** 2

    def _hidden(self, target: int) -> float:
        """Mean square error of a folded source: samples of the target to which nothing is sent are found elsewhere."""
        lost, side = self.lost[target], self.sides[target]
        kept = np.delete(np.arange(len(side.coordinates)), lost)
        points = side.observation.points
        missed = points[lost] - _mirrored(side, kept, side.coordinates[lost])
        return float((missed**2).sum()) / len(points) / spread_of(points) ** 2

    def _beyond(self, source: int, target: int, *, backward: bool) -> float:
        """Mean square error of samples of the source without counterpart."""
        lost = self.lost[source]
        if not len(lost):
            return 0.0
        rows = lost[np.linspace(0, len(lost) - 1, min(len(lost), len(some_of(self.sides[source])))).astype(np.int64)]
        side, there = self.sides[source], self.sides[target]
        y, moved = side.observation.points[rows], self.t.alignment.backward if backward else self.t.alignment.forward
        sent, points = (self.t.sent_back(y) if backward else self.t.sent(y)).values, there.observation.points
        at = moved(side.coordinates[rows])
        away = np.zeros(len(rows))
        if self.folds[source] or len(self.apart):
            away = np.linalg.norm(sent - _mirrored(there, there.used, at), axis=1)
        found = np.maximum(away / spread_of(points), self.t.partners_beyond(side.coordinates[rows], inverse=backward))
        return float((found**2).mean()) * len(lost) / len(side.observation)


def _mirrored(side: IsometricChart, rows: IntArray, at: FloatArray) -> FloatArray:
    """What a side measures, (k, m), at the mirror images of places (k, c) beyond the border of some of its samples.

    A fold lays a place on its mirror image, which is as far on this side of the border as that is beyond it.
    """
    nodes = side.features(side.coordinates[rows])
    tree, beyond = PointTree(nodes), side.features(at)
    border = nodes[tree.query(beyond, workers=workers())[1]]
    found: FloatArray = side.observation.points[rows[tree.query(2.0 * border - beyond, workers=workers())[1]]]
    return found


def _folds(side: IsometricChart, lost: FloatArray, own: FloatArray) -> bool:
    """Whether a side folds, with its samples at `own` coordinates and those of the other that it lacks at others."""
    if many_near_folds(len(near_folds(side.observation)), len(side.observation)):
        return True
    stretch = side.observation.singular_values[:, side.observation.dim - 1]
    beside = np.unique(PointTree(own).query(lost, workers=workers())[1])
    return bool(stretch[beside].min() < FLAT * np.median(stretch))
