"""Samples placed on the other side's manifold: when steps end."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
from diffeo import Observation
from diffeo.alignment.curved import placement
from diffeo.alignment.curved.registration import register

N = 600


def on_a_sphere(n, seed):
    s = np.random.default_rng(seed).normal(size=(n, 3))
    return s / np.linalg.norm(s, axis=1, keepdims=True)


def units(seed):
    """Measurements by seven random units tanh(w x + b), and their derivatives."""
    rng = np.random.default_rng(seed)
    weights, biases = 0.7 * rng.normal(size=(7, 3)), 0.5 * rng.normal(size=7)

    def measure(x):
        y = np.tanh(x @ weights.T + biases)
        return y, (1 - y**2)[:, :, None] * weights

    return measure


def sphere(measure, seed, radius=1.0):
    s = on_a_sphere(N, seed)
    y, jacobians = measure(s)
    tangents = np.linalg.svd(s[:, None, :])[2][:, 1:].transpose(0, 2, 1)
    return Observation.from_jacobians(y, jacobians @ tangents / radius)


def test_sides_that_no_isometry_joins_are_given_up_early(monkeypatch):
    """Spheres of which one is three times larger: steps could go on, and so could each round of placing anew."""
    a, b = sphere(units(4), 0), sphere(units(5), 1, radius=3.0)
    scrambled = np.random.default_rng(0).permutation(N)
    marks = tuple(units(seed)(on_a_sphere(4, 3))[0] for seed in (4, 5))
    found = register(a, b, scrambled, *marks, known_unit=True, n_jobs=1)
    assert found.stress > placement.HOPELESS_STRESS
    assert not found.converged
    monkeypatch.setattr(placement, "HOPELESS_STRESS", np.inf)
    patient = register(a, b, scrambled, *marks, known_unit=True, n_jobs=1)
    assert patient.stress > 0.05
    assert found.n_iter < 0.5 * patient.n_iter


def test_edges_without_length_are_caught_by_what_they_miss():
    edges = SimpleNamespace(
        i=np.array([0, 1, 2, 3]), j=np.array([1, 2, 3, 4]), lengths=np.array([0.0, 1.0, 1.0, 1.0]), median=1.0,
        edges=lambda places: (places.node,), misses=lambda lengths: np.array([0.0, 1e-3, 1e-3, 0.5]),
    )  # fmt: skip
    with np.errstate(all="raise"):
        caught = placement.Placement.caught(edges, SimpleNamespace(node=np.arange(5)))
    # Both ends of the last edge, and their neighbour.
    np.testing.assert_array_equal(caught, [False, False, True, True, True])
