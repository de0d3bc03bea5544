"""Points far off, and partners outside of the other side's samples: finite results, and one warning that lists the rows."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from support.hostile import asked, hostile
from support.samples import smooth_map, square
from support.stored import MAPS, at, matched, new_inputs, sphere

CANDIDATES = [*MAPS, "other candidate"]


@functools.cache
def kept(kind):
    """A map of this kind, or one that was saved and loaded."""
    if kind == "other candidate":
        return matched("candidates").by_candidate(1)
    if kind.startswith("stored "):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "map.safetensors"
            matched(kind.removeprefix("stored ")).save(path)
            return diffeo.load(path)
    return matched(kind)


def ways(t):
    """Each use of a map, samples of the side that is asked, and of what it answers with."""
    a, b = t.a.observation.points, t.b.observation.points
    found = [("transform", t.transform, a, b), ("intrinsic", t.intrinsic, a, t.b.coordinates)]
    return [*found, ("inverse", t.inverse_transform, b, a)] if t.invertible else found


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", [*CANDIDATES, *(f"stored {kind}" for kind in MAPS)])
def test_far_points_have_finite_results_and_one_warning(kind, seed):
    for name, use, samples, answers in ways(kept(kind)):
        queries = hostile(samples, seed)
        values, warning = asked(use, queries)
        assert np.isfinite(values).all(), name
        # No answer is far from what the other side measures.
        spread = np.linalg.norm(answers - answers.mean(axis=0), axis=1).max()
        assert np.linalg.norm(values - answers.mean(axis=0), axis=1).max() < 50.0 * spread, name
        far = np.flatnonzero(np.abs(queries - samples.mean(axis=0)).max(axis=1) > 30.0 * np.ptp(samples, axis=0).max())
        assert np.isin(far, warning.rows).all(), name
        assert np.intersect1d(warning.off_manifold, warning.no_counterpart).size == 0
        assert (np.diff(warning.rows) > 0).all()


@pytest.mark.parametrize("kind", CANDIDATES)
def test_rows_do_not_depend_on_the_others(kind):
    for name, use, samples, _ in ways(kept(kind)):
        queries = hostile(samples, 2, each=1)
        order = np.random.default_rng(0).permutation(len(queries))
        (values, warning), (moved, again) = asked(use, queries), asked(use, queries[order])
        assert np.sort(order[again.off_manifold]).tolist() == warning.off_manifold.tolist(), name
        assert np.sort(order[again.no_counterpart]).tolist() == warning.no_counterpart.tolist(), name
        np.testing.assert_allclose(moved, values[order], rtol=1e-6, atol=1e-6 * np.abs(values).max())


@pytest.mark.parametrize("kind", ["isometric", "circle", "diffusion", "sphere", "regression"])
def test_points_among_the_samples_are_not_warned_of(kind):
    t = kept(kind)
    x = new_inputs(kind)
    inside = x[:1] if kind in ("circle", "sphere") else x[(np.abs(x - 0.5) < 0.4).all(axis=1)]
    points = at(kind, inside)[0]
    for use in (t.transform, t.intrinsic):
        assert asked(use, points)[1] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["isometric", "diffusion", "sphere", "regression"])
def test_what_is_not_finite_is_refused(kind, bad):
    for name, use, samples, _ in ways(kept(kind)):
        queries = samples[:3].copy()
        queries[1, -1] = bad
        with pytest.raises(errors.NonFiniteError, match="row 1"):
            use(queries)
        assert name


def shifted(by, n=1500, **options):
    """Squares, that of B moved along the first input, with landmarks in what both have; and both maps."""
    a, b = smooth_map(2, 4, 5), smooth_map(2, 5, 6)
    pair = (
        Observation.from_jacobians(*a(square(n, 2, 1))),
        Observation.from_jacobians(*b(square(n, 2, 2) + np.array([by, 0.0]))),
    )
    common = square(6, 2, 3) * [1.0 - by, 1.0] + [by, 0.0]
    return diffeo.match(*pair, landmarks=(a(common)[0], b(common)[0]), **options), lambda x: (a(x)[0], b(x)[0])


def test_partners_outside_of_the_other_sides_samples_are_listed():
    t, both = shifted(0.4)
    x = square(400, 2, 4)
    lost = x[:, 0] < 0.3
    y_a, y_b = both(x)[0], both(x + np.array([0.4, 0.0]))[1]
    for use, points, gone in (
        (t.transform, y_a, lost),
        (t.intrinsic, y_a, lost),
        (t.inverse_transform, y_b, x[:, 0] + 0.4 > 1.1),
    ):
        values, warning = asked(use, points)
        assert np.isfinite(values).all()
        assert len(warning.off_manifold) == 0
        assert np.isin(np.flatnonzero(gone), warning.no_counterpart).all()
    # What both sides have is not among them.
    assert asked(t.transform, y_a[x[:, 0] > 0.4])[1] is None
    warning = asked(t.transform, np.vstack([y_a[x[:, 0] > 0.4][:2], y_a[:1] + 100.0, both([[0.1, 0.5]])[0]]))[1]
    assert (warning.off_manifold.tolist(), warning.no_counterpart.tolist()) == ([2], [3])
    assert str(warning).startswith(
        "1 of 4 points lie off A's measured manifold or outside of A's sampled domain (row 2); the "
    )
    assert "the partners of 1 of 4 points lie outside of B's samples (row 3)" in str(warning)


def test_on_the_way_back_the_sides_are_exchanged():
    t, both = shifted(0.4, n=500)
    warning = asked(t.inverse_transform, np.vstack([both([[1.3, 0.5]])[1], t.b.observation.points[:1] + 100.0]))[1]
    assert "lie off B's measured manifold" in str(warning)
    assert "outside of A's samples (row 0)" in str(warning)


def test_registered_sides_that_lack_samples_of_each_other():
    t = matched("sphere")
    x, away = sphere(300, 12)[0], np.array([0.0, 0.0, 1.0])
    y_a, y_b = at("sphere", x)
    lacking = sphere(350, 1)[0] @ away > 0.0, sphere(400, 0)[0] @ away > 0.0
    # B without its upper samples: partners of points there are not among them.
    b = replace(t.b.observation, deficient=np.flatnonzero(lacking[0]))
    less = replace(t, map=replace(t.map, b=replace(t.map.b, observation=b)))
    for use in (less.transform, less.intrinsic):
        warning = asked(use, y_a)[1]
        assert len(warning.off_manifold) == 0
        assert np.isin(np.flatnonzero(x @ away > 0.8), warning.no_counterpart).all()
        assert (x[warning.no_counterpart] @ away > 0.0).all()
    # A without its upper samples: points of B there are on B's manifold all the same.
    found = t.registration.counterparts
    found = replace(found, deficient=np.union1d(found.deficient, np.flatnonzero(lacking[1])))
    less = replace(t, map=replace(t.map, registration=replace(t.registration, counterparts=found)))
    values, warning = asked(less.inverse_transform, np.vstack([y_b, y_b[:1] + 100.0]))
    assert np.isfinite(values).all()
    assert warning.off_manifold.tolist() == [300]
    assert np.isin(np.flatnonzero(x @ away > 0.8), warning.no_counterpart).all()
    assert (x[warning.no_counterpart] @ away > 0.0).all()


def test_a_report_says_it_once_a_side():
    t, both = shifted(0.4, n=500)
    x = square(60, 2, 5)
    # No warning: warnings are errors here.
    report = diffeo.assess(t, both(x))
    said = [text for text in report.problems if "held-out pairs on side A" in text]
    assert len(said) == 1
    assert "of 60 points lie outside of the other side's samples" in said[0]


def test_a_regression_far_from_the_samples_of_a_side_without_coordinates():
    t = matched("regression")
    points = t.b.observation.points
    _, warning = asked(t.inverse_transform, np.vstack([points[:3], points[:2] + 100.0]))
    assert {3, 4} <= set(warning.off_manifold.tolist())
    assert not {0, 1, 2} & set(warning.off_manifold.tolist())


@pytest.mark.parametrize("kind", ["input", "output"])
def test_predictions_are_finite(kind):
    a = smooth_map(2, 4, 5)
    x = square(300, 2, 1)
    found = diffeo.reconstruct(Observation.from_jacobians(*a(x)), np.arange(40), x[:40], kind=kind)
    queries = hostile(a(x)[0], 0)
    values, warning = asked(found.predict, queries)
    assert np.isfinite(values).all()
    assert np.abs(values).max() < 50.0
    assert {0, len(queries) - 5} & set(warning.off_manifold.tolist())
    assert asked(found.predict, a(0.8 * square(50, 2, 3) + 0.1)[0])[1] is None
    with pytest.raises(errors.NonFiniteError):
        found.predict(np.full((1, 4), np.inf))


@pytest.mark.parametrize("scale", [1e-140, 1e-60, 1e60, 1e140])
@pytest.mark.parametrize("kind", ["isometric", "diffusion"])
def test_sides_measured_in_very_large_or_small_units(kind, scale):
    a, b = smooth_map(2, 4, 5), smooth_map(2, 5, 6)
    (y_a, j_a), (y_b, j_b) = a(square(200, 2, 1)), b(square(200, 2, 2))
    marks = square(8, 2, 3)
    t = diffeo.match(
        Observation.from_jacobians(y_a * scale, j_a * scale),
        Observation.from_jacobians(y_b, j_b),
        landmarks=(a(marks)[0] * scale, b(marks)[0]),
        coordinates=kind,
    )
    for _, use, samples, _ in ways(t):
        values, warning = asked(use, hostile(samples, 3))
        assert np.isfinite(values).all()
        assert len(warning.rows)
