"""Landmarks that a chart of the whole sample has no place for still count where maps compete."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors, match
from diffeo.matching.match_observations import match_problem
from diffeo.matching.parts.stray_landmarks import missed_unused
from support.pairs import maps, observations
from support.samples import square


def test_what_a_map_misses_of_landmarks_without_a_place():
    a, b = (f(square(8, seed=5))[0] for f in maps())
    pair = observations(n=500)
    t = match(*pair, landmarks=(a[:6], b[:6]))
    # Two more landmarks, of which the map knows nothing: right ones, and ones whose partners lie elsewhere.
    right, elsewhere = (match_problem(*pair).given((a, there)) for there in (b, np.vstack([b[:6], b[:2] + 0.5])))
    assert missed_unused(match_problem(*pair).given((a[:6], b[:6])), t) == 0.0
    assert missed_unused(right, t) < 1e-3
    spreads = [np.linalg.norm(x - x.mean(axis=0)) for x in (a, np.vstack([b[:6], b[:2] + 0.5]))]
    forward = np.linalg.norm(t.transform(a[6:]) - b[:2] - 0.5) / spreads[1]
    with pytest.warns(errors.OutOfDomainWarning):
        backward = np.linalg.norm(t.inverse_transform(b[:2] + 0.5) - a[6:]) / spreads[0]
    np.testing.assert_allclose(missed_unused(elsewhere, t), np.sqrt(forward * backward), rtol=1e-12)
    assert missed_unused(elsewhere, t) > 0.1


def test_landmarks_in_pieces_that_were_left_out_count():
    x = square(600, seed=2)
    x[:, 0] += 3.0 * (x[:, 0] > 0.8)
    a, b = (Observation.from_jacobians(y, np.tile(np.eye(2), (600, 1, 1))) for y in (x, x + 1.0))
    marks = np.array([[0.1, 0.2], [0.6, 0.3], [0.3, 0.9], [3.9, 0.5]])
    t = match(a, b, landmarks=(marks[:3], marks[:3] + 1.0))
    assert len(t.a.left_out) > 0
    assert missed_unused(match_problem(a, b).given((marks, marks + 1.0)), t) > 0.1
