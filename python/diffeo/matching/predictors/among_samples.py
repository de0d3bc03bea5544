"""What predictors miss for certain, without a landmark: what they predict of samples is away from the other side's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.charts.cover import Cover
from diffeo.matching.gaussian_process import sections
from diffeo.matching.predictors.predictor import Predictor


def linear_part(landmarks: FloatArray, queries: FloatArray, linear: FloatArray) -> FloatArray:
    """What coefficients (f, m) add at queries (count, f), no farther than the landmarks reach, and as far again."""
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    # By einsum, whose rows do not depend on one another.
    added: FloatArray = np.einsum("nf,fm->nm", np.clip(queries, 2.0 * low - high, 2.0 * high - low), linear)
    return added


def blamed(one: Predictor, landmarks: FloatArray, queries: FloatArray, target: Cover, n_threads: int) -> Predictor:
    """The predictor with misses as large, at least, as those that what it predicts of samples (count, f) shows.

    Few landmarks left out lie among the others, and say little of where samples are and landmarks are not. What is
    predicted there and lies off the manifold of the other side's samples is missed by its distance, whatever is right.
    """
    if one.base:
        return one
    mean = np.tile(one.offset, (len(queries), 1))
    if one.linear is not None:
        mean += linear_part(landmarks, queries, one.linear)
    if one.amplitude > 0.0:
        mean += sections(queries, landmarks, one.inverse_scales, one.amplitude) @ one.dual
    # Squares of large numbers overflow.
    unit = max(float(np.abs(target.observation.points).max()), np.finfo(float).tiny)
    squares = (((mean - target.brought_near(mean, n_threads)) / unit) ** 2).sum(axis=1)
    # What is far away will be brought near, and not be missed by more than the samples are apart.
    most = float((target.observation.points / unit).var(axis=0).sum())
    off = float(np.minimum(squares, most).mean())
    own = float(((one.grouped / unit) ** 2).sum(axis=1).mean())
    if not off > own > 0.0:
        return one
    ratio = off / own
    return replace(
        one,
        spread=one.spread * np.sqrt(ratio),
        misses=one.misses * np.sqrt(ratio),
        variances=one.variances * ratio,
        grouped=one.grouped * np.sqrt(ratio),
        grouped_variances=one.grouped_variances * ratio,
    )
