"""Sets as large as they need to be, projections where none is large enough, and layers measured as they will be."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors


def bumps(count, width, n=500):
    """Neurons that respond to a part of an interval each, and their derivatives."""
    x = np.sort(np.random.default_rng(0).random((n, 1)), axis=0)
    u = (x - np.linspace(0.0, 1.0, count)) / width
    y = np.exp(-0.5 * u**2)
    return Observation.from_jacobians(y, (-u / width * y)[:, :, None])


def test_as_many_neurons_are_taken_as_it_takes():
    observation = bumps(12, 0.12)
    few = diffeo.suggest_neurons(observation, n_neurons=3)
    assert few.problems
    found = diffeo.suggest_neurons(observation)
    assert 3 < len(found.neurons) <= 12
    assert found.problems == []
    assert found.n_projections is None
    assert found.conditioning[-1] > few.conditioning[-1]
    assert len(found.turning) == len(found.neurons)


def test_projections_are_the_answer_where_single_neurons_will_not_do():
    observation = bumps(80, 0.02, 1500)
    found = diffeo.suggest_neurons(observation)
    assert len(found.neurons) == 12
    assert found.n_projections == 16
    assert "RandomProjection(16)" in found.problems[-1]


def test_layers_are_measured_as_their_neurons_will_be():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 20), torch.nn.ReLU(), torch.nn.Linear(20, 12)).double()
    x = np.random.default_rng(0).random((300, 2))
    how = {"smooth": 0.1}
    found = diffeo.suggest_neurons(net, x, **how)
    np.testing.assert_array_equal(found.neurons, diffeo.suggest_neurons(diffeo.observe(net, x, **how)).neurons)
    bursts = diffeo.suggest_neurons(net, x, covariances="bursts")
    assert bursts.dim == 2
    with pytest.raises(errors.ParameterError, match="for a model"):
        diffeo.suggest_neurons(diffeo.observe(net, x, **how), smooth=0.1)
