"""Lengths that know the trend of the measurements, a polynomial of the whole layout: for samples that are far apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from diffeo._support.arrays import FloatArray
from diffeo.isometry.frames import BELIEVABLE
from diffeo.isometry.graph import NeighborGraph
from diffeo.isometry.stress import refine
from diffeo.isometry.trend.polynomial import trend_of

# Layouts that keep lengths as well as this need no trend.
KEPT = 1e-4
# Added to the diagonal of the normal equations, relative to it: directions that the layout leaves open stay at 0.
RIDGE = 1e-10
# Numbers of a chunk of the design matrix.
CHUNK = 1 << 21


def along_trend(
    graph: NeighborGraph, layout: FloatArray, points: FloatArray, whitening: FloatArray, gradients: FloatArray
) -> tuple[NeighborGraph, FloatArray, FloatArray, int, bool] | None:
    """A layout of few samples for its dimension again, with lengths that know the trend; None where there is none.

    Expansions about both ends of an edge miss the fifth order of its length, which in six dimensions is a third of the
    domain. A polynomial P of the whole layout, fitted to the derivatives G = dy/dX by least squares, takes the most part of
    the measurements, and the trapezoidal rule what is left of them, y - P with derivatives R = G - P':
    what a step s misses is (y - P)_j - (y - P)_i - (R_i + R_j) s / 2, and becomes a displacement by the pseudo-inverse of the
    mean of G. The frames of G are turned to agree with P' (Procrustes), which is smoother than what neighbours tell.

    Parameters
    ----------
    graph : NeighborGraph
    layout : ndarray of shape (n, d)
    points : ndarray of shape (n, m)
    whitening : ndarray of shape (n, m, d)
    gradients : ndarray of shape (n, m, d)
        dy/dX by the frames of neighbours.

    Returns
    -------
    graph, layout, gradients, iterations, settled
        As `diffeo.isometry.stress.refine`, the graph with the new lengths.
    """
    trend = trend_of(layout)
    if graph.n_periods or trend is None:
        return None
    chunks = _chunks(len(layout), layout.shape[1] * trend.n_terms)
    normal, right = np.zeros((trend.n_terms, trend.n_terms)), np.zeros((trend.n_terms, points.shape[1]))
    for rows in chunks:
        slopes = trend.terms(layout[rows])[1].reshape(-1, trend.n_terms)
        normal += slopes.T @ slopes
        right += slopes.T @ _flat(gradients[rows])
    normal[np.diag_indices_from(normal)] *= 1.0 + RIDGE
    try:
        factor = cho_factor(normal, overwrite_a=True)
    except LinAlgError:
        return None
    # Frames that agree with the first fit say more than those of neighbours.
    coefficients = cho_solve(factor, right)
    right = np.zeros_like(right)
    for rows in chunks:
        slopes = trend.terms(layout[rows])[1]
        turned = _turned(whitening[rows], (slopes @ coefficients).transpose(0, 2, 1))
        right += slopes.reshape(-1, trend.n_terms).T @ _flat(turned)
    coefficients = cho_solve(factor, right)
    rest, turned, left = points.copy(), np.empty_like(gradients), np.empty_like(gradients)
    for rows in chunks:
        terms, slopes = trend.terms(layout[rows])
        slope = (slopes @ coefficients).transpose(0, 2, 1)
        rest[rows] -= terms @ coefficients
        turned[rows] = _turned(whitening[rows], slope)
        left[rows] = turned[rows] - slope
    better = replace(graph, lengths=_lengths(graph, layout, rest, left, turned))
    moved, iterations, settled = refine(better, layout)
    return better, moved, turned, iterations, settled


def _lengths(
    graph: NeighborGraph, layout: FloatArray, rest: FloatArray, left: FloatArray, gradients: FloatArray
) -> FloatArray:
    """Lengths (e,) from what a trend leaves of the measurements, (n, m), and of their derivatives, (n, m, d)."""
    lengths = graph.lengths.copy()
    for edges in _chunks(len(lengths), 4 * gradients[0].size):
        i, j = graph.i[edges], graph.j[edges]
        step = layout[j] - layout[i]
        missed = rest[j] - rest[i] - np.einsum("emd,ed->em", left[i] + left[j], step) / 2.0
        mean = (gradients[i] + gradients[j]) / 2.0
        square = mean.transpose(0, 2, 1) @ mean
        moved = np.linalg.solve(square, (mean.transpose(0, 2, 1) @ missed[:, :, None]))[:, :, 0]
        found = np.linalg.norm(step + moved, axis=1)
        believed = np.abs(found - lengths[edges]) <= BELIEVABLE * lengths[edges]
        lengths[edges] = np.where(believed, found, lengths[edges])
    return lengths


def _chunks(count: int, width: int) -> list[slice]:
    size = max(CHUNK // max(width, 1), 1)
    return [slice(begin, begin + size) for begin in range(0, count, size)]


def _flat(gradients: FloatArray) -> FloatArray:
    """Derivatives (n, m, d) as rows of equations, (n d, m)."""
    return gradients.transpose(0, 2, 1).reshape(-1, gradients.shape[1])


def _turned(whitening: FloatArray, slopes: FloatArray) -> FloatArray:
    """Derivatives (n, m, d) of samples of these whitenings, in the frames that agree best with given slopes (n, m, d)."""
    u, _, vt = np.linalg.svd(whitening.transpose(0, 2, 1) @ slopes)
    squared = 1.0 / (whitening**2).sum(axis=1)
    turned: FloatArray = (whitening * squared[:, None, :]) @ (u @ vt)
    return turned
