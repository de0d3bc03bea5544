"""The figures of a report, drawn as SVG without any plotting library."""

from __future__ import annotations

import math

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.report import svg
from diffeo.report.svg import Scale
from diffeo.report.text import affine_baseline, interval, number, share
from diffeo.verdict.error_bounds import FAILS, HOLDS, Direction
from diffeo.verdict.lost_information import Loss
from diffeo.verdict.report import Report

# More points than this only blacken a figure and swell the page.
MAX_POINTS = 2000
# Steps of each of the two scales of colour: 64 paths hold all dots of a figure.
COLOR_STEPS = 8
# Errors of single pairs are drawn in four sizes, split at these multiples of the margin.
ERROR_STEPS = (0.1, 1.0, 3.0)
ERROR_NAMES = ("below a tenth", "below the margin", "up to 3 times", "more")
ERROR_SIZES = (2.8, 4.0, 6.0, 8.5)
# Shortest arrow of a loss, as a share of the domain: shorter ones show no direction.
LEAST_ARROW = 0.12
# Greatest height of a picture of the domain, and that of the strip in which one dimension is drawn.
MAX_HEIGHT, STRIP = 320.0, 90.0


def verdict_mark(report: Report) -> str:
    """Two sides and two arrows: whole where a direction holds, crossed out where it fails, dashed where it could not be told.

    Three colours say the same: a failure of the networks and one of the map must not look alike.
    """
    parts = []
    for y, (x0, x1), one in ((34, (62, 148), report.forward), (58, (148, 62), report.backward)):
        parts.append(svg.arrow((x0, y), (x1, y), status_kind(one), 2.4, dashed=one.status not in (HOLDS, FAILS)))
        if one.status == FAILS:
            cross = svg.crosses(np.array([[105.0, y]]), 15, "halo").replace('"1.6"', '"7"')
            parts.append(cross + svg.crosses(np.array([[105.0, y]]), 13, status_kind(one)).replace('"1.6"', '"2.6"'))
        elif one.status != HOLDS:
            parts.append(f'<circle cx="105" cy="{y}" r="9" class="fp"/>' + svg.text(105, y + 5, "?", "h fo", "middle"))
    for x, letter, kind in ((32, "A", "sa"), (178, "B", "sb")):
        parts.append(f'<circle cx="{x}" cy="46" r="24" class="{kind}" fill="none" stroke-width="2.6"/>')
        parts.append(f'<text x="{x}" y="54" text-anchor="middle" class="h" style="font-size:23px">{letter}</text>')
    said = f"From A to B: {report.forward.status}. From B to A: {report.backward.status}."
    return svg.drawing("mark", "Verdict", said, 92, parts, width=210)


def status_kind(one: Direction) -> str:
    """Class of what is drawn in the colour of a direction's status."""
    return {HOLDS: "sh", FAILS: "sf"}.get(one.status, "so")


def interval_figure(report: Report) -> str:
    """Error and interval of both directions on a logarithmic scale, beside the margin."""
    shown: list[float | None] = [report.margin]
    shown += [x for one in (report.forward, report.backward) for x in (one.error, one.lower, one.upper)]
    affine = affine_baseline(report)
    shown += [affine.forward, affine.backward] if affine else []
    known = [x for x in shown if x is not None and math.isfinite(x) and x > 0]
    # Two decades at least, whole ones, and no more than eight.
    high = 10.0 ** math.ceil(math.log10(max(*known, 1.0)) - 1e-9)
    low = max(10.0 ** math.floor(math.log10(min(*known, report.margin / 10))), high / 1e8)
    x = Scale(low, high, 12, svg.WIDTH - 14, log=True)
    at = float(x(report.margin))
    parts = [f'<rect x="{x.start}" y="22" width="{svg.n(at - x.start)}" height="122" class="zone"/>']
    parts += [svg.line([(at, 14), (at, 144)], "ink", stroke_width="1.4", stroke_dasharray="5 3")]
    parts += [svg.text(at - 5, 18, f"margin {share(report.margin)}", "h", "end" if at > 130 else "start")]
    rows = (("A", "B", report.forward, 0), ("B", "A", report.backward, 1))
    for source, target, one, k in rows:
        y = 68 + 54 * k
        parts.append(
            svg.text(
                x.start + 5,
                y - 15,
                f"{source} \N{RIGHTWARDS ARROW} {target}  {one.status}",
                f"h o f{status_kind(one)[1]}",
            )
        )
        parts.append(_interval(x, one, y, "sa" if k == 0 else "sb"))
        other = None if affine is None else (affine.forward, affine.backward)[k]
        if other is not None and math.isfinite(other):
            cx = float(x(max(other, low)))
            parts.append(f'<path d="M{svg.n(cx)} {y - 6}l5 6l-5 6l-5 -6z" class="line" stroke-width="1.6"/>')
    parts.append(svg.axes(x, 144, ("relative error, %", ""), unit=100.0))
    words = "; ".join(f"{a} to {b}: error {share(one.error)}, {interval(one)}, {one.status}" for a, b, one, _ in rows)
    return svg.drawing("interval", "Relative error of both directions against the margin", words, 180, parts)


def _interval(x: Scale, one: Direction, y: float, kind: str) -> str:
    """A dot at the error, and a bar between its bounds; an end beyond the scale is open."""
    ends = [v if math.isfinite(v) else (x.low if v < 0 else x.high) for v in (one.lower, one.upper)]
    left, right = (float(x(min(max(v, x.low), x.high))) for v in ends)
    parts = [svg.line([(left, y), (right, y)], kind, stroke_width="3.2")]
    for at, inside in ((left, one.lower >= x.low), (right, one.upper <= x.high)):
        parts += [svg.line([(at, y - 6), (at, y + 6)], kind, stroke_width="2")] if inside else []
    if math.isfinite(one.error):
        parts.append(f'<circle cx="{svg.n(float(x(min(one.error, x.high))))}" cy="{y}" r="5.2" class="f{kind[1]}"/>')
    return "".join(parts)


def spectra_figure(report: Report) -> str:
    """Generator eigenvalues of both sides by number."""
    count = max(len(x) for x in report.spectra)
    known = [x[np.isfinite(x)] for x in report.spectra]
    top = svg.span(np.zeros(1), *known)[1]
    x, y = Scale(0.5, count + 0.5, 44, svg.WIDTH - 10), Scale(0.0, top, 196, 24)
    parts = [svg.axes(x, y, ("number of the eigenvalue", "eigenvalue"), x_ticks=_whole(count))]
    for values, draw, size, kind in (
        (report.spectra[0], svg.rings, 11.0, "sa"),
        (report.spectra[1], svg.crosses, 8.0, "sb"),
    ):
        rows = np.flatnonzero(np.isfinite(values))
        parts.append(draw(np.column_stack([x(rows + 1.0), y(values[rows])]), size, kind))
    parts.append(svg.rings(np.array([[62.0, 34.0]]), 11, "sa") + svg.text(74, 38, "A"))
    parts.append(svg.crosses(np.array([[62.0, 52.0]]), 8, "sb") + svg.text(74, 56, "B"))
    words = "; ".join(
        f"{name}: {', '.join(number(v, 3) for v in values)}" for name, values in zip("AB", known, strict=True)
    )
    return svg.drawing("spectra", "Generator eigenvalues of A (rings) and of B (crosses)", words, 230, parts)


def _whole(count: int) -> list[float]:
    step = max(1, math.ceil(count / 10))
    return [float(k) for k in range(1, count + 1, step)]


class Plane:
    """The plane in which the samples and pairs of one side are drawn, and its scales.

    One dimension is spread into a strip. Of three and more, the principal plane is taken, and where that side has a
    loss, one that holds its direction.
    """

    def __init__(self, report: Report, side: int) -> None:
        samples = report.embeddings[side]
        self.dim = samples.shape[1]
        # Sides with as many dimensions share their axes, so that both pictures can be laid over each other.
        shared = report.embeddings[0].shape[1] == report.embeddings[1].shape[1]
        losses = (report.backward.loss, report.forward.loss)
        lost = [x.direction for x in losses if x is not None and len(x.direction) == self.dim]
        self.basis = _basis(report.embeddings[1] if shared else samples, lost)
        drawn = [self.flat(y[i]) for y in (report.embeddings, report.held_out) for i in ((0, 1) if shared else (side,))]
        (x0, x1), (y0, y1) = (svg.span(*(points[:, axis] for points in drawn), pad=0.03) for axis in (0, 1))
        room = svg.WIDTH - 60
        # Lengths are true on both axes; of a strip the height means nothing.
        unit = min(room / (x1 - x0), MAX_HEIGHT / (y1 - y0)) if self.dim > 1 else room / (x1 - x0)
        margin = 44 + (room - (x1 - x0) * unit) / 2
        self.height = 22 + ((y1 - y0) * unit if self.dim > 1 else STRIP)
        self.x = Scale(x0, x1, margin, margin + (x1 - x0) * unit)
        self.y = Scale(y0, y1, self.height, 22)

    def flat(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates (k, d) in the plane, (k, 2)."""
        if self.dim == 1:
            # Golden-ratio steps spread neighbours evenly over the strip.
            return np.column_stack([coordinates[:, 0], (np.arange(len(coordinates)) * 0.618034) % 1.0])
        found: FloatArray = coordinates @ self.basis
        return found

    def place(self, coordinates: FloatArray) -> FloatArray:
        """Positions (k, 2) in the figure."""
        flat = self.flat(coordinates)
        return np.column_stack([self.x(flat[:, 0]), self.y(flat[:, 1])])

    def axes(self) -> str:
        """Axes in units of the input; of a strip, only the lower one."""
        names = [
            f"intrinsic coordinate {k}" if self.dim <= 2 else f"principal intrinsic coordinate {k}" for k in (1, 2)
        ]
        if self.dim == 1:
            return svg.axes(self.x, self.height, (names[0], ""))
        return svg.axes(self.x, self.y, (names[0], names[1]))


def _basis(samples: FloatArray, lost: list[FloatArray]) -> FloatArray:
    """Orthonormal columns (d, 2) of the plane that is drawn: directions that are lost, then principal ones."""
    dim = samples.shape[1]
    if dim <= 2:
        return np.eye(dim, 2)
    axes = np.linalg.svd(samples - samples.mean(axis=0), full_matrices=False)[2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    columns: list[FloatArray] = []
    for direction in (*lost, *axes):
        rest = direction - sum((column @ direction) * column for column in columns)
        # What lies in the plane already adds nothing but rounding.
        if np.linalg.norm(rest) > 1e-3 * np.linalg.norm(direction):
            columns.append(rest / np.linalg.norm(rest))
    return np.column_stack(columns[:2])


def thinned(count: int) -> IntArray:
    """Rows to draw of so many."""
    return np.unique(np.linspace(0, count - 1, min(count, MAX_POINTS)).astype(np.int64))


def pair_colors(coordinates: FloatArray) -> list[tuple[str, IntArray]]:
    """Colours of points (k, 2), as (hex, rows): lightness along the first axis, hue along the second."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    unit = (coordinates - low) / np.where(high > low, high - low, 1.0)
    steps = np.minimum((unit * COLOR_STEPS).astype(np.int64), COLOR_STEPS - 1)
    found = []
    for i, j in sorted({(int(i), int(j)) for i, j in steps}):
        rows = np.flatnonzero((steps == [i, j]).all(axis=1))
        found.append((_oklch(0.36 + 0.42 * i / (COLOR_STEPS - 1), 0.13, 262 + 138 * j / (COLOR_STEPS - 1)), rows))
    return found


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """Hex of a colour in OKLCH (Ottosson 2020), whose lightness is what survives in grey."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    roots = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    cones = (roots @ [lightness, a, b]) ** 3
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(mix @ cones, 0.0, 1.0)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * v):02x}" for v in srgb)


def embedding_figure(report: Report, side: int) -> str:
    """Samples of one side in grey, and the held-out pairs on it, each in the colour that it has on the other side too."""
    plane, name = Plane(report, side), "AB"[side]
    # Colours are positions on the side with more dimensions; where that is neither, on B.
    keeper = 0 if report.embeddings[0].shape[1] > report.embeddings[1].shape[1] else 1
    rows = thinned(len(report.held_out[side]))
    flat = Plane(report, keeper).flat(report.held_out[keeper][rows])
    if report.embeddings[keeper].shape[1] == 1:
        flat = flat[:, [0, 0]]
    at = plane.place(report.held_out[side][rows])
    samples = report.embeddings[side]
    parts = [plane.axes(), svg.dots(plane.place(samples[thinned(len(samples))]), 1.8, "pale")]
    parts += [svg.dots(at[chosen], 5.6, "tint", color) for color, chosen in pair_colors(flat)]
    words = (
        f"{len(samples)} samples of {name} in grey, and {len(rows)} held-out pairs in colours that both figures share."
    )
    return svg.drawing(f"embedding-{name.lower()}", f"Intrinsic coordinates of {name}", words, plane.height + 36, parts)


def prediction_figure(one: Direction, source: str, target: str) -> str:
    """Predicted against true measurements, each in units of its own spread, around the diagonal."""
    spread = one.true.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    true, predicted = ((y - one.true.mean(axis=0)) / spread for y in (one.true, one.predicted))
    rows = np.random.default_rng(0).permutation(true.size)[:MAX_POINTS]
    true, predicted = true.ravel()[rows], predicted.ravel()[rows]
    low, high = svg.span(true)
    x, y = Scale(low, high, 44, svg.WIDTH - 16), Scale(low, high, 322, 22)
    beyond = int(((predicted < low) | (predicted > high)).sum())
    at = np.column_stack([x(true), y(np.clip(predicted, low, high))])
    parts = [svg.line([(x.start, y.start), (x.end, y.end)], "grid", stroke_width="1.4")]
    parts.append(svg.axes(x, y, (f"true measurement of {target}", f"predicted from {source}")))
    parts.append(f'<g opacity=".6">{svg.dots(at, 3.0, "sa" if source == "A" else "sb")}</g>')
    if beyond:
        parts.append(svg.text(x.end, y.start - 8, f"{beyond} beyond the frame, at its edge", "s", "end"))
    words = (
        f"{len(rows)} numbers, predicted against true; relative error {share(one.error)}. On the diagonal they agree."
    )
    name = f"prediction-{source.lower()}"
    return svg.drawing(name, f"Measurements of {target} predicted from {source}", words, 356, parts)


def pair_errors(one: Direction) -> FloatArray:
    """Error of each held-out pair in units of the spread, so that their root mean square is the relative error."""
    spread = np.linalg.norm(one.true - one.true.mean(axis=0)) / math.sqrt(len(one.true))
    sizes: FloatArray = np.linalg.norm(one.predicted - one.true, axis=1) / spread
    return sizes


def domain_figure(report: Report, one: Direction, side: int) -> str:
    """Held-out pairs where they lie on the target side, sized by their error; where something is lost, and along what."""
    plane, name = Plane(report, side), "AB"[side]
    samples, loss = report.embeddings[side], one.loss
    shown = thinned(len(samples))
    parts = [plane.axes()]
    if loss is not None:
        numbers = np.arange(len(samples)) if report.rows is None else report.rows[side]
        lost = np.isin(numbers, loss.rows)
        parts.append(svg.dots(plane.place(samples)[lost & np.isin(np.arange(len(samples)), shown)], 15, "lost"))
    parts.append(svg.dots(plane.place(samples)[shown], 1.6, "pale"))
    rows = thinned(len(one.true))
    errors, at = pair_errors(one)[rows], plane.place(report.held_out[side][rows])
    classes = np.searchsorted(ERROR_STEPS, errors / report.margin)
    counts = np.bincount(classes, minlength=4)
    for k, size in enumerate(ERROR_SIZES):
        parts.append(svg.dots(at[classes == k], size, f"e{k}"))
    if loss is not None and report.coordinates != "pairs":  # whose losses are directions of the input
        parts.append(_loss_arrow(plane, loss, samples))
    parts.append(f'<g transform="translate(0 {svg.n(plane.height + 52)})">{_legend(counts)}</g>')
    words = ", ".join(f"{count} pairs {words}" for count, words in zip(counts, ERROR_NAMES, strict=True))
    words = f"Errors against the margin: {words}." + ("" if loss is None else f" {loss.text}")
    return svg.drawing(f"domain-{name.lower()}", f"Where {name} is predicted how well", words, plane.height + 84, parts)


def _loss_arrow(plane: Plane, loss: Loss, samples: FloatArray) -> str:
    """A double arrow through the centre of the loss along its direction, as long as what is lost."""
    if len(loss.direction) != plane.dim:
        return ""
    diameter = float(np.linalg.norm(np.ptp(samples, axis=0)))
    half = 0.5 * diameter * max(loss.extent, LEAST_ARROW) * loss.direction
    centre, tip = plane.place(np.vstack([loss.centre, loss.centre + half]))
    if plane.dim == 1:
        centre[1] = tip[1] = (plane.y.start + plane.y.end) / 2
    step, corners = tip - centre, np.array([[plane.x.start, plane.y.end], [plane.x.end, plane.y.start]])
    # Neither end leaves the frame.
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.abs((corners - centre) / step)
    step = step * min(1.0, float(np.nanmin(reach)))
    ends = [tuple((centre + sign * step).tolist()) for sign in (1.0, -1.0)]
    middle = tuple(centre.tolist())
    parts = [svg.line(ends, "halo", stroke_width="7", stroke_linecap="round")]
    return "".join([*parts, *(svg.arrow(middle, end, "ink", 2.6) for end in ends)])


def _legend(counts: IntArray) -> str:
    parts = [svg.text(8, 0, "error of a pair, against the margin", "s")]
    for k, (count, size, words) in enumerate(zip(counts, ERROR_SIZES, ERROR_NAMES, strict=True)):
        x, y = 14 + 176 * (k % 2), 14 + 14 * (k // 2)
        parts += [svg.dots(np.array([[x, y - 3.5]]), size, f"e{k}"), svg.text(x + 10, y, f"{words}: {count}", "s")]
    return "".join(parts)
