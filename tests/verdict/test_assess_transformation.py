"""assess: verdicts on pairs that keep or lose something, its report, and what it refuses."""

from __future__ import annotations

import dataclasses
import functools
import inspect

import diffeo
import numpy as np
import pytest
from diffeo import Observation, assess, errors, match, relative_error
from diffeo.alignment.curved.atlas import AtlasMap
from diffeo.diffusion.kernel import Kernel
from diffeo.isometry.hermite import HermiteChart
from diffeo.verdict.assess_transformation import compare
from diffeo.verdict.sentences import exchanged
from support import stored
from support.samples import smooth_map, square

# Of the square [0, 1]^2: all of it, its first coordinate, and its first coordinate folded at 1/2.
MAPS = {
    "whole": smooth_map(2, 5, 0),
    "other": smooth_map(2, 4, 9),
    "line": smooth_map(1, 3, 6),
    "fold": smooth_map(2, 5, 4),
}
LANDMARKS, HELD_OUT = square(60, 2, 7), square(120, 2, 8)


def measure(kind, x):
    """Measurements and Jacobians with respect to x."""
    if kind == "line":
        y, jacobians = MAPS[kind](x[:, :1])
        return y, np.concatenate([jacobians, np.zeros_like(jacobians)], axis=2)
    if kind == "fold":
        y, jacobians = MAPS[kind](np.column_stack([4.0 * (x[:, 0] - 0.5) ** 2, x[:, 1]]))
        return y, jacobians * np.stack([8.0 * (x[:, 0] - 0.5), np.ones(len(x))], axis=1)[:, None]
    return MAPS[kind](x)


@functools.cache
def observed(kind, seed, n=700):
    return Observation.from_jacobians(*measure(kind, square(n, 2, seed)), dim=1 if kind == "line" else 2)


def pairs(kinds, x):
    return tuple(measure(kind, x)[0] for kind in kinds)


@functools.cache
def matched(*kinds):
    sides = [observed(kind, seed) for seed, kind in enumerate(kinds)]
    return match(*sides, landmarks=pairs(kinds, LANDMARKS), n_jobs=1)


@functools.cache
def assessed(*kinds):
    return assess(matched(*kinds), pairs(kinds, HELD_OUT), baselines=False, n_jobs=1)


def test_two_observations_that_keep_the_input():
    report = assess(matched("whole", "other"), pairs(("whole", "other"), HELD_OUT), n_jobs=1)
    assert report.verdict == "equivalent"
    assert (report.forward.status, report.backward.status) == ("holds", "holds")
    assert report.forward.loss is report.backward.loss is None
    assert report.reason.startswith("Each side determines the other")
    assert max(report.forward.upper, report.backward.upper) < 0.01
    a, b = pairs(("whole", "other"), HELD_OUT)
    assert np.array_equal(report.forward.true, b)
    assert np.array_equal(report.backward.true, a)
    assert np.array_equal(report.forward.predicted, matched("whole", "other").transform(a))
    assert report.forward.error == pytest.approx(relative_error(report.forward.predicted, b), rel=0.05)
    assert len(report.baselines) >= 4
    assert all(one.forward > report.forward.error for one in report.baselines if one.forward is not None)
    assert (report.margin, report.significance, report.n_landmarks, report.coordinates) == (0.05, 0.05, 60, "isometric")
    # Both sides' coordinates agree, since A's are moved to B's.
    assert np.abs(report.held_out[0] - report.held_out[1]).max() < 0.01
    assert [len(x) for x in report.embeddings] == [len(rows) for rows in report.rows] == [700, 700]
    assert report.spectra[0][:3] == pytest.approx(report.spectra[1][:3], rel=0.2)
    assert report.diagnostics["scale"] == pytest.approx(1.0, abs=0.01)
    assert report.settings["n_a"] == 700
    assert report.settings["diffeo"] == diffeo.__version__


@pytest.mark.parametrize(
    ("kinds", "verdict", "kind", "axis"),
    [
        (("whole", "fold"), "a_to_b", "fold", 0),
        (("fold", "whole"), "b_to_a", "fold", 0),
        (("whole", "line"), "a_to_b", "collapse", 1),
    ],
)
def test_one_side_lost_something(kinds, verdict, kind, axis):
    report = assessed(*kinds)
    assert report.verdict == verdict
    good, bad = (report.forward, report.backward) if verdict == "a_to_b" else (report.backward, report.forward)
    assert (good.status, bad.status) == ("holds", "fails")
    assert good.loss is None
    assert bad.lower > 0.3
    assert bad.loss.kind == kind
    assert bad.loss.share > 0.6
    assert bad.loss.text in report.reason
    # The direction, moved to the inputs of the keeping side's samples.
    keeps = kinds.index("whole")
    x, found = square(700, 2, keeps), report.embeddings[keeps]
    u, _, vt = np.linalg.svd((found - found.mean(axis=0)).T @ (x - x.mean(axis=0)))
    assert abs((bad.loss.direction @ (u @ vt))[axis]) > 0.97
    lost = x[bad.loss.pairs]
    assert np.abs(lost[:, 0, axis] - lost[:, 1, axis]).min() > 0.1


def test_both_sides_lost_something():
    report = assessed("fold", "line")
    assert report.verdict == "not_equivalent"
    # B keeps the first coordinate, which A folds, and A the second one.
    assert report.forward.loss.kind == "fold"
    assert report.forward.loss.direction.tolist() == [1.0]
    assert report.backward.loss.kind == "collapse"
    for one in (report.forward, report.backward):
        assert one.loss.text in report.reason


def test_what_lost_a_dimension_is_judged_by_a_regression(monkeypatch):
    report = assessed("whole", "line")
    assert "B has intrinsic dimension 1, A has 2" in report.backward.how
    assert "on the landmarks stands in" in report.backward.how
    # Not worse than the mean.
    assert report.backward.error < 1.1
    # Files of the first version know no landmarks.
    unknown = assess(
        dataclasses.replace(matched("whole", "line"), landmarks=None),
        pairs(("whole", "line"), HELD_OUT),
        baselines=False,
    )
    # The held-out pairs alone show the loss; few of them show nothing, and only the mean stands in.
    assert (unknown.forward.status, unknown.backward.status) == ("holds", "fails")
    assert unknown.n_landmarks == 0
    some = tuple(points[:21] for points in pairs(("whole", "line"), HELD_OUT))
    monkeypatch.setattr("diffeo.verdict.shown_loss.LEAST_NEAR", 21)
    unknown = assess(dataclasses.replace(matched("whole", "line"), landmarks=None), some, baselines=False)
    assert unknown.backward.evidence.kind == "rank"
    assert (unknown.backward.status, unknown.verdict) == ("undetermined", "undetermined")
    assert "without landmarks" in unknown.reason
    assert unknown.would_decide == ["From B to A: bring landmarks."]


def test_more_dimensions_on_b_are_compared_the_other_way_round():
    kinds = ("line", "whole")
    report = compare(
        observed("line", 0),
        observed("whole", 1),
        landmarks=pairs(kinds, LANDMARKS),
        held_out=pairs(kinds, HELD_OUT),
        baselines=False,
        n_jobs=1,
    )
    assert report.verdict == "b_to_a"
    assert (report.forward.status, report.backward.status) == ("fails", "holds")
    assert "A lost a direction that B keeps" in report.reason
    assert "A has intrinsic dimension 1, B has 2" in report.forward.how
    assert [x.shape[1] for x in report.embeddings] == [1, 2]
    assert report.forward.true.shape == (120, 5)
    assert report.forward.loss.rows.max() > 600


def test_compare_is_match_and_assess():
    kinds = ("whole", "other")
    arguments = {"landmarks": pairs(kinds, LANDMARKS), "held_out": pairs(kinds, HELD_OUT), "baselines": False}
    report = compare(observed("whole", 0), observed("other", 1), **arguments, n_jobs=1)
    assert np.array_equal(report.forward.predicted, assessed(*kinds).forward.predicted)
    with pytest.raises(errors.DataTypeError, match="obs_b"):
        compare(observed("whole", 0), None, **arguments)
    # Rows, and errors, are those of the sides as they were given.
    with pytest.raises(errors.LandmarkError, match=r"landmarks\[:, 1\]"):
        compare(observed("line", 0), observed("whole", 1), landmarks=[[0, 700]] * 3, held_out=arguments["held_out"])


def test_sides_exchanged_twice_are_the_same():
    report = assessed("whole", "fold")
    there = exchanged(report)
    assert there.verdict == "b_to_a"
    assert there.backward is report.forward
    assert there.embeddings[0] is report.embeddings[1]
    # Texts are made by those who know what the sides are called.
    assert (there.reason, there.problems) == (report.reason, report.problems)
    back = exchanged(there)
    for name in ("verdict", "reason", "problems", "settings"):
        assert getattr(back, name) == getattr(report, name)
    assert list(back.diagnostics) == list(report.diagnostics)
    assert back.diagnostics["scale"] == pytest.approx(report.diagnostics["scale"], rel=1e-15)
    rest = report.diagnostics.keys() - {"scale"}
    assert all(back.diagnostics[name] == report.diagnostics[name] for name in rest)


def test_held_out_rows_are_samples():
    t, kinds = matched("whole", "other"), ("whole", "other")
    x = square(700, 2, 0)[:50]
    nearest = np.array([np.linalg.norm(square(700, 2, 1) - row, axis=1).argmin() for row in x])
    rows = np.column_stack([np.arange(50), nearest])[np.unique(nearest, return_index=True)[1]]
    report = assess(t, rows, baselines=False)
    assert np.array_equal(report.backward.true, observed("whole", 0).points[rows[:, 0]])
    # Neighbours are no common inputs: that is seen, and it is no loss.
    assert report.verdict == "undetermined"
    assert len(pairs(kinds, x)) == 2


def test_few_pairs_are_undetermined():
    few = tuple(x[:19] for x in pairs(("whole", "other"), HELD_OUT))
    report = assess(matched("whole", "other"), few, baselines=False)
    assert report.verdict == "undetermined"
    assert "Only 19 held-out pairs" in report.reason


def test_a_margin_among_the_errors_is_undetermined():
    t, held_out = matched("whole", "other"), pairs(("whole", "other"), HELD_OUT)
    margin = assessed("whole", "other").forward.error
    report = assess(t, held_out, margin=margin, baselines=False)
    assert report.forward.status == "undetermined"
    assert report.verdict == "undetermined"
    assert "more held-out pairs" in report.reason
    assert report.would_decide[0].startswith("From A to B: bring more held-out pairs")
    # Errors above the margin are those of the map: without a loss nothing fails.
    report = assess(t, held_out, margin=0.1 * margin, baselines=False)
    assert report.verdict == "undetermined"
    assert report.forward.lower > report.margin
    assert report.forward.loss is report.backward.loss is None
    assert not report.forward.evidence.shown
    assert "the map is wrong" in report.reason
    assert all("draw more samples" in text for text in report.would_decide)


def test_points_out_of_the_domain_are_a_problem_not_a_warning():
    t, x = matched("whole", "other"), HELD_OUT.copy()
    x[5] = 3.0
    report = assess(t, pairs(("whole", "other"), x), baselines=False)
    assert any("held-out pairs on side A" in text and "row 5" in text for text in report.problems)
    assert any("held-out pairs on side B" in text for text in report.problems)
    assert t.diagnostics.problems == []


def test_held_out_landmarks_are_refused():
    t, (a, b) = matched("whole", "other"), pairs(("whole", "other"), HELD_OUT)
    marks = t.landmarks
    mixed = np.vstack([a[:30], marks[0][[4, 9]]]), np.vstack([b[:30], marks[1][[4, 9]]])
    with pytest.raises(errors.InputError, match=r"2 of 32 held-out pairs \(rows 30, 31\) are landmarks"):
        assess(t, mixed)


def test_landmarks_given_as_rows_are_known_too():
    rows = np.column_stack([np.arange(60), np.arange(60)])
    t = match(observed("whole", 0), Observation.from_jacobians(*measure("other", square(700, 2, 0))), landmarks=rows)
    with pytest.raises(errors.InputError, match=r"1 of 30 held-out pairs \(row 0\) are landmarks"):
        assess(t, np.column_stack([np.arange(59, 89)] * 2))


def test_pairs_that_are_given_twice_are_refused():
    a, b = pairs(("whole", "other"), HELD_OUT)
    with pytest.raises(errors.InputError, match=r"2 held-out pairs \(rows 40, 41\) are the same as earlier ones"):
        assess(matched("whole", "other"), (np.vstack([a[:40], a[3:5]]), np.vstack([b[:40], b[3:5]])))


A, B = pairs(("whole", "other"), HELD_OUT)
NAN = np.where(np.arange(120)[:, None] == 7, np.nan, A)


@pytest.mark.parametrize(
    ("held_out", "error", "message"),
    [
        (None, errors.InputError, "held_out is empty"),
        (np.empty((0, 2), dtype=int), errors.InputError, "held_out is empty"),
        ((A, B[:-1]), errors.ShapeError, r"held_out\[1\]"),
        ((A[:, :3], B), errors.ShapeError, r"held_out\[0\]"),
        ((B, A), errors.ShapeError, r"held_out\[0\]"),
        ((NAN, B), errors.NonFiniteError, r"held_out\[0\] holds NaN.*row 7"),
        (A, errors.InputError, "held_out has shape"),
        (np.array([[0, 700]]), errors.InputError, r"held_out\[:, 1\]"),
        (np.array([[0.5, 7.0]]), errors.DataTypeError, "integers are needed"),
    ],
    ids=["none", "no rows", "lengths", "columns", "sides", "nan", "one side", "row", "dtype"],
)
def test_held_out_pairs_that_cannot_be_used(held_out, error, message):
    with pytest.raises(error, match=message):
        assess(matched("whole", "other"), held_out, baselines=False)


@pytest.mark.parametrize("name", ["margin", "significance"])
@pytest.mark.parametrize("value", [0.0, -0.1, 1.0, float("nan"), "0.05", None, True])
def test_levels_out_of_range(name, value):
    with pytest.raises(errors.ParameterError, match=name):
        assess(matched("whole", "other"), (A, B), **{name: value})


def test_only_transformations_are_assessed():
    with pytest.raises(errors.DataTypeError, match=r"diffeo\.Transformation"):
        assess(observed("whole", 0), (A, B))
    with pytest.raises(errors.ParameterError, match="n_jobs"):
        assess(matched("whole", "other"), (A, B), n_jobs=0)


def test_reports_are_the_same_bits_again_for_any_number_of_threads():
    again = assess(matched("whole", "fold"), pairs(("whole", "fold"), HELD_OUT), baselines=False, n_jobs=2)
    first = assessed("whole", "fold")
    assert (again.verdict, again.reason) == (first.verdict, first.reason)
    for one, other in ((again.forward, first.forward), (again.backward, first.backward)):
        assert (one.error, one.lower, one.upper) == (other.error, other.lower, other.upper)
        assert np.array_equal(one.predicted, other.predicted)
    assert np.array_equal(again.backward.loss.rows, first.backward.loss.rows)


@pytest.mark.parametrize("kind", ["isometric", "diffusion", "sphere", "projection", "regression"])
def test_the_number_of_threads_reaches_charts_and_registrations(kind, monkeypatch):
    found, asked = stored.matched(kind), []  # matched with two threads

    def listen(owner, name):
        original = getattr(owner, name)
        signature = inspect.signature(original)

        def listening(*arguments, **named):
            asked.append(signature.bind(*arguments, **named).arguments["n_threads"])
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, listening)

    for owner in (HermiteChart, AtlasMap):
        listen(owner, "locate")
    listen(HermiteChart, "measurements")
    listen(Kernel, "cross")
    assess(found, stored.at(kind, stored.new_inputs(kind)), baselines=False, n_jobs=1)
    assert set(asked) == {1}
