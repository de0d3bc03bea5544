"""Tests of capturing: which layers, fed with what, and what is left of the network and on the disk."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffeo import errors  # noqa: E402
from diffeo.networks.capture_activations import capture  # noqa: E402
from diffeo.networks.measurement import measure  # noqa: E402
from support.networks import Call, mlp  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (20, 3))


def hook_counts(model):
    return [len(module._forward_hooks) for module in model.modules()]


# --- capture: values ---


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_capture_equals_plain_evaluation(x, batch_size):
    model = mlp(3, 5, 4, 2)
    found = capture(model, x, ["0", "3", ""], batch_size=batch_size)
    t = torch.tensor(x)
    assert list(found) == ["0", "3", ""]
    np.testing.assert_allclose(found["0"], model[0](t).detach().numpy(), atol=1e-14)
    np.testing.assert_allclose(found["3"], model[:4](t).detach().numpy(), atol=1e-14)
    np.testing.assert_allclose(found[""], model(t).detach().numpy(), atol=1e-14)


def test_in_place_operations_after_the_layer_do_not_show(x):
    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(inplace=True), nn.Linear(6, 2)).double()
    expected = model[0](torch.tensor(x)).detach().numpy()
    assert (expected < 0).any()
    np.testing.assert_array_equal(capture(model, x, "0")["0"], expected)


def test_inputs_are_not_changed_by_a_model_that_works_in_place(x):
    model = Call(lambda y: y)
    model.register_forward_pre_hook(lambda _module, arguments: arguments[0].zero_())
    before, tensor = x.copy(), torch.tensor(x)
    capture(model, x, "")
    capture(model, tensor, "")
    measure(Call(torch.tanh), x)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(tensor.numpy(), before)


def test_training_flags_gradients_and_hooks_are_as_before(x):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    model.train()
    model[1].eval()
    model[0].weight.requires_grad_(False)
    model[3].weight.grad = torch.ones_like(model[3].weight)
    flags, seen = [m.training for m in model.modules()], []
    handle = model[2].register_forward_hook(lambda module, _x, _y: seen.append(module.training))
    mean = model[1].running_mean.clone()
    first, again = capture(model, x, "")[""], capture(model, x, "")[""]
    handle.remove()
    np.testing.assert_array_equal(first, again)  # no dropout
    assert set(seen) == {False}
    assert [m.training for m in model.modules()] == flags
    assert hook_counts(model) == [0] * len(flags)
    assert torch.equal(model[1].running_mean, mean)
    assert not model[0].weight.requires_grad
    assert model[3].weight.requires_grad
    assert torch.equal(model[3].weight.grad, torch.ones_like(model[3].weight))


@pytest.mark.parametrize("function", [lambda m, x: capture(m, x, ["0", ""]), lambda m, x: measure(m, x, layer="0")])
def test_state_is_restored_after_an_exception_in_forward(x, function):
    def fail(_y):
        raise KeyError("inside")

    model = nn.Sequential(nn.Dropout(), Call(fail)).double().train()
    model[1].eval()
    flags = [m.training for m in model.modules()]
    with pytest.raises(
        errors.CaptureError, match=r"in its module '1' \(Call\), fails on rows 0 to (19|7): KeyError: 'inside'"
    ) as caught:
        function(model, x)
    assert isinstance(caught.value.__cause__, KeyError)
    assert [m.training for m in model.modules()] == flags
    assert hook_counts(model) == [0] * len(flags)


def test_patterns_match_in_module_order(x):
    model = nn.Sequential()
    model.add_module("stem", nn.Linear(3, 3))
    model.add_module("blocks", mlp(3, 4, 5))
    model.double()
    assert list(capture(model, x, "blocks.*")) == ["blocks.0", "blocks.1", "blocks.2"]
    assert list(capture(model, x, ["blocks.[02]", "stem"])) == ["blocks.0", "blocks.2", "stem"]
    assert list(capture(model, x, "*")) == ["stem", "blocks", "blocks.0", "blocks.1", "blocks.2"]


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.lin = nn.Linear(3, 3, dtype=torch.float64)
        self.unused = nn.Identity()

    def forward(self, x):
        return self.lin(torch.tanh(self.lin(x)))


def test_a_module_called_twice_needs_a_suffix(x):
    model = Twice()
    once = model.lin(torch.tensor(x)).detach().numpy()
    found = capture(model, x, ["lin:0", "lin:1", ""])
    np.testing.assert_allclose(found["lin:0"], once, atol=1e-14)
    np.testing.assert_allclose(found["lin:1"], found[""], atol=1e-14)
    assert list(capture(model, x, "l*n")) == ["lin:0", "lin:1"]
    assert list(capture(model, x, "*:1")) == ["lin:1"]
    with pytest.raises(errors.CaptureError, match=r"called 2 times.*':0'"):
        capture(model, x, "lin")
    with pytest.raises(errors.CaptureError, match="called 2 times"):
        capture(model, x, "lin:2")
    with pytest.raises(errors.CaptureError, match="called 2 times"):
        measure(model, x, layer="lin")
    weight = model.lin.weight.detach().numpy()
    np.testing.assert_allclose(measure(model, x, layer="lin:0").jacobians, np.tile(weight, (20, 1, 1)), atol=1e-14)
    np.testing.assert_array_equal(measure(model, x, layer="lin:1").jacobians, measure(model, x).jacobians)


def test_modules_that_are_not_called(x):
    with pytest.raises(errors.CaptureError, match="'unused' is not called"):
        capture(Twice(), x, "unused")
    with pytest.raises(errors.CaptureError, match="no module that matches"):
        capture(Twice(), x, "unus*")


def test_calls_that_vary_from_batch_to_batch(x):
    class Varying(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.Tanh()

        def forward(self, x):
            return self.act(x) if x.mean() < 0 else self.act(self.act(x))

    batches = [-np.abs(x), np.abs(x)]
    with pytest.raises(errors.CaptureError, match=r"row 20 are \['act:0', 'act:1'\]; before they were \['act'\]"):
        capture(Varying(), iter(batches), "a*")
    with pytest.raises(errors.CaptureError, match="varying number of times, now 1"):
        measure(Varying(), np.concatenate(batches[::-1]), layer="act:1", batch_size=20)


def test_unknown_names_list_close_ones(x):
    with pytest.raises(errors.LayerError, match=r"'blocks\.7'.*'blocks\.0'.*named_modules"):
        capture(named_blocks(), x, "blocks.7")
    with pytest.raises(errors.LayerError, match=r"'nothing\.\*'"):
        capture(named_blocks(), x, ["nothing.*"])
    with pytest.raises(errors.LayerError, match="several"):
        measure(named_blocks(), x, layer="blocks.*")


def named_blocks():
    model = nn.Sequential()
    model.add_module("blocks", mlp(3, 4, 2))
    return model


@pytest.mark.parametrize(
    "wrap",
    [
        lambda y: (None, (y, 2 * y)),
        lambda y: [y],
        lambda y: {"loss": 3, "first": y, "last": 0 * y},
        lambda y: {"logits": 0 * y, "last_hidden_state": y},
        lambda y: {"other": 0 * y, "logits": y},
        lambda y: type("Output", (), {})(),
    ],
)
def test_outputs_that_are_no_tensor(x, wrap):
    def output(y):
        value = wrap(y)
        if type(value).__name__ == "Output":
            value.loss, value.logits = torch.zeros(1), y
        return value

    model = Call(output)
    expected = model.inner(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(capture(model, x, "")[""], expected, atol=1e-14)
    np.testing.assert_allclose(measure(model, x).points, expected, atol=1e-14)


def test_output_without_a_tensor(x):
    with pytest.raises(errors.CaptureError, match="no tensor, but str"):
        capture(Call(lambda _y: "text"), x, "")


def test_convolutions_are_flattened():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 3, 3)).double()
    images = np.random.default_rng(0).standard_normal((5, 1, 6, 6))
    expected = model[0](torch.tensor(images)).detach().numpy()
    found = capture(model, images, ["0"], batch_size=2)["0"]
    assert found.shape == (5, 2 * 4 * 4)
    np.testing.assert_allclose(found, expected.reshape(5, -1), atol=1e-14)


# --- capture: to disk ---


def test_streaming_equals_memory(x, tmp_path):
    model = nn.Sequential(mlp(3, 5, 4, dtype=torch.float32), nn.Tanh())
    plain = capture(model, x, ["0.*", "1", ""], batch_size=6)
    for inputs in (x, (x[k : k + 7] for k in (0, 7, 14))):
        out = tmp_path / "deep" / "er"
        found = capture(model, inputs, ["0.*", "1", ""], batch_size=6, out=out)
        assert found.keys() == plain.keys()
        for name, values in found.items():
            assert isinstance(values, np.memmap)
            assert not values.flags.writeable
            assert values.dtype == plain[name].dtype
            np.testing.assert_allclose(values, plain[name], atol=1e-6)
        assert sorted(p.name for p in out.iterdir()) == [
            "0.0.npy",
            "0.1.npy",
            "0.2.npy",
            "1.npy",
            "@output.npy",
        ]
    np.testing.assert_array_equal(np.load(out / "0.2.npy"), found["0.2"])


def test_file_names_are_safe(x, tmp_path):
    model = nn.Sequential()
    model.add_module("/a b/c:0", nn.Linear(3, 2, dtype=torch.float64))
    model.add_module("@output", nn.Identity())
    found = capture(model, x, ["/a b/c:0", "@output", ""], out=tmp_path / "in")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    assert names == ["%2Fa%20b%2Fc%3A0.npy", "%40output.npy", "@output.npy"]
    np.testing.assert_array_equal(found["/a b/c:0"], found[""])


def test_a_failed_pass_leaves_the_old_file_and_no_draft(x, tmp_path):
    model = mlp(3, 2)
    before = np.array(capture(model, x, "", out=tmp_path)[""])
    with pytest.raises(errors.NonFiniteError):
        capture(model, iter([x, x * np.nan]), "", out=tmp_path)
    with pytest.raises(errors.NonFiniteError):
        capture(Call(lambda y: y / 0), x, "", out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["@output.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "@output.npy"), before)


def test_a_folder_that_cannot_be_made(x, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageError, match="cannot be written"):
        capture(mlp(3, 2), x, "", out=tmp_path / "file")


# --- the edges ---


def test_devices_are_taken_from_the_model_or_as_asked(x):
    model = mlp(3, 2)
    np.testing.assert_array_equal(capture(model, x, "", device="cpu")[""], capture(model, x, "")[""])
    split = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2, device="meta"))
    with pytest.raises(errors.ParameterError, match="2 devices"):
        capture(split, x, "", device="cpu")
    with pytest.raises(errors.CaptureError, match="meta device"):
        capture(split, x, "")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_results_equal_those_of_the_cpu(x):
    model = mlp(3, 5, 2)
    expected = measure(model, x)
    found = measure(model, torch.tensor(x, device="cuda"), device="cuda")
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    np.testing.assert_allclose(found.jacobians, expected.jacobians, atol=1e-12)
    np.testing.assert_allclose(capture(model.cuda(), x, "")[""], expected.points, atol=1e-12)


def test_verbose_shows_a_bar_and_silence_is_the_default(x, capsys):
    model = mlp(3, 2)
    capture(model, x, "")
    measure(model, x)
    assert capsys.readouterr() == ("", "")
    capture(model, x, "", verbose=True)
    measure(model, x, verbose=True)
    out, err = capsys.readouterr()
    assert not out
    assert err.count("20/20") == 2


def test_torch_missing(x, monkeypatch):
    model = mlp(3, 2)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(errors.MissingDependencyError, match=r"pip install 'diffeo\[torch\]'"):
        capture(model, x, "")
    with pytest.raises(errors.MissingDependencyError, match=r"diffeo\[torch\]"):
        measure(model, x)
