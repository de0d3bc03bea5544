"""The one place where array-likes become checked C-contiguous float64 arrays, and parameters checked numbers."""

from __future__ import annotations

import decimal
import logging
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.wording import rows_text

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
# What is taken as a seed.
RandomState = int | np.random.Generator | np.random.RandomState | None

# Farther away than this many times the extent of the samples a point is only far: the direction is all that counts.
FAR = 1e100
# Squares of these can be summed; and these can be subtracted from each other.
LARGEST, HUGE = 1e150, 1e300

_logger = logging.getLogger("diffeo")


def dense(value: Any, name: str) -> NDArray[Any]:
    """An array-like of any kind as a NumPy array, of its own dtype where that is one of numbers: every array comes in here.

    Taken are arrays, nested lists, tensors (of any device and floating dtype, with gradients), data frames (nullable and
    Arrow columns of numbers too, where a missing value is NaN), labelled arrays, and what speaks ``__array__`` or
    ``__dlpack__``; objects that hold nothing but real numbers (decimal ones too) become float64.

    Raises
    ------
    InputError
        Masked entries.
    ShapeError
        Lists of different lengths.
    DataTypeError
        What is sparse, nested, without data, several arrays at once, not computed yet, or will not be converted.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise errors.InputError(
            f"{name} has {int(np.ma.getmaskarray(value).sum())} masked entries; remove those samples"
        )
    _check_whole(value, name)
    try:
        if hasattr(value, "detach") and hasattr(value, "cpu"):
            return _of_tensor(value, name)
        if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
            return np.from_dlpack(value)
        array = np.asarray(value)
        if array.dtype == object:
            array = _of_objects(value, array)
        return array
    except errors.DiffeoError:
        raise
    except ValueError as error:
        raise errors.ShapeError(f"{name} is not a rectangular array: {error}") from error
    except MemoryError:
        raise
    except Exception as error:  # whatever a library of arrays says instead of converting
        raise errors.DataTypeError(
            f"{name}, a {type(value).__name__}, cannot be converted to a NumPy array: {error} (convert it yourself)"
        ) from error


def _check_whole(value: Any, name: str) -> None:
    """Refuse what holds no array, or more than one, by what it is called in its own library."""
    if hasattr(value, "tocsr"):
        raise errors.DataTypeError(f"{name} is sparse; diffeo needs a dense array (use .toarray())")
    kinds: Any = getattr(value, "dtypes", ())
    if hasattr(kinds, "__iter__") and any(hasattr(kind, "fill_value") for kind in kinds):
        raise errors.DataTypeError(f"{name} has sparse columns; diffeo needs dense ones (use .sparse.to_dense())")
    if hasattr(value, "data_vars"):
        raise errors.DataTypeError(f"{name} is a Dataset of several arrays; choose one (dataset[name], or .to_array())")
    if isinstance(value, Mapping):
        raise errors.DataTypeError(f"{name} is a mapping of {len(value)} entries; one array is needed")
    if hasattr(value, "collect") and not hasattr(value, "__array__"):
        raise errors.DataTypeError(f"{name} is a {type(value).__name__} that was not computed yet; use .collect()")


def _of_tensor(tensor: Any, name: str) -> NDArray[Any]:
    """A torch tensor, without importing torch."""
    kind = "nested" if getattr(tensor, "is_nested", False) else "meta" if getattr(tensor, "is_meta", False) else ""
    layout = str(getattr(tensor, "layout", "torch.strided")).removeprefix("torch.")
    if kind or layout != "strided":
        raise errors.DataTypeError(
            f"{name} is a {kind or layout} tensor; a dense one with data is needed (.to_dense())"
        )
    tensor = tensor.detach().cpu()
    for lazy in ("resolve_conj", "resolve_neg"):
        tensor = getattr(tensor, lazy, lambda same=tensor: same)()
    # What NumPy has no dtype for, or none that it computes with: half precision of either kind, and quarter.
    if str(tensor.dtype).startswith(("torch.bfloat16", "torch.float16", "torch.float8")):
        tensor = tensor.float()
    array: NDArray[Any] = tensor.numpy()
    return array


def _of_objects(value: Any, array: NDArray[Any]) -> NDArray[Any]:
    """Objects as float64 where all are real numbers: nullable columns of a data frame, or numbers one by one."""
    held: Any = getattr(value, "dtypes", getattr(value, "dtype", None))
    kinds = [getattr(kind, "kind", "O") for kind in (held if hasattr(held, "__iter__") else [held])]
    if hasattr(value, "to_numpy") and kinds and all(kind in "fiu" for kind in kinds):
        converted: NDArray[Any] = value.to_numpy(dtype=np.float64, na_value=np.nan)
        return converted
    real_numbers = numbers.Real, decimal.Decimal
    if all(isinstance(one, real_numbers) and not isinstance(one, (bool, np.bool_)) for one in array.flat):
        try:
            return array.astype(np.float64)
        except OverflowError as error:
            raise errors.InputError("integers beyond double precision, whose largest number is 1.8e308") from error
    return array


def float_array(
    value: Any, name: str, ndim: int, *, shape: tuple[int | None, ...] | None = None, axes: str = ""
) -> FloatArray:
    """Check a real array and return it as C-contiguous float64.

    Parameters
    ----------
    value : array_like or torch.Tensor
        Real numbers. Integers and float32 are raised to float64 (said by the logger ``diffeo``); complex, boolean and
        object arrays are refused.
    name : str
        What to call it in messages.
    ndim : int
        Number of axes.
    shape : tuple, optional
        Required lengths; None leaves an axis free.
    axes : str, optional
        The expected shape in words, for messages, e.g. ``(n, m, p)``.

    Raises
    ------
    DataTypeError, ShapeError, NonFiniteError
        The last names the number of bad rows and the first of them.
    """
    array = dense(value, name)
    if array.dtype.kind not in "fiu":
        raise errors.DataTypeError(
            f"{name} has dtype {array.dtype}; real numbers are needed (convert it with .astype(float) if that is safe)"
        )
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        raise errors.DataTypeError(f"{name} has dtype {array.dtype}; float64 would lose precision: convert it yourself")
    expected = axes or f"{ndim} axes"
    if array.ndim != ndim:
        raise errors.ShapeError(f"{name} has shape {array.shape}; expected {expected}")
    if shape is not None:
        for axis, length in enumerate(shape):
            if length is not None and array.shape[axis] != length:
                raise errors.ShapeError(
                    f"{name} has shape {array.shape}; expected {expected} with length {length} along axis {axis}"
                )
    if array.size == 0:
        raise errors.ShapeError(f"{name} is empty: shape {array.shape}; expected {expected}")
    if array.dtype != np.float64:
        _logger.info("%s: %s raised to float64", name, array.dtype)
    result: FloatArray = np.ascontiguousarray(array, dtype=np.float64)
    check_finite(result, name)
    return result


def check_finite(array: FloatArray, name: str) -> None:
    """Raise NonFiniteError, with the rows, unless all entries are finite."""
    # A sum is finite only if all terms are (overflow aside), and costs a tenth of the test of every entry.
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if np.isfinite(total):
        return
    bad = ~np.isfinite(array)
    if not bad.any():
        return
    rows = np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))
    kind = "NaN" if np.isnan(array).any() else "infinity"
    raise errors.NonFiniteError(
        f"{name} holds {kind}: {int(bad.sum())} non-finite numbers in {len(rows)} of {len(array)} rows "
        f"({rows_text(rows)}); remove those samples or find out why they overflow"
    )


class Reach(NamedTuple):
    """How far points may lie from the samples: `origin` (m,), one of them, and `limit` (m,) of each difference to it."""

    origin: FloatArray
    limit: FloatArray

    def pulled(self, points: FloatArray) -> FloatArray:
        """The points (count, m), those beyond the limit moved along a straight line towards the origin until they are not."""
        offset = np.nan_to_num(points - self.origin) if np.abs(points).max(initial=0.0) > HUGE else points - self.origin
        with np.errstate(divide="ignore", over="ignore"):
            share = np.min(self.limit / np.abs(offset), axis=1, initial=np.inf)
        far = np.flatnonzero(share < 1.0)
        if len(far) == 0:
            return points
        near = points.copy()
        near[far] = self.origin + offset[far] * share[far, None]
        return near


def reach_of(samples: FloatArray, units: FloatArray | float = 1.0) -> Reach:
    """`FAR` times the extent of samples (n, m), in units (m,) of each measurement, in which squares do not overflow."""
    units = np.broadcast_to(units, samples.shape[1:])
    extent = float(np.max(np.ptp(samples, axis=0) * units, initial=0.0)) or 1.0
    with np.errstate(divide="ignore"):
        return Reach(samples[0], np.minimum(min(FAR * extent, LARGEST) / units, HUGE))


def check_units(points: FloatArray, name: str) -> None:
    """Raise InputError unless squares of differences between rows neither overflow nor vanish."""
    with np.errstate(over="ignore"):
        spread = float(np.ptp(points, axis=0).max())
    if spread > 1e150 or 0.0 < spread < 1e-150:
        raise errors.InputError(
            f"{name} vary by {spread:.3g}: squared distances overflow or vanish in double precision; rescale them"
        )


def index_array(value: Any, name: str, upper: int, ndim: int = 1) -> IntArray:
    """Check an array of row numbers in [0, upper) and return it as int64."""
    array = dense(value, name)
    if array.dtype.kind not in "iu":
        raise errors.DataTypeError(f"{name} has dtype {array.dtype}; integers are needed")
    if array.ndim != ndim:
        raise errors.ShapeError(f"{name} has shape {array.shape}; expected {ndim} axes")
    bad = (array < 0) | (array >= upper)
    if bad.any():
        raise errors.InputError(
            f"{name}: {int(bad.sum())} of {array.size} indices are outside of [0, {upper}), the first is "
            f"{int(array[bad][0])}"
        )
    return np.ascontiguousarray(array, dtype=np.int64)


def integer(value: Any, name: str, minimum: int) -> int:
    """Check an integer parameter against its minimum."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise errors.ParameterError(f"{name} must be an integer, not {value!r}")
    if value < minimum:
        raise errors.ParameterError(f"{name} must be at least {minimum}, not {value}")
    return int(value)


def real(
    value: Any,
    name: str,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> float:
    """Check a finite real parameter against its bounds."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise errors.ParameterError(f"{name} must be a finite number, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = np.inf
    if not np.isfinite(number):
        raise errors.ParameterError(f"{name} must be a finite number, not {number}")
    if (
        (above is not None and number <= above)
        or (at_least is not None and number < at_least)
        or (below is not None and number >= below)
        or (at_most is not None and number > at_most)
    ):
        bounds = [
            text
            for bound, text in (
                (above, f"> {above}"),
                (at_least, f">= {at_least}"),
                (below, f"< {below}"),
                (at_most, f"<= {at_most}"),
            )
            if bound is not None
        ]
        raise errors.ParameterError(f"{name} must be {' and '.join(bounds)}, not {number}")
    return number


def boolean(value: Any, name: str) -> bool:
    """A truth value, not something that merely counts as one."""
    if not isinstance(value, (bool, np.bool_)):
        raise errors.DataTypeError(f"{name} must be True or False, not {value!r:.60}")
    return bool(value)


def seed(random_state: Any) -> int:
    """A 64-bit seed from an integer, None (0: results stay reproducible) or a NumPy generator."""
    if random_state is None:
        return 0
    if isinstance(random_state, (int, np.integer)) and not isinstance(random_state, bool) and 0 <= random_state < 2**63:
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 2**31 - 1))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 2**63 - 1))
    raise errors.ParameterError(
        f"random_state must be None, an integer from 0 to 2**63 - 1 or a NumPy generator, not {random_state!r}"
    )


def seeded(rng: int | np.random.Generator | None) -> np.random.Generator:
    """Turn a seed into a generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise errors.ParameterError(f"rng={rng!r} is no seed: {error}") from error
