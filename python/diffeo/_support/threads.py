"""How many threads: of the core as `n_jobs` asks, of SciPy's searches as many, and of BLAS one.

A threaded BLAS sums in an order that depends on the number of its threads. The core does what is worth threads, with
the same bits for any number of them; small dense algebra in NumPy must not undo that.
"""

from __future__ import annotations

import numbers
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

from diffeo import errors

_asked: ContextVar[int] = ContextVar("diffeo_workers", default=0)


@contextmanager
def working(n_jobs: int | None) -> Iterator[None]:
    """Within, `workers` answers as `n_jobs` asks, and BLAS works in one thread (in all of the process, meanwhile)."""
    token = _asked.set(thread_count(n_jobs))
    try:
        with _controller(len(sys.modules)).limit(limits=1, user_api="blas"):
            yield
    finally:
        _asked.reset(token)


def workers() -> int:
    """Number of threads for SciPy's ``workers``: that of the enclosing `working`, else -1, which means all."""
    return _asked.get() or -1


@lru_cache(maxsize=1)
def _controller(n_modules: int) -> ThreadpoolController:
    """Handles of the BLAS libraries in this process. Finding them takes a millisecond: again only after imports."""
    return ThreadpoolController()


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
