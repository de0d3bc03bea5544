"""The command line; what the demos compute is tested elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from types import SimpleNamespace

import diffeo
import numpy
import pytest
from diffeo import errors
from diffeo._support import core, instruction_set
from diffeo.cli import parser


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "diffeo", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def demo(monkeypatch):
    """A stand-in for the demo module, which records how it was run."""
    calls = []
    stand_in = SimpleNamespace(run=lambda out, quick: calls.append((out, quick)), calls=calls)
    monkeypatch.setitem(sys.modules, "diffeo.demos.scalar.experiment", stand_in)
    return stand_in


def test_info(capsys):
    assert parser.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if " " not in line] == []
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["diffeo"] == diffeo.__version__
    assert facts["numpy"] == numpy.__version__
    assert facts["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert int(facts["threads"]) >= 1
    in_use, available = re.fullmatch(r"(\S+) \(available: (.+)\)", facts["instructions"]).groups()
    assert in_use == core.INSTRUCTION_SET
    assert available.split(", ") == instruction_set.available()
    assert {"scipy", "scikit-learn", "torch", "matplotlib", "scikit-image"} <= set(facts)


def test_info_says_what_is_missing(capsys, monkeypatch):
    def version(package):
        raise parser.importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(parser.importlib.metadata, "version", version)
    assert parser.main(["info"]) == 0
    out = capsys.readouterr().out
    assert out.count("not installed") == 8


def test_info_explains_a_wrong_instruction_set():
    environment = {**os.environ, "DIFFEO_INSTRUCTION_SET": "abacus"}
    done = subprocess.run(
        [sys.executable, "-m", "diffeo", "info"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2
    assert done.stderr.startswith("diffeo: error: DIFFEO_INSTRUCTION_SET='abacus' is not available here: choose ")
    assert done.stdout == ""


def test_version_as_a_module():
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout == f"diffeo {diffeo.__version__}\n"
    assert done.stderr == ""


def test_version_of_the_installed_package_is_the_same():
    assert parser.importlib.metadata.version("diffeo") == diffeo.__version__


def test_help_loads_nothing_heavy():
    code = (
        "import sys\nfrom diffeo.cli import parser\n"
        "try:\n    parser.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('torch', 'sklearn', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert "diffeo demo scalar --out pictures" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "astrology"], "invalid choice: 'astrology'"),
        (["demo"], "name"),
        (["dance"], "invalid choice: 'dance'"),
        ([], "COMMAND"),
        (["info", "--loud"], "unrecognized arguments: --loud"),
        (["demo", "scalar", "--out"], "expected one argument"),
    ],
)
def test_arguments_that_do_not_exist(arguments, message, capsys, demo):
    with pytest.raises(SystemExit) as stopped:
        parser.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert demo.calls == []


def test_options_reach_the_demo(demo, tmp_path):
    assert parser.main(["demo", "scalar", "--quick", "--out", str(tmp_path)]) == 0
    assert parser.main(["demo", "scalar"]) == 0
    assert demo.calls == [(tmp_path, True), (parser.Path("diffeo-demo"), False)]


def test_errors_that_diffeo_explains_give_exit_code_two(demo, capsys):
    def run(out, quick):
        raise errors.MissingDependencyError("pictures need matplotlib")

    demo.run = run
    assert parser.main(["demo", "scalar"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "diffeo: error: pictures need matplotlib\n"
    assert captured.out == ""


def test_errors_are_one_paragraph_that_steers_no_terminal(demo, capsys, monkeypatch):
    def fail(out, quick):
        raise errors.InputError("first line\n   second \x1b[2J line")

    monkeypatch.setattr(demo, "run", fail)
    assert parser.main(["demo", "scalar"]) == 2
    said = capsys.readouterr().err
    assert said == "diffeo: error: first line second \N{REPLACEMENT CHARACTER}[2J line\n"


def test_other_errors_show_their_traceback_and_do_not_end_like_a_verdict(demo, capsys):
    def run(out, quick):
        raise ZeroDivisionError("a bug")

    demo.run = run
    assert parser.main(["demo", "scalar"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("Traceback")
    assert "ZeroDivisionError: a bug" in error
