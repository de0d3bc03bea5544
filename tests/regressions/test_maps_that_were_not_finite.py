"""Queries far off made maps return NaN, fail altogether, or extrapolate without a word where no partner was sampled."""

from __future__ import annotations

import warnings

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from support.hostile import asked
from support.samples import smooth_map, square
from support.stored import at, matched, sphere


def ring(count, seed):
    """Cells that are tuned to a direction."""
    rng = np.random.default_rng(seed)
    preferred, gain = rng.random(count) * 2 * np.pi, rng.uniform(0.5, 1.5, count)
    width = 3 * rng.uniform(0.6, 1.4, count)
    return lambda angle: gain * np.exp(width * (np.cos(angle[:, None] - preferred) - 1))


@pytest.mark.parametrize(("n", "neighbors"), [(3000, 128), (1500, 100)])
def test_directions_across_the_jump_of_an_angle(n, neighbors):
    # The angle jumps by a turn, so that the metric there is far too small: every weight of a local fit vanished.
    a, b = ring(30, 1), ring(30, 2)
    rng = np.random.default_rng(7)
    angles = rng.random(n) * 2 * np.pi, rng.random(n) * 2 * np.pi
    marks, new = np.array([0.3, 2.2, 4.5]), rng.random(200) * 2 * np.pi
    sides = [
        Observation.from_neighbors(measure(one), one[:, None], n_neighbors=neighbors, dim=1)
        for measure, one in zip((a, b), angles, strict=True)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DiffeoWarning)
        t = diffeo.match(*sides, landmarks=(a(marks), b(marks)))
    values, warning = asked(t.transform, a(new))
    assert np.isfinite(values).all()
    assert values.min() > -1.0
    assert values.max() < 3.0
    across = np.minimum(new, 2 * np.pi - new)[warning.rows]
    assert len(across)
    assert across.max() < 0.3


def test_one_far_point_does_not_spoil_the_others():
    # LinAlgError: Singular matrix.
    t = matched("sphere")
    points = at("sphere", sphere(5, 3)[0])[0]
    alone, _ = asked(t.transform, points)
    far = np.vstack([points, points[:1] + 1e4])
    values, warning = asked(t.transform, far)
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values[:5], alone, rtol=1e-12)
    assert 5 in warning.off_manifold


@pytest.mark.parametrize("size", [1e155, 1e200, 1e308])
def test_squares_that_overflow(size):
    # A bare IndexError of the tree of nearest samples.
    x = np.random.default_rng(0).random((50, 3))
    values, warning = asked(diffeo.DiffusionMap(n_components=2).fit(x).transform, np.full((2, 3), size))
    assert np.isfinite(values).all()
    assert warning.off_manifold.tolist() == [0, 1]
    assert "more than 1e+100 times the extent of the samples" in str(warning)


def test_queries_whose_partner_was_not_sampled():
    # Errors of half the spread, without a word.
    a, b = smooth_map(2, 5, 11), smooth_map(2, 5, 51)
    common = square(5, 2, 3) * [0.6, 1.0] + [0.4, 0.0]
    t = diffeo.match(
        Observation.from_jacobians(*a(square(1500, 2, 1))),
        Observation.from_jacobians(*b(square(1500, 2, 2) + np.array([0.4, 0.0]))),
        landmarks=(a(common)[0], b(common)[0]),
    )
    x = square(300, 2, 4) * [0.4, 1.0]
    values, warning = asked(t.transform, a(x)[0])
    missed = np.linalg.norm(values - b(x)[0], axis=1) / np.linalg.norm(b(x)[0] - b(x)[0].mean(axis=0), axis=1).mean()
    assert np.isin(np.flatnonzero(missed > 0.01), warning.no_counterpart).all()
    assert warning.off_manifold.tolist() == []
