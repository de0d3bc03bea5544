"""assess: the verdict on a transformation by held-out pairs, with all that a report shows beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, RandomState, boolean, check_units, real
from diffeo._support.placed import Placed
from diffeo._support.progress import showing, stage
from diffeo._support.threads import thread_count, working
from diffeo._support.wording import SIDES, Names, rows_text
from diffeo.charts.chart import Chart, CoordinateChoice, check_choice
from diffeo.matching.landmark_correction import learn_correction
from diffeo.matching.match_observations import match_problem, solved
from diffeo.matching.pairs import Landmarks, Pairs, as_pairs
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.verdict.baselines import affine_fit, compare_baselines
from diffeo.verdict.error_bounds import UNDETERMINED, Direction, judge, verdict
from diffeo.verdict.losses import Pair, evidence_both_ways, located, moved, with_landmarks, with_losses
from diffeo.verdict.report import Report
from diffeo.verdict.report_facts import diagnosed, settings_of, spaced, spectra_of
from diffeo.verdict.sentences import SWAPPED, WITHOUT_LANDMARKS, exchanged, reason_for
from diffeo.verdict.set_aside import aside_text, contradicted_pairs
from diffeo.verdict.shown_loss import BothWays

# Samples of each side that a report shows.
MOST_SHOWN = 2000
# Parts of the landmarks that an affine fit leaves out in turn.
FOLDS = 10


@dataclass(frozen=True)
class Judging:
    """How a transformation is judged, as `assess` says, what messages call its sides, and which pictures are prepared."""

    margin: float = 0.05
    significance: float = 0.05
    baselines: bool = True
    n_jobs: int | None = None
    names: Names = SIDES
    spectra: bool = True
    places: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", real(self.margin, "margin", above=0.0, below=1.0))
        object.__setattr__(self, "significance", real(self.significance, "significance", above=0.0, below=0.5))
        thread_count(self.n_jobs)


def assess(
    t: Transformation,
    held_out: Landmarks = None,
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
        belong together. Default: those that `diffeo.match_pairs` held out.
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

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> a = diffeo.Observation.from_jacobians(x[:150], np.tile(np.eye(2), (150, 1, 1)))
    >>> b = diffeo.Observation.from_jacobians(2 * x[150:], np.tile(2 * np.eye(2), (150, 1, 1)))
    >>> marks = np.array([[0.1, 0.2], [0.8, 0.3], [0.4, 0.9]])
    >>> t = diffeo.match(a, b, landmarks=(marks, 2 * marks))
    >>> others = np.random.default_rng(1).random((40, 2))
    >>> report = diffeo.assess(t, (others, 2 * others))
    >>> report.verdict, report.forward.status
    ('equivalent', 'holds')
    """
    if not isinstance(t, Transformation):
        raise errors.DataTypeError(
            f"t must be a diffeo.Transformation, as diffeo.match gives it, not {type(t).__name__}"
        )
    judging = Judging(margin, significance, baselines, n_jobs)
    pairs = _parsed(t.held_out if held_out is None else held_out, t.a.observation, t.b.observation)
    _check_held_out(pairs, t)
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
    check: bool = True,
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
    problem = replace(problem, check=boolean(check, "check"))
    with showing(verbose):
        return compared(problem, held_out, judging)


def compared(
    problem: MatchProblem,
    held_out: Landmarks,
    judging: Judging,
    solve: Callable[[MatchProblem], Transformation] = solved,
    known: BothWays | None = None,
) -> Report:
    """What `compare` gives, of a problem whose sides stand as the caller named them; `solve` may take part in the match.

    Evidence that is `known`, of the sides in the order in which they are matched, is not sought again.
    """
    pairs = _parsed(held_out, problem.a.observation, problem.b.observation)
    _check_apart(problem.landmarks, pairs)
    exchange = problem.a.dim < problem.b.dim
    if exchange:
        problem, pairs, judging = problem.exchanged(), pairs.swapped(), replace(judging, names=SIDES[::-1])
    with working(judging.n_jobs):
        t = solve(problem)
        _check_held_out(pairs, t)
        with stage("assessing"):
            report = _assess(t, pairs.points, judging, known)
    return exchanged(report) if exchange else report


def judged(t: Transformation, judging: Judging, known: BothWays | None = None) -> Report:
    """What `assess` gives of a transformation by the pairs that it held out; evidence that is `known` is not sought again."""
    return _assess(t, _parsed(t.held_out, t.a.observation, t.b.observation).points, judging, known)


def _parsed(held_out: Any, obs_a: Observation, obs_b: Observation) -> Pairs:
    """Held-out pairs, of which there are some."""
    try:
        pairs = as_pairs(held_out, obs_a, obs_b, "held_out")
    except errors.LandmarkError as error:
        raise errors.InputError(str(error)) from error
    if pairs is None:
        raise errors.InputError(
            "held_out is empty: an assessment needs pairs of measurements (points_a, points_b) of common inputs that are "
            "no landmarks, or an (H, 2) array of row numbers"
        )
    check_units(pairs.points_a, "held-out points of A")
    check_units(pairs.points_b, "held-out points of B")
    return pairs


def _check_apart(landmarks: Pairs | None, held_out: Pairs) -> None:
    """Refuse held-out pairs that have the identifiers of landmarks."""
    if landmarks is None or landmarks.ids is None or held_out.ids is None:
        return
    both = np.flatnonzero(np.isin(held_out.ids, landmarks.ids))
    if len(both):
        raise errors.InputError(
            f"{len(both)} of {len(held_out)} held-out pairs ({rows_text(both)}) have identifiers of landmarks: they cannot "
            "judge what was fitted to them; leave them out on one of the two sides"
        )


def _check_held_out(pairs: Pairs, t: Transformation) -> None:
    """Refuse held-out pairs that are landmarks, or each other."""
    rows = np.hstack(pairs.points)
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.ravel()] != np.arange(len(rows)))
    if len(again):
        raise errors.InputError(
            f"{len(again)} held-out pairs ({rows_text(again)}) are the same as earlier ones: a pair counts once; remove them"
        )
    if t.landmarks is not None:
        known = {row.tobytes() for row in np.hstack(t.landmarks)}
        seen = np.flatnonzero([row.tobytes() in known for row in rows])
        if len(seen):
            raise errors.InputError(
                f"{len(seen)} of {len(rows)} held-out pairs ({rows_text(seen)}) are landmarks of the transformation: they "
                "cannot judge what was fitted to them; leave them out on one of the two sides"
            )


def _assess(t: Transformation, pairs: Pair, judging: Judging, known: BothWays | None = None) -> Report:
    """The report from checked arguments."""
    t = replace(t, n_jobs=judging.n_jobs)
    sides = t.a.observation, t.b.observation
    problems = list(t.diagnostics.problems)
    levels = {"margin": judging.margin, "significance": judging.significance}
    predicted_b = _noting(problems, judging.names[0], t.sent(pairs[0]))
    predicted_a, how, told = _way_back(t, pairs[1], pairs[0].mean(axis=0), problems, judging.names)
    lost_by_a, lost_by_b = evidence_both_ways(t, with_landmarks(t, pairs), judging.names, judging.margin, known)
    said = [(predicted_b, pairs[1]), (predicted_a, pairs[0])]
    aside = contradicted_pairs(said if told else said[:1])
    kept, count = np.setdiff1d(np.arange(len(predicted_b)), aside), len(predicted_b)

    def judged_by(rows: IntArray) -> tuple[Direction, Direction]:
        to_b = judge(predicted_b[rows], pairs[1][rows], _how(t, "forward"), evidence=lost_by_a, **levels)
        to_a = judge(predicted_a[rows], pairs[0][rows], how, evidence=lost_by_b, **levels)
        # These alone say how much is lost.
        return to_b, to_a if told or lost_by_b.kind == "pairs" else replace(to_a, status=UNDETERMINED)

    forward, backward = judged_by(kept)
    with_all = verdict(*(one.status for one in judged_by(np.arange(count)))) if len(aside) else ""
    pairs = pairs[0][kept], pairs[1][kept]
    forward, backward = with_losses(t, pairs, forward, backward, judging.names)
    compared = []
    if judging.baselines:
        compared = compare_baselines(t.landmarks, pairs, observations=sides, n_jobs=judging.n_jobs, names=judging.names)
    rows = spaced(len(t.a.observation), MOST_SHOWN), spaced(len(t.b.observation), MOST_SHOWN)
    # The reason is told as the caller names the sides.
    ways, step = ((forward, backward), 1) if judging.names == SIDES else ((backward, forward), -1)
    expected = (t.diagnostics.expected_error, t.diagnostics.expected_error_back)[::step]
    found = verdict(ways[0].status, ways[1].status)
    reason = reason_for(found, *ways, judging.margin, judging.significance, (expected[0], expected[1]))
    if len(aside):
        both = verdict(forward.status, backward.status), with_all
        both = both if judging.names == SIDES else (SWAPPED.get(both[0], both[0]), SWAPPED.get(both[1], both[1]))
        reason = f"{reason} {aside_text(aside, count, *both)}"
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
        embeddings=(moved(t, t.a.coordinates[rows[0]]), t.b.wrapped(t.b.coordinates[rows[1]])),
        held_out=located(t, pairs) if judging.places else (np.empty((0, 0)), np.empty((0, 0))),
        spectra=spectra_of(t, judging.n_jobs) if judging.spectra else (np.empty(0), np.empty(0)),
        diagnostics=diagnosed(t),
        settings=settings_of(t, {"margin": judging.margin, "significance": judging.significance}),
        rows=rows,
        set_aside=aside,
        verdict_with_all=with_all,
    )


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
