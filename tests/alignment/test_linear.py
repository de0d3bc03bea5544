"""Alignment of intrinsic coordinates: known maps come back, and landmarks that leave one open are refused."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.alignment.linear import LANDMARKS_PER_COEFFICIENT, align_diffusion, align_isometric, align_projection
from support.samples import random_orthogonal


def coordinates(count, dim, seed=0):
    return np.random.default_rng(seed).normal(size=(count, dim)) + 3.0


def orthogonal(dim, sign, seed=1):
    """A random orthogonal matrix whose determinant has the given sign."""
    q = random_orthogonal(1, dim, seed)[0]
    q[0] *= sign * np.sign(np.linalg.det(q))
    return q


def with_noise(x, size, seed=5):
    return x + size * np.random.default_rng(seed).normal(size=x.shape)


# --- isometric ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extra", [0, 1, 20])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_rigid_motions_and_reflections_come_back(dim, sign, extra):
    a, q, shift = coordinates(dim + 1 + extra, dim), orthogonal(dim, sign), np.arange(dim) - 7.0
    found = align_isometric(a, a @ q + shift, known_unit=True)
    assert found.kind == "rigid"
    np.testing.assert_allclose(found.linear, q, atol=1e-12)
    np.testing.assert_allclose(found.shift, shift, atol=1e-11)
    assert found.residual < 1e-13
    assert found.scale == pytest.approx(1.0, abs=1e-12)
    assert (found.left_out < 1e-12) == (extra > 0)
    assert np.isinf(found.left_out) == (extra == 0)


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_similarities_come_back_where_the_unit_is_unknown(dim, sign, scale):
    a, q, shift = coordinates(dim + 3, dim), orthogonal(dim, sign), np.arange(dim) + 2.0
    b = scale * a @ q + shift
    found = align_isometric(a, b, known_unit=False)
    assert found.kind == "similarity"
    np.testing.assert_allclose(found.linear, scale * q, rtol=1e-10, atol=1e-12 * scale)
    np.testing.assert_allclose(found.shift, shift, atol=1e-10 * scale)
    assert found.scale == pytest.approx(scale, rel=1e-12)
    assert found.residual < 1e-12
    assert found.left_out < 1e-12


def test_a_known_unit_is_not_stretched_but_the_scale_is_told():
    a = coordinates(8, 2)
    found = align_isometric(a, 1.5 * a @ orthogonal(2, 1), known_unit=True)
    np.testing.assert_allclose(found.linear @ found.linear.T, np.eye(2), atol=1e-12)
    assert found.scale == pytest.approx(1.5)
    # What a rotation leaves of 1.5 x is 0.5 x, a third of the spread.
    assert found.residual == pytest.approx(1 / 3)


def test_the_rigid_motion_is_the_least_squares_one():
    a = coordinates(12, 2)
    b = with_noise(a @ orthogonal(2, -1) + 1.0, 0.2)
    found = align_isometric(a, b, known_unit=True)
    least = np.sqrt(((found.forward(a) - b) ** 2).sum())
    for angle in (1e-3, -1e-3):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = (a - a.mean(axis=0)) @ found.linear @ turn + b.mean(axis=0)
        assert np.sqrt(((moved - b) ** 2).sum()) > least
    spread = np.sqrt(((b - b.mean(axis=0)) ** 2).sum())
    assert found.residual == pytest.approx(least / spread)


def test_left_out_predicts_each_landmark_from_the_others():
    a = coordinates(6, 2)
    b = with_noise(a @ orthogonal(2, 1), 0.1)
    misses = []
    for i in range(6):
        rest = np.arange(6) != i
        part = align_isometric(a[rest], b[rest], known_unit=True)
        misses.append(((part.forward(a[i : i + 1]) - b[i]) ** 2).sum())
    spread = np.sqrt(((b - b.mean(axis=0)) ** 2).sum(axis=1).mean())
    found = align_isometric(a, b, known_unit=True)
    assert found.left_out == pytest.approx(np.sqrt(np.mean(misses)) / spread)
    assert found.left_out > found.residual


def test_one_wrong_landmark_shows():
    a = coordinates(8, 2)
    b = a @ orthogonal(2, 1)
    b[3] += [4.0, 0.0]
    found = align_isometric(a, b, known_unit=True)
    assert found.left_out > 0.3
    assert found.residual > 0.1


# --- projection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("d_a", "d_b"), [(2, 1), (3, 1), (3, 2)])
def test_projections_come_back(d_a, d_b):
    a, q, shift = coordinates(d_a + 4, d_a), orthogonal(d_a, 1)[:, :d_b], np.arange(d_b) - 2.0
    found = align_projection(a, a @ q + shift)
    assert found.kind == "projection"
    assert found.name == ""
    np.testing.assert_allclose(found.linear, q, atol=1e-10)
    np.testing.assert_allclose(found.shift, shift, atol=1e-9)
    assert found.residual < 1e-10
    assert found.left_out < 1e-9
    assert found.scale == pytest.approx(1.0)
    assert found.forward(a).shape == (d_a + 4, d_b)
    with pytest.raises(errors.NotInvertibleError, match="loses dimensions"):
        found.backward(a @ q)


def test_the_projection_is_the_least_squares_one():
    a = coordinates(15, 3)
    b = with_noise(a @ orthogonal(3, 1)[:, :2] + 1.0, 0.3)
    found = align_projection(a, b)
    np.testing.assert_allclose(found.linear.T @ found.linear, np.eye(2), atol=1e-12)
    centred, target = a - a.mean(axis=0), b - b.mean(axis=0)
    least = ((centred @ found.linear - target) ** 2).sum()
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for angle in (1e-3, -1e-3):
            turn = np.eye(3)
            turn[[i, j], [i, j]], turn[i, j], turn[j, i] = np.cos(angle), np.sin(angle), -np.sin(angle)
            assert ((centred @ turn @ found.linear - target) ** 2).sum() > least


def test_a_projection_of_another_unit_is_told():
    # Round landmarks: others would be turned to make up for the unit.
    a = np.vstack([np.eye(3), -np.eye(3)])
    assert align_projection(a, 1.5 * a @ orthogonal(3, 1)[:, :1]).scale == pytest.approx(1.5)


@pytest.mark.parametrize("bad", [coordinates(3, 3), np.repeat(coordinates(2, 3), 3, axis=0)])
def test_projections_need_landmarks_in_general_position(bad):
    with pytest.raises(errors.LandmarkError, match=r"landmarks cannot align 3 coordinates|leave a direction"):
        align_projection(bad, bad[:, :2])


# --- diffusion ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("c", [1, 2, 4])
def test_orthogonal_maps_come_back_from_c_landmarks(c, sign):
    a, q = coordinates(c, c, seed=2), orthogonal(c, sign)
    found = align_diffusion(a, a @ q)
    assert found.kind == "orthogonal"
    np.testing.assert_allclose(found.linear, q, atol=1e-10)
    np.testing.assert_array_equal(found.shift, 0.0)
    assert found.residual < 1e-12
    assert np.isinf(found.left_out)
    assert found.scale == pytest.approx(1.0)


def test_affine_maps_come_back_from_many_landmarks():
    rng = np.random.default_rng(3)
    a, linear, shift = coordinates(30, 3), rng.normal(size=(3, 3)) + 2 * np.eye(3), rng.normal(size=3)
    found = align_diffusion(a, a @ linear + shift)
    assert found.kind == "affine"
    np.testing.assert_allclose(found.linear, linear, atol=1e-10)
    np.testing.assert_allclose(found.shift, shift, atol=1e-9)
    assert found.left_out < 1e-10


def test_few_landmarks_never_give_an_affine_map():
    count = LANDMARKS_PER_COEFFICIENT * 3 - 1
    a = coordinates(count, 2)
    assert align_diffusion(a, a @ np.array([[2.0, 1.0], [0.0, 1.0]])).kind == "orthogonal"


def test_noise_prefers_the_orthogonal_map():
    # The affine map would spend its coefficients on noise; which one predicts better decides.
    kinds = []
    for seed in range(20):
        a = np.random.default_rng(seed).normal(size=(8, 2))
        kinds.append(align_diffusion(a, with_noise(a @ orthogonal(2, 1), 0.3, seed + 100)).kind)
    assert kinds.count("orthogonal") >= 15


# --- both directions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rigid", "similarity", "orthogonal", "affine"])
def test_backward_is_the_inverse_of_forward(kind):
    a = coordinates(20, 3)
    linear = np.random.default_rng(4).normal(size=(3, 3)) + 3 * np.eye(3)
    b = a @ (linear if kind == "affine" else 2.0 * orthogonal(3, -1)) + (kind != "orthogonal")
    if kind in ("rigid", "similarity"):
        found = align_isometric(a, b, known_unit=kind == "rigid")
    else:
        found = align_diffusion(a, b / 2 if kind == "orthogonal" else b)
    assert found.kind == kind
    new = coordinates(50, 3, seed=9)
    np.testing.assert_allclose(found.backward(found.forward(new)), new, atol=1e-11)
    np.testing.assert_allclose(found.forward(found.backward(new)), new, atol=1e-11)
    assert found.backward(new).flags.c_contiguous


# --- landmarks that do not do -------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_too_few_landmarks(dim):
    a = coordinates(dim, dim)
    with pytest.raises(errors.LandmarkError, match=f"{dim} landmarks .* at least {dim + 1} are needed"):
        align_isometric(a, a, known_unit=True)
    if dim > 1:
        with pytest.raises(errors.LandmarkError, match=f"{dim - 1} landmarks .* at least {dim} are needed"):
            align_diffusion(a[1:], a[1:])


def line(count):
    t = np.linspace(0, 1, count)[:, None]
    return t * [1.0, 2.0] + [3.0, 1.0]


@pytest.mark.parametrize("bad", [line(3), line(9), np.ones((3, 2)), np.repeat(coordinates(2, 2), 3, axis=0)])
@pytest.mark.parametrize("side", ["A", "B"])
def test_landmarks_that_leave_a_direction_open(bad, side):
    good = coordinates(len(bad), 2, seed=6)
    pair = (bad, good) if side == "A" else (good, bad)
    for known_unit in (True, False):
        with pytest.raises(errors.LandmarkError, match=f"leave a direction .* on side {side}"):
            align_isometric(*pair, known_unit=known_unit)


@pytest.mark.parametrize("bad", [np.ones((2, 2)), np.arange(1, 5)[:, None] * [[1.0, 2.0]], np.zeros((3, 2))])
@pytest.mark.parametrize("side", ["A", "B"])
def test_dependent_landmarks_of_diffusion_coordinates(bad, side):
    good = coordinates(len(bad), 2, seed=6)
    with pytest.raises(errors.LandmarkError, match=f"leave a direction .* on side {side}"):
        align_diffusion(*((bad, good) if side == "A" else (good, bad)))
