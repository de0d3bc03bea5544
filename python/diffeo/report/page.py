"""The report as one self-contained page: its layout, and the words that no other form of it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from diffeo import __version__
from diffeo.report import figures
from diffeo.report.style import document
from diffeo.report.svg import escaped, figure
from diffeo.report.text import HEADLINES, STATUS, affine_baseline, interval, linear_remark, number, recipe, share, sides
from diffeo.verdict.error_bounds import FAILS
from diffeo.verdict.report import Report

ARROW = "\N{RIGHTWARDS ARROW}"
PAPER = "https://arxiv.org/abs/2007.05646"


def report_page(report: Report) -> str:
    """The whole page as HTML; it loads nothing, and needs no script."""
    contents: list[tuple[str, str, Callable[[Report], str]]] = [
        ("errors", "How far each side determines the other", _errors),
        ("problems", "What is suspected", _problems),
        ("domain", "Where it works and where not", _domain),
        ("embeddings", "Both sides in their own coordinates", _embeddings),
        ("predictions", "Predicted against true", _predictions),
        ("baselines", "What plain methods do", _baselines),
        ("spectra", "The spectra, which need no pairs", _spectra),
        ("diagnostics", "Diagnostics", _diagnostics),
        ("reproduce", "To reproduce it", _reproduce),
    ]
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in contents)
    sections = "".join(
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{heading}</h2>{make(report)}</section>\n'
        for name, heading, make in contents
    )
    headline = _prose(HEADLINES.get(report.verdict, report.verdict))
    body = (
        '<a class="skip" href="#main">Skip to the report</a>\n'
        f'<header><div class="verdict"><div><p class="over">Verdict on two observations of one domain</p><h1>{headline}.</h1>'
        f'<p class="lead">{_prose(report.reason)}</p></div><div>{figures.verdict_mark(report)}</div></div>'
        f'{_remarks(report)}<nav aria-label="Contents"><ul>{links}</ul></nav></header>\n'
        f'<main id="main" tabindex="-1">\n{sections}</main>\n<footer>{_footer()}</footer>'
    )
    return document(f"diffeo: {headline}", body)


def _prose(value: Any) -> str:
    """A text for markup, escaped; a percent sign stays with its number."""
    return escaped(value).replace(" %", "\N{NO-BREAK SPACE}%")


def _remarks(report: Report) -> str:
    """What was compared, whether a linear map does it too, and how many problems there are."""
    count = len(report.problems)
    suspected = "Nothing is suspected to be wrong with the transformation."
    if count:
        named = "1 problem is" if count == 1 else f"{count} problems are"
        suspected = f'<a href="#problems">{named} suspected</a>.'
    return f"<p>{_prose(sides(report))}. {_prose(linear_remark(report))} {suspected}</p>"


def _errors(report: Report) -> str:
    rows = [
        [f"{a} {ARROW} {b}", share(one.error), interval(one), f"{one.status}: {STATUS.get(one.status, '')}", one.how]
        for a, b, one in (("A", "B", report.forward), ("B", "A", report.backward))
    ]
    lines = "".join(
        f'<tr><th scope="row">{_prose(row[0])}</th>'
        + "".join(f'<td class="num">{_prose(x)}</td>' for x in row[1:3])
        + "".join(f'<td class="words">{_prose(x)}</td>' for x in row[3:])
        + "</tr>"
        for row in rows
    )
    caption = (
        "Dots are errors, bars reach from the lower to the upper bound "
        f"(each one-sided, at level {share(report.significance)}); the tinted zone is under the margin."
    )
    if affine_baseline(report) is not None:
        caption += " Diamonds: an affine map fitted to the same landmarks."
    meaning = (
        "The relative error is the norm of (predicted \N{MINUS SIGN} true) over that of (true \N{MINUS SIGN} mean): "
        "0 is perfect, 100 % is no better than the mean. A direction holds when its upper bound is under the margin, "
        "and fails when its lower bound is over it. The two sides are equivalent when both directions hold."
    )
    pair = f"{figure(figures.interval_figure(report), caption)}<p>{meaning}</p>"
    head = ("direction", "error", "[lower, upper]", "status", "predicted by")
    title = f"Relative error on {len(report.forward.true):,} held-out pairs, margin {share(report.margin)}."
    return f'<div class="pair">{pair}</div>{_table(title, head, lines)}'


def _table(caption: str, head: tuple[str, ...], lines: str) -> str:
    """A table that scrolls on its own where it is wider than the screen, by keyboard too."""
    names = "".join(f'<th scope="col">{_prose(word)}</th>' for word in head)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{_prose(caption)}">'
        f"<table><caption>{_prose(caption)}</caption><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _problems(report: Report) -> str:
    given = report.settings.get("warnings", [])
    notes = [*report.problems, *(given if isinstance(given, list) else [])]
    if not notes:
        return "<p>Nothing: the diagnostics of the transformation name no problem.</p>"
    intro = "<p>What the diagnostics name does not change the verdict, but may explain it.</p>"
    return intro + "".join(f'<p class="flag">{_prose(problem)}</p>' for problem in notes)


def _domain(report: Report) -> str:
    drawn, said = [], []
    for one, source, target, side in ((report.forward, "A", "B", 1), (report.backward, "B", "A", 0)):
        caption = f"Predicting {target} from {source}: held-out pairs where they lie on {target}, sized by their error."
        lost = ""
        if one.loss is not None:
            caption += " Shaded: where something is lost; the arrow is its direction."
            lost = one.loss.text
        elif one.status == FAILS:
            lost = "The direction fails, and no lost part of the domain was found that explains it."
        if lost:
            said.append(f'<p class="flag"><strong>From {source} to {target}.</strong> {_prose(lost)}</p>')
        drawn.append(figure(figures.domain_figure(report, one, side), caption + _strip(report, side)))
    intro = "".join(said) or "<p>No direction fails. Errors of single pairs, where they lie in the domain:</p>"
    return f'{intro}<div class="pair">{"".join(drawn)}</div>'


def _strip(report: Report, side: int) -> str:
    return " Height only spreads the dots." if report.embeddings[side].shape[1] == 1 else ""


def _embeddings(report: Report) -> str:
    same = report.embeddings[0].shape[1] == report.embeddings[1].shape[1]
    joined = report.coordinates != "regression"
    moved = "A" if not same else "A, moved onto B" if joined else "A, roughly moved onto B"
    drawn = ""
    for side, name in ((0, moved), (1, "B")):
        caption = f"{name}: {len(report.embeddings[side]):,} samples in grey.{_strip(report, side)}"
        drawn += figure(figures.embedding_figure(report, side), caption)
    text = (
        "Each side recovers the common input domain from its own measurements, up to a motion that the landmarks fix. "
        if joined
        else "The two sides have no common coordinates: a regression on the landmarks joins them. Each is shown in its own "
        "coordinates, or, where it has none, by the leading principal components of its measurements. "
    )
    text += (
        "Every held-out pair has one colour, dark to light along the first axis, in both pictures: where the same colours lie "
        "in the same places, both sides see the same. Where colours mix, one of them has lost or folded something."
    )
    return f'<p>{text}</p><div class="pair">{drawn}</div>'


def _predictions(report: Report) -> str:
    drawn = ""
    for one, source, target in ((report.forward, "A", "B"), (report.backward, "B", "A")):
        caption = f"From {source} to {target}: relative error {share(one.error)} ({one.how})."
        drawn += figure(figures.prediction_figure(one, source, target), caption)
    return f'<p>Every measurement in units of its own standard deviation.</p><div class="pair">{drawn}</div>'


def _baselines(report: Report) -> str:
    own: list[tuple[str, str, float | None, float | None, str]] = [
        ("own", f"diffeo ({report.coordinates})", report.forward.error, report.backward.error, "")
    ]
    rows = own + [("", one.name, one.forward, one.backward, one.note) for one in report.baselines]
    lines = "".join(
        f'<tr class="{kind}"><th scope="row">{_prose(name)}</th>{_bar(a)}{_bar(b)}<td class="muted">{_prose(note)}</td></tr>'
        for kind, name, a, b, note in rows
    )
    caption = (
        f"Relative error on the same held-out pairs, from the same {report.n_landmarks:,} landmarks. "
        "A full bar is 100 %, no better than the mean."
    )
    remark = _prose(linear_remark(report))
    remark = f"<strong>{remark}</strong>" if remark.startswith("A linear") else remark
    head = ("method", f"A {ARROW} B", f"B {ARROW} A", "note")
    return (f"<p>{remark}</p>" if remark else "") + _table(caption, head, lines)


def _bar(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return f'<td class="num">{number(value)}</td>'
    width = 100 * min(max(value, 0.0), 1.0)
    more = "+" if value > 1 else ""
    drawn = f'<span class="bar" aria-hidden="true"><i style="width:{width:.1f}%"></i></span>'
    return f'<td class="num">{share(value)}{more}{drawn}</td>'


def _spectra(report: Report) -> str:
    if not all(len(x) for x in report.spectra):
        return "<p>No spectra were computed.</p>"
    caption = "Nontrivial eigenvalues of both generators, per squared input unit: rings for A, crosses for B."
    text = (
        "The eigenvalues of the diffusion generator belong to the shape of the input domain, not to the network: two "
        "observations that keep the same domain have the same ones, up to sampling. They do not say which point goes where, "
        "so that agreement alone proves nothing."
    )
    return f"<p>{text}</p>{figure(figures.spectra_figure(report), caption)}"


def _diagnostics(report: Report) -> str:
    return _facts(report.diagnostics) if report.diagnostics else "<p>None were recorded.</p>"


def _reproduce(report: Report) -> str:
    known = {name: value for name, value in report.settings.items() if name not in ("command", "warnings")}
    return (
        f"<p>The command or code, and what it ran with:</p><pre>{escaped(recipe(report))}</pre>"
        f"{_facts({'margin': report.margin, 'significance': report.significance} | known)}"
    )


def _facts(facts: dict[str, Any]) -> str:
    """A list of names and values; facts within facts are named by both."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            rows += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            rows.append((name, value))
    return (
        '<dl class="facts">'
        + "".join(f"<dt>{_prose(name.replace('_', ' '))}</dt><dd>{_prose(_fact(value))}</dd>" for name, value in rows)
        + "</dl>"
    )


def _fact(value: Any) -> str:
    """One value in words; long lists by their beginning."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\N{EN DASH}"}[value]
    if isinstance(value, float):
        return number(value, 4)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        more = f" and {len(value) - 12:,} more" if len(value) > 12 else ""
        return ", ".join(_fact(entry) for entry in value[:12]) + more
    if isinstance(value, dict):
        return "; ".join(f"{key} {_fact(entry)}" for key, entry in value.items())
    return str(value)


def _footer() -> str:
    return (
        f"Made by diffeo {__version__}, after Bertalan, Dietrich and Kevrekidis, <cite>Transformations between deep neural "
        f'networks</cite> (<a href="{PAPER}">arXiv 2007.05646</a>). Equivalence is a property of two observations of one input '
        "domain, not of two tasks: networks differ where one of them discards what the other keeps."
    )
