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


def least_resident(seeds):
    """Over some rounds the least that was in use after one: what allocators hold back for a while comes and goes."""
    found = []
    for seed in seeds:
        fit(1500, seed)
        fail(1500)
        found.append(resident())
    return min(found)


def test_memory_does_not_grow(full):
    least_resident(range(5))  # caches of the libraries below
    before = least_resident(range(5))
    least_resident(range((FULL_FITS if full else FITS) - 5))
    after = least_resident(range(5))
    print(f"{before} bytes before, {after} after")
    assert after < 1.02 * before
