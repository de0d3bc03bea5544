"""The choice of the kernel's bandwidth epsilon from its row sums, and the curve of what was tried."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import percent
from diffeo.observation.observation import Observation

# Median row sum of the kernel that epsilon="auto" aims at: about 180 entries a row for d = 2. Smaller leaves more sampling
# noise, larger more of the border and of the shape of the eigenfunctions. On lines neighbours are cheap ...
TARGET_ROW_SUM = 20.0
TARGET_ON_LINES = 40.0
# ... and a grid has no sampling noise: what is left to be small is the bandwidth.
TARGET_ON_GRIDS = {1: 5.0, 2: 8.0}
# Small samples on lines cannot afford wide kernels: share of the samples that the row sum may be, and its least.
SHARE_ON_LINES, LEAST_ON_LINES = 0.03, 6.0
# For large samples cost weighs more: the target falls to this ...
SMALL_ROW_SUM = 10.0
# ... from this many samples on, reaching it at five times as many.
LARGE_SAMPLE = 200_000
# Where density varies, row sums in the sparsest tenth of the domain are to have this share of the target; for that their
# median over the samples may become so many times the target.
SPARSE_SHARE, SPARSE_TENTH, MOST_WIDENED = 0.5, 0.1, 5.0
# Samples on a grid or evenly spread: below this share of what independent ones add to their own row sums.
GRID_SHARE = 0.25
# From so many dimensions on, or where a row holds such a share of the samples, no bandwidth is small beside the domain.
MANY_DIMENSIONS, LARGE_ROW_SHARE = 6, 1.0 / 3.0
# Rows are widened for sparse regions up to this part of that share.
MOST_OF_LARGE = 0.8
# Fewer samples are never said not to fit: any row holds many of them.
FEW_SAMPLES = 200
# Rows that are asked how many dimensions they see, and the share of 2 epsilon that makes a direction one.
DIMENSION_ROWS, DIMENSION_SHARE = 64, 0.25
# Where the gates drop more than this share of the pairs, the bandwidth shrinks for the sake of curvature, down to
# the row sum above.
GATED_SHARE_FOR_AUTO = 0.03
# Where so many pairs fail the gates at any bandwidth, these are why none joins the samples.
GATED_ALMOST_ALL = 0.5
# Rows from which the median row sum is estimated: its standard error is then some 3 % of the spread. They are chosen by
# their measurements, so that the order of the samples does not matter.
PROBE_ROWS = 512
# Bandwidths tried before the search gives up: each doubles or halves the last.
MAX_TRIALS = 100
# Logarithms of bandwidths beyond which these are no doubles.
WIDEST = 700.0
# Samples among which the first guess of epsilon looks for neighbours.
GUESS_SAMPLE = 20_000


@dataclass(frozen=True, eq=False)
class EpsilonCurve:
    """What was tried on the way to epsilon; every array has one entry a trial, ascending in epsilon.

    Attributes
    ----------
    epsilon : ndarray
        Bandwidths (squared input units).
    row_sum : ndarray
        Median row sum of the kernel, diagonal included.
    entries : ndarray
        Mean number of entries a row.
    gated_share : ndarray
        Share of the pairs within the radius that the gates drop.
    dimension : ndarray
        2 d log(row_sum) / d log(epsilon), the dimension that the kernel sees at this bandwidth.
    target : float
        The row sum aimed at.
    """

    epsilon: FloatArray
    row_sum: FloatArray
    entries: FloatArray
    gated_share: FloatArray
    dimension: FloatArray
    target: float


def target_row_sum(n: int, dim: int, grid: bool = False) -> float:
    """Row sum that epsilon="auto" aims at for n samples of so many dimensions, drawn independently or on a grid."""
    small = 2.0 + 0.5 * np.sqrt(n)
    if dim == 1:
        small = max(min(LEAST_ON_LINES, small), SHARE_ON_LINES * n)
    usual = TARGET_ON_LINES if dim == 1 else TARGET_ROW_SUM
    fall = np.log(SMALL_ROW_SUM / usual) / np.log(5.0)
    large = max(SMALL_ROW_SUM, usual * max(1.0, n / LARGE_SAMPLE) ** fall)
    return float(min(small, large, TARGET_ON_GRIDS.get(dim, np.inf) if grid else np.inf))


def own_share(half: FloatArray, quarter: FloatArray, dim: int) -> float:
    """What samples add to their own row sums beyond what the density does: 1 if they are independent, 0 on a grid.

    From the row sums at half of a bandwidth and at a quarter of it, which but for that share fall by 2^(-dim/2).
    """
    fall = 2.0 ** (-0.5 * dim)
    return float(np.clip(np.median(quarter - fall * half) / (1.0 - fall), 0.0, 1.0))


def seen_dimension(neighbors: list[tuple[FloatArray, FloatArray]], epsilon: float) -> int:
    """Directions in which most rows see neighbours as far as the kernel reaches, at least 1.

    `neighbors` has of some rows the steps (e, m) to each neighbour, and their weights (e,).
    """
    seen = []
    for steps, weights in neighbors:
        weights = weights / weights.sum()
        centred = np.sqrt(weights)[:, None] * (steps - weights @ steps)
        seen.append(int((np.linalg.svd(centred, compute_uv=False) ** 2 > 2.0 * DIMENSION_SHARE * epsilon).sum()))
    return max(1, int(np.median(seen)))


class _Search:
    """Row sums of the kernel at the bandwidths tried so far, by its median row."""

    def __init__(self, tree: core.MetricTree, points: FloatArray, chosen: IntArray, truncation: float, n_threads: int):
        self.tree, self.points, self.truncation, self.n_threads = tree, points, truncation, n_threads
        self.probes = np.sort(tree.position[chosen[:PROBE_ROWS]]).astype(np.int32)
        self.trials: dict[float, tuple[float, float, float]] = {}
        self.sums: dict[float, FloatArray] = {}

    def row_sum(self, log_epsilon: float) -> float:
        if not abs(log_epsilon) < WIDEST:
            raise errors.InputError(
                "no bandwidth separates or joins the samples: squared distances overflow or vanish in double precision; "
                "rescale the measurements or their covariances"
            )
        epsilon = float(np.exp(log_epsilon))
        if epsilon not in self.trials:
            sums, entries, gated = self.tree.row_statistics(epsilon, self.truncation, self.probes, self.n_threads)
            share = gated.sum() / max(1, gated.sum() + (entries - 1).sum())
            self.trials[epsilon] = (float(np.median(sums)), float(entries.mean()), float(share))
            self.sums[epsilon] = sums
        return self.trials[epsilon][0]

    def find(self, log_epsilon: float, target: float) -> float:
        """Logarithm of the bandwidth with this median row sum."""
        row_sum, limit = self.row_sum, len(self.trials) + MAX_TRIALS
        low = high = log_epsilon
        while row_sum(low) >= target:
            low -= np.log(2.0)
            if len(self.trials) > limit or low < np.log(np.finfo(float).tiny) + 10:
                raise errors.InputError("more than half of the samples coincide: no bandwidth separates them")
        while row_sum(high) < target:
            # A kernel that stops growing has met the gates everywhere (or holds all samples): wider only costs more.
            if row_sum(high) > 1.5 and row_sum(high + np.log(2.0)) < 1.02 * row_sum(high):
                break
            high += np.log(2.0)
            if len(self.trials) > limit:
                raise errors.InputError(_joined_by_none(self.trials[max(self.trials)]))
        low = max(low, high - np.log(2.0)) if row_sum(high - np.log(2.0)) < target else low
        for _ in range(12):
            if row_sum(high) < target or abs(row_sum(high) / target - 1.0) < 0.005:
                break
            # The curve is nearly a power law; aiming a little above the target, the upper end is soon close enough.
            below, above = np.log(row_sum(low) / target), np.log(row_sum(high) / target)
            share = (0.0025 - below) / (above - below)
            middle = low + min(max(share, 0.02), 0.98) * (high - low)
            if row_sum(middle) < target:
                low = middle
            else:
                high = middle
        return float(high)

    def at(self, log_epsilon: float) -> FloatArray:
        """Row sums of the probes."""
        self.row_sum(log_epsilon)
        return self.sums[float(np.exp(log_epsilon))]

    def dimension(self, chosen: IntArray, log_epsilon: float) -> int:
        """Of plain points: directions in which they have neighbours."""
        if self.points.shape[1] == 1:
            return 1
        rows, epsilon = chosen[:DIMENSION_ROWS], float(np.exp(log_epsilon))
        indptr, columns, values = self.tree.cross(
            epsilon, self.truncation, np.ascontiguousarray(self.points[rows]), None, self.n_threads
        )
        near = [(self.points[columns[a:b]], values[a:b]) for a, b in pairwise(indptr)]
        return seen_dimension(near, epsilon)


def choose_epsilon(
    tree: core.MetricTree, observation: Observation | FloatArray, truncation: float, n_threads: int
) -> tuple[float, EpsilonCurve, int]:
    """Find the bandwidth whose median row sum meets the target, keep all that was tried, and say how many dimensions it sees.

    The target is first that of independent samples; then row sums at the half and the quarter of the bandwidth tell those on
    a grid, and those of the rows in sparse regions whether the kernel is to be wider.
    """
    n = tree.size
    known = isinstance(observation, Observation)
    usable = observation.usable if isinstance(observation, Observation) else np.arange(n)
    points = observation.points[usable] if isinstance(observation, Observation) else observation
    chosen = _by_measurements(points)
    search = _Search(tree, points, chosen, truncation, n_threads)
    guess = np.log(_guess_epsilon(observation, usable, chosen))
    dim = observation.dim if isinstance(observation, Observation) else min(2, points.shape[1])
    target = target_row_sum(n, dim)
    high = search.find(guess, target)
    if not known:
        dim = search.dimension(chosen, high)
    half, quarter = search.at(high - np.log(2.0)), search.at(high - np.log(4.0))
    grid = own_share(half, quarter, dim) < GRID_SHARE
    wanted = target_row_sum(n, dim, grid)
    if wanted != target:
        target, high = wanted, search.find(high, wanted)
    # Twice, since in sparse regions the sample itself is a part of its row sum, which does not grow.
    for _ in range(0 if grid or n <= FEW_SAMPLES else 2):
        missing = SPARSE_SHARE * wanted / _in_sparse_tenth(search.at(high))
        # Not so far that no bandwidth would be small beside the domain.
        missing = min(missing, MOST_OF_LARGE * LARGE_ROW_SHARE * n / search.trials[float(np.exp(high))][1])
        if missing > 1.0 and target < MOST_WIDENED * wanted:
            target = min(MOST_WIDENED * wanted, target * missing)
            high = search.find(high, target)
    # Large kernels cut corners where the measurements bend, which the gates show; smaller ones do so less.
    while search.trials[float(np.exp(high))][2] > GATED_SHARE_FOR_AUTO and search.row_sum(high - 0.2) >= min(
        target, SMALL_ROW_SUM
    ):
        high -= 0.2
    return float(np.exp(high)), _curve(search.trials, target), dim


def _in_sparse_tenth(sums: FloatArray) -> float:
    """Row sum below which a tenth of the domain lies: each sample stands for a part of it that is as large as 1 / row sum."""
    ascending = np.sort(sums)
    covered = np.cumsum(1.0 / ascending)
    return float(ascending[np.searchsorted(covered, SPARSE_TENTH * covered[-1])])


def what_does_not_fit(n: int, dim: int, entries: float) -> str:
    """Why no bandwidth is small beside the domain; empty where one is."""
    if n < FEW_SAMPLES:
        return ""
    if dim >= MANY_DIMENSIONS:
        return f"{n} samples are few in {dim} dimensions"
    if entries > LARGE_ROW_SHARE * n:
        return f"a row of the kernel holds {percent(entries / n)} of the {n} samples"
    return ""


def _by_measurements(points: FloatArray) -> IntArray:
    """All rows in an order that looks random but follows from their measurements alone, whatever their own order."""
    bits = np.ascontiguousarray(points + 0.0).view(np.uint64)
    mixed = np.zeros(len(points), dtype=np.uint64)
    for column in bits.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.argsort(mixed ^ (mixed >> np.uint64(32)), kind="stable")


def _joined_by_none(widest: tuple[float, float, float]) -> str:
    """Why no bandwidth joins the samples, from what the widest one found."""
    if widest[2] > GATED_ALMOST_ALL:
        return (
            f"no bandwidth joins the samples: {percent(widest[2])} of the near pairs fail the gates, because the tangents of "
            "neighbours do not lie along the steps between them; the metric is noise (a reference that varies in fewer "
            "directions than it has columns, or bursts of few members), or dim is lower than the measurements show"
        )
    return (
        "no bandwidth joins the samples: by their metric none has a neighbour; Jacobians, covariances or the scale of bursts "
        "are in other units than the measurements, or belong to other samples"
    )


def _curve(trials: dict[float, tuple[float, float, float]], target: float) -> EpsilonCurve:
    epsilon = np.array(sorted(trials))
    row_sum, entries, share = np.array([trials[e] for e in epsilon]).T
    dimension = 2.0 * np.gradient(np.log(row_sum), np.log(epsilon)) if len(epsilon) > 1 else np.full(1, np.nan)
    return EpsilonCurve(epsilon, row_sum, entries, share, dimension, target)


def _guess_epsilon(observation: Observation | FloatArray, usable: IntArray, chosen: IntArray) -> float:
    """Rough epsilon from one-sided distances of a few samples to a subsample, both the first of those `chosen`.

    The 20th neighbour among s of n samples lies where about 20 n / s of all samples do; the search corrects the rest.
    """
    points = observation.points if isinstance(observation, Observation) else observation
    subset = points[usable[np.sort(chosen[:GUESS_SAMPLE])]]
    near = min(20, len(subset) - 1)
    found = []
    for i in usable[chosen[:24]]:
        delta = subset - points[i]
        squared = ((delta @ observation.whitening[i] if isinstance(observation, Observation) else delta) ** 2).sum(
            axis=1
        )
        found.append(np.partition(squared, near)[near])
    guess = float(np.median(found)) / 20.0
    return guess if guess > 0.0 else max(float(np.max(found)), np.finfo(float).tiny * 1e30)
