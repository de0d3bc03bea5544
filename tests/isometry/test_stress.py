"""How far misfits may have moved a layout: not by stress alone, but by how the lengths hold it."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo.charts.problems import layout_problems
from diffeo.isometry.graph import NeighborGraph
from diffeo.isometry.stress import moved_by_misfits, relative_stress
from diffeo.isometry.trust import SUSPICIOUS
from scipy.spatial import cKDTree
from support.samples import random_orthogonal, smooth_map, square


def mesh(count=300, seed=0):
    """A graph of the square by twelve nearest neighbours, and its true layout."""
    x = square(count, seed=seed)
    near = cKDTree(x).query(x, 13)[1][:, 1:]
    pairs = np.unique(np.sort(np.column_stack([np.repeat(np.arange(count), 12), near.ravel()]), axis=1), axis=0)
    lengths = np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=1)
    return NeighborGraph(np.arange(count), *(np.ascontiguousarray(p) for p in pairs.T), lengths), x - x.mean(axis=0)


def with_lengths(graph, lengths):
    return NeighborGraph(graph.rows, graph.i, graph.j, lengths)


def test_lengths_all_too_long_by_a_share_are_a_dilation_by_it():
    graph, layout = mesh()
    shorter = with_lengths(graph, 0.99 * graph.lengths)
    assert moved_by_misfits(shorter, layout) == pytest.approx(0.01, rel=1e-3)
    turned = layout @ random_orthogonal(1, 2)[0] + 3.0
    assert moved_by_misfits(shorter, turned) == pytest.approx(moved_by_misfits(shorter, layout), rel=1e-3)
    assert moved_by_misfits(graph, layout) < 1e-12


def test_few_wrong_lengths_make_stress_and_move_little():
    graph, layout = mesh()
    lengths, wrong = graph.lengths.copy(), np.random.default_rng(0).choice(len(graph.lengths), 8, replace=False)
    lengths[wrong] *= 0.5
    few = with_lengths(graph, lengths)
    many = with_lengths(graph, (1.0 - relative_stress(few, layout)) * graph.lengths)
    assert relative_stress(few, layout) > SUSPICIOUS
    assert relative_stress(many, layout) == pytest.approx(relative_stress(few, layout), rel=0.05)
    assert moved_by_misfits(few, layout) < moved_by_misfits(many, layout) / 3.0


def test_what_the_misfits_may_stand_for_is_kept_and_decides_the_problem(tmp_path):
    x = square(200)
    points, jacobians = smooth_map(2, 5, 1)(x)
    chart = diffeo.embed(diffeo.Observation.from_jacobians(points, jacobians), coordinates="isometric")
    fitted = chart.isometric().embedding
    assert fitted.moved_ == 0.0
    assert not chart.problems
    fitted.stress_, fitted.moved_ = 0.02, 0.001
    assert not layout_problems("", chart.isometric())
    chart.save(tmp_path / "little.chart")
    fitted.moved_ = 0.02
    assert "cannot keep all local lengths" in layout_problems("", chart.isometric())[0]
    chart.save(tmp_path / "much.chart")
    for name, moved in (("little", 0.001), ("much", 0.02)):
        assert diffeo.load(tmp_path / f"{name}.chart").isometric().embedding.moved_ == moved
