"""The kernel: against the dense reference, its symmetries, and what it warns of."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation, errors, mahalanobis_kernel, reference
from diffeo._support import core
from scipy.spatial import cKDTree
from support.samples import random_orthogonal, smooth_map, smooth_observation, square

TRUNCATION = 1e-4


def quiet_kernel(observation, **options):
    """Assemble where warnings of curvature and duplicates are beside the point of the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.CurvatureWarning)
        warnings.simplefilter("ignore", errors.DuplicateWarning)
        return mahalanobis_kernel(observation, **options)


def assert_equals_reference(observation, epsilon, truncation=TRUNCATION):
    kernel = quiet_kernel(observation, epsilon=epsilon, truncation=truncation)
    dense, n_gated = reference.kernel(observation.points, observation.whitening, epsilon, truncation)
    matrix = kernel.matrix.toarray()
    assert kernel.matrix.nnz == kernel.nnz == np.count_nonzero(dense)
    np.testing.assert_array_equal(matrix > 0, dense > 0)
    np.testing.assert_allclose(matrix, dense, rtol=1e-12, atol=0)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    assert kernel.n_gated == n_gated
    return kernel


def circle(n, seed=0):
    """A circle in the plane, whose opposite points have q = 0."""
    angle = np.sort(np.random.default_rng(seed).uniform(0, 2 * np.pi, n))
    # Exact opposites, so that a tenth of the pairs (i, i + n/2) lie along the normal up to rounding.
    angle[n // 2 :] = angle[: n - n // 2] + np.pi
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points, np.stack([-np.sin(angle), np.cos(angle)], axis=1)[:, :, None]


def figure_eight(n, seed=0):
    """A curve that crosses itself at the origin at a right angle."""
    t = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    points = np.stack([np.sin(t), 0.5 * np.sin(2 * t)], axis=1)
    return points, np.stack([np.cos(t), np.cos(2 * t)], axis=1)[:, :, None], t


# --- the definition -----------------------------------------------------------------------------------------


def test_equals_the_reference(square_in_five):
    kernel = assert_equals_reference(square_in_five, 2e-3)
    assert kernel.nnz > 50 * kernel.n_samples


@pytest.mark.parametrize(
    ("dim", "m", "epsilon"),
    [
        *[(1, 1, 1e-4), (1, 3, 1e-4), (1, 7, 1e-3)],
        *[(2, 2, 3e-3), (2, 3, 3e-3), (2, 7, 3e-3), (2, 20, 1e-3)],
        *[(3, 3, 1e-2), (3, 7, 1e-2), (3, 20, 5e-3), (4, 7, 2e-2), (4, 20, 1e-2)],
    ],
)
def test_equals_the_reference_in_other_dimensions(dim, m, epsilon):
    kernel = assert_equals_reference(smooth_observation(500, dim, m, seed=10 * dim + m), epsilon)
    assert kernel.nnz > 2 * kernel.n_samples


@pytest.mark.parametrize(("dim", "m"), [(1, 3), (2, 5), (2, 20), (3, 7)])
def test_equals_the_reference_where_many_pairs_are_gated(dim, m):
    observation = smooth_observation(400, dim, m, seed=dim, bend=1.0)
    kernel = assert_equals_reference(observation, 0.1 * dim)
    assert kernel.n_gated > 1000


@pytest.mark.parametrize("truncation", [1e-12, 0.1, 0.9])
def test_equals_the_reference_at_other_truncations(truncation):
    assert_equals_reference(smooth_observation(300, 2, 5, seed=1), 5e-3, truncation)


def test_opposite_points_of_a_circle_are_not_neighbours():
    points, tangents = circle(400)
    observation = Observation.from_jacobians(points, tangents)
    near = np.eye(400, k=200, dtype=bool)
    q = reference.squared_distances(points, observation.whitening)
    assert q[near].max() < 1e-20  # the trap: these pairs look coincident
    for epsilon in (1e-3, 0.1, 10.0):
        kernel = assert_equals_reference(observation, epsilon)
        assert kernel.matrix.toarray()[near].max() == 0.0
    assert kernel.n_gated >= 200


def test_branches_of_a_crossing_are_not_neighbours():
    points, tangents, t = figure_eight(600, seed=2)
    observation = Observation.from_jacobians(points, tangents)
    kernel = assert_equals_reference(observation, 2e-3)
    rows, columns = kernel.matrix.nonzero()
    apart = np.abs(np.angle(np.exp(1j * (t[rows] - t[columns]))))
    radius = np.sqrt(4 * 2e-3 * np.log(1 / TRUNCATION))
    assert apart.max() < 1.5 * radius  # a false neighbour would be about pi away
    assert kernel.n_gated > 100


def test_block_form_of_the_reference_is_the_same_kernel():
    for dim, m, bend, epsilon in [(1, 3, 0.3, 1e-3), (2, 5, 1.0, 0.2), (3, 7, 0.6, 0.1)]:
        observation = smooth_observation(400, dim, m, seed=5, bend=bend)
        y, w = observation.points, observation.whitening
        rows, columns, values = reference.kernel_in_blocks(y, w, epsilon, block=128)
        dense = np.zeros((400, 400))
        np.add.at(dense, (rows, columns), values)
        expected, _ = reference.kernel(y, w, epsilon)
        np.testing.assert_array_equal(dense > 0, expected > 0)
        np.testing.assert_allclose(dense, expected, rtol=1e-12, atol=0)


def test_gates_are_the_same_numbers_in_both_languages():
    assert tuple(reference.GATES) == core.GATES


@pytest.mark.parametrize("n", [2, 7, 8, 9, 16, 17, 33, 65])
@pytest.mark.parametrize(("dim", "m"), [(1, 1), (2, 5), (2, 35), (4, 6)])
def test_equals_the_reference_around_the_borders_of_blocks(n, dim, m):
    assert_equals_reference(smooth_observation(n, dim, m, seed=n), 0.05)


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_equals_the_reference_on_uneven_densities(dim):
    x = square(500, dim, seed=dim)
    x[:400] *= 1e-2
    y, jacobians = smooth_map(dim, dim + 3, seed=4)(x)
    observation = Observation.from_jacobians(y, jacobians)
    for epsilon in (1e-6, 1e-4, 1e-2):
        assert_equals_reference(observation, epsilon)


def test_equals_the_reference_where_samples_coincide():
    y, jacobians = smooth_map(2, 5, seed=4)(np.repeat(square(40), 7, axis=0))
    kernel = assert_equals_reference(Observation.from_jacobians(y, jacobians), 1e-4)
    assert np.count_nonzero(kernel.values == 1.0) >= 40 * 49


# --- symmetries ---------------------------------------------------------------------------------------------


def test_gauge_invariance():
    x = square(1500, 2, seed=8)
    y, jacobians = smooth_map(2, 5, seed=4)(x)
    turned = jacobians @ random_orthogonal(len(x), 2, seed=1)
    first = mahalanobis_kernel(Observation.from_jacobians(y, jacobians), epsilon=2e-3)
    second = mahalanobis_kernel(Observation.from_jacobians(y, turned), epsilon=2e-3)
    difference = first.matrix - second.matrix
    assert first.nnz == second.nnz
    assert np.abs(difference.data).max() < 1e-9


@pytest.mark.parametrize(("n", "tolerance"), [(450, 1e-9), (1500, 1e-6)])
def test_gauge_invariance_of_the_embedding(n, tolerance):
    # 450 samples take the dense solver, whose vectors carry rounding alone; 1,500 the block solver.
    y, jacobians = smooth_map(2, 5, seed=4)(square(n, 2, seed=8) * [1.0, 0.7])
    turned = jacobians @ random_orthogonal(n, 2, seed=1)
    first, second = (DiffusionMap(n_components=4).fit(Observation.from_jacobians(y, j)) for j in (jacobians, turned))
    np.testing.assert_allclose(first.epsilon_, second.epsilon_, rtol=1e-9)
    np.testing.assert_allclose(first.eigenvalues_, second.eigenvalues_, atol=1e-9)
    np.testing.assert_allclose(first.embedding_, second.embedding_, atol=tolerance)


def test_wide_jacobians_give_the_kernel_of_their_product_with_tangents():
    y, jacobians = smooth_map(2, 5, seed=4)(square(500, 2, seed=8))
    wide = jacobians @ random_orthogonal(len(y), 6, seed=3)[:, :2, :]
    first = mahalanobis_kernel(Observation.from_jacobians(y, jacobians, dim=2), epsilon=5e-3)
    second = mahalanobis_kernel(Observation.from_jacobians(y, wide, dim=2), epsilon=5e-3)
    assert first.nnz == second.nnz
    assert np.abs((first.matrix - second.matrix).data).max() < 1e-10


@pytest.mark.parametrize(("dim", "m"), [(2, 5), (2, 20), (3, 7)])
def test_bits_do_not_depend_on_the_threads(dim, m):
    observation = smooth_observation(3000, dim, m, seed=6)
    kernels = [mahalanobis_kernel(observation, n_jobs=jobs) for jobs in (1, 2, 3)]
    for other in kernels[1:]:
        assert other.epsilon == kernels[0].epsilon
        assert other.n_gated == kernels[0].n_gated
        for name in ("indptr", "indices", "values", "rows", "gated"):
            np.testing.assert_array_equal(getattr(other, name), getattr(kernels[0], name))


def test_order_of_the_samples_is_the_callers():
    observation = smooth_observation(700, 2, 5, seed=2)
    order = np.random.default_rng(0).permutation(700)
    y, w = observation.points, observation.whitening
    shuffled = Observation(
        y[order], w[order], observation.singular_values[order], 2, observation.deficient, "jacobians"
    )
    first, second = (mahalanobis_kernel(o, epsilon=4e-3).matrix for o in (observation, shuffled))
    np.testing.assert_allclose(first.toarray()[np.ix_(order, order)], second.toarray(), rtol=1e-13, atol=0)


def test_matrix_is_the_same_for_every_order_of_rows():
    kernel = mahalanobis_kernel(smooth_observation(900, 2, 5, seed=3), epsilon=2e-3)
    assert kernel.matrix.has_canonical_format
    inner = kernel.in_tree_order().tocoo()
    expected = np.zeros((900, 900))
    expected[kernel.rows[inner.row], kernel.rows[inner.col]] = inner.data
    np.testing.assert_array_equal(kernel.matrix.toarray(), expected)
    starts = kernel.matrix.indptr
    assert all(np.all(np.diff(kernel.matrix.indices[starts[i] : starts[i + 1]]) > 0) for i in range(900))


def test_compiled_permutation_checks_its_arguments():
    indptr, indices, values = np.arange(4), np.arange(3, dtype=np.int32), np.ones(3)
    with pytest.raises(ValueError, match="one entry more"):
        core.permute_rows(indptr, indices, values, np.arange(2), 3, 1)
    with pytest.raises(ValueError, match="as many entries"):
        core.permute_rows(indptr, indices, values[:2], np.arange(3), 3, 1)
    with pytest.raises(ValueError, match="below n_rows"):
        core.permute_rows(indptr, indices, values, np.arange(3), 2, 1)


def test_rank_deficient_rows_stand_alone():
    y, jacobians = smooth_map(2, 5, seed=4)(square(500, 2, seed=8))
    jacobians[[17, 400]] = 0.0
    with pytest.warns(errors.RankWarning, match="rows 17, 400"):
        observation = Observation.from_jacobians(y, jacobians, dim=2)
    matrix = mahalanobis_kernel(observation, epsilon=5e-3).matrix.toarray()
    for row in (17, 400):
        np.testing.assert_array_equal(matrix[row], np.eye(500)[row])
        np.testing.assert_array_equal(matrix[:, row], np.eye(500)[row])
    rows = observation.usable
    expected, _ = reference.kernel(y[rows], observation.whitening[rows], 5e-3)
    np.testing.assert_allclose(matrix[np.ix_(rows, rows)], expected, rtol=1e-12, atol=0)


def test_pickle_round_trip():
    kernel = mahalanobis_kernel(smooth_observation(400, 2, 5), epsilon=5e-3)
    before = kernel.matrix.toarray()
    again = pickle.loads(pickle.dumps(kernel))
    np.testing.assert_array_equal(again.matrix.toarray(), before)
    assert (again.epsilon, again.n_gated, again.n_samples) == (kernel.epsilon, kernel.n_gated, 400)
    points = kernel.points[:20] + 1e-3
    np.testing.assert_array_equal(again.cross(points, None, 1).toarray(), kernel.cross(points, None, 1).toarray())


def test_kernel_between_new_points_and_samples():
    measure = smooth_map(2, 5, seed=4)
    y, jacobians = measure(square(500, 2, seed=8))
    kernel = mahalanobis_kernel(Observation.from_jacobians(y, jacobians), epsilon=5e-3)
    # The samples themselves, two-sided: their rows of the kernel.
    rows = kernel.cross(y, kernel.observation.whitening, 2).toarray()
    np.testing.assert_allclose(rows, kernel.matrix.toarray(), rtol=1e-12, atol=0)
    # Other points, two-sided: the off-diagonal block of the joint kernel.
    z, more = measure(square(80, 2, seed=9))
    fresh = Observation.from_jacobians(z, more)
    joint, _ = reference.kernel(
        np.vstack([z, y]), np.concatenate([fresh.whitening, kernel.observation.whitening]), 5e-3
    )
    np.testing.assert_allclose(kernel.cross(z, fresh.whitening, 2).toarray(), joint[:80, 80:], rtol=1e-12, atol=0)


# --- the Euclidean metric -----------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [1, 2, 3, 20])
def test_euclidean_kernel_equals_that_of_scipy(m):
    points = np.random.default_rng(m).random((1200, m))
    epsilon = 0.01 * m
    kernel = mahalanobis_kernel(points, epsilon=epsilon)
    tree = cKDTree(points)
    radius = np.sqrt(4 * epsilon * np.log(1 / TRUNCATION))
    expected = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix").toarray()
    expected = np.where((expected > 0) | np.eye(1200, dtype=bool), np.exp(-(expected**2) / (4 * epsilon)), 0.0)
    np.testing.assert_allclose(kernel.matrix.toarray(), expected, rtol=1e-11, atol=0)
    np.testing.assert_allclose(kernel.matrix.toarray(), reference.euclidean_kernel(points, epsilon), rtol=1e-11, atol=0)
    assert kernel.n_gated == 0


def test_identity_jacobians_give_the_euclidean_kernel():
    points = square(600, 2)
    identity = np.broadcast_to(np.eye(2), (600, 2, 2))
    first = mahalanobis_kernel(Observation.from_jacobians(points, identity), epsilon=5e-3)
    np.testing.assert_allclose(
        first.matrix.toarray(), mahalanobis_kernel(points, epsilon=5e-3).matrix.toarray(), rtol=1e-12
    )
    assert first.n_gated == 0


# --- warnings and errors ------------------------------------------------------------------------------------


def test_duplicates_are_named():
    points = square(300)
    points[[50, 200]] = points[7]
    with pytest.warns(errors.DuplicateWarning, match=r"3 samples .*rows 7, 50, 200\)"):
        kernel = mahalanobis_kernel(points, epsilon=1e-3)
    np.testing.assert_array_equal(kernel.matrix.toarray()[np.ix_([7, 50, 200], [7, 50, 200])], 1.0)


def test_duplicates_of_an_observation_are_named():
    y, jacobians = smooth_map(2, 5, seed=4)(np.vstack([square(300), square(300)[:2]]))
    with pytest.warns(errors.DuplicateWarning, match="rows 0, 1, 300, 301"):
        mahalanobis_kernel(Observation.from_jacobians(y, jacobians), epsilon=5e-3)


def test_large_epsilon_warns_of_curvature():
    points, tangents = circle(400)
    observation = Observation.from_jacobians(points, tangents)
    with pytest.warns(errors.CurvatureWarning, match=r"\d+ % of the pairs .* rows \d+.*epsilon = 3"):
        kernel = mahalanobis_kernel(observation, epsilon=3.0)
    assert kernel.gated_share > 0.25
    assert mahalanobis_kernel(observation, epsilon=1e-4).gated_share < 0.25


def test_memory_limit_is_kept(monkeypatch):
    points = square(4000)
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "1e6")
    with pytest.raises(errors.MemoryLimitError, match=r"entries in each of 4000 rows .* DIFFEO_MEMORY_LIMIT"):
        mahalanobis_kernel(points, epsilon=0.05)
    # Nothing is assembled: the check precedes the compiled assembly.
    with pytest.raises(MemoryError):
        DiffusionMap(epsilon=0.05).fit(points)
    assert mahalanobis_kernel(points, epsilon=1e-6).nnz < 1e6 / 12


def test_memory_limit_must_be_a_number(monkeypatch):
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "plenty")
    with pytest.raises(errors.ParameterError, match="plenty"):
        mahalanobis_kernel(square(50), epsilon=0.1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("epsilon", value) for value in (0.0, -1.0, np.nan, np.inf, "wide", None)],
        *[("truncation", value) for value in (0.0, 1.0)],
        *[("n_jobs", value) for value in (0, -2, 1.5)],
    ],
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(errors.ParameterError, match=name):
        mahalanobis_kernel(square(50), **{name: value})


def test_compiled_tree_checks_shapes():
    points = square(50)
    with pytest.raises(ValueError, match="whitening"):
        core.MetricTree(points, np.zeros((49, 2, 2)), 1)
    with pytest.raises(ValueError, match="points"):
        core.MetricTree(np.zeros(3), None, 1)
    tree = core.MetricTree(points, None, 1)
    with pytest.raises(ValueError, match="points"):
        tree.cross(0.1, 1e-4, np.zeros((3, 5)), None, 1)
    with pytest.raises(TypeError):
        core.MetricTree(points.astype(np.float32), None, 1)
    assert sorted(tree.order.tolist()) == list(range(50))
    np.testing.assert_array_equal(tree.position[tree.order], np.arange(50))
