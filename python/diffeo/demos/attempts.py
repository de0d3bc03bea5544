"""One attempt of an experiment: two networks observed, matched, and tested on held-out inputs beside plain fits."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.charts.chart import CoordinateChoice
from diffeo.matching.match_observations import match
from diffeo.matching.transformation import Transformation
from diffeo.networks.capture_activations import capture
from diffeo.networks.observe_networks import observe
from diffeo.observation.observation import Observation
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit
from diffeo.verdict.error_bounds import relative_error

# Pairs that align the two sides, and pairs that test the map.
LANDMARKS = 10
HELD_OUT = 500


@dataclass(frozen=True)
class Pair:
    """Two networks on one input domain, with landmarks and held-out inputs that neither sample holds."""

    a: Any
    b: Any
    n_inputs: int
    rng: np.random.Generator

    def inputs(self, n: int) -> FloatArray:
        """Fresh uniform inputs in the unit cube."""
        drawn: FloatArray = self.rng.random((n, self.n_inputs))
        return drawn


@dataclass(frozen=True)
class Outcome:
    """A match with its held-out errors, or the reason why there is none."""

    error: float | None
    error_back: float | None
    baselines: dict[str, float]
    problems: list[str]
    transformation: Transformation | None = None
    paper: Transformation | None = None
    true: FloatArray | None = None
    predicted: FloatArray | None = None
    inputs: tuple[FloatArray, FloatArray] | None = None

    def lines(self) -> list[str]:
        """What to print."""
        if self.error is None:
            return ["  refused: " + self.problems[0]]
        text = [f"  held-out relative error   A -> B {self.error:.2g}   B -> A {self.error_back:.2g}"]
        text += [f"    {name + ', same landmarks':<40}{value:.2g}" for name, value in self.baselines.items()]
        return text + [f"  problem: {problem}" for problem in self.problems]


def attempt(
    pair: Pair,
    layer: str | None,
    neurons: tuple[Any, Any],
    n: int,
    extra: FloatArray | None = None,
    *,
    coordinates: CoordinateChoice = "auto",
    opponents: bool = False,
) -> Outcome:
    """Observe both networks at different inputs, match them, and test on held-out pairs."""
    x_a, x_b = pair.inputs(n), pair.inputs(n)
    if extra is not None:
        x_a = np.vstack([extra, x_a])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            a = observe(pair.a, x_a, layer=layer, neurons=neurons[0], dim=pair.n_inputs)
            b = observe(pair.b, x_b, layer=layer, neurons=neurons[1], dim=pair.n_inputs)
            x_l, x_t = pair.inputs(LANDMARKS), pair.inputs(HELD_OUT)
            landmarks = a.measure(pair.a, x_l), b.measure(pair.b, x_l)
            # What is only counted in a sweep is not checked.
            found = match(a, b, landmarks=landmarks, coordinates=coordinates, check=opponents)
            test = a.measure(pair.a, x_t), b.measure(pair.b, x_t)
            predicted, back = found.transform(test[0]), found.inverse_transform(test[1])
        except errors.DiffeoError as error:
            return Outcome(None, None, {}, [str(error)])
        paper, baselines = _opponents(a, b, landmarks, test) if opponents else (None, {})
    problems = list(found.diagnostics.problems)
    problems += sorted({str(w.message) for w in caught if issubclass(w.category, errors.RankWarning)})
    forward, backward = relative_error(predicted, test[1]), relative_error(back, test[0])
    return Outcome(forward, backward, baselines, problems, found, paper, test[1], predicted, (x_a, x_b))


def _opponents(
    a: Observation, b: Observation, landmarks: tuple[FloatArray, FloatArray], test: tuple[FloatArray, FloatArray]
) -> tuple[Transformation | None, dict[str, float]]:
    """The paper's own coordinates, and plain fits to the same landmarks."""
    found = {}
    try:
        paper = match(a, b, landmarks=landmarks, coordinates="diffusion", check=False)
        found["the paper's coordinates"] = relative_error(paper.transform(test[0]), test[1])
    except errors.DiffeoError:
        paper = None
    found["affine fit"] = relative_error(affine_fit(*landmarks)(test[0]), test[1])
    found["Gaussian process"] = relative_error(gaussian_process_fit(*landmarks)(test[0]), test[1])
    return paper, found


def activations(network: Any, inputs: FloatArray, layer: str | None, neurons: Any) -> FloatArray:
    """Activations (n, len(neurons)) of one layer."""
    name = layer or ""
    measured: FloatArray = np.asarray(capture(network, inputs, [name])[name], dtype=np.float64)[:, neurons]
    return np.ascontiguousarray(measured)
