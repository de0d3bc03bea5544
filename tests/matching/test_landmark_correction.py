"""What landmarks teach beyond the alignment: the best of all at every number of them."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, relative_error
from diffeo.alignment.linear import align_isometric, left_out_coordinates
from diffeo.matching.landmark_correction import MAX_LANDMARKS, learn_correction
from diffeo.matching.predictors.plain_fits import procrustes
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit, procrustes_fit
from support.samples import random_orthogonal, smooth_map, square

MEASURE_A, MEASURE_B = smooth_map(2, 4, 1), smooth_map(2, 3, 2)


def aligned_map(x, wrong, scale=1e-4):
    """B's measurements of x as an aligned map predicts them: slightly off, or from a folded domain."""
    if wrong:
        x = np.abs(x - 0.5) + 0.5
    off = scale * np.column_stack([np.sin(9.0 * x[:, 0]), np.cos(7.0 * x[:, 1])])
    return MEASURE_B(x + off)[0]


def learned(count, wrong=False, scale=1e-4, seed=0):
    """A model from `count` landmarks; held-out errors of it, and of the aligned map, and of the plain fits."""
    x, t = square(count, seed=seed), square(400, seed=seed + 100)
    a, b, test_a, test_b = MEASURE_A(x)[0], MEASURE_B(x)[0], MEASURE_A(t)[0], MEASURE_B(t)[0]
    model = learn_correction(a, x, b, aligned_map(x, wrong, scale))
    base = aligned_map(t, wrong, scale)
    found = relative_error(model.predict(test_a, t, base), test_b)
    fits = [fit(a, b)(test_a) for fit in (gaussian_process_fit, affine_fit, procrustes_fit)]
    return model, found, relative_error(base, test_b), [relative_error(p, test_b) for p in fits]


@pytest.mark.parametrize("count", [10, 50, 200])
@pytest.mark.parametrize("wrong", [False, True])
def test_never_worse_than_the_plain_fits_nor_the_aligned_map(count, wrong):
    _, found, aligned, plain = learned(count, wrong)
    assert found <= 1.2 * min(plain)
    assert found <= 1.2 * aligned


def test_a_smooth_residual_is_learned():
    _, found, aligned, _ = learned(50)
    assert found < 0.3 * aligned


@pytest.mark.slow
def test_left_out_error_tells_the_held_out_one():
    for count, wrong in ((50, False), (50, True), (200, False)):
        model, found, _, _ = learned(count, wrong)
        assert found / 4 < model.error < 4 * found
        assert set(model.errors) == {*model.kinds, "combined"}


def test_an_exact_map_is_left_alone():
    x = square(30)
    b = MEASURE_B(x)[0]
    model = learn_correction(MEASURE_A(x)[0], x, b, b)
    t = square(50, seed=1)
    np.testing.assert_array_equal(model.predict(MEASURE_A(t)[0], t, MEASURE_B(t)[0]), MEASURE_B(t)[0])
    assert model.error == 0.0


def test_far_from_the_landmarks_the_aligned_map_is_trusted():
    x = 0.3 * square(40)
    model = learn_correction(MEASURE_A(x)[0], x, MEASURE_B(x)[0], aligned_map(x, False))
    t = 0.3 * square(100, seed=1) + 0.7
    found = relative_error(model.predict(MEASURE_A(t)[0], t, aligned_map(t, False)), MEASURE_B(t)[0])
    regressed = relative_error(gaussian_process_fit(MEASURE_A(x)[0], MEASURE_B(x)[0])(MEASURE_A(t)[0]), MEASURE_B(t)[0])
    # Experts that know nothing here keep a little weight, and how much differs in the last steps of their fits.
    assert found < 5.0 * relative_error(aligned_map(t, False), MEASURE_B(t)[0])
    assert found < 0.1 * regressed


def test_doubt_moves_the_trust_to_the_landmarks():
    # The landmarks do not see where the aligned map is wrong; its stress does.
    x = square(60)
    x = x[(x > 0.25).any(axis=1)]
    t = 0.25 * square(200, seed=3)
    broken = MEASURE_B(t + 0.2)[0]
    errors_ = []
    for doubt in (0.0, 0.05):
        model = learn_correction(MEASURE_A(x)[0], x, MEASURE_B(x)[0], aligned_map(x, False), doubt=doubt)
        errors_.append(relative_error(model.predict(MEASURE_A(t)[0], t, broken), MEASURE_B(t)[0]))
    assert errors_[1] < 0.3 * errors_[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_few_landmarks_teach_nothing(count):
    model, found, aligned, _ = learned(max(count, 2)) if count > 1 else (*learned(2)[:1], 0.0, 0.0, [])
    assert not model.learned
    assert found == aligned
    assert model.kinds == ("aligned",)


def test_repeated_landmarks_are_not_counted_twice():
    x = np.repeat(square(4), 10, axis=0)
    model = learn_correction(MEASURE_A(x)[0], x, MEASURE_B(x)[0], aligned_map(x, False))
    assert not model.learned


def test_without_a_map_values_are_regressed():
    x, t = square(80), square(200, seed=7)
    model = learn_correction(MEASURE_A(x)[0], x, MEASURE_B(x)[0])
    assert relative_error(model.predict(MEASURE_A(t)[0], t), MEASURE_B(t)[0]) < 0.01
    assert model.kinds == ("process of coordinates", "process of both")


def test_constant_neurons_and_outputs_do_no_harm():
    x, t = square(30), square(50, seed=1)

    def measure_a(z):
        return np.column_stack([MEASURE_A(z)[0], np.full(len(z), 3.0)])

    def measure_b(z):
        return np.column_stack([MEASURE_B(z)[0], np.full(len(z), -2.0)])

    base = np.column_stack([aligned_map(x, False), np.full(30, -2.0)])
    model = learn_correction(measure_a(x), x, measure_b(x), base)
    found = model.predict(measure_a(t), t, np.column_stack([aligned_map(t, False), np.full(50, -2.0)]))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, -1], -2.0, rtol=1e-12)


def test_units_do_not_matter():
    x, t = square(30), square(50, seed=1)
    args, queries = (MEASURE_A(x)[0], x), (MEASURE_A(t)[0], t)
    b, base, there = MEASURE_B(x)[0], aligned_map(x, False), aligned_map(t, False)
    found = learn_correction(*args, b, base).predict(*queries, there)
    scaled = learn_correction(1e5 * args[0], x, 1e-120 * b, 1e-120 * base)
    moved = scaled.predict(1e5 * queries[0], t, 1e-120 * there)
    np.testing.assert_allclose(1e120 * moved, found, atol=1e-5)


def test_chunks_and_repetition_change_nothing(monkeypatch):
    x, t = square(30), square(50, seed=1)
    models = [learn_correction(MEASURE_A(x)[0], x, MEASURE_B(x)[0], aligned_map(x, False)) for _ in range(2)]
    query = (MEASURE_A(t)[0], t, aligned_map(t, False))
    whole = models[0].predict(*query)
    np.testing.assert_array_equal(models[1].predict(*query), whole)
    monkeypatch.setattr("diffeo.matching.landmark_correction.CHUNK", 7)
    # Rounding decides the last digits of small variances, and so of the weights.
    np.testing.assert_allclose(models[0].predict(*query), whole, atol=1e-6)


def test_the_number_of_landmarks_in_the_processes_is_bounded(monkeypatch):
    assert MAX_LANDMARKS >= 1000
    monkeypatch.setattr("diffeo.matching.landmark_correction.MAX_LANDMARKS", 40)
    model, found, aligned, _ = learned(90)
    assert len(model.landmarks) == 40
    assert model.dual.shape == (4, 40, 3)
    assert found < aligned


def test_left_out_alignments_do_not_see_their_landmark():
    rng = np.random.default_rng(0)
    p = square(6)
    q = p @ random_orthogonal(1, 2)[0] + 0.01 * rng.normal(size=(6, 2))
    alignment = align_isometric(p, q, known_unit=True)
    found = left_out_coordinates(p, q, alignment, known_unit=True)
    for i in range(6):
        rest = np.arange(6) != i
        np.testing.assert_array_equal(found[i], align_isometric(p[rest], q[rest], known_unit=True).forward(p[i]))
    # The root mean square is what the alignment itself reports.
    misfit = np.sqrt(((found - q) ** 2).sum(axis=1).mean() / ((q - q.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert misfit == pytest.approx(alignment.left_out)
    few = align_isometric(p[:3], q[:3], known_unit=True)
    np.testing.assert_array_equal(left_out_coordinates(p[:3], q[:3], few, known_unit=True), few.forward(p[:3]))
    # Two coincident landmarks of four: without either of the others a direction stays open.
    p, q = p[[0, 1, 2, 2]], q[[0, 1, 2, 2]]
    double = align_isometric(p, q, known_unit=True)
    found = left_out_coordinates(p, q, double, known_unit=True)
    np.testing.assert_array_equal(found[0], double.forward(p)[0])


def test_a_map_that_is_right_is_not_bent_to_noisy_landmarks():
    """Of sixty landmarks, each off by as much, none says anything of the others."""
    x, t = square(60), square(100, seed=1)
    right, bent = MEASURE_B(x)[0], []
    for seed in range(12):
        noisy = right + 1e-3 * np.random.default_rng(seed).standard_normal(right.shape)
        model = learn_correction(MEASURE_A(x)[0], x, noisy, right)
        bent.append(not np.array_equal(model.predict(MEASURE_A(t)[0], t, MEASURE_B(t)[0]), MEASURE_B(t)[0]))
    assert sum(bent) <= 3


def test_a_fit_to_the_landmarks_alone_does_not_take_the_place_of_the_map_by_chance():
    """Landmarks of a line, off by a few percent, miss a map that is right about as much as they miss ridge regression."""
    rng = np.random.default_rng(3)
    x, t = np.sort(rng.uniform(0.1, 0.9, (22, 1)), axis=0), np.linspace(0.0, 1.0, 50)[:, None]

    def seen(at, phase):
        return np.sin(at * [2.0, 3.0, 4.0] + phase)

    for seed in (0, 6, 7):  # by the fits, 6 to 11 % between and beyond the landmarks
        off = x + 0.015 * np.random.default_rng(seed).standard_normal(x.shape)
        model = learn_correction(seen(x, 0.3), x, seen(off, 1.0), seen(x, 1.0))
        np.testing.assert_array_equal(model.predict(seen(t, 0.3), t, seen(t, 1.0)), seen(t, 1.0))


def test_six_noisy_landmarks_of_a_line_teach_nothing():
    """Their misses left out are few enough to be matched by one of several regressions by chance: one in three was."""
    measures, taught = (smooth_map(1, 4, 1), smooth_map(1, 4, 2)), 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = np.sort(rng.random((6, 1)), axis=0)
        near = x + 0.01 * rng.normal(size=x.shape)
        motion = align_isometric(x, near, known_unit=True)
        left_out = left_out_coordinates(x, near, motion, known_unit=True)
        b = measures[1](near)[0]
        taught += learn_correction(measures[0](x)[0], motion.forward(x), b, measures[1](left_out)[0]).learned
    assert taught <= 6


def test_plain_fits_join_processes_that_miss_half_a_percent():
    """Twenty landmarks of twelve measurements: one length scale for all of them adds to a length scale for each."""
    x, t = square(20, seed=3), square(300, seed=12)
    (a, test_a), (b, test_b) = ([smooth_map(2, m, seed, 1.0)(at)[0] for at in (x, t)] for m, seed in ((12, 3), (6, 53)))
    model = learn_correction(a, np.empty((20, 0)), b)
    assert "ridge of points" in model.kinds
    found = relative_error(model.predict(test_a, np.empty((300, 0))), test_b)
    assert 0.003 < found < 0.0051  # 0.0053 by processes alone
    assert found / 2 < model.error < 2 * found


@pytest.mark.parametrize("count", [4, 5])
def test_few_landmarks_of_a_line_tell_which_predictors_are_good(count):
    measures, ratios = (smooth_map(1, 4, 1), smooth_map(1, 3, 2)), []
    t, samples = np.linspace(0.1, 0.9, 50)[:, None], square(100, 1, 9)
    target = Observation.from_jacobians(*measures[1](samples))
    for seed in range(6):
        x = np.linspace(0.05, 0.95, count)[:, None] + 0.02 * square(count, 1, seed)
        (a, b), (test_a, test_b) = ([measure(at)[0] for measure in measures] for at in (x, t))
        none = np.empty((count, 0))
        seen = measures[0](samples)[0], np.empty((100, 0))
        model = learn_correction(a, none, b, samples=seen, target=target)
        found = relative_error(model.predict(test_a, np.empty((50, 0))), test_b)
        ratios.append(found / relative_error(affine_fit(a, b)(test_a), test_b))
    assert np.median(ratios) < 0.5


def test_a_motion_of_wide_layers_is_found_in_the_span_of_few_landmarks():
    rng = np.random.default_rng(0)
    a, b, t = (rng.normal(size=shape) for shape in ((4, 300), (4, 500), (20, 300)))
    found = procrustes(a, 0, b, np.zeros(500))
    np.testing.assert_allclose(found.offset + t @ found.linear, procrustes_fit(a, b)(t), atol=1e-10)
    rest = np.arange(4) != 1
    np.testing.assert_allclose(found.misses[1], b[1] - procrustes_fit(a[rest], b[rest])(a[1:2])[0], atol=1e-10)
