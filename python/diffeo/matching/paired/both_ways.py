"""The map between two sides that is learned from pairs alone: one fit a direction, no coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NoReturn

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.placed import Outside, Placed
from diffeo._support.threads import working
from diffeo.alignment.linear import Alignment
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.paired.direction import PairFit, Predicted
from diffeo.matching.pairs import Pairs

# A predicted point is outside of the samples only if it is so by more than this share of the spread, beyond a few spacings.
SLACK = 0.05


@dataclass(frozen=True, eq=False)
class ByPairFits:
    """Maps learned from pairs, both ways (`diffeo.matching.paired.direction`).

    Attributes
    ----------
    a, b : MeasuredChart
        Measurements of both sides at the pairs, with their local metrics; along A's tangents, in A's units, where the pairs
        carry no derivatives.
    alignment : Alignment
        Brings principal components of the sides roughly together: for pictures, neither map uses it.
    pairs : Pairs
        What was learned from.
    held_out : Pairs or None
        What was left out, to judge.
    fit, fit_back : PairFit
        From A to B, and from B to A.
    """

    a: MeasuredChart
    b: MeasuredChart
    alignment: Alignment
    pairs: Pairs
    held_out: Pairs | None
    fit: PairFit
    fit_back: PairFit
    coordinates: Literal["pairs"] = field(default="pairs", init=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        return self._sent(points_a, n_threads, inverse=False)

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        return self._sent(points_b, n_threads, inverse=True)

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> NoReturn:
        """There are no intrinsic coordinates."""
        raise errors.InputError(
            "a map learned from pairs has no intrinsic coordinates: diffeo.match of two observations makes some"
        )

    def predicted_error(self, points: FloatArray, n_threads: int, *, inverse: bool) -> FloatArray:
        """Expected error (count,) of each row, relative to the spread of the side that is mapped to."""
        found = self._predicted(points, n_threads, inverse=inverse)
        fit = self.fit_back if inverse else self.fit
        relative: FloatArray = found.expected / max(fit.sample.spread, np.finfo(float).tiny)
        return relative

    def _predicted(self, points: FloatArray, n_threads: int, *, inverse: bool) -> Predicted:
        fit = self.fit_back if inverse else self.fit
        with working(n_threads or None):
            return fit.predict(points, n_threads)

    def _sent(self, points: FloatArray, n_threads: int, *, inverse: bool) -> Placed:
        own, other = (self.fit_back, self.fit) if inverse else (self.fit, self.fit_back)
        with working(n_threads or None):
            predicted = own.predict(points, n_threads).values
            outside = Outside(len(points), np.flatnonzero(own.outside(points)))
            return Placed(predicted, outside.partners(other.outside(predicted, SLACK)))
