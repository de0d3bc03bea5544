"""A match on isometric coordinates: aligned by landmarks, shape or observables, with what the landmarks still teach."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text
from diffeo.alignment.candidates import Candidates, Side, isometric_candidates
from diffeo.alignment.linear import Alignment, align_projection, left_out_coordinates
from diffeo.alignment.noisy_landmarks import NO_NOISE, LandmarkNoise, landmark_noise
from diffeo.charts.coordinates import places_of_marks
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.noisy_marks import mark_noise
from diffeo.isometry.trust import doubt_of_stress, too_many_strays
from diffeo.matching.diagnostics import diagnose_isometric, regression_problems
from diffeo.matching.expected_error import some_of
from diffeo.matching.gaussian_process import SEARCHED
from diffeo.matching.landmark_correction import LandmarkCorrection, learn_correction
from diffeo.matching.maps import ByIsometry
from diffeo.matching.paired.framed_landmarks import Frames, frames_of, left_out_frames
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.matching.wrong_landmarks import are_sent_right, by_motion
from diffeo.observation.curvature import or_samples

# Landmarks off a manifold are left out while they are at most this share, and so many more than the dimension are left.
STRAY_LANDMARKS, MORE_THAN_DIMENSION = 1.0 / 3.0, 2
# Landmarks by which the scales of a half's corrections are sought: these only have to be about those of the whole.
SEARCHED_OF_HALF = 100


def by_isometry(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> Transformation:
    """Align isometric coordinates by landmarks, shape or observables, and learn what the landmarks still show."""
    whole, strays = problem, _strays(problem, a, b)
    problem = problem.without(strays)
    sifted = by_motion(problem, a, b)
    problem = sifted.problem
    at_a, at_b = problem.located(a, b)
    frames = _frames(problem, a, b, (at_a, at_b))
    doubt = doubt_of_stress(a.embedding.stress_, b.embedding.stress_)
    found = _candidates(problem, a, b, (at_a, at_b) if frames is None else (frames.at_a, frames.at_b), doubt)
    left_out = None
    dropped = list[str]()
    if frames is not None:
        dropped = frames.problems(problem.numbered(np.arange(problem.count)), problem.names)
        found.alignments[0], left_out = left_out_frames(frames, found.alignments[0], known_unit=problem.known_unit)
    alignment = found.alignments[0]
    noise = _noise(problem, a, b, alignment, (at_a, at_b))
    forward, backward = _taught(problem, a, b, alignment, (at_a, at_b), doubt, noise, left_out)
    diagnostics = diagnose_isometric(a, b, alignment, at_b, problem.known_unit, problem.names, noise)
    diagnostics.problems[:0] = dropped + found.problems
    if not noise.explains:
        diagnostics.reasons.extend(regression_problems(diagnostics.landmark_residual, forward, problem.names))
    diagnostics.reasons.extend(_rough_places(problem, a, b))
    diagnostics = sifted.noted(diagnostics)
    used = None if problem.landmarks is None else problem.landmarks.points
    joined = ByIsometry(a, b, alignment, forward, backward)
    t = Transformation(joined, found.alignments, alignment.scale, diagnostics, problem.n_jobs, used)
    if len(strays):
        # Ones that the map sends where they belong are neither wrong nor a sign of a fold.
        said = diagnostics.reasons if are_sent_right(whole, t, strays) else diagnostics.problems
        said.insert(0, _of_strays(whole, strays))
    return t


def _candidates(
    problem: MatchProblem, a: IsometricChart, b: IsometricChart, located: tuple[FloatArray, FloatArray], doubt: float
) -> Candidates:
    """All motions from A's coordinates to B's that cannot be told apart."""
    if a.observation.dim > b.observation.dim:
        _check_open(problem, a, b)
        return Candidates([align_projection(*located, problem.names)], [])
    quantity = None
    if problem.observables is not None:
        quantity = problem.observables[0][a.used], problem.observables[1][b.used]
    return isometric_candidates(
        Side(located[0], a.coordinates[a.used], a.embedding.periods_),
        Side(located[1], b.coordinates[b.used], b.embedding.periods_),
        known_unit=problem.known_unit,
        error=doubt,
        observables=quantity,
        rng=np.random.default_rng(problem.random_state),
        n_threads=problem.n_threads,
    )


def _taught(
    problem: MatchProblem,
    a: IsometricChart,
    b: IsometricChart,
    alignment: Alignment,
    located: tuple[FloatArray, FloatArray],
    doubt: float,
    noise: LandmarkNoise,
    left_out: FloatArray | None,
) -> tuple[LandmarkCorrection | None, LandmarkCorrection | None]:
    """What the landmarks teach beyond the alignment, forward and, where there is a way back, backward.

    `left_out` are their places by alignments without each, where these are known.
    """
    if problem.landmarks is None:
        return None, None
    (at_a, at_b), (y_a, y_b), n_threads = located, problem.landmarks.points, problem.n_threads
    if left_out is None:
        left_out = alignment.forward(at_a)
        if alignment.kind in ("rigid", "similarity") and not len(b.embedding.periods_):
            left_out = left_out_coordinates(at_a, at_b, alignment, known_unit=problem.known_unit)
    known: dict[str, Any] = {"doubt": doubt, "searched": SEARCHED_OF_HALF if problem.is_half else SEARCHED}
    known["explained_by_noise"] = noise.explains
    rows_a, rows_b = some_of(a), some_of(b)
    samples = a.observation.points[rows_a], b.features(alignment.forward(a.coordinates[rows_a]))
    predicted = b.measurements(left_out, n_threads)
    there = b.features(alignment.forward(at_a))
    known["target"] = b.observation
    forward = learn_correction(y_a, there, y_b, predicted, noise=noise.at_b, samples=samples, **known)
    if alignment.kind == "projection":
        return forward, None
    samples = b.observation.points[rows_b], b.features(b.coordinates[rows_b])
    back, known["target"] = a.measurements(alignment.backward(at_b), n_threads), a.observation
    return forward, learn_correction(y_b, b.features(at_b), y_a, back, noise=noise.at_a, samples=samples, **known)


def _noise(
    problem: MatchProblem,
    a: IsometricChart,
    b: IsometricChart,
    alignment: Alignment,
    located: tuple[FloatArray, FloatArray],
) -> LandmarkNoise:
    """What noise makes of the landmarks, told by how far they lie off both sides' manifolds."""
    if problem.landmarks is None:
        return NO_NOISE
    of_a, of_b = (
        mark_noise(side, marks, at, problem.n_threads)
        for side, marks, at in zip((a, b), problem.landmarks.marks, located, strict=True)
    )
    return landmark_noise(of_a, of_b, alignment, located, b.embedding.periods_)


def _frames(
    problem: MatchProblem, a: IsometricChart, b: IsometricChart, located: tuple[FloatArray, FloatArray]
) -> Frames | None:
    """Frames of the landmarks, where they carry derivatives and both sides have as many dimensions."""
    pairs = problem.landmarks
    if pairs is None or not pairs.with_derivatives or not problem.invertible:
        return None
    return frames_of(pairs, a, b, located, problem.n_threads, known_unit=problem.known_unit)


def _strays(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> IntArray:
    """The few of many landmarks that lie off a side's manifold, by position.

    Where a side does not embed everywhere, a hundred landmarks are not to be refused for the sake of one. Where pieces of a
    side were left out of its chart, the landmarks in these are, too.
    """
    none = np.empty(0, dtype=np.int64)
    if problem.landmarks is None:
        return none
    off = [
        places_of_marks(side, marks, problem.n_threads)[1]
        for side, marks in zip((a, b), problem.landmarks.marks, strict=True)
    ]
    stray: IntArray = np.union1d(*off)
    count = problem.count
    pieces = any(too_many_strays(len(side.left_out), len(side.observation)) for side in (a, b))
    most = count if pieces else STRAY_LANDMARKS * count
    if not 0 < len(stray) <= most or count - len(stray) < a.observation.dim + MORE_THAN_DIMENSION:
        return none
    return stray


def _of_strays(problem: MatchProblem, strays: IntArray) -> str:
    return (
        f"{len(strays)} of {problem.count} landmarks ({rows_text(problem.numbered(strays))}) lie off a side's measured "
        "manifold or outside of its sampled domain and were left out: they are wrong, or that side does not embed the input "
        "there"
    )


def _rough_places(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> list[str]:
    """Landmarks off a side, of which the others have told where they belong."""
    if problem.landmarks is None:
        return []
    said = []
    for name, side, marks in zip(problem.names, (a, b), problem.landmarks.marks, strict=True):
        off = places_of_marks(side, marks, problem.n_threads)[1]
        if len(off):
            said.append(
                f"{len(off)} of {problem.count} landmarks ({rows_text(problem.numbered(off))}) lie off {name}'s measured "
                "manifold, or where its samples leave a gap: the others tell where they belong, and they only on which side of "
                f"these; take other landmarks{or_samples(side.observation)}"
            )
    return said


def _check_open(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> None:
    """A projection onto fewer dimensions is only fitted between open domains."""
    closed = [
        f"{name} has {count} period{'s' if count > 1 else ''}"
        for name, side in zip(problem.names, (a, b), strict=True)
        if (count := len(side.embedding.periods_))
    ]
    if closed:
        raise errors.DomainMismatchError(
            f"{problem.dimensions}, and {' and '.join(closed)}: maps of "
            "closed domains onto fewer dimensions are not implemented; cut both samples open (leave out the inputs around "
            f"one value), or measure more neurons of {problem.names[1]}"
        )
