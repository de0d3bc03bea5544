"""covariances="auto": slopes over bursts where a layer has kinks that matter, derivatives elsewhere, and said so."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import diffeo
import numpy as np
import pytest
import torch
from diffeo import errors, observe, observe_layers
from diffeo.isometry import layout_search
from diffeo.networks.bursts.slope_choice import sized
from diffeo.networks.responses import Samples
from diffeo.observation.how_measured import MeasureOptions
from support.stored import assert_same

X = np.random.default_rng(0).random((200, 2))


def network(*middle, seed=0, width=24):
    """A perceptron of two inputs whose hidden layers have these activations, each after so many units."""
    torch.manual_seed(seed)
    widths = [2] + [width] * len(middle)
    layers = [one for pair, act in zip(pairwise(widths), middle, strict=True) for one in (torch.nn.Linear(*pair), act)]
    return torch.nn.Sequential(*layers, torch.nn.Linear(width, 6)).double()


RELU, TANH = network(torch.nn.ReLU(), torch.nn.ReLU()), network(torch.nn.Tanh(), torch.nn.Tanh())
SAID = pytest.warns(errors.PiecewiseLinearWarning, match=r"relu.*bursts of 16 inputs.*spacing of the samples")


def test_kinks_get_slopes_at_the_spacing_of_the_samples_and_the_same_points():
    with SAID:
        found = observe(RELU, X)
    with pytest.warns(errors.PiecewiseLinearWarning, match="Jacobians jump"):
        plain = observe(RELU, X, covariances="jacobians")
    np.testing.assert_allclose(found.points, plain.points, rtol=1e-13, atol=1e-14)
    assert (found.source, found.options.covariances, found.options.n_bursts) == ("jacobians", "auto", 16)
    assert repr(found) == "Observation(200 samples, 6 measurements, dim=2, from jacobians over bursts of 16)"
    # The fourth of 200 samples in a square: half of its square is their mean square perturbation.
    assert found.scale * 2.0 == pytest.approx(np.sqrt(4 / (np.pi * 200)), rel=0.15)
    same = observe(RELU, X, covariances="slopes")
    np.testing.assert_array_equal(found.whitening, same.whitening)
    np.testing.assert_array_equal(found.points, same.points)
    assert found.options.differences(same.options) == ["covariances"]


def test_slopes_lay_a_network_with_kinks_out_better_than_its_derivatives():
    errors_of, wide = {}, network(torch.nn.ReLU(), torch.nn.ReLU(), width=256, seed=1)
    x = np.random.default_rng(3).random((400, 2))
    for how in ("auto", "jacobians"):
        with errors.unsaid(errors.PiecewiseLinearWarning):
            seen = observe(wide, x, layer="3", reduce=diffeo.RandomProjection(16), covariances=how)
        at = diffeo.embed(seen).coordinates
        flat, true = at - at.mean(axis=0), x - x.mean(axis=0)
        left, _, right = np.linalg.svd(flat.T @ true)
        errors_of[how] = np.linalg.norm(flat @ left @ right - true) / np.linalg.norm(true)
    assert errors_of["auto"] < 0.8 * errors_of["jacobians"] < 0.05


def test_slopes_are_not_laid_out_by_place(monkeypatch):
    taken = []

    def by_place(observation, found, *_rest):
        taken.append(len(observation))
        return found

    monkeypatch.setattr(layout_search, "_by_place", by_place)
    monkeypatch.setattr(layout_search, "lengths_are_rough", lambda *_: True)
    with SAID:
        seen = observe(RELU, X, layer="3", reduce=diffeo.RandomProjection(12))
    diffeo.embed(seen, coordinates="isometric")
    assert not taken
    diffeo.embed(dataclasses.replace(seen, options=MeasureOptions()), coordinates="isometric")
    assert taken == [200]


def test_slopes_of_a_linear_network_are_exact_and_curvature_cancels():
    torch.manual_seed(1)
    linear = torch.nn.Linear(3, 5).double()
    x = np.random.default_rng(0).random((40, 3))
    weight = linear.weight.detach().numpy()
    for n_bursts in (6, 7, 16):
        found = diffeo.networks.measurement.measure(linear, x, covariances="slopes", n_bursts=n_bursts)
        assert found.options.n_bursts == 2 * (n_bursts // 2)
        np.testing.assert_allclose(found.jacobians, np.tile(weight, (40, 1, 1)), atol=1e-12)

    class Bent(torch.nn.Module):
        def forward(self, x):
            return torch.stack([x[:, 0] ** 2, x[:, 0] * x[:, 1] + x[:, 2], x[:, 2]], dim=1)

    kinds = [diffeo.networks.measurement.measure(Bent(), x, covariances=kind) for kind in ("slopes", "jacobians")]
    np.testing.assert_allclose(kinds[0].jacobians, kinds[1].jacobians, atol=1e-12)
    with pytest.raises(errors.ParameterError, match="take 6 members at least"):
        observe(linear, x, covariances="slopes", n_bursts=5)


def test_smooth_layers_get_derivatives_and_nothing_is_said():
    found, plain = observe(TANH, X), observe(TANH, X, covariances="jacobians")
    assert_same(dataclasses.replace(found, options=plain.options), plain)
    assert (found.options.covariances, found.options.n_bursts, found.scale) == ("auto", None, None)
    assert repr(found).endswith("from jacobians)")


@pytest.mark.parametrize("kind", [torch.nn.Hardtanh(-50.0, 50.0), torch.nn.ReLU(), torch.nn.ReLU6()])
def test_operators_whose_kinks_are_nowhere_near_are_no_reason_for_slopes(kind):
    torch.manual_seed(0)
    first = torch.nn.Linear(2, 24).double()
    torch.nn.init.constant_(first.bias, 3.0)  # far from where the operator bends

    class Smooth(torch.nn.Module):
        def forward(self, x):
            return torch.tanh(kind(0.5 * first(x)))

    found = observe(Smooth(), X)
    assert (found.options.covariances, found.options.n_bursts) == ("auto", None)
    with pytest.warns(errors.PiecewiseLinearWarning, match="Jacobians jump"):
        plain = observe(Smooth(), X, covariances="jacobians")
    np.testing.assert_array_equal(found.whitening, plain.whitening)


def test_a_network_smoothed_by_the_caller_has_no_kinks():
    found = observe(RELU, X, smooth=0.05)
    assert (found.source, found.options.n_bursts) == ("jacobians", None)


def test_each_of_several_layers_is_as_it_is_alone():
    both = network(torch.nn.Tanh(), torch.nn.ReLU())
    asked = {"reduce": {"1": None, "3": diffeo.RandomProjection(7)}, "neurons": {"1": [0, 3, 5, 7, 9, 11]}}
    with pytest.warns(errors.PiecewiseLinearWarning, match=r"^layer '3' is"):
        found = observe_layers(both, X, ["1", "3"], **asked)
    assert [(name, one.options.n_bursts, one.points.shape[1]) for name, one in found.items()] == [
        ("1", None, 6),
        ("3", 16, 7),
    ]
    with SAID:
        alone = observe(both, X, layer="3", reduce=diffeo.RandomProjection(7))
    assert_same(alone, found["3"])
    with pytest.raises(errors.LayerError, match="neurons names"):
        observe_layers(both, X, ["1", "3"], neurons={"5": 2})


def test_neurons_drawn_by_a_generator_are_drawn_once():
    drawn = []
    for covariances in ("auto", "slopes"):
        with errors.unsaid(errors.PiecewiseLinearWarning):
            found = observe(RELU, X, neurons=4, covariances=covariances, rng=np.random.default_rng(5))
        drawn.append(found.neurons)
    np.testing.assert_array_equal(*drawn)


def test_bursts_run_along_tangents():
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 2)))[0]
    tangents = np.broadcast_to(frame, (200, 5, 2))
    lifted = torch.nn.Sequential(torch.nn.Linear(5, 2, bias=False), RELU).double()
    with torch.no_grad():
        lifted[0].weight.copy_(torch.tensor(frame.T))
    with SAID:
        found = observe(lifted, X @ frame.T, tangents=tangents)
    with SAID:
        flat = observe(RELU, X)
    assert found.scale == pytest.approx(flat.scale)
    np.testing.assert_allclose(found.singular_values[:, :2], flat.singular_values[:, :2], rtol=1e-9)


def test_spacing_of_inputs_of_many_coordinates_is_that_of_their_places():
    # Distances are kept: 300 coordinates that depend on two by an isometry.
    frame = np.linalg.qr(np.random.default_rng(1).normal(size=(300, 2)))[0]
    tangents = np.broadcast_to(frame, (200, 300, 2))
    lifted = torch.nn.Sequential(torch.nn.Linear(300, 2, bias=False), RELU).double()
    with errors.unsaid(errors.PiecewiseLinearWarning):
        found = observe(lifted, X @ frame.T, tangents=tangents, covariances="slopes")
        flat = observe(RELU, X)
    assert found.scale == pytest.approx(flat.scale, rel=0.3)
    with pytest.raises(errors.ParameterError, match=r"300 coordinates.*tangents"):
        observe(lifted, X @ frame.T)


def test_inputs_that_repeat_have_no_spacing():
    repeated = np.repeat(X[:20], 9, axis=0)
    with pytest.warns(errors.PiecewiseLinearWarning, match="Jacobians jump"):
        assert observe(RELU, repeated).options.n_bursts is None
    with pytest.raises(errors.ParameterError, match="most of the inputs are equal to others"):
        observe(RELU, repeated, covariances="slopes")
    with errors.unsaid(errors.PiecewiseLinearWarning):
        assert observe(RELU, repeated, covariances="slopes", scale=0.1).scale == 0.1


def test_a_direction_that_a_network_ignores_is_none_of_its_slopes():
    class First(torch.nn.Module):
        def forward(self, x):
            return RELU(torch.stack([x[:, 0], x[:, 0] ** 2], dim=1))

    with errors.unsaid(errors.PiecewiseLinearWarning):
        found = observe(First(), X, covariances="slopes")
    assert found.dim == 1
    assert found.singular_values[:, 1].max() <= 1e-7 * found.singular_values[:, 0].max()


@pytest.mark.parametrize("how", [{"covariances": "some"}, {"covariances": "auto", "n_bursts": "many"}])
def test_what_is_no_kind_and_no_number_is_refused(how):
    with pytest.raises(errors.DiffeoError):
        observe(RELU, X, **how)


def test_sizes_of_bursts_do_for_added_inputs_and_files_and_measuring_alike(tmp_path):
    with pytest.warns(errors.PiecewiseLinearWarning), errors.unsaid(errors.CurvatureWarning):
        found = observe(RELU, X, refine=20)
    assert len(found) > len(X)
    found.save(tmp_path / "o.safetensors")
    loaded = diffeo.load(tmp_path / "o.safetensors")
    assert repr(loaded) == repr(found)
    assert (loaded.options.covariances, loaded.options.n_bursts, loaded.scale) == ("auto", 16, found.scale)
    np.testing.assert_allclose(loaded.measure(RELU, X[:9]), found.points[:9], rtol=1e-13, atol=1e-14)


def test_bursts_are_the_larger_the_fewer_samples_there_are():
    sizes = []
    for n in (20, 400, 4000):
        with errors.unsaid(errors.PiecewiseLinearWarning):
            x = np.random.default_rng(0).random((n, 2))
            sizes.append(observe(RELU, x, covariances="bursts", neurons=[0, 1, 2]).options.n_bursts)
    # 53 / (n (K - 6)) is a squared half of the margin of 5 %, within bounds.
    assert sizes == [256, 6 + 212, 32]


def test_noisy_slopes_of_few_samples_get_more_members():
    few, many = (Samples.of(np.ones((n, 2)), None) for n in (100, 2000))
    # Noise of slopes from 16 members, as in 16/K of it: 2 * 53 noise / n is a squared half of the margin of 5 %, within bounds.
    assert [sized("auto", few, noise) for noise in (0.0, 1e-3, 1.0)] == [16, 28, 256]
    assert [sized("auto", many, noise) for noise in (1e-3, 0.02)] == [16, 28]
    assert sized("auto", Samples.of(np.ones((9, 60)), None), 0.0) == 120


def test_neurons_are_suggested_by_slopes():
    wide = network(torch.nn.ReLU())[:2]
    with SAID:
        found = diffeo.suggest_neurons(wide, X, n_neurons=6, dim=2)
    assert len(found.neurons) == 6
