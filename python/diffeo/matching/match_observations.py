"""match: intrinsic coordinates for two observations, their alignment, and the transformation between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, seed
from diffeo._support.progress import showing
from diffeo._support.threads import thread_count, working
from diffeo._support.wording import rows_text
from diffeo.alignment.candidates import Side, isometric_candidates
from diffeo.alignment.curved.registration import registered_charts
from diffeo.alignment.linear import Alignment, align_diffusion, align_projection
from diffeo.charts.chart import landmark_coordinates
from diffeo.charts.diffusion import common_coordinates, diffusion_chart
from diffeo.charts.isometric import IsometricChart, isometric_chart
from diffeo.charts.measured import MeasuredChart
from diffeo.diffusion.kernel import automatic_epsilon
from diffeo.isometry.trust import doubt_of_stress, is_chart, is_one_to_one, keeps_lengths
from diffeo.matching.diagnostics import (
    diagnose_diffusion,
    diagnose_isometric,
    diagnose_registered,
    regression_problems,
    spectral_scale,
)
from diffeo.matching.landmark_correction import learn_correction, left_out_coordinates
from diffeo.matching.pair_map import better_of, enough_landmarks
from diffeo.matching.pairs import landmark_points, parse_landmarks, parse_observables
from diffeo.matching.transformation import Transformation
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation

# Landmarks off a manifold are left out while they are at most this share.
STRAY_LANDMARKS = 0.1


def match(
    obs_a: Observation,
    obs_b: Observation,
    *,
    landmarks: Any = None,
    coordinates: str = "auto",
    observables: Any = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Transformation:
    """Find the change of coordinates between two observations of one input domain.

    Both observations are given intrinsic coordinates from their local Mahalanobis metrics, landmarks align the two,
    and measurements are interpolated on the common coordinates. What the landmarks still miss is then learned from them
    (`diffeo.matching.landmark_correction`), so that many landmarks make the map better than few. With diffusion coordinates
    this is the method of Bertalan, Dietrich and Kevrekidis (arXiv 2007.05646); isometric coordinates are far more accurate
    where they exist.

    Parameters
    ----------
    obs_a, obs_b : Observation
        They need not share a single input, but their inputs must fill the same domain.
    landmarks : tuple of array_like (points_a (L, m_a), points_b (L, m_b)), or integer array_like of shape (L, 2)
        Measurements of L common inputs, or rows of `obs_a` and `obs_b` that belong together. d + 1 in general position
        determine the alignment of isometric coordinates; with fewer, or None, shape and density of the two samples
        decide what is left open (they must then be drawn alike). Diffusion coordinates need as many as there are
        coordinates; curved domains as many as the largest leading block of eigenvalues has members, or one fewer.
    coordinates : {"auto", "isometric", "diffusion"}
        "auto" takes isometric coordinates where they exist (flat domains, closed ones included); on curved domains,
        samples of A are registered on B's manifold, from a start by diffusion coordinates; and where no coordinates join the
        sides, because one folds its domain, the maps are learned from the landmarks alone, given 10 for each dimension
        (a problem says so). "diffusion" is the method of
        the paper, without more.
    observables : tuple of array_like (values_a (n_a,) or (n_a, p), values_b (n_b,) or (n_b, p)), optional
        A quantity that both networks report (their output, say), at every sample of each side; it aligns isometric
        coordinates without landmarks, or beside fewer than d + 1; with more they are not needed, and not used.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Transformation
        Look at ``.diagnostics.problems`` before use.

    Raises
    ------
    DisconnectedError
        A neighbour graph falls into pieces; the message gives their sizes.
    DimensionMismatchError
        A has fewer intrinsic dimensions than B. (With more, only ``transform`` exists.)
    DomainMismatchError
        Closed domains with different periods, or of different dimensions; without landmarks, also samples that fit each
        other in no position.
    SampleSizeError
        Too few samples to align by observables.
    LandmarkError
        Landmarks that are missing, too few, out of range, off the measured manifold or dependent.
    """
    _check_arguments(obs_a, obs_b, coordinates)
    seed_value = seed(random_state)
    values = parse_observables(observables, obs_a, obs_b)
    parsed = parse_landmarks(landmarks, obs_a, obs_b)
    with showing(verbose), working(n_jobs):
        return _match(obs_a, obs_b, parsed, coordinates, values, seed_value, n_jobs)


def _match(
    obs_a: Observation,
    obs_b: Observation,
    parsed: tuple[Any, Any],
    coordinates: str,
    values: tuple[FloatArray, FloatArray] | None,
    seed_value: int,
    n_jobs: int | None,
) -> Transformation:
    """Choose the coordinates and align them."""
    if coordinates == "diffusion":
        if values is not None:
            raise errors.ParameterError(
                "observables align isometric coordinates only; leave them out, or pass landmarks"
            )
        _need_landmarks(parsed, "diffusion coordinates are aligned by landmarks only")
        return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs)
    obs_a, obs_b = (smoothed(obs, n_jobs=n_jobs) for obs in (obs_a, obs_b))
    unused = [] if values is None else ["observables were not used: they align isometric coordinates only"]
    learnable = coordinates == "auto" and enough_landmarks(len(parsed[0]), obs_a.dim)
    charts, reasons = _isometric_charts(obs_a, obs_b, coordinates, learnable, n_jobs)

    def by_coordinates() -> Transformation:
        """Common coordinates, isometric or of diffusion."""
        a, b = charts[0], charts[-1]
        if a is None or b is None:
            _need_landmarks(parsed, "; ".join(reasons + unused))
            return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs, reasons, unused)
        if coordinates == "auto" and obs_a.dim == obs_b.dim and not (_is_chart(a) and _is_chart(b)):
            found = _no_chart(a, b)
            _need_landmarks(parsed, "; ".join((found or ["the domain is closed and curved"]) + unused))
            return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs, found, unused)
        return _match_isometric(a, b, parsed, values, seed_value, n_jobs)

    points = landmark_points(obs_a, obs_b, parsed)
    if not learnable or points is None:
        return by_coordinates()
    usable = [
        MeasuredChart(obs) if chart is None or not _is_chart(chart) else chart
        for obs, chart in zip((obs_a, obs_b), charts, strict=True)
    ]
    return better_of(by_coordinates, usable[0], usable[1], points, [*reasons, *unused], n_jobs)


def _isometric_charts(
    obs_a: Observation, obs_b: Observation, coordinates: str, learnable: bool, n_jobs: int | None
) -> tuple[list[IsometricChart | None], list[str]]:
    """Charts of A and of B, None where the graph falls into pieces, and what was said of it.

    Without one on side A that of B is of no use, unless maps can be learned.
    """
    charts: list[IsometricChart | None] = []
    reasons: list[str] = []
    for obs, name in ((obs_a, "A"), (obs_b, "B")):
        try:
            charts.append(isometric_chart(obs, name, n_jobs))
        except errors.DisconnectedError as error:
            if coordinates == "isometric":
                raise
            charts.append(None)
            reasons.append(f"no isometric coordinates: {error}")
            if not learnable:
                break
    return charts, reasons


def _match_isometric(
    a: IsometricChart,
    b: IsometricChart,
    landmarks: tuple[Any, Any],
    observables: tuple[FloatArray, FloatArray] | None,
    seed_value: int,
    n_jobs: int | None,
) -> Transformation:
    """Align isometric coordinates by landmarks, shape or observables, and learn what the landmarks still show."""
    known_unit = a.observation.known_unit and b.observation.known_unit
    n_threads = thread_count(n_jobs)
    landmarks, dropped = _without_strays(a, b, landmarks, n_threads)
    at_a = landmark_coordinates(a, landmarks[0], "A", n_jobs)
    at_b = landmark_coordinates(b, landmarks[1], "B", n_jobs)
    doubt = doubt_of_stress(a.embedding.stress_, b.embedding.stress_)
    if a.observation.dim > b.observation.dim:
        _check_open(a, b)
        alignments, problems = [align_projection(at_a, at_b)], list[str]()
    else:
        rows_a, rows_b = (np.setdiff1d(np.arange(len(x.observation)), x.embedding.left_out_) for x in (a, b))
        quantity = None if observables is None else (observables[0][rows_a], observables[1][rows_b])
        found = isometric_candidates(
            Side(at_a, a.coordinates[rows_a], a.embedding.periods_),
            Side(at_b, b.coordinates[rows_b], b.embedding.periods_),
            known_unit=known_unit,
            error=doubt,
            observables=quantity,
            rng=np.random.default_rng(seed_value),
            n_threads=n_threads,
        )
        alignments, problems = found.alignments, found.problems
    alignment = alignments[0]
    forward = backward = None
    used = landmark_points(a.observation, b.observation, landmarks)
    if used is not None:
        y_a, y_b = used
        left_out = alignment.forward(at_a)
        if alignment.kind in ("rigid", "similarity") and not len(b.embedding.periods_):
            left_out = left_out_coordinates(at_a, at_b, alignment, known_unit=known_unit)
        forward = learn_correction(
            y_a, b.features(alignment.forward(at_a)), y_b, b.measurements(left_out, n_threads), doubt=doubt
        )
        if alignment.kind != "projection":
            back = a.measurements(alignment.backward(at_b), n_threads)
            backward = learn_correction(y_b, b.features(at_b), y_a, back, doubt=doubt)
    diagnostics = diagnose_isometric(a, b, alignment, at_b, known_unit)
    diagnostics.problems[:0] = dropped + problems
    diagnostics.problems.extend(regression_problems(diagnostics.landmark_residual, forward))
    joined = (a, b, alignment, alignments, alignment.scale, diagnostics, n_jobs)
    return Transformation(*joined, forward=forward, backward=backward, landmarks=used)


def _without_strays(
    a: IsometricChart, b: IsometricChart, landmarks: tuple[Any, Any], n_threads: int
) -> tuple[tuple[Any, Any], list[str]]:
    """Landmarks without the few of many that lie off a side's manifold, and a sentence on these.

    Where a side does not embed everywhere, a hundred landmarks are not to be refused for the sake of one.
    """
    stray = np.union1d(*(side.strays(marks, n_threads) for side, marks in zip((a, b), landmarks, strict=True)))
    count = len(landmarks[0])
    if not 0 < len(stray) <= STRAY_LANDMARKS * count or count - len(stray) <= a.observation.dim:
        return landmarks, []
    problem = (
        f"{len(stray)} of {count} landmarks ({rows_text(stray)}) lie off a side's measured manifold or outside of its sampled "
        "domain and were left out: they are wrong, or that side does not embed the input there"
    )
    kept = np.setdiff1d(np.arange(count), stray)
    return (landmarks[0][kept], landmarks[1][kept]), [problem]


def _check_open(a: IsometricChart, b: IsometricChart) -> None:
    """A projection onto fewer dimensions is only fitted between open domains."""
    closed = [
        f"{name} has {count} period{'s' if count > 1 else ''}"
        for name, side in (("A", a), ("B", b))
        if (count := len(side.embedding.periods_))
    ]
    if closed:
        raise errors.DomainMismatchError(
            f"A has intrinsic dimension {a.observation.dim}, B has {b.observation.dim}, and {' and '.join(closed)}: maps of "
            "closed domains onto fewer dimensions are not implemented; cut both samples open (leave out the inputs around "
            "one value), or measure more neurons of B"
        )


def _is_chart(side: IsometricChart) -> bool:
    """Whether the layout keeps lengths and is one to one."""
    return is_chart(side.embedding.stress_, side.embedding.overlap_, side.observation.length_noise)


def _no_chart(a: IsometricChart, b: IsometricChart) -> list[str]:
    """Why diffusion coordinates were taken, unless the domain is simply closed."""
    return [
        f"side {name} has no isometric coordinates (relative stress {side.embedding.stress_:.3f}): noise, a curved domain, "
        "neurons that do not embed, or a thin domain whose layout was caught on the way"
        for name, side in (("A", a), ("B", b))
        if not keeps_lengths(side.embedding.stress_, side.observation.length_noise)
        and is_one_to_one(side.embedding.overlap_)
    ]


def _need_landmarks(landmarks: tuple[Any, Any], reason: str) -> None:
    if len(landmarks[0]) == 0:
        raise errors.LandmarkError(
            f"landmarks are needed here ({reason}): a few pairs of measurements (points_a, points_b) of common inputs, or an "
            "(L, 2) array of row numbers"
        )


def _match_diffusion(
    obs_a: Observation,
    obs_b: Observation,
    landmarks: tuple[Any, Any],
    seed_value: int,
    n_jobs: int | None,
    reasons: list[str] | None = None,
    unused: Sequence[str] = (),
) -> Transformation:
    """The paper's own method: one bandwidth on both sides, diffusion coordinates, orthogonal alignment.

    With `reasons` (why there are no isometric coordinates), the samples are registered on top of it; where that succeeds
    the reasons are no problems. What was `unused` of the arguments is one either way.
    """
    known_unit = obs_a.known_unit and obs_b.known_unit
    registered = reasons is not None
    epsilon: float | str = "auto"
    if known_unit:
        epsilon = max(automatic_epsilon(obs_a, n_jobs), automatic_epsilon(obs_b, n_jobs))
    a = diffusion_chart(obs_a, "A", epsilon, seed_value, n_jobs)
    b = diffusion_chart(obs_b, "B", epsilon, seed_value, n_jobs)
    a, b = common_coordinates(a, b)
    at_a = landmark_coordinates(a, landmarks[0], "A", n_jobs)
    at_b = landmark_coordinates(b, landmarks[1], "B", n_jobs)
    alignments: list[Alignment] = []
    found: list[str] = []
    registration = None
    if registered:
        try:
            alignments, registration, found = registered_charts(
                a, b, landmarks, at_a, at_b, known_unit=known_unit, n_jobs=n_jobs
            )
        except errors.LandmarkError as error:
            # Enough for the method of the paper they may still be.
            if len(at_a) < at_a.shape[1]:
                raise
            found = [f"the samples could not be registered: {error}"]
    alignments = alignments or [align_diffusion(at_a, at_b)]
    if registration is None:
        diagnostics = diagnose_diffusion(a, b, alignments[0], known_unit)
        diagnostics.problems[:0] = [*(reasons or []), *unused, *found]
        scale = spectral_scale(*diagnostics.generator_eigenvalues) if diagnostics.generator_eigenvalues else 1.0
    else:
        diagnostics = diagnose_registered(a, b, registration, [*unused, *found], alignments[0].left_out)
        scale = registration.scale
    used = landmark_points(a.observation, b.observation, landmarks)
    return Transformation(a, b, alignments[0], alignments, scale, diagnostics, n_jobs, registration, landmarks=used)


def _check_arguments(obs_a: Any, obs_b: Any, coordinates: str) -> None:
    for name, obs in (("obs_a", obs_a), ("obs_b", obs_b)):
        if not isinstance(obs, Observation):
            raise errors.DataTypeError(f"{name} must be a diffeo.Observation, not {type(obs).__name__}")
    if not isinstance(coordinates, str) or coordinates not in ("auto", "isometric", "diffusion"):
        raise errors.ParameterError(f'coordinates must be "auto", "isometric" or "diffusion", not {coordinates!r}')
    if obs_a.dim < obs_b.dim:
        raise errors.DimensionMismatchError(
            f"A has intrinsic dimension {obs_a.dim}, B has {obs_b.dim}: B keeps more than A, so that no map leads from A to "
            "B; match(obs_b, obs_a) gives the way back. Or give dim= to the observations if one was misjudged, or measure "
            "more neurons"
        )
    if obs_a.dim > obs_b.dim and coordinates == "diffusion":
        raise errors.DimensionMismatchError(
            f"A has intrinsic dimension {obs_a.dim}, B has {obs_b.dim}: diffusion coordinates cannot join them; take "
            'coordinates="isometric"'
        )
