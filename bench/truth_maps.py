"""Matches whose true error is known: smooth networks, cliffs, bursts, hinges, noise, inexact landmarks, closed domains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from diffeo import Observation

from bench.manifolds import CLOSED, Units
from bench.networks import Pair, draw, spread_landmarks
from bench.verdict_pairs import Measure, Measured

Points = tuple[np.ndarray, np.ndarray]
# What draws samples, bursts and the errors of landmarks, where it is not what drew networks, landmarks and held-out inputs.
Again = np.random.Generator | None

# Units of a hidden layer, and inputs held out, of which the error is taken.
UNITS, HELD_OUT = 48, 300
# How far from the border of the unit cube held-out inputs stay: one in two hundred of its width.
BORDER = 0.005


@dataclass(frozen=True)
class KnownMap:
    """One match to make, and the truth."""

    kind: str
    name: str
    a: Observation
    b: Observation
    landmarks: Points | np.ndarray
    held_out: Points  # without noise


def smooth(d: int, m: int, rng: np.random.Generator, cliff: float = 0.0) -> Measure:
    """m measurements of the unit cube by two layers of tanh units; with a cliff, a wall of that slope that they climb."""
    first, shift = rng.normal(size=(UNITS, d)) * 1.5 / np.sqrt(d), 0.5 * rng.normal(size=UNITS)
    second, height = rng.normal(size=(m, UNITS)) / np.sqrt(UNITS), 0.3 * rng.normal(size=m)
    place, bend = rng.uniform(0.35, 0.65), rng.uniform(0.0, 0.3)

    def measure(x: np.ndarray) -> Measured:
        hidden = np.tanh(x @ first.T + shift)
        y = np.tanh(hidden @ second.T)
        jacobians = ((1.0 - y**2)[:, :, None] * second) @ ((1.0 - hidden**2)[:, :, None] * first)
        wall = np.tanh(cliff * (x[:, 0] + bend * np.sin(4.0 * x[:, -1]) - place))
        slope = np.zeros_like(x)
        slope[:, 0] += 1.0
        slope[:, -1] += 4.0 * bend * np.cos(4.0 * x[:, -1])
        slope *= (cliff * (1.0 - wall**2))[:, None]
        return y + wall[:, None] * height, jacobians + height[:, None] * slope[:, None, :]

    return measure


def spread_inputs(count: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Inputs (count, d) of landmarks: no direction of the cube is left without a spread of a tenth."""
    while True:
        x = 0.05 + 0.9 * rng.random((count, d))
        if count <= d or np.linalg.svd(x - x.mean(axis=0), compute_uv=False)[-1] >= 0.1 * np.sqrt(count):
            return x


def held_inputs(d: int, rng: np.random.Generator) -> np.ndarray:
    return BORDER + (1.0 - 2.0 * BORDER) * rng.random((HELD_OUT, d))


# Samples a side by dimension: few, some, plenty.
SAMPLES = {
    1: (60, 200, 1000),
    2: (300, 1000, 3000),
    3: (800, 2000, 5000),
    4: (1000, 2000, 3000),
    5: (1500, 2000, 3000),
}
# Dimensions of smooth maps, in turn: four and five are few, because a layout of 2,000 samples takes half a minute there.
DIMENSIONS = (1, 2, 3, 1, 2, 3, 4, 1, 2, 5)


def smooth_map(
    rng: np.random.Generator, d: int, n: int, n_landmarks: int, cliff: float = 0.0, again: Again = None
) -> KnownMap:
    a, b = (smooth(d, 2 * d + 1 + int(rng.integers(5)), rng, cliff) for _ in range(2))
    marks, held = spread_inputs(n_landmarks, d, rng), held_inputs(d, rng)
    rng = again or rng
    sides = [Observation.from_jacobians(*f(rng.random((n, d)))) for f in (a, b)]
    name = f"d = {d}, n = {n}, {n_landmarks} landmarks" + (f", cliff {cliff:g}" if cliff else "")
    return KnownMap("cliff" if cliff else "smooth", name, *sides, (a(marks)[0], b(marks)[0]), (a(held)[0], b(held)[0]))


def burst_map(rng: np.random.Generator, d: int, n: int, n_bursts: int, scale: float, again: Again = None) -> KnownMap:
    """Local covariances from bursts of inputs nearby."""
    a, b = (smooth(d, 2 * d + 2, rng) for _ in range(2))
    marks, held, sides = spread_inputs(d + 1, d, rng), held_inputs(d, rng), []
    rng = again or rng
    for f in (a, b):
        x = rng.random((n, d))
        around = x[:, None, :] + scale * rng.normal(size=(n, n_bursts, d))
        bursts = f(around.reshape(-1, d))[0].reshape(n, n_bursts, -1)
        sides.append(Observation.from_bursts(f(x)[0], bursts, scale=scale, dim=d))
    name = f"d = {d}, n = {n}, bursts of {n_bursts}, scale {scale:g}"
    return KnownMap("bursts", name, *sides, (a(marks)[0], b(marks)[0]), (a(held)[0], b(held)[0]))


def hinged_map(rng: np.random.Generator, n: int, gap: float, again: Again = None) -> KnownMap:
    """Two halves of a square, some spacings apart."""
    a, b = (smooth(2, 5 + int(rng.integers(3)), rng) for _ in range(2))

    def apart(x: np.ndarray) -> np.ndarray:
        x[:, 0] = np.where(x[:, 0] < 0.5, x[:, 0] * (1.0 - gap), 1.0 - (1.0 - x[:, 0]) * (1.0 - gap))
        return x

    marks, held = apart(spread_inputs(3, 2, rng)), apart(held_inputs(2, rng))
    rng = again or rng
    sides = [Observation.from_jacobians(*f(apart(rng.random((n, 2))))) for f in (a, b)]
    return KnownMap("hinge", f"n = {n}, gap {gap:g}", *sides, (a(marks)[0], b(marks)[0]), (a(held)[0], b(held)[0]))


def noisy_map(rng: np.random.Generator, n: int, level: float, n_landmarks: int) -> KnownMap:
    """Measured points with noise of this share of their spread, landmarks by rows; Jacobians are exact."""
    a, b = (smooth(2, 20, rng) for _ in range(2))
    marks, held, sides = spread_inputs(n_landmarks, 2, rng), held_inputs(2, rng), []
    for f in (a, b):
        y, jacobians = f(np.concatenate([marks, rng.random((n, 2))]))
        sides.append(Observation.from_jacobians(y + level * y.std(axis=0).mean() * rng.normal(size=y.shape), jacobians))
    rows = np.column_stack([np.arange(n_landmarks)] * 2)
    name = f"n = {n}, noise {100 * level:g} %, {n_landmarks} landmarks"
    return KnownMap("noise", name, *sides, rows, (a(held)[0], b(held)[0]))


def inexact_map(
    rng: np.random.Generator, d: int, n: int, n_landmarks: int, off: float, again: Again = None
) -> KnownMap:
    """Landmarks whose inputs are not quite common: off by this share of the domain's width."""
    a, b = (smooth(d, 2 * d + 2, rng) for _ in range(2))
    marks, held = spread_inputs(n_landmarks, d, rng), held_inputs(d, rng)
    rng = again or rng
    near = np.clip(marks + off * rng.normal(size=marks.shape), 0.01, 0.99)
    sides = [Observation.from_jacobians(*f(rng.random((n, d)))) for f in (a, b)]
    name = f"d = {d}, n = {n}, {n_landmarks} landmarks off by {100 * off:g} %"
    return KnownMap("inexact", name, *sides, (a(marks)[0], b(near)[0]), (a(held)[0], b(held)[0]))


def closed_map(rng: np.random.Generator, domain: str, n: int, n_landmarks: int, again: Again = None) -> KnownMap:
    sample, n_units = CLOSED[domain]
    marks, held = sample(n_landmarks, rng), sample(HELD_OUT, rng)
    sides, at_marks, at_held = [], [], []
    for _ in range(2):
        units = Units.random(n_units + 2, marks.points.shape[1], rng)
        # What the second side is made of comes after the samples of the first.
        side = units.observe(sample(n, rng), rng)
        sides.append(units.observe(sample(n, again), again) if again else side)
        at_marks.append(units(marks.points))
        at_held.append(units(held.points))
    name = f"{domain}, n = {n}, {n_landmarks} landmarks"
    return KnownMap("closed", name, *sides, (at_marks[0], at_marks[1]), (at_held[0], at_held[1]))


def trained_map(pair: Pair, seed: int, n: int, n_landmarks: int) -> KnownMap:
    """Random hidden neurons of two networks that were trained on one function."""
    drawn, rng = draw(pair, seed, n), np.random.default_rng([seed, 2])
    held = held_inputs(pair.n_inputs, rng)
    marks = spread_landmarks(pair, seed, n_landmarks)
    return KnownMap("trained", f"{drawn.name}, n = {n}", drawn.a, drawn.b, drawn.pairs(marks), drawn.pairs(held))


KINDS = ("smooth", "cliffs", "bursts", "hinges", "noise", "inexact landmarks", "closed", "trained")


def kind_of_maps(kind: str, count: int, seed: int, pairs: list[Pair]) -> Iterator[Callable[[], KnownMap]]:
    """`count` maps of a kind, to be made one after another; `pairs` are of trained networks, for that kind."""
    for number in range(count):
        yield lambda number=number: map_of(kind, number, seed, pairs)


def map_of(kind: str, number: int, seed: int, pairs: list[Pair], again: Again = None) -> KnownMap:
    """One of the maps of a kind; `again` draws its samples anew (not those of noise and of trained networks)."""
    rng = np.random.default_rng([seed, number, *kind.encode()])
    more = int(rng.choice([0, 0, 1, 4, 20]))
    if kind in ("smooth", "cliffs"):
        d = DIMENSIONS[number % len(DIMENSIONS)] if kind == "smooth" else 1 + number % 3
        cliff = float(rng.choice([5, 10, 15, 25])) if kind == "cliffs" else 0.0
        return smooth_map(rng, d, int(rng.choice(SAMPLES[d])), (d + 1) * (1 + more), cliff, again)
    if kind == "bursts":
        d = 1 + number % 3
        n, n_bursts = int(rng.choice(SAMPLES[d][1:])), int(rng.choice([20, 50, 200]))
        return burst_map(rng, d, n, n_bursts, float(rng.choice([0.003, 0.01])), again)
    if kind == "hinges":
        return hinged_map(rng, int(rng.choice([1000, 2000])), rng.uniform(0.05, 0.12), again)
    if kind == "noise":
        return noisy_map(rng, int(rng.choice([500, 1000, 2000])), float(rng.choice([0.002, 0.01, 0.03])), 4 + more)
    if kind == "inexact landmarks":
        d = 1 + number % 3
        return inexact_map(rng, d, SAMPLES[d][1], d + 1 + more, float(10.0 ** rng.uniform(-3.0, -1.3)), again)
    if kind == "closed":
        return closed_map(rng, sorted(CLOSED)[number % 3], int(rng.choice([1000, 2000])), 6 + more, again)
    pair = pairs[number % len(pairs)]
    return trained_map(pair, number, int(rng.choice([500, 1500, 4000])), (pair.n_inputs + 1) * (1 + more))
