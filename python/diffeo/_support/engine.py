"""Tasks sent to workers by joblib, by whatever backend the user has chosen; a worker that is lost costs its tasks only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from diffeo import errors
from diffeo._support import core
from diffeo._support.progress import stage
from diffeo._support.threads import thread_count, working

# A task whose worker was lost so many times with nobody beside it is given up: it may be what kills them.
ATTEMPTS_ALONE = 2
# Attempts in a row in which nothing was finished, after which tasks are tried one by one.
FRUITLESS = 2
# Tasks in a row that are given up, after which the backend is taken to be gone.
MOST_LOST = 8


@dataclass(frozen=True)
class Lost:
    """What stands for the result of a task that lost its worker each time; `reason` is what the backend said."""

    reason: str


def run(
    work: Callable[..., Any],
    tasks: Sequence[tuple[Any, ...]],
    finished: Callable[[int, Any], None],
    *,
    n_jobs: int | None = None,
    name: str = "tasks",
    before: int = 0,
) -> None:
    """Call ``work(*task)`` for each task, and ``finished(number, result)`` here, for each as it comes, in any order.

    Inside of ``joblib.parallel_config(...)`` its backend runs them, as many at a time as it says, or as it has workers; else
    threads of this process do. Arguments travel as they are, so that arrays are sent to a worker of a cluster once, or
    mapped into memory.

    Parameters
    ----------
    work : callable
        Of a module. It must not raise: what it raises is taken for a lost worker, and tried again.
    tasks : sequence of tuple
    finished : callable
        Gets a `Lost` where a task was given up.
    n_jobs : int, optional
        How many at a time; None or -1: as many as OpenMP gives threads, or as the backend has workers.
    name : str
        Of the bar.
    before : int
        Tasks that were done already, for the bar.

    Raises
    ------
    WorkerError
        No task could be run at all, or many in a row could not, however often they were tried.
    """
    waiting = dict(enumerate(tasks))
    total, fruitless, anything = len(tasks) + before, 0, False
    # BLAS threads belong to the process: for all of the tasks together, rather than as each of them ends.
    with stage(name) as report, working(1):
        report(before, total)

        def attempt(numbers: list[int]) -> str:
            """Run some of the waiting tasks; why the backend gave up, empty if it did not."""
            nonlocal anything
            found = _results(work, [(k, *waiting[k]) for k in numbers], n_jobs)
            while True:
                try:
                    k, result = next(found)
                except StopIteration:
                    return ""
                except Exception as error:
                    return f"{type(error).__name__}: {error}"[:500]
                if waiting.pop(k, None) is not None:
                    anything = True
                    finished(k, result)
                    report(total - len(waiting), total)

        while waiting and fruitless < FRUITLESS:
            count = len(waiting)
            reason = attempt(list(waiting))
            fruitless = fruitless + 1 if len(waiting) == count else 0
        in_a_row = 0
        for k in list(waiting):
            for _ in range(ATTEMPTS_ALONE):
                reason = attempt([k])
                if k not in waiting:
                    break
            in_a_row = in_a_row + 1 if k in waiting else 0
            if in_a_row and (not anything or in_a_row > MOST_LOST):
                raise errors.WorkerError(
                    f"{len(waiting)} of {total} tasks could not be run, one by one either: the backend of joblib says: {reason}"
                )
            if k in waiting:
                del waiting[k]
                finished(k, Lost(reason))


def concurrency(n_jobs: int | None) -> tuple[int | None, str | None]:
    """Arguments `n_jobs` and `prefer` of `joblib.Parallel`: what the user's configuration says, or threads."""
    from joblib.parallel import get_active_backend

    backends = [get_active_backend(prefer=kind) for kind in ("threads", "processes")]
    chosen = type(backends[0][0]) is type(backends[1][0])
    configured = backends[1][1]
    if n_jobs is None and configured is not None:
        return None, None if chosen else "threads"
    if chosen and n_jobs is None:
        return -1, None
    count = thread_count(n_jobs)
    if chosen and n_jobs is not None:
        # A cluster may have more than this machine.
        return int(n_jobs), None
    return core.n_threads(count), "threads"


def _results(work: Callable[..., Any], tasks: list[tuple[Any, ...]], n_jobs: int | None) -> Any:
    """Pairs of number and result, as they come."""
    from joblib import Parallel, delayed

    count, prefer = concurrency(n_jobs)
    given: dict[str, Any] = {} if count is None else {"n_jobs": count}
    # Tasks are long: batches would only be lost together.
    parallel = Parallel(**given, prefer=prefer, return_as="generator_unordered", batch_size=1, pre_dispatch="3*n_jobs")
    return iter(parallel(delayed(_numbered)(work, *task) for task in tasks))


def _numbered(work: Callable[..., Any], number: int, *task: Any) -> tuple[int, Any]:
    return number, work(*task)
