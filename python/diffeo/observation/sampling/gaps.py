"""Steps across gaps of a sample: places that no sample is near, although samples lie all around them."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers

# A place is in a gap if the ball around it that holds no sample is larger than those around the ends of a step across it that
# hold so many others: chance leaves a ball of that volume empty in one case of e^4, whatever the dimension.
FEW = 4
# Samples keep this share of the step from its middle, so that inputs in the middle are no neighbours of others.
APART = 0.3
# Distances below this quantile of those to the nearest other are the finest that samples are thinned to.
FINE = 0.05


def steps_across(inputs: FloatArray, n_neighbors: int) -> tuple[IntArray, IntArray]:
    """Places i < j of inputs (n, p) between which there is a gap.

    Where a sample is much denser around a gap than in it, all nearest neighbours of those at its rim are along the rim, and no
    neighbour graph knows of the gap. Neighbours among samples that were thinned to keep some distance, the same everywhere, are
    on both sides. Gaps that are larger than what chance leaves of the sample where it is coarse are holes of the domain,
    which are nobody's to fill: uniform samples leave a ball empty that holds ln(n) of them on average, about as many as are
    neighbours, and hardly a larger one.
    """
    n = len(inputs)
    none = np.empty(0, dtype=np.int64)
    tree = PointTree(inputs)
    k = min(n_neighbors + 1, n)
    if k <= FEW + 1:
        return none, none
    distance = tree.query(inputs, k, workers=workers())[0]
    nearest = distance[:, 1][distance[:, 1] > 0.0]
    if len(nearest) == 0:
        return none, none
    few, largest = distance[:, FEW], _coarse(distance[:, -1], inputs.shape[1])
    radius, rows, found = float(np.quantile(nearest, FINE)), np.arange(n), [none]
    while radius <= largest:
        rows = rows[thinned(inputs[rows], np.full(len(rows), radius), len(rows))]
        if len(rows) <= k:
            break
        near = PointTree(inputs[rows]).query(inputs[rows], k, workers=workers())[1][:, 1:]
        i, j = np.repeat(rows, k - 1), rows[near.ravel()]
        i, j = np.divmod(np.unique(np.minimum(i, j) * n + np.maximum(i, j)), n)
        length = np.linalg.norm(inputs[j] - inputs[i], axis=1)
        # Both ends are half a step from its middle.
        long = 0.5 * length > np.maximum(few[i], few[j])
        i, j, length = i[long], j[long], length[long]
        empty = tree.query(0.5 * (inputs[i] + inputs[j]), workers=workers())[0]
        gap = (empty > APART * length) & (empty > np.maximum(few[i], few[j])) & (empty <= largest)
        found.append(i[gap] * n + j[gap])
        radius *= 2.0
    i, j = np.divmod(np.unique(np.concatenate(found)), n)
    return i, j


def _coarse(radius: FloatArray, p: int) -> float:
    """The median over the domain of radii (n,) of balls that hold equally many samples."""
    order = np.argsort(radius, kind="stable")
    # Volumes in units of the largest, whose powers do not overflow.
    shares = np.cumsum((radius[order] / radius[order[-1]]) ** p)
    return float(radius[order[np.searchsorted(shares, 0.5 * shares[-1])]])


def thinned(points: FloatArray, radius: FloatArray, most: int) -> IntArray:
    """The first of points (n, p) that lie farther than their radius (n,) from those taken before, at most so many."""
    near = PointTree(points).query_ball_point(points, radius) if len(points) else []
    barred = np.zeros(len(points), dtype=bool)
    taken: list[int] = []
    for place, others in enumerate(near):
        if len(taken) == most:
            break
        if not barred[place]:
            taken.append(place)
            barred[others] = True
    return np.array(taken, dtype=np.int64)
