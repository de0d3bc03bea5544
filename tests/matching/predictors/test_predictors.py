"""Predictors that landmarks teach: groups left out in closed form are those of fits without them, and decide who is taken."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from diffeo import Observation
from diffeo.charts.cover import Cover
from diffeo.matching.gaussian_process import Process, kernel_factor, sections
from diffeo.matching.predictors.among_samples import blamed, linear_part
from diffeo.matching.predictors.choice import chosen, combine, grouped_misses
from diffeo.matching.predictors.plain_fits import AFFINE_PENALTIES, affine, ridge
from diffeo.matching.predictors.predictor import aligned_map, groups_of, process
from support.samples import smooth_map, square

MEASURE_A, MEASURE_B = smooth_map(2, 4, 1), smooth_map(2, 3, 2)
NO_NOISE = np.zeros(3)


def landmarks(count, seed=0):
    x = square(count, seed=seed)
    return MEASURE_A(x)[0], MEASURE_B(x)[0]


@pytest.mark.parametrize("count", [1, 7, 10, 11, 53])
def test_each_landmark_is_in_one_group(count):
    groups = groups_of(count)
    np.testing.assert_array_equal(np.sort(np.concatenate(groups)), np.arange(count))
    assert len(groups) == (count if count <= 10 else 5)


def test_a_process_without_a_group_is_the_one_of_the_others():
    y_a, y_b = landmarks(23)
    scales, amplitude, noise = np.full(4, 0.7), 2.0, 1e-4

    def fitted(rows):
        factor = kernel_factor(y_a[rows], scales, amplitude, noise)
        return np.linalg.solve(factor @ factor.T, y_b[rows])

    whole = Process(y_a, scales, amplitude, noise, NO_NOISE, np.ones(3), fitted(np.arange(23)))
    groups = groups_of(23)
    missed, variances = whole.left_out(groups)
    for rows in groups:
        rest = np.setdiff1d(np.arange(23), rows)
        kernel = sections(y_a[rows], y_a[rest], scales, amplitude)
        np.testing.assert_allclose(missed[rows], y_b[rows] - kernel @ fitted(rest), atol=1e-9)
        factor = kernel_factor(y_a[rest], scales, amplitude, noise)
        known = np.einsum("ij,ji->i", kernel, np.linalg.solve(factor @ factor.T, kernel.T))
        np.testing.assert_allclose(variances[rows, 0], amplitude + noise - known, rtol=1e-6)
    alone = whole.left_out([np.array([i]) for i in range(23)])
    for one, other in zip(alone, whole.left_out(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_an_affine_map_without_a_group_is_the_one_of_the_others():
    y_a, y_b = landmarks(40)
    y_b = y_b + 0.1 * np.random.default_rng(0).normal(size=y_b.shape)
    found, unit = affine(y_a, 0, y_b, NO_NOISE), y_a.std(axis=0)

    def refitted(penalty):
        missed = np.empty_like(y_b)
        for rows in groups_of(40):
            rest = np.setdiff1d(np.arange(40), rows)
            centre, mean = y_a[rest].mean(axis=0), y_b[rest].mean(axis=0)
            z = (y_a[rest] - centre) / unit
            slope = np.linalg.solve(z.T @ z + penalty * np.eye(z.shape[1]), z.T @ (y_b[rest] - mean))
            missed[rows] = y_b[rows] - mean - (y_a[rows] - centre) / unit @ slope
        return missed

    off = [np.abs(refitted(penalty) - found.grouped).max() for penalty in AFFINE_PENALTIES]
    assert min(off) < 1e-6


def test_what_misses_groups_least_is_chosen():
    y_a, y_b = landmarks(50)
    far = aligned_map(y_a, np.full_like(y_b, 0.5), NO_NOISE, NO_NOISE, NO_NOISE)
    good = process("process of points", y_a, slice(0, None), y_b, 400, NO_NOISE)
    others = [far, good, affine(y_a, 0, y_b, NO_NOISE), ridge(y_a, 0, y_b, 400, NO_NOISE)]
    found = chosen(others)
    assert far not in found
    least = np.linalg.norm(grouped_misses(found))
    assert least <= 1.1 * min(np.linalg.norm(one.grouped) for one in others)
    assert least <= np.linalg.norm(grouped_misses(others))
    assert chosen([far]) == [far]


def test_of_predictors_that_miss_about_as_much_both_are_taken():
    """Half as much again tells nothing; and one that is far worse goes for any reason."""
    y_a, y_b = landmarks(20)
    good = process("process of points", y_a, slice(0, None), y_b, 400, NO_NOISE)
    misses = np.random.default_rng(0).normal(size=y_b.shape)
    good = dataclasses.replace(good, grouped=misses, grouped_variances=np.ones_like(y_b))

    def missing(times, variance):
        return dataclasses.replace(good, grouped=times * misses, grouped_variances=np.full_like(y_b, variance))

    alike, worse, far = missing(1.5, 1.0), missing(3.5, 1.0), missing(20.0, 1000.0)
    assert np.linalg.norm(good.grouped) < np.linalg.norm(grouped_misses([good, alike]))
    assert chosen([good, alike]) == [good, alike]
    assert chosen([good, worse]) == [good]
    # They all but agree together: it is the size of its own misses that tells.
    assert np.linalg.norm(grouped_misses([good, far])) < 1.02 * np.linalg.norm(good.grouped)
    assert chosen([good, far]) == [good]
    # What is built on the same map errs alike.
    maps = [dataclasses.replace(one, kind="aligned + process") for one in (good, alike)]
    assert chosen(maps) == maps[:1]


def test_fits_with_one_variance_everywhere_have_no_part_where_they_miss_far_more():
    """Between landmarks they help, beyond them they would outweigh processes, whose variance grows there."""
    y_a, y_b = landmarks(20)
    good = process("process of points", y_a, slice(0, None), y_b, 400, NO_NOISE)
    good = dataclasses.replace(good, grouped_variances=np.ones_like(y_b))
    plain = affine(y_a, 0, y_b, NO_NOISE)

    def missing(times):
        """Weighed by precision, what one misses takes a part of what the other misses away."""
        return dataclasses.replace(plain, grouped=-times * good.grouped, grouped_variances=np.full_like(y_b, times**2))

    near, far = missing(2.0), missing(6.0)
    assert all(np.linalg.norm(grouped_misses([good, one])) < np.linalg.norm(good.grouped) for one in (near, far))
    assert chosen([good, near]) == [good, near]
    assert chosen([good, far]) == [good]


def test_predictors_that_send_samples_off_the_other_side_are_blamed_for_it():
    target, queries = (
        Cover(Observation.from_jacobians(*MEASURE_B(square(500, seed=3)))),
        MEASURE_A(square(200, seed=4))[0],
    )
    x = 0.3 * square(8, seed=6)
    near = MEASURE_A(x)[0], MEASURE_B(x)[0]
    # Of landmarks in a corner, left out in turn, an affine fit misses nothing worth mentioning: it is wild elsewhere.
    wild = affine(near[0], 0, near[1], NO_NOISE)
    told = blamed(wild, near[0], queries, target, 1)
    true = MEASURE_B(square(200, seed=4))[0]
    size = [np.sqrt((one.grouped**2).sum(axis=1).mean()) for one in (wild, told)]
    missed = wild.offset + linear_part(near[0], queries, wild.linear) - true
    assert size[1] > 3.0 * size[0]
    assert size[1] < np.sqrt((missed**2).sum(axis=1).mean())
    ratio = size[1] / size[0]
    np.testing.assert_allclose(told.spread, ratio * wild.spread)
    np.testing.assert_allclose(told.grouped_variances, ratio**2 * wild.grouped_variances)
    # What sends samples among samples is not, and nothing is known of a map that needs another prediction.
    y_a, y_b = landmarks(60)
    right = process("process of points", y_a, slice(0, None), y_b, 400, NO_NOISE)
    assert blamed(right, y_a, queries, target, 1) is right
    based = aligned_map(y_a, np.ones_like(y_b), NO_NOISE, NO_NOISE, NO_NOISE)
    assert blamed(based, y_a, queries, target, 1) is based


def test_a_combination_is_weighted_by_precision():
    one, other = np.array([[0.0, 1.0]]), np.array([[1.0, 3.0]])
    np.testing.assert_allclose(combine([one, other], [np.ones((1, 2)), np.full((1, 2), 3.0)]), [[0.25, 1.5]])
    np.testing.assert_allclose(combine([one, other], [np.zeros((1, 2)), np.ones((1, 2))]), one, atol=1e-300)
