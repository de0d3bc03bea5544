"""Motions between closed flat domains, whose coordinates hold modulo periods."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.ndimage import minimum_filter

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.alignment.motion import Motion
from diffeo.isometry.periods import nearest_zero, turns, wrapped

# Entries of the integer matrices that carry one reduced basis of a lattice to another.
LARGEST_ENTRY = 2
# Inner products of the periods of both sides agree within this share.
PERIOD_TOLERANCE = 0.02
# Motions whose landmarks miss by this many times the best miss, or by this share of the domain, are not told apart.
TIE_FACTOR, TIE_FLOOR = 3.0, 0.01
# Starting shifts along each period, and samples looked at, where observables must find the shift.
SHIFTS = 24
SEARCH_SAMPLES = 400
# Of these, local minima below this many times the least misfit, beyond this share of the spread, are refined.
SHIFT_FACTOR, SHIFT_FLOOR = 2.0, 0.1


def lattice_isometries(periods_a: FloatArray, periods_b: FloatArray) -> list[FloatArray]:
    """Orthogonal matrices (d, d) that carry the lattice of A onto that of B.

    Raises
    ------
    DomainMismatchError
        There is none: the domains differ in size, shape or topology.
    """
    k, d = periods_b.shape if len(periods_b) else (0, periods_a.shape[1])
    found: list[FloatArray] = []
    if len(periods_a) == k:
        gram = periods_a @ periods_a.T
        span_a, span_b = (np.linalg.svd(p)[2] for p in (periods_a, periods_b))
        if d - k > 1:
            raise errors.DomainMismatchError(
                f"a domain of dimension {d} with {k} period(s): alignments of its {d - k} open directions are not "
                'implemented; use coordinates="diffusion"'
            )
        entries = range(-LARGEST_ENTRY, LARGEST_ENTRY + 1)
        vectors = np.array(list(itertools.product(entries, repeat=k)), dtype=float)
        squared = ((vectors @ periods_b) ** 2).sum(axis=1)
        fits = [vectors[np.abs(squared - gram[i, i]) <= 2.0 * PERIOD_TOLERANCE * np.abs(gram).max()] for i in range(k)]
        for rows in itertools.product(*fits):
            images = np.array(rows) @ periods_b
            if abs(abs(np.linalg.det(np.array(rows))) - 1.0) > 0.5:
                continue
            if np.abs(images @ images.T - gram).max() > 2.0 * PERIOD_TOLERANCE * np.abs(gram).max():
                continue
            within = np.linalg.pinv(periods_a) @ images
            for sign in (1.0, -1.0) if d > k else (1.0,):
                u, _, vt = np.linalg.svd(within + sign * span_a[k:].T @ span_b[k:])
                found.append(u @ vt)
    if not found:
        lengths = [", ".join(f"{x:.4g}" for x in np.linalg.norm(p, axis=1)) or "none" for p in (periods_a, periods_b)]
        raise errors.DomainMismatchError(
            f"the domains are closed differently: periods of A have lengths {lengths[0]}, those of B {lengths[1]}; the "
            "inputs fill different domains, are in different units, or a side does not embed them"
        )
    return found


def closed_motions(
    landmarks_a: FloatArray, landmarks_b: FloatArray, periods_a: FloatArray, periods_b: FloatArray, size: float
) -> list[Motion]:
    """Motions that carry landmarks (L, d), L >= 1, to their partners modulo the periods; best first, ties only."""
    found = []
    for linear in lattice_isometries(periods_a, periods_b):
        offsets = landmarks_b - landmarks_a @ linear
        # Relative to the first landmark all offsets are small, up to periods.
        around = nearest_zero(offsets - offsets[0], periods_b)
        shift = offsets[0] + around.mean(axis=0)
        left = around - around.mean(axis=0)
        found.append(Motion(linear, shift, float(np.sqrt((left**2).sum(axis=1).mean())) / size))
    best = min(motion.misfit for motion in found)
    limit = TIE_FACTOR * best + TIE_FLOOR
    return sorted((motion for motion in found if motion.misfit <= limit), key=lambda motion: motion.misfit)


def closed_motions_by_observables(
    samples_a: FloatArray,
    samples_b: FloatArray,
    periods_a: FloatArray,
    periods_b: FloatArray,
    observables: tuple[FloatArray, FloatArray],
    rng: np.random.Generator,
) -> list[Motion]:
    """Starts for the same from a quantity that both sides report: the good shifts for each turn of the lattice."""
    values_a, values_b = observables
    spread = np.maximum(values_b.std(axis=0), np.finfo(float).tiny)
    chosen = rng.permutation(len(samples_a))[:SEARCH_SAMPLES]
    tree = PointTree(wrapped(samples_b, periods_b))
    fractions = np.array(list(itertools.product(np.arange(SHIFTS) / SHIFTS, repeat=len(periods_b))))
    found = []
    for linear in lattice_isometries(periods_a, periods_b):
        turned = samples_a[chosen] @ linear
        # Directions without a period: the samples of both sides have the same mean there.
        centre = samples_b.mean(axis=0) - samples_a.mean(axis=0) @ linear
        centre = centre - turns(centre, periods_b) @ periods_b
        shifts = centre + fractions @ periods_b
        misfits = np.empty(len(shifts))
        for i, shift in enumerate(shifts):
            nearest = tree.query(wrapped(turned + shift, periods_b), workers=workers())[1]
            misfits[i] = np.sqrt((((values_b[nearest] - values_a[chosen]) / spread) ** 2).mean())
        # An observable may repeat itself within a period: every local minimum on the periodic grid is a start.
        lowest = minimum_filter(misfits.reshape((SHIFTS,) * len(periods_b)), size=3, mode="wrap").ravel()
        found += [Motion(linear, shifts[i], float(misfits[i])) for i in np.flatnonzero(misfits <= lowest)]
    limit = SHIFT_FACTOR * min(motion.misfit for motion in found) + SHIFT_FLOOR
    return sorted((motion for motion in found if motion.misfit <= limit), key=lambda motion: motion.misfit)
