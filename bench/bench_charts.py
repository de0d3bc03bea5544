"""Charts of one network each: made once and matched many times; across cliffs, refined or not; hard ones against easy ones.

``python -m bench.bench_charts [--quick]``; results are kept in ``bench/results/charts.txt``.
"""

from __future__ import annotations

import itertools
import sys
import time
from unittest import mock

import diffeo
import numpy as np
from diffeo.charts import chart as chart_module

import bench.charts_of_networks  # noqa: F401 (registers its rows)
from bench import cliffs, torn
from bench.charts_rows import Size, row
from bench.figures import Row, listed, percent
from bench.manifolds import Sampled, Units
from bench.truth_maps import held_inputs, smooth

NEURONS, LANDMARKS, HELD_OUT = 7, 4, 200


@row("ten networks pairwise")
def pairwise(name: str, size: Size) -> Row:
    """All pairs of networks on one square, each at inputs of its own."""
    rng = np.random.default_rng(0)
    units = [Units.random(NEURONS, 2, rng) for _ in range(size.networks)]
    identity = np.broadcast_to(np.eye(2), (size.n, 2, 2))
    observations = [one.observe(Sampled(rng.random((size.n, 2)), identity), rng) for one in units]
    marks, new = rng.random((LANDMARKS, 2)), 0.02 + 0.96 * rng.random((HELD_OUT, 2))

    def matched(sides: list[diffeo.Observation] | list[diffeo.Chart]) -> list[np.ndarray]:
        pairs = itertools.combinations(range(size.networks), 2)
        return [
            diffeo.match(sides[i], sides[j], landmarks=(units[i](marks), units[j](marks))).transform(units[i](new))
            for i, j in pairs
        ]

    start = time.perf_counter()
    with mock.patch.object(chart_module, "isometric_chart", wraps=chart_module.isometric_chart) as embedded:
        found = matched([diffeo.embed(observation) for observation in observations])
    by_charts = time.perf_counter() - start
    times = embedded.call_count
    start = time.perf_counter()
    plain = matched(observations)
    by_observations = time.perf_counter() - start
    same = all(a.tobytes() == b.tobytes() for a, b in zip(found, plain, strict=True))
    targets = [units[j](new) for _, j in itertools.combinations(range(size.networks), 2)]
    worst = max(diffeo.relative_error(one, true) for one, true in zip(found, targets, strict=True))
    ratio = by_observations / by_charts
    return Row(
        name,
        f"{size.networks} networks, n = {size.n}, {len(found)} matches by {LANDMARKS} landmarks: {times} embeddings, from "
        "charts",
        f"{by_charts:.1f} s",
        "4 times faster, same bits",
        ratio >= 4.0 and same and times == size.networks,
        f"from observations {by_observations:.1f} s ({ratio:.1f} times); bits {'equal' if same else 'differ'}; worst error "
        f"{percent(worst)}",
    )


@row("hard against easy")
def hard_and_easy(name: str, size: Size) -> Row:
    """Isometric charts of uniform samples with a cliff and without: the time that each takes, the least of three."""
    n = 3 * size.n // 4
    x = np.random.default_rng(0).random((n, 2))
    # As thin beside the spacing as fronts of 1/30 and 1/40 are among 3,000 samples: thinner ones have no chart.
    fronts = {f"1/{parts}": float(np.sqrt(3000 / n)) / parts for parts in (30, 40)}
    seconds, errors = {}, {}
    for kind, width in (("easy", None), *fronts.items()):
        observation, taken = cliffs.front(x, width), []
        for _ in range(3):
            start = time.process_time()
            fitted = diffeo.IsometricEmbedding(n_jobs=1).fit(observation)
            taken.append(time.process_time() - start)
        seconds[kind], errors[kind] = min(taken), cliffs.rigid_error(fitted.embedding_, x)
    ratios = [seconds[kind] / seconds["easy"] for kind in fronts]
    return Row(
        name,
        f"n = {n}, fronts of {' and '.join(f'1/{1 / thin:.0f}' for thin in fronts.values())} against no front: CPU seconds",
        f"{' and '.join(f'{ratio:.1f}' for ratio in ratios)} times",
        "3 times",
        max(ratios) <= 3.0,
        f"seconds {', '.join(f'{kind} {value:.2f}' for kind, value in seconds.items())}; error of the inputs {listed(errors)}",
    )


@row("many hard samples")
def many_hard(name: str, size: Size) -> Row:
    """An isometric chart of five times as many uniform samples with a cliff as thin beside their spacing."""
    n = 5 * size.n
    x = np.random.default_rng(0).random((n, 2))
    thin = float(np.sqrt(3000 / n)) / 40
    observation = cliffs.front(x, thin)
    start = time.process_time()
    fitted = diffeo.IsometricEmbedding(n_jobs=1).fit(observation)
    seconds = time.process_time() - start
    error = cliffs.rigid_error(fitted.embedding_, x)
    return Row(
        name,
        f"n = {n}, front of 1/{1 / thin:.0f}, one thread: CPU seconds",
        f"{seconds:.1f} s",
        "10 s",
        seconds <= 10.0,
        f"error of the inputs {percent(error)}, relative stress {fitted.stress_:.3f}",
    )


@row("pieces")
def pieces(name: str, size: Size) -> Row:
    """Sides that fall into two or three pieces, three landmarks in each: maps that are right, or named."""
    n, count = 3 * size.n // 8, 10 if size.n >= 4000 else 3
    found = [torn.drawn(number, n) for number in range(count)]
    right = [one for one in found if one.right]
    silent = [one for one in found if not one.right and not one.named]
    joined = sum(one.coordinates == "pieces" for one in found)
    return Row(
        name,
        f"{count} draws of 2 or 3 pieces, n = {n} a side, 3 landmarks a piece: right to 1 % both ways, or named",
        f"{len(right)} right, {len(found) - len(right) - len(silent)} named",
        "none silent",
        not silent and joined == count,
        f"joined piece by piece {joined}; right ones: median {percent(float(np.median([one.errors for one in right])))}, worst "
        f"{percent(max(max(one.errors) for one in right))}; expected over true error, or the other way, at worst "
        f"{max(one.factor for one in found):.1f}\n"
        + "\n".join(
            f"{one.name}: {' and '.join(map(percent, one.errors))} (expected {' and '.join(map(percent, one.expected))})"
            for one in found
        ),
    )


# Samples of so many dimensions, and the error that is aimed at.
DIMENSIONS = {5: (2000, 0.0033), 6: (10_000, 0.003), 8: (20_000, 0.03)}


@row(*(f"dimensions {d}" for d in DIMENSIONS))
def many_dimensions(name: str, size: Size) -> Row:
    """An isometric chart of a smooth random network on a cube of many dimensions, and new points placed in it."""
    d = int(name.rpartition(" ")[2])
    n, target = DIMENSIONS[d]
    n = n if size.n >= 4000 else n // 10
    rng = np.random.default_rng([0, d])
    measure, x, new = smooth(d, 2 * d + 2, rng), rng.random((n, d)), held_inputs(d, rng)
    observation = diffeo.Observation.from_jacobians(*measure(x))
    start = time.process_time()
    fitted = diffeo.IsometricEmbedding().fit(observation)
    seconds = time.process_time() - start
    placed = fitted.transform(measure(new)[0])
    placing = time.process_time() - start - seconds
    error = cliffs.rigid_error(fitted.embedding_, x)
    both = cliffs.rigid_error(np.vstack([fitted.embedding_, placed]), np.vstack([x, new]))
    return Row(
        name,
        f"cube, n = {n}, {2 * d + 2} measurements of two layers of tanh: error of the inputs",
        percent(error),
        f"{percent(target)}, 120 s of two cores",
        error <= target and seconds <= 240.0,
        f"{seconds:.0f} s of CPU, {placing:.1f} s for {len(new)} new points, with which the error is {percent(both)}; relative "
        f"stress {fitted.stress_:.4f}",
    )


if __name__ == "__main__":
    sys.exit(row.main())
