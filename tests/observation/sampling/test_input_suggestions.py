"""Inputs to add: where measurements bend, where walls hide between samples, and where more of them will not do."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.observation.sampling.judged_steps import changes, input_steps
from support.cliffs import cliff, wall
from support.recovered import procrustes_error
from support.samples import random_orthogonal, smooth_observation, square


def observed(front, x):
    return Observation.from_jacobians(*front(x))


def refined(front, n, more, rounds=4):
    x = square(n, 2, 1)
    for _ in range(rounds):
        found = diffeo.suggest_inputs(observed(front, x), x, more // rounds)
        x = np.concatenate([x, found.inputs])
    return x


def test_smooth_samples_need_no_more():
    x = square(1500, 2, 1)
    found = diffeo.suggest_inputs(smooth_observation(1500, 2, 5), x, 100)
    assert found.settled
    assert found.resolved > 0.99
    assert found.problems == []


def test_inputs_are_suggested_at_the_cliff():
    front = cliff(0.04)
    x = square(800, 2, 1)
    found = diffeo.suggest_inputs(observed(front, x), x, 80)
    assert not found.settled
    assert found.inputs.shape == (80, 2)
    np.testing.assert_array_equal(found.inputs, x[found.rows].mean(axis=1))
    # A third of the square; those across gaps lie a little farther off.
    assert np.mean(abs(front.place(found.inputs)) < 5.5) > 0.95
    # No two are at one place, nor at an old one.
    everything = np.concatenate([x, found.inputs])
    apart = np.linalg.norm(everything[:, None] - found.inputs, axis=2)
    apart[800:][np.eye(80, dtype=bool)] = np.inf
    assert apart.min() > 0.15 * np.median(np.linalg.norm(np.diff(x[found.rows], axis=1)[:, 0], axis=1))


def test_a_refined_sample_recovers_what_as_many_uniform_ones_do_not():
    front = cliff(0.025)
    both = {"refined": refined(front, 700, 1100), "uniform": square(1800, 2, 1)}
    errors_of = {}
    for name, x in both.items():
        with errors.unsaid(errors.DiffeoWarning):
            chart = diffeo.IsometricEmbedding().fit(observed(front, x))
        errors_of[name] = procrustes_error(chart.embedding_, x)
    assert errors_of["refined"] < 0.01
    assert errors_of["refined"] < 0.2 * errors_of["uniform"]


def test_a_wall_between_two_samples_shows_in_the_step_across_it():
    """Both ends see small stretches and parallel tangents."""
    front = wall(1e-4)
    x = np.stack(np.meshgrid(np.linspace(0, 1, 20), np.linspace(0, 1, 20)), axis=-1).reshape(-1, 2)
    observation = observed(front, x)
    steps = input_steps(observation, x, 4, 2)
    turn, stretch = changes(observation.whitening, 2, steps.i, steps.j)
    assert max(turn.max(), stretch.max()) < 1e-6
    across = (x[steps.i, 0] < 0.5) != (x[steps.j, 0] < 0.5)
    np.testing.assert_array_equal(~steps.resolved, across)


def test_steps_are_judged_whatever_the_frames_and_the_unit_of_the_measurements():
    front, x = cliff(0.05), square(300, 2, 1)
    points, jacobians = front(x)
    plain = input_steps(Observation.from_jacobians(points, jacobians), x, 12, 2)
    turned = Observation.from_jacobians(1e3 * points, 1e3 * jacobians @ random_orthogonal(300, 2))
    np.testing.assert_allclose(input_steps(turned, x, 12, 2).severity, plain.severity, rtol=1e-6, atol=1e-6)


def test_uneven_samples_are_judged_like_even_ones():
    """What is weak is asked of the domain, not of the samples: most of these lie on the steepest part of the cliff."""
    front = cliff(0.01)
    crowd = square(200_000, 2, 2)
    x = np.concatenate([square(500, 2, 1), crowd[abs(front.place(crowd)) < 0.7][:800]])
    ratios = observed(front, x).singular_values
    assert np.median(ratios[:, 0] / ratios[:, 1]) > 20.0
    assert diffeo.suggest_inputs(observed(front, x), x, 10).problems == []


def test_weak_directions_are_said_and_not_chased():
    x = square(800, 3, 1)
    bend = 0.1 * np.sin(2 * x[:, 0])
    jacobians = np.zeros((800, 4, 3))
    jacobians[:, 0, 0] = jacobians[:, 1, 1] = 1.0
    jacobians[:, 2, 2], jacobians[:, 3, 2] = 1e-3, 1e-3 * np.cos(9 * x[:, 2])
    jacobians[:, 2, 0] = 0.2 * np.cos(2 * x[:, 0])
    points = np.column_stack([x[:, :2], 1e-3 * x[:, 2] + bend, 1e-3 / 9 * np.sin(9 * x[:, 2])])
    observation = Observation.from_jacobians(points, jacobians)
    found = diffeo.suggest_inputs(observation, x, 100)
    assert len(found.problems) == 1
    assert "dim=2" in found.problems[0]
    # What the weak direction does is not resolved; the others are.
    lengths = input_steps(observation[np.arange(800)], x, 12, 3)
    assert lengths.n_strong == 2
    assert found.resolved > 0.9


def test_inputs_to_spare_are_spent_on_a_weak_direction_that_is_not_too_faint():
    x = square(800, 2, 1)

    def observed_at(x, weak):
        """A bend of the strong direction leaks into one that is so many times weaker, along a line."""
        u = (x[:, 0] - 0.5) / 0.05
        slopes = np.zeros((len(x), 2, 2))
        slopes[:, 0, 0], slopes[:, 1, 1] = 1.0, 1.0 / weak
        slopes[:, 1, 0] = 0.3 * 0.05 / np.cosh(u) ** 2 / 0.05
        with diffeo.errors.unsaid(diffeo.errors.RankWarning):  # which names the gap
            points = np.column_stack([x[:, 0], x[:, 1] / weak + 0.3 * 0.05 * np.tanh(u)])
            return Observation.from_jacobians(points, slopes)

    for weak, chased in ((30.0, True), (1000.0, False)):
        found = diffeo.suggest_inputs(observed_at(x, weak), x, 200)
        (said,) = found.problems
        assert ("spent on it" in said) == chased
        assert "dim=1" in said
        assert (found.resolved_with_weak < found.resolved) == chased
        if chased:
            # All but what the strong direction wants lies where it bends.
            assert (np.abs(found.inputs[:, 0] - 0.5) < 0.15).mean() > 0.8


def test_kinks_are_halved_down_to_a_limit_and_said():
    x = np.random.default_rng(0).random((300, 1))
    for _ in range(12):
        points = np.column_stack([x, np.abs(x - 0.5)])
        jacobians = np.stack([np.ones_like(x), np.where(x > 0.5, 1.0, -1.0)], axis=1)
        found = diffeo.suggest_inputs(Observation.from_jacobians(points, jacobians), x, 50)
        if len(found.inputs) == 0:
            break
        x = np.concatenate([x, found.inputs])
    assert len(found.inputs) == 0
    assert 300 < len(x) < 500


def test_inputs_on_a_set_of_their_own_need_to_be_told_what_lies_between(tmp_path):
    torch = pytest.importorskip("torch")
    angle = np.sort(np.random.default_rng(0).random(120)) * 2 * np.pi
    circle = lambda t: np.column_stack([np.cos(t), np.sin(t)])  # noqa: E731
    tangents = lambda x: np.column_stack([-x[:, 1], x[:, 0]])[:, :, None]  # noqa: E731

    def between(first, second):
        middle = first + second
        return middle / np.linalg.norm(middle, axis=1)[:, None]

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 6), torch.nn.Tanh(), torch.nn.Linear(6, 4)).double()
    with torch.no_grad():
        net[0].weight *= 12
    x = circle(angle)
    observation = diffeo.observe(net, x, tangents=tangents(x))
    found = diffeo.suggest_inputs(observation, x, 20)
    assert found.inputs is None
    assert len(found.rows) == 20
    found = diffeo.suggest_inputs(observation, x, 20, between=between)
    np.testing.assert_allclose(np.linalg.norm(found.inputs, axis=1), 1.0)
    again = diffeo.observe(net, x, tangents=tangents, refine=60, between=between)
    added = again.options.added_inputs
    assert len(again) == 120 + len(added)
    np.testing.assert_allclose(np.linalg.norm(added, axis=1), 1.0)
    np.testing.assert_array_equal(again.points, again.measure(net, np.concatenate([x, added])))
    with pytest.raises(errors.ParameterError, match="between="):
        diffeo.observe(net, x, tangents=tangents(x), refine=60)
    again.save(tmp_path / "refined.safetensors")
    loaded = diffeo.load(tmp_path / "refined.safetensors")
    np.testing.assert_array_equal(loaded.options.added_inputs, added)
    assert loaded.options.resolved == again.options.resolved
    assert diffeo.concatenate([again, observation]).options.added_inputs is None


def test_observe_refines_in_rounds():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 5)).double()
    with torch.no_grad():
        net[0].weight *= 8
    x = square(300, 2, 1)
    plain = diffeo.observe(net, x, neurons=4, rng=3)
    found = diffeo.observe(net, x, neurons=4, rng=3, refine=200)
    again = diffeo.observe(net, x, neurons=4, rng=3, refine=200)
    assert found.points.tobytes() == again.points.tobytes()
    np.testing.assert_array_equal(found.points[:300], plain.points)
    np.testing.assert_array_equal(found.neurons, plain.neurons)
    assert 0 < len(found.options.added_inputs) <= 200
    assert len(found) == 300 + len(found.options.added_inputs)
    before = diffeo.suggest_inputs(plain, x, 1).resolved
    assert before < 0.99
    assert found.options.resolved == pytest.approx(
        diffeo.suggest_inputs(found, np.concatenate([x, found.options.added_inputs]), 1).resolved
    )
    bursts = diffeo.observe(net, x, refine=60, covariances="bursts")
    assert len(bursts) == 300 + len(bursts.options.added_inputs)
    with pytest.raises(errors.ParameterError, match="refine"):
        diffeo.observe(net, x, between=lambda a, b: a)
    with pytest.raises(errors.ParameterError, match="refine"):
        diffeo.observe(net, x, refine=-1)
    none = diffeo.observe(net, x, neurons=4, rng=3, refine=0, between=lambda a, b: a)
    assert none.points.tobytes() == plain.points.tobytes()
    assert none.options.added_inputs is None


def test_what_does_not_fit_is_refused():
    observation, x = smooth_observation(200, 2, 5), square(200, 2, 1)
    with pytest.raises(errors.ShapeError, match="in its order"):
        diffeo.suggest_inputs(observation, x[:-1], 5)
    with pytest.raises(errors.DataTypeError, match="dtype"):
        diffeo.suggest_inputs(observation, np.arange(400).reshape(200, 2), 5)
    with pytest.raises(errors.DataTypeError, match="Observation"):
        diffeo.suggest_inputs(x, x, 5)
    with pytest.raises(errors.ParameterError, match="n must be"):
        diffeo.suggest_inputs(observation, x, 0)
    wild = x.copy()
    wild[7] = np.nan
    with pytest.raises(errors.NonFiniteError, match="row 7"):
        diffeo.suggest_inputs(observation, wild, 5)
    line = np.linspace(0, 1, 100)
    unknown = Observation.from_neighbors(np.column_stack([line, line**2]), dim=1)
    with pytest.raises(errors.ParameterError, match="up to a factor"):
        diffeo.suggest_inputs(unknown, line[:, None], 5)
    with pytest.raises(errors.ShapeError, match="between gave"):
        diffeo.suggest_inputs(smooth_observation(40, 2, 5, bend=3.0), square(40, 2, 1), 5, between=lambda a, b: a[:1])


def test_the_steepest_part_of_a_cliff_is_sampled_too():
    # Across the middle of a front, at u = -0.35 and 0.35, tangents and stretches are the same; lengths are off by 8 %.
    x = 0.014 * (np.arange(-70, 70) + 0.5)[:, None]
    u = x / 0.02
    slopes = np.stack([0.1 * np.ones_like(x), 50.0 / np.cosh(u) ** 2], axis=1)
    steps = input_steps(Observation.from_jacobians(np.hstack([0.1 * x, np.tanh(u)]), slopes), x, 1, 1)
    middle = (steps.i == 69) & (steps.j == 70)
    turn, stretch = changes(
        Observation.from_jacobians(np.hstack([0.1 * x, np.tanh(u)]), slopes).whitening, 1, steps.i, steps.j
    )
    assert turn[middle].max() < 1e-6
    assert stretch[middle].max() < 1e-6
    assert not steps.resolved[middle].any()
    assert steps.resolved[[0, -1]].all()
