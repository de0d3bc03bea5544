"""Sparse cuts are found where there are any; parts behind them are turned by their frames, braced, and named if loose."""

from __future__ import annotations

from dataclasses import replace

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.isometry import layout_search
from diffeo.isometry.graph import bridged, neighbor_graph
from diffeo.isometry.hinges import find_hinges, sparse_parts
from diffeo.isometry.layout_search import unfold
from diffeo.isometry.stress import relative_stress


def neurons(x, seed, gain=1.5):
    """Random neurons above a random layer, with their Jacobians; 2 d + 1 of them."""
    d = x.shape[1]
    rng, units = np.random.default_rng(seed), max(32, 4 * d)
    first, shift = gain * rng.standard_normal((units, d)) / np.sqrt(d), 0.5 * rng.standard_normal(units)
    second = rng.standard_normal((2 * d + 1, units)) / np.sqrt(units)
    hidden = np.tanh(x @ first.T + shift)
    points = np.tanh(hidden @ second.T)
    inner = (1.0 - hidden**2)[:, :, None] * first
    return Observation.from_jacobians(points, (1.0 - points**2)[:, :, None] * (second @ inner))


def parted(n, gap, seed, d=2):
    """The unit cube with a gap in the middle of its first axis."""
    x = np.random.default_rng(seed).random((n, d))
    x[:, 0] = np.where(x[:, 0] < 0.5, x[:, 0] * (1 - gap), 1 - (1 - x[:, 0]) * (1 - gap))
    return x


def chained(n, deviation, seed):
    """Two squares joined by single samples, nearly in one line."""
    rng = np.random.default_rng(seed)
    line = np.column_stack([1 + np.linspace(0.02, 0.28, 15), 0.5 + deviation * rng.standard_normal(15)])
    return np.vstack([rng.random((n, 2)), rng.random((n, 2)) + np.array([1.3, 0.0]), line])


def error(found, true):
    """Relative rms error after the best rigid motion."""
    found, true = found - found.mean(axis=0), true - true.mean(axis=0)
    u, _, vt = np.linalg.svd(found.T @ true)
    return np.linalg.norm(found @ (u @ vt) - true) / np.linalg.norm(true)


def graph_of(observation):
    return bridged(neighbor_graph(observation, 12, 1), observation, 12, 1)


def test_the_halves_beside_a_gap_are_parts():
    x = parted(2000, 0.08, 0)
    graph = graph_of(neurons(x, 11))
    part = sparse_parts(graph, 2)
    right = x[graph.rows, 0] > 0.5
    assert set(part) == {0, 1}
    assert ((part == 1) == right).mean() in (0.0, 1.0)


def ring(x):
    return np.column_stack([(0.6 + 0.4 * x[:, 1]) * f(2 * np.pi * x[:, 0]) for f in (np.cos, np.sin)])


@pytest.mark.parametrize(
    ("shape", "d"),
    [
        (lambda x: x, 2),
        (lambda x: x * [1.0, 0.1], 2),
        (ring, 2),
        (lambda x: x**2, 2),
        (lambda x: x, 3),
        (lambda x: x, 4),
    ],
)
def test_ordinary_samples_have_no_sparse_cut_and_the_same_bits(shape, d, monkeypatch):
    observation = neurons(shape(np.random.default_rng(d).random((1500, d))), 5, gain=1.0)
    found = unfold(observation, 12, 1)
    assert not sparse_parts(graph_of(observation), d).any()
    monkeypatch.setattr(layout_search, "find_hinges", lambda *_: None)
    assert np.array_equal(found.layout, unfold(observation, 12, 1).layout)
    assert found.loose == []


def test_a_mirrored_part_is_turned_back_by_its_frames():
    x = parted(2000, 0.08, 0)
    observation = neurons(x, 11)
    graph = graph_of(observation)
    hinges = find_hinges(observation, graph, 12, 1)
    folded = x[graph.rows].copy()
    right = hinges.part[graph.rows] == hinges.part[np.argmax(x[:, 0])]
    folded[right, 1] = 1.0 - folded[right, 1]
    assert error(folded, x[graph.rows]) > 0.4
    assert error(hinges.turned(observation, graph, folded), x[graph.rows]) < 0.05
    # Mirrored, one part is what no length says, and what the frames at its edges do.
    assert [part.doubt >= 1.0 for part in hinges.loose(observation, graph, folded)] == [True]
    assert [part.doubt >= 1.0 for part in hinges.loose(observation, graph, x[graph.rows])] == [False]


@pytest.mark.parametrize(("gap", "seed"), [(0.08, 0), (0.1, 5)])
def test_a_half_beyond_a_gap_is_not_folded_over(gap, seed, monkeypatch):
    x = parted(2000, gap, seed)
    observation = neurons(x, 11)
    assert error(diffeo.IsometricEmbedding().fit(observation).embedding_, x) < 0.005
    # It is for the search: without it the layout is folded, at a stress that shows nothing.
    monkeypatch.setattr(layout_search, "find_hinges", lambda *_: None)
    folded = unfold(observation, 12, 1)
    assert error(folded.coordinates, x[folded.graph.rows]) > 0.5
    assert relative_stress(folded.graph, folded.layout) < 1e-3


def test_braces_are_new_edges_between_parts():
    observation = neurons(parted(2000, 0.08, 0), 11)
    graph = graph_of(observation)
    hinges = find_hinges(observation, graph, 12, 1)
    braced = hinges.braced(graph)
    assert len(np.unique(braced.i * len(graph.rows) + braced.j)) == len(braced.i) > len(graph.i)
    part = hinges.part[graph.rows]
    added = slice(len(graph.i), None)
    assert (part[braced.i[added]] != part[braced.j[added]]).all()
    assert len(hinges.braced(braced).i) == len(braced.i)
    closed = replace(graph, windings=np.zeros((len(graph.i), 1)))
    assert hinges.braced(closed) is closed


def test_a_part_that_single_samples_hold_is_named_with_its_share_and_rows(tmp_path):
    observation = neurons(chained(800, 0.0, 0), 0, gain=1.2)
    with pytest.warns(errors.DistortionWarning, match="hang on the others"):
        fitted = diffeo.IsometricEmbedding().fit(observation)
    assert fitted.looseness_.shape == (1,)
    assert abs((fitted.loose_part_ == 1).mean() - 0.5) < 0.01
    chart = diffeo.embed(observation, coordinates="isometric")
    named = [text for text in chart.problems if "hang on the others" in text]
    assert len(named) == 1
    assert "50 % of the samples (rows " in named[0]
    chart.save(tmp_path / "chart.safetensors")
    assert diffeo.load(tmp_path / "chart.safetensors").problems == chart.problems


def test_hinged_layouts_do_not_depend_on_threads():
    observation = neurons(parted(1500, 0.09, 2), 7)
    one, two = (diffeo.IsometricEmbedding(n_jobs=k).fit(observation).embedding_ for k in (1, 2))
    assert np.array_equal(one, two)
