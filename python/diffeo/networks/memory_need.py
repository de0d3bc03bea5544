"""What a pass takes of memory, told from a few rows; and whether rows depend on one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo.networks.batches import Batch
from diffeo.networks.hooks import TRIAL_ROWS
from diffeo.networks.looking.operators import counted

# Rows that differ by more than this share of their size when others leave the batch depend on these. Rounding is below it
# also in bfloat16.
MIXED = 0.02

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
    found, at_few = counted(lambda: outputs(few.rows(0, few.size)))
    part, at_half = counted(lambda: outputs(half.rows(0, size)))
    mixing = [say(key) for key, values in found.items() if key in part and not _alike(values[-size:], part[key])]
    if mixing:
        errors.warn(
            f"{', '.join(mixing)}: activations of a sample depend on which other samples are in its batch (batch "
            "normalisation without running statistics? batch_first=False?); they change with batch_size",
            errors.DiffeoWarning,
        )
    # Where operators let nobody count them, only what comes and goes is known.
    at_few, at_half = (at_few, at_half) if at_few is not None and at_half is not None else (0, 0)
    slope = (at_few - at_half) / (few.size - size) if few.size > size else float(at_few)
    inputs = sum(value.nbytes for value in few.arrays()) / few.size
    kept = sum(values.shape[1] * values.itemsize for values in found.values())
    # Of the inputs a copy and one in the dtype of the network; of both the test for NaN, a byte a number.
    tests = sum(values.shape[1] for values in found.values()) + inputs
    return Need(max(0.0, at_few - slope * few.size), slope + 2 * inputs + tests, kept)


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
