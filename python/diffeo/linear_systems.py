"""Sparse positive definite systems: graph Laplacians with one sample held, and normal equations of layouts."""

from __future__ import annotations

from collections.abc import Callable

import scipy.sparse as sp
from scipy.sparse.linalg import splu

from diffeo import errors
from diffeo._validation import FloatArray

Solve = Callable[[FloatArray], FloatArray]


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
