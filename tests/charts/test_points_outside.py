"""Charts, embeddings and diffusion maps at points, and coordinates, far from their samples."""

from __future__ import annotations

import functools

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.charts.cover import Cover
from support.hostile import asked, hostile
from support.samples import smooth_observation
from support.stored import matched

CHARTS = [("isometric", "isometric"), ("isometric", "diffusion"), ("circle", "isometric"), ("sphere", "diffusion")]


@functools.cache
def chart(kind, coordinates):
    return diffeo.embed(matched(kind).a.observation, coordinates=coordinates)


@pytest.mark.parametrize(("kind", "coordinates"), CHARTS)
def test_charts_are_finite_both_ways(kind, coordinates):
    found = chart(kind, coordinates)
    points = found.observation.points[found.observation.usable]
    values, warning = asked(found.transform, hostile(points, 1))
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 50.0 * np.abs(found.coordinates).max()
    assert len(warning.off_manifold)
    assert len(warning.no_counterpart) == 0
    values, warning = asked(found.inverse_transform, hostile(found.coordinates, 2))
    assert np.isfinite(values).all()
    assert len(warning.off_manifold)


def test_on_a_circle_no_place_is_outside():
    found = chart("circle", "isometric")
    away = np.array([[1e3], [-1e6], [1e15]]) * found.periods
    warning = asked(found.inverse_transform, away)[1]
    # Of the last one nobody knows where it is.
    assert warning.off_manifold.tolist() == [2]


@pytest.mark.parametrize(("kind", "coordinates"), CHARTS)
def test_own_coordinates_are_inside(kind, coordinates):
    found = chart(kind, coordinates)
    used = np.setdiff1d(np.arange(len(found)), found.left_out)
    assert asked(found.inverse_transform, found.coordinates[used])[1] is None


def test_coordinates_outside_are_listed():
    found = chart("isometric", "isometric")
    away = found.coordinates[[0, 0, 1]] + [[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]]
    for use in (found.inverse_transform, found.isometric().embedding.inverse_transform):
        warning = asked(use, away)[1]
        assert warning.off_manifold.tolist() == [1]
        assert str(warning).startswith(
            "1 of 3 points lie off the measured manifold or outside of the sampled domain (row 1)"
        )


def test_estimators_of_plain_arrays():
    x = np.random.default_rng(0).random((1000, 3))
    for fitted in (diffeo.DiffusionMap(n_components=3).fit(x), diffeo.IsometricEmbedding().fit(x)):
        queries = hostile(x, 4)
        values, warning = asked(fitted.transform, queries)
        assert np.isfinite(values).all()
        assert np.flatnonzero(np.abs(queries).max(axis=1) > 50.0).tolist() == [
            row for row in warning.off_manifold if np.abs(queries[row]).max() > 50.0
        ]
        with pytest.raises(errors.InputError):
            fitted.transform(np.full((2, 3), np.nan))


def test_an_observation_is_warned_of_once():
    fitted = diffeo.DiffusionMap(n_components=3).fit(smooth_observation(300, 2, 4, 1))
    new = smooth_observation(60, 2, 4, 1)
    points, whitening = new.points.copy(), new.whitening
    points[[5, 9]] += 50.0
    moved = diffeo.Observation(points, whitening, new.singular_values, 2, np.array([9, 20]), new.source)
    values, warning = asked(fitted.transform, moved)
    assert np.isfinite(values).all()
    assert warning.off_manifold.tolist() == [5, 9]


def test_a_cover_knows_its_neighbourhood():
    observation = smooth_observation(300, 2, 4, 1)
    cover = Cover(observation)
    assert not cover.outside(observation.points, 1).any()
    away = observation.points[:4] + np.array([0.0, 1.0, 1e150, 1e307])[:, None]
    assert cover.outside(away, 1).tolist() == [False, True, True, True]
    # A prediction off by some percent of the spread is not outside.
    spread = observation.points.std(axis=0)
    near = observation.points[:50] + 0.6 * spread
    assert cover.outside(near, 1).any()
    assert not cover.outside(near, 1, 0.8).any()
    assert cover.outside(observation.points[:50] + 5.0 * spread, 1, 0.8).all()
