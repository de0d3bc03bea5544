"""covariances="auto": bursts at the spacing of the samples where a layer has kinks, derivatives elsewhere, and said so."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import diffeo
import numpy as np
import pytest
import torch
from diffeo import errors, observe, observe_layers
from support.stored import assert_same

X = np.random.default_rng(0).random((200, 2))


def network(*middle, seed=0):
    """A perceptron of two inputs whose hidden layers have these activations, each after 12 units."""
    torch.manual_seed(seed)
    widths = [2] + [12] * len(middle)
    layers = [one for pair, act in zip(pairwise(widths), middle, strict=True) for one in (torch.nn.Linear(*pair), act)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(12, 6)).double()


RELU, TANH = network(torch.nn.ReLU()), network(torch.nn.Tanh())
SAID = pytest.warns(errors.PiecewiseLinearWarning, match=r"relu.*bursts of 32 inputs.*spacing of the samples")


def test_kinks_get_bursts_at_the_spacing_of_the_samples_and_the_same_points():
    with SAID:
        found = observe(RELU, X, covariances="auto")
    with pytest.warns(errors.PiecewiseLinearWarning, match="Jacobians jump"):
        plain = observe(RELU, X)
    np.testing.assert_allclose(found.points, plain.points, rtol=1e-13, atol=1e-14)
    assert (found.source, found.options.covariances, found.options.n_bursts) == ("bursts", "auto", 32)
    assert repr(found) == "Observation(200 samples, 6 measurements, dim=2, from bursts (auto))"
    # The fourth of 200 samples in a square: their root mean square perturbation.
    assert found.scale * np.sqrt(2) == pytest.approx(np.sqrt(4 / (np.pi * 200)), rel=0.15)
    same = observe(RELU, X, covariances="bursts", scale=found.scale)
    np.testing.assert_array_equal(found.whitening, same.whitening)
    np.testing.assert_array_equal(found.points, same.points)
    assert found.options.differences(same.options) == ["covariances"]


def test_smooth_layers_get_derivatives_and_nothing_is_said():
    found, plain = observe(TANH, X, covariances="auto"), observe(TANH, X)
    assert_same(dataclasses.replace(found, options=plain.options), plain)
    assert (found.options.covariances, found.options.n_bursts, found.scale) == ("auto", None, None)
    assert repr(found).endswith("from jacobians (auto))")


def test_a_network_smoothed_by_the_caller_has_no_kinks():
    found = observe(RELU, X, covariances="auto", smooth=0.05)
    assert found.source == "jacobians"


def test_each_of_several_layers_is_as_it_is_alone():
    both = network(torch.nn.Tanh(), torch.nn.ReLU())
    asked = {"reduce": {"1": None, "3": diffeo.RandomProjection(7)}, "neurons": {"1": [0, 3, 5, 7, 9, 11]}}
    with pytest.warns(errors.PiecewiseLinearWarning, match=r"^layer '3' is"):
        found = observe_layers(both, X, ["1", "3"], covariances="auto", **asked)
    assert [(name, one.source, one.points.shape[1]) for name, one in found.items()] == [
        ("1", "jacobians", 6),
        ("3", "bursts", 7),
    ]
    with SAID:
        alone = observe(both, X, layer="3", covariances="auto", reduce=diffeo.RandomProjection(7))
    assert_same(alone, found["3"])
    with pytest.raises(errors.LayerError, match="neurons names"):
        observe_layers(both, X, ["1", "3"], covariances="auto", neurons={"5": 2})


def test_bursts_run_along_tangents():
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0]
    tangents = np.broadcast_to(frame, (200, 5, 2))
    lifted = torch.nn.Sequential(torch.nn.Linear(5, 2, bias=False), RELU).double()
    with torch.no_grad():
        lifted[0].weight.copy_(torch.tensor(frame.T))
    with SAID:
        found = observe(lifted, X @ frame.T, covariances="auto", tangents=tangents)
    with SAID:
        flat = observe(RELU, X, covariances="auto")
    assert found.scale == pytest.approx(flat.scale)
    np.testing.assert_allclose(found.singular_values[:, :2], flat.singular_values[:, :2], rtol=1e-9)


def test_spacing_of_inputs_of_many_coordinates_is_that_of_their_places():
    # Distances are kept: 300 coordinates that depend on two by an isometry.
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(300, 2)))[0]
    lifted = torch.nn.Sequential(torch.nn.Linear(300, 2, bias=False), RELU).double()
    with SAID:
        found = observe(lifted, X @ frame.T, covariances="auto", tangents=np.broadcast_to(frame, (200, 300, 2)))
    with SAID:
        flat = observe(RELU, X, covariances="auto")
    assert found.scale == pytest.approx(flat.scale, rel=0.3)


def test_inputs_that_repeat_have_no_spacing():
    with pytest.raises(errors.ParameterError, match="most of the inputs are equal to others"):
        observe(RELU, np.repeat(X[:10], 9, axis=0), covariances="auto")
    with SAID:
        found = observe(RELU, np.repeat(X[:10], 9, axis=0), covariances="auto", scale=0.1)
    assert found.scale == 0.1


@pytest.mark.parametrize("how", [{"covariances": "some"}, {"covariances": "auto", "n_bursts": "many"}])
def test_what_is_no_kind_and_no_number_is_refused(how):
    with pytest.raises(errors.DiffeoError):
        observe(RELU, X, **how)


def test_sizes_of_bursts_do_for_added_inputs_and_files_and_measuring_alike(tmp_path):
    with pytest.warns(errors.PiecewiseLinearWarning), errors.unsaid(errors.CurvatureWarning):
        found = observe(RELU, X, covariances="auto", n_bursts="auto", refine=20)
    assert len(found) > len(X)
    assert found.degrees_of_freedom[0] == found.options.n_bursts - 1
    found.save(tmp_path / "o.safetensors")
    loaded = diffeo.load(tmp_path / "o.safetensors")
    assert repr(loaded) == repr(found)
    assert loaded.options.covariances == "auto"
    np.testing.assert_allclose(loaded.measure(RELU, X[:9]), found.points[:9], rtol=1e-13, atol=1e-14)


def test_bursts_are_the_larger_the_fewer_samples_there_are():
    sizes = []
    for n in (20, 400, 4000):
        with errors.unsaid(errors.PiecewiseLinearWarning):
            x = np.random.default_rng(0).random((n, 2))
            sizes.append(observe(RELU, x, covariances="bursts", n_bursts="auto", neurons=[0, 1, 2]).options.n_bursts)
    # 53 / (n (K - 6)) is a squared half of the margin of 5 %, within bounds.
    assert sizes == [256, 6 + 212, 32]


def test_neurons_are_suggested_by_bursts():
    wide = network(torch.nn.ReLU())[:2]
    with SAID:
        found = diffeo.suggest_neurons(wide, X, covariances="auto", n_neurons=6, dim=2)
    assert len(found.neurons) == 6
