"""The procedure as a whole: robust refinement, the second look, strays, and bits that do not depend on threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo._support.threads import working
from diffeo.isometry import laplacian, layout_search
from diffeo.isometry.frames import gradients_along, local_frames
from diffeo.isometry.graph import STEEP, bridged, neighbor_graph, overlap, pieces, steep_graph
from diffeo.isometry.layout_search import _opened, check_lengths, unfold
from diffeo.isometry.stress import refine, refine_robustly, relative_stress
from diffeo.isometry.unfolding import Unfolding, corrected, winds_over_a_gap
from support.domains import closed
from support.samples import smooth_map, smooth_observation, square


def error(found, true):
    """Relative rms error after the best rigid motion."""
    found, true = found - found.mean(axis=0), true - true.mean(axis=0)
    u, _, vt = np.linalg.svd(found.T @ true)
    return np.linalg.norm(found @ (u @ vt) - true) / np.linalg.norm(true)


def exact_graph(x, observation):
    """The neighbour graph with the true lengths, and the truth in its order."""
    graph = neighbor_graph(observation, 12, 1)
    place = x[graph.rows]
    return replace(graph, lengths=np.linalg.norm(place[graph.j] - place[graph.i], axis=1)), place


def bent(x, size):
    """A smooth distortion of the plane."""
    return x + size * np.sin(5.0 * x[:, ::-1] + [0.3, 1.1])


def spiked(n, width=0.015, height=1.0, seed=0):
    """The square seen by five smooth measurements, and a sixth that bends within a few spacings of the samples."""
    x = square(n, 2, seed)
    y, jacobians = smooth_map(2, 5, 0)(x)
    off = x - 0.5
    spike = height * np.exp(-(off**2).sum(axis=1) / (2 * width**2))
    slope = -spike[:, None] * off / width**2
    return x, Observation.from_jacobians(
        np.column_stack([y, spike]), np.concatenate([jacobians, slope[:, None]], axis=1)
    )


# --- robust refinement --------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_robust_refinement_ignores_planted_wrong_lengths(share):
    x = square(1500)
    graph, place = exact_graph(x, smooth_observation(1500, 2, 5))
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        wrong = rng.random(len(graph.i)) < share
        factors = np.where(wrong, rng.uniform(1.1, 1.4, len(wrong)), 1.0)
        planted = replace(graph, lengths=graph.lengths * factors)
        plain, _, _ = refine(planted, bent(place, 0.01))
        robust, steps, _ = refine_robustly(planted, plain)
        assert error(plain, place) > 0.02
        gains.append(error(robust, place) / error(plain, place))
        # Most edges are believed, and then kept to a hundredth of what the plain refinement leaves in them.
        typical = [
            np.median(np.abs(np.linalg.norm(graph.steps(x), axis=1) / graph.lengths - 1)) for x in (plain, robust)
        ]
        assert typical[1] < 0.1 * typical[0]
        assert 3 <= steps <= 180
    # Wrong lengths of one place together bend it however little each is believed: 0.2 to 0.7 of the error remain.
    assert max(gains) < 0.8
    assert np.mean(gains) < 0.65
    # Where nothing is wrong, it refines like the plain one, to its coarser tolerance.
    exact, _, settled = refine_robustly(graph, bent(place, 0.01))
    assert settled
    assert error(exact, place) < 0.1 * error(bent(place, 0.01), place)


def test_weights_by_doubt_know_which_lengths_of_a_noisy_region_say_more():
    x = square(800)
    graph, place = exact_graph(x, smooth_observation(800, 2, 5))
    there = np.abs(place[:, 0] - 0.5) < 0.2
    gains = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        size = np.where(there[graph.i] & there[graph.j], 0.1 * rng.random(len(graph.i)), 1e-4)
        planted = replace(graph, lengths=graph.lengths * np.exp(size * rng.normal(size=len(size))))
        start, _, _ = refine(planted, bent(place, 0.01))
        without, told = refine_robustly(planted, start)[0], refine_robustly(planted, start, doubts=size)[0]
        gains.append(error(told, place) / error(without, place))
    # 0.86, 0.56, 0.75 were found.
    assert max(gains) < 0.95
    assert np.mean(gains) < 0.8


# --- cliffs -------------------------------------------------------------------------------------------------


def across(x):
    """Distance from a curve through the square, up to a factor near 1."""
    return 0.95 * (x[:, 0] - 0.5) + 0.3 * (x[:, 1] - 0.5) + 0.15 * np.sin(3.0 * x[:, 1])


def front(n, width, seed=0):
    """The square seen by five measurements with a front along a curve, and its observation."""
    x = square(n, 2, seed)
    y, jacobians = smooth_map(2, 5, 0)(x)
    slope = np.stack([np.full(n, 0.95), 0.3 + 0.45 * np.cos(3.0 * x[:, 1])], axis=1) / width
    heights = np.random.default_rng(1).normal(size=5)
    steps = np.tanh(across(x) / width)[:, None] * heights
    slopes = heights[:, None] * (slope / np.cosh(across(x) / width)[:, None] ** 2)[:, None, :]
    return x, Observation.from_jacobians(y + steps, jacobians + slopes)


def test_edges_over_a_cliff_hold_its_sides_together(monkeypatch):
    x, observation = front(500, 0.05)
    found = unfold(observation, 12, 1)
    monkeypatch.setattr(layout_search, "steep_graph", lambda *_: None)
    without = unfold(observation, 12, 1)
    # Off by 2.3 and 36 %.
    assert error(found.coordinates, x[found.graph.rows]) < 0.03
    assert error(without.coordinates, x[without.graph.rows]) > 0.1


def test_smooth_samples_gain_no_edges_by_steeper_gates():
    observation = smooth_observation(500, 2, 5)
    assert steep_graph(observation, neighbor_graph(observation, 12, 1), 12, 1) is None
    x, observation = front(600, 0.05)
    narrow = neighbor_graph(observation, 12, 1)
    steep = steep_graph(observation, narrow, 12, 1)
    place = across(x) / 0.05
    leading = []
    for graph in (narrow, steep):
        ends = np.abs(place[graph.rows[np.column_stack([graph.i, graph.j])]])
        steps = np.abs(place[graph.rows[graph.i]] - place[graph.rows[graph.j]])
        leading.append(int(((ends.min(axis=1) < 2.0) & (steps > 0.5)).sum()))
    assert leading[1] > 1.5 * leading[0]
    # What is added are no false edges.
    place = x[steep.rows]
    true = np.linalg.norm(place[steep.j] - place[steep.i], axis=1)
    assert np.quantile(np.abs(np.log(steep.lengths / true)), 0.99) < 0.4


# --- the second look ----------------------------------------------------------------------------------------


def rough(x, observation, size):
    """What a first look may leave: the truth distorted, with lengths that agree to the distortion."""
    graph, place = exact_graph(x, observation)
    layout = bent(place, size)
    graph = replace(graph, lengths=np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1))
    points, whitening = observation.points[graph.rows], observation.whitening[graph.rows]
    gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
    return Unfolding(graph, layout, gradients, relative_stress(graph, layout), overlap(graph, layout), 10, True)


def test_the_second_look_repairs_a_layout_that_is_right_to_a_few_percent():
    x = square(1500)
    observation = Observation.from_jacobians(*smooth_map(2, 5)(x))
    found = rough(x, observation, 0.02)
    before = error(found.coordinates, x[found.graph.rows])
    again = layout_search._second_look(observation, found, 12, 1)
    assert before > 0.02
    assert error(again.coordinates, x[again.graph.rows]) < 0.01 * before
    assert again.n_iter > found.n_iter
    assert len(again.graph.rows) == 1500


def test_the_second_look_leaves_a_layout_that_is_wrong():
    x = square(1500)
    observation = Observation.from_jacobians(*smooth_map(2, 5)(x))
    found = rough(x, observation, 0.0)
    folded = replace(found, layout=np.random.default_rng(0).permutation(found.layout))
    assert layout_search._second_look(observation, folded, 12, 1) is None


def test_strays_are_placed_by_the_second_look(monkeypatch):
    # Around the spike the pairs fail the gates; a layout of the others knows where those samples are.
    x, observation = spiked(3000)
    found = unfold(observation, 12, 1)
    assert error(found.coordinates, x[found.graph.rows]) < 5e-3
    monkeypatch.setattr(layout_search, "SECOND_LOOKS", 0)
    strays = 3000 - len(unfold(observation, 12, 1).graph.rows)
    # One in the middle of the spike may keep no length that agrees.
    assert strays > 2
    assert 3000 - len(found.graph.rows) <= 1


# --- the rest -----------------------------------------------------------------------------------------------


def test_corrections_stop_when_they_gain_nothing():
    x = square(800)
    observation = Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (800, 2, 2)))
    graph, place = exact_graph(x, observation)
    found = corrected(observation, graph, *refine(graph, place))
    assert found.n_iter <= 20
    assert error(found.coordinates, place) < 1e-6
    assert found.periods.shape == (0, 2)


@pytest.mark.parametrize("lengths", [[np.inf, 1.0], [np.nan, 1.0], [0.0, 0.0], [1e-200, 1e-200], []])
def test_lengths_that_cannot_be_computed_with(lengths):
    with pytest.raises(errors.NonFiniteError, match="lengths"):
        check_lengths(np.array(lengths))


CASES = {
    "second look": lambda: spiked(1200, 0.03)[1],
    "closed": lambda: closed(1000, [[1.0, 0.0], [0.4, 1.1]])[1],
}


@pytest.mark.parametrize("name", CASES)
def test_bits_do_not_depend_on_threads(name):
    observation = CASES[name]()
    one, two, again = (unfold(observation, 12, threads) for threads in (1, 2, 1))
    assert one.graph.n_periods == (2 if name == "closed" else 0)
    for other in (two, again):
        assert other.layout.tobytes() == one.layout.tobytes()
        assert other.gradients.tobytes() == one.gradients.tobytes()
        assert other.graph.lengths.tobytes() == one.graph.lengths.tobytes()
        assert (other.stress, other.overlap, other.n_iter) == (one.stress, one.overlap, one.n_iter)


# --- curves closed over a gap of the sample -----------------------------------------------------------------


def seen_on_a_circle(angle):
    """Points (cos, sin) of angles (n,), by three smooth measurements."""
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    tangents = np.column_stack([-np.sin(angle), np.cos(angle)])[:, :, None]
    y, jacobians = smooth_map(2, 3, 1)(points)
    return Observation.from_jacobians(y, jacobians @ tangents)


@pytest.mark.parametrize("gap", [0, 6, 12])
def test_a_gap_of_the_sample_does_not_open_a_circle(gap):
    """A gap of 12 mean spacings is wider than the nearest neighbours reach, and the largest that log(n) allows is 14."""
    n = 1200
    spacing = 2 * np.pi / n
    angle = np.random.default_rng(3).uniform(gap * spacing, 2 * np.pi, n)
    found = unfold(seen_on_a_circle(angle), 12, 1)
    assert found.periods.shape == (1, 1)
    assert abs(abs(found.periods[0, 0]) - 2 * np.pi) < 1e-3


def test_a_curve_whose_ends_are_apart_stays_open():
    angle = np.random.default_rng(3).uniform(0.0, 2 * np.pi * 0.95, 1200)
    found = unfold(seen_on_a_circle(angle), 12, 1)
    assert found.periods.shape == (0, 1)
    assert np.ptp(found.coordinates) == pytest.approx(np.ptp(angle), rel=1e-3)


def test_a_false_edge_over_a_gap_closes_no_curve():
    """A curve that passes near itself has an edge between far places: it winds around where there are no samples."""
    circle = unfold(seen_on_a_circle(np.random.default_rng(3).uniform(0.0, 2 * np.pi, 600)), 12, 1)
    assert not winds_over_a_gap(circle)
    around = abs(circle.periods[0, 0])
    at = circle.coordinates[:, 0] - circle.coordinates.min()
    seam = circle.graph.windings[:, 0] != 0
    keep = (at > 0.2 * around) & (at < 0.8 * around)
    assert not keep[np.concatenate([circle.graph.i[seam], circle.graph.j[seam]])].any()
    graph = circle.graph.restricted(keep)
    ends = np.argmin(at[keep]), np.argmax(at[keep])
    false = replace(
        graph,
        i=np.append(graph.i, min(ends)),
        j=np.append(graph.j, max(ends)),
        lengths=np.append(graph.lengths, 0.4 * around),
        windings=np.append(graph.windings, [[1.0]], axis=0),
    )
    layout = np.append(at[keep], [-around])[:, None]
    found = Unfolding(false, layout, circle.gradients[keep], 0.0, 0.0, 1, True)
    assert winds_over_a_gap(found)
    (again,) = _opened(seen_on_a_circle(np.random.default_rng(3).uniform(0.0, 2 * np.pi, 600)), found)
    assert again.graph.n_periods == 0
    assert np.ptp(again.coordinates) == pytest.approx(np.ptp(at[keep]), rel=1e-3)


# --- large samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "m", "n"), [(2, 5, 4000), (3, 7, 4000)])
def test_large_samples_reach_the_same_layout(monkeypatch, dim, m, n):
    observation = smooth_observation(n, dim, m)
    plain = unfold(observation, 12, 1)
    monkeypatch.setattr(laplacian, "DIRECT_SIZE", 500)
    cycled = unfold(observation, 12, 1)
    monkeypatch.setattr(layout_search, "LARGE", 2000)
    monkeypatch.setattr(layout_search, "START_SAMPLES", 1000)
    started = unfold(observation, 12, 1)
    for found in (cycled, started):
        # Robust rounds, which samples as few as these in space take, stop at a coarse tolerance.
        assert np.array_equal(found.graph.rows, plain.graph.rows)
        assert found.settled == plain.settled
        assert error(found.coordinates, plain.coordinates) < 0.2 * error(
            plain.coordinates, square(n, dim, 1)[plain.graph.rows]
        )
    # The start from some samples saves steps on all of them.
    assert started.n_iter < cycled.n_iter


def test_a_large_closed_domain_still_finds_its_period(monkeypatch):
    monkeypatch.setattr(laplacian, "DIRECT_SIZE", 500)
    monkeypatch.setattr(layout_search, "LARGE", 2000)
    monkeypatch.setattr(layout_search, "START_SAMPLES", 1000)
    found = unfold(closed(3000, [[2.0, 0.0]], 0.5)[1], 12, 1)
    assert np.linalg.norm(found.periods) == pytest.approx(2.0, rel=1e-3)


def test_samples_too_few_for_their_bends_leave_the_start_to_the_whole_graph(monkeypatch):
    observation = smooth_observation(3000, 2, 5)
    monkeypatch.setattr(layout_search, "LARGE", 2000)
    whole = layout_search._start(observation, neighbor_graph(observation, 12, 1), 12, 1)
    monkeypatch.setattr(layout_search, "FOLDED", -1.0)
    refused = layout_search._start(observation, neighbor_graph(observation, 12, 1), 12, 1)
    monkeypatch.setattr(layout_search, "LARGE", 5000)
    plain = layout_search._start(observation, neighbor_graph(observation, 12, 1), 12, 1)
    assert refused.tobytes() == plain.tobytes() != whole.tobytes()


def test_multigrid_has_the_same_bits_for_any_threads(monkeypatch):
    monkeypatch.setattr(laplacian, "DIRECT_SIZE", 500)
    monkeypatch.setattr(layout_search, "LARGE", 2000)
    monkeypatch.setattr(layout_search, "START_SAMPLES", 1000)
    observation = smooth_observation(3000, 2, 5)
    results = []
    for n_jobs in (1, 2, 3):
        with working(n_jobs):
            results.append(unfold(observation, 12, n_jobs).layout.tobytes())
    assert results[0] == results[1] == results[2]


def test_a_folded_closed_curve_is_known_by_its_stress():
    # One measurement of a circle: edges that could close the curve are in its graph already, stretched.
    rng = np.random.default_rng(0)
    angle = 2.0 * np.pi * (np.arange(150) + rng.random(150)) / 150
    waves = rng.standard_normal((4, 2)) / np.arange(1, 5)[:, None] ** 1.5
    k = np.arange(1, 5)
    c, s = np.cos(np.outer(angle, k)), np.sin(np.outer(angle, k))
    points = c @ waves[:, :1] + s @ waves[:, 1:]
    jacobians = (c * k) @ waves[:, 1:] - (s * k) @ waves[:, :1]
    found = unfold(Observation.from_jacobians(points, jacobians[:, :, None], dim=1), 12, 1)
    assert found.stress > 0.1


def test_a_fold_is_no_cliff():
    x = np.random.default_rng(0).random((700, 2))
    u = np.column_stack([4.0 * (x[:, 0] - 0.5) ** 2, x[:, 1]])
    slopes = np.array([[1.0, 0.3], [-0.4, 0.9], [0.7, 0.7]])
    y = np.tanh(u @ slopes.T)
    jacobians = (1.0 - y**2)[:, :, None] * slopes * np.stack([8.0 * (x[:, 0] - 0.5), np.ones(700)], axis=1)[:, None]
    observation = Observation.from_jacobians(y, jacobians, dim=2)
    graph = bridged(neighbor_graph(observation, 12, 1), observation, 12, 1)
    wider = neighbor_graph(observation, 12, 1, STEEP)
    # It joins what the gates keep apart, and it is not taken.
    assert pieces(wider)[0] < pieces(graph)[0]
    assert steep_graph(observation, graph, 12, 1) is None
