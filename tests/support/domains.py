"""Closed and curved input domains seen by smooth measurements, which several stages are tested on."""

from __future__ import annotations

import numpy as np
from diffeo import Observation
from support.samples import random_orthogonal, smooth_map, square


def seen(points, tangents, m, seed=0, bend=0.2):
    """An observation of points (n, D) with tangents (n, D, d); every Jacobian is turned by its own rotation."""
    y, outer = smooth_map(points.shape[1], m, seed, bend)(points)
    jacobians = outer @ tangents
    turned = jacobians @ random_orthogonal(len(y), jacobians.shape[2], seed=11)
    return Observation.from_jacobians(y, np.ascontiguousarray(turned), dim=jacobians.shape[2])


def closed(n, periods, width=0.0, seed=0, m=7):
    """Flat coordinates (n, d) of a domain with periods (k, d), `width` across, and its observation."""
    periods = np.array(periods, dtype=float)
    k, d = periods.shape
    across = np.linalg.svd(periods)[2][k:]
    x = square(n, k, seed) @ periods + width * square(n, d - k, seed + 1) @ across
    turn = 2 * np.pi * np.linalg.pinv(periods)
    radius = np.linalg.norm(periods, axis=1) / (2 * np.pi)
    cos, sin = radius * np.cos(x @ turn), radius * np.sin(x @ turn)
    points = np.hstack([cos, sin, x @ across.T])
    rest = np.broadcast_to(across, (n, d - k, d))
    tangents = np.concatenate([-sin[:, :, None] * turn.T, cos[:, :, None] * turn.T, rest], axis=1)
    return x, seen(points, tangents, m, seed)


def annulus(n, seed=0):
    x = 2 * square(4 * n, 2, seed) - 1
    radius = np.linalg.norm(x, axis=1)
    x = x[(radius > 0.5) & (radius < 1)][:n]
    return x, seen(x, np.broadcast_to(np.eye(2), (n, 2, 2)), 5, seed)


def sphere(n, seed=0):
    normal = np.random.default_rng(seed).normal(size=(n, 3))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    tangents = np.linalg.svd(normal[:, None, :])[2][:, 1:, :].transpose(0, 2, 1)
    return normal, seen(normal, tangents, 5, seed)


def moebius(n, seed=0):
    """A Moebius strip of length 2 pi and width 1, with its intrinsic (flat) coordinates."""
    x = square(n, 2, seed) * [2 * np.pi, 1.0] - [0.0, 0.5]
    u, v = x.T
    cos, sin, half_cos, half_sin = np.cos(u), np.sin(u), np.cos(u / 2), np.sin(u / 2)
    radius = 1.0 + v * half_cos
    points = np.stack([radius * cos, radius * sin, v * half_sin], axis=1)
    along = [-radius * sin - 0.5 * v * half_sin * cos, radius * cos - 0.5 * v * half_sin * sin, 0.5 * v * half_cos]
    across = [half_cos * cos, half_cos * sin, half_sin]
    return x, seen(points, np.stack([np.stack(along, axis=1), np.stack(across, axis=1)], axis=2), 5, seed, bend=0.1)


def crossing(n, dim, seed=0):
    """A figure of eight (times an interval): two sheets that cross at t = 0 and t = pi."""
    t, rest = 2 * np.pi * square(n, 1, seed), square(n, dim - 1, seed + 1)
    jacobians = np.zeros((n, dim + 1, dim))
    jacobians[:, 0, 0], jacobians[:, 1, 0] = np.cos(t[:, 0]), 2 * np.cos(2 * t[:, 0])
    jacobians[:, 2:, 1:] = np.eye(dim - 1)
    turned = jacobians @ random_orthogonal(n, dim, seed=2)
    return np.hstack([t, rest]), Observation.from_jacobians(np.hstack([np.sin(t), np.sin(2 * t), rest]), turned)


def arms(shape, n, width=0.12, seed=0):
    """Samples of the unit square in the shape of an L, a U or a C with arms of some width, and their observation."""
    x = square(40 * n, 2, seed)
    left, right, below = x[:, 0] < width, x[:, 0] > 1.0 - width, x[:, 1] < width
    centred = x - 0.5
    bow = np.abs(np.linalg.norm(centred, axis=1) - 0.5 + 0.5 * width) < 0.5 * width
    gap = (centred[:, 0] > 0.0) & (np.abs(centred[:, 1]) < 0.2)
    inside = {"L": left | below, "U": left | right | below, "C": bow & ~gap}[shape]
    x = x[inside][:n]
    return x, seen(x, np.broadcast_to(np.eye(2), (n, 2, 2)), 5, seed)
