"""Searches by ordinary distance: SciPy's bits on any number of threads, any size of numbers, and Ctrl-C in the midst."""

from __future__ import annotations

import ast
import copy
import pickle
import signal
import threading
import time
from pathlib import Path

import diffeo
import numpy as np
import pytest
from diffeo._support import point_tree
from diffeo._support.point_tree import PointTree
from scipy.spatial import cKDTree


@pytest.mark.parametrize("workers", [1, 2, 5, -1])
@pytest.mark.parametrize(
    ("n", "m", "k", "count"), [(1, 1, 1, 7), (40, 3, 1, 0), (500, 4, 6, 3000), (3000, 12, 2, 1500)]
)
def test_the_bits_of_scipy_on_any_number_of_threads(n, m, k, count, workers, monkeypatch):
    # However little there is to do, threads take part.
    monkeypatch.setattr(point_tree, "WORTH_A_THREAD", 1e-9)
    rng = np.random.default_rng(n)
    points, queries = rng.random((n, m)), rng.random((count, m))
    expected, found = cKDTree(points).query(queries, k), PointTree(points).query(queries, k, workers=workers)
    assert np.array_equal(expected[0], found[0])
    assert np.array_equal(expected[1], found[1])


def test_one_query_and_more_neighbours_than_points_are_answered_as_by_scipy():
    points = np.random.default_rng(0).random((5, 2))
    for query in (points[0], points):
        for expected, found in zip(cKDTree(points).query(query, 7), PointTree(points).query(query, 7), strict=True):
            assert np.array_equal(expected, found)


@pytest.mark.parametrize("size", [1e153, 1e160, 1e300])
def test_squares_that_overflow_leave_the_nearest_nearest(size):
    points = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.5]])
    queries = np.array([[size, 0.1 * size], [-size, 0.0], [0.9, 0.0]])
    distances, rows = PointTree(points * size).query(queries)
    assert rows.tolist() == [1, 2, 0]
    assert PointTree(points).query(queries, 2)[1].tolist()[2] == [1, 0]
    assert np.all(PointTree(points).query(queries, 2)[1] < 3)
    assert distances[0] == pytest.approx(0.1 * size, rel=1e-12)


def test_a_failure_in_another_thread_is_raised(monkeypatch):
    def answer(begin, end):
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError("there")
        threading.Event().wait(1e-3 * (end - begin))

    with pytest.raises(MemoryError, match="there"):
        point_tree._share_out(5000, answer, 3)


def search_for_ever(tree):
    while True:
        tree.query(tree.data, 3, workers=3)


def test_an_interrupt_waits_for_the_threads_and_leaves_the_tree_usable():
    tree = PointTree(np.random.default_rng(0).random((30_000, 24)))
    expected = tree.query(tree.data[:50], 3)
    for seed in range(5):
        delay = np.random.default_rng(seed).uniform(0.02, 0.2)
        timer = threading.Timer(delay, lambda: signal.raise_signal(signal.SIGINT))
        alive = threading.active_count()
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            search_for_ever(tree)
        timer.join()
        assert threading.active_count() == alive
        assert all(np.array_equal(*pair) for pair in zip(expected, tree.query(tree.data[:50], 3), strict=True))


@pytest.fixture(params=["start", "join"])
def interrupted(request, monkeypatch):
    """Ctrl-C while a thread is started, or waited for."""
    threads = []

    class Interrupted(threading.Thread):
        def start(self):
            threads.append(self)
            super().start()
            if request.param == "start":
                signal.raise_signal(signal.SIGINT)

        def join(self, timeout=None):
            if request.param == "join":
                signal.raise_signal(signal.SIGINT)
            super().join(timeout)

    monkeypatch.setattr(point_tree.threading, "Thread", Interrupted)
    return threads


def test_an_interrupt_at_the_start_of_a_thread_or_the_wait_for_it_leaves_none_behind(interrupted):
    with pytest.raises(KeyboardInterrupt):
        point_tree._share_out(2000, lambda begin, end: time.sleep(1e-4 * (end - begin)), 3)
    assert interrupted
    assert not any(thread.is_alive() for thread in interrupted)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_who_takes_an_interrupt_without_an_exception_has_the_whole_answer(interrupted, monkeypatch):
    heard, answered = [], np.zeros(2000, dtype=int)

    def answer(begin, end):
        time.sleep(1e-4 * (end - begin))
        answered[begin:end] += 1

    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        point_tree._share_out(2000, answer, 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard
    assert np.all(answered == 1)
    assert not any(thread.is_alive() for thread in interrupted)


@pytest.mark.parametrize("copied", [lambda one: pickle.loads(pickle.dumps(one)), copy.copy, copy.deepcopy])
def test_trees_are_copied(copied):
    tree = PointTree(np.random.default_rng(0).random((50, 3)))
    again = copied(tree)
    assert type(again) is PointTree
    assert np.array_equal(tree.query(tree.data, 3)[1], again.query(tree.data, 3)[1])


def test_nothing_else_searches_with_a_tree_of_scipy():
    """Its threads write on when Ctrl-C unwinds the call."""
    home = Path(diffeo.__file__).parent
    using = {
        path.name
        for path in home.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scipy.spatial")
        for alias in node.names
        if "Tree" in alias.name
    }
    assert using == {"point_tree.py"}
