"""Arithmetic modulo periods: cells, nearest places, and short bases, against brute force over a lattice."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from diffeo.isometry.periods import nearest_zero, reduced_basis, shifts_around, turns, whole_turns, wrapped
from support.samples import random_orthogonal

LATTICES = {
    "circle": np.array([[2.5]]),
    "cylinder": np.array([[0.6, 0.8]]),
    "square": np.eye(2),
    "hexagonal": np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]]),
    "oblique": np.array([[1.0, 0.0], [0.45, 0.3]]),
    "bad basis": np.array([[1.0, 0.0], [7.3, 1.2]]),
    "plane in space": np.array([[1.0, 0.2, 0.0], [0.4, 0.1, 0.9]]),
    "cubic": np.eye(3),
    "oblique in space": np.array([[1.0, 0.0, 0.0], [0.45, 0.9, 0.0], [0.4, 0.4, 0.5]]),
}


@pytest.fixture(params=LATTICES)
def periods(request):
    """Periods in general position."""
    basis = LATTICES[request.param]
    return basis @ random_orthogonal(1, basis.shape[1], 4)[0]


def places(periods, count=200, seed=0):
    return 4.0 * np.random.default_rng(seed).normal(size=(count, periods.shape[1]))


def sums_of(periods, reach):
    whole = np.array(list(itertools.product(range(-reach, reach + 1), repeat=len(periods))), dtype=float)
    return whole @ periods


def assert_whole(moved, periods):
    """Moves are sums of periods."""
    whole = turns(moved, periods)
    np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
    np.testing.assert_allclose(np.round(whole) @ periods, moved, atol=1e-9)


@pytest.mark.parametrize("move", [wrapped, nearest_zero])
def test_places_move_by_whole_periods_and_do_not_know_where_they_were(move, periods):
    x = places(periods)
    moved = move(x, periods)
    assert_whole(moved - x, periods)
    whole = np.random.default_rng(1).integers(-5, 6, (len(x), len(periods)))
    np.testing.assert_allclose(move(x + whole @ periods, periods), moved, atol=1e-9)
    np.testing.assert_allclose(move(moved, periods), moved, atol=1e-12)


@pytest.mark.parametrize("move", [wrapped, nearest_zero])
def test_without_periods_nothing_moves(move):
    x = places(np.eye(2))
    for none in (np.empty((0, 0)), np.empty((0, 2))):
        assert move(x, none) is x
    np.testing.assert_array_equal(shifts_around(np.empty((0, 2))), np.zeros((1, 2)))


def test_cells_hold_turns_from_zero_to_one(periods):
    around = turns(wrapped(places(periods), periods), periods)
    assert around.min() > -1e-9
    assert around.max() < 1.0


def test_far_edge_of_a_cell_is_the_near_one(periods):
    # A rounding error below a whole turn, and above it.
    for edge in (1.0 - 1e-13, 1.0, 1.0 + 1e-13, -1e-13):
        x = edge * periods
        np.testing.assert_allclose(wrapped(x, periods), 0.0, atol=1e-11)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_half_a_period_stays_half_a_period(periods, side):
    short = reduced_basis(periods)[:1]
    for off in (-1e-3, 0.0, 1e-3):
        half = side * (0.5 + off) * short
        found = nearest_zero(half, periods)
        assert np.linalg.norm(found) == pytest.approx((0.5 - abs(off)) * np.linalg.norm(short))
        assert_whole(found - half, periods)


def test_nearest_is_nearest_by_brute_force(periods):
    x = nearest_zero(places(periods), periods)
    lattice = sums_of(reduced_basis(periods), 3)
    least = np.linalg.norm(x[:, None] + lattice, axis=2).min(axis=1)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), least, atol=1e-12)


@pytest.mark.parametrize("name", ["hexagonal", "oblique", "bad basis", "oblique in space"])
def test_rounding_the_turns_is_not_nearest_on_oblique_lattices(name):
    periods = LATTICES[name]
    x = places(periods)
    rounded = x - np.round(turns(x, periods)) @ periods
    size, nearest = (np.linalg.norm(moved, axis=1) for moved in (rounded, nearest_zero(x, periods)))
    assert (nearest <= size * (1 + 1e-9)).all()
    assert (nearest < 0.95 * size).mean() > 0.01


def test_whole_turns_are_those_of_the_nearest_sum(periods):
    x = places(periods)
    whole = whole_turns(x, periods)
    np.testing.assert_array_equal(whole, np.round(whole))
    np.testing.assert_allclose(x - whole @ periods, nearest_zero(x, periods), atol=1e-9)


def test_shifts_around_reach_the_neighbouring_cells(periods):
    shifts = shifts_around(periods)
    assert shifts.shape == (3 ** len(periods), periods.shape[1])
    assert not shifts[0].any()
    np.testing.assert_allclose(np.unique(np.round(turns(shifts, periods))), [-1, 0, 1])
    assert len(np.unique(np.round(shifts, 9), axis=0)) == len(shifts)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_reduced_bases_span_the_same_lattice_with_its_shortest_vectors(dim):
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
        # The successive minima: no vector of the lattice outside of the span of the shorter ones is shorter.
        lengths = np.linalg.norm(reduced, axis=1)
        assert (np.diff(lengths) >= 0).all()
        others = sums_of(reduced, 4)
        for a in range(dim):
            beside = others[np.abs(others @ np.linalg.inv(reduced))[:, a:].max(axis=1) > 0.5]
            assert lengths[a] == pytest.approx(np.linalg.norm(beside, axis=1).min())
