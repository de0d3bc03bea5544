"""The kernel by tiles of matrix products, as the Python layer meets it: many measurements, wide kernels, lost digits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from diffeo import Observation, errors, mahalanobis_kernel, reference
from support.samples import smooth_observation


def assert_equals_reference(observation, epsilon, truncation=1e-4):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.CurvatureWarning)
        warnings.simplefilter("ignore", errors.DuplicateWarning)
        kernel = mahalanobis_kernel(observation, epsilon=epsilon, truncation=truncation)
    dense, n_gated = reference.kernel(observation.points, observation.whitening, epsilon, truncation)
    matrix = kernel.matrix.toarray()
    np.testing.assert_array_equal(matrix > 0, dense > 0)
    np.testing.assert_allclose(matrix, dense, rtol=1e-11, atol=0)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    assert kernel.n_gated == n_gated
    return kernel


@pytest.mark.parametrize("epsilon", [2e-3, 0.1, 10.0])
@pytest.mark.parametrize(("dim", "m"), [(1, 9), (2, 9), (2, 64), (3, 33), (4, 20), (2, 300)])
def test_many_measurements_equal_the_reference(dim, m, epsilon):
    kernel = assert_equals_reference(smooth_observation(300, dim, m, seed=dim), epsilon)
    assert kernel.nnz > 2 * kernel.n_samples or dim > 2


@pytest.mark.parametrize(("dim", "m"), [(1, 2), (2, 5), (3, 4)])
def test_wide_kernels_of_few_measurements_equal_the_reference(dim, m):
    kernel = assert_equals_reference(smooth_observation(400, dim, m, seed=dim), 1.0)
    assert kernel.nnz > 400**2 / 2


@pytest.mark.parametrize("m", [9, 40])
def test_tiny_clusters_far_apart_keep_their_digits(m):
    """Squared norms of 1e6 beside squared distances of 1e-12: products of whole rows alone would lose everything."""
    observation = smooth_observation(240, 2, m, seed=4)
    cluster = np.arange(240)[:, None] % 5
    points = 1e-6 * observation.points + 1000.0 * cluster
    whitening = 1e6 * observation.whitening
    tiny = Observation(points, whitening, 1e-6 * observation.singular_values, 2, np.empty(0, np.int64), "jacobians")
    kernel = mahalanobis_kernel(tiny, epsilon=2e-2)
    dense, _ = reference.kernel(points, whitening, 2e-2)
    matrix = kernel.matrix.toarray()
    np.testing.assert_array_equal(matrix > 0, dense > 0)
    # The reference multiplies before it subtracts; differences first keep all digits that the points hold.
    np.testing.assert_allclose(matrix, dense, rtol=1e-4, atol=0)
    rows, columns = np.nonzero(np.triu(matrix, 1))
    delta = points[columns] - points[rows]
    a = [(np.einsum("emd,em->ed", whitening[at], delta) ** 2).sum(axis=1) for at in (rows, columns)]
    np.testing.assert_allclose(matrix[rows, columns], np.exp(-(a[0] + a[1]) / (8 * 2e-2)), rtol=1e-12)
    assert len(rows) > 200


def test_twins_have_entries_of_exactly_one():
    observation = smooth_observation(300, 2, 40, seed=1)
    order = np.concatenate([np.arange(300), np.arange(50)])
    twins = Observation(
        observation.points[order] + 1e8,
        observation.whitening[order],
        observation.singular_values[order],
        2,
        np.empty(0, np.int64),
        "jacobians",
    )
    with pytest.warns(errors.DuplicateWarning, match="100 samples"):
        matrix = mahalanobis_kernel(twins, epsilon=5e-3).matrix.toarray()
    np.testing.assert_array_equal(matrix[np.arange(50), np.arange(300, 350)], 1.0)


def test_bits_do_not_depend_on_the_threads():
    observation = smooth_observation(1200, 2, 64, seed=6)
    kernels = [mahalanobis_kernel(observation, n_jobs=jobs) for jobs in (1, 2, 3)]
    for other in kernels[1:]:
        assert other.epsilon == kernels[0].epsilon
        assert other.n_gated == kernels[0].n_gated
        for name in ("indptr", "indices", "values", "gated"):
            np.testing.assert_array_equal(getattr(other, name), getattr(kernels[0], name))
