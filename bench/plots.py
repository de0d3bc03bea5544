"""Cost against n: one panel a task, readable in grey."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.measurements import Row
from bench.tables import scaling_curves

TITLES = {
    "kernel": "Mahalanobis kernel, 40 entries a row",
    "eigenpairs": "10 eigenpairs to 1e-8, 40 entries a row",
    "fit": "whole fit by default settings",
}
# Opponents differ in marker, dashes and shade, so that no colour is needed.
STYLES = (("s", "--", "0.35"), ("^", "-.", "0.5"), ("D", ":", "0.25"), ("v", (0, (5, 1, 1, 1, 1, 1)), "0.6"))


def plot_scaling(rows: Sequence[Row], path: Path) -> None:
    """Seconds against n, both logarithmic, with lines of slope 1 and 2."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = scaling_curves(rows)
    tasks = [task for task in TITLES if curves[task]]
    figure = Figure(figsize=(4.6 * len(tasks), 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for ax, task in zip(axes, tasks, strict=True):
        opponents = [name for name in curves[task] if name != "diffeo"]
        for (marker, dashes, shade), name in zip(STYLES, opponents, strict=False):
            n, seconds = zip(*curves[task][name].items(), strict=True)
            ax.loglog(n, seconds, marker=marker, linestyle=dashes, color=shade, markersize=5, label=name)
        n, seconds = zip(*curves[task]["diffeo"].items(), strict=True)
        ax.loglog(n, seconds, marker="o", color="black", linewidth=2.2, markersize=6, label="diffeo")
        _slopes(ax, n, seconds)
        ax.set_title(TITLES[task], fontsize=11)
        ax.set_xlabel("samples n")
        ax.grid(which="major", color="0.88", linewidth=0.7)
        ax.legend(fontsize=8, loc="upper left")
    axes[0].set_ylabel("seconds")
    bottom, top = axes[0].get_ylim()
    axes[0].set_ylim(bottom, 30 * top)  # room for the legends
    figure.savefig(path, dpi=150, metadata={"Software": None})


def _slopes(ax, n, seconds) -> None:
    """Thin lines of slope 1 and 2 below the last point of diffeo's curve, labelled at their ends."""
    end = np.array([n[-1] / 10**1.2, n[-1]])
    for slope, factor in ((1, 0.35), (2, 0.35)):
        line = factor * seconds[-1] * (end / end[-1]) ** slope
        ax.loglog(end, line, color="0.55", linewidth=0.8)
        ax.annotate(f"n$^{slope}$" if slope > 1 else "n", (end[0], line[0]), fontsize=8, color="0.4", ha="right")
