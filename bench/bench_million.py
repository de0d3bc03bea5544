"""A million samples from Jacobians to nine nontrivial eigenpairs by default settings, in a fresh process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.bench_diffusion_map import spectrum_error
from bench.floor import eigenpairs_floor
from bench.measurements import Baseline

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
    assert result["residual"] <= 1e-8
    budget = Baseline("the budget", None, SECONDS)
    if size.is_full(1_000_000):
        within = result["seconds"] <= SECONDS and result["peak_mib"] <= MEBIBYTES
        budget = replace(budget, verdict=("120 s, 8 GiB", within))
    with_torch = opponent(
        "itself, torch loaded", fresh_fit, n, "--torch", rounds=1, skip="--quick" if size.quick else ""
    )
    if with_torch.ran:
        assert with_torch.result["eigenvalues"] == result["eigenvalues"]
        with_torch = replace(with_torch, seconds=with_torch.result["seconds"], note="the same bits")
    record(
        "Jacobians to 9 eigenpairs, defaults, whole process",
        [budget, with_torch],
        n=n,
        m=5,
        d=2,
        entries=result["entries"],
        error=spectrum_error(result["eigenvalues"]),
        error_of="spectrum",
        floor=eigenpairs_floor(n, round(result["entries"] * n), 10, result["n_iterations"]),
        seconds=result["seconds"],
        peak_mib=result["peak_mib"],
    )
