"""A figure beside its target and the baselines, and the table of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """A figure beside its target and the baselines, as text; `ok` is whether the target is reached."""

    name: str
    what: str
    value: str
    target: str
    ok: bool
    beside: str


def digits(value: float) -> str:
    """Two digits, without an exponent where that is readable."""
    return f"{float(f'{value:.2g}'):.12g}"


def percent(error: float) -> str:
    """An infinite error is that of a match that was refused."""
    return f"{digits(100 * error)} %" if np.isfinite(error) else "refused"


def listed(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {percent(value)}" for name, value in values.items())


def table(rows: Sequence[tuple[Row, float]]) -> str:
    """Rows with the seconds that they took, each followed by a line of what stands beside it."""
    heads = ("", "figure", "diffeo", "target", "reached", "seconds")
    lines = [(r.name, r.what, r.value, r.target, "yes" if r.ok else "NO", f"{s:.0f}") for r, s in rows]
    widths = [max(len(line[k]) for line in (heads, *lines)) for k in range(len(heads))]
    text = [
        ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))] for line in (heads, *lines)
    ]
    for place, (found, _) in zip(text[1:], rows, strict=True):
        place += [" " * (widths[0] + 6) + part for part in found.beside.split("\n") if part]
    return "\n".join(line.rstrip() for place in text for line in place)
