"""Charts around single samples where there is next to nothing to fit them by."""

from __future__ import annotations

import numpy as np
from diffeo import Observation
from diffeo.alignment.curved.atlas import atlas_of


def test_a_sample_without_neighbours_has_a_flat_chart():
    x = np.random.default_rng(3).random((300, 2))
    points, jacobians = np.pad(x, ((0, 0), (0, 2))), np.tile(np.eye(4, 2), (300, 1, 1))
    # No other sample has tangents like these.
    points[7], jacobians[7] = 9.0, np.eye(4)[:, 2:]
    charts = atlas_of(Observation.from_jacobians(points, jacobians), 1)
    node = np.flatnonzero(charts.rows == 7).repeat(3)
    u = np.array([[0.0, 0.0], [0.3, -0.2], [4.0, 700.0]])
    assert charts.radius[node[0]] < 1e-300
    np.testing.assert_array_equal(charts.measurements(node, u), 9.0 + u @ np.eye(4)[2:])
    np.testing.assert_array_equal(charts.derivatives(node, u), np.tile(np.eye(4)[:, 2:], (3, 1, 1)))
    np.testing.assert_array_equal(charts.inverse_metric(node, u), np.tile(np.eye(2), (3, 1, 1)))
    lengths, tangents = charts.geodesics(node, np.zeros((3, 2)), charts.measurements(node, u))
    np.testing.assert_allclose(lengths, np.linalg.norm(u, axis=1), rtol=1e-12)
    assert np.isfinite(tangents).all()
