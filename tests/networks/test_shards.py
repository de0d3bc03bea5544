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
    inputs = INPUTS.copy()
    inputs[400, 1] = np.nan
    with pytest.raises(errors.NonFiniteError, match="inputs 384 to 499, counted from the first of these"):
        diffeo.observe(network, inputs, shards=4, batch_size=128)


@pytest.mark.parametrize(
    "wrong", [{"shards": 0}, {"shards": 2, "covariances": "bursts"}, {"shards": 2, "refine": 5}, {"shards": 2.5}]
)
def test_what_shards_cannot_do_is_refused(network, wrong):
    with pytest.raises((errors.ParameterError, errors.DataTypeError), match=r"shards|between"):
        diffeo.observe(network, INPUTS, **wrong)
