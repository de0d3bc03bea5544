"""Measurements with a cliff: a ridge across the square where they change many times faster than elsewhere."""

from __future__ import annotations

import numpy as np


class Cliff:
    """Five measurements of the square, all with a front of this width along a curve, and their Jacobians."""

    def __init__(self, width, seed=0):
        rng = np.random.default_rng(seed)
        self.width, self.linear, self.steps = width, rng.normal(size=(2, 5)), 0.5 * rng.normal(size=5)
        self.waves = 0.7 * rng.normal(size=(2, 5))

    def place(self, x):
        """Signed distance from the middle of the front, in its widths."""
        return (0.95 * (x[:, 0] - 0.5) + 0.3 * (x[:, 1] - 0.5) + 0.15 * np.sin(3 * x[:, 1])) / self.width

    def __call__(self, x):
        u = self.place(x)
        slope = np.stack([np.full(len(x), 0.95), 0.3 + 0.45 * np.cos(3 * x[:, 1])], axis=1) / self.width
        steep = slope / np.cosh(np.clip(u, -300, 300))[:, None] ** 2
        points = np.sin(x @ self.waves) + x @ self.linear + np.tanh(u)[:, None] * self.steps
        jacobians = np.cos(x @ self.waves)[:, :, None] * self.waves.T + self.linear.T
        return points, jacobians + self.steps[:, None] * steep[:, None, :]


def cliff(width, seed=0):
    """A cliff of this width."""
    return Cliff(width, seed)


def wall(width):
    """The plane with a step of this width at the line 0.5."""

    def measure(x):
        u = (x[:, 0] - 0.5) / width
        jacobians = np.zeros((len(x), 3, 2))
        jacobians[:, 0, 0] = jacobians[:, 1, 1] = 1.0
        jacobians[:, 2, 0] = 1.0 / width / np.cosh(np.clip(u, -300, 300)) ** 2
        return np.column_stack([x, np.tanh(u)]), jacobians

    return measure
