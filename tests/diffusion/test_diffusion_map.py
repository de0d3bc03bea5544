"""Diffusion maps: known spectra, agreement with dense linear algebra, invariances, and the extension."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation, errors, mahalanobis_kernel, reference
from diffeo.diffusion import diffusion_map
from support.samples import (
    clusters,
    dense_operator,
    mushroom,
    random_orthogonal,
    relative_gap,
    smooth_map,
    smooth_observation,
    square,
    subspace_gap,
)


def assert_eigenpairs_equal_dense_ones(fitted, alpha=1.0):
    """Values to 1e-7 and eigenspaces, cluster by cluster, to what the residuals allow."""
    _, degree, s = dense_operator(fitted, alpha)
    count = len(fitted.eigenvalues_)
    values, vectors = reference.leading_eigenpairs(s, count + 1)
    np.testing.assert_allclose(fitted.eigenvalues_, values[:count], atol=1e-9)
    assert abs(fitted.eigenvalues_[0] - 1) < 1e-12
    v = fitted.eigenvectors_
    np.testing.assert_allclose(v.T @ v, np.eye(count), atol=1e-10)
    residuals = np.linalg.norm(s @ v - v * fitted.eigenvalues_, axis=0)
    assert residuals.max() <= 1.01 * fitted.tol + 1e-13
    np.testing.assert_allclose(fitted.residuals_, residuals, atol=1e-13)
    for part in clusters(1.0 - values[1:]):
        rows = slice(part.start + 1, part.stop + 1)
        if rows.stop > count:
            continue  # the border cuts this cluster
        others = np.delete(values, np.arange(count + 1)[rows])
        gap = np.abs(others[:, None] - values[rows]).min()
        assert subspace_gap(v[:, rows], vectors[:, rows]) <= 5 * fitted.tol / gap + 1e-9
    np.testing.assert_allclose(np.abs(v[:, 0]), np.sqrt(degree / degree.sum()), atol=10 * fitted.tol / (1 - values[1]))


def torus_grid(side=70):
    """A regular grid on the flat torus in R^4, its Jacobians and its angles."""
    angles = np.stack(np.meshgrid(*[np.arange(side) * 2 * np.pi / side] * 2, indexing="ij"), axis=-1).reshape(-1, 2)
    c, s = np.cos(angles), np.sin(angles)
    jacobians = np.zeros((len(angles), 4, 2))
    jacobians[:, 0, 0], jacobians[:, 1, 0], jacobians[:, 2, 1], jacobians[:, 3, 1] = (
        -s[:, 0],
        c[:, 0],
        -s[:, 1],
        c[:, 1],
    )
    return np.stack([c[:, 0], s[:, 0], c[:, 1], s[:, 1]], axis=1), jacobians, angles


# --- known spectra ------------------------------------------------------------------------------------------


def test_mushroom_recovers_the_square():
    x = square(10_000, seed=0)
    fitted = DiffusionMap().fit(Observation.from_jacobians(*mushroom(x)))
    spectrum = fitted.generator_eigenvalues_[1:]
    np.testing.assert_allclose(spectrum / spectrum[:2].mean(), [1, 1, 2, 4, 4, 5, 5, 8], rtol=0.03)
    assert abs(spectrum[:2].mean() / np.pi**2 - 1) < 0.12
    assert relative_gap(fitted.embedding_[:, :2], np.cos(np.pi * x)).max() < 0.015
    product = np.cos(np.pi * x[:, :1]) * np.cos(np.pi * x[:, 1:])
    assert relative_gap(fitted.embedding_[:, 2:3], product).max() < 0.03
    assert fitted.residuals_.max() <= 1e-8


def test_networks_share_a_spectrum():
    x = square(2000, seed=2)
    first, second = (
        DiffusionMap(epsilon=2e-3).fit(Observation.from_jacobians(*smooth_map(2, m, seed=seed, bend=0.15)(x)))
        for m, seed in [(5, 1), (7, 2)]
    )
    np.testing.assert_allclose(first.generator_eigenvalues_[1:], second.generator_eigenvalues_[1:], rtol=0.015)
    assert subspace_gap(first.embedding_[:, :2], second.embedding_[:, :2]) < 0.02


def test_circle():
    n = 2000
    angle = np.arange(n) * 2 * np.pi / n + 0.3
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    tangents = np.stack([-np.sin(angle), np.cos(angle)], axis=1)[:, :, None]
    fitted = DiffusionMap(n_components=6).fit(Observation.from_jacobians(points, tangents))
    np.testing.assert_allclose(fitted.generator_eigenvalues_[1:], [1, 1, 4, 4, 9, 9], rtol=3e-3)
    waves = np.concatenate([[np.cos(k * angle), np.sin(k * angle)] for k in (1, 2, 3)]).T
    for k in range(3):
        part = slice(2 * k, 2 * k + 2)
        assert subspace_gap(fitted.embedding_[:, part], waves[:, part]) < 1e-5


def test_rectangle_has_simple_eigenvalues():
    x = square(8000, seed=5) * [1.0, 0.7]
    fitted = DiffusionMap(n_components=5).fit(Observation.from_jacobians(*smooth_map(2, 5, seed=9, bend=0.2)(x)))
    modes = [(1, 0), (0, 1), (1, 1), (2, 0), (2, 1)]
    true = np.array([i**2 + (j / 0.7) ** 2 for i, j in modes])
    spectrum = fitted.generator_eigenvalues_[1:]
    np.testing.assert_allclose(spectrum / spectrum[0], true, rtol=0.05)
    for k, (i, j) in enumerate(modes[:3]):
        wave = np.cos(i * np.pi * x[:, :1]) * np.cos(j * np.pi * x[:, 1:] / 0.7)
        assert relative_gap(fitted.embedding_[:, k : k + 1], wave).max() < 0.05


@pytest.mark.parametrize(("metric", "seed"), [("euclidean", 0), *[("jacobians", seed) for seed in range(5)]])
def test_four_fold_eigenvalues_come_four_times(metric, seed):
    points, jacobians, angles = torus_grid()
    data = points if metric == "euclidean" else Observation.from_jacobians(points, jacobians)
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    tensor = np.concatenate([waves[:, [0]] * waves[:, [1, 3]], waves[:, [2]] * waves[:, [1, 3]]], axis=1)
    for n_components, tol in [(8, 1e-8), (8, 1e-6), (9, 1e-8), (13, 1e-6)]:
        fitted = DiffusionMap(n_components=n_components, tol=tol, random_state=seed).fit(data)
        values = fitted.generator_eigenvalues_[1:]
        for part in (slice(0, 4), slice(4, 8)):
            assert np.ptp(values[part]) < 1e-7 * values[part].mean() / (1e-2 if tol > 1e-7 else 1)
        assert values[4] > 1.5 * values[3]
        assert n_components == 8 or values[8] > 1.5 * values[7]
        assert subspace_gap(fitted.embedding_[:, :4], waves) < 100 * tol
        assert subspace_gap(fitted.embedding_[:, 4:8], tensor) < 200 * tol
        if n_components == 13:
            assert np.ptp(values[8:12]) < 1e-5 * values[8]
            double = np.concatenate([np.cos(2 * angles), np.sin(2 * angles)], axis=1)
            assert subspace_gap(fitted.embedding_[:, 8:12], double) < 300 * tol


# --- linear algebra -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "n_components", "alpha"),
    [
        (300, 8, 0.0),
        (300, 8, 0.5),
        (300, 8, 1.0),
        (700, 8, 0.0),
        (700, 8, 0.5),
        (700, 8, 1.0),
        (1200, 12, 1.0),
    ],
)
def test_eigenpairs_equal_dense_ones(n, n_components, alpha):
    fitted = DiffusionMap(n_components=n_components, alpha=alpha, tol=1e-10).fit(smooth_observation(n, 2, 5, seed=n))
    assert (fitted.n_iter_ > 0) == (n > 400)
    assert_eigenpairs_equal_dense_ones(fitted, alpha)


@pytest.mark.filterwarnings("ignore:no bandwidth fits")  # 400 samples are few in three dimensions
@pytest.mark.parametrize("n", [400, 900])
def test_eigenpairs_of_plain_points_equal_dense_ones(n):
    fitted = DiffusionMap(n_components=5).fit(square(n, 3, seed=n))
    assert_eigenpairs_equal_dense_ones(fitted)


def test_operator_is_symmetric_and_its_residuals_are_those_reported():
    fitted = DiffusionMap(n_components=6).fit(smooth_observation(1200, 2, 5, seed=1))
    operator = fitted.operator_
    assert (operator - operator.T).nnz == 0 or np.abs((operator - operator.T).data).max() == 0.0
    np.testing.assert_allclose(operator.toarray(), dense_operator(fitted)[2], rtol=1e-11, atol=1e-300)
    v = fitted.eigenvectors_
    residuals = np.linalg.norm(operator @ v - v * fitted.eigenvalues_, axis=0)
    assert residuals.max() <= fitted.tol
    np.testing.assert_allclose(residuals, fitted.residuals_, atol=1e-13)


@pytest.mark.filterwarnings("ignore:no bandwidth fits")  # 400 samples are few in three dimensions
@pytest.mark.parametrize("n", [400, 900])
def test_embedding_is_normalised_by_the_degrees(n):
    fitted = DiffusionMap(n_components=6, tol=1e-10).fit(smooth_observation(n, 2, 5, seed=1))
    _, degree, _ = dense_operator(fitted)
    weights = degree / degree.sum()
    phi = fitted.embedding_
    np.testing.assert_allclose(phi.T @ (weights[:, None] * phi), np.eye(6), atol=1e-7)
    np.testing.assert_allclose(weights @ phi, 0.0, atol=1e-6)
    np.testing.assert_allclose(phi, fitted.eigenvectors_[:, 1:] / np.sqrt(weights)[:, None], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(
        fitted.plain_generator_eigenvalues_, -np.log(np.minimum(fitted.eigenvalues_, 1)) / fitted.epsilon_
    )


@pytest.mark.parametrize(("alpha", "shift"), [(0.0, 4.0), (0.5, 1.0), (1.0, 0.0)])
def test_alpha_sets_the_influence_of_the_density(alpha, shift):
    # With density exp(2 x) on [0, 1] the limit is f'' + 4 (1 - alpha) f' = -mu f with Neumann ends, whose
    # eigenvalues are (2 (1 - alpha))^2 + (k pi)^2. Quantiles instead of draws leave no sampling noise.
    n = 3000
    x = 0.5 * np.log1p((np.arange(n) + 0.5) / n * np.expm1(2.0))[:, None]
    fitted = DiffusionMap(n_components=3, alpha=alpha, epsilon=1e-4).fit(x)
    expected = shift + (np.pi * np.arange(1, 4)) ** 2
    np.testing.assert_allclose(fitted.generator_eigenvalues_[1:], expected, rtol=0.05)


# --- invariances --------------------------------------------------------------------------------------------


def test_bits_do_not_depend_on_threads_or_runs():
    # Several chunks of every parallel loop, and the block solver.
    observation = smooth_observation(3000, 2, 5, seed=4)
    fits = [DiffusionMap(n_components=5, n_jobs=jobs).fit(observation) for jobs in (1, 2, 2)]
    new = observation.points[::7] + 1e-3
    for other in fits[1:]:
        for name in ("eigenvalues_", "eigenvectors_", "residuals_", "embedding_"):
            np.testing.assert_array_equal(getattr(other, name), getattr(fits[0], name))
        np.testing.assert_array_equal(other.transform(new), fits[0].transform(new))
        assert other.n_iter_ == fits[0].n_iter_


def test_row_permutation_permutes_the_embedding():
    x = square(900, seed=4) * [1.0, 0.7]
    y, jacobians = smooth_map(2, 5, seed=3)(x)
    order = np.random.default_rng(1).permutation(900)
    options = {"n_components": 4, "epsilon": 3e-3, "tol": 1e-11}
    first = DiffusionMap(**options).fit(Observation.from_jacobians(y, jacobians)).embedding_
    second = DiffusionMap(**options).fit(Observation.from_jacobians(y[order], jacobians[order])).embedding_
    np.testing.assert_allclose(second, first[order], atol=1e-6)


def test_signs_are_stable_under_resampling():
    measure = smooth_map(2, 5, seed=3)
    grid = square(200, seed=77) * [1.0, 0.7]
    placed = []
    for seed in range(4):
        y, jacobians = measure(square(2000, seed=seed) * [1.0, 0.7])
        fitted = DiffusionMap(n_components=2).fit(Observation.from_jacobians(y, jacobians))
        placed.append(fitted.transform(measure(grid)[0]))
    for other in placed[1:]:
        assert np.all((placed[0] * other).mean(axis=0) > 0.9)


def test_embedding_follows_its_most_correlated_measurement():
    fitted = DiffusionMap(n_components=4).fit(smooth_observation(1500, 2, 5, seed=4))
    _, degree, _ = dense_operator(fitted)
    weights = degree / degree.sum()
    points = fitted.kernel_.points
    centred = (points - weights @ points) / np.sqrt(weights @ (points - weights @ points) ** 2)
    correlation = centred.T @ (weights[:, None] * fitted.embedding_)
    strongest = np.abs(correlation).argmax(axis=0)
    assert np.all(correlation[strongest, np.arange(4)] > 1e-3)


def test_isometries_of_the_measurements_change_nothing():
    y, jacobians = smooth_map(2, 5, seed=3)(square(800, seed=4) * [1.0, 0.7])
    turn = random_orthogonal(1, 5, seed=5)[0]
    fits = [
        DiffusionMap(n_components=4, epsilon=3e-3, tol=1e-11).fit(Observation.from_jacobians(*data))
        for data in [(y, jacobians), (y @ turn.T + 3.0, turn @ jacobians), (100 * y, 100 * jacobians)]
    ]
    for other in fits[1:]:
        np.testing.assert_allclose(other.eigenvalues_, fits[0].eigenvalues_, atol=1e-10)
        np.testing.assert_allclose(np.abs(other.embedding_), np.abs(fits[0].embedding_), atol=1e-6)


# --- warnings and errors ------------------------------------------------------------------------------------


def test_pieces_of_the_graph_are_counted():
    x = np.vstack([square(400, seed=1), square(250, seed=2) + 10.0, square(150, seed=3) - 10.0])
    with pytest.warns(errors.DisconnectedWarning, match=r"3 pieces of 400, 250, 150 samples"):
        fitted = DiffusionMap(n_components=5, epsilon=0.02).fit(x)
    assert fitted.n_connected_components_ == 3
    np.testing.assert_allclose(fitted.eigenvalues_[:3], 1.0, atol=1e-10)
    assert fitted.eigenvalues_[3] < 0.999
    pieces = np.repeat(np.eye(3), [400, 250, 150], axis=0)
    np.testing.assert_array_less(relative_gap(fitted.embedding_[:, :2], pieces), 1e-4)


@pytest.mark.parametrize("n", [3, 8])
def test_too_many_components(n):
    with pytest.raises(errors.SampleSizeError, match=rf"n_components = 8 .* n_samples = {n}"):
        DiffusionMap().fit(square(n))
    assert DiffusionMap(n_components=n - 1).fit(square(n)).embedding_.shape == (n, n - 1)


def test_an_unfinished_iteration_is_an_error(monkeypatch):
    observation = smooth_observation(1500, 2, 5, seed=1)
    monkeypatch.setattr(diffusion_map, "MAX_ITERATIONS", 1)
    with pytest.raises(errors.ConvergenceError, match=r"(?s)after 1 iterations with residuals .* above tol = 1e-08"):
        DiffusionMap().fit(observation)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_components", 0),
        ("n_components", 2.5),
        ("alpha", -0.1),
        ("alpha", np.nan),
        ("alpha", 1.5),
        ("tol", 0.0),
        ("tol", "small"),
        ("random_state", "x"),
        ("random_state", -1),
        ("n_jobs", 0),
        ("epsilon", 0.0),
    ],
)
def test_parameters_out_of_range(name, value):
    with pytest.raises(errors.ParameterError, match=name):
        DiffusionMap(**{name: value}).fit(square(60))


def test_seeds():
    x = square(800)
    fits = [DiffusionMap(n_components=2, random_state=s).fit(x) for s in (0, None, 5, np.random.RandomState(1), 2**40)]
    np.testing.assert_array_equal(fits[0].embedding_, fits[1].embedding_)
    for other in fits[2:]:
        np.testing.assert_allclose(other.eigenvalues_, fits[0].eigenvalues_, atol=1e-10)


def test_new_data_must_fit_the_old():
    observation = smooth_observation(300, 2, 5, seed=1)
    fitted = DiffusionMap(n_components=2).fit(observation)
    with pytest.raises(errors.ShapeError, match="4 measurements, the fit had 5"):
        fitted.transform(smooth_observation(50, 2, 4))
    with pytest.raises(errors.DimensionMismatchError, match="dim = 3, the fit had 2"):
        fitted.transform(smooth_observation(50, 3, 5))
    with pytest.raises(errors.InputError, match="features"):
        fitted.transform(np.zeros((3, 4)))
    with pytest.raises(errors.InputError, match="NaN"):
        fitted.transform(np.full((3, 5), np.nan))
    assert mahalanobis_kernel(observation).epsilon == fitted.epsilon_
