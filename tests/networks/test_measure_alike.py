"""Other inputs measured as an observation was: landmarks and held-out pairs without a second recipe."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
import torch
from diffeo import errors
from support.samples import square


def network(width=12, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.Tanh(), torch.nn.Linear(width, 3))
    return net.to(dtype)


class Sequence(torch.nn.Module):
    """Two positions of six channels."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.lift = torch.nn.Linear(2, 12)
        self.act = torch.nn.Tanh()

    def forward(self, x):
        return self.act(self.lift(x).reshape(len(x), 2, 6))


def first_of_both(output):
    return output[:, :, :4].flatten(1)


X, NEW = square(200, 2, 1), square(7, 2, 2)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        (network(), {"layer": "1", "neurons": [7, 0, 3]}),
        (network(), {}),
        (network(dtype=torch.float32), {"layer": "1", "neurons": 5}),
        (network(), {"layer": "1", "smooth": 0.1}),
        (Sequence().double(), {"reduce": "mean"}),
        (Sequence().double(), {"layer": "act", "reduce": {"act": "last"}, "neurons": [4, 1]}),
        (Sequence().double(), {"reduce": first_of_both, "neurons": [4, 1, 7]}),
        (network(), {"layer": "1", "reduce": diffeo.RandomProjection(4)}),
        (network(), {"layer": "1", "covariances": "bursts", "dim": 2, "scale": 0.01}),
    ],
    ids=range(9),
)
def test_the_same_inputs_give_the_same_measurements(net, options):
    inputs = X if next(net.parameters()).dtype == torch.float64 else X.astype(np.float32)
    observation = diffeo.observe(net, inputs, **options)
    again = observation.measure(net, inputs[:50], batch_size=9)
    assert again.dtype == np.float64
    np.testing.assert_allclose(again, observation.points[:50], rtol=0, atol=1e-12 if inputs is X else 1e-6)


def test_landmarks_measured_alike_match():
    net_a, net_b = network(), network(16, seed=3)
    sides = [diffeo.observe(net, square(600, 2, seed), layer="1", neurons=5) for net, seed in ((net_a, 4), (net_b, 5))]
    pairs = [[side.measure(net, x) for side, net in zip(sides, (net_a, net_b), strict=True)] for x in (NEW, X)]
    t = diffeo.match(*sides, landmarks=tuple(pairs[0]))
    assert diffeo.relative_error(t.transform(pairs[1][0]), pairs[1][1]) < 0.05


def test_another_network_is_refused():
    observation = diffeo.observe(network(), X, layer="1", neurons=4)
    with pytest.raises(errors.InputError, match="layer '1' has 13 neurons here, and had 12"):
        observation.measure(network(13), NEW)
    with pytest.raises(errors.LayerError, match="no layer is named '1'"):
        observation.measure(torch.nn.Linear(2, 3), NEW)
    with pytest.raises(errors.InputError, match="computed in float32 here, and was observed in double"):
        observation.measure(network(dtype=torch.float32), NEW)
    with pytest.raises(errors.NonFiniteError, match="inputs"):
        observation.measure(network(), np.full((2, 2), np.nan))


def test_another_reduction_is_refused():
    net = Sequence().double()
    observation = diffeo.observe(net, X, reduce="mean")
    np.testing.assert_array_equal(observation.measure(net, NEW, reduce="mean"), observation.measure(net, NEW))
    with pytest.raises(errors.ParameterError, match=r"'last'.* was measured with reduce='mean'"):
        observation.measure(net, NEW, reduce="last")
    projected = diffeo.observe(net, X, reduce=diffeo.RandomProjection(4))
    projected.measure(net, NEW, reduce=diffeo.RandomProjection(4))
    with pytest.raises(errors.ParameterError, match=r"RandomProjection\(4, rng=1\)"):
        projected.measure(net, NEW, reduce=diffeo.RandomProjection(4, rng=1))


def test_a_callable_is_asked_for_again_after_loading(tmp_path):
    net = Sequence().double()
    observation = diffeo.observe(net, X, reduce=first_of_both, neurons=[4, 1, 7])
    observation.save(tmp_path / "o.safetensors")
    loaded = diffeo.load(tmp_path / "o.safetensors")
    for wrong in (None, "mean"):
        with pytest.raises(errors.ParameterError, match=r"callable \(first_of_both\).* give it again as reduce="):
            loaded.measure(net, NEW, reduce=wrong)
    np.testing.assert_array_equal(loaded.measure(net, NEW, reduce=first_of_both), observation.measure(net, NEW))
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "o.safetensors").read_bytes()
    with pytest.raises(errors.ParameterError, match="callable"):
        loaded.select([4, 1])[:50].measure(net, NEW)


@pytest.mark.parametrize("reduce", ["mean", None, diffeo.RandomProjection(4, rng=3)], ids=str)
def test_other_rules_come_back_from_a_file(reduce, tmp_path):
    net = Sequence().double()
    observation = diffeo.observe(net, X, reduce=reduce, smooth=0.05)
    observation.save(tmp_path / "o.safetensors")
    loaded = diffeo.load(tmp_path / "o.safetensors")
    np.testing.assert_array_equal(loaded.measure(net, NEW), observation.measure(net, NEW))


def test_what_is_not_known_is_not_guessed():
    observation = diffeo.observe(network(), X, layer="1", neurons=4)
    from_arrays = diffeo.Observation.from_jacobians(observation.points, np.ones((200, 4, 1)))
    with pytest.raises(errors.InputError, match="how this observation was measured is not known"):
        from_arrays.measure(network(), NEW)


def test_parts_are_measured_like_the_whole():
    net = network()
    whole = diffeo.observe(net, X, layer="1")
    part = whole.select([9, 2, 5])
    np.testing.assert_array_equal(part[::3].measure(net, NEW), whole.measure(net, NEW)[:, [9, 2, 5]])
    more = diffeo.observe(net, square(30, 2, 8), layer="1")
    assert len(diffeo.concatenate([whole, more])) == 230
    with pytest.raises(errors.InputError, match=r"options\.layer"):
        diffeo.concatenate([whole, diffeo.observe(net, X, layer="0")])
    with pytest.raises(errors.InputError, match=r"options\.smooth"):
        diffeo.concatenate([whole, diffeo.observe(net, X, layer="1", smooth=0.1)])
