"""Noise of marks: how large it is, told by how far they lie off the manifold, and how far it moves their places along it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.charts.coordinates import Marks
from diffeo.charts.isometric import IsometricChart

# Noise of marks below this share of the spread of the samples is none, ...
LEAST = 1e-3
# ... and so is what the interpolation itself misses: told by so many samples, each predicted from the others.
TRIALS = 200
# What is known of the noise of the samples counts as so many of the numbers by which marks tell theirs.
KNOWN = 30.0


@dataclass(frozen=True, eq=False)
class MarkNoise:
    """Noise of marks: independent in each measurement, and as large in all.

    Attributes
    ----------
    deviation : float
        Its standard deviation.
    covariances : ndarray of shape (L, d, d)
        Of the coordinates of each mark, from it.
    slopes : ndarray of shape (L, m, d)
        Derivatives of the measurements by the coordinates there.
    told_by : float
        How many independent numbers tell the variance.
    """

    deviation: float
    covariances: FloatArray
    slopes: FloatArray
    told_by: float


def mark_noise(chart: IsometricChart, marks: Marks, at: FloatArray, n_threads: int) -> MarkNoise:
    """Noise of marks with coordinates `at` (L, d); deviation 0 where they lie on the manifold as far as that is known.

    A mark y = y(x) + e is placed where D (y - y(x)) is smallest, D the units of measurements: at x + (D G)^+ D e to first
    order, with G = dy/dx. Of the noise e the part (1 - P) D e is left, P the projector onto the columns of D G, with expected
    square s^2 tr((1 - P) D^2); which is how s^2 is estimated. Rows of an observation have its own noise.
    """
    interpolant = chart.embedding._chart
    values, slopes = interpolant.expansion(at, n_threads)
    units = np.ones(values.shape)
    if marks.rows is None:
        units = interpolant.units_of(marks.points, at, n_threads)
        # Of marks with units of their own none is to count for more than another.
        units /= np.maximum(np.sqrt((units**2).mean(axis=1, keepdims=True)), np.finfo(float).tiny)
    basis = np.linalg.qr(slopes * units[:, :, None])[0]
    inverse = np.linalg.pinv(slopes * units[:, :, None]) * units[:, None, :]
    noise, told_by = chart.observation.noise, KNOWN
    if marks.rows is not None and len(chart.observation.noise_of_points):
        noise = float(np.sqrt((chart.observation.noise_of_points[marks.rows] ** 2).mean()))
    if marks.rows is None:
        left = float((((marks.points - values) * units) ** 2).sum())
        free = float((units**2).sum()) - float(((basis * units[:, :, None]) ** 2).sum())
        # Every number tells as much as it is left free, which is all of it for as many measurements as there are units.
        count = len(at) * max(values.shape[1] - at.shape[1], 0)
        known = KNOWN if noise > 0.0 else 0.0
        if count and free > 0.0:
            variance = (known * noise**2 + count * left / free) / (known + count)
            noise = np.sqrt(variance) if known or variance > _own(chart, n_threads) ** 2 else 0.0
            told_by = known + count
    covariances = noise**2 * np.einsum("lim,ljm->lij", inverse, inverse)
    return MarkNoise(float(noise), covariances, slopes, told_by)


def _own(chart: IsometricChart, n_threads: int) -> float:
    """What is no noise of a measurement: a share of the spread, and what interpolation misses of samples left out."""
    interpolant = chart.embedding._chart
    rows = np.linspace(0, len(interpolant.nodes) - 1, min(len(interpolant.nodes), TRIALS)).astype(np.int64)
    missed = interpolant.left_out(rows, n_threads) - interpolant.values[rows]
    spread = float(np.sqrt(interpolant.values.var(axis=0).mean()))
    return max(LEAST * spread, float(np.sqrt((missed**2).mean())))
