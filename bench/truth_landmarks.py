"""Wrong landmarks: whether they are found, no good one is named, and the map is as good as without them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from diffeo import Chart, Observation, embed, match, observe, relative_error

from bench.verdict_pairs import embedding_task, inputs, network, trained

# Numbers of landmarks, and of wrong ones among them.
SHARES = ((8, 1), (20, 3), (60, 20), (200, 20), (200, 60))
# A map may be worse by this factor than that from the good landmarks alone.
FACTOR = 1.5
NEW = 300

Side = tuple[Chart, Callable[[np.ndarray], np.ndarray]]


@dataclass(frozen=True)
class Draw:
    """Landmarks that are wrong and were not named, that were named and are right; errors with and without them."""

    missed: int
    falsely: int
    error: float
    without: float

    @property
    def good(self) -> bool:
        """All named, no other one, and the map as good."""
        return self.missed == 0 and self.falsely == 0 and self.error <= FACTOR * self.without


def random_side(rng: np.random.Generator, n: int) -> Side:
    """Five measurements of a layer of random units, with their derivatives."""
    measure = network(5, 2, rng)
    return embed(Observation.from_jacobians(*measure(inputs(n, rng)))), lambda x: measure(x)[0]


def trained_side(rng: np.random.Generator, n: int, steps: int) -> Side:
    """Three outputs of a trained network, which embed the square."""
    model = trained(embedding_task, 3, int(rng.integers(1 << 30)), steps)
    observation = observe(model, inputs(n, rng))
    return embed(observation), lambda x: observation.measure(model, x)


def draw(sides: tuple[Side, Side], count: int, wrong: int, rng: np.random.Generator) -> Draw:
    """One set of landmarks, some of which get the partner of another input."""
    (a, seen_a), (b, seen_b) = sides
    x, new = inputs(count, rng), inputs(NEW, rng)
    at_a, at_b = seen_a(x), seen_b(x).copy()
    rows = np.sort(rng.permutation(count)[:wrong])
    at_b[rows] = seen_b(inputs(wrong, rng))
    good = np.setdiff1d(np.arange(count), rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = match(a, b, landmarks=(at_a, at_b))
        right = match(a, b, landmarks=(at_a[good], at_b[good]))
        source, target = seen_a(new), seen_b(new)
        error, without = (relative_error(one.transform(source), target) for one in (found, right))
    named = found.diagnostics.wrong_landmarks
    return Draw(len(np.setdiff1d(rows, named)), len(np.setdiff1d(named, rows)), error, without)


def wrong_landmarks(
    count: int, seed: int, *, networks: int = 4, samples: int = 1500, steps: int = 2000
) -> dict[tuple[int, int], list[Draw]]:
    """`count` draws of every share of wrong landmarks, of half as many random pairs of networks and trained ones each."""
    found: dict[tuple[int, int], list[Draw]] = {share: [] for share in SHARES}
    for pair in range(networks):
        rng = np.random.default_rng([seed, pair])
        if pair % 2 == 0:
            sides = random_side(rng, samples), random_side(rng, samples)
        else:
            sides = trained_side(rng, samples, steps), trained_side(rng, samples, steps)
        for share in SHARES:
            found[share] += [draw(sides, *share, rng) for _ in range(count // networks)]
    return found
