"""Networks of the family demo, and what came of comparing them in all pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.observation.observation import Observation

# Two networks are of one class below this error, both ways.
MARGIN = 0.05


@dataclass(frozen=True)
class Member:
    """A trained network: whether its task folds the input, what it is, and its held-out relative error at the task."""

    folds: bool
    name: str
    network: Any
    error: float


@dataclass(frozen=True)
class Seen:
    """What is observed of a network, at inputs of its own, and at the common ones."""

    observation: Observation
    landmarks: FloatArray
    held_out: FloatArray


@dataclass(frozen=True)
class Judged:
    """One pair (i, j): verdict, errors from i to j and back, and distance of the spectra (NaN where not screened)."""

    i: int
    j: int
    verdict: str
    forward: float
    backward: float
    distance: float


@dataclass(frozen=True)
class Compared:
    """All pairs at one layer. Verdicts and distances are symmetric; errors[i, j] is that from i to j."""

    errors: FloatArray
    verdicts: dict[tuple[int, int], str]
    distances: FloatArray

    @property
    def worse(self) -> FloatArray:
        """The worse error of both directions (n, n)."""
        worse: FloatArray = np.maximum(self.errors, self.errors.T)
        return worse

    @property
    def tree(self) -> FloatArray:
        """Complete linkage by the worse error: whatever is joined below the margin is within it pair by pair."""
        found: FloatArray = linkage(squareform(self.worse, checks=False), method="complete", optimal_ordering=True)
        return found

    @property
    def classes(self) -> IntArray:
        """Number of the class of each network (n,): branches of the tree, cut at the margin."""
        found: IntArray = fcluster(self.tree, MARGIN, criterion="distance").astype(np.int64)
        return found
