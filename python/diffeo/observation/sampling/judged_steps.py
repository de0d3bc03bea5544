"""Steps between neighbouring inputs, and how far the measurements are from straight along each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.observation.observation import Observation
from diffeo.observation.sampling.gaps import steps_across
from diffeo.reference import GATES

# A step is resolved if its Mahalanobis length is within this of the distance of its inputs (logarithms), ...
LENGTH = 0.25
# ... the tangents at its ends are turned by less than this against each other, ...
TURN = np.deg2rad(20.0)
# ... stretches along the tangents change by less than this factor (logarithms; half of what the gates let pass), ...
STRETCH = 0.5 * np.log(GATES.transport)
# ... and this much of it at most leaves the span of both: both ends of a wall may have parallel tangents. Neighbour graphs
# drop what leaves it by more.
OFF_TANGENT = 0.03
# ... and what its length misses of it, as a share of the spread of all measurements, is at most this: across a cliff, where
# much changes over a short way, that is what maps miss.
MISSED = 0.005
# Directions whose stretch is usually this many times below the largest: what bends along strong ones leaks into these, however
# fine the sample, so that steps are judged by the others.
WEAK = 20.0
# Up to so many times below, inputs that the others do not need are spent on them: lengths are off by the ratio times the square
# of the spacing, so that a sample of two inputs has to be as many times larger as the ratio is.
FAINT = 100.0
# Steps whose tangents are compared at a time.
CHUNK = 1 << 14


@dataclass(frozen=True, eq=False)
class InputSteps:
    """Steps (e,) between neighbouring inputs.

    `i`, `j` are rows of the observation, `distance` that of the inputs, `severity` by how much the worst of length, turn,
    stretch, step off the tangents and miss exceeds what is resolved; `n_strong` directions count for it, and `ratio` is the
    usual one of the strongest to the weakest, the median over the domain. `severity_of_all` counts weak directions, too, if
    these are not too faint: `n_all` directions.
    """

    i: IntArray
    j: IntArray
    distance: FloatArray
    severity: FloatArray
    n_strong: int
    ratio: float
    severity_of_all: FloatArray
    n_all: int

    @property
    def resolved(self) -> NDArray[np.bool_]:
        """Which steps the sample resolves."""
        return self.severity <= 1.0

    @property
    def share(self) -> float:
        """Share of the steps that the sample resolves; 1 where there are none."""
        return float(self.resolved.mean()) if len(self.i) else 1.0

    @property
    def share_of_all(self) -> float:
        """The same by weak directions, too."""
        return float((self.severity_of_all <= 1.0).mean()) if len(self.i) else 1.0


def input_steps(observation: Observation, inputs: FloatArray, n_neighbors: int, n_directions: int) -> InputSteps:
    """Steps from each sample of full rank to its nearest others, by the distance of their inputs (n, p), and across gaps.

    Where the measurements respond to fewer than `n_directions` of the inputs, distances are upper bounds of lengths only.
    """
    rows = observation.usable
    places = inputs[rows]
    i, j = neighbor_pairs(places, n_neighbors)
    points, whitening = (np.ascontiguousarray(x[rows]) for x in (observation.points, observation.whitening))
    ratios = observation.singular_values[rows, :1] / observation.singular_values[rows, : observation.dim]
    usual = _usual(ratios, _shares(i, j, np.linalg.norm(places[j] - places[i], axis=1), observation.dim, len(rows)))
    if places.shape[1] == observation.dim:
        # Of inputs on a set in a larger space, places that none is near are mostly outside of the set.
        across = steps_across(places, n_neighbors)
        i, j = np.divmod(np.union1d(i * len(rows) + j, across[0] * len(rows) + across[1]), len(rows))
    distance = np.linalg.norm(places[j] - places[i], axis=1)
    n_strong, n_all = (int((usual < most).sum()) for most in (WEAK, FAINT))

    def judged(count: int) -> FloatArray:
        return _severity(points, whitening, (i, j), distance, count, n_directions)

    severity = judged(n_strong)
    of_all = severity if n_all == n_strong else judged(n_all)
    return InputSteps(rows[i], rows[j], distance, severity, n_strong, float(usual[-1]), of_all, n_all)


def _severity(
    points: FloatArray,
    whitening: FloatArray,
    ends: tuple[IntArray, IntArray],
    distance: FloatArray,
    count: int,
    n_directions: int,
) -> FloatArray:
    """By how much steps (e,) exceed what is resolved, as the first `count` directions have it."""
    (i, j), dim = ends, whitening.shape[2]
    lengths, off_tangent = core.edge_lengths(points, whitening, i, j, workers())
    if count < dim:
        strong = np.ascontiguousarray(whitening[:, :, :count])
        lengths = core.edge_lengths(points, strong, i, j, workers())[0]
    tiny = np.finfo(float).tiny
    ratio = np.log(np.maximum(lengths, tiny) / np.maximum(distance, tiny))
    # Lengths without the weak directions, or in inputs of which some are discarded, can only be too large.
    one_sided = count < dim or dim < n_directions
    ratio = np.maximum(ratio, 0.0) if one_sided else np.abs(ratio)
    turn, stretch = changes(whitening, count, i, j)
    spread = max(float(np.sqrt(points.var(axis=0).sum())), tiny)
    missed = np.linalg.norm(points[j] - points[i], axis=1) / spread * np.minimum(ratio, 1.0)
    judged = [ratio / LENGTH, turn / TURN, stretch / STRETCH, off_tangent / OFF_TANGENT, missed / MISSED]
    found: FloatArray = np.max(judged, axis=0)
    return found


def neighbor_pairs(inputs: FloatArray, n_neighbors: int) -> tuple[IntArray, IntArray]:
    """Places i < j of inputs (n, p) of which one is among the nearest of the other; equal inputs are no neighbours."""
    n = len(inputs)
    distance, near = PointTree(inputs).query(inputs, min(n_neighbors + 1, n), workers=workers())
    here, there = np.repeat(np.arange(n), near.shape[1]), near.ravel().astype(np.int64)
    apart = distance.ravel() > 0.0
    numbers = np.unique(np.minimum(here, there)[apart] * n + np.maximum(here, there)[apart])
    i, j = np.divmod(numbers, n)
    return i, j


def _shares(i: IntArray, j: IntArray, distance: FloatArray, dim: int, n: int) -> FloatArray:
    """The part of the domain that each sample stands for, (n,), up to a factor: samples need not be uniform."""
    ends = np.concatenate([i, j])
    reach = np.bincount(ends, np.tile(distance, 2), minlength=n) / np.maximum(np.bincount(ends, minlength=n), 1)
    shares: FloatArray = reach**dim
    return shares


def _usual(values: FloatArray, shares: FloatArray) -> FloatArray:
    """Medians over the domain of values (n, d), with the part of it that each sample stands for."""
    if not shares.any():
        return np.ones(values.shape[1])
    order = np.argsort(values, axis=0)
    passed = np.cumsum(shares[order], axis=0) >= 0.5 * shares.sum()
    usual: FloatArray = np.take_along_axis(
        np.take_along_axis(values, order, axis=0), passed.argmax(axis=0)[None], axis=0
    )[0]
    return usual


def changes(whitening: FloatArray, n_strong: int, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
    """By what angle tangents turn along steps, and by what factor (logarithms) stretches change, (e,) each.

    With W = U / Sigma and M = U_j^T U_i, a direction v at i leaves the tangents of j by the angle whose cosine is norm(M v):
    the smallest singular value of M. Stretches change by the singular values of W_i^T J_j, J = U Sigma. Of both the worse
    end counts, and its strong directions only.
    """
    inverse = np.sqrt((whitening**2).sum(axis=1))
    frames = whitening / inverse[:, None, :]
    turn, stretch = np.zeros(len(i)), np.zeros(len(i))
    for begin in range(0, len(i), CHUNK):
        part = slice(begin, begin + CHUNK)
        across = np.matmul(frames[i[part]].transpose(0, 2, 1), frames[j[part]])
        for here, there, both in ((i[part], j[part], across), (j[part], i[part], across.transpose(0, 2, 1))):
            leaving = both[:, :n_strong]
            cosines = np.linalg.eigvalsh(leaving @ leaving.transpose(0, 2, 1))[:, 0]
            turn[part] = np.maximum(turn[part], np.arccos(np.sqrt(np.clip(cosines, 0.0, 1.0))))
            transport = inverse[here, :n_strong, None] * leaving / inverse[there][:, None, :]
            squares = np.linalg.eigvalsh(transport @ transport.transpose(0, 2, 1))[:, [0, -1]]
            logs = 0.5 * np.abs(np.log(np.maximum(squares, np.finfo(float).tiny)))
            stretch[part] = np.maximum(stretch[part], logs.max(axis=1))
    return turn, stretch
