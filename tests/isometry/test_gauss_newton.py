"""Gauss-Newton steps on the stress, against dense ones and the truth; domains with thin arms, which need them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import IsometricEmbedding
from diffeo.isometry.gauss_newton import LEAST_DAMPING, _directions, _forces, _step, bend, held_up_by_few
from diffeo.isometry.laplacian import graph_laplacian
from diffeo.isometry.stress import relative_stress
from support.domains import arms
from support.graphs import true_graph
from support.samples import square


def laplacian_of(graph, weights):
    """The Laplacian as `refine` has it."""
    return graph_laplacian(len(graph.rows), graph.i, graph.j, weights, graph.windings)


def bent(x, angle):
    """The samples of a strip along the first axis on a circular arc of an angle."""
    radius = 1.0 / angle
    turn = x[:, 0] * angle
    return np.column_stack([(radius + x[:, 1]) * np.sin(turn), (radius + x[:, 1]) * np.cos(turn)])


def distance_error(layout, true):
    """Root mean square error of distances over pairs of samples, relative."""
    a, b = np.random.default_rng(0).integers(0, len(true), (2, 3000))
    found, right = (np.linalg.norm(y[a] - y[b], axis=1) for y in (layout, true))
    return np.sqrt(np.mean((found - right) ** 2) / np.mean(right**2))


def majorised(graph, layout, steps):
    """The layout after plain majorisation steps with unit weights."""
    incidence, laplacian = graph.incidence(), laplacian_of(graph, np.ones(len(graph.i)))
    for _ in range(steps):
        unit = _directions(graph, layout)[0]
        layout = laplacian.solve(incidence.T @ (unit * graph.lengths[:, None]))
    return layout


def test_a_misfit_whose_square_is_lost_moves_nothing():
    graph, layout = true_graph(square(80, 2))
    forces, right = _forces(graph, np.ones(len(graph.i))), np.full(layout.shape, 1e-250)
    unit, _ = _directions(graph, layout)
    step, _ = _step(right, forces, unit, lambda y: 1e250 * y, 0.1)
    assert np.isfinite(step).all()
    step, _ = _step(1e-20 * right, forces, unit, lambda y: y / 1e-280, 0.1)
    assert not step.any()


@pytest.mark.parametrize("damping", [1.0, 0.01])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_steps_solve_the_damped_system(dim, damping):
    graph, layout = true_graph(square(80, dim))
    rng = np.random.default_rng(1)
    layout = layout + 0.02 * rng.normal(size=layout.shape)
    weights = rng.uniform(0.5, 2.0, len(graph.i))
    incidence, solve = graph.incidence(), laplacian_of(graph, weights).solve
    unit, miss = _directions(graph, layout)
    right = -(incidence.T @ (unit * (weights * miss)[:, None]))
    step, iterations = _step(right, _forces(graph, weights), unit, solve, damping)
    step, right = step[1:] - step[0], right[1:]
    # Rows of the edges in the unknowns of all samples but the held one.
    stretch = np.einsum("en,ed->end", incidence.toarray()[:, 1:], unit).reshape(len(unit), -1)
    laplacian = incidence.toarray().T @ (weights[:, None] * incidence.toarray())
    dense = stretch.T @ (weights[:, None] * stretch) + damping * np.kron(laplacian[1:, 1:], np.eye(dim))
    exact = np.linalg.solve(dense, right.ravel())
    # Conjugate gradients stop at a tenth in the norm of the preconditioner.
    off = (dense @ (step.ravel() - exact)).reshape(step.shape)
    held = np.linalg.inv(laplacian[1:, 1:])
    assert (off * (held @ off)).sum() <= (0.1**2) * (right * (held @ right)).sum() * (1 + 1e-9)
    # Eigenvalues of the preconditioned system lie between the damping and one more than it.
    assert iterations <= 2 + np.sqrt((1 + damping) / damping) * np.log(20.0 * np.sqrt((1 + damping) / damping))


def test_a_bent_strip_is_straightened():
    x = square(600) * [1.0, 0.06]
    graph, _ = true_graph(x)
    weights = np.ones(len(graph.i))
    start = bent(x, 1.0)
    assert distance_error(start, x) > 0.01
    found, iterations, converged = bend(graph, start, weights, laplacian_of(graph, weights), 1e-9)
    assert converged
    assert distance_error(found, x) < 1e-8
    assert distance_error(majorised(graph, start, iterations), x) > 1e-3
    # Stationary: forces vanish.
    unit, miss = _directions(graph, found)
    assert np.abs(graph.incidence().T @ (unit * miss[:, None])).max() < 1e-9


def test_periods_are_unknowns_like_samples():
    periods = np.array([[2.0, 0.0]])
    x = square(600) * [2.0, 0.1]
    graph, layout = true_graph(x, periods)
    weights = np.ones(len(graph.i))
    start = layout.copy()
    start[:, 1] += 0.03 * np.sin(np.pi * layout[:, 0])
    start[-1] *= 1.02
    found, _, converged = bend(graph, start, weights, laplacian_of(graph, weights), 1e-9)
    assert converged
    assert np.linalg.norm(found[-1]) == pytest.approx(2.0, abs=1e-8)
    assert relative_stress(graph, found) < 1e-8


def test_a_few_wrong_lengths_are_told_from_a_bent_layout():
    x = square(600) * [1.0, 0.1]
    graph, _ = true_graph(x)
    wrong = np.random.default_rng(3).random(len(graph.i)) < 0.01
    few = replace(graph, lengths=np.where(wrong, 1.3, 1.0) * graph.lengths)
    assert held_up_by_few(few, x)
    assert not held_up_by_few(graph, x)
    # As much stress, of a layout that is bent, or one size too large, as a whole.
    assert relative_stress(graph, bent(x, 1.0)) > relative_stress(few, x)
    assert not held_up_by_few(graph, bent(x, 1.0))
    assert not held_up_by_few(graph, 1.03 * x)


def test_lengths_that_fit_no_layout_leave_a_minimum_and_never_a_higher_stress():
    x = square(300)
    graph, layout = true_graph(x)
    rng = np.random.default_rng(2)
    graph = replace(graph, lengths=graph.lengths * rng.uniform(0.97, 1.03, len(graph.i)))
    weights = rng.uniform(0.5, 2.0, len(graph.i))
    found, _, converged = bend(graph, layout, weights, laplacian_of(graph, weights), 1e-9)
    assert converged
    unit, miss = _directions(graph, found)
    assert np.abs(graph.incidence().T @ (unit * (weights * miss)[:, None])).max() < 1e-8
    for seed in range(20):
        moved = found + 1e-3 * np.random.default_rng(seed).normal(size=found.shape)
        assert (weights * _directions(graph, moved)[1] ** 2).sum() > (weights * miss**2).sum()
    # From a layout without any sense, too: what comes back is no worse.
    senseless = rng.normal(size=x.shape)
    found = bend(graph, senseless, weights, laplacian_of(graph, weights), 1e-9)[0]
    before, after = ((weights * _directions(graph, y)[1] ** 2).sum() for y in (senseless, found))
    assert after < 0.5 * before


def test_samples_at_one_place_stay_finite():
    graph, layout = true_graph(square(50))
    weights = np.ones(len(graph.i))
    found = bend(graph, np.zeros_like(layout), weights, laplacian_of(graph, weights), 1e-9)[0]
    assert np.isfinite(found).all()
    assert LEAST_DAMPING > 0.0


@pytest.mark.parametrize("shape", ["L", "U", "C"])
def test_thin_arms_do_not_bend(shape):
    x, observation = arms(shape, 1500)
    fitted = IsometricEmbedding().fit(observation)
    assert fitted.converged_
    assert fitted.stress_ < 1e-3
    assert distance_error(fitted.embedding_, x) < 1e-3
