"""Colours where a terminal has them, errors of one paragraph, numbers on stdout, completion."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from diffeo.cli import parser, terminal

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


@pytest.mark.parametrize(
    ("environment", "terminal_there", "expected"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "TERM": "dumb"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_where_there_are_colours(environment, terminal_there, expected, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = SimpleNamespace(isatty=lambda: terminal_there)
    assert terminal.coloured(stream) is expected


def shown(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser.main(arguments)
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["observe", "--help"], ["family", "--help"]])
def test_colours_change_nothing_but_colours(arguments, capsys, monkeypatch):
    code, plain, _ = shown(arguments, capsys)
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, coloured, _ = shown(arguments, capsys)
    assert code == 0
    assert "\x1b" not in plain
    assert len(ESCAPE.findall(coloured)) > 10
    assert ESCAPE.sub("", coloured) == plain
    assert max(map(len, plain.splitlines())) <= 115


def test_the_overview_lists_every_command_on_one_line(capsys):
    _, page, _ = shown(["--help"], capsys)
    listed = page.split("commands:\n")[1].split("\n\n")[0].splitlines()
    names = [line.split()[0] for line in listed]
    assert names == ["demo", "observe", "pairs", "compare", "screen", "family", "doctor", "info", "completion"]
    assert page.index("commands:") < page.index("options:") < page.index("from two networks to a verdict:")


def test_wrong_arguments_are_one_paragraph(capsys, monkeypatch):
    code, out, err = shown(["observe", "--inputs", "x.npy"], capsys)
    assert (code, out) == (2, "")
    assert err.startswith("diffeo: error: the following arguments are required: NETWORK")
    assert err.endswith("(diffeo observe --help shows what there is)\n")
    assert err.count("\n") == 1
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(["dance"], capsys)[2].startswith("\x1b[1;31mdiffeo: error:\x1b[0m argument COMMAND: invalid choice")


def test_files_that_are_missing_are_named_first(tmp_path, capsys):
    assert parser.main(["screen", str(tmp_path / "A.npz"), str(tmp_path / "B.npz")]) == 2
    assert capsys.readouterr().err == f"diffeo: error: {tmp_path / 'A.npz'}: No such file or directory\n"


@pytest.mark.parametrize(
    ("text", "code", "painted"),
    [
        ("Equivalent: the same\n  no problems\nwrote r.html", 0, ["1;32", "2"]),
        ("Undetermined: not told\n  2 problems:\n    a: b", 1, ["33", "33"]),
        ("nothing speaks against equivalence\n\nstress 1", 0, ["1;32"]),
        ("Observation(4 samples)\nwrote A.npz", 0, ["2"]),
    ],
)
def test_what_stands_out(text, code, painted, capsys, monkeypatch):
    terminal.show_result(text, code)
    assert capsys.readouterr().out == text + "\n"
    monkeypatch.setenv("FORCE_COLOR", "1")
    terminal.show_result(text, code)
    out = capsys.readouterr().out
    assert ESCAPE.sub("", out) == text + "\n"
    assert [one for one in re.findall(r"\x1b\[([0-9;]+)m", out) if one != "0"] == painted


def test_numbers_on_stdout_stand_alone_there(capsys):
    assert parser.main(["info", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["python"].startswith("3.")


def test_info_is_written(tmp_path, capsys):
    assert parser.main(["info", "--quiet", "--json", str(tmp_path / "f.json")]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "f.json").read_text())["threads"] >= 1


def test_a_quiet_demo_says_what_it_made(tmp_path, capsys, monkeypatch):
    def run(out, quick):
        sys.stdout.write("said")
        out.mkdir()
        (out / "page.html").write_text("page")

    monkeypatch.setitem(sys.modules, "diffeo.demos.scalar.experiment", SimpleNamespace(run=run))
    assert parser.main(["demo", "scalar", "--out", str(tmp_path / "d"), "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == [str(tmp_path / "d" / "page.html")]
    assert found["demo"] == "scalar"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_commands_options_and_choices(shell, capsys):
    pytest.importorskip("shtab")
    assert parser.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("observe", "landmarks", "isometric"):
        assert word in script
    if shell != "bash":
        return
    for typed, expected in (
        ("diffeo scr", "screen"),
        ("diffeo compare --land", "--landmarks"),
        ("diffeo demo h", "horse"),
    ):
        words = " ".join(f"'{word}'" for word in typed.split())
        last = len(typed.split()) - 1
        ask = f"COMP_WORDS=({words}); COMP_CWORD={last}; _shtab_diffeo; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
        assert done.stdout.split() == [expected], done.stderr


def test_completion_without_shtab(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert parser.main(["completion", "zsh"]) == 2
    assert "pip install 'diffeo[completion]'" in capsys.readouterr().err
