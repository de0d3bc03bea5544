"""Drawings of a family in SVG: the tree of all networks, and which class determines which."""

from __future__ import annotations

import math

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from diffeo.family.classes import Edge, depths, reduced
from diffeo.family.found import Family
from diffeo.family.text import edge_text, letter
from diffeo.family.training import reached_by_last, steps_of
from diffeo.report.svg import WIDTH, Scale, arrow, axes, dots, drawing, line, n, rings, text

# Errors that are drawn; smaller ones like the smallest.
LEAST, MOST = 1e-5, 1.0
# Height of a leaf, and the longest name beside it.
LEAF, LONGEST_NAME = 14.0, 22
# Classes that are drawn: beyond them a list says more.
MOST_CLASSES = 24
# Size of a class in the graph, the distance between rows of them, and how many stand beside each other.
BOX, GAP, ROW, BESIDE = (62.0, 34.0), 14.0, 82.0, 4
# Networks in order: left and right end, top of the classes, top and bottom of the errors; and names below at most.
RUN, MOST_TICKS = (46.0, WIDTH - 14.0, 34.0, 66.0, 236.0), 8


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
        parts.append(text(20, top + LEAF * (row + 0.5) + 3.5, _shortened(family.names[k]), "s"))
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


def run_figure(family: Family) -> str:
    """Networks in the order given: their classes, and how well each is told from the last one, and the last one from it."""
    left, right, band, top, bottom = RUN
    count, found = len(family), reached_by_last(family)
    steps = steps_of(family.names) or [str(k + 1) for k in range(count)]
    cell = (right - left) / count
    places = left + cell * (np.arange(count) + 0.5)
    scale = Scale(LEAST, MOST, bottom, top, log=True)
    parts = []
    # Stretches of one class, those of the last network's shaded.
    start = 0
    for k in range(1, count + 1):
        if k < count and family.labels[k] == family.labels[start]:
            continue
        x, width, label = left + cell * start, cell * (k - start), int(family.labels[start])
        shade = "zone" if label == found.label else "fp"
        tall = bottom - band if label == found.label else 20.0
        parts.append(f'<rect x="{n(x)}" y="{n(band)}" width="{n(width)}" height="{n(tall)}" class="{shade}"/>')
        edge = [(x, band), (x + width, band), (x + width, band + 20.0), (x, band + 20.0), (x, band)]
        parts.append(line(edge, stroke_width="1"))
        if width >= 9.0:
            parts.append(text(x + width / 2, band + 14.5, letter(label), "h", "middle"))
        start = k
    if found.first and not found.alone:
        at = left + cell * found.first
        parts += [
            line([(at, band - 8), (at, bottom)], "ink", stroke_width="2"),
            text(at, band - 13, f"reached at {_shortened(family.names[found.first])}", "h", _anchor(at, left, right)),
        ]
    margin = float(scale(family.margin))
    parts.append(line([(left, margin), (right, margin)], "so", stroke_width="1.6"))
    parts.append(text(right - 3, margin - 4, f"margin {100 * family.margin:g} %", "s", "end"))
    for told, dash in ((family.errors[:-1, -1], ""), (family.errors[-1, :-1], "4 3")):
        known = np.isfinite(told)
        points = np.column_stack([places[:-1], scale(np.clip(np.where(known, told, 1.0), LEAST, MOST))])
        for stretch in np.split(np.arange(count - 1), np.flatnonzero(np.diff(known.astype(int))) + 1):
            if len(stretch) > 1 and known[stretch[0]]:
                style = {"stroke_dasharray": dash} if dash else {}
                parts.append(
                    line([(float(x), float(y)) for x, y in points[stretch]], "ink", stroke_width="1.4", **style)
                )
        parts.append(rings(points[known], 7.0, "ink") if dash else dots(points[known], 6.0, "ink"))
    for tick in scale.ticks():
        at = float(scale(tick))
        parts += [line([(left - 4, at), (left, at)]), text(left - 6, at + 3.5, f"{100 * tick:g} %", "s", "end")]
    parts += [line([(left, top), (left, bottom)]), line([(left, bottom), (right, bottom)])]
    for k in range(0, count, max(1, math.ceil(count / MOST_TICKS))):
        parts.append(text(float(places[k]), bottom + 14, steps[k], "s", "middle"))
    below = "checkpoint" if steps_of(family.names) else "network, in the order given"
    parts.append(text((left + right) / 2, bottom + 30, below, "t", "middle"))
    said = "; ".join(f"{name}: class {letter(int(k))}" for name, k in zip(family.names, family.labels, strict=True))
    return drawing(
        "run", "Classes in the order given, and errors to and from the last network", said, bottom + 38, parts
    )


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _anchor(at: float, left: float, right: float) -> str:
    """How words at a place are anchored so that they stay within."""
    share = (at - left) / (right - left)
    return "start" if share < 0.3 else "end" if share > 0.7 else "middle"


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
