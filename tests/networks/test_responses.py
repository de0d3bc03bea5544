"""Tests of Jacobians and bursts, against analytic derivatives, torch.func and central differences."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from diffeo import errors, observe  # noqa: E402
from diffeo.networks.capture_activations import capture  # noqa: E402
from diffeo.networks.measurement import Measurement, measure  # noqa: E402
from diffeo.observation.how_measured import MeasureOptions  # noqa: E402
from support.networks import Call, Square, full_jacobian, mlp  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (20, 3))


# --- Jacobians ---


@pytest.mark.parametrize("batch_size", [1, 6, 1024])
def test_jacobians_of_an_analytic_map(batch_size):
    class Mushroom(nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] + x[:, 1] ** 3, x[:, 1] - x[:, 0] ** 3], dim=1)

    x = np.random.default_rng(1).uniform(0, 1, (15, 2))
    found = measure(Mushroom(), x, batch_size=batch_size)
    one = np.ones(15)
    expected = np.array([[one, 3 * x[:, 1] ** 2], [-3 * x[:, 0] ** 2, one]]).transpose(2, 0, 1)
    np.testing.assert_allclose(found.jacobians, expected, atol=1e-14)
    np.testing.assert_allclose(found.points, np.stack([x[:, 0] + x[:, 1] ** 3, x[:, 1] - x[:, 0] ** 3], 1))
    assert found.points.flags.c_contiguous
    assert found.bursts is None
    assert found.scale is None
    assert found.layer is None
    np.testing.assert_array_equal(found.neurons, [0, 1])


@pytest.mark.parametrize("layer", ["0", "1", "3", None])
def test_jacobians_equal_reverse_mode_of_torch(x, layer):
    model = mlp(3, 6, 5, 2)
    part = model if layer is None else model[: int(layer) + 1]
    found = measure(model, x, layer=layer, batch_size=7)
    assert found.layer == layer
    np.testing.assert_allclose(found.jacobians, full_jacobian(part, x), atol=1e-13)


def test_images_and_feature_maps_are_flattened():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.Conv2d(2, 3, 3)).double()
    images = np.random.default_rng(0).standard_normal((2, 1, 6, 6))
    found = measure(model, images).jacobians
    assert found.shape == (2, 3 * 2 * 2, 36)
    np.testing.assert_allclose(found, full_jacobian(model, images), atol=1e-12)


def test_tangents_give_the_directional_derivatives():
    model = mlp(12, 9, 4)
    rng = np.random.default_rng(2)
    x = rng.standard_normal((10, 12))
    tangents = np.linalg.qr(rng.standard_normal((10, 12, 2)))[0]
    full = measure(model, x).jacobians
    found = measure(model, x, tangents=tangents, batch_size=4).jacobians
    assert found.shape == (10, 4, 2)
    np.testing.assert_allclose(found, full @ tangents, atol=1e-13)
    np.testing.assert_array_equal(
        measure(model, torch.tensor(x), tangents=torch.tensor(tangents)).jacobians.shape, found.shape
    )
    shaped = nn.Sequential(nn.Unflatten(1, (3, 4)), nn.Flatten(), model)
    images = nn.Sequential(nn.Flatten(), model)
    np.testing.assert_allclose(measure(shaped, x).jacobians, full, atol=1e-13)
    again = measure(images, x.reshape(10, 3, 4), tangents=tangents.reshape(10, 3, 4, 2)).jacobians
    np.testing.assert_allclose(again, found, atol=1e-13)


def test_scalar_inputs_without_a_feature_axis():
    class Curve(nn.Module):
        def forward(self, x):
            return torch.stack([x.cos(), x.sin()], dim=1)

    angles = np.linspace(0, 6, 9)
    found = measure(Curve(), angles)
    np.testing.assert_allclose(found.jacobians[:, :, 0], np.stack([-np.sin(angles), np.cos(angles)], 1), atol=1e-14)


def test_neurons_select_columns(x):
    model = mlp(3, 8, 6)
    everything = measure(model, x)
    some = measure(model, x, neurons=[4, 1])
    np.testing.assert_array_equal(some.neurons, [4, 1])
    np.testing.assert_array_equal(some.points, everything.points[:, [4, 1]])
    np.testing.assert_array_equal(some.jacobians, everything.jacobians[:, [4, 1]])
    drawn = measure(model, x, neurons=3, rng=5)
    np.testing.assert_array_equal(drawn.neurons, np.sort(np.random.default_rng(5).choice(6, 3, replace=False)))
    np.testing.assert_array_equal(drawn.jacobians, everything.jacobians[:, drawn.neurons])


@pytest.mark.parametrize(
    ("neurons", "error", "message"),
    [
        (7, errors.ParameterError, "the layer has 6"),
        (0, errors.ParameterError, "the layer has 6"),
        ([0, 6], errors.ParameterError, "0 to 5"),
        ([-1], errors.ParameterError, "0 to 5"),
        ([2, 1, 2], errors.ParameterError, r"more than once: \[2\]"),
        ([0.0], errors.DataTypeError, "float64"),
        ([True, False], errors.DataTypeError, "bool"),
        (True, errors.DataTypeError, "bool"),
        ([[0]], errors.ShapeError, r"\(1, 1\)"),
        (np.empty(0, int), errors.ShapeError, r"\(0,\)"),
    ],
)
def test_neurons_that_cannot_be_used(x, neurons, error, message):
    with pytest.raises(error, match=message):
        measure(mlp(3, 6), x, neurons=neurons)


def test_float32_is_computed_as_such_and_returned_as_float64(x, caplog):
    single, double = mlp(3, 6, 4, dtype=torch.float32), mlp(3, 6, 4)
    double.load_state_dict({k: v.double() for k, v in single.state_dict().items()})
    with caplog.at_level(logging.INFO, logger="diffeo"):
        found = measure(single, x)
    assert "torch.float32" in caplog.text
    expected = measure(double, x)
    for a, b in ((found.points, expected.points), (found.jacobians, expected.jacobians)):
        assert a.dtype == np.float64
        assert 0 < np.abs(a - b).max() < 1e-5


def test_inference_mode_outside_does_not_lose_tangents(x):
    model = mlp(3, 4, 2)
    expected = measure(model, x).jacobians
    with torch.inference_mode():
        np.testing.assert_array_equal(measure(model, x).jacobians, expected)


def test_in_place_activation_in_forward_mode(x):
    class InPlace(nn.Module):
        def forward(self, x):
            return x.tanh_()

    model = nn.Sequential(nn.Linear(3, 4), InPlace(), nn.Linear(4, 2)).double()
    np.testing.assert_allclose(measure(model, x, layer="0").jacobians[3], model[0].weight.detach(), atol=1e-15)
    same = nn.Sequential(model[0], nn.Tanh(), model[2])
    np.testing.assert_allclose(measure(model, x).jacobians, full_jacobian(same, x), atol=1e-13)
    first = measure(nn.Sequential(InPlace(), *same), x)  # overwrites its own input
    np.testing.assert_allclose(first.jacobians, full_jacobian(nn.Sequential(nn.Tanh(), *same), x), atol=1e-13)
    np.testing.assert_allclose(first.points, same(torch.tensor(x).tanh()).detach(), atol=1e-14)


def test_operators_without_forward_rule_fall_back_to_reverse_mode(x):
    model = Call(Square.apply)
    weight = model.inner.weight.detach().numpy()
    y = model.inner(torch.tensor(x)).detach().numpy()
    tangents = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 3, 2)))[0]
    expected = 2 * y[:, :, None] * weight
    with pytest.warns(errors.ForwardModeWarning, match="jvp") as record:
        found = measure(model, x, batch_size=7)
    assert len(record) == 1
    np.testing.assert_allclose(found.jacobians, expected, atol=1e-13)
    with pytest.warns(errors.ForwardModeWarning, match="jvp"):
        along = measure(model, x, tangents=tangents, neurons=[2]).jacobians
    np.testing.assert_allclose(along, (expected @ tangents)[:, [2]], atol=1e-13)
    assert all(p.grad is None for p in model.parameters())
    # The layer before the operator needs no fallback: nothing after it is run (warnings are errors here).
    np.testing.assert_allclose(measure(model, x, layer="inner").jacobians, np.tile(weight, (20, 1, 1)), atol=1e-14)


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
def test_fused_kernels_are_replaced_in_forward_mode(kind):
    torch.manual_seed(0)
    if kind == "lstm":
        model = nn.LSTM(4, 3, batch_first=True)
        x = np.random.default_rng(0).standard_normal((5, 3, 4))
    else:
        model = nn.TransformerEncoderLayer(4, 2, 8, activation="gelu", batch_first=True).double()
        x = np.random.default_rng(0).standard_normal((5, 3, 4))
    found = measure(model, x)  # no ForwardModeWarning: it would be an error
    model.double().eval()
    y = capture(model, x, "")[""]
    h, v = 1e-6, np.random.default_rng(1).standard_normal(x.shape)
    difference = (capture(model, x + h * v, "")[""] - capture(model, x - h * v, "")[""]) / (2 * h)
    np.testing.assert_allclose(found.points, y, atol=1e-5)
    np.testing.assert_allclose(np.einsum("imp,ip->im", found.jacobians, v.reshape(5, -1)), difference, atol=1e-5)


def test_errors_that_are_not_about_forward_mode_pass(x):
    def fail(_y):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        measure(Call(fail), x)


def test_a_layer_that_does_not_depend_on_the_input(x):
    with pytest.raises(errors.CaptureError, match="does not depend on the input"):
        measure(Call(lambda y: torch.ones(len(y), 2).double()), x)


@pytest.mark.parametrize("hide", [lambda y: y.detach(), lambda y: torch.from_numpy(y.detach().numpy().copy())])
def test_values_that_leave_the_graph_are_found_and_differentiated_by_differences(x, hide):
    def mixed(y, hide=hide):
        return torch.stack([y[:, 0], y[:, 1] + 0.5 * hide(y[:, 2])], dim=1)

    with pytest.warns(errors.ForwardModeWarning, match=r"differences.*1 of 2 measured neurons.*\[1\]"):
        found = measure(Call(mixed), x)
    exact = measure(Call(lambda y: mixed(y, lambda z: z)), x)
    np.testing.assert_allclose(found.jacobians, exact.jacobians, atol=1e-8)
    assert measure(Call(mixed), x, neurons=[0]).jacobians.shape == (20, 1, 3)
    assert measure(Call(mixed), x, covariances="bursts", n_bursts=32).bursts.shape == (20, 32, 2)


def test_steep_and_saturated_networks_are_not_accused():
    x = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    for gain in (1e-8, 1.0, 300.0):
        for dtype in (torch.float32, torch.float64):
            for shift in (0.0, 5.0, 1000.0):
                model = Call(lambda y, g=gain, s=shift: torch.tanh(g * y) + s, p=2, dtype=dtype)
                assert np.isfinite(measure(model, x).jacobians).all()


# --- bursts ---


def sample_covariances(found):
    centred = found.bursts - found.bursts.mean(axis=1, keepdims=True)
    return np.einsum("ika,ikb->iab", centred, centred) / ((centred.shape[1] - 1) * found.scale**2)


@pytest.mark.parametrize("along", [False, True])
def test_burst_covariances_converge_to_those_of_the_jacobians(along):
    model = mlp(3, 6, 2)
    rng = np.random.default_rng(3)
    x = rng.uniform(-1, 1, (4, 3))
    tangents = np.linalg.qr(rng.standard_normal((4, 3, 2)))[0] if along else None
    jacobians = measure(model, x, tangents=tangents).jacobians
    exact = jacobians @ jacobians.swapaxes(1, 2)
    errors_ = []
    for k in (100, 40_000):
        found = measure(model, x, covariances="bursts", n_bursts=k, scale=1e-3, tangents=tangents, batch_size=4096)
        errors_.append(np.linalg.norm(sample_covariances(found) - exact) / np.linalg.norm(exact))
    assert errors_[1] < 0.02  # about sqrt(2 / K)
    assert errors_[0] > 2 * errors_[1]


def test_bursts_do_not_depend_on_the_batch_size(x):
    model = mlp(3, 6, 2)
    reference = measure(model, x, covariances="bursts", n_bursts=5, rng=7)
    for batch_size in (1, 3, 12):
        again = measure(model, x, covariances="bursts", n_bursts=5, rng=7, batch_size=batch_size)
        np.testing.assert_allclose(again.bursts, reference.bursts, rtol=0, atol=1e-14)
        assert again.scale == pytest.approx(reference.scale, rel=1e-12)
    other = measure(model, x, covariances="bursts", n_bursts=5, rng=8)
    assert np.abs(other.bursts - reference.bursts).max() > 1e-3
    assert reference.jacobians is None
    assert reference.bursts.shape == (20, 5, 2)
    np.testing.assert_allclose(reference.points, capture(model, x, "")[""], atol=1e-14)


def test_the_automatic_scale_is_its_stated_rule(x):
    identity = nn.Identity()
    plain = measure(identity, x, covariances="bursts", n_bursts=200)
    assert plain.scale == pytest.approx(0.02 * np.sqrt(x.var(axis=0).mean()), rel=1e-12)
    assert (plain.bursts - x[:, None]).std() == pytest.approx(plain.scale, rel=0.05)
    tangents = np.tile(np.eye(3)[:, 1:2], (20, 1, 1))
    along = measure(identity, x, covariances="bursts", n_bursts=200, tangents=tangents)
    assert along.scale == pytest.approx(0.02 * np.sqrt(x.var(axis=0).sum()), rel=1e-12)
    change = along.bursts - x[:, None]
    assert (change[..., 1]).std() == pytest.approx(along.scale, rel=0.05)
    np.testing.assert_array_equal(change[..., [0, 2]], 0)


def test_large_inputs_can_be_burst():
    x = np.random.default_rng(0).standard_normal((6, 10, 10))
    found = measure(nn.Flatten(), x, covariances="bursts", n_bursts=3, neurons=4)
    assert found.bursts.shape == (6, 3, 4)
    np.testing.assert_array_equal(found.points, x.reshape(6, 100)[:, found.neurons])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": MeasureOptions()}, "bursts need the scale"),
        ({"bursts": None}, "either jacobians or bursts"),
        ({"jacobians": np.ones((6, 2, 1))}, "either jacobians or bursts"),
    ],
)
def test_a_measurement_without_its_scale_is_refused(change, message):
    whole = Measurement(np.ones((6, 2)), None, np.ones((6, 5, 2)), MeasureOptions(scale=0.1))
    with pytest.raises(errors.InputError, match=message):
        dataclasses.replace(whole, **change)


def test_the_scale_of_bursts_is_that_of_the_observation(x):
    # In units of the input: the same network in other units has other derivatives.
    for scale in (1e-3, 2e-3):
        found = observe(mlp(3, 8, 4), x, covariances="bursts", n_bursts=256, scale=scale, dim=3)
        assert found.scale == scale
        exact = observe(mlp(3, 8, 4), x, dim=3)
        ratio = np.median(found.singular_values[:, 0] / exact.singular_values[:, 0])
        assert ratio == pytest.approx(1.0, abs=0.1)
