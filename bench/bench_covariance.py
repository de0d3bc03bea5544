"""Whitening: the compiled batch against NumPy's batched decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, reference
from diffeo._support import core

from bench.floor import whitening_floor

# Matrices a call of NumPy's batched decomposition: bounds its copies, and costs it nothing.
CHUNK = 5000
# Rows on which both results are compared.
COMPARED = 2000


def gauge_free(whitening: np.ndarray) -> np.ndarray:
    """C^+ = W W^T, which does not depend on the signs and rotations of the singular vectors."""
    return whitening @ whitening.transpose(0, 2, 1)


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative difference of C^+ over the compared rows."""
    found, expected = gauge_free(found[:COMPARED]), gauge_free(expected[:COMPARED])
    scale = np.linalg.norm(expected, axis=(1, 2))
    return float((np.linalg.norm(found - expected, axis=(1, 2)) / scale).max())


def numpy_svd(matrices: np.ndarray) -> None:
    """Singular value decompositions in batches; results are dropped, as keeping them costs NumPy memory."""
    for start in range(0, len(matrices), CHUNK):
        np.linalg.svd(matrices[start : start + CHUNK], full_matrices=False)


@pytest.mark.parametrize(
    ("n", "m", "p"),
    [(1_000_000, 5, 2), (20_000, 20, 10), (2_000, 256, 4)],
    ids=["m=5,p=2", "m=20,p=10", "m=256,p=4"],
)
def test_whitening_from_jacobians(contest, opponent, record, size, n, m, p):
    n = size(n)
    jacobians = np.random.default_rng(0).normal(size=(n, m, p))
    values, whitening = contest(core.whitening_from_jacobians, jacobians, p, 0)
    expected = reference.whitening_from_jacobians(jacobians[:COMPARED], p)
    np.testing.assert_allclose(values[:COMPARED], expected[0], rtol=1e-9)
    record(
        f"whitening of {m} x {p} Jacobians",
        [opponent("numpy.linalg.svd in batch", numpy_svd, jacobians)],
        n=n,
        m=m,
        d=p,
        error=relative_error(whitening, expected[1]),
        error_of="C^+, relative",
        floor=whitening_floor(n, m, p, p),
    )


def bursts_of(n: int, k: int, m: int, d: int) -> np.ndarray:
    """Bursts (n, K, m) with covariances of rank d and a little noise, scale 1."""
    rng = np.random.default_rng(0)
    bursts = np.empty((n, k, m))
    rng.standard_normal(out=bursts)
    bursts *= 1e-3
    for start in range(0, n, CHUNK):
        part = bursts[start : start + CHUNK]
        part += rng.normal(size=(len(part), k, d)) @ rng.normal(size=(len(part), d, m))
    return bursts


@pytest.mark.parametrize(("n", "k", "m"), [(100_000, 32, 64), (10_000, 100, 5)], ids=["K=32,m=64", "K=100,m=5"])
def test_whitening_from_bursts(contest, opponent, record, size, n, k, m):
    full, n = size.is_full(n), size(n)
    bursts = bursts_of(n, k, m, 2)
    whitening = contest(core.whitening_from_bursts, bursts, 1.0, 2, 0)[1]
    expected = reference.whitening_from_bursts(bursts[:COMPARED], 1.0, 2)[1]
    svd = opponent("numpy.linalg.svd in batch", numpy_svd, bursts)
    record(
        f"whitening of bursts {k} x {m}",
        [svd.told("of the bursts, not centred", 20 if full and m == 64 else None)],
        n=n,
        m=m,
        d=2,
        error=relative_error(whitening, expected),
        error_of="C^+, relative",
        floor=whitening_floor(n, k, m, 2),
    )


def test_observation_from_bursts(contest, opponent, record, size):
    """The same as a user calls it: with the checks of the input and the floor that the noise sets."""
    n, k, m = size(100_000), 32, 64
    bursts = bursts_of(n, k, m, 2)
    points = np.ascontiguousarray(bursts.mean(axis=1))
    observation = contest(lambda: Observation.from_bursts(points, bursts, dim=2))
    expected = reference.whitening_from_bursts(bursts[:COMPARED], 1.0, 2)[1]
    record(
        f"Observation.from_bursts {k} x {m}",
        [opponent("numpy.linalg.svd in batch", numpy_svd, bursts).told("of the bursts, not centred")],
        n=n,
        m=m,
        d=2,
        error=relative_error(observation.whitening, expected),
        error_of="C^+, relative",
        floor=whitening_floor(n, k, m, 2),
    )
