"""What README.md, and the guide to the command line, tell a new user to type, typed."""

from __future__ import annotations

import os
import re
import runpy
import shlex
import sys
from pathlib import Path

import diffeo
import pytest
from diffeo.cli import parser

README = Path(__file__).parents[1] / "README.md"
# What a new user reads next; the commands for saved networks stand there.
COMMANDS = README.parent / "docs" / "guides" / "command_line.md"


def block(name, page=README):
    """The block of code that stands under a mark."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"<!-- ci: {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"{page.name} has no block marked {name}"
    return found[1]


def test_two_saved_networks_and_a_csv_of_pairs_lead_to_the_page(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    # The tests have a module of this name too.
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    (tmp_path / "networks.py").write_text(block("networks", COMMANDS), encoding="utf-8")
    commands = [shlex.split(line) for line in block("compare", COMMANDS).splitlines() if line]
    assert [words[:2] for words in commands] == [
        ["python", "networks.py"],
        ["diffeo", "observe"],
        ["diffeo", "observe"],
        ["diffeo", "compare"],
    ]
    for words in commands:
        if words[0] == "python":
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert parser.main(words[1:]) == 0
    sys.modules.pop("networks", None)
    assert {"a.safetensors", "b.safetensors", "x_a.npy", "pairs.csv", "A.npz", "B.npz"} <= set(os.listdir(tmp_path))
    said = capsys.readouterr().out
    assert "Equivalent: the same up to a change of coordinates" in said
    assert "No linear map does it" in said
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Equivalent: the same up to a change of coordinates." in page


@pytest.mark.slow
def test_checkpoints_of_a_training_run_lead_to_the_page_of_their_family(tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "training", raising=False)
    # Fewer inputs and checkpoints than the guide has: the step at which the class is reached is not looked at.
    script = block("training", COMMANDS).replace("(1500, 2)", "(500, 2)").replace("0, 30, 100, 200, 400,", "0,")
    (tmp_path / "training.py").write_text(script, encoding="utf-8")
    runpy.run_path("training.py", run_name="__main__")
    for line in block("family", COMMANDS).splitlines():
        words = [found for word in shlex.split(line) for found in sorted(map(str, tmp_path.glob(word))) or [word]]
        assert parser.main(words[1:]) == 0
    sys.modules.pop("training", None)
    said = capsys.readouterr().out
    assert "4 networks" in said
    assert "In training, " in said
    page = (tmp_path / "family.html").read_text(encoding="utf-8")
    assert "When in training" in page
    assert page.count('<article class="panel"') == 4 + 6
    assert len(list((tmp_path / "work" / "pairs").glob("*.json"))) == 6


@pytest.mark.slow
def test_networks_that_can_be_asked_and_networks_apart(capsys, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block("asked"), "README.md", "exec"), names)
    assert "Equivalent: the same up to a change of coordinates" in capsys.readouterr().out
    assert names["y_b"].shape == (5, 12)
    assert names["expected"].shape == (5,)
    # The second example goes on from the first.
    exec(compile(block("apart"), "README.md", "exec"), names)
    assert names["report"].verdict == "equivalent"
    assert (tmp_path / "report.html").exists()
    assert diffeo.load("a-to-b.safetensors").coordinates == "isometric"


def test_picture_of_the_report_is_there_and_small():
    if not (README.parent / "bench/results").exists():
        pytest.skip("the sdist leaves the pictures out")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text(encoding="utf-8"))
    assert "bench/results/report.png" in pictures
    assert all((README.parent / picture).exists() for picture in pictures)
    assert (README.parent / "bench/results/report.png").stat().st_size < 300_000
