"""Landmarks with noise of their own: what of their misses it explains, and what it adds to their measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.alignment.linear import Alignment
from diffeo.charts.noisy_marks import MarkNoise
from diffeo.isometry.periods import nearest_zero

# Misses are more than noise if their mean square is larger by so many of its standard errors.
SURPRISE = 3.0


@dataclass(frozen=True, eq=False)
class LandmarkNoise:
    """What noise makes of landmarks.

    Attributes
    ----------
    at_a, at_b : ndarray of shape (m_a,), (m_b,), or None
        Variance of what is missed of their measurements by a map that is right; None where neither side is noisy.
    explains : bool
        Whether it is all that the alignment misses of them.
    deviations : tuple of float
        Of the noise of the measurements of A and of B.
    """

    at_a: FloatArray | None = None
    at_b: FloatArray | None = None
    explains: bool = False
    deviations: tuple[float, float] = (0.0, 0.0)


NO_NOISE = LandmarkNoise()


def landmark_noise(
    a: MarkNoise, b: MarkNoise, alignment: Alignment, located: tuple[FloatArray, FloatArray], periods: FloatArray
) -> LandmarkNoise:
    """What the noise of both sides makes of landmarks that an alignment joins.

    A landmark is missed in B's coordinates by L^T e_a - e_b with covariance S = L^T S_a L + S_b, L the linear part; the sum of
    delta^T S^-1 delta is then chi squared with as many degrees of freedom as the alignment leaves. Its measurements are missed
    by their own noise and by that of where they are sent: s_b^2 + diag(G_b L^T S_a L G_b^T), averaged over the landmarks.

    Parameters
    ----------
    a, b : MarkNoise
    alignment : Alignment
    located : tuple of ndarray (L, d_a), (L, d_b)
        Coordinates of the landmarks on both sides.
    periods : ndarray of shape (k, d_b)
    """
    if a.deviation == 0.0 and b.deviation == 0.0:
        return NO_NOISE
    linear, (at_a, at_b) = alignment.linear, located
    sent = np.einsum("ip,lij,jq->lpq", linear, a.covariances, linear)
    at_target = b.deviation**2 + _spread(b.slopes, sent)
    back = None
    if alignment.kind != "projection":
        inverse = np.linalg.inv(linear)
        back = a.deviation**2 + _spread(a.slopes, np.einsum("ip,lij,jq->lpq", inverse, b.covariances, inverse))
    missed = nearest_zero(alignment.forward(at_a) - at_b, periods)
    expected = sent + b.covariances
    d = at_b.shape[1]
    free = missed.size - d * (d + 1) // 2
    deviations = a.deviation, b.deviation
    if free < 1:
        return LandmarkNoise(back, at_target, True, deviations)
    # Noise of one side alone may not reach all directions of a projection: the pseudo-inverse leaves these to the others.
    square = float(np.einsum("lp,lpq,lq->", missed, np.linalg.pinv(expected, hermitian=True), missed))
    error = np.sqrt(2.0 / free + sum(2.0 / one.told_by for one in (a, b) if one.deviation > 0.0))
    return LandmarkNoise(back, at_target, square / free <= 1.0 + SURPRISE * float(error), deviations)


def averaged(own: FloatArray, c: int, count: int) -> FloatArray:
    """What is left of the variance of noise (m,) in a map whose c + 1 numbers for each coordinate are fitted to so many."""
    return own * min((c + 1) / count, 1.0)


def beyond(missed: FloatArray, own: FloatArray, c: int) -> float:
    """Norm of misses (L, m) beyond that of the landmarks' own noise."""
    square, count = float((missed**2).sum()), len(missed)
    least = min(square, count * float(averaged(own, c, count).sum()))
    return float(np.sqrt(max(square - count * float(own.sum()), least)))


def _spread(slopes: FloatArray, covariances: FloatArray) -> FloatArray:
    """Mean variance (m,) of measurements with these slopes (L, m, d) by the coordinates."""
    found: FloatArray = np.einsum("lmp,lpq,lmq->m", slopes, covariances, slopes) / len(slopes)
    return found
