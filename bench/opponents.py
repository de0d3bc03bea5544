"""Baselines that are not in `diffeo.reference`: the same results by SciPy, pyamg, pykdtree, scikit-learn and datafold.

Each gets its best reasonable settings, all threads that it can use, the same operator and the same tolerance.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from diffeo import Observation, reference
from diffeo.reference import GATES
from scipy.sparse.linalg import eigsh, lobpcg
from scipy.spatial import cKDTree

from bench.measurements import DATAFOLD_PYTHON


class OpponentMissing(Exception):  # noqa: N818  # not an error: the table shows a gap
    """A baseline that is not installed here; the message is the gap's note."""


def _loaded(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise OpponentMissing(f"{name.split('.')[0]} is not installed") from None


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
    pyamg = _loaded("pyamg")
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


def missed_copies(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-7) -> int:
    """How many expected eigenvalues have no partner of their own among those found (both descending)."""
    left = list(found)
    missed = 0
    for value in expected:
        near = [k for k, other in enumerate(left) if abs(other - value) <= tolerance]
        if near:
            left.pop(near[0])
        else:
            missed += 1
    return missed


def query_by_ckdtree(points: np.ndarray, k: int):
    """A function that finds the k Euclidean neighbours of each point by a tree built beforehand, all threads."""
    tree = cKDTree(points)
    return lambda: tree.query(points, k=k, workers=-1)


def query_by_pykdtree(points: np.ndarray, k: int):
    """The same by pykdtree, which takes its threads from OpenMP."""
    tree = _loaded("pykdtree.kdtree").KDTree(points)
    return lambda: tree.query(points, k=k)


def query_by_sklearn(points: np.ndarray, k: int):
    """The same by scikit-learn."""
    from sklearn.neighbors import NearestNeighbors

    tree = NearestNeighbors(n_neighbors=k, algorithm="kd_tree", n_jobs=-1).fit(points)
    return lambda: tree.kneighbors(points)


def embedding_by_sklearn(points: np.ndarray, n_components: int, n_neighbors: int) -> np.ndarray:
    """`SpectralEmbedding` of plain points: another graph Laplacian (k neighbours, weights 1), solved with pyamg."""
    from sklearn.manifold import SpectralEmbedding

    _loaded("pyamg")  # which scikit-learn calls
    embedding = SpectralEmbedding(
        n_components=n_components,
        affinity="nearest_neighbors",
        n_neighbors=n_neighbors,
        eigen_solver="amg",
        eigen_tol=1e-8,
        random_state=0,
        n_jobs=-1,
    )
    found: np.ndarray = embedding.fit_transform(points)
    return found


def cut_off_for(points: np.ndarray, entries: float) -> float:
    """Euclidean distance within which a row has `entries` samples on average, estimated from 500 rows."""
    rows = np.unique(np.linspace(0, len(points) - 1, 500).astype(np.int64))
    squared = [((points - points[row]) ** 2).sum(axis=1) for row in rows]
    return float(np.sqrt(np.quantile(squared, entries / len(points))))


def kernel_by_datafold(observation: Observation, epsilon: float, cut_off: float) -> tuple[sp.csr_array, float]:
    """datafold's MahalanobisKernel with a Euclidean cut-off, and the seconds of its call: see `datafold_opponent`."""
    python = os.environ.get(DATAFOLD_PYTHON)
    if not python:
        raise OpponentMissing(f"{DATAFOLD_PYTHON} is not set")
    script = Path(__file__).with_name("datafold_opponent.py")
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(given, points=observation.points, whitening=observation.whitening, epsilon=epsilon, cut_off=cut_off)
        subprocess.run([python, str(script), str(given), str(found)], check=True)
        with np.load(found) as result:
            n = len(observation)
            matrix = sp.csr_array((result["data"], result["indices"], result["indptr"]), shape=(n, n))
            return matrix, float(result["seconds"])


def sampled_rows(observation: Observation, epsilon: float, rows: np.ndarray, truncation: float = 1e-4):
    """Rows of the Mahalanobis kernel by brute force, one at a time: yields columns, ascending, and values."""
    points, whitening = observation.points, observation.whitening
    squared_radius = 4 * epsilon * np.log(1 / truncation)
    stretch2 = 1 / (whitening**2).sum(axis=1)
    for row in rows:
        reach2 = GATES.reach**2 * squared_radius * stretch2[row].max()
        j = np.flatnonzero(((points - points[row]) ** 2).sum(axis=1) <= reach2)
        i = np.full(len(j), row)
        kept, q = reference._pairs(
            points[j] - points[row], whitening[i], whitening[j], stretch2[i], stretch2[j], squared_radius
        )
        kept |= j == row
        yield j[kept], np.exp(-q[kept] / (4 * epsilon))
