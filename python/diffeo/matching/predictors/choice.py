"""Which of several predictors are combined: those that together miss groups of landmarks left out least."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.matching.predictors.predictor import Predictor


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
    """Some of the predictors: left out one after another while that helps, or the best of all alone."""
    kept, least = predictors, _missed(predictors)
    while len(kept) > 1:
        fewer = [[one for one in kept if one is not out] for out in kept]
        missed = [_missed(some) for some in fewer]
        best = int(np.argmin(missed))
        if not missed[best] < least:
            break
        kept, least = fewer[best], missed[best]
    alone = [_missed([one]) for one in predictors]
    return [predictors[int(np.argmin(alone))]] if min(alone) < least else kept


def _missed(some: list[Predictor]) -> float:
    return float(np.linalg.norm(grouped_misses(some)))
