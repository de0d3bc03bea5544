"""No intrinsic coordinates: the chart of an observation that folds its domain or does not embed it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.placed import Outside, Placed
from diffeo.charts.cover import Cover
from diffeo.observation.observation import Observation

# Beyond so many samples and measurements axes are found by a randomised decomposition: a full one takes minutes.
FEW = 400


@dataclass(frozen=True, eq=False)
class MeasuredChart:
    """No intrinsic coordinates: for an observation that has none, because it folds its domain or does not embed it.

    Attributes
    ----------
    observation : Observation
    coordinates : ndarray of shape (n, d)
        Leading principal components of the standardised measurements: to be looked at, no map uses them.
    """

    observation: Observation
    coordinates: FloatArray = field(init=False, repr=False)
    _centre: FloatArray = field(init=False, repr=False)
    _axes: FloatArray = field(init=False, repr=False)
    _cover: Cover = field(init=False, repr=False)

    def __post_init__(self) -> None:
        points = self.observation.points
        centre, spread = points.mean(axis=0), points.std(axis=0)
        units = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 0.0)
        axes = _leading_axes((points - centre) * units, self.observation.dim)
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_axes", units[:, None] * axes)
        object.__setattr__(self, "_cover", Cover(self.observation))
        object.__setattr__(self, "coordinates", self._projected(points))

    def place(self, points: FloatArray, n_threads: int) -> Placed:
        """Principal components (count, d) of measurements (count, m), which are outside where no sample is near them."""
        outside = np.flatnonzero(self._cover.outside(points, n_threads))
        return Placed(self._projected(self._cover.pulled(points)), Outside(len(points), outside))

    def _projected(self, points: FloatArray) -> FloatArray:
        projected: FloatArray = (points - self._centre) @ self._axes
        return projected

    @property
    def left_out(self) -> IntArray:
        """Samples of too low a rank, ascending."""
        return self.observation.deficient

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) with these principal components, and none beside them."""
        return self._centre + coordinates @ np.linalg.pinv(self._axes)

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates: there are no periods."""
        return coordinates

    def features(self, coordinates: FloatArray) -> FloatArray:
        """None of the inputs of a regression, (count, 0): it has the measurements."""
        return np.empty((len(coordinates), 0))


def _leading_axes(standard: FloatArray, count: int) -> FloatArray:
    """Principal axes (m, count) of standardised measurements (n, m)."""
    if min(standard.shape) <= FEW:
        leading: FloatArray = np.linalg.svd(standard, full_matrices=False)[2][:count].T
        return leading
    from sklearn.utils.extmath import randomized_svd

    found: FloatArray = randomized_svd(standard, count, n_iter=4, random_state=0)[2].T
    return found
