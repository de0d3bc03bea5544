"""Drawings of a family in SVG: the tree of all networks, and which class determines which."""

from __future__ import annotations

import math

from scipy.cluster.hierarchy import dendrogram

from diffeo.family.classes import Edge, depths, reduced
from diffeo.family.found import Family
from diffeo.family.text import edge_text, letter
from diffeo.report.svg import WIDTH, Scale, arrow, axes, drawing, line, n, text

# Errors that are drawn; smaller ones like the smallest.
LEAST, MOST = 1e-5, 1.0
# Height of a leaf, and the longest name beside it.
LEAF, LONGEST_NAME = 14.0, 22
# Classes that are drawn: beyond them a list says more.
MOST_CLASSES = 24
# Size of a class in the graph, the distance between rows of them, and how many stand beside each other.
BOX, GAP, ROW, BESIDE = (62.0, 34.0), 14.0, 82.0, 4


def tree_figure(family: Family) -> str:
    """Networks joined at the worst error between any two of them; the margin cuts the tree into classes."""
    drawn = dendrogram(family.tree, no_plot=True)
    leaves = [int(k) for k in drawn["leaves"]]
    top, bottom = 30.0, 30.0 + LEAF * len(leaves)
    scale = Scale(LEAST, MOST, 170.0, WIDTH - 12.0, log=True)
    parts = []
    # Bands by class, so that membership shows without colour and without following lines.
    labels = [int(family.labels[k]) for k in leaves]
    start, shaded = 0, True
    for k in range(1, len(leaves) + 1):
        if k < len(leaves) and labels[k] == labels[start]:
            continue
        if shaded:
            y0 = top + LEAF * start
            parts.append(f'<rect x="0" y="{n(y0)}" width="{WIDTH}" height="{n(LEAF * (k - start))}" class="zone"/>')
        parts.append(text(4, top + LEAF * (start + k) / 2 + 4, letter(labels[start]), "h"))
        start, shaded = k, not shaded
    for row, k in enumerate(leaves):
        name = family.names[k]
        short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"
        parts.append(text(20, top + LEAF * (row + 0.5) + 3.5, short, "s"))
    for ys, xs in zip(drawn["icoord"], drawn["dcoord"], strict=True):
        points = [(float(scale(max(x, LEAST))), top + LEAF * y / 10.0) for x, y in zip(xs, ys, strict=True)]
        joined = xs[1] <= family.margin
        parts.append(
            line(
                points, "ink", stroke_width="1.8" if joined else "1", **({} if joined else {"stroke_dasharray": "3 2"})
            )
        )
    at = float(scale(family.margin))
    parts += [
        line([(at, top - 6), (at, bottom + 4)], "so", stroke_width="1.6"),
        text(at, top - 11, "margin", "t", "middle"),
    ]
    parts.append(axes(scale, bottom + 6, ("worse error of both directions, %", ""), unit=100.0))
    classes = "; ".join(f"{letter(k)}: {', '.join(members)}" for k, members in enumerate(family.classes))
    return drawing("tree", "Tree of the networks, by complete linkage", f"Classes: {classes}", bottom + 42, parts)


def graph_figure(family: Family) -> str:
    """Classes from those that determine most to those determined by most; arrows that follow from others are left out."""
    edges = [one for one in reduced(family.determines) if max(one.source, one.target) < MOST_CLASSES]
    count = min(len(family.classes), MOST_CLASSES)
    places, height = _places(edges, count)
    parts = [_between(places[one.source], places[one.target]) for one in edges]
    for k in range(count):
        x, y = places[k]
        size = len(family.classes[k])
        parts.append(
            f'<rect x="{n(x - BOX[0] / 2)}" y="{n(y - BOX[1] / 2)}" width="{n(BOX[0])}" height="{n(BOX[1])}" rx="5" '
            'class="ink fp" style="fill:var(--paper)" stroke-width="1.6"/>'
        )
        parts.append(text(x, y + 0.5, letter(k), "h", "middle"))
        parts.append(text(x, y + 12.5, f"{size} network{'s' if size != 1 else ''}", "s", "middle"))
    said = ". ".join(edge_text(one) for one in edges) or "No class determines another"
    return drawing("graph", "Which class determines which", said, height, parts)


def _places(edges: list[Edge], count: int) -> tuple[list[tuple[float, float]], float]:
    """The middle of each class, and the height of the drawing: rows by how many stand above, wrapped where they are full."""
    depth = depths(edges, count)
    rows: list[list[int]] = []
    for level in range(max(depth, default=0) + 1):
        members = [k for k in range(count) if depth[k] == level]
        rows += [members[at : at + BESIDE] for at in range(0, len(members), BESIDE)]
    places = [(0.0, 0.0)] * count
    for row, members in enumerate(rows):
        step = BOX[0] + GAP + (8.0 if len(members) < BESIDE else 0.0)
        left = WIDTH / 2 - step * (len(members) - 1) / 2
        for at, k in enumerate(members):
            places[k] = (left + step * at, BOX[1] / 2 + 6 + ROW * row)
    return places, ROW * max(len(rows), 1) - (ROW - BOX[1]) + 12


def _between(one: tuple[float, float], other: tuple[float, float]) -> str:
    """An arrow from the edge of one class to that of another."""
    (x0, y0), (x1, y1) = one, other
    length = math.hypot(x1 - x0, y1 - y0) or 1.0
    ux, uy = (x1 - x0) / length, (y1 - y0) / length

    def edge(x: float, y: float, sign: float) -> tuple[float, float]:
        reach = min(
            (BOX[0] / 2 + 3) / abs(ux) if ux else math.inf,
            (BOX[1] / 2 + 3) / abs(uy) if uy else math.inf,
        )
        return x + sign * reach * ux, y + sign * reach * uy

    return arrow(edge(x0, y0, 1.0), edge(x1, y1, -1.0), "ink", 1.6)
