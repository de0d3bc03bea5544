"""Local polynomials: exact for polynomials, blind to what is left out, of high order, and the same for any threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import Pairs
from diffeo._support import core
from diffeo.matching.paired.local_polynomials import local_fits, possible_degrees
from support.paired import relative, sample_of_pairs, smooth_pairs
from support.samples import square


def polynomial_pairs(degree, n=150):
    """A linear source of the plane in four measurements, and a target that is a polynomial of the input."""
    x, rng = square(n, 2, 3), np.random.default_rng(degree)
    linear, powers = rng.normal(size=(4, 2)), [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]
    weights = rng.normal(size=(len(powers), 3))

    def target(z):
        return np.column_stack([z[:, 0] ** i * z[:, 1] ** j for i, j in powers]) @ weights

    slopes = [
        np.column_stack(
            [(i, j)[a] * z0 for i, j in powers for z0 in [x[:, 0] ** (i - (a == 0)) * x[:, 1] ** (j - (a == 1))]]
        )
        if degree
        else np.zeros((n, 1))
        for a in (0, 1)
    ]
    slopes = [np.where(np.isfinite(one), one, 0.0) @ weights for one in slopes]
    jacobians = np.broadcast_to(linear, (n, 4, 2)), np.stack(slopes, axis=2)
    return Pairs(x @ linear.T, target(x), *jacobians), linear, target


@pytest.mark.parametrize("with_slopes", [True, False])
@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_polynomials_are_reproduced(degree, with_slopes):
    pairs, linear, target = polynomial_pairs(degree)
    sample, a, b = sample_of_pairs(pairs, 2, with_slopes)
    new = 0.1 + 0.8 * square(60, 2, 8)
    found = local_fits(sample, a.reduced(new @ linear.T), np.array([degree]), 1)
    assert np.abs(b.restored(found.values[:, 0]) - target(new)).max() < 1e-9
    assert (found.doubt < 1e-9).all()
    if degree > 1:
        lower = local_fits(sample, a.reduced(new @ linear.T), np.array([degree - 1]), 1)
        errors = np.linalg.norm(b.restored(lower.values[:, 0]) - target(new), axis=1)
        # The doubt is of the size of the error.
        assert 0.1 < np.median(errors / lower.doubt[:, 0]) < 10.0


def test_errors_fall_with_the_order_and_slopes_help():
    pairs, a_map, b_map = smooth_pairs(600)
    new = square(200, 2, 50)
    errors = {}
    for with_slopes in (True, False):
        sample, a, b = sample_of_pairs(pairs, 2, with_slopes)
        found = local_fits(sample, a.reduced(a_map(new)[0]), np.array([1, 3, 5]), 1)
        errors[with_slopes] = [relative(b.restored(found.values[:, k]), b_map(new)[0]) for k in range(3)]
    assert errors[True][1] < 0.1 * errors[True][0]
    assert errors[True][2] < 0.1 * errors[True][1]
    assert all(x < y for x, y in zip(errors[True], errors[False], strict=True))


def test_what_is_left_out_does_not_count():
    pairs, *_ = smooth_pairs(200)
    sample, *_ = sample_of_pairs(pairs, 2)
    rows = np.arange(0, 200, 7)
    left_out = local_fits(sample, sample.points[rows], np.array([2]), 1, rows)
    values = sample.values.copy()
    values[rows[0]] += 100.0
    changed, *_ = sample_of_pairs(pairs, 2)
    object.__setattr__(changed, "targets", values)
    again = local_fits(changed, sample.points[rows], np.array([2]), 1, rows)
    assert np.array_equal(again.values[0], left_out.values[0])


def test_bits_do_not_depend_on_threads_nor_on_the_other_degrees():
    pairs, a_map, _ = smooth_pairs(400)
    sample, a, _ = sample_of_pairs(pairs, 2)
    queries = a.reduced(a_map(square(100, 2, 4))[0])
    one, three = (local_fits(sample, queries, np.array([2, 4]), threads) for threads in (1, 3))
    assert one.values.tobytes() == three.values.tobytes()
    assert one.doubt.tobytes() == three.doubt.tobytes()


def test_flat_samples_and_coincident_pairs_leave_finite_values():
    pairs, *_ = smooth_pairs(120)
    jacobians = pairs.jacobians_a.copy()
    jacobians[::3] = 0.0
    points_a, points_b = pairs.points_a.copy(), pairs.points_b.copy()
    points_a[1:40], points_b[1:40] = points_a[0], points_b[0]
    sample, *_ = sample_of_pairs(Pairs(points_a, points_b, jacobians, pairs.jacobians_b), 2)
    found = local_fits(sample, sample.points, possible_degrees(120, 2, True), 2)
    assert np.isfinite(found.values).all()
    assert not np.isnan(found.doubt).any()


def test_degrees_are_those_that_the_pairs_can_carry():
    assert possible_degrees(2000, 2, True).tolist() == list(range(1, 9))
    assert possible_degrees(2000, 3, True).tolist() == [1, 2, 3, 4, 5]
    assert possible_degrees(20000, 5, True).tolist() == [1, 2, 3, 4]
    few = possible_degrees(12, 2, True)
    assert core.pairs_of_fit(2, int(few[-1]), True) < 12 <= core.pairs_of_fit(2, int(few[-1]) + 1, True)
    assert len(possible_degrees(12, 2, False)) < len(few)
    assert possible_degrees(20, 15, False).tolist() == [0]


def test_many_dimensions_and_few_pairs_still_give_values():
    pairs, *_ = smooth_pairs(24, dim=15, widths=(20, 18))
    for with_slopes in (True, False):
        sample, *_ = sample_of_pairs(pairs, 15, with_slopes)
        found = local_fits(sample, sample.points[:3], possible_degrees(24, 15, with_slopes), 1)
        assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("degrees", "k", "message"), [([9], 80, "out of range"), ([-1], 80, "out of range"), ([4], 3, "too few neighbors")]
)
def test_the_core_refuses_what_it_cannot_fit(degrees, k, message):
    pairs, *_ = smooth_pairs(100)
    sample, *_ = sample_of_pairs(pairs, 2)
    given = (sample.points, sample.axes, sample.stretches, sample.targets, sample.columns, sample.slopes)
    near = sample.near(sample.points[:5], k)
    with pytest.raises(ValueError, match=message):
        core.pair_fits(*given, sample.points[:5].copy(), near, np.array(degrees), 6, 0, 1)
    near[2, 1] = 100
    with pytest.raises(ValueError, match="pair_fits"):
        core.pair_fits(*given, sample.points[:5].copy(), near, np.array([1]), 6, 0, 1)


def test_a_polynomial_through_all_that_counts_is_in_doubt():
    pairs, a, _ = smooth_pairs(200)
    sample, source, _ = sample_of_pairs(pairs, 2)
    # Seen from any centre, all frames are flattened: no slope counts, and as many values as coefficients say nothing.
    flat = replace(sample, jacobians=1e-3 * sample.jacobians)
    queries = source.reduced(a(square(50, 2, 3))[0])
    found, usual = (local_fits(one, queries, np.array([1]), 0) for one in (flat, sample))
    assert np.isinf(found.doubt).all()
    assert np.isfinite(usual.doubt).all()
    nearest = ((found.values[:, :1] - sample.values[None]) ** 2).sum(axis=2).min(axis=1)
    assert np.allclose(nearest, 0.0)
