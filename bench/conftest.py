"""The fixtures that time both sides and keep a row, and the table in the terminal.

No time without its error and a baseline timed in the same run; nothing is asserted about times, only about results.
Opponents are in ``opponents.py``, samples in ``samples.py``, and how floors are counted in ``floor.py``.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse.linalg import ArpackError

from bench import measurements, memory, tables
from bench.floor import Floor, Rates, measure_rates
from bench.measurements import Baseline, Row
from bench.opponents import OpponentMissing

QUICK_SAMPLES = 1000
# How an opponent may fail without taking diffeo's row with it: no convergence, no memory, no process.
FAILURES = (ArpackError, np.linalg.LinAlgError, MemoryError, OSError, subprocess.CalledProcessError)
# A call that takes longer than this (seconds) is not repeated: its spread is small beside its length.
LONG_CALL = 5.0
_rows = pytest.StashKey[list[Row]]()


def pytest_addoption(parser):
    group = parser.getgroup("diffeo")
    group.addoption("--quick", action="store_true", help=f"at most {QUICK_SAMPLES} samples, one round each")
    group.addoption("--largest", type=int, default=None, metavar="N", help="at most N samples in any row")
    group.addoption("--long", action="store_true", help="opponents that take many minutes, too")
    group.addoption("--measurements", type=Path, default=None, metavar="FILE", help="keep the rows in this JSON file")
    group.addoption("--rates", metavar="B,F", help="bytes copied and dgemm operations a second (default: measured)")
    group.addoption("--command", default=None, help="the command to keep beside the rows (default: this one)")


def pytest_configure(config):
    config.stash[_rows] = []


@dataclass(frozen=True)
class Size:
    """The sample size to use where a benchmark asks for n."""

    largest: float
    quick: bool
    _seen: set[tuple[Any, ...]] = field(default_factory=set)

    def __call__(self, n: int) -> int:
        return int(min(n, self.largest))

    def is_full(self, n: int) -> bool:
        """Whether n is not cut down, so that its target counts."""
        return n <= self.largest

    def once(self, *task: Any) -> None:
        """Skip a benchmark that has become a repetition of an earlier one because sizes are cut down."""
        if task in self._seen:
            pytest.skip("a repetition at this size")
        self._seen.add(task)


@pytest.fixture(scope="session")
def size(request) -> Size:
    largest = request.config.getoption("--largest") or math.inf
    quick = request.config.getoption("--quick")
    return Size(min(largest, QUICK_SAMPLES) if quick else largest, quick)


@pytest.fixture(scope="session")
def long(request) -> bool:
    return request.config.getoption("--long")


@pytest.fixture(scope="session")
def rates(request) -> Rates:
    given = request.config.getoption("--rates")
    return Rates(*map(float, given.split(","))) if given else measure_rates(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def opponent(request) -> Callable[..., Baseline]:
    """Run a baseline: its result and the shortest of `rounds` times; ``skip`` is a reason not to."""
    quick = request.config.getoption("--quick")

    def run(name: str, function: Callable[..., Any], *arguments: Any, rounds: int = 3, skip: str = "") -> Baseline:
        if skip:
            return Baseline(name, None, None, f"not run: {skip}")
        seconds = math.inf
        for _ in range(1 if quick else rounds):
            start = time.perf_counter()
            try:
                result = function(*arguments)
            except OpponentMissing as gap:
                return Baseline(name, None, None, f"not run: {gap}")
            except FAILURES as failure:
                return Baseline(name, None, None, f"failed: {type(failure).__name__}")
            seconds = min(seconds, time.perf_counter() - start)
            if seconds > LONG_CALL:
                break
        return Baseline(name, result, seconds)

    return run


@pytest.fixture
def contest(request, benchmark) -> Callable[..., Any]:
    """Run diffeo's side once for its peak memory, which also warms up, then under pytest-benchmark: its result."""
    quick = request.config.getoption("--quick")

    def run(function: Callable[..., Any], *arguments: Any, rounds: int = 5) -> Any:
        start = time.perf_counter()
        result, run.peak_mib = memory.with_peak(function, *arguments)
        del result
        slow = time.perf_counter() - start > LONG_CALL
        return benchmark.pedantic(function, arguments, rounds=1 if quick or slow else rounds)

    run.peak_mib = None
    return run


@pytest.fixture
def record(request, benchmark, contest, rates) -> Callable[..., None]:
    """Complete the rows of a benchmark, one a baseline; `error` is what `error_of` says, of diffeo's result."""

    def write(
        task: str,
        baselines: list[Baseline],
        *,
        n: int,
        error: float,
        error_of: str,
        m: int | None = None,
        d: int | None = None,
        entries: float | None = None,
        floor: Floor | None = None,
        floor_at_least: float | None = None,
        seconds: float | None = None,
        peak_mib: float | None = None,
    ) -> None:
        if seconds is None:
            # benchmark.stats is None under --benchmark-disable.
            seconds = benchmark.stats.stats.min if benchmark.stats else math.nan
        fraction = None if floor is None else rates.seconds(floor) / seconds
        stage = request.node.path.stem.removeprefix("bench_").replace("_", " ")
        rows = []
        for baseline in baselines:
            target, reached = "", None
            if baseline.verdict is not None:
                target, reached = baseline.verdict
            elif baseline.at_least is not None:
                target = f"{baseline.at_least:.3g} times"
                reached = baseline.ran and baseline.seconds / seconds >= baseline.at_least
            elif floor_at_least is not None:
                target, reached = f"{100 * floor_at_least:.0f} % of the floor", fraction >= floor_at_least
            rows.append(
                Row(
                    stage=stage,
                    task=task,
                    n=n,
                    m=m,
                    d=d,
                    entries=entries,
                    seconds=seconds,
                    peak_mib=contest.peak_mib if peak_mib is None else peak_mib,
                    error=error,
                    error_of=error_of,
                    floor_fraction=fraction,
                    floor_counted="" if floor is None else floor.counted,
                    baseline=baseline.name,
                    baseline_seconds=baseline.seconds,
                    baseline_note=baseline.note,
                    target=target,
                    reached=reached,
                )
            )
        benchmark.extra_info["rows"] = [vars(row) for row in rows]
        request.config.stash[_rows] += rows
        path = request.config.getoption("--measurements")
        if path is not None:  # after each benchmark, so that a run that is ended keeps what it measured
            measurements.add(path, rows, measurements.describe_run(_command(request.config), rates))

    return write


def _command(config) -> str:
    """The command as a person would type it, without paths of this machine."""
    given = config.getoption("--command")
    return given or " ".join(["python -m pytest", *(Path(word).name for word in sys.argv[1:])])


def pytest_terminal_summary(terminalreporter):
    rows = terminalreporter.config.stash[_rows]
    if rows:
        terminalreporter.section("time, baseline and error")
        terminalreporter.write(tables.text_table(rows) + "\n")
