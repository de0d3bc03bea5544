"""A sample of which no neighbour's tangent agrees: the linear fit divided by the spread of nothing, and overflowed."""

from __future__ import annotations

import numpy as np
from diffeo.observation.burst_smoothing import _linear_shares


def test_a_sample_alone_keeps_its_own_value():
    local = np.array([[[0.0, 0.0], [0.3, -0.2], [0.1, 0.5]], [[0.0, 0.0], [0.2, 0.1], [-0.2, -0.1]]])
    weights = np.array([[1.0, 0.0, 0.0], [1.0, 0.5, 0.5]])
    with np.errstate(all="raise"):
        shares = _linear_shares(local, weights)
    np.testing.assert_allclose(shares, [[1.0, 0.0, 0.0], [0.5, 0.25, 0.25]], atol=1e-7)
