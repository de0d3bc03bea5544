"""A million samples from Jacobians to nine nontrivial eigenpairs by default settings, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.bench_diffusion_map import spectrum_error
from bench.floor import eigenpairs_floor

# Budgets on two idle cores.
SECONDS, MEBIBYTES = 120.0, 8 * 1024.0


def fresh_fit(n: int, *options: str) -> dict[str, Any]:
    """Run `bench.million` in a process of its own."""
    command = [sys.executable, "-m", "bench.million", "--n", str(n), *options]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, env=os.environ, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_million(benchmark, opponent, record, size):
    """The baseline is the same fit with torch and its threads in the process: a ratio of 1 means no clash."""
    n = size(1_000_000)
    result = benchmark.pedantic(fresh_fit, (n,), rounds=1)
    beside = opponent("itself, torch loaded", fresh_fit, n, "--torch", rounds=1)
    budget = type(beside)("budget: 120 s, 8 GiB", None, SECONDS, "", 1.0)
    fits = result["peak_mib"] <= MEBIBYTES
    if not size.is_full(1_000_000):
        budget = budget.told("", None)
    elif not fits:
        budget = budget.told("memory above the budget", float("inf"))
    assert result["residual"] <= 1e-8
    assert beside.result["eigenvalues"] == result["eigenvalues"]
    with_torch = type(beside)(beside.name, None, beside.result["seconds"], "the same bits")
    record(
        "Jacobians to 9 nontrivial eigenpairs, default settings; memory of the whole process",
        [budget, with_torch],
        n=n,
        m=5,
        d=2,
        entries=result["entries"],
        error=spectrum_error(result["eigenvalues"]),
        error_of="first 8 of the spectrum of the square",
        floor=eigenpairs_floor(n, round(result["entries"] * n), 10, result["n_iterations"]),
        seconds=result["seconds"],
        peak_mib=result["peak_mib"],
    )
