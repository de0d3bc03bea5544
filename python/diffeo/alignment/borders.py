"""Motions adjusted to the borders of two samples, whose extents fix them to 1 / n."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize
from scipy.spatial import ConvexHull, QhullError

from diffeo._support.arrays import FloatArray
from diffeo.alignment.motion import Freedom, Motion
from diffeo.alignment.shape import Shape

# Outermost samples that estimate an extent, and those that may become outermost in a small turn.
EXTREMES = 6
NEARLY_OUTERMOST = 24
FEWEST_FOR_EXTENTS = 100
# Widths of the loss in standard errors: wide first, as the start is off by many of them; sides of the first simplex.
EXTENT_WIDTHS = (10.0, 3.0, 1.0)
EXTENT_SIMPLICES = (3e-3, -3e-3, 1e-3, -1e-2)
EXTENT_ROUNDS = 2
# Borders are sharp where the gap between outermost samples is below this share of the size; they agree within the same.
SHARP_BORDER = 0.01
# Errors within which an extent says nothing, and the share of directions that may miss by more.
EXTENT_ERRORS, WORST_EXTENTS = 3.0, 0.2


def by_extents(shape: Shape, free: Freedom, motion: Motion, size: float) -> Motion:
    """The motion adjusted to the extents of both samples, where that agrees with their densities.

    Extents are compared along the normals of both convex hulls: there the border is a face wherever it has faces, which
    the outermost samples fix to 1 / n. Turning moves the contact from one end of a face to the other, so the loss has
    kinks: it is minimised by the simplex method (Nelder and Mead 1965), from wide to narrow and from several simplices.
    """
    d = len(motion.shift)
    motion = replace(motion, density=shape.mismatch(motion))
    if d > 3 or min(len(shape.samples_a), len(shape.samples_b)) < FEWEST_FOR_EXTENTS:
        return motion
    unit = np.ones(free.n_parameters)
    unit[free.n_parameters - (d if free.free_shift else 0) :] = size
    linear, shift = motion.linear, motion.shift
    try:
        normals = (_hull_normals(shape.samples_a), _hull_normals(shape.samples_b))
    except QhullError:  # all samples in a plane: no hull
        return motion
    for _ in range(EXTENT_ROUNDS if free.n_parameters else 0):
        linear, shift = _to_extents(shape, free, (linear, shift), normals, unit)
    misfit = shape.misfit(linear, shift)
    adjusted = replace(motion, linear=linear, shift=shift, misfit=misfit)
    adjusted = replace(adjusted, density=shape.mismatch(adjusted))
    border, sharp = _borders(shape, adjusted, normals, size)
    # Samples drawn differently from one domain agree at its border, and only there.
    if misfit <= 1.25 * max(motion.misfit, 1.0) or (sharp and border < SHARP_BORDER):
        return replace(adjusted, border=border)
    return replace(motion, border=_borders(shape, motion, normals, size)[0])


def _borders(shape: Shape, motion: Motion, normals: tuple[FloatArray, FloatArray], size: float) -> tuple[float, bool]:
    """By which share of the size the extents differ beyond chance, and whether the border is sharp enough to tell."""
    directions = np.vstack([normals[0] @ motion.linear, normals[1]])
    extent_a, error_a = _extents(shape.samples_a, directions @ motion.linear.T)
    extent_b, error_b = _extents(shape.samples_b, directions)
    error = np.hypot(error_a, error_b)
    beyond = np.abs(extent_a + directions @ motion.shift - extent_b) - EXTENT_ERRORS * error
    missing = max(0.0, float(np.quantile(beyond, 1.0 - WORST_EXTENTS)) / size)
    sharp = bool(np.median(error) < SHARP_BORDER * size)
    return (missing if sharp else 0.0), sharp


def _to_extents(
    shape: Shape,
    free: Freedom,
    start: tuple[FloatArray, FloatArray],
    normals: tuple[FloatArray, FloatArray],
    unit: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """One search for the motion near a start whose extents agree along the normals of both hulls."""
    directions = np.vstack([normals[0] @ start[0], normals[1]])
    extent_b, error_b = _extents(shape.samples_b, directions)
    along = shape.samples_a @ (directions @ start[0].T).T
    # Small turns leave the outermost samples among the nearly outermost.
    border = shape.samples_a[np.unique(np.argpartition(-along, NEARLY_OUTERMOST, axis=0)[:NEARLY_OUTERMOST])]

    def loss(parameters: FloatArray, width: float) -> float:
        linear, shift = free.moved(*start, parameters * unit)
        extent_a, error_a = _extents(border, directions @ linear.T)
        score = (extent_a + directions @ shift - extent_b) / np.hypot(error_a, error_b)
        # Cauchy's loss: next to a corner the spacing understates the error.
        return float(np.log1p((score / width) ** 2).mean())

    count = len(unit)
    best, least = np.zeros(count), loss(np.zeros(count), 1.0)
    for corner in EXTENT_SIMPLICES:
        parameters = np.zeros(count)
        for width in EXTENT_WIDTHS:
            simplex = parameters + np.sqrt(width) * corner * np.vstack([np.zeros(count), np.eye(count)])
            parameters = minimize(
                loss,
                parameters,
                args=(width,),
                method="Nelder-Mead",
                options={"initial_simplex": simplex, "xatol": 1e-6, "fatol": 1e-7, "maxfev": 150 * count},
            ).x
        there = loss(parameters, 1.0)
        if there < least:
            best, least = parameters, there
    return free.moved(*start, best * unit)


def _hull_normals(samples: FloatArray) -> FloatArray:
    if samples.shape[1] == 1:
        return np.array([[1.0], [-1.0]])
    normals: FloatArray = ConvexHull(samples).equations[:, :-1]
    return normals


def _extents(samples: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """How far the samples reach in each direction, and the error of that: the mean gap between the outermost."""
    extent, error = np.empty(len(directions)), np.empty(len(directions))
    for begin in range(0, len(directions), 64):
        block = slice(begin, begin + 64)
        outermost = -np.sort(np.partition(-(samples @ directions[block].T), EXTREMES - 1, axis=0)[:EXTREMES], axis=0)
        gap = (outermost[0] - outermost[-1]) / (EXTREMES - 1)
        extent[block], error[block] = outermost[0] + gap, gap
    return extent, np.maximum(error, 1e-300)
