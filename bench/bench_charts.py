"""Charts that are made once: ten networks matched pairwise, from charts and from observations.

``python -m bench.bench_charts [--quick]``; results are kept in ``bench/results/charts.txt``.
"""

from __future__ import annotations

import itertools
import sys
import time
from dataclasses import dataclass
from unittest import mock

import diffeo
import numpy as np
from diffeo.charts import chart as chart_module

from bench.figures import Row, percent
from bench.manifolds import Sampled, Units
from bench.rows import Rows

NEURONS, LANDMARKS, HELD_OUT = 7, 4, 200


@dataclass(frozen=True)
class Size:
    n: int
    networks: int


row = Rows("bench_charts", __doc__, Size(4000, 10), Size(400, 3))


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


if __name__ == "__main__":
    sys.exit(row.main())
