"""Networks and maps with a cliff: a front much thinner than the square across which they change."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import diffeo
import numpy as np
from diffeo import errors
from diffeo.demos.training import fit, import_torch, train

HELD_OUT = 400
# The front, as a share of the square; widths of both perceptrons; the layer that is observed, the last hidden one.
WIDTH = 1 / 40
NETWORKS = (((48, 48), "3"), ((64, 40), "3"))
# Neurons of the layer that are measured: random projections, which mix all.
PROJECTIONS = 10
# Outputs of perceptrons that are looked at by what they say; inputs that these learn from.
OUTPUTS, LEARNED_FROM = 8, 20000


@dataclass(frozen=True)
class CliffPair:
    """Two networks of `d` inputs, their layers (None: the outputs), and by how much each misses what it learned."""

    networks: tuple[Any, Any]
    layers: tuple[str | None, str | None]
    misfits: tuple[float, float]
    d: int = 2


@dataclass(frozen=True)
class Matched:
    """The error of a map, infinite where it was refused; the seconds of the match; what was named."""

    error: float
    seconds: float
    problems: list[str]
    refusal: str = ""

    @property
    def told(self) -> str:
        return f"refused ({self.refusal})" if self.refusal else f"{len(self.problems)} problems"


def field(x: Any) -> Any:
    """A front along a curve, over a slope and a wave, at torch inputs (n, d), of two or three inputs."""
    slope = 0.5 * x[:, 1] + 0.3 * (4 * x[:, 0] + 2 * x[:, 1]).sin()
    return (_from_front(x) / WIDTH).tanh() + slope + (0.4 * (3 * x[:, 2] + x[:, 0]).sin() if x.shape[1] > 2 else 0.0)


def _from_front(x: Any) -> Any:
    return 0.95 * (x[:, 0] - 0.5) + 0.3 * (x[:, -1] - 0.5) + 0.15 * (3 * x[:, 1]).sin()


@functools.cache
def trained(steps: int, d: int = 2) -> CliffPair:
    """Two swish perceptrons of d inputs trained on the field."""
    found = [
        train(field, n_inputs=d, widths=widths, activation="SiLU", seed=7 + k, steps=steps, name=f"front {'AB'[k]}")
        for k, (widths, _) in enumerate(NETWORKS)
    ]
    (a, miss_a), (b, miss_b) = found
    return CliffPair((a, b), (NETWORKS[0][1], NETWORKS[1][1]), (miss_a, miss_b), d)


@functools.cache
def trained_outputs(steps: int) -> CliffPair:
    """Two swish perceptrons with several outputs each, not the other's, of two inputs: waves over one front."""
    torch = import_torch()
    networks, misfits = [], []
    for k, (widths, _) in enumerate(NETWORKS):
        rng = np.random.default_rng([11, k])
        x = torch.as_tensor(rng.random((LEARNED_FROM, 2)))
        waves, shifts, heights = (torch.as_tensor(rng.normal(size=size)) for size in ((2, OUTPUTS), OUTPUTS, OUTPUTS))
        front = (_from_front(x) / WIDTH).tanh()[:, None]
        y = (2.0 * x @ waves + 3.0 * shifts).sin() + 0.5 * front * heights
        name = f"outputs {'AB'[k]}"
        network = fit(2, widths, "SiLU", (x.numpy(), y.numpy()), seed=7 + k, steps=steps, polish=0, name=name)
        with torch.no_grad():
            misfits.append(float(torch.linalg.norm(network(x) - y) / torch.linalg.norm(y - y.mean(dim=0))))
        networks.append(network)
    return CliffPair((networks[0], networks[1]), (None, None), (misfits[0], misfits[1]))


def matched(pair: CliffPair, n: int, refine: int | None, seed: int) -> Matched:
    """Match both layers from n uniform inputs a side, no input shared, and `refine` added ones; by d + 1 landmarks."""
    rng, d = np.random.default_rng([seed, 5]), pair.d
    how = [
        {} if layer is None else {"layer": layer, "reduce": diffeo.RandomProjection(PROJECTIONS)}
        for layer in pair.layers
    ]
    sides = [
        diffeo.observe(network, rng.random((n, d)), refine=refine, **one)
        for network, one in zip(pair.networks, how, strict=True)
    ]
    marks, new = 0.1 + 0.8 * rng.random((d + 1, d)), 0.02 + 0.96 * rng.random((HELD_OUT, d))
    while np.linalg.svd(marks - marks.mean(axis=0), compute_uv=False)[-1] < 0.3:
        marks = 0.1 + 0.8 * rng.random((d + 1, d))
    known, held = ([side.measure(net, x) for side, net in zip(sides, pair.networks, strict=True)] for x in (marks, new))
    start = time.perf_counter()
    try:
        t = diffeo.match(*sides, landmarks=tuple(known), check=False)
    except errors.DiffeoError as error:
        return Matched(np.inf, time.perf_counter() - start, [], type(error).__name__)
    seconds = time.perf_counter() - start
    return Matched(diffeo.relative_error(t.transform(held[0]), held[1]), seconds, t.diagnostics.problems)


def front(x: np.ndarray, width: float | None, m: int = 5) -> diffeo.Observation:
    """An observation of m measurements at x (n, 2) with a front of this width, or none, and exact derivatives."""
    rng = np.random.default_rng(0)
    linear, waves, heights = rng.normal(size=(2, m)), 0.7 * rng.normal(size=(2, m)), 0.5 * rng.normal(size=m)
    points = np.sin(x @ waves) + x @ linear
    jacobians = np.cos(x @ waves)[:, :, None] * waves.T + linear.T
    if width is not None:
        u = (0.95 * (x[:, 0] - 0.5) + 0.3 * (x[:, 1] - 0.5) + 0.15 * np.sin(3 * x[:, 1])) / width
        slope = np.stack([np.full(len(x), 0.95), 0.3 + 0.45 * np.cos(3 * x[:, 1])], axis=1) / width
        points = points + np.tanh(u)[:, None] * heights
        jacobians = jacobians + heights[:, None] * (slope / np.cosh(u)[:, None] ** 2)[:, None, :]
    return diffeo.Observation.from_jacobians(points, jacobians)


def rigid_error(found: np.ndarray, true: np.ndarray) -> float:
    """Relative distance of coordinates after the best rigid motion."""
    p, q = found - found.mean(axis=0), true - true.mean(axis=0)
    u, _, vt = np.linalg.svd(p.T @ q)
    return float(np.linalg.norm(p @ (u @ vt) - q) / np.linalg.norm(q))
