"""What results are in a notebook: well-formed, escaped, with what is suspected; nothing is computed for its sake."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import diffeo
import numpy as np
import pytest
from diffeo.charts.chart import Chart
from diffeo.report.notebook import panel
from support.reports import VERDICTS, report


class Nested(HTMLParser):
    """Checks nesting; all text, in one line."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.words = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def observation(n=300, layer=None):
    x = np.random.default_rng(0).random((n, 2))
    obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (n, 2, 2)))
    return replace(obs, options=replace(obs.options, layer=layer))


def test_an_observation_and_its_chart():
    obs = observation(layer="<b>\x1b[2J")
    shown = obs._repr_html_()
    assert "<b>\x1b" not in shown
    assert "&lt;b&gt;" in shown
    assert "300" in Nested(shown).text
    assert shown.count("<circle") == 300
    chart = diffeo.embed(obs)
    assert "isometric, 2" in Nested(chart._repr_html_()).text
    assert "No problems." in Nested(chart._repr_html_()).text


def test_a_chart_is_not_made_for_the_sake_of_its_panel():
    chart = Chart(observation())
    assert "to be made when they are needed" in Nested(chart._repr_html_()).text
    assert not chart._made
    paper = diffeo.embed(observation(), coordinates="diffusion")
    assert "diffusion" in Nested(paper._repr_html_()).text


def test_a_chart_of_a_curve_has_a_drawing_and_its_period():
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    slopes = np.stack([-np.sin(angle), np.cos(angle)], axis=1)[:, :, None]
    shown = diffeo.embed(diffeo.Observation.from_jacobians(points, slopes))._repr_html_()
    assert "periods 6.28" in Nested(shown).text
    assert shown.count("<circle") == 200


def test_a_transformation_says_what_is_suspected_of_it():
    obs = observation()
    t = diffeo.match(obs, obs, landmarks=([[0.1, 0.2], [0.8, 0.3], [0.4, 0.9]],) * 2)
    said = Nested(t._repr_html_()).text
    assert "isometric coordinates" in said
    assert "landmarks 3" in said
    bad = replace(t, diagnostics=replace(t.diagnostics, problems=[f"<i>{k}" for k in range(9)]))
    said = Nested(bad._repr_html_()).text
    assert "<i>3" in said
    assert "<i>4" not in said
    assert "and 5 more" in said


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_report(verdict):
    given = report(verdict)
    said = Nested(given._repr_html_()).text.replace("\N{NO-BREAK SPACE}", " ")
    assert " ".join(given.reason.split()) in said
    assert given.forward.status in said
    assert ("What would decide it" in said) == bool(given.would_decide)


def test_only_results_have_panels():
    with pytest.raises(TypeError, match="no panel for list"):
        panel([])
