"""Landmarks whose places are known roughly only: put where the motion of the others has them, on their side of these."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.alignment.linear import UNDETERMINED

# A rough place that is farther than this share of the landmarks' spread from where the others have it contradicts them.
ROUGHLY = 0.1
# Of a motion and its mirror image, one has the rough places so many times nearer than the other, or neither is known.
TELLING = 4.0


def placed_by_others(
    at_a: FloatArray, at_b: FloatArray, rough: tuple[IntArray, IntArray], *, known_unit: bool
) -> tuple[FloatArray, FloatArray] | None:
    """Places (L, d) of landmarks on both sides, rough ones as the motion of the others has them; None where it is not known.

    d others fix a rigid motion up to the reflection at the hyperplane through them, and rough places tell the side of it: their
    errors do not count. Where they lie far from the places that the motion gives them, by its mirror image as well, something
    else is wrong.

    Parameters
    ----------
    at_a, at_b : ndarray of shape (L, d)
    rough : tuple of ndarray of int64
        Which places are rough, on A and on B.
    known_unit : bool
        Whether both sides measure length in the same unit; else the motion has a scale.
    """
    count, d = at_a.shape
    doubted = np.union1d(*rough)
    good = np.setdiff1d(np.arange(count), doubted)
    if at_b.shape[1] != d or len(good) < d or len(np.intersect1d(*rough)):
        return None
    mean_a, mean_b = at_a[good].mean(axis=0), at_b[good].mean(axis=0)
    p, q = at_a - mean_a, at_b - mean_b
    spread = float(np.sqrt((q**2).sum() / count))
    axes = [np.linalg.svd(x[good])[1:] for x in (p, q)]
    # The last direction is open if the others lie in a hyperplane, as d of them do.
    values = np.array([np.pad(s, (0, d - len(s)))[:d] for s, _ in axes])
    if not (values[:, : d - 1] > UNDETERMINED * np.maximum(values[:, :1], np.finfo(float).tiny)).all():
        return None
    scale = 1.0
    if not known_unit:
        sizes = [float(np.sqrt((x[good] ** 2).sum())) for x in (p, q)]
        if min(sizes) == 0.0:
            return None
        scale = sizes[1] / sizes[0]
    u, s, vt = np.linalg.svd(p[good].T @ q[good])
    flip = np.ones(d)
    flip[-1] = -1.0
    linears = [scale * (u * sign) @ vt for sign in (np.ones(d), flip)]
    if s[-1] > UNDETERMINED**2 * s[0]:
        linears = linears[:1]
    misses = [float(np.linalg.norm(p[doubted] @ linear - q[doubted], axis=1).max()) for linear in linears]
    best = int(np.argmin(misses))
    mirrored = len(linears) > 1 and misses[1 - best] < TELLING * misses[best]
    if misses[best] > ROUGHLY * spread or mirrored:
        return None
    at_a, at_b = at_a.copy(), at_b.copy()
    on_a, on_b = rough
    at_b[on_b] = p[on_b] @ linears[best] + mean_b
    at_a[on_a] = q[on_a] @ linears[best].T / scale**2 + mean_a
    return at_a, at_b
