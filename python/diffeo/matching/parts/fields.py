"""Expected errors of one way of a map, at places of the side that it starts from."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import thread_count, workers
from diffeo.alignment.linear import displacements, parameters
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.isometric import IsometricChart
from diffeo.isometry.periods import nearest_zero
from diffeo.isometry.trust import FEW_DIMENSIONS
from diffeo.matching.expected_error import (
    LEAST_DEVIATION,
    LEAST_STRETCH,
    TINY,
    ErrorField,
    ExpectedError,
    bend,
    of_groups,
    of_halves,
    past_the_ends,
    places_of,
    ratio_of_halves,
    some_of,
    spread_of,
    squared,
    strain,
    stretch_at,
)
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.matching.maps import ByDiffusion, ByIsometry
from diffeo.matching.predictors.predictor import FEW
from diffeo.matching.transformation import Transformation

# Landmarks left out are missed by less than new points, by which predictors were not chosen: by this factor, and where
# landmarks are about as few as this, by more.
OPTIMISM, FEW_LANDMARKS = 1.5, 4.0
# What is predicted is brought near to samples, two of which are so many times their squared spread apart in the mean.
APART = 2.0
# Landmarks whose misfit is small by chance would promise too much: their variance is that which would show less in a quarter
# of all cases.
UNLUCKY = 0.25
# Landmarks more than the dimension, from which on what they miss when each is left out is an estimate of the error by itself,
# up to a factor of two, for the landmarks may themselves be inexact.
MORE_LANDMARKS, AT_LANDMARKS = 3, 0.5
# Landmarks at least that tell whether what they miss is their own, and by how many times the root mean square one stands out.
FEWEST_ALIKE, STANDS_OUT = 12, 3.5


class UnknownError(Exception):
    """Nothing can be said of the error; the text says why."""


def chosen(chart: Coordinates) -> tuple[FloatArray, FloatArray]:
    """Some samples of a chart, spread over their order: their coordinates and their measurements."""
    rows = some_of(chart)
    return chart.coordinates[rows], chart.observation.points[rows]


def error_field(
    t: Transformation,
    at: tuple[FloatArray, FloatArray],
    sent: list[FloatArray],
    noise: float,
    share: float,
    *,
    backward: bool,
) -> ErrorField:
    """Expected errors at places of the source: from where the map and those of parts send them, and the landmarks.

    `at` are their coordinates and measurements. At least a `share` of what landmarks miss, each left out.
    """
    source, target = (t.b, t.a) if backward else (t.a, t.b)
    coordinates, points = at
    spread = spread_of(target.observation.points)
    whole, *parts = sent
    places, taught = places_of(source, coordinates, points), t.backward if backward else t.forward
    stretch, deviation = None, None
    if taught is not None and taught.learned:
        deviation = t.deviation(points, coordinates, backward=backward)
        unit = squared(deviation, deviation, LEAST_DEVIATION)
    else:
        stretch = stretch_at(target, whole)
        unit = squared(stretch, stretch, LEAST_STRETCH)
    if len(parts) > 2:
        squares = of_groups(whole, parts, places, unit) / spread**2
    else:
        # Where one half has failed, the other is compared with the whole alone.
        one, other = parts[0], parts[1] if len(parts) == 2 else None
        apart = float(np.sqrt(((one - (whole if other is None else other)) ** 2).sum(axis=1).mean())) / spread
        ratio = ratio_of_halves(t.a.observation.dim, noise, apart)
        squares = of_halves(whole, one, other, places, unit, ratio) / spread**2
    by_landmarks = _of_landmarks(t, coordinates, whole, backward=backward) / spread**2
    if taught is not None and deviation is not None:
        # Where corrections carry the map, it need not be as wrong as the motion.
        by_landmarks *= min(1.0, taught.error**2 / max(float(by_landmarks.mean()), TINY))
        # The parts have the same landmarks, and cannot see what becomes of corrections between and beyond these: the processes
        # do, which also take away near landmarks what the motion is off by.
        own = (deviation / spread) ** 2
        by_landmarks = own * max(1.0, float(by_landmarks.mean()) / max(float(own.mean()), TINY))
    squares += by_landmarks
    # Halves share what bends their lengths; landmarks tell, where there are enough.
    least = strain(t.a, t.b) ** 2
    if taught is not None and len(taught.landmarks) >= t.a.observation.dim + MORE_LANDMARKS:
        least = (_in_common(t) if deviation is None else 1.0) * (share * taught.error) ** 2
    lacking = max(least - float(squares.mean()), 0.0)
    squares += lacking if deviation is None else lacking * squares / max(float(squares.mean()), TINY)
    order = 2 if isinstance(t.map, ByIsometry) else 1
    spacing, growth = bend(places, whole / spread, order)
    if order == 2:
        growth = growth + bend(places, points / spread_of(source.observation.points), order)[1]
        if places.shape[1] == 1:
            squares += past_the_ends(places, growth, len(source.observation.usable))
    return ErrorField(places, np.sqrt(squares), spacing, growth, order, stretch=stretch, deviation=deviation)


def _in_common(t: Transformation) -> float:
    """What landmarks miss in common with those next to them, as a share of its square, and as much as chance may hide.

    An error of the map is that of a neighbourhood; what each misses by itself is its own, and averaged by the motion. 1 where
    landmarks are few, or single ones stand out, as where a small part of a side is folded.
    """
    if t.landmarks is None or not isinstance(t.map, ByIsometry):
        return 1.0
    at_b, missed = _misfits(t)
    squares = (missed**2).sum(axis=1)
    mean = float(squares.mean())
    if len(missed) < FEWEST_ALIKE or squares.max() > STANDS_OUT**2 * mean or mean == 0.0:
        return 1.0
    places = t.b.features(at_b)
    near = PointTree(places).query(places, 2, workers=workers())[1]
    next_to = np.where(near[:, 0] == np.arange(len(near)), near[:, 1], near[:, 0])
    alike = float((missed * missed[next_to]).sum(axis=1).mean()) / mean
    # And the deviation of this by chance, where all are independent and many next to each other.
    return float(np.clip(alike + np.sqrt(2.0 / missed.size), 0.0, 1.0))


def _misfits(t: Transformation) -> tuple[FloatArray, FloatArray]:
    """Coordinates of the landmarks on B, (L, c), and by how much those of A miss them there."""
    if t.landmarks is None:
        none = np.empty((0, t.b.coordinates.shape[1]))
        return none, none
    n = thread_count(t.n_jobs)
    at_a, at_b = (side.place(y, n).values for side, y in zip((t.a, t.b), t.landmarks, strict=True))
    missed = t.alignment.forward(at_a) - at_b
    if isinstance(t.b, IsometricChart) and len(t.b.embedding.periods_):
        missed = nearest_zero(missed, t.b.embedding.periods_)
    return at_b, missed


def _of_landmarks(t: Transformation, coordinates: FloatArray, whole: FloatArray, *, backward: bool) -> FloatArray:
    """Squared errors at samples of the source, from landmarks that miss each other by their own noise.

    With s^2 the sum of squared misfits over the degrees of freedom that the motion leaves, its parameters have the covariance
    s^2 (A^T A)^-1, A the displacements of the landmarks by its generators; each principal change of them moves every sample.
    """
    none = np.zeros(len(whole))
    if t.landmarks is None:
        return none
    n = thread_count(t.n_jobs)
    if not isinstance(t.map, (ByIsometry, ByDiffusion)):
        # Placed samples have no motion of their own: its freedom, of what the landmarks miss.
        misfit = t.landmarks[1] - t.sent(t.landmarks[0]).values
        if backward:
            misfit = t.landmarks[0] - t.sent_back(t.landmarks[1]).values
        share = min(t.a.observation.dim / len(misfit), 1.0)
        return np.full(len(whole), share * float((misfit**2).sum(axis=1).mean()))
    alignment, (at_b, missed) = t.alignment, _misfits(t)
    freedom = missed.size - parameters(alignment, *at_b.shape)
    if freedom < 1:
        return none
    variance = float((missed * missed).sum()) / float(chi2.ppf(UNLUCKY, freedom))
    common = coordinates if backward else alignment.forward(coordinates)
    centre = at_b.mean(axis=0)
    moves_marks, moves = (displacements(x, centre, alignment.kind) for x in (at_b, common))
    design = moves_marks.reshape(len(moves_marks), -1)
    size, axes = np.linalg.eigh(design @ design.T)
    kept = size > 1e-12 * size.max(initial=0.0)

    target = t.a if backward else t.b

    def places(x: FloatArray) -> FloatArray:
        return alignment.backward(x) if backward else x

    squares, here, slopes = none, places(common), None
    unmoved = target.measurements(here, n)
    if isinstance(target, IsometricChart) and here.shape[1] > FEW_DIMENSIONS:
        # d (d + 1) / 2 changes or more, each small beside what a chart resolves there: derivatives do for all of them.
        slopes = target.slopes(here, n)
    for amount, axis in zip(size[kept], axes.T[kept], strict=True):
        there = places(common + np.sqrt(variance / amount) * np.tensordot(axis, moves, 1))
        moved = (
            target.measurements(there, n) - unmoved if slopes is None else np.einsum("nmd,nd->nm", slopes, there - here)
        )
        squares = squares + (moved**2).sum(axis=1)
    return squares


def of_pairs(t: Transformation) -> ExpectedError:
    """Of maps that were learned from landmarks alone: what their processes say, and landmarks left out."""
    forward = _regressed(t.a, t.b, t.forward)
    if forward is None:
        raise UnknownError("the map lacks its regression")
    return ExpectedError(forward, _regressed(t.b, t.a, t.backward))


def _regressed(source: Coordinates, target: Coordinates, model: LandmarkCorrection | None) -> ErrorField | None:
    if model is None:
        return None
    coordinates, points = chosen(source)
    spread = spread_of(target.observation.points)
    deviation = model.deviation(points, source.features(coordinates))
    squares = (deviation / spread) ** 2
    # Predictors are chosen by the landmarks, which promise too much where they are few.
    error = OPTIMISM * (1.0 + FEW_LANDMARKS / len(model.landmarks)) * model.error
    predicted, mean = model.predict(points, source.features(coordinates)), max(float(squares.mean()), TINY)
    least = max(error, _unlike(predicted, target.observation.points)) if len(model.landmarks) <= FEW else error
    squares *= min(max(mean, least**2), APART) / mean
    places = places_of(source, coordinates, points)
    spacing, growth = bend(places, predicted / spread, 1)
    return ErrorField(places, np.sqrt(squares), spacing, growth, 1, deviation=deviation)


def _unlike(predicted: FloatArray, points: FloatArray) -> float:
    """By how much predictions of samples differ from the other side's in mean and spread, more than by chance.

    Relative to the latter's spread; no pairing of rows makes their root mean square distance less. Landmarks that are near each
    other, or few, say little of the rest by themselves.
    """
    spread = max(spread_of(points), TINY)
    shift = float(np.linalg.norm((predicted.mean(axis=0) - points.mean(axis=0)) / spread))
    by_chance = 2.0 / float(np.sqrt(min(len(predicted), len(points))))
    return max(float(np.hypot(shift, spread_of(predicted) / spread - 1.0)) - by_chance, 0.0)
