"""Which of several predictors are combined: all that do not miss groups of landmarks left out by far more than the best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.matching.predictors.predictor import Predictor

# Predictors that miss landmarks left out by more than this many times what the best does are far worse. Misses are estimates:
# what seems half as good is as often better, and several together are wrong by less than each. Of 56 regressions with fewer
# samples than a chart needs, all that are not far worse together were at most 1.28 times as wrong as the best plain fit in
# hindsight (1.75 with 2 here); those of them that miss least together, 2.1 times.
FAR_WORSE = 3.0


def combine(means: list[FloatArray], variances: list[FloatArray]) -> FloatArray:
    """Mean weighted by precision, entry by entry; the weights relative to the largest, so that none overflows."""
    floor = np.maximum(np.min(variances, axis=0), np.finfo(float).tiny)
    weights = [floor / np.maximum(variance, floor) for variance in variances]
    total = np.sum(weights, axis=0)
    combined: FloatArray = np.sum([w * mean for w, mean in zip(weights, means, strict=True)], axis=0) / total
    return combined


def combined_misses(some: list[Predictor]) -> FloatArray:
    """What predictors together miss of landmarks (L, m), each left out."""
    return combine([one.misses for one in some], [one.variances for one in some])


def grouped_misses(some: list[Predictor]) -> FloatArray:
    """The same with groups of landmarks left out."""
    return combine([one.grouped for one in some], [one.grouped_variances for one in some])


def chosen(predictors: list[Predictor]) -> list[Predictor]:
    """The predictors but ones that are far worse than the best, which are left out one after another while that helps.

    So are the aligned map and what is built on it: they err alike, and together are no better than the better one. Linear ones
    and constants state the same variance everywhere. Beyond the landmarks, where that of processes grows, they would outweigh
    these however much they miss: they have no part where they are far worse.
    """
    alone = {one: _missed([one]) for one in predictors}
    far = {one for one in predictors if alone[one] > FAR_WORSE * min(alone.values())}
    kept = [one for one in predictors if one.base or one.inverse_scales.any() or one not in far]
    least = _missed(kept)
    while len(kept) > 1:
        without = {out: [one for one in kept if one is not out] for out in kept if out in far or out.base}
        missed = {out: _missed(some) for out, some in without.items()}
        best = min(missed, key=lambda out: missed[out], default=None)
        if best is None or not missed[best] < least:
            break
        kept, least = without[best], missed[best]
    return kept


def evenly(predictors: list[Predictor]) -> list[Predictor]:
    """The best of all alone if that adds to an aligned map, else the affine map and the motion, as much of each.

    Very few landmarks leave so few when one is left out that misses say nothing: affine maps err by chance, motions by what
    they cannot be. Of sixty maps of squares across cliffs by three or four landmarks the mean of both was 0.96 times (1.36 at
    worst) as wrong as the best of affine, Procrustes and Gaussian process in hindsight, and what misses choose 1.02 (2.1).
    """
    best = predictors[int(np.argmin([_missed([one]) for one in predictors]))]
    if best.base:
        return [best]
    both = [one for one in predictors if one.kind in ("affine of points", "motion of points")]
    spread = np.sqrt(np.mean([one.spread**2 for one in both], axis=0))
    alike = np.tile(spread**2, (len(both[0].misses), 1))
    return [replace(one, spread=spread, variances=alike, grouped_variances=alike) for one in both]


def _missed(some: list[Predictor]) -> float:
    return float(np.linalg.norm(grouped_misses(some)))
