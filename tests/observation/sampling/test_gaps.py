"""Steps across gaps of a sample, which nearest neighbours along a dense rim do not cross."""

from __future__ import annotations

import diffeo
import numpy as np
from diffeo import Observation
from diffeo.observation.sampling.gaps import steps_across, thinned
from diffeo.observation.sampling.judged_steps import neighbor_pairs
from support.cliffs import cliff
from support.samples import square

MIDDLE = np.array([0.45, 0.5])


def with_gap(n=800, dense=2500, radius=0.05):
    """Inputs that are dense in a band around a gap, and none in it."""
    x, more = square(n, 2, 1), square(4 * dense, 2, 2)
    x = np.concatenate([x, more[abs(more[:, 0] - MIDDLE[0]) < 0.12]])
    return x[np.linalg.norm(x - MIDDLE, axis=1) > radius]


def across(x, i, j, radius):
    """Which steps pass the middle of the gap nearer than half its radius."""
    return np.linalg.norm(0.5 * (x[i] + x[j]) - MIDDLE, axis=1) < 0.5 * radius


def test_a_gap_with_a_dense_rim_is_crossed_in_all_directions():
    x = with_gap()
    assert not across(x, *neighbor_pairs(x, 12), 0.05).any()
    i, j = steps_across(x, 12)
    assert (i < j).all()
    crossing = across(x, i, j, 0.05)
    step = (x[j] - x[i])[crossing]
    angles = np.sort(np.arctan2(step[:, 1], step[:, 0]) % np.pi)
    assert np.diff(angles, append=angles[0] + np.pi).max() < np.deg2rad(45.0)


def test_a_hole_of_the_domain_is_not_crossed():
    """It is much larger than what chance leaves empty."""
    x = with_gap(radius=0.2)
    assert not across(x, *steps_across(x, 12), 0.2).any()


def test_gaps_do_not_depend_on_the_order_of_the_sample_nor_on_its_unit():
    x = with_gap(300, 900)
    order = np.random.default_rng(0).permutation(len(x))
    found = [steps_across(one, 12) for one in (x, 2.0**20 * x)]
    np.testing.assert_array_equal(found[0], found[1])
    moved = x[order]
    assert across(moved, *steps_across(moved, 12), 0.05).any()


def test_few_or_equal_inputs_have_no_gaps():
    for x in (square(4, 2, 1), np.zeros((50, 2))):
        assert len(steps_across(x, 12)[0]) == 0


def test_thinned_points_keep_their_distance_and_leave_no_room():
    x = square(500, 2, 1)
    kept = thinned(x, np.full(500, 0.1), 500)
    apart = np.linalg.norm(x[kept][:, None] - x[kept], axis=2)
    assert apart[~np.eye(len(kept), dtype=bool)].min() > 0.1
    assert np.linalg.norm(x[:, None] - x[kept], axis=2).min(axis=1).max() <= 0.1
    np.testing.assert_array_equal(thinned(x, np.full(500, 0.1), 3), kept[:3])


def test_inputs_are_suggested_in_a_gap_of_the_front():
    front, x = cliff(0.03), with_gap()
    assert abs(front.place(MIDDLE[None])[0]) < 4.0
    found = diffeo.suggest_inputs(Observation.from_jacobians(*front(x)), x, 30)
    assert (np.linalg.norm(found.inputs - MIDDLE, axis=1) < 0.04).any()
