"""What error a map is expected to have, at every place of the side that it starts from: from where its parts send it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart

# Samples of each side at which the maps are compared.
COMPARED = 400
# Samples around a query whose expected errors are averaged.
AVERAGED = 4
# A query farther from all samples than this many times their local spacing is extrapolated.
COVERED = 1.5
TINY = float(np.finfo(float).tiny)
# Samples left out of a chart are most of the error where it is so many times that of the others.
MOSTLY = 1.5
# Neighbours over which squares are averaged: what two halves differ by is one draw of a random error.
SMOOTHED = 16
# Squared stretches are not taken below this share of their mean: where a side hardly moves, errors are not those of places. Nor
# are squared deviations of corrections, which vanish at landmarks.
LEAST_STRETCH, LEAST_DEVIATION = 1e-3, 1e-6
# Power of the spacing with which the error of layouts and interpolants falls, at least.
ORDER = 2.0
# What noise adds to lengths is averaged: half as many samples, the root of two times the error.
OF_NOISE = np.sqrt(0.5)
# The whole map stands alone if it differs from both halves by so many times the square of what they differ by.
ALONE = 2.0
# A small sample without each of so many groups in turn; the worst of these parts, by this share, tell of themselves alone, and
# the others differ from the whole by about as much as that is wrong by, up to this factor.
GROUPS, WORST, BY_GROUPS = 8, 0.25, 2.0


@dataclass(frozen=True, eq=False)
class ErrorField:
    """Expected error of one direction of a map, at samples of the side that it starts from.

    Maps are wrong in where they send to, and the target's stretch makes this an error of its measurements. So between samples
    squared errors over squared stretches are averaged, by inverse squared distance. Where landmarks carry the map, its error
    grows with the distance from these: by what their processes say, which takes the place of the stretch. At a distance D
    beyond the spacing of the samples around, a map that is continued by its slope misses what it bends, ``growth * D**2``, and
    one that stops at the nearest sample misses its slope, ``growth * D``.

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
    whole : float or None
        Relative error expected on all samples of the side, where some were left out of a chart; else None.
    stretch : ndarray of shape (k,) or None
        Stretch of the target around the partners of the places (`stretch_at`); None where errors are not from places.
    deviation : ndarray of shape (k,) or None
        Where landmarks carry the map, what they say of its error at the places (`LandmarkCorrection.deviation`).
    """

    places: FloatArray
    errors: FloatArray
    spacing: FloatArray
    growth: FloatArray
    order: int
    whole: float | None = None
    stretch: FloatArray | None = None
    deviation: FloatArray | None = None
    _tree: PointTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", PointTree(self.places))

    @property
    def relative(self) -> float:
        """Expected relative error of the whole map: the root of the mean square over the samples of the side."""
        return self.among_places if self.whole is None else self.whole

    @property
    def among_places(self) -> float:
        """The same over the places alone: where nothing was left out of a chart."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def sizes(self) -> tuple[FloatArray, float] | None:
        """By what errors at the places are measured, and the least share of its mean square that counts."""
        if self.deviation is not None:
            return self.deviation, LEAST_DEVIATION
        return None if self.stretch is None else (self.stretch, LEAST_STRETCH)

    def at(self, places: FloatArray, size: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Expected errors (count,) at places (count, f) among the samples, and what extrapolation adds to each.

        `size` (count,) is what landmarks say of errors there, where the field has a `deviation`; else the stretch of the target
        around their partners.
        """
        k = min(AVERAGED, len(self.places))
        distance, near = (x.reshape(len(places), k) for x in self._tree.query(places, k, workers=workers()))
        weights = 1.0 / np.maximum(distance, 1e-3 * np.maximum(distance[:, -1:], TINY)) ** 2
        weights /= weights.sum(axis=1, keepdims=True)
        squares = (weights * self.errors[near] ** 2).sum(axis=1)
        if self.sizes is not None and size is not None:
            usual, least = self.sizes
            squares *= squared(size, usual, least) / (weights * squared(usual, usual, least)[near]).sum(axis=1)
        among = np.sqrt(squares)
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


def stretch_at(chart: Coordinates, points: FloatArray) -> FloatArray:
    """By how much measurements of a side change with its input around measurements (count, m): root mean squares (count,).

    Of the Frobenius norms of the derivatives of the nearest samples that the chart has.
    """
    observation = chart.observation
    used = np.delete(np.arange(len(observation)), chart.left_out)
    values = observation.singular_values[used, : observation.dim]
    largest = max(float(values.max(initial=0.0)), TINY)  # squares of large ones overflow
    squares = ((values / largest) ** 2).sum(axis=1)
    k = min(observation.dim + 1, len(used))
    near = PointTree(observation.points[used]).query(points, k, workers=workers())[1].reshape(len(points), k)
    found: FloatArray = largest * np.sqrt(squares[near].mean(axis=1))
    return found


def squared(size: FloatArray, usual: FloatArray, least: float) -> FloatArray:
    """Squared sizes in units of the largest of the usual ones, none below the least share of the mean of these."""
    largest = max(float(usual.max()), TINY)
    share = least * float(((usual / largest) ** 2).mean())
    found: FloatArray = np.maximum((size / largest) ** 2, max(share, TINY))
    return found


def some_of(chart: Coordinates) -> IntArray:
    """Some rows of a chart's samples, spread over their order."""
    used = np.setdiff1d(np.arange(len(chart.observation)), chart.left_out)
    return used[np.linspace(0, len(used) - 1, min(len(used), COMPARED)).astype(np.int64)]


def among_none(coordinates: FloatArray, chart: Coordinates) -> NDArray[np.bool_]:
    """Which coordinates (count, c) in a chart have none of its samples within some spacings."""
    nodes = chart.features(np.delete(chart.coordinates, chart.left_out, axis=0))
    tree, k = PointTree(nodes), min(len(nodes), nodes.shape[1] + 2)
    distance, near = tree.query(chart.features(coordinates), workers=workers())
    spacing = tree.query(nodes[near], k, workers=workers())[0].reshape(len(near), k)[:, -1]
    beyond: NDArray[np.bool_] = distance > COVERED * spacing
    return beyond


def missed_at_least(sent: FloatArray, chart: Coordinates) -> FloatArray:
    """How far measurements (count, m) are from the nearest sample that the chart left out, over the spread of its side."""
    points = chart.observation.points
    distance: FloatArray = PointTree(points[chart.left_out]).query(sent, workers=workers())[0]
    return distance / spread_of(points)


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


def past_the_ends(places: FloatArray, growth: FloatArray, n: int) -> FloatArray:
    """Squares to add at places (k, 1) of a line of n samples, for inputs beyond its ends, which halves do not see.

    Of n samples drawn alike, one more lies beyond an end in one case of n + 1, by a distance D that is exponential with the
    mean spacing s: its squared error, (growth * D**2)**2, is 24 growth**2 s**4 in the mean.
    """
    found = np.zeros(len(places))
    spacing = float(np.ptp(places)) / max(n - 1, 1)
    for end in (int(places.argmin()), int(places.argmax())):
        found[end] = len(places) / (n + 1.0) * 24.0 * (growth[end] * spacing**2) ** 2
    return found


def ratio_of_halves(d: int, noise: float, apart: float) -> float:
    """Error of the whole sample over that of a half, of which two are `apart`, with lengths of this relative noise.

    The noise of lengths is averaged over the samples; what is left falls with a power of their spacing.
    """
    by_spacing, share = 2.0 ** (-ORDER / d), min(noise / max(apart, TINY), 1.0)
    return float(min(np.sqrt(by_spacing**2 + share**2 * (OF_NOISE**2 - by_spacing**2)), OF_NOISE))


def of_halves(
    whole: FloatArray, one: FloatArray, other: FloatArray | None, places: FloatArray, unit: FloatArray, ratio: float
) -> FloatArray:
    """Squared errors of the whole map at places, averaged over their neighbours, from where two halves send these.

    What is averaged is in units (k,) of squared errors there, as a field measures them.

    Independent errors of the halves, of mean square h^2, make them differ by 2 h^2, and the whole is wrong by a share of h.
    An error that both share shows where the whole differs from both: by (1 - ratio) h if it is that much better, and by its own
    error where it failed and they did not: if it does so on the whole, since here and there halves agree by chance. Where there
    is no other half that has not failed, nothing agrees with the one against the whole.

    That is how much the map is wrong in all. Where, is told by what the whole differs by from both halves together: twice what
    they share and half of what they differ by, a sum over more draws of chance than any one of them.
    """
    near = _neighbors(places)
    from_one = ((whole - one) ** 2).sum(axis=1)
    if other is None:
        return ratio**2 * _averaged(from_one, near, unit)
    apart, from_other = ((one - other) ** 2).sum(axis=1), ((whole - other) ** 2).sum(axis=1)
    moved = np.minimum(from_one, from_other)
    apart, moved, from_both = (_averaged(x, near, unit) for x in (apart, moved, from_one + from_other))
    alone = moved - apart if moved.mean() > ALONE * apart.mean() else 0.0
    in_all = float(np.maximum(ratio**2 * np.maximum(0.5 * apart, moved), alone).mean())
    found: FloatArray = from_both * (in_all / max(float(from_both.mean()), TINY))
    return found


def of_groups(whole: FloatArray, parts: list[FloatArray], places: FloatArray, unit: FloatArray) -> FloatArray:
    """Squared errors of the whole map at places, averaged over their neighbours, from where maps without each group send these.

    A group of an eighth is a change of the sample as chance makes it, and the whole map is wrong by about what it changes;
    without one that holds a corner, a layout may fold: the worst parts at each place do not count.
    """
    near = _neighbors(places)
    squares = np.array([_averaged(((part - whole) ** 2).sum(axis=1), near, unit) for part in parts])
    kept = np.sort(squares, axis=0)[: GROUPS - int(WORST * GROUPS)]
    found: FloatArray = BY_GROUPS**2 * kept.mean(axis=0)
    return found


def _averaged(squares: FloatArray, near: IntArray, unit: FloatArray) -> FloatArray:
    """Squared errors (k,) averaged over the neighbours (k, c) of each place, in units (k,) there."""
    found: FloatArray = unit * squares[near].sum(axis=1) / unit[near].sum(axis=1)
    return found


def _neighbors(places: FloatArray) -> IntArray:
    k = min(SMOOTHED, len(places))
    found: IntArray = PointTree(places).query(places, k, workers=workers())[1].reshape(len(places), k)
    return found


def without_left_out(expected: ExpectedError) -> str:
    """How good the map is elsewhere, if samples that were left out of a chart are most of what is wrong."""
    fields = [one for one in (expected.forward, expected.backward) if one is not None]
    if all(one.relative <= MOSTLY * one.among_places for one in fields):
        return ""
    rest = " and ".join(percent(one.among_places) for one in fields)
    return f", with the samples that were left out of a chart and their partners ({rest} without)"


def strain(*sides: Coordinates) -> float:
    """Relative error that misfits of suspicious layouts may stand for: the largest of the sides; 0 where there is none."""
    return max((side.embedding.moved_ for side in sides if isinstance(side, IsometricChart)), default=0.0)
