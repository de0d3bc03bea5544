"""Default threads on a machine whose processors are all busy with other processes, against one thread there.

Threads that wait for each other spin, unless they are told to sleep: on a busy machine they take the time of those that they
wait for. Each call is timed in a process of its own, with the environment as users have it, while as many processes as there
are processors compute without end; default threads and one thread take turns, and the least time of each counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from bench.figures import Row
from bench.rows import Rows

ROUNDS = 3
MOST = 1.5
WEIGHTS = np.random.default_rng(7).normal(size=(2, 2, 5))
row = Rows("bench_busy", __doc__, full=1.0, quick=0.2)
# Variables with which users choose how threads wait, or how many there are.
OURS = (
    "OMP_WAIT_POLICY",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
)


def measured(x: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.tanh(x @ WEIGHTS[side] * 0.7)
    return y, 0.7 * (1.0 - y**2)[:, :, None] * WEIGHTS[side].T[None]


def prepared(name: str, scale: float) -> Callable[[int | None], Any]:
    """The call of a row, of a number of threads."""
    import diffeo

    def observed(n: int, side: int = 0) -> Any:
        return diffeo.Observation.from_jacobians(*measured(np.random.default_rng(side).random((n, 2)), side))

    if name == "kernel":
        a = observed(int(30_000 * scale))
        return lambda jobs: diffeo.mahalanobis_kernel(a, n_jobs=jobs)
    if name == "diffusion map":
        a = observed(int(10_000 * scale))
        return lambda jobs: diffeo.DiffusionMap(n_jobs=jobs).fit(a)
    if name == "isometric embedding":
        a = observed(int(6000 * scale))
        return lambda jobs: diffeo.IsometricEmbedding(n_jobs=jobs).fit(a)
    a, b = observed(int(600 * scale)), observed(int(600 * scale), 1)
    marks = np.random.default_rng(3).random((20, 2))
    landmarks = measured(marks, 0)[0], measured(marks, 1)[0]
    return lambda jobs: diffeo.match(a, b, landmarks=landmarks, n_jobs=jobs)


def timed(name: str, scale: float) -> dict[str, list[float]]:
    """Seconds of each round with default threads and with one."""
    call = prepared(name, scale)
    found: dict[str, list[float]] = {"default": [], "one": []}
    call(None)
    for _ in range(ROUNDS):
        for kind, jobs in (("one", 1), ("default", None)):
            start = time.perf_counter()
            call(jobs)
            found[kind].append(time.perf_counter() - start)
    return found


@contextmanager
def busy_processors() -> Iterator[int]:
    """As many processes as processors, each of which computes until the block ends."""
    count = os.cpu_count() or 1
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield count
    finally:
        for other in others:
            other.kill()
            other.wait()


@row("kernel", "diffusion map", "isometric embedding", "match")
def busy(name: str, size: float) -> Row:
    environment = {key: value for key, value in os.environ.items() if key not in OURS}
    command = [sys.executable, "-m", "bench.bench_busy", "--time", name, str(size)]
    with busy_processors() as count:
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    default, one = (min(found[kind]) for kind in ("default", "one"))
    seconds = {kind: " ".join(f"{value:.2f}" for value in values) for kind, values in found.items()}
    return Row(
        name,
        f"default threads over one, {count} processors busy",
        f"{default / one:.2f}",
        f"<= {MOST}",
        default <= MOST * one,
        f"seconds: default {seconds['default']}, one thread {seconds['one']}; load {os.getloadavg()[0]:.0f}",
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--time"]:
        import warnings

        warnings.simplefilter("ignore")
        print(json.dumps(timed(sys.argv[2], float(sys.argv[3]))))
    else:
        sys.exit(row.main())
