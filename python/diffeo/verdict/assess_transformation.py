"""assess: the verdict on a transformation by held-out pairs, with all that a report shows beside it."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy

from diffeo import __version__, errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray, RandomState, real
from diffeo._support.placed import Placed
from diffeo._support.progress import showing, stage
from diffeo._support.threads import thread_count, working
from diffeo._support.wording import SIDES, Names
from diffeo.charts.chart import Chart, CoordinateChoice, check_choice
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.matching.landmark_correction import learn_correction
from diffeo.matching.match_observations import match_problem, solved
from diffeo.matching.pairs import Landmarks
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.verdict.baselines import affine_fit, compare_baselines
from diffeo.verdict.error_bounds import FAILS, HOLDS, UNDETERMINED, Direction, judge, verdict
from diffeo.verdict.held_out_pairs import check_apart, check_held_out, parsed_held_out
from diffeo.verdict.lost_information import MOST_PLACES, find_loss
from diffeo.verdict.report import Report
from diffeo.verdict.sentences import SWAPPED, WITHOUT_LANDMARKS, exchanged, reason_for
from diffeo.verdict.set_aside import aside_text, contradicted_pairs
from diffeo.verdict.shown_loss import find_evidence

# Samples of each side that a report shows.
MOST_SHOWN = 2000
# Samples of each side, and eigenvalues, for the spectra that a report shows.
MOST_FOR_SPECTRA, N_EIGENVALUES = 4000, 10
# Parts of the landmarks that an affine fit leaves out in turn.
FOLDS = 10

Pair = tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Judging:
    """How a transformation is judged, as `assess` says, and what messages call its sides."""

    margin: float = 0.05
    significance: float = 0.05
    baselines: bool = True
    n_jobs: int | None = None
    names: Names = SIDES

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", real(self.margin, "margin", above=0.0, below=1.0))
        object.__setattr__(self, "significance", real(self.significance, "significance", above=0.0, below=0.5))
        thread_count(self.n_jobs)


def assess(
    t: Transformation,
    held_out: Landmarks,
    *,
    margin: float = 0.05,
    significance: float = 0.05,
    baselines: bool = True,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Report:
    """Judge a transformation by held-out pairs: equivalent, one way only, or not, within a margin.

    Each direction is judged on its own: its relative error e = norm(predicted - true) / norm(true - mean of true),
    Frobenius norms over the pairs, has one-sided bounds (`diffeo.verdict.error_bounds.bootstrap_bounds`), map and landmarks
    held fixed. It holds if the upper bound is under the margin. It fails if the lower one is over it *and* a loss is shown
    without any map (`diffeo.verdict.shown_loss.find_evidence`): pairs that are near on the source and far apart on the target,
    beyond what sampling, stretch, noise and wrong pairs explain, or derivatives of a lower rank. Otherwise, or with fewer than
    20 pairs, it is undetermined: the map may be at fault, not the networks, and `report.would_decide` says what would tell.
    Where a direction fails, what its source lost is sought in the samples.

    Parameters
    ----------
    t : Transformation
    held_out : Pairs, tuple of array_like (points_a (H, m_a), points_b (H, m_b)), or integer array_like of shape (H, 2)
        Measurements of H common inputs that are no landmarks, drawn like the samples; or rows of both observations that
        belong together.
    margin : float
        Relative error that still counts as equivalent, in (0, 1).
    significance : float
        One-sided level of every bound, in (0, 0.5): the chance to call a direction that is at the margin one that holds.
    baselines : bool
        Whether to compare plain methods on the same landmarks, which takes about as long as a match.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Report

    Raises
    ------
    InputError
        Held-out pairs that are landmarks, or the same pair twice (the message names the rows); measurements that do not
        vary; wrong shapes, NaN and infinity.
    ParameterError
        A margin or significance out of range.
    """
    if not isinstance(t, Transformation):
        raise errors.DataTypeError(
            f"t must be a diffeo.Transformation, as diffeo.match gives it, not {type(t).__name__}"
        )
    judging = Judging(margin, significance, baselines, n_jobs)
    pairs = parsed_held_out(held_out, t.a.observation, t.b.observation)
    check_held_out(pairs, t)
    with showing(verbose), working(n_jobs), stage("assessing"):
        return _assess(t, pairs.points, judging)


def compare(
    obs_a: Observation | Chart,
    obs_b: Observation | Chart,
    *,
    landmarks: Landmarks,
    held_out: Landmarks,
    margin: float = 0.05,
    significance: float = 0.05,
    coordinates: CoordinateChoice = "auto",
    baselines: bool = True,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Report:
    """Match and assess in one call, whichever side has more dimensions.

    `match` refuses an A with fewer intrinsic dimensions than B. Here the sides are then exchanged for the match, and back
    for the report; messages name them as the caller does. Parameters are those of `match` and `assess`, and so are errors.
    """
    check_choice(coordinates)
    judging = Judging(margin, significance, baselines, n_jobs)
    problem = match_problem(obs_a, obs_b, coordinates, random_state, n_jobs).given(landmarks)
    with showing(verbose):
        return compared(problem, held_out, judging)


def compared(problem: MatchProblem, held_out: Landmarks, judging: Judging) -> Report:
    """What `compare` gives, of a problem whose sides stand as the caller named them."""
    pairs = parsed_held_out(held_out, problem.a.observation, problem.b.observation)
    check_apart(problem.landmarks, pairs)
    exchange = problem.a.dim < problem.b.dim
    if exchange:
        problem, pairs, judging = problem.exchanged(), pairs.swapped(), replace(judging, names=SIDES[::-1])
    with working(judging.n_jobs):
        t = solved(problem)
        check_held_out(pairs, t)
        with stage("assessing"):
            report = _assess(t, pairs.points, judging)
    return exchanged(report) if exchange else report


def _assess(t: Transformation, pairs: Pair, judging: Judging) -> Report:
    """The report from checked arguments."""
    t = replace(t, n_jobs=judging.n_jobs)
    sides = t.a.observation, t.b.observation
    problems = list(t.diagnostics.problems)
    levels = {"margin": judging.margin, "significance": judging.significance}
    predicted_b = _noting(problems, judging.names[0], t.sent(pairs[0]))
    predicted_a, how, known = _way_back(t, pairs[1], pairs[0].mean(axis=0), problems, judging.names)
    common = _with_landmarks(t, pairs)
    lost_by_a = find_evidence(*sides, common, judging.names, judging.margin)
    lost_by_b = find_evidence(*sides[::-1], common[::-1], judging.names[::-1], judging.margin)
    said = [(predicted_b, pairs[1]), (predicted_a, pairs[0])]
    aside = contradicted_pairs(said if known else said[:1])
    kept, count = np.setdiff1d(np.arange(len(predicted_b)), aside), len(predicted_b)

    def judged(rows: IntArray) -> tuple[Direction, Direction]:
        to_b = judge(predicted_b[rows], pairs[1][rows], _how(t, "forward"), evidence=lost_by_a, **levels)
        to_a = judge(predicted_a[rows], pairs[0][rows], how, evidence=lost_by_b, **levels)
        # These alone say how much is lost.
        return to_b, to_a if known or lost_by_b.kind == "pairs" else replace(to_a, status=UNDETERMINED)

    forward, backward = judged(kept)
    with_all = verdict(*(one.status for one in judged(np.arange(count)))) if len(aside) else ""
    pairs = pairs[0][kept], pairs[1][kept]
    forward, backward = _with_losses(t, pairs, forward, backward, judging.names)
    compared = []
    if judging.baselines:
        compared = compare_baselines(t.landmarks, pairs, observations=sides, n_jobs=judging.n_jobs, names=judging.names)
    rows = _spaced(len(t.a.observation), MOST_SHOWN), _spaced(len(t.b.observation), MOST_SHOWN)
    # The reason is told as the caller names the sides.
    ways = (forward, backward) if judging.names == SIDES else (backward, forward)
    reason = reason_for(verdict(ways[0].status, ways[1].status), *ways, judging.margin, judging.significance)
    if len(aside):
        found = verdict(forward.status, backward.status), with_all
        told = found if judging.names == SIDES else (SWAPPED.get(found[0], found[0]), SWAPPED.get(found[1], found[1]))
        reason = f"{reason} {aside_text(aside, count, *told)}"
    return Report(
        verdict=verdict(forward.status, backward.status),
        reason=reason,
        forward=forward,
        backward=backward,
        margin=judging.margin,
        significance=judging.significance,
        baselines=compared,
        problems=problems,
        n_landmarks=0 if t.landmarks is None else len(t.landmarks[0]),
        coordinates=t.coordinates,
        embeddings=(_moved(t, t.a.coordinates[rows[0]]), t.b.wrapped(t.b.coordinates[rows[1]])),
        held_out=_located(t, pairs),
        spectra=_spectra(t, judging.n_jobs),
        diagnostics=_facts(t),
        settings=_settings(t, judging),
        rows=rows,
        set_aside=aside,
        verdict_with_all=with_all,
    )


def _with_landmarks(t: Transformation, pairs: Pair) -> Pair:
    """All that both sides are known to measure at common inputs: landmarks first."""
    if t.landmarks is None:
        return pairs
    return np.vstack([t.landmarks[0], pairs[0]]), np.vstack([t.landmarks[1], pairs[1]])


def _noting(problems: list[str], side: str, placed: Placed) -> FloatArray:
    """The values, points out of the domain said as a problem rather than by a warning."""
    if placed.outside:
        problems.append(f"held-out pairs on side {side}: {placed.outside}")
    return placed.values


def _how(t: Transformation, way: str) -> str:
    model = t.forward if way == "forward" else t.backward
    if t.coordinates == "regression":
        return "regression on the landmarks"
    return "transformation" + (", with what the landmarks teach" if model is not None and model.learned else "")


def _way_back(
    t: Transformation, points_b: FloatArray, mean: FloatArray, problems: list[str], names: Names
) -> tuple[FloatArray, str, bool]:
    """Measurements of A predicted from those of B, how, and whether that says anything.

    Where B has fewer dimensions than A it cannot determine A exactly, but the missing ones may be thin: whether A can be
    had back within the margin is a question for the pairs, and the best regression on the landmarks stands in for the map
    that does not exist. Without landmarks nothing is known.
    """
    if t.invertible:
        return _noting(problems, names[1], t.sent_back(points_b)), _how(t, "backward"), True
    (a, b), (more, less) = names, (t.a.observation.dim, t.b.observation.dim)
    dims = f"{b} has intrinsic dimension {less}, {a} has {more}, so that there is no way back"
    if t.landmarks is None:
        return (
            np.tile(mean, (len(points_b), 1)),
            f"{dims}; {WITHOUT_LANDMARKS} nothing can stand in but the mean",
            False,
        )
    marks_a, marks_b = t.landmarks
    at_marks, at = (t.b.place(points, thread_count(t.n_jobs)) for points in (marks_b, points_b))
    queries = points_b, t.b.features(_noting(problems, names[1], at))
    predicted, name = _stand_in((marks_b, t.b.features(at_marks.said())), marks_a, queries)
    return predicted, f"{dims}: {name} on the landmarks stands in", True


def _stand_in(landmarks: Pair, values: FloatArray, queries: Pair) -> tuple[FloatArray, str]:
    """The regression on landmarks (points, coordinates) that predicts left-out ones best, at queries; and its name."""
    points, coordinates = landmarks
    model = learn_correction(points, coordinates, values)
    missed = np.empty_like(values)
    for fold in range(min(FOLDS, len(points))):
        out = np.arange(len(points)) % FOLDS == fold
        missed[out] = affine_fit(points[~out], values[~out])(points[out]) - values[out]
    if np.linalg.norm(missed) < model.error * np.linalg.norm(values - values.mean(axis=0)):
        return affine_fit(points, values)(queries[0]), "an affine fit"
    return model.predict(*queries), "a regression by Gaussian processes"


def _with_losses(
    t: Transformation, pairs: Pair, forward: Direction, backward: Direction, names: Names
) -> tuple[Direction, Direction]:
    """Both directions, with what the source of a failing one, whose loss is shown, lost of what its target keeps.

    Where the other direction holds, the keeping side's samples are pushed through it; where both fail there is no map to
    push them through, and landmarks and held-out pairs are the places at which both sides were measured.
    """
    pairs = _with_landmarks(t, pairs)
    charts, found = (t.a, t.b), []
    for one, other, (keeps, lost) in ((forward, backward, (1, 0)), (backward, forward, (0, 1))):
        if one.status != FAILS:
            found.append(one)
            continue
        chart = charts[keeps]
        samples = _moved(t, chart.coordinates) if keeps == 0 else t.b.wrapped(chart.coordinates)
        if other.status == HOLDS:
            rows = np.linspace(0, len(samples) - 1, min(len(samples), MOST_PLACES)).astype(np.int64)
            push = t.sent if keeps == 0 else t.sent_back
            places, measured = samples[rows], push(chart.observation.points[rows]).values
        else:
            places, measured = _located(t, pairs)[keeps], pairs[lost]
        collapsed = charts[lost].observation.dim < chart.observation.dim
        loss = find_loss(places, measured, samples, names=(names[keeps], names[lost]), collapsed=collapsed)
        found.append(replace(one, loss=loss))
    return found[0], found[1]


def _spaced(count: int, most: int) -> IntArray:
    """At most so many rows, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _moved(t: Transformation, coordinates: FloatArray) -> FloatArray:
    """Coordinates of A moved to B's, where there is such a motion."""
    return t.b.wrapped(t.alignment.forward(coordinates)) if t.invertible else coordinates


def _located(t: Transformation, pairs: Pair) -> Pair:
    """Intrinsic coordinates of the held-out pairs as each side sees them."""
    # What is outside of the domain is a problem already.
    at_a, at_b = (side.place(y, thread_count(t.n_jobs)).values for side, y in zip((t.a, t.b), pairs, strict=True))
    return _moved(t, at_a), t.b.wrapped(at_b)


def _spectra(t: Transformation, n_jobs: int | None) -> Pair:
    """Nontrivial generator eigenvalues of both sides; empty where a side has none."""
    known = t.diagnostics.generator_eigenvalues
    return known if known is not None else (_spectrum(t.a.observation, n_jobs), _spectrum(t.b.observation, n_jobs))


def _spectrum(observation: Observation, n_jobs: int | None) -> FloatArray:
    part = observation[_spaced(len(observation), MOST_FOR_SPECTRA)]
    try:
        with errors.unsaid(errors.DiffeoWarning):  # a spectrum here is an illustration
            fitted = DiffusionMap(n_components=min(N_EIGENVALUES, len(part.usable) // 4), n_jobs=n_jobs).fit(part)
    except errors.DiffeoError:
        return np.empty(0)
    values: FloatArray = fitted.generator_eigenvalues_[1:]
    # Pieces have spectra of their own: nothing to compare.
    return values if fitted.n_connected_components_ == 1 else np.empty(0)


def _facts(t: Transformation) -> dict[str, Any]:
    """Numbers of the diagnostics by name."""
    known = t.diagnostics
    facts: dict[str, Any] = {"landmark_residual": float(known.landmark_residual), "scale": float(t.scale)}
    facts["near_folds"] = [len(rows) for rows in known.near_folds]
    if known.stress is not None:
        facts["stress"] = [float(value) for value in np.atleast_1d(known.stress)]
    return facts


def _settings(t: Transformation, judging: Judging) -> dict[str, Any]:
    """What it takes to make the report again."""
    return {
        "diffeo": __version__,
        "instruction_set": core.INSTRUCTION_SET,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "arguments": {"margin": judging.margin, "significance": judging.significance},
        "n_a": len(t.a.observation),
        "n_b": len(t.b.observation),
        "source_a": t.a.observation.source,
        "source_b": t.b.observation.source,
    }
