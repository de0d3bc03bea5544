"""Where no coordinates join two observations, as where a side folds its domain: maps learned from landmarks alone."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.placed import Placed
from diffeo._support.wording import Names, percent, rows_text
from diffeo.alignment.linear import Alignment
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.charts.problems import fold_problems
from diffeo.matching.diagnostics import USELESS, Diagnostics
from diffeo.matching.expected_error import some_of
from diffeo.matching.landmark_correction import LandmarkCorrection, learn_correction
from diffeo.matching.maps import ByPairs
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.matching.wrong_landmarks import by_neighbors
from diffeo.observation.folds import near_folds

# Landmarks for each intrinsic dimension, at least, from which a map is learned that nothing else supports.
LANDMARKS_PER_DIMENSION = 10
# ... and, beside the dimension plus one, where its expected error is compared with that of others; this many and one more than
# there are dimensions where nothing else is better than none.
CHECKED_PER_DIMENSION, FEWEST = 2, 3
# Below this relative error at landmarks left out they carry a direction.
CARRIED = 0.05
TINY = float(np.finfo(float).tiny)

Side = IsometricChart | MeasuredChart


def enough_landmarks(count: int, dim: int, check: bool = False) -> bool:
    """Whether so many landmarks can carry a map between sides of so many dimensions; fewer, if it will be told how well."""
    return count >= (CHECKED_PER_DIMENSION * (dim + 1) if check else LANDMARKS_PER_DIMENSION * dim)


def distinct(problem: MatchProblem) -> int:
    """How many landmarks differ from one another, on the side where they are fewer: a second copy tells nothing more."""
    if problem.landmarks is None:
        return 0
    return min(len(np.unique(points, axis=0)) for points in problem.landmarks.points)


def last_resort(problem: MatchProblem) -> bool:
    """Whether few landmarks are better than none: where no other map is, and the check will tell how little that is."""
    asked = problem.coordinates == "auto" and problem.check
    return asked and distinct(problem) >= max(FEWEST, problem.a.dim + 1)


def one_way(learned: Transformation) -> bool:
    """Whether landmarks left out say that one side determines the other, and not the other way round."""
    ways = [model.error for model in (learned.forward, learned.backward) if model is not None]
    return len(ways) == 2 and min(ways) < CARRIED and max(ways) > USELESS


def better(learned: Transformation, found: Transformation) -> Transformation:
    """The regression, or the map by common coordinates, compared at the landmarks in the direction in which each is better.

    Where a side lost something, no map is good both ways.
    """
    ways = [model.error for model in (learned.forward, learned.backward) if model is not None]
    return learned if min(ways) < _error_at_landmarks(found) else found


def distorted_problem(a: Side, names: Names) -> str:
    """Which side has a layout that is not one of coordinates."""
    return (
        f"side {names[0] if isinstance(a, MeasuredChart) else names[1]} has no isometric coordinates, and the other side has: "
        "it folds the domain, or does not embed it; add neurons"
    )


def _error_at_landmarks(found: Transformation) -> float:
    """Relative error at the landmarks, in the direction in which it is smaller; not below the stress of a registration."""
    if found.landmarks is None:
        return float("inf")
    at_a, at_b = found.landmarks
    ways = [(found.sent(at_a).values, at_b)]
    if found.invertible:
        ways.append((found.sent_back(at_b).values, at_a))
    missed = [float(np.linalg.norm(p - t)) / max(float(np.linalg.norm(t - t.mean(axis=0))), TINY) for p, t in ways]
    return max(min(missed), 0.0 if found.registration is None else found.registration.stress)


def regressed(problem: MatchProblem, a: Side, b: Side, reasons: list[str]) -> Transformation:
    """Maps both ways by regression on the landmarks, from the coordinates of a side where it has some.

    Parameters
    ----------
    problem : MatchProblem
        With landmarks, and as many dimensions on A as on B, or more (then there is no way back).
    a, b : IsometricChart or MeasuredChart
    reasons : list of str
        Why nothing better was found.
    """
    sifted = by_neighbors(problem)
    problem = sifted.problem
    points_a, points_b = landmarks = sifted.landmarks.points
    # Landmarks outside of a side's domain are judged by the error there.
    placed = [side.place(y, problem.n_threads) for side, y in zip((a, b), landmarks, strict=True)]
    at_a, at_b = (one.values for one in placed)
    forward = _learned((points_a, points_b), at_a, a, b)
    backward = _learned((points_b, points_a), at_b, b, a) if problem.invertible else None
    alignment = roughly_aligned(at_a, at_b)
    reasons = [*reasons, _learned_problem(problem, forward, backward), *_off_samples(problem, placed)]
    for name, side in zip(problem.names, (a, b), strict=True):
        reasons += fold_problems(f"on side {name} ", side.observation)
    folds = (near_folds(a.observation), near_folds(b.observation))
    diagnostics = sifted.noted(Diagnostics([], alignment.residual, None, None, None, folds, reasons))
    return Transformation(
        ByPairs(a, b, alignment, forward, backward), [alignment], 1.0, diagnostics, problem.n_jobs, landmarks
    )


def _learned(
    landmarks: tuple[FloatArray, FloatArray], at: FloatArray, source: Side, target: Side
) -> LandmarkCorrection:
    """The regression of a target's landmarks on those of a source, which lie at coordinates (L, c) of it."""
    rows = some_of(source)
    samples = source.observation.points[rows], source.features(source.coordinates[rows])
    given, wanted = landmarks
    return learn_correction(given, source.features(at), wanted, samples=samples, target=target.observation)


def _learned_problem(problem: MatchProblem, forward: LandmarkCorrection, backward: LandmarkCorrection | None) -> str:
    """How good the regressions are, and what that says."""
    a, b = problem.names
    ways = [f"{percent(forward.error)} from {a} to {b}"]
    if backward is not None:
        ways.append(f"{percent(backward.error)} from {b} to {a}")
    text = (
        f"the map was therefore learned from the {problem.count} landmarks alone: its error at landmarks left out is "
        f"{' and '.join(ways)}"
    )
    useless = [
        what
        for model, what in (
            (forward, f"what {a} measures does not determine what {b} measures"),
            (backward, f"what {b} measures does not determine what {a} measures"),
        )
        if model is not None and model.error > USELESS
    ]
    return text + (f"; {' and '.join(useless)}, or the landmarks are too few" if useless else "")


def _off_samples(problem: MatchProblem, placed: list[Placed]) -> list[str]:
    """Landmarks that lie off a side's samples: of the other side, perhaps, or of another network."""
    return [
        f"{len(off)} of {problem.count} landmarks ({rows_text(problem.numbered(off))}) lie off {name}'s samples: check them"
        for name, one in zip(problem.names, placed, strict=True)
        if len(off := one.outside.off_manifold)
    ]


def roughly_aligned(at_a: FloatArray, at_b: FloatArray) -> Alignment:
    """The rigid motion that brings landmarks nearest to each other: for pictures, no map uses it."""
    centre_a, centre_b = at_a.mean(axis=0), at_b.mean(axis=0)
    u, _, vt = np.linalg.svd((at_a - centre_a).T @ (at_b - centre_b), full_matrices=False)
    linear = u @ vt
    missed = (at_a - centre_a) @ linear - (at_b - centre_b)
    spread_a, spread_b = (float(np.linalg.norm(x - x.mean(axis=0))) for x in (at_a, at_b))
    residual = float(np.linalg.norm(missed)) / spread_b if spread_b > 0.0 else 0.0
    scale = spread_b / spread_a if spread_a > 0.0 else 1.0
    return Alignment(linear, centre_b - centre_a @ linear, "regression", residual, float("inf"), scale)
