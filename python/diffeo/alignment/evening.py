"""Uneven samples thinned to an even density: what is left of them says the shape of the domain alone."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers

# Neighbours whose distance tells the density; its chance error is the inverse root of this.
NEIGHBORS = 20


def evened(samples: FloatArray, rng: np.random.Generator) -> IntArray:
    """Rows of samples (n, d) that are of about one density, ascending.

    A sample stands for a volume v_i, that of the ball to its k-th neighbour, and is kept with probability min(1, v_i / v),
    where v is the median over the domain: half of it keeps all of its samples.
    """
    n, d = samples.shape
    k = min(NEIGHBORS, n - 1)
    volume = PointTree(samples).query(samples, k + 1, workers=workers())[0][:, -1] ** d
    order = np.argsort(volume)
    total = np.cumsum(volume[order])
    middle = volume[order[int(np.searchsorted(total, 0.5 * total[-1]))]]
    return np.flatnonzero(rng.random(n) * middle <= volume)
