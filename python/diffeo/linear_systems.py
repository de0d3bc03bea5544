"""Sparse positive definite systems: graph Laplacians with one sample held, and normal equations of layouts."""

from __future__ import annotations

from collections.abc import Callable

import scipy.sparse as sp
from scipy.sparse.linalg import splu

from diffeo._validation import FloatArray

Solve = Callable[[FloatArray], FloatArray]


def factored(matrix: sp.csc_array) -> Solve:
    """The map b -> x with ``matrix @ x = b``, for right sides (n,) or (n, d) and a symmetric positive definite matrix (n, n).

    The matrix is factored once, without pivoting, in the order of least degree of its own pattern, which keeps the
    factors of a definite matrix as sparse as those of Cholesky (SuperLU: Li 2005, "symmetric mode"). RuntimeError
    where it is singular.
    """
    if matrix.shape[0] == 0:
        return lambda right: right
    factors = splu(matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    solve: Solve = factors.solve
    return solve
