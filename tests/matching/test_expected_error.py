"""What parts of a sample do not see of a map's error."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.matching.expected_error import past_the_ends


@pytest.mark.parametrize("n", [40, 200])
def test_inputs_beyond_the_ends_of_a_line_are_missed_by_as_much(n):
    rng, growth, found, expected = np.random.default_rng(n), 3.0, [], []
    for _ in range(4000):
        samples, new = np.sort(rng.random(n)), rng.random(200)
        beyond = np.maximum(samples[0] - new, 0.0) + np.maximum(new - samples[-1], 0.0)
        found.append(((growth * beyond**2) ** 2).mean())
        expected.append(past_the_ends(samples[:, None], np.full(n, growth), n).mean())
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.25)


def test_only_the_places_at_the_ends_are_told_of_it():
    places, growth = np.array([[0.4], [0.0], [1.0], [0.7]]), np.array([9.0, 1.0, 2.0, 9.0])
    found = past_the_ends(places, growth, 11)
    # Four places stand for all; the spacing is a tenth; at the ends 24 growth**2 spacing**4 in one case of twelve.
    assert found == pytest.approx([0.0, 4 / 12 * 24 * 1e-4, 4 / 12 * 24 * 4e-4, 0.0])
