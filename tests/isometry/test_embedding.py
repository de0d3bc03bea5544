"""Isometric coordinates: the neighbours they rest on, what they recover, and new points."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import IsometricEmbedding, Observation, errors, reference
from diffeo.charts.isometric import isometric_chart
from diffeo.isometry.frames import corrected_lengths
from diffeo.isometry.graph import neighbor_graph
from diffeo.isometry.layout_search import unfold
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.tree import build_tree
from support import domains
from support.recovered import apply, circle, fitted_square, motion, observe_at, procrustes_error, ring_map
from support.samples import smooth_map, smooth_observation, square


def found_neighbors(observation, k, threads=1, transport=reference.GATES.transport):
    """Neighbours and squared distances, in the caller's rows."""
    tree = build_tree(observation, threads)
    neighbors, squared = tree.nearest_neighbors(k, threads, transport)
    rows, distances = np.full(neighbors.shape, -1), np.empty_like(squared)
    rows[tree.order] = np.where(neighbors >= 0, tree.order[neighbors], -1)
    distances[tree.order] = squared
    return rows, distances


def brute_neighbors(observation, k, transport=reference.GATES.transport):
    """The same from all pairs; pairs that fail a gate are infinitely far."""
    q = reference.squared_distances(observation.points, observation.whitening)
    limits = reference.GATES._replace(transport=transport)
    _, tame = reference.gates(observation.points, observation.whitening, 1e9, limits)
    np.fill_diagonal(tame, False)
    q = np.where(tame, q, np.inf)
    rows = np.argsort(q, axis=1, kind="stable")[:, :k]
    return rows, np.take_along_axis(q, rows, axis=1)


# --- neighbours ---------------------------------------------------------------------------------------------


# Above 16 measurements the tree searches a projection.
@pytest.mark.parametrize("bend", [0.1, 0.3])
@pytest.mark.parametrize(("dim", "m"), [(1, 1), (1, 3), (2, 2), (2, 5), (3, 6), (1, 40), (2, 20), (3, 20)])
def test_neighbors_equal_brute_force(dim, m, bend):
    n, k = 200 * min(dim, 2), 12 if m > 2 else 7
    observation = smooth_observation(n, dim, m, seed=3, bend=bend)
    rows, distances = found_neighbors(observation, k)
    expected_rows, expected = brute_neighbors(observation, k)
    np.testing.assert_array_equal(rows, expected_rows)
    np.testing.assert_allclose(distances, expected, rtol=1e-9)


@pytest.mark.parametrize(("dim", "m", "limit"), [(1, 3, 1.0005), (2, 5, 1.01), (2, 20, 1.05), (3, 6, 1.1), (4, 9, 1.2)])
def test_neighbors_by_another_limit_of_transports_equal_brute_force(dim, m, limit):
    observation = smooth_observation(300, dim, m, seed=3, bend=0.5)
    _, distances = found_neighbors(observation, 7, transport=limit)
    _, expected = brute_neighbors(observation, 7, limit)
    there = np.isfinite(distances)
    np.testing.assert_allclose(distances[there], expected[there], rtol=1e-9)
    usual = found_neighbors(observation, 7)[1]
    assert (distances[there] > usual[there] + 1e-12).sum() + (~there).sum() > 50
    with pytest.raises(ValueError, match="transport"):
        found_neighbors(observation, 7, transport=0.5)


def test_sharp_bends_leave_neighbors_out_but_never_out_of_order():
    observation = smooth_observation(500, 4, 8, seed=3, bend=0.6)
    _, distances = found_neighbors(observation, 12)
    _, expected = brute_neighbors(observation, 12)
    found = np.isfinite(distances)
    assert 0.5 < found.mean() < 1.0
    np.testing.assert_allclose(distances[found], expected[found], rtol=1e-9)
    assert (np.diff(found.astype(int), axis=1) <= 0).all()


@pytest.mark.parametrize("n", [2, 4, 8, 14, 20])
def test_neighbors_of_a_handful_of_samples_are_all_found(n):
    x = square(n, 3)
    observation = Observation.from_jacobians(x, np.broadcast_to(np.eye(3), (n, 3, 3)))
    k = min(12, n - 1)
    _, distances = found_neighbors(observation, k)
    expected = np.sort(((x[:, None] - x[None]) ** 2).sum(axis=2), axis=1)[:, 1 : k + 1]
    np.testing.assert_allclose(distances, expected, rtol=1e-9)


def test_neighbors_have_the_same_bits_for_any_number_of_threads():
    observation = smooth_observation(1500, 2, 20, seed=1)
    one, two = found_neighbors(observation, 12, 1), found_neighbors(observation, 12, 2)
    assert one[0].tobytes() == two[0].tobytes()
    assert one[1].tobytes() == two[1].tobytes()


def test_coincident_samples_are_not_each_others_neighbors():
    x = np.repeat(square(40), 3, axis=0)
    rows, distances = found_neighbors(Observation.from_jacobians(x, np.tile(np.eye(2), (120, 1, 1))), 6)
    squared = np.sort(((x[:, None] - x[None]) ** 2).sum(axis=2), axis=1)
    np.testing.assert_allclose(distances, squared[:, 3:9], rtol=1e-9)
    assert (rows // 3 != np.arange(120)[:, None] // 3).all()


# --- recovery -----------------------------------------------------------------------------------------------


def hole(n, seed=0):
    x = square(n, 2, seed) * [1.5, 1.0]
    return x[np.linalg.norm(x - [0.75, 0.5], axis=1) > 0.25]


DOMAINS = {
    "square": (square(4000), 5, 1e-3),
    "another square": (square(4000, seed=1), 5, 1e-3),
    "strip": (square(3000) * [1.0, 0.25], 5, 1e-3),
    "hole": (hole(4500), 5, 1e-3),
    "uneven density": (square(4000) ** 2, 5, 1e-3),
    "interval": (square(500, 1, 2), 3, 1e-3),
    "cube": (square(3000, 3), 7, 1e-2),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_recovers_the_inputs(name):
    x, m, tolerance = DOMAINS[name]
    fitted = IsometricEmbedding().fit(observe_at(x, smooth_map(x.shape[1], m, seed=0)))
    assert procrustes_error(fitted.embedding_, x) < tolerance
    assert fitted.converged_
    assert fitted.n_iter_ < 250
    assert fitted.stress_ < tolerance
    assert fitted.overlap_ < 0.01
    assert (fitted.misfit_ < 20 * tolerance).all()
    assert fitted.embedding_.shape == x.shape
    np.testing.assert_allclose(fitted.embedding_.mean(axis=0), 0.0, atol=1e-9)
    assert len(fitted.left_out_) == 0


def test_rotations_of_the_jacobians_change_nothing():
    x, measure, fitted = fitted_square()
    plain = IsometricEmbedding().fit(Observation.from_jacobians(*measure(x)))
    assert procrustes_error(plain.embedding_, fitted.embedding_) < 1e-6


@pytest.mark.parametrize("n", [200, 1000, 4000])
def test_a_circle_is_recovered_modulo_its_period(n):
    angle, observation = circle(n)
    fitted = IsometricEmbedding().fit(observation)
    assert fitted.periods_.shape == (1, 1)
    period = abs(fitted.periods_[0, 0])
    assert period == pytest.approx(2 * np.pi, rel=1e-3)
    assert fitted.stress_ < 2e-3
    assert fitted.overlap_ == 0.0
    assert (fitted.embedding_ * np.sign(fitted.periods_) >= 0).all()
    assert (np.abs(fitted.embedding_) <= period).all()
    # The angle up to a reflection and an offset, modulo the period.
    miss = min(
        np.abs(np.exp(1j * (turned := sign * fitted.embedding_ - angle)) - np.exp(1j * turned).mean()).max()
        for sign in (1, -1)
    )
    assert miss < 5e-3
    # New points, back and forth, also at the seam.
    y = ring_map(0.37 + 2 * np.pi * square(300, 1, seed=5))[0]
    located = fitted.transform(y)
    assert (np.abs(located) <= period).all()
    tolerance = 1e-2 if n == 200 else 1e-4
    np.testing.assert_allclose(fitted.inverse_transform(located), y, atol=tolerance)
    np.testing.assert_allclose(fitted.inverse_transform(located + fitted.periods_), y, atol=tolerance)


@pytest.mark.parametrize("domain", [domains.sphere, domains.moebius])
def test_domains_without_an_isometric_chart_are_named(domain):
    with pytest.warns(errors.DistortionWarning, match="no isometric chart: stress 0.*DiffusionMap.*add neurons"):
        fitted = IsometricEmbedding().fit(domain(1000)[1])
    assert fitted.stress_ > 0.05
    assert fitted.overlap_ > 0.1
    assert fitted.periods_.shape == (0, 2)


def test_flat_domains_have_no_periods():
    fitted = fitted_square()[2]
    assert fitted.periods_.shape == (0, 2)


def test_corrected_lengths_are_an_order_better():
    x, measure, fitted = fitted_square(4000)
    observation = observe_at(x, measure)
    graph = neighbor_graph(observation, 12, 1)
    rows = graph.rows
    true = np.linalg.norm(x[rows[graph.i]] - x[rows[graph.j]], axis=1)
    layout, gradients = fitted.embedding_[rows], fitted.jacobians_[rows]
    corrected = corrected_lengths(graph, layout, observation.points[rows], gradients)
    before, after = (np.sqrt(np.mean((lengths / true - 1) ** 2)) for lengths in (graph.lengths, corrected))
    assert after < 0.3 * before
    assert procrustes_error(fitted.embedding_, x) < 5e-5


def test_stress_and_misfit_are_what_they_say():
    observation = observe_at(fitted_square()[0], smooth_map(2, 5, 0))
    fitted = IsometricEmbedding().fit(observation)
    graph = unfold(observation, 12, 1).graph
    a, b, lengths = graph.rows[graph.i], graph.rows[graph.j], graph.lengths
    off = (np.linalg.norm(fitted.embedding_[a] - fitted.embedding_[b], axis=1) - lengths) ** 2
    assert fitted.stress_ == pytest.approx(np.sqrt(off.sum() / (lengths**2).sum()), rel=1e-6)
    ends, twice = np.r_[a, b], np.r_[off, off]
    misfit = np.sqrt(np.bincount(ends, twice) / np.bincount(ends, np.r_[lengths, lengths] ** 2))
    np.testing.assert_allclose(fitted.misfit_, misfit, rtol=1e-5)


def test_bursts_are_smoothed_and_recover_to_a_percent():
    x, measure = square(1000), smooth_map(2, 5, 0)
    noise = np.random.default_rng(9).normal(size=(1000, 100, 2))
    bursts = measure((x[:, None] + 0.01 * noise).reshape(-1, 2))[0].reshape(1000, 100, 5)
    observation = Observation.from_bursts(measure(x)[0], bursts, scale=0.01, dim=2)
    fitted = IsometricEmbedding().fit(observation)
    assert procrustes_error(fitted.embedding_, x) < 0.01
    again = IsometricEmbedding().fit(smoothed(observation))
    assert again.embedding_.tobytes() == fitted.embedding_.tobytes()
    # A chart of a match belongs to the smoothed observation: its derivatives are those of that metric.
    chart = isometric_chart(observation, None)
    assert chart.observation.source == "smoothed"
    turned = np.einsum("nmd,nme->nde", chart.observation.whitening, chart.embedding.jacobians_)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.tile(np.eye(2), (1000, 1, 1)), atol=1e-9)


def test_charts_of_a_match_leave_the_warning_to_its_diagnostics():
    chart = isometric_chart(domains.sphere(500)[1], None)
    assert chart.embedding.stress_ > 0.05


def test_jacobians_equal_finite_differences_of_the_true_map():
    x, measure, fitted = fitted_square(4000)
    rotation = motion(fitted.embedding_, x)[0]
    step = 1e-5
    # A step along recovered axis k is a step along row k of the motion in the inputs.
    true = np.stack([(measure(x + step * r)[0] - measure(x - step * r)[0]) / (2 * step) for r in rotation], axis=2)
    assert fitted.jacobians_.shape == true.shape
    assert np.linalg.norm(fitted.jacobians_ - true) < 1e-3 * np.linalg.norm(true)
    assert np.abs(fitted.jacobians_ - true).max() < 0.02 * np.abs(true).max()


# --- new points ---------------------------------------------------------------------------------------------


def test_transform_gives_samples_their_own_coordinates():
    x, measure, fitted = fitted_square(4000)
    assert np.abs(fitted.transform(measure(x)[0]) - fitted.embedding_).max() < 1e-4 * np.ptp(fitted.embedding_)
    x = square(500, 1)
    measure = smooth_map(1, 3, 0)
    fitted = IsometricEmbedding().fit(observe_at(x, measure))
    assert np.abs(fitted.transform(measure(x)[0]) - fitted.embedding_).max() < 1e-6 * np.ptp(fitted.embedding_)


def test_new_points_are_located_as_well_as_samples_and_back():
    x, measure, fitted = fitted_square()
    new = 0.01 + 0.98 * square(1000, seed=9)
    y = measure(new)[0]
    located = fitted.transform(y)
    there = motion(fitted.embedding_, x)
    miss = np.linalg.norm(apply(there, located) - new, axis=1)
    own = np.linalg.norm(apply(there, fitted.embedding_) - x, axis=1)
    # A linear step from the nearest sample would add 1e-4 to the mean and three times as much to the worst.
    assert np.sqrt((miss**2).mean()) < 1.1 * np.sqrt((own**2).mean())
    assert miss.max() < 1.2 * own.max()
    assert np.abs(fitted.inverse_transform(located) - y).max() < 1e-5 * np.ptp(y)
    again = fitted.transform(fitted.inverse_transform(located))
    np.testing.assert_allclose(again, located, atol=1e-5)


@pytest.mark.parametrize("outside", [[1.5, 0.5], [2.0, 2.0], [-0.6, 0.5], [5.0, 5.0]])
def test_points_outside_of_the_domain_are_named(outside):
    _, measure, fitted = fitted_square()
    y = np.vstack([measure(np.array([[0.5, 0.5]]))[0], measure(np.array([outside]))[0]])
    with pytest.warns(errors.OutOfDomainWarning, match=r"1 of 2 points .*row 1\)"):
        located = fitted.transform(y)
    assert np.isfinite(located).all()


@pytest.mark.parametrize("offset", [0.1, 1.0, 10.0])
def test_points_off_the_manifold_are_named(offset):
    x, measure, fitted = fitted_square()
    y, jacobians = measure(x[:3])
    normals = np.linalg.svd(jacobians)[0][:, :, 4]
    with pytest.warns(errors.OutOfDomainWarning, match="3 of 3 points lie off the measured manifold"):
        located = fitted.transform(y + offset * normals)
    if offset < 1:
        # The nearest point of the manifold is near where the normal started.
        np.testing.assert_allclose(located, fitted.embedding_[:3], atol=0.05)
