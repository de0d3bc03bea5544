"""Systems with the Laplacians of neighbour graphs: factored where that is fast, by multigrid beyond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import splu

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers

Solve = Callable[[FloatArray], FloatArray]

# Samples up to which factors are made: they are exact, and as fast there. At 10,000, multigrid takes half as long to refine.
DIRECT_SIZE = 5_000
# Residuals of full solutions that are aimed at, relative, and that are put up with: of a million samples rounding can
# leave 1e-10. Those of rough ones, and the iterations allowed; 10 to 20 suffice.
FULL, SOLVED = 1e-10, 1e-7
ROUGH = 1e-6
MAX_ITERATIONS = 200


class GraphLaplacian(Protocol):
    """A = B^T diag(w) B of a graph of n samples and k periods, for zero-sum right sides (n + k, b) over the samples.

    `solve` gives a solution of A x = b, up to a translation of the samples; `correct` gives M^-1 b with a fixed
    symmetric M and 0 < M^-1 A <= 1, up to a few percent: so x + M^-1 (b - A x) is always nearer to the solution.
    """

    def solve(self, right: FloatArray) -> FloatArray: ...  # noqa: D102
    def correct(self, right: FloatArray) -> FloatArray: ...  # noqa: D102


def graph_laplacian(n: int, i: IntArray, j: IntArray, weights: FloatArray, windings: FloatArray) -> GraphLaplacian:
    """The Laplacian of edges (e,) between n samples, which wind (e, k) times around each of k periods.

    The weights are positive and the graph is in one piece. RuntimeError where the matrix is singular beyond that.
    """
    if n <= DIRECT_SIZE:
        return HeldLaplacian(n, i, j, weights, windings)
    return MultigridLaplacian(n, i, j, weights, windings)


class HeldLaplacian:
    """The first sample is held at the origin, which makes the matrix positive definite, and the rest is factored."""

    def __init__(self, n: int, i: IntArray, j: IntArray, weights: FloatArray, windings: FloatArray) -> None:
        incidence = incidence_matrix(n, i, j, windings)
        self._solve = factored((incidence.T @ diagonal_matrix(weights) @ incidence).tocsc()[1:, 1:])

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
    """By conjugate gradients to `FULL`; RuntimeError where these do not get near."""
    solution, iterations, residual = solver.solve(right, FULL, MAX_ITERATIONS)
    if not residual <= SOLVED:
        raise RuntimeError(f"a graph Laplacian was not solved: residual {residual:.1e} after {iterations} iterations")
    return solution


def incidence_matrix(n: int, i: IntArray, j: IntArray, windings: FloatArray) -> sp.csr_array:
    """The matrix B (e, n + k) that makes steps of edges from a layout of n samples and k periods."""
    e = len(i)
    edges = np.arange(e)
    signs = np.concatenate([-np.ones(e), np.ones(e)])
    within = sp.coo_array((signs, (np.tile(edges, 2), np.concatenate([i, j]))), shape=(e, n)).tocsr()
    return sp.hstack([within, sp.csr_array(windings)], format="csr") if windings.shape[1] else within


def diagonal_matrix(values: FloatArray) -> sp.dia_array:
    """The matrix (n, n) with these values on its diagonal: `scipy.sparse.diags_array`, which SciPy has from 1.12 on only."""
    return sp.dia_array((values[None], [0]), shape=(len(values), len(values)))


def factored(matrix: sp.csc_array) -> Solve:
    """The map b -> x with ``matrix @ x = b``, for right sides (n,) or (n, d) and a symmetric positive definite matrix (n, n).

    The matrix is factored once, without pivoting, in the order of least degree of its own pattern, which keeps the
    factors of a definite matrix as sparse as those of Cholesky (SuperLU: Li 2005, "symmetric mode").

    Raises
    ------
    ConvergenceError
        The matrix is singular, or holds NaN.
    """
    if matrix.shape[0] == 0:
        return lambda right: right
    try:
        factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    except RuntimeError as error:
        raise errors.ConvergenceError(
            f"a sparse system of {matrix.shape[0]} unknowns is singular ({error}): lengths between neighbouring samples are "
            "degenerate; the measurements do not embed the input, or are too noisy"
        ) from error
    solve: Solve = factors.solve
    return solve
