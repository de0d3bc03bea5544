"""What surrounds the work of a public call: how many threads, how NumPy takes errors, and what becomes of a full memory.

Of the core as `n_jobs` asks, of searches as many, and of BLAS one: the core does what is worth threads, with the same bits
for any number of them; small dense algebra in NumPy must not undo that.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from diffeo import errors
from diffeo._support.blas import OneThread

P = ParamSpec("P")
T = TypeVar("T")

_asked: ContextVar[int] = ContextVar("diffeo_workers", default=0)


@contextmanager
def working(n_jobs: int | None) -> Iterator[None]:
    """Within, `workers` answers as `n_jobs` asks, BLAS works in one thread (in all of the process, meanwhile); and `sound`."""
    token = _asked.set(thread_count(n_jobs))
    try:
        with OneThread(), _sound():
            yield
    finally:
        _asked.reset(token)


def exact(function: Callable[P, T]) -> Callable[P, T]:
    """The function with BLAS in one thread, and `sound`: for public calls that take no `n_jobs`."""

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        with OneThread(), _sound():
            return function(*arguments, **options)

    return called


def sound(function: Callable[P, T]) -> Callable[P, T]:
    """The function with NumPy taking errors as it does by default, and MemoryLimitError where memory is full.

    People trap floating-point errors in their own code (`numpy.seterr`); an underflow in here is no mistake of theirs.
    """

    @wraps(function)
    def called(*arguments: P.args, **options: P.kwargs) -> T:
        with _sound():
            return function(*arguments, **options)

    return called


@contextmanager
def _sound() -> Iterator[None]:
    try:
        with np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"):
            yield
    except errors.DiffeoError:
        raise
    except MemoryError as error:
        raise errors.MemoryLimitError(
            f"memory is full ({error or 'nothing more can be allocated'}): use fewer samples or measurements, or give the "
            "process more; DIFFEO_MEMORY_LIMIT, in bytes, has diffeo stop before that"
        ) from error


def workers() -> int:
    """Number of threads for SciPy's ``workers``: that of the enclosing `working`, else -1, which means all."""
    return _asked.get() or -1


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(n_jobs: Any) -> int:
    """Number of threads for the core: None and -1 mean all that OpenMP gives (0 for the core), k >= 1 means k."""
    if n_jobs is None:
        return 0
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, numbers.Integral) or (n_jobs < 1 and n_jobs != -1):
        raise errors.ParameterError(f"n_jobs must be None, -1 or a positive integer, not {n_jobs!r}")
    # More threads than processors only wait for each other, and results do not depend on their number.
    return 0 if n_jobs == -1 else min(int(n_jobs), 4 * (os.cpu_count() or 1))
