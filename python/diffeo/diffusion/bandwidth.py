"""The choice of the kernel's bandwidth epsilon from its row sums, and the curve of what was tried."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.wording import percent
from diffeo.observation.observation import Observation

# Median row sum of the kernel that epsilon="auto" aims at: about 180 entries a row for d = 2. Smaller costs
# accuracy through the unit diagonal, larger through the boundary.
TARGET_ROW_SUM = 20.0
# For large samples cost weighs more: the target falls to this ...
SMALL_ROW_SUM = 10.0
# ... from this many samples on, reaching it at five times as many.
LARGE_SAMPLE = 200_000
# Where the gates drop more than this share of the pairs, the bandwidth shrinks for the sake of curvature, down to
# the row sum above.
GATED_SHARE_FOR_AUTO = 0.03
# Where so many pairs fail the gates at any bandwidth, these are why none joins the samples.
GATED_ALMOST_ALL = 0.5
# Rows from which the median row sum is estimated: its standard error is then some 3 % of the spread.
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


def target_row_sum(n: int) -> float:
    """Row sum that epsilon="auto" aims at for n samples; small samples cannot afford wide kernels."""
    small = 2.0 + 0.5 * np.sqrt(n)
    fall = np.log(SMALL_ROW_SUM / TARGET_ROW_SUM) / np.log(5.0)
    large = TARGET_ROW_SUM * max(1.0, n / LARGE_SAMPLE) ** fall
    return float(min(small, max(SMALL_ROW_SUM, large)))


def choose_epsilon(
    tree: core.MetricTree, observation: Observation | FloatArray, truncation: float, n_threads: int
) -> tuple[float, EpsilonCurve]:
    """Find the bandwidth whose median row sum meets the target, and keep all that was tried."""
    n = tree.size
    target = target_row_sum(n)
    probes = np.unique(np.linspace(0, n - 1, min(n, PROBE_ROWS)).astype(np.int32))
    trials: dict[float, tuple[float, float, float]] = {}

    def row_sum(log_epsilon: float) -> float:
        if not abs(log_epsilon) < WIDEST:
            raise errors.InputError(
                "no bandwidth separates or joins the samples: squared distances overflow or vanish in double precision; "
                "rescale the measurements or their covariances"
            )
        epsilon = float(np.exp(log_epsilon))
        if epsilon not in trials:
            sums, entries, gated = tree.row_statistics(epsilon, truncation, probes, n_threads)
            share = gated.sum() / max(1, gated.sum() + (entries - 1).sum())
            trials[epsilon] = (float(np.median(sums)), float(entries.mean()), float(share))
        return trials[epsilon][0]

    low = high = np.log(_guess_epsilon(observation, n))
    while row_sum(low) >= target:
        low -= np.log(2.0)
        if len(trials) > MAX_TRIALS or low < np.log(np.finfo(float).tiny) + 10:
            raise errors.InputError("more than half of the samples coincide: no bandwidth separates them")
    while row_sum(high) < target:
        # A kernel that stops growing has met the gates everywhere (or holds all samples): wider only costs more.
        if row_sum(high) > 1.5 and row_sum(high + np.log(2.0)) < 1.02 * row_sum(high):
            break
        high += np.log(2.0)
        if len(trials) > MAX_TRIALS:
            raise errors.InputError(_joined_by_none(trials[max(trials)]))
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
    # Large kernels cut corners where the measurements bend, which the gates show; smaller ones do so less.
    while trials[float(np.exp(high))][2] > GATED_SHARE_FOR_AUTO and row_sum(high - 0.2) >= min(target, SMALL_ROW_SUM):
        high -= 0.2
    return float(np.exp(high)), _curve(trials, target)


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


def _guess_epsilon(observation: Observation | FloatArray, n: int) -> float:
    """Rough epsilon from one-sided distances of a few samples to an evenly spaced subsample.

    The 20th neighbour among s of n samples lies where about 20 n / s of all samples do; the search corrects the rest.
    """
    usable = observation.usable if isinstance(observation, Observation) else np.arange(n)
    points = observation.points if isinstance(observation, Observation) else observation
    subset = points[usable[np.unique(np.linspace(0, n - 1, min(n, GUESS_SAMPLE)).astype(np.int64))]]
    near = min(20, len(subset) - 1)
    found = []
    for i in usable[np.unique(np.linspace(0, n - 1, min(n, 24)).astype(np.int64))]:
        delta = subset - points[i]
        squared = ((delta @ observation.whitening[i] if isinstance(observation, Observation) else delta) ** 2).sum(
            axis=1
        )
        found.append(np.partition(squared, near)[near])
    guess = float(np.median(found)) / 20.0
    return guess if guess > 0.0 else max(float(np.max(found)), np.finfo(float).tiny * 1e30)
