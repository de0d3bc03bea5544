"""A smooth fit to values and slopes of pairs: kriging with derivatives, and what it misses of each pair left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.linalg import LinAlgError

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.dense import cholesky, cholesky_inverse, cholesky_solve
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.matching.paired.radial import functionals, kernel_matrix
from diffeo.matching.paired.sample import PairedSample

# Widths of kernels are counted in distances to this neighbour.
SPACING_NEIGHBOR = 8
# Entries of a matrix of kernels at a time.
ENTRIES = 8_000_000
# Pairs at which the gradients of a fit are averaged, at most; and what is added to the squared sensitivity of each direction,
# as a share of the greatest: nothing that the pairs tell apart is thrown away.
GRADIENTS, LEAST_SENSITIVITY = 100, 1e-6


@dataclass(frozen=True)
class Recipe:
    """Profile and width of the kernels, what is added to their diagonal, and whether slopes count."""

    profile: str
    width: float
    ridge: float
    slopes: bool


@dataclass(frozen=True, eq=False)
class KernelFit:
    """sum_c k(y, c) w_c + sum_cb D_b k(y, c) w_cb: values (v,) of the target at points (s,) of the source.

    Attributes
    ----------
    profile : str
        Of the radial kernel k (`diffeo.matching.paired.radial.PROFILES`).
    width : float
        h.
    centres : ndarray of shape (C, s)
    directions : ndarray of shape (C, s, b)
        Along which k is differentiated, b of them at each centre: none where values alone are fitted.
    dual : ndarray of shape ((1 + b) C, v)
        w_c of all centres, then w_cb of the first direction of all, and so on.
    """

    profile: str
    width: float
    centres: FloatArray
    directions: FloatArray
    dual: FloatArray

    def predict(self, queries: FloatArray) -> FloatArray:
        """Values (count, v) at queries (count, s)."""
        at = functionals(self.centres, self.directions)
        batch = max(1, ENTRIES // len(self.dual))
        parts = [
            kernel_matrix(self.profile, self.width, functionals(queries[start : start + batch], None), at) @ self.dual
            for start in range(0, len(queries), batch)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dual.shape[1]))

    def sensitivity(self) -> FloatArray:
        """The mean of G^T G over the centres, or some of them, (s, s); G (v, s) is the gradient of the fit by the source."""
        count, s = self.centres.shape
        some = self.centres[np.linspace(0, count - 1, min(count, GRADIENTS)).astype(np.int64)]
        at, total = functionals(self.centres, self.directions), np.zeros((s, s))
        batch = max(1, ENTRIES // ((1 + s) * len(self.dual)))
        for start in range(0, len(some), batch):
            part = some[start : start + batch]
            every = functionals(part, np.broadcast_to(np.eye(s), (len(part), s, s)))
            gradients = (kernel_matrix(self.profile, self.width, every, at) @ self.dual).reshape(1 + s, -1)[1:]
            total += gradients @ gradients.T
        return total / len(some)


class Trained(NamedTuple):
    """A kernel fit to some pairs, and what it misses of each of these when that one is left out, (n, v)."""

    model: KernelFit
    missed: FloatArray


@dataclass(frozen=True, eq=False)
class Few:
    """Some pairs with the source in coordinates y L: points (n, s), jacobians (n, s, d), values (n, v), slopes (n, v, d)."""

    points: FloatArray
    jacobians: FloatArray
    values: FloatArray
    slopes: FloatArray

    @classmethod
    def of(cls, sample: PairedSample, rows: IntArray, metric: FloatArray) -> Few:
        """These pairs of a sample."""
        jacobians = np.einsum("nrd,rs->nsd", sample.jacobians[rows], metric, optimize=True)
        return cls(
            np.ascontiguousarray(sample.points[rows] @ metric),
            np.ascontiguousarray(jacobians),
            sample.values[rows],
            sample.slopes[rows],
        )


def sensitive_metric(sensitivity: FloatArray) -> FloatArray:
    """L (r, r), L L^T the sensitivity, so that distances of y L count as much as the target changes along them.

    Columns are directions of the source, the most sensitive first.

    The average gradient outer product as a metric for kernels (Trivedi et al. 2014; Radhakrishnan et al. 2024): directions of
    the source that tell nothing of the target, such as a wall that it alone climbs, vanish, and lengths become short across
    walls of the target.
    """
    values, axes = np.linalg.eigh(sensitivity)
    shares = np.maximum(values, 0.0) / max(float(values[-1]), np.finfo(float).tiny)
    root: FloatArray = np.ascontiguousarray((axes * np.sqrt(shares + LEAST_SENSITIVITY))[:, ::-1])
    return root


def equations_of(sample: PairedSample) -> int:
    """Numbers that each pair gives for each value of the target."""
    return 1 + sample.dim if sample.with_slopes else 1


def input_spacing(sample: PairedSample, rows: IntArray) -> float:
    """Median distance of these pairs to the next one in units of the input, by the source's metric."""
    k = min(len(sample) - 1, 2 * sample.dim + 2)
    near = sample.near(sample.points[rows], k, rows)
    steps = sample.points[near] - sample.points[rows][:, None]
    lengths = np.linalg.norm(np.einsum("nkr,nrd->nkd", steps, sample.whitening[rows]), axis=2)
    return float(np.median(lengths.min(axis=1))) or 1.0


def usual_spacing(points: FloatArray) -> float:
    """Median distance of points to the eighth of the others."""
    distances = PointTree(points).query(points, min(len(points), SPACING_NEIGHBOR + 1), workers=workers())[0]
    return float(np.median(distances[:, -1])) or 1.0


def trained(few: Few, recipe: Recipe, step: float) -> Trained | None:
    """A fit to pairs by one recipe; None where rounding forbids it. Slopes are multiplied by `step`.

    Kriging with derivatives (Morris, Mitchell and Ylvisaker 1993). With M = (K + ridge)^-1, K the kernels between all
    functionals and t the targets, pair i, left out, is missed by its part of (M_ii)^-1 (M t)_i (Dubrule 1983), M_ii its block.
    """
    n, values = len(few.points), few.values
    directions = step * few.jacobians if recipe.slopes else np.empty((*few.points.shape, 0))
    along = step * few.slopes if recipe.slopes else np.empty((*values.shape, 0))
    at = functionals(few.points, directions)
    targets = functionals(values, along).reshape(-1, values.shape[1])
    matrix = kernel_matrix(recipe.profile, recipe.width, at, at, same=True)
    matrix[np.diag_indices(len(matrix))] += recipe.ridge
    try:
        # Of a symmetric matrix the transpose is as good, and LAPACK's order of it needs no copy.
        lower = cholesky(matrix.T, overwrite=True)
        dual = cholesky_solve(lower, targets)
        blocks = _diagonal_blocks(cholesky_inverse(lower), n)
        own = np.ascontiguousarray(dual.reshape(-1, n, dual.shape[1]).swapaxes(0, 1))
        missed = np.linalg.solve(blocks, own)[:, 0].astype(np.float64)
    except LinAlgError:
        return None
    if not (np.isfinite(missed).all() and np.isfinite(dual).all()):
        return None
    model = KernelFit(recipe.profile, recipe.width, few.points, directions, np.ascontiguousarray(dual))
    return Trained(model, missed)


def _diagonal_blocks(lower: FloatArray, n: int) -> FloatArray:
    """Blocks (n, q, q) of each pair with itself, from the lower triangle of a symmetric matrix (q n, q n)."""
    q = len(lower) // n
    blocks = np.empty((n, q, q))
    for a in range(q):
        for b in range(a + 1):
            blocks[:, a, b] = blocks[:, b, a] = lower[a * n : (a + 1) * n, b * n : (b + 1) * n].diagonal()
    return blocks
