"""Numbers at the ends of the doubles: a right result, or an error that names the samples; never a search without end."""

from __future__ import annotations

import warnings

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.diffusion import bandwidth
from support.samples import smooth_map, square

POINTS, JACOBIANS = smooth_map(2, 4, seed=1)(square(60, seed=0))


@pytest.fixture(autouse=True)
def _no_overflow():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@pytest.mark.parametrize("size", [1e-309, 1e-150, 1e-80, 1e80, 1e150, 1e200])
def test_covariances_out_of_all_proportion_are_refused(size):
    with pytest.raises(errors.InputError, match=r"60 of 60 samples .*proportion|barely depend|below dim|are zero"):
        diffeo.Observation.from_jacobians(POINTS, JACOBIANS * size, dim=2)


@pytest.mark.parametrize("size", [1e80, 1e150, 1e200, 1e300])
def test_one_wild_sample_is_named(size):
    jacobians = JACOBIANS.copy()
    jacobians[7] *= size
    with pytest.raises(errors.InputError, match=r"1 of 60 samples \(row 7\) are out of all proportion"):
        diffeo.Observation.from_jacobians(POINTS, jacobians, dim=2)


@pytest.mark.parametrize("power", [-400, -100, 100, 400])
def test_units_of_both_do_not_matter(power):
    unit = 2.0**power
    plain = diffeo.Observation.from_jacobians(POINTS, JACOBIANS, dim=2)
    scaled = diffeo.Observation.from_jacobians(POINTS * unit, JACOBIANS * unit, dim=2)
    np.testing.assert_allclose(scaled.singular_values, plain.singular_values * unit, rtol=1e-12)
    kernels = [diffeo.mahalanobis_kernel(one, epsilon=0.02).matrix.toarray() for one in (plain, scaled)]
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=1e-9)


@pytest.mark.parametrize("size", [1e-160, 1e154, 1e300])
def test_bursts_whose_squares_are_no_doubles_are_refused(size):
    bursts = POINTS[:, None] + np.random.default_rng(0).normal(size=(60, 9, 4))
    with pytest.raises(errors.InputError, match="rescale"):
        diffeo.Observation.from_bursts(POINTS, bursts * size, scale=1.0)
    with pytest.raises(errors.InputError, match="rescale"):
        diffeo.Observation.from_bursts(POINTS, bursts, scale=1e-309)


def test_a_search_for_a_bandwidth_ends(monkeypatch):
    observation = diffeo.Observation.from_jacobians(POINTS, JACOBIANS, dim=2)
    for guess in (1e-307, np.inf):
        monkeypatch.setattr(bandwidth, "_guess_epsilon", lambda *_, guess=guess: guess)
        monkeypatch.setattr(bandwidth, "target_row_sum", lambda *_: 1e9)
        with pytest.raises(errors.InputError, match="no bandwidth"):
            diffeo.mahalanobis_kernel(observation)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e154, 1.7e308])
def test_relative_errors_at_every_size(size):
    x = square(40, seed=2)
    expected = diffeo.relative_error(0.9 * x, x)
    assert diffeo.relative_error(0.9 * x * size, x * size) == pytest.approx(expected, rel=1e-9)


def test_a_relative_error_that_is_no_double_is_refused():
    x = square(40, seed=2)
    with pytest.raises(errors.InputError, match="units"):
        diffeo.relative_error(1e300 * x, 1e-300 * x)


@pytest.mark.parametrize("size", [1e-160, 1e154, 1e300])
def test_pairs_whose_squares_are_no_doubles_are_refused(size):
    x = square(60, seed=2)
    with pytest.raises(errors.InputError, match="rescale"):
        diffeo.match_pairs(diffeo.Pairs(x * size, x))
