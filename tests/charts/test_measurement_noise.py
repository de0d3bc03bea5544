"""Noise of measurements: told from curvature, taken out across the manifold, allowed for in landmarks, saved."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from diffeo.charts.measurement_noise import denoised, noise_of
from support.samples import smooth_map, square


def noisy(level, n=1500, m=12, seed=0):
    """An observation with noise of this share of the spread, its deviation, and points and Jacobians without it."""
    points, jacobians = smooth_map(2, m, seed)(square(n, 2, seed))
    deviation = level * points.std(axis=0).mean()
    seen = points + deviation * np.random.default_rng(seed).normal(size=points.shape)
    return Observation.from_jacobians(seen, jacobians), deviation, points, jacobians


@pytest.mark.parametrize("level", [0.01, 0.05])
def test_noise_is_found_and_taken_out_across_the_manifold(level):
    observation, deviation, points, jacobians = noisy(level)
    found = noise_of(observation)
    assert found.deviation == pytest.approx(deviation, rel=0.1)
    clean = denoised(observation, found)
    assert clean.noise == found.deviation
    basis = np.linalg.qr(jacobians)[0]

    def across(error):
        return np.linalg.norm(error - (basis @ (basis.transpose(0, 2, 1) @ error[:, :, None]))[:, :, 0])

    assert across(clean.points - points) < 0.4 * across(observation.points - points)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_curvature_is_no_noise(dim):
    observation = Observation.from_jacobians(*smooth_map(dim, 7, 3)(square(1200, dim, 4)))
    assert noise_of(observation).deviation == 0.0
    assert diffeo.embed(observation).measured is observation


def test_nothing_is_told_by_few_samples_or_as_many_measurements_as_dimensions():
    few, _, _, _ = noisy(0.05, n=100)
    flat = square(600, 2, 1)
    identity = np.broadcast_to(np.eye(2), (600, 2, 2))
    assert noise_of(few).deviation == noise_of(Observation.from_jacobians(flat, identity)).deviation == 0.0


def test_noisy_landmarks_are_taken_and_a_wrong_one_is_not():
    sides = [noisy(0.01, seed=seed)[0] for seed in (0, 1)]
    x = 0.1 + 0.8 * square(8, 2, 9)
    rng = np.random.default_rng(5)
    marks = []
    for seed, side in enumerate(sides):
        y = smooth_map(2, 12, seed)(x)[0]
        marks.append(y + 0.01 * side.points.std(axis=0).mean() * rng.normal(size=y.shape))
    found = match(*sides, landmarks=(marks[0], marks[1]))
    new = 0.05 + 0.9 * square(200, 2, 11)
    a, b = (smooth_map(2, 12, seed)(new)[0] for seed in (0, 1))
    assert relative_error(found.transform(a), b) < 0.02
    off = np.array([[0.0], [0.0], [3.0]])
    with pytest.raises(errors.LandmarkError, match="lie off the measured manifold"):
        match(*sides, landmarks=(marks[0][:3], marks[1][:3] + off), coordinates="isometric")


def test_noise_is_saved_with_the_chart(tmp_path):
    chart = diffeo.embed(noisy(0.02, n=600)[0])
    chart.save(tmp_path / "chart.safetensors")
    loaded = diffeo.load(tmp_path / "chart.safetensors")
    assert loaded.measured.noise == chart.measured.noise > 0.0
    assert loaded.coordinates.tobytes() == chart.coordinates.tobytes()


def test_noise_that_is_given_is_not_estimated():
    observation, deviation, points, jacobians = noisy(0.03, n=700)
    given = Observation.from_jacobians(observation.points, jacobians, noise=deviation)
    assert noise_of(given).deviation == given.noise == pytest.approx(deviation)
    assert given.noise_of_points.shape == (700,)
    none = Observation.from_jacobians(observation.points, jacobians, noise=0.0)
    assert noise_of(none).deviation == 0.0
    assert diffeo.embed(none).measured is none
    cover = np.einsum("nmd,ned->nme", jacobians, jacobians)
    members = points[:, None] + 0.01 * np.random.default_rng(0).normal(size=(700, 20, 12))
    for built in (
        Observation.from_covariances(points, cover, noise=deviation),
        Observation.from_bursts(points, members, dim=2, noise=deviation),
        Observation.from_neighbors(points, square(700, 2, 0), noise=deviation),
    ):
        assert built.noise == pytest.approx(deviation)


def test_noise_of_each_point_goes_with_it(tmp_path):
    observation, _, _, jacobians = noisy(0.03, n=600)
    levels = np.random.default_rng(1).uniform(0.01, 0.05, 600)
    given = Observation.from_jacobians(observation.points, jacobians, noise=levels)
    assert given.noise == pytest.approx(np.sqrt((levels**2).mean()))
    part, rest = given[:200], given[200:]
    assert part.noise == pytest.approx(np.sqrt((levels[:200] ** 2).mean()))
    joined = diffeo.concatenate([part, rest])
    assert joined.noise_of_points.tobytes() == levels.tobytes()
    assert joined.noise == given.noise
    assert given.select([0, 3, 5]).noise_of_points.tobytes() == levels.tobytes()
    with pytest.raises(errors.InputError, match="noise is known"):
        diffeo.concatenate([part, observation])
    given.save(tmp_path / "a.safetensors")
    loaded = diffeo.load(tmp_path / "a.safetensors")
    assert loaded.noise == given.noise
    assert loaded.noise_of_points.tobytes() == levels.tobytes()
    chart = diffeo.embed(given)
    chart.save(tmp_path / "chart.safetensors")
    again = diffeo.load(tmp_path / "chart.safetensors")
    assert again.measured.points.tobytes() == chart.measured.points.tobytes()


def test_precise_points_move_less_than_noisy_ones():
    points, jacobians = smooth_map(2, 12, 0)(square(1500, 2, 0))
    levels = np.where(np.arange(1500) % 2, 0.1, 0.01) * points.std(axis=0).mean()
    seen = points + levels[:, None] * np.random.default_rng(0).normal(size=points.shape)
    errors_of = {}
    for name, noise in (("each", levels), ("all", float(np.sqrt((levels**2).mean())))):
        observation = Observation.from_jacobians(seen, jacobians, noise=noise)
        clean = denoised(observation, noise_of(observation)).points - points
        across = clean - np.einsum("nmd,ned,ne->nm", *[np.linalg.qr(jacobians)[0]] * 2, clean)
        errors_of[name] = np.linalg.norm(across)
    assert errors_of["each"] < 0.7 * errors_of["all"]


@pytest.mark.parametrize("noise", [-0.1, [0.1, -0.1], [0.1], [[0.1, 0.1]], np.nan, "much"])
def test_noise_that_cannot_be_is_refused(noise):
    with pytest.raises(errors.DiffeoError):
        Observation.from_jacobians(np.eye(2), np.ones((2, 2, 1)), noise=noise)
