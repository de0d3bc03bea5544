"""Ctrl-C at random moments of every long call: KeyboardInterrupt soon, and a process that goes on as before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import diffeo
import pytest

HERE = Path(__file__).parent
# Those of a few seconds, and the rest.
QUICK = ("kernel", "neighbors", "bursts", "diffusion", "generator", "isometry", "files")
LONG = ("many_dimensions", "rough", "match", "match_small", "match_many", "match_diffusion", "match_observables",
        "match_pairs", "match_many_pairs", "assess", "screen")  # fmt: skip
WITH_TORCH = ("observe", "suggest", "layers")
# More than 2,000 interrupts in full.
TRIES, FULL_TRIES = 4, 100
SAMPLES, FULL_SAMPLES = 300, 1500
# Processor time from the signal to KeyboardInterrupt, of all threads together: other processes do not change it.
SOON = 1.0


@pytest.mark.parametrize(
    "call", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in (*LONG, *WITH_TORCH))]
)
def test_ctrl_c_is_heard_and_nothing_breaks(call, full, seed):
    if call in WITH_TORCH:
        pytest.importorskip("torch")
    path = os.pathsep.join(filter(None, [str(Path(diffeo.__file__).parents[1]), os.environ.get("PYTHONPATH")]))
    arguments = [FULL_TRIES, seed, FULL_SAMPLES] if full else [TRIES, seed, SAMPLES]
    command = [sys.executable, "-X", "faulthandler", str(HERE / "interrupted.py"), call, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    assert found["same"]
    assert found["interrupted"] > 0
    assert found["cpu"] < SOON
