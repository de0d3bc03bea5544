"""The horse demo: its solid and cameras, what it does with angles, and a tiny run from end to end."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from diffeo import errors, match
from diffeo.demos.horse import experiment, solid, turntable
from diffeo.demos.horse.turntable import (
    angles_of_codes,
    angles_on_circle,
    burst_angles,
    closest_approach,
    difference,
    observed,
)


@pytest.fixture(scope="module")
def animal():
    pytest.importorskip("skimage")
    return solid.horse()


def turn(count):
    return 2.0 * np.pi * np.arange(count) / count


def test_a_disc_becomes_an_ellipsoid():
    radius = 100
    row, column = np.indices((2 * radius + 1, 2 * radius + 1)) - radius
    found = solid.inflated(row**2 + column**2 <= radius**2)
    # u = (a^2 - r^2) / 4 on a disc, so z^2 = FLATNESS^2 (a^2 - r^2) / 2.
    axes = 0.5 * np.array([1.0, 1.0, solid.FLATNESS / np.sqrt(2.0)])
    level = np.linalg.norm(found.points / axes, axis=1)
    # The outline is found to a cell, two hundredths of the radius.
    np.testing.assert_allclose(level, 1.0, atol=0.04)
    normals = found.points / axes**2
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    # At the rim they are those of steps from cell to cell.
    assert np.quantile((normals * found.normals).sum(axis=1), [0.01, 0.5]) == pytest.approx(1.0, abs=0.1)
    assert np.median((normals * found.normals).sum(axis=1)) > 0.99
    np.testing.assert_allclose(found.coat, 1.0, atol=1e-9)
    # Thomsen's formula for the area of an ellipsoid, good to 1.1 %.
    p = 1.6075
    products = np.array([axes[0] * axes[1], axes[0] * axes[2], axes[1] * axes[2]])
    assert found.areas.sum() == pytest.approx(4.0 * np.pi * np.mean(products**p) ** (1.0 / p), rel=0.05)


def test_the_horse_is_one_long_and_stands_on_four_legs(animal):
    size = np.ptp(animal.points, axis=0)
    assert size[0] == pytest.approx(1.0, abs=0.02)
    assert 0.7 < size[1] < 0.9
    assert 0.15 < size[2] < 0.35
    np.testing.assert_allclose(np.linalg.norm(animal.normals, axis=1), 1.0)
    # The flux of a constant field through a closed surface is zero.
    np.testing.assert_allclose(animal.areas @ animal.normals, 0.0, atol=0.01)
    hooves = animal.points[animal.points[:, 1] < animal.points[:, 1].min() + 0.03]
    corners = {(x > 0.0, z > 0.0) for x, z in hooves[:, [0, 2]]}
    assert len(corners) == 4


@pytest.mark.parametrize("camera", [experiment.CAMERA_A, experiment.CAMERA_B])
def test_pictures_are_periodic_whole_and_smooth_in_the_angle(animal, camera):
    angles = turn(12) + 0.1
    pictures = camera.photograph(animal, angles)
    assert pictures.shape == (12, camera.size, camera.size)
    np.testing.assert_allclose(camera.photograph(animal, angles + 2.0 * np.pi), pictures, atol=1e-5)
    assert pictures.max() <= solid.BACKGROUND + 0.05
    assert (pictures < 0.6).mean(axis=(1, 2)).min() > 0.03
    border = np.concatenate([pictures[:, [0, -1]].ravel(), pictures[:, :, [0, -1]].ravel()])
    assert border.min() > 0.95 * solid.BACKGROUND
    # A difference quotient settles: halving the step changes it by a few percent at most.
    step = 0.01

    def slope(h):
        return (camera.photograph(animal, angles + h) - camera.photograph(animal, angles - h)) / (2.0 * h)

    slopes = slope(step), slope(step / 2)
    change = np.linalg.norm(slopes[0] - slopes[1], axis=(1, 2)) / np.linalg.norm(slopes[1], axis=(1, 2))
    assert change.max() < 0.03


@pytest.mark.slow
def test_a_raised_camera_keeps_angles_apart_and_a_level_one_does_not(animal):
    angles = turn(60)
    black = replace(animal, coat=np.zeros_like(animal.coat))
    outline = closest_approach(angles, experiment.CAMERA_LEVEL.photograph(black, angles))
    raised = closest_approach(angles, experiment.CAMERA_A.photograph(animal, angles))
    assert outline < 0.2
    assert raised > 0.4


def test_closest_approach_of_a_figure_of_eight():
    angles = turn(100)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    # Angles just beyond 20 degrees apart: 21.6 degrees on this grid.
    assert closest_approach(angles, circle) == pytest.approx(2.0 * np.sin(np.radians(10.8)), rel=1e-6)
    eight = np.column_stack([np.sin(2.0 * angles), np.sin(angles)])
    assert closest_approach(angles, eight) == pytest.approx(0.0, abs=1e-7)


def test_bursts_have_the_very_moments_they_are_drawn_with():
    angles = turn(7)
    drawn = burst_angles(angles, 5, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=1), angles, atol=1e-12)
    np.testing.assert_allclose(drawn.std(axis=1, ddof=1), turntable.SCALE, rtol=1e-12)
    free = burst_angles(angles, 5, np.random.default_rng(0), standardised=False)
    assert np.ptp(free.std(axis=1, ddof=1)) > 0.2 * turntable.SCALE


def test_angles_of_codes_near_a_closed_curve():
    grid = turn(90)
    curve = np.column_stack([np.cos(grid), np.sin(grid), 0.3 * np.cos(2.0 * grid)])
    true = np.array([0.0123, 3.0, 6.27])
    codes = np.column_stack([np.cos(true), np.sin(true), 0.3 * np.cos(2.0 * true)])
    np.testing.assert_allclose(difference(angles_of_codes(codes, grid, curve), true), 0.0, atol=1e-3)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_angles_on_a_circle_by_landmarks(sign):
    true, marks = np.array([0.2, 2.0, 5.9]), np.array([0.4, 2.5, 4.6])
    read = angles_on_circle(sign * true + 1.1, sign * marks + 1.1 + 2.0 * np.pi, marks)
    np.testing.assert_allclose(difference(read, true), 0.0, atol=1e-12)


def closed_curve(angles, m, seed):
    """A generic closed curve in m dimensions, of uneven speed."""
    rng = np.random.default_rng(seed)
    coefficients = rng.standard_normal((3, 2, m)) / np.arange(1, 4)[:, None, None] ** 2
    return sum(
        np.cos(k * angles)[:, None] * coefficients[k - 1, 0] + np.sin(k * angles)[:, None] * coefficients[k - 1, 1]
        for k in (1, 2, 3)
    )


def test_standardised_bursts_recover_the_circle():
    rng = np.random.default_rng(0)
    sides, n = [], 150
    for m, seed in ((4, 1), (6, 2)):
        angles = 2.0 * np.pi * (np.arange(n) + rng.random(n)) / n
        members = closed_curve(burst_angles(angles, 4, rng).ravel(), m, seed)
        sides.append(observed(closed_curve(angles, m, seed), members))
    landmarks = tuple(closed_curve(experiment.LANDMARKS, m, seed) for m, seed in ((4, 1), (6, 2)))
    t = match(*sides, landmarks=landmarks)
    for side in (t.a, t.b):
        assert np.linalg.norm(side.embedding.periods_) == pytest.approx(2.0 * np.pi, rel=2e-3)
    true, grid = turn(50), turn(720)
    read = angles_of_codes(t.transform(closed_curve(true, 4, 1)), grid, closed_curve(grid, 6, 2))
    assert np.degrees(np.abs(difference(read, true))).max() < 0.3


class Links(HTMLParser):
    """Tags that stay open, and where a page points."""

    def __init__(self):
        super().__init__()
        self.open, self.targets = [], []

    def handle_starttag(self, tag, attributes):
        self.targets += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.slow
def test_a_tiny_run_writes_a_page_that_needs_nothing_else(tmp_path, monkeypatch, capsys):
    for needed in ("torch", "matplotlib", "skimage"):
        pytest.importorskip(needed)
    # Few points with large footprints: pictures that change slowly, so that a small sample is dense enough.
    monkeypatch.setattr(solid, "CELL", 0.05)
    monkeypatch.setattr(solid, "FOOTPRINT", 1.8)
    for name in ("CAMERA_A", "CAMERA_B", "CAMERA_LEVEL"):
        monkeypatch.setattr(experiment, name, replace(getattr(experiment, name), size=16))
    experiment.run_size(
        tmp_path, experiment.Size(angles=160, bursts=4, steps=150, held_out=24, draws=1, independent=False)
    )
    printed = capsys.readouterr().out
    assert len(re.findall(r"[AB]: a circle of 3\d\d\.\d\d degrees", printed)) == 2
    for name in ("cameras", "horse", "angle", "neurons"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "horse.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == ["html"] or links.open == []
    assert len(links.targets) == 4
    assert all(target.startswith("data:image/png;base64,") for target in links.targets)
    assert "closest approach" in text


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.data", None)
    with pytest.raises(errors.MissingDependencyError, match=r"diffeo\[demo\]"):
        solid.horse()
