"""How wide bursts of inputs are, by the spacing of the samples, and how many members they take."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.networks.responses import Samples

# Squared relative error of a map, times the samples and K - d - 4, from bursts of 32 and 64 as wide as the spacing, of 1,000
# samples of two convolutional networks with rectifiers: 5.7 and 4.5 %, of which 3.4 are not from noise.
NOISE, NOISE_OF_MARGIN, FEWEST, MOST = 53.0, 0.025, 32, 256
# Samples from which the spacing is told, by so many neighbours of each for a dimension, up to a number of these; and
# random projections that stand for inputs of more coordinates.
TRIALS, NEIGHBORS_A_DIMENSION, MOST_NEIGHBORS, PROJECTIONS = 500, 2, 12, 64


@dataclass(frozen=True)
class Spacing:
    """How far apart samples are: of some `rows` the neighbours (r, k), nearest first, and the median distance of the last."""

    rows: IntArray
    neighbors: IntArray
    distance: float


def spacing_of(samples: Samples, batch_size: int) -> Spacing | None:
    """The spacing of samples: the median distance of one to its (2 d)-th nearest, d the number of directions; None of one.

    On a lattice these are the nearest. None also where most of the inputs are equal to others. Distances of inputs of many
    coordinates are told from random projections.
    """
    p, mix = int(np.prod(samples.inputs.shape[1:])), None
    if p > PROJECTIONS:
        mix = np.random.default_rng(0).standard_normal((p, PROJECTIONS)) / math.sqrt(PROJECTIONS)
    parts = [x.reshape(len(x), -1) for _, x, _ in samples.blocks(batch_size)]
    points: FloatArray = np.concatenate([part if mix is None else part @ mix for part in parts])
    rows = np.unique(np.linspace(0, len(points) - 1, min(len(points), TRIALS)).astype(np.int64))
    k = min(NEIGHBORS_A_DIMENSION * samples.n_directions, MOST_NEIGHBORS, len(points) - 1)
    if k == 0:
        return None
    found, near = PointTree(points).query(points[rows], k + 1, workers=workers())
    distance = float(np.median(found.reshape(len(rows), k + 1)[:, -1]))
    if not distance > 0.0:
        return None
    return Spacing(rows, np.asarray(near, dtype=np.int64).reshape(len(rows), k + 1), distance)


def members(asked: int | str, n: int, directions: int) -> int:
    """How many members a burst of each of n samples has: as `asked`, or, of "auto", enough for the verdict.

    Each length has a relative variance of 1 / (4 (K - d - 4)), and a map averages over those of all n samples: the noise of
    bursts makes it wrong by the root of NOISE / (n (K - d - 4)), which may be half the usual margin of the verdict.
    """
    if asked != "auto":
        return int(asked)
    needed = directions + 4 + math.ceil(NOISE / (n * NOISE_OF_MARGIN**2))
    return min(max(needed, FEWEST), MOST)
