"""BLAS in one thread while anything here needs it: overlapping blocks, blocks cut off, and NumPy's error state."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
from diffeo import errors
from diffeo._support import blas
from diffeo._support.blas import OneThread
from diffeo._support.threads import exact, sound, working
from threadpoolctl import threadpool_info, threadpool_limits


def threads_of_blas():
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield
        assert not blas._inside
        assert threads_of_blas() == {2}


def in_another_thread(function):
    """What the function gives there."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_blocks_of_two_threads_may_overlap():
    entered, left = threading.Event(), threading.Event()

    def first():
        with working(None):
            entered.set()
            left.wait()

    other = threading.Thread(target=first)
    other.start()
    entered.wait()
    with working(None):
        left.set()
        other.join()
        assert threads_of_blas() == {1}
        assert in_another_thread(threads_of_blas) == {1}
    assert threads_of_blas() == {2}


def test_many_threads_leave_the_number_as_it_was():
    def work():
        for _ in range(30):
            with OneThread(), OneThread():
                assert threads_of_blas() == {1}
        return True

    others = [threading.Thread(target=work) for _ in range(6)]
    for thread in others:
        thread.start()
    assert work()
    for thread in others:
        thread.join()


def test_a_block_that_was_entered_and_never_left_ends_with_its_object():
    block = OneThread()
    block.__enter__()
    assert threads_of_blas() == {1}
    del block
    gc.collect()
    assert threads_of_blas() == {2}


@pytest.mark.parametrize("wrap", [sound, exact])
def test_traps_of_the_user_are_not_those_of_the_library(wrap):
    @wrap
    def underflow():
        return np.exp(np.array([-800.0])), np.geterr()["under"]

    with np.errstate(all="raise"):
        assert underflow()[1] == "ignore"
        with working(None):
            assert np.geterr()["under"] == "ignore"
        assert np.geterr() == dict.fromkeys(("divide", "over", "under", "invalid"), "raise")


def test_a_full_memory_is_an_error_of_the_library_with_its_cause():
    @exact
    def fill(error):
        raise error

    with pytest.raises(errors.MemoryLimitError, match="memory is full") as caught:
        fill(MemoryError())
    assert isinstance(caught.value.__cause__, MemoryError)
    with pytest.raises(errors.MemoryLimitError, match=r"^so much$"):
        fill(errors.MemoryLimitError("so much"))
