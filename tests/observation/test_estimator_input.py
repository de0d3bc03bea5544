"""The input of both estimators: observations, arrays and tensors, and what is refused alike."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, IsometricEmbedding, errors
from diffeo.observation.estimator_input import checked_input
from support.samples import smooth_observation, square

ESTIMATORS = [DiffusionMap, IsometricEmbedding]


@pytest.fixture(params=ESTIMATORS)
def estimator(request):
    return request.param()


def test_observations_pass_and_leave_their_number_of_measurements(estimator):
    observation = smooth_observation(50, 2, 5)
    estimator.feature_names_in_ = np.array(["of", "an", "earlier", "fit"])
    assert checked_input(estimator, observation, reset=True) is observation
    assert estimator.n_features_in_ == 5
    assert not hasattr(estimator, "feature_names_in_")
    assert checked_input(estimator, observation, reset=False) is observation
    with pytest.raises(errors.ShapeError, match="has 4 measurements, the fit had 5"):
        checked_input(estimator, smooth_observation(50, 2, 4), reset=False)
    assert estimator.n_features_in_ == 5


@pytest.mark.parametrize("kind", ["list", "float32", "fortran", "torch"])
def test_arrays_become_checked_float64(estimator, kind):
    x = np.round(square(20, 3), 3)
    given = {
        "list": x.tolist,
        "float32": lambda: x.astype(np.float32),
        "fortran": lambda: np.asfortranarray(x),
        "torch": lambda: pytest.importorskip("torch").tensor(x, requires_grad=True),
    }[kind]()
    found = checked_input(estimator, given, reset=True)
    assert found.dtype == np.float64
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, x, rtol=1e-6)
    assert estimator.n_features_in_ == 3


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.full((5, 2), np.nan), errors.InputError),
        (np.zeros(5), errors.InputError),
        (np.zeros((1, 2)), errors.InputError),
        (np.zeros((5, 2), dtype=complex), errors.InputError),
        ({"a": 1}, errors.DiffeoError),
    ],
)
def test_what_is_refused(estimator, data, error):
    with pytest.raises(error):
        checked_input(estimator, data, reset=True)


def test_one_sample_can_be_transformed_but_not_fitted(estimator):
    checked_input(estimator, square(5), reset=True)
    assert checked_input(estimator, square(1), reset=False).shape == (1, 2)
    with pytest.raises(errors.InputError, match="3 features"):
        checked_input(estimator, square(5, 3), reset=False)
