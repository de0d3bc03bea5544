"""Landmarks that carry derivatives: one fixes the motion, two overdetermine it, and wrong derivatives are named."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, Pairs, relative_error
from support.samples import random_orthogonal, smooth_map, square

MAP_A, MAP_B = smooth_map(2, 5, 1), smooth_map(2, 6, 2)
NEW = square(300, 2, 77)


@pytest.fixture(scope="module")
def sides():
    """Two samples of the square, B's denser to one side: neither shape nor density tells how they lie."""
    uneven = square(700, 2, 4)
    uneven[:, 0] = uneven[:, 0] ** 1.3
    return tuple(
        diffeo.embed(Observation.from_jacobians(*measure(x), dim=2))
        for measure, x in ((MAP_A, square(700, 2, 3)), (MAP_B, uneven))
    )


def pairs_at(x):
    (points_a, jacobians_a), (points_b, jacobians_b) = MAP_A(x), MAP_B(x)
    return Pairs(points_a, points_b, jacobians_a, jacobians_b)


def error_of(t):
    return relative_error(t.transform(MAP_A(NEW)[0]), MAP_B(NEW)[0])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_pairs_with_derivatives_are_enough(sides, count):
    t = diffeo.match(*sides, landmarks=pairs_at(square(5, 2, 11)[:count]))
    assert len(t.candidates) == 1
    assert error_of(t) < 2e-3
    assert error_of(t) < 4.0 * t.diagnostics.expected_error
    assert relative_error(t.inverse_transform(MAP_B(NEW)[0]), MAP_A(NEW)[0]) < 2e-3
    assert t.diagnostics.landmark_residual < 0.01


def test_one_pair_without_derivatives_leaves_more_open(sides):
    pair = pairs_at(square(1, 2, 11))
    alone = diffeo.match(*sides, landmarks=pair.points)
    assert error_of(diffeo.match(*sides, landmarks=pair)) < 0.5 * error_of(alone) or len(alone.candidates) > 1


def test_directions_of_the_input_may_be_any(sides):
    """Derivatives along turned directions, the same on both sides, say the same."""
    pairs = pairs_at(square(2, 2, 11))
    turn = random_orthogonal(2, 2, 5)
    turned = Pairs(*pairs.points, pairs.jacobians_a @ turn, pairs.jacobians_b @ turn)
    one, other = (diffeo.match(*sides, landmarks=given, check=False) for given in (pairs, turned))
    assert np.allclose(one.transform(MAP_A(NEW)[0]), other.transform(MAP_A(NEW)[0]), atol=1e-8)


def test_derivatives_that_do_not_fit_are_named_and_not_used(sides):
    pairs = pairs_at(square(4, 2, 11))
    wrong = pairs.jacobians_a.copy()
    wrong[2] = np.random.default_rng(0).normal(size=wrong[2].shape)
    longer = pairs.jacobians_b.copy()
    longer[1] *= 5.0
    given = Pairs(*pairs.points, wrong, longer)
    t = diffeo.match(*sides, landmarks=given)
    assert any("derivatives of 2 landmarks (rows 1, 2)" in text for text in t.diagnostics.problems)
    assert error_of(t) < 2e-3
