"""Whitening: the compiled batch against NumPy's batched singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import _core, reference


def gauge_free(whitening: np.ndarray) -> np.ndarray:
    """C^+ = W W^T, which does not depend on the signs and rotations of the singular vectors."""
    return whitening @ whitening.transpose(0, 2, 1)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    scale = np.linalg.norm(expected, axis=(1, 2))
    return float((np.linalg.norm(found - expected, axis=(1, 2)) / scale).max())


@pytest.mark.parametrize(
    ("n", "m", "p"),
    [(100_000, 5, 2), (20_000, 20, 10), (2_000, 256, 4)],
    ids=["m=5,p=2", "m=20,p=10", "m=256,p=4"],
)
def test_whitening_from_jacobians(contest, opponent, record, size, n, m, p):
    n, dim = size(n), p
    jacobians = np.random.default_rng(0).normal(size=(n, m, p))
    values, whitening = contest(_core.whitening_from_jacobians, jacobians, dim, 0)
    expected, seconds = opponent(reference.whitening_from_jacobians, jacobians, dim, rounds=2)
    np.testing.assert_allclose(values, expected[0], rtol=1e-9)
    record(
        n=n,
        entries=None,
        error=relative_error(gauge_free(whitening), gauge_free(expected[1])),
        error_of="difference of C^+, relative",
        baseline="numpy batched svd",
        baseline_seconds=seconds,
    )


def test_whitening_from_bursts(contest, opponent, record, size):
    n, size_of_burst, m, dim = size(10_000), 100, 5, 2
    rng = np.random.default_rng(0)
    bursts = rng.normal(size=(n, size_of_burst, dim)) @ rng.normal(size=(n, dim, m))
    bursts += 1e-3 * rng.normal(size=bursts.shape)
    _, whitening = contest(_core.whitening_from_bursts, bursts, 1.0, dim, 0)
    (_, expected), seconds = opponent(reference.whitening_from_bursts, bursts, 1.0, dim, rounds=2)
    record(
        n=n,
        entries=None,
        error=relative_error(gauge_free(whitening), gauge_free(expected)),
        error_of="difference of C^+, relative",
        baseline="numpy covariance, eigh",
        baseline_seconds=seconds,
    )
