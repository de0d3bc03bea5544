"""Tasks by joblib: every result comes once, on any backend, and a lost worker costs its tasks only."""

from __future__ import annotations

import joblib
import pytest
from diffeo import errors
from diffeo._support import engine
from support.families import dies_of_three, square_of

TASKS = [(k,) for k in range(7)]


def results(work, tasks, **how):
    found = []
    engine.run(work, tasks, lambda number, result: found.append((number, result)), **how)
    assert len({number for number, _ in found}) == len(found)
    return dict(found)


@pytest.mark.parametrize("n_jobs", [None, 1, 2, -1])
def test_every_task_is_done_once_in_threads(n_jobs):
    assert results(square_of, TASKS, n_jobs=n_jobs) == {k: k * k for k in range(7)}
    assert results(square_of, [], n_jobs=n_jobs) == {}


@pytest.mark.parametrize("backend", ["threading", "sequential", "loky"])
def test_the_backend_is_that_of_the_user(backend, monkeypatch):
    used = []
    parallel = joblib.Parallel

    class Watched(parallel):
        def __call__(self, iterable):
            used.append(type(self._backend).__name__.lower())
            return super().__call__(iterable)

    monkeypatch.setattr(joblib, "Parallel", Watched)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        assert results(square_of, TASKS) == {k: k * k for k in range(7)}
    assert len(used) == 1
    assert used[0].startswith(backend)


def test_how_many_at_a_time():
    assert engine.concurrency(3) == (3, "threads")
    with joblib.parallel_config(n_jobs=2):
        assert engine.concurrency(None) == (None, "threads")
        assert engine.concurrency(3) == (3, "threads")
    with joblib.parallel_config(backend="loky"):
        assert engine.concurrency(None) == (-1, None)
        assert engine.concurrency(-1) == (-1, None)
        assert engine.concurrency(200) == (200, None)
    with pytest.raises(errors.ParameterError):
        engine.concurrency(0)


@pytest.mark.slow
def test_a_lost_worker_costs_its_tasks_only(tmp_path):
    tasks = [(k, str(tmp_path)) for k in range(7)]
    with joblib.parallel_config(backend="loky", n_jobs=2):
        found = results(dies_of_three, tasks)
    lost = found.pop(3)
    assert isinstance(lost, engine.Lost)
    assert "Terminated" in lost.reason
    # That of the five was lost once, and done again.
    assert found == {k: k * k for k in range(7) if k != 3}


def test_without_any_worker_there_is_one_error(monkeypatch):
    def nobody(*_):
        raise ConnectionError("no worker answers")
        yield

    monkeypatch.setattr(engine, "_results", nobody)
    with pytest.raises(errors.WorkerError, match="no worker answers"):
        results(square_of, TASKS)


def test_a_backend_that_is_gone_is_not_asked_for_every_task(monkeypatch):
    asked = []

    def gone_after_three(work, tasks, n_jobs):
        asked.append(len(tasks))
        for number, *task in tasks:
            if number >= 3:
                raise ConnectionError("the scheduler is gone")
            yield number, work(*task)

    monkeypatch.setattr(engine, "_results", gone_after_three)
    with pytest.raises(errors.WorkerError, match=r"89 of 100 tasks .* the scheduler is gone"):
        results(square_of, [(k,) for k in range(100)])
    assert len(asked) < 25


def test_what_the_caller_does_with_a_result_may_fail():
    def full(number, result):
        raise errors.StorageError("the disk is full")

    with pytest.raises(errors.StorageError, match="full"):
        engine.run(square_of, TASKS, full, n_jobs=2)
