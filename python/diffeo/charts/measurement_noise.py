"""Noise of measurements: how large it is, told from curvature by samples alone, and points without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.observation.observation import Observation

# Samples that tell the noise, and neighbours in the space of measurements among which those along the manifold are sought.
TRIAL_SAMPLES, CANDIDATES = 500, 128
# Numbers of neighbours along the manifold over which points may be averaged.
SIZES = (4, 8, 16, 32, 64)
# What lies across the manifold grows with the sixth power of the distance where it is curvature, and not at all where it is
# noise: from the nearest few neighbours to four times as many it may grow by this factor ...
GROWS = 1.5
# ... and from these to as many as are averaged.
AVERAGED_GROWS = 1.2
# Fewer samples, in units of the dimension plus one, tell nothing; nor does noise below this share of the spread of the points.
FEWEST, LEAST = 15, 1e-6
# Pairs times measurements that are worked on at once.
CHUNK = 1 << 22


@dataclass(frozen=True)
class Noise:
    """Noise of every measurement of an observation: its standard deviation, and over how many neighbours it averages out."""

    deviation: float
    n_neighbors: int


def noise_of(observation: Observation) -> Noise:
    """Noise of points off the manifold that they sample; deviation 0 where there is none, or curvature hides it.

    Where an observation knows its own (`Observation.noise`), only the number of neighbours is sought.

    With P_i the orthogonal projector onto the tangent space of sample i, (1 - (P_i + P_j) / 2)(y_j - y_i) is of third order
    in the distance of two samples: the trapezoid rule along the manifold. Independent noise of deviation s in each of m
    measurements adds 2 (m - d) s^2 to its square, at any distance. Measurements are taken to be as noisy as one another.
    """
    m, d, rows = observation.shape[1], observation.dim, observation.usable
    none = Noise(0.0, 0)
    if len(observation.noise_of_points) and observation.noise == 0.0:
        return none
    if m <= d or len(rows) < max(FEWEST * (d + 1), 2 * CANDIDATES):
        return none
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), TRIAL_SAMPLES)).astype(np.int64))]
    squares = np.concatenate([(across**2).sum(axis=2) for *_, across in _across(observation, some, SIZES[-1])])
    rings = [float(np.median(squares[:, start:stop])) for start, stop in zip((0, *SIZES[:-1]), SIZES, strict=True)]
    deviation = observation.noise or float(np.sqrt(max(rings[0], 0.0) / (2.0 * (m - d))))
    spread = float(np.sqrt(observation.points[rows].var(axis=0).mean()))
    if not deviation > LEAST * spread or (rings[2] > GROWS * rings[0] and not observation.noise):
        return none
    level = 2.0 * (m - d) * deviation**2
    within = [size for size, ring in zip(SIZES, rings, strict=True) if ring <= AVERAGED_GROWS * level]
    return Noise(deviation, max(within, default=SIZES[0]))


def denoised(observation: Observation, noise: Noise) -> Observation:
    """The observation with each point moved across the manifold to where its neighbours see it.

    y_i + mean over neighbours of (1 - (P_i + P_j) / 2)(y_j - y_i), weighted by one over the variances of their noise where
    each has its own. Noise along the manifold stays: it is a point of the manifold beside, and moves coordinates and values
    alike.
    """
    if noise.deviation == 0.0:
        return observation
    points = observation.points.copy()
    precision = _precision(observation)
    for rows, near, across in _across(observation, observation.usable, noise.n_neighbors):
        # The sample itself is one of those averaged over, with nothing across.
        weights = precision[near] / (precision[near].sum(axis=1) + precision[rows])[:, None]
        points[rows] += np.einsum("nk,nkm->nm", weights, across)
    return replace(observation, points=points, noise=noise.deviation)


def _precision(observation: Observation) -> FloatArray:
    """One over the variance of the noise of each sample (n,), up to a factor; 1 where all are alike."""
    own = observation.noise_of_points
    if not len(own):
        return np.ones(len(observation))
    least = LEAST * float(own.max())
    found: FloatArray = (float(own.max()) / np.maximum(own, max(least, np.finfo(float).tiny))) ** 2
    return found


def _across(observation: Observation, rows: IntArray, count: int) -> Iterator[tuple[IntArray, IntArray, FloatArray]]:
    """In chunks: rows, their `count` nearest along the manifold, and what of the steps there lies across it, (k, count, m)."""
    usable, m = observation.usable, observation.shape[1]
    tree = PointTree(observation.points[usable])
    k = min(len(usable), CANDIDATES + 1)
    step = max(CHUNK // (k * m), 1)
    for start in range(0, len(rows), step):
        own = rows[start : start + step]
        near = usable[tree.query(observation.points[own], k, workers=workers())[1]]
        near = near[near != own[:, None]].reshape(len(own), -1) if (near[:, 0] == own).all() else near[:, 1:]
        steps = observation.points[near] - observation.points[own][:, None]
        along = (np.einsum("nkm,nmd->nkd", steps, observation.whitening[own]) ** 2).sum(axis=2)
        along += (np.einsum("nkm,nkmd->nkd", steps, observation.whitening[near]) ** 2).sum(axis=2)
        chosen = np.argsort(along, axis=1, kind="stable")[:, :count]
        near, steps = np.take_along_axis(near, chosen, 1), np.take_along_axis(steps, chosen[:, :, None], 1)
        mine, theirs = _tangents(observation.whitening[own]), _tangents(observation.whitening[near])
        kept = np.einsum("nmd,nkd->nkm", mine, np.einsum("nkm,nmd->nkd", steps, mine))
        kept += np.einsum("nkmd,nkd->nkm", theirs, np.einsum("nkm,nkmd->nkd", steps, theirs))
        yield own, near, steps - 0.5 * kept


def _tangents(whitening: FloatArray) -> FloatArray:
    """Orthonormal bases (..., m, d) of the tangent spaces: the columns of a whitening are orthogonal."""
    size = np.linalg.norm(whitening, axis=-2, keepdims=True)
    tangents: FloatArray = whitening / np.maximum(size, np.finfo(float).tiny)
    return tangents
