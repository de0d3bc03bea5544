"""Isometric coordinates: the neighbours they rest on, what they recover, and what they refuse."""

from __future__ import annotations

import functools
import warnings

import domains
import numpy as np
import pytest
from conftest import random_orthogonal, smooth_map, smooth_observation, square
from diffeo import IsometricEmbedding, Observation, errors, reference
from diffeo.charts import isometric_chart
from diffeo.frames import corrected_lengths
from diffeo.graph import neighbor_graph
from diffeo.kernel import build_tree
from diffeo.smoothing import smoothed
from diffeo.unfolding import unfold
from scipy.spatial.distance import pdist


def motion(found, true):
    """The orthogonal matrix and the centres that carry recovered coordinates to true ones."""
    u, _, vt = np.linalg.svd((found - found.mean(axis=0)).T @ (true - true.mean(axis=0)))
    return u @ vt, found.mean(axis=0), true.mean(axis=0)


def apply(moved, coordinates):
    rotation, here, there = moved
    return (coordinates - here) @ rotation + there


def procrustes_error(found, true):
    """Root-mean-square distance after the best rigid motion, relative to the spread of the truth."""
    miss = apply(motion(found, true), found) - true
    return np.linalg.norm(miss) / np.linalg.norm(true - true.mean(axis=0))


def observe_at(x, measure):
    """An observation whose every Jacobian is turned by a rotation of its own."""
    y, jacobians = measure(x)
    turned = jacobians @ random_orthogonal(len(x), x.shape[1], seed=11)
    return Observation.from_jacobians(y, np.ascontiguousarray(turned), dim=x.shape[1])


def ring_map(angle, seed=0):
    """A circle of radius 1 seen by five smooth measurements, with Jacobians by arc length."""
    ring = np.hstack([np.cos(angle), np.sin(angle)])
    along = np.hstack([-np.sin(angle), np.cos(angle)])[:, :, None]
    y, jacobians = smooth_map(2, 5, seed=seed, bend=0.2)(ring)
    return y, jacobians @ along


def circle(n, seed=0):
    angle = 2 * np.pi * square(n, 1, seed)
    return angle, Observation.from_jacobians(*ring_map(angle, seed))


@functools.cache
def fitted_square(n=2000, seed=0):
    """Inputs, map, and fitted embedding of the unit square seen by five measurements."""
    x, measure = square(n, 2, seed), smooth_map(2, 5, seed)
    return x, measure, IsometricEmbedding().fit(observe_at(x, measure))


def found_neighbors(observation, k, threads=1):
    """Neighbours and squared distances, in the caller's rows."""
    tree = build_tree(observation, threads)
    neighbors, squared = tree.nearest_neighbors(k, threads)
    rows, distances = np.full(neighbors.shape, -1), np.empty_like(squared)
    rows[tree.order] = np.where(neighbors >= 0, tree.order[neighbors], -1)
    distances[tree.order] = squared
    return rows, distances


def brute_neighbors(observation, k):
    """The same from all pairs; pairs that fail a gate are infinitely far."""
    q = reference.squared_distances(observation.points, observation.whitening)
    _, tame = reference.gates(observation.points, observation.whitening, 1e9)
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
    chart = isometric_chart(observation, "A", None)
    assert chart.observation.source == "smoothed"
    turned = np.einsum("nmd,nme->nde", chart.observation.whitening, chart.embedding.jacobians_)
    np.testing.assert_allclose(turned @ turned.transpose(0, 2, 1), np.tile(np.eye(2), (1000, 1, 1)), atol=1e-9)


def test_charts_of_a_match_leave_the_warning_to_its_diagnostics():
    chart = isometric_chart(domains.sphere(500)[1], "A", None)
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


# --- samples that do not fit --------------------------------------------------------------------------------


def test_deficient_samples_are_placed():
    x, measure = square(1500), smooth_map(2, 5, 0)
    y, jacobians = measure(x)
    lost = [3, 700, 1400]
    jacobians[lost] = 0.0
    with pytest.warns(errors.RankWarning):
        observation = Observation.from_jacobians(y, jacobians)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_array_equal(fitted.left_out_, lost)
    np.testing.assert_array_equal(fitted.misfit_[lost], np.inf)
    assert np.isfinite(np.delete(fitted.misfit_, lost)).all()
    kept = np.delete(np.arange(1500), lost)
    there = motion(fitted.embedding_[kept], x[kept])
    assert np.abs(apply(there, fitted.embedding_) - x).max() < 5e-3
    np.testing.assert_array_equal(fitted.jacobians_[lost], 0.0)


def pieces(n, apart):
    """A square whose last `apart` samples lie elsewhere with tangents that the others do not have."""
    x = square(n)
    y, jacobians = smooth_map(2, 5, 0)(x)
    y, jacobians = np.pad(y, ((0, 0), (0, 5))), np.pad(jacobians, ((0, 0), (0, 5), (0, 0)))
    y[-apart:], jacobians[-apart:] = (
        np.roll(y[-apart:], 5, axis=1) + 9.0,
        np.roll(jacobians[-apart:], 5, axis=1),
    )
    return x, Observation.from_jacobians(y, jacobians)


def test_pieces_of_an_observation_are_an_error_with_their_sizes():
    with pytest.raises(errors.DisconnectedError, match="2 pieces of 600, 400 samples"):
        IsometricEmbedding().fit(pieces(1000, 400)[1])


def test_a_few_strays_are_left_out():
    x, observation = pieces(2000, 13)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_array_equal(fitted.left_out_, np.arange(1987, 2000))
    assert procrustes_error(fitted.embedding_[:1987], x[:1987]) < 1e-3
    assert np.isfinite(fitted.embedding_).all()


def test_a_few_far_samples_cost_the_others_nothing():
    x = square(2000)
    x[:5] = 8.0 + 0.01 * x[:5]
    fitted = IsometricEmbedding().fit(observe_at(x, smooth_map(2, 5, 0, bend=0.1)))
    assert procrustes_error(fitted.embedding_[5:], x[5:]) < 1e-3


@pytest.mark.filterwarnings("ignore::diffeo.errors.DuplicateWarning")
@pytest.mark.parametrize("copies", [6, 30])
def test_twins_do_no_harm(copies):
    # 30 copies are more than a neighbourhood holds, and must not untie the samples around them.
    x = np.vstack([square(800), square(60), np.repeat(square(1, seed=5), copies, axis=0)])
    measure = smooth_map(2, 5, 0)
    fitted = IsometricEmbedding().fit(observe_at(x, measure))
    miss = np.linalg.norm(apply(motion(fitted.embedding_, x), fitted.embedding_) - x, axis=1)
    assert miss.max() < 3e-3
    np.testing.assert_allclose(fitted.embedding_[:60], fitted.embedding_[800:860], atol=1e-3)
    assert np.isfinite(fitted.jacobians_).all()
    np.testing.assert_allclose(fitted.transform(measure(x)[0]), fitted.embedding_, atol=2e-3)


def test_repeats_are_named_and_placed_together():
    x = np.repeat(square(400), 3, axis=0)
    with pytest.warns(errors.DuplicateWarning, match="800 samples repeat"):
        fitted = IsometricEmbedding().fit(Observation.from_jacobians(*smooth_map(2, 5, 0)(x)))
    assert np.ptp(fitted.embedding_.reshape(400, 3, 2), axis=1).max() < 1e-3
    assert procrustes_error(fitted.embedding_, x) < 3e-3
    with pytest.warns(errors.DuplicateWarning), pytest.raises(errors.SampleSizeError):
        IsometricEmbedding().fit(np.ones((10, 2)))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_a_handful_of_samples(n, dim):
    # All pairs are edges of exact length, which leave nothing open but a motion.
    x = square(n, dim, seed=n)
    linear = np.random.default_rng(1).normal(size=(dim + 2, dim))
    observation = Observation.from_jacobians(x @ linear.T, np.broadcast_to(linear, (n, dim + 2, dim)), dim=dim)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_allclose(pdist(fitted.embedding_), pdist(x), atol=1e-4)
    assert np.isfinite(fitted.jacobians_).all()
    assert np.isfinite(fitted.inverse_transform(fitted.embedding_)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        assert np.isfinite(fitted.transform(observation)).all()


def test_bits_depend_on_neither_threads_nor_the_run():
    observation = smooth_observation(1500, 2, 5, seed=2)
    y = observation.points[:100] + 1e-3
    fits = [IsometricEmbedding(n_jobs=n_jobs).fit(observation) for n_jobs in (1, 2, 1, None)]
    for fitted in fits[1:]:
        for name in ("embedding_", "jacobians_", "misfit_", "stress_"):
            assert np.asarray(getattr(fitted, name)).tobytes() == np.asarray(getattr(fits[0], name)).tobytes()
        assert fitted._chart.locate(y, 2).coordinates.tobytes() == fits[0]._chart.locate(y, 1).coordinates.tobytes()


# --- plain arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_an_array_is_its_own_chart(dim):
    x = square(600, dim)
    fitted = IsometricEmbedding().fit(x)
    assert procrustes_error(fitted.embedding_, x) < 1e-5
    assert fitted.stress_ < 1e-5
    np.testing.assert_allclose(fitted.transform(x), fitted.embedding_, atol=1e-5)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.embedding_), x, atol=1e-5)
    np.testing.assert_array_equal(IsometricEmbedding().fit_transform(x), fitted.embedding_)


def test_pieces_of_an_array_are_joined_with_a_warning():
    x = np.vstack([square(600), square(400, seed=1)])
    x[600:, 0] += 1e3
    with pytest.warns(errors.DisconnectedWarning, match="2 pieces of 600, 400 samples"):
        fitted = IsometricEmbedding().fit(x)
    # Each piece keeps its shape, whatever the joint allows.
    for part in (slice(0, 600), slice(600, 1000)):
        assert procrustes_error(fitted.embedding_[part], x[part]) < 1e-3
    centres = [fitted.embedding_[:600].mean(axis=0), fitted.embedding_[600:].mean(axis=0)]
    assert np.linalg.norm(centres[0] - centres[1]) == pytest.approx(1e3, rel=2e-3)
    np.testing.assert_allclose(fitted.transform(x), fitted.embedding_, atol=1e-3)


@pytest.mark.parametrize("n_neighbors", [0, -1, 1.5, True, "12", None])
def test_numbers_of_neighbors_that_do_not_exist(n_neighbors):
    with pytest.raises(errors.ParameterError, match="n_neighbors"):
        IsometricEmbedding(n_neighbors=n_neighbors).fit(square(50))


@pytest.mark.parametrize(
    "data", [np.full((9, 2), np.nan), np.ones(9), np.ones((1, 3)), np.ones((9, 2, 2)), [["a"]] * 9]
)
def test_data_that_cannot_be_used(data):
    fitted = fitted_square()[2]
    for use in (IsometricEmbedding().fit, fitted.transform, fitted.inverse_transform):
        with pytest.raises(errors.DiffeoError):
            use(data)
