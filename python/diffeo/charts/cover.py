"""Which measurements are near to some sample: all that is known of a side without coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray, Reach, reach_of
from diffeo._support.point_tree import PointTree
from diffeo.isometry.hermite import OUTSIDE, nodes_of_a_fit
from diffeo.observation.observation import Observation


@dataclass(frozen=True, eq=False)
class Cover:
    """Samples in units of the spread of each measurement; a measurement that does not vary counts for nothing.

    Attributes
    ----------
    observation : Observation
    """

    observation: Observation
    _units: FloatArray = field(init=False, repr=False)
    _reach: Reach = field(init=False, repr=False)
    _tree: PointTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        points = self.observation.points
        spread = points.std(axis=0)
        units = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 0.0)
        object.__setattr__(self, "_units", units)
        object.__setattr__(self, "_reach", reach_of(points, units))
        object.__setattr__(self, "_tree", PointTree(points * units))

    def pulled(self, points: FloatArray) -> FloatArray:
        """The points (count, m), those so far away that their squares overflow moved nearer along a straight line."""
        return self._reach.pulled(points)

    def outside(self, points: FloatArray, n_threads: int, slack: float = 0.0) -> NDArray[np.bool_]:
        """Which points (count, m) are farther from all samples than a few of their spacings.

        With `slack`, also farther than this share of the spread of all measurements together: for points that are
        predicted, and off by that much for other reasons.
        """
        distance, _, radius = self._nearest(points, n_threads)
        spread = np.sqrt(np.count_nonzero(self._units))
        beyond: NDArray[np.bool_] = distance > np.maximum(OUTSIDE * 0.5 * radius, slack * spread)
        return beyond

    def brought_near(self, points: FloatArray, n_threads: int) -> FloatArray:
        """Points (count, m) that are predicted, none farther from its nearest sample than that one's neighbours are.

        Those that are farther are moved towards that sample: what a side measures lies on its manifold, and so it was missed by
        about as much at least.
        """
        near = self.pulled(points)
        distance, nearest, radius = self._nearest(points, n_threads)
        share = np.where(distance > radius, radius / np.where(distance > 0.0, distance, 1.0), 1.0)[:, None]
        sample = self.observation.points[nearest]
        # Unmoved bit by bit where it is near.
        found: FloatArray = np.where(share < 1.0, sample + share * (near - sample), points)
        return found

    def _nearest(self, points: FloatArray, n_threads: int) -> tuple[FloatArray, IntArray, FloatArray]:
        """Distance of points (count, m) from the nearest sample, its row, and how far its neighbours are that a fit takes."""
        workers, n = n_threads or -1, self._tree.n
        distance, nearest = self._tree.query(self.pulled(points) * self._units, workers=workers)
        near, inverse = np.unique(nearest, return_inverse=True)
        k = min(n, 1 + nodes_of_a_fit(self.observation.dim))
        radius = self._tree.query(self._tree.data[near], k, workers=workers)[0].reshape(len(near), k)[:, -1]
        return distance, nearest, radius[inverse.ravel()]
