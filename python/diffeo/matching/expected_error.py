"""What error a map is expected to have, at every place of the side that it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.measured import MeasuredChart

# Samples around a query whose expected errors are averaged.
AVERAGED = 4
# A query farther from all samples than this many times their local spacing is extrapolated.
COVERED = 1.5
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class ErrorField:
    """Expected error of one direction of a map, at samples of the side that it starts from.

    Between samples, squares are averaged by inverse squared distance. At a distance D beyond the spacing of the samples
    around, a map that is continued by its slope misses what it bends, ``growth * D**2``, and one that stops at the nearest
    sample misses its slope, ``growth * D``.

    Attributes
    ----------
    places : ndarray of shape (k, f)
        Places of some samples: their coordinates, or their measurements in units of their spread where they have none.
    errors : ndarray of shape (k,)
        Root-mean-square errors there, relative to the spread of the side that is mapped to.
    spacing : ndarray of shape (k,)
        Distance within which each has its neighbours among all samples.
    growth : ndarray of shape (k,)
    order : int
        2 where the map is continued by its slope, 1 where it stops.
    """

    places: FloatArray
    errors: FloatArray
    spacing: FloatArray
    growth: FloatArray
    order: int
    _tree: PointTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", PointTree(self.places))

    @property
    def relative(self) -> float:
        """Expected relative error of the whole map: the root of the mean square over the samples."""
        return float(np.sqrt((self.errors**2).mean()))

    def at(self, places: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Expected errors (count,) at places (count, f) among the samples, and what extrapolation adds to each."""
        k = min(AVERAGED, len(self.places))
        distance, near = (x.reshape(len(places), k) for x in self._tree.query(places, k, workers=workers()))
        weights = 1.0 / np.maximum(distance, 1e-3 * np.maximum(distance[:, -1:], TINY)) ** 2
        weights /= weights.sum(axis=1, keepdims=True)
        among = np.sqrt((weights * self.errors[near] ** 2).sum(axis=1))
        nearest = near[:, 0]
        beyond = np.maximum(distance[:, 0] - COVERED * self.spacing[nearest], 0.0)
        return among, self.growth[nearest] * beyond**self.order


@dataclass(frozen=True, eq=False)
class ExpectedError:
    """What a map is expected to be wrong by: forward, and, where there is a way back, backward."""

    forward: ErrorField
    backward: ErrorField | None


def places_of(chart: Coordinates, coordinates: FloatArray, points: FloatArray) -> FloatArray:
    """Where points (count, m) with these coordinates are, as an `ErrorField` of their side has it."""
    if isinstance(chart, MeasuredChart):
        spread = chart.observation.points.std(axis=0)
        scaled: FloatArray = points / np.where(spread > 0.0, spread, np.inf)
        return scaled
    return chart.features(coordinates)


def spread_of(points: FloatArray) -> float:
    """Root-mean-square distance from the mean of points (n, m)."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def bend(places: FloatArray, values: FloatArray, order: int) -> tuple[FloatArray, FloatArray]:
    """Distance (k,) within which each place (k, f) has its neighbours, and how values (k, m) go on from it.

    With order 1 their slope: the root-mean-square difference over the root-mean-square distance. With order 2, what the best
    affine function of the neighbours misses over the square of their distance.
    """
    count, f = places.shape
    k = min(count, 2 * (f + 2))
    distance, near = (x.reshape(count, k) for x in PointTree(places).query(places, k, workers=workers()))
    spacing = distance[:, min(f + 1, k - 1)]
    reach = np.maximum(np.sqrt((distance**2).mean(axis=1)), TINY)
    steps = values[near] - values[:, None, :]
    if order == 1:
        return spacing, np.sqrt((steps**2).sum(axis=2).mean(axis=1)) / reach
    offsets = places[near] - places[:, None, :]
    design = np.concatenate([np.ones((count, k, 1)), offsets / reach[:, None, None]], axis=2)
    missed = steps - design @ (np.linalg.pinv(design) @ steps)
    # Of k values, an affine fit takes up f + 1.
    left = np.maximum(k - f - 1, 1) / k
    return spacing, np.sqrt((missed**2).sum(axis=2).mean(axis=1) / left) / reach**2
