"""Inputs joined from derivatives alone: where they lie, up to a shift; nothing where steps do not fit together."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation
from diffeo.verdict.common.joined_inputs import inputs_joined
from support.samples import smooth_map, square


@pytest.mark.parametrize(("dim", "n", "most"), [(1, 60, 1e-3), (2, 200, 5e-3), (3, 400, 2e-2)])
def test_inputs_are_had_back_up_to_a_shift(dim, n, most):
    x = square(n, dim, 3)
    points, jacobians = smooth_map(dim, 6, 4)(x)
    found = inputs_joined(Observation.from_jacobians(points, jacobians), points, jacobians)
    assert found.shape == x.shape
    assert np.abs((found - found.mean(axis=0)) - (x - x.mean(axis=0))).max() < most


def test_a_rotation_of_its_own_at_each_input_gives_nothing():
    x = square(200, 2, 3)
    points, jacobians = smooth_map(2, 6, 4)(x)
    turns = np.linalg.qr(np.random.default_rng(0).normal(size=(200, 2, 2)))[0]
    own = jacobians @ turns
    assert inputs_joined(Observation.from_jacobians(points, own), points, own) is None


def test_inputs_in_two_pieces_give_nothing():
    x = np.concatenate([square(60, 2, 3), 50.0 + square(60, 2, 4)])
    jacobians = np.tile(np.array([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), (120, 1, 1))
    points = np.einsum("nmd,nd->nm", jacobians, x)
    assert inputs_joined(Observation.from_jacobians(points, jacobians), points, jacobians) is None
