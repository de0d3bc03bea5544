"""Where a side's measurements go as the input moves: frames from derivatives, or from neighbours where there are none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers

# Neighbours for each dimension from which tangents are estimated, and one more.
NEIGHBORS_A_DIMENSION = 3
# Neighbours among which the intrinsic dimension is counted, and the share of their variance that it explains.
NEIGHBORS_TO_COUNT, EXPLAINED = 24, 0.95


@dataclass(frozen=True, eq=False)
class Tangents:
    """J_i = U_i Sigma_i V_i^T at every sample, of rank d.

    Attributes
    ----------
    frames : ndarray of shape (n, r, d)
        U_i, orthonormal columns.
    stretches : ndarray of shape (n, d)
        Sigma_i, descending.
    inputs : ndarray of shape (n, p, d)
        V_i: the directions of the input that the side sees.
    """

    frames: FloatArray
    stretches: FloatArray
    inputs: FloatArray


def tangents_of(jacobians: FloatArray, dim: int) -> Tangents:
    """Frames of derivatives (n, r, p), of the leading `dim` directions."""
    u, s, vt = np.linalg.svd(jacobians, full_matrices=False)
    # A flat spot has no direction: what vanishes there must not divide.
    least = np.finfo(float).eps * max(float(np.median(s[:, 0])), np.finfo(float).tiny)
    stretches = np.maximum(s[:, :dim], least)
    return Tangents(
        np.ascontiguousarray(u[:, :, :dim]),
        np.ascontiguousarray(stretches),
        np.ascontiguousarray(vt[:, :dim].transpose(0, 2, 1)),
    )


def estimated_jacobians(points_a: FloatArray, points_b: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Derivatives of both sides along A's own tangents, from the neighbours of each pair.

    The input is then the place on A's manifold, in A's own units: T_i of `points_a` (n, r) are the leading principal axes of
    the neighbours, (n, r, d), and the slopes (n, v, d) of `points_b` (n, v) their least-squares fit along T_i. Both are of
    first order in the distance of the pairs. d is the most frequent number of axes that explain 95 % of a neighbourhood.

    Raises
    ------
    SampleSizeError
        Too few pairs for that many dimensions.
    """
    n = len(points_a)
    dim = _counted_dimension(points_a)
    k = min(n - 1, NEIGHBORS_A_DIMENSION * dim + 1)
    if k < dim + 1:
        raise errors.SampleSizeError(f"{n} pairs are too few to estimate slopes in {dim} dimensions")
    near = PointTree(points_a).query(points_a, k + 1, workers=workers())[1]
    steps = points_a[near] - points_a[:, None]
    axes = np.linalg.svd(steps, full_matrices=False)[2][:, :dim].transpose(0, 2, 1)
    along = np.einsum("nkr,nrd->nkd", steps, axes)
    changes = points_b[near] - points_b[:, None]
    slopes = np.einsum("ndk,nkv->nvd", np.linalg.pinv(along, rcond=1e-6), changes)
    return np.ascontiguousarray(axes), np.ascontiguousarray(slopes)


def _counted_dimension(points: FloatArray) -> int:
    n = len(points)
    k = min(n - 1, NEIGHBORS_TO_COUNT)
    some = np.unique(np.linspace(0, n - 1, min(n, 500)).astype(np.int64))
    near = PointTree(points).query(points[some], k + 1, workers=workers())[1]
    values = np.linalg.svd(points[near] - points[near].mean(axis=1, keepdims=True), compute_uv=False) ** 2
    shares = np.cumsum(values, axis=1) / np.maximum(values.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    counts = np.bincount((shares < EXPLAINED).sum(axis=1) + 1)
    return int(min(counts.argmax(), points.shape[1], k))
