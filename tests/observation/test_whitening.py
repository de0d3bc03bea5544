"""The compiled whitening against NumPy's, and what whitening has to satisfy."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import reference
from diffeo._support import core
from scipy.spatial import cKDTree
from support.samples import random_orthogonal, smooth_map, square

SHAPES = [
    (1, 1),
    (1, 3),
    (2, 2),
    (3, 1),
    (5, 2),
    (5, 5),
    (2, 5),
    (7, 3),
    (40, 3),
    (120, 4),
    (3, 40),
    (40, 40),
]


def spread_jacobians(n, m, p, seed=0):
    """Random Jacobians with singular values between 1 and 1/2 (simple with probability one)."""
    r = min(m, p)
    rng = np.random.default_rng(seed)
    u, v = random_orthogonal(n, m, seed)[:, :, :r], random_orthogonal(n, p, seed + 1)[:, :, :r]
    s = np.sort(rng.uniform(0.5, 1.0, (n, r)), axis=1)[:, ::-1]
    return (u * s[:, None, :]) @ v.transpose(0, 2, 1), u, s


def projections(whitening):
    """W W^T, which no choice of signs or bases can change."""
    return whitening @ whitening.transpose(0, 2, 1)


@pytest.mark.parametrize(("m", "p"), SHAPES)
def test_jacobians_equal_the_reference(m, p):
    jacobians, _, true = spread_jacobians(100, m, p, seed=m)
    dim = min(m, p, 3)
    s, w = core.whitening_from_jacobians(jacobians, dim, 2)
    expected_s, expected_w = reference.whitening_from_jacobians(jacobians, dim)
    np.testing.assert_allclose(s, expected_s, rtol=1e-13)
    np.testing.assert_allclose(s, true, rtol=1e-12)
    # Nearly equal singular values leave the basis open; a wide cut leaves the projection open too.
    clear = slice(None) if dim == min(m, p) else (true[:, dim - 1] - true[:, dim]) > 0.02
    assert np.atleast_1d(np.ones(100)[clear]).sum() > 10 or min(m, p) > 20
    np.testing.assert_allclose(projections(w)[clear], projections(expected_w)[clear], rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(np.linalg.norm(w, axis=1), 1 / s[:, :dim], rtol=1e-13)


@pytest.mark.parametrize(("m", "p"), SHAPES)
def test_whitening_is_the_pseudo_inverse_of_the_covariance(m, p):
    jacobians, _, _ = spread_jacobians(50, m, p, seed=m + 1)
    r = min(m, p)
    _, w = core.whitening_from_jacobians(jacobians, r, 1)
    covariances = jacobians @ jacobians.transpose(0, 2, 1)
    expected = np.linalg.pinv(covariances, rcond=1e-10, hermitian=True)
    np.testing.assert_allclose(projections(w), expected, rtol=1e-10, atol=1e-10)
    whitened = w.transpose(0, 2, 1) @ covariances @ w
    np.testing.assert_allclose(whitened, np.broadcast_to(np.eye(r), whitened.shape), atol=1e-12)


@pytest.mark.parametrize(("m", "p"), [(2, 2), (5, 2), (3, 6), (30, 3)])
def test_lower_rank_takes_the_leading_directions(m, p):
    u, v = random_orthogonal(60, m, 1), random_orthogonal(60, p, 2)
    r = min(m, p)
    values = 10.0 ** -np.arange(r)
    jacobians = (u[:, :, :r] * values) @ v[:, :, :r].transpose(0, 2, 1)
    _, w = core.whitening_from_jacobians(jacobians, 1, 1)
    np.testing.assert_allclose(np.abs(np.einsum("nm,nm->n", w[:, :, 0], u[:, :, 0])), 1.0, rtol=1e-12)


@pytest.mark.parametrize(("m", "p"), [(2, 2), (5, 3), (40, 3), (3, 40)])
@pytest.mark.parametrize("small", [1e-5, 1e-9, 1e-13])
def test_small_singular_values_are_relatively_accurate(m, p, small):
    # Columns of very different length, orthogonal up to a rotation of the measurements: sigma is known.
    r = min(m, p)
    values = np.array([1.0, *np.full(r - 1, small)]) * np.linspace(1.0, 1.5, r)
    values = np.sort(values)[::-1]
    u = random_orthogonal(40, m, 3)[:, :, :r]
    jacobians = np.zeros((40, m, p))
    jacobians[:, :, :r] = u * values
    if p > m:
        # The scaled directions sit in the rows here.
        jacobians = np.zeros((40, m, p))
        jacobians[:, np.arange(r), :] = values[:, None] * random_orthogonal(40, p, 3)[:, :r, :]
    s, w = core.whitening_from_jacobians(jacobians, r, 1)
    np.testing.assert_allclose(
        s, np.broadcast_to(values, s.shape), rtol=1e-9 if p <= m else 1e-6 if small > 1e-9 else 5e-3
    )
    assert np.isfinite(w).all()


def test_vanishing_jacobians_give_zeros_not_infinities():
    jacobians = np.zeros((3, 4, 2))
    jacobians[1, 0, 0] = 1.0
    s, w = core.whitening_from_jacobians(jacobians, 2, 1)
    np.testing.assert_array_equal(s, [[0, 0], [1, 0], [0, 0]])
    assert np.isfinite(w).all()
    assert np.abs(w[[0, 2]]).max() == 0.0


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_extreme_units(scale):
    jacobians, _, true = spread_jacobians(20, 5, 2)
    s, w = core.whitening_from_jacobians(jacobians * scale, 2, 1)
    np.testing.assert_allclose(s / scale, true, rtol=1e-12)
    plain = core.whitening_from_jacobians(jacobians, 2, 1)[1]
    np.testing.assert_allclose(np.abs(w * scale), np.abs(plain), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("m", "size", "dim"), [(2, 8, 2), (5, 20, 2), (5, 6, 3), (20, 10, 2), (3, 100, 1)])
def test_bursts_equal_the_reference(m, size, dim):
    rng = np.random.default_rng(m)
    jacobians, _, _ = spread_jacobians(80, m, dim, seed=m)
    scale = 0.01
    bursts = np.einsum("nmp,nkp->nkm", jacobians, scale * rng.normal(size=(80, size, dim))) + rng.normal(
        size=(80, 1, m)
    )
    s, w = core.whitening_from_bursts(bursts, scale, dim, 2)
    expected_s, expected_w = reference.whitening_from_bursts(bursts, scale, dim)
    np.testing.assert_allclose(s[:, :dim], expected_s[:, :dim], rtol=1e-9)
    np.testing.assert_allclose(projections(w), projections(expected_w), rtol=1e-7, atol=1e-7 * np.abs(w).max() ** 2)
    # The factor (K - d - 2)/(K - 1) on top of the pseudo-inverse.
    covariances = reference.burst_covariances(bursts, scale)
    whitened = w.transpose(0, 2, 1) @ covariances @ w
    factor = (size - dim - 2) / (size - 1)
    np.testing.assert_allclose(whitened, np.broadcast_to(factor * np.eye(dim), whitened.shape), atol=1e-9)


@pytest.mark.parametrize(("size", "dim"), [(8, 1), (8, 2), (20, 2), (20, 3)])
def test_squared_distances_from_bursts_are_unbiased(size, dim):
    # C_i = J J^T with J of shape (m, d): the mean of a_ij over bursts must be |x_i - x_j|^2.
    rng = np.random.default_rng(size + dim)
    n = 20_000
    jacobian = rng.normal(size=(4, dim)) + 2 * np.eye(4, dim)
    bursts = rng.normal(size=(n, size, dim)) @ jacobian.T
    _, w = core.whitening_from_bursts(bursts, 1.0, dim, 0)
    offset = rng.normal(size=dim)
    a = (np.einsum("nmd,m->nd", w, jacobian @ offset) ** 2).sum(axis=1) / (offset @ offset)
    error = a.std() / np.sqrt(n)
    assert abs(a.mean() - 1) < 6 * error
    # Without the correction the mean is off by far more than this test allows.
    assert (size - 1) / (size - dim - 2) - 1 > 12 * error


@pytest.mark.parametrize(("m", "dim"), [(1, 1), (2, 2), (5, 2), (20, 4)])
def test_covariances_equal_the_reference(m, dim):
    jacobians, _, true = spread_jacobians(80, m, dim, seed=m)
    covariances = jacobians @ jacobians.transpose(0, 2, 1)
    s, w = core.whitening_from_covariances(covariances, dim, 2)
    _, expected = reference.whitening_from_covariances(covariances, dim)
    np.testing.assert_allclose(s[:, :dim], true, rtol=1e-12)
    assert np.all(s[:, dim:] < 1e-7)
    np.testing.assert_allclose(projections(w), projections(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("p", "m", "k"), [(1, 3, 6), (2, 5, 12), (3, 2, 20)])
def test_neighbours_equal_the_reference(p, m, k):
    x = square(300, p, seed=p)
    y, _ = smooth_map(p, m, seed=1)(x)
    neighbors = np.ascontiguousarray(cKDTree(x).query(x, k)[1], dtype=np.int64)
    jacobians, conditions = core.jacobians_from_neighbors(y, x, neighbors, 2)
    np.testing.assert_allclose(jacobians, reference.jacobians_from_neighbors(y, x, neighbors), rtol=1e-9, atol=1e-10)
    assert np.all((conditions > 1e-3) & (conditions <= 1.0))


def test_neighbours_are_exact_on_linear_maps_and_say_when_they_are_flat():
    x = square(200, 2, seed=3)
    linear = np.random.default_rng(0).normal(size=(4, 2))
    neighbors = np.ascontiguousarray(cKDTree(x).query(x, 10)[1], dtype=np.int64)
    jacobians, _ = core.jacobians_from_neighbors(x @ linear.T + 1.0, x, neighbors, 1)
    np.testing.assert_allclose(jacobians, np.broadcast_to(linear, (200, 4, 2)), rtol=1e-10)
    flat = np.column_stack([x[:, 0], 2 * x[:, 0]])
    _, conditions = core.jacobians_from_neighbors(x @ linear.T, flat, neighbors, 1)
    assert conditions.max() < 1e-12


def test_bits_do_not_depend_on_the_threads():
    jacobians, _, _ = spread_jacobians(1000, 6, 3)
    for call in (
        lambda t: core.whitening_from_jacobians(jacobians, 2, t),
        lambda t: core.whitening_from_bursts(jacobians.transpose(0, 2, 1).repeat(4, axis=1).copy(), 0.1, 2, t),
        lambda t: core.whitening_from_covariances(jacobians @ jacobians.transpose(0, 2, 1), 2, t),
    ):
        first, *others = (call(t) for t in (1, 2, 3))
        for other in others:
            np.testing.assert_array_equal(first[0], other[0])
            np.testing.assert_array_equal(first[1], other[1])


def test_core_refuses_what_does_not_fit():
    jacobians = np.ones((4, 3, 2))
    with pytest.raises(ValueError, match="dim"):
        core.whitening_from_jacobians(jacobians, 3, 1)
    with pytest.raises(ValueError):
        core.whitening_from_jacobians(jacobians[0], 1, 1)
    with pytest.raises(ValueError, match="dim \\+ 3"):
        core.whitening_from_bursts(np.ones((4, 4, 3)), 1.0, 2, 1)
    with pytest.raises(ValueError):
        core.whitening_from_covariances(np.ones((4, 3, 2)), 1, 1)
    with pytest.raises(TypeError):
        core.whitening_from_jacobians(jacobians.astype(np.float32), 1, 1)
