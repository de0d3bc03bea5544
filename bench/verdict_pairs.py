"""Pairs of networks of which one may have lost something of the input, with what a verdict has to say of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffeo import Observation
from diffeo.demos.training import BATCH, import_torch, perceptron

Measured = tuple[np.ndarray, np.ndarray]
Measure = Callable[[np.ndarray], Measured]

# Units of a random network, and the spread of their weights: on [-1, 1]^2 they bend by a radian or so.
UNITS, WEIGHTS = 16, 0.6


def inputs(n: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform in the square [-1, 1]^2."""
    return rng.uniform(-1.0, 1.0, (n, 2))


def network(m: int, k: int, rng: np.random.Generator) -> Measure:
    """m outputs of one layer of random units of k inputs, with their Jacobians."""
    first, shift = WEIGHTS * rng.normal(size=(UNITS, k)), 0.5 * rng.normal(size=UNITS)
    second = rng.normal(size=(m, UNITS)) / np.sqrt(UNITS)

    def measure(z: np.ndarray) -> Measured:
        units = np.tanh(z @ first.T + shift)
        return units @ second.T, (second * (1.0 - units**2)[:, None]) @ first

    return measure


def after(outer: Measure, inner: Measure) -> Measure:
    """The composition, with its Jacobians."""

    def measure(x: np.ndarray) -> Measured:
        z, slopes = inner(x)
        y, outer_slopes = outer(z)
        return y, outer_slopes @ slopes

    return measure


def bent(rng: np.random.Generator) -> Measure:
    """An invertible function of the square: a turn, and waves too weak to fold."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    phases = rng.uniform(0.0, 2.0 * np.pi, 2)

    def measure(x: np.ndarray) -> Measured:
        z = x @ turn.T
        waves, slopes = 0.15 * np.sin(2.0 * z + phases), 0.3 * np.cos(2.0 * z + phases)
        jacobians = np.tile(turn, (len(x), 1, 1))
        # Each coordinate gets the wave of the other one.
        jacobians[:, 0] += slopes[:, 1:] * turn[1]
        jacobians[:, 1] += slopes[:, :1] * turn[0]
        return z + waves[:, ::-1], jacobians

    return measure


def ignoring(x: np.ndarray) -> Measured:
    """The first coordinate alone."""
    return x[:, :1], np.tile([[1.0, 0.0]], (len(x), 1, 1))


def folding(x: np.ndarray) -> Measured:
    """The square of the first coordinate, and the second."""
    jacobians = np.zeros((len(x), 2, 2))
    jacobians[:, 0, 0], jacobians[:, 1, 1] = 2.0 * x[:, 0], 1.0
    return np.column_stack([x[:, 0] ** 2, x[:, 1]]), jacobians


@dataclass(frozen=True)
class LostPair:
    """Measurements of a keeping and a losing side, and what is lost."""

    keeps: Measure
    loses: Measure
    kind: str
    direction: np.ndarray | None  # in the input, where it is the same everywhere
    # Of folds: the other input, in the square or outside, of which the losing side measures the same.
    twin: Callable[[np.ndarray], np.ndarray] | None = None


def turned(rng: np.random.Generator) -> tuple[Measure, np.ndarray]:
    """A rotation of the square, and its matrix."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (lambda x: (x @ turn.T, np.tile(turn, (len(x), 1, 1)))), turn


def ignored_input(rng: np.random.Generator) -> LostPair:
    """A bottleneck of one unit: five measurements of one direction of the input."""
    turn, matrix = turned(rng)
    return LostPair(network(5, 2, rng), after(network(5, 1, rng), after(ignoring, turn)), "collapse", matrix[1])


def folded_domain(rng: np.random.Generator) -> LostPair:
    """Five measurements that are even functions of one direction of the input."""
    turn, matrix = turned(rng)
    axis = matrix[0]
    return LostPair(
        network(5, 2, rng),
        after(network(5, 2, rng), after(folding, turn)),
        "fold",
        axis,
        lambda x: x - 2.0 * (x @ axis)[:, None] * axis,
    )


def other_level_sets(rng: np.random.Generator) -> LostPair:
    """Two outputs that are an invertible function of the input, and two of a fold of another invertible function."""
    keeps, outer, inner = bent(rng), bent(rng), bent(rng)

    def twin(x: np.ndarray) -> np.ndarray:
        """By Newton's method, in steps short enough for the waves of `bent`."""
        wanted, found = inner(x)[0] * (-1.0, 1.0), np.zeros_like(x)
        for _ in range(100):
            z, slopes = inner(found)
            found = found - np.clip(np.linalg.solve(slopes, (z - wanted)[:, :, None])[:, :, 0], -0.3, 0.3)
        return found

    return LostPair(keeps, after(outer, after(folding, inner)), "fold", None, twin)


def nothing_lost(rng: np.random.Generator) -> LostPair:
    """Five measurements of the input on both sides."""
    return LostPair(network(5, 2, rng), network(5, 2, rng), "", None)


def observed(measure: Measure, x: np.ndarray) -> Observation:
    return Observation.from_jacobians(*measure(x))


def trained(target: Callable[[Any], Any], n_outputs: int, seed: int, steps: int, start: Any = None) -> Any:
    """A network trained on several outputs at once, on inputs in [-1, 1]^2; or a trained one, trained on."""
    torch = import_torch()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = perceptron(2, (48, 48), "Tanh", n_outputs)
    if start is not None:
        hidden = {name: value for name, value in start.state_dict().items() if not name.startswith("4.")}
        model.load_state_dict(model.state_dict() | hidden)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x = 2.0 * torch.rand(BATCH, 2, dtype=torch.double) - 1.0
        loss = ((model(x) - target(x)) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def embedding_task(x: Any) -> Any:
    """Three outputs that embed the square."""
    import torch

    return torch.stack([x[:, 0] + 0.3 * (2.0 * x[:, 1]).sin(), x[:, 1] - 0.3 * x[:, 0] ** 2, x[:, 0] * x[:, 1]], dim=1)


def folding_task(x: Any) -> Any:
    """Three outputs that know the first input up to its sign."""
    import torch

    return torch.stack([x[:, 0] ** 2, x[:, 1], (x[:, 0] ** 2 * x[:, 1]).sin()], dim=1)
