"""Baselines that are not in `diffeo.reference`: the same results by SciPy and pyamg."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyamg
import scipy.sparse as sp
from diffeo import Observation, reference
from diffeo.reference import GATES
from scipy.sparse.linalg import eigsh, lobpcg
from scipy.spatial import cKDTree


def euclidean_kernel_by_ckdtree(points: np.ndarray, epsilon: float, truncation: float = 1e-4) -> sp.csr_array:
    """The kernel of plain points from `cKDTree.query_pairs`."""
    n = len(points)
    i, j = cKDTree(points).query_pairs(np.sqrt(4 * epsilon * np.log(1 / truncation)), output_type="ndarray").T
    values = np.exp(((points[i] - points[j]) ** 2).sum(axis=1) / (-4 * epsilon))
    upper = sp.coo_array((values, (i, j)), shape=(n, n))
    return (upper + upper.T + sp.eye_array(n)).tocsr()


def kernel_by_ckdtree(
    observation: Observation, epsilon: float, truncation: float = 1e-4, block: int = 4096
) -> sp.csr_array:
    """The Mahalanobis kernel from `cKDTree.query_ball_point`, each sample its own reach, and NumPy gates."""
    points, whitening = observation.points, observation.whitening
    n = len(points)
    squared_radius = 4 * epsilon * np.log(1 / truncation)
    stretch2 = 1 / (whitening**2).sum(axis=1)
    reach = GATES.reach * np.sqrt(squared_radius * stretch2.max(axis=1))
    tree = cKDTree(points)
    rows, columns, values = [], [], []
    for start in range(0, n, block):
        part = slice(start, min(n, start + block))
        lists = tree.query_ball_point(points[part], reach[part], workers=-1, return_sorted=False)
        i = np.repeat(np.arange(part.start, part.stop), [len(found) for found in lists])
        j = np.concatenate(lists).astype(np.int64)
        upper = j > i
        i, j = i[upper], j[upper]
        kept, q = reference._pairs(
            points[j] - points[i], whitening[i], whitening[j], stretch2[i], stretch2[j], squared_radius
        )
        rows.append(i[kept])
        columns.append(j[kept])
        values.append(np.exp(-q[kept] / (4 * epsilon)))
    places = (np.concatenate(rows), np.concatenate(columns))
    upper = sp.coo_array((np.concatenate(values), places), shape=(n, n))
    return (upper + upper.T + sp.eye_array(n)).tocsr()


def operator(kernel: sp.csr_array) -> tuple[sp.csr_array, np.ndarray]:
    """S for alpha = 1 and its known eigenvector sqrt(D), normalised."""
    weights = 1 / kernel.sum(axis=1)
    degree = weights * (kernel @ weights)
    scaling = sp.diags_array(weights / np.sqrt(degree))
    return (scaling @ kernel @ scaling).tocsr(), np.sqrt(degree / degree.sum())


def eigenpairs_by_arpack(s: sp.csr_array, n_wanted: int, tolerance: float) -> tuple[np.ndarray, np.ndarray]:
    """`scipy.sparse.linalg.eigsh`; its tolerance is relative to the eigenvalue, here about 1."""
    start = np.random.default_rng(0).normal(size=s.shape[0])
    values, vectors = eigsh(s, n_wanted, which="LA", tol=tolerance, v0=start)
    return values[::-1], vectors[:, ::-1]


def eigenpairs_by_lobpcg(
    s: sp.csr_array, trivial: np.ndarray, n_wanted: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """`scipy.sparse.linalg.lobpcg` on I - S with a smoothed aggregation, the trivial pair as constraint."""
    n = s.shape[0]
    laplacian = sp.csr_matrix(sp.eye_array(n) - s)
    # The shift keeps the coarsest level regular; B is the near null space.
    levels = pyamg.smoothed_aggregation_solver(laplacian + 1e-6 * sp.eye(n, format="csr"), B=trivial[:, None])
    start = np.random.default_rng(0).normal(size=(n, n_wanted + 2))
    found: Any = lobpcg(
        laplacian,
        start,
        M=levels.aspreconditioner(),
        Y=trivial[:, None],
        tol=tolerance,
        maxiter=100,
        largest=False,
    )
    order = np.argsort(found[0])[: n_wanted - 1]
    values = np.concatenate([[1.0], 1 - found[0][order]])
    return values, np.column_stack([trivial, found[1][:, order]])


def residual(s: sp.csr_array, values: np.ndarray, vectors: np.ndarray) -> float:
    """Largest norm(S v - lambda v)."""
    return float(np.linalg.norm(s @ vectors - vectors * values, axis=0).max())
