"""A map's own error, without held-out pairs: made again from parts of each side, and from landmarks that are in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import percent
from diffeo.alignment.linear import displacements, parameters
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.isometric import IsometricChart
from diffeo.isometry.periods import nearest_zero
from diffeo.matching.diffusion_match import by_diffusion, by_registration
from diffeo.matching.expected_error import (
    GROUPS,
    TINY,
    WORST,
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
    stretch_at,
)
from diffeo.matching.isometric_match import by_isometry
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.matching.maps import ByDiffusion, ByIsometry, ByPairs, ByRegistration
from diffeo.matching.parts.halves_and_groups import (
    Sides,
    halves,
    has_halves,
    sides_without_halves,
    without_groups,
)
from diffeo.matching.parts.left_out import with_left_out
from diffeo.matching.parts.no_counterpart import with_no_counterpart, with_unseen
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation

# Landmarks left out are missed by less than new points, by which predictors were not chosen: by this factor, and where
# landmarks are about as few as this, by more.
OPTIMISM, FEW_LANDMARKS = 1.5, 4.0
# Sides with more samples than this are not taken by groups, which are eight maps of nearly as many.
MOST_BY_GROUPS = 3000
# Landmarks whose misfit is small by chance would promise too much: their variance is that which would show less in a quarter
# of all cases.
UNLUCKY = 0.25
# Landmarks more than the dimension, from which on what they miss when each is left out is an estimate of the error by itself,
# up to a factor of two, for the landmarks may themselves be inexact.
MORE_LANDMARKS, AT_LANDMARKS = 3, 0.5
# Landmarks that are missed by more than this, both ways, say all there is to say.
HOPELESS = 0.1

# A map that is expected to be wrong by more than this has a problem, which says so.
GOOD = 0.01
# Isometric coordinates that are charts by every other sign are kept up to this: nothing else does better where they exist.
GOOD_CHART = 0.05
PREFERRED = 0.5
# Samples left out of a chart are most of the error where it is so many times that of the others.
MOSTLY = 1.5
# What landmarks miss, in a map of which nothing else is known, counts so many times.
UNKNOWN = 4.0


class UnknownError(Exception):
    """Nothing can be said of the error; the text says why."""


def judged(problem: MatchProblem, t: Transformation, by_motion: Transformation | None = None) -> Transformation:
    """The map with what it is expected to be wrong by, and a problem that says so if that is much.

    A map `by_motion` of isometric coordinates may show a fold that one without coordinates does not see.
    """
    known = t.diagnostics
    try:
        expected = with_no_counterpart(problem, t, with_left_out(t, expected_error(problem, t)))
        expected = expected if by_motion is None else with_unseen(problem, by_motion, expected)
    except UnknownError as unknown:
        said = [f"the error of this map is not known: {unknown}", *known.problems, *known.reasons]
        return replace(t, diagnostics=replace(known, problems=said))
    forward = expected.forward.relative
    back = None if expected.backward is None else expected.backward.relative
    problems = list(known.problems)
    if max(forward, back or 0.0) > GOOD:
        a, b = problem.names
        ways = f"{percent(forward)} from {a} to {b}" + ("" if back is None else f" and {percent(back)} from {b} to {a}")
        ways += _without_left_out(expected)
        why = f". Why, perhaps: {'; '.join(known.reasons)}" if known.reasons else ""
        problems.insert(0, f"expect errors of about {ways}{why}")
    diagnostics = replace(known, problems=problems, expected_error=forward, expected_error_back=back)
    return replace(t, diagnostics=diagnostics, expected=expected)


def _without_left_out(expected: ExpectedError) -> str:
    """How good the map is elsewhere, if samples that were left out of a chart are most of what is wrong."""
    fields = [one for one in (expected.forward, expected.backward) if one is not None]
    if all(one.relative <= MOSTLY * one.among_places for one in fields):
        return ""
    rest = " and ".join(percent(one.among_places) for one in fields)
    return f", with the samples that were left out of a chart and their partners ({rest} without)"


def unchecked(t: Transformation) -> Transformation:
    """The map without a check: what may be at fault is a problem, whether or not anything is."""
    known = t.diagnostics
    return replace(t, diagnostics=replace(known, problems=[*known.problems, *known.reasons]))


def expected_of(t: Transformation) -> float:
    """By what maps compete: the geometric mean of both ways, since a side that lost something is known one way only.

    Where it is not known, four times what the landmarks miss. Isometric coordinates that are charts by every other sign count
    half, and as barely good where there are no landmarks either.
    """
    found = _both_ways(t)
    if not np.isfinite(found):
        found = UNKNOWN * _at_landmarks(t)
    if isinstance(t.map, ByIsometry) and t.map.a.is_chart and t.map.b.is_chart:
        return PREFERRED * found if np.isfinite(found) else GOOD_CHART
    return found


def _both_ways(t: Transformation) -> float:
    ways = (t.diagnostics.expected_error, t.diagnostics.expected_error_back)
    known = [max(one, TINY) for one in ways if one is not None]
    return float(np.exp(np.mean(np.log(known)))) if known else float("inf")


def _at_landmarks(t: Transformation) -> float:
    """Relative error at the landmarks, each left out where that is known; infinite without landmarks."""
    if t.landmarks is None:
        return float("inf")
    models = [one for one in (t.forward, t.backward) if one is not None]
    missed = [model.error for model in models]
    if not models:
        ways = [(t.sent(t.landmarks[0]).values, t.landmarks[1])]
        if t.invertible:
            ways.append((t.sent_back(t.landmarks[1]).values, t.landmarks[0]))
        missed = [
            float(np.linalg.norm(found - true)) / max(spread_of(true) * len(true) ** 0.5, TINY) for found, true in ways
        ]
        missed = [max(one, 0.0 if t.registration is None else t.registration.stress) for one in missed]
    return float(np.exp(np.mean(np.log(np.maximum(missed, TINY)))))


def with_losers(best: Transformation, found: list[Transformation]) -> Transformation:
    """The map with the figures of all that were tried; regressions are called "pairs"."""
    figures = dict[str, float]()
    for one in found:
        name = "registered" if one.registration is not None else str(one.coordinates)
        figures["pairs" if name == "regression" else name] = expected_of(one)
    return replace(best, diagnostics=replace(best.diagnostics, competed=figures))


def expected_error(problem: MatchProblem, t: Transformation) -> ExpectedError:
    """What the map of a solved problem is expected to be wrong by.

    Raises
    ------
    UnknownError
        A half is too small, or has no coordinates.
    """
    if isinstance(t.map, ByPairs):
        return _of_pairs(t)
    hopeless = _is_hopeless(t)
    # Parts cannot make it better, or worse: what the landmarks miss is known.
    parts, by_groups = ([t, t], (False, False)) if hopeless else _parts(problem, t)
    n = thread_count(t.n_jobs)
    made, share = [t, *parts], 1.0 if hopeless else AT_LANDMARKS
    noise = max(chart.observation.length_noise for chart in problem.charts)
    at_a = _between(t, backward=False) if by_groups[0] else _chosen(t.a)
    forward = _field(t, at_a, [one.map.forward(at_a[1], n).values for one in made], noise, share, backward=False)
    if not t.invertible:
        return ExpectedError(forward, None)
    at_b = _between(t, backward=True) if by_groups[1] else _chosen(t.b)
    sent = [one.map.backward(at_b[1], n).values for one in made]
    return ExpectedError(forward, _field(t, at_b, sent, noise, share, backward=True))


def _parts(problem: MatchProblem, t: Transformation) -> tuple[list[Transformation], Sides]:
    """The map made again, in the same way, from two halves of both sides, and which sides are taken by groups instead.

    That is without each group of their samples in turn: small ones, and ones whose halves have no map.
    """
    # What the whole map takes for wrong, no part takes up again.
    if len(out := np.union1d(t.diagnostics.wrong_landmarks, t.diagnostics.apart_landmarks)):
        problem = problem.without(out)
    by_groups = (not has_halves(problem.a), not has_halves(problem.b))
    if not any(by_groups):
        made, failed = _made(halves(problem), t, 0)
        if not failed:
            return made, by_groups
        by_groups = sides_without_halves(problem, isometric=isinstance(t.map, ByIsometry))
        if max(len(chart) for chart in problem.charts) > MOST_BY_GROUPS:
            raise UnknownError(f"half of the samples have no map of this kind ({failed[-1]}); use more samples")
    for name, chart in zip(problem.names, problem.charts, strict=True):
        if len(chart.observation.usable) < GROUPS:
            raise UnknownError(f"side {name} has {len(chart.observation.usable)} samples; use at least {GROUPS}")
    most = int(WORST * GROUPS)
    made, failed = _made(without_groups(problem, by_groups), t, most)
    if len(failed) > most:
        sides = zip(problem.names, problem.charts, by_groups, strict=True)
        few = [f"side {name} has {len(chart.observation.usable)} samples" for name, chart, one in sides if one]
        why = f"and an eighth fewer have no map of this kind ({failed[-1]}); use more samples"
        raise UnknownError(f"{' and '.join(few)}, {why}")
    return made, by_groups


def _made(parts: Iterator[MatchProblem], t: Transformation, most: int) -> tuple[list[Transformation], list[Exception]]:
    """The map made again from each part, and why not from others; given up when that are more than `most`."""
    made, failed = list[Transformation](), list[Exception]()
    for part in parts:
        try:
            with errors.unsaid(errors.DiffeoWarning):
                made.append(_made_alike(part, t))
        except (errors.DiffeoError, RuntimeError, np.linalg.LinAlgError) as error:  # a check refuses no map
            failed.append(error)
        if len(failed) > most:
            break
    return made, failed


def _made_alike(half: MatchProblem, t: Transformation) -> Transformation:
    """The map of a half, by the same means as the whole one, and by the candidate that is nearest to it."""
    if isinstance(t.map, ByDiffusion):
        return by_diffusion(half)
    if isinstance(t.map, ByRegistration):
        return by_registration(half, [])
    layouts = [chart.isometric() for chart in half.charts]
    for name, chart, layout in zip(half.names, half.charts, layouts, strict=True):
        if layout is None:
            raise errors.DisconnectedError(f"side {name}: {chart.disconnected}")
    a, b = layouts
    if a is None or b is None:
        raise errors.DisconnectedError("no layout")
    found = by_isometry(half, a, b)
    if len(found.candidates) == 1:
        return found
    _, points = _chosen(t.a)
    wanted = t.sent(points).values
    options = [found.by_candidate(k) for k in range(len(found.candidates))]
    missed = [float(np.linalg.norm(one.sent(points).values - wanted)) for one in options]
    return options[int(np.argmin(missed))]


def _chosen(chart: Coordinates) -> tuple[FloatArray, FloatArray]:
    """Some samples of a chart, spread over their order: their coordinates and their measurements."""
    rows = some_of(chart)
    return chart.coordinates[rows], chart.observation.points[rows]


def _between(t: Transformation, *, backward: bool) -> tuple[FloatArray, FloatArray]:
    """Coordinates and measurements of places of a source with few samples: where the map back sends the target's.

    Its own samples would not do: all parts but one have them, and interpolate them exactly.
    """
    source, target = (t.b, t.a) if backward else (t.a, t.b)
    own = _chosen(source)
    if not t.invertible:
        return own
    sent = (t.sent if backward else t.sent_back)(_chosen(target)[1])
    inside = np.ones(len(sent.values), dtype=bool)
    inside[sent.outside.off_manifold] = inside[sent.outside.no_counterpart] = False
    if inside.sum() < len(own[0]):
        return own
    points = sent.values[inside]
    return source.place(points, thread_count(t.n_jobs)).values, points


def _is_hopeless(t: Transformation) -> bool:
    """Whether the landmarks alone show, both ways, that the map is wrong by far more than halves would tell."""
    if not isinstance(t.map, ByIsometry) or t.forward is None:
        return False
    enough = len(t.forward.landmarks) >= t.a.observation.dim + MORE_LANDMARKS
    models = [one for one in (t.forward, t.backward) if one is not None]
    return all((one.error if enough else t.alignment.residual) > HOPELESS for one in models)


def _field(
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
    places, stretch = places_of(source, coordinates, points), stretch_at(target, whole)
    if len(parts) > 2:
        squares = of_groups(whole, parts, places, stretch) / spread**2
    else:
        apart = float(np.sqrt(((parts[0] - parts[1]) ** 2).sum(axis=1).mean())) / spread
        ratio = ratio_of_halves(t.a.observation.dim, noise, apart)
        squares = of_halves(whole, parts[0], parts[1], places, stretch, ratio) / spread**2
    by_landmarks = _of_landmarks(t, coordinates, whole, backward=backward) / spread**2
    taught = t.backward if backward else t.forward
    if taught is not None and taught.learned:
        # Where corrections carry the map, it need not be as wrong as the motion.
        by_landmarks *= min(1.0, taught.error**2 / max(float(by_landmarks.mean()), TINY))
        # The parts have the same landmarks, and cannot see what becomes of corrections between and beyond these.
        common = coordinates if backward else t.alignment.forward(coordinates)
        corrected = taught.deviation(points, t.b.features(common)) / spread
        by_landmarks = np.maximum(by_landmarks, corrected**2)
    squares += by_landmarks
    if taught is not None and len(taught.landmarks) >= t.a.observation.dim + MORE_LANDMARKS:
        squares += max((share * taught.error) ** 2 - float(squares.mean()), 0.0)
    order = 2 if isinstance(t.map, ByIsometry) else 1
    spacing, growth = bend(places, whole / spread, order)
    if order == 2:
        growth = growth + bend(places, points / spread_of(source.observation.points), order)[1]
        if places.shape[1] == 1:
            squares += past_the_ends(places, growth, len(source.observation.usable))
    return ErrorField(places, np.sqrt(squares), spacing, growth, order, stretch=stretch)


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
    at_a, at_b = (side.place(y, n).values for side, y in zip((t.a, t.b), t.landmarks, strict=True))
    alignment = t.alignment
    missed = alignment.forward(at_a) - at_b
    if isinstance(t.b, IsometricChart) and len(t.b.embedding.periods_):
        missed = nearest_zero(missed, t.b.embedding.periods_)
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

    def measured(x: FloatArray) -> FloatArray:
        return t.a.measurements(alignment.backward(x), n) if backward else t.b.measurements(x, n)

    squares, unmoved = none, measured(common)
    for amount, axis in zip(size[kept], axes.T[kept], strict=True):
        step = np.sqrt(variance / amount) * np.tensordot(axis, moves, 1)
        squares = squares + ((measured(common + step) - unmoved) ** 2).sum(axis=1)
    return squares


def _of_pairs(t: Transformation) -> ExpectedError:
    """Of maps that were learned from landmarks alone: what their processes say, and landmarks left out."""
    forward = _regressed(t.a, t.b, t.forward)
    if forward is None:
        raise UnknownError("the map lacks its regression")
    return ExpectedError(forward, _regressed(t.b, t.a, t.backward))


def _regressed(source: Coordinates, target: Coordinates, model: LandmarkCorrection | None) -> ErrorField | None:
    if model is None:
        return None
    coordinates, points = _chosen(source)
    spread = spread_of(target.observation.points)
    squares = (model.deviation(points, source.features(coordinates)) / spread) ** 2
    # Predictors are chosen by the landmarks, which promise too much where they are few.
    error = OPTIMISM * (1.0 + FEW_LANDMARKS / len(model.landmarks)) * model.error
    squares *= max(1.0, error**2 / max(float(squares.mean()), TINY))
    places = places_of(source, coordinates, points)
    predicted = model.predict(points, source.features(coordinates))
    spacing, growth = bend(places, predicted / spread, 1)
    return ErrorField(places, np.sqrt(squares), spacing, growth, 1)
