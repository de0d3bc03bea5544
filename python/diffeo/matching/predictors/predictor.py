"""A predictor that landmarks taught, with what it misses of them: each left out, and groups of them left out in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.alignment.noisy_landmarks import averaged
from diffeo.matching.gaussian_process import Process, fit_process

# A variance is trusted to be in scale, before any landmark is seen, as if this many landmarks had shown it.
PRIOR_LANDMARKS = 3.0
# Groups of landmarks that are left out in turn; each alone where there are no more than FEW.
GROUPS, FEW = 5, 10


@dataclass(frozen=True, eq=False)
class Predictor:
    """One predictor of m measurements from f inputs, learned from L landmarks.

    ``prediction if aligned, + offset + query @ linear + k(query, landmarks) @ dual`` with a squared-exponential kernel; its
    variance is ``spread**2 * (amplitude + noise - known - explained) + doubt**2``.

    Attributes
    ----------
    kind : str
    inverse_scales : ndarray of shape (f,)
        0 where an input is not used.
    amplitude, noise, known : float
    offset, spread, doubt : ndarray of shape (m,)
    dual : ndarray of shape (L, m)
    misses, variances : ndarray of shape (L, m)
        At each landmark, predicted from the others.
    grouped, grouped_variances : ndarray of shape (L, m)
        At each landmark, predicted without its whole group (`groups_of`): that says more of places where there are none. The
        aligned map has no part in it: the same as `misses`, `variances`.
    linear : ndarray of shape (f, m), optional
    """

    kind: str
    inverse_scales: FloatArray
    amplitude: float
    noise: float
    offset: FloatArray
    spread: FloatArray
    doubt: FloatArray
    dual: FloatArray
    misses: FloatArray
    variances: FloatArray
    grouped: FloatArray
    grouped_variances: FloatArray
    linear: FloatArray | None = None
    known: float = 0.0

    @property
    def base(self) -> float:
        """1 where the prediction of the aligned map is added, else 0."""
        return float(self.kind.startswith("aligned"))


def groups_of(count: int) -> list[IntArray]:
    """Landmarks to leave out in turn."""
    order, parts = np.random.default_rng(0).permutation(count), count if count <= FEW else GROUPS
    return [np.sort(order[i::parts]) for i in range(parts)]


def aligned_map(
    landmarks: FloatArray, missed: FloatArray, doubted: FloatArray, least: FloatArray, own: FloatArray
) -> Predictor:
    """The prediction as it is: one variance everywhere, `least` where its misses are noise."""
    count, none = len(missed), np.zeros(missed.shape[1])
    spread = np.sqrt(np.maximum((missed**2).mean(axis=0) - own, least))
    variances = np.tile(spread**2 + doubted**2, (count, 1))
    scales = np.zeros(landmarks.shape[1])
    seen = (missed, variances, missed, variances)
    return Predictor("aligned", scales, 0.0, 1.0, none, spread, doubted, np.zeros_like(missed), *seen)


def process(
    kind: str,
    landmarks: FloatArray,
    used: slice,
    targets: FloatArray,
    searched: int,
    own: FloatArray,
    doubted: FloatArray | float = 0.0,
) -> Predictor:
    """A process of some of the inputs."""
    share = share_of_noise(own, targets.std(axis=0))
    fitted = fit_process(np.ascontiguousarray(landmarks[:, used]), targets, searched, share)
    return of_process(kind, landmarks, used, fitted, own, doubted)


def share_of_noise(own: FloatArray, spread: FloatArray) -> float:
    """Variance of the landmarks' own noise in units of the targets', which processes share; at most 1."""
    return float(min((own[spread > 0.0] / spread[spread > 0.0] ** 2).mean(), 1.0)) if own.any() else 0.0


def of_process(
    kind: str, landmarks: FloatArray, used: slice, fitted: Process, own: FloatArray, doubted: FloatArray | float = 0.0
) -> Predictor:
    """A fitted process, its variance scaled by how large the misses are beside it, and without that of the landmarks."""
    (misses, variances), grouped = fitted.left_out(), fitted.left_out(groups_of(len(landmarks)))
    known = min(share_of_noise(own, fitted.spread), fitted.noise)
    ratio = misses**2 / np.where(variances > 0.0, variances, 1.0)
    scale = (PRIOR_LANDMARKS + ratio.sum(axis=0)) / (PRIOR_LANDMARKS + len(misses))
    scales = np.zeros(landmarks.shape[1])
    scales[used] = fitted.inverse_scales
    doubt = np.broadcast_to(doubted, fitted.spread.shape)
    spread = fitted.spread * np.sqrt(scale)
    least = averaged(own, 0, len(misses))
    variances, by_groups = (
        np.maximum(one * scale - known * spread**2, least) + doubt**2 for one in (variances, grouped[1])
    )
    fit = (fitted.amplitude, fitted.noise, fitted.offset)
    seen = (misses, variances, grouped[0], by_groups)
    return Predictor(kind, scales, *fit, spread, doubt, fitted.dual, *seen, None, known)
