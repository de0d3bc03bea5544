"""Hinges and corridors: layouts folded or turned without a word, over gaps and between rooms, in two and three dimensions."""

from __future__ import annotations

import warnings
from contextlib import nullcontext

import numpy as np
import pytest
from diffeo import Observation, embed
from diffeo.isometry import layout_search

# A layout is wrong above this relative error of its coordinates, laid on the inputs by a rigid motion.
WRONG = 0.02
KINDS = ("gap", "gap", "gap", "gap", "rooms", "rooms", "rooms", "two gaps", "three rooms", "cubes")


def boxes(n: int, corners: list[list[list[float]]], rng: np.random.Generator) -> np.ndarray:
    """Uniform in boxes, each given by its lowest and its highest corner, (n, d)."""
    low, high = np.asarray(corners, dtype=float).transpose(1, 0, 2)
    volume = np.prod(high - low, axis=1)
    box = rng.choice(len(volume), n, p=volume / volume.sum())
    return low[box] + rng.random((n, low.shape[1])) * (high - low)[box]


def inputs(kind: str, rng: np.random.Generator) -> np.ndarray:
    """1,000 to 4,000 points of a domain that hangs together at a gap or a corridor; random in its measures."""
    n = int(rng.integers(1000, 4001))
    if kind in ("gap", "cubes"):
        gap, d = (rng.uniform(0.08, 0.1), 2) if kind == "gap" else (rng.uniform(0.16, 0.2), 3)
        x = rng.random((n, d))
        x[:, 0] = np.where(x[:, 0] < 0.5, x[:, 0] * (1.0 - gap), 1.0 - (1.0 - x[:, 0]) * (1.0 - gap))
        return x
    if kind == "two gaps":
        gap = rng.uniform(0.07, 0.09)
        third = (1.0 - 2.0 * gap) / 3.0
        starts = [k * (third + gap) for k in range(3)]
        return boxes(max(n, 2000), [[[s, 0.0], [s + third, 1.0]] for s in starts], rng)
    width, length, first, second = rng.uniform([0.02, 0.1, 0.0, 0.0], [0.1, 0.4, 0.85, 0.85])
    far = 1.0 + length
    rooms = [[[0, 0], [1, 1]], [[1, first], [far, first + width]], [[far, 0], [far + 1, 1]]]
    if kind == "three rooms":
        rooms += [[[far + second, 1], [far + second + width, far]], [[far, far], [far + 1, far + 1]]]
    return boxes(n, rooms, rng) / (1.0 + 0.5 * length)


def network(d: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Weights of 2 d + 1 random neurons above a layer of random units."""
    units = max(32, 4 * d)
    first = rng.standard_normal((units, d)) * rng.uniform(1.0, 1.8) / np.sqrt(d)
    return first, 0.5 * rng.standard_normal(units), rng.standard_normal((2 * d + 1, units)) / np.sqrt(units)


def observed(x: np.ndarray, weights: tuple[np.ndarray, ...]) -> Observation:
    """Activations at inputs (n, d), with their Jacobians."""
    first, shift, second = weights
    hidden = np.tanh(x @ first.T + shift)
    points = np.tanh(hidden @ second.T)
    inner = (1.0 - hidden**2)[:, :, None] * first
    return Observation.from_jacobians(points, (1.0 - points**2)[:, :, None] * (second @ inner))


def layout_error(coordinates: np.ndarray, x: np.ndarray) -> float:
    """Relative error of coordinates after the best rigid motion, mirrors included."""
    found, true = coordinates - coordinates.mean(axis=0), x - x.mean(axis=0)
    u, _, vt = np.linalg.svd(found.T @ true)
    return float(np.linalg.norm(found @ (u @ vt) - true) / np.linalg.norm(true))


def laid_out(x: np.ndarray, observation: Observation, hinges: bool) -> tuple[bool, bool]:
    """Whether the layout is right, and whether its chart names a problem; without the search for hinges on demand."""
    with pytest.MonkeyPatch.context() if not hinges else nullcontext() as patch:
        if patch is not None:
            patch.setattr(layout_search, "find_hinges", lambda *_: None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            chart = embed(observation, coordinates="isometric")
            kept = np.setdiff1d(np.arange(len(x)), chart.left_out)
            return layout_error(chart.coordinates[kept], x[kept]) <= WRONG, bool(chart.problems)


def hinges(count: int, seed: int) -> tuple[int, int, int, int]:
    """Of `count` layouts: wrong without a word, with a problem named, right, and right only for the search for hinges."""
    silent = named = right = mended = 0
    for draw in range(count):
        rng = np.random.default_rng([seed, draw])
        x = inputs(KINDS[draw % len(KINDS)], rng)
        observation = observed(x, network(x.shape[1], rng))
        good, said = laid_out(x, observation, hinges=True)
        silent, named, right = silent + (not good and not said), named + said, right + good
        mended += good and not laid_out(x, observation, hinges=False)[0]
    return silent, named, right, mended
