"""Derivatives of the measurements along a layout, and lengths that they correct to the next order."""

from __future__ import annotations

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo.isometry.graph import NeighborGraph

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
    steps = graph.steps(layout)
    return core.local_frames(points, whitening, graph.i, graph.j, steps, FRAME_ROUNDS, workers())


def extended(
    graph: NeighborGraph,
    known: IntArray,
    layout: FloatArray,
    frames: FloatArray,
    points: FloatArray,
    whitening: FloatArray,
) -> FloatArray:
    """A layout (n, d) of a graph from that of a few samples at positions `known` (c,), with their frames (c, d, d).

    Each of the others is placed beside neighbours by its displacements from them, in frames that are handed on.
    """
    n, d = len(graph.rows), layout.shape[1]
    whole, turns, there = np.zeros((n, d)), np.zeros((n, d, d)), np.zeros(n, dtype=bool)
    whole[known], turns[known], there[known] = layout, frames, True
    return core.extend_layout(points, whitening, graph.i, graph.j, there, whole, turns, workers())[0]


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
    steps = graph.steps(layout)
    return core.corrected_lengths(points, gradients, graph.i, graph.j, steps, graph.lengths, BELIEVABLE, workers())
