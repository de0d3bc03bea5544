"""Arithmetic modulo periods: turns, cells, nearest places, and short bases of a lattice.

`periods` (k, d), k <= d independent rows, span a lattice: X and X + any sum of periods are the same place. Coordinates
have a part along the span of the periods, and a part across it, which nothing here moves. Without periods (k = 0)
everything stays as it is.
"""

from __future__ import annotations

import itertools

import numpy as np

from diffeo._support.arrays import FloatArray

# Turns closer than this to a whole one are whole.
EDGE = 1e-9
# A vector that is shorter by less than this share is as long.
SHORTER = 1e-9


def turns(coordinates: FloatArray, periods: FloatArray) -> FloatArray:
    """How often coordinates (count, d) go around each of the periods, (count, k): coordinates @ pinv(periods)."""
    around: FloatArray = coordinates @ np.linalg.pinv(periods)
    return around


def wrapped(coordinates: FloatArray, periods: FloatArray) -> FloatArray:
    """Coordinates (count, d) moved by periods into the cell at the origin, whose turns are in [0, 1).

    Idempotent: what rounding left at the far edge of the cell belongs to the near one.
    """
    if len(periods) == 0:
        return coordinates
    whole = np.floor(turns(coordinates, periods) + EDGE)
    moved: FloatArray = np.ascontiguousarray(coordinates - whole @ periods)
    return moved


def nearest_zero(offsets: FloatArray, periods: FloatArray) -> FloatArray:
    """The shortest of what offsets (count, d) are modulo periods.

    The nearest point of a lattice is not always what rounding the turns gives: a basis may be oblique. Of a short basis
    (`reduced_basis`) it is that or one of those around it.
    """
    return _nearest_zero(offsets, reduced_basis(periods)) if len(periods) else offsets


def whole_turns(offsets: FloatArray, periods: FloatArray) -> FloatArray:
    """Whole numbers (count, k) of the periods whose sum is nearest to each of the offsets (count, d)."""
    whole: FloatArray = np.round(turns(offsets - nearest_zero(offsets, periods), periods))
    return whole


def shifts_around(periods: FloatArray) -> FloatArray:
    """The cell at the origin and those around it: 3^k sums of periods (3^k, d), zero first."""
    return _whole_around(len(periods)) @ periods


def reduced_basis(basis: FloatArray) -> FloatArray:
    """A basis (k, d) of the same lattice with the shortest vectors, shortest first.

    Each vector is made shortest modulo those before it until nothing changes: in two dimensions the reduction of
    Lagrange and Gauss, and up to four that of Minkowski (Nguyen and Stehle 2009, "greedy" reduction).
    """
    basis = basis.copy()
    changed = True
    while changed:
        basis = basis[np.argsort(np.linalg.norm(basis, axis=1), kind="stable")]
        changed = False
        for a in range(1, len(basis)):
            shorter = _nearest_zero(basis[a : a + 1], basis[:a])[0]
            if np.linalg.norm(shorter) < (1.0 - SHORTER) * np.linalg.norm(basis[a]):
                basis[a] = shorter
                changed = True
                break
    return basis


def _nearest_zero(offsets: FloatArray, short: FloatArray) -> FloatArray:
    """As `nearest_zero`, for a reduced basis."""
    rounded = offsets - np.round(turns(offsets, short)) @ short
    best = rounded
    least = np.linalg.norm(best, axis=1)
    # Of one period rounding is exact. Ties stay as they are.
    for shift in shifts_around(short)[1:] if len(short) > 1 else ():
        size = np.linalg.norm(rounded + shift, axis=1)
        better = size < (1.0 - SHORTER) * least
        best = np.where(better[:, None], rounded + shift, best)
        least = np.where(better, size, least)
    return best


def _whole_around(k: int) -> FloatArray:
    """Whole numbers (3^k, k) from -1 to 1, zero first."""
    return np.array(list(itertools.product((0, 1, -1), repeat=k)), dtype=np.float64).reshape(3**k, k)
