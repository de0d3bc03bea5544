"""Measurements checked, and their local covariances whitened at a rank that the singular values show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, check_units, float_array, integer
from diffeo._support.wording import percent, rows_text
from diffeo.observation.rank import (
    JACOBIAN_FLOOR,
    MAX_DEFICIENT,
    MOST_LEFT_OUT,
    deficient_samples,
    rank_by_floor,
    rank_by_gap,
    ranks_in_part,
    ranks_of,
)

# A whitened step may be this many times longer or shorter than 1, so that its fourth power is a double; and squares of
# singular values are.
PROPORTION, LARGEST, TINIEST = 1e70, 1e150, 1e-150


class Whitened(NamedTuple):
    """Whitening (n, m, d), singular values (n, r), dimension d and rank-deficient samples, as in `Observation`."""

    whitening: FloatArray
    singular_values: FloatArray
    dim: int
    deficient: IntArray


def checked_points(points: Any) -> FloatArray:
    """Check the measurements and warn of neurons that do not vary."""
    # A copy: what the caller does to the array later must not change the observation.
    y = float_array(points, "points", 2, axes="(n, m)").copy()
    if len(y) < 2:
        raise errors.SampleSizeError("points holds 1 sample; at least 2 are needed")
    check_units(y, "points")
    warn_of_constants(y)
    return y


def warn_of_constants(points: FloatArray) -> None:
    """Warn of neurons that do not vary, and refuse measurements (n, m) none of which does."""
    constant = np.flatnonzero(np.ptp(points, axis=0) == 0.0)
    count = points.shape[1]
    if len(constant) == count:
        raise errors.RankError(f"all {count} measurements are constant over the {len(points)} samples: nothing varies")
    if len(constant):
        errors.warn(
            f"{len(constant)} of {count} measurements are constant over all samples (columns "
            f"{', '.join(map(str, constant[:5]))}): they carry no information; leave those neurons out",
            errors.ConstantNeuronWarning,
        )


def _rank_shown(points: FloatArray, values: FloatArray, limit: int, floor: float) -> int:
    """The rank that the singular values show above a floor, with a warning where some samples differ."""
    dim = rank_by_floor(values, limit, floor)
    part = ranks_in_part(values, limit, floor, dim)
    taken = part is not None and len(part[1]) <= MOST_LEFT_OUT * len(values)
    if dim == 0 and not taken:
        raise errors.RankError(
            f"the largest singular value is below {floor:g} of its median on more than {100 * MAX_DEFICIENT:.0f} % of the "
            f"samples ({'; '.join(ranks_of(points, values, floor).falls(limit))}): there the measurements barely depend on the "
            "inputs; measure more neurons, or leave those samples out"
        )
    if part is not None:
        rank, short = part
        lost = f"if the inputs have {rank} dimensions, the measurements lose some there; measure more neurons"
        errors.warn(
            f"the local covariances have rank {rank} on {percent(1.0 - len(short) / len(values))} of the samples, and less on "
            f"the others ({rows_text(short)}): {'; '.join(ranks_of(points, values, floor).falls(rank))} (rank_map has all). "
            + (
                f"dim = {rank} was taken, and those are left out of the graph and placed by extension; {lost}"
                if taken
                else f"dim = {dim} was taken, which {100 * (1 - MAX_DEFICIENT):.0f} % have; {lost}, or leave those samples out"
            ),
            errors.RankWarning,
        )
        dim = rank if taken else dim
    return dim


def whiten(
    points: FloatArray,
    decompose: Callable[[int], tuple[FloatArray, FloatArray]],
    dim: int | None,
    limit: int,
    floor: float,
    source: str,
    *,
    by_gap: bool = False,
) -> Whitened:
    """Choose the rank from the singular values, list deficient samples, and whiten."""
    most = MAX_DEFICIENT
    if dim is None:
        values = _finite(decompose(0)[0], source)
        dim = rank_by_gap(values, limit, floor) if by_gap else _rank_shown(points, values, limit, floor)
        most = MAX_DEFICIENT if by_gap else MOST_LEFT_OUT
    else:
        dim = integer(dim, "dim", 1)
        if dim > limit:
            raise errors.RankError(
                f"dim = {dim} exceeds {limit}, the largest rank that {points.shape[1]} measurements and these {source} allow"
            )
    values, whitening = decompose(dim)
    _finite(values, source)
    # A dimension that only counts large gaps may leave small singular values: rounding alone makes them unusable.
    deficient = deficient_samples(values, dim, min(floor, JACOBIAN_FLOOR) if by_gap else floor)
    if len(deficient) > most * len(points):
        falls = "; ".join(ranks_of(points, values, min(floor, JACOBIAN_FLOOR) if by_gap else floor).falls(dim))
        raise errors.RankError(
            f"{len(deficient)} of {len(points)} samples have local covariances of rank below dim = {dim} "
            f"({rows_text(deficient)}): {falls}; lower dim, or measure neurons that respond to every input direction"
        )
    if len(deficient) > MAX_DEFICIENT * len(points):
        whitening[deficient] = 0.0  # said already
    elif len(deficient):
        errors.warn(
            f"{len(deficient)} of {len(points)} samples have local covariances of rank below dim = {dim} "
            f"({rows_text(deficient)}); they are left out of the graph and placed by extension",
            errors.RankWarning,
        )
        whitening[deficient] = 0.0
    _check_scales(points, values[:, :dim], deficient)
    return Whitened(whitening, values, dim, deficient)


def _finite(values: FloatArray, source: str) -> FloatArray:
    if not np.isfinite(values).all():
        raise errors.InputError(
            f"singular values of these {source} overflow double precision: rescale them, or their scale"
        )
    return values


def _check_scales(points: FloatArray, values: FloatArray, deficient: IntArray) -> None:
    """Refuse singular values so far from the spread of the measurements that squares of whitened steps have no double."""
    spread = float(np.ptp(points, axis=0).max())
    lowest, highest = max(spread / PROPORTION, TINIEST), min(spread * PROPORTION, LARGEST)
    within = (values.min(axis=1) >= lowest) & (values.max(axis=1) <= highest)
    within[deficient] = True
    outside = np.flatnonzero(~within)
    if len(outside):
        raise errors.InputError(
            f"the local covariances of {len(outside)} of {len(points)} samples ({rows_text(outside)}) are out of all "
            f"proportion: singular values from {np.nanmin(values[outside]):.3g} to {np.nanmax(values[outside]):.3g}, while the "
            f"measurements vary by {spread:.3g}; squared distances overflow or vanish in double precision: rescale inputs or "
            "measurements, or leave those samples out"
        )
