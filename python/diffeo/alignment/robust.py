"""Which landmarks the others contradict: a consensus of motions before least squares, and neighbours on both sides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.alignment.lattices import lattice_isometries
from diffeo.isometry.periods import nearest_zero

# Subsets of the landmarks that are tried: all where they are no more, else as many drawn at random. With a third of the
# landmarks wrong, one of 3 is right in three cases out of ten, one of 6 in one of eleven.
MOST_SUBSETS = 1000
# Best motions of these that are refined by their nearest landmarks, and in how many steps.
REFINED, REFINEMENTS = 10, 10
# A landmark is contradicted if it misses by more than this many times the robust deviation of all, ...
CONTRADICTED = 8.0
# ... and by more than this share of the size of the domain: less does no harm, and charts are wrong by as much somewhere.
HARMLESS = 0.01
# Where landmarks that miss by so much would still agree, there is no motion on which they do.
LOOSEST = 0.5
# More landmarks must agree than fix the motion, by this many at least.
CONFIRMING = 1
# Landmarks that are contradicted, but agree with one another on another motion, are not wrong: a side folds, or is torn. So
# many more than fix that motion, and this share of them.
COHERENT, COHERENT_SHARE = 2, 0.4

# Pairs next to a pair, on each side, that can contradict it; of what these miss the median counts, so that wrong ones among
# them do not decide.
NEIGHBORS = 5
# A pair is contradicted if it misses by so many times as much as those.
ALONE = 8.0
# Errors below this share of the usual are rounding.
ROUNDING = 1e-6
# Pairs that can show that they have nothing to do with each other, at least, and standard errors by which they may.
FEWEST_TO_RELATE, UNRELATED = 16, 4.0


@dataclass(frozen=True, eq=False)
class Consensus:
    """What most landmarks agree on.

    `wrong` are the landmarks that the others contradict, ascending, none where there is no consensus; `agreeing` the share
    that the best motion carries to their partners; `deviation` of these, in the coordinates of B; `motion` that one, as a
    linear part (c, e) and a shift (e,), None where there were too few landmarks to look for it.
    """

    wrong: IntArray
    agreeing: float
    deviation: float
    motion: tuple[FloatArray, FloatArray] | None = None

    @property
    def found(self) -> bool:
        """Whether more than half of the landmarks agree."""
        return self.agreeing > 0.5


@dataclass(frozen=True, eq=False)
class _Model:
    """A family of maps x -> x @ linear + shift: what fixes one, how it is fitted, and what it misses modulo periods."""

    needed: int
    centred: bool
    scaled: bool
    affine: bool
    periods: FloatArray
    linears: list[FloatArray]

    def hypotheses(self, p: FloatArray, q: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Maps fixed by as few landmarks as can be: linear parts (s, c, e), and shifts (s, e)."""
        subsets = _subsets(len(p), self.needed, rng)
        if self.linears:
            linear = np.repeat(np.array(self.linears), len(subsets), axis=0)
            rows = np.tile(subsets[:, 0], len(self.linears))
            return linear, q[rows] - np.einsum("sc,sce->se", p[rows], linear)
        return self._fitted(p[subsets], q[subsets])

    def refined(self, p: FloatArray, q: FloatArray, linear: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The map that fits landmarks best, one near the given linear part."""
        if not self.linears:
            linears, shifts = self._fitted(p[None], q[None])
            return linears[0], shifts[0]
        offsets = q - p @ linear
        return linear, offsets[0] + nearest_zero(offsets - offsets[0], self.periods).mean(axis=0)

    def missed(self, p: FloatArray, q: FloatArray, linear: FloatArray, shift: FloatArray) -> FloatArray:
        """Distances (L,) of mapped landmarks from their partners."""
        left: FloatArray = np.linalg.norm(nearest_zero(p @ linear + shift - q, self.periods), axis=1)
        return left

    def _fitted(self, p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Least squares over orthogonal, or all, linear parts, of many sets of landmarks (s, k, c) at once."""
        mean_p, mean_q = (x.mean(axis=1, keepdims=True) * self.centred for x in (p, q))
        p, q = p - mean_p, q - mean_q
        if self.affine:
            linear = np.linalg.pinv(p) @ q
            return linear, (mean_q - mean_p @ linear)[:, 0]
        u, s, vt = np.linalg.svd(np.einsum("skc,ske->sce", p, q))
        linear = u @ vt
        if self.scaled:
            size = np.maximum((p**2).sum(axis=(1, 2)), np.finfo(float).tiny)
            linear = linear * (s.sum(axis=1) / size)[:, None, None]
        return linear, (mean_q - mean_p @ linear)[:, 0]


def motion_consensus(
    landmarks_a: FloatArray,
    landmarks_b: FloatArray,
    periods_a: FloatArray,
    periods_b: FloatArray,
    *,
    size: float,
    doubt: float,
    known_unit: bool,
    seed: int,
) -> Consensus:
    """Landmarks that no rigid motion (onto fewer dimensions, no affine map) carries to their partners with the others.

    Motions fixed by d + 1 landmarks (by one, on closed domains, whose lattices leave a few turns) are compared by the median
    of the squared distances that they miss (least median of squares: Rousseeuw 1984), which fewer than half of the
    landmarks cannot move. What misses by much more than the usual is contradicted.

    Parameters
    ----------
    landmarks_a, landmarks_b : ndarray of shape (L, d_a), (L, d_b)
    periods_a, periods_b : ndarray of shape (k, d)
    size : float
        Of the domain: root-mean-square distance of B's samples from their mean.
    doubt : float
        Error to suspect of the coordinates relative to that; no landmark is contradicted by less.
    known_unit : bool
        Whether both sides measure length in the same unit.
    seed : int
        Of the draws, where there are too many subsets.
    """
    closed = len(periods_a) or len(periods_b)
    linears = lattice_isometries(periods_a, periods_b) if closed else []
    needed = 1 if closed else landmarks_a.shape[1] + 1
    affine = landmarks_a.shape[1] != landmarks_b.shape[1]
    model = _Model(needed, True, not known_unit, affine, periods_b, linears)
    return _consensus(model, landmarks_a, landmarks_b, max(HARMLESS, 3.0 * doubt), size, seed)


def diffusion_consensus(landmarks_a: FloatArray, landmarks_b: FloatArray, *, doubt: float, seed: int) -> Consensus:
    """The same for diffusion coordinates (L, c), whose scale is 1, and orthogonal maps, which c landmarks fix."""
    c = landmarks_a.shape[1]
    model = _Model(c, False, False, False, np.empty((0, c)), [])
    return _consensus(model, landmarks_a, landmarks_b, doubt, float(np.sqrt(c)), seed)


def contradicted(at_a: FloatArray, at_b: FloatArray, ways: list[FloatArray], floor: float = 0.0) -> NDArray[np.bool_]:
    """Which pairs (L,) those next to them contradict, on A and on B alike.

    A map that is good around both ends of a pair and misses it alone, in every way that there is, says that the ends do not
    belong together. Where maps are bad around, or no pairs are near, nothing is said of a pair, however large its error.

    Parameters
    ----------
    at_a, at_b : ndarray of shape (L, m_a), (L, m_b)
        Where pairs are, on each side.
    ways : list of ndarray of shape (L,)
        By how much a map that does not know the pair misses it: from A to B, from B to A, or both; relative to the spread.
    floor : float
        Misses below this are no contradiction.
    """
    alone = np.full(len(at_a), len(ways) > 0 and len(at_a) >= 2 * NEIGHBORS)
    if not alone.any():
        return alone
    for at in (at_a, at_b):
        near = PointTree(at).query(at, NEIGHBORS + 1, workers=workers())[1]
        others = near != np.arange(len(at))[:, None]
        for missed in ways:
            # Of twins a pair itself may not be the first: it does not count, wherever it is.
            around = np.nanmedian(np.where(others, missed[near], np.nan), axis=1)
            alone &= missed > np.maximum(ALONE * np.maximum(around, ROUNDING * np.median(missed)), floor)
    return alone


def unrelated(at_a: FloatArray, at_b: FloatArray) -> bool:
    """Whether pairs next to each other on one side are as far apart on the other as any two, both ways.

    The rank of a distance among all from the same pair is uniform where the sides are in different orders.
    """
    count = len(at_a)
    if count < FEWEST_TO_RELATE:
        return False
    limit = 0.5 - UNRELATED / np.sqrt(12.0 * count)
    for own, other in ((at_a, at_b), (at_b, at_a)):
        nearest = PointTree(own).query(own, 2, workers=workers())[1]
        rows = np.arange(count)
        nearest = np.where(nearest[:, 1] == rows, nearest[:, 0], nearest[:, 1])
        there = np.linalg.norm(other[:, None] - other[None], axis=2)
        rank = (there < there[rows, nearest][:, None]).sum(axis=1) - 1.0
        if rank.mean() / (count - 2.0) < limit:
            return False
    return True


def _consensus(model: _Model, p: FloatArray, q: FloatArray, tolerance: float, size: float, seed: int) -> Consensus:
    count, nothing = len(p), np.empty(0, dtype=np.int64)
    if count <= model.needed + CONFIRMING:
        return Consensus(nothing, 1.0, 0.0)
    missed, motion = _best(model, p, q, np.random.default_rng(seed))
    half = (count + model.needed + 1) // 2
    # Of independent errors in d directions, from the squared distance that so many stay below; few landmarks underrate it.
    share = float(chi2.ppf(min(half / count, 0.99), q.shape[1]))
    deviation = (1.0 + 5.0 / (count - model.needed + 1)) * float(np.sort(missed)[half - 1]) / np.sqrt(share)
    limit = max(tolerance * size, CONTRADICTED * deviation)
    wrong = np.flatnonzero(missed > limit)
    agree = 1.0 - len(wrong) / count
    if limit > LOOSEST * size or count - len(wrong) < model.needed + CONFIRMING:
        agree = 0.0
    if _coherent(model, p[wrong], q[wrong], limit, seed):
        agree = min(agree, 0.5)
    return Consensus(wrong if agree > 0.5 else nothing, agree, deviation, motion)


def _best(
    model: _Model, p: FloatArray, q: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """What the best map misses of each landmark, (L,), and it: that of the least median, refined by landmarks next to it."""
    half = (len(p) + model.needed + 1) // 2
    linear, shift = model.hypotheses(p, q, rng)
    misses: FloatArray = np.array([model.missed(p, q, *one) for one in zip(linear, shift, strict=True)])
    medians = np.partition(misses, half - 1, axis=1)[:, half - 1]
    first = int(medians.argmin())
    best: FloatArray = misses[first]
    motion: tuple[FloatArray, FloatArray] = linear[first], shift[first]
    least = float(medians.min())
    for k in np.argsort(medians, kind="stable")[:REFINED]:
        missed: FloatArray = misses[k]
        current: tuple[FloatArray, FloatArray] = linear[k], shift[k]
        for _ in range(REFINEMENTS):
            near = np.argsort(missed, kind="stable")[:half]
            refined = model.refined(p[near], q[near], current[0])
            trial = model.missed(p, q, *refined)
            if not np.sort(trial)[half - 1] < np.sort(missed)[half - 1]:
                break
            missed, current = trial, refined
        if np.sort(missed)[half - 1] < least:
            best, motion, least = missed, current, float(np.sort(missed)[half - 1])
    return best, motion


def _coherent(model: _Model, p: FloatArray, q: FloatArray, limit: float, seed: int) -> bool:
    """Whether landmarks that most contradict agree with one another on another map."""
    if len(p) < model.needed + COHERENT:
        return False
    linear, shift = model.hypotheses(p, q, np.random.default_rng(seed))
    most = max(int((model.missed(p, q, *one) <= limit).sum()) for one in zip(linear, shift, strict=True))
    return most >= max(model.needed + COHERENT, COHERENT_SHARE * len(p))


def _subsets(count: int, size: int, rng: np.random.Generator) -> IntArray:
    """Subsets of so many of `count` numbers, (s, size)."""
    if comb(count, size) <= MOST_SUBSETS:
        return np.array(list(itertools.combinations(range(count), size)), dtype=np.int64)
    drawn: IntArray = np.array([rng.choice(count, size, replace=False) for _ in range(MOST_SUBSETS)], dtype=np.int64)
    return drawn
