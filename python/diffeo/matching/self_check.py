"""A map's own error, without held-out pairs: made again from parts of each side, and from landmarks that are in doubt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import percent
from diffeo.matching.diffusion_match import by_diffusion, by_registration
from diffeo.matching.expected_error import GROUPS, TINY, WORST, ExpectedError, spread_of, without_left_out
from diffeo.matching.isometric_match import by_isometry
from diffeo.matching.maps import ByDiffusion, ByIsometry, ByPairs, ByRegistration
from diffeo.matching.parts.fields import AT_LANDMARKS, MORE_LANDMARKS, UnknownError, chosen, error_field, of_pairs
from diffeo.matching.parts.halves_and_groups import (
    Sides,
    halves,
    has_halves,
    without_groups,
)
from diffeo.matching.parts.left_out import with_left_out
from diffeo.matching.parts.no_counterpart import with_no_counterpart, with_unseen
from diffeo.matching.parts.stray_landmarks import with_strays
from diffeo.matching.piecewise.by_pieces import ByPieces
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation

# Sides with more samples than this are not taken by groups, which are eight maps of nearly as many.
MOST_BY_GROUPS = 3000
# Landmarks that are missed by more than this, both ways, say all there is to say.
HOPELESS = 0.1
# A half has failed that misses its landmarks so many times as far as the whole and the other half do, by a percent and more,
# and is as many times as far from the whole as that other half.
FAILED = 10.0

# A map that is expected to be wrong by more than this has a problem, which says so.
GOOD = 0.01
# Isometric coordinates that are charts by every other sign are kept up to this: nothing else does better where they exist.
GOOD_CHART = 0.05
PREFERRED = 0.5
# What landmarks miss, in a map of which nothing else is known, counts so many times.
UNKNOWN = 4.0


def judged(problem: MatchProblem, t: Transformation, by_motion: Transformation | None = None) -> Transformation:
    """The map with what it is expected to be wrong by, and a problem that says so if that is much.

    A map `by_motion` of isometric coordinates may show a fold that one without coordinates does not see.
    """
    known = t.diagnostics
    try:
        expected = with_no_counterpart(problem, t, with_left_out(t, expected_error(problem, t)))
        expected = with_strays(problem, t, expected if by_motion is None else with_unseen(problem, by_motion, expected))
    except UnknownError as unknown:
        said = [f"the error of this map is not known: {unknown}", *known.problems, *known.reasons]
        return replace(t, diagnostics=replace(known, problems=said))
    forward = expected.forward.relative
    back = None if expected.backward is None else expected.backward.relative
    problems = list(known.problems)
    if max(forward, back or 0.0) > GOOD:
        a, b = problem.names
        ways = f"{percent(forward)} from {a} to {b}" + ("" if back is None else f" and {percent(back)} from {b} to {a}")
        ways += without_left_out(expected)
        why = f". Why, perhaps: {'; '.join(known.reasons)}" if known.reasons else ""
        problems.insert(0, f"expect errors of about {ways}{why}")
    diagnostics = replace(known, problems=problems, expected_error=forward, expected_error_back=back)
    return replace(t, diagnostics=diagnostics, expected=expected)


def unchecked(t: Transformation) -> Transformation:
    """The map without a check: what may be at fault is a problem, whether or not anything is."""
    known = t.diagnostics
    return replace(t, diagnostics=replace(known, problems=[*known.problems, *known.reasons]))


def expected_of(t: Transformation) -> float:
    """By what maps compete: the geometric mean of both ways, since a side that lost something is known one way only.

    Where it is not known, four times what the landmarks miss, each piece by itself; isometric coordinates without landmarks
    are then as barely good. Ones of known error that are charts by every other sign count half, the less so the nearer they are
    to being wrong by all of the spread. A regression falls back to the mean and keeps near to samples: it is hardly wrong by
    more than their spread, however little few landmarks tell.
    """
    known = _both_ways(t)
    found = known if np.isfinite(known) else _not_known(t)
    if isinstance(t.map, ByPairs):
        return min(found, 1.0)
    if isinstance(t.map, ByIsometry) and t.map.a.is_chart and t.map.b.is_chart:
        if np.isfinite(known):
            return max(PREFERRED, min(found, 1.0)) * found
        return found if np.isfinite(found) else GOOD_CHART
    return found


def _not_known(t: Transformation) -> float:
    return _of_pieces(t.map) if isinstance(t.map, ByPieces) else UNKNOWN * _at_landmarks(t)


def good_where_mapped(t: Transformation) -> bool:
    """Whether the map is expected to be good where its charts, or the pieces that are matched, have samples.

    Whatever becomes of those that they leave out. Errors of pieces are relative to the spread of these. Where no piece has
    coordinates, all are learned from landmarks, and leaving some of these out tells no more than all together would.
    """
    if not isinstance(t.map, ByPieces):
        fields = [] if t.expected is None else [t.expected.forward, t.expected.backward]
        return bool(fields) and all(one is None or one.among_places <= GOOD_CHART for one in fields)
    parts = [part for part in t.map.parts if isinstance(part, Transformation)]
    if all(isinstance(part.map, ByPairs) for part in parts):
        return False
    known = [part.diagnostics for part in parts]
    ways = [one.expected_error for one in known] + [one.expected_error_back for one in known if t.invertible]
    return all(way is not None and way <= GOOD_CHART for way in ways)


def _both_ways(t: Transformation) -> float:
    ways = (t.diagnostics.expected_error, t.diagnostics.expected_error_back)
    known = [max(one, TINY) for one in ways if one is not None]
    return float(np.exp(np.mean(np.log(known)))) if known else float("inf")


def _of_pieces(joined: ByPieces) -> float:
    """The same for pieces, from those of their maps, each relative to the spread of its own piece.

    Samples that no map reaches are missed by all of the spread.
    """
    made = [
        (part, rows) for part, rows in zip(joined.parts, joined.rows, strict=True) if isinstance(part, Transformation)
    ]
    figures, ways = np.array([expected_of(part) for part, _ in made]), list[float]()
    for side, target in enumerate((joined.b, joined.a)):
        counts = np.array([len(rows[side]) for _, rows in made])
        spreads = np.array([spread_of((part.b, part.a)[side].observation.points) for part, _ in made])
        squares = (figures * spreads / spread_of(target.observation.points)) ** 2
        lost = len(joined.unmatched[side])
        ways.append(float(np.sqrt(((counts * squares).sum() + lost) / (counts.sum() + lost))))
    return float(np.sqrt(ways[0] * ways[1]))


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


def with_losers(best: Transformation, found: list[Transformation], by: list[float]) -> Transformation:
    """The map with the figures, `by` which they competed, of all that were tried; regressions are called "pairs"."""
    figures = dict[str, float]()
    for one, figure in zip(found, by, strict=True):
        name = "registered" if one.registration is not None else str(one.coordinates)
        figures["pairs" if name == "regression" else name] = figure
    return replace(best, diagnostics=replace(best.diagnostics, competed=figures))


def expected_error(problem: MatchProblem, t: Transformation) -> ExpectedError:
    """What the map of a solved problem is expected to be wrong by.

    Raises
    ------
    UnknownError
        A half is too small, or has no coordinates.
    """
    if isinstance(t.map, ByPairs):
        return of_pairs(t)
    hopeless = _is_hopeless(t)
    # Parts cannot make it better, or worse: what the landmarks miss is known.
    parts, by_groups = ([t, t], (False, False)) if hopeless else _parts(problem, t)
    n = thread_count(t.n_jobs)
    made, share = [t, *parts], 1.0 if hopeless else AT_LANDMARKS
    noise = max(chart.observation.length_noise for chart in problem.charts)
    at_a = _between(t, backward=False) if by_groups[0] else chosen(t.a)
    forward = error_field(t, at_a, [one.map.forward(at_a[1], n).values for one in made], noise, share, backward=False)
    if not t.invertible:
        return ExpectedError(forward, None)
    at_b = _between(t, backward=True) if by_groups[1] else chosen(t.b)
    sent = [one.map.backward(at_b[1], n).values for one in made]
    return ExpectedError(forward, error_field(t, at_b, sent, noise, share, backward=True))


def _parts(problem: MatchProblem, t: Transformation) -> tuple[list[Transformation], Sides]:
    """The map made again, in the same way, from two halves of both sides, and which sides are taken by groups instead.

    That is without each group of their samples in turn: small ones, and ones whose halves have no map.
    """
    # What the whole map takes for wrong, no part takes up again.
    known = t.diagnostics
    problem = problem.without(problem.positions(np.union1d(known.wrong_landmarks, known.apart_landmarks)))
    by_groups = (not has_halves(problem.a), not has_halves(problem.b))
    if not any(by_groups):
        made, failed = _made(halves(problem), t, 0)
        if not failed:
            return _without_failed(t, made), by_groups
        # Nor would halves of the other side alone do: what they are wrong by is not as little as what groups change.
        by_groups = (True, True)
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


def _without_failed(t: Transformation, made: list[Transformation]) -> list[Transformation]:
    """Two halves, or one of them, if its own landmarks show that the layout of the other has failed, and it alone.

    Both the whole map and the half that is left fit the landmarks, and agree with each other far better than with that one.
    """
    if t.landmarks is None or not isinstance(t.map, ByIsometry):
        return made
    good, bad = sorted(made, key=lambda one: one.alignment.residual)
    if bad.alignment.residual <= max(GOOD, FAILED * max(t.alignment.residual, good.alignment.residual)):
        return made
    points, n = chosen(t.a)[1], thread_count(t.n_jobs)
    whole, *sent = (one.map.forward(points, n).values for one in (t, good, bad))
    off = [float(np.linalg.norm(one - whole)) for one in sent]
    return [good] if off[1] > FAILED * off[0] else made


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
    _, points = chosen(t.a)
    wanted = t.sent(points).values
    options = [found.by_candidate(k) for k in range(len(found.candidates))]
    missed = [float(np.linalg.norm(one.sent(points).values - wanted)) for one in options]
    return options[int(np.argmin(missed))]


def _between(t: Transformation, *, backward: bool) -> tuple[FloatArray, FloatArray]:
    """Coordinates and measurements of places of a source with few samples: where the map back sends the target's.

    Its own samples would not do: all parts but one have them, and interpolate them exactly.
    """
    source, target = (t.b, t.a) if backward else (t.a, t.b)
    own = chosen(source)
    if not t.invertible:
        return own
    sent = (t.sent if backward else t.sent_back)(chosen(target)[1])
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
