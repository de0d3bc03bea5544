"""Local derivatives from neighbours alone: least squares on reference coordinates, or the tangents of a curve."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo._support.wording import rows_text

# Neighbours whose reference positions are flatter than this do not determine a Jacobian.
FLAT_REFERENCE = 1e-8


def fitted_jacobians(points: FloatArray, reference: FloatArray, n_neighbors: int) -> FloatArray:
    """Jacobians (n, m, p) by local least squares of points (n, m) on reference coordinates (n, p).

    Raises
    ------
    SampleSizeError
        Fewer than p + 2 neighbours.
    RankError
        Neighbours that do not span the reference space.
    """
    p = reference.shape[1]
    if n_neighbors < p + 2:
        raise errors.SampleSizeError(f"n_neighbors = {n_neighbors} must be at least p + 2 = {p + 2}")
    jacobians: FloatArray
    jacobians, conditions = core.jacobians_from_neighbors(points, reference, _nearest(reference, n_neighbors), 0)
    flat = np.flatnonzero(conditions < FLAT_REFERENCE)
    if len(flat):
        raise errors.RankError(
            f"the neighbours of {len(flat)} samples do not span the {p} reference coordinates ({rows_text(flat)}); "
            "drop constant or dependent reference columns, or raise n_neighbors"
        )
    return jacobians


def unit_tangents(points: FloatArray, n_neighbors: int) -> FloatArray:
    """Unit tangents (n, m, 1) of a curve through points (n, m): with these as Jacobians, distances are arc lengths.

    Zero where all neighbours coincide.
    """
    neighborhoods = points[_nearest(points, n_neighbors)]
    _, tangents = core.whitening_from_bursts(np.ascontiguousarray(neighborhoods), 1.0, 1, 0)
    size = np.linalg.norm(tangents, axis=1, keepdims=True)
    return np.ascontiguousarray(tangents / np.where(size > 0.0, size, 1.0))


def _nearest(coordinates: FloatArray, k: int) -> IntArray:
    """Rows of the k nearest samples of every sample, itself included."""
    from scipy.spatial import cKDTree

    _, rows = cKDTree(coordinates).query(coordinates, k, workers=workers())
    return np.ascontiguousarray(rows, dtype=np.int64)
