"""A family as a heat map for notebooks: errors of both directions in the order of the tree, verdicts as marks."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo.family.drawings import LEAST, MOST
from diffeo.family.found import Family
from diffeo.family.text import MARKS, letter
from diffeo.verdict.error_bounds import EQUIVALENT

# From light to dark, so that grey paper shows it too.
COLORS = "YlGnBu"
# Networks beyond which names and marks are too small to be read.
MOST_MARKED = 40


def plot_family(family: Family, ax: Any) -> Any:
    """Errors from row to column, clipped to [1e-5, 1] on a logarithmic scale; returns the axes."""
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm

    order = family.order
    values = np.clip(family.errors[np.ix_(order, order)], LEAST, MOST)
    np.fill_diagonal(values, np.nan)
    palette = colormaps[COLORS].with_extremes(bad="white")
    shown = ax.imshow(values, cmap=palette, norm=LogNorm(LEAST, MOST))
    names = [f"{family.names[k]} ({letter(int(family.labels[k]))})" for k in order]
    size = 9 if len(names) <= 20 else 6
    ax.set_yticks(range(len(order)), names, fontsize=size)
    ax.set_xticks(range(len(order)), [family.names[k] for k in order], rotation=45, ha="right", fontsize=size)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    # Classes are blocks along the diagonal.
    for k in range(1, len(order)):
        if family.labels[order[k]] != family.labels[order[k - 1]]:
            ax.axhline(k - 0.5, color="0.3", linewidth=0.8)
            ax.axvline(k - 0.5, color="0.3", linewidth=0.8)
    if len(order) <= MOST_MARKED:
        _mark(family, ax, values)
    ax.figure.colorbar(shown, ax=ax, shrink=0.85, pad=0.02).set_label("held-out error from row to column")
    return ax


def _mark(family: Family, ax: Any, values: Any) -> None:
    order = family.order
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            if i == j:
                continue
            verdict = str(family.verdicts[i, j])
            value = values[row, column]
            dark = value > 10 * LEAST**0.5 if np.isfinite(value) else False
            weight = "bold" if verdict == EQUIVALENT else "normal"
            color = "white" if dark else "black"
            ax.text(column, row, MARKS.get(verdict, "?"), ha="center", va="center", color=color, fontweight=weight)
