"""The whole fit with its search for epsilon: against NumPy or SciPy's k-d tree and ARPACK, epsilon given."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import DiffusionMap, reference

from bench import opponents, samples
from bench.opponents import eigenpairs_by_arpack, kernel_by_ckdtree, operator

# Neumann eigenvalues of the unit square over pi^2: i^2 + j^2, the trivial 0 left out.
SQUARE = np.array([1, 1, 2, 4, 4, 5, 5, 8])


def spectrum_error(eigenvalues: np.ndarray) -> float:
    """Largest relative error of -log(lambda_k) beside the spectrum of the square, after the best scale."""
    logs = -np.log(eigenvalues[1:9])
    scale = (logs @ SQUARE) / (SQUARE @ SQUARE)
    return float(np.abs(logs / (scale * SQUARE) - 1).max())


def first_pair_error(embedding: np.ndarray, points: np.ndarray) -> float:
    """Sine of the largest angle between the first two coordinates and cos(pi x_1), cos(pi x_2), the limit."""
    found, limit = embedding[:, :2], np.cos(np.pi * points)
    basis = [np.linalg.qr(part - part.mean(axis=0))[0] for part in (found, limit)]
    return float(np.sqrt(max(0.0, 1 - np.linalg.svd(basis[0].T @ basis[1])[1].min() ** 2)))


def kernel_in_blocks(observation, epsilon: float) -> sp.csr_array:
    i, j, values = reference.kernel_in_blocks(observation.points, observation.whitening, epsilon)
    return sp.coo_array((values, (i, j)), shape=(len(observation),) * 2).tocsr()


@pytest.mark.parametrize(
    ("n", "assemble"), [(10_000, kernel_in_blocks), (50_000, kernel_by_ckdtree)], ids=["small", "large"]
)
def test_diffusion_map(contest, opponent, record, size, n, assemble):
    n = size(n)
    observation = samples.mushroom(n)
    fitted = contest(lambda: DiffusionMap(n_components=8).fit(observation), rounds=2)

    def baseline():
        return eigenpairs_by_arpack(operator(assemble(observation, fitted.epsilon_))[0], 9, 1e-8)

    name = "numpy in blocks, eigsh" if assemble is kernel_in_blocks else "cKDTree, numpy gates, eigsh"
    found = opponent(name, baseline, rounds=1)
    missed = opponents.missed_copies(found.result[0], fitted.eigenvalues_)
    assert fitted.eigenvalues_.sum() > found.result[0].sum() - 1e-7
    record(
        "DiffusionMap().fit, mushroom",
        [found.told(f"epsilon given, {missed} of 9 missed")],
        n=n,
        m=2,
        d=2,
        entries=fitted.kernel_.nnz / n,
        error=spectrum_error(fitted.eigenvalues_),
        error_of="spectrum",
    )


def test_ordinary_diffusion_map(contest, opponent, record, size):
    """Plain points, the nearest that scikit-learn has: its graph joins k neighbours with equal weights."""
    n = size(20_000)
    points = np.random.default_rng(0).random((n, 2))
    fitted = contest(lambda: DiffusionMap(n_components=8).fit(points), rounds=2)
    n_neighbors = round(fitted.kernel_.nnz / n)
    found = opponent(
        "scikit-learn SpectralEmbedding, pyamg", opponents.embedding_by_sklearn, points, 8, n_neighbors, rounds=1
    )
    note = f"error {first_pair_error(found.result, points):.1e}, another operator" if found.ran else ""
    record(
        "DiffusionMap().fit, plain points",
        [found.told(note)],
        n=n,
        m=2,
        d=2,
        entries=fitted.kernel_.nnz / n,
        error=first_pair_error(fitted.embedding_, points),
        error_of="first pair",
    )
