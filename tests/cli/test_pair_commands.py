"""diffeo pairs, and diffeo compare --pairs."""

from __future__ import annotations

import json

import diffeo
import numpy as np
import pytest
from diffeo import Pairs
from diffeo.cli import parser
from support.paired import smooth_pairs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of pairs, in either form."""
    monkeypatch.chdir(tmp_path)
    pairs, *_ = smooth_pairs(150)
    pairs.save("pairs.safetensors")
    names = ("points_a", "points_b", "jacobians_a", "jacobians_b")
    np.savez("pairs.npz", **{name: getattr(pairs, name) for name in names})
    np.savez("points.npz", points_a=pairs.points_a)
    pairs[100:].save("held-out.safetensors")
    pairs[:100].save("first.safetensors")
    return pairs


@pytest.mark.parametrize("name", ["pairs.npz", "pairs.safetensors"])
def test_pairs_are_judged(name, folder, capsys):
    assert parser.main(["compare", "--pairs", name, "--save", "r.safetensors", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Equivalent: ")
    assert "30 of the 150 pairs were held out, drawn by seed 0" in out
    report = diffeo.load("r.safetensors")
    assert report.coordinates == "pairs"
    assert len(report.settings["sha256"][name]) == 64


def test_quiet_leaves_the_exit_code_and_the_files(folder, capsys):
    assert parser.main(["compare", "--pairs", "pairs.npz", "--json", "r.json", "--jobs", "1", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    with open("r.json", encoding="utf-8") as file:
        assert json.load(file)["verdict"] == "equivalent"


def test_held_out_pairs_may_be_in_a_file_of_their_own(folder, capsys):
    command = ["compare", "--pairs", "first.safetensors", "--held-out", "held-out.safetensors", "--jobs", "1"]
    assert parser.main(command) == 0
    assert "50 held-out pairs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["--pairs", "points.npz"], "must hold points_a and points_b"),
        (["--pairs", "none.npz"], "none.npz"),
        (["A.npz", "B.npz", "--pairs", "pairs.npz"], "leave these out"),
        (["A.npz", "B.npz"], "give A.npz, B.npz and --landmarks, or --pairs"),
    ],
)
def test_what_does_not_fit_is_said(command, message, folder, capsys):
    assert parser.main(["compare", *command]) == 2
    assert message in capsys.readouterr().err


def test_another_object_is_no_file_of_pairs(folder, capsys):
    observation = diffeo.Observation.from_jacobians(folder.points_a, folder.jacobians_a)
    observation.save("o.safetensors")
    assert parser.main(["compare", "--pairs", "o.safetensors"]) == 2
    assert "holds a Observation, not Pairs" in capsys.readouterr().err


NETWORKS = """
import torch
def make(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(2, 12), torch.nn.Tanh(), torch.nn.Linear(12, 5)).double()
def make_a(): return make(0)
def make_b(): return make(1)
"""


@pytest.mark.parametrize("form", ["npz", "safetensors"])
def test_two_saved_networks_from_weights_to_verdict(form, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch")
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = f"pair_networks_{form}"
    (tmp_path / f"{module}.py").write_text(NETWORKS, encoding="utf-8")
    networks = __import__(module)
    for side, network in (("a", networks.make(5)), ("b", networks.make(6))):
        save_file(network.state_dict(), f"{side}.safetensors")
    np.save("x.npy", np.random.default_rng(0).random((150, 2)))
    command = (
        f"pairs {module}:make_a {module}:make_b --weights-a a.safetensors --weights-b b.safetensors --inputs x.npy"
    )
    assert parser.main([*command.split(), "-o", f"p.{form}"]) == 0
    assert "150 pairs of 5 measurements of A and 5 of B, with derivatives" in capsys.readouterr().out
    if form == "safetensors":
        assert isinstance(diffeo.load("p.safetensors"), Pairs)
    assert parser.main(["compare", "--pairs", f"p.{form}", "--jobs", "1"]) == 0
    assert parser.main([*command.split(), "-o", "p.csv"]) == 2
    assert "written as .npz or .safetensors" in capsys.readouterr().err
