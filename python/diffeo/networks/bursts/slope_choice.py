"""Whether a layer with kinks is measured by its derivatives or by slopes over bursts: by what the network itself shows."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.networks.bursts.burst_sizes import MOST, NOISE, NOISE_OF_MARGIN, Spacing, spacing_of
from diffeo.networks.hooks import Layers
from diffeo.networks.layer_names import say
from diffeo.networks.responses import Samples, measure_jacobians, measure_slopes

_logger = logging.getLogger("diffeo")

# Root mean square of the perturbations, in spacings. Of 0.35, 0.5, 0.7, 1 and 1.5 it gave the smallest error of maps between
# convolutional networks with rectifiers (1,000 and 2,000 samples), and of perceptrons about that of 0.5.
REACH = 0.5**0.5
# Members at least: at that number, and 32, maps of 1,000 samples were as accurate.
FEWEST_SLOPES = 16
# Samples at which derivatives and slopes are compared, and steps from each to neighbours.
CENTRES, STEPS, FEWEST_SAMPLES = 48, 3, 16
# Slopes are taken unless they miss steps by more than this many times what derivatives do. Measured on 43 perceptrons of 1 to 3
# inputs, 100 to 1,600 samples: 1.5 to 2.7 where these are smooth, 0.9 to 1.34 with rectifiers and the like, whose layouts were
# better by slopes in all but 2. (Of a smooth network derivatives miss h^3 / 12 of the third derivative on a step as long as the
# spacing h, and slopes h^3 / 8 more.)
MISSED = 1.4
# A singular value of a derivative below this share of the largest of all counts as zero, in double and single precision.
ZERO = {"double": 1e-6, "single": 1e-5}


@dataclass(frozen=True)
class Slopes:
    """How wide bursts are (a standard deviation a direction), of how many members, and of which rank slopes are at most."""

    scale: float
    n_bursts: int
    rank: int


def sized(asked: int | str, samples: Samples, noise: float) -> int:
    """How many members a burst has from which slopes are fitted: pairs, and as many pairs as directions at least.

    By "auto" as many as the verdict needs, of a multiple of these. With 16 members or so, each length has the relative
    variance `noise` / 2, so that a map is wrong by the root of 2 NOISE noise / n; that may be half the usual margin.
    """
    least, n = 2 * samples.n_directions, len(samples)
    if asked != "auto":
        size = 2 * (int(asked) // 2)
        if size < least:
            raise errors.ParameterError(
                f"n_bursts={asked}: slopes in {samples.n_directions} directions take {least} members at least"
            )
        return size
    needed = min(FEWEST_SLOPES * 2.0 * NOISE * noise / (n * NOISE_OF_MARGIN**2), MOST)
    return least * math.ceil(max(needed, FEWEST_SLOPES) / least)


def scale_and_size(asked: int | str, scale: float | None, samples: Samples, batch_size: int) -> tuple[float, int]:
    """How wide bursts are for slopes that were asked for, and of how many members."""
    if scale is None:
        spacing = spacing_of(samples, batch_size)
        if spacing is None:
            raise errors.ParameterError(
                "most of the inputs are equal to others, so that their spacing says nothing of the scale of bursts; give "
                "scale="
            )
        scale = REACH * spacing.distance / math.sqrt(samples.n_directions)
    return scale, sized(asked, samples, 0.0)


def chosen_slopes(
    layers: Layers,
    kinked: Iterable[str],
    samples: Samples,
    asked: int | str,
    scale: float | None,
    batch_size: int,
) -> dict[str, Slopes] | None:
    """Which of the layers with kinks are measured by slopes, and how; None where the samples do not tell.

    A step between neighbours is predicted by the derivatives at its ends, as (J_i + J_j)(x_j - x_i) / 2. Derivatives that jump
    between linear pieces miss it by more than slopes do; those of a network that is smooth, whatever its operators, by less.
    """
    spacing = spacing_of(samples, batch_size) if len(samples) >= FEWEST_SAMPLES else None
    if spacing is None:
        return None
    scale = scale or REACH * spacing.distance / math.sqrt(samples.n_directions)
    from tqdm import tqdm

    trial, i, j = _steps(samples, spacing)
    size = max(sized("auto", samples, 0.0), 2 * samples.n_directions)
    found = dict[str, Slopes]()
    centres, silent = np.unique(i), tqdm(disable=True)
    try:
        with errors.unsaid(errors.DiffeoWarning):
            slopes, again = (
                measure_slopes(layers, part, size, scale, np.random.default_rng(seed), batch_size, silent)
                for seed, part in enumerate((trial, trial.at(centres)))
            )
            exact = measure_jacobians(layers, trial, batch_size, silent, kinked=True)
    except errors.ParameterError as error:  # lost in rounding
        _logger.info("slopes are not to be had: %s", error)
        return None
    for k, key in enumerate(layers.keys):
        if key not in kinked:
            continue
        by_slopes = _missed(trial, slopes[k], i, j)
        by_derivatives = _missed(trial, exact[k], i, j)
        noise = _noise(slopes[k][1][centres], again[k][1])
        _logger.info(
            "%s: steps between neighbours are missed by %.3g of their length by derivatives, %.3g by slopes, noise %.3g",
            say(key), by_derivatives, by_slopes, noise,
        )  # fmt: skip
        if by_slopes <= MISSED * by_derivatives:
            found[key] = Slopes(scale, sized(asked, samples, noise), rank_of(exact[k][1], layers))
    return found


def _steps(samples: Samples, spacing: Spacing) -> tuple[Samples, IntArray, IntArray]:
    """Some samples, and steps from i to j, numbers of these."""
    some = np.unique(np.linspace(0, len(spacing.rows) - 1, min(CENTRES, len(spacing.rows))).astype(np.int64))
    near = spacing.neighbors[some, 1:]
    near = near[:, np.unique(np.linspace(0, near.shape[1] - 1, STEPS).astype(np.int64))]
    begin = np.repeat(spacing.rows[some], near.shape[1])
    rows, number = np.unique(np.concatenate([begin, near.ravel()]), return_inverse=True)
    i, j = number.ravel()[: len(begin)], number.ravel()[len(begin) :]
    apart = i != j  # equal inputs may be each other's nearest
    return samples.at(rows), i[apart], j[apart]


def _missed(trial: Samples, measured: tuple[FloatArray, FloatArray], i: IntArray, j: IntArray) -> float:
    """Root mean square of what derivatives at both ends of steps miss of them, relative to these."""
    points, jacobians = measured
    ((_, x, tangents),) = trial.blocks(len(trial))
    flat = x.reshape(len(x), -1)
    step = flat[j] - flat[i]
    predicted = np.zeros((len(i), points.shape[1]))
    for end in (i, j):
        along = step
        if tangents is not None:
            along = np.einsum("kpd,kp->kd", tangents.reshape(*flat.shape, -1)[end], step)
        predicted += 0.5 * np.einsum("kmd,kd->km", jacobians[end], along)
    change = points[j] - points[i]
    length = (change**2).sum(axis=1)
    seen = length > 0.0
    if not seen.any():
        return 0.0
    return math.sqrt(float((((change - predicted) ** 2).sum(axis=1)[seen] / length[seen]).mean()))


def _noise(one: FloatArray, other: FloatArray) -> float:
    """Relative variance of the stretch along a direction from the choice of the perturbations, by two choices."""
    d = one.shape[2]
    if not np.isfinite(one - other).all():
        return 0.0
    differ = np.linalg.pinv(one, rcond=1e-3) @ (one - other)
    return float(np.minimum((differ**2).sum(axis=(1, 2)) / (2.0 * d * d), 1.0).mean())


def rank_shown(layer: Layers, samples: Samples, batch_size: int) -> int:
    """The largest rank of derivatives of a layer at some of the samples."""
    from tqdm import tqdm

    rows = np.unique(np.linspace(0, len(samples) - 1, min(CENTRES, len(samples))).astype(np.int64))
    with errors.unsaid(errors.DiffeoWarning):
        found = measure_jacobians(layer, samples.at(rows), batch_size, tqdm(disable=True), kinked=True)
    ((_, jacobians),) = found
    return rank_of(jacobians, layer)


def rank_of(jacobians: FloatArray, layers: Layers) -> int:
    """The largest rank of these derivatives (k, m, d)."""
    if not np.isfinite(jacobians).all():
        return int(jacobians.shape[2])
    gram: FloatArray = jacobians.transpose(0, 2, 1) @ jacobians
    squares = np.linalg.eigvalsh(gram)
    zero = ZERO["double" if layers.dtype.itemsize == 8 else "single"]
    ranks: IntArray = (squares > zero**2 * squares.max()).sum(axis=1)
    return int(ranks.max(initial=0))


def cut_to_rank(slopes: FloatArray, rank: int) -> FloatArray:
    """Slopes (n, m, d) without what is beyond the largest rank that derivatives of the network have.

    Where a network depends on fewer directions than there are, a burst shows the curvature along these in the others, too.
    """
    if not 0 < rank < min(slopes.shape[1:]) or not np.isfinite(slopes).all():
        return slopes
    _, axes = np.linalg.eigh(slopes.transpose(0, 2, 1) @ slopes)
    kept = axes[:, :, -rank:]
    return np.ascontiguousarray(slopes @ (kept @ kept.transpose(0, 2, 1)))


def say_slopes(slopes: Mapping[str, Slopes], kinks: Mapping[str, Iterable[str]]) -> None:
    """Warn that bursts were taken, of which layers, why and which."""
    names = list(dict.fromkeys(name for key in slopes for name in kinks[key]))
    sizes = sorted({one.n_bursts for one in slopes.values()})
    scale = next(iter(slopes.values())).scale
    errors.warn(
        f"{', '.join(map(say, slopes))} {'is' if len(slopes) == 1 else 'are'} computed with piecewise-linear or otherwise "
        f"kinked operators ({', '.join(names)}), whose Jacobians jump: they are fitted to bursts of "
        f"{' to '.join(map(str, sizes))} inputs, {scale:.3g} wide (a standard deviation a direction, by the "
        "spacing of the samples); the points are those of the network as it is",
        errors.PiecewiseLinearWarning,
    )
