"""Drawings of the horse demo: rings with pictures around them, strips, and errors around the turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.horse.turn import HeldOut, Turn
from diffeo.demos.horse.turntable import Eye
from diffeo.matching.transformation import Transformation
from diffeo.report.plots import COLOR_A, COLOR_B, COLOR_PROBLEM, plot_neuron_sweep, pyplot

# Around the turn from dark to light and back, cold on one way and warm on the other: in grey still a half turn is told.
WHEEL = ("#2b1e6b", "#7d2a80", "#cf3f62", "#f0803c", "#f9d65a", "#a9d66b", "#3fa58c", "#23648f", "#2b1e6b")
# Pictures in a strip, around a ring, and the radius of that ring of pictures.
STRIP, AROUND, RADIUS = 12, 8, 1.5


def draw_cameras(angles: FloatArray, rows: list[FloatArray], approaches: list[float], path: Path) -> None:
    """Strips of pictures (3, count, size, size) of the level camera and of A and B."""
    figure = pyplot().figure(figsize=(13.5, 4.0), layout="constrained")
    names = ["level, far away:\nthe outline", "camera A", "camera B"]
    labels = [f"{name}\nnearest {value:.2f}" for name, value in zip(names, approaches, strict=True)]
    _strips(figure, angles, rows, ["0.25", COLOR_A, COLOR_B], labels)
    _save(figure, path)


def draw_match(
    t: Transformation,
    eyes: tuple[Eye, Eye],
    test: HeldOut,
    turn: Turn,
    codes: tuple[FloatArray, FloatArray],
    path: Path,
) -> None:
    """Codes, rings and pictures around them, and below what camera A saw, what B's decoder draws, what camera B saw.

    `codes` are those of the landmarks on both sides.
    """
    figure = pyplot().figure(figsize=(13.5, 11.0))
    top, bottom = figure.subfigures(2, 1, height_ratios=[6.6, 4.4])
    axes = top.subplots(1, 2)
    top.subplots_adjust(left=0.01, right=0.99, top=0.9, bottom=0.0, wspace=0.02)
    sides = ((t.a, eyes[0], COLOR_A, "A"), (t.b, eyes[1], COLOR_B, "B"))
    for ax, (side, eye, color, name), marks in zip(axes, sides, codes, strict=True):
        common = t.alignment.forward(side.coordinates) if name == "A" else side.coordinates
        marked = t.intrinsic(marks) if name == "A" else t.b.place(marks, 1).values
        _ring(ax, side, eye, common, marked, t.b, color)
        ax.set_title(f"network {name}: its code (inside), the circle diffeo finds in it", color=color, fontsize=13)
    figure.text(0.5, 0.66, "\u27f6", ha="center", va="center", fontsize=34, color="0.25")
    figure.text(0.5, 0.545, "three angles\nthat both saw\njoin the circles", ha="center", va="center", fontsize=11)
    shown = _evenly(len(test.angles), STRIP)
    rows = [test.seen_a[shown], turn.drawn[shown], test.seen_b[shown]]
    labels = ["camera A\nsees this", "so camera B\nwould see this", "camera B\nreally saw this"]
    _strips(bottom, test.angles[shown], rows, [COLOR_A, COLOR_B, COLOR_B], labels)
    _save(figure, path)


def draw_errors(test: HeldOut, turn: Turn, paper: Turn | None, path: Path) -> None:
    """Absolute error of the angle, and relative error of the pictures, around the turn."""
    figure, axes = pyplot().subplots(1, 2, figsize=(13.5, 4.2), layout="constrained")
    degrees = np.degrees(test.angles)
    axes[0].semilogy(degrees, np.abs(turn.angle_errors), color=COLOR_B, label="isometric coordinates")
    if paper is not None:
        axes[0].semilogy(
            degrees, np.abs(paper.angle_errors), color="0.55", linestyle="--", label="the paper's coordinates"
        )
    axes[0].axhline(0.5, color=COLOR_PROBLEM, linewidth=0.8, linestyle=":")
    axes[0].set_ylim(bottom=1e-3)
    axes[0].set_ylabel("error of the angle in degrees")
    axes[0].set_title("the angle that B understands from A's picture")
    spread = np.sqrt(((test.seen_b - test.seen_b.mean(axis=0)) ** 2).sum(axis=(1, 2)).mean())
    for pictures, style, color, label in (
        (turn.drawn, "-", COLOR_B, "drawn from A's picture"),
        (test.own, "--", "0.25", "drawn from B's own code"),
    ):
        missed = np.sqrt(((pictures - test.seen_b) ** 2).sum(axis=(1, 2))) / spread
        axes[1].plot(degrees, missed, style, color=color, label=label)
    axes[1].set_ylim(bottom=0.0)
    axes[1].set_ylabel("distance from the truth, over the spread")
    axes[1].set_title("the pictures that B's decoder draws")
    for ax in axes:
        ax.set_xlabel("angle of the turntable in degrees")
        ax.set_xticks(np.arange(0, 361, 60))
        ax.legend(frameon=False)
    _save(figure, path)


def draw_neurons(
    drawn: tuple[FloatArray, list[FloatArray], FloatArray], chosen: FloatArray, own: float, turn: Any, path: Path
) -> None:
    """Error of the picture against the number of neurons, and a strip drawn from a few of them.

    `drawn` holds numbers of neurons, the errors of random sets of each, and the share refused; `chosen` (k, 2) numbers
    and errors of suggested sets; `turn` the number of neurons behind the strip, angles (count,), true pictures and
    drawn ones.
    """
    figure = pyplot().figure(figsize=(13.5, 7.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[4.4, 3.0])
    ax = top.subplots()
    plot_neuron_sweep(*drawn, 3, ax, title="camera A's picture from 1, 2, ... hidden neurons of A")
    ax.plot(*chosen.T, "*", color=COLOR_B, markersize=16, label="suggested by diffeo")
    ax.axhline(own, color="0.25", linewidth=0.9, linestyle=":", label="from A's whole code")
    ax.set_xlabel("")
    ax.set_ylabel("relative error of the picture")
    ax.set_ylim(0.08, 2.5)
    ax.legend(frameon=False, loc="upper right")
    count, angles, seen, pictures = turn
    shown = _evenly(len(angles), STRIP)
    labels = ["camera A\nsaw this", f"{count} neurons\nknow this"]
    _strips(bottom, angles[shown], [seen[shown], pictures[shown]], [COLOR_A, COLOR_A], labels)
    _save(figure, path)


def angle_colors(angles: FloatArray) -> FloatArray:
    """RGB (count, 3) around the turn."""
    from matplotlib.colors import LinearSegmentedColormap

    wheel = LinearSegmentedColormap.from_list("wheel", WHEEL)
    return np.asarray(wheel((angles / (2.0 * np.pi)) % 1.0))[:, :3]


def _ring(ax: Any, side: Any, eye: Eye, common: FloatArray, marked: FloatArray, frame: Any, color: str) -> None:
    """A recovered circle with its landmarks, the code inside of it, and pictures around it.

    `common` and `marked` are coordinates of the sample and the landmarks in those of the chart `frame`.
    """
    ax.set_aspect("equal")
    ax.set_xlim(-2.0, 2.0)
    ax.set_ylim(-1.95, 1.95)
    ax.axis("off")
    ring, marks = (_on_ring(frame.features(x)) for x in (common, marked))
    ax.scatter(*ring.T, c=angle_colors(eye.angles), s=26, linewidths=0)
    ax.scatter(*marks.T, s=150, facecolors="none", edgecolors="0.1", linewidths=1.8, zorder=3)
    code = side.observation.points - side.observation.points.mean(axis=0)
    plane = code @ np.linalg.svd(code, full_matrices=False)[2][:2].T
    inside = ax.inset_axes([-0.62, -0.62, 1.24, 1.24], transform=ax.transData)
    inside.scatter(*plane.T, c=angle_colors(eye.angles), s=12, linewidths=0)
    inside.axis("off")
    inside.set_aspect("equal")
    # The picture at each place of the ring is that of the sample which diffeo put there.
    bearing = np.arctan2(ring[:, 1], ring[:, 0])
    for k in range(AROUND):
        at = 2.0 * np.pi * k / AROUND
        nearest = int(np.argmax(np.cos(bearing - at)))
        x, y, half = RADIUS * np.cos(at), RADIUS * np.sin(at), 0.46
        small = ax.inset_axes([x - half, y - half, 2 * half, 2 * half], transform=ax.transData, zorder=-1)
        _show(small, eye.pictures[nearest], color)


def _on_ring(features: FloatArray) -> FloatArray:
    """The cosine and sine of a circle's coordinate; two diffusion coordinates as they are, one against nothing."""
    if features.shape[1] == 1:
        return np.column_stack([features, np.zeros(len(features))])
    return features[:, :2]


def _strips(figure: Any, angles: FloatArray, rows: list[FloatArray], colors: list[str], labels: list[str]) -> None:
    """Rows of pictures with a coloured dot above each angle."""
    heights = [0.42, *[1.0] * len(rows)]
    axes = figure.subplots(
        len(rows) + 1,
        len(angles) + 1,
        gridspec_kw={
            "height_ratios": heights,
            "width_ratios": [1.45, *[1.0] * len(angles)],
            "wspace": 0.02,
            "hspace": 0.02,
        },
    )
    for ax in axes.ravel():
        ax.axis("off")
    for k, (angle, color) in enumerate(zip(angles, angle_colors(angles), strict=True)):
        axes[0, k + 1].plot([0.0], [-0.6], "o", color=color, markersize=9)
        axes[0, k + 1].set_ylim(-1.0, 1.0)
        axes[0, k + 1].text(0.0, 0.0, f"{np.degrees(angle):.0f}\u00b0", ha="center", va="bottom", fontsize=9)
        for row, pictures in enumerate(rows):
            _show(axes[row + 1, k + 1], pictures[k], colors[row])
    for row, (label, color) in enumerate(zip(labels, colors, strict=True)):
        axes[row + 1, 0].text(0.97, 0.5, label, ha="right", va="center", fontsize=11, color=color, linespacing=1.25)


def _show(ax: Any, picture: FloatArray, color: str) -> None:
    from matplotlib.colors import LinearSegmentedColormap

    tint = LinearSegmentedColormap.from_list("tint", ["black", color, "white"])
    ax.imshow(picture, cmap=tint, vmin=0.0, vmax=1.0, interpolation="bicubic")
    ax.axis("off")


def _evenly(count: int, shown: int) -> Any:
    return np.arange(shown) * count // shown


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=100)
    pyplot().close(figure)
