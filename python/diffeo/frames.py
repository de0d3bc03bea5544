"""Derivatives of the measurements along a layout, and lengths that they correct to the next order."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from diffeo._validation import FloatArray
from diffeo.graph import NeighborGraph

# A corrected length that differs more than this from sqrt(q), relatively, is not believed.
BELIEVABLE = 0.2
# Rounds in which frames and symmetrised displacements correct each other.
FRAME_ROUNDS = 4


def local_frames(graph: NeighborGraph, layout: FloatArray, points: FloatArray, whitening: FloatArray) -> FloatArray:
    """Rotations Q_i (n, d, d) with W_i^T (y_j - y_i) = Q_i (X_j - X_i) in the limit.

    Procrustes over the edges of each sample. One-sided local coordinates have an error of second order, which the
    two ends of an edge see with opposite signs: displacements averaged over both ends are better by an order, and
    need the frames; so frames and averages are computed in turn.
    """
    n, d = len(graph.rows), layout.shape[1]
    i, j = graph.i, graph.j
    step = graph.steps(layout)
    weight = 1.0 / np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    delta = points[j] - points[i]
    from_i = np.einsum("em,emd->ed", delta, whitening[i])
    from_j = -np.einsum("em,emd->ed", delta, whitening[j])

    def procrustes(at_i: FloatArray, at_j: FloatArray) -> FloatArray:
        scaled = step * weight[:, None]
        total = np.empty((n, d, d))
        for a in range(d):
            for b in range(d):
                total[:, a, b] = np.bincount(i, at_i[:, a] * scaled[:, b], minlength=n)
                total[:, a, b] -= np.bincount(j, at_j[:, a] * scaled[:, b], minlength=n)
        u, _, vt = np.linalg.svd(total)
        rotation: FloatArray = u @ vt
        return rotation

    frames = procrustes(from_i, from_j)
    for _ in range(FRAME_ROUNDS):
        average = 0.5 * (np.einsum("ed,edk->ek", from_i, frames[i]) - np.einsum("ed,edk->ek", from_j, frames[j]))
        frames = procrustes(np.einsum("ek,edk->ed", average, frames[i]), -np.einsum("ek,edk->ed", average, frames[j]))
    return frames


def gradients_along(whitening: FloatArray, frames: FloatArray) -> FloatArray:
    """dy/dX_i = U_i Sigma_i Q_i = W_i Sigma_i^2 Q_i, (n, m, d)."""
    squared_stretches = 1.0 / (whitening**2).sum(axis=1)
    return np.ascontiguousarray(np.einsum("nmd,nd,ndk->nmk", whitening, squared_stretches, frames))


def corrected_lengths(
    graph: NeighborGraph, layout: FloatArray, points: FloatArray, gradients: FloatArray
) -> FloatArray:
    """Lengths of the edges to the next order, from the derivatives of the measurements along a layout, (e,).

    With s = X_j - X_i, G = dy/dX and D_i = d2y/dX2 [s, s] at i, Hermite quadrature (Euler and Maclaurin) says
    y_j - y_i = (G_i + G_j) s / 2 + (D_i - D_j) / 12 + O(s^5); without the last term the error is O(s^3). What
    the current s misses of y_j - y_i is turned into a displacement by the pseudo-inverse of the mean derivative.
    Second derivatives come from least squares on the differences of G along the edges; they only enter at third
    order, so the errors of the layout do not matter to the lengths.
    """
    i, j = graph.i, graph.j
    step = graph.steps(layout)
    curvature = _second_differences(graph, step, gradients)
    mean = 0.5 * (gradients[i] + gradients[j])
    missing = points[j] - points[i] - np.einsum("emd,ed->em", mean, step) - curvature / 12.0
    corrected = np.linalg.norm(step + _least_squares(mean, missing), axis=1)
    first = graph.lengths
    believable = np.abs(corrected - first) <= BELIEVABLE * first
    return np.where(believable, corrected, first)


def _least_squares(slopes: FloatArray, values: FloatArray) -> FloatArray:
    """Solutions s (e, d) of slopes s = values, (e, m, d) and (e, m), by normal equations: many, small, well posed."""
    normal = np.einsum("emk,eml->ekl", slopes, slopes)
    # Enough to keep a vanishing slope from dividing by zero; its result is not believed anyway.
    d = normal.shape[1]
    normal += (1e-14 * np.trace(normal, axis1=1, axis2=2) + np.finfo(float).tiny)[:, None, None] * np.eye(d)
    solved: FloatArray = np.linalg.solve(normal, np.einsum("emk,em->ek", slopes, values)[:, :, None])[:, :, 0]
    return solved


def _second_differences(graph: NeighborGraph, step: FloatArray, gradients: FloatArray) -> FloatArray:
    """D_i - D_j (e, m): second derivatives along each edge at its two ends."""
    n, m, d = gradients.shape
    i, j = graph.i, graph.j
    weight = 1.0 / np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    outer = np.einsum("e,ea,eb->eab", weight, step, step)
    ends = sp.csr_array(
        (np.ones(2 * len(i)), (np.concatenate([i, j]), np.tile(np.arange(len(i)), 2))), shape=(n, len(i))
    )
    moments = (ends @ outer.reshape(len(i), -1)).reshape(n, d, d)
    change = np.einsum("emk,ea,e->emka", gradients[j] - gradients[i], step, weight)
    slopes = (ends @ change.reshape(len(i), -1)).reshape(n, m, d, d)
    second = np.einsum("nmka,nab->nmkb", slopes, np.linalg.pinv(moments, rcond=1e-6, hermitian=True))
    second = 0.5 * (second + second.transpose(0, 1, 3, 2))
    at_i, at_j = (np.einsum("emka,ek,ea->em", second[end], step, step) for end in (i, j))
    difference: FloatArray = at_i - at_j
    return difference
