"""Maps beside the best of affine, Procrustes, Gaussian process and kernel ridge on the same pairs: smooth, cliffs, trained."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import diffeo
import numpy as np
from diffeo import Observation, RandomProjection, errors, observe
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit, kernel_ridge_fit, procrustes_fit
from tqdm import tqdm

from bench import cliffs
from bench.networks import FUNCTIONS, draw, train_pair
from bench.truth_maps import HELD_OUT, Points, held_inputs, smooth, spread_inputs
from bench.truth_networks import ORDINARY

NUMBERS_OF_PAIRS = (3, 10, 40, 200, 1000)
KINDS = ("smooth", "cliffs", "trained")
# Samples a side, of which a chart is made: some, as people have; beside a cliff of this slope they are too few.
SAMPLES, SLOPE = 600, 25.0
# Where the map and the best plain fit are both better than this, the ratio of their errors is that of rounding.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Given:
    """Two sides, pairs that both measured, and others to judge by."""

    name: str
    sides: tuple[Observation, Observation]
    pairs: Points
    new: Points


@dataclass(frozen=True)
class Beside:
    """Errors of a map and of the plain fits that could be made, on pairs held out."""

    name: str
    error: float  # infinite where it is refused
    fits: dict[str, float]
    joined: str
    seconds: tuple[float, float]  # of processors, for the map and for the fits

    @property
    def best(self) -> float:
        """Of the plain fits, in hindsight."""
        return min(self.fits.values())

    @property
    def ratio(self) -> float:
        """Of the map's error to that of the best fit."""
        return max(self.error, ROUNDING) / max(self.best, ROUNDING)

    def told(self) -> str:
        """One line."""
        plain = ", ".join(f"{name} {error:.2g}" for name, error in self.fits.items())
        return f"{self.name}: {self.error:.2g} ({self.joined}), {plain}: ratio {self.ratio:.2g}"


def _random(number: int, count: int, slope: float) -> Given:
    rng = np.random.default_rng([number, count, 3])
    a, b = (smooth(2, 7, rng, slope) for _ in range(2))
    one, other = (Observation.from_jacobians(*f(rng.random((SAMPLES, 2)))) for f in (a, b))
    marks, held = spread_inputs(count, 2, rng), held_inputs(2, rng)
    return Given(f"draw {number}", (one, other), (a(marks)[0], b(marks)[0]), (a(held)[0], b(held)[0]))


def _neurons(number: int, count: int, steps: int) -> Given:
    """Random hidden neurons of two perceptrons."""
    pair = train_pair(list(FUNCTIONS)[number % len(FUNCTIONS)], 0, steps)
    drawn, rng = draw(pair, 1000 + number, SAMPLES), np.random.default_rng([number, count, 4])
    marks, held = spread_inputs(count, 2, rng), held_inputs(2, rng)
    return Given(f"neurons, {drawn.name}", (drawn.a, drawn.b), drawn.pairs(marks), drawn.pairs(held))


def _front(number: int, count: int, steps: int) -> Given:
    """Last hidden layers of two perceptrons with a front."""
    pair, rng = cliffs.trained(steps), np.random.default_rng([number, count, 5])
    how = [{"layer": layer, "reduce": RandomProjection(cliffs.PROJECTIONS)} for layer in pair.layers]
    one, other = (
        observe(network, rng.random((SAMPLES, 2)), **options)
        for network, options in zip(pair.networks, how, strict=True)
    )
    inputs = spread_inputs(count, 2, rng), held_inputs(2, rng)
    pairs, new = (tuple(s.measure(net, x) for s, net in zip((one, other), pair.networks, strict=True)) for x in inputs)
    return Given(f"front, draw {number}", (one, other), (pairs[0], pairs[1]), (new[0], new[1]))


def _ordinary(kind: str) -> Callable[[int, int, int], Given]:
    """Layers of recurrent and convolutional networks and of transformers, from few samples."""

    def given(number: int, count: int, steps: int) -> Given:
        pair, rng = ORDINARY[kind](number // 10, steps), np.random.default_rng([number, count, 6])
        sides = pair.observe(SAMPLES, rng)
        return Given(f"{kind}, draw {number}", sides, pair.pairs(rng, count), pair.pairs(rng, HELD_OUT))

    return given


TRAINED = (_neurons, _front, *(_ordinary(kind) for kind in ORDINARY))


def given(kind: str, draws: int, count: int, steps: int) -> Iterator[Given]:
    """Sides and pairs, one after another; networks of five kinds in turn, trained on the spot."""
    for number in range(draws):
        if kind == "trained":
            yield TRAINED[number % len(TRAINED)](number, count, steps)
        else:
            yield _random(number, count, SLOPE if kind == "cliffs" else 0.0)


def beside_plain_fits(kind: str, draws: int, count: int, steps: int) -> list[Beside]:
    """The map, both sides and all pairs given, and the plain fits to the same pairs."""
    found = []
    for one in given(kind, draws, count, steps):
        start, joined = time.process_time(), "refused"
        try:
            t = diffeo.match(*one.sides, landmarks=one.pairs)
            error, joined = diffeo.relative_error(t.transform(one.new[0]), one.new[1]), str(t.coordinates)
        except errors.DiffeoError as refusal:
            error, joined = float("inf"), f"refused, {type(refusal).__name__}"
        matched, fits = time.process_time(), dict[str, float]()
        for fit in (affine_fit, procrustes_fit, gaussian_process_fit, kernel_ridge_fit):
            try:
                fits[fit.__name__.removesuffix("_fit")] = diffeo.relative_error(fit(*one.pairs)(one.new[0]), one.new[1])
            except ValueError:  # too few pairs for this one
                continue
        found.append(Beside(one.name, error, fits, joined, (matched - start, time.process_time() - matched)))
        tqdm.write(f"  {found[-1].told()}", file=sys.stderr)
    return found
