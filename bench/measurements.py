"""One measured row, the file that keeps the rows of many runs, and a description of the machine without names."""

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.floor import Rates

# Names the interpreter of datafold's own environment: see datafold_opponent.py.
DATAFOLD_PYTHON = "DIFFEO_DATAFOLD_PYTHON"
PACKAGES = ("diffeo", "numpy", "scipy", "scikit-learn", "pyamg", "pykdtree")


@dataclass(frozen=True)
class Baseline:
    """What a baseline gave: `seconds` is None where it was not run, and `note` says why or how good its result is.

    `at_least` is the ratio that diffeo is to reach; `verdict` another target, and whether it is reached.
    """

    name: str
    result: Any
    seconds: float | None
    note: str = ""
    at_least: float | None = None
    verdict: tuple[str, bool] | None = None

    def told(self, note: str, at_least: float | None = None) -> Baseline:
        """The same with its own error, and the ratio that diffeo is to reach; a gap stays a gap."""
        return replace(self, note=note if self.ran else self.note, at_least=at_least)

    @property
    def ran(self) -> bool:
        return self.seconds is not None


@dataclass(frozen=True)
class Row:
    """diffeo's side of a task beside one baseline.

    `seconds` are the shortest of the rounds on both sides; `peak_mib` is what diffeo's call took beyond its inputs
    (of the whole process where the task says so); None is what was not measured, and `baseline_note` says why.
    """

    stage: str
    task: str
    n: int
    m: int | None
    d: int | None
    entries: float | None
    seconds: float
    peak_mib: float | None
    error: float
    error_of: str
    floor_fraction: float | None
    floor_counted: str
    baseline: str
    baseline_seconds: float | None
    baseline_note: str
    target: str
    reached: bool | None

    @property
    def ratio(self) -> float | None:
        return None if self.baseline_seconds is None else self.baseline_seconds / self.seconds

    @property
    def key(self) -> tuple[str, str, int, str]:
        return self.stage, self.task, self.n, self.baseline


def machine(rates: Rates) -> dict[str, Any]:
    """Cores, memory, instruction-set level and the two measured rates: no names, no paths."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "instructions": f"{platform.machine()}, {_instructions()}{_level_in_use()}",
        "bandwidth_gb_s": round(rates.bandwidth / 1e9, 1),
        "dgemm_gflop_s": round(rates.dgemm / 1e9, 1),
    }


def _instructions() -> str:
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return "unknown level"
    known = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON", "sse2": "SSE2"}
    return next((name for flag, name in known.items() if flag in flags), "unknown level")


def _level_in_use() -> str:
    """The instruction-set level of diffeo's core, where the build has several."""
    try:
        levels = importlib.import_module("diffeo._support.instruction_set")
    except ImportError:
        return ""
    return f" (core: {levels.choose()})"


@functools.cache
def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    python = os.environ.get(DATAFOLD_PYTHON)
    if python:
        ask = "from importlib.metadata import version; print(version('datafold'))"
        with contextlib.suppress(OSError):
            found["datafold"] = subprocess.run([python, "-c", ask], capture_output=True, text=True).stdout.strip()
    return found


def describe_run(command: str, rates: Rates) -> dict[str, Any]:
    threads = os.environ.get("OMP_NUM_THREADS")
    return {
        "date": datetime.date.today().isoformat(),
        "command": command,
        "threads": f"OMP_NUM_THREADS={threads}" if threads else "all cores",
        "machine": machine(rates),
        "versions": versions(),
    }


def read(path: Path) -> tuple[list[dict[str, Any]], list[tuple[Row, int]]]:
    """Runs, and rows with the number of the run that each is from."""
    if not path.exists():
        return [], []
    kept = json.loads(path.read_text())
    return kept["runs"], [(Row(**{k: v for k, v in row.items() if k != "run"}), row["run"]) for row in kept["rows"]]


def add(path: Path, rows: list[Row], run: dict[str, Any]) -> None:
    """Put rows into the file in place of older ones of the same task, size and baseline.

    A baseline that was not run does not replace one that was. Runs without rows are dropped.
    """
    runs, kept = read(path)
    if run not in runs:
        runs.append(run)
    table = {row.key: (row, number) for row, number in kept}
    for row in rows:
        if row.key in table and row.baseline_seconds is None and table[row.key][0].baseline_seconds is not None:
            continue
        table[row.key] = (row, runs.index(run))
    used = sorted({number for _, number in table.values()})
    place = {number: k for k, number in enumerate(used)}
    content = {
        "runs": [runs[number] for number in used],
        "rows": [{"run": place[number], **_rounded(asdict(row))} for row, number in table.values()],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Four digits are more than any timing has."""
    return {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in row.items()}
