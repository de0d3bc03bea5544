"""Principal components of measurements."""

from __future__ import annotations

import numpy as np
from diffeo.matching.paired.components import MOST, components_of


def test_so_much_of_the_spread_may_be_left_out():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(80, 12)) * 10.0 ** -np.arange(12.0)
    for left_out in (1e-2, 1e-5):
        found = components_of(points, left_out)
        missed = points - found.restored(found.reduced(points))
        share = np.linalg.norm(missed) / np.linalg.norm(points - points.mean(axis=0))
        assert 0.05 * left_out < share <= left_out
    assert components_of(points).axes.shape[1] > components_of(points, 1e-5).axes.shape[1]


def test_components_keep_all_of_few_measurements():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(60, 3)) @ rng.normal(size=(3, 8)) + 5.0
    found = components_of(points)
    assert found.axes.shape == (8, 3)
    assert np.allclose(found.axes.T @ found.axes, np.eye(3), atol=1e-12)
    assert np.allclose(found.restored(found.reduced(points)), points, atol=1e-12)
    jacobians = rng.normal(size=(60, 8, 2))
    assert np.allclose(found.turned(jacobians)[7], found.axes.T @ jacobians[7])


def test_thousands_of_measurements_fill_few_components():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 3000))
    found = components_of(points)
    assert 12 <= found.axes.shape[1] <= MOST
    assert np.linalg.norm(found.restored(found.reduced(points)) - points) < 1e-9 * np.linalg.norm(points)


def test_measurements_that_do_not_vary_have_one_component():
    assert components_of(np.ones((30, 4))).axes.shape == (4, 1)
