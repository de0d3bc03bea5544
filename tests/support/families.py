"""Families of smooth networks of two inputs: some keep both, some know the first one alone; and what workers do in tests."""

from __future__ import annotations

import os

import numpy as np
from diffeo import Observation

HELD_OUT = 60


def smooth_network(seed, keeps_both):
    """Five measurements of one layer of random units, with their Jacobians by both inputs."""
    rng = np.random.default_rng(100 + seed)
    inputs = 2 if keeps_both else 1
    first, shift, second = rng.normal(size=(16, inputs)), rng.normal(size=16), rng.normal(size=(5, 16)) / 4.0

    def measure(x):
        units = np.tanh(x[:, :inputs] @ first.T + shift)
        jacobians = (second * (1.0 - units**2)[:, None]) @ first
        if not keeps_both:
            jacobians = np.concatenate([jacobians, np.zeros_like(jacobians)], axis=2)
        return units @ second.T, jacobians

    return measure


def smooth_family(kinds, n, n_landmarks=8, *, derivatives=False):
    """Observations, landmarks and held-out points by name; `kinds` says of each network whether it keeps both inputs."""
    rng = np.random.default_rng(0)
    marks, judges = rng.random((n_landmarks, 2)), rng.random((HELD_OUT, 2))
    observations, landmarks, held_out = {}, {}, {}
    for k, keeps_both in enumerate(kinds):
        name, measure = f"{'both' if keeps_both else 'first'}-{k}", smooth_network(k, keeps_both)
        observations[name] = Observation.from_jacobians(*measure(rng.random((n, 2))))
        landmarks[name] = measure(marks) if derivatives else measure(marks)[0]
        held_out[name] = measure(judges)[0]
    return observations, landmarks, held_out


def square_of(value):
    return value * value


def dies_of_three(value, folder):
    """Ends its process when it gets a three; and once, of a five, which is then remembered in a folder."""
    mark = os.path.join(folder, "five")
    if value == 5 and not os.path.exists(mark):
        with open(mark, "w", encoding="utf-8"):
            pass
        os._exit(3)
    if value == 3:
        os._exit(3)
    return value * value
