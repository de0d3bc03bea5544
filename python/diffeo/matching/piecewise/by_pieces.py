"""The map between sides that fall into pieces: a transformation for each pair of pieces, and which of them a point takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NoReturn, Protocol

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.placed import Outside, Placed
from diffeo.alignment.linear import Alignment
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.expected_error import spread_of
from diffeo.matching.piecewise.routes import Routed, Routes

Pair = tuple[IntArray, IntArray]


class PieceMap(Protocol):
    """What joins the samples of one pair of pieces, both ways."""

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B that belong to measurements of A."""

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A that belong to measurements of B."""


class PieceTransformation(Protocol):
    """A transformation of one pair of pieces."""

    @property
    def map(self) -> PieceMap:
        """What joins them."""

    @property
    def a(self) -> Coordinates:
        """The piece of A."""

    @property
    def b(self) -> Coordinates:
        """The piece of B."""

    def predicted_error(self, points: ArrayLike, *, inverse: bool = False) -> FloatArray:
        """Expected error (count,) of each mapped point, relative to the spread of the piece that is mapped to."""


@dataclass(frozen=True, eq=False)
class ByPieces:
    """One map for each pair of pieces; a point takes that of the piece to which it belongs.

    Attributes
    ----------
    a, b : MeasuredChart
        Of all samples.
    alignment : Alignment
        Brings principal components of the sides roughly together: for pictures, no map uses it.
    parts : tuple of Transformation
        Of each pair of pieces.
    rows : tuple of (ndarray of int64, ndarray of int64)
        Samples of A and of B that are in each.
    unmatched : (ndarray of int64, ndarray of int64)
        Samples of A and of B in pieces that no map reaches.
    """

    a: MeasuredChart
    b: MeasuredChart
    alignment: Alignment
    parts: tuple[PieceTransformation, ...]
    rows: tuple[Pair, ...]
    unmatched: Pair
    coordinates: Literal["pieces"] = field(default="pieces", init=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        return self._sent(points_a, self._routed(points_a, n_threads, inverse=False)[0], n_threads, inverse=False)

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        return self._sent(points_b, self._routed(points_b, n_threads, inverse=True)[0], n_threads, inverse=True)

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> NoReturn:
        """There are none in common: each pair of pieces has its own."""
        raise errors.InputError(
            "a map by pieces has no intrinsic coordinates in common: each pair of pieces has its own "
            "(t.map.parts[k].intrinsic)"
        )

    def predicted_error(self, points: FloatArray, n_threads: int, *, inverse: bool) -> FloatArray:
        """Expected error (count,) of each row, relative to the spread of the side that is mapped to.

        That of its piece; and beside a cut, by what another piece sends it elsewhere, as far as it may belong to that. Of rows
        in pieces that no map reaches: the root-mean-square distance of what they are sent to from the samples of the other
        side to which no map leads; where there are none, from all of them.
        """
        labels, others, doubt = self._routed(points, n_threads, inverse=inverse)
        target = (self.a if inverse else self.b).observation.points
        spread, squares = spread_of(target), np.empty(len(points))
        values = self._sent(points, labels, n_threads, inverse=inverse).values
        with np.errstate(over="ignore"):
            for number, part in enumerate(self.parts):
                rows = np.flatnonzero(labels == number)
                if len(rows):
                    own = spread_of((part.a if inverse else part.b).observation.points)
                    squares[rows] = (part.predicted_error(points[rows], inverse=inverse) * (own / spread)) ** 2
            lost = np.flatnonzero(labels == len(self.parts))
            if len(lost):
                there = self.unmatched[0 if inverse else 1]
                candidates = target[there] if len(there) else target
                away = np.linalg.norm(values[lost] - candidates.mean(axis=0), axis=1)
                squares[lost] = (np.hypot(away, spread_of(candidates)) / spread) ** 2
            rows = np.flatnonzero(doubt > 0.0)
            if len(rows):
                elsewhere = self._sent(points[rows], others[rows], n_threads, inverse=inverse).values
                squares[rows] += doubt[rows] * (np.linalg.norm(elsewhere - values[rows], axis=1) / spread) ** 2
        return np.minimum(np.sqrt(squares), np.finfo(float).max)

    def beside_cuts(self, number: int, points: FloatArray, n_threads: int, *, inverse: bool) -> float:
        """Mean square error of samples (count, m) of one part's source for those that may belong to another part.

        As if each were new, relative to the spread of the side that is mapped to.
        """
        labels, others, doubt = self._routes[1 if inverse else 0].routed(points, n_threads, known=number)
        # What it is sent to as one of another part, by mistake or in doubt.
        elsewhere = np.where(labels == number, others, labels)
        weights = np.where(labels == number, doubt, 1.0 - doubt)
        rows = np.flatnonzero((elsewhere != number) & (weights > 0.0))
        if not len(rows):
            return 0.0
        own = self._sent(points[rows], np.full(len(rows), number), n_threads, inverse=inverse).values
        other = self._sent(points[rows], elsewhere[rows], n_threads, inverse=inverse).values
        spread = spread_of((self.a if inverse else self.b).observation.points)
        away: FloatArray = np.linalg.norm(other - own, axis=1) / spread
        return float((weights[rows] * away**2).sum() / len(points))

    def _routed(self, points: FloatArray, n_threads: int, *, inverse: bool) -> Routed:
        """Which part each point belongs to: one more than there are, where to none."""
        return self._routes[1 if inverse else 0].routed(points, n_threads)

    def _sent(self, points: FloatArray, labels: IntArray, n_threads: int, *, inverse: bool) -> Placed:
        """Measurements of the other side, by the parts of these numbers.

        Those of no part take the map of the nearest one all the same, and are said to be in none.
        """
        target, count = self.a if inverse else self.b, len(self.parts)
        taken, lost = labels.copy(), labels >= count
        if lost.any():
            taken[lost] = self._routes[1 if inverse else 0].routed(points[lost], n_threads, first=count).labels
        values = np.empty((len(points), target.observation.points.shape[1]))
        off, beyond = np.zeros(len(points), dtype=bool), np.zeros(len(points), dtype=bool)
        for number, part in enumerate(self.parts):
            rows = np.flatnonzero(taken == number)
            if len(rows):
                placed = (part.map.backward if inverse else part.map.forward)(points[rows], n_threads)
                values[rows] = placed.values
                off[rows[placed.outside.off_manifold]] = True
                beyond[rows[placed.outside.no_counterpart]] = True
        off[lost] = beyond[lost] = False
        outside = Outside(len(points), np.flatnonzero(off), np.flatnonzero(beyond), unmatched=np.flatnonzero(lost))
        return Placed(values, outside)

    @cached_property
    def _routes(self) -> tuple[Routes, Routes]:
        """Which part a measurement of A, and of B, belongs to; the last group is that of no part."""
        found = []
        for side, whole in enumerate((self.a, self.b)):
            groups = [rows[side] for rows in self.rows]
            charts: list[Coordinates | None] = [(part.a, part.b)[side] for part in self.parts]
            if len(self.unmatched[side]):
                groups, charts = [*groups, self.unmatched[side]], [*charts, None]
            found.append(Routes(whole.observation.points, groups, charts))
        return found[0], found[1]
