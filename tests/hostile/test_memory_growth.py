"""Fits, and fits that fail, leave no memory behind."""

from __future__ import annotations

import gc
import resource

import diffeo
import numpy as np
import pytest
from diffeo import errors

FITS, FULL_FITS = 12, 200


def resident():
    """Bytes in use now, not at most; what the system tells only on Linux."""
    gc.collect()
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        pytest.skip("this system does not tell what memory is in use")


def fit(n, seed):
    x = np.random.default_rng(seed).random((n, 2))
    diffeo.DiffusionMap(n_components=3).fit(x)
    diffeo.IsometricEmbedding().fit(diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (n, 2, 2))))


def fail(n):
    with errors.unsaid(errors.DiffeoWarning), pytest.raises(errors.DiffeoError):
        diffeo.DiffusionMap(n_components=3).fit(np.zeros((n, 2)))


def test_memory_does_not_grow(full):
    for seed in range(5):  # caches of the libraries below
        fit(1500, seed)
        fail(1500)
    before = resident()
    for seed in range(FULL_FITS if full else FITS):
        fit(1500, seed)
        fail(1500)
    assert resident() < 1.02 * before
