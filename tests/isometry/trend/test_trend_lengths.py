"""Lengths that know the trend: terms against differences, lengths against the truth, and layouts that need none."""

from __future__ import annotations

import numpy as np
from diffeo import IsometricEmbedding, Observation
from diffeo.isometry.frames import corrected_lengths, gradients_along, local_frames
from diffeo.isometry.graph import neighbor_graph
from diffeo.isometry.trend.polynomial import Trend, trend_of
from diffeo.isometry.trend.trend_lengths import along_trend
from support.recovered import procrustes_error
from support.samples import random_orthogonal, smooth_map, square


def sparse(dim=5, n=800):
    """Graph, layout, points and whitening of a few samples of a cube, a third of its width apart; and the true gradients."""
    x = square(n, dim, 1) / 2.0
    points, jacobians = smooth_map(dim, 2 * dim + 1, 2, bend=0.5)(x)
    observation = Observation.from_jacobians(points, jacobians)
    graph = neighbor_graph(observation, 4 * dim, 1)
    rows = graph.rows
    return graph, x[rows], np.ascontiguousarray(points[rows]), observation.whitening[rows], jacobians[rows]


def test_slopes_of_terms_are_their_derivatives():
    x = np.random.default_rng(0).normal(size=(40, 3))
    trend = Trend(np.array([[1, 0, 0], [0, 3, 1], [2, 0, 2]]), x.min(axis=0), x.max(axis=0))
    slopes, h = trend.terms(x)[1], 1e-6
    for a, unit in enumerate(np.eye(3)):
        difference = (trend.terms(x + h * unit)[0] - trend.terms(x - h * unit)[0]) / (2 * h)
        np.testing.assert_allclose(slopes[:, a], difference, atol=1e-7)


def test_a_trend_has_all_terms_of_its_degree_and_many_equations_for_each():
    trend = trend_of(square(600, 4))
    assert trend.n_terms == len(np.unique(trend.exponents, axis=0)) <= 600 * 4 / 12
    assert set(trend.exponents.sum(axis=1)) == set(range(1, 6))
    assert trend_of(square(10, 4)) is None


def test_lengths_are_nearer_to_the_truth_than_by_expansions_about_both_ends():
    graph, layout, points, whitening, jacobians = sparse()
    true = np.linalg.norm(graph.steps(layout), axis=1)
    gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
    local = corrected_lengths(graph, layout, points, gradients)
    better, moved, turned, _, _ = along_trend(graph, layout, points, whitening, gradients)
    assert np.linalg.norm(better.lengths - true) < 0.5 * np.linalg.norm(local - true)
    assert np.linalg.norm(turned - jacobians) < 0.6 * np.linalg.norm(gradients - jacobians)
    assert procrustes_error(moved, layout) < 0.01


def test_turned_inputs_are_recovered_as_well():
    x = square(1000, 5, 1) / 2.0
    found = []
    for turn in (np.eye(5), random_orthogonal(1, 5, 3)[0]):
        points, jacobians = smooth_map(5, 11, 2, bend=0.5)(x)
        fitted = IsometricEmbedding(n_jobs=1).fit(Observation.from_jacobians(points, jacobians @ turn))
        found.append(procrustes_error(fitted.embedding_, x))
    assert max(found) < 0.003
    assert max(found) < 1.5 * min(found)
