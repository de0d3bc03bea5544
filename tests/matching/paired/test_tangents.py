"""Frames from derivatives, and from neighbours."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.matching.paired.tangents import estimated_jacobians, tangents_of
from support.paired import smooth_pairs
from support.samples import random_orthogonal


def test_frames_put_the_derivatives_together_again():
    jacobians = np.random.default_rng(0).normal(size=(20, 6, 3))
    found = tangents_of(jacobians, 3)
    again = np.einsum("nrd,nd,npd->nrp", found.frames, found.stretches, found.inputs)
    assert np.allclose(again, jacobians)
    flat = tangents_of(np.zeros((5, 4, 2)), 2)
    assert (flat.stretches > 0).all()


def test_slopes_from_neighbours_are_of_first_order():
    gaps = []
    for n in (400, 1600):
        pairs, *_ = smooth_pairs(n)
        tangents, slopes = estimated_jacobians(*pairs.points)
        assert tangents.shape == (n, 5, 2)
        assert slopes.shape == (n, 6, 2)
        # dy_B along A's tangents, by the exact derivatives.
        exact = np.einsum("nvp,npm,nmd->nvd", pairs.jacobians_b, np.linalg.pinv(pairs.jacobians_a), tangents)
        gaps.append(np.median(np.linalg.norm(slopes - exact, axis=(1, 2)) / np.linalg.norm(exact, axis=(1, 2))))
    assert gaps[0] < 0.1
    assert gaps[1] < 0.65 * gaps[0]


def test_the_dimension_is_counted_and_does_not_depend_on_the_frame():
    pairs, *_ = smooth_pairs(300, dim=3, widths=(6, 5))
    turned = pairs.points_a @ random_orthogonal(1, 6, 3)[0]
    assert estimated_jacobians(turned, pairs.points_b)[0].shape == (300, 6, 3)


def test_too_few_neighbours_are_an_error():
    with pytest.raises(errors.SampleSizeError, match="too few to estimate slopes"):
        estimated_jacobians(np.random.default_rng(0).normal(size=(3, 6)), np.zeros((3, 2)))
