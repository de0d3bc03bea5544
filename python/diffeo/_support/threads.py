"""Threads of what is not in the core: searches by SciPy take as many as the caller asked for, and BLAS takes one.

A threaded BLAS sums in an order that depends on the number of its threads. The core does what is worth threads, with
the same bits for any number of them; small dense algebra in NumPy must not undo that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

from threadpoolctl import ThreadpoolController

from diffeo._support.arrays import threads

_asked: ContextVar[int] = ContextVar("diffeo_workers", default=0)


@contextmanager
def working(n_jobs: int | None) -> Iterator[None]:
    """Within, `workers` answers as `n_jobs` asks, and BLAS works in one thread (in all of the process, meanwhile)."""
    token = _asked.set(threads(n_jobs))
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
