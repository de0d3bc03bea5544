"""The family demo at a very small size: its classes, and its page."""

from __future__ import annotations

import html.parser

import numpy as np
import pytest
from diffeo.demos.family import experiment

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

TINY = experiment.Size(members=2, steps=400, polish=800, samples=400, n_jobs=1)


class Balance(html.parser.HTMLParser):
    """Collects sources, and fails on an end tag without its start."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe")
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_targets_have_the_level_sets_of_their_task():
    x = experiment.inputs(200, np.random.default_rng(0))
    mirrored = x * [-1.0, 1.0]
    np.testing.assert_allclose(experiment.target(x, True, 3), experiment.target(mirrored, True, 3), atol=1e-14)
    assert np.linalg.norm(experiment.target(x, False, 3) - experiment.target(mirrored, False, 3)) > 1.0


@pytest.mark.slow
def test_two_classes_at_the_outputs_and_one_in_the_hidden_layer(tmp_path, capsys):
    members, found = experiment.run_sized(tmp_path, TINY)
    for (i, j), cell in found["outputs"].cells.items():
        # The first ones know both inputs, and so determine what the others report.
        assert cell.verdict == ("equivalent" if members[i].folds == members[j].folds else "a_to_b")
    assert len(found["outputs"].cells) == 6
    assert set(found["hidden layer"].verdicts.ravel()) == {"equivalent"}
    assert len(found["outputs"].classes) == 2
    assert len(found["hidden layer"].classes) == 1
    assert "classes, cut at the margin of 5 %: 2" in capsys.readouterr().out
    text = (tmp_path / "family.html").read_text(encoding="utf-8")
    page = Balance()
    page.feed(text)
    assert page.open == []
    assert len(page.sources) == 1
    assert page.sources[0].startswith("data:image/png;base64,")
    assert "def compare(" in text
    assert (tmp_path / "family-outputs.html").exists()
