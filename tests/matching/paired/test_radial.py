"""Kernels between points and directions: derivatives by differences, and what a covariance must be."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.matching.paired.radial import PROFILES, functionals, kernel_matrix

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3))
AT_X, AT_Y = RNG.normal(size=(7, 3, 2)), RNG.normal(size=(5, 3, 2))
WIDTH = 1.3


def blocks(profile, left, right, **same):
    whole = kernel_matrix(profile, WIDTH, left, right, **same)
    return whole.reshape(*left.shape[:2], *right.shape[:2]).transpose(1, 0, 3, 2)


@pytest.mark.parametrize("profile", PROFILES)
def test_derivatives_are_those_of_differences(profile):
    whole, h = blocks(profile, functionals(X, AT_X), functionals(Y, AT_Y)), 1e-4

    def kernel(x, y):
        return blocks(profile, functionals(x, None), functionals(y, None))[:, 0, :, 0]

    assert np.allclose(whole[:, 0, :, 0], kernel(X, Y), atol=1e-14)
    for a in range(2):
        x = X + h * AT_X[:, :, a], X - h * AT_X[:, :, a]
        y = Y + h * AT_Y[:, :, a], Y - h * AT_Y[:, :, a]
        assert np.allclose(whole[:, 1 + a, :, 0], (kernel(x[0], Y) - kernel(x[1], Y)) / (2 * h), atol=1e-7)
        assert np.allclose(whole[:, 0, :, 1 + a], (kernel(X, y[0]) - kernel(X, y[1])) / (2 * h), atol=1e-7)
        second = kernel(x[0], y[0]) - kernel(x[0], y[1]) - kernel(x[1], y[0]) + kernel(x[1], y[1])
        assert np.allclose(whole[:, 1 + a, :, 1 + a], second / (4 * h * h), atol=1e-5)


@pytest.mark.parametrize("profile", PROFILES)
def test_of_one_set_it_is_a_covariance(profile):
    at = functionals(X, AT_X)
    matrix = kernel_matrix(profile, WIDTH, at, at, same=True)
    assert np.allclose(matrix, matrix.T, atol=1e-13)
    assert np.linalg.eigvalsh(matrix).min() > 1e-8
    assert np.array_equal(np.diag(matrix)[:7], np.ones(7))


def test_many_at_once_are_one_after_the_other():
    left, right = functionals(RNG.normal(size=(4, 6, 3)), RNG.normal(size=(4, 6, 3, 2))), functionals(Y, AT_Y)
    together = kernel_matrix("matern_3_2", WIDTH, left, np.broadcast_to(right, (4, *right.shape)))
    for one, found in zip(left, together, strict=True):
        assert np.allclose(found, kernel_matrix("matern_3_2", WIDTH, one, right), atol=1e-13)
