"""Samples that are dense in a part of their domain, as after a refinement, are aligned and screened like even ones."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation
from diffeo.alignment.evening import evened
from support.samples import smooth_map


def rectangle(n, seed):
    return np.random.default_rng(seed).random((n, 2)) * [1.0, 0.7]


def crowded(n, more, seed):
    """Uniform samples, and as many more in a band."""
    band = rectangle(more, seed + 1) * [0.15, 1.0] + [0.3, 0.0]
    return np.concatenate([rectangle(n, seed), band])


def test_an_even_sample_is_left_of_an_uneven_one():
    x = crowded(1500, 1500, 0)
    kept = x[evened(x, np.random.default_rng(0))]
    inside = abs(kept[:, 0] - 0.375) < 0.075
    assert 0.8 < inside.mean() / 0.15 < 1.3
    assert len(kept) > 1000


@pytest.fixture(scope="module")
def sides():
    net_a, net_b = smooth_map(2, 5, 3), smooth_map(2, 5, 4)
    return Observation.from_jacobians(*net_a(crowded(700, 700, 0))), Observation.from_jacobians(
        *net_b(rectangle(1000, 5))
    )


def test_uneven_samples_are_matched_without_landmarks(sides):
    matched = diffeo.match(*sides, check=False)
    # A rectangle is the same mirrored at both of its axes.
    assert len(matched.candidates) == 4
    x = 0.02 + 0.96 * rectangle(200, 9)
    at_a, at_b = smooth_map(2, 5, 3)(x)[0], smooth_map(2, 5, 4)(x)[0]
    errors = [diffeo.relative_error(matched.by_candidate(k).transform(at_a), at_b) for k in range(4)]
    assert min(errors) < 0.02


def test_uneven_samples_do_not_speak_against_one_domain(sides):
    found = diffeo.screen(*sides)
    assert found.differences == []
    assert any("not drawn alike" in text for text in found.problems)
