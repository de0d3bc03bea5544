"""measure_pairs: two networks at common inputs, with derivatives by the same coordinates."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import errors

torch = pytest.importorskip("torch")

from support.networks import full_jacobian, mlp  # noqa: E402
from support.samples import square  # noqa: E402

A, B = mlp(2, 16, 5), mlp(2, 12, 12, 4, seed=1)
X = square(70, 2, 3)


def test_values_and_derivatives_are_those_of_both_networks():
    pairs = diffeo.measure_pairs(A, B, X, batch_size=32)
    with torch.no_grad():
        for network, points in zip((A, B), pairs.points, strict=True):
            assert np.allclose(network(torch.tensor(X)).numpy(), points)
    assert np.allclose(full_jacobian(A, X), pairs.jacobians_a)
    assert np.allclose(full_jacobian(B, X), pairs.jacobians_b)


def test_layers_neurons_and_tangents():
    tangents = np.linalg.qr(np.random.default_rng(0).normal(size=(70, 2, 1)))[0]
    pairs = diffeo.measure_pairs(A, B, X, layers=("0", None), neurons=(7, [3, 1]), tangents=tangents)
    assert pairs.points_a.shape == (70, 7)
    assert pairs.jacobians_a.shape == (70, 7, 1)
    whole = diffeo.measure_pairs(A, B, X)
    assert np.array_equal(pairs.points_b, whole.points_b[:, [3, 1]])
    along = np.einsum("nmp,npd->nmd", whole.jacobians_b, tangents)[:, [3, 1]]
    assert np.allclose(pairs.jacobians_b, along)
    plain = diffeo.measure_pairs(A, B, X, layers=("0", None), neurons=(7, [3, 1]), jacobians=False)
    assert plain.jacobians_a is None
    assert np.allclose(plain.points_a, pairs.points_a)


def test_as_they_were_observed():
    sides = diffeo.observe(A, square(60, 2, 1), layer="0", neurons=6), diffeo.observe(B, square(60, 2, 2))
    pairs = diffeo.measure_pairs(A, B, X, like=sides)
    assert np.allclose(pairs.points_a, sides[0].measure(A, X))
    with pytest.raises(errors.ParameterError, match="leave out layers"):
        diffeo.measure_pairs(A, B, X, like=sides, layers=("0", "0"))
    with pytest.raises(errors.DataTypeError, match="tuple of two observations"):
        diffeo.measure_pairs(A, B, X, like=sides[0])


def test_rectifiers_are_not_warned_of():
    rectified = mlp(2, 32, 32, 6, activation=torch.nn.ReLU)
    pairs = diffeo.measure_pairs(rectified, B, square(400, 2, 1))  # warnings are errors here
    report = diffeo.assess(diffeo.match_pairs(pairs), baselines=False)
    assert report.verdict == "equivalent"


def test_pictures_without_tangents_are_refused_with_what_to_give():
    pictures = np.random.default_rng(0).random((10, 1, 12, 12))
    with pytest.raises(errors.ParameterError, match=r"144 coordinates.*tangents.*jacobians=False"):
        diffeo.measure_pairs(A, B, pictures)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"layers": "0"}, errors.ParameterError, "one for A and one for B"),
        ({"neurons": (1, 2, 3)}, errors.ParameterError, "a tuple of 3"),
        ({"jacobians": 1}, errors.DataTypeError, "jacobians must be True or False"),
        ({"layers": ("0", "9")}, errors.LayerError, "model_b"),
        ({"batch_size": 0}, errors.ParameterError, "model_a: batch_size"),
    ],
)
def test_wrong_arguments_are_named(wrong, error, message):
    with pytest.raises(error, match=message):
        diffeo.measure_pairs(A, B, X, **wrong)
