"""A landmark in a gap of a side's samples, of no more than there must be, is placed by the others, and said."""

from __future__ import annotations

import functools

import diffeo
import numpy as np
import pytest
from diffeo import errors
from support.pairs import maps, observations

MARKS = np.array([[0.2, 0.2], [0.8, 0.3], [0.4, 0.8]])


@functools.cache
def pair():
    return observations(n=600)


def landmarks(away):
    """Three, the last of which lies off B's manifold by this."""
    a, b = (f(MARKS)[0] for f in maps())
    normal = np.linalg.svd(maps()[1](MARKS[2:])[1][0])[0][:, -1]
    b[2] += away * normal
    return a, b


def error(t):
    x = np.random.default_rng(7).random((200, 2)) * 0.9 + 0.05
    a, b = (f(x)[0] for f in maps())
    return diffeo.relative_error(t.transform(a), b)


def test_the_others_place_a_landmark_off_the_manifold():
    right = diffeo.match(*pair(), landmarks=landmarks(0.0), check=False)
    assert right.diagnostics.problems == []
    t = diffeo.match(*pair(), landmarks=landmarks(0.1), check=False)
    (said,) = t.diagnostics.problems
    assert "1 of 3 landmarks (row 2) lie off B's" in said
    assert "suggest_inputs" in said
    assert error(t) < 3.0 * error(right) + 1e-4


def test_one_that_contradicts_the_others_is_refused():
    a, b = landmarks(0.0)
    b[2] = maps()[1](np.array([[0.9, 0.9]]))[0][0] + 0.1 * (b[2] - b[0])
    with pytest.raises(errors.LandmarkError, match="side B: 1 of 3 points lie off"):
        diffeo.match(*pair(), landmarks=(a, b), check=False)
