"""Neighbour graphs: lengths of edges, which edges are kept, and how pieces are joined."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, reference
from diffeo._support import core
from diffeo.errors import InputError
from diffeo.isometry import graph
from diffeo.isometry.graph import (
    NeighborGraph,
    array_graph,
    bridged,
    check_index_range,
    joined,
    layout_graph,
    neighbor_graph,
    overlap,
    pieces,
    supported,
)
from support.domains import crossing
from support.samples import random_orthogonal, smooth_map, smooth_observation, square


def random_pairs(n, count, seed=0):
    """Pairs of different samples."""
    i = np.random.default_rng(seed).integers(0, n, count)
    return i, (i + np.random.default_rng(seed + 1).integers(1, n, count)) % n


def lengths_of(observation, i, j, threads=1):
    return core.edge_lengths(observation.points, observation.whitening, i, j, threads)


def flat(x):
    """Samples that are measured by their coordinates."""
    n, d = x.shape
    return Observation.from_jacobians(x, np.broadcast_to(np.eye(d), (n, d, d)))


def test_matrices_have_indices_that_scipy_searches_take():
    edges = NeighborGraph(np.arange(4), np.array([0, 1]), np.array([1, 3]), np.array([2.0, 3.0]))
    matrix = edges.matrix(edges.lengths)
    assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
    expected = np.zeros((4, 4))
    expected[[0, 1], [1, 3]] = edges.lengths
    np.testing.assert_array_equal(matrix.toarray(), expected + expected.T)


def test_graphs_too_large_for_these_indices_are_refused():
    check_index_range(10**6, 2**31 - 1)
    for n, entries in ((10**6, 2**31), (2**31, 12)):
        with pytest.raises(InputError, match="use fewer samples"):
            check_index_range(n, entries)


# --- lengths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "m"), [(1, 1), (1, 4), (2, 2), (2, 5), (3, 3), (3, 7), (4, 4), (4, 9)])
def test_lengths_equal_the_reference(dim, m):
    observation = smooth_observation(120, dim, m, seed=3, bend=0.1)
    i, j = random_pairs(120, 400)
    lengths, off = lengths_of(observation, i, j)
    expected, expected_off = reference.edge_lengths(observation.points, observation.whitening, i, j)
    np.testing.assert_allclose(lengths, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(off, expected_off, atol=1e-12)
    if m == dim:
        assert off.max() < 1e-12
    else:
        assert off.max() > 0.01


@pytest.mark.parametrize("dim", [1, 2, 3, 4])
def test_lengths_depend_on_neither_signs_nor_order_of_the_directions(dim):
    # A whitening is U / Sigma up to the sign of each direction, and up to their order where singular values agree.
    observation = smooth_observation(100, dim, 2 * dim + 1, seed=4)
    i, j = random_pairs(100, 300)
    rng = np.random.default_rng(0)
    order, signs = rng.permuted(np.tile(np.arange(dim), (100, 1)), axis=1), rng.choice([-1.0, 1.0], (100, 1, dim))
    turned = np.ascontiguousarray(np.take_along_axis(observation.whitening, order[:, None, :], axis=2) * signs)
    changed = core.edge_lengths(observation.points, turned, i, j, 1)
    for found, expected in zip(changed, lengths_of(observation, i, j), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_lengths_are_free_of_the_gauge(dim):
    # Conformal derivatives (all singular values equal) leave W_i R_i for any rotation R_i; others only J_i R_i.
    rng = np.random.default_rng(2)
    points, stretch = rng.normal(size=(60, dim + 2)), rng.uniform(0.5, 2.0, (60, 1, 1))
    whitening = np.linalg.qr(rng.normal(size=(60, dim + 2, dim)))[0] / stretch
    i, j = random_pairs(60, 200)
    plain = core.edge_lengths(points, np.ascontiguousarray(whitening), i, j, 1)
    turned = core.edge_lengths(points, np.ascontiguousarray(whitening @ random_orthogonal(60, dim)), i, j, 1)
    y, jacobians = smooth_map(dim, dim + 3)(square(60, dim))
    one = lengths_of(Observation.from_jacobians(y, jacobians), i, j)
    two = lengths_of(Observation.from_jacobians(y, jacobians @ random_orthogonal(60, dim)), i, j)
    for (found, found_off), (expected, expected_off) in ((turned, plain), (two, one)):
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        np.testing.assert_allclose(found_off, expected_off, atol=1e-10)


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_lengths_are_symmetric(dim):
    observation = smooth_observation(100, dim, 2 * dim, seed=5)
    i, j = random_pairs(100, 300)
    for there, back in zip(lengths_of(observation, i, j), lengths_of(observation, j, i), strict=True):
        np.testing.assert_allclose(there, back, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("dim", "m"), [(1, 3), (2, 2), (2, 6), (3, 5), (4, 4)])
def test_lengths_of_an_affine_map_are_exact(dim, m):
    x = square(80, dim)
    linear = np.random.default_rng(1).normal(size=(m, dim))
    jacobians = linear @ random_orthogonal(80, dim)
    observation = Observation.from_jacobians(x @ linear.T + 3.0, jacobians)
    i, j = random_pairs(80, 300)
    lengths, off = lengths_of(observation, i, j)
    np.testing.assert_allclose(lengths, np.linalg.norm(x[i] - x[j], axis=1), rtol=1e-10)
    assert off.max() < 1e-11


def test_lengths_are_of_third_order_and_better_than_q():
    measure = smooth_map(2, 5, seed=1, bend=0.5)
    rng = np.random.default_rng(0)
    centre, direction = rng.random((300, 2)), rng.normal(size=(300, 2))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    trapezoid, by_q, off_tangent = [], [], []
    for h in (0.08, 0.04, 0.02):
        observation = Observation.from_jacobians(*measure(np.vstack([centre, centre + h * direction])))
        i = np.arange(300)
        lengths, off = lengths_of(observation, i, i + 300)
        q = reference.squared_distances(observation.points, observation.whitening)[i, i + 300]
        trapezoid.append(np.median(np.abs(lengths - h)))
        by_q.append(np.median(np.abs(np.sqrt(q) - h)))
        off_tangent.append(np.median(off))
    for errors, order in ((trapezoid, 3.0), (by_q, 3.0), (off_tangent, 2.0)):
        np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), order, atol=0.25)
    assert trapezoid[-1] < 0.8 * by_q[-1]
    # On a circle of radius 1, sqrt(q) is sin(h) and the trapezoid 2 tan(h / 2): half the error.
    angle = np.array([[0.0], [0.1]])
    ring, slopes = np.hstack([np.cos(angle), np.sin(angle)]), np.hstack([-np.sin(angle), np.cos(angle)])
    observation = Observation.from_jacobians(ring, slopes[:, :, None])
    length, off = lengths_of(observation, np.array([0]), np.array([1]))
    assert length[0] == pytest.approx(2 * np.tan(0.05), rel=1e-12)
    assert off[0] < 1e-12


def test_coincident_samples_have_length_zero():
    observation = smooth_observation(50, 2, 5)
    points = observation.points.copy()
    points[7] = points[3]
    i, j = np.array([3, 7, 5]), np.array([7, 3, 5])
    lengths, off = core.edge_lengths(points, observation.whitening, i, j, 1)
    assert (lengths == 0).all()
    assert (off == 0).all()


def test_edges_that_do_not_fit_are_refused():
    y, w = square(10, 3), np.ones((10, 3, 2))
    i = np.array([0, 9])
    assert core.edge_lengths(y, w, i[:0], i[:0], 1)[0].shape == (0,)
    for bad in (np.array([0, 10]), np.array([-1, 0])):
        for pair in ((bad, i), (i, bad)):
            with pytest.raises(ValueError, match="does not exist"):
                core.edge_lengths(y, w, *pair, 1)
    with pytest.raises(ValueError, match="same shape"):
        core.edge_lengths(y, w, i, i[:1], 1)
    with pytest.raises(ValueError, match="whitening"):
        core.edge_lengths(y, np.ones((10, 2, 2)), i, i, 1)
    with pytest.raises(ValueError, match="d <= m"):
        core.edge_lengths(y, np.ones((10, 3, 4)), i, i, 1)


# --- edges --------------------------------------------------------------------------------------------------


def false_edges(x, found):
    step = np.abs(x[found.rows[found.i]] - x[found.rows[found.j]])
    step[:, 0] = np.minimum(step[:, 0], 2 * np.pi - step[:, 0])
    length = np.linalg.norm(step, axis=1)
    return int((length > 1.0).sum()), np.abs(found.lengths / length - 1.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_edges_between_sheets_that_cross_are_dropped(seed, monkeypatch):
    # The tangents show nine in ten of them; neighbours in common show the rest, along the bisector of the tangents.
    x, observation = crossing(3000, 2, seed)
    found = neighbor_graph(observation, 12, 1)
    bisectors = false_edges(x, found)[0]
    firm = supported(found, observation, 12)
    false, wrong = false_edges(x, firm)
    assert false <= 3
    assert np.quantile(wrong, 0.999) < 0.05
    assert len(firm.i) > 0.98 * len(found.i)
    monkeypatch.setattr(graph, "OFF_TANGENT", 1.0)
    every = false_edges(x, neighbor_graph(observation, 12, 1))[0]
    assert 0 < bisectors < 0.2 * every


@pytest.mark.parametrize("n", [300, 2000])
def test_most_false_edges_of_a_curve_that_crosses_itself_are_dropped(n, monkeypatch):
    cases = [crossing(n, 1, seed) for seed in range(6)]
    left = sum(
        false_edges(x, supported(neighbor_graph(observation, 12, 1), observation, 12))[0] for x, observation in cases
    )
    monkeypatch.setattr(graph, "OFF_TANGENT", 1.0)
    every = sum(false_edges(x, neighbor_graph(observation, 12, 1))[0] for x, observation in cases)
    assert left < 0.3 * every


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("k", [3, 12])
def test_edges_are_those_to_the_nearest(dim, k):
    # As many measurements as dimensions: no sheets can cross, and all the nearest are kept.
    x = square(300, dim)
    found = neighbor_graph(flat(x), k, 1)
    distance = np.linalg.norm(x[:, None] - x[None], axis=2)
    a, b = found.rows[found.i], found.rows[found.j]
    assert pairs_of(a, b) == nearest_pairs(distance, k)
    assert len(a) == len(pairs_of(a, b))
    np.testing.assert_allclose(found.lengths, distance[a, b], rtol=1e-9)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_edges_to_the_nearest_without_common_neighbours_are_few(dim):
    x = square(600, dim)
    linear = np.random.default_rng(1).normal(size=(dim + 2, dim))
    observation = Observation.from_jacobians(x @ linear.T, np.broadcast_to(linear, (600, dim + 2, dim)))
    found = supported(neighbor_graph(observation, 12, 1), observation, 12)
    expected = nearest_pairs(np.linalg.norm(x[:, None] - x[None], axis=2), 12)
    kept = pairs_of(found.rows[found.i], found.rows[found.j])
    assert kept <= expected
    assert len(kept) > 0.98 * len(expected)


def pairs_of(a, b):
    return {(min(pair), max(pair)) for pair in zip(a.tolist(), b.tolist(), strict=True)}


def nearest_pairs(distance, k):
    n = len(distance)
    return pairs_of(np.repeat(np.arange(n), k), np.argsort(distance, axis=1)[:, 1 : k + 1].ravel())


def test_edges_of_a_layout_are_near_in_it_and_as_long():
    x = square(500)
    observation = Observation.from_jacobians(*smooth_map(2, 5)(x))
    layout = x.copy()
    layout[17] = [0.5, 3.0]  # far from all
    layout[18] = layout[19] + 1e-3  # beside a sample that it is not near
    found = layout_graph(observation, np.arange(500), layout, 12, 1)
    assert not np.isin(found.i, [17, 18]).any()
    assert not np.isin(found.j, [17, 18]).any()
    there = np.linalg.norm(layout[found.i] - layout[found.j], axis=1)
    assert (np.abs(np.log2(found.lengths / there)) <= 1.0).all()
    assert pieces(found)[0] == 3
    # Candidates: every sample has its 12 nearest, but for steps that leave the tangents.
    degree = np.bincount(np.concatenate([found.i, found.j]), minlength=500)
    assert (np.delete(degree, [17, 18]) >= 10).all()


def test_graphs_have_the_same_bits_for_any_number_of_threads():
    observation = smooth_observation(3000, 2, 5, seed=1)
    graphs = [neighbor_graph(observation, 12, threads) for threads in (1, 2, 3)]
    layouts = [layout_graph(observation, np.arange(3000), observation.points[:, :2], 12, threads) for threads in (1, 2)]
    for one, others in ((graphs[0], graphs[1:]), (layouts[0], layouts[1:])):
        assert len(one.i) > 0
        for other in others:
            for name in ("rows", "i", "j", "lengths"):
                assert getattr(other, name).tobytes() == getattr(one, name).tobytes()


# --- graphs -------------------------------------------------------------------------------------------------


def test_steps_and_incidence_agree():
    found = neighbor_graph(flat(square(60)), 5, 1)
    e = len(found.i)
    closed = NeighborGraph(
        found.rows, found.i, found.j, found.lengths, np.random.default_rng(0).integers(-1, 2, (e, 2)).astype(float)
    )
    for case, k in ((found, 0), (closed, 2)):
        layout = square(60 + k, seed=3)
        assert case.n_periods == k
        np.testing.assert_allclose(case.incidence() @ layout, case.steps(layout), atol=1e-14)
    expected = layout[closed.j] - layout[closed.i] + closed.windings @ layout[60:]
    np.testing.assert_allclose(closed.steps(layout), expected)


def test_restricted_graphs_keep_the_edges_within():
    found = neighbor_graph(flat(square(80)), 5, 1)
    keep = np.random.default_rng(0).random(80) < 0.6
    part = found.restricted(keep)
    inner = keep[found.i] & keep[found.j]
    np.testing.assert_array_equal(part.rows, found.rows[keep])
    np.testing.assert_array_equal(part.rows[part.i], found.rows[found.i[inner]])
    np.testing.assert_array_equal(part.rows[part.j], found.rows[found.j[inner]])
    np.testing.assert_array_equal(part.lengths, found.lengths[inner])


def clusters(gap):
    return np.concatenate([0.1 * square(30, 1), 0.1 + gap + 0.1 * square(30, 1, seed=1)])


def test_gaps_are_bridged():
    observation = flat(clusters(0.03))
    before = neighbor_graph(observation, 4, 1)
    assert pieces(before)[0] > 1
    after = bridged(before, observation, 4, 1)
    assert pieces(after)[0] == 1
    old = len(before.i)
    np.testing.assert_array_equal(after.i[:old], before.i)
    labels = pieces(before)[1]
    assert (labels[after.i[old:]] != labels[after.j[old:]]).all()
    x = observation.points[after.rows, 0]
    np.testing.assert_allclose(after.lengths, np.abs(x[after.i] - x[after.j]), rtol=1e-9)


def test_what_is_far_is_not_bridged_but_joined_on_demand():
    observation = flat(clusters(2.0))
    before = neighbor_graph(observation, 4, 1)
    after = bridged(before, observation, 4, 1)
    count, labels = pieces(after)
    assert count == 2
    whole = joined(after, observation.points[after.rows], labels)
    assert pieces(whole)[0] == 1
    assert len(whole.i) == len(after.i) + 1
    x = observation.points[after.rows, 0]
    gap = x[labels == labels[x.argmax()]].min() - x[labels == labels[x.argmin()]].max()
    assert whole.lengths[-1] == pytest.approx(gap)


def test_a_graph_without_edges_stays_in_pieces():
    # Two samples with orthogonal tangents.
    observation = Observation.from_jacobians(np.eye(2), np.eye(2)[:, :, None])
    found = bridged(neighbor_graph(observation, 1, 1), observation, 1, 1)
    assert pieces(found)[0] == 2


def test_overlap_counts_samples_that_lie_on_others():
    x = square(1000)
    found = neighbor_graph(flat(x), 12, 1)
    layout = x[found.rows]
    assert overlap(found, layout) == 0.0
    folded = np.abs(layout - [0.5, 0.0])
    assert overlap(found, folded) > 0.3


@pytest.mark.parametrize("m", [1, 2, 5])
def test_graph_of_an_array_is_that_of_identity_whitenings(m):
    points = np.random.default_rng(m).random((400, m))
    points[5] += 30.0
    identity = np.ascontiguousarray(np.broadcast_to(np.eye(m), (400, m, m)))
    observation = Observation(points, identity, np.ones((400, m)), m, np.array([7]), "jacobians")
    expected = neighbor_graph(observation, 12, 1)
    found = array_graph(points, observation.usable, 12, 2)
    assert 7 not in found.rows
    assert len(found.i) > 12 * 399 / 2
    for name in ("rows", "i", "j"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    np.testing.assert_allclose(found.lengths, expected.lengths, rtol=1e-12)
