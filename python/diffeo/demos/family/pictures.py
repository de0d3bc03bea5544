"""Pictures of the family demo: heat maps of all pairs, with trees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from diffeo.family.drawings import LEAST, MOST
from diffeo.family.found import Family
from diffeo.family.plots import plot_family
from diffeo.report.plots import COLOR_A, COLOR_B, pyplot

TITLES = {"outputs": "observed: the two outputs", "hidden layer": "observed: five hidden neurons"}


def draw_family(found: dict[str, Family], path: Path) -> None:
    """Tree and heat map at each place, side by side."""
    figure, axes = pyplot().subplots(
        2, len(found), figsize=(13.0, 8.6), layout="constrained", height_ratios=(1, 2.4), squeeze=False
    )
    for (place, family), (above, below) in zip(found.items(), axes.T, strict=True):
        plot_tree(above, family)
        classes = len(family.classes)
        above.set_title(f"{TITLES[place]}\n{classes} class{'es' if classes > 1 else ''}", fontsize=14)
        plot_family(family, below)
    figure.supxlabel(
        "=  equivalent     →  the row determines the column, not the other way round     ←  the column, the row     "
        "?  undetermined",
        fontsize=11,
    )
    figure.savefig(path, dpi=80)
    pyplot().close(figure)


def plot_tree(ax: Any, family: Family) -> None:
    """Dendrogram on a logarithmic scale, branches of one class in one colour."""
    tree = family.tree.copy()
    tree[:, 2] = np.maximum(tree[:, 2], LEAST)
    drawn = dendrogram(tree, no_plot=True)
    for xs, ys in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        joined = ys[1] > family.margin
        heights = np.maximum(ys, LEAST / 10)
        ax.plot(xs, heights, color="0.25" if joined else COLOR_A, linewidth=2.2 if joined else 1.8)
    ax.axhline(family.margin, color=COLOR_B, linestyle="--", linewidth=1.8)
    ax.annotate(
        "margin", (1.0, family.margin), xycoords=("axes fraction", "data"), ha="right", va="bottom", color="#a04c14"
    )
    ax.set_xlim(0, 10 * len(drawn["leaves"]))
    ax.set_yscale("log")
    ax.set_ylim(LEAST / 3, 3 * MOST)
    ax.set_xticks([])
    ax.set_ylabel("worse error")
    ax.spines[["top", "right", "bottom"]].set_visible(False)
