"""The whole fit with its search for epsilon: against NumPy or SciPy's k-d tree and ARPACK, epsilon given."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import DiffusionMap, reference
from opponents import eigenpairs_by_arpack, kernel_by_ckdtree, operator

# Neumann eigenvalues of the unit square over pi^2: i^2 + j^2, the trivial 0 left out.
SQUARE = np.array([1, 1, 2, 4, 4, 5, 5, 8])


def spectrum_error(eigenvalues: np.ndarray) -> float:
    """Largest relative error of -log(lambda_k) beside the spectrum of the square, after the best scale."""
    logs = -np.log(eigenvalues[1:])
    scale = (logs @ SQUARE) / (SQUARE @ SQUARE)
    return float(np.abs(logs / (scale * SQUARE) - 1).max())


def kernel_in_blocks(observation, epsilon: float) -> sp.csr_array:
    i, j, values = reference.kernel_in_blocks(observation.points, observation.whitening, epsilon)
    return sp.coo_array((values, (i, j)), shape=(len(observation),) * 2).tocsr()


@pytest.mark.parametrize(
    ("n", "assemble"), [(10_000, kernel_in_blocks), (50_000, kernel_by_ckdtree)], ids=["small", "large"]
)
def test_diffusion_map(mushroom, contest, opponent, record, size, n, assemble):
    n = size(n)
    observation = mushroom(n)
    fitted = contest(lambda: DiffusionMap(n_components=8).fit(observation), rounds=2)

    def baseline():
        return eigenpairs_by_arpack(operator(assemble(observation, fitted.epsilon_))[0], 9, 1e-8)

    (values, _), seconds = opponent(baseline)
    np.testing.assert_allclose(fitted.eigenvalues_, values, atol=1e-8)
    record(
        n=n,
        entries=fitted.kernel_.nnz / n,
        error=spectrum_error(fitted.eigenvalues_),
        error_of="spectrum of the square, relative",
        baseline="numpy in blocks, eigsh" if assemble is kernel_in_blocks else "cKDTree, numpy, eigsh",
        baseline_seconds=seconds,
    )
