"""The mathematics of reference.py itself, since everything else is measured against it."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import reference
from support.samples import random_orthogonal, smooth_map, smooth_observation, square, subspace_gap


def test_squared_distances_are_those_of_the_inputs_to_fourth_order():
    # Two-sided: halving the separation divides q - |x_i - x_j|^2 by 16. One-sided only by 8.
    measure = smooth_map(2, 5, seed=1, bend=0.5)
    rng = np.random.default_rng(0)
    centre, direction = rng.random((200, 2)), rng.normal(size=(200, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    two_sided, one_sided = [], []
    for step in (0.04, 0.02, 0.01):
        x = np.vstack([centre, centre + step * direction])
        y, jacobians = measure(x)
        _, w = reference.whitening_from_jacobians(jacobians, 2)
        a = reference.one_sided_squared_distances(y, w)[:200, 200:].diagonal()
        q = reference.squared_distances(y, w)[:200, 200:].diagonal()
        one_sided.append(np.abs(a - step**2).mean())
        two_sided.append(np.abs(q - step**2).mean())
    orders = (
        np.log2(np.array(two_sided[:-1]) / two_sided[1:]),
        np.log2(np.array(one_sided[:-1]) / one_sided[1:]),
    )
    np.testing.assert_allclose(orders[0], 4.0, atol=0.15)
    np.testing.assert_allclose(orders[1], 3.0, atol=0.15)


def test_squared_distances_of_a_linear_map_are_exact():
    x = square(80, 3)
    linear = np.random.default_rng(1).normal(size=(6, 3))
    _, w = reference.whitening_from_jacobians(np.broadcast_to(linear, (80, 6, 3)), 3)
    exact = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    np.testing.assert_allclose(reference.squared_distances(x @ linear.T, w), exact, rtol=1e-9, atol=1e-12)


def test_whitening_is_the_pseudo_inverse():
    _, jacobians = smooth_map(2, 5, seed=1)(square(50))
    s, w = reference.whitening_from_jacobians(jacobians, 2)
    covariances = jacobians @ jacobians.transpose(0, 2, 1)
    expected = np.linalg.pinv(covariances, rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(w @ w.transpose(0, 2, 1), expected, rtol=1e-9, atol=1e-10)
    t, v = reference.whitening_from_covariances(covariances, 2)
    np.testing.assert_allclose(t[:, :2], s, rtol=1e-10)
    np.testing.assert_allclose(v @ v.transpose(0, 2, 1), expected, rtol=1e-9, atol=1e-10)


def test_covariances_of_bursts_are_numpys():
    bursts = np.random.default_rng(0).normal(size=(5, 12, 3))
    expected = [np.cov(burst.T) / 0.25 for burst in bursts]
    np.testing.assert_allclose(reference.burst_covariances(bursts, 0.5), expected, rtol=1e-12)


def test_gates_are_symmetric_and_keep_true_neighbours():
    observation = smooth_observation(300, 2, 5, seed=2)
    x = square(300, 2, 3)
    reach, tame = reference.gates(observation.points, observation.whitening, 0.05)
    np.testing.assert_array_equal(reach, reach.T)
    np.testing.assert_array_equal(tame, tame.T)
    near = ((x[:, None] - x[None]) ** 2).sum(axis=2) < 0.02**2
    assert (near & reach & tame).sum() == near.sum() > 300


@pytest.mark.parametrize(
    ("jacobians", "points", "passes"),
    [
        # Along the tangents, equal stretch: kept.
        ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.1, 0.0]], True),
        # Displacement along the normal of both.
        ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.01, 0.1]], False),
        # Just inside and outside of a share of one half.
        ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.1, 0.099]], True),
        ([[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.1, 0.101]], False),
        # Stretches 1 and 1.9 (transport and asymmetry pass), and 1 and 2.1.
        ([[1.0, 0.0], [1.9, 0.0]], [[0.0, 0.0], [0.1, 0.0]], True),
        ([[1.0, 0.0], [2.1, 0.0]], [[0.0, 0.0], [0.1, 0.0]], False),
        # Tangents that turn by 40 and by 61 degrees, displacement halfway between.
        ([[np.cos(0.35), np.sin(0.35)], [np.cos(0.35), -np.sin(0.35)]], [[0.0, 0.0], [0.1, 0.0]], True),
        ([[np.cos(0.53), np.sin(0.53)], [np.cos(0.53), -np.sin(0.53)]], [[0.0, 0.0], [0.1, 0.0]], False),
        # Opposite orientation of the parameter is the same tangent.
        ([[1.0, 0.0], [-1.0, 0.0]], [[0.0, 0.0], [0.1, 0.0]], True),
    ],
)
def test_each_gate_at_its_limit(jacobians, points, passes):
    _, w = reference.whitening_from_jacobians(np.array(jacobians)[:, :, None], 1)
    reach, tame = reference.gates(np.array(points), w, 1.0)
    assert reach[0, 1]
    assert tame[0, 1] == tame[1, 0] == passes


def test_reach_is_that_of_the_smaller_stretch():
    points = np.array([[0.0, 0.0], [1.4, 0.0], [1.6, 0.0]])
    _, w = reference.whitening_from_jacobians(np.array([[1.0, 0.0], [1.0, 0.0], [3.0, 0.0]])[:, :, None], 1)
    reach, _ = reference.gates(points, w, 1.0)
    assert reach[0, 1]
    assert not reach[0, 2]


def test_kernel_counts_each_gated_pair_once():
    points = np.array([[0.0, 0.0], [0.0, 0.1], [5.0, 0.0]])
    _, w = reference.whitening_from_jacobians(np.array([[1.0, 0.0]] * 3)[:, :, None], 1)
    k, n_gated = reference.kernel(points, w, 0.1)
    assert n_gated == 1
    np.testing.assert_array_equal(k, np.eye(3))


def test_kernel_does_not_depend_on_the_gauge():
    y, jacobians = smooth_map(2, 5, seed=1, bend=1.0)(square(200))
    turned = jacobians @ random_orthogonal(200, 2, seed=4)
    (first, gated), (second, again) = (
        reference.kernel(y, reference.whitening_from_jacobians(j, 2)[1], 0.02) for j in (jacobians, turned)
    )
    assert gated == again
    np.testing.assert_allclose(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_normalised_operator(alpha):
    k = reference.euclidean_kernel(square(150), 0.01)
    density, degree, s = reference.normalise(k, alpha)
    np.testing.assert_allclose(density, k @ np.ones(150), rtol=1e-13)
    np.testing.assert_allclose(s, s.T, rtol=1e-13)
    # S is similar to the Markov matrix P = D^-1 K_alpha, whose rows sum to 1.
    markov = s * np.sqrt(degree)[None, :] / np.sqrt(degree)[:, None]
    np.testing.assert_allclose(markov.sum(axis=1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(s @ np.sqrt(degree), np.sqrt(degree), rtol=1e-12)
    values, vectors = reference.leading_eigenpairs(s, 4)
    assert abs(values[0] - 1) < 1e-12
    assert np.all(np.diff(values) <= 0)
    np.testing.assert_allclose(s @ vectors, vectors * values, atol=1e-12)
    assert subspace_gap(vectors[:, :1], np.sqrt(degree)[:, None]) < 1e-7


def test_extension_reproduces_eigenfunctions_of_a_linear_map():
    # With one metric everywhere the one-sided q is the two-sided one, so the samples get their own embedding.
    x = square(300)
    linear = np.array([[2.0, 0.3], [0.1, 1.0], [0.5, -1.0]])
    _, w = reference.whitening_from_jacobians(np.broadcast_to(linear, (300, 3, 2)), 2)
    k, _ = reference.kernel(x @ linear.T, w, 0.005)
    density, degree, s = reference.normalise(k, 1.0)
    values, vectors = reference.leading_eigenpairs(s, 4)
    phi = (vectors / np.sqrt(degree)[:, None])[:, 1:]
    extended = reference.extension(x @ linear.T, x @ linear.T, w, 0.005, 1 / density, phi, values[1:])
    np.testing.assert_allclose(extended, phi, rtol=1e-9, atol=1e-9 * np.abs(phi).max())


def test_neighbours_recover_linear_maps():
    x = square(60)
    linear = np.random.default_rng(0).normal(size=(3, 2))
    neighbors = np.random.default_rng(1).integers(0, 60, (60, 8))
    jacobians = reference.jacobians_from_neighbors(x @ linear.T, x, neighbors)
    np.testing.assert_allclose(jacobians, np.broadcast_to(linear, (60, 3, 2)), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("degree", [1, 2])
def test_local_polynomials_are_exact_on_their_degree(degree):
    from diffeo._support import core

    rng = np.random.default_rng(2)
    nodes, queries = rng.random((200, 2)), rng.random((40, 2))

    def polynomial(x):
        lower = 1.0 + x @ [2.0, -1.0]
        return np.column_stack([lower, lower + (degree - 1) * (x[:, 0] ** 2 - 3 * x[:, 0] * x[:, 1])])

    distance = np.linalg.norm(nodes[None] - queries[:, None], axis=2)
    neighbors = np.ascontiguousarray(np.argsort(distance, axis=1)[:, :14], dtype=np.int64)
    fitted = reference.local_polynomial_fit(queries, nodes, polynomial(nodes), neighbors, degree)
    np.testing.assert_allclose(fitted, polynomial(queries), rtol=1e-8, atol=1e-8)
    compiled = core.local_polynomial_fit(queries, nodes, np.sin(5 * nodes), neighbors, degree, 2)
    expected = reference.local_polynomial_fit(queries, nodes, np.sin(5 * nodes), neighbors, degree)
    np.testing.assert_allclose(compiled, expected, rtol=1e-8, atol=1e-9)
