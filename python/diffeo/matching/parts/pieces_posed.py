"""The problem of a match posed again for each pair of pieces into which the sides fall, by which landmarks lie in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.charts.chart import Chart
from diffeo.charts.coordinates import Coordinates, Marks
from diffeo.charts.pieces import large_pieces
from diffeo.isometry.trust import PIECE
from diffeo.matching.diagnostics import without_counterpart
from diffeo.matching.isometric_match import by_isometry
from diffeo.matching.piecewise.routes import Routes
from diffeo.matching.problem import MatchProblem

# Landmarks of two pieces that miss each other by more of their spread than noise does join them by mistake.
UNRELATED = 0.2
Rows = tuple[IntArray, IntArray]


@dataclass(frozen=True, eq=False)
class Joint:
    """A piece of A and one of B, by number, that landmarks join: samples of both that belong together, and their problem.

    `positions` are those of its landmarks among all.
    """

    numbers: tuple[int, int]
    rows: Rows
    problem: MatchProblem
    positions: IntArray


@dataclass(frozen=True, eq=False)
class InPieces:
    """A problem posed piece by piece.

    Attributes
    ----------
    pieces : (list of ndarray of int64, list of ndarray of int64)
        Rows of the large pieces of A and of B, the largest first.
    counts : ndarray of int64, shape (pieces of A, pieces of B)
        Landmarks that join each two.
    needed : int
        How many landmarks two pieces need.
    joints : list of Joint
        Of those that have as many, and do not contradict others.
    wrong, apart : ndarray of int64
        Positions of landmarks in no joint, whose ends both lie in others; and of those of which one end does.
    """

    pieces: tuple[list[IntArray], list[IntArray]]
    counts: IntArray
    needed: int
    joints: list[Joint]
    wrong: IntArray
    apart: IntArray


def posed_in_pieces(problem: MatchProblem) -> InPieces | None:
    """The problem of each pair of pieces; None where both sides hang together, or the largest ones are all that is joined."""
    if problem.landmarks is None or problem.is_half or problem.is_piece or problem.coordinates == "diffusion":
        return None
    found = large_pieces(problem.a), large_pieces(problem.b)
    if not all(found) or max(map(len, found)) < 2:
        return None
    one, other = (_Side(chart, pieces) for chart, pieces in zip(problem.charts, found, strict=True))
    marks, n_threads = problem.landmarks.marks, problem.n_threads
    needed = 1 if problem.landmarks.with_derivatives and problem.invertible else problem.a.dim + 1
    if all(chart.isometric() is not None for chart in problem.charts):
        counts = _counted(one.nearest(marks[0], n_threads), other.nearest(marks[1], n_threads), found)
        counts[0, 0] = 0
        if counts.max() < needed:
            return None  # both sides have charts of their largest pieces, and nothing joins others
    labels = one.labels(marks[0], n_threads), other.labels(marks[1], n_threads)
    counts = _counted(*labels, found)
    joints = _Several(problem, (one, other), labels, counts, needed).joints()
    wrong, apart = _contradicting(problem, (one, other), joints)
    return InPieces(found, counts, needed, joints, wrong, apart)


def _counted(of_a: IntArray, of_b: IntArray, pieces: tuple[list[IntArray], list[IntArray]]) -> IntArray:
    """How many landmarks join each piece of A with each of B."""
    counts = np.zeros((len(pieces[0]), len(pieces[1])), dtype=np.int64)
    inside = (of_a >= 0) & (of_b >= 0)
    np.add.at(counts, (of_a[inside], of_b[inside]), 1)
    return counts


class _Side:
    """One side in pieces, with the charts of these."""

    def __init__(self, chart: Chart, pieces: list[IntArray]) -> None:
        self.chart, self.pieces, self.n = chart, pieces, len(chart)
        self.parts = [self.part(rows) for rows in pieces]

    def part(self, rows: IntArray) -> Chart:
        """Some samples as a chart of their own."""
        return replace(self.chart.part(rows), n_jobs=self.chart.n_jobs)

    def nearest(self, marks: Marks, n_threads: int) -> IntArray:
        """Number of the piece (L,) in which the nearest sample of each mark lies; -1 for samples in none."""
        return self._labels(marks, [None] * len(self.pieces), n_threads)

    def labels(self, marks: Marks, n_threads: int) -> IntArray:
        """Number of the piece (L,) in which each mark lies; -1 for samples in none."""
        return self._labels(marks, [_layout(part) for part in self.parts], n_threads)

    def _labels(self, marks: Marks, charts: Sequence[Coordinates | None], n_threads: int) -> IntArray:
        if marks.rows is not None:
            return _membership(self.n, self.pieces)[marks.rows]
        return Routes(self.chart.measured.points, self.pieces, charts).routed(marks.points, n_threads).labels


def _layout(part: Chart) -> Coordinates | None:
    try:
        return part.isometric()
    except errors.DiffeoError:
        return None


def _membership(n: int, groups: list[IntArray]) -> IntArray:
    """Which group each of n samples is in; -1 for none."""
    found = np.full(n, -1, dtype=np.int64)
    for number, rows in enumerate(groups):
        found[rows] = number
    return found


@dataclass(frozen=True, eq=False)
class _Laid:
    """One piece of A laid on one of B: which samples of either have one of the other nearby, and how far away that is."""

    numbers: tuple[int, int]
    inside: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    distances: tuple[FloatArray, FloatArray]
    wrong: IntArray


class _Several:
    """Pairs of pieces that enough landmarks join; a piece may be in several, if it is one on its side and more on the other."""

    def __init__(
        self,
        problem: MatchProblem,
        sides: tuple[_Side, _Side],
        labels: Rows,
        counts: IntArray,
        needed: int,
    ) -> None:
        self.problem, self.sides, self.labels, self.needed = problem, sides, labels, needed
        p, q = np.nonzero(counts >= needed)
        order = np.argsort(-counts[p, q], kind="stable")
        self.numbers = [(int(p[k]), int(q[k])) for k in order]

    def joints(self) -> list[Joint]:
        """The pairs that do not contradict those with more landmarks, each with the samples that belong to it."""
        claimed = [np.zeros(side.n, dtype=bool) for side in self.sides]
        laid = list[_Laid]()
        for numbers in self.numbers:
            alone = sum(numbers[0] == p or numbers[1] == q for p, q in self.numbers) == 1
            one = self._whole(numbers) if alone else self._laid(numbers)
            if one is None or not self._is_new(one, claimed):
                continue
            laid.append(one)
            for side in (0, 1):
                claimed[side][self.sides[side].pieces[numbers[side]][one.inside[side]]] = True
        return [self._joint(one, laid) for one in laid]

    def _landmarks(self, numbers: tuple[int, int]) -> IntArray:
        return np.flatnonzero((self.labels[0] == numbers[0]) & (self.labels[1] == numbers[1]))

    def _whole(self, numbers: tuple[int, int]) -> _Laid:
        """Two pieces of which neither is in another pair: all of their samples belong together."""
        sizes = [len(side.pieces[k]) for side, k in zip(self.sides, numbers, strict=True)]
        one, other = np.ones(sizes[0], dtype=bool), np.ones(sizes[1], dtype=bool)
        return _Laid(numbers, (one, other), (np.zeros(sizes[0]), np.zeros(sizes[1])), np.empty(0, dtype=np.int64))

    def _laid(self, numbers: tuple[int, int]) -> _Laid | None:
        """Where the landmarks of two pieces lay one on the other; None where they do not."""
        a, b = (side.parts[k].isometric() for side, k in zip(self.sides, numbers, strict=True))
        if a is None or b is None:
            return None
        pieces = self.sides[0].pieces[numbers[0]], self.sides[1].pieces[numbers[1]]
        charts = self.sides[0].parts[numbers[0]], self.sides[1].parts[numbers[1]]
        try:
            with errors.unsaid(errors.DiffeoWarning):
                found = by_isometry(_sub_problem(self.problem, charts, pieces, self._landmarks(numbers)), a, b)
        except (errors.DiffeoError, RuntimeError, np.linalg.LinAlgError):
            return None
        if found.diagnostics.landmark_residual > UNRELATED:
            return None
        moved, own = (b.features(x) for x in (found.alignment.forward(a.coordinates), b.coordinates))
        inside, distances = [], []
        for here, there in ((moved, own), (own, moved)):
            near = np.ones(len(here), dtype=bool)
            near[without_counterpart(here, there)] = False
            inside.append(near)
            distances.append(PointTree(there).query(here, workers=workers())[0])
        left = np.union1d(found.diagnostics.wrong_landmarks, found.diagnostics.apart_landmarks)
        return _Laid(numbers, (inside[0], inside[1]), (distances[0], distances[1]), left)

    def _is_new(self, one: _Laid, claimed: list[NDArray[np.bool_]]) -> bool:
        """Whether two pieces have samples, on both sides, that no pair with more landmarks has."""
        for side, number, inside, taken in zip(self.sides, one.numbers, one.inside, claimed, strict=True):
            if (inside & ~taken[side.pieces[number]]).sum() < PIECE * side.n:
                return False
        return True

    def _joint(self, one: _Laid, laid: list[_Laid]) -> Joint:
        """The samples of two pieces that are nearer to each other than to those of other pairs, and their problem."""
        rows, restricted = [], False
        for k, side in enumerate(self.sides):
            others = [other for other in laid if other.numbers[k] == one.numbers[k]]
            piece = side.pieces[one.numbers[k]]
            if len(others) == 1:
                rows.append(piece)
                continue
            restricted = True
            far = np.array([np.where(other.inside[k], other.distances[k], np.inf) for other in others])
            near = np.array([other.distances[k] for other in others])
            lost = ~np.isfinite(far).any(axis=0)
            best = np.where(lost, near.argmin(axis=0), far.argmin(axis=0))
            if lost.sum() >= PIECE * side.n:
                best[lost] = -1
            rows.append(piece[best == others.index(one)])
        pair = rows[0], rows[1]
        charts = [
            side.parts[k] if len(part) == len(side.pieces[k]) else side.part(part)
            for side, k, part in zip(self.sides, one.numbers, pair, strict=True)
        ]
        positions = self._landmarks(one.numbers)
        positions = positions[~np.isin(self.problem.numbered(positions), one.wrong)]
        problem = _sub_problem(self.problem, (charts[0], charts[1]), pair, positions)
        if restricted and problem.landmarks is not None:
            # Those beside the cut may lie among samples of another pair.
            problem = replace(problem, landmarks=replace(problem.landmarks, rows=None))
        return Joint(one.numbers, pair, problem, positions)


def _sub_problem(problem: MatchProblem, charts: tuple[Chart, Chart], rows: Rows, positions: IntArray) -> MatchProblem:
    """The problem of some samples of each side, with the landmarks at these positions."""
    pairs, values = problem.landmarks, problem.observables
    if pairs is not None:
        pairs = pairs[positions]
        if pairs.rows is not None:
            inside = [np.isin(pairs.rows[:, k], rows[k]).all() for k in (0, 1)]
            own = np.column_stack([np.searchsorted(rows[k], pairs.rows[:, k]) for k in (0, 1)])
            pairs = replace(pairs, rows=own if all(inside) else None)
    if values is not None:
        values = values[0][rows[0]], values[1][rows[1]]
    return replace(
        problem,
        a=charts[0],
        b=charts[1],
        landmarks=pairs,
        numbers=problem.numbered(positions),
        observables=values,
        is_piece=True,
    )


def _contradicting(problem: MatchProblem, sides: tuple[_Side, _Side], joints: list[Joint]) -> tuple[IntArray, IntArray]:
    """Landmarks that are in no joint: those whose ends both lie in joints, and those of which one end does."""
    none = np.empty(0, dtype=np.int64)
    if problem.landmarks is None or not joints:
        return none, none
    used = np.zeros(problem.count, dtype=bool)
    for joint in joints:
        used[joint.positions] = True
    ends = []
    for k, (side, marks) in enumerate(zip(sides, problem.landmarks.marks, strict=True)):
        groups = [joint.rows[k] for joint in joints]
        rest = np.setdiff1d(np.concatenate(side.pieces), np.concatenate(groups))
        every = [*groups, rest] if len(rest) else groups
        routes = Routes(side.chart.measured.points, every, [None] * len(every))
        ends.append(routes.routed(marks.points, problem.n_threads).labels < len(groups))
    both = ends[0] & ends[1] & ~used
    return np.flatnonzero(both), np.flatnonzero((ends[0] ^ ends[1]) & ~used)
