"""Local polynomial and Hermite fits, and the chart that inverts them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from diffeo import reference
from diffeo._support import core
from diffeo.isometry.hermite import HermiteChart, nodes_of_a_fit
from scipy.spatial import cKDTree
from support.samples import smooth_map, square


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
    return core.local_hermite_fit(
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
    found = core.local_polynomial_fit(queries, nodes, values, neighbors, degree, 2)
    expected = reference.local_polynomial_fit(queries, nodes, values, neighbors, degree)
    np.testing.assert_allclose(found, expected, atol=1e-11)
    one = core.local_polynomial_fit(queries, nodes, values, neighbors, degree, 1)
    assert found.tobytes() == one.tobytes()


@pytest.mark.parametrize("degree", [1, 2])
@pytest.mark.parametrize(("dim", "k"), [(1, 5), (2, 9), (3, 16)])
def test_polynomial_fit_is_exact_on_polynomials_of_its_degree_and_not_beyond(dim, k, degree):
    nodes, queries = square(300, dim), 0.1 + 0.8 * square(50, dim, seed=1)
    neighbors = neighbors_of(queries, nodes, k)
    for order in (degree, degree + 1):
        functions = Polynomials(dim, order, 3)
        fit = core.local_polynomial_fit(queries, nodes, functions.values(nodes), neighbors, degree, 1)
        miss = np.abs(fit - functions.values(queries)).max()
        assert miss < 1e-12 if order == degree else miss > 1e-6


def test_polynomial_fit_on_nodes_of_a_line_lowers_only_the_open_direction():
    # Nodes on a diagonal tell nothing across it; along it a line must come out exactly.
    t = np.linspace(0, 1, 40)
    nodes, queries = np.stack([t, t], axis=1), np.array([[0.31, 0.31], [0.77, 0.77]])
    values = np.stack([3 * t - 1, np.full(40, 2.0)], axis=1)
    fit = core.local_polynomial_fit(queries, nodes, values, neighbors_of(queries, nodes, 8), 1, 1)
    np.testing.assert_allclose(fit, [[3 * 0.31 - 1, 2.0], [3 * 0.77 - 1, 2.0]], atol=1e-12)


def test_coincident_nodes_give_their_mean():
    nodes, values = np.zeros((6, 2)), np.arange(6.0)[:, None]
    neighbors = np.arange(6)[None].astype(np.int64)
    fit = core.local_polynomial_fit(np.zeros((1, 2)), nodes, values, neighbors, 1, 1)
    np.testing.assert_allclose(fit, [[2.5]], atol=1e-12)
    slopes = np.zeros((6, 1, 2))
    value, slope = core.local_hermite_fit(np.zeros((1, 2)), nodes, values, slopes, neighbors, 3, 1)
    np.testing.assert_allclose(value, [[2.5]], atol=1e-12)
    assert np.isfinite(slope).all()


# --- values and derivatives ---------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 2, 3])
@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_hermite_fit_is_exact_on_polynomials_of_its_degree_and_not_beyond(dim, degree):
    nodes, queries = square(300, dim), 0.1 + 0.8 * square(50, dim, seed=1)
    k = nodes_of_a_fit(dim)
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


@pytest.mark.parametrize("flat", [0.0, 1e-9])
def test_many_terms_on_nodes_of_a_plane_leave_the_open_directions_out(flat):
    # 35 terms, of which the nodes do not tell those of second degree in the last coordinate.
    nodes, queries = square(400, 4), 0.1 + 0.8 * square(20, 4, seed=1)
    nodes[:, 3] = 0.5 + flat * (nodes[:, 3] - 0.5)
    queries[:, 3] = 0.5
    functions = Polynomials(4, 3, 3)
    value, slope = hermite(queries, nodes, nodes_of_a_fit(4), 3, functions)
    np.testing.assert_allclose(value, functions.values(queries), atol=1e-7)
    np.testing.assert_allclose(slope, functions.gradients(queries), atol=1e-5)


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
        value, slope = hermite(queries, nodes, nodes_of_a_fit(dim), 3, functions)
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
        core.local_polynomial_fit(nodes, nodes, functions.values(nodes), neighbors_of(nodes, nodes, 8), degree, 1)


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
    # Each measurement counts in units of its root mean square slope; the defect is normal to the manifold in the units by
    # which the point was placed, which are alike where it is noisy.
    chart, measure = chart_of(2, 2000)
    y, jacobians = measure(0.1 + 0.8 * square(50, seed=3))
    normals = np.linalg.svd(jacobians)[0][:, :, 4]
    units = 1.0 / np.sqrt((chart.gradients**2).sum(axis=2).mean(axis=0))
    for offset in (1e-3, 0.05):
        located = chart.locate(y + offset * normals, 1)
        value, slope = chart._evaluate(located.coordinates, 1)
        defect = (y + offset * normals - value) * units
        np.testing.assert_allclose(located.residual, np.linalg.norm(defect, axis=1), rtol=1e-12)
        of_point = chart.units_of(y + offset * normals, located.coordinates, 1)
        of_point /= np.linalg.norm(of_point, axis=1, keepdims=True)
        along = np.einsum("nmd,nm->nd", slope * of_point[:, :, None], of_point * defect / units)
        assert np.abs(along).max() < 1e-2 * offset


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


# --- closed domains -----------------------------------------------------------------------------------------

PERIODS = {
    "circle": [[2.0]],
    "torus": [[1.0, 0.0], [0.4, 1.1]],
    "cylinder": [[0.6, 0.8]],
}


@functools.cache
def closed_chart(name, n=1200):
    """A chart with periods, and the map that it interpolates."""
    periods = np.array(PERIODS[name])
    k, d = periods.shape
    across = np.linalg.svd(periods)[2][k:]
    turn = 2 * np.pi * np.linalg.pinv(periods)
    outer = smooth_map(2 * k + d - k, 6, bend=0.2)

    def measure(x):
        cos, sin = np.cos(x @ turn), np.sin(x @ turn)
        rest = np.broadcast_to(across, (len(x), d - k, d))
        slopes = np.concatenate([-sin[:, :, None] * turn.T, cos[:, :, None] * turn.T, rest], axis=1)
        y, jacobians = outer(np.hstack([cos, sin, x @ across.T]))
        return y, np.ascontiguousarray(jacobians @ slopes)

    # Nodes several periods away, too: the chart moves them into one cell.
    rng = np.random.default_rng(1)
    nodes = rng.uniform(-2.0, 2.0, (n, k)) @ periods + rng.uniform(0.0, 0.7, (n, d - k)) @ across
    chart = HermiteChart(np.ascontiguousarray(nodes), *measure(nodes), periods)
    return chart, measure, across


@pytest.mark.parametrize("name", PERIODS)
def test_nodes_lie_in_one_cell_with_images_around_it(name):
    chart, measure, _ = closed_chart(name)
    turns = chart.nodes @ np.linalg.pinv(chart.periods)
    assert (turns > -1e-12).all()
    assert (turns < 1 + 1e-12).all()
    np.testing.assert_allclose(measure(chart.nodes)[0], chart.values, atol=1e-9)
    n = len(chart.nodes)
    assert len(chart._images) > n
    np.testing.assert_array_equal(chart._origin[:n], np.arange(n))
    apart = (chart._images - chart.nodes[chart._origin]) @ np.linalg.pinv(chart.periods)
    np.testing.assert_allclose(apart, np.round(apart), atol=1e-9)
    assert np.abs(np.round(apart[n:])).max(axis=1).min() == 1
    assert len(np.unique(np.round(chart._images, 9), axis=0)) == len(chart._images)


@pytest.mark.parametrize("name", PERIODS)
def test_wrapping_moves_by_whole_periods(name):
    chart = closed_chart(name)[0]
    x = np.random.default_rng(2).normal(size=(200, chart.nodes.shape[1])) * 3
    moved = chart.wrapped(x)
    turns = (x - moved) @ np.linalg.pinv(chart.periods)
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-9)
    np.testing.assert_allclose(turns @ chart.periods, x - moved, atol=1e-9)
    np.testing.assert_allclose(chart.wrapped(moved), moved, atol=1e-12)
    open_chart = chart_of(2, 30)[0]
    assert open_chart.wrapped(x) is x


@pytest.mark.parametrize("name", PERIODS)
def test_interpolation_knows_no_seam(name):
    chart, measure, across = closed_chart(name)
    k, d = chart.periods.shape
    moved = 0.37 * chart.periods.sum(axis=0)
    other = HermiteChart(chart.nodes + moved, chart.values, chart.gradients, chart.periods)
    rng = np.random.default_rng(3)
    height = rng.uniform(0.05, 0.65, (300, d - k)) @ across
    border = np.round(rng.uniform(-3, 3, (300, k))) + rng.uniform(-0.01, 0.01, (300, k))
    # All over the cell; and within a hundredth of a period of its border.
    for turns in (rng.uniform(-3.0, 3.0, (300, k)), border):
        x = turns @ chart.periods + height
        y = measure(x)[0]
        found = chart.measurements(x, 1)
        assert np.sqrt(np.mean((found - y) ** 2)) < 2e-3
        # The same wherever the seam is, and whole periods away.
        np.testing.assert_allclose(other.measurements(x + moved, 1), found, atol=1e-8)
        for shift in chart.periods:
            np.testing.assert_allclose(chart.measurements(x + shift, 1), found, atol=1e-8)
        located = chart.locate(found, 1)
        assert len(located.outside) == 0
        off = located.coordinates - x
        whole = np.round(off @ np.linalg.pinv(chart.periods))
        miss = np.abs(off - whole @ chart.periods).max(axis=1)
        # Where samples are sparse the nodes of the fit change between steps, and a few stop short.
        assert np.quantile(miss, 0.97) < 1e-6
        assert miss.max() < 0.02
        np.testing.assert_allclose(chart.wrapped(located.coordinates), located.coordinates, atol=1e-12)


def test_points_off_a_closed_manifold_are_named():
    chart, measure, _ = closed_chart("torus")
    x = np.random.default_rng(4).uniform(-1.0, 1.0, (20, 2))
    y, jacobians = measure(x)
    normal = np.linalg.svd(jacobians)[0][:, :, 5]
    located = chart.locate(np.vstack([y, y + normal]), 1)
    np.testing.assert_array_equal(located.outside, np.arange(20, 40))
