"""How far a map is from the truth on held-out pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._validation import FloatArray, float_array
from diffeo.losses import Loss

HOLDS, FAILS, UNDETERMINED = "holds", "fails", "undetermined"


@dataclass(frozen=True, eq=False)
class Direction:
    """What the held-out pairs say of one direction of a map.

    Attributes
    ----------
    error : float
        Relative error: Frobenius norm of (predicted - true) over that of (true - mean of the observation).
    lower, upper : float
        One-sided bounds of the error, each at level `significance`.
    status : {"holds", "fails", "undetermined"}
        The upper bound is under the margin; the lower bound is over it; or neither.
    how : str
        What predicted: the transformation, or the regression that stands in where the transformation has no way back.
    true, predicted : ndarray of shape (H, m)
        Measurements of the target side at the H held-out pairs, and their prediction from the other side.
    loss : Loss or None
        What the source side lost of what the target side keeps; None unless the direction fails for that reason.
    """

    error: float
    lower: float
    upper: float
    status: str
    how: str
    true: FloatArray
    predicted: FloatArray
    loss: Loss | None = None


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
