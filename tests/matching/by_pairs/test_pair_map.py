"""Maps learned from landmarks alone, where a side folds its domain and no coordinates join the two."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.maps import TIMES_OFF
from diffeo.verdict.baselines import affine_fit, procrustes_fit
from support.samples import smooth_map, square

WHOLE, INNER = smooth_map(2, 5, 0), smooth_map(2, 5, 4)
X = square(100, 2, 8)


def fold(x):
    """Measurements that are even in the first coordinate about 1/2."""
    y, jacobians = INNER(np.column_stack([4.0 * (x[:, 0] - 0.5) ** 2, x[:, 1]]))
    return y, jacobians * np.stack([8.0 * (x[:, 0] - 0.5), np.ones(len(x))], axis=1)[:, None]


@functools.cache
def sides():
    return tuple(Observation.from_jacobians(*f(square(700, 2, seed)), dim=2) for seed, f in enumerate((WHOLE, fold)))


def at(x):
    return WHOLE(x)[0], fold(x)[0]


@functools.cache
def matched(count, swap=False):
    step = -1 if swap else 1
    return match(*sides()[::step], landmarks=at(square(count, 2, 7))[::step], n_jobs=1)


@pytest.mark.parametrize("swap", [False, True])
def test_the_keeping_side_determines_the_folding_one(swap):
    found = matched(60, swap)
    assert found.coordinates == "regression"
    assert found.alignment.kind == "regression"
    assert found.invertible
    whole, folded = at(X)
    there, back = (found.inverse_transform, found.transform) if swap else (found.transform, found.inverse_transform)
    assert relative_error(there(whole), folded) < 0.02
    # Not back: half of the places are wrong, and said to lie outside.
    with pytest.warns(errors.OutOfDomainWarning, match="the partners of .* lie outside"):
        guessed = back(folded)
    assert relative_error(guessed, whole) > 0.2
    kinds = [type(side) for side in (found.a, found.b)]
    assert kinds == [IsometricChart, MeasuredChart][:: -1 if swap else 1]
    assert "60 landmarks alone" in "; ".join(found.diagnostics.problems)
    names = "AB"[:: -1 if swap else 1]
    assert f"what {names[1]} measures does not determine what {names[0]} measures" in "; ".join(
        found.diagnostics.problems
    )


def test_coordinates_of_the_folding_side_are_principal_components():
    chart = matched(60).b
    points = chart.observation.points
    standard = (points - points.mean(axis=0)) / points.std(axis=0)
    assert chart.coordinates.shape == (700, 2)
    # The largest variance that two orthogonal directions can have.
    assert (chart.coordinates**2).sum() == pytest.approx((np.linalg.svd(standard)[1][:2] ** 2).sum())
    back = chart.measurements(chart.coordinates, 1)
    assert np.allclose(chart.place(back, 1).values, chart.coordinates)
    assert chart.features(chart.coordinates).shape == (700, 0)
    # For pictures, A's are moved as near as a motion can.
    assert matched(60).intrinsic(at(X)[0]).shape == (100, 2)


def test_too_few_landmarks_carry_no_map():
    with pytest.raises(errors.DisconnectedError):
        match(*sides(), landmarks=at(square(2, 2, 7)), n_jobs=1)
    with pytest.raises(errors.DisconnectedError):
        match(*sides(), landmarks=at(square(19, 2, 7)), check=False, n_jobs=1)


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
@pytest.mark.parametrize("count", [3, 5])
def test_where_no_other_map_is_a_few_landmarks_carry_one_that_says_so(count):
    """Hardly worse than the best of the plain fits, and never far worse than the mean."""
    marks, (whole, folded) = at(square(count, 2, 7)), at(X)
    found = match(*sides(), landmarks=marks, n_jobs=1)
    assert found.coordinates == "regression"
    true = relative_error(found.transform(whole), folded)
    plain = [relative_error(fit(*marks)(whole), folded) for fit in (affine_fit, procrustes_fit)]
    assert true < 1.3 * min(plain)
    assert true < 1.2
    assert true / 2 < found.diagnostics.expected_error <= 1.5
    assert found.diagnostics.problems[0].startswith("expect errors of about")
    assert "falls into" in found.diagnostics.problems[0]


@pytest.mark.parametrize("rows", [[0, 0, 0], [0, 1, 1], [0, 0, 1, 1]])
def test_copies_of_landmarks_are_not_counted(rows):
    """What one copy misses when the other is left out is nothing."""
    with pytest.raises(errors.DisconnectedError):
        match(*sides(), landmarks=at(square(2, 2, 7)[rows]), n_jobs=1)


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
def test_landmarks_that_are_near_each_other_say_little_of_the_rest():
    line = 0.3 + np.column_stack([0.003 * np.arange(3), 0.002 * np.arange(3)])
    found = match(*sides(), landmarks=at(line), n_jobs=1)
    whole, folded = at(X)
    true = relative_error(found.transform(whole), folded)
    assert true > 0.5
    assert true / 2 < found.diagnostics.expected_error


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
def test_landmarks_off_the_samples_are_named():
    a, b = at(square(4, 2, 7))
    found = match(*sides(), landmarks=(a + 30.0 * (np.arange(4) == 2)[:, None], b), n_jobs=1)
    assert "1 of 4 landmarks (row 2) lie off A's samples" in found.diagnostics.problems[0]


def test_reasons_of_a_map_do_not_speak_of_an_error():
    assert "in this error" not in str(match(*sides(), landmarks=at(square(4, 2, 7)), n_jobs=1).diagnostics.problems)


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
def test_a_map_from_few_landmarks_says_how_bad_it_is():
    found = match(*sides(), landmarks=at(square(12, 2, 7)), n_jobs=1)
    assert found.coordinates == "regression"
    whole, folded = at(X)
    true = relative_error(found.transform(whole), folded)
    assert true > 0.05
    assert true / 3 < found.diagnostics.expected_error < 5 * true
    assert found.diagnostics.problems[0].startswith("expect errors of about")


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_coordinates_that_were_asked_for_are_not_replaced(coordinates):
    with pytest.raises(errors.DisconnectedError):
        match(*sides(), landmarks=at(square(60, 2, 7)), coordinates=coordinates, n_jobs=1)


def test_predictions_are_moved_to_the_samples_as_far_as_they_are_in_doubt():
    """By u^2 / (u^2 + s^2) of the way, for ones that are s away from them and wrong by about u."""
    found = matched(12).map
    points = np.concatenate([at(X)[1], 1.3 * at(X)[1]])
    at_b = found.b.features(found.b.place(points, 1).values)
    predicted = found.taught_back.predict(points, at_b)
    near = found._covers[0].brought_near(predicted, 1)
    away = np.linalg.norm(near - predicted, axis=1)
    u = TIMES_OFF * found.taught_back.deviation(points, at_b)
    sent = found.backward(points, 1).values
    share = u**2 / (u**2 + away**2)
    assert np.allclose(sent, predicted + share[:, None] * (near - predicted))
    off = away > 0.0
    assert off.any()
    assert share[off].min() < 0.95
    assert np.array_equal(sent[~off], predicted[~off])


def test_a_side_that_keeps_the_input_is_matched_by_coordinates():
    y, jacobians = smooth_map(2, 4, 9)(square(700, 2, 3))
    other = Observation.from_jacobians(y, jacobians)
    x = square(60, 2, 7)
    found = match(sides()[0], other, landmarks=(WHOLE(x)[0], smooth_map(2, 4, 9)(x)[0]), n_jobs=1)
    assert found.coordinates == "isometric"
    assert found.diagnostics.problems == []


def test_both_sides_fold_something_else():
    y, jacobians = INNER(np.column_stack([square(700, 2, 5)[:, 0], 4.0 * (square(700, 2, 5)[:, 1] - 0.5) ** 2]))
    slopes = np.stack([np.ones(700), 8.0 * (square(700, 2, 5)[:, 1] - 0.5)], axis=1)
    other = Observation.from_jacobians(y, jacobians * slopes[:, None], dim=2)
    x = square(60, 2, 7)
    measured = INNER(np.column_stack([x[:, 0], 4.0 * (x[:, 1] - 0.5) ** 2]))[0]
    found = match(sides()[1], other, landmarks=(fold(x)[0], measured), n_jobs=1)
    text = "; ".join(found.diagnostics.problems)
    assert found.coordinates == "regression"
    assert "what A measures does not determine what B measures" in text
    assert "what B measures does not determine what A measures" in text
