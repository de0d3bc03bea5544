"""Networks from MODULE:FACTORY and safetensors."""

from __future__ import annotations

import sys
import textwrap

import pytest

torch = pytest.importorskip("torch")

from diffeo import errors  # noqa: E402
from diffeo.networks.saved import load_network  # noqa: E402
from safetensors.torch import save_file, save_model  # noqa: E402

SOURCE = """
import torch
from torch import nn

def make(width=3):
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 1))

def wide():
    return make(4)

def number():
    return 3

made = make()
version = 1

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(2, 2, bias=False)
        self.second = nn.Linear(2, 2, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))

class Makers:
    inner = make
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module in the current directory, under a name of its own in every test."""
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(SOURCE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield name
    sys.modules.pop(name, None)


def saved(network, path="w.safetensors"):
    save_model(network, path)
    return path


def net(width=3, dtype=torch.float32):
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 1)).to(dtype)


@pytest.mark.parametrize("factory", ["make", "made", "Makers.inner"])
def test_network_gets_its_weights(module, factory):
    loaded = load_network(f"{module}:{factory}", saved(net()))
    x = torch.rand(5, 2)
    assert torch.equal(loaded(x), net()(x))


@pytest.mark.parametrize(
    ("stored", "asked", "used"),
    [
        (torch.float64, None, torch.float64),
        (torch.float32, None, torch.float32),
        (torch.float16, None, torch.float32),
        (torch.float32, "float64", torch.float64),
        (torch.float64, "float32", torch.float32),
    ],
)
def test_precision_is_that_of_the_weights_unless_asked_for(module, stored, asked, used):
    loaded = load_network(f"{module}:make", saved(net(dtype=stored)), asked)
    assert {value.dtype for value in loaded.parameters()} == {used}
    if asked is None and stored is not torch.float16:
        assert torch.equal(loaded[0].weight, net(dtype=stored)[0].weight)


def test_tied_weights_are_stored_once_and_shared_again(module):
    sys.path.insert(0, ".")
    tied = __import__(module).Tied()
    loaded = load_network(f"{module}:Tied", saved(tied))
    assert loaded.second.weight is loaded.first.weight
    x = torch.rand(3, 2)
    assert torch.equal(loaded(x), tied(x))


@pytest.mark.parametrize(
    ("specification", "message"),
    [
        ("networks", "is not MODULE:FACTORY"),
        (":make", "is not MODULE:FACTORY"),
        ("absent_module_of_networks:make", "no module 'absent_module_of_networks'"),
        ("{}:maek", "has no 'maek'; close: make, made"),
        ("{}:version", "is a int, not a factory"),
        ("{}:number", "gives a int, not a torch.nn.Module"),
    ],
)
def test_names_that_do_not_lead_to_a_network(module, specification, message):
    with pytest.raises(errors.ParameterError, match=message):
        load_network(specification.format(module), saved(net()))


def test_errors_of_the_users_own_module_stay_as_they_are(module, tmp_path):
    (tmp_path / "broken_networks.py").write_text("import absent_module_of_networks\n")
    with pytest.raises(ModuleNotFoundError, match="absent_module_of_networks") as caught:
        load_network("broken_networks:make", saved(net()))
    assert not isinstance(caught.value, errors.DiffeoError)


def test_weights_of_another_network_are_explained(module):
    with pytest.raises(errors.InputError, match=r"of another shape: .*0\.bias is \(3,\), not \(4,\)"):
        load_network(f"{module}:wide", saved(net()))
    weights = net().state_dict()
    weights["3.weight"] = weights.pop("2.weight")
    save_file(weights, "w.safetensors")
    with pytest.raises(errors.InputError, match=r"missing: 2\.weight; unexpected: 3\.weight"):
        load_network(f"{module}:make", "w.safetensors")


def test_only_safetensors_are_read(module, tmp_path):
    torch.save(net().state_dict(), "w.pt")
    with pytest.raises(errors.StorageError, match=r"w\.pt: not a safetensors file.*save_model"):
        load_network(f"{module}:make", "w.pt")
    with pytest.raises(errors.StorageError, match="absent"):
        load_network(f"{module}:make", "absent.safetensors")
    data = (tmp_path / saved(net())).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-4])
    with pytest.raises(errors.StorageError, match="damaged"):
        load_network(f"{module}:make", "cut.safetensors")


@pytest.mark.parametrize(
    "wrapped",
    [
        torch.nn.DataParallel,
        lambda model: torch.compile(model, backend="eager"),
        torch.optim.swa_utils.AveragedModel,
        lambda model: torch.compile(torch.nn.DataParallel(model), backend="eager"),
        lambda model: torch.nn.Sequential(*[torch.compile(part, backend="eager") for part in model]),
    ],
    ids=["parallel", "compiled", "averaged", "compiled and parallel", "parts of it compiled"],
)
def test_names_that_wrappers_put_before_others_do_not_count(module, wrapped):
    inner = net()
    save_file({key: value.contiguous() for key, value in wrapped(inner).state_dict().items()}, "w.safetensors")
    found = load_network(f"{module}:make", "w.safetensors")
    for ours, theirs in zip(found.parameters(), inner.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    with pytest.raises(errors.InputError, match="of another shape"):
        load_network(f"{module}:wide", "w.safetensors")


def test_prefixes_that_would_make_two_weights_one_count(module):
    weight = torch.zeros(2)
    save_file({"module.a": weight, "a": weight + 1}, "w.safetensors")
    with pytest.raises(errors.InputError, match=r"unexpected: a, module\.a"):
        load_network(f"{module}:make", "w.safetensors")
