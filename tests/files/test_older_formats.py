"""Files of formats 1 and 2: what they do not say is decoded from their numbers, or stays unknown."""

from __future__ import annotations

import dataclasses

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.how_measured import MeasureOptions
from support.forgeries import forge
from support.stored import assert_same, observations, older, parts


def saved_as(observation, path, version):
    observation.save(path)
    forge(path, *older(*parts(path), version))
    return path


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", list(observations()))
def test_observations_of_older_formats_are_decoded(name, version, tmp_path):
    observation = observations()[name]
    loaded = diffeo.load(saved_as(observation, tmp_path / "o.safetensors", version))
    np.testing.assert_allclose(loaded.degrees_of_freedom[loaded.usable], observation.degrees_of_freedom[loaded.usable])
    assert loaded.precision == observation.precision
    assert (loaded.layer, loaded.scale) == (observation.layer, observation.scale)
    assert not loaded.options.complete
    known = MeasureOptions(observation.layer, observation.neurons, scale=observation.scale)
    same = dataclasses.replace(observation, options=known, degrees_of_freedom=loaded.degrees_of_freedom)
    assert_same(same, loaded)
    with pytest.raises(errors.InputError, match="format 1 or 2"):
        loaded.measure(None, None)


def test_smoothed_bursts_of_an_older_format_keep_their_noise(tmp_path):
    observation = smoothed(observations()["bursts"])
    loaded = diffeo.load(saved_as(observation, tmp_path / "o.safetensors", 2))
    assert loaded.length_noise == pytest.approx(observation.length_noise, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degrees_of_freedom": np.ones(120)}, "unexpected entries in a file of format 2: 'degrees_of_freedom'"),
        ({"options.reduce": "mean"}, "unexpected entries in a file of format 2: 'options.reduce'"),
        ({"whitening": np.ones((120, 3))}, "whitening"),
        ({"whitening": np.ones((120, 3, 4))}, "does not fit whitening"),
        ({"singular_values": np.ones((119, 2))}, "singular_values"),
        ({"singular_values": 5}, "singular_values"),
        ({"points": "text"}, "points"),
        ({"dim": "2"}, "dim"),
        ({"dim": 3}, "dim"),
        ({"neurons": "all"}, "neurons"),
    ],
    ids=range(10),
)
def test_hostile_files_of_older_formats_are_refused(change, message, tmp_path):
    path = saved_as(observations()["jacobians"], tmp_path / "o.safetensors", 2)
    description, tensors = parts(path)
    for name, value in change.items():
        tensors.pop(name, None)
        description["entries"].pop(name, None)
        (tensors if isinstance(value, np.ndarray) else description["entries"])[name] = value
    forge(path, description, tensors)
    with pytest.raises(errors.StorageError, match=message):
        diffeo.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"precision": "half"}, "precision is 'half'"),
        ({"degrees_of_freedom": np.zeros(120)}, "degrees_of_freedom are not all positive"),
        ({"degrees_of_freedom": np.full(120, np.nan)}, "degrees_of_freedom are not all positive"),
        ({"options.reduce": "median"}, "options.reduce is 'median'"),
        ({"options.reduce": '{"callable": 5}'}, "which is no rule"),
        ({"options.reduce": '{"projection": [3]}'}, "which is no rule"),
        ({"options.reduce": '{"projection": [3, -1]}'}, "rng"),
        ({"options.reduce": '{"projection": [1e400, 1]}'}, "n_components"),
        ({"options.reduce": "[" * 5000}, "which is no rule"),
        ({"options.shrinkage": "least"}, "options.shrinkage"),
        ({"options.shrinkage": "-1.0"}, "options.shrinkage"),
        ({"options.covariances": "given"}, "known are auto, jacobians, slopes, bursts"),
        ({"options.width": 0}, "options.width"),
        ({"options.width": 3}, "not all among the 3"),
        ({"options.covariances": None}, "complete is true, although"),
        ({"options.tangents": 1}, "options.tangents"),
        ({"options.smooth": -0.5}, "options.smooth"),
        ({"options.n_bursts": 1}, "options.n_bursts"),
    ],
    ids=range(18),
)
def test_hostile_options_are_refused(change, message, tmp_path):
    path = tmp_path / "o.safetensors"
    observations()["layer"].save(path)
    description, tensors = parts(path)
    for name, value in change.items():
        (tensors if isinstance(value, np.ndarray) else description["entries"])[name] = value
    forge(path, description, tensors)
    with pytest.raises(errors.StorageError, match=message):
        diffeo.load(path)
