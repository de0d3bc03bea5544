"""Plain fits to landmarks as predictors: an affine map, a motion with a scale, kernel ridge with one length scale for all."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.dense import cholesky_solve
from diffeo.alignment.noisy_landmarks import averaged
from diffeo.matching.gaussian_process import Process, kernel_factor, sections
from diffeo.matching.predictors.predictor import Predictor, groups_of, of_process

AFFINE_PENALTIES, RIDGE_PENALTIES = np.logspace(-8, 2, 21), np.logspace(-10, -1, 10)
# Inverse squared length scales, over the mean squared distance of standardised landmarks.
RIDGE_SCALES = np.logspace(-3, 1, 9)
# No landmark or group is taken to fix its own prediction by more than this.
MOST_LEVERAGE = 1.0 - 1e-9
# Directions that landmarks span by less than this share of the largest are none.
SEEN = 1e-9


def affine(landmarks: FloatArray, c: int, values: FloatArray, own: FloatArray) -> Predictor:
    """Ridge regression on the points, its penalty and its misses by landmarks left out, in closed form."""
    points, mean = landmarks[:, c:], values.mean(axis=0)
    centre, unit = points.mean(axis=0), points.std(axis=0)
    unit = np.where(unit > 0.0, unit, np.inf)
    u, s, vt = np.linalg.svd((points - centre) / unit, full_matrices=False)
    along, count = u.T @ (values - mean), len(values)
    fits = []
    for penalty in AFFINE_PENALTIES:
        kept = s**2 / (s**2 + penalty)
        share = np.minimum(1.0 / count + (u**2) @ kept, MOST_LEVERAGE)
        fits.append((values - mean - u @ (kept[:, None] * along)) / (1.0 - share)[:, None])
    best = int(np.argmin([np.linalg.norm(missed) for missed in fits]))
    kept = s**2 / (s**2 + AFFINE_PENALTIES[best])
    residual, grouped = values - mean - u @ (kept[:, None] * along), np.empty_like(values)
    for rows in groups_of(count):
        # Residuals without a group are (I - H)^-1 times those with it, H the part of the hat matrix that belongs to it.
        hat = 1.0 / count + (u[rows] * kept) @ u[rows].T
        grouped[rows] = np.linalg.lstsq(np.eye(len(rows)) - MOST_LEVERAGE * hat, residual[rows], rcond=None)[0]
    weights = (vt.T @ ((s / (s**2 + AFFINE_PENALTIES[best]))[:, None] * along)) / unit[:, None]
    linear = np.zeros((landmarks.shape[1], values.shape[1]))
    linear[c:] = weights
    least = averaged(own, points.shape[1], count)
    spread, by_groups = (np.sqrt(np.maximum((missed**2).mean(axis=0) - own, least)) for missed in (fits[best], grouped))
    none = np.zeros(values.shape[1])
    return Predictor(
        "affine of points", np.zeros(landmarks.shape[1]), 0.0, 1.0, mean - centre @ weights, spread, none,
        np.zeros_like(values), fits[best], np.tile(spread**2, (count, 1)), grouped, np.tile(by_groups**2, (count, 1)), linear,
    )  # fmt: skip


def procrustes(landmarks: FloatArray, c: int, values: FloatArray, own: FloatArray) -> Predictor:
    """Rotation or reflection, scale and shift of the points (Schoenemann 1966): the fewest numbers that tell of all directions.

    Directions that no landmark spans are mapped to zero. It is fitted anew without each landmark, so for few of them.
    """
    points, count, misses = landmarks[:, c:], len(values), np.empty_like(values)
    for row in range(count):
        rest = np.arange(count) != row
        left, right = _similarity(points[rest], values[rest])
        sent = (points[row] - points[rest].mean(axis=0)) @ left @ right
        misses[row] = values[row] - values[rest].mean(axis=0) - sent
    left, right = _similarity(points, values)
    linear = np.zeros((landmarks.shape[1], values.shape[1]))
    linear[c:] = left @ right
    shift = values.mean(axis=0) - points.mean(axis=0) @ left @ right
    spread = np.sqrt(np.maximum((misses**2).mean(axis=0) - own, averaged(own, points.shape[1], count)))
    none, variances = np.zeros(values.shape[1]), np.tile(spread**2, (count, 1))
    return Predictor(
        "motion of points", np.zeros(landmarks.shape[1]), 0.0, 1.0, shift, spread, none, np.zeros_like(values),
        misses, variances, misses, variances, linear,
    )  # fmt: skip


def _similarity(points: FloatArray, values: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Factors (m_a, r) and (r, m) of the linear part of the motion that brings points (count, m_a) nearest to values.

    In the spans of both, since wide layers have thousands of measurements, and landmarks are few.
    """
    (q_a, r_a), (q_b, r_b) = (np.linalg.qr((x - x.mean(axis=0)).T) for x in (points, values))
    u, s, vt = np.linalg.svd(r_a @ r_b.T, full_matrices=False)
    seen, square = s > SEEN * s.max(initial=0.0), float((r_a**2).sum())
    scale = s.sum() / square if square > 0.0 else 0.0
    return q_a @ u[:, seen] * scale, vt[seen] @ q_b.T


def ridge(landmarks: FloatArray, c: int, values: FloatArray, searched: int, own: FloatArray) -> Predictor:
    """Kernel ridge regression on the points, with the scale and penalty that miss groups of landmarks left out least.

    Single landmarks left out lie among the others, and prefer scales that are too short for where there are none.
    """
    points, offset, spread = np.ascontiguousarray(landmarks[:, c:]), values.mean(axis=0), values.std(axis=0)
    unit = points.std(axis=0)
    unit = np.where(unit > 0.0, unit, np.inf)
    standard = (values - offset) / np.where(spread > 0.0, spread, 1.0)
    some = np.linspace(0, len(points) - 1, min(len(points), searched)).astype(np.int64)
    groups = groups_of(len(some))
    best = (np.inf, 0.0, 0.0)
    for scale in RIDGE_SCALES:
        inverse = np.sqrt(scale / np.isfinite(unit).sum().clip(1)) / unit
        size, axes = np.linalg.eigh(sections(points[some], points[some], inverse, 1.0))
        along = axes.T @ standard[some]
        for penalty in RIDGE_PENALTIES:
            gain = 1.0 / (np.maximum(size, 0.0) + penalty)
            dual = axes @ (gain[:, None] * along)
            missed = [np.linalg.solve((axes[rows] * gain) @ axes[rows].T, dual[rows]) for rows in groups]
            best = min(best, (float(np.sqrt(sum((one**2).sum() for one in missed))), float(scale), float(penalty)))
    inverse = np.sqrt(best[1] / np.isfinite(unit).sum().clip(1)) / unit
    factor = kernel_factor(points, inverse, 1.0, best[2])
    dual = cholesky_solve(factor, standard) * spread
    fitted = Process(points, inverse, 1.0, best[2], offset, spread, dual)
    return of_process("ridge of points", landmarks, slice(c, None), fitted, own)
