"""Which kernels fit pairs best: profile, metric, width, ridge and whether slopes count, by what is missed of pairs left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.matching.paired.kernel_fit import (
    Few,
    KernelFit,
    Recipe,
    Trained,
    equations_of,
    input_spacing,
    sensitive_metric,
    trained,
    usual_spacing,
)
from diffeo.matching.paired.sample import PairedSample

# Powers of two of the widths, in distances to the eighth neighbour, and what is added to the diagonal, that are tried.
NARROWEST, WIDEST = -1, 7
RIDGES = (1e-13, 1e-10, 1e-7, 1e-4, 1e-2)
# Where the search begins: profiles that are tried together, and the power of two of their width. A Gaussian is narrower.
STARTS = ((("gaussian",), 2), (("matern_5_2", "matern_3_2"), 4))
# So many rounds through width, profile and ridge.
ROUNDS = 2
# Where there are many pairs, coordinates that add a smaller share than this to squared distances are left out.
NEGLIGIBLE = 1e-8
# How often the metric is learned anew from the fit to more pairs at most, as long as it is better by this factor.
IMPROVED, WORTH_IMPROVING = 4, 1.1


@dataclass(frozen=True)
class Effort:
    """What a fit may cost.

    Attributes
    ----------
    equations : int
        Values and slopes of a global fit at most.
    tried_equations, refined_equations : int
        Those with which all kinds of kernels are tried, and those with which the best one is refined.
    known : int
        Pairs that are left out in turn.
    tried : int
        Those of them with which local kernels are tried.
    hopeless : float
        Relative error at pairs left out above which the first fits are all: nothing is learned from them to be improved.
    """

    equations: int = 3600
    tried_equations: int = 360
    refined_equations: int = 1200
    known: int = 1500
    tried: int = 150
    hopeless: float = float("inf")


FULL = Effort()
# For many comparisons one after the other: a tenth of the time.
QUICK = Effort(1200, 240, 480, 400, 60)


class _Key(NamedTuple):
    """A recipe but for its metric; the width as a power of two of the spacing, the ridge by its place among all."""

    profile: str
    power: int
    ridge: int
    slopes: bool


@dataclass(frozen=True, eq=False)
class _Trials:
    """Fits to some pairs with kernels that measure by one metric; each is made once."""

    rows: IntArray
    few: Few
    metric: FloatArray
    step: float
    spacing: float
    made: dict[_Key, tuple[float, Trained | None]] = field(default_factory=dict)

    @classmethod
    def by(cls, sample: PairedSample, rows: IntArray, metric: FloatArray, step: float) -> _Trials:
        few = Few.of(sample, rows, metric)
        return cls(rows, few, metric, step, usual_spacing(few.points))

    def learned(self, fit: Trained) -> FloatArray:
        """The metric that a fit in this one teaches."""
        return sensitive_metric(self.metric @ fit.model.sensitivity() @ self.metric.T)

    def fit(self, key: _Key) -> Trained | None:
        return self._made(key)[1]

    def recipe(self, key: _Key) -> Recipe:
        return Recipe(key.profile, 2.0**key.power * self.spacing, RIDGES[key.ridge], key.slopes)

    def score(self, key: _Key) -> float:
        return self._made(key)[0]

    def relative_error(self, key: _Key) -> float:
        """Root mean square of what is missed of pairs left out, over the spread of the target."""
        fit, values = self.fit(key), self.few.values
        if fit is None:
            return float("inf")
        spread = float(np.linalg.norm(values - values.mean(axis=0)))
        return float(np.linalg.norm(fit.missed)) / max(spread, np.finfo(float).tiny)

    def _made(self, key: _Key) -> tuple[float, Trained | None]:
        if key not in self.made:
            found = trained(self.few, self.recipe(key), self.step)
            self.made[key] = score(found), found
        return self.made[key]

    def descended(self, key: _Key, profiles: tuple[str, ...]) -> _Key:
        """From here downhill: width, profile and ridge one after the other."""
        for _ in range(ROUNDS):
            before = key
            key = self._along(
                key, [[key._replace(power=p) for p in _steps(key.power, NARROWEST, WIDEST, up)] for up in (1, -1)]
            )
            key = min([key, *(key._replace(profile=one) for one in profiles)], key=self.score)
            key = self._along(
                key, [[key._replace(ridge=p) for p in _steps(key.ridge, 0, len(RIDGES) - 1, up)] for up in (1, -1)]
            )
            if key == before:
                break
        return key

    def _along(self, key: _Key, ways: list[list[_Key]]) -> _Key:
        """As far along one of the ways as every step improves."""
        start = key
        for way in ways:
            for one in way:
                if not self.score(one) < self.score(key):
                    break
                key = one
            if key != start:
                break
        return key


def _steps(start: int, least: int, most: int, direction: int) -> list[int]:
    return list(range(start + 1, most + 1)) if direction > 0 else list(range(start - 1, least - 1, -1))


class Chosen(NamedTuple):
    """The metric L (r, s), the fit to pairs in coordinates y L, what it misses of each one left out, (n, v), and its recipe."""

    metric: FloatArray
    model: KernelFit
    missed: FloatArray
    recipe: Recipe


def fit_kernels(sample: PairedSample, rows: IntArray, rng: np.random.Generator, effort: Effort = FULL) -> Chosen:
    """Fit to these pairs; everything about the kernels is chosen by what pairs left out are missed by.

    Three profiles, as smooth as the map turns out to be, in the plain metric of the source and in the one that a fit learns
    (`sensitive_metric`); all are tried with few of the pairs, the best is refined with more, and fitted to all at last. Slopes
    weigh as much as the change of the value over the distance to the next pair. Where the first fits are hopeless, the best of
    them is fitted to all at once.
    """
    step = input_spacing(sample, rows)
    first = _first(sample, _some(sample, rows, effort.tried_equations, rng), step)
    few = _some(sample, rows, effort.refined_equations, rng)
    if all(trials.relative_error(key) > effort.hopeless for trials, key in first):
        few, (trials, key) = first[0][0].rows, min(first, key=_missed)
    else:
        trials, key = _refined(sample, few, _tried(sample, first), step)
    if len(few) < len(rows):
        trials = _Trials.by(sample, rows, trials.metric, step)
        key = min((key, _widened(key, 1)), key=trials.score)
    found = trials.fit(key)
    if found is None:
        raise errors.NonFiniteError(
            "no kernel regression can be fitted to these pairs: are there numbers of wild sizes?"
        )
    return Chosen(trials.metric, found.model, found.missed, trials.recipe(key))


def learned_metric(sample: PairedSample, rows: IntArray, rng: np.random.Generator, effort: Effort = FULL) -> FloatArray:
    """The metric (r, s) of the fit to some of these pairs, of so many columns as add anything to distances."""
    few = _some(sample, rows, effort.refined_equations, rng)
    metric = fit_kernels(sample, few, rng, effort).metric
    energy = np.cumsum(((sample.points[few] @ metric) ** 2).sum(axis=0)[::-1])[::-1]
    kept = max(sample.dim, int(np.count_nonzero(energy > NEGLIGIBLE * energy[0])))
    return np.ascontiguousarray(metric[:, :kept])


def score(fit: Trained | Chosen | None) -> float:
    """Of what is missed of pairs left out: the root mean square, and the median by a third.

    Few rows make the whole error, and the others count too.
    """
    if fit is None:
        return float("inf")
    squares = (fit.missed**2).sum(axis=1)
    return float(np.mean(squares) ** (1 / 3) * np.median(squares) ** (1 / 6))


def _some(sample: PairedSample, rows: IntArray, equations: int, rng: np.random.Generator) -> IntArray:
    count = max(1, equations // equations_of(sample))
    return rows if count >= len(rows) else rows[np.sort(rng.permutation(len(rows))[:count])]


# Trials, and the best of the keys that were tried.
_Kind = tuple[_Trials, _Key]


def _first(sample: PairedSample, rows: IntArray, step: float) -> list[_Kind]:
    """The best Gaussian and the best Matern kernel in the plain metric of the source."""
    plain = _Trials.by(sample, rows, np.eye(sample.points.shape[1]), step)
    return [
        (plain, plain.descended(_Key(profiles[0], power, 0, sample.with_slopes), profiles))
        for profiles, power in STARTS
    ]


def _tried(sample: PairedSample, first: list[_Kind]) -> list[_Kind]:
    """The same, in the plain metric or in the one learned from it; and without slopes."""
    found = []
    for (plain, key), (profiles, power) in zip(first, STARTS, strict=True):
        start, best = _Key(profiles[0], power, 0, sample.with_slopes), (plain, key)
        fit = plain.fit(key)
        if fit is not None:
            learned = _Trials.by(sample, plain.rows, plain.learned(fit), plain.step)
            best = min(best, (learned, learned.descended(start, profiles)), key=_missed)
        found.append(best)
    if sample.with_slopes:
        # Slopes of kinks may do harm.
        (trials, key), profiles = min(found, key=_missed), STARTS[1][0]
        without = trials.descended(_Key(profiles[-1], key.power, 2, False), profiles)
        if trials.score(without) < trials.score(key):
            found.append((trials, without))
    return found


def _missed(one: _Kind) -> float:
    return one[0].score(one[1])


def _refined(sample: PairedSample, rows: IntArray, kinds: list[_Kind], step: float) -> _Kind:
    """With more pairs: the best of some kinds, its metric learned anew, and a width nearby."""
    if len(rows) > len(kinds[0][0].rows):
        kinds = [(_Trials.by(sample, rows, trials.metric, step), key) for trials, key in kinds]
    trials, key = min(kinds, key=_missed)
    for _ in range(IMPROVED):
        found = trials.fit(key)
        if found is None:
            break
        other = _Trials.by(sample, rows, trials.learned(found), step)
        gain = trials.score(key) / other.score(key) if other.score(key) > 0.0 else 1.0
        trials = other if gain > 1.0 else trials
        if gain < WORTH_IMPROVING:
            break
    return trials, min((key, _widened(key, -1), _widened(key, 1)), key=trials.score)


def _widened(key: _Key, steps: int) -> _Key:
    return key._replace(power=key.power + steps)
