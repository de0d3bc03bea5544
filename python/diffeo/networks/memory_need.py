"""What a pass takes of memory, told from a few rows; and whether rows depend on one another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo.networks.batches import Batch
from diffeo.networks.hooks import TRIAL_ROWS

# Rows that differ by more than this share of their size when others leave the batch depend on these. Rounding is below it
# also in bfloat16.
MIXED = 0.02

_logger = logging.getLogger("diffeo")

Outputs = Callable[[Batch], dict[str, NDArray[Any]]]


@dataclass(frozen=True)
class Need:
    """Bytes that a pass takes: a constant, so many a row while it runs, so many a row of its result."""

    constant: float
    per_row: float
    kept: int


def tried(outputs: Outputs, batch: Batch, say: Callable[[str], str]) -> Need:
    """Run a few rows, and half of them: say if rows depend on one another, and count bytes."""
    few = batch.rows(0, TRIAL_ROWS)
    # The later half: what runs along the samples by mistake, as if they were time, goes from the first to the last.
    half = few.rows(few.size // 2, few.size)
    size = half.size
    try:
        with _counting() as at_few:
            found = outputs(few.rows(0, few.size))
        with _counting() as at_half:
            part = outputs(half)
    except errors.CaptureError as error:
        if error.__cause__ is None:  # not the network failed, but what it gives is not usable
            raise
        _logger.info("a trial on %d rows failed, so that nothing is known of memory: %s", few.size, error)
        return Need(0.0, 0.0, 0)
    mixing = [say(key) for key, values in found.items() if key in part and not _alike(values[-size:], part[key])]
    if mixing:
        errors.warn(
            f"{', '.join(mixing)}: activations of a sample depend on which other samples are in its batch (batch "
            "normalisation without running statistics? batch_first=False?); they change with batch_size",
            errors.DiffeoWarning,
        )
    slope = (at_few.bytes - at_half.bytes) / (few.size - size) if few.size > size else float(at_few.bytes)
    inputs = sum(value.nbytes for value in few.positional) / few.size
    kept = sum(values.shape[1] * values.itemsize for values in found.values())
    # Of the inputs a copy and one in the dtype of the network; of both the test for NaN, a byte a number.
    tests = sum(values.shape[1] for values in found.values()) + inputs
    return Need(max(0.0, at_few.bytes - slope * few.size), slope + 2 * inputs + tests, kept)


def _alike(whole: NDArray[Any], part: NDArray[Any]) -> bool:
    """Equal to the square root of rounding, which changes with the size of a batch."""
    if whole.shape != part.shape:
        return False
    if whole.dtype.kind != "f":
        return bool((whole == part).all())
    size = float(np.abs(whole[np.isfinite(whole)]).max(initial=0))
    # Half precisions arrive as float32: a hundredth tells batches apart all the same.
    return np.allclose(whole, part, rtol=0, atol=MIXED * size, equal_nan=True)


def rows_within(limit: int, needs: list[Need], total: int, *, keeps: bool) -> int:
    """Rows a pass so that activations stay within `limit` bytes; networks run one after the other."""
    kept = total * sum(need.kept for need in needs) if keeps else 0
    rows = min((limit - kept - need.constant) / max(need.per_row, 1.0) for need in needs)
    if rows >= 1.0:
        return int(rows)
    advice = "give out=, " if kept else ""
    raise errors.MemoryLimitError(
        f"activations of {total} rows take {kept / 2**30:.3g} GiB, and a pass of one row up to "
        f"{max(need.constant + need.per_row for need in needs) / 2**30:.3g} GiB, above the limit of {limit / 2**30:.3g} GiB; "
        f"{advice}reduce=, fewer layers, or a larger max_memory"
    )


class _Bytes:
    bytes = 0


@contextmanager
def _counting() -> Iterator[_Bytes]:
    """Count the bytes of all that operators of torch return anew."""
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    total = _Bytes()

    def storages(values: Any) -> dict[int, int]:
        found = [leaf.untyped_storage() for leaf in tree_leaves(values) if hasattr(leaf, "untyped_storage")]
        return {storage.data_ptr(): storage.nbytes() for storage in found}

    class Count(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        _should_skip_dynamo = classmethod(
            lambda cls: False
        )  # nothing is compiled; without this torch loads its compiler

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            read = storages((args, kwargs))
            total.bytes += sum(size for place, size in storages(result).items() if place not in read)
            return result

    with Count():
        yield total
