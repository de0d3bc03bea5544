"""Sparse positive definite systems, against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from conftest import square
from diffeo.linear_systems import factored
from scipy.spatial import cKDTree


def held_laplacian(n):
    """Weighted Laplacian of a neighbour graph of n samples, the first held."""
    x = square(n, 2, 0)
    i, j = cKDTree(x).query_pairs(0.2, output_type="ndarray").T
    weights = 1.0 / np.linalg.norm(x[i] - x[j], axis=1)
    near = sp.coo_array((weights, (i, j)), shape=(n, n))
    near = near + near.T
    return (sp.diags_array(near.sum(axis=1)) - near).tocsc()[1:, 1:]


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_solutions_are_those_of_the_dense_system(shape):
    laplacian = held_laplacian(200)
    right = np.random.default_rng(1).normal(size=(199, *shape))
    found = factored(laplacian)(right)
    assert found.shape == right.shape
    np.testing.assert_allclose(found, np.linalg.solve(laplacian.toarray(), right), rtol=1e-9, atol=1e-12)


def test_one_factorisation_serves_many_right_sides():
    laplacian = held_laplacian(100)
    solve = factored(laplacian)
    for seed in range(3):
        right = np.random.default_rng(seed).normal(size=(99, 2))
        np.testing.assert_allclose(laplacian @ solve(right), right, atol=1e-10)
        assert solve(right).tobytes() == factored(laplacian)(right).tobytes()


def test_nothing_to_solve_for():
    assert factored(sp.csc_array((0, 0)))(np.empty((0, 2))).shape == (0, 2)


def test_singular_matrix_is_an_error():
    with pytest.raises(RuntimeError, match="singular"):
        factored(sp.csc_array(np.zeros((3, 3))))
