"""Screening without pairs: how often it differs where it should not, how often where it should, and what it takes.

``python -m bench.bench_screening [--quick]``; results are kept in ``bench/results/screening.txt``.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
from diffeo import Observation, Screening, screen
from tqdm import tqdm

from bench.figures import Row, percent, table
from bench.manifolds import Sampled, Units, pentagon

NEURONS = 7
SCALE = 1e-3
MEMBERS = 32
SIGNIFICANCE = 0.01

Draw = Callable[[int, np.random.Generator], np.ndarray]


def square(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.random((n, 2))


def either(n: int, rng: np.random.Generator, number: int) -> np.ndarray:
    """Squares and pentagons in turn."""
    return (square, pentagon)[number % 2](n, rng)


def seen(points: np.ndarray, rng: np.random.Generator, jacobians: np.ndarray | None = None) -> Observation:
    """Points (n, D) that carry d inputs, seen by random units; `jacobians` (n, D, d) of the points, identities if None."""
    units = Units.random(NEURONS, points.shape[1], rng)
    if jacobians is None:
        jacobians = np.broadcast_to(np.eye(points.shape[1]), (len(points), *[points.shape[1]] * 2))
    return units.observe(Sampled(points, jacobians), rng)


def seen_by_bursts(x: np.ndarray, rng: np.random.Generator) -> Observation:
    units = Units.random(NEURONS, x.shape[1], rng)
    members = x[:, None] + SCALE * rng.normal(size=(len(x), MEMBERS, x.shape[1]))
    bursts = units(members.reshape(-1, x.shape[1])).reshape(len(x), MEMBERS, -1)
    return Observation.from_bursts(units(x), bursts, scale=SCALE, dim=x.shape[1])


def folded(x: np.ndarray, rng: np.random.Generator) -> Observation:
    """The first input is folded at 0.4: x and 0.8 - x look alike."""
    points = np.column_stack([2.0 * (x[:, 0] - 0.4) ** 2, x[:, 1]])
    jacobians = np.zeros((len(x), 2, 2))
    jacobians[:, 0, 0], jacobians[:, 1, 1] = 4.0 * (x[:, 0] - 0.4), 1.0
    return seen(points, rng, jacobians)


def uneven(x: np.ndarray) -> np.ndarray:
    """The unit square with three times the density on one side as on the other."""
    return np.column_stack([0.5 * np.sqrt(1.0 + 8.0 * x[:, 0]) - 0.5, x[:, 1]])


Case = Callable[[int, np.random.Generator, int], tuple[Observation, Observation]]
# Name, what it is, whether it is to differ, and both observations of a draw.
CASES: dict[str, tuple[str, bool, Case]] = {
    "alike": (
        "two networks on one domain (square, pentagon), Jacobians",
        False,
        lambda n, rng, k: (seen(either(n, rng, k), rng), seen(either(n, rng, k), rng)),
    ),
    "bursts": (
        f"the same from bursts of {MEMBERS}",
        False,
        lambda n, rng, k: (seen_by_bursts(either(n, rng, k), rng), seen_by_bursts(either(n, rng, k), rng)),
    ),
    "uneven": (
        "the same square, B's inputs three times as dense on one side",
        False,
        lambda n, rng, k: (seen(square(n, rng), rng), seen(uneven(square(n, rng)), rng)),
    ),
    "ignores": (
        "B ignores an input",
        True,
        lambda n, rng, k: (seen(square(n, rng), rng), seen(square(n, rng)[:, :1], rng)),
    ),
    "folds": (
        "B folds an input",
        True,
        lambda n, rng, k: (seen(square(n, rng), rng), folded(square(n, rng), rng)),
    ),
    "rectangle": (
        "B's domain is 1 by 0.7",
        True,
        lambda n, rng, k: (seen(square(n, rng), rng), seen(square(n, rng) * [1.0, 0.7], rng)),
    ),
    "rectangle of area 1": (
        "B's domain is 1.1 by 0.909",
        True,
        lambda n, rng, k: (seen(square(n, rng), rng), seen(square(n, rng) * [1.1, 1.0 / 1.1], rng)),
    ),
    "scale": (
        "B's inputs are 1.1 times as large",
        True,
        lambda n, rng, k: (seen(square(n, rng), rng), seen(1.1 * square(n, rng), rng)),
    ),
}


def screenings(name: str, n: int, count: int) -> list[Screening]:
    found = []
    for k in tqdm(range(count), desc=name, leave=False, disable=None):
        rng = np.random.default_rng([k, *name.encode()])
        found.append(screen(*CASES[name][2](n, rng, k), significance=SIGNIFICANCE))
    return found


def rates(name: str, n: int, count: int) -> Row:
    """Share of the draws that the screen says to differ."""
    what, differs, _ = CASES[name]
    found = screenings(name, n, count)
    share = float(np.mean([bool(one.differences) for one in found]))
    compared = [one.fingerprints for one in found if one.fingerprints is not None]
    spectra = float(np.mean([one.spectra.p_value < SIGNIFICANCE for one in compared])) if compared else 0.0
    distances = [one.spectra.distance for one in compared]
    beside = f"by the spectra alone {percent(spectra)} of {len(compared)} compared; with a problem named "
    beside += percent(float(np.mean([bool(one.problems) for one in found])))
    if compared:
        beside += (
            f"; distance of the spectra: median {np.median(distances):.2f}, 95 % {np.quantile(distances, 0.95):.2f}"
        )
    # Three standard errors above 5 %, or nineteen of twenty.
    most = 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / count)
    reached = share >= 0.95 if differs else share <= most
    target = ">= 95 %" if differs else "<= 5 %"
    return Row(name, f"{what}, n = {n}, {count} draws: said to differ", percent(share), target, reached, beside)


def seconds(n: int, repeats: int) -> Row:
    rng = np.random.default_rng(0)
    a, b = seen(square(n, rng), rng), seen(square(n, rng), rng)
    wall, processor = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        found = screen(a, b)
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    beside = (
        f"processor time {min(processor):.1f} s; load average meanwhile {os.getloadavg()[0]:.1f}; {found.conclusion}"
    )
    return Row("time", f"one screen, n = {n}", f"{min(wall):.1f} s", "< 5 s", min(wall) < 5.0, beside)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: a smoke test")
    parser.add_argument("--only", metavar="NAME,...", help=f"of time, {', '.join(CASES)}")
    parser.add_argument("--draws", type=int, help="of each pair, instead of 20, 30 or 120")
    parser.add_argument("--samples", type=int, help="on each side, instead of 1000")
    arguments = parser.parse_args()
    quick, rows = arguments.quick, []
    names = ["time", *CASES] if arguments.only is None else arguments.only.split(",")
    for name in names:
        start = time.perf_counter()
        if name == "time":
            row = seconds(500, 1) if quick else seconds(4000, 5)
        else:
            different = CASES[name][1] or name == "uneven"
            n, count = (200, 1) if quick else (1000, 20 if different else 30 if "bursts" in name else 120)
            row = rates(name, arguments.samples or n, arguments.draws or count)
        rows.append((row, time.perf_counter() - start))
        tqdm.write(f"{row.name}: {row.value} ({row.beside})", file=sys.stderr)
    print(f"python -m bench.bench_screening {' '.join(sys.argv[1:])}".rstrip())
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
