"""What pairs and derivatives show of a loss, whatever the map: inputs that one side cannot tell apart and the other can."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import percent
from diffeo.observation.observation import Observation
from diffeo.observation.rank import MAX_DEFICIENT
from diffeo.verdict.common.seen_inputs import FLOORS, LocalMetric, Seen, floor_of, squared_distances

# Twins that carry a verdict at least.
LEAST_NEAR = 8
# Two inputs are far apart on the target if they lie so many times as far apart there, in units of the input, as on the source:
# stretch, curvature between the ends and what a sample off the pair tells of both explain less.
FAR = 3.0
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
# A displacement on the target counts if it is so many times the noise.
ABOVE_NOISE = 4.0
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
    return find_evidence_seen(Seen(source, pairs[0]), Seen(target, pairs[1]), names, margin)


@dataclass(frozen=True, eq=False)
class BothWays:
    """Evidence of both directions, made once: of what A and of what B is seen to measure at the same common inputs."""

    a: Seen
    b: Seen
    names: tuple[str, str]
    margin: float

    @cached_property
    def found(self) -> tuple[Evidence, Evidence]:
        """Whether A, and whether B, is shown to have lost what the other one keeps."""
        return (
            find_evidence_seen(self.a, self.b, self.names, self.margin),
            find_evidence_seen(self.b, self.a, self.names[::-1], self.margin),
        )

    def is_of(self, common: tuple[FloatArray, FloatArray]) -> bool:
        """Whether these are the common inputs."""
        return all(np.array_equal(one.points, y) for one, y in zip((self.a, self.b), common, strict=True))


def find_evidence_seen(source: Seen, target: Seen, names: tuple[str, str], margin: float) -> Evidence:
    """As `find_evidence`, of sides whose common inputs were looked at before."""
    at_source, at_target, seen = source.metric, target.metric, source.rows
    y, z = at_source.points, at_target.points
    near, torn_from = _torn(at_source, at_target, source.known_unit and target.known_unit)
    gaps, low_rank = at_target.gaps, rank_is_shown(source.observation, target.observation)
    unrelated = _unrelated(near, gaps) and _unrelated(at_target.lengths, at_source.gaps)
    wrong = np.zeros(len(y), dtype=bool) if unrelated else _wrong(near, torn_from)
    near = np.where(wrong[:, None] | wrong, np.inf, near)
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
    dims = source.observation.dim, target.observation.dim
    told = f"the derivatives of {names[0]} have rank {dims[0]}, those of {names[1]} {dims[1]}"
    return replace(found, text=_sentence(found, size, told if low_rank else "", names))


def torn_pairs(
    source: Observation, target: Observation, points: tuple[FloatArray, FloatArray]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Distances (P, P) of the inputs on the source, infinite where unknown, and which of them are torn on the target."""
    return _torn(
        LocalMetric(source, points[0]), LocalMetric(target, points[1]), source.known_unit and target.known_unit
    )


def _torn(at_source: LocalMetric, at_target: LocalMetric, known_unit: bool) -> tuple[FloatArray, NDArray[np.bool_]]:
    near, far = at_source.lengths, at_target.far
    if not known_unit:
        near = near * _unit(near, far)
    gaps, m = at_target.gaps, at_target.points.shape[1]
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


def _relative(gaps: FloatArray, points: FloatArray) -> float:
    """Median distance of torn twins in units of the spread of the points, which a few wild ones do not move."""
    if not len(gaps):
        return 0.0
    usual = np.median(squared_distances(points)[np.triu_indices(len(points), 1)])
    # The mean squared distance of two points is twice the squared spread; both medians lie about as far below their means.
    return float(np.sqrt(2.0 * np.median(gaps) / usual)) if usual > 0.0 else 0.0


def _wrong(near: FloatArray, torn_from: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which pairs stand alone: torn from their neighbours, which are torn from few others. None where these are many."""
    order = _nearest(near, RING[1])
    known = np.isfinite(np.take_along_axis(near, order, axis=1))
    count = np.maximum(known.sum(axis=1), 1)
    torn = (np.take_along_axis(torn_from, order, axis=1) & known).sum(axis=1) / count
    around = np.where(known, torn[order], np.nan)
    some = count >= RING[1] // 2
    found = np.zeros(len(near), dtype=bool)
    found[some] = (torn[some] >= WRONG_FROM) & (np.nanmedian(around[some], axis=1) <= WRONG_AMONG)
    return found if found.mean() <= MOST_WRONG else np.zeros(len(near), dtype=bool)


def _nearest(near: FloatArray, count: int) -> IntArray:
    """Columns (P, count) of the smallest entries of each row, ascending; fewer where there are no more."""
    count = min(count, near.shape[1])
    some = np.sort(np.argpartition(near, count - 1, axis=1)[:, :count], axis=1)
    order = np.argsort(np.take_along_axis(near, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


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
    order = _nearest(near, RING[1])[:, RING[0] :]
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
