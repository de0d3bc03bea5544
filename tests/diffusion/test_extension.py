"""The extension of a diffusion map to new points, and of rank-deficient samples."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation, errors, reference
from support.samples import dense_operator, smooth_map, smooth_observation, square


@pytest.mark.parametrize("n", [400, 1500])
def test_samples_of_the_fit_keep_their_embedding(n):
    observation = smooth_observation(n, 2, 5, seed=1)
    fitted = DiffusionMap(n_components=5).fit(observation)
    np.testing.assert_allclose(fitted.transform(observation), fitted.embedding_, atol=1e-6)
    plain = DiffusionMap(n_components=5).fit(observation.points)
    np.testing.assert_allclose(plain.transform(observation.points), plain.embedding_, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_plain_points_are_extended_as_in_the_reference(alpha):
    measure = smooth_map(2, 5, seed=3)
    y, jacobians = measure(square(1000, seed=4))
    observation = Observation.from_jacobians(y, jacobians)
    fitted = DiffusionMap(n_components=4, alpha=alpha).fit(observation)
    new = measure(square(150, seed=5))[0]
    density, _, _ = dense_operator(fitted, alpha)
    expected = reference.extension(
        new,
        y,
        observation.whitening,
        fitted.epsilon_,
        density**-alpha,
        fitted.embedding_,
        fitted.eigenvalues_[1:],
    )
    np.testing.assert_allclose(fitted.transform(new), expected, rtol=1e-9, atol=1e-10)


def test_extension_agrees_with_fitting_the_new_points_too():
    measure = smooth_map(2, 5, seed=3)
    x = square(4000, seed=4) * [1.0, 0.7]
    y, jacobians = measure(x)
    joint = DiffusionMap(n_components=2, epsilon=1.5e-3).fit(Observation.from_jacobians(y, jacobians)).embedding_[3800:]
    fitted = DiffusionMap(n_components=2, epsilon=1.5e-3).fit(Observation.from_jacobians(y[:3800], jacobians[:3800]))
    two_sided = fitted.transform(Observation.from_jacobians(y[3800:], jacobians[3800:]))
    assert np.abs(fitted.transform(y[3800:]) - joint).max() < 0.06
    assert np.abs(two_sided - joint).max() < 0.06


def test_points_out_of_the_domain_are_named():
    measure = smooth_map(2, 5, seed=3)
    y, jacobians = measure(square(800, seed=4))
    fitted = DiffusionMap(n_components=3).fit(Observation.from_jacobians(y, jacobians))
    new = y[:10].copy()
    new[[2, 7]] += 50.0
    with pytest.warns(errors.OutOfDomainWarning, match=r"2 of 10 points .*rows 2, 7; no sample is within"):
        placed = fitted.transform(new)
    assert np.isfinite(placed).all()
    nearest = [np.argmin(np.linalg.norm(y - new[row], axis=1)) for row in (2, 7)]
    np.testing.assert_array_equal(placed[[2, 7]], fitted.embedding_[nearest])


def test_rows_out_of_the_domain_are_those_of_the_caller():
    measure = smooth_map(2, 5, seed=3)
    fitted = DiffusionMap(n_components=3).fit(Observation.from_jacobians(*measure(square(800, seed=4))))
    y, jacobians = measure(square(400, seed=6))
    y[200] += 50.0
    jacobians[100] = 0.0
    with pytest.warns(errors.RankWarning):
        new = Observation.from_jacobians(y, jacobians, dim=2)
    with pytest.warns(errors.OutOfDomainWarning, match="row 200"):
        fitted.transform(new)


def test_rank_deficient_samples_are_placed_by_extension():
    x = square(1200, seed=8) * [1.0, 0.7]
    y, jacobians = smooth_map(2, 5, seed=4)(x)
    whole = DiffusionMap(n_components=3).fit(Observation.from_jacobians(y, jacobians))
    broken = jacobians.copy()
    broken[[17, 1100]] = 0.0
    with pytest.warns(errors.RankWarning, match="rows 17, 1100"):
        observation = Observation.from_jacobians(y, broken, dim=2)
    fitted = DiffusionMap(n_components=3).fit(observation)
    assert fitted.embedding_.shape == (1200, 3)
    np.testing.assert_array_equal(fitted.eigenvectors_[[17, 1100]], 0.0)
    np.testing.assert_allclose(fitted.embedding_[[17, 1100]], fitted.transform(y[[17, 1100]]), atol=1e-12)
    assert np.abs(fitted.embedding_ - whole.embedding_)[[17, 1100]].max() < 0.1
    operator = fitted.operator_.toarray()
    assert np.abs(operator[[17, 1100]]).max() == 0.0
    np.testing.assert_allclose(operator @ fitted.eigenvectors_, fitted.eigenvectors_ * fitted.eigenvalues_, atol=1e-8)
    np.testing.assert_allclose(fitted.transform(observation), fitted.embedding_, atol=1e-6)
