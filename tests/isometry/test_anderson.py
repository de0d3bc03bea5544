"""Anderson's acceleration on linear and nonlinear fixed points."""

from __future__ import annotations

import numpy as np
from diffeo.isometry.stress import MEMORY, Anderson


def iterations(image, x, tolerance, *, accelerated, most=2000):
    """Steps until x moves by no more than the tolerance, and x."""
    acceleration = Anderson(len(x))
    for step in range(most):
        move = image(x) - x
        if np.abs(move).max() <= tolerance:
            return step, x
        x = acceleration(image(x), move) if accelerated else image(x)
    return most, x


def contraction(n, rates):
    """A linear map with these rates in an orthonormal basis, and its fixed point."""
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(n, n)))[0]
    matrix, fixed = basis @ np.diag(rates) @ basis.T, np.arange(n) / n
    return lambda x: fixed + matrix @ (x - fixed), fixed


def test_few_rates_end_in_as_many_steps():
    # As many differences as distinct rates explain every move (Walker and Ni 2011: it is GMRES).
    image, fixed = contraction(30, np.tile([0.9, 0.5, -0.3], 10))
    steps, found = iterations(image, np.zeros(30), 1e-10, accelerated=True)
    assert steps <= 5
    np.testing.assert_allclose(found, fixed, atol=1e-9)


def test_slow_iterations_become_fast():
    image, fixed = contraction(60, np.linspace(0.0, 0.995, 60))
    plain, _ = iterations(image, np.zeros(60), 1e-8, accelerated=False)
    fast, found = iterations(image, np.zeros(60), 1e-8, accelerated=True)
    assert fast * 8 < plain
    np.testing.assert_allclose(found, fixed, atol=1e-5)


def test_old_differences_are_replaced():
    # What a step combines are the last MEMORY differences: the same as one by one from lists of them.
    def image(x):
        return np.cos(x + 0.3 * np.roll(x, 1))

    acceleration, x = Anderson(20), np.linspace(0.0, 1.0, 20)
    moves, images = [], []
    for _ in range(2 * MEMORY + 3):
        found = image(x)
        moves, images = [*moves, found - x][-MEMORY - 1 :], [*images, found][-MEMORY - 1 :]
        expected = found
        if len(moves) > 1:
            m, y = np.diff(np.array(moves), axis=0), np.diff(np.array(images), axis=0)
            expected = found - np.linalg.lstsq(m @ m.T, m @ moves[-1], rcond=1e-12)[0] @ y
        x = acceleration(found, found - x)
        np.testing.assert_allclose(x, expected, atol=1e-6)


def test_a_new_start_forgets():
    acceleration = Anderson(3)
    for k in range(4):
        acceleration(np.full(3, float(k)), np.full(3, 1.0 / (1 + k)))
    acceleration.forget()
    image = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(acceleration(image, np.ones(3)), image)
