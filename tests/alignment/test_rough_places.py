"""Landmarks whose places are known roughly only are put where the others have them."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.alignment.rough_places import placed_by_others
from support.samples import random_orthogonal, square

NONE = np.empty(0, dtype=np.int64)


def both(d, count, scale=1.0, seed=0):
    a = square(count, d, seed)
    return a, scale * a @ random_orthogonal(1, d, seed + 1)[0] + 0.3


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize(("d", "count"), [(1, 3), (2, 3), (2, 6), (3, 4)])
def test_errors_of_rough_places_do_not_count(d, count, scale, side):
    true = both(d, count, scale)
    given = [x.copy() for x in true]
    given[side][1] += 0.01 / d
    rough = (NONE, np.array([1])) if side else (np.array([1]), NONE)
    for one in zip(placed_by_others(*given, rough, known_unit=scale == 1.0), true, strict=True):
        np.testing.assert_allclose(*one, atol=1e-12)


def test_what_the_others_do_not_tell_stays_unknown():
    a, b = both(2, 4)
    one, two = np.array([3]), np.array([2, 3])
    assert placed_by_others(a, b, (NONE, one), known_unit=True) is not None
    # Rough on both sides, too few others, others in one place.
    assert placed_by_others(a, b, (one, one), known_unit=True) is None
    assert placed_by_others(a[1:], b[1:], (NONE, two - 1), known_unit=True) is None
    assert placed_by_others(a[[0, 0, 3]], b[[0, 0, 3]], (NONE, np.array([2])), known_unit=True) is None
    # A place that contradicts the others, and one so near to their line that both sides of it are as likely.
    far = b + np.array([[0, 0], [0, 0], [0, 0], [0.5, 0.5]])
    assert placed_by_others(a, far, (NONE, one), known_unit=True) is None
    line = np.array([[0.0, 0.0], [1.0, 0.0], [0.4, 0.01]])
    assert placed_by_others(line, line * [1, 0], (NONE, np.array([2])), known_unit=True) is None
