"""Pictures of the field demo: fields, sheets of states, matched embeddings, trajectories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.field.oscillator import (
    REGION,
    STEPS_PER_TIME,
    TIME,
    Learned,
    Moved,
    border,
    inside,
    integrate,
    velocity,
)
from diffeo.matching.transformation import Transformation
from diffeo.report.plots import COLOR_A, COLOR_B, input_colors, plot_embedding, plot_prediction, pyplot

# One colour a trajectory, told apart in grey by their lightness too, and legible on the colours of the state.
COLORS = ("#111111", "#7a1fa2", "#c2410c")
# Points along a side of the coloured background, and of the grid on which streamlines are computed.
PIXELS, GRID = 300, 60
# Pushed points are drawn this many time units apart.
DOTS = 0.2


def draw_fields(a: Learned, b: Learned, path: Path) -> None:
    """The field in A's coordinates, as it is, and in B's coordinates, over the colours of the state."""
    figure, axes = pyplot().subplots(1, 3, figsize=(14.5, 5), layout="constrained")
    cycle = integrate(velocity, np.array([[1.0, 0.0]]), 40.0)[-7 * STEPS_PER_TIME :, 0]
    for ax, side, title in ((axes[0], a, "network A learned this"), (axes[2], b, "network B learned this")):
        plot_field(ax, side)
        ax.plot(*side.coordinates(cycle).T, color="black", linewidth=2.5)
        ax.set_title(f"{title}\n(own coordinates of {side.name})")
    plot_field(axes[1], None)
    axes[1].plot(*cycle.T, color="black", linewidth=2.5, label="limit cycle")
    axes[1].set_title("the oscillator itself\n(never shown to diffeo)")
    axes[1].legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    figure.savefig(path, dpi=100)
    pyplot().close(figure)


def plot_field(ax: Any, side: Learned | None, *, streams: bool = True) -> Any:
    """Streamlines of a network in its own coordinates (None: of the oscillator), over the colours of the state."""
    edge = border(50) if side is None else side.coordinates(border(50))
    low, high = edge.min(axis=0), edge.max(axis=0)

    def grid(n: int) -> tuple[FloatArray, FloatArray]:
        along = np.stack([np.linspace(low[k], high[k], n) for k in (0, 1)])
        z = np.stack(np.meshgrid(*along), axis=-1).reshape(-1, 2)
        return along, z

    _, z = grid(PIXELS)
    x = z if side is None else side.states(z)
    pixels = np.zeros((PIXELS**2, 4))
    pixels[inside(x)] = np.column_stack([input_colors(x[inside(x)]), np.full(inside(x).sum(), 0.5)])
    extent = (low[0], high[0], low[1], high[1])
    ax.imshow(pixels.reshape(PIXELS, PIXELS, 4), extent=extent, origin="lower", aspect="equal", zorder=0)
    ax.plot(*edge.T, color="0.35", linewidth=1)
    if streams:
        along, z = grid(GRID)
        field = velocity(z) if side is None else side.field(z)
        field[~inside(z if side is None else side.states(z))] = np.nan
        u, v = field.T.reshape(2, GRID, GRID)
        ax.streamplot(*along, u, v, color="0.3", linewidth=0.8, density=0.8, arrowsize=1.1)
    margin = 0.04 * (high - low)
    ax.set_xlim(low[0] - margin[0], high[0] + margin[0])
    ax.set_ylim(low[1] - margin[1], high[1] + margin[1])
    name = ("q", "p") if side is None else ("coordinate 1", "coordinate 2")
    ax.set_xlabel(name[0])
    ax.set_ylabel(name[1])
    return ax


def draw_one_to_one(a: Learned, b: Learned, path: Path) -> None:
    """A ruled sheet of states, and what the outputs of both networks make of it."""
    figure, axes = pyplot().subplots(1, 3, figsize=(14.5, 4.8), layout="constrained")
    low, high = REGION.min(axis=0), REGION.max(axis=0)
    for ax, side in ((axes[0], None), (axes[1], a), (axes[2], b)):
        for axis in (0, 1):
            for value in np.linspace(low[axis], high[axis], 15)[1:-1]:
                line = np.full((300, 2), value)
                line[:, 1 - axis] = np.linspace(low[1 - axis], high[1 - axis], 300)
                line = line[inside(line)]
                image = line if side is None else side.field(side.coordinates(line))
                ax.plot(*image.T, color=(COLOR_A, COLOR_B)[axis], linewidth=1)
        edge = border(100)
        ax.plot(*(edge if side is None else side.field(side.coordinates(edge))).T, color="black", linewidth=1.8)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_title("a ruled sheet of states" if side is None else f"what the outputs of {side.name} make of it")
        ax.set_xlabel("q" if side is None else "output 1")
        ax.set_ylabel("p" if side is None else "output 2")
    figure.savefig(path, dpi=100)
    pyplot().close(figure)


def draw_outputs(
    t: Transformation,
    inputs: tuple[FloatArray, FloatArray],
    held_out: tuple[FloatArray, FloatArray],
    rows: list[tuple[str, float, float]],
    path: Path,
) -> None:
    """Outputs and recovered coordinates of both sides in matched colours, errors, and prediction against truth."""
    figure, axes = pyplot().subplots(2, 3, figsize=(14.5, 8.6), layout="constrained")
    recovered = t.alignment.forward(t.a.coordinates), t.b.coordinates
    for row, side, x, coordinates, name in zip(axes, (t.a, t.b), inputs, recovered, "AB", strict=True):
        colors = input_colors(x)
        row[0].scatter(*side.observation.points.T, c=colors, s=4, linewidths=0)
        row[0].set_title(f"the two outputs of {name}")
        row[0].set_xlabel("output 1")
        row[0].set_ylabel("output 2")
        plot_embedding(coordinates, colors, row[1], title=f"recovered from {name}" + (", aligned" * (name == "A")))
        row[1].set_aspect("equal")
    plot_errors(rows, axes[0, 2])
    plot_prediction(*held_out, axes[1, 2], title=f"held out: relative error {rows[0][1]:.2g}")
    figure.savefig(path, dpi=100)
    pyplot().close(figure)


def plot_errors(rows: list[tuple[str, float, float]], ax: Any) -> Any:
    """Held-out errors of methods as bars on a logarithmic scale."""
    values = [row[1] for row in rows]
    where = np.arange(len(rows))[::-1]
    colors = [COLOR_A if row[0].startswith("diffeo") else "0.7" for row in rows]
    ax.barh(where, values, color=colors, height=0.65)
    ax.set_xscale("log")
    ax.set_xlim(0.3 * min(values), 30.0)
    for at, value in zip(where, values, strict=True):
        ax.annotate(f" {100 * value:.2g} %", (value, at), va="center")
    ax.set_yticks(where, [row[0] for row in rows])
    ax.set_xlabel("held-out relative error, A to B")
    ax.set_title("three common states told, to all alike")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def draw_trajectories(a: Learned, b: Learned, moved: Moved, path: Path) -> None:
    """A's trajectories in A's coordinates, the same pushed to B on B's own, and how far they are apart."""
    figure, axes = pyplot().subplots(1, 3, figsize=(14.5, 5), layout="constrained")
    plot_pushed(axes[0], axes[1], a, b, moved)
    times = np.linspace(0.0, TIME, len(moved.own_a))
    for k, color in enumerate(COLORS):
        axes[2].semilogy(times, 100.0 * moved.distances()[:, k], color=color)
    axes[2].axhline(1.0, color="0.5", linestyle="--", linewidth=1)
    axes[2].annotate("1 %", (0.0, 1.0), color="0.35", va="bottom")
    axes[2].set_xlabel("time")
    axes[2].set_ylabel("distance to B's own trajectory, % of its spread")
    axes[2].set_title("pushed trajectories and B's own: how far apart")
    figure.savefig(path, dpi=100)
    pyplot().close(figure)


def plot_pushed(ax_a: Any, ax_b: Any, a: Learned, b: Learned, moved: Moved, *, streams: bool = False) -> None:
    """A's trajectories beside B's own, with A's pushed to B as dots on them."""
    plot_field(ax_a, a, streams=streams)
    plot_field(ax_b, b, streams=streams)
    every = round(DOTS * STEPS_PER_TIME)
    for k, color in enumerate(COLORS):
        ax_a.plot(*moved.own_a[:, k].T, color=color, linewidth=1.8)
        ax_a.plot(*moved.own_a[0, k], "s", color=color, markersize=7)
        ax_b.plot(*moved.own_b[:, k].T, color=color, linewidth=1.8, label="B's own" if k == 0 else None)
        ax_b.plot(
            *moved.pushed[::every, k].T,
            "o",
            color=color,
            markerfacecolor="white",
            markersize=4.5,
            label="A's, through diffeo" if k == 0 else None,
        )
        ax_b.plot(*moved.own_b[0, k], "s", color=color, markersize=7)
    ax_a.set_title("trajectories of A's field\n(own coordinates of A)")
    ax_b.set_title("pushed to B (dots), on B's own (lines)\n(own coordinates of B)")
    ax_b.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)


def draw_overview(
    a: Learned, b: Learned, t: Transformation, inputs: tuple[FloatArray, FloatArray], moved: Moved, path: Path
) -> None:
    """All in one: A's field and trajectories, what is recovered from each, and B's field with A's trajectories on it."""
    figure, axes = pyplot().subplots(1, 4, figsize=(15.5, 4.6), layout="constrained", width_ratios=(1.15, 1, 1, 1.15))
    plot_pushed(axes[0], axes[3], a, b, moved, streams=True)
    recovered = t.alignment.forward(t.a.coordinates), t.b.coordinates
    for ax, x, coordinates, name in zip(axes[1:3], inputs, recovered, "AB", strict=True):
        plot_embedding(coordinates, input_colors(x), ax, title=f"recovered from\nthe two outputs of {name}")
        ax.set_aspect("equal")
    figure.savefig(path, dpi=68)
    pyplot().close(figure)
