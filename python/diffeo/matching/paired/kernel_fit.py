"""A global smooth fit to values and slopes: kriging with derivatives, its kernel chosen by pairs left out in turn."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.dense import cholesky, cholesky_solve, product, triangular_inverse
from diffeo._support.threads import workers
from diffeo.matching.paired.radial import PROFILES, functionals, kernel_matrix
from diffeo.matching.paired.sample import PairedSample

# Widths of the kernels, in distances to the eighth neighbour, and what is added to the diagonal, that are tried.
WIDTHS, RIDGES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0), (1e-13, 1e-9, 1e-5)
SPACING_NEIGHBOR = 8
# Kinds of kernels that are worse than the best by more than this in the trials are not fitted to all pairs.
WORTH_FITTING = 3.0
# So many times kernels are made narrower, or wider, at most.
STEPS = 3
# Entries of a matrix of kernels at a time.
ENTRIES = 8_000_000
# Triangles of this size are inverted as they are.
SMALL = 192


@dataclass(frozen=True)
class Effort:
    """Equations (values and slopes) of a global fit at most, those with which kernels are tried, pairs that are left out in
    turn, and those of them with which local kernels are tried.
    """

    equations: int = 3600
    tried_equations: int = 600
    known: int = 1500
    tried: int = 150


FULL = Effort()
# For many comparisons one after the other: a tenth of the time.
QUICK = Effort(1200, 300, 500, 60)


@dataclass(frozen=True)
class Recipe:
    """Profile and width of the kernels, what is added to their diagonal, and whether slopes count."""

    profile: str
    width: float
    ridge: float
    slopes: bool


@dataclass(frozen=True, eq=False)
class KernelFit:
    """sum_c k(y, c) w_c + sum_cb D_b k(y, c) w_cb: values (v,) of the target at points (r,) of the source.

    Attributes
    ----------
    profile : str
        Of the radial kernel k (`diffeo.matching.paired.radial.PROFILES`).
    width : float
        h.
    centres : ndarray of shape (C, r)
    directions : ndarray of shape (C, r, b)
        Along which k is differentiated, b of them at each centre: none where values alone are fitted.
    dual : ndarray of shape (C (1 + b), v)
    """

    profile: str
    width: float
    centres: FloatArray
    directions: FloatArray
    dual: FloatArray

    def predict(self, queries: FloatArray) -> FloatArray:
        """Values (count, v) at queries (count, r)."""
        at = functionals(self.centres, self.directions)
        batch = max(1, ENTRIES // len(self.dual))
        parts = [
            kernel_matrix(self.profile, self.width, functionals(queries[start : start + batch], None), at) @ self.dual
            for start in range(0, len(queries), batch)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dual.shape[1]))


class Trained(NamedTuple):
    """A kernel fit to some pairs, and what it misses of each of these when that one is left out, (n, v)."""

    model: KernelFit
    missed: FloatArray
    rows: IntArray


def fit_kernels(sample: PairedSample, rows: IntArray, rng: np.random.Generator, effort: Effort = FULL) -> Trained:
    """Fit to these pairs; profile, width, ridge and whether slopes count are chosen by what pairs left out are missed by.

    Kriging with derivatives (Morris, Mitchell and Ylvisaker 1993): values, and slopes along the source's tangents, are those of
    a Gaussian process whose kernel is of one of three kinds, as smooth as the map turns out to be. Slopes weigh as much as the
    change of the value over the distance to the next pair.
    """
    spacing, step = _spacing(sample, rows), input_spacing(sample, rows)
    tried = rows[np.sort(rng.permutation(len(rows))[: effort.tried_equations // equations_of(sample)])]
    best: dict[tuple[str, bool], tuple[float, Recipe]] = {}
    for profile, slopes in itertools.product(PROFILES, (True, False) if sample.with_slopes else (False,)):
        for factor in WIDTHS:
            for trained, recipe in _tried(sample, tried, profile, factor * spacing, slopes, step):
                missed = score(trained)
                if missed < best.get((profile, slopes), (np.inf,))[0]:
                    best[profile, slopes] = missed, recipe
    least = min((missed for missed, _ in best.values()), default=np.inf)
    fits = []
    for value, recipe in best.values():
        # What was tried with all pairs needs no second fit of what is worse.
        if value <= (1.0 if len(tried) == len(rows) else WORTH_FITTING) * least:
            fits.append(_refined(sample, rows, recipe, step))
    found = min(fits, key=score, default=None)
    if found is None:
        raise errors.NonFiniteError(
            "no kernel regression can be fitted to these pairs: are there numbers of wild sizes?"
        )
    return found


def _refined(sample: PairedSample, rows: IntArray, recipe: Recipe, step: float) -> Trained | None:
    """The best of fits of this width, and of ever narrower or wider ones as long as they improve."""
    found = _trained(sample, rows, recipe, step)
    for factor in (0.5, 2.0):
        width, improved = recipe.width, False
        for _ in range(STEPS):
            width *= factor
            other = _trained(sample, rows, Recipe(recipe.profile, width, recipe.ridge, recipe.slopes), step)
            if not score(other) < score(found):
                break
            found, improved = other, True
        if improved:
            break
    return found


def equations_of(sample: PairedSample) -> int:
    """Numbers that each pair gives for each value of the target."""
    return 1 + sample.dim if sample.with_slopes else 1


def score(trained: Trained | None) -> float:
    """Root mean square of what is missed of pairs left out."""
    return float("inf") if trained is None else float(np.sqrt((trained.missed**2).sum(axis=1).mean()))


def input_spacing(sample: PairedSample, rows: IntArray) -> float:
    """Median distance of these pairs to the next one in units of the input, by the source's metric."""
    k = min(len(sample) - 1, 2 * sample.dim + 2)
    near = sample.near(sample.points[rows], k, rows)
    steps = sample.points[near] - sample.points[rows][:, None]
    lengths = np.linalg.norm(np.einsum("nkr,nrd->nkd", steps, sample.whitening[rows]), axis=2)
    return float(np.median(lengths.min(axis=1))) or 1.0


def _spacing(sample: PairedSample, rows: IntArray) -> float:
    k = min(len(sample), SPACING_NEIGHBOR + 1)
    distances = sample.tree.query(sample.leading(sample.points[rows]), k, workers=workers())[0]
    return float(np.median(distances[:, -1])) or 1.0


def _trained(sample: PairedSample, rows: IntArray, recipe: Recipe, step: float) -> Trained | None:
    """A fit by one recipe; None where rounding forbids it."""
    return _System.of(sample, rows, recipe.profile, recipe.width, recipe.slopes, step).solved(recipe.ridge)


def _tried(
    sample: PairedSample, rows: IntArray, profile: str, width: float, slopes: bool, step: float
) -> list[tuple[Trained | None, Recipe]]:
    """Fits of one width with every ridge."""
    system = _System.of(sample, rows, profile, width, slopes, step)
    return [(system.solved(ridge), Recipe(profile, width, ridge, slopes)) for ridge in RIDGES]


@dataclass(frozen=True, eq=False)
class _System:
    """K w = t: kernels between all functionals, q of each pair, and the targets."""

    profile: str
    width: float
    directions: FloatArray
    matrix: FloatArray
    targets: FloatArray
    points: FloatArray
    rows: IntArray

    @classmethod
    def of(cls, sample: PairedSample, rows: IntArray, profile: str, width: float, slopes: bool, step: float) -> _System:
        points, values = sample.points[rows], sample.values[rows]
        directions = step * sample.jacobians[rows] if slopes else np.empty((*points.shape, 0))
        along = step * sample.slopes[rows] if slopes else np.empty((*values.shape, 0))
        at = functionals(points, directions)
        targets = functionals(values, along).reshape(-1, values.shape[1])
        return cls(profile, width, directions, kernel_matrix(profile, width, at, at, same=True), targets, points, rows)

    def solved(self, ridge: float) -> Trained | None:
        """With M = (K + ridge)^-1, pair i, left out, is missed by its part of (M_ii)^-1 (M t)_i (Dubrule 1983), M_ii its
        block. None where rounding forbids it.
        """
        n = len(self.rows)
        matrix = self.matrix.copy()
        matrix[np.diag_indices(len(matrix))] += ridge
        try:
            lower = np.ascontiguousarray(cholesky(matrix, overwrite=True))
        except LinAlgError:
            return None
        dual = cholesky_solve(lower, self.targets)
        inverse = _inverse_of_lower(lower).reshape(len(matrix), n, -1)
        blocks = np.einsum("kna,knb->nab", inverse, inverse)
        try:
            missed = np.linalg.solve(blocks, dual.reshape(n, -1, dual.shape[1]))[:, 0]
        except LinAlgError:
            return None
        if not (np.isfinite(missed).all() and np.isfinite(dual).all()):
            return None
        model = KernelFit(self.profile, self.width, self.points, self.directions, np.ascontiguousarray(dual))
        return Trained(model, missed, self.rows)


def _inverse_of_lower(lower: FloatArray) -> FloatArray:
    """The inverse of a lower triangle, by halves: [[A, 0], [B, C]]^-1 = [[A^-1, 0], [-C^-1 B A^-1, C^-1]]."""
    n = len(lower)
    if n <= SMALL:
        return triangular_inverse(lower)
    half = n // 2
    first, last = _inverse_of_lower(lower[:half, :half]), _inverse_of_lower(lower[half:, half:])
    inverse = np.zeros_like(lower)
    inverse[:half, :half], inverse[half:, half:] = first, last
    inverse[half:, :half] = -product(last, product(lower[half:, :half], first))
    return inverse
