"""The intrinsic dimension that singular values show, and the samples that fall short of it."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.observation.noise import rounding

# A singular value below this share of the largest counts as zero: Jacobians are exact up to rounding.
JACOBIAN_FLOOR = 1e-6
# The same for Jacobians that came in single precision.
SINGLE_FLOOR = 1e-5
# Square roots of eigenvalues: a covariance in double precision resolves ratios of singular values to 1e-8.
COVARIANCE_FLOOR = 1e-6
# The same in single precision: 3.5e-4 is the root of its unit.
SINGLE_COVARIANCE_FLOOR = 1e-3
# Bursts: curvature shows as singular values of a second order, a few percent of the first at sensible scales.
BURST_FLOOR = 0.02
# Singular values of bursts below this many standard deviations of the rounding are not resolved: the largest eigenvalue
# of pure noise is (1 + sqrt(m/K))^2 times its variance, below 4 as long as a burst has no fewer members than neurons.
ROUNDING_MARGIN = 3.0
# Local least squares on neighbours: the same, from the curvature across a neighbourhood.
NEIGHBOR_FLOOR = 0.02
# At most this share of the samples may be rank-deficient; they are listed and left out of the graph.
MAX_DEFICIENT = 0.01
# Where no dimension is given, a rank is taken that all but this share of the samples have, and these are left out.
MOST_LEFT_OUT = 0.1
# A rank that all but this share of the samples have is worth a word where another is taken.
PART = 0.5
# Singular values that fall by this factor within the rank leave directions of which lengths say little.
LARGE_GAP = 50.0
# Rounding that is more than this many times the bursts is told like this.
MOST_LOST = 1e9


def _scales(values: FloatArray) -> FloatArray:
    """Per sample: its largest singular value, or the median of those where its own nearly vanishes."""
    largest = values[:, 0]
    return np.maximum(largest, np.median(largest))


def burst_floor(points: FloatArray, bursts: FloatArray, precision: str) -> float:
    """Share of the first singular value below which curvature or rounding explains the others."""
    spread = float(np.median(np.sqrt(bursts.var(axis=1).sum(axis=1))))
    lost = ROUNDING_MARGIN * float(np.linalg.norm(rounding(points, precision)))
    # Beyond 1 nothing is seen of any direction, whatever the numbers.
    return max(BURST_FLOOR, lost / spread if lost < spread * MOST_LOST else MOST_LOST)


def deficient_samples(values: FloatArray, dim: int, floor: float) -> IntArray:
    """Samples whose d-th singular value is not above the floor times their scale."""
    scales = _scales(values)
    if not scales.max() > 0:
        raise errors.RankError("all local covariances are zero: the measurements do not depend on the inputs")
    return np.flatnonzero(~(values[:, dim - 1] > floor * scales))


def rank_by_floor(values: FloatArray, limit: int, floor: float) -> int:
    """Largest d whose singular value is above the floor on 99 % of the samples."""
    share = (values[:, :limit] > floor * _scales(values)[:, None]).mean(axis=0)
    enough = np.flatnonzero(share >= 1.0 - MAX_DEFICIENT)
    if len(enough) == 0:
        raise errors.RankError(
            f"the largest singular value is below {floor:g} of its median on {100 * (1 - share[0]):.0f} % of the samples: "
            "the measurements barely depend on the inputs"
        )
    return int(enough[-1]) + 1


def ranks_in_part(values: FloatArray, limit: int, floor: float, dim: int) -> tuple[int, IntArray] | None:
    """A rank above `dim` that most samples have, and the rows of those that have not; None where there is none."""
    for rank in range(limit, dim, -1):
        short = ~(values[:, rank - 1] > floor * _scales(values))
        if short.mean() <= PART:
            return rank, np.flatnonzero(short)
    return None


def gap_after(values: FloatArray, dim: int) -> tuple[int, float] | None:
    """The rank below `dim` after which the median singular values fall most, and by which factor, if that is large."""
    median = np.median(values[:, :dim], axis=0)
    falls = median[:-1] / np.maximum(median[1:], np.finfo(float).tiny)
    if not len(falls) or falls.max() < LARGE_GAP:
        return None
    return int(falls.argmax()) + 1, float(falls.max())


def rank_by_gap(values: FloatArray, limit: int, floor: float) -> int:
    """Rank after which the median singular value falls most, the floor standing in below the last."""
    if not values.max() > 0:
        raise errors.RankError("all local covariances are zero: the measurements do not depend on the inputs")
    scales = np.maximum(_scales(values), np.finfo(float).tiny)
    median = np.median(values[:, : limit + 1] / scales[:, None], axis=0)
    levels = np.append(np.maximum(median[:limit], 1e-12), floor)
    if len(median) > limit:
        levels[-1] = max(median[limit], 1e-12)
    drops = np.log(levels[:-1] / levels[1:])
    drops[levels[:-1] < floor] = -np.inf
    return int(np.argmax(drops)) + 1
