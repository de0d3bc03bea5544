"""`suggest_neurons`: a set that conditions, bends little and separates, found among neurons that do not."""

from __future__ import annotations

import itertools

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.networks.neuron_choice import LIMIT_SEPARATION, LIMIT_TURNING
from diffeo.observation.curvature import Cost, look
from support.samples import random_orthogonal, smooth_map, square


def waves(x, slopes, phases):
    """Neurons tanh(slope . x + phase): values and Jacobians."""
    y = np.tanh(x @ slopes.T + phases)
    return y, (1.0 - y**2)[:, :, None] * slopes


def layer(n, m=12, seed=0):
    """A layer of m gentle neurons on the unit square."""
    rng = np.random.default_rng(seed)
    return waves(square(n, 2, seed + 1), rng.normal(size=(m, 2)), rng.normal(scale=0.3, size=m))


def observed(y, jacobians):
    return Observation.from_jacobians(y, jacobians, dim=2)


def relabelled(values, order):
    return np.ascontiguousarray(values[:, order])


def assert_same(a, b):
    np.testing.assert_array_equal(a.neurons, b.neurons)
    for name in ("conditioning", "turning", "separation"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6)
    assert len(a.problems) == len(b.problems)


def test_result_has_one_entry_a_step():
    chosen = diffeo.suggest_neurons(observed(*layer(300)))
    assert chosen.neurons.shape == chosen.conditioning.shape == chosen.turning.shape == chosen.separation.shape == (5,)
    assert chosen.neurons.dtype == np.int64
    assert len(set(chosen.neurons.tolist())) == 5
    assert chosen.problems == []
    assert chosen.dim == 2
    # One neuron conditions, bends and separates nothing of two dimensions.
    assert (chosen.conditioning[0], chosen.turning[0], chosen.separation[0]) == (0.0, np.inf, 0.0)
    assert (chosen.conditioning[1:] > 0.0).all()
    assert repr(chosen).startswith(f"NeuronSet({chosen.neurons.tolist()}, conditioning=")


def test_an_isometry_conditions_perfectly_and_does_not_turn():
    x = square(500)
    # Pairs of orthogonal unit directions, so that any such pairs together are an isometry up to scale.
    angles = np.array([0.0, 0.4, 0.9])
    slopes = np.concatenate([np.stack([np.cos(a), np.sin(a)], axis=-1) for a in (angles, angles + np.pi / 2)])
    y, jacobians = x @ slopes.T, np.broadcast_to(slopes, (len(x), 6, 2))
    chosen = diffeo.suggest_neurons(observed(y, np.ascontiguousarray(jacobians)), n_neurons=6)
    assert chosen.conditioning[-1] == pytest.approx(1.0)
    assert chosen.turning[-1] == pytest.approx(0.0, abs=1e-7)
    # Far samples are more than 3 spacings away, and an isometry keeps that.
    assert 3.0 < chosen.separation[-1] < 3.5


def test_constant_repeated_and_wild_neurons_are_not_chosen():
    n = 1000
    x = square(n, 2, 6)
    y, jacobians = layer(n, m=6, seed=5)
    # Useless ones: constants, copies up to scale and offset, a ripple across some six spacings, and what folds it.
    ripple, slope = 0.1 * np.sin(20.0 * x[:, 1:]), np.zeros((n, 1, 2))
    slope[:, 0, 1] = 2.0 * np.cos(20.0 * x[:, 1])
    values = np.concatenate([np.full((n, 2), 0.3), 2.0 * y + 1.0, ripple, ripple**2, y], axis=1)
    slopes = np.concatenate(
        [np.zeros((n, 2, 2)), 2.0 * jacobians, slope, 2.0 * ripple[:, :, None] * slope, jacobians], axis=1
    )
    with pytest.warns(errors.ConstantNeuronWarning):
        obs = observed(values, slopes)
    chosen = diffeo.suggest_neurons(obs)
    assert chosen.problems == []
    assert not {0, 1, 8, 9} & set(chosen.neurons.tolist())
    originals = [k - 2 if k < 8 else k - 10 for k in chosen.neurons.tolist()]
    assert len(set(originals)) == 5
    # A set with the ripple in place of any of them is worse.
    cost = Cost(look(obs, obs.usable, 1.0, np.random.default_rng(0)))
    members = chosen.neurons.tolist()
    assert all(cost.of([*members[:k], 8, *members[k + 1 :]]) > 1.5 * cost.of(members) for k in range(5))


def test_the_set_separates_where_two_neurons_alone_cross():
    # A strip wound around a cylinder: cos and sin of the angle condition perfectly, but cross; the height unwinds it.
    n = 2000
    x = square(n, 2, 7) * [9.0, 1.0]
    one, zero = np.ones(n), np.zeros(n)
    columns = [
        (np.cos(x[:, 0]), -np.sin(x[:, 0]), zero),
        (np.sin(x[:, 0]), np.cos(x[:, 0]), zero),
        (x[:, 1], zero, one),
        (np.cos(x[:, 0] + 1.0), -np.sin(x[:, 0] + 1.0), zero),
        (0.3 * x[:, 0], 0.3 * one, zero),
    ]
    y, jacobians = (
        np.stack([c[0] for c in columns], axis=1),
        np.stack([np.stack(c[1:], axis=1) for c in columns], axis=1),
    )
    cylinder = diffeo.suggest_neurons(observed(y[:, :3], np.ascontiguousarray(jacobians[:, :3])), n_neurons=3)
    spiral = diffeo.suggest_neurons(observed(y, jacobians), n_neurons=4)
    assert 4 in spiral.neurons
    assert 2 in spiral.neurons
    assert spiral.separation[-1] > 2.0 > LIMIT_SEPARATION
    assert spiral.problems == []
    # Without the last neuron, one measurement belongs to inputs a whole turn apart: the layer itself cannot tell.
    assert cylinder.conditioning[-1] == pytest.approx(1.0)


def test_the_set_is_the_best_of_all_that_could_be_chosen():
    y, jacobians = smooth_map(2, 9, seed=2, bend=1.0)(square(300, 2, 3))
    obs = observed(y, jacobians)
    chosen = diffeo.suggest_neurons(obs, n_neurons=4, rng=1)
    cost = Cost(look(obs, obs.usable, 1.0, np.random.default_rng(1)))
    best = min(cost.of(list(s)) for s in itertools.combinations(range(9), 4))
    assert cost.of(chosen.neurons.tolist()) <= 1.02 * best


def test_costs_of_candidates_are_the_costs_of_the_sets(monkeypatch):
    y, jacobians = smooth_map(2, 8, seed=5, bend=0.6)(square(400, 2, 6))
    obs = observed(y, jacobians)
    cost = Cost(look(obs, obs.usable, 1.0, np.random.default_rng(0)))
    # Candidates are tried on the nearest far samples only; here on all, so that they are exact.
    monkeypatch.setattr("diffeo.observation.curvature.N_RIVALS", 400)
    for chosen in ([], [3], [3, 6], [0, 5, 7, 1]):
        costs = cost.with_each(chosen)
        for k in set(range(8)) - set(chosen):
            assert costs[k] == pytest.approx(cost.of([*chosen, k]), rel=1e-5)
        assert np.isinf(costs[chosen]).all()


def test_turning_is_that_of_the_definition():
    y, jacobians = smooth_map(2, 6, seed=8, bend=0.5)(square(300, 2, 9))
    obs = observed(y, jacobians)
    sample = look(obs, obs.usable, 1.0, np.random.default_rng(0))
    chosen = [0, 2, 5]
    squared = Cost(sample).turning(chosen)
    for i in (0, 100, 299):
        a = sample.anchors[i]
        changes = []
        for j in sample.neighbors[i][sample.counted[i]]:
            # The true Jacobians share the frame of the inputs, so the best rotation is nearly the identity.
            pulled = np.linalg.pinv(jacobians[a]) @ jacobians[j]
            u, _, vt = np.linalg.svd(pulled)
            changes.append(((jacobians[j] @ (u @ vt).T - jacobians[a])[chosen] ** 2).sum())
        trace = np.trace(np.linalg.inv(jacobians[a][chosen].T @ jacobians[a][chosen]))
        assert squared[i] == pytest.approx(np.mean(changes) * trace, rel=1e-5)


def test_neighbours_are_those_of_the_inputs():
    x = square(1000, 2, 1)
    y, jacobians = smooth_map(2, 20, seed=0, bend=0.3)(x)
    obs = observed(y, jacobians)
    sample = look(obs, obs.usable, 1.0, np.random.default_rng(0))
    own = x[sample.anchors]
    distances = np.linalg.norm(own[:, None] - x, axis=2)
    nearest = np.argsort(distances, axis=1)[:, 1:13]
    shared = [len(set(a) & set(b)) for a, b in zip(nearest.tolist(), sample.neighbors.tolist(), strict=True)]
    assert np.mean(shared) > 11.0
    np.testing.assert_allclose(sample.reach, np.sort(distances, axis=1)[:, 12], rtol=0.2)
    # What counts as far is far: never within two reaches.
    assert (distances[sample.far] > 2.0 * np.repeat(sample.reach, sample.far.sum(axis=1))).all()


def test_local_frames_do_not_matter():
    y, jacobians = layer(300, seed=2)
    turned = jacobians @ random_orthogonal(300, 2, 3)
    assert_same(diffeo.suggest_neurons(observed(y, jacobians)), diffeo.suggest_neurons(observed(y, turned)))


@pytest.mark.parametrize("unit", [1e-30, 1e-3, 2.0, 1e30])
def test_the_unit_of_the_measurements_does_not_matter(unit):
    y, jacobians = layer(300, seed=2)
    assert_same(
        diffeo.suggest_neurons(observed(y, jacobians)), diffeo.suggest_neurons(observed(unit * y, unit * jacobians))
    )


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_the_unit_of_the_inputs_does_not_matter(unit):
    y, jacobians = layer(300, seed=2)
    assert_same(diffeo.suggest_neurons(observed(y, jacobians)), diffeo.suggest_neurons(observed(y, jacobians / unit)))


def test_the_order_of_the_neurons_does_not_matter():
    y, jacobians = layer(300, m=9, seed=2)
    order = np.random.default_rng(0).permutation(9)
    plain = diffeo.suggest_neurons(observed(y, jacobians))
    shuffled = diffeo.suggest_neurons(observed(relabelled(y, order), relabelled(jacobians, order)))
    assert sorted(order[shuffled.neurons].tolist()) == sorted(plain.neurons.tolist())


def test_repeated_calls_agree():
    obs = observed(*layer(300, seed=2))
    assert_same(diffeo.suggest_neurons(obs, rng=3), diffeo.suggest_neurons(obs, rng=3))


def test_turning_scales_with_the_spacing(monkeypatch):
    # Evaluated on a quarter of the samples, lengths are those of the whole sample.
    obs = observed(*layer(2000, seed=2))
    whole = diffeo.suggest_neurons(obs)
    monkeypatch.setattr("diffeo.networks.neuron_choice.MAX_SAMPLES", 500)
    part = diffeo.suggest_neurons(obs)
    np.testing.assert_allclose(part.turning[1:], whole.turning[1:], rtol=0.5)
    assert part.turning[-1] < 1.5 * whole.turning[-1]


def test_too_few_samples_for_the_curvature_are_said_with_a_number():
    x = square(150, 2, 3)
    rng = np.random.default_rng(0)
    slopes = 2.0 * rng.normal(size=(6, 2))
    y, jacobians = np.sin(x @ slopes.T), np.cos(x @ slopes.T)[:, :, None] * slopes
    chosen = diffeo.suggest_neurons(observed(y, jacobians))
    assert chosen.turning[-1] > LIMIT_TURNING
    (problem,) = [p for p in chosen.problems if "bend too sharply" in p]
    assert "150 samples; use about" in problem
    # The number is an estimate from the worst sample: twice as many are enough.
    many = int(2.0 * float(problem.split("use about ")[1].split(",")[0]))
    x = square(many, 2, 3)
    y, jacobians = np.sin(x @ slopes.T), np.cos(x @ slopes.T)[:, :, None] * slopes
    assert not [p for p in diffeo.suggest_neurons(observed(y, jacobians)).problems if "bend too sharply" in p]


def test_a_layer_that_folds_is_said():
    n = 1000
    x = square(n, 2, 3) - [0.5, 0.0]
    slopes = np.random.default_rng(0).normal(size=(7, 2))
    folded = np.stack([x[:, 0] ** 2, x[:, 1]], axis=1)
    inner = np.stack([np.stack([2.0 * x[:, 0], np.zeros(n)], axis=1), np.tile([0.0, 1.0], (n, 1))], axis=1)
    y, outer = waves(folded, slopes, np.zeros(7))
    chosen = diffeo.suggest_neurons(observed(y, outer @ inner))
    assert any("the whole layer nearly vanishes" in p for p in chosen.problems)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_neurons": 13}, errors.ParameterError, "13 neurons are to be chosen for dimension 2"),
        ({"n_neurons": 1}, errors.ParameterError, "1 neurons are to be chosen for dimension 2"),
        ({"n_neurons": 2.5}, errors.ParameterError, "n_neurons must be an integer"),
        ({"dim": 1}, errors.ParameterError, "the observation has dim = 2"),
        ({"layer": "1"}, errors.ParameterError, "an observation is complete"),
        ({"rng": -1}, errors.ParameterError, "rng=-1 is no seed"),
        ({"inputs": np.zeros((300, 2))}, errors.ParameterError, "an observation is complete"),
    ],
)
def test_arguments_that_do_not_fit(arguments, error, words):
    with pytest.raises(error, match=words):
        diffeo.suggest_neurons(observed(*layer(300)), **arguments)


def test_too_few_distinct_neurons():
    y, jacobians = layer(300, m=3)
    twice, slopes = np.concatenate([y, 1.0 - 3.0 * y], axis=1), np.concatenate([jacobians, -3.0 * jacobians], axis=1)
    with pytest.raises(errors.ParameterError, match="only 3 of the 6 neurons vary and differ"):
        diffeo.suggest_neurons(observed(twice, slopes))
    assert len(diffeo.suggest_neurons(observed(twice, slopes), n_neurons=3).neurons) == 3


def test_a_layer_narrower_than_whitney():
    with pytest.raises(errors.ParameterError, match=r"5 neurons are to be chosen for dimension 2 .* of 4"):
        diffeo.suggest_neurons(observed(*layer(300, m=4)))
    assert len(diffeo.suggest_neurons(observed(*layer(300, m=4)), n_neurons=4).neurons) == 4


def test_too_few_samples():
    y, jacobians = layer(3)
    with pytest.raises(errors.SampleSizeError, match="at least dim \\+ 2 = 4"):
        diffeo.suggest_neurons(observed(y, jacobians))


def test_few_samples_are_enough_to_choose():
    chosen = diffeo.suggest_neurons(observed(*layer(6)), n_neurons=3)
    assert len(chosen.neurons) == 3


class TestNetworks:
    """The same from a network, with what only inputs can show."""

    @pytest.fixture(autouse=True)
    def torch_networks(self):
        pytest.importorskip("torch")
        from support import networks

        self.networks = networks

    def test_equals_the_choice_from_an_observation(self):
        model, x = self.networks.mlp(2, 16, 12, 1), square(300)
        obs = diffeo.observe(model, x, layer="2")
        from_model = diffeo.suggest_neurons(model, x, layer="2")
        assert_same(from_model, diffeo.suggest_neurons(obs))
        assert from_model.layer == "2"
        part = diffeo.observe(model, x, layer="2", neurons=from_model.neurons)
        np.testing.assert_array_equal(part.points, obs.points[:, from_model.neurons])

    def test_numbers_are_those_of_the_layer(self):
        model, x = self.networks.mlp(2, 16, 12, 1), square(300)
        measured = [11, 3, 7, 0, 8, 5]
        chosen = diffeo.suggest_neurons(diffeo.observe(model, x, layer="2", neurons=measured), n_neurons=4)
        assert set(chosen.neurons.tolist()) < set(measured)

    def test_more_inputs_than_are_looked_at(self, monkeypatch):
        model, x = self.networks.mlp(2, 16, 12, 1), square(1500)
        whole = diffeo.suggest_neurons(model, x, layer="2")
        monkeypatch.setattr("diffeo.networks.neuron_choice.MAX_SAMPLES", 500)
        part = diffeo.suggest_neurons(model, x, layer="2")
        np.testing.assert_allclose(part.turning[1:], whole.turning[1:], rtol=0.5)

    def test_a_layer_that_gives_two_inputs_one_measurement(self):
        torch = self.networks.torch
        # Winding the first input around a circle twice over conditions perfectly: only the inputs show the overlap.
        model = self.networks.Call(
            lambda z: torch.cat([torch.sin(12.0 * z[:, :1] + k) for k in range(4)] + [z[:, 1:], z[:, 1:].exp()], dim=1),
            p=2,
            m=2,
        )
        with torch.no_grad():
            model.inner.weight.copy_(torch.eye(2))
        chosen = diffeo.suggest_neurons(model, square(800), n_neurons=4)
        assert any("inputs that are far apart" in p for p in chosen.problems)

    def test_a_layer_that_discards_a_direction(self):
        model = self.networks.mlp(2, 1, 8, 1)
        chosen = diffeo.suggest_neurons(model, square(300), layer="3")
        assert chosen.dim == 1
        assert any("responds to only 1 of the 2 input directions" in p for p in chosen.problems)

    def test_a_layer_of_one_neuron(self):
        with pytest.raises(errors.ParameterError, match=r"3 neurons are to be chosen for dimension 1 .* of 1"):
            diffeo.suggest_neurons(self.networks.mlp(2, 8, 1), square(300))

    def test_tensors_serve_as_inputs(self, monkeypatch):
        monkeypatch.setattr("diffeo.networks.neuron_choice.MAX_SAMPLES", 200)
        model, x = self.networks.mlp(2, 8, 6, 1), square(300)
        tensor = self.networks.torch.tensor(x)
        assert_same(diffeo.suggest_neurons(model, x, layer="2"), diffeo.suggest_neurons(model, tensor, layer="2"))

    def test_tangents_restrict_the_directions(self, monkeypatch):
        # A curve in the plane: one direction, three neurons; rows of a problem are those of the caller.
        monkeypatch.setattr("diffeo.networks.neuron_choice.MAX_SAMPLES", 200)
        angle = np.sort(np.random.default_rng(0).uniform(0.0, 3.0, 300))
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        tangents = np.stack([-np.sin(angle), np.cos(angle)], axis=1)[:, :, None]
        model = self.networks.mlp(2, 8, 6, 1)
        chosen = diffeo.suggest_neurons(model, x, layer="2", tangents=tangents)
        assert chosen.dim == 1
        assert chosen.neurons.shape == (3,)
        assert chosen.problems == []
        with pytest.raises(errors.ShapeError, match="299 tangents for 300 inputs"):
            diffeo.suggest_neurons(model, x, layer="2", tangents=tangents[1:])

    @pytest.mark.parametrize("inputs", [np.float64(3.0), "inputs", iter([np.ones((9, 2))])])
    def test_inputs_that_are_no_arrays(self, inputs):
        with pytest.raises(errors.DiffeoError, match="inputs"):
            diffeo.suggest_neurons(self.networks.mlp(2, 8, 6), inputs)

    def test_a_model_needs_inputs(self):
        with pytest.raises(errors.DataTypeError, match="needs inputs"):
            diffeo.suggest_neurons(self.networks.mlp(2, 8, 4))
