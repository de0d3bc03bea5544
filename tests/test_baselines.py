"""The plain fits that every transformation has to beat."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import random_orthogonal, smooth_map, square
from diffeo import errors, relative_error
from diffeo.baselines import affine_fit, gaussian_process_fit, procrustes_fit

FITS = [affine_fit, procrustes_fit, gaussian_process_fit]


def pairs(count, seed=0):
    """Measurements of common inputs by two bent maps."""
    x = square(count, seed=seed)
    return smooth_map(2, 4, 1)(x)[0], smooth_map(2, 3, 2)(x)[0]


def affine_pairs(count, seed=0):
    rng = np.random.default_rng(1)
    linear, shift = rng.normal(size=(4, 3)), rng.normal(size=3)
    p = np.random.default_rng(seed + 2).normal(size=(count, 4)) * [1.0, 100.0, 1e-3, 1.0]
    return p, p @ linear + shift


def test_affine_maps_are_found_whatever_the_units():
    p, q = affine_pairs(40)
    new_p, new_q = affine_pairs(30, seed=5)
    assert relative_error(affine_fit(p, q)(new_p), new_q) < 1e-6


def test_affine_fit_is_least_squares_where_there_are_plenty_of_pairs():
    p, q = pairs(500)
    design = np.column_stack([np.ones(500), p])
    expected = design @ np.linalg.lstsq(design, q, rcond=None)[0]
    np.testing.assert_allclose(affine_fit(p, q)(p), expected, atol=2e-3)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("scale", [0.1, 7.0])
def test_procrustes_finds_similarities(sign, scale):
    p = np.random.default_rng(0).normal(size=(10, 3)) + 5.0
    turn = random_orthogonal(1, 3)[0]
    turn[0] *= sign * np.sign(np.linalg.det(turn))
    new = np.random.default_rng(1).normal(size=(6, 3))
    found = procrustes_fit(p, scale * p @ turn - 2.0)(new)
    np.testing.assert_allclose(found, scale * new @ turn - 2.0, rtol=1e-10, atol=1e-9)


def test_procrustes_pads_the_narrower_side():
    p = np.random.default_rng(0).normal(size=(10, 2))
    frame = random_orthogonal(1, 4)[0][:2]
    new = np.random.default_rng(1).normal(size=(6, 2))
    np.testing.assert_allclose(procrustes_fit(p, p @ frame)(new), new @ frame, atol=1e-12)
    np.testing.assert_allclose(procrustes_fit(p @ frame, p)(new @ frame), new, atol=1e-12)


def test_procrustes_is_the_best_similarity():
    p, q = pairs(30)
    p = p[:, :3]
    best = np.linalg.norm(procrustes_fit(p, q)(p) - q)
    centre_p, centre_q = p.mean(axis=0), q.mean(axis=0)
    for seed in range(50):
        turn = random_orthogonal(1, 3, seed)[0]
        moved = (p - centre_p) @ turn
        scale = ((q - centre_q) * moved).sum() / (moved**2).sum()
        assert np.linalg.norm(scale * moved + centre_q - q) >= best - 1e-12


def test_procrustes_of_coincident_pairs_is_their_mean():
    found = procrustes_fit(np.ones((4, 2)), np.arange(8.0).reshape(4, 2))(np.zeros((3, 2)))
    np.testing.assert_allclose(found, [[3.0, 4.0]] * 3)


def test_a_gaussian_process_interpolates_and_beats_linear_maps_with_many_pairs():
    p, q = pairs(60)
    new_p, new_q = pairs(200, seed=9)
    fit = gaussian_process_fit(p, q)
    assert relative_error(fit(p), q) < 1e-3
    assert relative_error(fit(new_p), new_q) < 0.3 * relative_error(affine_fit(p, q)(new_p), new_q)
    np.testing.assert_array_equal(gaussian_process_fit(p, q)(new_p), fit(new_p))


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("width", [1, 3])
def test_shapes(fit, width):
    p, q = pairs(12)
    found = fit(p, q[:, :width])(p[:5])
    assert found.shape == (5, width)
    assert np.isfinite(found).all()


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fit", FITS)
def test_constant_measurements_do_no_harm(fit):
    p, q = pairs(12)
    p = np.column_stack([p, np.full(12, 3.0)])
    assert np.isfinite(fit(p, q)(p)).all()


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fit", FITS)
def test_two_pairs_are_enough(fit):
    p, q = pairs(2)
    assert np.isfinite(fit(p, q)(p)).all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize(
    ("p", "q", "error"),
    [
        (np.ones((1, 2)), np.ones((1, 2)), errors.SampleSizeError),
        (np.ones((4, 2)), np.ones((3, 2)), errors.ShapeError),
        (np.ones(4), np.ones((4, 2)), errors.ShapeError),
        (np.full((4, 2), np.nan), np.ones((4, 2)), errors.NonFiniteError),
        (np.ones((4, 2)), np.ones((4, 2), complex), errors.DataTypeError),
        ([["a"]] * 3, np.ones((3, 2)), errors.DataTypeError),
    ],
)
def test_pairs_that_cannot_be_used(fit, p, q, error):
    with pytest.raises(error):
        fit(p, q)


# --- the relative error -------------------------------------------------------------------------------------


def test_relative_error_is_zero_for_the_truth_and_one_for_the_mean():
    _, q = pairs(50)
    assert relative_error(q, q) == 0.0
    assert relative_error(np.tile(q.mean(axis=0), (50, 1)), q) == pytest.approx(1.0)
    off = q + 0.1 * (q - q.mean(axis=0))
    assert relative_error(off, q) == pytest.approx(0.1)
    # Neither the unit nor the origin matters.
    assert relative_error(1e6 * off + 5.0, 1e6 * q + 5.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("predicted", "true", "error"),
    [
        (np.ones((5, 2)), np.ones((5, 2)), errors.InputError),
        (np.ones((5, 2)), np.ones((4, 2)), errors.ShapeError),
        (np.ones(5), np.ones(5), errors.ShapeError),
        (np.full((5, 2), np.nan), np.eye(5, 2), errors.NonFiniteError),
        (np.eye(5, 2), np.full((5, 2), np.inf), errors.NonFiniteError),
    ],
)
def test_relative_errors_that_do_not_exist(predicted, true, error):
    with pytest.raises(error):
        relative_error(predicted, true)
