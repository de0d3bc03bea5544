"""How far a map is from the truth on held-out pairs."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._validation import float_array


def relative_error(predicted: Any, true: Any) -> float:
    """Relative error of predicted measurements on held-out pairs.

    Frobenius norm of (predicted - true) over that of (true - mean of true): 0 is perfect, 1 is no better than the mean.

    Parameters
    ----------
    predicted, true : array_like of shape (n, m)

    Returns
    -------
    float
    """
    p = float_array(predicted, "predicted", 2, axes="(n, m)")
    t = float_array(true, "true", 2, shape=p.shape, axes="the shape of predicted")
    # In units of the largest deviation, so that no square overflows or vanishes.
    half = 0.5 * t
    deviation = 2.0 * (half - half.mean(axis=0))
    unit = float(np.abs(deviation).max())
    if not unit > 8.0 * np.finfo(float).eps * float(np.abs(t).max()):
        raise errors.InputError("true is constant over the held-out pairs: a relative error has no scale")
    return float(np.linalg.norm(p / unit - t / unit) / np.linalg.norm(deviation / unit))
