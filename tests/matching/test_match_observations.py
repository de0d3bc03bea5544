"""`match` on measurement maps with exact Jacobians: how accurate it is, and what it says where it is not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from support.pairs import NEW, SIX, THREE, assert_names, at, both_errors, maps, matched, observations
from support.samples import smooth_map, square

# --- good pairs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_three_landmarks_are_enough_with_isometric_coordinates(seed):
    found = matched(seed)
    assert found.coordinates == "isometric"
    assert max(both_errors(found, maps(seed), NEW)) < 0.005
    assert found.diagnostics.problems == []
    assert found.alignment.kind == "rigid"
    assert found.candidates == [found.alignment]
    assert found.scale == pytest.approx(1.0, abs=5e-3)
    assert max(found.diagnostics.stress) < 2e-3
    assert found.diagnostics.generator_eigenvalues is None
    assert repr(found).startswith("Transformation(5 measurements of A <-> 6 of B, dim=2, isometric coordinates")


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")  # a few partners beside the border
@pytest.mark.parametrize("seed", range(4))
def test_three_landmarks_with_diffusion_coordinates(seed):
    found = matched(seed, "diffusion")
    assert found.coordinates == "diffusion"
    forward, backward = both_errors(found, maps(seed), NEW)
    assert forward < 0.11
    assert backward < 0.11
    assert found.diagnostics.reasons == []
    assert found.diagnostics.expected_error / 3 < forward < 2 * found.diagnostics.expected_error
    assert_names(found, "expect errors of about")
    assert found.scale == pytest.approx(1.0, abs=0.03)
    a, b = found.diagnostics.generator_eigenvalues
    # Each is right to some five percent with this many samples.
    np.testing.assert_allclose(a[:4] / b[:4], 1.0, atol=0.08)
    assert all(0 <= share < 0.05 for share in found.diagnostics.gated_share)
    assert found.diagnostics.stress is None


def test_many_landmarks_do_no_worse():
    x = square(60, seed=77)
    found = match(*observations(), landmarks=at(maps(), x))
    assert max(both_errors(found, maps(), NEW)) < 0.002
    assert found.diagnostics.landmark_residual < 0.002


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_landmarks_as_rows(coordinates):
    measures = maps()
    a, b = square(2000, seed=50), square(2000, seed=150)
    rows = np.array([[5, 1999], [700, 3], [1400, 44], [9, 8]])
    b[rows[:, 1]] = a[rows[:, 0]]
    pair = [Observation.from_jacobians(*measure(x)) for measure, x in zip(measures, (a, b), strict=True)]
    by_rows = match(*pair, landmarks=rows, coordinates=coordinates)
    by_points = match(*pair, landmarks=at(measures, a[rows[:, 0]]), coordinates=coordinates)
    assert max(both_errors(by_rows, measures, NEW)) < (0.005 if coordinates == "isometric" else 0.12)
    y = measures[0](NEW)[0]
    tolerance = 1e-3 if coordinates == "isometric" else 0.05
    assert relative_error(by_rows.transform(y), by_points.transform(y)) < tolerance
    again = match(*pair, landmarks=rows.tolist(), coordinates=coordinates)
    np.testing.assert_array_equal(again.transform(y), by_rows.transform(y))


def test_one_and_three_dimensions():
    for dim, n, tolerance in ((1, 600, 1e-3), (3, 3000, 0.03)):
        measures = smooth_map(dim, 2 * dim + 1, 3), smooth_map(dim, 2 * dim + 2, 4)
        pair = [Observation.from_jacobians(*m(square(n, dim, s))) for s, m in enumerate(measures)]
        found = match(*pair, landmarks=at(measures, square(dim + 3, dim, 8)))
        assert max(both_errors(found, measures, 0.05 + 0.9 * square(200, dim, 9))) < tolerance
        assert found.diagnostics.problems == []


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_bits_do_not_depend_on_the_number_of_threads(coordinates):
    pair, y = observations(1), maps(1)[0](NEW)[0]
    results = [
        match(*pair, landmarks=at(maps(1), THREE), coordinates=coordinates, n_jobs=n_jobs).transform(y)
        for n_jobs in (1, 2, 1)
    ]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")  # of 400 samples, aligned by shape
def test_bits_without_landmarks_do_not_depend_on_the_number_of_threads():
    pair, y = observations(1, 400), maps(1)[0](NEW)[0]
    values = square(400, 2, 51)[:, 0] ** 2, square(400, 2, 151)[:, 0] ** 2
    first = np.array([[0.3, 0.4]])
    results = [
        match(*pair, landmarks=at(maps(1), first), observables=values, n_jobs=k).transform(y).tobytes() for k in (1, 2)
    ]
    assert results[0] == results[1]


# --- few landmarks, or none -----------------------------------------------------------------------------


def test_without_landmarks_every_symmetry_of_the_square_is_named():
    found = match(*observations(0, 800))
    names = [one.name for one in found.candidates]
    assert len(set(names)) == len(names) == 8
    assert_names(found, "8 alignments cannot be told apart by the shape and density")
    y_a, y_b = at(maps(), NEW)
    off = [relative_error(found.by_candidate(k).transform(y_a), y_b) for k in range(len(found.candidates))]
    assert sorted(off)[0] < 0.03
    assert sorted(off)[1] > 0.3


def test_an_observable_decides_between_them():
    def quantity(x):
        return np.sin(3 * x[:, 0] + 2 * x[:, 1]) + 0.5 * x[:, 0] * x[:, 1]

    values = quantity(square(800, 2, 50)), quantity(square(800, 2, 150))
    found = match(*observations(0, 800), observables=values)
    assert found.diagnostics.problems == []
    assert len(found.candidates) == 1
    assert max(both_errors(found, maps(), NEW)) < 0.01


def test_two_landmarks_leave_a_mirror_image_that_the_shape_refuses():
    found = match(*observations(0, 800), landmarks=at(maps(), THREE[:2]))
    assert len(found.candidates) == 1
    assert max(both_errors(found, maps(), NEW)) < 0.01


def test_diffusion_coordinates_need_landmarks_and_use_no_observables():
    values = np.arange(600.0), np.arange(600.0)
    with pytest.raises(errors.LandmarkError, match=r"landmarks are needed here \(diffusion coordinates"):
        match(*observations(0, 600), coordinates="diffusion")
    with pytest.raises(errors.ParameterError, match="observables align isometric coordinates only"):
        match(*observations(0, 600), observables=values, coordinates="diffusion")


@pytest.mark.parametrize("points", [THREE[[0, 0, 0]], THREE[[0, 0, 1]], np.linspace(0.1, 0.9, 5)[:, None] * [1, 0.2]])
def test_landmarks_in_a_hyperplane_are_named_and_the_shape_decides(points):
    # 1,200 samples of a quadrilateral without symmetry.
    x = [corner(1200, seed) for seed in (5, 6)]
    pair = [Observation.from_jacobians(*m(s)) for m, s in zip(maps(), x, strict=True)]
    points = 0.2 + 0.6 * points
    found = match(*pair, landmarks=at(maps(), points))
    assert len(found.candidates) == 1
    assert_names(found, "landmarks lie in a hyperplane")
    twins = [problem for problem in found.diagnostics.problems if "are the same place" in problem]
    assert bool(twins) == (len(np.unique(points, axis=0)) < len(points))
    assert max(both_errors(found, maps(), corner(200, 9))) < 0.02


def corner(n, seed):
    """Points of the unit square below a slanted line."""
    x = square(4 * n, 2, seed)
    return x[(x[:, 1] < 0.5 + 0.5 * x[:, 0]) & (x[:, 0] > 0.1 * x[:, 1])][:n]


# --- closed domains -----------------------------------------------------------------------------------------


def circle_map(seed):
    measure = smooth_map(2, 5, seed, bend=0.2)

    def along(angle):
        y, jacobians = measure(np.hstack([np.cos(angle), np.sin(angle)]))
        return y, jacobians @ np.hstack([-np.sin(angle), np.cos(angle)])[:, :, None]

    return along


@pytest.mark.parametrize(("n", "tolerance"), [(500, 1e-3)])
def test_a_circle_is_matched_modulo_its_period(n, tolerance):
    measures = circle_map(2), circle_map(3)
    pair = [Observation.from_jacobians(*m(2 * np.pi * square(n, 1, s))) for s, m in zip((2, 21), measures, strict=True)]
    found = match(*pair, landmarks=at(measures, np.array([[0.3], [1.7], [3.1]])))
    assert found.coordinates == "isometric"
    assert found.diagnostics.problems == []
    assert np.linalg.norm(found.b.embedding.periods_) == pytest.approx(2 * np.pi, rel=1e-3)
    assert max(both_errors(found, measures, 2 * np.pi * square(300, 1, 7))) < tolerance


def test_a_circle_on_diffusion_coordinates():
    measures = circle_map(2), circle_map(3)
    pair = [
        Observation.from_jacobians(*m(2 * np.pi * square(1500, 1, s))) for s, m in zip((2, 21), measures, strict=True)
    ]
    found = match(*pair, landmarks=at(measures, np.array([[0.3], [1.7], [3.1], [5.0]])), coordinates="diffusion")
    assert found.diagnostics.reasons == []
    assert max(both_errors(found, measures, 2 * np.pi * square(300, 1, 7))) < 0.05


def test_one_landmark_leaves_two_ways_round_a_circle():
    measures = circle_map(2), circle_map(3)
    pair = [
        Observation.from_jacobians(*m(2 * np.pi * square(500, 1, s))) for s, m in zip((2, 21), measures, strict=True)
    ]
    found = match(*pair, landmarks=at(measures, np.array([[0.3]])))
    assert [one.name for one in found.candidates] == ["the one used", "mirrored"]
    assert_names(found, "2 alignments cannot be told apart by the landmarks")
    new = 2 * np.pi * square(100, 1, 7)
    y_a, y_b = at(measures, new)
    off = [relative_error(found.by_candidate(k).transform(y_a), y_b) for k in range(len(found.candidates))]
    assert min(off) < 0.01
    assert max(off) > 0.5


def test_a_closed_domain_needs_a_landmark():
    measures = circle_map(2), circle_map(3)
    pair = [
        Observation.from_jacobians(*m(2 * np.pi * square(500, 1, s))) for s, m in zip((2, 21), measures, strict=True)
    ]
    with pytest.raises(errors.LandmarkError, match="a closed domain looks the same from everywhere"):
        match(*pair)
    wide = Observation.from_jacobians(*stretched(measures[1], 1.2)(1.2 * 2 * np.pi * square(500, 1, 3)))
    with pytest.raises(errors.DomainMismatchError, match=r"periods of A have lengths 6\.28.*those of B 7\.5"):
        match(pair[0], wide, landmarks=[[0, 0], [1, 1]])


def stretched(measure, factor):
    """The same points of measurements, over a domain `factor` times as large."""

    def wide(x):
        y, jacobians = measure(x / factor)
        return y, jacobians / factor

    return wide


# --- units --------------------------------------------------------------------------------------------------


def test_an_unknown_unit_gives_a_similarity_and_its_scale():
    a, b = observations()
    thrice = replace(b, whitening=b.whitening / 3.0, singular_values=b.singular_values * 3.0, known_unit=False)
    found = match(a, thrice, landmarks=at(maps(), SIX))
    assert found.alignment.kind == "similarity"
    assert found.scale == pytest.approx(1 / 3, rel=5e-3)
    assert found.diagnostics.problems == []
    assert max(both_errors(found, maps(), NEW)) < 0.005


@pytest.mark.parametrize(("factor", "suspicious"), [(3.0, True), (1.03, True), (1.01, False)])
def test_a_known_unit_that_is_off_is_a_problem(factor, suspicious):
    a, b = observations()
    found = match(a, replace(b, whitening=b.whitening * factor), landmarks=at(maps(), SIX))
    assert found.alignment.kind == "rigid"
    assert found.alignment.scale == pytest.approx(factor, rel=5e-3)
    assert any("times as far apart" in problem for problem in found.diagnostics.problems) == suspicious


def test_neighbors_of_a_curve_leave_the_unit_open():
    # By arc length both sides see their own curve: equal up to a factor only where the stretch is constant.
    def helix(t):
        return np.hstack([np.cos(3 * t), np.sin(3 * t), 2 * t])

    def line(t):
        return np.hstack([5 * t, -t])

    x = square(800, 1), square(800, 1, seed=1)
    pair = [
        Observation.from_neighbors(curve(t), n_neighbors=9, dim=1) for curve, t in zip((helix, line), x, strict=True)
    ]
    t = np.array([[0.1], [0.5], [0.9]])
    found = match(*pair, landmarks=(helix(t), line(t)))
    assert found.alignment.kind == "similarity"
    assert found.scale == pytest.approx(np.sqrt(26 / 13), rel=0.02)
    new = 0.02 + 0.96 * square(100, 1, seed=4)
    assert relative_error(found.transform(helix(new)), line(new)) < 0.02


# --- what cannot be matched ---------------------------------------------------------------------------------


def folded(x):
    """The second network's measurements of (|x1 - 1/2|, x2), which fold the square along its middle."""
    inner = np.abs(x[:, :1] - 0.5)
    y, jacobians = maps()[1](np.hstack([inner, x[:, 1:]]))
    jacobians = jacobians.copy()
    jacobians[:, :, 0] *= np.sign(x[:, :1] - 0.5)
    return y, jacobians


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")  # the fold has no way back
@pytest.mark.parametrize("coordinates", ["auto", "diffusion"])
def test_a_folded_side_is_named(coordinates):
    measures = maps()[0], folded
    pair = observations()[0], Observation.from_jacobians(*folded(square(2000, seed=150)))
    found = match(*pair, landmarks=at(measures, SIX), coordinates=coordinates)
    assert_names(found, "a side folds the domain")
    assert both_errors(found, measures, NEW)[1] > 0.3


@pytest.mark.slow
def test_a_smooth_fold_is_located():
    def squashed(x):
        y, jacobians = maps()[1](np.hstack([(x[:, :1] - 0.5) ** 2, x[:, 1:]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= 2 * (x[:, :1] - 0.5)
        return y, jacobians

    x = square(4000, seed=150)
    pair = observations()[0], Observation.from_jacobians(*squashed(x))
    found = match(*pair, landmarks=at((maps()[0], squashed), SIX))
    assert_names(found, "on side B the Jacobian nearly vanishes", "the landmarks miss their partners")
    near = found.diagnostics.near_folds[1]
    assert len(near) > 0
    assert np.abs(x[near, 0] - 0.5).max() < 0.05
    assert len(found.diagnostics.near_folds[0]) == 0


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
@pytest.mark.parametrize("order", [[1, 2, 0], [1, 2, 3, 4, 5, 0], [1, 0, 2, 3, 4, 5]])
def test_permuted_landmarks_are_named(order, coordinates):
    a, b = at(maps(), SIX[: len(order)])
    found = match(*observations(), landmarks=(a, b[order]), coordinates=coordinates)
    if len(found.diagnostics.wrong_landmarks):  # the others are enough to tell
        assert np.array_equal(found.diagnostics.wrong_landmarks, [0, 1])
        assert order == [1, 0, 2, 3, 4, 5]
    else:
        assert_names(found, "landmarks miss their partners")


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_different_domains_are_named(coordinates):
    a, b = maps()
    wide = Observation.from_jacobians(*b(square(2000, seed=150) * [1.5, 1.0]))
    found = match(observations()[0], wide, landmarks=at((a, b), SIX), coordinates=coordinates)
    if coordinates == "isometric":
        assert_names(found, "of B's samples", "have no counterpart in A's domain")
        # Where both have samples the map is right.
        assert both_errors(found, (a, b), NEW)[0] < 0.005
    else:
        assert_names(found, "the spectra differ")


def test_left_out_samples_are_named():
    y, jacobians = maps()[0](square(2000, seed=50))
    jacobians[[10, 20, 30]] = 0.0
    with pytest.warns(errors.RankWarning):
        a = Observation.from_jacobians(y, jacobians)
    for coordinates in ("isometric", "diffusion"):
        found = match(a, observations()[1], landmarks=at(maps(), THREE), coordinates=coordinates)
        assert any("on side A 3 samples are rank-deficient" in reason for reason in found.diagnostics.reasons)
        assert np.isfinite(found.a.coordinates).all()


def test_pieces_are_an_error_that_names_the_side():
    y, jacobians = maps()[0](square(1000, seed=50))
    y, jacobians = np.pad(y, ((0, 0), (0, 5))), np.pad(jacobians, ((0, 0), (0, 5), (0, 0)))
    y[600:], jacobians[600:] = np.roll(y[600:], 5, axis=1) + 9.0, np.roll(jacobians[600:], 5, axis=1)
    pair = observations()[1], Observation.from_jacobians(y, jacobians)
    # Two landmarks in each piece are too few to match it alone.
    rows = [[0, 0], [1, 1], [2, 602], [3, 603]]
    for options in ({"check": False}, {"coordinates": "isometric"}, {"coordinates": "diffusion"}):
        with pytest.raises(errors.DisconnectedError, match=r"observation B.*600, 400"):
            match(*pair, landmarks=rows, **options)
    # All four carry a map that is hardly better than none, and says so.
    assert re.search(r"expect errors.*observation B.*600, 400", match(*pair, landmarks=rows).diagnostics.problems[0])
