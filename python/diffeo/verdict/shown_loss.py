"""What pairs and derivatives show of a loss, whatever the map: inputs that one side cannot tell apart and the other can."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent
from diffeo.observation.observation import Observation
from diffeo.observation.rank import (
    COVARIANCE_FLOOR,
    JACOBIAN_FLOOR,
    MAX_DEFICIENT,
    SINGLE_COVARIANCE_FLOOR,
    SINGLE_FLOOR,
)

# Most pairs that are compared with one another, and those that carry a verdict at least.
MOST_PAIRS, LEAST_NEAR = 500, 8
# Two inputs are far apart on the target if they lie so many times as far apart there, in units of the input, as on the source:
# stretch, curvature between the ends and what a sample off the pair tells of both explain less.
FAR = 3.0
# Displacements that lie across the manifold by more than half of their square, or whose lengths by the metrics of both ends
# differ by more than a factor 2, tell no distance (the gates of the kernel).
MOST_ACROSS, MOST_UNEQUAL = 0.5, 4.0
# Share of the pairs that may be wrong: a twin has two, and is spoilt by either.
WRONG_PAIRS = 0.05
# One-sided level at which the share of torn twins is bounded from below.
LEVEL = 0.05
# Neighbours of each input at which it is seen whether tears fade with the distance.
RING = (2, 8)
# An input that is torn from so many of its neighbours, which are torn from few themselves, is a wrong pair; unless these are
# more than a few.
WRONG_FROM, WRONG_AMONG, MOST_WRONG = 0.75, 0.4, 0.2
# The rank of a twin's distance on the target among all distances is uniform where pairs are in another order: standard
# errors that its mean may lie below 1/2.
UNRELATED = 2.5
# Samples from which noise across the manifold is estimated, and their neighbours of which the one next along it is taken.
NOISE_SAMPLES, NOISE_NEIGHBORS = 300, 64
# A displacement on the target counts if it is so many times the noise.
ABOVE_NOISE = 4.0
# Singular values below these shares of the largest are rounding, in double and in single precision.
FLOORS = {"jacobians": (JACOBIAN_FLOOR, SINGLE_FLOOR), "covariances": (COVARIANCE_FLOOR, SINGLE_COVARIANCE_FLOOR)}
# What shows a loss; and why none is shown.
SHOWN = ("pairs", "rank", "slopes")
EVIDENCE_KINDS = (*SHOWN, "none", "too few", "unrelated")
# Examples that are kept.
EXAMPLES = 50


@dataclass(frozen=True, eq=False)
class Evidence:
    """Whether the source of a direction is shown to have lost what its target keeps, by pairs of common inputs alone.

    No map and no intrinsic coordinates enter. *Twins* are two inputs that are next to each other on the source, by its local
    metric, each in one twin only; they are *torn* if the target holds them more than three times as far apart, in units of the
    input. If the source determines the target, twins are torn only where pairs are wrong, or where the target is steep between
    its samples, and the less the nearer they are.

    Attributes
    ----------
    shown : bool
        Whether a loss is shown: `least_error` is above the margin.
    kind : {"pairs", "rank", "slopes", "none", "too few", "unrelated"}
        What shows it: torn twins, derivatives of too low a rank, or directions of the input at common inputs
        (`unseen_inputs`); or why nothing is shown: twins are not torn, there are too few of them, or the pairs of the two sides
        have nothing to do with each other, as pairs in different orders have.
    twins, torn : int
        Numbers of twins, and of torn ones.
    torn_share : float
        Lower bound, at 5 %, of the share of torn twins in the limit of small distances, less what 5 % of wrong pairs explain.
    least_error : float
        Relative error that no map from the source to the target can go below, from `torn_share` and how far torn twins are
        apart: at each place with two values a distance D apart, half of D is missed.
    wrong : ndarray of int64
        Pairs that are taken for wrong, and left out: their neighbours on the source agree with one another on the target, but
        not with them. Rows as in `pairs`.
    pairs : ndarray of shape (k, 2), int64
        Torn twins (at most 50), nearest on the source first: rows of the pairs, landmarks first, then held-out ones.
    text : str
        One sentence that says all of it.
    """

    shown: bool
    kind: str
    twins: int
    torn: int
    torn_share: float
    least_error: float
    wrong: IntArray
    pairs: IntArray
    text: str


def find_evidence(
    source: Observation,
    target: Observation,
    pairs: tuple[FloatArray, FloatArray],
    names: tuple[str, str],
    margin: float,
) -> Evidence:
    """Whether common inputs show that the source lost what the target keeps.

    Variance between nearest neighbours tells what no regression can explain (Stefansson, Koncar and Jones, A note on the Gamma
    test, 1997); here neighbours are taken, and told from far ones, by the local metrics of both sides, and counted rather than
    averaged, so that no single pair decides.

    Parameters
    ----------
    source, target : Observation
    pairs : tuple of ndarray of shape (P, m_source) and (P, m_target)
        What both sides measure at common inputs; at most 500 of them, evenly spaced, are compared.
    names : tuple of str
        What messages call source and target.
    margin : float
        Relative error that a loss has to explain.
    """
    seen = np.unique(np.linspace(0, len(pairs[0]) - 1, min(len(pairs[0]), MOST_PAIRS)).astype(np.int64))
    at_source, at_target = _Metric(source, pairs[0][seen]), _Metric(target, pairs[1][seen])
    y, z = at_source.points, at_target.points
    near, torn_from = _torn(at_source, at_target, source.known_unit and target.known_unit)
    gaps, low_rank = _squared_distances(z), rank_is_shown(source, target)
    unrelated = _unrelated(near, gaps) and _unrelated(_lengths(at_target, z), _squared_distances(y))
    wrong = np.zeros(len(y), dtype=bool) if unrelated else _wrong(near, torn_from)
    near[wrong], near[:, wrong] = np.inf, np.inf
    twins = _twins(near)
    at = twins[:, 0], twins[:, 1]
    torn, lengths = torn_from[at], near[at]
    size = _relative(gaps[at][torn], z)
    share = _share_bound(torn, lengths, near, torn_from)
    least = float(np.sqrt(0.5 * share)) * size
    if len(twins) < LEAST_NEAR:
        kind = "rank" if low_rank else "too few"
    elif unrelated:
        kind = "rank" if low_rank else "unrelated"
    else:
        kind = "pairs" if least > margin else "none"
    if kind not in ("pairs", "none"):
        share, least = 0.0, 0.0
    order = np.flatnonzero(torn)[np.argsort(lengths[torn], kind="stable")][:EXAMPLES]
    found = Evidence(
        kind in SHOWN,
        kind,
        len(twins),
        int(torn.sum()),
        share,
        least,
        seen[wrong],
        seen[twins[order]].reshape(-1, 2),
        "",
    )
    told = f"the derivatives of {names[0]} have rank {source.dim}, those of {names[1]} {target.dim}"
    return replace(found, text=_sentence(found, size, told if low_rank else "", names))


def torn_pairs(
    source: Observation, target: Observation, points: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Distances (P, P) of the inputs on the source, infinite where unknown, and which of them are torn on the target."""
    return _torn(_Metric(source, points[0]), _Metric(target, points[1]), source.known_unit and target.known_unit)


def _torn(at_source: _Metric, at_target: _Metric, known_unit: bool) -> tuple[FloatArray, NDArray[np.bool_]]:
    near, far = _lengths(at_source, at_source.points), _far(at_target, at_target.points)
    if not known_unit:
        near = near * _unit(near, far)
    gaps, m = _squared_distances(at_target.points), at_target.points.shape[1]
    # What is not known to be near is not torn either: comparisons with infinity are false.
    return near, (far > FAR * near) & (gaps > 2.0 * m * (ABOVE_NOISE * at_target.noise) ** 2)


def rank_is_shown(source: Observation, target: Observation) -> bool:
    """Whether the source's derivatives are of a lower rank than the target's, beyond rounding.

    A dimension set by hand, or one that bursts could not resolve, shows nothing.
    """
    d, values = source.dim, source.singular_values[source.usable]
    if d >= target.dim:
        return False
    if source.points.shape[1] < target.dim:
        return True
    if source.source not in FLOORS:
        return False
    below = values[:, d:] <= floor_of(source) * np.median(values[:, 0])
    return bool(below.all(axis=1).mean() >= 1.0 - MAX_DEFICIENT)


def floor_of(observation: Observation) -> float:
    """Share of the largest singular value below which derivatives are rounding."""
    return FLOORS[observation.source][observation.precision == "single"]


class _Metric:
    """Local metric of an observation at points (P, m): that of the nearest sample; and its noise.

    Measurements are in units of the largest deviation of the points, so that no square overflows or vanishes.
    """

    def __init__(self, observation: Observation, points: FloatArray) -> None:
        rows = observation.usable
        at = rows[PointTree(observation.points[rows]).query(points, workers=workers())[1]]
        deviation = points - points.mean(axis=0)
        unit = float(np.abs(deviation).max()) or 1.0
        self.points = deviation / unit
        self.whitening = observation.whitening[at] * unit
        self.tangents = _unit_columns(self.whitening)
        self.steepest = observation.singular_values[at, 0] / unit
        # The largest stretch that was not counted as a dimension, where derivatives tell it from rounding.
        self.weak = np.zeros(len(at))
        d = observation.dim
        if observation.source in FLOORS and observation.singular_values.shape[1] > d:
            weak = observation.singular_values[at, d] / unit
            self.weak = np.where(weak > floor_of(observation) * self.steepest, weak, 0.0)
        # Of charts, whose points have none, an observation knows it.
        self.noise = max(_noise(observation, unit), observation.noise / unit)


def _unit_columns(whitening: FloatArray) -> FloatArray:
    """Orthonormal tangents (k, m, d) of whitenings."""
    lengths = np.linalg.norm(whitening, axis=1, keepdims=True)
    tangents: FloatArray = whitening / np.maximum(lengths, np.finfo(float).tiny)
    return tangents


def _squared_distances(points: FloatArray) -> FloatArray:
    """Of all rows to one another, (P, P)."""
    centred = points - points.mean(axis=0)
    squares = np.einsum("im,im->i", centred, centred)
    # By einsum rather than BLAS, whose sums may depend on its threads.
    found: FloatArray = np.maximum(squares[:, None] + squares - 2.0 * np.einsum("im,jm->ij", centred, centred), 0.0)
    return found


def _seen_from(frames: FloatArray, points: FloatArray) -> FloatArray:
    """Squared lengths (P, P) of the steps from each point to all others, in each point's frame (P, m, d)."""
    rows = [
        (np.einsum("jm,md->jd", points - point, frame) ** 2).sum(axis=1)
        for point, frame in zip(points, frames, strict=True)
    ]
    return np.array(rows)


def _lengths(metric: _Metric, points: FloatArray) -> FloatArray:
    """Distances (P, P) of inputs as the observation tells them; infinite where points are too far from each other for that.

    What lies across the manifold tells the noise, or a direction too weak to be counted; as much may hide within it.
    """
    m, d = metric.whitening.shape[1:]
    one_sided = _seen_from(metric.whitening, points)
    along = _seen_from(metric.tangents, points)
    squares = np.maximum(_squared_distances(points), along)
    across = squares - along
    hidden = np.zeros_like(across)
    if m > d:
        noise = np.maximum(across / (m - d), 2.0 * metric.noise**2)
        hidden = noise * (metric.whitening**2).sum(axis=(1, 2))[:, None]
        weak = metric.weak > 0.0
        hidden[weak] = np.maximum(hidden[weak], across[weak] / metric.weak[weak, None] ** 2)
    lengths = one_sided + hidden
    gated = across <= MOST_ACROSS * squares
    least, most = np.minimum(one_sided, one_sided.T), np.maximum(one_sided, one_sided.T)
    gated &= gated.T & (most <= MOST_UNEQUAL * least)
    found: FloatArray = np.sqrt(np.where(gated, 0.5 * (lengths + lengths.T), np.inf))
    np.fill_diagonal(found, np.inf)
    return found


def _far(metric: _Metric, points: FloatArray) -> FloatArray:
    """Distances (P, P) of inputs that the observation shows at least, by the metrics of both ends."""
    by_stretch = _squared_distances(points) / np.maximum(metric.steepest[:, None], metric.steepest) ** 2
    one_sided = _seen_from(metric.whitening, points)
    found: FloatArray = np.sqrt(np.maximum(by_stretch, np.minimum(one_sided, one_sided.T)))
    return found


def _relative(gaps: FloatArray, points: FloatArray) -> float:
    """Median distance of torn twins in units of the spread of the points, which a few wild ones do not move."""
    if not len(gaps):
        return 0.0
    usual = np.median(_squared_distances(points)[np.triu_indices(len(points), 1)])
    # The mean squared distance of two points is twice the squared spread; both medians lie about as far below their means.
    return float(np.sqrt(2.0 * np.median(gaps) / usual)) if usual > 0.0 else 0.0


def _wrong(near: FloatArray, torn_from: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs stand alone: torn from their neighbours, which are torn from few others. None where these are many."""
    order = np.argsort(near, axis=1, kind="stable")[:, : RING[1]]
    known = np.isfinite(np.take_along_axis(near, order, axis=1))
    count = np.maximum(known.sum(axis=1), 1)
    torn = (np.take_along_axis(torn_from, order, axis=1) & known).sum(axis=1) / count
    around = np.where(known, torn[order], np.nan)
    some = count >= RING[1] // 2
    found = np.zeros(len(near), dtype=bool)
    found[some] = (torn[some] >= WRONG_FROM) & (np.nanmedian(around[some], axis=1) <= WRONG_AMONG)
    return found if found.mean() <= MOST_WRONG else np.zeros(len(near), dtype=bool)


def _unit(near: FloatArray, far: FloatArray) -> float:
    """Unit of the target's lengths over that of the source's, from what is next to each other on the target."""
    own = far + np.where(np.eye(len(far), dtype=bool), np.inf, 0.0)
    rows = np.arange(len(own))
    ratio = own.min(axis=1) / near[rows, own.argmin(axis=1)]
    ratio = ratio[np.isfinite(ratio) & (ratio > 0.0)]
    return float(np.median(ratio)) if len(ratio) else 1.0


def _twins(near: FloatArray) -> IntArray:
    """Pairs of rows (k, 2), nearest ones first, each row once, of which one is next to the other."""
    best = near.argmin(axis=1)
    lengths = near[np.arange(len(near)), best]
    used, found = np.zeros(len(near), dtype=bool), []
    for i in np.argsort(lengths, kind="stable"):
        if not np.isfinite(lengths[i]):
            break
        if not used[i] and not used[best[i]]:
            used[[i, best[i]]] = True
            found.append((int(i), int(best[i])))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _share_bound(torn: NDArray[np.bool_], lengths: FloatArray, near: FloatArray, torn_at: NDArray[np.bool_]) -> float:
    """Lower bound of the share of torn twins as their distance goes to 0, less what wrong pairs explain.

    Where the target is merely steep between its samples, tears fade in proportion to the distance; from twins to the next
    neighbours of each input they then grow as the distance does.
    """
    count, total = len(torn), int(torn.sum())
    if total == 0:
        return 0.0
    share = total / count
    order = np.argsort(near, axis=1, kind="stable")[:, RING[0] : RING[1]]
    ring = np.take_along_axis(near, order, axis=1)
    known = np.isfinite(ring)
    fading = 0.0
    if known.any():
        beyond = float(np.take_along_axis(torn_at, order, axis=1)[known].mean())
        reach, length = float(ring[known].mean()), float(lengths.mean())
        if reach > 1.2 * length:
            fading = max(0.0, beyond - share) * length / (reach - length)
    bound = float(beta.ppf(LEVEL, total, count - total + 1)) - fading
    wrong = 1.0 - (1.0 - WRONG_PAIRS) ** 2
    return max(0.0, (bound - wrong) / (1.0 - wrong))


def _unrelated(near: FloatArray, gaps: FloatArray) -> bool:
    """Whether twins of one side are as far apart on the other as any two inputs."""
    twins = _twins(near)
    if len(twins) < LEAST_NEAR:
        return False
    usual = np.sort(gaps[np.triu_indices(len(gaps), 1)])
    ranks = np.searchsorted(usual, gaps[twins[:, 0], twins[:, 1]]) / len(usual)
    return bool(ranks.mean() > 0.5 - UNRELATED / np.sqrt(12.0 * len(twins)))


def _noise(observation: Observation, unit: float) -> float:
    """Standard deviation, in this unit, of a measurement across the manifold, between samples next to each other along it."""
    m, d, rows = observation.points.shape[1], observation.dim, observation.usable
    if m <= d or len(rows) < 2:
        return 0.0
    some = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), NOISE_SAMPLES)).astype(np.int64))]
    k = min(len(rows), 1 + NOISE_NEIGHBORS)
    near = PointTree(observation.points[rows]).query(observation.points[some], k, workers=workers())[1][:, 1:]
    frames, across = observation.whitening[some], np.empty(len(some))
    for i, (row, beside) in enumerate(zip(some, near, strict=True)):
        step = (observation.points[rows[beside]] - observation.points[row]) / unit
        first = (np.einsum("km,md->kd", step, frames[i] * unit) ** 2).sum(axis=1).argmin()
        tangents = _unit_columns(frames[i : i + 1])[0]
        along = np.einsum("m,md->d", step[first], tangents)
        across[i] = (step[first] ** 2).sum() - (along**2).sum()
    return float(np.sqrt(0.5 * max(float(np.median(across)), 0.0) / (m - d)))


def _sentence(found: Evidence, size: float, ranks: str, names: tuple[str, str]) -> str:
    source, target = names
    if found.kind == "rank":
        return f"Loss is shown by derivatives: {ranks}."
    if found.kind == "too few":
        return (
            f"Only {found.twins} pairs of inputs are near enough on {source} to show whether {target} tells apart what "
            f"{source} does not."
        )
    if found.kind == "unrelated":
        return (
            f"The pairs say nothing of each other: inputs next to each other on {source} are as far apart on {target} as any "
            "two, and the other way round."
        )
    torn = f"{found.torn} are" if found.torn > 1 else "one is" if found.torn else "none is"
    told = f"of {found.twins} pairs of inputs next to each other on {source}, {torn} far apart on {target}"
    if found.kind == "pairs":
        return (
            f"Loss is shown: {told} (by {percent(size)} of its spread), so that no map from {source} to {target} misses "
            f"by less than {percent(found.least_error)}{'; and ' if ranks else ''}{ranks}."
        )
    return f"No loss is shown: {told}{', no more than wrong pairs or steep places explain' if found.torn else ''}."
