"""Finite queries that no sample is near: at every scale that numbers have, alone and among others."""

from __future__ import annotations

import warnings

import numpy as np
from diffeo import errors

# Powers of ten: times the extent of the samples up to 1e100, and in themselves beyond.
POWERS = (-3, -1, 0, 1, 2, 3, 5, 8, 20, 60, 99, 101, 120, 149, 151, 153, 155, 170, 220, 290, 299, 301, 305, 307)
LARGEST, TINY = np.finfo(float).max, 5e-324


def hostile(samples, seed, each=4):
    """Queries (count, m) for samples (n, m)."""
    rng, m = np.random.default_rng(seed), samples.shape[1]
    centre, extent = samples.mean(axis=0), samples.std(axis=0).max()
    found = []
    for power in POWERS:
        way = rng.normal(size=(each, m))
        way /= np.abs(way).max(axis=1)[:, None]
        found.append(centre + extent * way * 10.0**power if power < 100 else way * 10.0**power)
    single = np.where(np.eye(m, dtype=bool), 1.0, 0.0)
    found += [single * LARGEST, -single * 1e200, samples[:1] + single * 1e154]
    found += [np.full((1, m), value) for value in (0.0, TINY, -TINY, 1e-300, LARGEST, -LARGEST)]
    found.append(samples[:4] * (1.0 + 1e-15) + TINY)
    return np.concatenate(found)


def asked(use, queries):
    """What a call gives, and the one warning that it may give (None for none)."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values = use(queries)
    assert len(caught) <= 1, [str(one.message) for one in caught]
    if caught:
        assert caught[0].category is errors.OutOfDomainWarning, caught[0]
    return values, caught[0].message if caught else None
