"""Observations: the constructors, the choice of the rank, and everything they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors, reference
from scipy.spatial import cKDTree
from support.samples import mushroom, random_orthogonal, smooth_map, square


def five(n=400, dim=2, seed=0):
    """Inputs, measurements and Jacobians of a random smooth map to R^5."""
    x = square(n, dim, seed)
    return x, *smooth_map(dim, 5, seed=seed + 1)(x)


def bursts_of(measure, x, size, scale, seed=0):
    noise = np.random.default_rng(seed).normal(size=(len(x), size, x.shape[1]))
    return measure((x[:, None, :] + scale * noise).reshape(-1, x.shape[1]))[0].reshape(len(x), size, -1)


# --- Jacobians ---


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_rank_of_jacobians(dim):
    _, y, jacobians = five(dim=dim)
    observation = Observation.from_jacobians(y, jacobians)
    assert observation.dim == dim
    assert observation.source == "jacobians"
    assert observation.known_unit
    assert len(observation) == 400
    assert observation.whitening.shape == (400, 5, dim)
    assert observation.singular_values.shape == (400, dim)
    assert len(observation.deficient) == 0
    np.testing.assert_array_equal(observation.usable, np.arange(400))
    expected_s, expected_w = reference.whitening_from_jacobians(jacobians, dim)
    np.testing.assert_allclose(observation.singular_values, expected_s, rtol=1e-12)
    w = observation.whitening
    np.testing.assert_allclose(
        w @ w.transpose(0, 2, 1), expected_w @ expected_w.transpose(0, 2, 1), rtol=1e-9, atol=1e-10
    )


def test_rank_of_wide_jacobians_of_a_flat_input_set():
    _, y, jacobians = five()
    tangents = random_orthogonal(400, 6, seed=1)[:, :2, :]
    observation = Observation.from_jacobians(y, jacobians @ tangents)
    assert observation.dim == 2
    assert observation.singular_values.shape == (400, 5)
    np.testing.assert_allclose(observation.singular_values[:, 2:], 0.0, atol=1e-12)


@pytest.mark.filterwarnings("ignore::diffeo.errors.RankWarning")  # of the gap
@pytest.mark.parametrize(("weak", "dim"), [(1e-4, 2), (2e-6, 2), (5e-7, 1), (0.0, 1)])
def test_floor_of_jacobians(weak, dim):
    x = square(300)
    linear = np.array([[1.0, 0.0], [0.0, weak], [1.0, 0.0]])
    observation = Observation.from_jacobians(
        x @ linear.T + [[0, 1, 0]] * x[:, :1], np.broadcast_to(linear, (300, 3, 2))
    )
    assert observation.dim == dim


@pytest.mark.filterwarnings("ignore::diffeo.errors.RankWarning")  # of the gap
@pytest.mark.parametrize(("dtype", "dim"), [(np.float64, 2), (np.float32, 1)])
def test_floor_of_single_precision(dtype, dim):
    # A second singular value of 5e-6 is real in double precision and noise in single.
    x = square(300)
    jacobians = np.broadcast_to(np.array([[1.0, 0.0], [0.0, 5e-6]]), (300, 2, 2)).astype(dtype)
    assert Observation.from_jacobians(x, jacobians).dim == dim


def test_dim_below_the_rank_keeps_the_leading_directions():
    x = square(300)
    jacobians = np.broadcast_to(np.diag([2.0, 0.5]), (300, 2, 2))
    observation = Observation.from_jacobians(x * [2.0, 0.5], jacobians, dim=1)
    np.testing.assert_allclose(
        np.abs(observation.whitening[:, :, 0]), np.broadcast_to([0.5, 0.0], (300, 2)), atol=1e-12
    )


def test_few_deficient_samples_are_listed():
    _, y, jacobians = five()
    jacobians[[3, 77]] = 0.0
    jacobians[200, :, 1] = jacobians[200, :, 0]
    with pytest.warns(errors.RankWarning, match=r"3 of 400 samples .*below dim = 2 \(rows 3, 77, 200\)"):
        observation = Observation.from_jacobians(y, jacobians)
    np.testing.assert_array_equal(observation.deficient, [3, 77, 200])
    assert len(observation.usable) == 397
    assert not np.isin(observation.deficient, observation.usable).any()
    assert np.isfinite(observation.whitening).all()
    assert observation.dim == 2
    assert "3 rank-deficient" in repr(observation)


def test_many_deficient_samples_are_an_error():
    _, y, jacobians = five()
    jacobians[:5] = 0.0
    with pytest.raises(errors.RankError, match=r"5 of 400 samples .*dim = 2 \(rows 0, 1, 2, 3, 4\)"):
        Observation.from_jacobians(y, jacobians, dim=2)
    jacobians[:, :, 1] = 0.0
    with pytest.raises(errors.RankError, match=r"400 of 400 samples .*dim = 2"):
        Observation.from_jacobians(y, jacobians, dim=2)


def test_exactly_one_percent_is_few():
    _, y, jacobians = five()
    jacobians[:4] = 0.0
    with pytest.warns(errors.RankWarning, match="4 of 400"):
        assert Observation.from_jacobians(y, jacobians).dim == 2


def test_jacobians_that_vanish_everywhere():
    _, y, jacobians = five()
    with pytest.raises(errors.RankError, match=r"do not depend|barely depend"):
        Observation.from_jacobians(y, 0 * jacobians)
    with pytest.raises(errors.RankError, match="do not depend on the inputs"):
        Observation.from_jacobians(y, 0 * jacobians, dim=1)


def test_tiny_units_are_no_deficiency():
    _, y, jacobians = five()
    assert Observation.from_jacobians(y * 1e-100, jacobians * 1e-100).dim == 2


@pytest.mark.parametrize("dim", [3, 6])
def test_dim_beyond_the_data(dim):
    _, y, jacobians = five()
    with pytest.raises(errors.RankError, match=rf"dim = {dim} exceeds 2, .* 5 measurements and these jacobians"):
        Observation.from_jacobians(y, jacobians, dim=dim)


@pytest.mark.parametrize("dim", [0, -1, 1.5, "two", True])
def test_dim_that_means_nothing(dim):
    _, y, jacobians = five()
    with pytest.raises(errors.ParameterError, match="dim must be"):
        Observation.from_jacobians(y, jacobians, dim=dim)


def test_shapes_that_do_not_fit():
    _, y, jacobians = five()
    with pytest.raises(errors.ShapeError, match=r"jacobians has shape \(399, 5, 2\)"):
        Observation.from_jacobians(y, jacobians[:-1])
    with pytest.raises(errors.ShapeError, match=r"jacobians .*axis 1"):
        Observation.from_jacobians(y[:, :4], jacobians)
    with pytest.raises(errors.ShapeError, match=r"points has shape \(400,\)"):
        Observation.from_jacobians(y[:, 0], jacobians)
    with pytest.raises(errors.SampleSizeError, match="1 sample"):
        Observation.from_jacobians(y[:1], jacobians[:1])


@pytest.mark.parametrize("which", ["points", "jacobians"])
def test_non_finite_rows_are_named(which):
    _, y, jacobians = five()
    (y if which == "points" else jacobians)[[8, 9], 0] = np.nan
    with pytest.raises(errors.NonFiniteError, match=rf"{which} holds NaN: .* 2 of 400 rows \(rows 8, 9\)"):
        Observation.from_jacobians(y, jacobians)


def test_constant_neurons_are_named():
    _, y, jacobians = five()
    y[:, [1, 3]] = 7.0
    jacobians[:, [1, 3]] = 0.0
    with pytest.warns(errors.ConstantNeuronWarning, match=r"2 of 5 measurements .*\(columns 1, 3\)"):
        observation = Observation.from_jacobians(y, jacobians)
    assert observation.dim == 2
    with pytest.raises(errors.RankError, match="all 5 measurements are constant over the 400 samples"):
        Observation.from_jacobians(np.ones_like(y), jacobians)


def test_the_input_is_not_changed():
    _, y, jacobians = five()
    jacobians[3] = 0.0
    before = y.copy(), jacobians.copy()
    with pytest.warns(errors.RankWarning):
        Observation.from_jacobians(y, jacobians)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(jacobians, before[1])


def test_observations_are_frozen():
    observation = Observation.from_jacobians(*five()[1:])
    with pytest.raises(AttributeError):
        observation.dim = 3
    assert repr(observation) == "Observation(400 samples, 5 measurements, dim=2, from jacobians)"


# --- bursts ---


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("size", [12, 50])
def test_rank_of_bursts(dim, size):
    x = square(300, dim)
    measure = smooth_map(dim, 6, seed=dim)
    observation = Observation.from_bursts(measure(x)[0], bursts_of(measure, x, size, 0.005), scale=0.005)
    assert observation.dim == dim
    assert observation.source == "bursts"
    assert observation.scale == 0.005


def test_bursts_approach_jacobians():
    x = square(300)
    y, jacobians = mushroom(x)
    observation = Observation.from_bursts(y, bursts_of(mushroom, x, 4000, 1e-4), scale=1e-4)
    exact = Observation.from_jacobians(y, jacobians)
    np.testing.assert_allclose(observation.singular_values, exact.singular_values, rtol=0.08)
    w, v = observation.whitening, exact.whitening
    difference = w @ w.transpose(0, 2, 1) - v @ v.transpose(0, 2, 1)
    size = np.linalg.norm(v, axis=(1, 2)) ** 2
    assert (np.linalg.norm(difference, axis=(1, 2)) / size).max() < 0.15


def test_bursts_equal_the_reference():
    x = square(200)
    y, _ = mushroom(x)
    bursts = bursts_of(mushroom, x, 10, 0.01)
    observation = Observation.from_bursts(y, bursts, scale=0.01, dim=2)
    s, w = reference.whitening_from_bursts(bursts, 0.01, 2)
    np.testing.assert_allclose(observation.singular_values, s, rtol=1e-8)
    np.testing.assert_allclose(np.abs(observation.whitening), np.abs(w), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("size", "dim"), [(3, None), (4, 2), (5, 3), (1, 1)])
def test_small_bursts(size, dim):
    x = square(50)
    with pytest.raises(errors.SampleSizeError, match=rf"bursts have {size} members; at least dim \+ 3 = \d"):
        Observation.from_bursts(mushroom(x)[0], bursts_of(mushroom, x, size, 0.01), dim=dim)


def test_smallest_bursts_that_suffice():
    x = square(50)
    y = mushroom(x)[0]
    assert Observation.from_bursts(y, bursts_of(mushroom, x, 5, 0.01), scale=0.01, dim=2).dim == 2
    assert Observation.from_bursts(y, bursts_of(mushroom, x, 4, 0.01), scale=0.01).dim == 1


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, "small"])
def test_scale_of_bursts(scale):
    x = square(50)
    with pytest.raises(errors.ParameterError, match="scale must be"):
        Observation.from_bursts(mushroom(x)[0], bursts_of(mushroom, x, 10, 0.01), scale=scale)


def test_bursts_that_do_not_fit():
    x = square(50)
    y, bursts = mushroom(x)[0], bursts_of(mushroom, x, 10, 0.01)
    with pytest.raises(errors.ShapeError, match="bursts"):
        Observation.from_bursts(y, bursts[:, :, :1])
    with pytest.raises(errors.ParameterError, match="shrinkage"):
        Observation.from_bursts(y, bursts, shrinkage="some")
    with pytest.raises(errors.RankError, match="all local covariances are zero"):
        Observation.from_bursts(y, np.zeros_like(bursts))


# --- covariances ---


def test_covariances_give_the_whitening_of_their_jacobians():
    _, y, jacobians = five()
    exact = Observation.from_jacobians(y, jacobians)
    observation = Observation.from_covariances(y, jacobians @ jacobians.transpose(0, 2, 1))
    assert observation.dim == 2
    assert observation.source == "covariances"
    w, v = observation.whitening, exact.whitening
    np.testing.assert_allclose(w @ w.transpose(0, 2, 1), v @ v.transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


def test_covariances_must_be_symmetric_and_positive():
    _, y, jacobians = five()
    covariances = jacobians @ jacobians.transpose(0, 2, 1)
    skew = covariances.copy()
    skew[[4, 6], 0, 1] += 0.1
    with pytest.raises(errors.InputError, match=r"covariances of 2 samples are not symmetric \(rows 4, 6\)"):
        Observation.from_covariances(y, skew)
    negative = covariances.copy()
    negative[7] *= -1.0
    with pytest.raises(errors.InputError, match=r"covariances of 1 samples have negative .*\(row 7\)"):
        Observation.from_covariances(y, negative)
    with pytest.raises(errors.ShapeError, match="covariances"):
        Observation.from_covariances(y, covariances[:, :, :4])


def test_covariances_with_negative_eigenvalues_are_refused():
    x = square(100)
    covariances = np.broadcast_to(np.eye(2), (100, 2, 2)).copy()
    covariances[5] = [[1.0, 2.0], [2.0, 1.0]]  # variances are positive, an eigenvalue is -1
    with pytest.raises(errors.InputError, match=r"row 5"):
        Observation.from_covariances(x, covariances)


# --- neighbours ---


@pytest.mark.parametrize("p", [1, 2, 3])
def test_neighbours_with_a_reference(p):
    x = square(2500, p)
    y, jacobians = smooth_map(p, 5, seed=2)(x)
    observation = Observation.from_neighbors(y, x, n_neighbors=4 * (p + 1))
    assert observation.dim == p
    assert observation.source == "neighbors"
    assert observation.known_unit
    exact = Observation.from_jacobians(y, jacobians)
    error = np.abs(observation.singular_values / exact.singular_values - 1)
    assert np.median(error) < 0.05


def test_neighbours_equal_the_reference():
    x = square(400)
    y, _ = mushroom(x)
    jacobians = reference.jacobians_from_neighbors(y, x, cKDTree(x).query(x, 9)[1])
    observation = Observation.from_neighbors(y, x, n_neighbors=9, dim=2)
    np.testing.assert_allclose(observation.singular_values, np.linalg.svd(jacobians, compute_uv=False), rtol=1e-9)


def test_neighbours_without_a_reference_measure_arc_length():
    angle = np.arange(500) * 2 * np.pi / 500
    points = 3.0 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    observation = Observation.from_neighbors(points, n_neighbors=7, dim=1)
    assert not observation.known_unit
    tangent = np.stack([-np.sin(angle), np.cos(angle)], axis=1)
    np.testing.assert_allclose(np.abs(np.einsum("nm,nm->n", observation.whitening[:, :, 0], tangent)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(observation.singular_values, 1.0, rtol=1e-12)


@pytest.mark.parametrize("dim", [None, 2, 3])
def test_neighbours_without_a_reference_in_more_dimensions(dim):
    with pytest.raises(errors.ParameterError, match=rf"only dim=1 is accepted \(got dim={dim}\)"):
        Observation.from_neighbors(square(200), dim=dim)


def test_repeated_samples_have_no_tangent():
    points = np.vstack([np.zeros((40, 2)), square(4000)])
    with pytest.warns(errors.RankWarning, match="40 of 4040"):
        observation = Observation.from_neighbors(points, n_neighbors=8, dim=1)
    assert np.isfinite(observation.whitening).all()


def test_neighbours_that_do_not_fit():
    x = square(100)
    y, _ = mushroom(x)
    with pytest.raises(errors.SampleSizeError, match="100 samples are fewer than n_neighbors = 101"):
        Observation.from_neighbors(y, x, n_neighbors=101)
    with pytest.raises(errors.SampleSizeError, match=r"n_neighbors = 4 must be at least p \+ 2 = 5"):
        Observation.from_neighbors(y, np.column_stack([x, x[:, 0] ** 2]), n_neighbors=4)
    with pytest.raises(errors.RankError, match=r"neighbours of 100 samples do not span the 2 reference .*rows 0, 1"):
        Observation.from_neighbors(y, np.column_stack([x[:, 0], 3 * x[:, 0]]))
    with pytest.raises(errors.ParameterError, match="n_neighbors must be at least 4"):
        Observation.from_neighbors(y, x, n_neighbors=3)
    with pytest.raises(errors.ShapeError, match="reference"):
        Observation.from_neighbors(y, x[:50])
