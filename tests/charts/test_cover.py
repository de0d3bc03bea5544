"""What is predicted of a side is brought near to its samples, and left alone where it is near."""

from __future__ import annotations

import numpy as np
from diffeo import Observation
from diffeo.charts.cover import Cover
from support.samples import smooth_map, square

MEASURE = smooth_map(2, 4, 3)
COVER = Cover(Observation.from_jacobians(*MEASURE(square(400, seed=1))))


def test_places_among_samples_stay_bit_by_bit():
    points = MEASURE(square(50, seed=2))[0]
    assert COVER.brought_near(points, 1).tobytes() == points.tobytes()


def test_places_far_away_move_straight_to_the_nearest_sample_until_its_neighbours_are_as_far():
    samples, spread = COVER.observation.points, COVER.observation.points.std(axis=0)
    far = samples.mean(axis=0) + 20.0 * spread * np.array([[1.0, 1.0, -1.0, 1.0], [0.0, 0.0, 3.0, 0.0]])
    moved = COVER.brought_near(far, 1)
    lengths = np.linalg.norm((samples[None] - far[:, None]) / spread, axis=2)
    nearest, left = samples[lengths.argmin(axis=1)], lengths.min(axis=1)
    share = np.linalg.norm((moved - nearest) / spread, axis=1) / left
    assert (share < 0.05).all()
    np.testing.assert_allclose(moved, nearest + share[:, None] * (far - nearest), rtol=1e-9)


def test_numbers_whose_squares_overflow_are_brought_near():
    moved = COVER.brought_near(np.full((1, 4), 1e300), 1)
    assert np.isfinite(moved).all()
    assert np.abs(moved).max() < 2.0 * np.abs(COVER.observation.points).max()
