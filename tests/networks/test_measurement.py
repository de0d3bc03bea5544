"""Tests of networks that cannot be measured, or only with a warning: kinks, randomness, mixed samples."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffeo  # noqa: E402
from diffeo import errors  # noqa: E402
from diffeo.networks.measurement import measure  # noqa: E402
from support.networks import Call, Square, full_jacobian, mlp  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (20, 3))


# --- piecewise-linear units ---


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (functional.relu, "relu"),
        (torch.relu_, "relu"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.PReLU(dtype=torch.float64), "prelu"),
        (functional.hardtanh, "hardtanh"),
        (functional.hardswish, "hardswish"),
        (torch.abs, "abs"),
        (lambda y: y.clamp(min=0.1), "clamp"),
        (lambda y: torch.maximum(y, 2 * y), "maximum"),
        (lambda y: functional.max_pool1d(y[:, None], 2).flatten(1), "max_pool"),
        (lambda y: functional.relu(y * 1), "relu"),
    ],
)
def test_kinked_operators_are_named(x, function, name):
    model = Call(function)
    with pytest.warns(errors.PiecewiseLinearWarning, match=name):
        found = measure(model, x, covariances="jacobians")
    np.testing.assert_allclose(found.jacobians, full_jacobian(model, x), atol=1e-13)
    measure(model, x, layer="inner")  # before the operator, so no warning (it would be an error)
    measure(model, x, covariances="bursts")


def test_warnings_point_at_the_caller(x):
    for model in (Call(functional.leaky_relu, m=5), Call(Square.apply, m=5)):
        for call in (measure, diffeo.observe):
            how = {"dim": 3} if call is diffeo.observe else {}
            with pytest.warns(errors.DiffeoWarning) as record:
                call(model, x, covariances="jacobians", **how)
            assert [found.filename for found in record] == [__file__]


@pytest.mark.parametrize(
    "function",
    [
        torch.tanh,
        functional.gelu,
        functional.softplus,
        functional.silu,
        functional.elu,
        lambda y: y.softmax(1),
        lambda y: functional.layer_norm(y, (3,)),
    ],
)
def test_smooth_operators_do_not_warn(x, function):
    model = Call(function)
    np.testing.assert_allclose(measure(model, x).jacobians, full_jacobian(model, x), atol=1e-13)


def test_kinks_of_constants_do_not_count(x):
    model = Call(lambda y: y * torch.ones(3, dtype=torch.float64).neg().abs())
    assert measure(model, x).jacobians.any()


# --- networks that cannot be measured ---


@pytest.mark.parametrize("covariances", ["jacobians", "bursts"])
def test_random_networks_are_refused(x, covariances):
    with pytest.raises(errors.CaptureError, match="two passes over the same inputs"):
        measure(Call(lambda y: functional.dropout(y, 0.2, training=True)), x, covariances=covariances)


def test_networks_that_mix_samples_are_refused(x):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).double()
    with pytest.raises(errors.CaptureError, match=r"other samples are in its batch"):
        measure(model, x)
    with pytest.raises(errors.CaptureError, match=r"gives shape \(8, 8\) for a batch of 4"):
        measure(Call(lambda y: (torch.ones(8, 3).double() @ y.T[:, :8].mean(1, keepdim=True)).expand(8, 8)), x)


def test_layers_of_integers_are_refused(x):
    with pytest.raises(errors.DataTypeError, match="int64"):
        measure(Call(lambda y: y.argmax(1)), x)


def skewed(n=20):
    tangents = np.tile(np.eye(3)[:, :2], (n, 1, 1))
    tangents[[3, 7], 0, 0] += 1e-5
    return tangents


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": np.ones((4, 3), int)}, errors.DataTypeError, "int64"),
        ({"inputs": torch.ones(4, 3, dtype=torch.int32)}, errors.DataTypeError, "int32"),
        ({"inputs": iter([np.ones((4, 3))])}, errors.DataTypeError, "got list_iterator"),
        ({"inputs": np.ones((0, 3))}, errors.ShapeError, r"\(0, 3\)"),
        (
            {"inputs": np.array([[1.0, 2, 3], [1, np.inf, 3]])},
            errors.NonFiniteError,
            r"inputs in 1 of 2.*first: 1",
        ),
        ({"inputs": np.ones((4, 65))}, errors.ParameterError, "65 coordinates.*tangents"),
        ({"tangents": np.ones((20, 3))}, errors.ShapeError, r"\(20, 3\).*\(20, 3, 'd'\)"),
        ({"tangents": np.ones((19, 3, 1))}, errors.ShapeError, r"\(19, 3, 1\)"),
        ({"tangents": np.ones((20, 3, 0))}, errors.ShapeError, r"\(20, 3, 0\)"),
        ({"tangents": np.ones((20, 3, 1), int)}, errors.DataTypeError, "tangents have dtype int64"),
        ({"tangents": [1.0]}, errors.ShapeError, "tangents have shape"),
        ({"tangents": np.full((20, 3, 1), np.nan)}, errors.NonFiniteError, "tangents in 20 of 20"),
        ({"tangents": skewed()}, errors.ParameterError, r"1e-06 in 2 of 20 rows \(first: 3, 7\)"),
        ({"covariances": "both"}, errors.ParameterError, "'both'"),
        ({"covariances": "jacobians", "scale": 0.1}, errors.ParameterError, "scale is for"),
        ({"covariances": "bursts", "scale": 0.0}, errors.ParameterError, "scale must be > 0"),
        ({"covariances": "bursts", "scale": np.nan}, errors.ParameterError, "scale must be a finite"),
        ({"covariances": "bursts", "scale": np.inf}, errors.ParameterError, "scale must be a finite"),
        ({"covariances": "bursts", "scale": "auto"}, errors.ParameterError, "scale must be a finite"),
        ({"covariances": "bursts", "scale": 1e-16}, errors.ParameterError, "lost in the rounding"),
        ({"covariances": "bursts", "n_bursts": 1}, errors.ParameterError, "n_bursts"),
        ({"covariances": "bursts", "inputs": np.ones((4, 3))}, errors.ParameterError, "all equal"),
        ({"neurons": 1, "rng": "seed"}, errors.ParameterError, "rng"),
        ({"layer": "9"}, errors.LayerError, "'9'"),
        ({"batch_size": -1}, errors.ParameterError, "batch_size"),
    ],
)
def test_arguments_of_measure(x, arguments, error, message):
    with pytest.raises(error, match=message):
        measure(**{"model": mlp(3, 2), "inputs": x, **arguments})
