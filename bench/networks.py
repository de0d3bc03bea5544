"""Pairs of networks trained on one function of two or three inputs, and draws of hidden neurons from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffeo import Observation, observe, suggest_neurons
from diffeo.demos.training import train

# Functions on the unit square that the pairs learn: a wave, a hill with a slope, a saddle, a ripple.
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "wave": lambda x: (3.0 * x[:, 0] + 2.0 * x[:, 1]).sin() + 0.5 * x[:, 0] * x[:, 1],
    "hill": lambda x: (-6.0 * ((x[:, 0] - 0.4) ** 2 + (x[:, 1] - 0.6) ** 2)).exp() + 0.3 * x[:, 0],
    "saddle": lambda x: (2.0 * x[:, 0] - 1.0) * (2.0 * x[:, 1] - 0.6) + 0.3 * (4.0 * x[:, 1]).cos(),
    "ripple": lambda x: (4.0 * (x[:, 0] ** 2 + x[:, 1] ** 2).sqrt()).cos() + x[:, 1] ** 2,
}
# The same on the unit cube.
FUNCTIONS_OF_THREE: dict[str, Callable[[Any], Any]] = {
    "wave of three": lambda x: (2.0 * x[:, 0] + x[:, 1] + 2.0 * x[:, 2]).sin() + 0.5 * x[:, 0] * x[:, 1],
    "saddle of three": lambda x: (2.0 * x[:, 0] - 1.0) * (2.0 * x[:, 1] - 0.6) + (2.0 * x[:, 2]).cos() * x[:, 0],
}
# Two architectures a pair, of different width, depth and activation.
ARCHITECTURES = (
    (((32, 32), "Tanh"), ((64, 48, 24), "SiLU")),
    (((48, 24), "GELU"), ((24, 24, 24), "Tanh")),
)
TRAINING_STEPS = 2000
# Landmarks nearer to one line than this multiply their own errors, and a problem says so below a quarter of it.
NARROWEST = 0.1

Inputs = Callable[[int, np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Pair:
    """Two trained networks, with the names of their hidden layers."""

    name: str
    n_inputs: int
    networks: tuple[Any, Any]
    layers: tuple[tuple[str, ...], tuple[str, ...]]
    errors: tuple[float, float]

    def inputs(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Uniform inputs (n, d) in the unit square or cube."""
        return rng.random((n, self.n_inputs))


@dataclass(frozen=True)
class Draw:
    """One match to make: both observations with their inputs, and the networks restricted to the chosen neurons."""

    name: str
    inputs: tuple[np.ndarray, np.ndarray]
    a: Observation
    b: Observation
    measure_a: Callable[[np.ndarray], np.ndarray]
    measure_b: Callable[[np.ndarray], np.ndarray]
    bursts: tuple[Observation, Observation] | None = None

    def pairs(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What both measure at common inputs."""
        return self.measure_a(x), self.measure_b(x)


def train_pair(function: str, variant: int, steps: int = TRAINING_STEPS) -> Pair:
    """The pair of architectures `variant`, trained on one of FUNCTIONS or FUNCTIONS_OF_THREE; seeds follow from both."""
    functions, n_inputs = (FUNCTIONS, 2) if function in FUNCTIONS else (FUNCTIONS_OF_THREE, 3)
    number = list(functions).index(function) + (0 if n_inputs == 2 else len(FUNCTIONS))
    networks, layers, misfits = [], [], []
    for side, (widths, activation) in enumerate(ARCHITECTURES[variant]):
        network, misfit = train(
            functions[function],
            n_inputs=n_inputs,
            widths=widths,
            activation=activation,
            seed=100 * number + 10 * variant + side,
            steps=steps,
            name=f"{function} {variant} {'AB'[side]}",
        )
        networks.append(network)
        layers.append(tuple(str(2 * k + 1) for k in range(len(widths))))
        misfits.append(misfit)
    return Pair(
        f"{function}-{variant}", n_inputs, (networks[0], networks[1]), (layers[0], layers[1]), (misfits[0], misfits[1])
    )


def draw(
    pair: Pair,
    seed: int,
    n: int,
    n_neurons: int | None = None,
    *,
    suggested: bool = False,
    bursts: bool = False,
    inputs: Inputs | None = None,
) -> Draw:
    """2d + 1 neurons of a random hidden layer of each network, random or suggested, observed at n inputs each.

    No input is shared. With `bursts`, the same neurons at the same inputs are observed by bursts, too.
    """
    rng = np.random.default_rng([seed, *pair.name.encode()])
    count = 2 * pair.n_inputs + 1 if n_neurons is None else n_neurons
    sides, measures, names, noisy, drawn = [], [], [], [], []
    for network, layers in zip(pair.networks, pair.layers, strict=True):
        layer = layers[rng.integers(len(layers))]
        x = (inputs or pair.inputs)(n, rng)
        chosen: Any = count
        if suggested:
            chosen = suggest_neurons(network, x, layer=layer, n_neurons=count).neurons
        observation = observe(network, x, layer=layer, neurons=chosen, rng=int(rng.integers(2**31)))
        neurons = observation.neurons
        if bursts:
            noisy.append(observe(network, x, layer=layer, neurons=neurons, covariances="bursts", n_bursts=32))
        drawn.append(x)
        sides.append(observation)
        measures.append(measure_neurons(network, layer, neurons))
        names.append(f"{layer}:{','.join(map(str, neurons))}")
    name = f"{pair.name} seed {seed} ({' | '.join(names)})"
    by_bursts = (noisy[0], noisy[1]) if bursts else None
    return Draw(name, (drawn[0], drawn[1]), *sides, *measures, by_bursts)


def spread_landmarks(pair: Pair, seed: int, count: int, inputs: Inputs | None = None) -> np.ndarray:
    """Random inputs (count, d), drawn anew until their spread is at least NARROWEST in every direction.

    The spread is the root-mean-square deviation from their mean along the direction in which that is smallest.
    """
    rng = np.random.default_rng([seed, 1, *pair.name.encode()])
    while True:
        x = (inputs or pair.inputs)(count, rng)
        if np.linalg.svd(x - x.mean(axis=0), compute_uv=False)[-1] >= NARROWEST * np.sqrt(count):
            return x


def measure_neurons(network: Any, layer: str, neurons: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Activations (count, m) of these neurons at inputs (count, d)."""
    import torch

    depth = int(layer) + 1

    def measure(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            activations: np.ndarray = network[:depth](torch.as_tensor(x)).numpy()[:, neurons]
        return activations

    return measure
