"""The Gaussian process against scikit-learn's, its closed forms against doing what they abbreviate."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.matching.gaussian_process import explained, fit_process, kernel_factor, negative_log_posterior, sections
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from support.samples import smooth_map, square


def data(count, seed=0):
    x = square(count, seed=seed)
    return smooth_map(2, 3, 1)(x)[0], smooth_map(2, 2, 2)(x)[0]


def posterior(process, queries):
    kernel = sections(queries, process.inputs, process.inverse_scales, process.amplitude)
    factor = kernel_factor(process.inputs, process.inverse_scales, process.amplitude, process.noise)
    left = process.amplitude + process.noise - explained(factor, kernel)
    return process.offset + kernel @ process.dual, left[:, None] * process.spread**2


def as_scikit_learn(process, targets):
    kernel = ConstantKernel(process.amplitude) * RBF(1.0 / process.inverse_scales) + WhiteKernel(process.noise)
    model = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0, normalize_y=True)
    return model.fit(process.inputs, targets)


def test_posterior_and_likelihood_are_those_of_scikit_learn():
    z, targets = data(40)
    process = fit_process(z, targets)
    model = as_scikit_learn(process, targets)
    queries = data(25, seed=5)[0]
    mean, deviation = model.predict(queries, return_std=True)
    found, variance = posterior(process, queries)
    np.testing.assert_allclose(found, mean, rtol=0, atol=1e-6)
    # What is left of the variance is the small difference of two large numbers.
    np.testing.assert_allclose(variance, deviation**2, rtol=1e-2, atol=1e-3 * variance.max())

    standard = (targets - targets.mean(axis=0)) / targets.std(axis=0)
    values = []
    for noise in (1e-3, 1e-5):
        kernel = ConstantKernel(2.0) * RBF([1.0, 2.0, 0.5]) + WhiteKernel(noise)
        peer = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(z, standard)
        theta = np.log([2.0, 1.0, 0.5, 2.0, noise])
        values.append(
            [negative_log_posterior(theta, z, standard)[0] * standard.size, -peer.log_marginal_likelihood_value_]
        )
    # Equal up to a constant: the prior is the same for both.
    np.testing.assert_allclose(np.diff(values, axis=0)[0, 0], np.diff(values, axis=0)[0, 1], rtol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_gradient(seed):
    z, targets = data(20)
    rng = np.random.default_rng(seed)
    theta = np.array([rng.normal(), *rng.normal(size=3), -4.0 + rng.normal()])
    gap = check_grad(
        lambda t: negative_log_posterior(t, z, targets)[0], lambda t: negative_log_posterior(t, z, targets)[1], theta
    )
    assert gap < 1e-5 * np.linalg.norm(negative_log_posterior(theta, z, targets)[1])


def test_left_out_residuals_are_those_of_leaving_out():
    z, targets = data(15)
    process = fit_process(z, targets)
    misses, variances = process.left_out()
    standard = (targets - process.offset) / process.spread
    for i in range(15):
        rest = np.arange(15) != i
        factor = kernel_factor(z[rest], process.inverse_scales, process.amplitude, process.noise)
        kernel = sections(z[[i]], z[rest], process.inverse_scales, process.amplitude)
        covariance = factor @ factor.T
        predicted = kernel @ np.linalg.solve(covariance, standard[rest])
        left = process.amplitude + process.noise - explained(factor, kernel)
        scale = np.abs(misses).max()
        np.testing.assert_allclose((standard[[i]] - predicted) * process.spread, misses[[i]], atol=1e-4 * scale)
        np.testing.assert_allclose(left[:, None] * process.spread**2, variances[[i]], rtol=1e-3)


def test_the_search_is_at_least_as_good_as_that_of_scikit_learn():
    z, targets = data(60)
    found, _ = posterior(fit_process(z, targets), data(200, seed=9)[0])
    prior = ConstantKernel(1.0, (1e-3, 1e5)) * RBF(np.ones(3), (1e-2, 1e3)) + WhiteKernel(1e-4, (1e-12, 1e-1))
    peer = GaussianProcessRegressor(prior, normalize_y=True, alpha=0.0).fit(z, targets)
    true = data(200, seed=9)[1]
    assert np.linalg.norm(found - true) < 1.5 * np.linalg.norm(peer.predict(data(200, seed=9)[0]) - true)


def test_units_do_not_matter():
    z, targets = data(30)
    unit, shift = np.array([1e6, 1.0, 1e-6]), np.array([1e6, -3.0, 0.0])
    process, moved = fit_process(z, targets), fit_process(z * unit + shift, 1e-8 * targets)
    queries = data(10, seed=4)[0]
    assert np.abs(posterior(moved, queries * unit + shift)[0] - 1e-8 * posterior(process, queries)[0]).max() < 1e-12


def test_equal_arguments_give_equal_bits():
    z, targets = data(30)
    np.testing.assert_array_equal(fit_process(z, targets).dual, fit_process(z, targets).dual)


@pytest.mark.parametrize(
    ("z", "targets"),
    [
        (np.ones((6, 2)), np.arange(12.0).reshape(6, 2)),
        (np.repeat(np.arange(6.0).reshape(3, 2), 4, axis=0), np.repeat(np.arange(6.0).reshape(3, 2), 4, axis=0)),
        (np.arange(12.0).reshape(6, 2), np.ones((6, 2))),
        (np.ones((1, 2)), np.ones((1, 3))),
        (np.array([[0.0], [1e-9], [1.0]]), np.array([[0.0], [1.0], [0.0]])),
    ],
    ids=["coincident", "repeated", "constant targets", "single", "contradictory"],
)
def test_degenerate_data_give_finite_processes(z, targets):
    process = fit_process(z, targets)
    mean, variance = posterior(process, z)
    assert np.isfinite(mean).all()
    assert np.isfinite(variance).all()
    assert np.isfinite(process.left_out()).all()
