"""The cost of a set of neurons: how far it turns between neighbours, and how near far samples come to each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text
from diffeo.observation.observation import Observation
from diffeo.reference import GATES

# Samples at which the set must be good; the worst of 512 is about the worst half percent of all.
N_ANCHORS = 512
# Neighbours of each of them: as many as the edges of `IsometricEmbedding`; the farthest is one spacing away.
N_NEIGHBORS = 12
# As many times more samples are measured from both ends to find them.
TRIED = 3
# Samples more than this many spacings away are far: their measurements must not come near.
FAR = 3.0
# Nearest far samples of each anchor on which a candidate is tried; what is accepted is checked on all.
N_RIVALS = 8
# Candidates tried at once: bounds the memory (N_ANCHORS * CANDIDATES numbers, a few times).
CANDIDATES = 256
# Anchors whose distances to all samples are computed at once: small enough for the cache of one core.
ANCHORS = 16
# Gradients below this share of the typical one count as zero.
RIDGE = 1e-8
# Two neurons whose squared correlation is this near to 1 are one neuron.
SAME = 1e-9
# A neuron that varies less than this share of the typical one is constant.
CONSTANT = 1e-9


# A Jacobian that changes between neighbours by this multiple of its smallest stretch bends too sharply for the sample: of
# 108 sets of five neurons of trained networks, 86 turned less (and separated) and recovered the input to 0.06 %; the
# seven that were wrong by more than 0.5 % turned by more than 2.
LIMIT_TURNING = 1.0
# Which call finds the inputs to add.
SUGGESTED = "diffeo.suggest_inputs(obs, inputs, n) says which, diffeo.observe(..., refine=n) adds them"
# More even samples than this are no advice.
TOO_MANY = 1e6
# Samples that are looked at; more are thinned out at random, and lengths scaled to the whole sample.
MAX_SAMPLES = 4096


@dataclass(frozen=True, eq=False)
class Sample:
    """All m neurons of a layer at n samples, in detail at a of them, the anchors.

    Attributes
    ----------
    points : ndarray (n, m)
        Centred.
    gradients : ndarray (n, d, m)
        Jacobians J_i, transposed, in a local frame.
    anchors : ndarray of int (a,)
        Positions in `points`.
    neighbors : ndarray of int (a, k)
        Positions of the nearest samples.
    counted : ndarray of bool (a, k)
        Which of them count as neighbours.
    bends : ndarray (a, m)
        Squared change of each neuron's gradient, mean over the neighbours that count.
    reach, spacing : ndarray (a,)
        Distance of the farthest neighbour, in input units; and what it is in the whole sample, if this is a part.
    far : ndarray of bool (a, n)
        Whether a sample is far from an anchor.
    """

    points: FloatArray
    gradients: FloatArray
    anchors: IntArray
    neighbors: IntArray
    counted: NDArray[np.bool_]
    bends: FloatArray
    reach: FloatArray
    spacing: FloatArray
    far: NDArray[np.bool_]


def look(observation: Observation, rows: IntArray, thinning: float, rng: np.random.Generator) -> Sample:
    """Neighbours, spacing and change of the Jacobian at the anchors, judged by all neurons of the layer.

    `rows` are those of the observation to look at, `thinning` is the spacing of the whole sample over theirs.
    """
    points = observation.points[rows]
    points -= points.mean(axis=0)
    gradients = np.ascontiguousarray(observation.whitening[rows].transpose(0, 2, 1))
    # J_i = U_i Sigma_i from W_i = U_i / Sigma_i.
    inverses = np.einsum("ndm,ndm->nd", gradients, gradients)
    gradients /= inverses[:, :, None]
    anchors = np.sort(rng.choice(len(points), min(len(points), N_ANCHORS), replace=False))
    own = gradients[anchors]
    whitening = own * inverses[anchors][:, :, None]
    lower, off = _lower_distances(points, anchors, whitening, inverses)
    neighbors, near, counted = _nearest(points, gradients, inverses, anchors, lower, off)
    bends = np.zeros((len(anchors), points.shape[1]))
    for k in range(neighbors.shape[1]):
        there = gradients[neighbors[:, k]]
        # The rotation between the two frames is the orthogonal factor of pinv(J_i) J_j.
        u, _, vt = np.linalg.svd(whitening @ there.transpose(0, 2, 1))
        bends += counted[:, k, None] * ((u @ vt @ there - own) ** 2).sum(axis=1)
    # A thinned sample has wider spacings, across which more changes, than the whole one.
    bends *= thinning**2 / counted.sum(axis=1)[:, None]
    reach = (near * counted).max(axis=1)
    far = lower > (FAR * reach[:, None]) ** 2
    return Sample(points, gradients, anchors, neighbors, counted, bends, reach, thinning * reach, far)


def _lower_distances(
    points: FloatArray, anchors: IntArray, whitening: FloatArray, inverses: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Squared distances (a, n) from the anchors in input units, rather too small, and which leave the tangent plane.

    One-sided Mahalanobis distances are blind along the normal; ambient ones, divided by the largest stretch, are not.
    `inverses` (n, d) are those of the squared stretches.
    """
    squared_norms = (points**2).sum(axis=1)
    lower, off = np.empty((len(anchors), len(points))), np.empty((len(anchors), len(points)), dtype=bool)
    for block in _blocks(len(anchors), ANCHORS):
        here = anchors[block]
        ambient = np.maximum(squared_norms[here][:, None] + squared_norms - 2.0 * points[here] @ points.T, 0.0)
        tangential, within = np.zeros_like(ambient), np.zeros_like(ambient)
        for k in range(whitening.shape[1]):
            along = whitening[block, k] @ points.T
            along = (along - along[np.arange(len(here)), here][:, None]) ** 2
            tangential += along
            within += along / inverses[here, k, None]
        off[block] = within < (1.0 - GATES.off_tangent) * ambient
        lower[block] = np.maximum(ambient * inverses[here].min(axis=1)[:, None], tangential)
    lower[np.arange(len(anchors)), anchors] = 0.0
    return lower, off


def _nearest(
    points: FloatArray,
    gradients: FloatArray,
    inverses: FloatArray,
    anchors: IntArray,
    lower: FloatArray,
    off: NDArray[np.bool_],
) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
    """The nearest samples of each anchor, their distances, and whether they count, (a, count) each.

    Distances are measured from both ends: where the layer bends, one end can take a sample for near that the other
    knows to be far, and the larger distance holds. Samples that fail the kernel's gates of tangent and transport come
    last and do not count: there, sheets nearly touch. Where they are the most, they do count: the layer turns too sharply.
    """
    count = min(len(points) - 1, N_NEIGHBORS)
    tried = min(len(points) - 1, TRIED * count)
    ranked = lower + off * lower.max()
    ranked[np.arange(len(anchors)), anchors] = np.inf
    others = np.argpartition(ranked, tried - 1, axis=1)[:, :tried]
    squared, gated = np.take_along_axis(lower, others, axis=1), np.take_along_axis(off, others, axis=1)
    own = gradients[anchors]
    for k in range(tried):
        j = others[:, k]
        there, delta = gradients[j] * inverses[j][:, :, None], points[anchors] - points[j]
        back = (there @ delta[:, :, None])[:, :, 0] ** 2
        squared[:, k] = np.maximum(squared[:, k], back.sum(axis=1))
        gated[:, k] |= (back / inverses[j]).sum(axis=1) < (1.0 - GATES.off_tangent) * (delta**2).sum(axis=1)
        forth = (own * inverses[anchors][:, :, None]) @ gradients[j].transpose(0, 2, 1)
        ways = np.stack([forth, there @ own.transpose(0, 2, 1)])
        # Squares of singular values take half the time of these.
        values = np.linalg.eigvalsh(ways @ ways.swapaxes(-2, -1))
        gated[:, k] |= (values.max(axis=(0, 2)) > GATES.transport**2) | (values.min(axis=(0, 2)) < GATES.transport**-2)
    order = np.lexsort((squared, gated), axis=1)[:, :count]
    neighbors: IntArray = np.take_along_axis(others, order, axis=1)
    counted = ~np.take_along_axis(gated, order, axis=1)
    counted[2 * counted.sum(axis=1) < count] = True
    return neighbors, np.sqrt(np.take_along_axis(squared, order, axis=1)), counted


class Cost:
    """The cost of sets of neurons on one sample; the formula stands in `diffeo.suggest_neurons`."""

    def __init__(self, sample: Sample) -> None:
        self.sample = sample
        self.dim = int(sample.gradients.shape[1])
        self._own = sample.gradients[sample.anchors]
        self._squares = (self._own**2).sum(axis=1)
        # Of bursts that do not move a neuron rounding is left, which is no stretch.
        stretched = self._squares > np.finfo(float).eps ** 2 * self._squares.max()
        self._ridge = RIDGE * float(np.median(self._squares[stretched]))
        self._variances = (sample.points**2).sum(axis=0)
        self._constant = self._variances <= CONSTANT**2 * np.median(self._variances[self._variances > 0.0])
        self._barred = np.where(sample.far, 0.0, np.inf)
        self._twins: dict[int, NDArray[np.bool_]] = {}

    def excluded(self, chosen: list[int]) -> NDArray[np.bool_]:
        """Neurons that add nothing, (m,): constant ones, members, and members up to scale and offset."""
        excluded: NDArray[np.bool_] = self._constant.copy()
        for k in chosen:
            if k not in self._twins:
                products = self.sample.points[:, k] @ self.sample.points
                self._twins[k] = products**2 >= (1.0 - SAME) * self._variances * self._variances[k]
            excluded |= self._twins[k]
        return excluded

    def stretches(self, chosen: list[int]) -> FloatArray:
        """Singular values of the set's Jacobian at all samples, descending, (n, min(k, d))."""
        values = np.linalg.svd(self.sample.gradients[:, :, chosen], compute_uv=False)
        return values.astype(np.float64, copy=False)

    def turning(self, chosen: list[int]) -> FloatArray:
        """Squared turning at each anchor, (a,)."""
        own = self._own[:, :, chosen]
        squares = np.maximum(np.linalg.eigvalsh(own @ own.transpose(0, 2, 1)), 0.0)
        missing = max(0, self.dim - len(chosen))
        trace: FloatArray = (1.0 / (squares[:, missing:] + self._ridge)).sum(axis=1)
        squared: FloatArray = trace * self.sample.bends[:, chosen].sum(axis=1)
        return squared

    def nearest_far(self, chosen: list[int], count: int = 1) -> tuple[IntArray, FloatArray]:
        """The `count` samples far from each anchor whose measurements come nearest to its own, (a, count), in no order.

        With them the squared distances of the measurements; infinite for samples that are not far.
        """
        sample = self.sample
        points = sample.points[:, chosen]
        # Points are centred: norms and products lose some 1e-16 of a squared spread, far below a squared spacing.
        # One product for |x|^2 - 2 x.y + |y|^2, in blocks that the processor's cache holds.
        norms, ones = (points**2).sum(axis=1)[:, None], np.ones((len(points), 1))
        there = np.ascontiguousarray(np.concatenate([points, norms, ones], axis=1).T)
        here = np.concatenate([-2.0 * points, ones, norms], axis=1)[sample.anchors]
        count = min(count, len(points))
        nearest = np.empty((len(here), count), dtype=np.int64)
        squared = np.empty((len(here), count))
        for block in _blocks(len(here), ANCHORS):
            apart = here[block] @ there
            apart += self._barred[block]
            if count == 1:
                nearest[block] = apart.argmin(axis=1)[:, None]
            else:
                nearest[block] = np.argpartition(apart, count - 1, axis=1)[:, :count]
            squared[block] = np.take_along_axis(apart, nearest[block], axis=1)
        return nearest, np.maximum(squared, 0.0)

    def spans(self, chosen: list[int]) -> FloatArray:
        """Squared length of one spacing in the measurements, mean over directions, (a,)."""
        squared: FloatArray = self._squares[:, chosen].sum(axis=1) / self.dim * self.sample.spacing**2
        return squared

    def of(self, chosen: list[int]) -> float:
        """The cost of a set, on all samples; of fewer than d neurons only the turning counts."""
        turning = self.turning(chosen)[:, None]
        if len(chosen) < self.dim:
            return float(_combined(turning, np.zeros_like(turning))[0])
        crowding = _crowding(self.spans(chosen), self.nearest_far(chosen)[1][:, 0])
        return float(_combined(turning, crowding[:, None])[0])

    def with_each(self, chosen: list[int]) -> FloatArray:
        """The cost of the set with each neuron of the layer added, (m,); infinite where it adds nothing.

        Far samples count only as far as they are the nearest ones of the set without the neuron.
        """
        sample, d = self.sample, self.dim
        members = self._own[:, :, chosen]
        inverse = np.linalg.inv(members @ members.transpose(0, 2, 1) + self._ridge * np.eye(d))
        # Directions that the set does not span even with one more, each 1 / ridge, are not counted.
        trace = np.trace(inverse, axis1=1, axis2=2)[:, None] - max(0, d - len(chosen) - 1) / self._ridge
        bends = sample.bends[:, chosen].sum(axis=1)[:, None]
        spans = self.spans(chosen)[:, None]
        separates = len(chosen) + 1 >= d
        if separates:
            rivals, gaps = self.nearest_far(chosen, N_RIVALS)
        costs = np.empty(sample.points.shape[1])
        for block in _blocks(len(costs), CANDIDATES):
            rows = self._own[:, :, block]
            # Sherman and Morrison: the trace of the inverse after adding one row.
            turned = inverse @ rows
            gain = (turned**2).sum(axis=1) / (1.0 + (turned * rows).sum(axis=1))
            turning = np.maximum(trace - gain, 0.0) * (bends + sample.bends[:, block])
            crowding = np.zeros_like(turning)
            if separates:
                y = np.ascontiguousarray(sample.points[:, block])
                at_anchors, nearest = y[sample.anchors], np.full_like(turning, np.inf)
                for k in range(rivals.shape[1]):
                    apart = y[rivals[:, k]]
                    apart -= at_anchors
                    apart *= apart
                    apart += gaps[:, k, None]
                    np.minimum(nearest, apart, out=nearest)
                added = self._squares[:, block] / d * sample.spacing[:, None] ** 2
                crowding = _crowding(spans + added, nearest)
            costs[block] = _combined(turning, crowding)
        costs[self.excluded(chosen)] = np.inf
        return costs


def _crowding(spans: FloatArray, nearest: FloatArray) -> FloatArray:
    """Squared: a spacing over twice the distance of the nearest far measurement."""
    crowding: FloatArray = spans / (4.0 * np.maximum(nearest, RIDGE**2 * spans + np.finfo(float).tiny))
    return crowding


def _combined(turning: FloatArray, crowding: FloatArray) -> FloatArray:
    """Mean of eighth powers over the anchors, from squares (a, count), and its root (count,): a smooth maximum."""
    # Squares of squares: a power with an exponent takes ten times as long.
    combined: FloatArray = (np.square(np.square(turning)) + np.square(np.square(crowding))).mean(axis=0) ** 0.125
    return combined


def _blocks(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, min(count, start + size))


def sufficient_samples(observation: Observation) -> tuple[float, IntArray] | None:
    """How many even samples would resolve the curvature of the measurements, and the rows where they bend most sharply.

    None where those that there are do.
    The change of the Jacobian between neighbours is proportional to their distance, which is that to n^(-1/d).
    """
    rng = np.random.default_rng(0)
    rows = observation.usable
    if len(rows) <= 4 * N_NEIGHBORS:
        return None
    n_all, d = len(rows), observation.dim
    if n_all > MAX_SAMPLES:
        rows = np.sort(rng.choice(rows, MAX_SAMPLES, replace=False))
    cost = Cost(look(observation, rows, (len(rows) / n_all) ** (1.0 / d), rng))
    turning = np.sqrt(cost.turning(list(range(observation.points.shape[1]))))
    sharpest = float(turning.max())
    if not np.isfinite(sharpest) or sharpest <= LIMIT_TURNING:
        return None
    worst = np.argsort(-turning, kind="stable")[: max(1, int((turning > LIMIT_TURNING).sum()))]
    return float(f"{n_all * (sharpest / LIMIT_TURNING) ** d:.1g}"), rows[cost.sample.anchors[worst]]


def or_samples(observation: Observation) -> str:
    """End of an advice: ", or samples", how many where the curvature of the measurements says so, where, and by which call."""
    needed = sufficient_samples(observation)
    if needed is None:
        return f", or samples: {SUGGESTED}"
    enough, rows = needed
    if enough > TOO_MANY:
        return f", or samples around {rows_text(rows)}: {SUGGESTED} (even ones would not do: too many)"
    return (
        f", or samples: about {enough:,.0f} even ones would do, or far fewer around {rows_text(rows)}, where the measurements "
        f"bend most: {SUGGESTED}"
    )
