"""The search for rigid motions that carry one sample of a domain onto another: all that cannot be told apart."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.alignment.borders import by_extents
from diffeo.alignment.motion import Freedom, Motion, gauss_newton, slopes_along
from diffeo.alignment.observables import Observables, fewest_neighbors
from diffeo.alignment.shape import DRAWN_ALIKE, Shape
from diffeo.isometry.periods import nearest_zero

# Starting rotations in the plane and in space, each also mirrored.
ANGLES = 48
SPATIAL_ROTATIONS = 600
# Of which so many are refined: the symmetry group of the cube has 48 elements.
REFINED = {0: 1, 1: 2, 2: 24, 3: 120}
# Steps on all frequencies, from the end of the coarse ones.
FINE_STEPS = 4
# Motions that move the samples by less than this share of their size from each other are the same.
SAME_MOTION = 0.05
# A motion that fits as well after all these turns (radians) is one of a continuous family.
TURNS = (0.2, 0.45, 0.8)
# After a coarse refinement, motions with a misfit beyond this many times the best are given up.
PROMISING = 3.0
# One motion, not all: starts refined, and motions tried in turn as long as the borders of the samples miss each other.
REFINED_FOR_ONE, TRIED_FOR_ONE = 16, 2
# Borders tell motions apart beyond this many times the least miss, and this share of the size.
BORDER_FACTOR, BORDER_FLOOR = 3.0, 0.03


def motions(
    samples_a: FloatArray,
    samples_b: FloatArray,
    free: Freedom,
    observables: tuple[FloatArray, FloatArray] | None,
    rng: np.random.Generator,
    n_threads: int,
) -> list[Motion]:
    """All motions within a freedom that join two samples of one domain about equally well, the best first.

    Without observables the empirical characteristic functions of the two samples are compared (the maximum mean
    discrepancy of Gretton et al. 2012 with a fixed set of frequencies), and the extents of the samples in many
    directions, which a sharp border fixes far more accurately than any moment: its error falls like 1 / n, that of a
    mean like 1 / sqrt(n). With observables (n_a, p) and (n_b, p) their misfit after the motion decides.

    Raises
    ------
    LandmarkError
        A continuous family of motions fits, or the search would have more than three dimensions.
    """
    k = free.open_a.shape[1]
    if k not in REFINED:
        raise errors.LandmarkError(
            f"{k} dimensions of the alignment are open: more than a search can settle; give at least "
            f"{samples_a.shape[1] - 2} landmarks in general position"
        )
    shape = Shape(samples_a, samples_b, rng)
    judge: Shape | Observables = shape
    if observables is not None:
        fewest = fewest_neighbors(samples_b.shape[1])
        if min(len(samples_a), len(samples_b)) <= fewest:
            raise errors.SampleSizeError(
                f"{len(samples_a)} and {len(samples_b)} samples: observables need more than {fewest} on each side"
            )
        judge = Observables(samples_a, samples_b, *observables, rng, n_threads)
    starts = [free.motion(rotation) for rotation in _rotations(k, rng)]
    scores = np.array([judge.rough(*start) for start in starts])
    found: list[Motion] = []
    size = float(np.sqrt(samples_b.var(axis=0).sum()))
    for number in np.argsort(scores, kind="stable")[: REFINED[k]]:
        linear, shift = starts[number]
        for residuals in judge.coarse:
            linear, shift = gauss_newton(residuals, free, linear, shift, size)
        found.append(Motion(linear, shift, float(np.sqrt((judge.coarse[-1](linear, shift) ** 2).sum()))))
    distinct = _distinct(found, free.centre_a, size)
    promising = [m for m in distinct if m.misfit <= PROMISING * distinct[0].misfit + judge.floor]
    found = []
    for motion in promising:
        linear, shift = gauss_newton(judge.fine, free, motion.linear, motion.shift, size, FINE_STEPS)
        found.append(Motion(linear, shift, judge.misfit(linear, shift)))
    tied = judge.tied(_distinct(found, free.centre_a, size))
    _check_discrete(judge, free, tied[0], size, None if observables is not None else shape.mismatch(tied[0]))
    if observables is None:
        adjusted = [by_extents(shape, free, motion, size) for motion in tied]
        # Densities that differ may prefer a wrong motion: sharp borders that agree rule out those that do not.
        most = BORDER_FACTOR * min(motion.border for motion in adjusted) + BORDER_FLOOR
        tied = judge.tied([motion for motion in adjusted if motion.border <= most])
    return tied


def best_motion(samples_a: FloatArray, samples_b: FloatArray, free: Freedom, rng: np.random.Generator) -> Motion:
    """One motion that joins two samples of one domain, where it does not matter which of several: cheaper than all.

    Of motions that fit alike, the first whose borders agree.

    Raises
    ------
    LandmarkError
        The search would have more than three dimensions.
    """
    k = free.n_open
    if k not in REFINED:
        raise errors.LandmarkError(f"{k} dimensions of the alignment are open: more than a search can settle")
    shape = Shape(samples_a, samples_b, rng)
    starts = [free.motion(rotation) for rotation in _rotations(k, rng)]
    scores = np.array([shape.rough(*start) for start in starts])
    size = float(np.sqrt(samples_b.var(axis=0).sum()))
    found = []
    for number in np.argsort(scores, kind="stable")[:REFINED_FOR_ONE]:
        linear, shift = gauss_newton(shape.coarse[0], free, starts[number][0], starts[number][1], size)
        found.append(Motion(linear, shift, float((shape.coarse[1](linear, shift) ** 2).sum())))
    tried: list[Motion] = []
    for start in _distinct(found, free.centre_a, size)[:TRIED_FOR_ONE]:
        linear, shift = gauss_newton(shape.fine, free, start.linear, start.shift, size, FINE_STEPS)
        tried.append(by_extents(shape, free, Motion(linear, shift, shape.misfit(linear, shift)), size))
        if tried[-1].border <= BORDER_FLOOR and tried[-1].density <= DRAWN_ALIKE:
            break
    # Densities that differ may prefer a wrong motion: the borders decide, and among those that agree the misfit.
    most = BORDER_FACTOR * min(motion.border for motion in tried) + BORDER_FLOOR
    return min((motion for motion in tried if motion.border <= most), key=lambda m: m.misfit)


def refined_by_observables(
    found: list[Motion],
    samples_a: FloatArray,
    samples_b: FloatArray,
    periods: FloatArray,
    observables: tuple[FloatArray, FloatArray],
    rng: np.random.Generator,
    n_threads: int,
    *,
    free_shift: bool,
) -> list[Motion]:
    """Motions of a closed domain, their shifts refined by a quantity that both sides report; best first, ties only."""
    d = samples_b.shape[1]
    judge = Observables(samples_a, samples_b, *observables, rng, n_threads, periods)
    size = float(np.sqrt(samples_b.var(axis=0).sum()))
    refined: list[Motion] = []
    for motion in found:
        nothing = np.empty((d, 0))
        free = Freedom(np.zeros(d), np.zeros(d), motion.linear, nothing, nothing, free_shift)
        linear, shift = motion.linear, motion.shift
        for residuals in (*judge.coarse, judge.residuals):
            linear, shift = gauss_newton(residuals, free, linear, shift, size)
        motion = Motion(linear, shift, judge.misfit(linear, shift))
        if not any(_same_modulo(motion, other, periods, size) for other in refined):
            refined.append(motion)
    return judge.tied(refined)


def _same_modulo(one: Motion, other: Motion, periods: FloatArray, size: float) -> bool:
    offset = nearest_zero((one.shift - other.shift)[None], periods)
    return bool(np.linalg.norm(one.linear - other.linear) + np.linalg.norm(offset) / size < SAME_MOTION)


def _check_discrete(
    judge: Shape | Observables, free: Freedom, best: Motion, size: float, mismatch: float | None
) -> None:
    """Raise where moving the best motion a little fits as well: a disc, a level set, or too few samples to tell.

    Moved along the singular directions of the residuals: a symmetry need not follow the axes. Shapes fix the shift.
    """
    count, d = free.n_parameters, len(best.shift)
    n_turns = count - (d if free.free_shift else 0)
    unit = np.where(np.arange(count) < n_turns, 1.0, size)
    tested = n_turns if mismatch is not None else count
    if tested == 0:
        return
    slopes = slopes_along(judge.residuals, free, best.linear, best.shift, unit)[:, :tested]
    for direction in np.linalg.svd(slopes)[2]:
        step = np.append(direction, np.zeros(count - tested)) * unit
        turned = [free.moved(best.linear, best.shift, a * step) for a in (*TURNS, *np.negative(TURNS))]
        alike = judge.tied([best, *(Motion(*motion, judge.misfit(*motion)) for motion in turned)])
        if len(alike) < 1 + len(turned):
            continue
        if mismatch is not None and mismatch > DRAWN_ALIKE:
            raise errors.DomainMismatchError(
                f"no position of A's samples fits those of B (at best {mismatch:.1f} times what chance makes): the inputs fill "
                "different domains, with different densities, or a side is distorted; give d + 1 landmarks"
            )
        what = "samples" if mismatch is not None else "observables"
        raise errors.LandmarkError(
            f"the {what} fit in a continuous family of positions (a symmetry, or too few samples to tell): give landmarks, "
            f"or {'' if mismatch is not None else 'more '}observables"
        )


def _rotations(k: int, rng: np.random.Generator) -> list[FloatArray]:
    """Orthogonal matrices that cover O(k)."""
    if k == 0:
        return [np.empty((0, 0))]
    if k == 1:
        return [np.array([[1.0]]), np.array([[-1.0]])]
    if k == 2:
        angles = 2.0 * np.pi * np.arange(ANGLES) / ANGLES
        turns = [np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]]) for t in angles]
    else:
        turns = list(np.linalg.qr(rng.normal(size=(SPATIAL_ROTATIONS, k, k)))[0])
    mirror = np.diag([1.0] * (k - 1) + [-1.0])
    return turns + [turn @ mirror for turn in turns]


def _distinct(found: list[Motion], centre: FloatArray, size: float) -> list[Motion]:
    """One motion of each kind: the best of those that move the samples nearly alike."""
    kept: list[Motion] = []
    for motion in sorted(found, key=lambda m: m.misfit):
        apart = [
            np.linalg.norm(motion.linear - other.linear) / np.sqrt(len(centre))
            + np.linalg.norm(centre @ (motion.linear - other.linear) + motion.shift - other.shift) / size
            for other in kept
        ]
        if not apart or min(apart) > SAME_MOTION:
            kept.append(motion)
    return kept
