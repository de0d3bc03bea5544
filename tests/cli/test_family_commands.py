"""diffeo observe with many weights, and diffeo family: from checkpoints to a page in two commands."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import diffeo
import numpy as np
import pytest
from diffeo.cli import family_commands, parser
from support.families import smooth_family


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A factory, weights of three networks of which one is of another shape, and inputs."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_model

    monkeypatch.chdir(tmp_path)

    def make():
        return torch.nn.Sequential(torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, 4)).double()

    monkeypatch.setitem(sys.modules, "made", SimpleNamespace(make=make))
    (tmp_path / "run").mkdir()
    for step, seed in ((2, 0), (10, 1), (100, 2)):
        torch.manual_seed(seed)
        save_model(make(), f"run/step-{step}.safetensors")
    np.save("x.npy", np.random.default_rng(0).random((250, 2)))
    return tmp_path, [f"run/step-{step}.safetensors" for step in (10, 100, 2)]


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Observations of three networks and their common points, as files."""
    monkeypatch.chdir(tmp_path)
    observations, landmarks, held_out = smooth_family((True, False, True), 200)
    common = {}
    for k, name in enumerate(observations):
        observations[name].save(f"net-{10 - k}.safetensors")
        common[f"net-{10 - k}.points"] = np.concatenate([landmarks[name], held_out[name]])
    np.savez("common.npz", **common)
    return [f"net-{10 - k}.safetensors" for k in range(3)]


def test_many_weights_are_written_to_a_folder_with_their_common_points(run, capsys):
    _, weights = run
    assert (
        parser.main(
            ["observe", "made:make", "--weights", *weights, "--inputs", "x.npy", "-o", "seen", "--json", "seen.json"]
        )
        == 0
    )
    with open("seen.json", encoding="utf-8") as file:
        found = json.load(file)
    assert {name: one["samples"] for name, one in found["networks"].items()} == {f"step-{k}": 200 for k in (2, 10, 100)}
    assert found["common_inputs"] == 50
    assert "wrote 3 files and seen/common.npz, 50 common inputs" in capsys.readouterr().out
    common = np.load("seen/common.npz")
    inputs = np.load("x.npy")
    for step in (2, 10, 100):
        assert common[f"step-{step}.points"].shape == (50, 4)
        assert common[f"step-{step}.jacobians"].shape == (50, 4, 2)
        assert np.load(f"seen/step-{step}.npz")["points"].shape == (200, 4)
    # All of them at the same inputs, which are none of those that are observed.
    from diffeo.networks.saved import load_network

    network = load_network("made:make", "run/step-10.safetensors")
    outputs = diffeo.capture(network, inputs, "")[""]
    taken = [int(np.abs(outputs - row).sum(axis=1).argmin()) for row in common["step-10.points"]]
    assert len(set(taken)) == 50
    assert np.abs(np.load("seen/step-10.npz")["points"][:, None] - outputs[taken]).max(axis=2).min() > 1e-9


def test_common_inputs_of_ones_own(run, capsys):
    _, weights = run
    np.save("c.npy", np.random.default_rng(1).random((40, 2)))
    command = ["observe", "made:make", "--weights", weights[0], "--common", "c.npy", "--inputs", "x.npy", "-o", "seen"]
    assert parser.main(command) == 0
    assert np.load("seen/common.npz")["step-10.points"].shape == (40, 4)
    assert np.load("seen/step-10.npz")["points"].shape == (250, 4)
    np.save("c.npy", np.ones((40, 3)))
    assert parser.main(command) == 2
    assert "common inputs have shape (3,)" in capsys.readouterr().err


def test_many_weights_need_a_folder(run, capsys):
    _, weights = run
    assert parser.main(["observe", "made:make", "--weights", *weights, "--inputs", "x.npy", "-o", "A.npz"]) == 2
    assert "-o FOLDER" in capsys.readouterr().err


def test_a_family_is_compared_in_the_order_of_its_numbers(seen, capsys):
    command = ["family", *seen, "common.npz", "--common", "common.npz", "--html", "f.html", "--save", "f.safetensors"]
    assert parser.main([*command, "--checkpoint", "work", "--jobs", "1", "--json", "f.json"]) == 0
    out = capsys.readouterr().out
    family = diffeo.load("f.safetensors")
    assert family.names == ["net-8", "net-9", "net-10"]
    assert family.classes == [["net-8", "net-10"], ["net-9"]]
    assert family.verdicts[0, 1] == "a_to_b"
    assert family.summary() in out
    assert "wrote f.html" in out
    with open("f.json", encoding="utf-8") as file:
        found = json.load(file)
    assert found["classes"] == family.classes
    assert [(one["a"], one["b"], one["verdict"]) for one in found["pairs"]] == [
        (family.names[i], family.names[j], cell.verdict) for (i, j), cell in family.cells.items()
    ]
    with open("f.html", encoding="utf-8") as file:
        page = file.read()
    assert "diffeo family net-10.safetensors" in page
    assert "34 landmarks, 34 held-out inputs, drawn by seed 0" in page


def test_networks_without_common_points_are_named(seen, capsys):
    np.savez("other.npz", **{"net-10.points": np.ones((3, 5))})
    assert parser.main(["family", *seen, "--common", "other.npz"]) == 2
    assert "lacks 2 of 3 networks (net-8, net-9)" in capsys.readouterr().err


def test_names_of_files():
    assert family_commands.names_of(["a/x.npz", "a/y.npz"]) == ["x", "y"]
    assert family_commands.names_of(["a/x.npz", "b/x.npz"]) == ["a-x", "b-x"]
    with pytest.raises(diffeo.errors.ParameterError, match="more than once"):
        family_commands.names_of(["a/x.npz", "a/x.npz"])
    steps = [f"run-2/step-{k}.npz" for k in (1000, 9, 200)]
    assert family_commands.in_order(steps) == [steps[1], steps[2], steps[0]]
