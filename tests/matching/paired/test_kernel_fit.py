"""The kernel fit: what it misses of pairs left out in turn, and the choice of profile, width and slopes."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.matching.paired import kernel_choice
from diffeo.matching.paired.kernel_choice import Effort, fit_kernels, score
from diffeo.matching.paired.kernel_fit import Few, Recipe, sensitive_metric, trained
from support.paired import pairs_of, sample_of_pairs, smooth_pairs, with_cliff
from support.samples import smooth_map, square


def fitted(sample, rows, recipe):
    """In the plain metric."""
    return trained(Few.of(sample, rows, np.eye(sample.points.shape[1])), recipe, 0.1)


@pytest.mark.parametrize("profile", ["gaussian", "matern_5_2", "matern_3_2"])
@pytest.mark.parametrize("slopes", [True, False])
def test_left_out_errors_are_those_of_fits_without_the_pair(profile, slopes):
    pairs, *_ = smooth_pairs(60)
    sample, *_ = sample_of_pairs(pairs, 2)
    rows, recipe = np.arange(60), Recipe(profile, 0.7, 1e-6, slopes)
    whole = fitted(sample, rows, recipe)
    for i in (1, 20, 59):
        one = fitted(sample, np.delete(rows, i), recipe)
        missed = sample.values[i] - one.model.predict(sample.points[i : i + 1])[0]
        assert np.allclose(missed, whole.missed[i], rtol=1e-5, atol=1e-8)


def test_values_and_slopes_are_met_where_nothing_is_added():
    pairs, *_ = smooth_pairs(40)
    sample, *_ = sample_of_pairs(pairs, 2)
    model = fitted(sample, np.arange(40), Recipe("matern_5_2", 1.0, 1e-13, True)).model
    assert np.allclose(model.predict(sample.points), sample.values, atol=1e-8)
    h = 1e-5
    for a in range(2):
        ahead, behind = (model.predict(sample.points + sign * h * sample.jacobians[:, :, a]) for sign in (1, -1))
        assert np.allclose((ahead - behind) / (2 * h), sample.slopes[:, :, a], atol=1e-4)


def test_slopes_help_where_values_are_few():
    a, b = with_cliff(2, 5, 1, 8.0), with_cliff(2, 6, 2, 8.0)
    pairs, new = pairs_of(a, b, square(250, 2, 3)), square(300, 2, 9)
    errors_of = []
    for with_slopes in (True, False):
        sample, source, target = sample_of_pairs(pairs, 2, with_slopes)
        found = fit_kernels(sample, np.arange(250), np.random.default_rng(0))
        predicted = target.restored(found.model.predict(source.reduced(a(new)[0]) @ found.metric))
        errors_of.append(np.linalg.norm(predicted - b(new)[0]))
        # What is missed of pairs left out tells the error.
        per_pair = np.sqrt((found.missed**2).sum() / 250), errors_of[-1] / np.sqrt(300)
        assert 0.2 < per_pair[0] / per_pair[1] < 5.0
    assert errors_of[0] < 0.5 * errors_of[1]


def test_the_profile_follows_the_map():
    smooth, *_ = smooth_pairs(150)
    sample, *_ = sample_of_pairs(smooth, 2)
    assert fit_kernels(sample, np.arange(150), np.random.default_rng(0)).model.profile == "gaussian"
    flat = with_cliff(2, 5, 1, 0.0), with_cliff(2, 6, 2, 40.0)
    sample, *_ = sample_of_pairs(pairs_of(*flat, square(150, 2, 3)), 2)
    found = fit_kernels(sample, np.arange(150), np.random.default_rng(0))
    assert found.model.profile != "gaussian"
    # Not worse than one of the widths that were tried with a Gaussian.
    assert score(found) <= score(fitted(sample, np.arange(150), Recipe("gaussian", 0.5, 1e-9, True)))


def test_a_choice_by_few_of_the_pairs_is_fitted_to_all():
    pairs, *_ = smooth_pairs(200)
    sample, *_ = sample_of_pairs(pairs, 2)
    found = fit_kernels(sample, np.arange(200), np.random.default_rng(0), Effort(tried_equations=150))
    assert len(found.model.centres) == len(found.missed) == 200


def test_gradients_are_those_of_differences():
    pairs, *_ = smooth_pairs(40)
    sample, *_ = sample_of_pairs(pairs, 2)
    model, h = fitted(sample, np.arange(40), Recipe("matern_5_2", 1.0, 1e-10, True)).model, 1e-4
    moved = [h * one for one in np.eye(sample.points.shape[1])]
    gradients = [(model.predict(sample.points + by) - model.predict(sample.points - by)) / (2 * h) for by in moved]
    expected = np.einsum("inv,jnv->ij", gradients, gradients) / 40
    assert np.allclose(model.sensitivity(), expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())


def test_the_metric_forgets_a_wall_that_the_source_alone_climbs():
    a, b = with_cliff(2, 5, 1, 40.0), smooth_map(2, 6, 2)
    sample, source, target = sample_of_pairs(pairs_of(a, b, square(200, 2, 3)), 2)
    found = fit_kernels(sample, np.arange(200), np.random.default_rng(0))
    height = source.axes.T @ np.random.default_rng(101).normal(size=5)
    told = np.linalg.norm(height @ found.metric) / np.linalg.norm(height)
    assert told < 0.3 * np.linalg.norm(found.metric, 2)
    new = square(300, 2, 9)
    errors = target.restored(found.model.predict(source.reduced(a(new)[0]) @ found.metric)) - b(new)[0]
    plain = fitted(sample, np.arange(200), Recipe("gaussian", 2.0, 1e-13, True))
    assert np.linalg.norm(errors) < 0.2 * np.linalg.norm(
        target.restored(plain.model.predict(source.reduced(a(new)[0]))) - b(new)[0]
    )


def test_a_metric_is_a_root_of_the_sensitivity():
    root = np.random.default_rng(0).normal(size=(4, 6))
    found = sensitive_metric(root @ root.T)
    assert np.allclose(found @ found.T, root @ root.T / np.linalg.norm(root @ root.T, 2), atol=1e-5)
    assert np.isfinite(sensitive_metric(np.zeros((3, 3)))).all()


def test_nothing_is_fitted_to_what_cannot_be_factored(monkeypatch):
    pairs, *_ = smooth_pairs(40)
    sample, *_ = sample_of_pairs(pairs, 2)
    assert fitted(sample, np.arange(40), Recipe("gaussian", 1.0, -10.0, True)) is None
    monkeypatch.setattr(kernel_choice, "RIDGES", (-10.0, -10.0, -10.0))
    with pytest.raises(errors.NonFiniteError, match="wild sizes"):
        fit_kernels(sample, np.arange(40), np.random.default_rng(0))
