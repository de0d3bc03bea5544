"""Closed and curved domains: charts with a metric, samples matched by eigenfunctions, and the isometry between them."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from diffeo.alignment.curved.atlas import AtlasMap, atlas_of, gradients, local_weights, monomials, powers
from diffeo.alignment.curved.eigenmatch import correspondences
from diffeo.diffusion.independent import joint_blocks
from diffeo.matching.diffusion_match import by_registration
from diffeo.matching.match_observations import match_problem
from support.samples import random_orthogonal, smooth_map, square


def surface(n, seed, axes=(1.0, 1.0, 1.0)):
    """Samples of an ellipsoid, uniform for a sphere, and orthonormal tangents (n, 3, 2)."""
    s = np.random.default_rng(seed).normal(size=(n, 3))
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    normal = s / axes
    frame = np.concatenate([normal[:, :, None], np.random.default_rng(1).normal(size=(n, 3, 2))], axis=2)
    return s * axes, np.linalg.qr(frame)[0][:, :, 1:]


def units(seed, dim=3, m=7):
    """Measurements by m random units tanh(w x + b)."""
    rng = np.random.default_rng(seed)
    weights, biases = 0.7 * rng.normal(size=(m, dim)), 0.5 * rng.normal(size=m)

    def measure(x, tangents=None):
        y = np.tanh(x @ weights.T + biases)
        return y if tangents is None else (y, ((1 - y**2)[:, :, None] * weights) @ tangents)

    return measure


def observed(measure, x, tangents, turn=0):
    """The observation, every Jacobian turned by its own rotation."""
    y, jacobians = measure(x, tangents)
    d = tangents.shape[2]
    return Observation.from_jacobians(y, jacobians @ random_orthogonal(len(x), d, turn), dim=d)


A, B = units(4), units(5)
N = 1000
NEW = surface(300, 99)[0]
LANDMARKS = surface(4, 3)[0]


@functools.cache
def spheres(n=N):
    return observed(A, *surface(n, 0)), observed(B, *surface(n, 1), turn=1)


def registered(pair, landmarks, n_jobs=1):
    """As `match` does on a closed domain, without the attempt at isometric coordinates."""
    return by_registration(match_problem(*pair, n_jobs=n_jobs).given(landmarks), [])


@functools.cache
def sphere_match():
    return registered(spheres(), (A(LANDMARKS), B(LANDMARKS)))


def worst(found, a, b):
    return max(relative_error(found.transform(a), b), relative_error(found.inverse_transform(b), a))


def names(found, text):
    return any(text in problem for problem in (*found.diagnostics.problems, *found.diagnostics.reasons))


# --- charts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_monomials_and_their_gradients(dim):
    exponents = powers(dim, 1, 3)
    assert len(exponents) == math.comb(dim + 3, 3) - 1
    u = square(20, dim)
    np.testing.assert_allclose(monomials(u, exponents), np.prod(u[:, None] ** exponents, axis=2), rtol=1e-13)
    for axis in range(dim):
        h = 1e-6 * np.eye(dim)[axis]
        slope = (monomials(u + h, exponents) - monomials(u - h, exponents)) / 2e-6
        np.testing.assert_allclose(gradients(u, exponents)[:, :, axis], slope, atol=1e-8)


def chords():
    """The atlas of a sphere, both ends of its edges, and their true lengths."""
    charts = atlas_of(spheres()[0], 1)
    x = surface(N, 0)[0][charts.rows]
    i, j = np.repeat(np.arange(N), 8), charts.neighbors[:, :8].ravel()
    i, j = i[j >= 0], j[j >= 0]
    return charts, i, j, 2.0 * np.arcsin(0.5 * np.linalg.norm(x[i] - x[j], axis=1))


def test_geodesics_are_far_more_accurate_than_the_root_of_q():
    charts, i, j, true = chords()
    found = charts.geodesics(i, np.zeros((len(true), 2)), charts.points[j])[0]
    one_sided = np.linalg.norm(charts.local(i, charts.points[j]), axis=1)
    error, naive = (np.sqrt(np.mean((lengths / true - 1.0) ** 2)) for lengths in (found, one_sided))
    assert error < 3e-3
    assert error < 0.05 * naive


def test_tangents_are_the_derivatives_of_lengths():
    charts, i, j, _ = chords()
    i, j, h = i[:500], j[:500], 1e-6
    u = 0.1 * charts.radius[i, None] * np.random.default_rng(0).normal(size=(500, 2))
    tangent = charts.geodesics(i, u, charts.points[j])[1]
    np.testing.assert_allclose(np.linalg.norm(tangent, axis=1), 1.0, rtol=1e-12)
    frame = np.linalg.cholesky(charts.inverse_metric(i, u))
    for axis in range(2):
        step = h * frame[:, :, axis]
        ends = [charts.geodesics(i, u + sign * step, charts.points[j])[0] for sign in (1, -1)]
        # The length is right to fourth order of the step, its derivative to third.
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * h), -tangent[:, axis], atol=0.03)


def test_lengths_do_not_depend_on_the_gauge():
    charts, i, j, _ = chords()
    turned = atlas_of(observed(A, *surface(N, 0), turn=7), 1)
    here = np.zeros((len(i), 2))
    one, other = (c.geodesics(i, here, c.points[j])[0] for c in (charts, turned))
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_lengths_of_a_linear_map_are_exact():
    x = square(400, 3)
    linear = np.random.default_rng(0).normal(size=(5, 3))
    charts = atlas_of(Observation.from_jacobians(x @ linear.T, np.broadcast_to(linear, (400, 5, 3)).copy()), 1)
    i, j = np.arange(400), charts.neighbors[:, 5]
    lengths = charts.geodesics(i, np.zeros((400, 3)), charts.points[j])[0]
    np.testing.assert_allclose(lengths, np.linalg.norm(x[charts.rows[i]] - x[charts.rows[j]], axis=1), rtol=1e-8)


def test_local_weights_reproduce_polynomials():
    charts, *_ = chords()
    node, u = np.arange(50), 0.2 * charts.radius[:50, None] * np.random.default_rng(0).normal(size=(50, 2))
    for degree in (1, 2, 3):
        around, weights = local_weights(charts, node, u, degree)
        at = np.einsum("nkm,nmd->nkd", charts.points[around] - charts.points[node][:, None], charts.whitening[node])
        scale = charts.radius[node, None] ** degree
        terms = at[..., 0] ** degree - at[..., 1]
        np.testing.assert_allclose(
            (weights * terms).sum(axis=1) / scale[:, 0], (u[:, 0] ** degree - u[:, 1]) / scale[:, 0], atol=1e-5
        )


def test_values_are_interpolated_and_strangers_told():
    charts, *_ = chords()
    chart = AtlasMap(charts, surface(N, 0)[0])
    values, outside = chart(A(NEW), 1)
    assert len(outside) == 0
    assert relative_error(values, NEW) < 2e-3
    # Points inside of the ball are not on the sphere.
    assert len(chart(A(0.5 * NEW), 1)[1]) == len(NEW)


# --- matching by eigenfunctions -----------------------------------------------------------------------------


def test_joint_blocks_need_a_gap_on_both_sides():
    a = np.array([1.0, 1.01, 2.0, 2.2, 4.0])
    b = np.array([1.0, 1.20, 2.1, 2.15, 4.0])
    assert joint_blocks(a, b) == [[0, 1], [2, 3], [4]]
    assert joint_blocks(a, b, ratio=1.9) == [[0, 1, 2, 3, 4]]


def harmonics(x):
    """Spherical harmonics of degrees 1 and 2, each of mean square 1."""
    a, b, c = x.T
    second = np.stack([a * b, b * c, c * a, (a**2 - b**2) / 2, (2 * c**2 - a**2 - b**2) / np.sqrt(12)], axis=1)
    return np.hstack([np.sqrt(3) * x, np.sqrt(15) * second])


BLOCKS = [[0, 1, 2], [3, 4, 5, 6, 7]]
TURN = random_orthogonal(1, 3, 5)[0]


def matched_harmonics(n_landmarks):
    x, y, marks = surface(2000, 0)[0], surface(2000, 1)[0], surface(n_landmarks, 3)[0]
    found = correspondences(harmonics(x), harmonics(y @ TURN), harmonics(marks), harmonics(marks @ TURN), [BLOCKS], 3)
    return found, harmonics(x @ TURN)


def test_three_landmarks_fix_the_harmonics():
    found, image = matched_harmonics(3)
    assert len(found) == 1
    assert relative_error(found[0].image, image) < 0.02


def test_two_landmarks_leave_a_mirror_image():
    found, image = matched_harmonics(2)
    assert len(found) == 2
    wrong = [relative_error(one.image, image) for one in found]
    assert min(wrong) < 0.02
    assert max(wrong) > 0.5


def test_equal_eigenvalues_that_sampling_split_are_found_by_the_other_partition():
    x, y, marks = surface(2000, 0)[0], surface(2000, 1)[0], surface(4, 3)[0]
    split = [[0], [1], [2], BLOCKS[1]]
    pairs = harmonics(x), harmonics(y @ TURN), harmonics(marks), harmonics(marks @ TURN)
    found = correspondences(*pairs, [split, BLOCKS], 3)
    assert relative_error(found[0].image, harmonics(x @ TURN)) < 0.02


def test_one_landmark_is_not_enough():
    with pytest.raises(errors.LandmarkError, match="3 landmarks in general position"):
        matched_harmonics(1)


# --- registration -------------------------------------------------------------------------------------------


def test_a_sphere_is_registered_by_few_landmarks():
    found = sphere_match()
    assert found.coordinates == "diffusion"
    assert found.diagnostics.problems == []
    assert len(found.candidates) == 1
    assert found.scale == pytest.approx(1.0, abs=1e-3)
    assert worst(found, A(NEW), B(NEW)) < 5e-3
    assert relative_error(found.registration.counterparts.points, B(surface(N, 0)[0])) < 5e-3
    assert found.registration.stress < 3e-3
    assert found.registration.converged


UNUSED = "observables were not used: they align isometric coordinates only"


def test_auto_finds_that_a_sphere_is_curved_and_says_that_observables_were_not_used():
    values = surface(N, 0)[0][:, 0], surface(N, 1)[0][:, 0]
    assert not names(sphere_match(), "observables")
    found = match(*spheres(), landmarks=(A(LANDMARKS), B(LANDMARKS)), observables=values)
    assert found.registration is not None
    assert found.diagnostics.problems == [UNUSED]
    np.testing.assert_allclose(found.transform(A(NEW)), sphere_match().transform(A(NEW)), rtol=1e-12)
    with pytest.raises(errors.LandmarkError, match=r"landmarks are needed here .* observables were not used"):
        match(*spheres(), observables=values)


@pytest.mark.parametrize("given", [True, False])
def test_observables_that_pieces_leave_unused_are_named(given, monkeypatch):
    def in_pieces(*arguments):
        raise errors.DisconnectedError("the neighbour graph falls into pieces")

    monkeypatch.setattr("diffeo.charts.chart.isometric_chart", in_pieces)
    values = (np.arange(N), np.arange(N)) if given else None
    found = match(*spheres(), landmarks=(A(LANDMARKS), B(LANDMARKS)), observables=values)
    assert found.registration is not None
    assert found.diagnostics.problems == ([UNUSED] if given else [])


def test_registration_is_ten_times_better_than_diffusion_coordinates():
    plain = match(*spheres(), landmarks=(A(LANDMARKS), B(LANDMARKS)), coordinates="diffusion")
    assert plain.registration is None
    a, b = A(NEW), B(NEW)
    assert worst(sphere_match(), a, b) < 0.1 * worst(plain, a, b)


def test_intrinsic_coordinates_are_those_of_b():
    found = sphere_match()
    there = found.b.place(B(NEW), 1).values
    assert relative_error(found.intrinsic(A(NEW)), there) < 0.02
    # The alignment, fitted on all samples, says the same less accurately.
    assert relative_error(found.alignment.forward(found.a.place(A(NEW), 1).values), there) < 0.25


def test_backward_undoes_forward():
    found = sphere_match()
    y = A(NEW[:200])
    assert relative_error(found.inverse_transform(found.transform(y)), y) < 6e-3


def test_rows_are_landmarks_too():
    marks, n = surface(4, 3), N
    sides = []
    for measure, seed in ((A, 0), (B, 1)):
        x, tangents = (np.vstack([new, old]) for new, old in zip(marks, surface(n, seed), strict=True))
        sides.append(observed(measure, x, tangents, turn=seed))
    found = registered(sides, np.column_stack([np.arange(4)] * 2))
    assert worst(found, A(NEW), B(NEW)) < 5e-3
    assert found.diagnostics.problems == []


def test_deficient_samples_are_left_out():
    a, b = (replace(side, deficient=np.arange(k)) for side, k in zip(spheres(), (5, 8), strict=True))
    found = registered((a, b), (A(LANDMARKS), B(LANDMARKS)))
    assert worst(found, A(NEW), B(NEW)) < 5e-3
    np.testing.assert_array_equal(found.registration.counterparts.deficient, np.arange(5))
    assert np.isinf(found.registration.misfit[:5]).all()
    assert names(found, "on side B 8 samples are rank-deficient")


def test_bits_do_not_depend_on_the_number_of_threads():
    again = registered(spheres(), (A(LANDMARKS), B(LANDMARKS)), 2)
    np.testing.assert_array_equal(again.transform(A(NEW)), sphere_match().transform(A(NEW)))


def test_two_landmarks_on_a_sphere_leave_two_candidates():
    found = registered(spheres(), (A(LANDMARKS[:2]), B(LANDMARKS[:2])))
    assert len(found.candidates) == 2
    assert names(found, "2 alignments fit the landmarks")
    # The one taken is right, or the mirror image, which keeps all lengths as well.
    assert found.registration.stress < 3e-3


def test_an_unknown_unit_is_found():
    a, b = spheres()
    thrice = replace(b, whitening=b.whitening / 3.0, singular_values=b.singular_values * 3.0, known_unit=False)
    found = registered((a, thrice), (A(LANDMARKS), B(LANDMARKS)))
    assert found.scale == pytest.approx(1.0 / 3.0, rel=2e-3)
    assert worst(found, A(NEW), B(NEW)) < 5e-3


def test_a_circle_is_registered():
    measures = units(6, 2, 5), units(7, 2, 5)

    def circle(angle):
        return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.stack([-np.sin(angle), np.cos(angle)], 1)[
            :, :, None
        ]

    draw = [2 * np.pi * np.random.default_rng(seed).random(n) for seed, n in ((0, 1000), (1, 1100), (2, 200))]
    pair = [observed(measure, *circle(angle)) for measure, angle in zip(measures, draw, strict=False)]
    marks, new = circle(np.array([0.3, 1.7, 3.9]))[0], circle(draw[2])[0]
    found = registered(pair, tuple(measure(marks) for measure in measures))
    assert found.diagnostics.problems == []
    assert worst(found, *(measure(new) for measure in measures)) < 5e-3


# --- what cannot be registered ------------------------------------------------------------------------------


def test_a_sphere_and_an_ellipsoid_are_not_isometric():
    other = observed(B, *surface(N, 1, axes=(1.2, 1.0, 0.7)))
    found = registered((spheres()[0], other), (A(LANDMARKS), B(LANDMARKS * [1.2, 1.0, 0.7])))
    assert found.registration is None or names(found, "cannot all be kept")
    assert found.diagnostics.problems


def test_domains_of_different_shape_keep_the_map_of_the_paper():
    x, tangents = surface(2 * N, 1)
    upper = x[:, 2] > 0.0
    marks = LANDMARKS.copy()
    marks[:, 2] = np.abs(marks[:, 2])
    found = registered((spheres()[0], observed(B, x[upper], tangents[upper])), (A(marks), B(marks)))
    assert found.registration is None
    assert names(found, "the samples could not be registered") or names(found, "no isometry joins the two sides")
    assert names(found, "the spectra differ")


def test_a_curved_domain_with_a_border_is_registered():
    sides = []
    for measure, seed in ((A, 0), (B, 1)):
        x, tangents = surface(2 * N, seed)
        upper = x[:, 2] > 0.0
        sides.append(observed(measure, x[upper], tangents[upper]))
    marks, new = LANDMARKS.copy(), NEW.copy()
    marks[:, 2], new[:, 2] = np.abs(marks[:, 2]), np.abs(new[:, 2])
    found = registered(sides, (A(marks), B(marks)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        assert worst(found, A(new), B(new)) < 5e-3


def test_a_wrong_landmark_is_named():
    marks = surface(6, 3)[0]
    wrong = marks.copy()
    wrong[4] = surface(1, 8)[0]
    found = registered(spheres(), (A(marks), B(wrong)))
    assert names(found, "no isometry joins")


def test_strangers_are_warned_of():
    found = sphere_match()
    with pytest.warns(errors.OutOfDomainWarning, match="300 of 300 points lie off A's measured manifold"):
        assert np.isfinite(found.transform(A(0.5 * NEW))).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.transform(A(NEW))


def test_a_flat_domain_keeps_its_isometric_coordinates():
    measures = smooth_map(2, 5, 0), smooth_map(2, 5, 1)
    pair = [Observation.from_jacobians(*m(square(800, seed=s))) for s, m in enumerate(measures)]
    marks = square(4, seed=9)
    found = match(*pair, landmarks=tuple(m(marks)[0] for m in measures))
    assert found.coordinates == "isometric"
    assert found.registration is None
