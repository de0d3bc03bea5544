"""match_pairs: maps both ways between two networks, learned from what both measure at common inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, RandomState, check_units, seed
from diffeo._support.progress import showing, stage
from diffeo._support.threads import thread_count, working
from diffeo._support.wording import SIDES, rows_text
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.by_pairs.pair_map import roughly_aligned
from diffeo.matching.by_pairs.problems import problems_of
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.paired.components import Components, components_of
from diffeo.matching.paired.direction import PairFit, fit_direction
from diffeo.matching.paired.kernel_choice import FULL, Effort
from diffeo.matching.paired.sample import PairedSample, paired_sample
from diffeo.matching.paired.tangents import estimated_jacobians
from diffeo.matching.paired.targets import Kernels
from diffeo.matching.pairs import Pairs
from diffeo.matching.transformation import Transformation
from diffeo.observation.folds import near_folds
from diffeo.observation.observation import Observation

# The share of pairs that is held out, and how many these are at least; and how many must remain.
HELD_OUT_SHARE, LEAST_HELD_OUT, LEAST_PAIRS = 0.2, 20, 20


def match_pairs(
    pairs: Pairs,
    held_out: Pairs | None = None,
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    *,
    verbose: bool = False,
) -> Transformation:
    """Learn the maps between two networks, both ways, from what both measure at common inputs.

    For those who can ask both networks: no intrinsic coordinates, no landmarks, any topology, any number of dimensions that
    the pairs can fill. Around each query, polynomials in the source's tangent coordinates are fitted to the values *and
    derivatives* of near pairs (Hermite moving least squares), and so is kriging with derivatives: to all pairs where these are
    few, with a Gaussian or a Matern kernel. Both measure distances on the source by how much the target responds to them: the
    metric is the average outer product of the gradients of a first fit (Trivedi et al. 2014). The best polynomial and
    the kriging are weighted by the errors that are expected of them, by misfits and by what is missed of pairs left out in
    turn; `t.predicted_error` says how near the result is.

    Parameters
    ----------
    pairs : Pairs
        With derivatives (`diffeo.measure_pairs`), or without: then slopes count for nothing, many more pairs are needed, and a
        problem says so.
    held_out : Pairs, optional
        Pairs by which ``diffeo.assess(t)`` judges. Default: a fifth of `pairs`, at least 20, drawn by `random_state`, from
        which nothing is learned.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Transformation
        ``t.coordinates`` is "pairs"; `t.transform`, `t.inverse_transform` and `t.predicted_error` both ways, also between sides
        of different dimensions (`diffeo.assess` tells which way says something); `t.intrinsic` raises.

    Raises
    ------
    SampleSizeError
        Fewer than 40 pairs, or 20 where others are held out.
    RankError
        A side does not depend on the input.
    LandmarkError
        The same pair twice, or in both sets.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((200, 1))
    >>> pairs = diffeo.Pairs(x, np.sin(x), np.ones((200, 1, 1)), np.cos(x)[:, :, None])
    >>> t = diffeo.match_pairs(pairs)
    >>> bool(abs(t.transform([[0.5]]) - np.sin(0.5)) < 1e-9)
    True
    """
    if not isinstance(pairs, Pairs):
        raise errors.DataTypeError(f"pairs must be diffeo.Pairs, not {type(pairs).__name__}")
    check_units(pairs.points_a, "pairs.points_a")
    check_units(pairs.points_b, "pairs.points_b")
    start = seed(random_state)
    thread_count(n_jobs)
    pairs, held_out = split(pairs, held_out, start)
    with showing(verbose), working(n_jobs), stage("pairs"):
        return learned(observed_sides(pairs), held_out, start, n_jobs)


def learned(
    sides: Sides,
    held_out: Pairs | None,
    start: int,
    n_jobs: int | None,
    components: tuple[Components, Components] | None = None,
    efforts: tuple[Effort, Effort] = (FULL, FULL),
    kernels: tuple[Kernels | None, Kernels | None] = (None, None),
    charts: tuple[MeasuredChart, MeasuredChart] | None = None,
) -> Transformation:
    """The transformation of observed sides; components, charts and kernels are used where they are known.

    `efforts` and `kernels` are those for the way from A to B, and for the way back.
    """
    pairs, n_threads = sides.pairs, thread_count(n_jobs)
    charts = charts or (MeasuredChart(sides.a), MeasuredChart(sides.b))
    found = components or (components_of(pairs.points_a), components_of(pairs.points_b))
    ways = (
        (False, found, "A to B", efforts[0], kernels[0]),
        (True, found[::-1], "B to A", efforts[1], kernels[1]),
    )
    forward, back = (
        fit_direction(
            sample_of(sides, found, inverse=inverse) if known is None else known.sample,
            *ends, start, n_threads, name, effort, known,
        )
        for inverse, ends, name, effort, known in ways
    )  # fmt: skip
    problems = problems_of((forward, back), (sides.a, sides.b), with_derivatives=pairs.with_derivatives, names=SIDES)
    return assembled(charts, pairs, held_out, (forward, back), problems, n_jobs)


def split(pairs: Pairs, held_out: Any, start: int) -> tuple[Pairs, Pairs]:
    """What is learned from, and what is held out."""
    _check_once(pairs)
    if held_out is None:
        held = max(LEAST_HELD_OUT, int(HELD_OUT_SHARE * len(pairs)))
        if len(pairs) - held < LEAST_PAIRS:
            raise errors.SampleSizeError(
                f"{len(pairs)} pairs are too few: {LEAST_HELD_OUT} are held out to judge, and at least {LEAST_PAIRS} must "
                "remain"
            )
        order = np.random.default_rng(start).permutation(len(pairs))
        return pairs[np.sort(order[held:])], pairs[np.sort(order[:held])]
    if not isinstance(held_out, Pairs):
        raise errors.DataTypeError(f"held_out must be diffeo.Pairs or None, not {type(held_out).__name__}")
    widths = [(p.points_a.shape[1], p.points_b.shape[1]) for p in (pairs, held_out)]
    if widths[0] != widths[1]:
        raise errors.ShapeError(f"held_out have {widths[1]} measurements of A and B, and pairs {widths[0]}")
    if len(pairs) < LEAST_PAIRS:
        raise errors.SampleSizeError(f"{len(pairs)} pairs are too few: {LEAST_PAIRS} are needed at least")
    known = {row.tobytes() for row in np.hstack(pairs.points)}
    both = np.flatnonzero([row.tobytes() in known for row in np.hstack(held_out.points)])
    if len(both):
        raise errors.LandmarkError(
            f"{len(both)} held-out pairs ({rows_text(both)}) are among the others: they cannot judge what was learned from them"
        )
    return pairs, held_out


def _check_once(pairs: Pairs) -> None:
    rows = np.hstack(pairs.points)
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.ravel()] != np.arange(len(rows)))
    if len(again):
        raise errors.LandmarkError(
            f"{len(again)} pairs ({rows_text(again)}) are the same as earlier ones: a pair counts once; remove them"
        )


@dataclass(frozen=True, eq=False)
class Sides:
    """Both sides of pairs with their derivatives, given or estimated, and local metrics."""

    pairs: Pairs
    jacobians: tuple[FloatArray, FloatArray]
    a: Observation
    b: Observation


def observed_sides(pairs: Pairs) -> Sides:
    """Both sides as observations; where the pairs carry no derivatives, along A's tangents, estimated from neighbours."""
    if pairs.jacobians_a is not None and pairs.jacobians_b is not None:
        jacobians = pairs.jacobians_a, pairs.jacobians_b
    else:
        jacobians = estimated_jacobians(*pairs.points)
    sides = []
    for name, points, derivatives in zip(SIDES, pairs.points, jacobians, strict=True):
        try:
            sides.append(Observation.from_jacobians(points, derivatives))
        except errors.DiffeoError as error:
            raise type(error)(f"side {name}: {error}") from error
    return Sides(pairs, jacobians, *sides)


def sample_of(sides: Sides, components: tuple[Components, Components], *, inverse: bool) -> PairedSample:
    """The pairs as the map from A to B sees them, or with `inverse` the one from B to A."""
    given = [(one, y, j) for one, y, j in zip(components, sides.pairs.points, sides.jacobians, strict=True)]
    source, target = given[::-1] if inverse else given
    dim = sides.b.dim if inverse else sides.a.dim
    return paired_sample(source, target, dim, with_slopes=sides.pairs.with_derivatives)


def assembled(
    charts: tuple[MeasuredChart, MeasuredChart],
    pairs: Pairs,
    held_out: Pairs | None,
    fits: tuple[PairFit, PairFit],
    problems: list[str],
    n_jobs: int | None,
) -> Transformation:
    """The transformation of two fits."""
    alignment = roughly_aligned(charts[0].coordinates, charts[1].coordinates)
    folds = near_folds(charts[0].observation), near_folds(charts[1].observation)
    there, back = fits[0].error, fits[1].error
    diagnostics = Diagnostics(problems, there, None, None, None, folds, expected_error=there, expected_error_back=back)
    joined = ByPairFits(*charts, alignment, pairs, held_out, *fits)
    return Transformation(joined, [alignment], 1.0, diagnostics, n_jobs, pairs.points)
