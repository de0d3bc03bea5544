"""What a map is expected to be wrong by, against the truth: in size, row by row, and where nothing can be known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from diffeo import Observation, embed, errors, load, match, relative_error
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.expected_error import ErrorField, of_halves
from diffeo.matching.maps import ByPairs
from diffeo.matching.self_check import expected_of
from support.domains import sphere
from support.pairs import NEW, THREE, at, both_errors, maps, observations
from support.samples import smooth_map, square


@pytest.fixture(scope="module")
def few():
    """Two observations of 700 samples, matched by four landmarks."""
    marks = at(maps(), square(4, seed=5))
    pair = observations(n=700)
    return match(*pair, landmarks=marks)


def test_expected_errors_are_those_of_the_map(few):
    forward, backward = both_errors(few, maps(), NEW)
    known = few.diagnostics
    assert forward < 2 * known.expected_error < 10 * forward
    assert backward < 2 * known.expected_error_back < 10 * backward
    assert known.expected_error == few.expected.forward.relative
    assert few.expected.forward.whole is few.expected.backward.whole is None
    assert known.problems == []


def test_more_samples_are_expected_to_do_better(few):
    more = match(*observations(n=2000), landmarks=at(maps(), square(4, seed=5)))
    assert more.diagnostics.expected_error < 0.7 * few.diagnostics.expected_error


def test_rows_are_predicted(few):
    x = square(400, seed=11)
    y_a, y_b = at(maps(), x)
    spread = np.sqrt(((few.b.observation.points - few.b.observation.points.mean(axis=0)) ** 2).sum(axis=1).mean())
    true = np.linalg.norm(few.transform(y_a) - y_b, axis=1) / spread
    ratio = few.predicted_error(y_a) / true
    assert np.mean((ratio > 0.25) & (ratio < 4)) > 0.6
    back = few.predicted_error(y_b, inverse=True)
    assert back.shape == (400,)
    assert np.isfinite(back).all()
    assert (back > 0).all()


def test_rows_far_from_all_samples_are_expected_to_be_worse(few):
    inside, outside = np.array([[0.5, 0.5]]), np.array([[1.35, 0.5]])
    near, far = (few.predicted_error(maps()[0](x)[0]) for x in (inside, outside))
    with pytest.warns(errors.OutOfDomainWarning):
        sent = few.transform(maps()[0](outside)[0])
    spread = np.sqrt(((few.b.observation.points - few.b.observation.points.mean(axis=0)) ** 2).sum(axis=1).mean())
    true = np.linalg.norm(sent - maps()[1](outside)[0]) / spread
    assert far > 10 * near
    assert far > true / 4


def test_rows_as_far_as_numbers_go_have_finite_expected_errors(few):
    far = few.predicted_error(np.full((1, 5), 1e300))
    assert np.isfinite(far).all()
    assert far > 1e3


@pytest.mark.parametrize("seed", range(3))
def test_landmarks_that_are_not_quite_common_are_expected_to_harm(seed):
    rng = np.random.default_rng(seed)
    x = square(6, seed=seed + 20)
    marks = maps()[0](x)[0], maps()[1](np.clip(x + 0.01 * rng.normal(size=x.shape), 0.01, 0.99))[0]
    found = match(*observations(n=700), landmarks=marks)
    forward, _ = both_errors(found, maps(), NEW)
    assert forward > 0.003  # the halves share their landmarks, and agree to a tenth of this
    assert forward / 3 < found.diagnostics.expected_error < 5 * forward


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
def test_a_map_that_is_wrong_says_by_how_much():
    """Noise of 5 % in the points, which no stress and no landmark shows."""
    sides = []
    for measure, seed in zip(maps(), (50, 60), strict=True):
        y, jacobians = measure(square(900, seed=seed))
        noise = 0.05 * y.std() * np.random.default_rng(seed).normal(size=y.shape)
        sides.append(Observation.from_jacobians(y + noise, jacobians))
    found = match(*sides, landmarks=[[0, 0], [1, 1], [2, 2], [3, 3]], check=False)
    assert found.expected is None
    assert found.diagnostics.expected_error is None
    rows = np.column_stack([np.arange(5), np.arange(5)])
    x = square(900, seed=50)[:5]
    sides[1] = with_rows(sides[1], maps()[1], x)
    found = match(*sides, landmarks=rows)
    forward = relative_error(found.transform(at(maps(), NEW)[0]), at(maps(), NEW)[1])
    assert forward / 2 < found.diagnostics.expected_error < 5 * forward
    assert found.diagnostics.problems[0].startswith("expect errors of about")


def with_rows(observation, measure, x):
    """The observation with its first rows measured, without noise, at these inputs."""
    y, jacobians = measure(x)
    first = Observation.from_jacobians(y, jacobians)
    points, whitening = observation.points.copy(), observation.whitening.copy()
    points[: len(x)], whitening[: len(x)] = first.points, first.whitening
    values = observation.singular_values.copy()
    values[: len(x)] = first.singular_values
    return dataclasses.replace(observation, points=points, whitening=whitening, singular_values=values)


def test_halves_are_made_once_for_a_chart():
    charts = [embed(one) for one in observations(n=700)]
    marks = at(maps(), THREE)
    first = match(*charts, landmarks=marks)
    halves = [chart.halves(np.empty(0, dtype=np.int64)) for chart in charts]
    again = match(*charts, landmarks=marks)
    for chart, before in zip(charts, halves, strict=True):
        for half, old in zip(chart.halves(np.empty(0, dtype=np.int64)), before, strict=True):
            assert half.chart._made is old.chart._made
            assert len(half.rows) == 350
    assert np.array_equal(first.expected.forward.errors, again.expected.forward.errors)
    plain = match(*observations(n=700), landmarks=marks)
    assert np.array_equal(first.expected.forward.errors, plain.expected.forward.errors)


def test_landmark_rows_belong_to_both_halves():
    chart = embed(observations(n=700)[0])
    one, other = chart.halves(np.array([3, 8, 600]))
    assert {3, 8, 600} == set(one.rows) & set(other.rows)
    assert set(one.rows) | set(other.rows) == set(range(700))


def test_groups_are_left_out_once_for_a_chart():
    chart = embed(observations(n=60)[0])
    parts = chart.without_each(8)
    left = [np.setdiff1d(np.arange(60), part.rows) for part in parts]
    assert np.array_equal(np.sort(np.concatenate(left)), np.arange(60))
    assert {len(rows) for rows in left} == {7, 8}
    assert all(a.chart._made is b.chart._made for a, b in zip(parts, chart.without_each(8), strict=True))


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
@pytest.mark.parametrize(("n_a", "n_b"), [(700, 50), (60, 60), (20, 700)])
def test_small_samples_have_an_expected_error(n_a, n_b):
    marks = at(maps(1), square(4, seed=1))
    found = match(observations(1, n_a)[0], observations(1, n_b)[1], landmarks=marks)
    known = (found.diagnostics.expected_error, found.diagnostics.expected_error_back)
    for told, true in zip(known, both_errors(found, maps(1), NEW), strict=True):
        assert true / 2 < told < 5 * true
    assert found.predicted_error(marks[0]).shape == (4,)


def test_landmarks_that_are_most_of_a_small_sample_do_not_hide_its_error():
    (a, _), x = maps(), square(40, seed=3)
    small = Observation.from_jacobians(*a(x))
    other = maps()[1](np.vstack([x[:30], square(1000, seed=4)]))
    found = match(small, Observation.from_jacobians(*other), landmarks=np.column_stack([np.arange(30)] * 2))
    forward, backward = both_errors(found, maps(), NEW)
    # Nothing is hidden; of a map that is right to 0.02 %, as backward, a little more than 5 times that may be expected.
    assert forward / 2 < found.diagnostics.expected_error < 5 * forward
    assert backward / 2 < found.diagnostics.expected_error_back < 8 * backward


def walled(x, steep):
    """Four measurements of a line, two of which climb a wall, with their derivatives."""
    wall, none = np.tanh(steep * (x - 0.5)), np.zeros_like(x)
    points = np.stack([x + 0.5 * wall, 0.7 * x - wall, np.sin(3.0 * x), none + 0.3 * x**2], axis=1)
    climb = steep * (1.0 - wall**2)
    return points, np.stack([1.0 + 0.5 * climb, 0.7 - climb, 3.0 * np.cos(3.0 * x), 0.6 * x], axis=1)[:, :, None]


def test_sides_whose_halves_fall_apart_are_taken_without_each_group():
    none, x = np.empty(0, dtype=np.int64), np.linspace(0.03, 0.97, 200)
    torn = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sides = [
            embed(Observation.from_jacobians(*walled(rng.random(n), steep))) for n, steep in ((300, 3.0), (110, 10.0))
        ]
        layout, halves = sides[1].isometric(), sides[1].halves(none)
        if layout is None or not layout.is_chart or all(half.chart.isometric() is not None for half in halves):
            continue
        torn += 1
        marks = np.array([0.1, 0.4, 0.6, 0.9])
        found = match(*sides, landmarks=(walled(marks, 3.0)[0], walled(marks, 10.0)[0]))
        true = relative_error(found.transform(walled(x, 3.0)[0]), walled(x, 10.0)[0])
        assert true / 2 < found.diagnostics.expected_error < 5 * true
        if torn == 2:
            break
    assert torn == 2


def test_sides_whose_halves_have_a_chart_are_taken_without_groups_beside_ones_that_fall_apart():
    """What halves of a wall are wrong by, here by percents, says little of the whole."""
    none, x, marks = np.empty(0, dtype=np.int64), np.linspace(0.03, 0.97, 200), np.array([0.1, 0.4, 0.6, 0.9])
    rng = np.random.default_rng(0)
    sides = [embed(Observation.from_jacobians(*walled(rng.random(n), 10.0))) for n in (200, 110)]
    assert [all(half.chart.isometric() for half in side.halves(none)) for side in sides] == [True, False]
    found = match(*sides, landmarks=(walled(marks, 10.0)[0],) * 2)
    true = relative_error(found.transform(walled(x, 10.0)[0]), walled(x, 10.0)[0])
    assert true / 2 < found.diagnostics.expected_error < 5 * true
    assert found.diagnostics.problems == []


def test_too_few_samples_are_a_problem_and_no_refusal():
    found = match(*observations(n=7), landmarks=at(maps(), THREE))
    assert found.diagnostics.expected_error is None
    assert found.expected is None
    assert any(
        "the error of this map is not known: side A has 7 samples" in text for text in found.diagnostics.problems
    )
    with pytest.raises(errors.InputError, match="the error of this map is not known"):
        found.predicted_error(at(maps(), NEW)[0])


def test_without_the_check_nothing_is_expected():
    marks = at(maps(), THREE)
    found, checked = (match(*observations(n=700), landmarks=marks, check=check) for check in (False, True))
    assert found.expected is None
    assert found.transform(at(maps(), NEW)[0]).tobytes() == checked.transform(at(maps(), NEW)[0]).tobytes()
    with pytest.raises(errors.InputError, match="check=False"):
        found.predicted_error(at(maps(), NEW)[0])
    with pytest.raises(errors.DataTypeError, match="check must be True or False"):
        match(*observations(n=700), landmarks=marks, check="yes")


def test_expected_errors_do_not_depend_on_threads():
    marks = at(maps(), square(12, seed=8))
    one, two = (match(*observations(n=700), landmarks=marks, n_jobs=n) for n in (1, 2))
    for way in ("forward", "backward"):
        assert np.array_equal(getattr(one.expected, way).errors, getattr(two.expected, way).errors)
    queries = at(maps(), NEW)[0]
    assert one.predicted_error(queries).tobytes() == two.predicted_error(queries).tobytes()


def test_without_landmarks_halves_take_the_candidate_of_the_whole():
    x = [square(1500, seed=s) * [1.0, 0.6] for s in (70, 71)]
    measures = smooth_map(2, 5, seed=3), smooth_map(2, 6, seed=4)
    found = match(*(Observation.from_jacobians(*m(one)) for m, one in zip(measures, x, strict=True)))
    assert len(found.candidates) > 1
    assert found.diagnostics.expected_error < 0.2


def test_a_projection_has_no_way_back():
    x = square(1200, dim=3, seed=3)
    a = smooth_map(3, 7, seed=5)
    flat = smooth_map(2, 6, seed=6)
    y_b, jacobians = flat(x[:, :2])
    side_b = Observation.from_jacobians(y_b, jacobians)
    rows = np.column_stack([np.arange(12)] * 2)
    found = match(Observation.from_jacobians(*a(x)), side_b, landmarks=rows)
    assert found.diagnostics.expected_error_back is None
    assert found.expected.backward is None
    assert found.predicted_error(a(x[:5])[0]).shape == (5,)
    with pytest.raises(errors.NotInvertibleError):
        found.predicted_error(y_b[:5], inverse=True)


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")
def test_a_side_that_folds_is_expected_to_be_known_one_way_only():
    """A side folds, so that no coordinates join the two."""
    x = 2.0 * square(900, seed=30) - 1.0
    keeps, loses = smooth_map(2, 5, seed=1), smooth_map(2, 5, seed=2)

    def folded(z):
        y, jacobians = loses(np.column_stack([z[:, 0] ** 2, z[:, 1]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= 2.0 * z[:, :1]
        return y, jacobians

    sides = Observation.from_jacobians(*keeps(x)), Observation.from_jacobians(*folded(2.0 * square(900, seed=31) - 1.0))
    marks, new = 2.0 * square(60, seed=32) - 1.0, 2.0 * square(200, seed=33) - 1.0
    found = match(*sides, landmarks=(keeps(marks)[0], folded(marks)[0]))
    forward = relative_error(found.transform(keeps(new)[0]), folded(new)[0])
    assert forward / 2 < found.diagnostics.expected_error < 5 * forward
    assert found.diagnostics.expected_error_back > 0.2


def test_saved_with_the_map(few, tmp_path):
    few.save(tmp_path / "t.safetensors")
    loaded = load(tmp_path / "t.safetensors")
    queries = at(maps(), NEW)[0]
    assert loaded.predicted_error(queries).tobytes() == few.predicted_error(queries).tobytes()
    assert loaded.diagnostics.expected_error == few.diagnostics.expected_error
    assert loaded.diagnostics.expected_error_back == few.diagnostics.expected_error_back


def test_the_winner_and_the_losers_are_told():
    """A sphere has no isometric coordinates in the plane: samples are registered instead."""
    (first, a), (second, b) = (sphere(1000, seed=s) for s in (1, 2))
    marks = np.vstack([first[:8], second[:8]])
    measures = [smooth_map(3, 5, s, 0.2) for s in (1, 2)]
    found = match(a, b, landmarks=tuple(measure(marks)[0] for measure in measures))
    assert found.registration is not None
    assert found.diagnostics.competed["registered"] < found.diagnostics.competed.get("isometric", np.inf)


def test_what_maps_compete_by(few):
    """Charts count half while they may be right; a regression is not worse than all of the spread."""

    def figure(t, error):
        known = dataclasses.replace(t.diagnostics, expected_error=error, expected_error_back=error)
        return expected_of(dataclasses.replace(t, diagnostics=known))

    measured = [MeasuredChart(side.observation) for side in (few.a, few.b)]
    learned = dataclasses.replace(few, map=ByPairs(*measured, few.alignment, few.forward, few.backward))
    np.testing.assert_allclose([figure(few, x) for x in (0.01, 0.4, 0.8, 1.0, 2.0)], [0.005, 0.2, 0.64, 1.0, 2.0])
    np.testing.assert_allclose([figure(learned, x) for x in (0.01, 0.8, 3.0)], [0.01, 0.8, 1.0])
    # Charts whose error is not known are not taken for good.
    errors_at_landmarks = [model.error for model in (few.forward, few.backward)]
    np.testing.assert_allclose(figure(few, None), 4.0 * np.sqrt(np.prod(errors_at_landmarks)))


def test_errors_that_halves_share_are_seen_where_the_whole_differs():
    places = np.linspace(0.0, 1.0, 50)[:, None]
    whole = np.zeros((50, 2))
    shared = np.full((50, 2), 0.3)
    even = np.ones(50)
    found = of_halves(whole, shared, shared + 1e-4, places, even, 0.5)
    # The whole stands alone: its own error may be all of the difference.
    np.testing.assert_allclose(found, 0.18, rtol=1e-2)
    apart = of_halves(whole, shared, -shared, places, even, 0.5)
    np.testing.assert_allclose(apart, 0.5**2 * 0.5 * 0.72, rtol=1e-12)
    # One half says nothing of whether the whole stands alone.
    np.testing.assert_allclose(of_halves(whole, shared, None, places, even, 0.5), 0.5**2 * 0.18, rtol=1e-12)


def test_places_are_as_wrong_where_halves_share_their_errors_as_where_they_do_not():
    """Both halves are off by as much everywhere: below 1/2 in the same direction, beyond it in opposite ones."""
    places = np.linspace(0.0, 1.0, 100)[:, None]
    one = np.full((100, 1), 0.3)
    other = np.where(places < 0.5, one, -one)
    found = of_halves(np.zeros((100, 1)), one, other, places, np.ones(100), 0.5)
    np.testing.assert_allclose(found, found[0], rtol=1e-12)
    # In all they are as wrong as by either alone: 0.5**2 * 0.09 and twice as much, but for those around 1/2.
    np.testing.assert_allclose(found.mean(), 0.5**2 * 1.5 * 0.09, rtol=0.05)
    # No difference at all is no error.
    assert not of_halves(one, one, one, places, np.ones(100), 0.5).any()


def test_errors_of_places_are_larger_where_the_target_is_steep():
    """Halves send places 0.01 apart; the target climbs ten times as steeply beyond 1/2, and so do errors, up to the step."""
    places = np.linspace(0.0, 1.0, 101)[:, None]
    stretch = np.where(places[:, 0] < 0.5, 1.0, 10.0)
    one = (0.01 * stretch)[:, None]
    squares = of_halves(np.zeros_like(one), one, -one, places, stretch**2, 0.5)
    expected = 0.01 * 0.5 * np.sqrt(2.0) * stretch
    np.testing.assert_allclose(np.sqrt(squares), expected, rtol=1e-12)
    field = ErrorField(places, np.sqrt(squares), np.full(101, 0.01), np.zeros(101), 2, stretch=stretch)
    between = np.array([[0.4935], [0.4965]])
    np.testing.assert_allclose(field.at(between, np.array([1.0, 10.0]))[0], expected[[0, -1]], rtol=1e-12)
    # Where the target hardly moves, a place says nothing of errors elsewhere.
    flat = ErrorField(places, np.sqrt(squares), np.full(101, 0.01), np.zeros(101), 2, stretch=np.zeros(101))
    assert np.isfinite(flat.at(between, np.zeros(2))[0]).all()


def test_errors_of_corrections_grow_with_the_distance_from_the_landmarks():
    """Predicted between landmarks that carry the map, far finer than the places of the field are apart."""
    places = np.linspace(0.0, 1.0, 11)[:, None]
    field = ErrorField(places, np.full(11, 0.03), np.full(11, 0.1), np.zeros(11), 2, deviation=np.full(11, 0.01))
    among, beyond = field.at(np.array([[0.33], [0.34]]), np.array([1e-4, 0.02]))
    np.testing.assert_allclose(among, [3e-4, 0.06], rtol=1e-12)
    assert not beyond.any()
