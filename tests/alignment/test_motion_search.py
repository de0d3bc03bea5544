"""Rigid motions from shape, density and observables: symmetric domains give their symmetry groups, discs nothing."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.alignment.motion import freedom
from diffeo.alignment.motion_search import motions
from support.samples import quadrilateral, random_orthogonal, square, wave

SHIFT = np.array([2.0, -3.0, 0.5])


def disc(n, seed):
    x = 2.0 * square(3 * n, 2, seed) - 1.0
    return x[(x**2).sum(axis=1) < 1.0][:n]


def box(*sides):
    return lambda n, seed: square(n, len(sides), seed) * sides


def truth(d):
    return random_orthogonal(1, d, 11)[0], SHIFT[:d]


def found_between(a, b, landmarks=None, observables=None):
    """Motions from a to b, which lies where `truth` takes it; landmarks in a's coordinates."""
    linear, shift = truth(a.shape[1])
    landmarks = np.empty((0, a.shape[1])) if landmarks is None else landmarks
    moved = b @ linear + shift
    free = freedom(a, moved, landmarks, landmarks @ linear + shift, 1e-3)
    return motions(a, moved, free, observables, np.random.default_rng(0), 1)


def error(motion, x):
    """Root mean square error of the motion at points x, over their size."""
    linear, shift = truth(x.shape[1])
    off = x @ (motion.linear - linear) + motion.shift - shift
    return np.sqrt((off**2).sum(axis=1).mean() / x.var(axis=0).sum())


# --- symmetry groups ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("domain", "n", "order", "tolerance"),
    [
        (box(1.0), 400, 2, 0.02),
        (box(1.0, 0.6), 600, 4, 0.02),
        (box(1.0, 1.0), 600, 8, 0.03),
        (quadrilateral, 1200, 1, 0.01),
    ],
)
def test_the_symmetry_group_and_nothing_else(domain, n, order, tolerance):
    a, b = domain(n, 1), domain(n, 2)
    found = found_between(a, b)
    assert len(found) == order
    # One of them is the truth; composed with its inverse, they form a group.
    off = [error(motion, a) for motion in found]
    assert min(off) < tolerance
    linear = found[int(np.argmin(off))].linear
    group = [linear.T @ motion.linear for motion in found]
    for one in group:
        np.testing.assert_allclose(one @ one.T, np.eye(len(one)), atol=1e-10)
        for other in group:
            assert min(np.abs(one @ other - third).max() for third in group) < 0.1
    assert all(motion.misfit < 2.0 for motion in found)
    assert all(motion.border < 0.02 for motion in found)


def test_an_uneven_density_breaks_the_symmetry():
    a, b = (square(800, 2, seed) ** 2 * [1.0, 0.7] for seed in (1, 2))
    found = found_between(a, b)
    assert len(found) == 1
    assert error(found[0], a) < 0.01


@pytest.mark.parametrize("turned", [False, True])
def test_round_domains_are_refused(turned):
    a, b = disc(600, 1), disc(600, 2)
    if turned:
        # A cylinder along no axis of the coordinates.
        q = random_orthogonal(1, 3, 4)[0]
        a, b = (np.column_stack([x, 3.0 * square(600, 1, s)]) @ q for x, s in ((a, 5), (b, 6)))
        a, b = a[:, :3], b[:, :3]
    with pytest.raises(errors.LandmarkError, match="continuous family of positions"):
        found_between(a, b, a[:0] if not turned else np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 2.5]]) @ q)


def test_few_samples_are_refused():
    with pytest.raises(errors.LandmarkError, match="too few samples to tell"):
        found_between(quadrilateral(20, 1), quadrilateral(20, 2))


def test_four_open_dimensions_are_too_many():
    x = square(50, 4, 1)
    free = freedom(x, x, x[:1], x[:1], 1e-3)
    with pytest.raises(errors.LandmarkError, match=r"4 dimensions .* at least 2 landmarks"):
        motions(x, x, free, None, np.random.default_rng(0), 1)


# --- landmarks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_few_landmarks_leave_what_they_do_not_fix(count):
    a, b = box(1.0, 1.0)(600, 1), box(1.0, 1.0)(600, 2)
    landmarks = np.array([[0.2, 0.7], [0.9, 0.4]])[:count]
    found = found_between(a, b, landmarks)
    linear, shift = truth(2)
    for motion in found:
        target = landmarks @ linear + shift
        np.testing.assert_allclose(motion.linear.T @ motion.linear, np.eye(2), atol=1e-10)
        np.testing.assert_allclose(landmarks @ motion.linear + motion.shift, target, atol=1e-10)
    assert len(found) <= 2
    assert min(error(motion, a) for motion in found) < (0.02 if count == 1 else 1e-10)


def test_a_landmark_in_the_centre_decides_nothing_about_a_square():
    a, b = box(1.0, 1.0)(600, 1), box(1.0, 1.0)(600, 2)
    assert len(found_between(a, b, np.array([[0.5, 0.5]]))) == 8


def test_landmarks_on_the_diagonal_leave_its_mirror_image():
    a, b = box(1.0, 1.0)(600, 1), box(1.0, 1.0)(600, 2)
    assert len(found_between(a, b, np.array([[0.2, 0.2], [0.9, 0.9]]))) == 2


@pytest.mark.parametrize(("count", "n_open", "n_parameters"), [(0, 3, 6), (1, 3, 3), (2, 2, 1), (3, 1, 0), (4, 0, 0)])
def test_freedom_of_landmarks(count, n_open, n_parameters):
    x = square(50, 3, 1)
    free = freedom(x, x, x[:count], x[:count], 1e-3)
    assert (free.n_open, free.n_parameters) == (n_open, n_parameters)
    linear, shift = free.motion(np.eye(n_open))
    small = free.moved(linear, shift, 0.1 * np.ones(n_parameters))
    np.testing.assert_allclose(small[0] @ small[0].T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(x[:count] @ small[0] + small[1], x[:count] @ linear + shift, atol=1e-12)


# --- samples that do not belong together --------------------------------------------------------------------


def test_other_densities_are_told_and_the_borders_decide():
    a, b = box(1.0, 0.8)(1500, 1), square(1500, 2, 2) ** 1.4 * [1.0, 0.8]
    found = found_between(a, b)
    assert found[0].density > 2.0
    assert found[0].border < 0.01
    # By densities alone the motion is off by a tenth.
    assert min(error(motion, a) for motion in found) < 0.01


def test_other_sizes_show_at_the_borders():
    a, b = quadrilateral(1000, 1), 1.04 * quadrilateral(1000, 2)
    assert found_between(a, b)[0].border > 0.02


def test_nothing_fits_other_shapes():
    with pytest.raises(errors.DomainMismatchError, match="no position of A's samples fits those of B"):
        found_between(box(1.0, 0.5)(600, 1), box(1.0, 1.0)(600, 2))


# --- observables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", [box(1.0, 1.0), disc])
def test_an_observable_decides_among_symmetric_positions(domain):
    a, b = domain(300, 1), domain(300, 2)
    found = found_between(a, b, observables=(wave(a), wave(b)))
    assert len(found) == 1
    assert error(found[0], a) < 5e-3


@pytest.mark.slow
def test_noise_of_an_observable_averages_out():
    a, b = box(1.0, 1.0)(300, 1), box(1.0, 1.0)(300, 2)
    rng = np.random.default_rng(4)
    values = [wave(x) + 0.05 * rng.normal(size=(300, 1)) for x in (a, b)]
    found = found_between(a, b, observables=tuple(values))
    assert 0.03 < found[0].misfit < 0.15
    assert min(error(motion, a) for motion in found) < 0.03


def test_level_sets_of_an_observable_are_refused():
    a, b = box(1.0, 1.0)(300, 1), box(1.0, 1.0)(300, 2)
    with pytest.raises(errors.LandmarkError, match="the observables fit in a continuous family"):
        found_between(a, b, observables=(a[:, :1], b[:, :1]))


def test_observables_of_too_few_samples():
    x = square(20, 2, 1)
    with pytest.raises(errors.SampleSizeError, match="observables need more than 24 on each side"):
        found_between(x, x, observables=(wave(x), wave(x)))
