"""Where no coordinates join two observations, because a side folds its domain: maps learned from landmarks alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import percent
from diffeo.alignment.linear import Alignment
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.diagnostics import USELESS, Diagnostics, fold_problems
from diffeo.matching.landmark_correction import LandmarkCorrection, learn_correction
from diffeo.matching.transformation import Transformation
from diffeo.observation.folds import near_folds

# Landmarks for each intrinsic dimension, at least, from which a map is learned that nothing else supports.
LANDMARKS_PER_DIMENSION = 10
# Below this relative error at landmarks left out they carry a direction.
CARRIED = 0.05
TINY = float(np.finfo(float).tiny)

Side = IsometricChart | MeasuredChart


def enough_landmarks(count: int, dim: int) -> bool:
    """Whether so many landmarks can carry a map between sides of so many dimensions."""
    return count >= LANDMARKS_PER_DIMENSION * dim


def better_of(
    by_coordinates: Callable[[], Transformation],
    a: Side,
    b: Side,
    landmarks: tuple[FloatArray, FloatArray],
    reasons: list[str],
    n_jobs: int | None,
) -> Transformation:
    """The match by common coordinates, or by regression where that one fails or is worse at the landmarks.

    Isometric coordinates have the regression in them already (`diffeo.matching.landmark_correction`). Others are compared in
    the direction in which each is better: where a side lost something, no map is good both ways. Where the landmarks show
    that, and one side has no isometric coordinates, no common ones are sought.
    """
    if isinstance(a, MeasuredChart) != isinstance(b, MeasuredChart) and a.observation.dim == b.observation.dim:
        learned = regressed(a, b, landmarks, reasons or [_distorted_problem(a, b)], n_jobs)
        if _one_way(learned):
            return learned
    try:
        found = by_coordinates()
    except (errors.DisconnectedError, errors.DomainMismatchError, errors.LandmarkError) as error:
        return regressed(a, b, landmarks, reasons or [f"no common coordinates: {error}"], n_jobs)
    if found.coordinates == "isometric" or (found.registration is not None and not found.diagnostics.problems):
        return found
    learned = regressed(a, b, landmarks, [*found.diagnostics.problems], n_jobs)
    ways = [model.error for model in (learned.forward, learned.backward) if model is not None]
    return learned if min(ways) < _error_at(found, landmarks) else found


def _one_way(learned: Transformation) -> bool:
    """Whether landmarks left out say that one side determines the other, and not the other way round."""
    ways = [model.error for model in (learned.forward, learned.backward) if model is not None]
    return len(ways) == 2 and min(ways) < CARRIED and max(ways) > USELESS


def _distorted_problem(a: Side, b: Side) -> str:
    """Which side has a layout that is not one of coordinates."""
    return (
        f"side {'A' if isinstance(a, MeasuredChart) else 'B'} has no isometric coordinates, and the other side has: it folds "
        "the domain, or does not embed it; add neurons"
    )


def _error_at(found: Transformation, landmarks: tuple[FloatArray, FloatArray]) -> float:
    """Relative error at the landmarks, in the direction in which it is smaller; not below the stress of a registration."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        ways = [(found.transform(landmarks[0]), landmarks[1])]
        if found.invertible:
            ways.append((found.inverse_transform(landmarks[1]), landmarks[0]))
    missed = [float(np.linalg.norm(p - t)) / max(float(np.linalg.norm(t - t.mean(axis=0))), TINY) for p, t in ways]
    return max(min(missed), 0.0 if found.registration is None else found.registration.stress)


def regressed(
    a: Side, b: Side, landmarks: tuple[FloatArray, FloatArray], reasons: list[str], n_jobs: int | None
) -> Transformation:
    """Maps both ways by regression on the landmarks, from the coordinates of a side where it has some.

    Parameters
    ----------
    a, b : IsometricChart or MeasuredChart
        With as many dimensions on A as on B, or more (then there is no way back).
    landmarks : tuple of ndarray of shape (L, m_a), (L, m_b)
    reasons : list of str
        Why nothing better was found; they become problems.
    n_jobs : int, optional
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)  # the error at the landmarks counts
        at_a, at_b = (side.intrinsic(y, thread_count(n_jobs)) for side, y in zip((a, b), landmarks, strict=True))
    forward = learn_correction(landmarks[0], a.features(at_a), landmarks[1])
    backward = None
    if a.observation.dim == b.observation.dim:
        backward = learn_correction(landmarks[1], b.features(at_b), landmarks[0])
    alignment = _roughly_aligned(at_a, at_b)
    problems = [*reasons, _learned_problem(len(landmarks[0]), forward, backward)]
    for name, side in (("A", a), ("B", b)):
        problems += fold_problems(name, side.observation)
    folds = (near_folds(a.observation), near_folds(b.observation))
    diagnostics = Diagnostics(problems, alignment.residual, None, None, None, folds)
    joined = (a, b, alignment, [alignment], 1.0, diagnostics, n_jobs)
    return Transformation(*joined, forward=forward, backward=backward, landmarks=landmarks)


def _learned_problem(count: int, forward: LandmarkCorrection, backward: LandmarkCorrection | None) -> str:
    """How good the regressions are, and what that says."""
    ways = [f"{percent(forward.error)} from A to B"]
    if backward is not None:
        ways.append(f"{percent(backward.error)} from B to A")
    text = (
        f"the map was therefore learned from the {count} landmarks alone: its error at landmarks left out is "
        f"{' and '.join(ways)}"
    )
    useless = [
        what
        for model, what in (
            (forward, "what A measures does not determine what B measures"),
            (backward, "what B measures does not determine what A measures"),
        )
        if model is not None and model.error > USELESS
    ]
    return text + (f"; {' and '.join(useless)}, or the landmarks are too few" if useless else "")


def _roughly_aligned(at_a: FloatArray, at_b: FloatArray) -> Alignment:
    """The rigid motion that brings landmarks nearest to each other: for pictures, no map uses it."""
    centre_a, centre_b = at_a.mean(axis=0), at_b.mean(axis=0)
    u, _, vt = np.linalg.svd((at_a - centre_a).T @ (at_b - centre_b), full_matrices=False)
    linear = u @ vt
    missed = (at_a - centre_a) @ linear - (at_b - centre_b)
    spread_a, spread_b = (float(np.linalg.norm(x - x.mean(axis=0))) for x in (at_a, at_b))
    residual = float(np.linalg.norm(missed)) / spread_b if spread_b > 0.0 else 0.0
    scale = spread_b / spread_a if spread_a > 0.0 else 1.0
    return Alignment(linear, centre_b - centre_a @ linear, "regression", residual, float("inf"), scale)
