"""Local polynomial and Hermite fits, and the chart that inverts them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from conftest import smooth_map, square
from diffeo import _core, reference
from diffeo.interpolation import HermiteChart, nodes_of_a_cubic
from scipy.spatial import cKDTree


def neighbors_of(queries, nodes, k):
    rows = cKDTree(nodes).query(queries, k)[1].reshape(len(queries), k)
    return np.ascontiguousarray(rows, dtype=np.int64)


class Polynomials:
    """Random polynomials of d variables up to a total degree, with their gradients."""

    def __init__(self, dim, degree, count, seed=0):
        powers = itertools.product(range(degree + 1), repeat=dim)
        self.powers = np.array([p for p in powers if sum(p) <= degree])
        self.weights = np.random.default_rng(seed).normal(size=(len(self.powers), count))

    def values(self, x):
        return (x[:, None, :] ** self.powers).prod(axis=2) @ self.weights

    def gradients(self, x):
        result = np.empty((len(x), self.weights.shape[1], x.shape[1]))
        for axis in range(x.shape[1]):
            lowered = self.powers.copy()
            lowered[:, axis] = np.maximum(lowered[:, axis] - 1, 0)
            slope = self.powers[:, axis] * (x[:, None, :] ** lowered).prod(axis=2)
            result[:, :, axis] = slope @ self.weights
        return result


def hermite(queries, nodes, k, degree, functions, threads=1):
    return _core.local_hermite_fit(
        queries,
        nodes,
        functions.values(nodes),
        functions.gradients(nodes),
        neighbors_of(queries, nodes, k),
        degree,
        threads,
    )


# --- values only --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("dim", "k"), [(1, 8), (2, 12), (3, 25), (4, 30)])
def test_polynomial_fit_equals_the_reference(dim, k, degree):
    nodes, queries = square(400, dim), square(60, dim, seed=1)
    values = np.cos(3 * nodes @ np.random.default_rng(2).normal(size=(dim, 4)))
    neighbors = neighbors_of(queries, nodes, k)
    found = _core.local_polynomial_fit(queries, nodes, values, neighbors, degree, 2)
    expected = reference.local_polynomial_fit(queries, nodes, values, neighbors, degree)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    one = _core.local_polynomial_fit(queries, nodes, values, neighbors, degree, 1)
    assert found.tobytes() == one.tobytes()


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("dim", "k"), [(1, 5), (2, 9), (3, 16)])
def test_polynomial_fit_is_exact_on_polynomials_of_its_degree_and_not_beyond(dim, k, degree):
    nodes, queries = square(300, dim), 0.1 + 0.8 * square(50, dim, seed=1)
    neighbors = neighbors_of(queries, nodes, k)
    for order in (degree, degree + 1):
        functions = Polynomials(dim, order, 3)
        fit = _core.local_polynomial_fit(queries, nodes, functions.values(nodes), neighbors, degree, 1)
        miss = np.abs(fit - functions.values(queries)).max()
        assert miss < 1e-12 if order == degree else miss > 1e-6


def test_polynomial_fit_on_nodes_of_a_line_lowers_only_the_open_direction():
    # Nodes on a diagonal tell nothing across it; along it a line must come out exactly.
    t = np.linspace(0, 1, 40)
    nodes, queries = np.stack([t, t], axis=1), np.array([[0.31, 0.31], [0.77, 0.77]])
    values = np.stack([3 * t - 1, np.full(40, 2.0)], axis=1)
    fit = _core.local_polynomial_fit(queries, nodes, values, neighbors_of(queries, nodes, 8), 1, 1)
    np.testing.assert_allclose(fit, [[3 * 0.31 - 1, 2.0], [3 * 0.77 - 1, 2.0]], atol=1e-12)


def test_coincident_nodes_give_their_mean():
    nodes, values = np.zeros((6, 2)), np.arange(6.0)[:, None]
    neighbors = np.arange(6)[None].astype(np.int64)
    fit = _core.local_polynomial_fit(np.zeros((1, 2)), nodes, values, neighbors, 1, 1)
    np.testing.assert_allclose(fit, [[2.5]], atol=1e-12)
    slopes = np.zeros((6, 1, 2))
    value, slope = _core.local_hermite_fit(np.zeros((1, 2)), nodes, values, slopes, neighbors, 3, 1)
    np.testing.assert_allclose(value, [[2.5]], atol=1e-12)
    assert np.isfinite(slope).all()


# --- values and derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_hermite_fit_is_exact_on_polynomials_of_its_degree_and_not_beyond(dim, degree):
    nodes, queries = square(300, dim), 0.1 + 0.8 * square(50, dim, seed=1)
    k = nodes_of_a_cubic(dim)
    for order in (degree, degree + 1):
        functions = Polynomials(dim, order, 3)
        value, slope = hermite(queries, nodes, k, degree, functions)
        assert value.shape == (50, 3)
        assert slope.shape == (50, 3, dim)
        off = np.abs(value - functions.values(queries)).max()
        off_slope = np.abs(slope - functions.gradients(queries)).max()
        if order == degree:
            assert off < 1e-11
            assert off_slope < 1e-9
        else:
            assert off > 1e-9
            assert off_slope > 1e-7


def test_hermite_fit_has_the_same_bits_for_any_number_of_threads():
    nodes, queries = square(500), square(300, seed=1)
    functions = Polynomials(2, 5, 3)
    one, two = (hermite(queries, nodes, 10, 3, functions, threads) for threads in (1, 2))
    assert one[0].tobytes() == two[0].tobytes()
    assert one[1].tobytes() == two[1].tobytes()


class Waves:
    """Smooth functions that no polynomial equals."""

    def __init__(self, dim):
        self.measure = smooth_map(dim, 4, seed=1, bend=1.0)

    def values(self, x):
        return self.measure(x)[0]

    def gradients(self, x):
        return np.ascontiguousarray(self.measure(x)[1])


@pytest.mark.parametrize(("dim", "sizes"), [(1, (100, 200, 400)), (2, (900, 3600, 14400))])
def test_hermite_fit_converges_with_the_fourth_power_of_the_spacing(dim, sizes):
    # Nodes on jittered grids, whose spacing halves from one size to the next.
    queries = 0.2 + 0.6 * square(400, dim, seed=7)
    functions, errors, slope_errors = Waves(dim), [], []
    for n in sizes:
        side = round(n ** (1 / dim))
        grid = np.stack(np.meshgrid(*[(np.arange(side) + 0.5) / side] * dim), axis=-1).reshape(-1, dim)
        nodes = grid + (0.3 / side) * (square(len(grid), dim, seed=n) - 0.5)
        value, slope = hermite(queries, nodes, nodes_of_a_cubic(dim), 3, functions)
        errors.append(np.sqrt(((value - functions.values(queries)) ** 2).mean()))
        slope_errors.append(np.sqrt(((slope - functions.gradients(queries)) ** 2).mean()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, 4.0, atol=0.35)
    np.testing.assert_allclose(np.log2(np.array(slope_errors[:-1]) / slope_errors[1:]), 3.0, atol=0.6)


@pytest.mark.parametrize("degree", [0, 4, -1])
def test_degrees_that_do_not_exist(degree):
    nodes = square(20)
    functions = Polynomials(2, 1, 1)
    with pytest.raises(ValueError, match="degree"):
        hermite(nodes, nodes, 8, degree, functions)
    with pytest.raises(ValueError, match="degree"):
        _core.local_polynomial_fit(nodes, nodes, functions.values(nodes), neighbors_of(nodes, nodes, 8), degree, 1)


# --- the chart ----------------------------------------------------------------------------------------------


def chart_of(dim, n, m=5, bend=0.3, seed=0):
    nodes, measure = square(n, dim, seed), smooth_map(dim, m, seed, bend)
    values, gradients = measure(nodes)
    return HermiteChart(nodes, values, np.ascontiguousarray(gradients)), measure


@pytest.mark.parametrize(("dim", "n", "tolerance"), [(1, 200, 1e-6), (2, 2000, 1e-5), (3, 3000, 3e-3)])
def test_locate_inverts_the_map(dim, n, tolerance):
    chart, measure = chart_of(dim, n)
    x = 0.05 + 0.9 * square(300, dim, seed=5)
    located = chart.locate(measure(x)[0], 1)
    assert len(located.outside) == 0
    assert np.abs(located.coordinates - x).max() < tolerance
    assert located.residual.max() < 10 * tolerance
    np.testing.assert_allclose(chart.measurements(x, 1), measure(x)[0], atol=10 * tolerance)


def test_locate_and_measurements_are_inverse_to_each_other():
    chart, _ = chart_of(2, 1500)
    x = square(300, seed=5)
    located = chart.locate(chart.measurements(x, 1), 2)
    np.testing.assert_allclose(located.coordinates, x, atol=1e-9)
    assert located.residual.max() < 1e-9
    assert located.coordinates.tobytes() == chart.locate(chart.measurements(x, 2), 1).coordinates.tobytes()


def test_residual_is_the_distance_to_the_manifold():
    # Each measurement counts in units of its root mean square slope; the defect is normal to the manifold in these.
    chart, measure = chart_of(2, 2000)
    y, jacobians = measure(0.1 + 0.8 * square(50, seed=3))
    normals = np.linalg.svd(jacobians)[0][:, :, 4]
    units = 1.0 / np.sqrt((chart.gradients**2).sum(axis=2).mean(axis=0))
    for offset in (1e-3, 0.05):
        located = chart.locate(y + offset * normals, 1)
        value, slope = chart._evaluate(located.coordinates, 1)
        defect = (y + offset * normals - value) * units
        np.testing.assert_allclose(located.residual, np.linalg.norm(defect, axis=1), rtol=1e-12)
        along = np.einsum("nmd,nm->nd", slope * units[:, None], defect)
        assert np.abs(along).max() < 1e-3 * offset


@pytest.mark.parametrize("factor", [1e-6, 1e3, 1e6])
def test_units_of_one_measurement_do_not_matter(factor):
    chart, measure = chart_of(2, 1500)
    units = np.array([1.0, 1.0, 1.0, 1.0, factor])
    other = HermiteChart(chart.nodes, chart.values * units, chart.gradients * units[:, None])
    y = measure(square(200, seed=5))[0]
    one, two = chart.locate(y, 1), other.locate(y * units, 1)
    np.testing.assert_allclose(two.coordinates, one.coordinates, atol=1e-7)
    np.testing.assert_array_equal(two.outside, one.outside)


def test_outside_flags_points_off_the_manifold_and_beyond_the_domain():
    chart, measure = chart_of(2, 2000)
    inside = measure(square(40, seed=3))[0]
    beyond = measure(np.array([[1.4, 0.5], [-0.5, -0.5], [0.5, 3.0]]))[0]
    y, jacobians = measure(square(4, seed=8))
    off = y + 0.5 * np.linalg.svd(jacobians)[0][:, :, 3]
    located = chart.locate(np.vstack([inside, beyond, off]), 1)
    np.testing.assert_array_equal(located.outside, np.arange(40, 47))
    assert np.isfinite(located.coordinates).all()
    assert np.isfinite(located.residual).all()


def test_sheets_that_pass_near_each_other_are_told_apart():
    # A spiral whose turns are as near as four samples on it: the nearest sample is often on the wrong turn.
    def spiral(t):
        r = 1.0 + 0.03 * t
        y = np.hstack([r * np.cos(t), r * np.sin(t)])
        slope = np.hstack([0.03 * np.cos(t) - r * np.sin(t), 0.03 * np.sin(t) + r * np.cos(t)])
        return y, slope[:, :, None]

    t = np.linspace(0, 20, 500)[:, None]
    chart = HermiteChart(t, *spiral(t))
    new = np.random.default_rng(0).uniform(0.1, 19.9, (400, 1))
    located = chart.locate(spiral(new)[0], 1)
    np.testing.assert_allclose(located.coordinates, new, atol=1e-5)
    assert len(located.outside) == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_charts_of_a_few_nodes_extrapolate_linearly_and_stay_finite(n):
    nodes = square(n)
    linear = np.random.default_rng(0).normal(size=(4, 2))
    chart = HermiteChart(nodes, nodes @ linear.T, np.ascontiguousarray(np.broadcast_to(linear, (n, 4, 2))))
    x = square(20, seed=1)
    np.testing.assert_allclose(chart.measurements(x, 1), x @ linear.T, atol=1e-6)
    located = chart.locate(x @ linear.T, 1)
    assert np.isfinite(located.coordinates).all()
