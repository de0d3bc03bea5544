"""A direction: the better of both fits at each query, and the expected error of each row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import Pairs
from diffeo.matching.paired import kernel_choice
from diffeo.matching.paired.direction import fit_direction
from diffeo.matching.paired.kernel_choice import QUICK, Effort
from diffeo.matching.paired.local_kernels import LocalKernels
from diffeo.matching.paired.local_polynomials import local_fits
from support.paired import pairs_of, relative, sample_of_pairs, smooth_pairs, with_cliff
from support.samples import square


@pytest.fixture(scope="module")
def steep():
    """Cliffs on both sides, a direction learned from them, and new inputs."""
    a, b = with_cliff(2, 5, 1, 25.0), with_cliff(2, 6, 2, 12.0)
    sample, source, target = sample_of_pairs(pairs_of(a, b, square(700, 2, 3)), 2)
    fit = fit_direction(sample, source, target, 0, 0, "A to B")
    new = square(1500, 2, 9)
    return fit, a(new)[0], b(new)[0]


def test_at_cliffs_the_choice_is_as_good_as_either(steep):
    fit, at_a, at_b = steep
    predicted = fit.predict(at_a, 0)
    queries = fit.source.reduced(at_a)
    kernel = relative(fit.target.restored(fit.kernel.predict(queries)), at_b)
    local = local_fits(fit.sample, queries, fit.degrees, 0)
    best = local.doubt.argmin(axis=1)
    alone = relative(fit.target.restored(local.values[np.arange(len(best)), best]), at_b)
    assert relative(predicted.values, at_b) < 1.2 * min(kernel, alone)
    # Far from the cliffs polynomials are far better than the kernels.
    errors = np.linalg.norm(predicted.values - at_b, axis=1)
    by_kernel = np.linalg.norm(fit.target.restored(fit.kernel.predict(queries)) - at_b, axis=1)
    assert np.median(errors) < 0.2 * np.median(by_kernel)


def test_expected_errors_are_met(steep):
    fit, at_a, at_b = steep
    predicted = fit.predict(at_a, 0)
    errors = np.linalg.norm(predicted.values - at_b, axis=1)
    assert np.corrcoef(np.log(errors), np.log(predicted.expected))[0, 1] > 0.7
    assert (errors > 4.0 * predicted.expected).mean() < 0.04
    assert 0.1 < np.median(errors / predicted.expected) < 2.0
    assert fit.error == pytest.approx(relative(predicted.values, at_b), rel=3.0)


def test_far_from_all_pairs_more_is_expected(steep):
    fit, at_a, _ = steep
    among = fit.predict(at_a, 0).expected
    away = fit.predict(at_a + 10.0 * at_a.std(axis=0), 0)
    assert np.isfinite(away.values).all()
    assert np.median(away.expected) > 100.0 * np.median(among)


def test_a_smooth_pair_is_met_to_high_order():
    pairs, a_map, b_map = smooth_pairs(500)
    sample, source, target = sample_of_pairs(pairs, 2)
    fit = fit_direction(sample, source, target, 0, 0, "A to B")
    new = square(300, 2, 31)
    assert relative(fit.predict(a_map(new)[0], 0).values, b_map(new)[0]) < 1e-7
    assert fit.degrees[-1] >= 6


def test_more_pairs_than_one_kernel_fit_takes():
    a, b = with_cliff(2, 5, 1, 25.0), with_cliff(2, 6, 2, 12.0)
    sample, source, target = sample_of_pairs(pairs_of(a, b, square(1200, 2, 3)), 2)
    fit = fit_direction(sample, source, target, 0, 0, "A to B", Effort(900, known=300, tried=60))
    assert isinstance(fit.kernel, LocalKernels)
    assert len(np.unique(fit.known)) == 300
    new = square(400, 2, 9)
    predicted = fit.predict(a(new)[0], 0)
    assert relative(predicted.values, b(new)[0]) < 0.02
    # A query is answered alike alone and among others.
    assert np.allclose(fit.predict(a(new[:1])[0], 0).values, predicted.values[:1], rtol=1e-9)


def test_polynomials_that_add_nothing_are_left_out():
    a, b = with_cliff(3, 5, 1, 10.0), with_cliff(3, 6, 2, 10.0)
    sample, source, target = sample_of_pairs(pairs_of(a, b, square(1500, 3, 3)), 3)
    fit = fit_direction(sample, source, target, 0, 0, "A to B", Effort(900, known=300, tried=60))
    assert isinstance(fit.kernel, LocalKernels)
    assert len(fit.degrees) == 0
    assert len(fit.trust) == 1
    new = square(300, 3, 9)
    predicted, kernels = fit.predict(a(new)[0], 0), fit.kernel.predict(source.reduced(a(new)[0]) @ fit.metric)
    assert np.array_equal(predicted.values, target.restored(kernels))
    errors = np.linalg.norm(predicted.values - b(new)[0], axis=1)
    assert (errors < 4.0 * predicted.expected).mean() > 0.9


def test_nothing_goes_wild_between_cliffs_at_different_places():
    """Where slopes of all near pairs but the centre do not count, a polynomial goes through all it has, far from the truth."""
    a, b = with_cliff(2, 5, 1, 60.0), with_cliff(2, 6, 2, 50.0)
    turned = square(300, 2, 3)[:, ::-1].copy()
    pairs = pairs_of(a, lambda x: b(x[:, ::-1]), turned)
    sample, source, target = sample_of_pairs(pairs, 2)
    fit = fit_direction(sample, source, target, 0, 0, "A to B")
    new = square(3000, 2, 9)
    errors = np.linalg.norm(fit.predict(a(new)[0], 0).values - b(new[:, ::-1])[0], axis=1)
    assert errors.max() < 5.0 * sample.spread
    assert relative(fit.predict(a(new)[0], 0).values, b(new[:, ::-1])[0]) < 0.3


def test_a_way_that_does_not_exist_is_not_refined(monkeypatch):
    x = square(60, 2, 3)
    slopes = np.zeros((60, 2, 2))
    slopes[:, 0, 0], slopes[:, 1, 1] = 2.0 * x[:, 0] - 1.0, 1.0
    # The source knows the first input up to its distance from the middle only.
    folded = np.column_stack([x[:, 0] * (x[:, 0] - 1.0), x[:, 1]])
    pairs = Pairs(folded, x, slopes, np.broadcast_to(np.eye(2), (60, 2, 2)).copy())
    made = []
    usual = kernel_choice.trained
    monkeypatch.setattr(kernel_choice, "trained", lambda *given: made.append(0) or usual(*given))
    costs, fits = [], []
    for effort in (QUICK, replace(QUICK, hopeless=0.25)):
        for way in (pairs, Pairs(x, folded, pairs.jacobians_b, pairs.jacobians_a)):
            made.clear()
            sample, source, target = sample_of_pairs(way, 2)
            fits.append(fit_direction(sample, source, target, 0, 1, "A to B", effort))
            costs.append(len(made))
    lost, kept, lost_again, kept_again = fits
    assert min(lost.error, lost_again.error) > 0.25
    assert costs[2] < 0.6 * costs[0]
    assert len(lost_again.degrees) == 0
    # The other way it changes nothing.
    assert costs[3] == costs[1]
    assert kept_again.error == kept.error < 0.01
    at = square(20, 2, 8)
    np.testing.assert_array_equal(kept_again.predict(at, 1).values, kept.predict(at, 1).values)
