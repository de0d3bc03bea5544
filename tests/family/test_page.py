"""The page of a family: every square opens its report, by keyboard too; what is said is escaped; nothing is loaded."""

from __future__ import annotations

import html.parser
import re

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.family.cells import Cell, Way
from diffeo.family.found import Family, RoundTrip
from diffeo.pairwise.plan import all_pairs

HOSTILE = '<script>alert("x")</script>\x1b[31m'


def way(error, status="holds"):
    return Way(error, 0.9 * error, 1.1 * error, error, status, "transformation", f"evidence {HOSTILE}")


def made_up(n, name=lambda k: f"net-{k}"):
    """Even networks are of one class, and determine the odd ones, of another; the last one has no map to any."""
    cells = {}
    for i, j in all_pairs(n):
        if j == n - 1:
            cells[i, j] = Cell("not_matched", f"the graph falls into pieces {HOSTILE}")
        elif i % 2 == j % 2:
            cells[i, j] = Cell("equivalent", "each determines the other", way(0.01), way(0.02), ("expect errors",))
        else:
            verdict, ways = ("a_to_b", ("holds", "fails")) if i % 2 == 0 else ("b_to_a", ("fails", "holds"))
            forward, backward = (way(0.01 if status == "holds" else 0.8, status) for status in ways)
            cells[i, j] = Cell(verdict, "one way only", forward, backward, coordinates="isometric")
    names = [name(k) for k in range(n)]
    trips = [RoundTrip((names[0], names[2], names[4]), (0.01, 0.3, 0.02)), RoundTrip(tuple(names[:3]), (), "no map")]
    notes = {one: [f"suspected {HOSTILE}"] for one in names}
    return Family(names, cells, trips, notes, dict.fromkeys(names, "100 samples"), 0.05, 0.05, {"diffeo": "0"})


class Reader(html.parser.HTMLParser):
    """Collects identifiers, links and those of them that are stepped through; fails on an end tag without its start."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.stepped = [], [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert tag not in ("script", "link", "iframe", "img")
        assert not any(name.startswith("on") or name == "src" for name in given)
        self.ids += [given["id"]] if "id" in given else []
        if tag == "a":
            self.links.append(given["href"])
            self.stepped += [given["href"]] if given.get("tabindex") != "-1" else []
        if tag not in ("meta", "br", "rect", "path", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def read(family, path):
    family.to_html(path)
    text, reader = path.read_text(encoding="utf-8"), Reader()
    reader.feed(text)
    assert reader.open == []
    return text, reader


@pytest.mark.parametrize("n", [7, 16])
def test_every_square_opens_its_report_by_keyboard_too(n, tmp_path):
    _, page = read(made_up(n), tmp_path / "page.html")
    assert len(page.ids) == len(set(page.ids))
    outside = {link for link in page.links if not link.startswith("#")}
    assert outside == {"https://arxiv.org/abs/2007.05646"}
    assert {link[1:] for link in page.links} - {link[1:] for link in outside} <= set(page.ids)
    reports = {f"#p{i}-{j}" for i, j in all_pairs(n)}
    for link in reports:
        # From both squares, and from the lists of both networks.
        assert page.links.count(link) == 4
    # Many squares are no stops, but the list of each network is, and leads to all of its reports.
    assert reports <= set(page.stepped)
    assert (page.stepped.count("#p0-1") == 2) == (n > 12)
    assert {f"#n{k}" for k in range(n)} <= set(page.stepped)


def test_nothing_that_is_said_becomes_markup(tmp_path):
    text, _ = read(made_up(6, lambda k: f"{k} {HOSTILE}"), tmp_path / "page.html")
    assert "<script" not in text
    assert "\x1b" not in text
    assert "&lt;script&gt;" in text


def test_the_page_and_the_summary_say_what_was_found(tmp_path):
    family = made_up(8)
    text, _ = read(family, tmp_path / "page.html")
    assert [len(one) for one in family.classes] == [4, 3, 1]
    for said in (family.summary(), re.sub(r"\s+", " ", text)):
        assert "8 networks, 3 classes" in said
        assert "A determines B, not the other way round (12 of 12 pairs)" in said
    assert "7 without a map" in family.summary()
    assert "1 end further off" in family.summary()
    assert "\x1b" not in family.summary()


def test_sixty_networks_stay_below_ten_megabytes(tmp_path):
    path = tmp_path / "page.html"
    made_up(60).to_html(path)
    assert path.stat().st_size < 10e6


def test_a_family_is_the_same_after_a_file(tmp_path):
    family, path = made_up(7), tmp_path / "family.safetensors"
    family.save(path)
    again = diffeo.load(path)
    assert isinstance(again, diffeo.Family)
    assert (again.names, again.cells, again.round_trips) == (family.names, family.cells, family.round_trips)
    assert (again.notes, again.facts, again.settings) == (family.notes, family.facts, family.settings)
    np.testing.assert_array_equal(again.errors, family.errors)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(errors.StorageError):
        diffeo.load(path)


def test_a_family_with_a_pair_missing_is_not_read(tmp_path):
    family, path = made_up(5), tmp_path / "family.safetensors"
    del family.cells[0, 1]
    with pytest.raises(errors.StorageError, match="do not fit"):
        family.save(path)


def test_names_are_asked_for_by_name():
    family = made_up(5)
    with pytest.raises(errors.ParameterError, match="none of the 5"):
        family.cell("net-0", "net-9")
    with pytest.raises(errors.ParameterError, match="itself"):
        family.cell("net-0", "net-0")


def test_the_plot_draws_into_given_axes():
    pytest.importorskip("matplotlib")
    from diffeo.report.plots import pyplot

    ax = pyplot().subplots()[1]
    assert made_up(6).plot(ax) is ax
    assert {text.get_text() for text in ax.texts} >= {"=", "\N{RIGHTWARDS ARROW}", "\N{LEFTWARDS ARROW}"}
