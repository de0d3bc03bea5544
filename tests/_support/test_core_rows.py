"""Row numbers are checked where they enter the compiled core: the error names the first that does not exist."""

import numpy as np
import pytest
from diffeo._support import core

BAD = [(-1, r"= -1 does not exist"), (30, r"= 30 does not exist")]


def edges(value: int) -> tuple[np.ndarray, np.ndarray]:
    i, j = np.arange(20), np.arange(20) + 1
    j[7] = value
    return i, j


@pytest.fixture
def points():
    return np.random.default_rng(0).normal(size=(30, 3))


@pytest.fixture
def whitening():
    return np.ascontiguousarray(np.broadcast_to(np.eye(3, 2), (30, 3, 2)))


def ring(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compressed rows of a ring."""
    columns = np.sort(np.stack([np.arange(n), (np.arange(n) + 1) % n, (np.arange(n) - 1) % n], axis=1), axis=1)
    return np.arange(n + 1) * 3, columns.astype(np.int32).ravel(), np.full(3 * n, 1.0 / 3.0)


@pytest.mark.parametrize(("value", "words"), BAD)
def test_ends_of_edges(points, whitening, value, words):
    i, j = edges(value)
    steps, ones = np.ones((20, 2)), np.ones(20)
    calls = [
        lambda: core.edge_lengths(points, whitening, i, j, 1),
        lambda: core.local_frames(points, whitening, i, j, steps, 1, 1),
        lambda: core.corrected_lengths(points, whitening, i, j, steps, ones, 0.2, 1),
        lambda: core.extend_layout(
            points, whitening, i, j, np.ones(30, bool), np.ones((30, 2)), np.ones((30, 2, 2)), 1
        ),
        lambda: core.LaplacianSolver(30, i, j, ones, None, 1),
        lambda: core.Stress(30, i, j, ones, ones, np.ones((20, 0))),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"j\[7\] " + words):
            call()


@pytest.mark.parametrize(("value", "words"), BAD)
def test_neighbors(points, value, words):
    neighbors = np.tile(np.arange(8), (30, 1))
    neighbors[11, 3] = value
    one = np.ones((30, 1))
    calls = [
        lambda: core.jacobians_from_neighbors(points, one, neighbors, 2),
        lambda: core.local_polynomial_fit(points, points, one, neighbors, 1, 2),
        lambda: core.local_hermite_fit(points, points, one, np.ones((30, 1, 3)), neighbors, 1, 2),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"neighbors\[11, 3\] " + words):
            call()


@pytest.mark.parametrize(("value", "words"), BAD)
def test_probed_rows(points, value, words):
    tree = core.MetricTree(points, None, 1)
    with pytest.raises(ValueError, match=r"rows\[1\] " + words):
        tree.row_statistics(1.0, 1e-4, np.array([0, value], np.int32), 1)


def compressed_calls(indptr, indices, values):
    n = len(indptr) - 1
    ones = np.ones(n)
    return [
        lambda: core.normalise(indptr, indices, values, 1.0, 2),
        lambda: core.connected_components(indptr, indices, values),
        lambda: core.leading_eigenpairs(indptr, indices, values, ones, ones, 2, 1e-8, 10, 0, 2),
        lambda: core.permute_rows(indptr, indices, values, np.arange(n), n, 2),
    ]


@pytest.mark.parametrize(("value", "words"), BAD)
def test_columns(value, words):
    indptr, indices, values = ring(30)
    for call in compressed_calls(indptr, indices, values):
        call()
    indices[44] = value
    for call in compressed_calls(indptr, indices, values):
        with pytest.raises(ValueError, match=r"indices\[44\] " + words):
            call()


def test_row_starts():
    indptr, indices, values = ring(30)
    indptr[5] = 10**12
    for call in compressed_calls(indptr, indices, values):
        with pytest.raises(ValueError, match=r"indptr\[6\] = 18 is below the 1000000000000"):
            call()
    for call in compressed_calls(ring(30)[0] + 1, indices, values):
        with pytest.raises(ValueError, match="indptr"):
            call()
    for call in compressed_calls(ring(30)[0], indices[:-1].copy(), values):
        with pytest.raises(ValueError, match="indptr"):
            call()


def test_permutations_hold_each_row_once():
    rows = np.arange(30)
    rows[4] = 2
    with pytest.raises(ValueError, match=r"rows\[4\] = 2 is rows\[2\] as well"):
        core.permute_rows(*ring(30), rows, 30, 1)
    with pytest.raises(ValueError, match=r"rows\[29\] = 29 does not exist.*below n_rows = 29"):
        core.permute_rows(*ring(30), np.arange(30), 29, 1)


def test_a_tree_comes_with_all_that_the_kernel_was_made_from(points):
    tree = core.MetricTree(points, None, 1)
    solve = (*ring(30), np.ones(30), np.ones(30), 2, 1e-8, 10, 0, 1)
    core.leading_eigenpairs(*solve, tree, 1.0, 1e-4, 1.0)
    core.leading_eigenpairs(*solve, tree=tree, epsilon=1.0, truncation=1e-4, alpha=1.0)
    for some in ({"tree": tree}, {"tree": tree, "epsilon": 1.0}, {"tree": tree, "epsilon": 1.0, "truncation": 1e-4}):
        with pytest.raises(ValueError, match="together"):
            core.leading_eigenpairs(*solve, **some)
    for some in ({"epsilon": 1.0}, {"alpha": 1.0}, {"epsilon": 1.0, "truncation": 1e-4, "alpha": 1.0}):
        with pytest.raises(ValueError, match="together"):
            core.leading_eigenpairs(*solve, **some)
    with pytest.raises(ValueError, match="samples of the kernel"):
        core.leading_eigenpairs(*solve, core.MetricTree(points[:29].copy(), None, 1), 1.0, 1e-4, 1.0)
    for epsilon, truncation, alpha in ((0.0, 1e-4, 1.0), (1.0, 1.0, 1.0), (1.0, 1e-4, np.nan)):
        with pytest.raises(ValueError, match="epsilon > 0"):
            core.leading_eigenpairs(*solve, tree, epsilon, truncation, alpha)


def test_sizes_are_refused_before_memory_is_taken(points):
    with pytest.raises(ValueError, match="k must lie between"):
        core.MetricTree(points, None, 1).nearest_neighbors(10**13, 1)
    with pytest.raises(ValueError, match="dim"):
        core.whitening_from_jacobians(points[:, :, None].copy(), 10**13, 1)
    none = np.arange(0)
    with pytest.raises(ValueError, match="negative"):
        core.Stress(-1, none, none, np.ones(0), np.ones(0), np.ones((0, 0)))
