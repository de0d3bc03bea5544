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
APART = 0.2
# Thinned samples have so many times as many neighbours: those across a gap are not the nearest.
WIDE = 4
# Samples within so many radii of the middle of a gap are at its rim.
RIM = 2.0
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
    k = min(n_neighbors + 1, n)
    if k <= FEW + 1:
        return none, none
    distance = PointTree(inputs).query(inputs, k, workers=workers())[0]
    nearest = distance[:, 1][distance[:, 1] > 0.0]
    if len(nearest) == 0:
        return none, none
    gaps = _Gaps(inputs, distance[:, FEW], _coarse(distance[:, -1], inputs.shape[1]))
    radius, rows, found = float(np.quantile(nearest, FINE)), np.arange(n), [none]
    while radius <= gaps.largest:
        rows = rows[thinned(inputs[rows], np.full(len(rows), radius), len(rows))]
        if len(rows) <= k:
            break
        many = min(WIDE * n_neighbors + 1, len(rows))
        near = PointTree(inputs[rows]).query(inputs[rows], many, workers=workers())[1][:, 1:]
        found.append(gaps.crossed(np.repeat(rows, many - 1), rows[near.ravel()]))
        radius *= 2.0
    pairs = np.unique(np.concatenate(found))
    i, j = np.divmod(np.union1d(pairs, gaps.other_ways(*np.divmod(pairs, n))), n)
    return i, j


class _Gaps:
    """Gaps of a sample: balls that hold none of inputs (n, p), not larger than the `largest`.

    `few` are radii (n,) of the balls around each that hold so many others.
    """

    def __init__(self, inputs: FloatArray, few: FloatArray, largest: float) -> None:
        self.inputs, self.few, self.largest = inputs, few, largest
        self.tree = PointTree(inputs)

    def crossed(self, i: IntArray, j: IntArray) -> IntArray:
        """Which of these steps cross a gap, each once as i * n + j."""
        n = len(self.inputs)
        length = np.linalg.norm(self.inputs[j] - self.inputs[i], axis=1)
        # Both ends are half a step from its middle.
        long = 0.5 * length > np.maximum(self.few[i], self.few[j])
        pairs, first = np.unique(np.minimum(i, j)[long] * n + np.maximum(i, j)[long], return_index=True)
        (i, j), length = np.divmod(pairs, n), length[long][first]
        empty = self.tree.query(0.5 * (self.inputs[i] + self.inputs[j]), workers=workers())[0]
        gap = (empty > APART * length) & (empty > np.maximum(self.few[i], self.few[j])) & (empty <= self.largest)
        found: IntArray = pairs[gap]
        return found

    def other_ways(self, i: IntArray, j: IntArray) -> IntArray:
        """More steps i * n + j across the gaps that these cross: a front may run along those, and show in the others only."""
        middle = 0.5 * (self.inputs[i] + self.inputs[j])
        empty = self.tree.query(middle, workers=workers())[0]
        order = np.argsort(-empty, kind="stable")
        kept = order[thinned(middle[order], empty[order], len(order))]
        found = [np.empty(0, dtype=np.int64)]
        for at, radius in zip(middle[kept], empty[kept], strict=True):
            rim = np.array(sorted(self.tree.query_ball_point(at, RIM * radius)), dtype=np.int64)
            rim = rim[thinned(self.inputs[rim], np.full(len(rim), 0.5 * radius), len(rim))]
            one, other = np.triu_indices(len(rim), 1)
            found.append(self.crossed(rim[one], rim[other]))
        return np.concatenate(found)


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
