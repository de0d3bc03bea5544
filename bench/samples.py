"""Observations to run on: smooth measurements of uniform inputs, with their exact Jacobians."""

from __future__ import annotations

import numpy as np
from diffeo import Observation, mahalanobis_kernel


def mushroom(n: int, seed: int = 0) -> Observation:
    """Uniform x in the unit square, y = (x1 + x2^3, x2 - x1^3), Jacobians (Singer and Coifman 2008)."""
    x = np.random.default_rng(seed).random((n, 2))
    one = np.ones(n)
    jacobians = np.array([[one, 3 * x[:, 1] ** 2], [-3 * x[:, 0] ** 2, one]]).transpose(2, 0, 1)
    points = np.column_stack([x[:, 0] + x[:, 1] ** 3, x[:, 1] - x[:, 0] ** 3])
    return Observation.from_jacobians(points, np.ascontiguousarray(jacobians))


def unit_derivatives(n: int, m: int = 5, d: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, m) and Jacobians (n, m, d) of m random units y = tanh(z) + 0.3 z, z = A x + b, of uniform x."""
    rng = np.random.default_rng(0)
    x = rng.random((n, d))
    weights, biases = 1.5 * rng.normal(size=(m, d)), rng.normal(size=m)
    z = x @ weights.T + biases
    hidden = np.tanh(z)
    return hidden + 0.3 * z, (1.3 - hidden**2)[:, :, None] * weights


def units(n: int, m: int = 5, d: int = 2) -> Observation:
    """The observation of `unit_derivatives`."""
    return Observation.from_jacobians(*unit_derivatives(n, m, d), dim=d)


def epsilon_for(observation: Observation | np.ndarray, entries: float) -> float:
    """Bandwidth with `entries` entries a row, to 1 %, of a two-dimensional kernel.

    Entries grow in proportion to epsilon; the first guess forgets the boundary and the gates, the next ones do not.
    """
    epsilon = entries / (len(observation) * np.pi * 4 * np.log(1e4))
    for _ in range(5):
        share = mahalanobis_kernel(observation, epsilon=epsilon).nnz / (entries * len(observation))
        if abs(share - 1) < 0.01:
            break
        epsilon /= share
    return epsilon
