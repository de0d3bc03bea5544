"""Bursts for networks with kinks: which layers need them, how wide they are, and how many members they take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.networks.hooks import TRIAL_ROWS, Layers
from diffeo.networks.layer_names import say
from diffeo.networks.looking.operators import operators_used
from diffeo.networks.responses import Samples

# Squared relative error of a map, times the samples and K - d - 4, from bursts of 32 and 64 as wide as the spacing, of 1,000
# samples of two convolutional networks with rectifiers: 5.7 and 4.5 %, of which 3.4 are not from noise.
NOISE, NOISE_OF_MARGIN, FEWEST, MOST = 53.0, 0.025, 32, 256
# Samples from which the spacing is told, by so many neighbours of each for a dimension, up to a number of these; and
# random projections that stand for inputs of more coordinates.
TRIALS, NEIGHBORS_A_DIMENSION, MOST_NEIGHBORS, PROJECTIONS = 500, 2, 12, 64


def kinked_layers(layers: Layers, samples: Samples) -> dict[str, list[str]]:
    """Names of operators with kinks on the way from the input to each layer that has some."""
    block, inputs, tangents = next(samples.blocks(TRIAL_ROWS))
    found = {}
    for k, key in enumerate(layers.keys):
        one = layers.only(k).along(tangents, samples.held(block))
        if kinked := operators_used(one, layers.send(inputs)).kinked:
            found[key] = [*kinked]
    return found


def spacing_scale(samples: Samples, batch_size: int) -> float:
    """Standard deviation per direction of perturbations whose root mean square is the spacing of the samples.

    The spacing is the median distance of a sample to its (2 d)-th nearest, d the number of directions: on a lattice these
    are the nearest. Distances of inputs of many coordinates are told from random projections.
    """
    p, mix = int(np.prod(samples.inputs.shape[1:])), None
    if p > PROJECTIONS:
        mix = np.random.default_rng(0).standard_normal((p, PROJECTIONS)) / math.sqrt(PROJECTIONS)
    parts = [x.reshape(len(x), -1) for _, x, _ in samples.blocks(batch_size)]
    points: FloatArray = np.concatenate([part if mix is None else part @ mix for part in parts])
    rows = np.unique(np.linspace(0, len(points) - 1, min(len(points), TRIALS)).astype(np.int64))
    k = min(NEIGHBORS_A_DIMENSION * samples.n_directions, MOST_NEIGHBORS, len(points) - 1)
    spacing = 0.0
    if k > 0:
        distance = PointTree(points).query(points[rows], k + 1, workers=workers())[0].reshape(len(rows), k + 1)
        spacing = float(np.median(distance[:, -1]))
    if not spacing > 0.0:
        raise errors.ParameterError(
            "most of the inputs are equal to others, so that their spacing says nothing of the scale of bursts; give scale="
        )
    return spacing / math.sqrt(samples.n_directions)


def members(asked: int | str, n: int, directions: int) -> int:
    """How many members a burst of each of n samples has: as `asked`, or, of "auto", enough for the verdict.

    Each length has a relative variance of 1 / (4 (K - d - 4)), and a map averages over those of all n samples: the noise of
    bursts makes it wrong by the root of NOISE / (n (K - d - 4)), which may be half the usual margin of the verdict.
    """
    if asked != "auto":
        return int(asked)
    needed = directions + 4 + math.ceil(NOISE / (n * NOISE_OF_MARGIN**2))
    return min(max(needed, FEWEST), MOST)


def say_bursts(kinks: Mapping[str, Iterable[str]], n_bursts: int, scale: float) -> None:
    """Warn that bursts were taken, of which layers, why and which."""
    names = list(dict.fromkeys(name for operators in kinks.values() for name in operators))
    layers = ", ".join(say(key) for key in kinks)
    errors.warn(
        f"{layers} {'is' if len(kinks) == 1 else 'are'} computed with piecewise-linear or otherwise kinked operators "
        f"({', '.join(names)}), whose Jacobians jump: covariances are from bursts of {n_bursts} inputs, {scale:.3g} wide (a "
        "standard deviation a direction: the spacing of the samples); the points are those of the network as it is",
        errors.PiecewiseLinearWarning,
    )
