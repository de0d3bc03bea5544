"""Landmarks with noise of their own: as points no worse than as rows, better the more there are, and named as noisy."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, embed, load, match, relative_error
from diffeo.charts.coordinates import Marks
from diffeo.charts.noisy_marks import mark_noise
from diffeo.matching.landmark_correction import learn_correction
from support.samples import smooth_map, square

MAPS = smooth_map(2, 12, 0), smooth_map(2, 12, 1)
SPREADS = [float(f(square(2000, 2, 3))[0].std(axis=0).mean()) for f in MAPS]
MOST = 100


def noisy(points, side, level, rng):
    return points + level * SPREADS[side] * rng.normal(size=points.shape)


@pytest.fixture(scope="module")
def clean():
    """Charts of both sides without noise."""
    return [embed(Observation.from_jacobians(*f(square(800, 2, side)))) for side, f in enumerate(MAPS)]


@pytest.fixture(scope="module")
def blurred():
    """Charts of samples noisy by 1 %, whose first rows are of common inputs, and these inputs."""
    rng, marks = np.random.default_rng(0), square(MOST, 2, 5)
    charts = []
    for side, f in enumerate(MAPS):
        points, jacobians = f(np.vstack([marks, square(1200, 2, 6 + side)]))
        charts.append(embed(Observation.from_jacobians(noisy(points, side, 0.01, rng), jacobians)))
    return charts, marks


def error(found):
    new = 0.02 + 0.96 * square(300, 2, 11)
    return relative_error(found.transform(MAPS[0](new)[0]), MAPS[1](new)[0])


@pytest.mark.parametrize("count", [3, 30, MOST])
def test_as_points_no_worse_than_as_rows(blurred, count):
    charts, marks = blurred
    as_points, as_rows = [], []
    for start in range(0, MOST - count + 1, 10)[:4]:
        rows = np.arange(start, start + count)
        rng = np.random.default_rng(start)
        pairs = tuple(noisy(f(marks[rows])[0], side, 0.01, rng) for side, f in enumerate(MAPS))
        as_points.append(error(match(*charts, landmarks=pairs, check=False)))
        as_rows.append(error(match(*charts, landmarks=np.column_stack([rows, rows]), check=False)))
    assert np.median(as_points) <= 1.5 * np.median(as_rows)


def test_noise_of_inputs_is_averaged(clean):
    errors = {}
    for count in (10, MOST):
        found = []
        for draw in range(4):
            x, rng = square(count, 2, 20 + draw), np.random.default_rng(draw)
            pairs = noisy(MAPS[0](x)[0], 0, 0.05, rng), MAPS[1](x)[0]
            found.append(error(match(*clean, landmarks=pairs, check=False)))
        errors[count] = float(np.sqrt(np.mean(np.square(found))))
    assert errors[MOST] < 0.01
    assert errors[MOST] < 2.0 * errors[10] * np.sqrt(10 / MOST)


def test_noise_is_told_by_what_lies_off_the_manifold(clean):
    x, rng = square(40, 2, 7), np.random.default_rng(1)
    chart, truth = clean[0].isometric(), MAPS[0](x)[0]
    at = chart.place(truth, 1).values
    assert mark_noise(chart, Marks(truth), at, 1).deviation == 0.0
    seen = noisy(truth, 0, 0.03, rng)
    placed = chart.place(seen, 1).values
    found = mark_noise(chart, Marks(seen), placed, 1)
    assert found.deviation == pytest.approx(0.03 * SPREADS[0], rel=0.1)
    missed = ((placed - at) ** 2).sum()
    assert 0.5 < missed / np.trace(found.covariances, axis1=1, axis2=2).sum() < 2.0


def test_messages_name_noise_where_noise_is_the_cause(clean):
    x, rng = square(20, 2, 8), np.random.default_rng(2)
    pairs = tuple(noisy(f(x)[0], side, 0.06, rng) for side, f in enumerate(MAPS))
    found = match(*clean, landmarks=pairs, check=False)
    assert not found.forward.learned
    assert any("landmarks are noisy" in text for text in found.diagnostics.problems)
    assert not any("no rigid motion" in text or "too few landmarks" in text for text in found.diagnostics.problems)


def test_what_is_not_noise_is_learned_all_the_same(clean):
    """A side with another metric has no motion to the other: the landmarks carry the map, noisy as they are."""
    x, rng = square(80, 2, 9), np.random.default_rng(3)
    bent = np.array([1.0, 0.8])
    points, jacobians = MAPS[1](square(800, 2, 4))
    other = embed(Observation.from_jacobians(points, jacobians * bent))
    pairs = tuple(noisy(f(x)[0], side, 0.01, rng) for side, f in enumerate(MAPS))
    found = match(clean[0], other, landmarks=pairs, check=False, coordinates="isometric")
    assert found.forward.learned
    assert error(found) < 0.02


def test_known_noise_is_no_error_of_a_prediction(tmp_path, clean):
    x, rng = square(60, 2, 10), np.random.default_rng(4)
    a, b = (f(x)[0] for f in MAPS)
    level = 0.02 * SPREADS[1]
    values = b + level * rng.normal(size=b.shape)
    off = b + 0.03 * np.sin(9.0 * x[:, :1])
    told, not_told = (learn_correction(a, x, values, off, noise=noise) for noise in (np.full(12, level**2), None))
    assert told.error < 0.5 * not_told.error
    assert (told.known > 0.0).any()
    assert not not_told.known.any()
    bent = MAPS[1](square(800, 2, 4))
    other = embed(Observation.from_jacobians(bent[0], bent[1] * np.array([1.0, 0.8])))
    pairs = (a + 0.01 * SPREADS[0] * rng.normal(size=a.shape), values)
    found = match(clean[0], other, landmarks=pairs, check=False, coordinates="isometric")
    assert found.forward.known.any()
    found.save(tmp_path / "t.safetensors")
    assert load(tmp_path / "t.safetensors").transform(a).tobytes() == found.transform(a).tobytes()
