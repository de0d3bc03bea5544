"""Nearest neighbours by ordinary distance: SciPy's k-d tree, on threads that Ctrl-C does not leave behind."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import processors

# Queries before the time of one is known; and the seconds that a chunk of them should take, which is how long Ctrl-C waits.
FIRST, CHUNK_SECONDS = 32, 0.02
# Another thread has to have this many seconds of work to be worth its start.
WORTH_A_THREAD = 2e-3


class PointTree(cKDTree):  # type: ignore[misc]
    """A k-d tree whose searches stop at Ctrl-C.

    The threads that SciPy starts for ``workers`` go on writing into the result when KeyboardInterrupt unwinds the call that
    waits for them, and the interpreter dies. Here chunks of queries are answered one after the other, by this thread and
    by others that hold what they read and write, so that nothing is freed under them; they are waited for before an
    interrupt goes on. Each answer is SciPy's own, so that neither chunks nor threads change a bit of it.
    """

    def query(self, x: Any, k: int = 1, *, workers: int = 1) -> tuple[Any, Any]:
        """Distances and rows of the k nearest points, (count,) each for k = 1, else (count, k); workers=-1: all processors.

        Where squares overflow SciPy finds nothing (row n, infinitely far): there the points are compared in smaller units.
        """
        queries = np.ascontiguousarray(x, dtype=np.float64)
        if queries.ndim != 2:
            return super().query(queries, k)  # type: ignore[no-any-return]
        shape = len(queries) if k == 1 else (len(queries), k)
        distances, rows = np.empty(shape, dtype=np.float64), np.empty(shape, dtype=np.int64)
        search = super().query

        def answer(begin: int, end: int) -> None:
            distances[begin:end], rows[begin:end] = search(queries[begin:end], k)
            if k <= self.n and (rows[begin:end] == self.n).any():
                self._search_in_smaller_units(queries[begin:end], distances[begin:end], rows[begin:end])

        _share_out(len(queries), answer, processors() if workers < 0 else workers)
        return distances, rows

    def _search_in_smaller_units(self, queries: FloatArray, distances: FloatArray, rows: IntArray) -> None:
        """Write the answers of the queries that found nothing; a distance that is no double is infinite."""
        for i in np.flatnonzero((rows.reshape(len(rows), -1) == self.n).any(axis=1)):
            unit = max(1.0, np.abs(queries[i]).max(), np.abs(self.data).max())
            lengths = np.linalg.norm(self.data / unit - queries[i] / unit, axis=1)
            nearest = np.argsort(lengths, kind="stable")[: rows[i].size]
            with np.errstate(over="ignore"):
                far = lengths[nearest] * unit
            distances[i], rows[i] = (far[0], nearest[0]) if rows.ndim == 1 else (far, nearest)


class _Chunks:
    """Chunks of [0, count), handed out in order; each as long as the last one lets expect to take `CHUNK_SECONDS`."""

    def __init__(self, count: int) -> None:
        self.count, self.next, self.size, self.each = count, 0, FIRST, 0.0
        self.stopped = False
        self.failure: BaseException | None = None
        self._lock = threading.Lock()

    def stop(self) -> None:
        """No further chunk is begun."""
        self.stopped = True

    def work(self, answer: Callable[[int, int], None], chunks: int | None = None) -> None:
        """Answer chunks until none is left, or this many."""
        while chunks is None or chunks > 0:
            with self._lock:
                begin = self.next
                end = begin if self.stopped else min(self.count, begin + self.size)
                self.next = end
            if begin == end:
                return
            start = time.perf_counter()
            answer(begin, end)
            self.each = (time.perf_counter() - start) / (end - begin)
            self.size = max(1, min(8 * (end - begin), int(CHUNK_SECONDS / max(self.each, 1e-9))))
            chunks = None if chunks is None else chunks - 1

    def work_beside(self, answer: Callable[[int, int], None]) -> None:
        """The same in another thread, whose failure is kept."""
        try:
            self.work(answer)
        except BaseException as failure:
            self.failure = failure
            self.stop()


def _share_out(count: int, answer: Callable[[int, int], None], workers: int) -> None:
    """Have answer(begin, end) called for chunks that make up [0, count), on `workers` threads, this one among them."""
    chunks = _Chunks(count)
    while chunks.next < count:
        with _interrupts_after(chunks.stop):
            _work_on(chunks, answer, workers)
        if chunks.failure is not None:
            raise chunks.failure
        # Whoever took Ctrl-C without an exception wants the rest.
        chunks.stopped = False


def _work_on(chunks: _Chunks, answer: Callable[[int, int], None], workers: int) -> None:
    """Answer the chunks that are left, and return when none is being answered."""
    chunks.work(answer, 1)
    worthy = int(chunks.each * (chunks.count - chunks.next) / WORTH_A_THREAD)
    others = [
        threading.Thread(target=chunks.work_beside, args=(answer,), daemon=True)
        for _ in range(min(workers - 1, worthy))
    ]
    started = []
    try:
        for thread in others:
            thread.start()
            started.append(thread)
        chunks.work(answer)
    except BaseException:
        chunks.stop()
        raise
    finally:
        for thread in started:
            thread.join()


@contextmanager
def _interrupts_after(stop: Callable[[], None]) -> Iterator[None]:
    """Within, Ctrl-C calls `stop`; what it does elsewhere, it does at the end.

    KeyboardInterrupt comes between any two instructions, those that start threads and wait for them among them: raised
    there, it would leave a thread behind.
    """
    outside = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if outside is None or outside == signal.SIG_IGN:
        yield
        return
    interrupted = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        stop()

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, outside)
        if interrupted:
            signal.raise_signal(signal.SIGINT)
