"""The choice of epsilon: its target, its curve, and what has no bandwidth."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors, mahalanobis_kernel
from diffeo.diffusion.bandwidth import target_row_sum
from support.samples import mushroom, smooth_observation, square


@pytest.mark.filterwarnings("ignore::diffeo.errors.BandwidthWarning")
@pytest.mark.parametrize("n", [10, 30, 100, 400, 1500, 5000])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_automatic_epsilon_meets_its_target(n, dim):
    kernel = mahalanobis_kernel(smooth_observation(n, dim, dim + 2, seed=dim, bend=0.1))
    curve = kernel.curve
    # Uniform samples, whose borders alone are sparse, want no wider kernel.
    assert curve.target == target_row_sum(n, dim)
    assert np.all(np.diff(curve.epsilon) > 0)
    assert (
        len(curve.epsilon) == len(curve.row_sum) == len(curve.entries) == len(curve.gated_share) == len(curve.dimension)
    )
    assert kernel.epsilon in curve.epsilon
    median = np.median(kernel.matrix.sum(axis=1))
    # Probed on at most 512 rows, and met to half a percent there.
    assert abs(median / curve.target - 1) < (0.01 if n <= 512 else 0.08)
    np.testing.assert_allclose(curve.row_sum[curve.epsilon == kernel.epsilon], median, rtol=1e-12 if n <= 512 else 0.08)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_curve_sees_the_dimension(dim):
    kernel = mahalanobis_kernel(smooth_observation(5000, dim, dim + 2, seed=dim, bend=0.1))
    # Below the bandwidth the unit diagonal flattens the curve, above it the boundary does.
    at = np.argmin(np.abs(kernel.curve.epsilon - kernel.epsilon))
    assert abs(kernel.curve.dimension[at] - dim) < 0.2 * dim


def test_automatic_epsilon_scales_with_the_unit_of_the_input():
    y, jacobians = mushroom(square(800))
    unit = mahalanobis_kernel(Observation.from_jacobians(y, jacobians)).epsilon
    millimetres = mahalanobis_kernel(Observation.from_jacobians(y, jacobians / 1000)).epsilon
    np.testing.assert_allclose(millimetres, 1e6 * unit, rtol=0.02)


@pytest.mark.parametrize("n", [1500, 20_000])
def test_automatic_epsilon_takes_few_trials(n):
    curve = mahalanobis_kernel(smooth_observation(n, 2, 5, seed=1)).curve
    assert len(curve.epsilon) <= 8


def test_target_falls_for_large_samples():
    targets = [target_row_sum(n, 2) for n in (10, 100, 10_000, 200_000, 1_000_000, 10**8)]
    assert targets[0] < targets[1] < targets[2]
    np.testing.assert_allclose(targets[2:], [20, 20, 10, 10])


@pytest.mark.parametrize("points", [np.zeros((50, 2)), np.vstack([np.zeros((40, 2)), square(20)])])
def test_coincident_samples_have_no_bandwidth(points):
    with pytest.raises(errors.InputError, match="more than half of the samples coincide"):
        mahalanobis_kernel(points)
