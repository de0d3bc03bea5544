"""Progress bars of long work: ``verbose=True`` shows them, stages name them, and nothing is printed otherwise.

The functions that a user calls wrap their work in `showing`; whatever takes long, at any depth below them, in `stage`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from diffeo._support import core
from diffeo._support.notebook import NotebookBar, in_notebook

Report = Callable[[int, int], None]

# Shared by all that one call does, and by nothing else: threads have their own.
_shown: ContextVar[bool] = ContextVar("diffeo_progress_shown", default=False)
_active: ContextVar[Report | None] = ContextVar("diffeo_progress_active", default=None)


@contextmanager
def showing(verbose: bool) -> Iterator[None]:
    """Within, stages show bars if `verbose`, or if the caller's own stages do."""
    token = _shown.set(_shown.get() or bool(verbose))
    try:
        yield
    finally:
        _shown.reset(token)


@contextmanager
def stage(name: str) -> Iterator[Report]:
    """A bar called `name` on standard error, or in the notebook, while the block runs, moved by the core's own loops.

    Yields ``report(done, total)``, with which iterations in Python move it too. A loop or iteration that follows another
    one in the same stage starts the bar anew. A stage within a stage replaces its bar for a while.
    """
    if not _shown.get():
        yield _ignore
        return
    # Of one, rather than of chunks or iterations, whose number differs from loop to loop.
    with _bar(name) as bar:

        def report(done: int, total: int) -> None:
            bar.n = min(1.0, done / max(1, total))
            bar.update(0)

        token, outer = _active.set(report), _active.get()
        core.set_progress(report)
        try:
            yield report
            bar.n = 1.0
        finally:
            core.set_progress(outer)
            _active.reset(token)
            bar.refresh()


def _bar(name: str) -> Any:
    """A bar of one that a terminal or a notebook shows."""
    if in_notebook():
        return NotebookBar(name)
    from tqdm import tqdm

    return tqdm(total=1.0, desc=name, leave=True, bar_format="{desc:<12}{percentage:3.0f} % |{bar}| {elapsed}")


def _ignore(done: int, total: int) -> None:
    pass
