"""All alignments of isometric coordinates that landmarks, the shape of the samples, and observables admit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.alignment.evening import evened
from diffeo.alignment.lattices import closed_motions, closed_motions_by_observables
from diffeo.alignment.linear import Alignment, align_isometric
from diffeo.alignment.motion import Freedom, Motion, freedom
from diffeo.alignment.motion_search import motions, refined_by_observables
from diffeo.alignment.observables import fewest_neighbors
from diffeo.alignment.shape import DRAWN_ALIKE
from diffeo.isometry.periods import nearest_zero, turns, wrapped

# Landmarks that spread less than this share of the domain in some direction leave it open ...
OPEN_BELOW = 1e-3
# ... and so do those that spread less than this many times the error of the coordinates.
OPEN_BELOW_ERRORS = 3.0
# ... but never those that spread more than this share: errors of a layout are local.
ALWAYS_USED = 0.02
# Landmarks nearer to each other than this share of the domain are one.
TWIN_LANDMARKS = 1e-9
# Landmarks that spread less than this share of the samples do not tell the unit of length.
UNIT_SPREAD = 0.1
# Borders that miss each other by more than this share of the domain, and observables that differ by more than this
# share of their spread, do not belong together.
BORDERS_MISS, OBSERVABLES_DIFFER = 0.02, 0.3


@dataclass(frozen=True, eq=False)
class Side:
    """Isometric coordinates of one side: of its landmarks (L, d), of its samples (n, d), and its periods (k, d)."""

    landmarks: FloatArray
    samples: FloatArray
    periods: FloatArray


@dataclass(frozen=True, eq=False)
class Candidates:
    """Alignments that cannot be told apart, the best first, and what is to be said of the choice."""

    alignments: list[Alignment]
    problems: list[str]


def isometric_candidates(
    a: Side,
    b: Side,
    *,
    known_unit: bool,
    error: float,
    observables: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    n_threads: int,
) -> Candidates:
    """Align isometric coordinates by whatever there is.

    d + 1 landmarks in general position determine a rigid motion (`align_isometric`). Fewer leave a freedom, within which
    the shape and density of the two samples decide, or observables do (`diffeo.alignment.motion_search`); on closed domains
    motions carry one lattice of periods to the other (`diffeo.alignment.lattices`).

    Parameters
    ----------
    a, b : Side
    known_unit : bool
        Whether both sides measure length in the same unit; else A is scaled to B first.
    error : float
        Error of the coordinates, relative to the size of the domain.
    observables : tuple of ndarray (n_a, p) and (n_b, p), optional
        A quantity at the samples of each side.

    Raises
    ------
    LandmarkError
        Nothing decides: a continuous family of motions fits.
    DomainMismatchError
        The periods of the two sides do not fit each other, or no position of one sample fits the other.
    SampleSizeError
        Too few samples to compare observables.
    """
    problems = _landmark_problems(a, b)
    size = float(np.sqrt(b.samples.var(axis=0).sum()))
    unit = 1.0 if known_unit else _unit(a, b)
    scaled = replace(a, landmarks=unit * a.landmarks, samples=unit * a.samples, periods=unit * a.periods)
    if len(a.periods) or len(b.periods):
        found = _closed(scaled, b, size, observables, rng, n_threads)
        source = "the landmarks" if len(a.landmarks) else "the observables"
    else:
        open_below = min(max(OPEN_BELOW, OPEN_BELOW_ERRORS * error), ALWAYS_USED) * size
        free = freedom(scaled.samples, b.samples, scaled.landmarks, b.landmarks, open_below)
        if free.n_open == 0 and len(a.landmarks) > a.landmarks.shape[1]:
            return Candidates([align_isometric(a.landmarks, b.landmarks, known_unit=known_unit)], problems)
        found, unevenly = _open(scaled, b, free, open_below, observables, rng, n_threads)
        problems += unevenly
        source = "the observables" if observables is not None else "the shape and density of the samples"
        if free.n_open and len(a.landmarks) > a.landmarks.shape[1]:
            problems.append(
                f"the {len(a.landmarks)} landmarks lie in a hyperplane (or at one place): they leave {free.n_open} "
                f"direction(s) open, which {source} decided; spread the landmarks, or add one"
            )
    problems += _fit_problems(found[0], observables is not None, bool(len(b.periods)))
    alignments = [_alignment(motion, a, b, unit, known_unit, size) for motion in found]
    if len(alignments) > 1:
        names = [_name(motion, found[0], b.periods) for motion in found]
        alignments = [replace(one, name=name) for one, name in zip(alignments, names, strict=True)]
        problems.insert(
            0,
            f"{len(found)} alignments cannot be told apart by {source}: the one used, and, from there, "
            f"{'; '.join(names[1:])}; all are in t.candidates; a landmark away from the symmetry, or observables, decide",
        )
    return Candidates(alignments, problems)


def _open(
    a: Side,
    b: Side,
    free: Freedom,
    open_below: float,
    observables: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    n_threads: int,
) -> tuple[list[Motion], list[str]]:
    """Motions between open domains, and what is to be said of them.

    If the two samples are not drawn alike, they are those of what is left of both at an even density: samples to which more
    were added where the measurements bend (`diffeo.suggest_inputs`) are denser there.
    """
    failure, found = None, list[Motion]()
    try:
        found = motions(a.samples, b.samples, free, observables, rng, n_threads)
    except errors.DomainMismatchError as error:
        failure = error
    if observables is not None or (found and found[0].density <= DRAWN_ALIKE):
        if failure is not None:
            raise failure
        return found, []
    even_a, even_b = a.samples[evened(a.samples, rng)], b.samples[evened(b.samples, rng)]
    even_free = freedom(even_a, even_b, a.landmarks, b.landmarks, open_below)
    try:
        even = motions(even_a, even_b, even_free, None, rng, n_threads)
    except errors.DiffeoError:
        even = []
    if even and (not found or even[0].density < found[0].density):
        said = (
            "the two samples are not drawn alike: what is left of them at an even density was laid over each other, by shape "
            "alone; draw the inputs of both sides alike, or give d + 1 landmarks, to be sure"
        )
        return even, [said]
    if failure is not None:
        raise failure
    return found, []


def _unit(a: Side, b: Side) -> float:
    """Unit of length of B over that of A: from landmarks, else from the spread of the samples."""
    if len(a.periods) and len(a.periods) == len(b.periods):
        pair = (np.vstack([a.periods, -a.periods]), np.vstack([b.periods, -b.periods]))
    else:
        pair = (a.samples, b.samples)
        if len(a.landmarks) > 1 and a.landmarks.var(axis=0).sum() > UNIT_SPREAD**2 * a.samples.var(axis=0).sum():
            pair = (a.landmarks, b.landmarks)
    spread_a, spread_b = (float(np.sqrt(p.var(axis=0).sum())) for p in pair)
    return spread_b / spread_a if spread_a > 0.0 else 1.0


def _closed(
    a: Side,
    b: Side,
    size: float,
    observables: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    n_threads: int,
) -> list[Motion]:
    if len(a.landmarks):
        found = closed_motions(a.landmarks, b.landmarks, a.periods, b.periods, size)
        if len(found) == 1 or observables is None:
            return found
    elif observables is None:
        raise errors.LandmarkError(
            "a closed domain looks the same from everywhere: its samples alone do not align it; give at least one landmark, "
            "better d + 1, or observables"
        )
    else:
        fewest = fewest_neighbors(b.samples.shape[1])
        if min(len(a.samples), len(b.samples)) <= fewest:
            raise errors.SampleSizeError(
                f"{len(a.samples)} and {len(b.samples)} samples: observables need more than {fewest} on each side"
            )
        found = closed_motions_by_observables(a.samples, b.samples, a.periods, b.periods, observables, rng)
    return refined_by_observables(
        found, a.samples, b.samples, b.periods, observables, rng, n_threads, free_shift=not len(a.landmarks)
    )


def _landmark_problems(a: Side, b: Side) -> list[str]:
    """Landmarks given twice."""
    problems = []
    for name, side in (("A", a), ("B", b)):
        size = float(np.sqrt(side.samples.var(axis=0).sum()))
        for i, j in _twins(side.landmarks, TWIN_LANDMARKS * size):
            problems.append(f"landmarks {i} and {j} are the same place on side {name}; one of them says nothing new")
    return problems


def _fit_problems(best: Motion, by_observables: bool, closed: bool) -> list[str]:
    """What speaks against the best motion."""
    if by_observables:
        if best.misfit <= OBSERVABLES_DIFFER:
            return []
        return [
            f"the observables of the two sides differ by {100 * best.misfit:.0f} % of their spread where they fit best: noise, "
            "or not the same quantity in the same unit; check the map on pairs that you know"
        ]
    if closed:
        return []
    problems = []
    if best.border > BORDERS_MISS:
        problems.append(
            f"the borders of the two samples miss each other by {100 * best.border:.1f} % of the size of the domain: their "
            "shapes differ, so that they cannot tell how the two are aligned; give d + 1 landmarks"
        )
    if best.density > DRAWN_ALIKE:
        problems.append(
            f"the two samples are not drawn alike (their densities differ by {best.density:.1f} times what chance makes): an "
            "alignment by shape and density may be wrong; draw the inputs of both sides alike, or give d + 1 landmarks"
        )
    return problems


def _twins(landmarks: FloatArray, limit: float) -> list[tuple[int, int]]:
    distances: NDArray[np.float64] = np.linalg.norm(landmarks[:, None] - landmarks[None], axis=2)
    pairs = np.argwhere(np.triu(distances <= limit, 1))
    return [(int(i), int(j)) for i, j in pairs[:3]]


def _alignment(motion: Motion, a: Side, b: Side, unit: float, known_unit: bool, size: float) -> Alignment:
    """The motion as an alignment of the unscaled coordinates, with its misfit at the landmarks."""
    linear = unit * motion.linear
    kind = "rigid" if known_unit else "similarity"
    left = a.landmarks @ linear + motion.shift - b.landmarks
    left = nearest_zero(left, b.periods)
    residual = float(np.sqrt((left**2).sum(axis=1).mean())) / size if len(left) else 0.0
    return Alignment(linear, motion.shift, kind, residual, np.inf, unit)


def _name(motion: Motion, first: Motion, periods: FloatArray) -> str:
    """What takes the first motion to this one, in B's coordinates."""
    turn = first.linear.T @ motion.linear
    d = len(turn)
    if np.linalg.norm(turn - np.eye(d)) < 0.05:
        if motion is first or len(periods) == 0:
            return "the one used" if motion is first else "shifted"
        parts = turns(wrapped(motion.shift - first.shift, periods), periods)
        return f"shifted by {', '.join(f'{part:.2f}' for part in parts)} of the period{'s' if len(parts) > 1 else ''}"
    if d == 1:
        return "mirrored"
    if d == 2:
        angle = np.degrees(np.arctan2(turn[0, 1], turn[0, 0]))
        if np.linalg.det(turn) > 0:
            return f"turned by {180 - round(180.0 - angle) % 360} degrees"
        return f"mirrored at the axis at {round(0.5 * angle) % 180} degrees"
    sign = np.sign(np.linalg.det(turn))
    angle = np.degrees(np.arccos(np.clip(0.5 * (sign * np.trace(turn) - 1.0), -1.0, 1.0))) if d == 3 else np.nan
    kind = "turned" if sign > 0 else "mirrored through the centre, turned"
    return f"{kind} by {angle:.0f} degrees" if d == 3 else kind
