"""Near-folds: samples at which the stretch in some direction nearly vanishes."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.observation.observation import Observation

# A smallest singular value below this share of its median is a near-fold (a steep but monotone function reaches a few
# percent without folding) ...
NEAR_FOLD = 0.01
# ... and so many of the samples in one are a problem: at a fold the stretch vanishes like the distance to it.
NEAR_FOLD_SHARE = 0.001


def nearly_vanishing(smallest: FloatArray) -> IntArray:
    """Positions of smallest stretches (n,) that are below 1 % of their median."""
    return np.flatnonzero(smallest < NEAR_FOLD * np.median(smallest))


def near_folds(observation: Observation) -> IntArray:
    """Samples whose smallest stretch is below 1 % of its median."""
    return nearly_vanishing(observation.singular_values[:, observation.dim - 1])


def many_near_folds(count: int, n_samples: int) -> bool:
    """Whether so many near-folds among the samples are more than steep places."""
    return count > NEAR_FOLD_SHARE * n_samples
