"""`match` on arguments that it refuses, and on samples that do not suffice."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from diffeo import Observation, errors, match
from support.domains import closed
from support.pairs import THREE, at, maps, observations
from support.samples import smooth_map, square

A, B = at(maps(), THREE)
CURVE = Observation.from_jacobians(*smooth_map(1, 3)(square(200, 1)))


@pytest.mark.parametrize(
    ("landmarks", "error", "message"),
    [
        ([[0, 0], [1, 1], [2, 600]], errors.LandmarkError, r"outside of \[0, 600\)"),
        ([[0, 0], [1, 1], [-1, 2]], errors.LandmarkError, r"outside of \[0, 600\)"),
        (A, errors.LandmarkError, "expected"),
        ("first.csv", errors.LandmarkError, "expected"),
        ((A + 100.0, B), errors.LandmarkError, "landmarks on side A: 3 of 3 points lie off"),
        ((A, B + 100.0), errors.LandmarkError, "landmarks on side B: 3 of 3 points lie off"),
        ((A, B[:2]), errors.ShapeError, r"landmarks\[1\]"),
        ((A[:, :4], B), errors.ShapeError, r"landmarks\[0\]"),
        ((B, A), errors.ShapeError, r"landmarks\[0\]"),
        ((A * np.nan, B), errors.NonFiniteError, r"landmarks\[0\] holds NaN"),
        ((A, B + 0j), errors.DataTypeError, r"landmarks\[1\] has dtype complex"),
        (np.zeros((3, 2)), errors.DataTypeError, "integers are needed"),
        (np.zeros((3, 2), bool), errors.DataTypeError, "integers are needed"),
        ([[1, 2], [3]], errors.DiffeoError, "landmarks"),
    ],
)
def test_landmarks_that_do_not_do(landmarks, error, message):
    with pytest.raises(error, match=message):
        match(*observations(0, 600), landmarks=landmarks, coordinates="isometric")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coordinates": "pca"}, errors.ParameterError, "coordinates must be"),
        ({"coordinates": None}, errors.ParameterError, "coordinates must be"),
        ({"observables": A}, errors.ParameterError, "observables must be a pair"),
        ({"observables": (A, B)}, errors.ShapeError, r"observables\[0\] has shape \(3, 5\)"),
        ({"random_state": "x"}, errors.ParameterError, "random_state"),
        ({"n_jobs": 0}, errors.ParameterError, "n_jobs"),
        ({"obs_a": CURVE}, errors.DimensionMismatchError, "A has intrinsic dimension 1, B has 2"),
        (
            {"obs_b": CURVE, "coordinates": "diffusion"},
            errors.DimensionMismatchError,
            "diffusion coordinates cannot join",
        ),
        ({"obs_a": A}, errors.DataTypeError, "obs_a must be a diffeo.Observation or a diffeo.Chart, not ndarray"),
        ({"obs_b": None}, errors.DataTypeError, "obs_b must be a diffeo.Observation or a diffeo.Chart, not NoneType"),
    ],
)
def test_arguments_that_do_not_do(options, error, message):
    pair = dict(zip(("obs_a", "obs_b"), observations(0, 600), strict=True))
    with pytest.raises(error, match=message):
        match(**{**pair, "landmarks": (A, B), **options})


def test_too_few_samples_for_diffusion_coordinates():
    with pytest.raises(errors.SampleSizeError, match="observation A has 9 samples"):
        match(*observations(0, 9), landmarks=[[0, 0], [1, 1], [2, 2]], coordinates="diffusion")


def test_nothing_is_nan_even_where_the_match_is_poor():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.DiffeoWarning)
        found = match(*observations(0, 60), landmarks=[[0, 0], [1, 1], [2, 2], [3, 3]], coordinates="isometric")
        y = at(maps(), square(200, seed=3) * 4.0 - 2.0)
        for values in (found.transform(y[0]), found.inverse_transform(y[1]), found.intrinsic(y[0])):
            assert np.isfinite(values).all()
    assert len(found.diagnostics.problems) > 0


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("cylinder", "circle", "A has 1 period and B has 1 period"),
        ("cylinder", "curve", "A has 1 period: maps"),
        ("square", "circle", "B has 1 period: maps"),
    ],
)
def test_closed_domains_are_not_projected(a, b, message):
    sides = {
        "cylinder": lambda: closed(600, [[2.0, 0.0]], 0.6)[1],
        "circle": lambda: closed(300, [[2.0]], m=5)[1],
        "square": lambda: observations(0, 600)[0],
        "curve": lambda: CURVE,
    }
    rows = np.column_stack([np.arange(0, 60, 10)] * 2)
    for coordinates in ("auto", "isometric"):
        with pytest.raises(errors.DomainMismatchError, match=message):
            match(sides[a](), sides[b](), landmarks=rows, coordinates=coordinates)
