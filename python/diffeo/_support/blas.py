"""BLAS in one thread while anything here needs it, and with its own number again after the last that did."""

from __future__ import annotations

import sys
import threading
from functools import lru_cache
from types import TracebackType
from typing import Any

from threadpoolctl import ThreadpoolController


class OneThread:
    """While any such block runs, in whichever thread, the BLAS libraries of the process work in one thread.

    A threaded BLAS sums in an order that depends on the number of its threads, and threads that wait for each other on a busy
    machine spin. The number belongs to the process: the first block that is entered notes it, the last one that is left
    restores it, and so does the end of a block that an interrupt cut off before it was entered or after it was left.
    """

    def __init__(self) -> None:
        # Of libraries on OpenMP, whose number belongs to each thread.
        self._of_thread: list[tuple[Any, int]] = []

    def __enter__(self) -> None:
        with _state:
            _inside.add(id(self))
            for library in _libraries(len(sys.modules)):
                path, threads = library.filepath, library.get_num_threads()
                if threads is None:
                    continue
                if getattr(library, "threading_layer", "") == "openmp":
                    self._of_thread.append((library, threads))
                    library.set_num_threads(1)
                elif path not in _before:
                    _before[path] = (library, threads)
                    _set(library, 1)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._of_thread:
            library, threads = self._of_thread.pop()
            library.set_num_threads(threads)
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        with _state:
            _inside.discard(id(self))
            while not _inside and _before:
                path, (library, threads) = next(iter(_before.items()))
                _set(library, threads)
                _before.pop(path, None)


def _set(library: Any, threads: int) -> None:
    """Set the number of threads, which newer versions of threadpoolctl leave to the thread that did so first."""
    clear = getattr(library, "clear_controlling_thread", None)
    if clear is not None:
        clear(force=True)
    library.set_num_threads(threads)
    if clear is not None:
        clear()


# The blocks that run, and the libraries with the numbers of threads that they had; a block may end within another's
# bookkeeping, in the same thread, where garbage is collected.
_state = threading.RLock()
_inside: set[int] = set()
_before: dict[str, tuple[Any, int]] = {}


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> list[Any]:
    """Handles of the BLAS libraries in this process. Finding them takes a millisecond: again only after imports."""
    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
