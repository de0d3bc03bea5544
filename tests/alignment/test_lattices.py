"""Motions between closed flat domains: the isometries of their lattices, and shifts modulo the periods."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.alignment.lattices import closed_motions, closed_motions_by_observables, lattice_isometries
from diffeo.alignment.motion_search import refined_by_observables
from diffeo.isometry.periods import nearest_zero
from support.samples import random_orthogonal, square

SQUARE = np.eye(2)
OBLONG = np.diag([1.0, 1.7])
HEXAGONAL = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
OBLIQUE = np.array([[1.0, 0.0], [0.3, 1.2]])


@pytest.mark.parametrize(
    ("periods", "count"),
    [
        (np.array([[2.0]]), 2),
        (SQUARE, 8),
        (OBLONG, 4),
        (HEXAGONAL, 12),
        (OBLIQUE, 2),
        (np.eye(3), 48),
        (np.array([[2.0, 0.0]]), 4),
    ],
)
def test_isometries_are_the_point_group_of_the_lattice(periods, count):
    d = periods.shape[1]
    q = random_orthogonal(1, d, 3)[0]
    # Another basis of the same lattice, turned.
    other = periods.copy()
    other[-1] = periods[-1] - (periods[0] if len(periods) > 1 else 2.0 * periods[0])
    found = lattice_isometries(periods, other @ q)
    assert len(found) == count
    assert len(np.unique(np.round(found, 6), axis=0)) == count
    for linear in found:
        np.testing.assert_allclose(linear @ linear.T, np.eye(d), atol=1e-12)
        # The images of the periods are integer combinations of the others.
        whole = periods @ linear @ np.linalg.pinv(other @ q)
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)


@pytest.mark.parametrize("other", [1.2 * SQUARE, OBLONG, HEXAGONAL, np.array([[1.0, 0.0]]), np.empty((0, 2))])
def test_other_periods_are_other_domains(other):
    for pair in ((SQUARE, other), (other, SQUARE)):
        with pytest.raises(errors.DomainMismatchError, match="the domains are closed differently"):
            lattice_isometries(*pair)


def test_two_open_directions_are_refused():
    with pytest.raises(errors.DomainMismatchError, match="its 2 open directions are not implemented"):
        lattice_isometries(np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("periods", [SQUARE, HEXAGONAL, OBLIQUE])
def test_landmarks_in_general_position_leave_one_motion(periods):
    q, shift = random_orthogonal(1, 2, 5)[0], np.array([0.3, 7.0])
    a = square(4, 2, 2)
    # Partners in other cells.
    b = a @ q + shift + np.array([[0, 0], [1, -2], [3, 0], [-1, 1]]) @ (periods @ q)
    found = closed_motions(a, b, periods, periods @ q, 1.0)
    assert len(found) == 1
    np.testing.assert_allclose(found[0].linear, q, atol=1e-10)
    np.testing.assert_allclose(nearest_zero((found[0].shift - shift)[None], periods @ q), 0.0, atol=1e-9)
    assert found[0].misfit < 1e-10


@pytest.mark.parametrize(("periods", "count"), [(SQUARE, 8), (OBLONG, 4), (HEXAGONAL, 12), (OBLIQUE, 2)])
def test_one_landmark_leaves_the_point_group(periods, count):
    at = np.array([[0.2, 0.1]])
    found = closed_motions(at, at + 0.4, periods, periods, 1.0)
    assert len(found) == count
    for motion in found:
        np.testing.assert_allclose(nearest_zero(at @ motion.linear + motion.shift - at - 0.4, periods), 0.0, atol=1e-9)


def by_observable(quantity, n=600):
    """Motions of a circle of length 1, A turned against B by 0.3, by an observable (a function of B's coordinate)."""
    period = np.array([[1.0]])
    a, b = square(n, 1, 1), square(n, 1, 2)
    values = quantity(a + 0.3), quantity(b)
    rng = np.random.default_rng(0)
    starts = closed_motions_by_observables(a, b, period, period, values, rng)
    return refined_by_observables(starts, a, b, period, values, rng, 1, free_shift=True)


def test_an_observable_fixes_the_shift():
    found = by_observable(lambda x: np.sin(2 * np.pi * x) + 0.5 * np.cos(4 * np.pi * x + 1))
    assert len(found) == 1
    assert found[0].linear[0, 0] == pytest.approx(1.0)
    assert (found[0].shift[0] - 0.3 + 0.5) % 1.0 - 0.5 == pytest.approx(0.0, abs=1e-4)


def test_an_observable_that_repeats_itself_leaves_all_its_shifts():
    # sin(4 pi x) is the same after half a period; mirrored, after a quarter and three.
    found = by_observable(lambda x: np.sin(4 * np.pi * x))
    assert sorted(motion.linear[0, 0] for motion in found) == pytest.approx([-1, -1, 1, 1])
    turned = sorted((motion.shift[0] + 0.01) % 1.0 for motion in found if motion.linear[0, 0] > 0)
    assert turned == pytest.approx([0.31, 0.81], abs=1e-3)
