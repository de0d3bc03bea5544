"""Landmarks that a chart of the whole sample has no place for still count where maps compete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import Observation, errors, match
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.expected_error import spread_of
from diffeo.matching.match_observations import _for_regression, _Layouts, match_problem
from diffeo.matching.parts.no_counterpart import with_no_counterpart
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


@pytest.mark.parametrize("rough", [False, True])
def test_landmarks_off_a_chart_are_no_reason_to_refuse_where_it_keeps_no_lengths(rough):
    rng = np.random.default_rng(0)
    sides = [
        Observation.from_jacobians(y, jacobians + 0.06 * rough * rng.normal(size=jacobians.shape))
        for y, jacobians in (f(square(300, seed=seed)) for seed, f in enumerate(maps()))
    ]
    a, b = (f(square(10, seed=5))[0] for f in maps())
    a[[2, 5, 6, 7]] += 0.5 * a.std(axis=0)
    if not rough:
        with pytest.raises(errors.LandmarkError, match="4 of 10 points lie off"):
            match(*sides, landmarks=(a, b))
        return
    t = match(*sides, landmarks=(a, b))
    assert t.coordinates != "isometric"
    assert "4 of 10 points lie off the measured manifold" in "; ".join(t.diagnostics.problems)


def test_right_landmarks_without_a_place_are_no_problem_and_count_in_the_expected_error():
    a, b = (f(square(12, seed=5))[0] for f in maps())
    pair = observations(n=500)
    near, far = a.copy(), a.copy()
    near[4] += 0.03 * np.linalg.svd(pair[0].points - pair[0].points.mean(axis=0))[2][-1]
    far[4] += 100.0
    good, bad = (match(*pair, landmarks=(x, b)) for x in (near, far))
    assert good.diagnostics.problems == []
    assert any("1 of 12 landmarks (row 4) lie off" in said for said in good.diagnostics.reasons)
    missed = np.linalg.norm(good.sent(near[4:5]).values - b[4:5]) / spread_of(pair[1].points)
    assert good.diagnostics.expected_error >= missed / np.sqrt(12)
    assert any("1 of 12 landmarks (row 4) lie off" in said for said in bad.diagnostics.problems)


def test_landmarks_of_a_part_of_a_problem_are_found_by_their_numbers():
    a, b = (f(square(8, seed=5))[0] for f in maps())
    b[7] += 0.5
    pair = observations(n=500)
    whole = match_problem(*pair).given((a, b))
    part = whole.without(np.array([0, 1]))
    np.testing.assert_array_equal(part.positions(np.array([1, 3, 7])), [1, 5])
    t = match(*pair, landmarks=(a[:6], b[:6]))
    t = replace(t, diagnostics=replace(t.diagnostics, apart_landmarks=np.array([7])))
    before = t.expected.forward.relative**2
    added = [with_no_counterpart(one, t, t.expected).forward.relative ** 2 - before for one in (whole, part)]
    # The same landmark, of eight and of six.
    assert added[0] > 0.01
    np.testing.assert_allclose(added[1] / added[0], 8 / 6)


@pytest.mark.parametrize(("apart", "kind"), [(0.0, IsometricChart), (3.0, MeasuredChart)])
def test_regressions_take_coordinates_only_where_all_samples_have_some(apart, kind):
    x = square(600, seed=2)
    x[:, 0] += apart * (x[:, 0] > 0.8)
    a, b = (Observation.from_jacobians(y, np.tile(np.eye(2), (600, 1, 1))) for y in (x, x + 1.0))
    problem = match_problem(a, b).given((x[:30], x[:30] + 1.0))
    assert [type(side) for side in _for_regression(problem, _Layouts(problem, learnable=True))] == [kind, kind]
