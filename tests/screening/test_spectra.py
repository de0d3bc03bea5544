"""Spectra and densities of two samples, and how far the halves of one are apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation, errors, mahalanobis_kernel
from diffeo.screening import spectra
from diffeo.screening.spectra import SPLITS, compare_fingerprints, fingerprint
from support.domains import seen
from support.samples import smooth_map, square


def flat(n, seed=0, size=(1.0, 1.0)):
    x = square(n, len(size), seed) * size
    return Observation.from_jacobians(*smooth_map(len(size), 5, seed)(x))


def compared(a, b, **arguments):
    return compare_fingerprints(a, b, **({"n_eigenvalues": 6, "seed_value": 0, "n_jobs": None} | arguments))


def test_a_fingerprint_is_the_spectrum_and_the_row_sums():
    obs = flat(500)
    found = fingerprint(obs, 0.004, 6)
    fitted = DiffusionMap(n_components=6, epsilon=0.004).fit(obs)
    expected = fitted.generator_eigenvalues_[1:]
    np.testing.assert_allclose(found.spectrum, np.log(expected), rtol=1e-4)
    np.testing.assert_allclose(found.errors, fitted.generator_errors_[1:] / expected, rtol=1e-2)
    sums = mahalanobis_kernel(obs, epsilon=0.004).matrix.sum(axis=1)
    np.testing.assert_allclose(found.density, np.quantile(np.log(sums), spectra.LEVELS), rtol=1e-12)


def test_halves_calibrate_means_of_anything():
    """Means of correlated vectors: distances are 1 in the root mean square, and p-values as rare as they say."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6)) * [3.0, 1.0, 1.0, 0.3, 0.3, 0.1]
    found = []
    for _ in range(400):
        sides = []
        for _ in "ab":
            sample = rng.normal(size=(100, 6)) @ mixing.T
            values = [sample.mean(axis=0)]
            for _ in range(SPLITS):
                order = rng.permutation(100)
                values += [sample[order[:50]].mean(axis=0), sample[order[50:]].mean(axis=0)]
            sides.append(values)
        found.append(spectra._comparison(sides))
    assert np.sqrt(np.mean([one.distance**2 for one in found])) == pytest.approx(1.0, abs=0.1)
    p_values = np.array([one.p_value for one in found])
    # Three standard errors of 400 draws.
    assert abs((p_values < 0.05).mean() - 0.05) < 0.033
    assert (p_values < 0.01).mean() < 0.025
    assert 0.35 < np.median(p_values) < 0.65


def test_two_samples_of_one_domain_are_alike():
    found = compared(flat(800), flat(800, seed=1))
    assert 0.2 < found.spectra.distance < 2.0
    assert found.spectra.p_value > 0.01
    assert found.densities.p_value > 0.01
    assert found.scale == pytest.approx(1.0, abs=0.05)
    assert found.epsilon[0] == found.epsilon[1]
    assert found.spectra.halves[0].shape == (SPLITS, 2, 6)
    a, b = found.spectra.values
    assert found.spectra.difference == pytest.approx(np.sqrt(((a - b) ** 2).mean()))


def test_the_longer_domain_has_the_smaller_eigenvalues():
    found = compared(flat(800), flat(800, seed=1, size=(1.3, 1.3)))
    assert found.spectra.p_value < 1e-4
    assert found.scale == pytest.approx(1.3, abs=0.05)
    # But for the unit they are one shape.
    assert found.shapes.p_value > 0.01
    np.testing.assert_allclose([values.mean() for values in found.shapes.values], 0.0, atol=1e-12)


def test_another_shape_is_told_apart_whatever_the_unit():
    found = compared(flat(800), flat(800, seed=1, size=(1.3, 1 / 1.3)))
    assert found.shapes.p_value < 1e-3
    unknown = [
        replace(flat(800, seed, size), known_unit=False) for seed, size in ((0, (1.0, 1.0)), (1, (2.6, 2 / 1.3)))
    ]
    assert compared(*unknown).spectra.p_value < 1e-3
    same = replace(flat(600, 1, (2.0, 2.0)), known_unit=False)
    assert compared(unknown[0], same).spectra.p_value > 0.01


def test_density_is_seen_and_does_not_disturb_the_spectrum():
    x = square(1200, 2, 1)
    x[:, 0] = 0.25 * np.sqrt(1.0 + 24.0 * x[:, 0]) - 0.25
    found = compared(flat(1200), Observation.from_jacobians(*smooth_map(2, 5, 1)(x)))
    assert found.densities.p_value < 1e-3
    assert found.spectra.p_value > 0.01


def test_equally_many_samples_of_both_sides():
    assert compared(flat(300), flat(700, seed=1)).n_samples == 300


def test_dimensions_that_differ_have_bandwidths_of_their_own():
    x = square(400, 1, 0)
    found = compared(seen(x, np.ones((400, 1, 1)), 5), flat(400))
    assert found.epsilon[0] < 0.2 * found.epsilon[1]
    assert found.spectra.p_value < 1e-6


def test_threads_change_nothing():
    sides = flat(300), flat(300, seed=1)
    one, two = (compared(*sides, n_jobs=count) for count in (1, 2))
    np.testing.assert_array_equal(one.spectra.values, two.spectra.values)
    np.testing.assert_array_equal(one.densities.halves, two.densities.halves)
    assert one.spectra.p_value == two.spectra.p_value
    assert compared(*sides, seed_value=1).spectra.p_value != one.spectra.p_value


@pytest.mark.filterwarnings("ignore::diffeo.errors.DisconnectedWarning")
def test_a_few_strays_are_left_out_and_pieces_refused():
    x = square(600, 2, 0)
    stray = x.copy()
    stray[:4] += 30.0
    identity = np.broadcast_to(np.eye(2), (600, 2, 2))
    found = fingerprint(Observation.from_jacobians(stray, identity), 0.003, 4)
    assert found.spectrum[0] > np.log(5.0)
    broken = x + 30.0 * (np.arange(600)[:, None] % 2)
    with pytest.raises(errors.DisconnectedError, match="pieces of 300, 300"):
        fingerprint(Observation.from_jacobians(broken, identity), 0.003, 4)


def test_too_few_samples():
    with pytest.raises(errors.SampleSizeError, match="need 96"):
        compared(flat(95), flat(300, seed=1))


def test_samples_drawn_otherwise_are_compared_with_the_errors_of_their_spectra():
    x = square(1200, 2, 1)
    x[:, 0] = 0.25 * np.sqrt(1.0 + 24.0 * x[:, 0]) - 0.25
    a, b = flat(1200), Observation.from_jacobians(*smooth_map(2, 5, 1)(x))
    found = compared(a, b)
    apart = np.subtract(*found.spectra.values)
    halves = np.concatenate([side[:, 0] - side[:, 1] for side in found.spectra.halves]) / np.sqrt(2.0)
    alone = np.sqrt(((apart / np.sqrt((halves**2).mean(axis=0))) ** 2).mean())
    assert found.densities.p_value < spectra.DRAWN_ALIKE
    assert found.spectra.distance < alone
