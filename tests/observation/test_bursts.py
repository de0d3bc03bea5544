"""Noise of burst covariances: its theory, shrinkage, smoothing, and the rounding of single precision."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import IsometricEmbedding, Observation, errors, reference
from diffeo.observation.burst_smoothing import _Metric, smoothed
from diffeo.observation.noise import rounding_of_lengths, single_precision
from diffeo.observation.shrinkage import marchenko_pastur_median, noise_variance, shrunken
from scipy.spatial import cKDTree
from support.samples import mushroom, random_orthogonal, smooth_map, square


def observed(x, measure, size, scale=0.005, noise=0.0, seed=0, **options):
    """Bursts of a map at x, and the Jacobians that they estimate."""
    rng = np.random.default_rng(seed)
    moved = x[:, None, :] + scale * rng.normal(size=(len(x), size, x.shape[1]))
    bursts = measure(moved.reshape(-1, x.shape[1]))[0].reshape(len(x), size, -1)
    y, jacobians = measure(x)
    bursts = bursts + noise * rng.normal(size=bursts.shape)
    return Observation.from_bursts(y, bursts, scale=scale, dim=x.shape[1], **options), jacobians


def metric_errors(observation, jacobians):
    """J^T W W^T J - 1, (n, d, d): zero for the true metric."""
    whitened = np.einsum("nmd,nme->nde", observation.whitening, jacobians)
    return np.einsum("nde,ndf->nef", whitened, whitened) - np.eye(jacobians.shape[2])


def recovery_error(found, x):
    p, q = found - found.mean(axis=0), x - x.mean(axis=0)
    u, _, vt = np.linalg.svd(p.T @ q)
    return np.linalg.norm(p @ (u @ vt) - q) / np.linalg.norm(q)


# --- theory: inverse Wishart ---


@pytest.mark.parametrize(("size", "dim"), [(12, 1), (12, 2), (20, 2), (40, 3)])
def test_squared_distances_have_the_mean_and_variance_of_inverse_wishart(size, dim):
    # a is (K - d - 2)/chi^2 with K - d degrees of freedom: mean 1, variance 2/(K - d - 4); q averages two of them.
    rng = np.random.default_rng(size * dim)
    n = 40_000
    jacobian = rng.normal(size=(4, dim)) + 2 * np.eye(4, dim)
    bursts = rng.normal(size=(n, size, dim)) @ jacobian.T
    observation = Observation.from_bursts(rng.normal(size=(n, 4)), bursts, dim=dim)
    offset = jacobian @ rng.normal(size=dim)
    true = offset @ np.linalg.pinv(jacobian @ jacobian.T) @ offset
    a = (np.einsum("nmd,m->nd", observation.whitening, offset) ** 2).sum(axis=1) / true
    assert abs(a.mean() - 1) < 5 * a.std() / np.sqrt(n)
    assert a.var() == pytest.approx(2 / (size - dim - 4), rel=0.15)
    q = 0.5 * (a[: n // 2] + a[n // 2 :])
    assert q.mean() == pytest.approx(1, abs=5 * q.std() / np.sqrt(n / 2))
    assert observation.length_noise == pytest.approx(0.5 * q.std(), rel=0.1)


@pytest.mark.parametrize("size", [5, 8, 40])
def test_degrees_of_freedom_are_those_of_the_burst(size):
    observation, jacobians = observed(square(60), mushroom, size)
    np.testing.assert_array_equal(observation.degrees_of_freedom, size - 1.0)
    exact = Observation.from_jacobians(observation.points, jacobians)
    assert np.all(np.isinf(exact.degrees_of_freedom))
    assert exact.length_noise < 1e-12
    given = Observation.from_covariances(observation.points, jacobians @ jacobians.transpose(0, 2, 1))
    assert np.all(np.isinf(given.degrees_of_freedom))


def test_edges_have_unbiased_lengths_unless_the_noise_chooses_them():
    x = square(1000)
    linear = np.random.default_rng(3).normal(size=(5, 2))
    raw, _ = observed(x, lambda at: (at @ linear.T, np.broadcast_to(linear, (len(at), 5, 2))), 20)
    true = ((x[:, None] - x) ** 2).sum(axis=2) + np.eye(1000)

    def mean_ratio(observation, near):
        q = reference.squared_distances(observation.points, observation.whitening) + np.eye(1000)
        ratio = q / true
        chosen = np.argsort(true if near == "true" else q, axis=1)[:, :8]
        return np.take_along_axis(ratio, chosen, axis=1).mean()

    assert mean_ratio(raw, "true") == pytest.approx(1.0, abs=0.02)
    assert mean_ratio(raw, "noisy") < 0.97
    assert mean_ratio(smoothed(raw), "noisy") == pytest.approx(1.0, abs=0.02)


# --- shrinkage ---


@pytest.mark.parametrize(("m", "members"), [(50, 400), (200, 300), (300, 150)])
def test_median_of_pure_noise(m, members):
    noise = np.random.default_rng(m).normal(size=(members, m))
    values = np.linalg.eigvalsh(noise.T @ noise / members)
    nonzero = np.sort(values)[-min(m, members) :]
    assert marchenko_pastur_median(m / members) == pytest.approx(np.median(nonzero), rel=0.03)


def spiked(m, members, spikes, level, seed=0):
    """Eigenvalues and eigenvectors of a sample covariance of spikes plus noise."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(m, len(spikes))))[0]
    data = (rng.normal(size=(members, len(spikes))) * np.sqrt(spikes)) @ frame.T + level * rng.normal(size=(members, m))
    values, vectors = np.linalg.eigh(data.T @ data / members)
    return values[::-1], vectors[:, ::-1], frame


@pytest.mark.slow
@pytest.mark.parametrize(("m", "members"), [(100, 1000), (400, 400), (600, 300)])
def test_shrinkage_finds_the_variance_of_the_signal(m, members):
    spikes, level = np.array([60.0, 25.0]), 1.5
    found, plain = [], []
    for seed in range(8):
        values = spiked(m, members, spikes, level, seed)[0]
        found.append(shrunken(values, m, members, level**2)[:3])
        plain.append(values[:2])
    np.testing.assert_allclose(np.mean(found, axis=0)[:2], spikes, rtol=0.08)
    # The eigenvalues themselves are lifted by the noise, by more than the test allows the shrunken ones to be off.
    assert np.all(np.mean(plain, axis=0)[1] > 1.1 * spikes[1])


def test_shrinkage_is_optimal_for_the_inverse():
    # Of all multiples of the inverse that it gives, it has the smallest operator norm of the error.
    m, members, level = 500, 500, 1.0
    total = dict.fromkeys((0.75, 1.0, 1.33), 0.0)
    for seed in range(4):
        values, vectors, frame = spiked(m, members, np.array([8.0]), level, seed)
        inverse = 1 / shrunken(values, m, members, level**2)[0]
        for factor in total:
            error = factor * inverse * np.outer(vectors[:, 0], vectors[:, 0]) - np.outer(frame[:, 0], frame[:, 0]) / 8.0
            total[factor] += np.linalg.norm(error, 2)
    assert min(total, key=total.get) == 1.0


def test_shrinkage_empties_the_bulk_and_keeps_the_order():
    values = spiked(40, 60, np.array([30.0]), 1.0)[0]
    kept = shrunken(values, 40, 60, 1.0)
    assert np.all(kept[1:][values[1:] <= (1 + np.sqrt(40 / 60)) ** 2] == 0.0)
    assert np.all(np.diff(kept) <= 0)
    np.testing.assert_array_equal(shrunken(values, 40, 60, 0.0), values)


@pytest.mark.parametrize(("m", "members"), [(5, 19), (12, 19), (40, 19)])
def test_noise_level_from_small_eigenvalues(m, members):
    rng = np.random.default_rng(m)
    jacobian = 4 * rng.normal(size=(m, 2))
    data = rng.normal(size=(2000, members, 2)) @ jacobian.T + 0.3 * rng.normal(size=(2000, members, m))
    values = np.linalg.eigvalsh(data.transpose(0, 2, 1) @ data / members)[:, ::-1]
    assert np.sqrt(noise_variance(values, m, members, 2)) == pytest.approx(0.3, rel=0.05)


@pytest.mark.parametrize("shrinkage", ["optimal", 0.3 * 0.005])
def test_shrinkage_takes_the_bias_of_noisy_members_out_of_the_metric(shrinkage):
    x, measure = square(2000), smooth_map(2, 8, seed=1)
    plain, jacobians = observed(x, measure, 30, noise=0.3 * 0.005)
    observation, _ = observed(x, measure, 30, noise=0.3 * 0.005, shrinkage=shrinkage)
    bias, biased = (np.linalg.norm(metric_errors(o, jacobians).mean(axis=0)) for o in (observation, plain))
    assert bias < 0.025 < 0.05 < biased
    # The correction for inverting a sample covariance is still in it.
    np.testing.assert_allclose(observation.degrees_of_freedom, 29, rtol=1e-9)


def test_shrinkage_without_noise_changes_little():
    x, measure = square(500), smooth_map(2, 6, seed=1)
    plain, _ = observed(x, measure, 20, scale=1e-4)
    shrunk, _ = observed(x, measure, 20, scale=1e-4, shrinkage="optimal")
    np.testing.assert_allclose(shrunk.singular_values[:, :2], plain.singular_values[:, :2], rtol=1e-4)
    same, _ = observed(x, measure, 20, scale=1e-4, shrinkage=0.0)
    np.testing.assert_array_equal(same.whitening, plain.whitening)


@pytest.mark.parametrize("shrinkage", ["best", -1.0, np.nan, [0.1], True])
def test_shrinkage_that_means_nothing(shrinkage):
    with pytest.raises((errors.ParameterError, errors.DataTypeError), match="shrinkage must be"):
        observed(square(50), mushroom, 10, shrinkage=shrinkage)


def test_shrinkage_that_cannot_be():
    with pytest.raises(errors.RankError, match="leaves no eigenvalue"):
        observed(square(50), mushroom, 10, shrinkage="optimal")
    with pytest.raises(errors.RankError, match="explained by noise"):
        observed(square(50), mushroom, 10, shrinkage=1e3)


# --- smoothing ---


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_smoothing_takes_most_of_the_noise_out(dim):
    x = square(2000, dim, seed=dim)
    raw, jacobians = observed(x, smooth_map(dim, 2 * dim + 1, seed=2), 20)
    smooth = smoothed(raw)
    before, after = (np.sqrt((metric_errors(o, jacobians) ** 2).mean()) for o in (raw, smooth))
    assert after < 0.3 * before
    assert np.abs(metric_errors(smooth, jacobians).mean(axis=0)).max() < 0.03
    assert smooth.source == "smoothed"
    assert smooth.length_noise < 0.3 * raw.length_noise
    np.testing.assert_array_equal(smooth.points, raw.points)
    assert np.all(np.diff(smooth.singular_values, axis=1) <= 0)


def test_degrees_of_freedom_after_smoothing_predict_the_noise():
    # One-sided squared distances by nu degrees of freedom have the variance 2/(nu - d - 3).
    x = square(3000)
    linear = np.random.default_rng(0).normal(size=(5, 2))
    raw, jacobians = observed(x, lambda at: (at @ linear.T, np.broadcast_to(linear, (len(at), 5, 2))), 20)
    smooth = smoothed(raw, n_neighbors=32)
    expected = np.sqrt(np.median(2 / (smooth.degrees_of_freedom - 5)))
    assert metric_errors(smooth, jacobians)[:, 0, 0].std() == pytest.approx(expected, rel=0.15)


def test_smoothing_does_not_see_the_gauge():
    raw, _ = observed(square(400), smooth_map(2, 5, seed=4), 20)
    turned = replace(raw, whitening=raw.whitening * np.array([1.0, -1.0]))
    a, b = smoothed(raw).whitening, smoothed(turned).whitening
    np.testing.assert_allclose(a @ a.transpose(0, 2, 1), b @ b.transpose(0, 2, 1), rtol=1e-9, atol=1e-9)


def test_smoothing_moves_with_the_measurements():
    raw, _ = observed(square(400), smooth_map(2, 5, seed=4), 20)
    turn = random_orthogonal(1, 5, seed=1)[0]
    moved = replace(raw, points=raw.points @ turn.T + 3.0, whitening=turn @ raw.whitening)
    a, b = turn @ smoothed(raw).whitening, smoothed(moved).whitening
    np.testing.assert_allclose(a @ a.transpose(0, 2, 1), b @ b.transpose(0, 2, 1), rtol=1e-7, atol=1e-7)


def test_smoothing_leaves_what_is_not_noise():
    x, measure = square(800), smooth_map(2, 5, seed=3)
    y, jacobians = measure(x)
    exact = Observation.from_jacobians(y, jacobians)
    assert smoothed(exact) is exact
    few, _ = observed(x[:15], measure, 20)
    assert smoothed(few) is few
    # Asked for, it changes exact metrics by their curvature over the neighbourhood only.
    error = np.abs(metric_errors(smoothed(exact, n_neighbors=16), jacobians))
    assert np.median(error) < 0.01


def test_deficient_samples_take_no_part():
    raw, _ = observed(square(2000), smooth_map(2, 5, seed=4), 20)
    whitening = raw.whitening.copy()
    whitening[[7, 200]] = 0.0
    holed = replace(raw, whitening=whitening, deficient=np.array([7, 200]))
    smooth = smoothed(holed, n_neighbors=8)
    np.testing.assert_array_equal(smooth.deficient, [7, 200])
    assert np.isfinite(smooth.whitening).all()
    assert np.abs(smooth.whitening[[7, 200]]).max() == 0.0
    with_all = smoothed(raw, n_neighbors=8).whitening
    far = np.linalg.norm(raw.points - raw.points[7], axis=1) > 1.5
    far &= np.linalg.norm(raw.points - raw.points[200], axis=1) > 1.5
    assert far.sum() > 250
    np.testing.assert_allclose(np.abs(smooth.whitening[far]), np.abs(with_all[far]), rtol=1e-6, atol=1e-9)


def test_smoothing_follows_metrics_that_vary():
    # The squared stretch grows sixteenfold; a plain average would be off by a tenth at both ends.
    x = np.linspace(0, 1, 600)[:, None]
    y = np.column_stack([x + 1.5 * x**2, 0.2 * x])
    jacobians = np.stack([1 + 3 * x, np.full_like(x, 0.2)], axis=1)
    smooth = smoothed(Observation.from_jacobians(y, jacobians), n_neighbors=64)
    assert np.abs(metric_errors(smooth, jacobians)).max() < 0.02


def test_smoothing_transports_frames_around_bends():
    # On a circle tangents turn by up to 0.8 within a neighbourhood, while the stretch is 2 everywhere.
    angle = np.arange(60) * 2 * np.pi / 60
    y = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    jacobians = 2 * np.stack([-np.sin(angle), np.cos(angle)], axis=1)[:, :, None]
    smooth = smoothed(Observation.from_jacobians(y, jacobians), n_neighbors=15)
    assert np.abs(metric_errors(smooth, jacobians)).max() < 0.01


def test_sheets_that_pass_each_other_are_not_mixed():
    # Two lines of stretch 3 and 1/2 that cross at 70 degrees with a gap of 0.02: around the crossing, most of the
    # nearest samples are of the other line.
    t = np.linspace(-0.5, 0.5, 600)[:, None]
    other = np.array([np.cos(1.2), np.sin(1.2), 0.0])
    y = np.vstack([3 * t * [1.0, 0.0, 0.0], 0.5 * t * other + [0.0, 0.0, 0.02]])
    jacobians = np.vstack([np.tile([3.0, 0.0, 0.0], (600, 1)), np.tile(0.5 * other, (600, 1))])[:, :, None]
    metric = _Metric(Observation.from_jacobians(y, jacobians, dim=1))
    distances, neighbors = cKDTree(y).query(y, 32)
    assert (neighbors[300] >= 600).sum() > 16
    fitted, _ = metric.fit_all(neighbors, distances)
    np.testing.assert_allclose(fitted[:600], 9.0, rtol=1e-6)
    np.testing.assert_allclose(fitted[600:], 0.25, rtol=1e-6)


def test_bursts_of_twenty_recover_the_input():
    x, measure = square(1500), smooth_map(2, 5, seed=1)
    raw, _ = observed(x, measure, 20)
    fitted = IsometricEmbedding().fit(smoothed(raw))
    assert recovery_error(fitted.embedding_, x) < 0.015
    # What is left of the noise shows in the stress, and no more than that.
    assert 0.1 * smoothed(raw).length_noise < fitted.stress_ < smoothed(raw).length_noise


@pytest.mark.parametrize("n_neighbors", [0, 2.5, "many"])
def test_neighbourhoods_that_mean_nothing(n_neighbors):
    raw, _ = observed(square(100), mushroom, 20)
    with pytest.raises(errors.ParameterError, match="n_neighbors"):
        smoothed(raw, n_neighbors=n_neighbors)


# --- single precision ---


def test_precision_is_recognised():
    x = square(100)
    assert not single_precision(x)
    assert single_precision(x.astype(np.float32).astype(np.float64))
    assert not single_precision(np.arange(10.0)), "whole numbers tell nothing"
    assert not single_precision(x * 1e-300)
    y, jacobians = mushroom(x)
    assert Observation.from_jacobians(y, jacobians).precision == "double"
    assert Observation.from_jacobians(y.astype(np.float32), jacobians).precision == "single"
    assert Observation.from_jacobians(y.astype(np.float32).astype(np.float64), jacobians).precision == "single"


@pytest.mark.parametrize("side", [1.0, 1e-3])
def test_rounding_blurs_lengths_as_predicted(side):
    x = 0.5 + side * square(2000)
    y, jacobians = smooth_map(2, 5, seed=6)(x)
    exact = Observation.from_jacobians(y, jacobians)
    rounded = replace(exact, points=y.astype(np.float32).astype(np.float64), precision="single")
    predicted = rounding_of_lengths(rounded.points, rounded.whitening, "single")
    assert rounded.length_noise == pytest.approx(predicted)
    assert rounding_of_lengths(y, exact.whitening, "double") < 1e-6 * predicted

    def lengths(o):
        near = np.argsort(np.linalg.norm(x - x[:300, None], axis=2), axis=1)[:, 1:9]
        offset = o.points[near] - o.points[:300, None]
        return np.linalg.norm(np.einsum("nkm,nmd->nkd", offset, o.whitening[:300]), axis=2)

    error = lengths(rounded) / lengths(exact) - 1
    # Rounding to the nearest is 0.3 units at most; networks add several such roundings, which the constant counts.
    assert 0.1 * predicted < np.sqrt(np.mean(error**2)) < predicted


def test_bursts_in_single_precision_do_not_invent_dimensions():
    # A scale at which the rounding of the members is a tenth of their spread.
    x = square(400)
    measure = smooth_map(1, 5, seed=2)
    at = x[:, :1]
    y = measure(at)[0] + 100.0
    moved = at[:, None, :] + 1e-4 * np.random.default_rng(0).normal(size=(400, 20, 1))
    bursts = measure(moved.reshape(-1, 1))[0].reshape(400, 20, 5) + 100.0
    single = Observation.from_bursts(y.astype(np.float32), bursts.astype(np.float32), scale=1e-4)
    assert single.dim == 1


def test_covariances_in_single_precision():
    x, measure = square(300), smooth_map(2, 5, seed=5)
    y, jacobians = measure(x)
    single = jacobians.astype(np.float32)
    observation = Observation.from_covariances(y, single @ single.transpose(0, 2, 1))
    assert observation.dim == 2
    exact = Observation.from_jacobians(y, jacobians)
    np.testing.assert_allclose(observation.singular_values[:, :2], exact.singular_values, rtol=1e-3)


def test_networks_in_single_precision():
    torch = pytest.importorskip("torch")
    from diffeo import observe

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 6), torch.nn.Tanh())
    x = square(400).astype(np.float32)
    observation = observe(model, x, dim=2)
    assert observation.precision == "single"
    assert observation.points.dtype == np.float64
    assert 1e-8 < observation.length_noise < 1e-4
    # Samples so near to each other that the network can hardly tell them apart.
    with pytest.warns(errors.DiffeoWarning, match=r"single precision blurs .* by [\d.]+ %"):
        observe(model, (0.5 + 1e-5 * x).astype(np.float32), dim=2)
    double = observe(model.double(), 0.5 + 1e-5 * x.astype(np.float64), dim=2)
    assert double.precision == "double"
    assert double.length_noise < 1e-6
    with pytest.raises(errors.ParameterError, match="shrinkage is for"):
        observe(model, square(50), shrinkage="optimal")
