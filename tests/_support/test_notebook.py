"""Progress in a notebook: bars that the browser draws, without widgets; in a terminal tqdm as ever."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import diffeo
import numpy as np
import pytest
from diffeo._support import notebook, progress


@pytest.fixture
def shown(monkeypatch):
    """What a notebook was asked to display, and each of its updates."""
    found = []

    def display(thing, display_id=False):
        found.append(thing._repr_html_())
        return SimpleNamespace(update=lambda other: found.append(other._repr_html_()))

    ipython = ModuleType("IPython")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    ipython.display = SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    return found


def test_stages_show_a_bar_that_ends_full(shown, capsys):
    with progress.showing(True), progress.stage("fit <A>") as report:
        report(1, 4)
    assert capsys.readouterr().err == ""
    assert 'value="0.0000"' in shown[0]
    assert 'value="1.0000"' in shown[-1]
    assert "100 %" in shown[-1]
    assert "fit &lt;A&gt;" in shown[-1]
    assert "<script" not in "".join(shown)


def test_a_call_shows_its_stages_there(shown, capsys):
    x = np.random.default_rng(0).random((200, 2))
    diffeo.embed(diffeo.Observation.from_jacobians(x, np.tile(np.eye(2), (200, 1, 1))), verbose=True)
    assert shown
    assert all("<progress" in one for one in shown)
    assert capsys.readouterr().err == ""


def test_samples_are_counted(shown):
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh()).double()
    diffeo.observe(network, np.random.default_rng(0).random((60, 2)), verbose=True)
    assert "60 of 60 samples" in shown[-1]
    with notebook.NotebookBar("capture", None, "sample") as bar:
        bar.update(5)
        assert "value=" not in bar._repr_html_()
    assert "5 samples" in shown[-1]
    assert repr(bar).startswith("capture: 5 samples, ")


def test_a_shell_in_a_terminal_has_the_bars_of_terminals(shown, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: SimpleNamespace())
    with progress.showing(True), progress.stage("fit"):
        pass
    assert not shown
    assert "100 %" in capsys.readouterr().err
