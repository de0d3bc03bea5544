"""The page of a report: well-formed, self-contained, escaped, and readable by everybody."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from diffeo.report import figures, svg
from diffeo.report.page import report_page
from diffeo.verdict.baselines import Baseline
from support.reports import VERDICTS, report

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Tree(HTMLParser):
    """Checks nesting while it collects elements, attributes and text."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


VARIANTS = {verdict: report(verdict) for verdict in VERDICTS} | {
    "one dimension": report("a_to_b", dim=1),
    "three dimensions": report("not_equivalent", dim=3),
    "different dimensions": replace(
        report("a_to_b", dim=2), embeddings=(report(dim=2).embeddings[0], report(dim=1).embeddings[1]),
        held_out=(report(dim=2).held_out[0], report(dim=1).held_out[1]),
    ),
    "no baselines, no spectra": report(baselines=[], spectra=(np.empty(0), np.empty(0)), diagnostics={}, n_landmarks=0),
}  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
def test_page_is_well_formed_and_loads_nothing(name):
    text = report_page(VARIANTS[name])
    tree = Tree(text)
    assert text.startswith("<!doctype html>")
    assert not {"script", "link", "iframe", "img", "object", "image", "use"} & {tag for tag, _ in tree.elements}
    for _, attributes in tree.elements:
        assert not any(key.startswith("on") or key in ("src", "srcset", "xlink:href", "data") for key in attributes)
    # Links to read, of which one leads out of the page; no style asks for anything.
    links = [attributes["href"] for attributes in tree.all("a")]
    assert [link for link in links if not link.startswith("#")] == ["https://arxiv.org/abs/2007.05646"]
    assert "url(" not in text
    assert "@import" not in text
    assert len(text.encode()) < 400_000
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"<[^>]*>", " ", text))
    assert not re.search(r'="[^"]*\b(nan|inf)\b[^"]*"', text)


@pytest.mark.parametrize("name", VARIANTS)
def test_page_can_be_read_without_eyes_and_without_a_mouse(name):
    tree = Tree(report_page(VARIANTS[name]))
    names = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]
    assert len(names) == len(set(names))
    # Every figure has a title and a description.
    figures = tree.all("svg")
    assert len(figures) >= 7
    for one in figures:
        assert one["role"] == "img"
        title, described = one["aria-labelledby"].split()
        assert ("title", {"id": title}) in tree.elements
        assert ("desc", {"id": described}) in tree.elements
    assert tree.all("html")[0]["lang"] == "en"
    assert {tag for tag, _ in tree.elements} >= {"header", "main", "nav", "footer", "title"}
    assert len(tree.all("h1")) == 1
    assert tree.all("a")[0] == {"class": "skip", "href": "#main"}
    assert all(link["href"][1:] in names for link in tree.all("a") if link["href"].startswith("#"))
    assert all(attributes.get("aria-labelledby", "") in names for attributes in tree.all("section"))
    assert len(tree.all("caption")) == len(tree.all("table"))
    assert all(attributes.get("scope") in ("col", "row") for attributes in tree.all("th"))
    # Marks are larger than their lines: colour says nothing alone.
    assert "width=device-width" in tree.all("meta")[1]["content"]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_verdict_and_reason_come_first_in_words(verdict):
    given = report(verdict)
    tree = Tree(report_page(given))
    body = tree.text[tree.text.index("Verdict on two") :]
    headline = given.summary().splitlines()[0]
    assert headline in body[:200]
    assert given.reason in body[:600]
    assert f"From A to B: {given.forward.status}. From B to A: {given.backward.status}." in body
    for one in (given.forward, given.backward):
        assert one.loss is None or one.loss.text in body
    for problem in given.problems:
        assert problem in body


@pytest.mark.parametrize(
    ("verdict", "tone", "kinds"),
    [
        ("equivalent", "same", ("sh", "sh")),
        ("a_to_b", "differ", ("sh", "sf")),
        ("not_equivalent", "differ", ("sf", "sf")),
        ("undetermined", "open", ("so", "sh")),
    ],
)
def test_what_could_not_be_told_has_a_colour_of_its_own(verdict, tone, kinds):
    given = report(verdict)
    text = report_page(given)
    assert f'<div class="{tone}"><p class="over">' in text
    assert tuple(figures.status_kind(one) for one in (given.forward, given.backward)) == kinds
    drawn = figures.verdict_mark(given)
    assert {kind for kind in ("sh", "sf", "so") if f'class="{kind}"' in drawn} == set(kinds)
    # What would decide stands in the head of the page, and nowhere where nothing is open.
    tree = Tree(text)
    assert ("aside" in {tag for tag, _ in tree.elements}) == (verdict == "undetermined")
    head = tree.text[: tree.text.index("How far each side determines the other")]
    assert all(advice.replace("\N{NO-BREAK SPACE}", " ") in head for advice in given.would_decide)


def test_hostile_texts_are_escaped():
    evil = '<script>alert("1")</script><img src=x onerror=alert(1)>&amp;\x1b"\'><svg onload=x>'
    bad = replace(report("a_to_b").backward.loss, text=evil)
    given = report(
        "a_to_b",
        reason=evil,
        problems=[evil],
        baselines=[Baseline(evil, 0.1, 0.2, evil)],
        backward=replace(report("a_to_b").backward, how=evil, loss=bad),
        diagnostics={evil: evil, "more": {evil: [evil]}},
        settings={"command": evil, "layer": evil, "warnings": [evil], evil: {evil: evil}},
        coordinates=evil,
    )
    text = report_page(given)
    clean = Tree(report_page(report("a_to_b")))
    tree = Tree(text)
    assert "<script" not in text
    assert "\x1b" not in text
    assert [tag for tag, _ in tree.elements if tag in ("script", "img")] == []
    assert len(tree.all("svg")) == len(clean.all("svg"))
    assert all(not key.startswith("on") for _, attributes in tree.elements for key in attributes)
    # What was written is what is read.
    shown = evil.replace("\x1b", "\N{REPLACEMENT CHARACTER}")
    assert tree.text.count(shown) >= 8


def test_bars_and_numbers_of_baselines():
    given = report(baselines=[Baseline("affine", 0.31, 1.7, ""), Baseline("none", None, float("nan"), "why")])
    text = report_page(given)
    section = text[text.index('<section id="baselines"') : text.index('<section id="spectra"')]
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', section, re.DOTALL)
    assert [name for name, _ in rows] == ["diffeo (isometric)", "affine", "none"]
    assert re.findall(r"width:([\d.]+)%", rows[1][1]) == ["31.0", "100.0"]
    assert "170\N{NO-BREAK SPACE}%+" in rows[1][1]
    assert "width" not in rows[2][1]


def test_sides_without_common_coordinates_are_said_to_have_none():
    text = Tree(report_page(report("a_to_b", coordinates="regression"))).text
    assert "The two sides have no common coordinates: a regression on the landmarks joins them." in text
    assert "A, roughly moved onto B: 900 samples" in text
    assert "no common coordinates" not in Tree(report_page(report("a_to_b"))).text


def positions(drawn):
    """Centres of the dots of a figure by class."""
    found = {}
    for path, kind in re.findall(r'<path d="([^"]*)" class="dot ?([^"]*)"', drawn):
        at = [tuple(map(float, pair)) for pair in re.findall(r"M(-?[\d.]+) (-?[\d.]+)h0", path)]
        found.setdefault(kind, []).extend(at)
    return found


def test_embedding_figure_draws_pairs_in_the_same_colours_on_both_sides():
    given = report("equivalent")
    both = [figures.embedding_figure(given, side) for side in (0, 1)]
    tints = [re.findall(r'stroke="(#[0-9a-f]{6})"', drawn) for drawn in both]
    assert tints[0] == tints[1]
    assert len(set(tints[0])) > 30
    for drawn in both:
        assert len(positions(drawn)["tint"]) == 240
        assert len(positions(drawn)["pale"]) == 900
    # Sides are drawn on one scale: pairs that agree lie at nearly the same place.
    a, b = (np.array(positions(drawn)["tint"]) for drawn in both)
    assert np.abs(a - b).max() < 3.0


def test_colours_survive_in_grey_along_the_first_axis():
    x = np.column_stack([np.linspace(0, 1, 200), np.random.default_rng(0).random(200)])
    colors = figures.pair_colors(x)
    rows = np.concatenate([chosen for _, chosen in colors])
    assert sorted(rows) == list(range(200))
    grey, first = [], []
    for color, chosen in colors:
        r, g, b = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
        grey.append(0.2126 * r**2.2 + 0.7152 * g**2.2 + 0.0722 * b**2.2)
        first.append(x[chosen, 0].mean())
    assert np.corrcoef(first, np.cbrt(grey))[0, 1] > 0.95


def test_domain_figure_sizes_pairs_by_error_and_shades_what_is_lost():
    given = report("a_to_b", n=900)
    one = given.backward
    drawn = figures.domain_figure(given, one, 0)
    counts = np.bincount(np.searchsorted([0.1, 1.0, 3.0], figures.pair_errors(one) / given.margin), minlength=4)
    at = positions(drawn)
    # The legend adds a dot of each size.
    assert [len(at[f"e{k}"]) - 1 for k in range(4)] == counts.tolist()
    assert len(at["lost"]) == len(one.loss.rows)
    assert one.loss.text in drawn
    quiet = figures.domain_figure(given, given.forward, 1)
    assert "lost" not in positions(quiet)
    assert 'class="ink"' in drawn
    assert 'class="ink"' not in quiet


def test_lost_rows_are_those_of_the_samples_that_are_shown():
    given = report("a_to_b", n=900)
    rows = np.arange(900) * 3
    loss = replace(given.backward.loss, rows=np.array([3, 4, 5, 30], dtype=np.int64))
    thin = replace(given, rows=(rows, rows), backward=replace(given.backward, loss=loss))
    assert len(positions(figures.domain_figure(thin, thin.backward, 0))["lost"]) == 2


def test_errors_of_pairs_have_the_relative_error_as_their_root_mean_square():
    one = report("b_to_a").forward
    assert np.sqrt((figures.pair_errors(one) ** 2).mean()) == pytest.approx(one.error)


def test_interval_figure_puts_errors_where_they_belong():
    given = report("a_to_b")
    drawn = figures.interval_figure(given)
    centres = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn)]
    margin = (
        float(re.search(r'class="zone"', drawn) and re.search(r'<rect x="12" y="22" width="([\d.]+)"', drawn)[1]) + 12
    )
    assert centres[0] < margin < centres[1]
    # One decade everywhere: log10(0.58 / 0.003) decades between the dots.
    decade = (svg.WIDTH - 14 - 12) / 3
    assert centres[1] - centres[0] == pytest.approx(decade * np.log10(0.58 / 0.003), abs=0.2)


def test_bounds_without_end_are_drawn_open():
    one = replace(report().forward, lower=0.0, upper=float("inf"), status="undetermined")
    drawn = figures.interval_figure(report("undetermined", forward=one))
    assert "inf" not in drawn.replace("\N{INFINITY}", "")
    assert "\N{INFINITY}" in drawn
    exact = replace(report().forward, error=0.0, lower=0.0, upper=0.0)
    assert "nan" not in figures.interval_figure(report(forward=exact))


@pytest.mark.parametrize(
    ("low", "high", "log"), [(0, 1, False), (-3.2e5, 8.1e7, False), (1e-9, 1, True), (0.01, 10, True)]
)
def test_ticks_are_round_few_and_within(low, high, log):
    scale = svg.Scale(low, high, 0, 100, log)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 7
    assert all(low * (1 - 1e-9) - 1e-9 <= tick <= high * (1 + 1e-9) for tick in ticks)
    at = scale(np.array(ticks))
    assert np.ptp(np.diff(at)) < 1e-6
    for tick in ticks:
        mantissa = abs(tick) / 10 ** np.floor(np.log10(abs(tick))) if tick else 0.0
        assert mantissa == pytest.approx(round(mantissa), abs=1e-6)


def test_large_reports_stay_small_pages():
    rng = np.random.default_rng(0)
    at = rng.random((6000, 2))
    values = rng.random((6000, 40))
    one = replace(report().forward, true=values, predicted=values + 0.01)
    given = report(
        forward=one, backward=one, held_out=(at, at), embeddings=(rng.random((2000, 2)), rng.random((2000, 2)))
    )
    assert len(report_page(given).encode()) < 1_000_000
