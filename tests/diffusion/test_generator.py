"""Eigenvalues of the generator: their definition, known spectra, and what is said of their errors."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation, errors, mahalanobis_kernel, reference
from scipy.integrate import quad
from scipy.special import erf
from support.samples import mushroom, smooth_observation, square

SQUARE = np.pi**2 * np.array([1, 1, 2, 4, 4, 5, 5, 8])


def deviations(fitted: DiffusionMap, expected) -> np.ndarray:
    return fitted.generator_eigenvalues_[1:] / expected - 1.0


# --- the definition ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["observation", "plain", "surface"])
def test_equals_its_definition(kind, alpha):
    bent = kind == "surface"
    if kind == "observation":
        data = smooth_observation(300, 2, 5, seed=1)
        frames = data.whitening
    else:
        data, frames = square(300, 2 if kind == "plain" else 3, seed=2), None
        if bent:
            data = data / np.linalg.norm(data, axis=1)[:, None]
    fitted = DiffusionMap(n_components=5, alpha=alpha, tol=1e-12).fit(data)
    points = fitted.kernel_.points
    k = fitted.kernel_.matrix.toarray()
    if bent:
        near = np.sqrt(k)[:, :, None] * (points[None] - points[:, None])
        frames = np.linalg.svd(near)[2][:, :2].transpose(0, 2, 1)
    u = reference.local_coordinates(points, frames, bent)
    expected = reference.generator_spectrum(k, u, fitted.epsilon_, fitted.embedding_, alpha)
    np.testing.assert_allclose(fitted.generator_eigenvalues_[1:], expected, rtol=1e-6)
    # The stated error is no less than what half of the bandwidth says.
    again = reference.generator_spectrum(k, u, fitted.epsilon_, fitted.embedding_, alpha, 2)
    assert np.all(fitted.generator_errors_[1:] >= 0.99 * np.abs(again - expected))


def test_constants_of_the_border_are_those_of_a_half_space():
    share = lambda b: 0.5 * (1.0 + erf(b / 2.0))  # noqa: E731
    near = lambda b: 0.5 / np.sqrt(np.pi) * np.exp(-(b**2) / 4.0)  # noqa: E731

    def drift(b):
        weight = lambda c: near(c - b) / share(c)  # noqa: E731
        total = quad(weight, 0, b + 14, epsabs=1e-10)[0]
        return (quad(lambda c: (c - b) * weight(c), 0, b + 14, epsabs=1e-10)[0] / total) ** 2

    assert drift(0.0) == pytest.approx(reference.DRIFT_AT_BORDER, abs=1e-3)
    assert quad(lambda b: 1 / share(b) - 1, 0, 14)[0] == pytest.approx(reference.BORDER_EXCESS, abs=1e-3)
    assert quad(lambda b: drift(b) / share(b), 0, 12, epsabs=1e-6)[0] == pytest.approx(reference.BORDER_DRIFT, abs=1e-3)


def test_plain_ones_stay():
    fitted = DiffusionMap(n_components=4).fit(square(700))
    np.testing.assert_array_equal(
        fitted.plain_generator_eigenvalues_, -np.log(np.minimum(fitted.eigenvalues_, 1.0)) / fitted.epsilon_
    )
    assert fitted.generator_eigenvalues_[0] == fitted.generator_errors_[0] == 0.0
    assert np.all(np.diff(fitted.generator_eigenvalues_) >= 0.0)


# --- known spectra ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("power", "within"), [(1, 0.005), (2, 0.05)])
def test_a_line_of_81_samples(power, within):
    x = 2.0 * np.pi * np.linspace(0.0, 1.0, 81)[:, None] ** power
    fitted = DiffusionMap().fit(x)
    assert np.abs(deviations(fitted, np.arange(1, 9) ** 2 / 4.0))[:4].max() < within
    for k in range(1, 5):
        correlation = np.corrcoef(fitted.generator_functions_[:, k - 1], np.cos(0.5 * k * x[:, 0]))[0, 1]
        assert abs(correlation) > (0.999 if power == 1 else 0.995)


def test_grid_on_a_rectangle():
    x, y = np.meshgrid(np.linspace(0, np.pi, 31), np.linspace(0, 2 * np.pi, 61))
    fitted = DiffusionMap().fit(np.column_stack([x.ravel(), y.ravel()]))
    expected = np.sort([i * i + 0.25 * j * j for i in range(4) for j in range(8)])[1:9]
    assert np.abs(deviations(fitted, expected)).max() < 0.02
    assert np.all(np.abs(fitted.generator_eigenvalues_[1:] - expected) < fitted.generator_errors_[1:])


def test_sphere_on_a_grid_of_angles():
    a, b = np.meshgrid(2 * np.pi * np.arange(60) / 60, np.pi * (np.arange(30) + 0.5) / 30)
    points = np.stack([np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), np.cos(b)], axis=-1).reshape(-1, 3)
    fitted = DiffusionMap(n_components=4).fit(points)
    assert np.abs(deviations(fitted, [2, 2, 2, 6])).max() < 0.05


@pytest.mark.parametrize("seed", [0, 1])
def test_square_seen_by_a_network(seed):
    fitted = DiffusionMap().fit(mushroom_observation(4000, seed))
    found = deviations(fitted, SQUARE)
    plain = fitted.plain_generator_eigenvalues_[1:] / SQUARE - 1.0
    assert np.abs(found).max() < 0.05
    assert abs(found.mean()) < 0.02
    assert abs(plain.mean()) > 0.08
    assert (np.abs(found) * SQUARE < fitted.generator_errors_[1:]).mean() > 0.8


def mushroom_observation(n, seed):
    return Observation.from_jacobians(*mushroom(square(n, 2, seed)))


@pytest.mark.parametrize(("alpha", "shift"), [(0.0, 4.0), (0.5, 1.0), (1.0, 0.0)])
def test_density_enters_as_alpha_says(alpha, shift):
    # Density exp(2 x) on [0, 1], at its quantiles: eigenvalues (2 (1 - alpha))^2 + (k pi)^2.
    x = 0.5 * np.log1p((np.arange(2000) + 0.5) / 2000 * np.expm1(2.0))[:, None]
    fitted = DiffusionMap(n_components=4, alpha=alpha).fit(x)
    assert np.abs(deviations(fitted, shift + (np.pi * np.arange(1, 5)) ** 2)).max() < 0.01


# --- bandwidth and limits ---------------------------------------------------------------------------------------


def test_the_order_of_rows_does_not_matter():
    data = smooth_observation(1500, 2, 5, seed=3)
    order = np.random.default_rng(0).permutation(1500)
    first, second = (DiffusionMap(n_components=3, tol=1e-11).fit(one) for one in (data, data[order]))
    np.testing.assert_allclose(second.epsilon_, first.epsilon_, rtol=1e-9)
    np.testing.assert_allclose(second.generator_eigenvalues_, first.generator_eigenvalues_, rtol=1e-6)


def test_bits_do_not_depend_on_threads():
    data = smooth_observation(1500, 2, 5, seed=3)
    one, two = (DiffusionMap(n_components=4, n_jobs=jobs).fit(data) for jobs in (1, 2))
    for name in ("epsilon_", "generator_eigenvalues_", "generator_errors_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_what_no_bandwidth_fits_is_said():
    points = np.random.default_rng(0).random((400, 7))
    with pytest.warns(errors.BandwidthWarning, match="no bandwidth fits: 400 samples are few in 7 dimensions"):
        fitted = DiffusionMap(n_components=3).fit(points)
    found, plain = (x[1:] for x in (fitted.generator_eigenvalues_, fitted.plain_generator_eigenvalues_))
    assert np.all(fitted.generator_errors_[1:] >= np.abs(found - plain))


def test_as_many_functions_as_samples_have_no_error():
    fitted = DiffusionMap(n_components=9).fit(square(10))
    assert np.all(np.isinf(fitted.generator_errors_[1:]) | (fitted.generator_errors_[1:] > 0.0))


def test_measurements_of_many_columns_have_the_spectrum_of_their_plane():
    x = square(800, 2, 1)
    turned = x @ np.linalg.qr(np.random.default_rng(2).normal(size=(40, 2)))[0].T
    flat, wide = (DiffusionMap(n_components=3, epsilon=2e-3).fit(one) for one in (x, turned))
    np.testing.assert_allclose(wide.generator_eigenvalues_, flat.generator_eigenvalues_, rtol=1e-6)
    assert mahalanobis_kernel(turned).epsilon == pytest.approx(mahalanobis_kernel(x).epsilon, rel=0.1)
