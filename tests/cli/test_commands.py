"""diffeo observe and diffeo compare, from files to files."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.cli import commands, parser
from support.samples import smooth_map, square
from support.stored import assert_same

A, B = smooth_map(2, 4, 5), smooth_map(2, 3, 6)
COMMON = square(90, 2, 9)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two observations of 500 inputs, the first 90 of which are common, and pairs of rows."""
    monkeypatch.chdir(tmp_path)
    for name, measure, seed in (("A", A, 1), ("B", B, 2)):
        points, jacobians = measure(np.vstack([COMMON, square(410, 2, seed)]))
        np.savez(f"{name}.npz", points=points, jacobians=jacobians)
    rows = np.column_stack([np.arange(90)] * 2)
    np.savetxt("pairs.csv", rows, fmt="%d", delimiter=",", header="a,b", comments="")
    np.savetxt("landmarks.csv", rows[:10], fmt="%d", delimiter=",")
    np.savetxt("held-out.csv", rows[10:], fmt="%d", delimiter=",")
    return tmp_path


def test_compare_writes_report_page_and_numbers_of_one_verdict(folder, capsys):
    command = "compare A.npz B.npz --landmarks landmarks.csv --held-out held-out.csv --jobs 1"
    assert parser.main([*command.split(), "--html", "r.html", "--json", "r.json", "--save", "r.safetensors"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.startswith("Equivalent: ")
    report = diffeo.load("r.safetensors")
    assert report.summary() in captured.out
    assert "wrote r.html" in captured.out
    found = json.loads((folder / "r.json").read_text(encoding="utf-8"))
    assert found["verdict"] == report.verdict == "equivalent"
    assert (found["n_landmarks"], found["n_held_out"]) == (10, 80)
    assert report.forward.error < 0.01
    assert found["settings"]["command"].startswith(f"diffeo {command}")
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert f"diffeo {command}" in page
    assert len(report.settings["sha256"]["A.npz"]) == 64
    assert "500 samples, 4 measurements, dim 2, from jacobians" in page


def test_compare_without_held_out_pairs_holds_half_of_them_out(folder, capsys):
    assert (
        parser.main(["compare", "A.npz", "B.npz", "--landmarks", "pairs.csv", "--seed", "3", "--save", "r.safetensors"])
        == 0
    )
    said = "45 of the 90 pairs were held out, drawn by seed 3; 45 were landmarks"
    assert said in capsys.readouterr().out
    report = diffeo.load("r.safetensors")
    assert (report.n_landmarks, len(report.forward.true)) == (45, 45)
    assert report.settings["held_out"] == said


def test_anything_less_than_equivalent_ends_with_one(folder, capsys):
    # The error is some hundredths of a percent: a margin below it leaves the same match open, since nothing is lost.
    command = "compare A.npz B.npz --landmarks landmarks.csv --held-out held-out.csv --margin 1e-9"
    assert parser.main(command.split()) == 1
    said = capsys.readouterr().out
    assert said.startswith("Undetermined")
    assert "would decide it: From A to B: " in said


def test_sides_of_different_dimensions_are_compared_either_way(folder, capsys):
    line = smooth_map(1, 3, 3)
    points, jacobians = line(np.vstack([COMMON, square(410, 2, 7)])[:, :1])
    np.savez("C.npz", points=points, jacobians=jacobians)
    for sides, verdict in (("A.npz C.npz", "from A to B"), ("C.npz A.npz", "from B to A")):
        command = f"compare {sides} --landmarks landmarks.csv --held-out held-out.csv"
        assert parser.main(command.split()) == 1
        assert capsys.readouterr().out.startswith(f"One way only: {verdict}, not back")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"landmarks": "absent.csv"}, "absent.csv: No such file|No such file"),
        ({"a": "landmarks.csv"}, "landmarks.csv"),
        ({"a": "alone.npz"}, "alone.npz holds points alone"),
        ({"landmarks": "far.csv"}, r"1 of 3 indices are outside of \[0, 500\)"),
        ({"held_out": "landmarks.csv"}, "10 of 10 held-out pairs .* are landmarks"),
        ({"held_out": "few"}, "10 pairs are too few to hold some out: .* 20 of them beside 5 landmarks; bring 25"),
        ({"margin": "2"}, "margin must be"),
        ({"html": "no/folder.html"}, "folder.html"),
    ],
)
def test_errors_end_with_two_and_say_why(change, message, folder, capsys):
    np.savez("alone.npz", points=A(COMMON)[0])
    (folder / "far.csv").write_text("0,0\n1,1\n2,600\n")
    options = {
        "a": "A.npz",
        "landmarks": "landmarks.csv",
        "held_out": "held-out.csv",
        "margin": "0.05",
        "html": "r.html",
    }
    options |= change
    first, *rest = ["compare", options.pop("a"), "B.npz"]
    held_out = options.pop("held_out")
    given = [first, *rest, *([] if held_out == "few" else ["--held-out", held_out])]
    for name, value in options.items():
        given += [f"--{name}", value]
    assert parser.main(given) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("diffeo: error: ")
    assert re.search(message, captured.err)


def test_warnings_are_sentences_on_standard_error_and_in_the_report(folder, capsys):
    points, jacobians = A(np.vstack([COMMON, square(410, 2, 1)]))
    jacobians[[100, 200]] = 0.0
    np.savez("A.npz", points=points, jacobians=jacobians, dim=2)
    command = "compare A.npz B.npz --landmarks landmarks.csv --held-out held-out.csv --save r.safetensors"
    assert parser.main(command.split()) == 0
    said = "2 of 500 samples have local covariances of rank below dim = 2"
    errors_said = capsys.readouterr().err
    assert errors_said.count(said) == 1
    assert errors_said.startswith("diffeo: warning: ")
    assert said in diffeo.load("r.safetensors").settings["warnings"][0]


@pytest.mark.parametrize(("count", "held"), [(25, 20), (39, 20), (41, 20), (100, 50), (1001, 500)])
def test_pairs_are_split_without_overlap(count, held):
    numbers = np.arange(float(count))[:, None]
    pairs = diffeo.Pairs(numbers, -numbers)
    kept, out, said = commands.hold_out(pairs, 2, 0)
    assert (len(out), len(kept)) == (held, count - held)
    assert_same(np.sort(np.vstack([kept.points_a, out.points_a]), axis=0), numbers)
    assert_same(out.points_b, -out.points_a)
    assert str(held) in said
    again = commands.hold_out(pairs, 2, 0)
    assert_same(out.points_a, again[1].points_a)
    with pytest.raises(errors.SampleSizeError, match="bring 25 pairs"):
        commands.hold_out(pairs[:24], 2, 0)


# Observing

SOURCE = """
import torch
def make():
    return torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """A saved network in the current directory, with inputs."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)).double()
    save_model(net, "w.safetensors")
    np.save("x.npy", square(200, 2, 1))
    yield SimpleNamespace(net=net, given=["observe", f"{name}:make", "--weights", "w.safetensors", "--inputs", "x.npy"])
    sys.modules.pop(name, None)


def test_observe_writes_what_observe_gives(network, capsys):
    x = np.load("x.npy")
    assert (
        parser.main(
            [*network.given, "--layer", "1", "--neurons", "4", "--seed", "5", "-o", "A.npz", "--json", "A.json"]
        )
        == 0
    )
    assert "wrote A.npz" in capsys.readouterr().out
    with open("A.json", encoding="utf-8") as file:
        found = json.load(file)
    assert (found["samples"], found["measurements"], found["layer"], found["file"]) == (200, 4, "1", "A.npz")
    expected = diffeo.observe(network.net, x, layer="1", neurons=4, rng=5)
    from diffeo.files.arrays import read_observation

    assert_same(expected, read_observation("A.npz"))
    assert parser.main([*network.given, "--layer", "1", "--neurons", "4", "--seed", "5", "-o", "A.safetensors"]) == 0
    assert_same(expected, diffeo.load("A.safetensors"))


def test_observe_by_bursts_smoothed_and_along_tangents(network):
    x = np.load("x.npy")
    more = ["--covariances", "bursts", "--bursts", "40", "--scale", "0.02", "--dim", "2", "-o", "A.npz"]
    assert parser.main([*network.given, *more]) == 0
    expected = diffeo.observe(network.net, x, covariances="bursts", n_bursts=40, scale=0.02, dim=2)
    from diffeo.files.arrays import read_observation

    assert_same(expected.whitening, read_observation("A.npz").whitening)
    assert parser.main([*network.given, "--smooth", "0.05", "--reduce", "mean", "-o", "A.npz"]) == 0
    smooth = diffeo.observe(network.net, x, smooth=0.05, reduce="mean")
    assert_same(smooth.points, read_observation("A.npz").points)
    np.save("t.npy", np.tile(np.array([[0.6], [0.8]]), (200, 1, 1)))
    assert parser.main([*network.given, "--tangents", "t.npy", "-o", "A.npz"]) == 0
    assert read_observation("A.npz").dim == 1


@pytest.mark.parametrize(("activation", "bursts"), [("Tanh", None), ("ReLU", 16)])
def test_observe_takes_slopes_where_it_meets_rectifiers(network, activation, bursts, capsys):
    from diffeo.files.arrays import read_observation
    from safetensors.torch import save_model

    torch = pytest.importorskip("torch")
    name = network.given[1].partition(":")[0]
    with open(f"{name}.py", "w", encoding="utf-8") as file:
        file.write(SOURCE.replace("Tanh", activation).replace("6", "40"))
    net = torch.nn.Sequential(torch.nn.Linear(2, 40), getattr(torch.nn, activation)(), torch.nn.Linear(40, 3)).double()
    save_model(net, "w.safetensors")
    assert parser.main([*network.given, "-o", "A.npz"]) == 0
    assert ("bursts of 16" in capsys.readouterr().err) == (bursts is not None)
    with errors.unsaid(errors.PiecewiseLinearWarning):
        expected = diffeo.observe(net, np.load("x.npy"))
    assert expected.options.n_bursts == bursts
    assert_same(expected, read_observation("A.npz"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-o", "A.csv"], "is written as .npz or .safetensors"),
        (["-o", "A.npz", "--layer", "9"], "9"),
        (["-o", "A.npz", "--covariances", "jacobians", "--scale", "0.1"], "--scale is for --covariances auto"),
        (["-o", "A.npz", "--inputs", "w.safetensors"], "inputs are read from an npy file"),
        (["-o", "A.npz", "--inputs", "absent.npy"], "absent.npy"),
        (["-o", "no/A.npz"], "A.npz"),
        (["-o", "A.npz", "--neurons", "100"], "100"),
    ],
)
def test_observe_says_what_it_cannot_do(more, message, network, capsys, tmp_path):
    assert parser.main([*network.given, *more]) == 2
    error = capsys.readouterr().err
    assert error.startswith("diffeo: error: ")
    assert message in error
    assert not list(tmp_path.glob("A.*"))


def test_observing_executes_nothing_but_the_factory(network, tmp_path, monkeypatch):
    touched = []
    monkeypatch.setattr("pickle.load", lambda *_: touched.append("unpickled"))
    import os

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    np.save("x.npy", np.array([Bomb()], dtype=object))
    assert parser.main([*network.given, "-o", "A.npz"]) == 2
    assert touched == []
    assert not (tmp_path / "executed").exists()


def test_screen_needs_no_pairs(folder, capsys):
    assert parser.main(["screen", "A.npz", "B.npz", "--json", "s.json"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("nothing speaks against equivalence")
    assert json.loads((folder / "s.json").read_text(encoding="utf-8"))["differences"] == []
    points, jacobians = smooth_map(1, 3, 3)(square(500, 1, 7))
    np.savez("C.npz", points=points, jacobians=jacobians)
    assert parser.main(["screen", "A.npz", "C.npz"]) == 1
    assert "A has intrinsic dimension 2 and B 1" in capsys.readouterr().out
    assert parser.main(["screen", "A.npz", "B.npz", "--json", "no/s.json"]) == 2


@pytest.mark.parametrize("command", ["observe", "compare", "screen"])
def test_help_teaches_by_example(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        parser.main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert f"    diffeo {command} " in text
    # Every example is one that the parser takes.
    examples = text.replace("\\\n", " ").split("\n")
    for example in (line.split(">")[0] for line in examples if line.startswith(f"    diffeo {command} ")):
        assert parser._parser().parse_args(example.split()[1:]).command == command


def test_observation_is_what_python_gives(folder):
    points, jacobians = A(np.vstack([COMMON, square(410, 2, 1)]))
    from diffeo.files.arrays import read_observation

    assert_same(Observation.from_jacobians(points, jacobians), read_observation("A.npz"))


def test_observe_refines_and_writes_the_inputs_that_were_added(tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "steep.py").write_text(
        "import torch\n\n\ndef make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5)).double()\n"
    )
    torch.manual_seed(0)
    import steep

    net = steep.make()
    with torch.no_grad():
        net[0].weight *= 8
    safetensors.save_model(net, "w.safetensors")
    np.save("x.npy", square(300, 2, 1))
    command = "observe steep:make --weights w.safetensors --inputs x.npy --refine 120 --added more.npy -o A.npz"
    assert parser.main(command.split()) == 0
    said = capsys.readouterr().out
    added = np.load("more.npy")
    assert f"{len(added)} inputs added" in said
    assert np.load("A.npz")["points"].shape == (300 + len(added), 5)
    assert parser.main(command.replace("--refine 120 ", "").split()) == 2
    assert "--refine" in capsys.readouterr().err


def test_observe_keeps_neurons_that_are_suggested(tmp_path, monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "wide.py").write_text(
        "import torch\n\n\ndef make():\n"
        "    return torch.nn.Sequential(torch.nn.Linear(2, 30), torch.nn.Tanh()).double()\n"
    )
    torch.manual_seed(0)
    import wide

    net = wide.make()
    safetensors.save_model(net, "w.safetensors")
    x = square(300, 2, 1)
    np.save("x.npy", x)
    command = "observe wide:make --weights w.safetensors --inputs x.npy --suggest-neurons -o A.npz"
    assert parser.main(command.split()) == 0
    assert "kept 5 neurons" in capsys.readouterr().out
    chosen = diffeo.suggest_neurons(diffeo.observe(net, x)).neurons
    kept = np.load("A.npz")
    np.testing.assert_array_equal(kept["neurons"], chosen)
    np.testing.assert_array_equal(kept["points"], diffeo.observe(net, x, neurons=chosen).points)
    assert kept["jacobians"].shape == (300, 5, 2)
