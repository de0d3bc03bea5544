"""Inputs by the names of a network's arguments: captured, observed, measured alike, as one array with the same numbers is."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from diffeo import errors  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.random((60, 3))
MASK = (RNG.random((60, 4)) < 0.7).astype(np.int64) | np.eye(4, dtype=np.int64)[0]


class Plain(torch.nn.Module):
    """Of (b, 3) the first two numbers and the third."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Linear(2, 12).double()
        self.second = torch.nn.Linear(1, 12).double()
        self.out = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(12, 8).double())

    def forward(self, x):
        return self.both(x[:, :2], x[:, 2:])

    def both(self, position, height):
        return self.out(self.first(position) + torch.sin(self.second(height)))


class Named(Plain):
    def forward(self, *, position, height, factor=1.0, bias=None):
        y = factor * self.both(position.flatten(1), height.reshape(-1, 1))
        return y if bias is None else y + bias[:, None]


class Tokens(Plain):
    """Gives (batch, position, channel), and has padding."""

    def forward(self, *, x, attention_mask):
        assert attention_mask.dtype == torch.int64
        return torch.stack([self.both(x[:, :2] + k, x[:, 2:]) for k in range(4)], dim=1)


def named(x):
    return {"position": x[:, None, :2], "height": torch.tensor(x[:, 2]), "factor": 1.0}


@pytest.mark.parametrize("options", [{}, {"smooth": 0.05}, {"covariances": "bursts", "n_bursts": 200}])
def test_named_inputs_are_observed_as_one_array_is(options):
    found, same = diffeo.observe(Named(), named(X), **options), diffeo.observe(Plain(), X, **options)
    close = {"rtol": 0.3} if options else {"rtol": 1e-12}  # other random perturbations
    np.testing.assert_allclose(found.singular_values[:, :3], same.singular_values[:, :3], **close)
    captured = diffeo.capture(Named(), named(X), "", smooth=options.get("smooth"))[""]
    np.testing.assert_allclose(found.points, captured, atol=1e-14)
    np.testing.assert_allclose(found.measure(Named(), named(X[:7])), found.points[:7], atol=1e-14)
    assert found.dim == 3


def test_tangents_by_name():
    tangents = np.linalg.qr(RNG.standard_normal((60, 3, 2)))[0]
    by_name = {"position": tangents[:, None, :2], "height": tangents[:, 2]}
    for options in ({}, {"smooth": 0.05}):
        found = diffeo.observe(Named(), named(X), tangents=by_name, **options)
        assert found.dim == 2
        if not options:
            same = diffeo.observe(Plain(), X, tangents=tangents)
            np.testing.assert_allclose(found.singular_values, same.singular_values, rtol=1e-12)
    one = {"position": np.broadcast_to(np.eye(2), (60, 2, 2))[:, None]}
    assert diffeo.observe(Named(), named(X), tangents=one).dim == 2
    captured = diffeo.capture(Named(), named(X), "", smooth=0.05, tangents=by_name)[""]
    np.testing.assert_allclose(captured, found.points, atol=1e-14)


@pytest.mark.parametrize("reduce", ["mean", "last", None])
def test_a_mask_is_held_and_padding_does_not_count(reduce):
    inputs = {"x": X, "attention_mask": MASK}
    options = {"reduce": reduce, "batch_size": 16}
    found = diffeo.observe(Tokens(), inputs, **options)
    np.testing.assert_allclose(found.points, diffeo.capture(Tokens(), inputs, "", **options)[""], atol=1e-14)
    bursts = diffeo.observe(Tokens(), inputs, covariances="bursts", n_bursts=100, scale=1e-3, **options)
    np.testing.assert_allclose(bursts.points, found.points, atol=1e-14)
    np.testing.assert_allclose(bursts.singular_values[:, 0], found.singular_values[:, 0], rtol=0.4)


def test_neurons_are_chosen_with_named_inputs():
    chosen = diffeo.suggest_neurons(Named(), named(X), n_neurons=4, dim=3)
    same = diffeo.suggest_neurons(Plain(), X, n_neurons=4, dim=3)
    assert np.array_equal(chosen.neurons, same.neurons)


def test_pairs_with_named_inputs():
    pairs, same = (diffeo.measure_pairs(net, net, x) for net, x in ((Named(), named(X)), (Plain(), X)))
    np.testing.assert_allclose(pairs.points_a, same.points_a, atol=1e-14)


@pytest.mark.parametrize(
    ("inputs", "error", "words"),
    [
        ({"position": X[:, :2], "height": X[:50, 2]}, errors.ShapeError, "different lengths.*50"),
        ({"factor": 1.0}, errors.DataTypeError, "mapping without arrays"),
        ({"tokens": np.ones((5, 3), int)}, errors.DataTypeError, "none of the inputs is floating.*tokens: int64"),
        ({"position": np.full((5, 2), np.nan), "height": X[:5, 2]}, errors.NonFiniteError, "5 of 5 rows"),
        ({"somewhere": X}, errors.CaptureError, "somewhere"),
    ],
)
def test_mappings_that_cannot_be_observed(inputs, error, words):
    with pytest.raises(error, match=words):
        diffeo.observe(Named(), inputs)


@pytest.mark.parametrize(
    ("tangents", "error", "words"),
    [
        (np.ones((60, 3, 1)), errors.DataTypeError, "tangents are one, too"),
        ({"other": np.ones((60, 1))}, errors.DataTypeError, r"height.*position"),
        ({"height": np.ones((50, 1))}, errors.ShapeError, "tangents of height"),
        ({"height": np.ones((60, 1)), "position": np.ones((60, 1, 2, 2))}, errors.ShapeError, "different numbers"),
        ({"height": 2 * np.ones((60, 1))}, errors.ParameterError, "not orthonormal"),
    ],
)
def test_tangents_that_do_not_fit(tangents, error, words):
    with pytest.raises(error, match=words):
        diffeo.observe(Named(), named(X), tangents=tangents)
    with pytest.raises(errors.DataTypeError, match="only where inputs are one"):
        diffeo.observe(Plain(), X, tangents={"x": np.ones((60, 3, 1))})


def test_refining_takes_one_array():
    with pytest.raises(errors.ParameterError, match=r"refine.*mapping"):
        diffeo.observe(Named(), named(X), refine=10)
