"""A global smooth fit to values and slopes: ridge regression on Gaussian kernels around some of the pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.linalg import LinAlgError
from scipy.spatial.distance import cdist

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.dense import cholesky, product, triangular_solve
from diffeo._support.threads import workers
from diffeo.matching.paired.sample import PairedSample

# Widths of the kernels, in distances to the eighth neighbour, and ridges, that are tried.
WIDTHS, RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), (1e-12, 1e-7)
SPACING_NEIGHBOR = 8
# Values alone are fitted with a kernel each where slopes help by less than this in the trials, and with the better of these.
WORTH_TRYING, VALUE_RIDGES = 1.5, (1e-10, 1e-6)
# So many times kernels are made narrower at most.
NARROWER = 3
# Added to the kernels' own matrix, whose largest entries are 1: rounding makes it indefinite.
JITTER = 1e-11
# Queries at a time.
BATCH = 4096


@dataclass(frozen=True)
class Effort:
    """Equations (values and slopes) and kernels that are fitted at most, values alone with a kernel each, and equations and
    kernels with which widths are tried.
    """

    equations: int = 9000
    kernels: int = 1000
    values: int = 4000
    tried_equations: int = 4000
    tried_kernels: int = 400


FULL = Effort()
# For many comparisons one after the other: a tenth of the time.
QUICK = Effort(3000, 400, 1000, 1500, 150)


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
    """A kernel fit to some pairs, and what it misses of each of these when that one is left out, (n, v)."""

    model: KernelFit
    missed: FloatArray
    rows: IntArray


@dataclass(frozen=True)
class _Recipe:
    width: float
    ridge: float
    slopes: bool


def fit_kernels(sample: PairedSample, rows: IntArray, rng: np.random.Generator, effort: Effort = FULL) -> Trained:
    """Fit to these pairs; width, ridge and whether slopes count are chosen by what pairs left out in turn are missed by.

    Ridge regression in the span of kernels at a random subset of the pairs (Nystroem), to values and to slopes along the
    source's tangents, which weigh as much as the change of the value over the distance to the next pair.
    """
    n = len(rows)
    order = rng.permutation(n)
    distances = sample.tree.query(
        sample.leading(sample.points[rows]), min(len(sample), SPACING_NEIGHBOR + 1), workers=workers()
    )[0]
    spacing = float(np.median(distances[:, -1])) or 1.0
    step = _input_spacing(sample, rows)
    # Trials on fewer pairs and kernels, the kernels' own pairs among them.
    tried = rows[np.sort(order[: effort.tried_equations // equations_of(sample)])]
    few = np.searchsorted(tried, np.sort(rows[order[: min(effort.tried_kernels, len(tried))]]))
    trials: dict[_Recipe, float] = {}
    for slopes in (True, False) if sample.with_slopes else (False,):
        for factor in WIDTHS:
            for recipe, trained in _tried(sample, tried, few, factor * spacing, slopes, step):
                trials[recipe] = _score(trained)
    best = min(trials, key=lambda recipe: trials[recipe])
    many = np.sort(rng.permutation(n)[: effort.kernels])
    found = _narrowed(lambda width: _trained(sample, rows, many, replace(best, width=width), step), best.width)
    # Where slopes help little, as at kinks, all values with a kernel each are better than slopes with fewer kernels.
    plain = min((one for one in trials if not one.slopes), key=lambda recipe: trials[recipe])
    if trials[plain] < WORTH_TRYING * trials[best]:
        every = np.arange(len(sample)) if len(sample) <= effort.values else rows[np.sort(order[: effort.values])]
        other = _narrowed(lambda width: _of_values(sample, every, width, VALUE_RIDGES[0]), plain.width)
        smoother = None if other is None else _of_values(sample, every, other.model.width, VALUE_RIDGES[1])
        found = min((found, other, smoother), key=_score)
    if found is None:
        raise errors.NonFiniteError(
            "no kernel regression can be fitted to these pairs: are there numbers of wild sizes?"
        )
    return found


def _narrowed(fit: Callable[[float], Trained | None], width: float) -> Trained | None:
    """The best of fits of this width, and of ever narrower ones as long as they improve: more kernels carry narrower ones."""
    found = fit(width)
    for _ in range(NARROWER):
        width *= 0.5
        other = fit(width)
        if not _score(other) < _score(found):
            break
        found = other
    return found


def _of_values(sample: PairedSample, rows: IntArray, width: float, ridge: float) -> Trained | None:
    """Kernel ridge regression on the values of these pairs, a kernel each: w = (K + r)^-1 z misses pair i, left out, by
    w_i / (K + r)^-1_ii.
    """
    y, z = sample.points[rows], sample.values[rows]
    kernel = _kernel(y, y, width)
    kernel[np.diag_indices(len(y))] += ridge
    try:
        lower = cholesky(kernel, overwrite=True)
    except LinAlgError:
        return None
    inverse = triangular_solve(lower, np.eye(len(y)), finite=True)
    dual = inverse.T @ (inverse @ z)
    missed = dual / np.einsum("ki,ki->i", inverse, inverse)[:, None]
    return Trained(KernelFit(y, width, np.ascontiguousarray(dual)), missed, rows)


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
    """A fit by one recipe; None where rounding forbids it."""
    system = _system(sample, rows, centres, recipe.width, recipe.slopes, step)
    return None if system is None else system.solved(recipe.ridge)


def _tried(
    sample: PairedSample, rows: IntArray, centres: IntArray, width: float, slopes: bool, step: float
) -> list[tuple[_Recipe, Trained | None]]:
    """Fits of one width with every ridge."""
    system = _system(sample, rows, centres, width, slopes, step)
    return [(_Recipe(width, ridge, slopes), None if system is None else system.solved(ridge)) for ridge in RIDGES]


@dataclass(frozen=True, eq=False)
class _System:
    """F = L^-1 k, the kernels made orthonormal (K = L L^T), at all equations, q for each pair; F F^T; and the targets."""

    centres: FloatArray
    width: float
    lower: FloatArray
    features: FloatArray
    normal: FloatArray
    targets: FloatArray
    q: int
    rows: IntArray

    def solved(self, ridge: float) -> Trained | None:
        """With M = F F^T + ridge, pair i leaves out its block of the hat matrix H = F^T M^-1 F, so that it is missed by
        (1 - H_ii)^-1 r_i, r the residuals. None where rounding forbids it.
        """
        n, q = self.features.shape[1] // self.q, self.q
        normal = self.normal.copy()
        normal[np.diag_indices(len(normal))] += ridge * n
        try:
            factor = cholesky(normal, overwrite=True)
        except LinAlgError:
            return None
        spanned = triangular_solve(factor, self.features, finite=True)
        half = spanned @ self.targets
        inner = triangular_solve(factor.T, half, lower=False, finite=True)
        dual = triangular_solve(self.lower.T, inner, lower=False, finite=True)
        residual = (self.targets - spanned.T @ half).reshape(n, q, -1)
        blocks = np.ascontiguousarray(spanned.T).reshape(n, q, -1)
        open_share = np.eye(q) * (1.0 + 1e-12) - blocks @ blocks.transpose(0, 2, 1)
        missed = np.asarray(np.linalg.solve(open_share, residual)[:, 0], dtype=np.float64)
        if not (np.isfinite(missed).all() and np.isfinite(dual).all()):
            return None
        return Trained(KernelFit(self.centres, self.width, np.ascontiguousarray(dual)), missed, self.rows)


def _system(
    sample: PairedSample, rows: IntArray, centres: IntArray, width: float, slopes: bool, step: float
) -> _System | None:
    y, z = sample.points[rows], sample.values[rows]
    n, at = len(y), y[centres]
    kernel = _kernel(y, at, width)
    q = 1 + (sample.dim if slopes else 0)
    equations, targets = np.empty((n, q, len(at))), np.empty((n, q, z.shape[1]))
    equations[:, 0], targets[:, 0] = kernel, z
    for a in range(q - 1):
        # d/du_a exp(-|y - c|^2 / 2 h^2) = -(y - c) . J_a / h^2 times itself.
        along = np.ascontiguousarray(sample.jacobians[rows, :, a])
        towards = np.einsum("nr,nr->n", y, along)[:, None] - along @ at.T
        equations[:, 1 + a] = towards * kernel * (-step / width**2)
        targets[:, 1 + a] = step * sample.slopes[rows, :, a]
    try:
        own = _kernel(at, at, width) + JITTER * np.eye(len(at))
        lower = cholesky(own, overwrite=True)
    except LinAlgError:
        return None
    features = triangular_solve(lower, equations.reshape(n * q, -1).T, finite=True)
    return _System(at, width, lower, features, product(features, features.T), targets.reshape(n * q, -1), q, rows)
