"""``diffeo doctor``: what it says, what it writes, and that it tells what is wrong."""

from __future__ import annotations

import json

import diffeo
import pytest
from diffeo._support import core, instruction_set
from diffeo.cli import doctor, parser


@pytest.fixture
def small(monkeypatch):
    """A check that takes no time."""
    monkeypatch.setattr(doctor.examine, "__defaults__", (600,))


def test_all_is_well(small, capsys, tmp_path):
    assert parser.main(["doctor", "--json", str(tmp_path / "d.json")]) == 0
    out = capsys.readouterr().out
    assert "All is well." in out
    assert core.INSTRUCTION_SET in out
    found = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert found["facts"]["diffeo"] == diffeo.__version__
    assert found["facts"]["available"] == instruction_set.available()
    assert found["check"]["same_bits"] is True
    assert found["check"]["error"] < doctor.WORST_ERROR
    assert found["wrong"] == []


def test_quiet_says_nothing(small, capsys):
    assert parser.main(["doctor", "--quiet"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_what_is_wrong_is_told_and_is_the_exit_code(small, capsys, monkeypatch):
    good = doctor.checks(600)
    monkeypatch.setattr(doctor, "checks", lambda samples: good | {"same_bits": False, "error": 0.2})
    assert parser.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "different bits" in out
    assert "2.0e-01" in out
    assert "All is well" not in out


def test_a_check_that_fails_is_told(small, capsys, monkeypatch):
    def failing(samples):
        raise diffeo.errors.MemoryLimitError("no room")

    monkeypatch.setattr(doctor, "checks", failing)
    assert parser.main(["doctor"]) == 1
    assert "the check did not run: no room" in capsys.readouterr().out


def test_missing_packages_are_told(small, capsys, monkeypatch):
    def version(package):
        raise doctor.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert parser.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "diffeo[torch]" in out
    assert "pip install numpy" in out
