"""Layouts developed from local frames: closed flat domains and their periods, and the domains that have none."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.isometry.frame_layout import _lattice, develop
from diffeo.isometry.graph import NeighborGraph, neighbor_graph, pieces, supported
from diffeo.isometry.layout_search import unfold
from diffeo.isometry.periods import nearest_zero, reduced_basis
from diffeo.isometry.stress import untangle
from support.domains import annulus, closed, crossing, moebius, seen, sphere
from support.samples import square


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
    there = nearest_zero(found.coordinates[pairs[0]] - found.coordinates[pairs[1]], found.periods)
    rows = found.graph.rows[pairs]
    true = nearest_zero(x[rows[0]] - x[rows[1]], np.array(periods))
    there, true = (np.linalg.norm(part, axis=1) for part in (there, true))
    assert np.sqrt(np.mean((there - true) ** 2)) < 1e-3 * true.max()


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


def test_few_sums_that_agree_are_no_period():
    # Around a period of 2 close as many loops as edges cross a cut; a few false edges between two places have the same
    # sum, too, as where sheets cross.
    rng = np.random.default_rng(0)

    def scattered(total, count):
        return rng.choice([-1.0, 1.0], (count, 1)) * total + 0.02 * rng.normal(size=(count, 2))

    real, false = scattered([2.0, 0.1], 250), scattered([0.7, 0.3], 15)
    for sums in (real, np.vstack([real, false]), np.vstack([false, real])):
        np.testing.assert_allclose(gram(_lattice(sums, 9.0)), gram([[2.0, 0.1]]), rtol=1e-2)
    # As many as of the first are a second period.
    second = scattered([0.7, 0.3], 200)
    np.testing.assert_allclose(
        gram(_lattice(np.vstack([real, second]), 9.0)), gram([[2.0, 0.1], [0.7, 0.3]]), atol=0.05
    )


def test_edges_that_turn_frames_at_random_are_declined():
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
    whitening = observation.whitening[graph.rows]
    closed_up, layout = develop(graph, points, whitening)
    assert closed_up.n_periods == 1
    assert np.linalg.norm(layout[len(graph.rows) :]) == pytest.approx(2.0, rel=0.05)
    # The planted edges join places 0.7 apart: a spanning tree that runs over them turns all frames behind.
    assert develop(false, points, whitening) is None


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


def test_development_has_the_same_bits_every_time():
    observation = closed(1000, [[1.0, 0.0], [0.0, 1.0]])[1]
    (one, layout), (two, again) = developed(observation), developed(observation)
    assert layout.tobytes() == again.tobytes()
    assert one.windings.tobytes() == two.windings.tobytes()
