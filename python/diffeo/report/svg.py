"""Small drawings in SVG: scales with round ticks, axes, dots, and the frame that names a figure for every reader."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.wording import printable

# Width of every figure in its own units: about the pixels of a phone, so that text of 11 units stays readable there.
WIDTH = 360


@dataclass(frozen=True)
class Scale:
    """From values between `low` and `high` to positions between `start` and `end`, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: Any) -> Any:
        """Positions of values; on a logarithmic scale what lies below `low` is drawn at `low`."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = np.log10(np.maximum(value, low)), math.log10(low), math.log10(high)
        return self.start + (np.asarray(value) - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int = 6) -> list[float]:
        """Round values within the scale: powers of ten, or multiples of 1, 2 or 5."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
            step = max(1, math.ceil(len(powers) / 6))
            return [10.0**k for k in powers][::-1][::step][::-1]
        raw = (self.high - self.low) / count
        unit = 10.0 ** math.floor(math.log10(raw))
        step_size = next(unit * m for m in (1, 2, 5, 10) if unit * m >= raw * (1 - 1e-9))
        first, last = math.ceil(self.low / step_size - 1e-9), math.floor(self.high / step_size + 1e-9)
        return [k * step_size for k in range(first, last + 1)]


def span(*arrays: Any, pad: float = 0.04) -> tuple[float, float]:
    """Least and greatest finite value of all arrays, a little apart, and never equal."""
    values = np.concatenate([np.ravel(x) for x in arrays])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    gap = (high - low) or abs(high) or 1.0
    return low - pad * gap, high + pad * gap


def escaped(value: Any) -> str:
    """A text for markup, without control characters."""
    return html.escape(printable(str(value)))


def n(value: float) -> str:
    """A coordinate, to a tenth of a unit."""
    text = f"{float(value):.1f}"
    return text[:-2] if text.endswith(".0") else text


def short(value: float) -> str:
    """A tick label."""
    return (
        "0" if abs(value) < 1e-12 else f"{value:.6g}".replace("-", "\N{MINUS SIGN}").replace("e\N{MINUS SIGN}0", "e-")
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Words, escaped; anchored at their start, middle or end."""
    place = f' class="{kind}"' if kind else ""
    place += "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{n(x)}" y="{n(y)}"{place}>{escaped(words)}</text>'


def line(points: Sequence[tuple[float, float]], kind: str = "line", **style: str) -> str:
    """A broken line."""
    path = "M" + "L".join(f"{n(x)} {n(y)}" for x, y in points)
    more = "".join(f' {name.replace("_", "-")}="{value}"' for name, value in style.items())
    return f'<path d="{path}" class="{kind}"{more}/>'


def dots(points: FloatArray, diameter: float, kind: str = "", color: str = "") -> str:
    """Round dots (k, 2) as one path: lines of no length with round ends."""
    if len(points) == 0:
        return ""
    path = "".join(f"M{n(x)} {n(y)}h0" for x, y in points)
    tint = f' stroke="{color}"' if color else ""
    return f'<path d="{path}" class="{f"dot {kind}".strip()}" stroke-width="{n(diameter)}"{tint}/>'


def crosses(points: FloatArray, size: float, kind: str) -> str:
    """Diagonal crosses, which differ from dots without colour."""
    s = size / 2
    path = "".join(
        f"M{n(x - s)} {n(y - s)}l{n(2 * s)} {n(2 * s)}m0 {n(-2 * s)}l{n(-2 * s)} {n(2 * s)}" for x, y in points
    )
    return f'<path d="{path}" class="{kind}" fill="none" stroke-width="1.6"/>'


def rings(points: FloatArray, diameter: float, kind: str) -> str:
    """Open circles."""
    return "".join(
        f'<circle cx="{n(x)}" cy="{n(y)}" r="{n(diameter / 2)}" class="{kind}" fill="none" stroke-width="1.6"/>'
        for x, y in points
    )


def arrow(
    start: tuple[float, float], end: tuple[float, float], kind: str, width: float = 1.6, *, dashed: bool = False
) -> str:
    """A line with a head at its end."""
    (x0, y0), (x1, y1) = start, end
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    head = 3.2 * width + 1.5
    wings = [(x1 - head * ux - s * 0.55 * head * uy, y1 - head * uy + s * 0.55 * head * ux) for s in (1, -1)]
    style = {"stroke_width": n(width), "stroke_linecap": "round", "stroke_linejoin": "round"}
    shaft = line([start, end], kind, **style, **({"stroke_dasharray": "4 4"} if dashed else {}))
    return shaft + line([wings[0], end, wings[1]], kind, **style)


def axes(
    x: Scale, y: Scale | float, labels: tuple[str, str], *, x_ticks: list[float] | None = None, unit: float = 1.0
) -> str:
    """Ticks and labels below and, with a second scale instead of the height of the first, to the left; no box.

    Labels below are multiplied by `unit`.
    """
    bottom = y.start if isinstance(y, Scale) else y
    parts = []
    for tick in x.ticks() if x_ticks is None else x_ticks:
        at = float(x(tick))
        parts += [line([(at, bottom), (at, bottom + 4)]), text(at, bottom + 15, short(unit * tick), "s", "middle")]
    parts.append(line([(x.start, bottom), (x.end, bottom)]))
    parts.append(text((x.start + x.end) / 2, bottom + 30, labels[0], "t", "middle"))
    if isinstance(y, Scale):
        for tick in y.ticks():
            at = float(y(tick))
            parts += [line([(x.start - 4, at), (x.start, at)]), text(x.start - 7, at + 3.5, short(tick), "s", "end")]
        parts.append(line([(x.start, y.start), (x.start, y.end)]))
        parts.append(text(x.start - 7, y.end - 9, labels[1], "t"))
    return "".join(parts)


def drawing(
    name: str, title: str, description: str, height: float, parts: Sequence[str], *, width: float = WIDTH
) -> str:
    """An SVG element with a title and a description that screen readers give; `name` is unique on the page."""
    return (
        f'<svg viewBox="0 0 {n(width)} {n(height)}" role="img" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escaped(title)}</title><desc id="{name}-desc">{escaped(description)}</desc>'
        f"{''.join(parts)}</svg>"
    )
