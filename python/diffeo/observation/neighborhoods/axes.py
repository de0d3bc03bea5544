"""Neighbourhoods in reference coordinates: their main axes, and which of these are directions of the set that it fills."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers

# Neighbours whose reference positions are flatter than this do not determine a Jacobian.
FLAT_REFERENCE = 1e-8
# A direction of the reference is curvature if it is thinner than this share of the widest, and shrinks with neighbourhoods of
# a quarter of the samples faster than the widest does to this power: curvature does with the second, an extent with the first.
THIN_REFERENCE, SHRINKS = 0.3, 1.5
# Noise across a set does not shrink at all: with less than this power.
NOISE_SHRINKS = 0.5


def nearest(coordinates: FloatArray, k: int) -> IntArray:
    """Rows of the k nearest samples of every sample, itself included."""
    _, rows = PointTree(coordinates).query(coordinates, k, workers=workers())
    return np.ascontiguousarray(rows, dtype=np.int64)


def main_axes(reference: FloatArray, near: IntArray) -> tuple[FloatArray, FloatArray]:
    """Extents (n, p) of neighbourhoods along their main axes (n, p, p), descending; extents are standard deviations."""
    offsets = reference[near] - reference[near].mean(axis=1, keepdims=True)
    squares, axes = np.linalg.eigh(np.einsum("nkp,nkq->npq", offsets, offsets) / near.shape[1])
    return np.sqrt(np.maximum(squares[:, ::-1], 0.0)), axes[:, :, ::-1]


def filled(reference: FloatArray, near: IntArray) -> int:
    """How many dimensions the set has that a reference (n, p) fills, by neighbourhoods (k, K) and their nearest quarters.

    Across a curved set a neighbourhood is as thick as it is curved, by the square of its width.
    """
    return _extents(reference, near, noisy=False)


def filled_beside_noise(reference: FloatArray, near: IntArray) -> int:
    """The same where directions whose extent does not grow with the neighbourhood may be noise across the set."""
    return _extents(reference, near, noisy=True)


def _extents(reference: FloatArray, near: IntArray, *, noisy: bool) -> int:
    p = int(reference.shape[1])
    few = max(near.shape[1] // 4, p + 1)
    if p == 1 or few >= near.shape[1]:
        return p
    extents = main_axes(reference, near)[0]
    narrow = np.median(main_axes(reference, near[:, :few])[0], axis=0)
    wide = np.median(extents, axis=0)
    if not (narrow[-1] > FLAT_REFERENCE * narrow[0] > 0.0 and wide[0] > narrow[0]):
        return p
    shrinks = np.log(wide / narrow) / np.log(wide[0] / narrow[0])
    across = shrinks > SHRINKS
    if noisy:
        across |= shrinks < NOISE_SHRINKS
    extent = ~((np.median(extents / extents[:, :1], axis=0) < THIN_REFERENCE) & across)
    return int(np.flatnonzero(extent).max()) + 1
