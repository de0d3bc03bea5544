"""The kernels of a direction, and where it begins: for one target, or for many targets of one source at the cost of one."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.matching.paired.kernel_choice import FULL, Effort, fit_kernels, learned_metric
from diffeo.matching.paired.kernel_fit import Few, KernelFit, equations_of, input_spacing, trained
from diffeo.matching.paired.local_kernels import LocalKernels, fit_local_kernels
from diffeo.matching.paired.sample import PairedSample, combined

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


def kernels_of_all(samples: list[PairedSample], seed: int, effort: Effort = FULL) -> list[Kernels]:
    """Metric and kernels for many targets of one source, chosen for all together, each target in units of its spread.

    The systems of equations depend on the source alone, and each is solved once, with the values of all targets as right sides.
    """
    if len(samples) < 2:
        return [kernels_of(one, seed, effort) for one in samples]
    first, rng = samples[0], np.random.default_rng(seed)
    at = np.sort(rng.permutation(len(first))[: effort.known])
    spreads = [max(one.spread, float(np.finfo(float).tiny)) for one in samples]
    values = np.concatenate([one.values / unit for one, unit in zip(samples, spreads, strict=True)], axis=1)
    slopes = np.concatenate([one.slopes / unit for one, unit in zip(samples, spreads, strict=True)], axis=1)
    every = _with_target(first, values, slopes)
    mixed = every
    if values.shape[1] > COMBINATIONS:
        mixing = np.random.default_rng(0).standard_normal((values.shape[1], COMBINATIONS))
        mixed = _with_target(first, *combined(values, slopes, mixing))
    rows = np.arange(len(first))
    model: KernelFit | LocalKernels
    if _global(first, effort):
        chosen = fit_kernels(mixed, rows, rng, effort)
        metric = chosen.metric
        fitted = trained(Few.of(every, rows, metric), chosen.recipe, input_spacing(first, rows))
        if fitted is None:  # rounding alone: it was fitted before
            return [kernels_of(one, seed, effort) for one in samples]
        seen, model, missed = first.seen_by(metric), fitted.model, fitted.missed[at]
    else:
        metric = learned_metric(mixed, rows, rng, effort)
        seen = first.seen_by(metric)
        step = input_spacing(first, at[: effort.tried])
        model = fit_local_kernels(_with_target(seen, mixed.values, mixed.slopes), at, step, effort)[0]
        model = replace(model, sample=_with_target(seen, values, slopes))
        missed = values[at] - model.predict(seen.points[at], at)
    found, start = [], 0
    for one, unit in zip(samples, spreads, strict=True):
        part = slice(start, start + one.values.shape[1])
        start = part.stop
        own = replace(seen, values=one.values, slopes=one.slopes, targets=one.targets, target_slopes=one.target_slopes)
        alone = (
            replace(model, dual=np.ascontiguousarray(unit * model.dual[:, part]))
            if isinstance(model, KernelFit)
            else replace(model, sample=own)
        )
        found.append(Kernels(one, metric, own, alone, at, np.ascontiguousarray(unit * missed[:, part])))
    return found


def _global(sample: PairedSample, effort: Effort) -> bool:
    """Whether one fit to all pairs is not too much."""
    return len(sample) * equations_of(sample) <= effort.equations


def _with_target(sample: PairedSample, values: FloatArray, slopes: FloatArray) -> PairedSample:
    """The source with another target, for kernels, which need no combinations."""
    values, slopes = np.ascontiguousarray(values), np.ascontiguousarray(slopes)
    return replace(sample, values=values, slopes=slopes, targets=values, target_slopes=slopes)
