"""Frames, corrected lengths, forces and extended layouts: the core against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation
from diffeo._support import core
from diffeo.isometry.frames import BELIEVABLE, FRAME_ROUNDS, corrected_lengths, extended, gradients_along, local_frames
from diffeo.isometry.graph import neighbor_graph
from support.domains import closed
from support.graphs import true_graph
from support.samples import smooth_map, square

CASES = [(1, 3), (2, 2), (2, 5), (3, 7), (4, 9)]


def laid_out(dim, m, n=400):
    """Graph, layout with an error, points and whitening of a smooth observation of the cube."""
    x = square(n, dim, 4)
    points, jacobians = smooth_map(dim, m, 3)(x)
    observation = Observation.from_jacobians(points, jacobians, dim=dim)
    graph = neighbor_graph(observation, 12, 1)
    layout = x[graph.rows] + 1e-4 * np.random.default_rng(0).normal(size=(len(graph.rows), dim))
    return graph, layout, np.ascontiguousarray(observation.points[graph.rows]), observation.whitening[graph.rows]


def plain_frames(graph, layout, points, whitening):
    """Procrustes over both ends of each edge, then over displacements averaged by the frames of the round before."""
    n, d = layout.shape
    frames = np.empty((n, d, d))
    for round_ in range(1 + FRAME_ROUNDS):
        before, frames = frames, np.empty((n, d, d))
        for s in range(n):
            total = np.zeros((d, d))
            for t in np.concatenate([graph.j[graph.i == s], graph.i[graph.j == s]]):
                step, delta = layout[t] - layout[s], points[t] - points[s]
                seen = whitening[s].T @ delta
                if round_ > 0:
                    seen = 0.5 * before[s] @ (before[s].T @ seen + before[t].T @ whitening[t].T @ delta)
                total += np.outer(seen, step) / (step @ step)
            u, _, vt = np.linalg.svd(total)
            frames[s] = u @ vt
    return frames


def plain_lengths(graph, layout, points, gradients):
    """Hermite quadrature along each edge, with second derivatives by weighted least squares around each sample."""
    n, m, d = gradients.shape
    second = np.empty((n, m, d, d))
    for s in range(n):
        around = np.concatenate([graph.j[graph.i == s], graph.i[graph.j == s]])
        step = layout[around] - layout[s]
        weight = 1.0 / (step**2).sum(axis=1)
        change = gradients[around] - gradients[s]
        inverse = np.linalg.pinv((weight[:, None] * step).T @ step, rcond=1e-6, hermitian=True)
        second[s] = np.einsum("tmk,ta,t,ab->mkb", change, step, weight, inverse)
    lengths = np.empty(len(graph.i))
    for e, (i, j) in enumerate(zip(graph.i, graph.j, strict=True)):
        step = layout[j] - layout[i]
        bend = (second[i] - second[j]) @ step @ step
        mean = 0.5 * (gradients[i] + gradients[j])
        missing = points[j] - points[i] - mean @ step - bend / 12.0
        lengths[e] = np.linalg.norm(step + np.linalg.lstsq(mean, missing, rcond=None)[0])
    believed = np.abs(lengths - graph.lengths) <= BELIEVABLE * graph.lengths
    return np.where(believed, lengths, graph.lengths)


@pytest.mark.parametrize(("dim", "m"), CASES)
def test_frames_are_those_of_plain_procrustes(dim, m):
    graph, layout, points, whitening = laid_out(dim, m)
    found = local_frames(graph, layout, points, whitening)
    np.testing.assert_allclose(found, plain_frames(graph, layout, points, whitening), atol=1e-10)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(dim), found.shape), atol=1e-12)


@pytest.mark.parametrize(("dim", "m"), CASES)
def test_corrected_lengths_are_the_plain_ones(dim, m):
    graph, layout, points, whitening = laid_out(dim, m)
    gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
    found = corrected_lengths(graph, layout, points, gradients)
    np.testing.assert_allclose(found, plain_lengths(graph, layout, points, gradients), rtol=1e-9)


@pytest.mark.parametrize("periods", [None, [[1.0, 0.0]]])
def test_forces_are_the_gradient_of_the_stress(periods):
    graph, layout = true_graph(square(300) * [1.0, 0.3], None if periods is None else np.array(periods))
    rng = np.random.default_rng(1)
    layout = layout + 0.05 * rng.normal(size=layout.shape)
    weights = rng.uniform(0.2, 1.0, len(graph.i))
    forces = core.Stress(len(graph.rows), graph.i, graph.j, graph.lengths, weights, graph.windings)
    gradient, stress = forces.gradient(layout, 1)
    step = graph.steps(layout)
    norm = np.linalg.norm(step, axis=1)
    miss = norm - graph.lengths
    assert stress == pytest.approx(float((weights * miss**2).sum()), rel=1e-12)
    expected = graph.incidence().T @ (step * (weights * miss / norm)[:, None])
    np.testing.assert_allclose(gradient, expected, atol=1e-12 * np.abs(expected).max())
    again, same = forces.gradient(layout, 3)
    assert again.tobytes() == gradient.tobytes()
    assert same == stress
    unit, move = step / norm[:, None], rng.normal(size=layout.shape)
    product = forces.stiffness(unit, 0.3, move, 1)
    change = graph.steps(move)
    pull = (unit * (unit * change).sum(axis=1)[:, None] + 0.3 * change) * weights[:, None]
    expected = graph.incidence().T @ pull
    np.testing.assert_allclose(product, expected, atol=1e-12 * np.abs(expected).max())
    assert forces.stiffness(unit, 0.3, move, 3).tobytes() == product.tobytes()


@pytest.mark.parametrize(("dim", "m"), [(1, 3), (2, 5), (3, 7)])
def test_layouts_extend_from_a_few_samples(dim, m):
    graph, _, points, whitening = laid_out(dim, m, 3000)
    x = square(3000, dim, 4)[graph.rows]
    known = np.arange(7, 3000, 20)
    frames = local_frames(graph, x, points, whitening)
    found = extended(graph, known, x[known], frames[known], points, whitening)
    assert np.array_equal(found[known], x[known])
    error = np.linalg.norm(found - x, axis=1)
    # Far below the length of an edge, while the nearest known sample is several edges away.
    assert np.sqrt((error**2).mean()) < 0.1 * np.median(graph.lengths)


def test_layouts_extend_around_a_closed_domain_up_to_its_period():
    x, observation = closed(1000, [[2.0, 0.0]], 0.5)
    graph = neighbor_graph(observation, 12, 1)
    points, whitening = np.ascontiguousarray(observation.points[graph.rows]), observation.whitening[graph.rows]
    x = x[graph.rows]
    # Away from the cut, where steps are differences of coordinates.
    inner = np.flatnonzero((x[:, 0] > 0.3) & (x[:, 0] < 1.7))
    part = graph.restricted(np.isin(np.arange(1000), inner))
    known = np.arange(0, len(inner), 15)
    frames = local_frames(part, x[inner], points[inner], whitening[inner])
    found = extended(part, known, x[inner][known], frames[known], points[inner], whitening[inner])
    assert np.abs(found - x[inner]).max() < np.median(graph.lengths)


def test_shapes_are_checked():
    graph, layout, points, whitening = laid_out(2, 5, 100)
    steps = graph.steps(layout)
    with pytest.raises(ValueError, match="steps"):
        core.local_frames(points, whitening, graph.i, graph.j, steps[:-1], 1, 1)
    with pytest.raises(ValueError, match="no such row"):
        core.local_frames(points, whitening, graph.i + 100, graph.j, steps, 1, 1)
    with pytest.raises(ValueError, match="lengths"):
        core.corrected_lengths(points, whitening, graph.i, graph.j, steps, graph.lengths[1:], 0.2, 1)
    forces = core.Stress(100, graph.i, graph.j, graph.lengths, graph.lengths, graph.windings)
    with pytest.raises(ValueError, match="layout"):
        forces.gradient(layout[1:], 1)
    with pytest.raises(ValueError, match="move"):
        forces.stiffness(steps, 0.1, layout[1:], 1)
    with pytest.raises(ValueError, match="unit"):
        forces.stiffness(steps[1:], 0.1, layout, 1)
    with pytest.raises(ValueError, match="known"):
        core.extend_layout(points, whitening, graph.i, graph.j, np.ones(3, bool), layout, np.ones((100, 2, 2)), 1)
