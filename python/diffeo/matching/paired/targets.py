"""The kernels of a direction, and where it begins: for one target, or for many targets of one source at the cost of one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.matching.paired.kernel_choice import FULL, Effort, fit_kernels, learned_metric
from diffeo.matching.paired.kernel_fit import Few, KernelFit, equations_of, input_spacing, trained
from diffeo.matching.paired.local_kernels import LocalKernels, fit_local_kernels
from diffeo.matching.paired.sample import PairedSample, Side, Source, combined

# Random combinations of the values of many targets, by which metric and kernels are chosen for all of them.
COMBINATIONS = 48


class Kernels(NamedTuple):
    """What is learned before the polynomials.

    Attributes
    ----------
    sample : PairedSample
    metric : ndarray of shape (r, s)
        L: polynomials and kernels are learned in coordinates y L of the source.
    seen : PairedSample
        In these coordinates.
    model : KernelFit or LocalKernels
        One fit to all pairs, or where these are too many one around each query.
    known : ndarray of shape (k,), int64
        Pairs that were left out in turn.
    missed : ndarray of shape (k, v)
        What the model then missed of each.
    """

    sample: PairedSample
    metric: FloatArray
    seen: PairedSample
    model: KernelFit | LocalKernels
    known: IntArray
    missed: FloatArray


def kernels_of(sample: PairedSample, seed: int, effort: Effort = FULL) -> Kernels:
    """Metric and kernels for one target; where pairs are too many for one fit, around each query."""
    rng = np.random.default_rng(seed)
    at = np.sort(rng.permutation(len(sample))[: effort.known])
    if _global(sample, effort):
        chosen = fit_kernels(sample, np.arange(len(sample)), rng, effort)
        return Kernels(sample, chosen.metric, sample.seen_by(chosen.metric), chosen.model, at, chosen.missed[at])
    metric = learned_metric(sample, np.arange(len(sample)), rng, effort)
    seen = sample.seen_by(metric)
    model, missed = fit_local_kernels(seen, at, input_spacing(sample, at[: effort.tried]), effort)
    return Kernels(sample, metric, seen, model, at, missed)


@dataclass(frozen=True, eq=False)
class SharedKernels:
    """Metric and kernels for many targets of one source.

    Attributes
    ----------
    source : Source
    metric : ndarray of shape (r, s)
    seen : PairedSample
        In its coordinates, without a target.
    model : KernelFit or LocalKernels
        With the values of all targets, each in units of its spread, or for any.
    known : ndarray of shape (k,), int64
    missed : list of ndarray of shape (k, v)
        Of each target.
    """

    source: Source
    metric: FloatArray
    seen: PairedSample
    model: KernelFit | LocalKernels
    known: IntArray
    missed: list[FloatArray]

    def of_target(self, number: int, target: Side) -> Kernels:
        """For one of the targets alone."""
        sample = self.source.sample(*self.source.target(target), with_slopes=True)
        seen = replace(
            self.seen,
            values=sample.values,
            slopes=sample.slopes,
            targets=sample.targets,
            target_slopes=sample.target_slopes,
        )
        model: KernelFit | LocalKernels
        if isinstance(self.model, LocalKernels):
            model = replace(self.model, sample=seen)
        else:
            start = sum(one.shape[1] for one in self.missed[:number])
            part = slice(start, start + self.missed[number].shape[1])
            model = replace(self.model, dual=np.ascontiguousarray(_unit(sample.values) * self.model.dual[:, part]))
        return Kernels(sample, self.metric, seen, model, self.known, self.missed[number])


def shared_kernels(source: Source, targets: list[Side], seed: int, effort: Effort = FULL) -> SharedKernels | None:
    """Metric and kernels for many targets of one source, chosen for all together, each target in units of its spread.

    The systems of equations depend on the source alone, and each is solved once, with the values of all targets as right sides.
    None where rounding forbids a fit to all.
    """
    rng, n = np.random.default_rng(seed), len(source.points)
    at, rows = np.sort(rng.permutation(n)[: effort.known]), np.arange(n)
    parts = [source.target(one) for one in targets]
    units = [_unit(values) for values, _ in parts]
    values = np.concatenate([one[0] / unit for one, unit in zip(parts, units, strict=True)], axis=1)
    slopes = np.concatenate([one[1] / unit for one, unit in zip(parts, units, strict=True)], axis=1)
    every = source.sample(values, slopes, with_slopes=True)
    mixed = every
    if values.shape[1] > COMBINATIONS:
        mixing = np.random.default_rng(0).standard_normal((values.shape[1], COMBINATIONS))
        mixed = source.sample(*combined(values, slopes, mixing), with_slopes=True)
    model: KernelFit | LocalKernels
    if _global(every, effort):
        chosen = fit_kernels(mixed, rows, rng, effort)
        metric, seen = chosen.metric, every.seen_by(chosen.metric)
        fitted = trained(Few.of(every, rows, metric), chosen.recipe, input_spacing(every, rows))
        if fitted is None:
            return None
        model, missed = fitted.model, fitted.missed[at]
    else:
        metric = learned_metric(mixed, rows, rng, effort)
        seen, step = every.seen_by(metric), input_spacing(every, at[: effort.tried])
        few = replace(seen, values=mixed.values, slopes=mixed.slopes)
        local = replace(fit_local_kernels(few, at, step, effort)[0], sample=seen)
        model, missed = local, values[at] - local.predict(seen.points[at], at)
    ends = np.cumsum([one[0].shape[1] for one in parts])[:-1]
    each = [np.ascontiguousarray(unit * one) for unit, one in zip(units, np.split(missed, ends, axis=1), strict=True)]
    seen = _without_target(seen)
    model = replace(model, sample=seen) if isinstance(model, LocalKernels) else model
    return SharedKernels(source, metric, seen, model, at, each)


def _unit(values: FloatArray) -> float:
    """Root mean square distance from their mean."""
    spread = float(np.sqrt(((values - values.mean(axis=0)) ** 2).sum(axis=1).mean()))
    return max(spread, float(np.finfo(float).tiny))


def _global(sample: PairedSample, effort: Effort) -> bool:
    """Whether one fit to all pairs is not too much."""
    return len(sample) * equations_of(sample) <= effort.equations


def _without_target(sample: PairedSample) -> PairedSample:
    """The source alone: what waits for its target holds no other."""
    n, d = len(sample), sample.dim
    values, slopes = np.empty((n, 0)), np.empty((n, 0, d))
    return replace(sample, values=values, slopes=slopes, targets=values, target_slopes=slopes)
