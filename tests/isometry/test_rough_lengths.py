"""Derivatives that jump from sample to sample: layouts whose neighbours no length has chosen."""

from dataclasses import replace

import numpy as np
import pytest
from diffeo import IsometricEmbedding, Observation, errors
from diffeo.charts.isometric import isometric_chart
from diffeo.charts.problems import layout_problems
from diffeo.isometry import layout_search
from diffeo.isometry.graph import neighbor_graph
from diffeo.isometry.rough_lengths import (
    _without_outliers,
    ends_disagree,
    lengths_are_rough,
    relaid,
    roughness,
    ungated,
)
from diffeo.isometry.trust import ROUGH, explained_by_roughness, is_rough
from support.domains import sphere
from support.graphs import true_graph
from support.recovered import procrustes_error
from support.samples import smooth_map, square


def jumping(n, share, seed=0, m=8):
    """A smooth map of the square whose derivatives are off at random, each on its own, and the inputs."""
    x = square(n, 2, seed)
    points, jacobians = smooth_map(2, m, seed)(x)
    rng = np.random.default_rng(seed)
    off = share * np.sqrt((jacobians**2).mean()) * rng.normal(size=jacobians.shape)
    return x, Observation.from_jacobians(points, jacobians + off)


def test_neighbours_by_place_know_what_rough_lengths_know():
    x, observation = jumping(700, 0.25)
    chart = isometric_chart(observation, 1)
    assert procrustes_error(chart.coordinates, x) < 0.04
    assert chart.is_chart
    assert chart.roughness > 0.02
    said = layout_problems("on side A ", chart)
    assert len(said) == 1
    assert "rough everywhere" in said[0]


def test_without_gates_a_layout_comes_from_measurements_and_shortest_paths(monkeypatch):
    x, observation = jumping(700, 0.25)

    def torn(graph, observation):
        raise errors.DisconnectedError("in pieces", [np.arange(3)])

    monkeypatch.setattr(layout_search, "_largest_piece", torn)
    with pytest.warns(errors.DistortionWarning):
        fitted = IsometricEmbedding(n_jobs=1).fit(observation)
    assert procrustes_error(fitted.embedding_, x) < 0.04
    # Where derivatives are right, pieces are what they are.
    smooth = Observation.from_jacobians(*smooth_map(2, 8)(square(300)))
    with pytest.raises(errors.DisconnectedError):
        IsometricEmbedding(n_jobs=1).fit(smooth)


def test_curved_domains_are_not_rough():
    observation = sphere(400)[1]
    assert ungated(observation, 12, 1) is None
    fitted = isometric_chart(observation, 1)
    assert fitted.roughness == 0.0
    assert not fitted.is_chart


def test_roughness_is_the_error_of_lengths_from_both_ends():
    x, observation = jumping(400, 0.0)
    smooth = roughness(observation.points, observation.whitening, x)
    x, observation = jumping(400, 0.25)
    assert roughness(observation.points, observation.whitening, x) > 5.0 * smooth
    assert roughness(observation.points[:1], observation.whitening[:1], x[:1]) == 0.0
    graph, layout = true_graph(square(200))
    # All lengths kept: nothing is rough.
    assert not lengths_are_rough(observation, graph, layout)
    assert not is_rough(0.5 * ROUGH, ROUGH, 1.0)
    assert not is_rough(0.1, 0.05, 0.01)
    assert explained_by_roughness(0.06, 0.05)
    assert not explained_by_roughness(0.3, 1.0)


def test_lengths_beside_a_cliff_are_told_from_samples_that_are_folded_over():
    x = square(1000, 2)
    for steep in (True, False):
        points, jacobians = (part.copy() for part in smooth_map(2, 5, 0)(x))
        if steep:
            # A front of a fiftieth of the square, less than the spacing of the samples.
            points[:, 0] += np.tanh(50.0 * (x[:, 0] - 0.5))
            jacobians[:, 0, 0] += 50.0 / np.cosh(50.0 * (x[:, 0] - 0.5)) ** 2
        observation = Observation.from_jacobians(points, jacobians)
        graph = neighbor_graph(observation, 12, 1)
        layout = x[graph.rows]
        if not steep:
            # A corner lies mirrored on the samples beside it.
            folded = layout.sum(axis=1) < 0.2
            layout = np.where(folded[:, None], 0.2 - layout[:, ::-1], layout)
        assert ends_disagree(observation, graph, layout) == steep


def test_edges_that_join_no_neighbours_are_dropped_while_they_are_few():
    graph, layout = true_graph(square(300))
    rng = np.random.default_rng(4)
    rough = graph.lengths * rng.uniform(0.95, 1.05, len(graph.i))
    for share, dropped in ((0.02, True), (0.2, False)):
        wrong = rng.random(len(rough)) < share
        few = _without_outliers(replace(graph, lengths=np.where(wrong, 2.0, 1.0) * rough), layout)
        assert len(few.i) == len(rough) - (wrong.sum() if dropped else 0)


def test_pieces_too_small_have_no_layout():
    x, observation = jumping(200, 0.25)
    apart = x.copy()
    apart[:100] += 100.0
    assert relaid(observation, np.arange(200), apart, 5, 1) is None
