"""Bounds of the held-out error: known errors covered, scales, degenerate pairs; and the verdict of two directions."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors, relative_error
from diffeo.verdict.error_bounds import CHUNK, LEAST_PAIRS, _all_weights, _few_weights, bootstrap_bounds, judge, verdict
from support.reports import evidence_of


def simulated(error, count, freedom, rng):
    """Predictions whose relative error is exactly this in the population: normal truth, errors by Student's t."""
    true = rng.normal(size=(count, 3))
    noise = rng.standard_t(freedom, (count, 3)) / np.sqrt(freedom / (freedom - 2.0))
    return true + error * noise, true


def shares(count, freedom, trials=400):
    """How often the bounds at 5 % lie on the wrong side of the true error, and the upper one under twice the error."""
    rng = np.random.default_rng(count)
    found = np.array([bootstrap_bounds(*simulated(0.05, count, freedom, rng), 0.05) for _ in range(trials)])
    return (found[:, 2] < 0.05).mean(), (found[:, 1] > 0.05).mean(), (found[:, 2] < 0.1).mean()


def test_the_bounds_cover_heavy_tails_and_are_near_their_level():
    above, below, power = shares(100, 5)
    # Three standard errors over 5 % in 400 trials.
    assert above <= 0.083
    assert below <= 0.083
    # Not by being useless.
    assert below >= 0.01
    assert power >= 0.9


def test_the_error_is_that_of_the_definition():
    predicted, true = simulated(0.3, 60, 5, np.random.default_rng(0))
    error, lower, upper = bootstrap_bounds(predicted, true, 0.05)
    assert error == pytest.approx(relative_error(predicted, true), rel=1e-12)
    assert 0 < lower < error < upper
    # It does not depend on where the measurements lie.
    assert bootstrap_bounds(predicted + 5.0, true + 5.0, 0.05) == pytest.approx((error, lower, upper), rel=1e-9)


def test_bounds_widen_with_a_stricter_level_and_narrow_with_more_pairs():
    rng = np.random.default_rng(1)
    predicted, true = simulated(0.1, 800, 8, rng)
    widths = []
    for count, level in ((100, 0.05), (100, 0.005), (800, 0.05)):
        _, lower, upper = bootstrap_bounds(predicted[:count], true[:count], level)
        widths.append(np.log(upper / lower))
    assert widths[1] > 1.2 * widths[0]
    assert widths[2] < 0.6 * widths[0]


@pytest.mark.parametrize("unit", [1e-160, 1e-3, 1e160])
def test_bounds_do_not_depend_on_the_unit(unit):
    predicted, true = simulated(0.1, 50, 5, np.random.default_rng(2))
    assert bootstrap_bounds(unit * predicted, unit * true, 0.05) == pytest.approx(
        bootstrap_bounds(predicted, true, 0.05), rel=1e-9
    )


def test_bounds_are_the_same_bits_again():
    predicted, true = simulated(0.1, 50, 5, np.random.default_rng(2))
    first = bootstrap_bounds(predicted, true, 0.05)
    _few_weights.cache_clear()  # drawn again, after others
    bootstrap_bounds(predicted[:30], true[:30], 0.05)
    assert bootstrap_bounds(predicted, true, 0.05) == first


@pytest.mark.parametrize(("count", "total"), [(50, 4000), (6000, 1000)])
def test_resamples_draw_as_many_pairs_with_equal_chances(count, total):
    # 50 pairs fit in one block of draws, 6,000 do not.
    blocks = list(_all_weights(count, total))
    assert (len(blocks) > 1) == (count * total > CHUNK)
    weights = np.concatenate(blocks)
    assert weights.shape == (total, count)
    assert (weights.sum(axis=1) == count).all()
    assert len(np.unique(weights[:, : min(count, 50)], axis=0)) > 0.99 * total
    # Multinomial counts: mean 1, variance 1 - 1 / count, and no two pairs go together.
    assert abs(weights.mean(axis=0) - 1.0).max() < 5.5 / np.sqrt(total)
    assert weights.var() == pytest.approx(1.0 - 1.0 / count, rel=0.02)
    assert np.corrcoef(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(0.0, abs=5.0 / np.sqrt(total))


def test_many_pairs_have_the_bounds_of_the_normal_approximation():
    predicted, true = simulated(0.1, 30_000, 8, np.random.default_rng(3))
    error, lower, upper = bootstrap_bounds(predicted, true, 0.05)
    a, b = ((predicted - true) ** 2).sum(axis=1), (true**2).sum(axis=1)
    # The ratio of two means by linearisation; the error is its root.
    deviation = 0.5 * np.std(a / a.mean() - b / b.mean()) / np.sqrt(len(a))
    assert np.log(error / lower) == pytest.approx(1.645 * deviation, rel=0.1)
    assert 1.645 * deviation < np.log(upper / error) < 2.5 * deviation


def test_one_bad_prediction_among_exact_ones_is_not_believed_to_be_the_only_one():
    true = np.random.default_rng(4).normal(size=(50, 3))
    predicted = true.copy()
    predicted[0] += 1.0
    error, lower, upper = bootstrap_bounds(predicted, true, 0.05)
    assert 0.0 <= lower < 0.5 * error
    assert 2.0 * error < upper < np.inf


def test_exact_predictions_have_no_error():
    true = np.random.default_rng(4).normal(size=(50, 3))
    assert bootstrap_bounds(true, true, 0.05) == (0.0, 0.0, 0.0)
    # A handful of them prove nothing.
    assert judged(true[:19], true[:19]).status == "undetermined"


def test_the_mean_as_prediction_has_error_one():
    true = np.random.default_rng(4).normal(size=(50, 3))
    error, lower, upper = bootstrap_bounds(np.tile(true.mean(axis=0), (50, 1)), true, 0.05)
    assert (error, lower) == pytest.approx((1.0, 1.0), rel=1e-6)
    assert upper >= 1.0


def test_a_single_pair_bounds_nothing():
    true = np.ones((1, 3))
    error, lower, upper = bootstrap_bounds(1.1 * true, true, 0.05)
    assert np.isnan(error)
    assert (lower, upper) == (0.0, np.inf)


def test_truth_without_spread_is_refused():
    true = np.ones((30, 3))
    with pytest.raises(errors.InputError, match="do not deviate"):
        bootstrap_bounds(true, true, 0.05)


def judged(predicted, true, shows="pairs"):
    evidence = evidence_of(shows) if shows else None
    return judge(predicted, true, "so", margin=0.05, significance=0.05, evidence=evidence)


@pytest.mark.parametrize(
    ("error", "status"), [(0.01, "holds"), (0.3, "fails"), (0.05, "undetermined"), (0.0, "holds"), (1.0, "fails")]
)
def test_status_of_a_direction(error, status):
    predicted, true = simulated(error, 200, 8, np.random.default_rng(5))
    found = judged(predicted, true)
    assert found.status == status
    assert found.how == "so"
    assert found.loss is None
    assert found.true is true
    assert found.predicted is predicted


@pytest.mark.parametrize("shows", [None, "none", "too few", "unrelated"])
def test_a_map_over_the_margin_fails_only_where_a_loss_is_shown(shows):
    predicted, true = simulated(0.3, 200, 8, np.random.default_rng(5))
    found = judged(predicted, true, shows)
    assert found.lower > 0.05
    assert found.status == "undetermined"
    assert judged(predicted, true, "rank").status == "fails"
    # Nor does what is lost elsewhere make a map that holds fail.
    assert judged(*simulated(0.01, 200, 8, np.random.default_rng(5)), "rank").status == "holds"


@pytest.mark.parametrize(("count", "pairs"), [(1, 200), (3, 200), (2, 50), (1, 20)])
def test_wild_measurements_make_no_error_small(count, pairs):
    """Shuffled pairs beside a few wild ones that are predicted well."""
    rng = np.random.default_rng(8)
    true = rng.normal(size=(pairs, 3))
    predicted = rng.permutation(true)
    true[:count] *= 1e4
    predicted[:count] = true[:count]
    error, _, upper = bootstrap_bounds(predicted, true, 0.05)
    assert error < 0.01
    assert upper > 0.9
    assert judged(predicted, true).status != "holds"
    # Where all pairs are right, so is the wild one.
    assert judged(true + 0.01 * rng.normal(size=true.shape), true).status == "holds"


def test_truth_that_is_constant_but_for_a_wild_pair_has_no_scale():
    true = np.ones((50, 3))
    true[7] = 100.0
    assert bootstrap_bounds(0.9 * true, true, 0.05)[2] == np.inf


@pytest.mark.parametrize("error", [0.001, 0.9])
def test_fewer_than_twenty_pairs_decide_nothing(error):
    predicted, true = simulated(error, LEAST_PAIRS, 8, np.random.default_rng(6))
    assert judged(predicted[:-1], true[:-1]).status == "undetermined"
    assert judged(predicted, true).status != "undetermined"


VERDICTS = {
    ("holds", "holds"): "equivalent",
    ("holds", "fails"): "a_to_b",
    ("fails", "holds"): "b_to_a",
    ("fails", "fails"): "not_equivalent",
}


@pytest.mark.parametrize("forward", ["holds", "fails", "undetermined"])
@pytest.mark.parametrize("backward", ["holds", "fails", "undetermined"])
def test_verdict_of_both_directions(forward, backward):
    assert verdict(forward, backward) == VERDICTS.get((forward, backward), "undetermined")
