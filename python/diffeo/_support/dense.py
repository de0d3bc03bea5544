"""Dense linear algebra that Ctrl-C does not have to wait for: SciPy's and NumPy's own, beside the thread that asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, ParamSpec, TypeVar

import numpy as np
import scipy.linalg

from diffeo._support.arrays import FloatArray

P = ParamSpec("P")
T = TypeVar("T")

# Multiplications that take some milliseconds: what takes less is not worth a thread.
LONG = 1e8
LOOK_SECONDS = 0.05


def interruptible(function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What function(*arguments, **options) gives, or raises; Ctrl-C is heard while it computes.

    Python hears signals in its main thread, between two instructions, and one call of LAPACK is one instruction. So another
    thread makes the call, and holds all that it reads and writes: after Ctrl-C it ends by itself, and nobody looks.
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*arguments, **options)
    results: list[T] = []
    failures: list[BaseException] = []
    done = threading.Event()
    context = copy_context()

    def run() -> None:
        try:
            results.append(context.run(function, *arguments, **options))
        except BaseException as failure:
            failures.append(failure)
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="diffeo-dense").start()
    # What an interactive shell's own interrupt button sets is a flag, which does not end a wait: look at times.
    while not done.wait(LOOK_SECONDS):
        pass
    if failures:
        # Here, and not there, is where it is raised: the frames of the other thread would hold it in a cycle.
        raise failures.pop()
    return results.pop()


def cholesky(matrix: FloatArray, *, overwrite: bool = False) -> FloatArray:
    """Lower Cholesky factor; numpy.linalg.LinAlgError where there is none. A matrix to overwrite is finite."""
    factor: FloatArray = _at_length(
        len(matrix) ** 3 / 3,
        scipy.linalg.cholesky,
        matrix,
        lower=True,
        overwrite_a=overwrite,
        check_finite=not overwrite,
    )
    return factor


def cholesky_solve(factor: FloatArray, right: FloatArray) -> FloatArray:
    """Solution of L L^T x = b for a lower factor L (n, n) and right sides (n,) or (n, k)."""
    solution: FloatArray = _at_length(2 * len(factor) * right.size, scipy.linalg.cho_solve, (factor, True), right)
    return solution


def cholesky_inverse(factor: FloatArray) -> FloatArray:
    """Lower triangle of (L L^T)^-1 for a lower factor L (n, n); what is above it means nothing."""
    inverse, info = _at_length(len(factor) ** 3 * 2 / 3, scipy.linalg.lapack.dpotri, factor, lower=1)
    if info != 0:
        raise np.linalg.LinAlgError("a factor with zeros on its diagonal has no inverse")
    lower: FloatArray = inverse
    return lower


def triangular_solve(matrix: FloatArray, right: FloatArray, *, lower: bool = True, finite: bool = False) -> FloatArray:
    """Solution of T x = b for a triangular matrix (n, n) and right sides (n,) or (n, k); `finite`: known to be."""
    solution: FloatArray = _at_length(
        len(matrix) * right.size, scipy.linalg.solve_triangular, matrix, right, lower=lower, check_finite=not finite
    )
    return solution


def product(left: FloatArray, right: FloatArray) -> FloatArray:
    """The matrix product."""
    result: FloatArray = _at_length(left.size * right.shape[-1], np.matmul, left, right)
    return result


def thin_svd(matrix: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """U (n, k), s (k,) and V^T (k, m) for k = min(n, m)."""
    work = 8 * matrix.size * min(matrix.shape)
    u, s, vt = _at_length(work, np.linalg.svd, matrix, full_matrices=False)
    return u, s, vt


def _at_length(work: float, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of so many multiplications, in this thread if they are few."""
    return interruptible(function, *arguments, **options) if work > LONG else function(*arguments, **options)
