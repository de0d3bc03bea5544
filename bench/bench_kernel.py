"""Assembly of the kernel: against vectorised NumPy, and against SciPy's k-d tree with the gates in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import mahalanobis_kernel, reference
from opponents import euclidean_kernel_by_ckdtree, kernel_by_ckdtree


def epsilon_for(observation, entries: float, volume: float = 1.0) -> float:
    """Bandwidth with about `entries` entries a row: the first guess forgets the boundary and the gates."""
    n = len(observation)
    epsilon = volume * entries / (n * np.pi * 4 * np.log(1e4))
    for _ in range(4):
        epsilon *= entries / (mahalanobis_kernel(observation, epsilon=epsilon).nnz / n)
    return epsilon


def difference(found: sp.csr_array, expected: sp.csr_array) -> float:
    """Largest difference; entries at the edge of the kernel may fall either way by rounding, and are 1e-4."""
    gap = float(abs(found - expected).max())
    assert gap < 1e-3
    assert abs(found.nnz - expected.nnz) <= 1e-6 * expected.nnz + 2
    return gap


@pytest.mark.parametrize("measurements", ["mushroom", "units"])
def test_kernel(request, contest, opponent, record, size, measurements):
    """The figure: n = 10,000 and 330 entries a row; the aim is 10 times the best vectorised NumPy form."""
    n = size(10_000)
    observation = request.getfixturevalue(measurements)(n)
    epsilon = epsilon_for(observation, min(330, n / 10))
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon))
    (rows, columns, values), seconds = opponent(
        reference.kernel_in_blocks, observation.points, observation.whitening, epsilon, rounds=2
    )
    expected = sp.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
    record(
        n=n,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="largest difference of entries",
        baseline="numpy in blocks",
        baseline_seconds=seconds,
    )


def test_kernel_large(units, contest, opponent, record, size):
    n = size(100_000)
    observation = units(n)
    epsilon = epsilon_for(observation, 60)
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon))
    expected, seconds = opponent(kernel_by_ckdtree, observation, epsilon)
    record(
        n=n,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="largest difference of entries",
        baseline="scipy cKDTree, numpy gates",
        baseline_seconds=seconds,
    )


def test_kernel_euclidean(contest, opponent, record, size):
    n = size(100_000)
    points = np.random.default_rng(0).random((n, 2))
    epsilon = epsilon_for(points, 60)
    kernel = contest(lambda: mahalanobis_kernel(points, epsilon=epsilon))
    expected, seconds = opponent(euclidean_kernel_by_ckdtree, points, epsilon, rounds=2)
    record(
        n=n,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="largest difference of entries",
        baseline="scipy cKDTree.query_pairs",
        baseline_seconds=seconds,
    )
