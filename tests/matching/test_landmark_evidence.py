"""What landmarks that miss each other tell of a map's error: what neighbours have in common, and which half has failed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from diffeo import Observation, match
from diffeo.matching.parts import fields
from diffeo.matching.self_check import _without_failed

RNG = np.random.default_rng(5)
X = RNG.random((400, 2))
MARKS = 0.1 + 0.8 * RNG.random((40, 2))


def joined(marks, there):
    """The map of the unit square to itself, by these landmarks."""
    sides = [Observation.from_jacobians(x, np.tile(np.eye(2), (200, 1, 1))) for x in (X[:200], X[200:])]
    return match(*sides, landmarks=(marks, there), check=False)


@pytest.fixture(scope="module")
def exact():
    return joined(MARKS, MARKS)


def test_errors_of_single_landmarks_have_nothing_in_common():
    there = MARKS + 0.01 * np.random.default_rng(0).normal(size=MARKS.shape)
    assert fields._in_common(joined(MARKS, there)) < 0.5


def test_errors_of_neighbourhoods_are_in_common(exact):
    bent = np.column_stack([0.01 * np.sin(6.0 * MARKS[:, 1]), 0.01 * np.cos(6.0 * MARKS[:, 0])])
    t = dataclasses.replace(exact, landmarks=(MARKS, MARKS + bent))
    assert fields._in_common(t) > 0.8


def test_few_landmarks_and_ones_that_stand_out_tell_nothing(exact):
    noise = 0.01 * np.random.default_rng(1).normal(size=MARKS.shape)
    few = dataclasses.replace(exact, landmarks=(MARKS[:8], (MARKS + noise)[:8]))
    assert fields._in_common(few) == 1.0
    noise[3] *= 20.0
    one = dataclasses.replace(exact, landmarks=(MARKS, MARKS + noise))
    assert fields._in_common(one) == 1.0


def moved(t, shift, residual):
    alignment = dataclasses.replace(t.alignment, shift=t.alignment.shift + shift, residual=residual)
    return dataclasses.replace(t, map=dataclasses.replace(t.map, alignment=alignment, taught=None, taught_back=None))


def test_a_half_that_its_own_landmarks_show_to_have_failed_says_nothing(exact):
    whole, good, bad = moved(exact, 0.0, 1e-4), moved(exact, 1e-4, 2e-4), moved(exact, 0.1, 0.08)
    assert _without_failed(whole, [bad, good]) == [good]
    # If the whole misses its landmarks as well, or is as far from the other half, nothing is known of who failed.
    wrong = moved(exact, 0.0, 0.05)
    assert _without_failed(wrong, [bad, good]) == [bad, good]
    other = moved(exact, -0.05, 2e-4)
    assert _without_failed(whole, [bad, other]) == [bad, other]
