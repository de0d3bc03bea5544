"""Words that every message shares: row numbers, shares, and names that steer no terminal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# What the two sides of a match are called, in the order in which it takes them.
Names = tuple[str, str]
SIDES: Names = ("A", "B")


def rows_text(rows: NDArray[Any], limit: int = 5) -> str:
    """List some row numbers in words, e.g. ``rows 3, 7, 12 and 4 more``."""
    shown = ", ".join(str(int(row)) for row in rows[:limit])
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row{'s' if len(rows) != 1 else ''} {shown}{more}"


def printable(text: str) -> str:
    """The text without control characters: names may come from a file that means to steer the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def percent(share: float) -> str:
    """A share in percent to two digits, without exponents: ``0.32 %``, ``140 %``."""
    value = 100.0 * share
    if abs(value) >= 99.5:
        return f"{value:.0f} %"
    return f"{np.format_float_positional(value, precision=2, fractional=False, trim='-')} %"
