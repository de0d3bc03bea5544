"""Kernel fits to the near pairs of each query alone, where pairs are too many for one fit to all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import product
from math import comb

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.progress import stage
from diffeo._support.threads import workers
from diffeo.matching.paired.kernel_choice import Effort
from diffeo.matching.paired.local_polynomials import MANY
from diffeo.matching.paired.radial import PROFILES, functionals, kernel_matrix
from diffeo.matching.paired.sample import PairedSample

# Equations of a fit, fewer where there are many pairs (which are near without), and pairs at least.
EQUATIONS, EQUATIONS_OF_MANY, LEAST = 96, 64, 12
# In more than three dimensions as many as a polynomial of this degree has terms, up to so many.
DEGREE, MOST_EQUATIONS = 5, 256
# Widths in distances to the farthest of the near pairs, and what is added to the diagonal, that are tried.
FACTORS, RIDGES = (0.5, 1.0, 2.0, 4.0, 16.0), (1e-12, 1e-6)
# So many are tried with more pairs.
MOST_TRIED = 6
# Queries whose near pairs are sought at once, and entries of the matrices that a thread solves at a time, which stay in its
# cache.
SEARCHED, ENTRIES = 4096, 262144


@dataclass(frozen=True, eq=False)
class LocalKernels:
    """Kriging with derivatives from the k nearest pairs of each query, with a width that follows their distance.

    Attributes
    ----------
    sample : PairedSample
    profile : str
        Of the radial kernel.
    factor : float
        Width over the distance of the farthest of the pairs.
    ridge : float
    step : float
        By which slopes are multiplied, in units of the input; 0 where they do not count.
    """

    sample: PairedSample
    profile: str
    factor: float
    ridge: float
    step: float

    def pairs_of_one(self, own: bool) -> int:
        """How many pairs a query is predicted from; `own` if it is one of the pairs, which is left out."""
        sample = self.sample
        equations = equations_of_one(len(sample), sample.dim)
        return min(len(sample) - own, max(LEAST, equations // (1 + (sample.dim if self.step else 0))))

    def predict(self, queries: FloatArray, rows: IntArray | None = None, known: IntArray | None = None) -> FloatArray:
        """Values (count, v) at queries (count, r); with `rows`, these are pairs, left out in turn.

        `known` are the pairs (count, k) that are nearest to each, where they were sought before.
        """
        sample, count = self.sample, len(queries)
        batch = max(1, ENTRIES // equations_of_one(len(sample), sample.dim) ** 2)
        k = self.pairs_of_one(rows is not None)
        values = np.empty((count, sample.values.shape[1]))
        threads = core.n_threads(max(workers(), 0))
        with stage("local kernels") as report, ThreadPoolExecutor(threads) as pool:
            for start in range(0, count, SEARCHED):
                here = queries[start : start + SEARCHED]
                if known is None:
                    near = sample.near(here, k, None if rows is None else rows[start : start + SEARCHED])
                else:
                    near = known[start : start + SEARCHED]
                parts = [slice(first, first + batch) for first in range(0, len(here), batch)]
                solved = pool.map(self._solved, (here[part] for part in parts), (near[part] for part in parts))
                for part, found in zip(parts, solved, strict=True):
                    values[start:][part] = found
                report(min(count, start + SEARCHED), count)
        return values

    def _solved(self, queries: FloatArray, near: IntArray) -> FloatArray:
        sample, (count, k) = self.sample, near.shape
        offsets = sample.points[near] - queries[:, None]
        reach = np.linalg.norm(offsets, axis=2).max(axis=1)
        reach = np.where(reach > 0.0, reach, 1.0)[:, None, None]
        offsets /= reach
        directions = (self.step / reach[..., None]) * sample.jacobians[near] if self.step else None
        at = functionals(offsets, directions)
        matrix = kernel_matrix(self.profile, self.factor, at, at, same=True)
        matrix[:, np.arange(matrix.shape[1]), np.arange(matrix.shape[1])] += self.ridge
        here = functionals(np.zeros((count, 1, offsets.shape[2])), None)
        weights = np.linalg.solve(matrix, kernel_matrix(self.profile, self.factor, at, here))
        # Pair by pair, its value before its slopes, as they lie in memory.
        weights = weights.reshape(count, -1, k).swapaxes(1, 2)
        if not self.step:
            targets = sample.values[near]
            mean = targets.mean(axis=1)
            targets -= mean[:, None]
        else:
            every = sample.by_pair[near]
            mean = every[:, :, 0].mean(axis=1)
            every[:, :, 0] -= mean[:, None]
            weights = np.concatenate([weights[:, :, :1], self.step * weights[:, :, 1:]], axis=2)
            targets = every.reshape(count, -1, every.shape[3])
        values: FloatArray = (weights.reshape(count, 1, -1) @ targets)[:, 0] + mean
        return values


def equations_of_one(count: int, dim: int) -> int:
    """Equations of the fit around one query, with so many pairs in all."""
    least = EQUATIONS if count <= MANY else EQUATIONS_OF_MANY
    return max(least, min(MOST_EQUATIONS, comb(dim + DEGREE, DEGREE)))


def fit_local_kernels(
    sample: PairedSample, known: IntArray, step: float, effort: Effort
) -> tuple[LocalKernels, FloatArray]:
    """The kernels by which these pairs, left out in turn, are missed least, and what they are missed by (n, v).

    Slopes are multiplied by `step`, or not used.
    """
    order = np.random.default_rng(0).permutation(known)
    first = step if sample.with_slopes else 0.0
    models = [LocalKernels(sample, profile, factor, RIDGES[0], first) for profile, factor in product(PROFILES, FACTORS)]
    # All profiles and widths with a few pairs, of the best ones the other ridges, and no slopes; the best of all with more.
    best = _ranked(models, order[: effort.tried // 3])[: MOST_TRIED // 2]
    others = [replace(one, ridge=ridge) for one in best for ridge in RIDGES[1:]]
    others += [replace(one, step=0.0) for one in best if first]
    found = _ranked(_ranked(best + others, order[: effort.tried // 3])[:MOST_TRIED], order[: effort.tried])[0]
    return found, sample.values[known] - found.predict(sample.points[known], known)


def _ranked(models: list[LocalKernels], tried: IntArray) -> list[LocalKernels]:
    """The models, those first that miss these pairs least when they are left out; all are of one sample."""
    sample = models[0].sample
    points, values = sample.points[tried], sample.values[tried]
    near = {k: sample.near(points, k, tried) for k in {model.pairs_of_one(True) for model in models}}
    missed = [
        float(((model.predict(points, tried, near[model.pairs_of_one(True)]) - values) ** 2).sum()) for model in models
    ]
    return [models[k] for k in np.argsort(missed, kind="stable")]
