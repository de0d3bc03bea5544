"""match_pairs: maps both ways between any domains, what is held out, and what is said."""

from __future__ import annotations

import warnings

import diffeo
import numpy as np
import pytest
from diffeo import Pairs, errors
from support.hostile import hostile
from support.paired import pairs_of, relative, smooth_pairs
from support.samples import smooth_map, square


@pytest.fixture(scope="module")
def smooth():
    """400 pairs of smooth maps of a square, the maps, and what was learned."""
    pairs, a, b = smooth_pairs(400)
    return pairs, a, b, diffeo.match_pairs(pairs)


def test_both_ways_are_learned_and_a_fifth_is_held_out(smooth):
    pairs, a, b, t = smooth
    assert t.coordinates == "pairs"
    assert t.invertible
    assert t.diagnostics.problems == []
    assert max(t.diagnostics.expected_error, t.diagnostics.expected_error_back) < 3e-6
    assert len(t.held_out) == 80
    assert len(t.landmarks[0]) == 320
    both = {row.tobytes() for row in np.vstack([t.held_out.points_a, t.landmarks[0]])}
    assert both == {row.tobytes() for row in pairs.points_a}
    new = 0.05 + 0.9 * square(200, 2, 77)
    at_a, at_b = a(new)[0], b(new)[0]
    assert relative(t.transform(at_a), at_b) < 1e-7
    assert relative(t.inverse_transform(at_b), at_a) < 1e-7
    for points, inverse in ((at_a, False), (at_b, True)):
        expected = t.predicted_error(points, inverse=inverse)
        assert expected.shape == (200,)
        assert (expected > 0.0).all()
        assert np.median(expected) < 1e-7


def test_there_are_no_intrinsic_coordinates(smooth):
    _, a, _, t = smooth
    with pytest.raises(errors.DiffeoError, match="no intrinsic coordinates"):
        t.intrinsic(a(square(3))[0])
    assert t.by_candidate(0) is t
    assert "pairs coordinates" in repr(t)


def test_bits_do_not_depend_on_threads(smooth):
    pairs, a, _, t = smooth
    new = a(square(50, 2, 5))[0]
    one = diffeo.match_pairs(pairs, n_jobs=1)
    assert one.transform(new).tobytes() == t.transform(new).tobytes()
    assert one.predicted_error(new).tobytes() == t.predicted_error(new).tobytes()
    assert not np.array_equal(diffeo.match_pairs(pairs, random_state=1).held_out.points_a, t.held_out.points_a)


def test_assess_judges_by_what_was_held_out(smooth):
    _, _, _, t = smooth
    report = diffeo.assess(t, baselines=False)
    assert report.verdict == "equivalent"
    assert len(report.forward.true) == 80
    assert report.forward.error < 1e-6
    assert "learned from pairs" in " ".join(report.summary().split())
    assert "match_pairs(pairs)" in report.summary()
    with pytest.raises(errors.InputError, match="landmarks of the transformation"):
        diffeo.assess(t, (t.landmarks[0][:30], t.landmarks[1][:30]))


def test_held_out_pairs_may_be_given(smooth):
    pairs, *_ = smooth
    t = diffeo.match_pairs(pairs[:300], pairs[300:])
    assert t.held_out.points_a.tobytes() == pairs.points_a[300:].tobytes()
    with pytest.raises(errors.LandmarkError, match=r"40 held-out pairs .* among the others"):
        diffeo.match_pairs(pairs[:300], pairs[260:])
    with pytest.raises(errors.ShapeError, match="held_out have"):
        diffeo.match_pairs(pairs[:300], pairs[300:].swapped())


def circle(seed):
    linear = np.random.default_rng(seed).normal(size=(5, 4))

    def measure(x):
        t = 2.0 * np.pi * x[:, 0]
        waves = np.column_stack([np.cos(t), np.sin(t), 0.3 * np.cos(2 * t), 0.2 * np.sin(3 * t)])
        slopes = np.column_stack([-np.sin(t), np.cos(t), -0.6 * np.sin(2 * t), 0.6 * np.cos(3 * t)])
        return waves @ linear.T, 2.0 * np.pi * (slopes @ linear.T)[:, :, None]

    return measure


def sphere(seed):
    """Embeddings of the sphere, with derivatives along two orthonormal tangents of it."""
    linear = np.random.default_rng(seed).normal(size=(6, 3)) + np.eye(6, 3)

    def measure(x):
        basis = np.linalg.svd(x[:, None, :])[2][:, 1:].transpose(0, 2, 1)
        slopes = linear + 0.4 * np.cos(2.0 * x @ linear.T)[:, :, None] * linear
        return x @ linear.T + 0.2 * np.sin(2.0 * x @ linear.T), np.einsum("nmp,npd->nmd", slopes, basis)

    return measure


@pytest.mark.parametrize("domain", [circle, sphere])
def test_closed_domains_need_nothing_special(domain):
    x = square(500, 1, 1) if domain is circle else np.random.default_rng(1).normal(size=(500, 3))
    x = x if domain is circle else x / np.linalg.norm(x, axis=1, keepdims=True)
    t = diffeo.match_pairs(pairs_of(domain(1), domain(2), x))
    assert t.a.observation.dim == (1 if domain is circle else 2)
    assert diffeo.assess(t, baselines=False).verdict == "equivalent"
    assert relative(t.transform(t.held_out.points_a), t.held_out.points_b) < 1e-4


def test_sides_of_different_dimensions(smooth):
    """B ignores an input: A determines it, and not the other way round."""
    a, x = smooth_map(2, 5, 1), square(300, 2, 2)
    line = smooth_map(1, 4, 3)

    def b(z):
        points, slopes = line(z[:, :1])
        return points, np.concatenate([slopes, np.zeros_like(slopes)], axis=2)

    pairs = pairs_of(a, b, x)
    for given, verdict in ((pairs, "a_to_b"), (pairs.swapped(), "b_to_a")):
        t = diffeo.match_pairs(given)
        assert sorted([t.a.observation.dim, t.b.observation.dim]) == [1, 2]
        report = diffeo.assess(t, baselines=False)
        assert report.verdict == verdict
        assert any("does not determine" in problem for problem in t.diagnostics.problems)
    small = relative(t.inverse_transform(t.held_out.points_b), t.held_out.points_a)
    assert small < 1e-4


def test_pairs_without_derivatives_work_and_are_less_accurate(smooth):
    pairs, a, b, with_slopes = smooth
    t = diffeo.match_pairs(Pairs(*pairs.points))
    (problem,) = t.diagnostics.problems
    assert "carry no derivatives" in problem
    assert "2 dimensions" in problem
    new = 0.05 + 0.9 * square(200, 2, 77)
    error = relative(t.transform(a(new)[0]), b(new)[0])
    assert relative(with_slopes.transform(a(new)[0]), b(new)[0]) < error < 1e-3
    assert diffeo.assess(t, baselines=False).verdict == "equivalent"


@pytest.mark.parametrize("inverse", [False, True])
def test_hostile_queries_get_finite_values(smooth, inverse):
    _, _, _, t = smooth
    queries = hostile(t.landmarks[1 if inverse else 0], 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        values = (t.inverse_transform if inverse else t.transform)(queries)
        expected = t.predicted_error(queries, inverse=inverse)
    assert np.isfinite(values).all()
    assert not np.isnan(expected).any()


def test_what_cannot_be_matched_is_refused(smooth):
    pairs, *_ = smooth
    with pytest.raises(errors.SampleSizeError, match="39 pairs are too few"):
        diffeo.match_pairs(pairs[:39])
    with pytest.raises(errors.SampleSizeError, match="19 pairs are too few"):
        diffeo.match_pairs(pairs[:19], pairs[19:])
    twice = np.r_[np.arange(50), 7]
    with pytest.raises(errors.LandmarkError, match=r"1 pairs \(row 50\) are the same as earlier ones"):
        diffeo.match_pairs(pairs[twice])
    with pytest.raises(errors.DataTypeError, match=r"must be diffeo\.Pairs"):
        diffeo.match_pairs(pairs.points)
    with pytest.raises(errors.DataTypeError, match="held_out must be"):
        diffeo.match_pairs(pairs, pairs.points)
    constant = Pairs(pairs.points_a, pairs.points_b, pairs.jacobians_a, 0.0 * pairs.jacobians_b)
    with pytest.raises(errors.RankError, match="side B"):
        diffeo.match_pairs(constant)


def test_other_maps_do_not_know_their_error():
    a, b = (diffeo.Observation.from_jacobians(*smooth_map(2, 5, k)(square(300, 2, k))) for k in (1, 2))
    x = square(6, 2, 5)
    t = diffeo.match(a, b, landmarks=(smooth_map(2, 5, 1)(x)[0], smooth_map(2, 5, 2)(x)[0]))
    assert t.held_out is None
    with pytest.raises(errors.InputError, match="held_out is empty"):
        diffeo.assess(t)
