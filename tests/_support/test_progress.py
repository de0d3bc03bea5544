"""Progress bars: on request only, named by the stages, moved by the core and by Python."""

from __future__ import annotations

import re
import threading
import time

import numpy as np
import pytest
from diffeo import DiffusionMap, IsometricEmbedding, mahalanobis_kernel, match
from diffeo._support import core
from diffeo._support.progress import showing, stage
from support.samples import smooth_observation

NAMES = {
    "kernel": (lambda obs, verbose: mahalanobis_kernel(obs, verbose=verbose), {"tree", "kernel"}),
    "diffusion": (
        lambda obs, verbose: DiffusionMap(n_components=2, verbose=verbose).fit(obs),
        {"tree", "kernel", "eigenpairs"},
    ),
    "isometric": (
        lambda obs, verbose: IsometricEmbedding(verbose=verbose).fit(obs),
        {"tree", "neighbours", "start", "refinement"},
    ),
    "match": (
        lambda obs, verbose: match(obs, obs, landmarks=np.array([[0, 0], [1, 1], [2, 2]]), verbose=verbose),
        {"tree", "neighbours", "start", "refinement"},
    ),
}


@pytest.fixture
def observation():
    return smooth_observation(700, 2, 5, seed=1)


def long_work(threads=1, until=lambda: False):
    """Loops of the core that last longer than the interval of the reports, or until something has happened."""
    points = np.random.default_rng(0).normal(size=(4000, 48))
    for _ in range(500):
        mahalanobis_kernel(points, epsilon=1.0, n_jobs=threads)
        if until():
            return
    pytest.fail("nothing happened")


@pytest.mark.parametrize("call", NAMES)
def test_nothing_is_printed_unless_asked(call, observation, capfd):
    NAMES[call][0](observation, False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("call", NAMES)
def test_bars_name_the_stages_and_end_full(call, observation, capfd):
    work, stages = NAMES[call]
    work(observation, True)
    out, err = capfd.readouterr()
    assert out == ""
    last = [line.split("\r")[-1] for line in err.split("\n") if line]
    assert {line.split()[0] for line in last} >= stages
    assert all(re.match(r"\w+ +100 % \|", line) for line in last), last


def a_while():
    """Says after half a second that it has passed."""
    end = time.monotonic() + 0.5
    return lambda: time.monotonic() > end


@pytest.fixture
def reports():
    """What the core reports to this thread."""
    heard = []
    core.set_progress(lambda done, total: heard.append((done, total)))
    yield heard
    core.set_progress(None)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_core_reports_how_many_chunks_are_done(threads, reports):
    # Which loop reports is a matter of time, and short ones report their beginning only.
    long_work(threads, until=lambda: any(done > 0 for done, _ in reports))
    assert all(0 <= done < total for done, total in reports)
    core.set_progress(None)
    heard = len(reports)
    long_work(until=a_while())
    assert len(reports) == heard


def test_other_threads_do_not_move_the_bar(reports):
    worker = threading.Thread(target=long_work, args=(1, a_while()))
    worker.start()
    worker.join()
    assert reports == []


def test_an_exception_of_the_report_stops_the_work_and_is_raised():
    def report(done, total):
        raise ZeroDivisionError(f"{done} of {total}")

    core.set_progress(report)
    try:
        with pytest.raises(ZeroDivisionError, match=r"^\d+ of \d+$"):
            long_work()
    finally:
        core.set_progress(None)
    long_work(until=lambda: True)


def test_iterations_move_the_bar_and_stages_nest(capfd):
    with showing(True), stage("outer") as outer:
        outer(1, 4)
        with showing(False), stage("inner") as inner:
            inner(1, 2)
        outer(2, 4)
    err = capfd.readouterr().err
    assert re.search(r"inner +100 %", err)
    assert re.search(r"outer +100 %", err)
    with stage("silent") as silent:
        silent(1, 2)
    assert capfd.readouterr().err == ""


def test_a_stage_that_fails_does_not_claim_to_be_complete(capfd):
    def fail():
        with showing(True), stage("broken") as report:
            report(1, 4)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    last = capfd.readouterr().err.rstrip("\n").split("\r")[-1]
    assert re.match(r"broken +25 %", last)
