"""Noisy points on charts that know of no noise: placed by least squares, where measurements can be equally noisy."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.isometry.hermite import HermiteChart
from scipy.optimize import least_squares
from support.samples import smooth_map, square


@pytest.mark.parametrize("seed", range(3))
def test_noisy_points_are_placed_by_least_squares(seed):
    """Measurements that respond unlike one another, equally noisy; the chart knows of no noise."""
    rng = np.random.default_rng(seed)
    measure, size = smooth_map(2, 12, seed), np.exp(rng.uniform(-1.2, 1.0, 12))
    nodes = square(900, 2, seed)
    values, slopes = measure(nodes)
    chart = HermiteChart(nodes, values * size, slopes * size[:, None])
    x = 0.15 + 0.7 * square(150, 2, seed + 50)
    seen = measure(x)[0] * size + 0.03 * rng.normal(size=(150, 12))
    found = chart.locate(seen, 1).coordinates

    def missed(place, y):
        return measure(place[None])[0][0] * size - y

    best = np.array([least_squares(missed, start, args=(y,)).x for start, y in zip(x, seen, strict=True)])
    assert np.linalg.norm(found - x) < 1.02 * np.linalg.norm(best - x)
    # But for a point or two with two minima.
    assert np.mean(np.abs(found - best).max(axis=1) < 0.01) > 0.98


def test_points_without_noise_keep_the_units_of_their_chart():
    measure = smooth_map(2, 5, 4)
    nodes = square(900, 2, 4)
    values, slopes = measure(nodes)
    x = 0.1 + 0.8 * square(50, 2, 5)
    chart = HermiteChart(nodes, values, slopes)
    assert (chart.units_of(measure(x)[0], x, 1) == chart.units).all()
    # One measurement a million times another: no noise that both could share.
    size = np.array([1e6, 1.0, 1.0, 1.0, 1.0])
    unlike = HermiteChart(nodes, values * size, slopes * size[:, None])
    seen = (measure(x)[0] + 0.01 * np.random.default_rng(0).normal(size=(50, 5))) * size
    assert (unlike.units_of(seen, x, 1) == unlike.units).all()
    np.testing.assert_allclose(unlike.locate(seen, 1).coordinates, x, atol=0.03)
