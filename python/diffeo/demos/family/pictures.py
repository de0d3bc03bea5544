"""Pictures of the family demo: heat maps of all pairs, with trees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from diffeo._support.arrays import FloatArray
from diffeo.demos.family.compared import Compared, Member
from diffeo.report.plots import COLOR_A, COLOR_B, pyplot
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT, NOT_EQUIVALENT

# Relative errors from nothing to no better than the mean; whatever is smaller is drawn like the smallest.
LEAST, MOST = 1e-5, 1.0
# From light to dark, so that grey paper shows it too.
COLORS = "YlGnBu"
# In a cell (row, column), for the verdict on (row, column).
MARKS = {EQUIVALENT: "=", A_TO_B: "→", B_TO_A: "←", NOT_EQUIVALENT: "x"}
TITLES = {"outputs": "observed: the two outputs", "hidden layer": "observed: five hidden neurons"}


def draw_family(found: dict[str, Compared], members: Sequence[Member], margin: float, path: Path) -> None:
    """Tree and heat map at each place, side by side."""
    from matplotlib.colors import LogNorm

    figure, axes = pyplot().subplots(
        2, len(found), figsize=(13.0, 8.6), layout="constrained", height_ratios=(1, 2.4), squeeze=False
    )
    shown = None
    for (place, compared), (above, below) in zip(found.items(), axes.T, strict=True):
        order = plot_tree(above, compared, margin)
        classes = int(compared.classes.max())
        above.set_title(f"{TITLES[place]}\n{classes} class{'es' if classes > 1 else ''}", fontsize=14)
        worse = np.clip(compared.worse, LEAST, MOST)
        np.fill_diagonal(worse, np.nan)
        shown = plot_pairs(below, worse, members, order, LogNorm(LEAST, MOST))
        mark_verdicts(below, compared, order)
    bar = figure.colorbar(shown, ax=axes[1, :], shrink=0.9, pad=0.01)
    bar.ax.axhline(margin, color=COLOR_B, linewidth=2.5)
    bar.set_label(f"worse held-out error of both directions (line: the margin, {100 * margin:.0f} %)")
    figure.supxlabel(
        "=  equivalent     →  the row determines the column, not the other way round     ←  the column, the row     "
        "?  undetermined",
        fontsize=11,
    )
    figure.savefig(path, dpi=80)
    pyplot().close(figure)


def plot_tree(ax: Any, compared: Compared, margin: float) -> list[int]:
    """Dendrogram on a logarithmic scale, branches of one class in one colour; returns the order of its leaves."""
    tree = compared.tree.copy()
    tree[:, 2] = np.maximum(tree[:, 2], LEAST)
    drawn = dendrogram(tree, no_plot=True)
    for xs, ys in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        joined = ys[1] > margin
        heights = np.maximum(ys, LEAST / 10)
        ax.plot(xs, heights, color="0.25" if joined else COLOR_A, linewidth=2.2 if joined else 1.8)
    ax.axhline(margin, color=COLOR_B, linestyle="--", linewidth=1.8)
    ax.annotate("margin", (1.0, margin), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#a04c14")
    n = len(drawn["leaves"])
    ax.set_xlim(0, 10 * n)
    ax.set_yscale("log")
    ax.set_ylim(LEAST / 3, 3 * MOST)
    ax.set_xticks([])
    ax.set_ylabel("worse error")
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    return [int(leaf) for leaf in drawn["leaves"]]


def plot_pairs(
    ax: Any, values: FloatArray, members: Sequence[Member], order: Sequence[int], norm: Any, colors: str = COLORS
) -> Any:
    """Heat map (n, n) in the order of the leaves, with the names of the networks beside it; returns the image."""
    from matplotlib import colormaps

    palette = colormaps[colors].with_extremes(bad="white")
    shown = ax.imshow(values[np.ix_(order, order)], cmap=palette, norm=norm, aspect="auto")
    names = [members[k].name for k in order]
    ax.set_yticks(range(len(order)), names)
    ax.set_xticks(range(len(order)), [name.split(" · ")[0] for name in names], rotation=45, ha="right")
    for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        for label, k in zip(labels, order, strict=True):
            label.set_color("#a04c14" if members[k].folds else COLOR_A)
            label.set_fontweight("bold" if members[k].folds else "normal")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return shown


def mark_verdicts(ax: Any, compared: Compared, order: Sequence[int]) -> None:
    """The verdict on (row, column) in each cell; a question mark where the pairs leave it open."""
    turned = {A_TO_B: B_TO_A, B_TO_A: A_TO_B}
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            if i == j:
                continue
            verdict = compared.verdicts[min(i, j), max(i, j)]
            verdict = turned.get(verdict, verdict) if i > j else verdict
            dark = compared.worse[i, j] > 10 * LEAST**0.5
            ax.text(
                column,
                row,
                MARKS.get(verdict, "?"),
                ha="center",
                va="center",
                color="white" if dark else "black",
                fontsize=15,
            )


def draw_screening(found: dict[str, Compared], members: Sequence[Member], path: Path) -> None:
    """Heat maps of the distance of spectra at each place."""
    from matplotlib.colors import LogNorm

    figure, axes = pyplot().subplots(1, len(found), figsize=(13.0, 5.8), layout="constrained", squeeze=False)
    norm, shown = LogNorm(0.3, 10.0), None
    for (place, compared), ax in zip(found.items(), axes[0], strict=True):
        values = np.where(np.isfinite(compared.distances), compared.distances, np.nan)
        np.fill_diagonal(values, np.nan)
        shown = plot_pairs(ax, values, members, range(len(members)), norm, "Greys")
        for row, column in np.argwhere(np.isfinite(values)):
            value = values[row, column]
            ax.text(
                column,
                row,
                f"{value:.1f}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if value > 3.0 else "black",
            )
        ax.set_title(TITLES[place])
    figure.colorbar(shown, ax=axes[0, :], shrink=0.9, pad=0.01).set_label("distance of the spectra, in units of chance")
    figure.savefig(path, dpi=80)
    pyplot().close(figure)
