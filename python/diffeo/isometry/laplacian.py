"""Systems with the Laplacians of neighbour graphs: factored where that is fast, by multigrid beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo._support.wording import rows_text
from diffeo.isometry.trust import FEW_DIMENSIONS

Solve = Callable[[FloatArray], FloatArray]

# Samples up to which factors are made: they are exact, and as fast there. At 10,000, multigrid takes half as long to refine.
DIRECT_SIZE = 5_000
# Where neighbours lie in many dimensions, factors fill up.
DIRECT_SIZE_OF_MANY = 500
# Residuals of full solutions that are aimed at, relative, and that are put up with: of a million samples rounding can
# leave 1e-10. Those of rough ones, and the iterations allowed; 10 to 20 suffice.
FULL, SOLVED = 1e-10, 1e-7
ROUGH = 1e-6
MAX_ITERATIONS = 200
# Entries below this share of their diagonals tie nothing: rounding.
TIED = 1e-13


class GraphLaplacian(Protocol):
    """A = B^T diag(w) B of a graph of n samples and k periods, for zero-sum right sides (n + k, b) over the samples.

    `solve` gives a solution of A x = b, up to a translation of the samples; `correct` gives M^-1 b with a fixed
    symmetric M and 0 < M^-1 A <= 1, up to a few percent: so x + M^-1 (b - A x) is always nearer to the solution.
    """

    def solve(self, right: FloatArray) -> FloatArray: ...  # noqa: D102
    def correct(self, right: FloatArray) -> FloatArray: ...  # noqa: D102


def graph_laplacian(
    n: int,
    i: IntArray,
    j: IntArray,
    weights: FloatArray,
    windings: FloatArray,
    rows: IntArray | None = None,
    *,
    dim: int = 1,
) -> GraphLaplacian:
    """The Laplacian of edges (e,) between n samples, which wind (e, k) times around each of k periods.

    The weights are positive and the graph is in one piece. ConvergenceError where the matrix is singular all the same, with
    the part of the graph that nothing holds; `rows` (n,) are what the samples are called there. Neighbours
    lie in `dim` dimensions.
    """
    if n <= (DIRECT_SIZE if dim <= FEW_DIMENSIONS else min(DIRECT_SIZE, DIRECT_SIZE_OF_MANY)):
        # The first sample is held, and has no unknown.
        names = None if rows is None else np.concatenate([rows[1:], np.full(windings.shape[1], -1)])
        return HeldLaplacian(n, i, j, weights, windings, names)
    return MultigridLaplacian(n, i, j, weights, windings)


class HeldLaplacian:
    """The first sample is held at the origin, which makes the matrix positive definite, and the rest is factored."""

    def __init__(
        self,
        n: int,
        i: IntArray,
        j: IntArray,
        weights: FloatArray,
        windings: FloatArray,
        names: IntArray | None = None,
    ) -> None:
        incidence = incidence_matrix(n, i, j, windings)
        self._solve = factored((incidence.T @ diagonal_matrix(weights) @ incidence).tocsc()[1:, 1:], names)

    def solve(self, right: FloatArray) -> FloatArray:
        """Solution (n + k, b), zero at the first sample."""
        solution = np.zeros_like(right)
        solution[1:] = self._solve(right[1:])
        return solution

    correct = solve


class MultigridLaplacian:
    """Time and memory in proportion to the edges (laplacian.hpp); periods are eliminated.

    With samples and periods apart, A = [[L, C], [C^T, D]] = [[1, 0], [Z^T, 1]] diag(L, S) [[1, Z], [0, 1]] for
    Z = L^-1 C and S = D - C^T Z (k, k). An approximate L^-1 in that product is as good for A as for L.
    """

    def __init__(self, n: int, i: IntArray, j: IntArray, weights: FloatArray, windings: FloatArray) -> None:
        self._n = n
        self._samples = core.LaplacianSolver(n, i, j, np.ascontiguousarray(weights), None, workers())
        if windings.shape[1]:
            weighted = weights[:, None] * windings
            within = incidence_matrix(n, i, j, np.empty((len(i), 0)))
            coupling = np.ascontiguousarray(within.T @ weighted)
            self._tied = full_solution(self._samples, coupling)
            self._periods = np.linalg.inv(windings.T @ weighted - coupling.T @ self._tied)
        else:
            self._tied, self._periods = np.zeros((n, 0)), np.zeros((0, 0))

    def solve(self, right: FloatArray) -> FloatArray:
        """Solution (n + k, b), of mean zero over the samples without periods."""
        return self._composed(right, lambda b: full_solution(self._samples, b))

    def correct(self, right: FloatArray) -> FloatArray:
        """One multigrid cycle."""
        return self._composed(right, self._samples.cycle)

    def _composed(self, right: FloatArray, solve: Solve) -> FloatArray:
        samples = np.ascontiguousarray(right[: self._n])
        solution = solve(samples)
        if len(right) == self._n:
            return solution
        periods = self._periods @ (right[self._n :] - self._tied.T @ samples)
        return np.vstack([solution - self._tied @ periods, periods])


def anchored_solution(
    n: int, i: IntArray, j: IntArray, weights: FloatArray, anchors: FloatArray, right: FloatArray
) -> FloatArray:
    """Solution (n, b) where samples are also tied to the origin, with weights (n,); to 1e-6 where they are many."""
    if n > DIRECT_SIZE:
        solver = core.LaplacianSolver(n, i, j, weights, anchors, workers())
        return solver.solve(np.ascontiguousarray(right), ROUGH, MAX_ITERATIONS)[0]
    incidence = incidence_matrix(n, i, j, np.empty((len(i), 0)))
    return factored((incidence.T @ diagonal_matrix(weights) @ incidence + diagonal_matrix(anchors)).tocsc())(right)


def full_solution(solver: core.LaplacianSolver, right: FloatArray) -> FloatArray:
    """By conjugate gradients to `FULL`; ConvergenceError where these do not get near."""
    solution, iterations, residual = solver.solve(right, FULL, MAX_ITERATIONS)
    if not residual <= SOLVED:
        raise errors.ConvergenceError(
            f"places of the samples in their neighbour graph were not found: residual {residual:.1e} after {iterations} "
            "iterations; lengths between neighbouring samples differ by too many orders of magnitude"
        )
    return solution


def incidence_matrix(n: int, i: IntArray, j: IntArray, windings: FloatArray) -> sp.csr_array:
    """The matrix B (e, n + k) that makes steps of edges from a layout of n samples and k periods."""
    e = len(i)
    edges = np.arange(e)
    signs = np.concatenate([-np.ones(e), np.ones(e)])
    within = sp.coo_array((signs, (np.tile(edges, 2), np.concatenate([i, j]))), shape=(e, n)).tocsr()
    return sp.hstack([within, sp.csr_array(windings)], format="csr") if windings.shape[1] else within


def _unheld(matrix: sp.csc_array) -> IntArray:
    """The unknowns that leave a symmetric matrix singular: NaN, or the smallest part tied to nothing but itself."""
    entries = matrix.tocoo()
    row, column = entries.coords if hasattr(entries, "coords") else (entries.row, entries.col)
    wild = np.unique(row[~np.isfinite(entries.data)])
    if len(wild):
        return np.asarray(wild, dtype=np.int64)
    size = np.abs(matrix.diagonal())
    tied = np.abs(entries.data) > TIED * np.sqrt(size[row] * size[column])
    ties = sp.coo_array((np.ones(int(tied.sum())), (row[tied], column[tied])), shape=matrix.shape)
    count, label = connected_components(ties.tocsr(), directed=False)
    # A part whose rows sum up to nothing beside their sizes is tied to nothing outside of it.
    total = np.bincount(label, np.asarray(matrix.sum(axis=1)).ravel(), minlength=count)
    open_parts = np.abs(total) <= TIED * np.bincount(label, size, minlength=count)
    members = np.bincount(label, minlength=count)
    smallest = int(np.where(open_parts if open_parts.any() else True, members, members.max() + 1).argmin())
    return np.flatnonzero(label == smallest)


def diagonal_matrix(values: FloatArray) -> sp.dia_array:
    """The matrix (n, n) with these values on its diagonal: `scipy.sparse.diags_array`, which SciPy has from 1.12 on only."""
    return sp.dia_array((values[None], [0]), shape=(len(values), len(values)))


def factored(matrix: sp.csc_array, names: IntArray | None = None) -> Solve:
    """The map b -> x with ``matrix @ x = b``, for right sides (n,) or (n, d) and a symmetric positive definite matrix (n, n).

    The matrix is factored once, without pivoting, in the order of least degree of its own pattern, which keeps the
    factors of a definite matrix as sparse as those of Cholesky (SuperLU: Li 2005, "symmetric mode").

    Raises
    ------
    ConvergenceError
        The matrix is singular, or holds NaN. The message has the part of the graph that nothing holds: `names` (n,) are the
        rows of the samples to which the unknowns belong (-1: none).
    """
    if matrix.shape[0] == 0:
        return lambda right: right
    try:
        factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError as error:
        rows = _unheld(matrix) if names is None else np.unique(names[_unheld(matrix)])
        what = "unknowns" if names is None else "samples"
        raise errors.ConvergenceError(
            f"{len(rows)} {what} of the neighbour graph ({rows_text(rows[rows >= 0])}) are held by no length to the others, so "
            "that their places are open: lengths between neighbouring samples vanish or overflow there; the measurements do "
            "not embed the input at these samples, or are too noisy: leave them out, or add neurons"
        ) from error
    solve: Solve = factors.solve
    return solve
