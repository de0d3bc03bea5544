"""What a notebook shows of an observation, a chart, a transformation, a report: facts, a small drawing, what is suspected."""

from __future__ import annotations

import html
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.wording import percent, printable
from diffeo.charts.chart import Chart
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.report import text
from diffeo.report.figures import pair_colors, thinned
from diffeo.verdict.error_bounds import EQUIVALENT, FAILS, HOLDS, UNDETERMINED
from diffeo.verdict.report import Report

# Readable on white and on black: a notebook's theme is not known here, so text takes its colour, and these are for marks.
GOOD, BAD, OPEN, PLAIN = "#2f8f5f", "#c2453c", "#8560bd", "#8a8f98"
# Pixels of a drawing's longer side.
DRAWN = 150
# Problems that are shown; the rest is counted.
MOST_PROBLEMS = 4
# How sides are joined where coordinates do not say it.
HOW = {"pairs": "maps learned from pairs", "pieces": "isometric coordinates, piece by piece"}


def panel(result: object) -> str:
    """HTML of a result: self-contained, escaped, without scripts; nothing is computed for its sake.

    Raises
    ------
    TypeError
        It is none of the four.
    """
    if isinstance(result, Report):
        return _report(result)
    if isinstance(result, Transformation):
        return _transformation(result)
    if isinstance(result, Chart):
        return _chart(result)
    if isinstance(result, Observation):
        return _observation(result)
    raise TypeError(f"no panel for {type(result).__name__}")


def _report(report: Report) -> str:
    tone = {EQUIVALENT: GOOD, UNDETERMINED: OPEN}.get(report.verdict, BAD)
    rows = []
    ways = (("A \N{RIGHTWARDS ARROW} B", report.forward), ("B \N{RIGHTWARDS ARROW} A", report.backward))
    for (name, one), expected in zip(ways, report.expected_error, strict=True):
        color = {HOLDS: GOOD, FAILS: BAD}.get(one.status, OPEN)
        status = f'<b style="color:{color}">{_said(one.status)}</b>'
        rows.append(
            (_said(name), _said(text.share(one.error)), _said(text.interval(one)), _said(text.share(expected)), status)
        )
    body = f"<p>{_said(report.reason)}</p>"
    heads = ("", "error", f"bounds (margin {text.share(report.margin)})", "expected", "")
    body += _table(rows, heads)
    remark = text.linear_remark(report)
    body += f"<p>{_said(remark)}</p>" if remark else ""
    body += _list("What would decide it", report.would_decide)
    body += _problems(report.problems)
    body += _small(f"{text.sides(report)}. report.to_html(path) writes the whole page.")
    return _framed(text.HEADLINES.get(report.verdict, report.verdict), body, tone)


def _transformation(t: Transformation) -> str:
    found = t.diagnostics
    (m_a, dim_a), (m_b, dim_b) = ((side.observation.points.shape[1], side.observation.dim) for side in (t.a, t.b))
    facts = [
        ("A", f"{m_a} measurements, {len(t.a.observation):,} samples, dimension {dim_a}"),
        ("B", f"{m_b} measurements, {len(t.b.observation):,} samples, dimension {dim_b}"),
        ("joined by", HOW.get(str(t.coordinates), f"{t.coordinates} coordinates")),
        ("landmarks", "none" if t.landmarks is None else f"{len(t.landmarks[0]):,}"),
        (
            "expected error",
            text.share(found.expected_error) + " from A to B, " + text.share(found.expected_error_back) + " back",
        ),
    ]
    if len(t.candidates) > 1:
        facts.append(("candidates", f"{len(t.candidates)} alignments fit alike; t.by_candidate(k) takes another"))
    if not t.invertible:
        facts.append(("way back", "none: A has more dimensions than B"))
    tone = OPEN if found.problems else GOOD
    return _framed("Transformation", _facts(facts) + _problems(found.problems), tone)


def _chart(chart: Chart) -> str:
    obs = chart.observation
    facts = [("observation", repr(obs))]
    if not _is_made(chart):
        return _framed(
            "Chart", _facts([*facts, ("coordinates", f"{chart.asked}, to be made when they are needed")]), PLAIN
        )
    kind, problems = chart.kind, chart.problems
    drawing = ""
    if kind == "none":
        facts.append(("coordinates", "none"))
    else:
        coordinates = chart.coordinates
        facts.append(("coordinates", f"{kind}, {coordinates.shape[1]}"))
        if len(chart.periods):
            lengths = ", ".join(text.number(float(np.linalg.norm(one)), 4) for one in chart.periods)
            facts.append(("closed", f"periods {lengths}"))
        if len(chart.left_out):
            facts.append(("left out", f"{len(chart.left_out):,} samples"))
        drawing = _drawing(coordinates)
    return _framed("Chart", _beside(_facts(facts) + _problems(problems), drawing), OPEN if problems else GOOD)


def _is_made(chart: Chart) -> bool:
    """Whether kind and coordinates are at hand."""
    paper, own = chart.asked == "diffusion", chart._made
    layout = None if paper else own.get("isometric")
    if layout is not None and (layout.is_chart or chart.asked == "isometric"):
        return True
    known = ("diffusion", paper, own.get(("epsilon", paper), "auto")) in own or ("no diffusion", paper) in own
    return known and (paper or "isometric" in own)


def _observation(obs: Observation) -> str:
    n, m = obs.points.shape
    facts = [
        ("samples", f"{n:,}"),
        ("measurements", f"{m}" + (f" of layer {obs.layer}" if obs.layer else "")),
        ("dimension", f"{obs.dim}"),
        (
            "local metric",
            f"from {obs.source}{obs.options.over_bursts}" + ("" if obs.known_unit else ", unit of length unknown"),
        ),
    ]
    rows = obs.usable
    if len(rows):
        stretches = ", ".join(text.number(float(s), 3) for s in np.median(obs.singular_values[rows], axis=0)[: obs.dim])
        facts.append(("stretch, median", f"{stretches} (measurement per input)"))
    if obs.precision != "double":
        facts.append(("precision", obs.precision))
    if obs.noise:
        facts.append(("noise", text.number(obs.noise, 3)))
    if len(obs.deficient):
        facts.append(("rank-deficient", f"{len(obs.deficient):,} samples ({percent(len(obs.deficient) / n)})"))
    if falls := obs.rank_map.falls(obs.dim):
        facts.append(("where the rank falls", "; ".join(falls)))
    return _framed("Observation", _beside(_facts(facts), _drawing(_leading(obs.points))), PLAIN)


def _leading(points: FloatArray) -> FloatArray:
    """The first two principal components of some of the points, for a drawing."""
    some = points[thinned(len(points))]
    centred: FloatArray = some - some.mean(axis=0)
    if centred.shape[1] <= 2:
        return centred
    _, axes = np.linalg.eigh(centred.T @ centred)
    leading: FloatArray = centred @ axes[:, :-3:-1]
    return leading


def _drawing(places: FloatArray) -> str:
    """Dots at two coordinates (n, c), coloured by place; one coordinate is drawn against its rank."""
    places = places[thinned(len(places))]
    places = places[np.isfinite(places).all(axis=1)]
    if len(places) < 2:
        return ""
    x = places[:, 0]
    y = places[:, 1] if places.shape[1] > 1 else np.argsort(np.argsort(x)) / len(x) * np.ptp(x)
    longest = max(float(np.ptp(x)), float(np.ptp(y))) or 1.0
    across, down = (x - x.min()) / longest * DRAWN + 3, (y.max() - y) / longest * DRAWN + 3
    width, height = across.max() + 3, down.max() + 3
    dots = "".join(
        f'<g fill="{color}">'
        + "".join(f'<circle cx="{across[k]:.1f}" cy="{down[k]:.1f}" r="1.6"/>' for k in rows)
        + "</g>"
        for color, rows in pair_colors(np.column_stack([x, y]))
    )
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    return f'<svg {size} role="img" aria-label="samples"><title>samples, coloured by place</title>{dots}</svg>'


def _said(value: object) -> str:
    """A text for markup: escaped, without control characters, percent signs kept to their numbers."""
    return html.escape(printable(str(value))).replace(" %", "\N{NO-BREAK SPACE}%")


def _facts(rows: list[tuple[str, str]]) -> str:
    return _table([(f"<b>{_said(name)}</b>", _said(value)) for name, value in rows])


def _table(rows: Any, heads: tuple[str, ...] = ()) -> str:
    style = ' style="text-align:left;padding:.15em 1em .15em 0"'
    top = "<tr>" + "".join(f"<th{style}>{_said(head)}</th>" for head in heads) + "</tr>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td{style}>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table style="margin:.4em 0;border:0">{top}{body}</table>'


def _list(title: str, lines: list[str]) -> str:
    if not lines:
        return ""
    return f"<p><b>{_said(title)}</b></p><ul>" + "".join(f"<li>{_said(line)}</li>" for line in lines) + "</ul>"


def _problems(problems: list[str]) -> str:
    if not problems:
        return _small("No problems.")
    more = [f"and {len(problems) - MOST_PROBLEMS} more"] if len(problems) > MOST_PROBLEMS else []
    return _list("Problems", [*problems[:MOST_PROBLEMS], *more])


def _small(words: str) -> str:
    return f'<p style="opacity:.75;font-size:.9em">{_said(words)}</p>'


def _beside(body: str, drawing: str) -> str:
    columns = f'<div style="flex:1 1 18em">{body}</div><div style="flex:0 0 auto;padding:.4em 0">{drawing}</div>'
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 2em;align-items:flex-start">{columns}</div>'


def _framed(title: str, body: str, color: str) -> str:
    head = f'<div style="font-size:1.1em;font-weight:600">{_said(title)}</div>'
    return f'<div style="border-left:.35em solid {color};padding:.1em 1em;max-width:52em">{head}{body}</div>'
