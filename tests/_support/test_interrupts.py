"""Ctrl-C within every long stage: it stops soon, and the process can go on."""

from __future__ import annotations

import os
import subprocess
import sys
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
import os, threading, time
sent = []

def interrupt():
    sent.append(time.process_time())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(AFTER, interrupt).start()
try:
    work()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", time.process_time() - sent[0], flush=True)
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
    """Processor time from SIGINT to KeyboardInterrupt, for a stage `after` seconds under way; None if it was over by then."""
    code = SETUP + (STAGES[stage] + AFTERWARDS).replace("THREADS", str(threads)).replace("AFTER", str(after))
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    said = done.stdout.splitlines()
    if said == ["finished"]:
        return None
    assert done.returncode == 0, done.stderr
    assert said[1:] == ["went on (600, 2)"], done.stderr
    return float(said[0].removeprefix("interrupted "))


@pytest.mark.parametrize("stage", STAGES)
def test_long_stages_stop_at_ctrl_c(stage):
    # A fast machine may be done before the signal: then it comes sooner.
    delays = (interrupt(stage, after, 2) for after in (0.3, 0.1, 0.03))
    delay = next((delay for delay in delays if delay is not None), None)
    assert delay is not None, "the stage was over before each signal: give it more work"
    # Of all threads together, which takes as long on a busy machine as on an idle one.
    assert delay < 2.0
