"""A global smooth fit to values and slopes: ridge regression on Gaussian kernels around some of the pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.spatial.distance import cdist

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo.matching.paired.sample import PairedSample

# Equations (values and slopes) that are fitted at most, kernels, and kernels with which widths are tried.
MOST_EQUATIONS, MOST_KERNELS, TRIED_KERNELS = 9000, 1000, 400
# Widths of the kernels, in distances to the eighth neighbour, and ridges, that are tried.
WIDTHS, RIDGES = (2.0, 4.0, 8.0, 16.0, 32.0), (1e-12, 1e-7)
SPACING_NEIGHBOR = 8
# Added to the kernels' own matrix, whose largest entries are 1: rounding makes it indefinite.
JITTER = 1e-11
# Queries at a time.
BATCH = 4096


@dataclass(frozen=True, eq=False)
class KernelFit:
    """sum_c exp(-|y - c|^2 / 2 h^2) w_c: values (v,) of the target at points (r,) of the source.

    Attributes
    ----------
    centres : ndarray of shape (C, r)
    width : float
        h.
    dual : ndarray of shape (C, v)
        w_c.
    """

    centres: FloatArray
    width: float
    dual: FloatArray

    def predict(self, queries: FloatArray) -> FloatArray:
        """Values (count, v) at queries (count, r)."""
        parts = [
            _kernel(queries[start : start + BATCH], self.centres, self.width) @ self.dual
            for start in range(0, len(queries), BATCH)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dual.shape[1]))


class Trained(NamedTuple):
    """A kernel fit, and what it misses of each of its pairs when that one is left out, (n, v)."""

    model: KernelFit
    missed: FloatArray


@dataclass(frozen=True)
class _Recipe:
    width: float
    ridge: float
    slopes: bool


def fit_kernels(sample: PairedSample, rows: IntArray, rng: np.random.Generator) -> Trained:
    """Fit to these pairs; width, ridge and whether slopes count are chosen by what pairs left out in turn are missed by.

    Ridge regression in the span of kernels at a random subset of the pairs (Nystroem), to values and to slopes along the
    source's tangents, which weigh as much as the change of the value over the distance to the next pair.
    """
    n = len(rows)
    order = rng.permutation(n)
    distances = sample.tree.query(sample.points[rows], min(len(sample), SPACING_NEIGHBOR + 1), workers=workers())[0]
    spacing = float(np.median(distances[:, -1])) or 1.0
    step = _input_spacing(sample, rows)
    few, many = np.sort(order[:TRIED_KERNELS]), np.sort(order[:MOST_KERNELS])
    kinds = (True, False) if sample.with_slopes else (False,)
    trials: dict[_Recipe, float] = {}
    for slopes in kinds:
        for factor in WIDTHS:
            for ridge in RIDGES:
                recipe = _Recipe(factor * spacing, ridge, slopes)
                trials[recipe] = _score(_trained(sample, rows, few, recipe, step))
    best = min(trials, key=lambda recipe: trials[recipe])
    if len(many) == len(few):
        found = _trained(sample, rows, few, best, step)
    else:
        # More kernels carry narrower ones.
        narrower = _Recipe(0.5 * best.width, best.ridge, best.slopes)
        candidates = [_trained(sample, rows, many, recipe, step) for recipe in (best, narrower)]
        found = min(candidates, key=_score)
    if found is None:
        raise errors.NonFiniteError(
            "no kernel regression can be fitted to these pairs: are there numbers of wild sizes?"
        )
    return found


def equations_of(sample: PairedSample) -> int:
    """Numbers that each pair gives for each value of the target."""
    return 1 + sample.dim if sample.with_slopes else 1


def _score(trained: Trained | None) -> float:
    return float("inf") if trained is None else float(np.sqrt((trained.missed**2).sum(axis=1).mean()))


def _input_spacing(sample: PairedSample, rows: IntArray) -> float:
    """Median distance to the next pair in units of the input, by the source's metric."""
    k = min(len(sample) - 1, 2 * sample.dim + 2)
    near = sample.near(sample.points[rows], k, rows)
    steps = sample.points[near] - sample.points[rows][:, None]
    lengths = np.linalg.norm(np.einsum("nkr,nrd->nkd", steps, sample.whitening[rows]), axis=2)
    return float(np.median(lengths.min(axis=1))) or 1.0


def _kernel(points: FloatArray, centres: FloatArray, width: float) -> FloatArray:
    kernel: FloatArray = cdist(points, centres, "sqeuclidean")
    kernel *= -0.5 / width**2
    np.exp(kernel, out=kernel)
    return kernel


def _trained(sample: PairedSample, rows: IntArray, centres: IntArray, recipe: _Recipe, step: float) -> Trained | None:
    """With F = L^-1 k the kernels made orthonormal (K = L L^T), and M = F F^T + ridge: pair i leaves out its block of the
    hat matrix H = F^T M^-1 F, so that it is missed by (1 - H_ii)^-1 r_i, r the residuals. None where rounding forbids it.
    """
    y, z = sample.points[rows], sample.values[rows]
    n, width, at = len(y), recipe.width, y[centres]
    kernel = _kernel(y, at, width)
    q = 1 + (sample.dim if recipe.slopes else 0)
    equations, targets = np.empty((n, q, len(at))), np.empty((n, q, z.shape[1]))
    equations[:, 0], targets[:, 0] = kernel, z
    for a in range(q - 1):
        # d/du_a exp(-|y - c|^2 / 2 h^2) = -(y - c) . J_a / h^2 times itself.
        along = sample.jacobians[rows, :, a]
        towards = np.einsum("nr,nr->n", y, along)[:, None] - along @ at.T
        equations[:, 1 + a] = towards * kernel * (-step / width**2)
        targets[:, 1 + a] = step * sample.slopes[rows, :, a]
    flat = targets.reshape(n * q, -1)
    try:
        lower = cholesky(_kernel(at, at, width) + JITTER * np.eye(len(at)), lower=True)
        features = solve_triangular(lower, equations.reshape(n * q, -1).T, lower=True)
        normal = features @ features.T
        normal[np.diag_indices(len(at))] += recipe.ridge * n
        factor = cholesky(normal, lower=True)
    except LinAlgError:
        return None
    half = solve_triangular(factor, features @ flat, lower=True)
    dual = solve_triangular(lower.T, solve_triangular(factor.T, half, lower=False), lower=False)
    spanned = solve_triangular(factor, features, lower=True)
    residual = (flat - spanned.T @ half).reshape(n, q, -1)
    blocks = np.ascontiguousarray(spanned.T).reshape(n, q, -1)
    open_share = np.eye(q) * (1.0 + 1e-12) - blocks @ blocks.transpose(0, 2, 1)
    missed = np.linalg.solve(open_share, residual)[:, 0]
    if not (np.isfinite(missed).all() and np.isfinite(dual).all()):
        return None
    return Trained(KernelFit(at, width, np.ascontiguousarray(dual)), missed)
