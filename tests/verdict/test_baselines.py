"""The plain fits that every transformation has to beat."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from diffeo.verdict import baselines
from diffeo.verdict.baselines import (
    PAPER,
    Baseline,
    affine_fit,
    cca_fit,
    compare_baselines,
    gaussian_process_fit,
    kernel_ridge_fit,
    linear_enough,
    paper_fit,
    procrustes_fit,
)
from support.pairs import NEW, SIX, THREE, at, maps, observations
from support.samples import random_orthogonal, smooth_map, square

FITS = [affine_fit, procrustes_fit, cca_fit, gaussian_process_fit]


def pairs(count, seed=0):
    """Measurements of common inputs by two bent maps."""
    x = square(count, seed=seed)
    return smooth_map(2, 4, 1)(x)[0], smooth_map(2, 3, 2)(x)[0]


def affine_pairs(count, seed=0):
    rng = np.random.default_rng(1)
    linear, shift = rng.normal(size=(4, 3)), rng.normal(size=3)
    p = np.random.default_rng(seed + 2).normal(size=(count, 4)) * [1.0, 100.0, 1e-3, 1.0]
    return p, p @ linear + shift


@pytest.mark.parametrize("fit", [affine_fit, cca_fit])
def test_affine_maps_are_found_whatever_the_units(fit):
    p, q = affine_pairs(40)
    new_p, new_q = affine_pairs(30, seed=5)
    # Where pairs fit exactly, rounding chooses among the least penalties: 1e-8 to 1e-6.
    assert relative_error(fit(p, q)(new_p), new_q) < 1e-5


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


# --- canonical correlations ---------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_canonical_variates_are_those_of_scikit_learn(count):
    """Without a ridge, B is regressed on the variates that its iteration finds."""
    from sklearn.cross_decomposition import CCA

    rng = np.random.default_rng(0)
    p = rng.normal(size=(80, 4))
    q = p @ rng.normal(size=(4, 3)) * [1.0, 0.2, 0.05] + 0.5 * rng.normal(size=(80, 3))
    variates = CCA(n_components=count, max_iter=20_000, tol=1e-16).fit(p, q).transform(p)
    design = np.column_stack([np.ones(80), variates])
    expected = design @ np.linalg.lstsq(design, q, rcond=None)[0]
    np.testing.assert_allclose(baselines._canonical_maps(p, q)[baselines.RIDGES[0], count](p), expected, atol=1e-5)


def test_all_canonical_variates_are_least_squares():
    p, q = pairs(80)
    design = np.column_stack([np.ones(80), p])
    expected = design @ np.linalg.lstsq(design, q, rcond=None)[0]
    np.testing.assert_allclose(baselines._canonical_maps(p, q)[baselines.RIDGES[0], 3](p), expected, atol=1e-7)


def test_cca_keeps_what_both_sides_share_and_leaves_out_the_noise():
    """One quantity is shared: one or two of eight components are chosen, and beat all of them."""
    rng = np.random.default_rng(0)
    shared, new_shared = rng.normal(size=(30, 1)), rng.normal(size=(200, 1))
    into_p, into_q = rng.normal(size=(1, 10)), rng.normal(size=(1, 8))
    p, new_p = (x @ into_p + 0.3 * rng.normal(size=(len(x), 10)) for x in (shared, new_shared))
    q, new_q = (x @ into_q + 0.3 * rng.normal(size=(len(x), 8)) for x in (shared, new_shared))
    fit = cca_fit(p, q)
    assert fit.note in ("1 component", "2 components")
    least_squares = baselines._canonical_maps(p, q)[baselines.RIDGES[0], 8]
    assert relative_error(fit(new_p), new_q) < 0.9 * relative_error(least_squares(new_p), new_q)


# --- kernel ridge -------------------------------------------------------------------------------------------


def test_kernel_ridge_serves_where_the_process_does():
    p, q = pairs(60)
    new_p, new_q = pairs(200, seed=9)
    error = relative_error(kernel_ridge_fit(p, q)(new_p), new_q)
    assert error < 0.3 * relative_error(affine_fit(p, q)(new_p), new_q)


def test_kernel_ridge_says_when_it_leaves_pairs_out(monkeypatch):
    monkeypatch.setattr(baselines, "PAIRS_TO_FIT", 40)
    p, q = pairs(60)
    assert kernel_ridge_fit(p, q).note == "fitted to 40 of the landmarks"
    assert kernel_ridge_fit(p[:40], q[:40]).note == ""


# --- all of them --------------------------------------------------------------------------------------------


def by_name(found):
    assert all(isinstance(one, Baseline) for one in found)
    return {one.name: one for one in found}


def test_every_method_in_both_directions():
    marks, held = at(maps(), np.vstack([SIX, square(14, seed=3)])), at(maps(), NEW)
    sides = observations()
    found = by_name(compare_baselines(marks, held, observations=sides))
    assert list(found) == ["affine", "Procrustes", "CCA", "Gaussian process", PAPER]
    for i, way in enumerate(("forward", "backward")):
        source, target = (held[i], marks[i]), (held[1 - i], marks[1 - i])
        spread = np.linalg.norm(target[0] - target[0].mean(axis=0))
        for name, fit in (("affine", affine_fit), ("Procrustes", procrustes_fit), ("CCA", cca_fit)):
            expected = np.linalg.norm(fit(source[1], target[1])(source[0]) - target[0]) / spread
            assert getattr(found[name], way) == pytest.approx(expected, rel=1e-12)
    diffusion = match(*sides, landmarks=marks, coordinates="diffusion")
    spread = np.linalg.norm(held[1] - held[1].mean(axis=0))
    expected = np.linalg.norm(diffusion.transform(held[0]) - held[1]) / spread
    assert found[PAPER].forward == pytest.approx(expected, rel=1e-9)
    # The square is bent: no linear map does it, a regression does.
    assert linear_enough(list(found.values()), 0.01) == ""
    assert max(found["Gaussian process"].forward, found["Gaussian process"].backward) < 0.01


def test_a_rotation_is_found_by_every_linear_method():
    p = np.random.default_rng(0).normal(size=(40, 3))
    q = 2.0 * p @ random_orthogonal(1, 3)[0] + 1.0
    found = by_name(compare_baselines((p[:20], q[:20]), (p[20:], q[20:])))
    assert list(found) == ["affine", "Procrustes", "CCA", "Gaussian process"]
    for name in ("affine", "Procrustes", "CCA"):
        assert max(found[name].forward, found[name].backward) < 1e-5
    text = linear_enough(list(found.values()), 0.05)
    assert "linear map already does it" in text
    assert "A to B" in text
    assert "B to A" in text


def test_a_linear_map_that_does_it_one_way():
    """B forgets a measurement of A: forth there is a linear map, back there is none."""
    p = np.random.default_rng(0).normal(size=(60, 3))
    found = compare_baselines((p[:30], p[:30, :2]), (p[30:], p[30:, :2]))
    text = linear_enough(found, 0.05)
    assert "one way" in text
    assert "A to B" in text
    assert "B to A" not in text
    assert linear_enough([], 0.05) == ""


def test_more_measurements_than_landmarks():
    """Ten pairs of 512 measurements that are linear in two inputs: exact for every linear method."""
    x = square(60, 2, 0)
    rng = np.random.default_rng(0)
    p, q = x @ rng.normal(size=(2, 512)) + 3.0, x @ rng.normal(size=(2, 400))
    found = by_name(compare_baselines((p[:10], q[:10]), (p[10:], q[10:])))
    assert found["affine"].forward < 1e-4
    assert found["CCA"].forward < 1e-4
    assert found["CCA"].note == "2 components"
    assert found["Gaussian process"].forward < 0.1
    assert found["Gaussian process"].note == "one length scale"


def test_errors_are_taken_from_the_means_that_are_given():
    p, q = pairs(40)
    marks, held = (p[:20], q[:20]), (p[20:], q[20:])
    by_held = compare_baselines(marks, held)[0].forward
    far = compare_baselines(marks, held, means=(p.mean(axis=0) + 100.0, q.mean(axis=0) + 100.0))[0].forward
    assert by_held == pytest.approx(relative_error(affine_fit(*marks)(held[0]), held[1]))
    assert far == pytest.approx(by_held * np.linalg.norm(held[1] - held[1].mean(0)) / (100 * np.sqrt(60)), rel=0.02)


def test_many_landmarks_are_for_kernel_ridge(monkeypatch):
    monkeypatch.setattr(baselines, "MOST_PAIRS_FOR_PROCESS", 20)
    p, q = pairs(60)
    assert "kernel ridge" in by_name(compare_baselines((p[:21], q[:21]), (p[21:], q[21:])))
    assert "Gaussian process" in by_name(compare_baselines((p[:20], q[:20]), (p[20:], q[20:])))


# --- methods that cannot be fitted --------------------------------------------------------------------------


@pytest.mark.parametrize("none", [None, (np.empty((0, 5)), np.empty((0, 6)))])
def test_without_landmarks_nothing_is_fitted(none):
    for one in compare_baselines(none, at(maps(), NEW), observations=observations()):
        assert (one.forward, one.backward, one.note) == (None, None, "no landmarks")


def test_too_few_landmarks():
    one, held = at(maps(), THREE[:1]), at(maps(), NEW)
    for found in compare_baselines(one, held, observations=observations()):
        assert found.forward is None
        assert found.backward is None
        assert "landmarks" in found.note or "pairs" in found.note


def test_where_one_side_has_fewer_dimensions_the_paper_has_no_map():
    x = square(600, 2, 0)
    a = Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (600, 2, 2)))
    b = Observation.from_jacobians(x[:, :1], np.broadcast_to([[1.0, 0.0]], (600, 1, 2)))
    marks, held = square(20, 2, 1), square(50, 2, 2)
    found = by_name(compare_baselines((marks, marks[:, :1]), (held, held[:, :1]), observations=(a, b)))
    assert found[PAPER].forward is None
    assert "dimension" in found[PAPER].note
    assert found["affine"].forward < 1e-6


def test_a_disconnected_side_is_a_reason():
    x = np.vstack([square(300, 2, 0), square(300, 2, 1) + 50.0])
    a = Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (600, 2, 2)))
    held = (x[::3], x[::3])
    paper = by_name(compare_baselines((x[1::3][:20], x[1::3][:20]), held, observations=(a, a)))[PAPER]
    assert paper.forward is None
    assert "pieces" in paper.note


def test_a_constant_truth_has_no_scale():
    p, _ = pairs(30)
    constant = np.full((30, 2), 0.1)
    found = compare_baselines((p[:20], constant[:20]), (p[20:], constant[20:]))[0]
    assert found.forward is None
    assert "constant" in found.note
    assert found.backward is not None


def test_the_paper_needs_landmarks():
    with pytest.raises(errors.LandmarkError):
        paper_fit(*observations(), None)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"held_out": np.ones((3, 2))}, errors.ParameterError),
        ({"held_out": (np.ones((3, 4)), np.ones((2, 3)))}, errors.ShapeError),
        ({"landmarks": (np.ones((3, 4)), np.ones((2, 3)))}, errors.ShapeError),
        ({"landmarks": (np.ones((3, 2)), np.ones((3, 3)))}, errors.ShapeError),
        ({"means": (np.ones(4), np.ones(4))}, errors.ShapeError),
        ({"n_jobs": 0}, errors.ParameterError),
    ],
)
def test_arguments_of_the_comparison(arguments, error):
    p, q = pairs(30)
    given = {"landmarks": (p, q), "held_out": (p, q)} | arguments
    with pytest.raises(error):
        compare_baselines(given.pop("landmarks"), given.pop("held_out"), **given)


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
