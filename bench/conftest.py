"""Measurements to run on, and the table: no time without its error and a baseline timed in the same run.

``python -m pytest bench`` runs everything and prints the table; ``--quick`` shrinks it to a smoke test.
Opponents are in ``opponents.py``. Nothing is asserted about times, only about results.
"""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from diffeo import Observation

QUICK_SAMPLES = 1500
_rows: list[dict[str, Any]] = []


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help=f"at most {QUICK_SAMPLES} samples, one round each")


@pytest.fixture(scope="session")
def size(request) -> Callable[[int], int]:
    """The sample size to use where a benchmark asks for n."""
    quick = request.config.getoption("--quick")
    return lambda n: min(n, QUICK_SAMPLES) if quick else n


@pytest.fixture(scope="session")
def mushroom() -> Callable[..., Observation]:
    """Uniform x in the unit square, y = (x1 + x2^3, x2 - x1^3), Jacobians (Singer and Coifman 2008)."""

    def make(n: int) -> Observation:
        x = np.random.default_rng(0).random((n, 2))
        one = np.ones(n)
        jacobians = np.array([[one, 3 * x[:, 1] ** 2], [-3 * x[:, 0] ** 2, one]]).transpose(2, 0, 1)
        points = np.column_stack([x[:, 0] + x[:, 1] ** 3, x[:, 1] - x[:, 0] ** 3])
        return Observation.from_jacobians(points, np.ascontiguousarray(jacobians))

    return make


@pytest.fixture(scope="session")
def units() -> Callable[..., Observation]:
    """m smooth random units y = tanh(z) + 0.3 z, z = A x + b, of uniform x in the d-dimensional unit cube."""

    def make(n: int, m: int = 5, d: int = 2) -> Observation:
        rng = np.random.default_rng(0)
        x = rng.random((n, d))
        weights, biases = 1.5 * rng.normal(size=(m, d)), rng.normal(size=m)
        hidden = np.tanh(x @ weights.T + biases)
        points = hidden + 0.3 * (x @ weights.T + biases)
        return Observation.from_jacobians(points, (1.3 - hidden**2)[:, :, None] * weights, dim=d)

    return make


@pytest.fixture
def opponent() -> Callable[..., tuple[Any, float]]:
    """Run a baseline: its result and the shortest of `rounds` times."""

    def run(function: Callable[..., Any], *arguments: Any, rounds: int = 1) -> tuple[Any, float]:
        seconds = math.inf
        for _ in range(rounds):
            start = time.perf_counter()
            result = function(*arguments)
            seconds = min(seconds, time.perf_counter() - start)
        return result, seconds

    return run


@pytest.fixture
def contest(request, benchmark) -> Callable[..., Any]:
    """Run diffeo's side under pytest-benchmark after one warm-up: its result."""
    quick = request.config.getoption("--quick")

    def run(function: Callable[..., Any], *arguments: Any, rounds: int = 3) -> Any:
        if quick:
            return benchmark.pedantic(function, arguments)
        return benchmark.pedantic(function, arguments, rounds=rounds, warmup_rounds=1)

    return run


@pytest.fixture
def record(request, benchmark) -> Callable[..., None]:
    """Complete the row of a benchmark; `error` is what `error_of` says, of diffeo's result."""

    def write(
        *, n: int, entries: float | None, error: float, error_of: str, baseline: str, baseline_seconds: float
    ) -> None:
        # benchmark.stats is None under --benchmark-disable.
        seconds = benchmark.stats.stats.min if benchmark.stats else math.nan
        row = {
            "n": n,
            "entries": entries,
            "seconds": seconds,
            "baseline": baseline,
            "baseline_seconds": baseline_seconds,
            "ratio": baseline_seconds / seconds,
            "error": error,
            "error_of": error_of,
        }
        benchmark.extra_info.update(row)
        _rows.append({"name": request.node.name.removeprefix("test_"), **row})

    return write


def pytest_terminal_summary(terminalreporter):
    if not _rows:
        return
    width = max(len(row["name"]) for row in _rows)
    against = max(len(row["baseline"]) for row in _rows)
    terminalreporter.section("time, baseline and error")
    terminalreporter.write_line(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}; seconds: the shortest of the rounds"
    )
    terminalreporter.write_line(
        f"{'':{width}}  {'n':>7}  {'entries':>7}  {'seconds':>8}  {'baseline':>8}  {'ratio':>6}  "
        f"{'baseline is':{against}}  error"
    )
    for row in _rows:
        entries = "" if row["entries"] is None else f"{row['entries']:.0f}"
        terminalreporter.write_line(
            f"{row['name']:{width}}  {row['n']:7d}  {entries:>7}  {row['seconds']:8.3f}  "
            f"{row['baseline_seconds']:8.3f}  {row['ratio']:6.1f}  {row['baseline']:{against}}  "
            f"{row['error']:.1e} {row['error_of']}"
        )
