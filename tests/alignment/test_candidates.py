"""Alignments by whatever there is: named where several fit, and problems where something speaks against them."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.alignment.candidates import Side, isometric_candidates
from support.samples import quadrilateral, random_orthogonal, square, wave

TURN = random_orthogonal(1, 2, 6)[0]
NO_PERIODS = np.empty((0, 2))


def candidates(a, b, landmarks=(), *, unit=1.0, known_unit=True, observables=None, periods=NO_PERIODS):
    """Candidates from a to ``unit * b @ TURN + 1``."""
    points = np.reshape(landmarks, (-1, 2)).astype(float)
    return isometric_candidates(
        Side(points, a, periods),
        Side(unit * points @ TURN + 1.0, unit * b @ TURN + 1.0, unit * periods @ TURN),
        known_unit=known_unit,
        error=0.0,
        observables=observables,
        rng=np.random.default_rng(0),
        n_threads=1,
    )


def error(alignment, x, unit=1.0):
    off = alignment.forward(x) - unit * x @ TURN - 1.0
    return np.sqrt((off**2).sum(axis=1).mean() / x.var(axis=0).sum()) / unit


def test_enough_landmarks_ask_nothing_of_the_samples():
    a, b = quadrilateral(100, 1), quadrilateral(100, 2)
    found = candidates(a, b, a[:3])
    assert len(found.alignments) == 1
    assert found.alignments[0].name == ""
    assert found.problems == []
    assert error(found.alignments[0], a) < 1e-12


def test_names_lead_from_the_first_candidate_to_each_other():
    a, b = (square(600, 2, seed) * [1.0, 0.6] for seed in (1, 2))
    found = candidates(a, b)
    first = found.alignments[0]
    assert first.name == "the one used"
    assert len({one.name for one in found.alignments}) == 4
    assert sum(one.name.startswith("mirrored at the axis") for one in found.alignments) == 2
    assert found.problems[0].startswith("4 alignments cannot be told apart by the shape and density of the samples")
    for one in found.alignments[1:]:
        assert one.name in found.problems[0]
        composed = first.linear.T @ one.linear
        if one.name.startswith("turned"):
            np.testing.assert_allclose(composed, -np.eye(2), atol=0.1)
        else:
            angle = np.radians(float(one.name.split()[-2]))
            axis = np.array([np.cos(angle), np.sin(angle)])
            np.testing.assert_allclose(axis @ composed, axis, atol=0.05)
            assert np.linalg.det(composed) == pytest.approx(-1.0)
    assert min(error(one, a) for one in found.alignments) < 0.02


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([[0.2, 0.3], [0.4, 0.4], [0.8, 0.6]], ["the 3 landmarks lie in a hyperplane"]),
        ([[0.2, 0.3], [0.2, 0.3]], ["landmarks 0 and 1 are the same place on side A", "same place on side B"]),
        ([[0.2, 0.3]] * 3, ["are the same place", "lie in a hyperplane (or at one place): they leave 2 direction"]),
    ],
)
def test_dependent_landmarks_are_named(rows, words):
    a, b = quadrilateral(1000, 1), quadrilateral(1000, 2)
    found = candidates(a, b, rows)
    for word in words:
        assert any(word in problem for problem in found.problems), found.problems
    assert len(found.alignments) == 1
    assert error(found.alignments[0], a) < 0.02


@pytest.mark.parametrize(("count", "tolerance"), [(0, 0.04), (2, 1e-10)])
def test_an_unknown_unit_is_taken_from_landmarks_or_samples(count, tolerance):
    a, b = quadrilateral(1000, 1), quadrilateral(1000, 2)
    found = candidates(a, b, np.array([[0.2, 0.3], [0.9, 0.4]])[:count], unit=3.0, known_unit=False)
    assert [one.kind for one in found.alignments] == ["similarity"]
    assert found.alignments[0].scale == pytest.approx(3.0, rel=tolerance)
    assert error(found.alignments[0], a, 3.0) < tolerance


def test_landmarks_at_one_place_do_not_tell_the_unit():
    a, b = quadrilateral(1000, 1), quadrilateral(1000, 2)
    found = candidates(a, b, [[0.2, 0.3], [0.2, 0.3]], unit=3.0, known_unit=False)
    assert found.alignments[0].scale == pytest.approx(3.0, rel=0.03)


def test_samples_that_are_not_drawn_alike_are_a_problem():
    a, b = square(1500, 2, 1) * [1.0, 0.8], square(1500, 2, 2) ** 1.4 * [1.0, 0.8]
    assert any("not drawn alike" in problem for problem in candidates(a, b).problems)


def test_other_shapes_are_a_problem():
    a, b = quadrilateral(1000, 1), 1.04 * quadrilateral(1000, 2)
    assert any("borders of the two samples miss each other" in problem for problem in candidates(a, b).problems)


def test_observables_that_differ_are_a_problem():
    a, b = quadrilateral(600, 1), quadrilateral(600, 2)
    assert candidates(a, b, [[0.2, 0.3], [0.9, 0.4]], observables=(wave(a), wave(b))).problems == []
    found = candidates(a, b, [[0.2, 0.3], [0.9, 0.4]], observables=(wave(a), 2.0 * wave(b)))
    assert any("the observables of the two sides differ" in problem for problem in found.problems)


def test_closed_domains():
    periods = np.eye(2)
    x = square(300, 2, 3)
    with pytest.raises(errors.LandmarkError, match="a closed domain looks the same from everywhere"):
        candidates(x, x, periods=periods)
    assert len(candidates(x, x, [[0.1, 0.3]], periods=periods).alignments) == 8
    one = candidates(x, x, [[0.1, 0.3], [0.5, 0.4], [0.9, 0.8]], periods=periods).alignments
    assert len(one) == 1
    assert one[0].residual < 1e-10
    with pytest.raises(errors.SampleSizeError, match="observables need more than 24"):
        candidates(x[:20], x[:20], observables=(wave(x[:20]), wave(x[:20])), periods=periods)


def test_a_repeating_observable_names_the_shift():
    periods = np.array([[1.0, 0.0], [0.0, 0.7]])
    a, b = (square(500, 2, seed) * [1.0, 0.7] for seed in (1, 2))

    def quantity(x):
        u, v = 2 * np.pi * x[:, :1], 2 * np.pi * x[:, 1:] / 0.7
        return np.sin(2 * u) + np.sin(v) + 0.6 * np.cos(2 * v + 1) + 0.5 * np.cos(4 * u + v)

    found = candidates(a, b, observables=(quantity(a), quantity(b)), periods=periods)
    assert found.alignments[0].name == "the one used"
    assert len(found.alignments) == 2
    assert found.alignments[1].name.startswith("shifted by ")
    assert "0.50" in found.alignments[1].name
