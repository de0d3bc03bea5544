"""Layouts developed from local frames: closed flat domains and their periods, and the domains that have none."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import square
from diffeo.development import develop, reduced_basis
from diffeo.graph import NeighborGraph, neighbor_graph, pieces, supported
from diffeo.layout import untangle
from diffeo.unfolding import unfold
from domains import annulus, closed, crossing, moebius, seen, sphere


def developed(observation):
    """The graph of an observation with windings, and its layout; or None."""
    graph = supported(neighbor_graph(observation, 12, 1), observation, 12)
    assert pieces(graph)[0] == 1
    points = np.ascontiguousarray(observation.points[graph.rows])
    return develop(graph, points, observation.whitening[graph.rows])


def gram(periods):
    """Inner products of the reduced basis of a lattice, free of the signs of its vectors and of rotations."""
    basis = reduced_basis(np.asarray(periods, dtype=float))
    return np.abs(basis @ basis.T)


def refined(observation):
    graph, layout = developed(observation)
    return graph, untangle(graph, layout)[0]


CLOSED = {
    "circle": ([[3.0]], 0.0, 500, 3),
    "square torus": ([[1.0, 0.0], [0.0, 1.0]], 0.0, 1500, 7),
    "oblique torus": ([[1.0, 0.0], [0.4, 1.1]], 0.0, 1500, 7),
    "long torus": ([[2.4, 0.0], [0.0, 0.8]], 0.0, 1500, 7),
    "cylinder": ([[2.0, 0.0]], 0.6, 1500, 7),
    "short cylinder": ([[0.0, 1.0]], 1.2, 1500, 5),
}


@pytest.mark.parametrize("name", CLOSED)
def test_periods_of_closed_domains(name):
    periods, width, n, m = CLOSED[name]
    x, observation = closed(n, periods, width, m=m)
    graph, layout = developed(observation)
    assert graph.n_periods == len(periods)
    assert layout.shape == (n + len(periods), len(periods[0]))
    np.testing.assert_allclose(gram(layout[n:]), gram(periods), rtol=0.2, atol=0.05)
    # The start is refined, with corrected lengths.
    found = unfold(observation, 12, 1)
    np.testing.assert_allclose(gram(found.periods), gram(periods), rtol=1e-3, atol=1e-3)
    assert found.stress < 2e-3
    assert found.overlap < 0.005
    # The layout is a motion of the truth up to whole periods: distances modulo periods agree.
    pairs = np.random.default_rng(0).integers(0, n, (2, 2000))
    there = shortest(found.coordinates[pairs[0]] - found.coordinates[pairs[1]], found.periods)
    rows = found.graph.rows[pairs]
    true = shortest(x[rows[0]] - x[rows[1]], np.array(periods))
    assert np.sqrt(np.mean((there - true) ** 2)) < 1e-3 * true.max()


def shortest(difference, periods):
    """Lengths of differences (count, d) modulo periods (k, d)."""
    turns = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * len(periods)), axis=-1).reshape(-1, len(periods))
    difference = difference - np.round(difference @ np.linalg.pinv(periods)) @ periods
    return np.linalg.norm(difference[:, None] + (turns @ periods)[None], axis=2).min(axis=1)


def test_windings_are_whole_and_loops_close():
    graph, layout = developed(closed(2000, [[1.0, 0.0], [0.4, 1.1]])[1])
    np.testing.assert_array_equal(graph.windings, np.round(graph.windings))
    assert np.abs(graph.windings).max() >= 1
    # Only a cut through the domain winds.
    assert (graph.windings == 0).all(axis=1).mean() > 0.8
    # Every step is as long as its edge, whichever way around.
    steps = np.linalg.norm(graph.steps(layout), axis=1)
    assert np.median(np.abs(steps / graph.lengths - 1)) < 0.05


@pytest.mark.parametrize("n", [800, 3000])
def test_an_annulus_has_no_periods(n):
    x, observation = annulus(n)
    graph, layout = refined(observation)
    assert graph.n_periods == 0
    found, true = layout - layout.mean(axis=0), x[graph.rows] - x[graph.rows].mean(axis=0)
    u, _, vt = np.linalg.svd(found.T @ true)
    assert np.linalg.norm(found @ (u @ vt) - true) < 2e-3 * np.linalg.norm(true)


def test_false_edges_give_no_period():
    # Edges planted between the same two places have the same sum around their loops, but are few beside a cut.
    x, observation = closed(2000, [[2.0, 0.0]], 1.0)
    graph = neighbor_graph(observation, 12, 1)
    place = x[graph.rows]
    here, there = (np.argsort(np.linalg.norm(place - [at, 0.5], axis=1))[:15] for at in (0.3, 1.0))
    false = NeighborGraph(
        graph.rows,
        np.concatenate([graph.i, here]),
        np.concatenate([graph.j, there]),
        np.concatenate([graph.lengths, np.full(15, np.median(graph.lengths))]),
    )
    points = np.ascontiguousarray(observation.points[graph.rows])
    found = develop(false, points, observation.whitening[graph.rows])
    # Their transports are those of nobody, and at worst the development declines; it must not close up at 0.7.
    assert found is None or np.linalg.norm(found[1][2000:], axis=1).min(initial=2.0) > 1.5


def test_sheets_that_cross_close_up_at_their_period():
    graph, layout = refined(crossing(3000, 2)[1])
    assert graph.n_periods == 1
    assert np.linalg.norm(layout[3000:]) == pytest.approx(2 * np.pi, rel=2e-3)


@pytest.mark.parametrize("n", [800, 3000])
@pytest.mark.parametrize("domain", [sphere, moebius])
def test_curved_and_twisted_domains_have_no_development(domain, n):
    assert developed(domain(n)[1]) is None


def test_an_interval_is_developed_exactly():
    x = square(300, 1)
    graph, layout = developed(seen(x, np.ones((300, 1, 1)), 3))
    assert graph.n_periods == 0
    found = layout[:, 0] - layout[0, 0]
    true = x[graph.rows, 0] - x[graph.rows[0], 0]
    assert min(np.abs(found - sign * true).max() for sign in (1, -1)) < 1e-3


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_reduced_bases_span_the_same_lattice_with_short_vectors(dim):
    rng = np.random.default_rng(0)
    for _ in range(50):
        short = rng.normal(size=(dim, dim))
        # Products of elementary matrices: integers, with determinant 1.
        mixing = np.eye(dim)
        for a, b in (rng.permutation(dim)[:2] for _ in range(4 if dim > 1 else 0)):
            mixing[a] += rng.integers(-3, 4) * mixing[b]
        reduced = reduced_basis(mixing @ short)
        change = reduced @ np.linalg.inv(short)
        np.testing.assert_allclose(change, np.round(change), atol=1e-6)
        assert abs(np.linalg.det(change)) == pytest.approx(1.0, abs=1e-6)
        lengths = np.linalg.norm(reduced, axis=1)
        assert (np.diff(lengths) >= 0).all()
        assert lengths[-1] <= np.linalg.norm(mixing @ short, axis=1).max() * (1 + 1e-12)
        inner = np.abs(reduced @ reduced.T) / lengths**2
        assert inner[~np.eye(dim, dtype=bool)].max(initial=0.0) <= 0.5 + 1e-6 or dim > 2
        if dim == 2:
            whole = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 2), axis=-1).reshape(-1, 2)
            norms = np.linalg.norm(whole[whole.any(axis=1)] @ reduced, axis=1)
            assert lengths[0] == pytest.approx(norms.min())


def test_development_has_the_same_bits_every_time():
    observation = closed(1000, [[1.0, 0.0], [0.0, 1.0]])[1]
    (one, layout), (two, again) = developed(observation), developed(observation)
    assert layout.tobytes() == again.tobytes()
    assert one.windings.tobytes() == two.windings.tobytes()
