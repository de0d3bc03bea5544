"""Tests of capturing from transformers, recurrent and convolutional networks: what is reduced, and how."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffeo  # noqa: E402
from diffeo import RandomProjection, errors  # noqa: E402
from diffeo.networks.capture_activations import capture  # noqa: E402
from diffeo.networks.measurement import measure, measure_layers  # noqa: E402
from support.networks import mlp  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def sequences():
    return np.random.default_rng(0).standard_normal((10, 5, 4))


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((6, 1, 8, 8))


def encoder(**options):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 8, activation="gelu", batch_first=True)
    return nn.TransformerEncoder(layer, 2, **options).double()


# --- reductions ---


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (None, lambda y: y.reshape(10, 20)),
        ("mean", lambda y: y.mean(1)),
        ("first", lambda y: y[:, 0]),
        ("last", lambda y: y[:, -1]),
        (lambda y: y[:, 1:3], lambda y: y[:, 1:3].reshape(10, 8)),
    ],
)
def test_tokens_are_reduced_by_the_stated_rule(sequences, rule, expected):
    model = encoder().eval()
    whole = model(torch.tensor(sequences)).detach().numpy()
    found = capture(model, sequences, ["layers.1", ""], reduce=rule, batch_size=3)
    for values in found.values():
        np.testing.assert_allclose(values, expected(whole), atol=1e-12)
    by_pattern = capture(model, sequences, "layers.1", reduce={"layers.?": rule})["layers.1"]
    np.testing.assert_allclose(by_pattern, found[""], atol=1e-12)


def test_feature_maps_have_a_mean_but_no_last_position(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(108, 2)).double()
    maps = model[:2](torch.tensor(images)).detach().numpy()
    found = capture(model, images, ["1", ""], reduce="mean")
    np.testing.assert_allclose(found["1"], maps.mean((2, 3)), atol=1e-14)
    assert found[""].shape == (6, 2)  # no positions, so it stays
    with pytest.raises(errors.CaptureError, match=r"\(6, 3, 6, 6\), whose positions have no last one.*'mean'"):
        capture(model, images, ["1"], reduce="last")


def test_rules_can_differ_between_layers(sequences):
    model = encoder()
    found = capture(model, sequences, ["layers.0", "layers.1"], reduce={"layers.0": "mean"})
    assert [values.shape for values in found.values()] == [(10, 4), (10, 20)]


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        ("median", errors.ParameterError, "'median'"),
        (3, errors.ParameterError, "got 3"),
        ({"layers.0": "sum"}, errors.ParameterError, "'sum'"),
        ({"layers.0": {"layers.0": "mean"}}, errors.ParameterError, "not to mappings"),
        ({"layers.7": "mean"}, errors.LayerError, r"'layers.7', which is none"),
        (lambda y: y.detach().numpy(), errors.CaptureError, "reduce gives ndarray for layer 'layers.0'"),
        (lambda y: y.mean(), errors.CaptureError, r"shape \(\) \(from reduce\)"),
        (lambda y: y.missing, errors.CaptureError, "AttributeError"),
    ],
)
def test_rules_that_cannot_be_used(sequences, rule, error, message):
    with pytest.raises(error, match=message):
        capture(encoder(), sequences, "layers.0", reduce=rule)
    with pytest.raises(error, match=message):
        measure(encoder(), sequences, layer="layers.0", reduce=rule)


def test_jacobians_and_bursts_are_of_what_is_reduced(sequences):
    model = encoder()
    tangents = np.linalg.qr(np.random.default_rng(1).standard_normal((10, 20, 2)))[0].reshape(10, 5, 4, 2)
    whole = measure(model, sequences, layer="layers.0", tangents=tangents)
    found = measure(model, sequences, layer="layers.0", tangents=tangents, reduce="mean")
    np.testing.assert_allclose(found.points, whole.points.reshape(10, 5, 4).mean(1), atol=1e-13)
    np.testing.assert_allclose(found.jacobians, whole.jacobians.reshape(10, 5, 4, 2).mean(1), atol=1e-13)
    bursts = measure(model, sequences, layer="layers.0", reduce="last", covariances="bursts", n_bursts=3).bursts
    assert bursts.shape == (10, 3, 4)


def test_random_projections_mix_neurons_alike_everywhere(images):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.Tanh()).double()
    whole = capture(model, images, "")[""]
    rule = RandomProjection(7, rng=3)
    found = capture(model, images, "", reduce=rule)[""]
    matrix = np.random.default_rng(3).standard_normal((108, 7)) / np.sqrt(108)
    np.testing.assert_allclose(found, whole @ matrix, atol=1e-13)
    np.testing.assert_allclose(measure(model, images, reduce=rule, covariances="bursts").points, found, atol=1e-13)
    with pytest.raises(errors.ParameterError, match="n_components"):
        RandomProjection(0)
    with pytest.raises(errors.DataTypeError, match="int64"):
        capture(nn.Identity(), np.ones((3, 4), int), "", reduce=rule)


# --- padding ---


class Masked(nn.Module):
    """A transformer that is given its padding, as tokenizers do."""

    def __init__(self):
        super().__init__()
        self.encoder = encoder()

    def forward(self, *, hidden, attention_mask):
        return {"loss": None, "last_hidden_state": self.encoder(hidden, src_key_padding_mask=attention_mask == 0)}


@pytest.mark.parametrize("rule", ["mean", "first", "last"])
def test_padding_does_not_count(sequences, rule):
    lengths = np.array([5, 3, 1, 4, 2, 5, 3, 2, 4, 1])
    mask = (np.arange(5) < lengths[:, None]).astype(np.int64)
    padded = np.where(mask[:, :, None] == 1, sequences, 1e3)
    batches = [{"hidden": padded[k : k + 4], "attention_mask": mask[k : k + 4]} for k in (0, 4, 8)]
    model = Masked()
    found = capture(model, batches, ["encoder.layers.0", ""], reduce=rule)
    for name, values in found.items():
        for row, (sequence, length) in enumerate(zip(sequences, lengths, strict=True)):
            short = sequence[None, :length]
            alone = capture(model.encoder, short, name.removeprefix("encoder."), reduce=rule)
            np.testing.assert_allclose(values[row], alone[name.removeprefix("encoder.")][0], atol=1e-10)


def test_masks_that_do_not_fit(sequences):
    nothing = np.zeros((10, 5), int)
    with pytest.raises(errors.CaptureError, match="10 samples of a batch are all padding"):
        capture(Masked(), [{"hidden": sequences, "attention_mask": nothing}], "", reduce="mean")

    class Pooled(nn.Module):
        def forward(self, *, hidden, attention_mask):
            return hidden[:, :2]

    with pytest.raises(errors.CaptureError, match=r"\(10, 2, 4\), and the mask has shape \(10, 5\)"):
        capture(Pooled(), [{"hidden": sequences, "attention_mask": nothing + 1}], "", reduce="mean")


def test_the_fast_path_of_transformers_does_not_hide_modules(sequences):
    model = encoder().eval()
    names = ["layers.0", "layers.0.linear1", "layers.1.self_attn"]
    assert [values.shape for values in capture(model, sequences, names).values()] == [(10, 20), (10, 40), (10, 20)]
    assert torch.backends.mha.get_fastpath_enabled()


# --- recurrent networks ---


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_networks_give_all_steps_or_the_last(sequences, kind):
    torch.manual_seed(0)
    model = kind(4, 3, num_layers=2, batch_first=True).double()
    steps, state = model(torch.tensor(sequences))
    last = (state[0] if kind is nn.LSTM else state)[-1].detach().numpy()
    np.testing.assert_allclose(capture(model, sequences, "")[""], steps.detach().numpy().reshape(10, 15), atol=1e-14)
    found = measure(model, sequences, reduce="last", covariances="bursts", n_bursts=2)
    np.testing.assert_allclose(found.points, last, atol=1e-14)
    if kind is nn.LSTM:
        cell = capture(model, sequences, "", reduce=lambda output: output[1][1][-1])[""]
        np.testing.assert_allclose(cell, state[1][-1].detach().numpy(), atol=1e-14)


class Packing(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.GRU(4, 3, batch_first=True, dtype=torch.float64)

    def forward(self, x):
        lengths = 2 + (torch.arange(len(x)) % 4)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.cell(packed)[1][-1]


def test_packed_sequences_know_their_last_step(sequences):
    found = capture(Packing(), sequences, ["cell", ""], reduce={"cell": "last"})
    np.testing.assert_allclose(found["cell"], found[""], atol=1e-14)


class TimeFirst(nn.Module):
    def __init__(self, swap):
        super().__init__()
        torch.manual_seed(0)
        self.cell, self.swap = nn.LSTM(4, 3, dtype=torch.float64), swap

    def forward(self, x):
        steps = self.cell(x.transpose(0, 1) if self.swap else x)[0]
        return steps.transpose(0, 1) if self.swap else steps


def test_modules_that_read_time_first_are_turned_or_refused(sequences):
    found = capture(TimeFirst(swap=True), sequences, ["cell", ""], reduce="last")
    np.testing.assert_array_equal(found["cell"], found[""])
    with pytest.raises(errors.CaptureError, match=r"\(time, batch, channel\).*batch_first=True"):
        capture(TimeFirst(swap=False), sequences, "cell")
    # At the output of a module of the user's own only the mixing of samples shows.
    with pytest.warns(errors.DiffeoWarning, match=r"depend on which other samples.*batch_first=False"):
        capture(TimeFirst(swap=False), sequences, "")
    with pytest.raises(errors.CaptureError, match=r"depends on which other samples.*batch_first=False"):
        measure(TimeFirst(swap=False), sequences)


# --- model outputs, modules used twice, several layers ---


@dataclass
class Output:
    loss: object
    logits: object
    hidden_states: tuple


class Hub(nn.Module):
    """A model as the Hugging Face hub has them: keywords in, a dataclass out, one activation for all layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.act = mlp(4, 6), mlp(6, 2, seed=1), nn.ReLU(inplace=True)

    def forward(self, x):
        hidden = self.first(x)
        shown = hidden.clone()
        return Output(None, self.act(self.second(self.act(hidden))), (shown,))


def test_fields_of_model_outputs_can_be_picked():
    x = np.random.default_rng(0).standard_normal((9, 4))
    model = Hub()
    found = capture(model, x, ["first", "act:0", "act:1", ""])
    assert (found["first"] < 0).any()  # as it was before the activation worked in place
    np.testing.assert_array_equal(found["act:0"], np.maximum(found["first"], 0))
    np.testing.assert_array_equal(found["act:1"], found[""])
    picked = capture(model, x, "", reduce=lambda output: output.hidden_states[0])[""]
    np.testing.assert_array_equal(picked, found["first"])


def test_several_layers_in_one_pass_equal_each_alone():
    x = np.random.default_rng(0).standard_normal((9, 4))
    model, names = Hub(), ["first", "act:0", "act:1"]
    with pytest.warns(errors.PiecewiseLinearWarning, match=r"layer 'act:0', layer 'act:1' are computed.*relu"):
        together = measure_layers(model, x, names, neurons={"first": [3, 1], "act:0": 4}, rng=5)
    assert [*together] == names
    for name, neurons in (("first", [3, 1]), ("act:0", 4), ("act:1", None)):
        with pytest.warns(errors.PiecewiseLinearWarning) if name != "first" else nullcontext():
            alone = measure(model, x, layer=name, neurons=neurons, rng=5)
        np.testing.assert_array_equal(together[name].neurons, alone.neurons)
        np.testing.assert_array_equal(together[name].points, alone.points)
        np.testing.assert_array_equal(together[name].jacobians, alone.jacobians)
        assert together[name].layer == alone.layer == name
    bursts = measure_layers(model, x, names, covariances="bursts", n_bursts=4)
    np.testing.assert_array_equal(
        bursts["act:1"].bursts, measure(model, x, layer="act:1", covariances="bursts", n_bursts=4).bursts
    )
    with pytest.raises(errors.LayerError, match="'second'"):
        measure_layers(model, x, names, neurons={"second": 2})


def test_observe_layers_names_the_layer_that_fails():
    x = np.random.default_rng(0).standard_normal((60, 2))
    model = nn.Sequential(mlp(2, 6, 6), mlp(6, 1, 5))
    found = diffeo.observe_layers(model, x, ["0.*", ""], neurons={"0.2": [0, 1, 2]}, dim=None)
    assert {name: seen.dim for name, seen in found.items()} == {"0.0": 2, "0.1": 2, "0.2": 2, "": 1}
    assert found["0.2"].points.shape == (60, 3)
    assert (found["0.1"].layer, found[""].layer) == ("0.1", None)
    np.testing.assert_array_equal(found["0.1"].whitening, diffeo.observe(model, x, layer="0.1").whitening)
    with pytest.raises(errors.RankError, match="the output: "):
        diffeo.observe_layers(model, x, ["0.0", ""], dim=2)
    with pytest.raises(errors.DataTypeError, match="observe_layers"):
        diffeo.observe(model, x, layer=["0.0"])
