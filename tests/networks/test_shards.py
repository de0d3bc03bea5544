"""Many inputs observed in shards: the bits of one go, whoever does the work."""

from __future__ import annotations

import diffeo
import joblib
import numpy as np
import pytest
import torch
from diffeo import errors
from diffeo.networks.shards import measured_shards


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    layers = torch.nn.Linear(3, 40), torch.nn.Tanh(), torch.nn.Linear(40, 30), torch.nn.Softplus()
    return torch.nn.Sequential(*layers).double()


INPUTS = np.random.default_rng(0).random((500, 3))


def same(one, other):
    return (
        np.array_equal(one.points, other.points)
        and np.array_equal(one.whitening, other.whitening)
        and not one.options.differences(other.options)
        and one.dim == other.dim
    )


@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)])
def test_shards_give_the_bits_of_one_go(network, backend):
    how = {"neurons": 12, "batch_size": 64, "noise": 1e-6}
    whole = diffeo.observe(network, INPUTS, **how)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        parts = diffeo.observe(network, INPUTS, shards=3, **how)
    assert same(whole, parts)
    assert len(parts) == 500


@pytest.mark.parametrize("shards", [1, 4, 1000])
def test_parts_are_whole_batches_however_many_are_asked_for(network, shards, monkeypatch):
    sizes = []
    usual = measured_shards.measured_layers

    def measured(model, inputs, *rest):
        sizes.append(len(inputs))
        return usual(model, inputs, *rest)

    monkeypatch.setattr(measured_shards, "measured_layers", measured)
    tangents = np.linalg.qr(np.random.default_rng(1).normal(size=(500, 3, 2)))[0]
    how = {"tangents": tangents, "smooth": 0.01, "batch_size": 3000}
    with joblib.parallel_config(backend="threading", n_jobs=1):
        parts = diffeo.observe(network, INPUTS, shards=shards, **how)
    # 93 rows with their 32 copies are a pass.
    assert {size % 93 for size in sizes[:-1]} <= {0}
    assert sum(sizes) == 500
    assert len(sizes) == min(shards, 6) - (shards == 4)
    assert same(diffeo.observe(network, INPUTS, **how), parts)


def test_what_is_wrong_with_a_part_says_which_inputs_these_are(network):
    class Breaks(torch.nn.Module):
        def forward(self, x):
            if (x == torch.tensor(INPUTS[400])).all(dim=1).any():
                raise RuntimeError("of no use here")
            return network(x)

    with (
        joblib.parallel_config(backend="threading", n_jobs=1),
        pytest.raises(errors.CaptureError, match="inputs 384 to 499, counted from the first of these"),
    ):
        diffeo.observe(Breaks(), INPUTS, shards=4, batch_size=128)


def test_slopes_are_those_of_one_go():
    torch.manual_seed(0)
    kinked = torch.nn.Sequential(torch.nn.Linear(3, 40), torch.nn.ReLU(), torch.nn.Linear(40, 8)).double()
    with joblib.parallel_config(backend="threading", n_jobs=1), pytest.warns(errors.PiecewiseLinearWarning) as said:
        parts = diffeo.observe(kinked, INPUTS, shards=3, batch_size=100)
    assert len(said) == 1
    with errors.unsaid(errors.PiecewiseLinearWarning):
        whole = diffeo.observe(kinked, INPUTS, batch_size=100)
    assert parts.options.n_bursts == whole.options.n_bursts == 18
    assert not parts.options.differences(whole.options)
    assert same(parts, whole)


@pytest.mark.parametrize(
    "wrong", [{"shards": 0}, {"shards": 2, "covariances": "bursts"}, {"shards": 2, "refine": 5}, {"shards": 2.5}]
)
def test_what_shards_cannot_do_is_refused(network, wrong):
    with pytest.raises((errors.ParameterError, errors.DataTypeError), match=r"shards|between"):
        diffeo.observe(network, INPUTS, **wrong)
