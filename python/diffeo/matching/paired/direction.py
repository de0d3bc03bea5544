"""One way between two sides: local polynomials and kernels, weighted at each query by the errors expected of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FAR, LARGEST, FloatArray, IntArray, Reach
from diffeo._support.point_tree import PointTree
from diffeo._support.progress import stage
from diffeo._support.threads import workers
from diffeo.matching.paired.components import Components
from diffeo.matching.paired.kernel_choice import FULL, Effort
from diffeo.matching.paired.kernel_fit import KernelFit
from diffeo.matching.paired.local_kernels import LocalKernels
from diffeo.matching.paired.local_polynomials import LocalFits, local_fits, possible_degrees
from diffeo.matching.paired.sample import PairedSample
from diffeo.matching.paired.targets import Kernels, kernels_of

# A polynomial that is farther from the kernel fit than this many times the latter's expected error is not believed; more is
# allowed, by this power of how much smaller its own doubt is, up to such a ratio.
AGREEMENT = (1.5, 1e3, 0.2)
# A polynomial is in doubt by at least this share of its difference from the ones of the next lower and the next higher degree:
# one that fits its pairs exactly, on its side of a kink, says nothing of the other side.
WITNESS = 0.1
# Kernels around each query are not asked where they are expected to miss by so many times the doubt of a polynomial.
NEEDLESS = 10.0
# The share of pairs left out whose errors are within what is compared: the usual error would tempt into rare large ones.
CAUTION = 0.9
# Degrees chosen at fewer of these than this share are not computed.
LEAST_USE = 0.03
# Of the errors at pairs left out, this share lies within this factor of what is expected: new ones are a little worse.
SHARE_WITHIN, FACTOR = 0.985, 3.0
# A point is outside of the pairs if it is farther from all of them than so many times the distance of those around it to this
# neighbour.
OUTSIDE, SPACING_NEIGHBOR = 3.0, 6
# By how much more than their doubt polynomials are mistrusted, altogether at last; and what counts as an improvement.
MISTRUST, WORTHWHILE = (1.0, 4.0, 16.0, 64.0, 1e6), 0.97
# Beside kernels around each query, which cost as much, polynomials must be better by more.
WORTH_BOTH = 0.7
# Errors below this share of the spread are rounding, and nothing is told apart there.
ROUNDING = 1e-12
# Pairs that are left out together with nothing else near tell little: the expected error grows with this power of the
# distance beyond the usual one.
GROWTH = 2.0


class Predicted(NamedTuple):
    """Values (count, v) in components of the target, and their expected errors (count,) in the same unit."""

    values: FloatArray
    expected: FloatArray


@dataclass(frozen=True, eq=False)
class PairFit:
    """A map from one side to the other, learned from pairs.

    Attributes
    ----------
    sample : PairedSample
    metric : ndarray of shape (r, s)
        L: polynomials and kernels are learned in coordinates y L of the source.
    seen : PairedSample
        In these coordinates.
    source, target : Components
    degrees : ndarray of shape (g,), int64
        Of the local polynomials; none where kernels alone are as good.
    kernel : KernelFit or LocalKernels
        One fit to all pairs, or where these are too many one around each query.
    known : ndarray of shape (k, ), int64
        Pairs at which errors of the kernel fit are known, because they were left out in turn.
    missed : ndarray of shape (k,)
        Those errors.
    trust : ndarray of shape (g + 1,)
        By what a polynomial's doubt is multiplied, and last the expected error of the kernel fit, to be compared.
    scale : float
        By which expected errors are multiplied, so that those of pairs left out are met.
    error : float
        Relative error at pairs left out in turn.
    """

    sample: PairedSample
    metric: FloatArray
    seen: PairedSample
    source: Components
    target: Components
    degrees: IntArray
    kernel: KernelFit | LocalKernels
    known: IntArray
    missed: FloatArray
    trust: FloatArray
    scale: float
    error: float
    _known_pairs: _KnownPairs | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._known_pairs is None:
            object.__setattr__(self, "_known_pairs", _KnownPairs(self.sample, self.seen, self.known))

    @property
    def _near(self) -> _KnownPairs:
        """What is next to the pairs that were left out; fits that are changed share it."""
        assert self._known_pairs is not None
        return self._known_pairs

    @cached_property
    def _reach(self) -> Reach:
        extent = float(np.ptp(self.sample.points, axis=0).max()) or 1.0
        m = len(self.source.centre)
        return Reach(self.source.centre, np.full(m, min(FAR * extent, LARGEST)))

    def predict(self, points: FloatArray, n_threads: int) -> Predicted:
        """Measurements (count, m) of the target at measurements of the source, and expected errors (count,) of each row."""
        queries = np.ascontiguousarray(self.source.reduced(self._reach.pulled(points)) @ self.metric)
        expected = self._expected_of_kernel(queries)
        if not len(self.degrees):
            return Predicted(self.target.restored(self.kernel.predict(queries)), self.scale * expected)
        found = self._combined(
            local_fits(self.seen, queries, self.degrees, n_threads),
            expected,
            lambda rows: self.kernel.predict(queries[rows]),
        )[0]
        return Predicted(self.target.restored(found.values), self.scale * found.expected)

    def outside(self, points: FloatArray, slack: float = 0.0) -> NDArray[np.bool_]:
        """Which measurements (count, m) of the source are farther from all pairs than some of their distances to one another.

        With `slack`, also farther than this share of the spread: for points that are predicted.
        """
        points = self._reach.pulled(points)
        queries = self.source.reduced(points)
        near = self.sample.near(queries, 1)[:, 0]
        usual = self._near.spacing[self._near.plain_tree.query(self.sample.leading(queries), workers=workers())[1]]
        off = np.linalg.norm(self.source.restored(queries) - points, axis=1)
        distance = np.hypot(np.linalg.norm(queries - self.sample.points[near], axis=1), off)
        spread = float(np.sqrt((self.sample.points**2).sum(axis=1).mean()))
        beyond: NDArray[np.bool_] = distance > np.maximum(OUTSIDE * usual, slack * spread)
        return beyond

    def _expected_of_kernel(self, queries: FloatArray, own: bool = False) -> FloatArray:
        """Geometric mean of the errors at the nearest pairs that were left out, which weigh as they are near, and more where
        all are far; with `own`, the queries are these pairs, and their own errors do not count.
        """
        k = min(len(self.known) - own, 2 * self.sample.dim + 2)
        distances, near = self._near.tree.query(self.seen.leading(queries), k + own, workers=workers())
        distances, near = (x.reshape(len(queries), -1)[:, int(own) :] for x in (distances, near))
        usual = np.median(self._near.gaps[near], axis=1)
        beyond = np.maximum(1.0, distances[:, 0] / np.maximum(usual, np.finfo(float).tiny)) ** GROWTH
        weights = 1.0 / (distances + 0.1 * distances[:, -1:] + np.finfo(float).tiny)
        logs = np.log(np.maximum(self.missed[near], np.finfo(float).tiny))
        expected: FloatArray = np.exp((weights * logs).sum(axis=1) / weights.sum(axis=1)) * beyond
        return float(self.trust[-1]) * expected

    def _combined(
        self, local: LocalFits, expected: FloatArray, kernel_at: Callable[[IntArray], FloatArray]
    ) -> tuple[Predicted, IntArray]:
        """At each query the polynomial that is in least doubt of those that do not contradict the kernels, and these, weighted
        by precision; and which polynomial, or -1 where the kernels are expected to be nearer.

        `kernel_at` says what the kernels predict at some of the queries.
        """
        floor = ROUNDING * self.sample.spread
        doubt = np.hypot(_doubted(local) * self.trust[:-1], floor)
        limit = np.hypot(expected, floor)
        asked = np.arange(len(limit))
        if isinstance(self.kernel, LocalKernels):
            asked = np.flatnonzero(limit < NEEDLESS * doubt.min(axis=1))
        kernel = kernel_at(asked)
        apart = np.linalg.norm(local.values[asked] - kernel[:, None], axis=2)
        most = limit[asked, None]
        with np.errstate(invalid="ignore"):
            agreement = AGREEMENT[0] * np.clip(most / doubt[asked], 1.0, AGREEMENT[1]) ** AGREEMENT[2]
        doubt[asked] = np.where(apart <= agreement * most, doubt[asked], np.inf)
        best = doubt.argmin(axis=1)
        rows = np.arange(len(best))
        least, values = doubt[rows, best], local.values[rows, best]
        best[asked[least[asked] >= expected[asked]]] = -1
        # Both by their precisions: they err in different ways.
        share = 1.0 / (1.0 + (least[asked] / np.maximum(limit[asked], np.finfo(float).tiny)) ** 2)[:, None]
        values[asked] = share * values[asked] + (1.0 - share) * kernel
        return Predicted(values, np.minimum(least, limit)), best


@dataclass(frozen=True, eq=False)
class _KnownPairs:
    """The pairs at which errors are known: trees of them, as seen and as measured, and how far they are from each other."""

    sample: PairedSample
    seen: PairedSample
    rows: IntArray

    @property
    def tree(self) -> PointTree:
        """As they are seen."""
        return self._as_seen[0]

    @property
    def gaps(self) -> FloatArray:
        """Distance (k,) of each to the next one as seen."""
        return self._as_seen[1][:, 1]

    @property
    def plain_tree(self) -> PointTree:
        """As they are measured."""
        return self._as_measured[0]

    @property
    def spacing(self) -> FloatArray:
        """Distance (k,) of each to one of those around it as measured."""
        return self._as_measured[1][:, -1]

    @cached_property
    def _as_seen(self) -> tuple[PointTree, FloatArray]:
        return _distances(self.seen, self.rows)

    @cached_property
    def _as_measured(self) -> tuple[PointTree, FloatArray]:
        return _distances(self.sample, self.rows)


def _distances(sample: PairedSample, rows: IntArray) -> tuple[PointTree, FloatArray]:
    """A tree of these pairs, and their distances (count, k) to the nearest of themselves."""
    points = np.ascontiguousarray(sample.leading(sample.points[rows]))
    tree = PointTree(points)
    return tree, tree.query(points, min(len(points), 1 + SPACING_NEIGHBOR), workers=workers())[0]


def _doubted(local: LocalFits) -> FloatArray:
    """The doubt (count, g) of each polynomial, and at least a share of what it differs by from its neighbours in degree."""
    steps = np.linalg.norm(np.diff(local.values, axis=1), axis=2)
    doubt = local.doubt.copy()
    known = np.isfinite(doubt)
    doubt[:, 1:] = np.maximum(doubt[:, 1:], WITNESS * steps)
    # Where the higher one is open, there is no second opinion.
    doubt[:, :-1] = np.maximum(doubt[:, :-1], np.where(known[:, 1:], WITNESS * steps, 0.0))
    return doubt


def fit_direction(
    sample: PairedSample,
    source: Components,
    target: Components,
    seed: int,
    n_threads: int,
    name: str,
    effort: Effort = FULL,
    kernels: Kernels | None = None,
) -> PairFit:
    """Learn a direction: the kernel fit, unless it is known, the degrees of the polynomials, and what errors to expect.

    Where the effort says that kernels are hopeless, they are all.
    """
    with stage(f"fit {name}"):
        if kernels is None:
            kernels = kernels_of(sample, seed, effort)
        degrees = possible_degrees(len(sample), sample.dim, sample.with_slopes)
        _, metric, seen, kernel, at, missed = kernels
        errors = np.linalg.norm(missed, axis=1)
        truth = sample.values[at]
        if _rms(errors) > effort.hopeless * max(sample.spread, np.finfo(float).tiny):
            none = np.empty(0, dtype=np.int64)
            plain = PairFit(sample, metric, seen, source, target, none, kernel, at, errors, np.ones(1), 1.0, 0.0)
            return _scaled(plain, errors, plain._expected_of_kernel(seen.points[at], own=True))
        local = local_fits(seen, seen.points[at], degrees, n_threads, at)
    misses = np.linalg.norm(local.values - truth[:, None], axis=2)
    floor = ROUNDING * max(sample.spread, np.finfo(float).tiny)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = misses / np.hypot(_doubted(local), floor)
    # A degree that is in doubt everywhere is never chosen.
    known = np.isfinite(local.doubt) & np.isfinite(ratios)
    columns = [ratios[known[:, g], g] for g in range(len(degrees))]
    trust = np.array([*(np.quantile(one, CAUTION) if len(one) else 1.0 for one in columns), 1.0])
    whole = PairFit(sample, metric, seen, source, target, degrees, kernel, at, errors, trust, 1.0, 0.0)
    predicted_kernel = truth - missed
    expected = whole._expected_of_kernel(seen.points[at], own=True)
    trust[-1] = float(np.quantile(errors / np.hypot(expected, floor), CAUTION)) or 1.0
    expected = trust[-1] * expected
    best = whole._combined(local, expected, lambda rows: predicted_kernel[rows])[1]
    used = np.bincount(best[best >= 0], minlength=len(degrees))
    kept = np.flatnonzero(used >= LEAST_USE * len(at))
    # The next lower degree is kept beside each, as its witness.
    kept = np.unique(np.maximum(np.concatenate([kept, kept - 1, [used.argmax()]]), 0))
    fewer = LocalFits(np.ascontiguousarray(local.values[:, kept]), np.ascontiguousarray(local.doubt[:, kept]))
    part = replace(whole, degrees=degrees[kept], trust=trust[[*kept, -1]])
    return _cautious(part, fewer, predicted_kernel, expected, truth)


def _cautious(fit: PairFit, local: LocalFits, kernel: FloatArray, expected: FloatArray, truth: FloatArray) -> PairFit:
    """The fit with as much mistrust of polynomials as the errors at pairs left out ask for, and what errors to expect.

    Which one is in least doubt is chosen after the fact, so that the chosen one is worse than its doubt: more so at kinks.
    """
    trials = []
    for mistrust in MISTRUST:
        trial = replace(fit, trust=np.append(mistrust * fit.trust[:-1], fit.trust[-1]))
        predicted = trial._combined(local, expected, lambda rows: kernel[rows])[0]
        missed = np.linalg.norm(predicted.values - truth, axis=1)
        # Few rows make the whole error, and the others count too.
        score = _rms(missed) * np.sqrt(float(np.median(missed)))
        trials.append((score, _scaled(trial, missed, predicted.expected)))
    # The least mistrust that is as good as any; none of the polynomials where they do not help.
    best = min(score for score, _ in trials[:-1])
    found = next(trial for trial in trials if trial[0] <= best / WORTHWHILE)
    worthwhile = WORTH_BOTH if isinstance(fit.kernel, LocalKernels) else WORTHWHILE
    if found[0] < worthwhile * trials[-1][0]:
        return found[1]
    alone = trials[-1][1]
    return replace(alone, degrees=alone.degrees[:0], trust=alone.trust[-1:])


def _scaled(fit: PairFit, missed: FloatArray, expected: FloatArray) -> PairFit:
    """The fit with its error, and what it expects scaled so that it meets what was missed of pairs left out."""
    ratios = missed / np.maximum(expected, np.finfo(float).tiny)
    scale = max(float(np.median(ratios)), float(np.quantile(ratios, SHARE_WITHIN)) / FACTOR)
    spread = max(fit.sample.spread, float(np.finfo(float).tiny))
    return replace(fit, scale=scale or 1.0, error=_rms(missed) / spread)


def _rms(missed: FloatArray) -> float:
    return float(np.sqrt((missed**2).mean()))
