"""Families: sixty networks in all pairs, against one by one, on a dask cluster, and killed halfway.

``python -m bench.bench_family [--quick] [--only NAME,...]`` prints one table; ``--only`` takes names of rows or how they
begin. Targets are those of the full sizes, on two idle cores. Networks of four tasks are trained on the spot (which is not
timed): outputs that know both inputs of the square, the first or the second up to its sign only, or both so; widths,
activations, seeds and the way to report differ. Each is observed at inputs of its own. Results are kept in
``bench/results/family.txt``.
"""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import diffeo
import joblib
import numpy as np
from diffeo.demos.family.experiment import ARCHITECTURES
from diffeo.demos.training import fit
from diffeo.verdict.assess_transformation import compare
from joblib.externals.loky import get_reusable_executor

from bench.figures import Row, percent
from bench.rows import Rows

LANDMARKS, HELD_OUT = 60, 200
# What a task keeps of the inputs (x, y) in [-1, 1]^2: each as it is, or its square.
TASKS = ((False, False), (True, False), (False, True), (True, True))


@dataclass(frozen=True)
class Size:
    """Networks and samples of each; pairs that are compared one by one; networks of the rows on clusters."""

    networks: int
    n: int
    one_by_one: int
    clustered: int
    steps: int = 500


row = Rows("bench_family", __doc__, Size(60, 2000, 5, 16), Size(8, 300, 5, 4))


@dataclass(frozen=True)
class Given:
    """A family as `diffeo.compare_family` takes it, and the task of each network."""

    observations: dict[str, diffeo.Observation]
    landmarks: dict[str, Any]
    held_out: dict[str, np.ndarray]
    tasks: list[int]

    def compared(self, **how: Any) -> diffeo.Family:
        return diffeo.compare_family(self.observations, landmarks=self.landmarks, held_out=self.held_out, **how)


def reported(x: np.ndarray, task: int, way: int) -> np.ndarray:
    """Two outputs: what the task keeps, turned and bent by an invertible function, a different one each `way`."""
    rng = np.random.default_rng(way)
    angle, phases = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 2.0 * np.pi, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    kept = [2.0 * x[:, k] ** 2 - 1.0 if folds else x[:, k] for k, folds in enumerate(TASKS[task])]
    z = np.column_stack(kept) @ turn.T
    return z + 0.3 * np.sin(1.5 * z[:, ::-1] + phases)


@cache
def trained(networks: int, n: int, steps: int) -> Given:
    """Networks of all tasks in turn."""
    rng = np.random.default_rng(5)
    given = Given({}, {}, {}, [])
    common = rng.uniform(-1.0, 1.0, (LANDMARKS + HELD_OUT, 2))
    for k in range(networks):
        task = k % len(TASKS)
        widths, activation = ARCHITECTURES[(k // len(TASKS)) % len(ARCHITECTURES)]
        widths = tuple(width + 4 * (k // (len(TASKS) * len(ARCHITECTURES))) for width in widths)
        name = f"{k}-task{task}-{activation}-{'-'.join(map(str, widths))}"
        x = rng.uniform(-1.0, 1.0, (2000, 2))
        data = x, reported(x, task, 1000 + k)
        network = fit(2, widths, activation, data, seed=k, steps=steps, polish=800, name=name)
        given.observations[name] = diffeo.observe(network, rng.uniform(-1.0, 1.0, (n, 2)), dim=2)
        there = diffeo.measure_pairs(network, network, common)
        given.landmarks[name] = there.points_a[:LANDMARKS], there.jacobians_a[:LANDMARKS]
        given.held_out[name] = there.points_a[LANDMARKS:]
        given.tasks.append(task)
    return given


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    found = work()
    return found, time.perf_counter() - start


@cache
def as_family(networks: int, n: int, steps: int) -> tuple[diffeo.Family, float, float]:
    """All networks compared by two processes, with the seconds that it took, and those of processors."""
    given = trained(networks, n, steps)
    get_reusable_executor().shutdown(wait=True)
    start = processor_seconds()
    with joblib.parallel_config(backend="loky", n_jobs=2):
        family, seconds = timed(given.compared)
    # Only of processes that ended it is known what they took.
    get_reusable_executor().shutdown(wait=True)
    return family, seconds, processor_seconds() - start


def processor_seconds() -> float:
    """Of this process and of its children that ended."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in found)


def within_and_across(given: Given, family: diffeo.Family) -> tuple[int, int, int]:
    """Pairs of one task called equivalent, how many these are, and pairs across tasks called equivalent."""
    same = {pair: given.tasks[pair[0]] == given.tasks[pair[1]] for pair in family.cells}
    equal = [pair for pair, cell in family.cells.items() if cell.verdict == "equivalent"]
    return sum(same[pair] for pair in equal), sum(same.values()), sum(not same[pair] for pair in equal)


def classes_right(given: Given, family: diffeo.Family) -> bool:
    pairs = itertools.combinations(range(len(given.tasks)), 2)
    return all((given.tasks[i] == given.tasks[j]) == (family.labels[i] == family.labels[j]) for i, j in pairs)


@row("all pairs")
def all_pairs(name: str, size: Size) -> Row:
    """Embeddings included."""
    return every_pair(name, size, size.networks)


@row("fewer networks")
def fewer_networks(name: str, size: Size) -> Row:
    """The same with two fifths of the networks, which takes minutes; its target is that of all, by the number of pairs."""
    return every_pair(name, size, 2 * size.networks // 5)


def every_pair(name: str, size: Size, networks: int) -> Row:
    """A family compared, and what came of it."""
    given = trained(networks, size.n, size.steps)
    family, seconds, processors = as_family(networks, size.n, size.steps)
    most = 360.0 * len(family.cells) / 1770
    inside, total, outside = within_and_across(given, family)
    right, trips = classes_right(given, family), [max(one.errors) for one in family.round_trips if one.errors]
    with tempfile.TemporaryDirectory() as folder:
        family.to_html(Path(folder) / "page.html")
        page = (Path(folder) / "page.html").stat().st_size / 1e6
    return Row(
        name,
        f"{networks} networks of 4 tasks, n = {size.n}: {len(family.cells)} pairs",
        f"{processors:.0f} s of processors",
        f"{most:.0f} s of two processors, classes exactly right, none across, 95 % within, page of 10 MB",
        processors <= 2.0 * most and right and not outside and inside >= 0.95 * total and page < 10.0,
        f"{seconds:.0f} s by the clock; equivalent {inside} of {total} within and {outside} across; "
        f"{len(family.classes)} classes, {'right' if right else 'NOT right'}; {len(family.conflicts)} conflicts; "
        f"worst round trip {percent(max(trips, default=0.0))}; page {page:.1f} MB",
    )


@row("one by one")
def one_by_one(name: str, size: Size) -> Row:
    """Some pairs, drawn by a seed, each matched and assessed from its observations, beside the share of the family.

    By seconds of processors, which other work on the machine hardly changes.
    """
    given = trained(size.networks, size.n, size.steps)
    family, _, processors = as_family(size.networks, size.n, size.steps)
    names = list(given.observations)
    pairs = list(family.cells)
    chosen = np.random.default_rng(0).permutation(len(pairs))[: size.one_by_one]

    def each() -> None:
        for k in chosen:
            a, b = (names[side] for side in pairs[k])
            compare(
                given.observations[a],
                given.observations[b],
                landmarks=(given.landmarks[a][0], given.landmarks[b][0]),
                held_out=(given.held_out[a], given.held_out[b]),
                baselines=False,
            )

    start = time.process_time()
    each()
    alone = (time.process_time() - start) / len(chosen)
    together = processors / len(pairs)
    return Row(
        name,
        f"{size.networks} networks, n = {size.n}: {len(chosen)} pairs from observations, beside all {len(pairs)} as a family",
        f"{together:.2f} s a pair",
        "5 times faster",
        alone >= 5.0 * together,
        f"of processors; one by one {alone:.2f} s a pair: {alone / together:.1f} times as much",
    )


@row("spanning pairs")
def spanning(name: str, size: Size) -> Row:
    """Classes from the pairs that can change them."""
    given = trained(size.networks, size.n, size.steps)
    family, seconds = timed(lambda: given.compared(pairs="spanning"))
    right = classes_right(given, family)
    return Row(
        name,
        f"{size.networks} networks, n = {size.n}: {family.n_judged} of {len(family.cells)} pairs compared",
        f"{seconds:.0f} s",
        "classes exactly right",
        right,
        f"{len(family.classes)} classes",
    )


@row("dask against threads")
def dask_against_threads(name: str, size: Size) -> Row:
    """Two processes over TCP on the loopback, against two threads of one process; and one of the workers killed."""
    from distributed import Client, LocalCluster

    given = trained(size.clustered, size.n, size.steps)
    start = time.process_time()
    threads, alone = timed(lambda: given.compared(n_jobs=2))
    by_threads = time.process_time() - start
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", dashboard_address=None)
    with cluster, Client(cluster) as client, joblib.parallel_config(backend="dask"):
        client.run(lambda: __import__("diffeo").compare_family)
        start = time.process_time() + sum(client.run(time.process_time).values())
        clustered, apart = timed(given.compared)
        by_processes = time.process_time() + sum(client.run(time.process_time).values()) - start
        victim = next(iter(client.run(os.getpid).values()))
        killer = threading.Timer(0.5 * apart, os.kill, (victim, signal.SIGKILL))
        killer.start()
        killed, longer = timed(given.compared)
        killer.join()
    same = clustered.cells == threads.cells == killed.cells
    return Row(
        name,
        f"{size.clustered} networks, n = {size.n}, {len(threads.cells)} pairs: 2 processes by TCP",
        f"{apart:.1f} s",
        "same bits, 15 % more than threads at most; killed worker: same bits",
        same and apart <= 1.15 * alone,
        f"2 threads {alone:.1f} s; of processors {by_processes:.1f} and {by_threads:.1f} s; "
        f"bits {'equal' if same else 'differ'}; with a worker killed halfway {longer:.1f} s",
    )


RUN = """
import sys, numpy as np
from bench import bench_family
size = bench_family.Size(*map(int, sys.argv[1:5]))
bench_family.stored(sys.argv[5]).compared(checkpoint=sys.argv[6], n_jobs=1)
"""


def stored(folder: str) -> Given:
    """A family from files."""
    data = dict(np.load(Path(folder) / "common.npz"))
    names = sorted({name.rpartition(".")[0] for name in data})
    observations = {name: diffeo.load(Path(folder) / f"{name}.safetensors") for name in names}
    marks = {name: (data[f"{name}.points"], data[f"{name}.jacobians"]) for name in names}
    return Given(observations, marks, {name: data[f"{name}.judges"] for name in names}, [])


@row("killed run")
def killed_run(name: str, size: Size) -> Row:
    """A process that is killed halfway, and started again: what is computed then, and what comes out."""
    given = trained(size.clustered, size.n, size.steps)
    with tempfile.TemporaryDirectory() as folder:
        common = {}
        for member, observation in given.observations.items():
            observation.save(Path(folder) / f"{member}.safetensors")
            common[f"{member}.points"], common[f"{member}.jacobians"] = given.landmarks[member]
            common[f"{member}.judges"] = given.held_out[member]
        np.savez(Path(folder) / "common.npz", **common)
        again = stored(folder)
        expected = again.compared(n_jobs=1)
        work = Path(folder) / "work"
        command = [sys.executable, "-c", RUN, "0", "0", "0", "0", folder, str(work)]
        process = subprocess.Popen(command)
        total = len(expected.cells)
        while process.poll() is None and len(list((work / "pairs").glob("*.json"))) < total // 2:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = {path.name for path in (work / "pairs").glob("*.json")}
        times = {path: path.stat().st_mtime_ns for path in (work / "pairs").glob("*.json")}
        found = again.compared(checkpoint=work, n_jobs=1)
        kept = all(path.stat().st_mtime_ns == at for path, at in times.items())
        computed = len(list((work / "pairs").glob("*.json"))) - len(before)
    same = found.cells == expected.cells
    return Row(
        name,
        f"{size.clustered} networks, n = {size.n}: killed after {len(before)} of {total} pairs",
        f"{computed} pairs computed then",
        "only what was missing, same bits",
        same and kept and computed == total - len(before),
        f"bits {'equal' if same else 'differ'}; files of the first run {'kept' if kept else 'written again'}",
    )


@row("memory of a worker")
def memory_of_a_worker(name: str, size: Size) -> Row:
    """Peak resident memory of a process that works on all pairs, beside that of one with a pair alone."""
    given = trained(size.clustered, size.n, size.steps)
    script = (
        "import sys, numpy as np; from diffeo.pairwise.tasks import *; from bench.memory import resident\n"
        "data = np.load(sys.argv[1]); names = sorted(data)[: int(sys.argv[2])]\n"
        "for i in range(len(names)):\n"
        "    for j in range(i + 1, len(names)):\n"
        "        compare_networks(names[i], data[names[i]], names[j], data[names[j]], Settings())\n"
        "print(resident('VmHWM') / 1024)\n"
    )
    from diffeo.pairwise.packed import Network, pack
    from diffeo.pairwise.tasks import Settings, embed_network

    packed = {}
    for member, observation in given.observations.items():
        chart = diffeo.Chart(observation, "auto", 0, 1)
        network = Network(chart, given.landmarks[member][0], given.held_out[member], None)
        found = embed_network(pack(network, whole=False, halves=False), Settings())
        packed[member] = pack(network, whole=False, halves=False) if isinstance(found, str) else found
    travelling = sum(map(len, packed.values())) / 2**20
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "packed.npz")
        np.savez(path, **packed)
        peaks = []
        for count in (2, min(6, len(packed))):
            done = subprocess.run(
                [sys.executable, "-c", script, path, str(count)], capture_output=True, text=True, check=True
            )
            peaks.append(float(done.stdout))
    return Row(
        name,
        f"{min(6, len(packed))} networks, n = {size.n}, in all pairs by one process",
        f"{peaks[1]:.0f} MiB",
        "that of a pair, 20 % more at most",
        peaks[1] <= 1.2 * peaks[0],
        f"the first pair alone {peaks[0]:.0f} MiB; all networks as they travel {travelling:.1f} MiB",
    )


if __name__ == "__main__":
    sys.exit(row.main())
