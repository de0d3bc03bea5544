"""Sets of neurons at the lowest cost: greedy and random ones, improved by exchanges, and as large as they need to be."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.observation.curvature import LIMIT_TURNING, Cost
from diffeo.observation.folds import many_near_folds, nearly_vanishing

# Random sets to start from, beside the greedy one: exchanges can be caught.
N_RANDOM = 3
# Rounds of exchanging one neuron for a better one, and the gain that is worth an exchange.
EXCHANGE_ROUNDS = 5
EXCHANGE_GAIN = 0.99
# Candidates whose costs differ by less than this are equal; the first is taken, whatever the rounding.
TIE = 1e-9
# Measurements of far inputs nearer than this share of a spacing nearly cross.
LIMIT_SEPARATION = 0.25


def best_set(cost: Cost, n_neurons: int, rng: np.random.Generator) -> list[int]:
    """The best of a greedy set and a few random ones, after exchanges of one neuron for a better one while they pay."""
    starts = [_greedy(cost, n_neurons)] + [_random(cost, n_neurons, rng) for _ in range(N_RANDOM)]
    best, least = starts[0], np.inf
    for start in starts:
        chosen, value = _exchanged(cost, start)
        if value < EXCHANGE_GAIN * least:
            best, least = chosen, value
    return _ordered(cost, best)


def enough(cost: Cost, chosen: list[int], most: int) -> list[int]:
    """The set with neurons added, one at a time at the lowest cost, until it bends and separates well enough, or has `most`."""
    while len(chosen) < most and not does(cost, chosen):
        costs = cost.with_each(chosen)
        if not np.isfinite(costs).any():
            break
        chosen = [*chosen, _first_best(costs)]
    return chosen


def does(cost: Cost, chosen: list[int]) -> bool:
    """Whether a set responds everywhere, and bends and separates as the sample needs it."""
    smallest = cost.stretches(chosen)[:, -1]
    if many_near_folds(len(nearly_vanishing(smallest)), len(smallest)):
        return False
    _, turning, separation = measures(cost, chosen)
    return turning <= LIMIT_TURNING and separation >= LIMIT_SEPARATION


def _greedy(cost: Cost, n_neurons: int) -> list[int]:
    """Neurons added one by one at the lowest cost."""
    chosen: list[int] = []
    for _ in range(n_neurons):
        costs = cost.with_each(chosen)
        if not np.isfinite(costs).any():
            raise errors.ParameterError(
                f"only {len(chosen)} of the {len(costs)} neurons vary and differ from each other (not counting scale and "
                f"offset), {n_neurons} are to be chosen: take a wider layer, or give n_neurons"
            )
        chosen.append(_first_best(costs))
    return chosen


def _random(cost: Cost, n_neurons: int, rng: np.random.Generator) -> list[int]:
    """Neurons drawn one by one among those that add something."""
    chosen: list[int] = []
    while len(chosen) < n_neurons:
        left = np.flatnonzero(~cost.excluded(chosen))
        if len(left) == 0:
            return _greedy(cost, n_neurons)
        chosen.append(int(rng.choice(left)))
    return chosen


def _exchanged(cost: Cost, chosen: list[int]) -> tuple[list[int], float]:
    """Exchange one neuron at a time for a better one, while that pays; the set and its cost."""
    best = cost.of(chosen)
    # Places that were tried since the set last changed: when all were, another round would find the same.
    tried = 0
    for place in list(range(len(chosen))) * EXCHANGE_ROUNDS:
        if tried == len(chosen):
            break
        others = chosen[:place] + chosen[place + 1 :]
        added = _first_best(cost.with_each(others))
        value = best if added == chosen[place] else cost.of([*others, added])
        tried += 1
        if value < EXCHANGE_GAIN * best:
            # The place itself holds the best there is for the others.
            chosen, best, tried = [*chosen[:place], added, *chosen[place + 1 :]], value, 1
    return chosen, best


def _ordered(cost: Cost, chosen: list[int]) -> list[int]:
    """The set in greedy order: exchanges may have put a late neuron first."""
    ordered: list[int] = []
    left = sorted(chosen)
    while left:
        ordered.append(left.pop(_first_best(np.array([cost.of([*ordered, k]) for k in left]))))
    return ordered


def measures(cost: Cost, chosen: list[int]) -> tuple[float, float, float]:
    """Conditioning, turning and separation of a set: the worst over the sample."""
    values = cost.stretches(chosen)
    if values.shape[1] < cost.dim:
        return 0.0, np.inf, 0.0
    conditioning = float(values[:, -1].min() / np.median(values[:, 0]))
    separation = float(
        np.sqrt((cost.nearest_far(chosen)[1][:, 0] / np.maximum(cost.spans(chosen), np.finfo(float).tiny)).min())
    )
    return conditioning, float(np.sqrt(cost.turning(chosen).max())), separation


def _first_best(costs: FloatArray) -> int:
    return int(np.argmax(costs <= costs.min() * (1.0 + TIE)))
