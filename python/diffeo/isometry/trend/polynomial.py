"""Polynomials of a whole layout."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray

# The highest degree, and coefficients: at most so many (their products take seconds), and so many equations for each.
MOST_DEGREE, MOST_TERMS, EQUATIONS = 8, 1500, 12


@dataclass(frozen=True, eq=False)
class Trend:
    """A polynomial without constant term, by products of Legendre polynomials in the box of the layout.

    `exponents` (F, d): the degree of each factor of each term; corners `low` and `high` (d,) of the box.
    """

    exponents: NDArray[np.int64]
    low: FloatArray
    high: FloatArray

    @property
    def n_terms(self) -> int:
        """Number of terms F."""
        return len(self.exponents)

    def terms(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Terms (count, F) at x (count, d), and their slopes (count, d, F)."""
        d, degree = x.shape[1], int(self.exponents.max())
        scale = 2.0 / (self.high - self.low)
        factors = legendre.legvander(scale * (x - self.low) - 1.0, degree)
        derivatives = np.zeros((degree + 1, degree + 1))
        for k in range(1, degree + 1):
            derivatives[:k, k] = legendre.legder(np.eye(degree + 1)[k])[:k]
        slopes_of = factors @ derivatives * scale[:, None]
        columns = [factors[:, a, self.exponents[:, a]] for a in range(d)]
        slopes = np.empty((len(x), d, self.n_terms))
        before = np.ones((len(x), self.n_terms))
        for a in range(d):
            slopes[:, a] = before * slopes_of[:, a, self.exponents[:, a]]
            before = before * columns[a]
        after = np.ones_like(before)
        for a in range(d - 1, -1, -1):
            slopes[:, a] *= after
            after = after * columns[a]
        return before, slopes


def trend_of(layout: FloatArray) -> Trend | None:
    """The polynomial of highest degree that so many samples overdetermine; None below the second."""
    n, d = layout.shape
    most = min(MOST_TERMS, n * d // EQUATIONS)
    degree = max((k for k in range(MOST_DEGREE + 1) if math.comb(d + k, k) <= most), default=0)
    low, high = layout.min(axis=0), layout.max(axis=0)
    if degree < 2 or not (high > low).all():
        return None
    exponents = [np.zeros((1, 0), dtype=np.int64)]
    for _ in range(d):
        grown = [
            np.column_stack([exponents[-1], np.full(len(exponents[-1]), k, dtype=np.int64)]) for k in range(degree + 1)
        ]
        exponents.append(np.concatenate(grown))
        exponents[-1] = exponents[-1][exponents[-1].sum(axis=1) <= degree]
    terms = exponents[-1]
    return Trend(terms[terms.sum(axis=1) > 0], low, high)
