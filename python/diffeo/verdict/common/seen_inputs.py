"""Distances of common inputs as one observation tells them, by its local metric: made once for all that it is compared with."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.observation.observation import Observation
from diffeo.observation.rank import COVARIANCE_FLOOR, JACOBIAN_FLOOR, SINGLE_COVARIANCE_FLOOR, SINGLE_FLOOR

# Most common inputs that are compared with one another.
MOST_PAIRS = 500
# Displacements that lie across the manifold by more than half of their square, or whose lengths by the metrics of both ends
# differ by more than a factor 2, tell no distance (the gates of the kernel).
MOST_ACROSS, MOST_UNEQUAL = 0.5, 4.0
# Steps between points that are looked at at a time: they stay in the cache.
ENTRIES = 1 << 15
# Samples from which noise across the manifold is estimated, and their neighbours of which the one next along it is taken.
NOISE_SAMPLES, NOISE_NEIGHBORS = 300, 64
# Singular values below these shares of the largest are rounding, in double and in single precision.
FLOORS = {"jacobians": (JACOBIAN_FLOOR, SINGLE_FLOOR), "covariances": (COVARIANCE_FLOOR, SINGLE_COVARIANCE_FLOOR)}


def floor_of(observation: Observation) -> float:
    """Share of the largest singular value below which derivatives are rounding."""
    return FLOORS[observation.source][observation.precision == "single"]


class LocalMetric:
    """Local metric of an observation at points (P, m): that of the nearest sample; and its noise.

    Measurements are in units of the largest deviation of the points, so that no square overflows or vanishes.
    """

    def __init__(self, observation: Observation, points: FloatArray) -> None:
        rows = observation.usable
        at = rows[PointTree(observation.points[rows]).query(points, workers=workers())[1]]
        deviation = points - points.mean(axis=0)
        unit = float(np.abs(deviation).max()) or 1.0
        self.points = deviation / unit
        self.whitening = observation.whitening[at] * unit
        self.tangents = _unit_columns(self.whitening)
        self.steepest = observation.singular_values[at, 0] / unit
        # The largest stretch that was not counted as a dimension, where derivatives tell it from rounding.
        self.weak = np.zeros(len(at))
        d = observation.dim
        if observation.source in FLOORS and observation.singular_values.shape[1] > d:
            weak = observation.singular_values[at, d] / unit
            self.weak = np.where(weak > floor_of(observation) * self.steepest, weak, 0.0)
        # Of charts, whose points have none, an observation knows it.
        self.noise = max(_noise(observation, unit), observation.noise / unit)

    @property
    def lengths(self) -> FloatArray:
        """Distances of the inputs, as `_lengths` says."""
        return self._distances[0]

    @property
    def far(self) -> FloatArray:
        """Distances of the inputs, as `_far` says."""
        return self._distances[1]

    @cached_property
    def gaps(self) -> FloatArray:
        """Squared distances of the points."""
        return squared_distances(self.points)

    @cached_property
    def _distances(self) -> tuple[FloatArray, FloatArray]:
        one_sided = _seen_from(self.whitening, self.points)
        return _lengths(self, one_sided), _far(self, one_sided)

    def complete(self) -> None:
        """Compute all of these now, before threads that share them ask."""
        _ = self.lengths, self.far, self.gaps


class Seen:
    """What an observation tells of its measurements (P, m) at common inputs: of 500 of them at most, evenly spaced.

    Made once, it serves for every side that the observation is compared with.
    """

    def __init__(self, observation: Observation, points: FloatArray) -> None:
        self.observation, self.points = observation, points
        count = len(points)
        self.rows = np.unique(np.linspace(0, count - 1, min(count, MOST_PAIRS)).astype(np.int64))
        self.metric = LocalMetric(observation, points[self.rows])

    @property
    def known_unit(self) -> bool:
        """Whether lengths are in units of the input."""
        return self.observation.known_unit


def _unit_columns(whitening: FloatArray) -> FloatArray:
    """Orthonormal tangents (k, m, d) of whitenings."""
    lengths = np.linalg.norm(whitening, axis=1, keepdims=True)
    tangents: FloatArray = whitening / np.maximum(lengths, np.finfo(float).tiny)
    return tangents


def squared_distances(points: FloatArray) -> FloatArray:
    """Of all rows to one another, (P, P)."""
    centred = points - points.mean(axis=0)
    squares = np.einsum("im,im->i", centred, centred)
    # By einsum rather than BLAS, whose sums may depend on its threads.
    found: FloatArray = np.maximum(squares[:, None] + squares - 2.0 * np.einsum("im,jm->ij", centred, centred), 0.0)
    return found


def _seen_from(frames: FloatArray, points: FloatArray) -> FloatArray:
    """Squared lengths (P, P) of the steps from each point to all others, in each point's frame (P, m, d)."""
    count, m = points.shape
    columns, found = np.ascontiguousarray(frames.transpose(2, 0, 1)), np.zeros((count, count))
    batch = max(1, ENTRIES // (count * m))
    for start in range(0, count, batch):
        part = slice(start, start + batch)
        steps = points - points[part, None]
        for column in columns:
            # By einsum rather than BLAS, whose sums may depend on its threads.
            found[part] += np.einsum("ijm,im->ij", steps, column[part]) ** 2
    return found


def _lengths(metric: LocalMetric, one_sided: FloatArray) -> FloatArray:
    """Distances (P, P) of inputs as the observation tells them; infinite where points are too far from each other for that.

    `one_sided` are squared ones, by the metric of the first. What lies across the manifold tells the noise, or a direction too
    weak to be counted; as much may hide within it.
    """
    m, d = metric.whitening.shape[1:]
    along = _seen_from(metric.tangents, metric.points)
    squares = np.maximum(metric.gaps, along)
    across = squares - along
    hidden = np.zeros_like(across)
    if m > d:
        noise = np.maximum(across / (m - d), 2.0 * metric.noise**2)
        hidden = noise * (metric.whitening**2).sum(axis=(1, 2))[:, None]
        weak = metric.weak > 0.0
        hidden[weak] = np.maximum(hidden[weak], across[weak] / metric.weak[weak, None] ** 2)
    lengths = one_sided + hidden
    gated = across <= MOST_ACROSS * squares
    least, most = np.minimum(one_sided, one_sided.T), np.maximum(one_sided, one_sided.T)
    gated &= gated.T & (most <= MOST_UNEQUAL * least)
    found: FloatArray = np.sqrt(np.where(gated, 0.5 * (lengths + lengths.T), np.inf))
    np.fill_diagonal(found, np.inf)
    return found


def _far(metric: LocalMetric, one_sided: FloatArray) -> FloatArray:
    """Distances (P, P) of inputs that the observation shows at least, by the metrics of both ends."""
    by_stretch = metric.gaps / np.maximum(metric.steepest[:, None], metric.steepest) ** 2
    found: FloatArray = np.sqrt(np.maximum(by_stretch, np.minimum(one_sided, one_sided.T)))
    return found


def _noise(observation: Observation, unit: float) -> float:
    """Standard deviation, in this unit, of a measurement across the manifold, between samples next to each other along it."""
    m, d, rows = observation.points.shape[1], observation.dim, observation.usable
    if m <= d or len(rows) < 2:
        return 0.0
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), NOISE_SAMPLES)).astype(np.int64))]
    k = min(len(rows), 1 + NOISE_NEIGHBORS)
    near = PointTree(observation.points[rows]).query(observation.points[some], k, workers=workers())[1][:, 1:]
    frames, across = observation.whitening[some], np.empty(len(some))
    for i, (row, beside) in enumerate(zip(some, near, strict=True)):
        step = (observation.points[rows[beside]] - observation.points[row]) / unit
        first = (np.einsum("km,md->kd", step, frames[i] * unit) ** 2).sum(axis=1).argmin()
        tangents = _unit_columns(frames[i : i + 1])[0]
        along = np.einsum("m,md->d", step[first], tangents)
        across[i] = (step[first] ** 2).sum() - (along**2).sum()
    return float(np.sqrt(0.5 * max(float(np.median(across)), 0.0) / (m - d)))
