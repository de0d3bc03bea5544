"""match: intrinsic coordinates for two observations, their alignment, and the transformation between them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import RandomState, boolean, seed
from diffeo._support.progress import showing
from diffeo._support.threads import working
from diffeo._support.wording import SIDES, Names
from diffeo.charts.chart import Chart, CoordinateChoice, as_chart, check_choice
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.isometry.graph import ROWS_OF_ERROR
from diffeo.isometry.trust import is_one_to_one, is_suspicious, too_many_strays
from diffeo.matching.by_pairs.pair_map import (
    better,
    distinct,
    distorted_problem,
    enough_landmarks,
    last_resort,
    one_way,
    regressed,
)
from diffeo.matching.diffusion_match import by_diffusion, by_registration
from diffeo.matching.isometric_match import by_isometry
from diffeo.matching.pairs import Landmarks, parse_observables
from diffeo.matching.parts.pieces_joined import joined_pieces
from diffeo.matching.parts.pieces_posed import posed_in_pieces
from diffeo.matching.parts.stray_landmarks import missed_unused
from diffeo.matching.problem import MatchProblem
from diffeo.matching.self_check import (
    GOOD,
    GOOD_CHART,
    expected_of,
    good_where_mapped,
    judged,
    unchecked,
    with_losers,
)
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation

# A map that is expected to be wrong by this much of the spread is no better than none.
NONE = 1.0
# By what a map is refused where there may be another.
REFUSALS: tuple[type[errors.DiffeoError], ...] = (
    errors.ConvergenceError,
    errors.DisconnectedError,
    errors.DomainMismatchError,
    errors.LandmarkError,
    errors.SampleSizeError,
)


def match(
    obs_a: Observation | Chart,
    obs_b: Observation | Chart,
    *,
    landmarks: Landmarks = None,
    coordinates: CoordinateChoice = "auto",
    observables: tuple[ArrayLike, ArrayLike] | None = None,
    check: bool = True,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Transformation:
    """Find the change of coordinates between two observations of one input domain.

    Both observations are given intrinsic coordinates from their local Mahalanobis metrics, landmarks align the two,
    and measurements are interpolated on the common coordinates. What the landmarks still miss is then learned from them
    (`diffeo.matching.landmark_correction`), so that many landmarks make the map better than few. With diffusion coordinates
    this is the method of Bertalan, Dietrich and Kevrekidis (arXiv 2007.05646); isometric coordinates are far more accurate
    where they exist.

    Samples that fall into pieces, as beyond a cliff that no edge crosses, are matched piece by piece: landmarks tell which
    pieces of A and of B belong together, and each two that have as many as a match needs get a map of their own. What is not
    matched is named by rows and share.

    Parameters
    ----------
    obs_a, obs_b : Observation or Chart
        They need not share a single input, but their inputs must fill the same domain. A chart, as `diffeo.embed` makes it,
        saves embedding its observation again, and gives the same bits.
    landmarks : Pairs, tuple of array_like (points_a (L, m_a), points_b (L, m_b)), or integer array_like of shape (L, 2)
        Measurements of L common inputs (`Observation.measure`), or rows of `obs_a` and `obs_b` that belong together. d + 1
        in general position determine the alignment of isometric coordinates; with fewer, or None, shape and density of the two
        samples decide what is left open (they must then be drawn alike). One is enough, and two overdetermine it, where Pairs
        carry derivatives (`diffeo.measure_pairs` with ``like=(obs_a, obs_b)``): these align frames. Diffusion coordinates need
        as many as there are coordinates; curved domains as many as the largest leading block of eigenvalues has members, or
        one fewer.
    coordinates : {"auto", "isometric", "diffusion"}
        "auto" takes isometric coordinates where they are good (flat domains, closed ones included). Else what is expected to be
        least wrong: isometric ones all the same; samples of A registered on B's manifold, from a start by diffusion
        coordinates (curved domains); or, given 2 (d + 1) landmarks (10 for each dimension without the check), maps learned
        from the landmarks alone. Where nothing else is better than none, d + 1 carry one, and three at least: about as wrong as
        the best of affine and Procrustes, and it says so. ``t.diagnostics.competed`` has the figures. "diffusion" is the
        method of the paper, without more. Charts of one kind restrict "auto" to that.
    observables : tuple of array_like (values_a (n_a,) or (n_a, p), values_b (n_b,) or (n_b, p)), optional
        A quantity that both networks report (their output, say), at every sample of each side; it aligns isometric
        coordinates without landmarks, or beside fewer than d + 1; with more they are not needed, and not used.
    check : bool
        Make the map again from two random halves of each side, and compare: ``t.diagnostics.expected_error`` is what the map is
        expected to be wrong by, ``t.predicted_error(points)`` says it of each row, and "auto" chooses by it. About doubles the
        time. Without it problems are told by signs of trouble, such as stress, which say little of its size.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Transformation
        Look at ``.diagnostics.problems`` and ``.diagnostics.expected_error`` before use.

    Raises
    ------
    DisconnectedError
        A neighbour graph falls into pieces of which none holds two thirds of the samples, no two of them have enough landmarks
        to be matched, and all are too few to learn from; its ``rows`` are those of each.
    DimensionMismatchError
        A has fewer intrinsic dimensions than B. (With more, only ``transform`` exists.)
    DomainMismatchError
        Closed domains with different periods, or of different dimensions; without landmarks, also samples that fit each
        other in no position.
    SampleSizeError
        Too few samples to align by observables.
    LandmarkError
        Landmarks that are missing, too few, out of range, off the measured manifold or dependent.
    UnrelatedLandmarksError
        Fewer than half of the landmarks agree on a motion although one is to be expected: rows are shifted, say.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> a = diffeo.Observation.from_jacobians(x[:150], np.tile(np.eye(2), (150, 1, 1)))
    >>> b = diffeo.Observation.from_jacobians(2 * x[150:], np.tile(2 * np.eye(2), (150, 1, 1)))
    >>> marks = np.array([[0.1, 0.2], [0.8, 0.3], [0.4, 0.9]])
    >>> t = diffeo.match(a, b, landmarks=(marks, 2 * marks))
    >>> np.round(t.transform([[0.5, 0.5]]), 3)
    array([[1., 1.]])
    """
    check_choice(coordinates)
    problem = match_problem(obs_a, obs_b, coordinates, random_state, n_jobs)
    _check_dimensions(problem)
    values = parse_observables(observables, problem.a.observation, problem.b.observation)
    problem = replace(problem.given(landmarks), observables=values, check=boolean(check, "check"))
    with showing(verbose), working(n_jobs):
        return solved(problem)


def match_problem(
    a: Observation | Chart,
    b: Observation | Chart,
    coordinates: CoordinateChoice = "auto",
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    names: Names = SIDES,
) -> MatchProblem:
    """The problem that arguments of `match` pose, still without landmarks; `names` say what messages call the sides."""
    # A chart of one kind decides for both sides.
    asked = {given.asked for given in (a, b) if isinstance(given, Chart)} - {"auto"}
    wanted: CoordinateChoice = asked.pop() if coordinates == "auto" and len(asked) == 1 else coordinates
    start = seed(random_state)
    charts = [as_chart(given, f"obs_{'ab'[i]}", wanted, start, n_jobs) for i, given in enumerate((a, b))]
    if asked and coordinates == "auto":
        raise errors.ParameterError(
            f"obs_a is a chart of {charts[0].asked} coordinates and obs_b one of {charts[1].asked} ones: they cannot be "
            "joined; embed both alike"
        )
    return MatchProblem(charts[0], charts[1], wanted, random_state=start, n_jobs=n_jobs, names=names)


def solved(problem: MatchProblem) -> Transformation:
    """Choose the coordinates, and align them; by evidence, if the map is to be checked."""
    _check_dimensions(problem)
    if problem.coordinates == "diffusion":
        if problem.observables is not None:
            raise errors.ParameterError(
                "observables align isometric coordinates only; leave them out, or pass landmarks"
            )
        problem.need_landmarks("diffusion coordinates are aligned by landmarks only")
        return judged(problem, by_diffusion(problem)) if problem.check else unchecked(by_diffusion(problem))
    learnable = problem.coordinates == "auto" and enough_landmarks(distinct(problem), problem.a.dim, problem.check)
    if (found := _by_pieces(problem, learnable)) is not None:
        return found
    layouts = _Layouts(problem, learnable or last_resort(problem))
    if problem.check and (found := _by_evidence(problem, layouts, learnable)) is not None:
        return found
    found = _with_regression(problem, layouts) if learnable else _by_coordinates(problem, layouts)
    return judged(problem, found) if problem.check else unchecked(found)


def _by_pieces(problem: MatchProblem, learnable: bool) -> Transformation | None:
    """The match piece by piece, where a side falls into pieces; None where the largest ones are all that can be matched.

    Where it is expected to be bad also among what is matched, maps learned from all landmarks may be better.
    """
    posed = posed_in_pieces(problem)
    if posed is None or not posed.joints:
        return None
    found, whole = list[Transformation | errors.DiffeoError](), all(chart.isometric() for chart in problem.charts)
    if whole and [joint.numbers for joint in posed.joints] == [(0, 0)]:
        return None
    for joint in posed.joints:
        try:
            found.append(solved(joint.problem))
        except errors.DiffeoError as error:
            found.append(error)
    made = [joint.numbers for joint, one in zip(posed.joints, found, strict=True) if isinstance(one, Transformation)]
    unrelated = [one for one in found if isinstance(one, errors.UnrelatedLandmarksError)]
    if not made and unrelated:
        raise unrelated[0]
    if not made or (whole and made == [(0, 0)]):
        return None
    t = joined_pieces(problem, posed, found, GOOD)
    if not problem.check or good_where_mapped(t):
        return t
    figure = max(expected_of(t), missed_unused(problem, t))
    if not (learnable or (last_resort(problem) and figure >= NONE)):
        return t
    a, b = (MeasuredChart(chart.measured) for chart in problem.charts)
    learned = judged(problem, regressed(problem, a, b, ["the samples fall into pieces"]))
    figures = [figure, expected_of(learned)]
    return with_losers(t if figures[0] <= figures[1] else learned, [t, learned], figures)


def _by_evidence(problem: MatchProblem, layouts: _Layouts, learnable: bool) -> Transformation | None:
    """Of all maps that can be made, that which is expected to be least wrong; None where all are refused.

    Isometric coordinates that are good, or charts by every other sign and not bad, end the search.
    """
    a, b = layouts.sides[0], layouts.sides[-1]
    found, off = list[Transformation](), list[str]()

    def competing(t: Transformation) -> float:
        return max(expected_of(t), missed_unused(problem, t))

    if a is not None and b is not None and len(layouts.sides) == 2:
        # What speaks against two good charts, such as other periods, is said of the networks.
        are_charts = a.is_chart and b.is_chart
        if problem.coordinates == "auto" and not (are_charts or problem.count):
            return None  # nothing would tell how bad it is
        many = enough_landmarks(problem.count, problem.a.dim)
        # Where one of them is torn, landmarks that lie off it are no reason to refuse what can be learned from all.
        torn = any(is_suspicious(side.embedding.stress_, side.observation.length_noise) for side in (a, b))
        taught = learnable or last_resort(problem)
        kinds = REFUSALS if many or not are_charts else (errors.LandmarkError,) if taught and torn else ()
        with _refused(problem, off if are_charts and not many else layouts.reasons, kinds):
            found.append(judged(problem, by_isometry(problem, a, b)))
        if problem.coordinates == "isometric":
            return found[0]
        enough = GOOD_CHART if are_charts and found and found[0].expected is not None else GOOD
        if found and competing(found[0]) <= enough:
            return found[0]
    if problem.count and problem.invertible and problem.register:
        with _refused(problem, []):
            reasons = layouts.reasons if a is None or b is None else _no_chart(problem, a, b)
            registered = by_registration(problem, reasons)
            # What already misses the landmarks by more needs no halves.
            hopeless = found and 0.5 * expected_of(registered) > competing(found[0])
            found.append(registered if hopeless else judged(problem, registered, _first(found)))
    if learnable or (
        last_resort(problem) and all(competing(one) >= NONE and not good_where_mapped(one) for one in found)
    ):
        learned = regressed(problem, *_for_regression(problem, layouts), layouts.reasons)
        found.append(judged(problem, learned, _first(found)))
    if not found:
        return None
    figures = [competing(one) for one in found]
    best = with_losers(found[int(np.argmin(figures))], found, figures)
    # Which landmarks lie off a chart that was good enough to be asked first is said whatever wins.
    return replace(best, diagnostics=replace(best.diagnostics, problems=[*best.diagnostics.problems, *off]))


def _first(found: list[Transformation]) -> Transformation | None:
    return found[0] if found else None


@contextlib.contextmanager
def _refused(
    problem: MatchProblem, reasons: list[str], kinds: tuple[type[errors.DiffeoError], ...] = REFUSALS
) -> Iterator[None]:
    """Go on with other coordinates, if these were not asked for, where a map by them is refused; to the reasons, why."""
    try:
        yield
    except errors.UnrelatedLandmarksError:
        raise
    except kinds as error:
        if problem.coordinates != "auto":
            raise
        reasons.append(f"no common coordinates: {error}")


class _Layouts:
    """Isometric layouts of A and of B, None where the graph falls into pieces, and what is to be said of that.

    Without one on side A that of B is of no use, unless maps can be learned.
    """

    def __init__(self, problem: MatchProblem, learnable: bool) -> None:
        self.sides: list[IsometricChart | None] = []
        self.reasons: list[str] = []
        for chart, name in zip(problem.charts, problem.names, strict=True):
            self.sides.append(chart.isometric())
            if self.sides[-1] is not None:
                continue
            reason = (
                f"observation {name}: {chart.disconnected}; {chart.dim + 1} landmarks in each piece would join these"
            )
            if problem.coordinates == "isometric":
                raise errors.DisconnectedError(reason, chart.pieces)
            self.reasons.append(f"no isometric coordinates: {reason.replace(ROWS_OF_ERROR, '')}")
            if not learnable:
                break


def _by_coordinates(problem: MatchProblem, layouts: _Layouts) -> Transformation:
    """Common coordinates, isometric or of diffusion."""
    a, b = layouts.sides[0], layouts.sides[-1]
    if a is None or b is None:
        problem.need_landmarks("; ".join(layouts.reasons + problem.unused))
        return by_registration(problem, layouts.reasons)
    if problem.coordinates == "auto" and problem.invertible and not (a.is_chart and b.is_chart):
        found = _no_chart(problem, a, b)
        problem.need_landmarks("; ".join((found or ["the domain is closed and curved"]) + problem.unused))
        return by_registration(problem, found)
    return by_isometry(problem, a, b)


def _with_regression(problem: MatchProblem, layouts: _Layouts) -> Transformation:
    """The match by common coordinates, or by regression where that one fails or is worse at the landmarks.

    Isometric coordinates have the regression in them already (`diffeo.matching.landmark_correction`). Others are compared in
    the direction in which each is better: where a side lost something, no map is good both ways. Where the landmarks show
    that, and one side has no isometric coordinates, no common ones are sought.
    """
    a, b = _for_regression(problem, layouts)
    reasons = [*layouts.reasons, *problem.unused]
    if isinstance(a, MeasuredChart) != isinstance(b, MeasuredChart) and problem.invertible:
        learned = regressed(problem, a, b, reasons or [distorted_problem(a, problem.names)])
        if one_way(learned):
            return learned
    try:
        found = _by_coordinates(problem, layouts)
    except errors.UnrelatedLandmarksError:
        raise
    except (errors.DisconnectedError, errors.DomainMismatchError, errors.LandmarkError) as error:
        return regressed(problem, a, b, reasons or [f"no common coordinates: {error}"])
    said = [*found.diagnostics.problems, *found.diagnostics.reasons]
    if found.coordinates == "isometric" or (found.registration is not None and not said):
        return found
    return better(regressed(problem, a, b, said), found)


def _for_regression(
    problem: MatchProblem, layouts: _Layouts
) -> tuple[IsometricChart | MeasuredChart, IsometricChart | MeasuredChart]:
    """Both sides as a regression sees them: with coordinates where all of their samples have some."""

    def seen(layout: IsometricChart | None, chart: Chart) -> IsometricChart | MeasuredChart:
        whole = layout is not None and not too_many_strays(len(layout.left_out), len(layout.observation))
        return layout if layout is not None and whole and layout.is_chart else MeasuredChart(chart.measured)

    a, b = (seen(layout, chart) for layout, chart in zip(layouts.sides, problem.charts, strict=True))
    return a, b


def _no_chart(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> list[str]:
    """Why diffusion coordinates were taken, unless the domain is simply closed."""
    return [
        f"side {name} has no isometric coordinates (relative stress {side.embedding.stress_:.3f}): noise, a curved domain, "
        "neurons that do not embed, or a thin domain whose layout was caught on the way"
        for name, side in zip(problem.names, (a, b), strict=True)
        if not side.keeps_lengths and is_one_to_one(side.embedding.overlap_)
    ]


def _check_dimensions(problem: MatchProblem) -> None:
    """Refuse sides of different dimensions that cannot be matched in this order, or by these coordinates."""
    a, b = problem.names
    if problem.a.dim < problem.b.dim:
        raise errors.DimensionMismatchError(
            f"{problem.dimensions}: {b} keeps more than {a}, so that no map leads from {a} to "
            f"{b}; match(obs_b, obs_a) gives the way back. Or give dim= to the observations if one was misjudged, or measure "
            "more neurons"
        )
    if problem.a.dim > problem.b.dim and problem.coordinates == "diffusion":
        raise errors.DimensionMismatchError(
            f'{problem.dimensions}: diffusion coordinates cannot join them; take coordinates="isometric"'
        )
