"""Landmarks that the others contradict are found, others are not; where no motion is to be found, nothing is said."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.alignment.robust import contradicted, diffusion_consensus, motion_consensus, unrelated
from support.samples import random_orthogonal

NONE = np.empty((0, 2))
NOISE = 1e-3


def moved(count, wrong, d=2, seed=0, scale=1.0, noise=NOISE):
    """Points of a square and their images by a motion with a little noise, some replaced by those of others."""
    rng = np.random.default_rng(seed)
    p = rng.random((count, d))
    turn = random_orthogonal(1, d, seed)[0]
    q = scale * p @ turn + rng.normal(size=d)
    rows = np.sort(rng.permutation(count)[:wrong])
    q[rows] = scale * rng.random((wrong, d)) @ turn + (q - scale * p @ turn)[rows]
    return p, q + noise * rng.normal(size=q.shape), rows


def consensus(p, q, periods=None, known_unit=True, doubt=0.0):
    periods = np.empty((0, p.shape[1])) if periods is None else periods
    return motion_consensus(p, q, periods, periods, size=0.4, doubt=doubt, known_unit=known_unit, seed=0)


@pytest.mark.parametrize(("count", "wrong"), [(5, 1), (8, 1), (20, 3), (60, 20), (200, 60)])
@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_wrong_landmarks_are_found_and_no_others(count, wrong, d, scale):
    if count < d + 3:
        return
    p, q, rows = moved(count, wrong, d, seed=count + d, scale=scale)
    found = consensus(p, q, known_unit=scale == 1.0)
    missing = np.setdiff1d(rows, found.wrong)
    # A wrong partner may lie beside the right one.
    assert len(missing) <= 0.05 * wrong
    assert np.isin(found.wrong, rows).all()
    assert found.found


def test_good_landmarks_are_all_kept_however_noisy():
    for seed in range(20):
        p, q, _ = moved(30, 0, seed=seed, noise=0.03)
        assert len(consensus(p, q).wrong) == 0


def test_landmarks_onto_fewer_dimensions():
    p, q, rows = moved(30, 4, d=3, seed=3)
    found = motion_consensus(p, q[:, :2], np.empty((0, 3)), NONE, size=0.4, doubt=0.0, known_unit=True, seed=0)
    assert np.array_equal(found.wrong, rows)


def test_landmarks_of_a_closed_domain():
    rng = np.random.default_rng(4)
    period = np.array([[1.0]])
    p = rng.random((12, 1))
    q = (-p + 0.3) % 1.0 + rng.integers(-1, 2, (12, 1))
    q[[2, 7]] += 0.37
    assert np.array_equal(consensus(p, q, period).wrong, [2, 7])


def test_a_doubtful_chart_contradicts_less():
    p, q, _ = moved(20, 0)
    q[3] += 0.05
    assert np.array_equal(consensus(p, q).wrong, [3])
    assert len(consensus(p, q, doubt=0.1).wrong) == 0


def test_a_folded_side_has_no_wrong_landmarks():
    p = np.random.default_rng(5).random((60, 2))
    folded = np.where(p[:, :1] < 0.4, 0.8 - p[:, :1], p[:, :1])
    found = consensus(p, np.column_stack([folded, p[:, 1]]))
    assert len(found.wrong) == 0
    assert not found.found


def test_shuffled_landmarks_have_no_consensus_and_are_unrelated():
    p, q, _ = moved(40, 0)
    shifted = np.roll(q, 1, axis=0)
    assert not consensus(p, shifted).found
    assert unrelated(p, shifted)
    assert not unrelated(p, q)
    assert not unrelated(p, np.column_stack([p[:, 0], 0 * p[:, 1]]))


def test_orthogonal_maps_of_diffusion_coordinates():
    rng = np.random.default_rng(6)
    p = rng.normal(size=(25, 3))
    q = p @ random_orthogonal(1, 3)[0] + 0.02 * rng.normal(size=p.shape)
    q[4] *= -1.0
    assert np.array_equal(diffusion_consensus(p, q, doubt=0.1, seed=0).wrong, [4])


def test_a_pair_is_contradicted_by_those_beside_both_of_its_ends_only():
    rng = np.random.default_rng(7)
    a = rng.random((200, 2))
    b, usual = a.copy(), 1e-3 * (1.0 + rng.random(200))
    b[9] = 1.0 - a[9]
    missed = usual.copy()
    missed[9] = 0.8
    assert np.array_equal(np.flatnonzero(contradicted(a, b, [missed, missed])), [9])
    # Where the map is bad around an end, its error says nothing of the pair.
    around = np.argsort(np.linalg.norm(b - b[9], axis=1))[:8]
    bad = missed.copy()
    bad[around] = 0.5
    assert not contradicted(a, b, [bad])[9]
    assert not contradicted(a, b, [missed, usual]).any()
    assert not contradicted(a, b, []).any()
    assert not contradicted(a[:8], b[:8], [missed[:8]]).any()
