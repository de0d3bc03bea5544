"""Dense algebra beside the thread that asks: the bits of SciPy and NumPy, their errors, and Ctrl-C in the midst."""

from __future__ import annotations

import contextvars
import signal
import threading

import numpy as np
import pytest
import scipy.linalg
from diffeo._support import dense
from numpy.linalg import LinAlgError


@pytest.fixture(params=[0.0, np.inf], ids=["beside", "here"])
def system(request, monkeypatch):
    monkeypatch.setattr(dense, "LONG", request.param)
    rng = np.random.default_rng(0)
    half = rng.normal(size=(40, 40))
    return half @ half.T + np.eye(40), rng.normal(size=(40, 3))


def test_every_function_gives_the_bits_of_its_model(system):
    matrix, right = system
    lower = dense.cholesky(matrix)
    assert np.array_equal(lower, scipy.linalg.cholesky(matrix, lower=True))
    assert np.array_equal(lower, dense.cholesky(matrix.copy(), overwrite=True))
    assert np.array_equal(dense.cholesky_solve(lower, right), scipy.linalg.cho_solve((lower, True), right))
    assert np.array_equal(dense.triangular_solve(lower, right), scipy.linalg.solve_triangular(lower, right, lower=True))
    upper = dense.triangular_solve(lower.T, right, lower=False, finite=True)
    assert np.array_equal(upper, scipy.linalg.solve_triangular(lower.T, right, lower=False))
    assert np.array_equal(dense.product(matrix, right), matrix @ right)
    for ours, theirs in zip(dense.thin_svd(right), np.linalg.svd(right, full_matrices=False), strict=True):
        assert np.array_equal(ours, theirs)


def test_a_matrix_that_has_no_factor_says_so(system):
    with pytest.raises(LinAlgError):
        dense.cholesky(-system[0])


def test_the_context_of_the_caller_is_kept():
    said = contextvars.ContextVar("said")
    said.set("so")
    with np.errstate(under="raise"):
        assert dense.interruptible(lambda: (said.get(), np.geterr()["under"])) == ("so", "raise")


def test_another_thread_computes_for_itself():
    found = []
    thread = threading.Thread(target=lambda: found.append(dense.interruptible(threading.current_thread)))
    thread.start()
    thread.join()
    assert found == [thread]


def test_an_interrupt_does_not_wait_for_the_end():
    never = threading.Event()
    timer = threading.Timer(0.05, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        dense.interruptible(never.wait)
    timer.join()
    never.set()
    assert dense.interruptible(lambda: 3) == 3
