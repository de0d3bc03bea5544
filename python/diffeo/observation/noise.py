"""What sampling noise of metrics and rounding of measurements do to lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, float_array, real
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import rows_text

# Rounding of a measurement by a network in single precision, in units of the machine epsilon times its largest value:
# root mean squares of 0.6 to 1.4 were measured over hidden layers of three networks (2 to 5 layers, 24 to 256 wide).
SINGLE_ROUNDING = 1.0
# Types whose numbers are no finer than those of single precision.
SINGLE_TYPES = ("float16", "bfloat16", "float32", ">f4", "<f4")
# Samples, and neighbours of each, from which the usual length of an edge is estimated.
TRIAL_SAMPLES, TRIAL_NEIGHBORS = 500, 8


def noise_of_points(noise: Any, n: int) -> FloatArray:
    """Standard deviations (n,) that an argument `noise` means, a number or one for each of n points; none given: empty.

    Raises
    ------
    ShapeError, NonFiniteError, DataTypeError, ParameterError
        What is neither, and negative numbers.
    """
    if noise is None:
        return np.empty(0)
    if np.ndim(noise) == 0:
        return np.full(n, real(noise, "noise", at_least=0.0))
    given = float_array(noise, "noise", 1, shape=(n,), axes="(n,)")
    negative = np.flatnonzero(given < 0.0)
    if len(negative):
        raise errors.ParameterError(
            f"noise is negative at {len(negative)} of {n} points ({rows_text(negative)}); it is a standard deviation"
        )
    return given


def usual_noise(deviations: FloatArray) -> float:
    """Root mean square of standard deviations, 0 of none."""
    return float(np.sqrt((deviations**2).mean())) if len(deviations) else 0.0


def single_precision(values: FloatArray) -> bool:
    """Whether all values are multiples of the unit of single precision, whatever type they are stored in."""
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    # Whole numbers are exact in both, and tell nothing.
    return bool((values == rounded).all() and np.any(values % 1.0))


def shown_precision(given: Any, values: FloatArray) -> str:
    """Either "single" or "double": by the type of what was given, or else by what its `values` show.

    Who raises float32 to float64 on the way leaves numbers that are multiples of the unit of single precision.
    """
    kind = str(getattr(given, "dtype", "")).removeprefix("torch.")
    return "single" if kind in SINGLE_TYPES or single_precision(values) else "double"


def rounding(points: FloatArray, precision: str) -> FloatArray:
    """Standard deviation (m,) of the rounding of each measurement, in "single" or "double" precision."""
    unit = np.finfo(np.float32 if precision == "single" else np.float64).eps
    deviation: FloatArray = SINGLE_ROUNDING * float(unit) * np.abs(points).max(axis=0)
    return deviation


def rounding_of_lengths(points: FloatArray, whitening: FloatArray, precision: str) -> float:
    """Relative standard deviation of the length of a usual edge from the rounding of its ends: the median over samples.

    Rounding moves both ends by delta, and W^T delta sqrt(2) over the length is what that makes in whitened coordinates.
    The length is the smaller one-sided distance to the nearest samples in the space of measurements.
    """
    rows = np.unique(np.linspace(0, len(points) - 1, min(len(points), TRIAL_SAMPLES)).astype(np.int64))
    k = min(len(points), 1 + TRIAL_NEIGHBORS)
    near = PointTree(points).query(points[rows], k, workers=workers())[1].reshape(len(rows), k)
    offset = points[near] - points[rows, None]
    lengths = np.linalg.norm(np.einsum("nkm,nmd->nkd", offset, whitening[rows]), axis=2)[:, 1:]
    moved = np.sqrt(2.0 * np.einsum("nmd,m->nd", whitening[rows] ** 2, rounding(points, precision) ** 2).mean(axis=1))
    usual = np.median(lengths, axis=1)
    return float(np.median(moved / np.maximum(usual, np.finfo(float).tiny)))


def sampling_noise_of_lengths(freedom: FloatArray, dim: int, *, independent: bool) -> float:
    """Relative standard deviation of a length sqrt(q) from the noise of its metrics with `freedom` (n,) degrees nu.

    A one-sided squared distance by an inverse sample covariance is (nu - d - 1)/chi^2 with nu - d + 1 degrees of
    freedom times the true one: mean 1, variance 2/(nu - d - 3). That of q is half of it where the two ends are
    independent, and a length has half the relative deviation of its square.
    """
    usual = float(np.median(freedom))
    if not np.isfinite(usual):
        return 0.0
    # The smallest bursts have no finite variance; half a degree of freedom then stands for "as large as the length".
    variance = (1.0 if independent else 2.0) / max(usual - dim - 3.0, 0.5)
    return 0.5 * float(np.sqrt(variance))
