"""Measurement maps with exact Jacobians, random rotations, and how far apart subspaces are."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from diffeo import Observation, reference


def square(n, dim=2, seed=0):
    """Points drawn uniformly from the unit cube."""
    return np.random.default_rng(seed).random((n, dim))


def mushroom(x):
    """The map (x1 + x2^3, x2 - x1^3) of the plane, and its Jacobians."""
    one = np.ones(len(x))
    y = np.stack([x[:, 0] + x[:, 1] ** 3, x[:, 1] - x[:, 0] ** 3], axis=1)
    rows = [[one, 3 * x[:, 1] ** 2], [-3 * x[:, 0] ** 2, one]]
    return y, np.ascontiguousarray(np.moveaxis(np.array(rows), 2, 0))


def smooth_map(dim, m, seed=0, bend=0.3):
    """A random map of R^dim to R^m, linear plus `bend` times waves, that gives (points, jacobians)."""
    rng = np.random.default_rng(seed)
    linear, waves, phases = rng.normal(size=(m, dim)), rng.normal(size=(m, dim)), rng.uniform(0, 2 * np.pi, m)
    # A first measurement per direction keeps the map an immersion where m allows it.
    linear[: min(m, dim)] += 2.0 * np.eye(min(m, dim), dim)

    def measure(x):
        angles = 2.0 * (x @ waves.T) + phases
        slopes = 2.0 * bend * np.cos(angles)
        return x @ linear.T + bend * np.sin(angles), linear + slopes[:, :, None] * waves

    return measure


def random_orthogonal(n, p, seed=0):
    """n random orthogonal p-by-p matrices."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(n, p, p)))
    return q * np.sign(np.einsum("nii->ni", r))[:, None, :]


def smooth_observation(n, dim, m, seed=0, bend=0.3):
    """An observation of the unit cube by a random smooth map."""
    return Observation.from_jacobians(*smooth_map(dim, m, seed, bend)(square(n, dim, seed + 1)), dim=dim)


def subspace_gap(u, v):
    """Sine of the largest principal angle between the column spaces of two matrices of equal width."""
    qu, qv = np.linalg.qr(u)[0], np.linalg.qr(v)[0]
    return float(np.linalg.norm(qu - qv @ (qv.T @ qu), 2))


def relative_gap(fitted, true):
    """Residual of regressing the columns of `true` on those of `fitted` and 1, relative to their spread."""
    basis = np.column_stack([np.ones(len(fitted)), fitted])
    residual = true - basis @ np.linalg.lstsq(basis, true, rcond=None)[0]
    return np.linalg.norm(residual, axis=0) / np.linalg.norm(true - true.mean(axis=0), axis=0)


def clusters(values, gap=1e-3):
    """Slices of runs of sorted values whose neighbours differ by less than `gap` relatively."""
    values = np.asarray(values)
    borders = np.flatnonzero(np.abs(np.diff(values)) > gap * np.abs(values[1:])) + 1
    edges = [0, *borders.tolist(), len(values)]
    return [slice(a, b) for a, b in pairwise(edges)]


def dense_operator(fitted, alpha=1.0):
    """Row sums, degrees and S of a fitted diffusion map, by reference.py."""
    observation = fitted.kernel_.observation
    if isinstance(observation, Observation):
        k, _ = reference.kernel(observation.points, observation.whitening, fitted.epsilon_)
    else:
        k = reference.euclidean_kernel(observation, fitted.epsilon_)
    return reference.normalise(k, alpha)


def quadrilateral(n, seed):
    """Uniform points of a quadrilateral without symmetry."""
    x = square(4 * n, 2, seed)
    return x[(x[:, 1] < 0.5 + 0.5 * x[:, 0]) & (x[:, 0] > 0.1 * x[:, 1])][:n]


def wave(x):
    """A smooth quantity of points of the plane, (n, 1)."""
    return (np.sin(3 * x[:, 0] + 2 * x[:, 1]) + np.cos(4 * x[:, 1] - x[:, 0]))[:, None]
