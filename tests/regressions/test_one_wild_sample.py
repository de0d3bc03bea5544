"""One wild sample among many made shuffled pairs equivalent: errors were measured by the spread of all samples."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from support.samples import smooth_map, square

MAPS = smooth_map(2, 5, 0), smooth_map(2, 4, 9)
LANDMARKS, HELD_OUT = square(30, 2, 7), square(150, 2, 8)


@pytest.fixture(scope="module")
def transformation():
    sides = []
    for seed, measure in enumerate(MAPS):
        points, jacobians = measure(square(700, 2, seed))
        points[17] += 1e5
        sides.append(diffeo.Observation.from_jacobians(points, jacobians))
    return diffeo.match(*sides, landmarks=tuple(measure(LANDMARKS)[0] for measure in MAPS), n_jobs=1)


def test_shuffled_pairs_are_not_equivalent(transformation):
    a, b = (measure(HELD_OUT)[0] for measure in MAPS)
    report = diffeo.assess(transformation, (a, np.roll(b, 1, axis=0)), baselines=False)
    assert report.verdict == "undetermined"
    assert min(report.forward.lower, report.backward.lower) > 1.0
    assert "same order" in report.would_decide[0]


def test_nor_with_wild_pairs_that_are_right(transformation):
    a, b = (measure(HELD_OUT)[0] for measure in MAPS)
    b = np.roll(b, 1, axis=0)
    a[0], b[0] = (side.observation.points[17] for side in (transformation.a, transformation.b))
    assert diffeo.assess(transformation, (a, b), baselines=False).verdict == "undetermined"


def test_right_pairs_still_are(transformation):
    pairs = tuple(measure(HELD_OUT)[0] for measure in MAPS)
    assert diffeo.assess(transformation, pairs, baselines=False).verdict == "equivalent"
