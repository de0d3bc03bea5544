"""Reports in words and as JSON."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from diffeo import errors
from diffeo.report.text import _problem_lines
from diffeo.verdict.baselines import Baseline
from diffeo.verdict.report import Report, plain
from support.reports import VERDICTS, report


def not_finite(name):
    raise AssertionError(f"{name} is no JSON")


def as_json(given, tmp_path, **options):
    given.to_json(tmp_path / "r.json", **options)
    return json.loads((tmp_path / "r.json").read_text(encoding="utf-8"), parse_constant=not_finite)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_summary_says_verdict_and_reason_first_and_fits_a_terminal(verdict):
    given = report(verdict)
    lines = given.summary().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    words = {"a_to_b": "from A to B, not back", "b_to_a": "from B to A, not back", "not_equivalent": "Not equivalent"}
    assert words.get(verdict, verdict.capitalize()) in lines[0]
    assert " ".join(" ".join(lines[1:3]).split()).startswith(given.reason[:60])
    rows = [line for line in lines if line.startswith(("  A -> B", "  B -> A"))]
    assert given.forward.status in rows[0]
    assert given.backward.status in rows[1]


def test_summary_shows_errors_bounds_baselines_and_how_to_repeat_it():
    lines = report("a_to_b").summary().splitlines()
    row = next(line for line in lines if line.startswith("  B -> A"))
    assert "58 %" in row
    assert "[46 %, 70 %]" in row
    affine = next(line for line in lines if line.startswith("  affine"))
    assert affine.split() == ["affine", "31", "%", "28", "%", "ridge", "1e-06"]
    paper = next(line for line in lines if line.startswith("  the paper's method"))
    assert paper.split()[-5:] == ["\N{EN DASH}", "\N{EN DASH}", "did", "not", "connect"]
    text = " ".join(" ".join(lines).split())
    assert "on side B 3 of 900 samples lie near a fold: add neurons" in text
    assert "10 landmarks, 240 held-out pairs" in text
    assert "reproduce: report = diffeo.assess(" in text
    assert "reproduce: diffeo compare A.npz" in report(settings={"command": "diffeo compare A.npz B.npz"}).summary()


@pytest.mark.parametrize(
    ("forward", "backward", "said"),
    [
        (0.01, 0.02, "A linear map already does it: "),
        (0.01, 0.2, "A linear map already does it one way: "),
        (0.1, 0.2, "No linear map does it: "),
        (None, 0.2, "No linear map does it: "),
    ],
)
def test_summary_says_whether_a_linear_map_does_it(forward, backward, said):
    assert said in report(baselines=[Baseline("affine", forward, backward)]).summary()
    assert "linear map" not in report(baselines=[Baseline("affine", None, None, "no landmarks")]).summary()
    assert "linear map" not in report(baselines=[]).summary()


def test_long_and_hostile_texts_stay_within_the_summary():
    problems = [f"problem {k}: " + "a long sentence that goes on and on " * 12 for k in range(40)]
    evil = "\x1b[2J\x07" + "x" * 5000
    given = report(
        problems=problems,
        reason=evil,
        baselines=[Baseline(evil, 0.1, 0.2, evil)] * 30,
        settings={"command": evil},
    )
    lines = given.summary().splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert "\x1b" not in given.summary()
    assert "\x07" not in given.summary()
    assert any("more in report.problems" in line for line in lines)


@pytest.mark.parametrize("room", range(8))
def test_problems_are_never_announced_without_one_or_where_they_are(room):
    lines = _problem_lines(["first " * 60, "second " * 60], room)
    assert len(lines) <= max(room, 1)
    assert any(line.startswith("  - first") for line in lines) or "see report.problems" in lines[0]


def test_json_holds_all_numbers_and_says_its_schema(tmp_path):
    given = report("a_to_b")
    found = as_json(given, tmp_path)
    assert found["schema"] == "diffeo.report/1"
    assert found["verdict"] == "a_to_b"
    for name, one in (("forward", given.forward), ("backward", given.backward)):
        assert found[name]["error"] == one.error
        assert (found[name]["lower"], found[name]["upper"]) == (one.lower, one.upper)
        assert found[name]["status"] == one.status
    assert found["backward"]["loss"]["share"] == given.backward.loss.share
    assert found["backward"]["loss"]["direction"] == given.backward.loss.direction.tolist()
    assert found["baselines"][4] == {
        "name": "the paper's method",
        "forward": None,
        "backward": None,
        "note": "did not connect",
    }
    assert found["spectra"]["b"] == given.spectra[1].tolist()
    assert found["settings"] == given.settings
    assert (found["n_landmarks"], found["n_held_out"]) == (10, 240)
    assert "embeddings" not in found
    assert "true" not in found["forward"]
    assert os.path.getsize(tmp_path / "r.json") < 6000


def test_json_with_arrays_holds_what_the_pictures_show(tmp_path):
    given = report("a_to_b", rows=(np.arange(900), np.arange(900)))
    found = as_json(given, tmp_path, arrays=True)
    assert found["embeddings"]["a"] == given.embeddings[0].tolist()
    assert found["forward"]["predicted"] == given.forward.predicted.tolist()
    assert found["backward"]["loss"]["rows"] == given.backward.loss.rows.tolist()
    assert found["rows"]["b"] == list(range(900))


def test_json_has_null_for_what_is_not_finite(tmp_path):
    one = replace(report().forward, upper=math.inf, lower=0.0, status="undetermined")
    given = report(
        "undetermined",
        forward=one,
        diagnostics={"stress": [math.nan, 0.1], "scale": math.inf},
        spectra=(np.array([1.0, np.inf]), np.empty(0)),
    )
    found = as_json(given, tmp_path)
    assert found["forward"]["upper"] is None
    assert found["diagnostics"] == {"stress": [None, 0.1], "scale": None}
    assert found["spectra"] == {"a": [1.0, None], "b": []}


def test_facts_become_plain():
    facts = {"a": np.float64(2.5), "rows": np.arange(3), "pair": (1, None), "deep": {"b": np.bool_(True)}, 3: "x"}
    given = report(diagnostics=facts)
    assert given.diagnostics == {"a": 2.5, "rows": [0, 1, 2], "pair": [1, None], "deep": {"b": True}, "3": "x"}
    assert type(given.diagnostics["a"]) is float
    with pytest.raises(errors.DataTypeError, match="settings holds set"):
        report(settings={"x": {1, 2}})
    with pytest.raises(errors.InputError, match="20000 entries"):
        report(settings={"x": [0] * 20000})
    nested: list = []
    for _ in range(10):
        nested = [nested]
    with pytest.raises(errors.InputError, match="6 deep"):
        plain(nested, "settings")


def test_unwritable_targets_are_storage_errors(tmp_path):
    given: Report = report()
    for write in (given.to_json, given.to_html, given.save):
        with pytest.raises(errors.StorageError, match="folder"):
            write(tmp_path / "no" / "folder.x")
    assert os.listdir(tmp_path) == []
