"""Two measurement maps with exact Jacobians on one square, their observations and their match."""

from __future__ import annotations

import functools

import numpy as np
from diffeo import Observation, match, relative_error
from support.samples import smooth_map, square

THREE = np.array([[0.1, 0.2], [0.9, 0.3], [0.4, 0.8]])
SIX = np.vstack([THREE, [[0.7, 0.6], [0.2, 0.5], [0.85, 0.9]]])
NEW = 0.01 + 0.98 * square(300, seed=999)


def maps(seed=0):
    """The measurements of the two networks."""
    return smooth_map(2, 5, 2 * seed), smooth_map(2, 6, 2 * seed + 1)


@functools.cache
def observations(seed=0, n=2000):
    """Both observations; they share no input."""
    a, b = maps(seed)
    return (
        Observation.from_jacobians(*a(square(n, 2, 50 + seed))),
        Observation.from_jacobians(*b(square(n, 2, 150 + seed))),
    )


def at(measures, x):
    """Measurements of both networks at common inputs."""
    return tuple(measure(x)[0] for measure in measures)


@functools.cache
def matched(seed=0, coordinates="auto"):
    return match(*observations(seed), landmarks=at(maps(seed), THREE), coordinates=coordinates)


def both_errors(found, measures, x):
    """Relative errors of the forward and the backward map at new inputs."""
    a, b = at(measures, x)
    return relative_error(found.transform(a), b), relative_error(found.inverse_transform(b), a)


def assert_names(found, *words):
    """Some problem mentions each of the words."""
    for word in words:
        assert any(word in problem for problem in found.diagnostics.problems), found.diagnostics.problems
