"""Tests of what capture can be fed with, and what it refuses."""

from __future__ import annotations

import logging
import warnings

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


def test_loaders_and_iterables_of_batches(x):
    model, t = mlp(3, 4, 2), torch.tensor(x)
    expected = capture(model, x, "")[""]
    dataset = torch.utils.data.TensorDataset(t, torch.zeros(20))
    loader = torch.utils.data.DataLoader(dataset, batch_size=6)
    for inputs in (loader, t, iter([x[:3], x[3:]]), (batch for batch in (t[:11], t[11:])), iter([[x, "label"]])):
        np.testing.assert_allclose(capture(model, inputs, "")[""], expected, atol=1e-14)


def test_a_list_is_a_set_of_samples_whatever_it_holds(x):
    model, t = mlp(3, 4, 2), torch.tensor(x)
    expected = capture(model, x, "")[""]
    for inputs in (x.tolist(), list(x), tuple(x), list(t), [list(row) for row in x]):
        np.testing.assert_allclose(capture(model, inputs, "")[""], expected, atol=1e-14)
        np.testing.assert_allclose(measure(model, inputs).points, expected, atol=1e-14)
    pictures = torch.rand(5, 3, 4, 4, dtype=torch.float64)
    flat = nn.Flatten()
    np.testing.assert_array_equal(capture(flat, list(pictures), "")[""], capture(flat, pictures, "")[""])


def test_mappings_become_keyword_arguments(x):
    class Keywords(nn.Module):
        def forward(self, *, values, mask, factor):
            return values * mask * factor

    mask = np.arange(20)[:, None] % 2
    batches = [{"values": x[k : k + 8], "mask": torch.tensor(mask[k : k + 8]), "factor": 3} for k in (0, 8, 16)]
    np.testing.assert_allclose(capture(Keywords(), batches, "")[""], 3 * x * mask, atol=1e-14)


def test_integer_inputs_reach_an_embedding():
    model = nn.Embedding(10, 4)
    tokens = np.random.default_rng(0).integers(0, 10, (6, 3))
    found = capture(model, tokens, "")[""]
    np.testing.assert_array_equal(found, model.weight.detach().numpy()[tokens].reshape(6, 12))


def test_order_layout_and_byte_order_of_arrays_do_not_matter(x):
    model = mlp(3, 4, 2)
    expected = measure(model, x).points  # also what torch warns of when it first differentiates forward
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for same in (np.asfortranarray(x), x.astype(">f8"), x[::-1].copy()[::-1], x):
            np.testing.assert_allclose(capture(model, same, "")[""], expected, atol=1e-14)
            np.testing.assert_allclose(measure(model, same).points, expected, atol=1e-14)


def test_dtypes_stay_and_casts_are_logged(x, caplog):
    with caplog.at_level(logging.INFO, logger="diffeo"):
        found = capture(mlp(3, 2, dtype=torch.float32), x, "")[""]
    assert found.dtype == np.float32
    assert "cast from torch.float64 to torch.float32" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="diffeo"):
        assert capture(mlp(3, 2), x, "")[""].dtype == np.float64
    assert not caplog.text
    half = capture(mlp(3, 2, dtype=torch.bfloat16), x, "")[""]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, found, atol=0.05)
    assert capture(Call(lambda y: y.argmax(1)), x, "")[""].dtype == np.int64


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        (3, errors.DataTypeError, "iterable of batches; got int"),
        ("text", errors.DataTypeError, "got str"),
        ({"x": np.ones((2, 3))}, errors.CaptureError, "unexpected keyword argument"),
        (iter([1.0, 2.0, 3.0]), errors.DataTypeError, "got float"),
        ([np.ones((2, 3)), np.ones((5, 3))], errors.DataTypeError, r"one sample an entry.*\(iter\(batches\)\)"),
        ([[np.ones((2, 3)), "label"]], errors.DataTypeError, "one sample an entry"),
        (np.ma.masked_array(np.ones((2, 3)), [[True, False, False]] * 2), errors.InputError, "2 masked"),
        ([{"values": 3}], errors.DataTypeError, "no array and no tensor"),
        (np.ones((2, 3), dtype=complex), errors.DataTypeError, "complex128"),
        (np.array([["a"]]), errors.DataTypeError, "dtype <U1"),
        (np.array(1.0), errors.ShapeError, r"shape \(\)"),
        (np.ones((0, 3)), errors.SampleSizeError, "no samples"),
        ([], errors.SampleSizeError, "no samples"),
    ],
)
def test_inputs_that_cannot_be_used(inputs, error, message):
    with pytest.raises(error, match=message):
        capture(mlp(3, 2), inputs, "")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"layers": []}, errors.ParameterError, "empty"),
        ({"layers": [3]}, errors.DataTypeError, "got int"),
        ({"batch_size": 0}, errors.ParameterError, "batch_size"),
        ({"batch_size": 2.5}, errors.ParameterError, "batch_size"),
        ({"batch_size": True}, errors.ParameterError, "batch_size"),
        ({"device": "nowhere"}, errors.ParameterError, "nowhere"),
        ({"model": len}, errors.DataTypeError, "got builtin"),
    ],
)
def test_parameters_of_capture(x, arguments, error, message):
    with pytest.raises(error, match=message):
        capture(**{"model": mlp(3, 2), "inputs": x, "layers": "", **arguments})


class Break(nn.Module):
    """Gives infinity in rows whose first entry is above a threshold."""

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def forward(self, x):
        return torch.where(x[:, :1] > self.threshold, torch.inf, x)


def test_non_finite_inputs_and_activations_name_rows(x):
    bad = x.copy()
    bad[[4, 17]] = np.nan
    with pytest.raises(errors.NonFiniteError, match=r"inputs in 1 of 10 rows \(first: 4\)"):
        capture(mlp(3, 2), bad, "", batch_size=10)
    torch.manual_seed(0)
    first_layer = nn.Linear(3, 3).double()
    # Between two values: how a batch rounds does not decide.
    middle = first_layer(torch.tensor(x))[:, 0].sort().values[9:11].mean().item()
    model = nn.Sequential(first_layer, Break(middle))
    rows = np.flatnonzero(first_layer(torch.tensor(x))[:, 0].detach().numpy() > middle)
    assert 5 < rows.size < 20
    first = ", ".join(map(str, rows[:5]))
    with pytest.raises(errors.NonFiniteError, match=rf"layer '1' in {rows.size} of 20 rows \(first: {first}\)"):
        capture(model, x, ["0", "1"], batch_size=3)
    with pytest.raises(errors.NonFiniteError, match=rf"layer '1' in {rows.size} of 20 rows \(first: {first}\)"):
        measure(model, x, layer="1", batch_size=3)


def test_the_first_axis_must_be_the_batch(x):
    with pytest.raises(errors.CaptureError, match=r"layer 'inner' gives shape \(3, 8\).*batch of 8"):
        capture(transposing(), x, "inner")
    with pytest.raises(errors.CaptureError, match=r"\(\)"):
        capture(Call(lambda y: y.sum()), x, "")
    with pytest.raises(errors.CaptureError, match=r"from row 10.*pad"):
        capture(nn.Identity(), iter([np.ones((10, 3)), np.ones((5, 4))]), "")


def transposing():
    model = Call(lambda y: y)
    model.inner = nn.Sequential(model.inner, Call(lambda y: y.T))
    return model
