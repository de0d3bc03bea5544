"""Pairs of smooth maps, of cliffs, and of closed domains, with exact derivatives."""

from __future__ import annotations

import numpy as np
from diffeo import Pairs
from diffeo.matching.paired.components import components_of
from diffeo.matching.paired.sample import paired_sample
from support.samples import smooth_map, square


def with_cliff(dim, m, seed, slope):
    """A smooth map with a wall that its measurements climb, as steep as `slope`; gives (points, jacobians)."""
    smooth, height = smooth_map(dim, m, seed), np.random.default_rng(seed + 100).normal(size=m)

    def measure(x):
        points, jacobians = smooth(x)
        step = np.tanh(slope * (x[:, 0] - 0.6))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] += slope * (1.0 - step**2)[:, None] * height
        return points + step[:, None] * height, jacobians

    return measure


def pairs_of(a, b, x):
    """What two maps make of common inputs, with derivatives."""
    (ya, ja), (yb, jb) = a(x), b(x)
    return Pairs(ya, yb, ja, jb)


def smooth_pairs(n, dim=2, seed=0, widths=(5, 6), bend=0.3):
    """Pairs of two smooth maps, and these."""
    a, b = smooth_map(dim, widths[0], 2 * seed, bend), smooth_map(dim, widths[1], 2 * seed + 1, bend)
    return pairs_of(a, b, square(n, dim, seed + 7)), a, b


def sample_of_pairs(pairs, dim, with_slopes=True):
    """The pairs as the map from A to B sees them, with the components of both sides."""
    a, b = components_of(pairs.points_a), components_of(pairs.points_b)
    given = (a, pairs.points_a, pairs.jacobians_a), (b, pairs.points_b, pairs.jacobians_b)
    return paired_sample(*given, dim, with_slopes=with_slopes), a, b


def relative(predicted, true):
    return float(np.linalg.norm(predicted - true) / np.linalg.norm(true - true.mean(axis=0)))
