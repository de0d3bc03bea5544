"""Domains whose Neumann eigenvalues are known, sampled, for bench_diffusion_map."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from diffeo import DiffusionMap, Observation
from scipy.optimize import brentq
from scipy.special import jvp, yvp

from bench.samples import mushroom


@dataclass(frozen=True)
class Domain:
    """Samples of a domain, its first eigenvalues without the 0, and the density exponent of the map."""

    samples: Observation | np.ndarray
    spectrum: np.ndarray
    alpha: float = 1.0


def box(*sides: float, count: int = 8) -> np.ndarray:
    """First eigenvalues of a box."""
    orders = itertools.product(range(count + 1), repeat=len(sides))
    values = sorted(sum((np.pi * k / side) ** 2 for k, side in zip(order, sides, strict=True)) for order in orders)
    return np.array(values[1 : count + 1])


def angles(n: int, seed: int, circles: int) -> Domain:
    """A circle, or the flat torus of two, by independent angles."""
    t = 2.0 * np.pi * np.random.default_rng(seed).random((n, circles))
    spectrum = {1: [1, 1, 4, 4, 9, 9, 16, 16], 2: [1, 1, 1, 1, 2, 2, 2, 2]}[circles]
    return Domain(np.column_stack([np.cos(t), np.sin(t)]), np.array(spectrum))


def line(power: int) -> Domain:
    """81 samples of [0, 2 pi], evenly spaced or with their spacing growing from one end."""
    return Domain(2.0 * np.pi * np.linspace(0.0, 1.0, 81)[:, None] ** power, np.arange(1, 5) ** 2 / 4.0)


def rectangle_grid() -> Domain:
    x, y = np.meshgrid(np.linspace(0.0, np.pi, 31), np.linspace(0.0, 2.0 * np.pi, 61))
    return Domain(np.column_stack([x.ravel(), y.ravel()]), box(np.pi, 2.0 * np.pi))


def sphere_grid() -> Domain:
    """60 by 30 angles: crowded at the poles."""
    a, b = np.meshgrid(2.0 * np.pi * np.arange(60) / 60, np.pi * (np.arange(30) + 0.5) / 30)
    points = np.stack([np.sin(b) * np.cos(a), np.sin(b) * np.sin(a), np.cos(b)], axis=-1).reshape(-1, 3)
    return Domain(points, np.array([2.0, 2.0, 2.0, 6.0]))


def uneven(n: int, seed: int) -> Domain:
    """The unit square with a density that grows 30-fold from side to side."""
    x = np.random.default_rng(seed).random((n, 2))
    return Domain(np.column_stack([np.log1p(29.0 * x[:, 0]) / np.log(30.0), x[:, 1]]), box(1.0, 1.0))


def ring(n: int, seed: int, hole: float = 0.3) -> Domain:
    """The unit disc with a round hole: J'_m(k) Y'_m(h k) = J'_m(h k) Y'_m(k)."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt(hole**2 + (1.0 - hole**2) * rng.random(n))
    angle = 2.0 * np.pi * rng.random(n)
    points = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    values = []
    for order in range(8):

        def mismatch(k: float, order: int = order) -> float:
            return float(jvp(order, k) * yvp(order, hole * k) - jvp(order, hole * k) * yvp(order, k))

        steps = np.linspace(0.2, 9.0, 900)
        signs = [mismatch(k) for k in steps]
        found = [
            brentq(mismatch, a, b) ** 2
            for a, b, at, to in zip(steps[:-1], steps[1:], signs[:-1], signs[1:], strict=True)
            if at * to < 0.0
        ]
        values += found if order == 0 else 2 * found
    return Domain(points, np.sort(values)[:8])


def exponential_line(alpha: float) -> Domain:
    """[0, 1] with density exp(2 x), at its quantiles: (2 (1 - alpha))^2 + (k pi)^2."""
    x = 0.5 * np.log1p((np.arange(1000) + 0.5) / 1000 * np.expm1(2.0))[:, None]
    return Domain(x, (2.0 * (1.0 - alpha)) ** 2 + (np.pi * np.arange(1, 5)) ** 2, alpha)


def square(n: int, seed: int) -> Domain:
    """Inputs of the unit square, seen through the mushroom."""
    return Domain(mushroom(n, seed), box(1.0, 1.0))


def cube(n: int, seed: int) -> Domain:
    return Domain(np.random.default_rng(seed).random((n, 3)), box(1.0, 1.0, 1.0))


def strip(n: int, seed: int) -> Domain:
    return Domain(np.random.default_rng(seed).random((n, 2)) * [1.0, 0.1], box(1.0, 0.1))


def fitted(domain: Domain) -> DiffusionMap:
    """By defaults, but for alpha."""
    return DiffusionMap(alpha=domain.alpha).fit(domain.samples)
