"""Which rows or neurons of an observation are meant, and the local metric of fewer measurements."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text
from diffeo.observation.rank import COVARIANCE_FLOOR, JACOBIAN_FLOOR, SINGLE_FLOOR
from diffeo.observation.whitening import Whitened, whiten


class Chosen(Protocol):
    """A set of neurons that knows their numbers in the layer, as `diffeo.suggest_neurons` gives it."""

    @property
    def neurons(self) -> IntArray:
        """Numbers (k,)."""


def chosen_rows(key: Any, n: int) -> IntArray:
    """Row numbers (k,) that an index, a list of them, a boolean mask or a slice means; negative ones count from the end.

    Raises
    ------
    DataTypeError, ShapeError
        Keys that are neither, and masks of another length.
    InputError
        Rows outside of the sample, or none.
    """
    if isinstance(key, tuple):
        # scikit-learn asks for X[rows, ...].
        if len(key) != 2 or key[1] is not Ellipsis:
            raise errors.DataTypeError(
                "an observation has rows only: obs[rows]; take fewer neurons by obs.select(neurons)"
            )
        key = key[0]
    if isinstance(key, slice):
        try:
            rows = np.arange(n)[key]
        except (TypeError, ValueError) as error:
            raise errors.DataTypeError(f"rows: {error}") from error
    else:
        try:
            given = np.atleast_1d(np.asarray(key))
        except ValueError as error:
            raise errors.ShapeError(f"rows are not a rectangular array: {error}") from error
        if given.ndim != 1:
            raise errors.ShapeError(f"rows have shape {given.shape}; a list of row numbers or a mask (n,) is needed")
        if given.dtype == bool:
            if len(given) != n:
                raise errors.ShapeError(f"a mask of length {len(given)} does not fit {n} samples")
            rows = np.flatnonzero(given)
        elif given.dtype.kind in "iu" or given.size == 0:
            outside = given[(given < -n) | (given >= n)]
            if len(outside):
                raise errors.InputError(f"{len(outside)} rows ({rows_text(outside)}) are outside of the {n} samples")
            rows = given.astype(np.int64) % n
        else:
            raise errors.DataTypeError(f"rows are {given.dtype}; row numbers, a boolean mask or a slice are needed")
    if len(rows) == 0:
        raise errors.InputError(f"no row of the {n} samples is left")
    return rows.astype(np.int64)


def chosen_columns(neurons: Any, known: IntArray | None, m: int) -> IntArray:
    """Columns of the points that hold these neurons: by their numbers in the layer where `known` (m,), else by column.

    Raises
    ------
    DataTypeError, ShapeError
        Neurons that are no list of integers.
    InputError
        Neurons that were not measured, or the same one twice.
    """
    try:
        # A set that `suggest_neurons` chose knows its numbers.
        given = np.asarray(getattr(neurons, "neurons", neurons))
    except ValueError as error:
        raise errors.ShapeError(f"neurons are not a rectangular array: {error}") from error
    if given.dtype.kind not in "iu":
        raise errors.DataTypeError(f"neurons are {given.dtype}; their numbers are needed")
    if given.ndim != 1 or given.size == 0:
        raise errors.ShapeError(f"neurons have shape {given.shape}; a list (k,) of at least one is needed")
    values, counts = np.unique(given, return_counts=True)
    if len(values) < len(given):
        raise errors.InputError(f"neurons are listed more than once: {values[counts > 1][:5].tolist()}")
    numbers = np.arange(m) if known is None else known
    missing = given[~np.isin(given, numbers)]
    if len(missing):
        raise errors.InputError(
            f"{len(missing)} of {len(given)} neurons ({rows_text(missing)}) are not among the {m} that were measured"
            + ("" if known is None else " (numbers are those of the layer, as in .neurons)")
        )
    order = np.argsort(numbers, kind="stable")
    columns: IntArray = order[np.searchsorted(numbers[order], given)]
    return columns


def fewer_measurements(
    points: FloatArray,
    whitening: FloatArray,
    singular_values: FloatArray,
    freedom: FloatArray,
    source: str,
    precision: str,
) -> Whitened:
    """The whitening of fewer measurements, points (n, k), from rows (n, k, d) of the whitening of all of them.

    J_i = U_d Sigma_d V^T without its smallest part, so that the rows of U_d Sigma_d which belong to the kept
    measurements have their covariance. Bias that was removed from the whitening (bursts) is removed again.

    Raises
    ------
    RankError
        More than 1 % of the samples, for which these measurements do not determine all d directions.
    """
    d = whitening.shape[2]
    if points.shape[1] < d:
        raise errors.RankError(f"{points.shape[1]} neurons cannot embed {d} dimensions; choose at least that many")
    gain = np.sqrt(np.maximum(1.0 - (d + 1) / freedom, np.finfo(float).eps))
    factor = np.ascontiguousarray(whitening * (singular_values[:, None, :d] ** 2 / gain[:, None, None]))
    floor = {"jacobians": SINGLE_FLOOR if precision == "single" else JACOBIAN_FLOOR}.get(source, COVARIANCE_FLOOR)

    def decompose(dim: int) -> tuple[FloatArray, FloatArray]:
        values, found = core.whitening_from_jacobians(factor, dim, 0)
        return values, found * gain[:, None, None] if dim else found

    return whiten(points, decompose, d, d, floor, source)
