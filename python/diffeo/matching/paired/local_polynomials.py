"""Polynomials in the source's tangent coordinates, fitted around each query to values and slopes of near pairs."""

from __future__ import annotations

from math import comb
from typing import NamedTuple

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.progress import stage
from diffeo.matching.paired.sample import PairedSample

# Terms of a polynomial at most, in up to three dimensions, there with many pairs (which are near without), and above: more take
# longer than they are worth.
MOST_TERMS, MOST_TERMS_OF_MANY, MOST_TERMS_ABOVE = 60, 40, 130
MANY = 10_000
HIGHEST = 8
# Candidates for each pair of the fit: near ones on the source's measurements, of which the nearest by its metric are taken.
CANDIDATES = 3
# Queries at a time.
BATCH = 4096


class LocalFits(NamedTuple):
    """What the polynomials say at queries.

    Attributes
    ----------
    values : ndarray of shape (count, g, v)
        One for each degree.
    doubt : ndarray of shape (count, g)
        Standard error of each, by the misfit of its pairs.
    """

    values: FloatArray
    doubt: FloatArray


def possible_degrees(n: int, dim: int, with_slopes: bool) -> IntArray:
    """Degrees whose polynomials the pairs, less one, can carry; 0, a weighted mean, where these are too few for any."""
    terms = MOST_TERMS_ABOVE if dim > 3 else MOST_TERMS if n <= MANY else MOST_TERMS_OF_MANY
    found = [
        degree
        for degree in range(1, HIGHEST + 1)
        if comb(dim + degree, dim) <= terms and core.pairs_of_fit(dim, degree, with_slopes) < n
    ]
    return np.array(found or [0], dtype=np.int64)


def local_fits(
    sample: PairedSample, queries: FloatArray, degrees: IntArray, n_threads: int, rows: IntArray | None = None
) -> LocalFits:
    """Local polynomials of all degrees at queries (count, r); with `rows`, the queries are these pairs, left out in turn."""
    d, count = sample.dim, len(queries)
    values, doubt = np.empty((count, len(degrees), sample.values.shape[1])), np.empty((count, len(degrees)))
    k = max(core.pairs_of_fit(d, int(degree), sample.with_slopes) for degree in degrees)
    k = min(len(sample) - (rows is not None), CANDIDATES * k)
    jacobians, slopes = (sample.columns, sample.target_slopes) if sample.with_slopes else (None, None)
    with stage("local fits") as report:
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            near = sample.near(queries[part], k, None if rows is None else rows[part])
            values[part], doubt[part] = core.pair_fits(
                sample.points,
                sample.axes,
                sample.stretches,
                sample.targets,
                jacobians,
                slopes,
                np.ascontiguousarray(queries[part]),
                np.ascontiguousarray(near),
                degrees,
                sample.hidden or sample.values.shape[1],
                sample.hidden,
                n_threads,
            )
            report(min(count, start + BATCH), count)
    return LocalFits(values, doubt)
