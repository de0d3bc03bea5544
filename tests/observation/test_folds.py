"""Near-folds: where a stretch vanishes, in any unit, and not where it is only small."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation
from diffeo.observation.folds import many_near_folds, near_folds, nearly_vanishing


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_fold_is_found_where_the_stretch_vanishes(unit):
    x = np.linspace(-1.0, 1.0, 401)
    points = unit * np.column_stack([x**2, np.arange(401) % 2])
    found = near_folds(
        Observation.from_jacobians(points, unit * np.column_stack([2.0 * x + 1e-4, 0.0 * x])[:, :, None], dim=1)
    )
    # The stretch is about 2 |x|, its median 1: below 1 % of that around the middle.
    np.testing.assert_array_equal(found, np.flatnonzero(np.abs(2.0 * x + 1e-4) < 0.01))


def test_a_steep_function_is_no_fold():
    assert len(nearly_vanishing(np.geomspace(0.02, 1.0, 100))) == 0


def test_one_of_a_thousand_is_not_many():
    assert not many_near_folds(1, 1000)
    assert many_near_folds(2, 1000)
