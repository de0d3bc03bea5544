"""Ctrl-C within every long stage: it stops soon, and the process can go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SETUP = """
import signal
import numpy as np
from support.samples import smooth_observation
from diffeo import DiffusionMap, IsometricEmbedding, Observation, mahalanobis_kernel
from diffeo._support import core
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
"""

AFTERWARDS = """
print("ready", flush=True)
try:
    work()
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    fitted = DiffusionMap(n_components=2, n_jobs=2).fit(rng.random((600, 2)))
    print("went on", fitted.embedding_.shape, flush=True)
"""

# Each takes two seconds or more if it is left alone: distances in many dimensions prune nothing, no residual gets to
# 1e-17.
STAGES = {
    "kernel": """
points = rng.normal(size=(60_000, 48))
work = lambda: mahalanobis_kernel(points, epsilon=1.0, n_jobs=THREADS)
""",
    "neighbours": """
points = rng.normal(size=(60_000, 40))
whitening = np.linalg.qr(rng.normal(size=(60_000, 40, 2)))[0]
tree = core.MetricTree(points, np.ascontiguousarray(whitening), 2)
work = lambda: tree.nearest_neighbors(12, THREADS)
""",
    "whitening": """
factors = rng.normal(size=(400, 320, 320))
covariances = factors @ factors.transpose(0, 2, 1)
work = lambda: core.whitening_from_covariances(covariances, 40, THREADS)
""",
    "bursts": """
bursts = rng.normal(size=(2500, 96, 128))
work = lambda: [core.whitening_from_bursts(bursts, 1.0, 4, THREADS) for _ in range(30)]
""",
    "eigenpairs": """
kernel = mahalanobis_kernel(rng.random((30_000, 2)), epsilon=5e-5, n_jobs=2)
arrays = kernel.indptr, kernel.indices, kernel.values
_, degree, scaling = core.normalise(*arrays, 1.0, 2)
work = lambda: core.leading_eigenpairs(*arrays, scaling, np.sqrt(degree), 11, 1e-17, 10_000, 0, THREADS)
""",
    "isometry": """
observation = smooth_observation(25_000, 2, 5)
work = lambda: IsometricEmbedding(n_jobs=THREADS).fit(observation)
""",
}


def interrupt(stage, after, threads):
    """Seconds from SIGINT to KeyboardInterrupt, for a stage `after` seconds under way; None if it was over by then."""
    code = SETUP + STAGES[stage].replace("THREADS", str(threads)) + AFTERWARDS
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        try:
            assert child.stdout.readline() == "ready\n", child.stderr.read()
            time.sleep(after)
            child.send_signal(signal.SIGINT)
            sent = time.monotonic()
            said = child.stdout.readline()
            delay = time.monotonic() - sent
            if said == "finished\n":
                return None
            assert said == "interrupted\n", said + child.stderr.read()
            assert child.stdout.readline() == "went on (600, 2)\n", child.stderr.read()
        finally:
            child.kill()
    return delay


@pytest.mark.parametrize("stage", STAGES)
def test_long_stages_stop_at_ctrl_c(stage):
    # A fast machine may be done before the signal, or this process may wake up late: then the signal comes sooner.
    delays = (interrupt(stage, after, 2) for after in (0.3, 0.1, 0.03))
    delay = next((delay for delay in delays if delay is not None), None)
    assert delay is not None, "the stage was over before each signal: give it more work"
    assert delay < 10.0
