"""The transformation that `match` gives: both ways, common coordinates, projections, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors, match, relative_error
from support.pairs import NEW, THREE, at, maps, matched, observations
from support.samples import smooth_map, square


def test_backward_undoes_forward():
    found = matched()
    y = maps()[0](NEW)[0]
    assert relative_error(found.inverse_transform(found.transform(y)), y) < 1e-4
    c = found.intrinsic(y)
    assert c.shape == (300, 2)
    # Intrinsic coordinates are isometric to the inputs.
    spread = np.linalg.norm(c - c.mean(axis=0))
    assert spread == pytest.approx(np.linalg.norm(NEW - NEW.mean(axis=0)), rel=2e-3)


@pytest.mark.parametrize("coordinates", ["isometric", "diffusion"])
def test_points_out_of_the_domain_are_named_and_finite(coordinates):
    found = matched(0, coordinates)
    a, b = at(maps(), np.array([[0.5, 0.5], [3.0, 3.0]]))
    for transform, y in ((found.transform, a), (found.inverse_transform, b), (found.intrinsic, a)):
        with pytest.warns(errors.OutOfDomainWarning, match="1 of 2"):
            result = transform(y)
        assert np.isfinite(result).all()


def projected(seed=0):
    """The square, and a second side that sees its first coordinate alone."""
    curve = smooth_map(1, 3, 8)
    pair = observations(seed)[0], Observation.from_jacobians(*curve(square(500, 1, seed + 3)))
    return pair, lambda x: (maps(seed)[0](x)[0], curve(x[:, :1])[0])


@pytest.mark.filterwarnings("ignore::diffeo.errors.OutOfDomainWarning")  # B's line ends a little before some partners
def test_a_projection_has_no_way_back():
    pair, both = projected()
    found = match(*pair, landmarks=both(square(5, 2, 12)))
    y_a, y_b = both(NEW)
    assert relative_error(found.transform(y_a), y_b) < 0.01
    assert found.alignment.kind == "projection"
    assert found.intrinsic(y_a).shape == (300, 1)
    assert not found.invertible
    with pytest.raises(errors.NotInvertibleError, match="A has 2 intrinsic dimensions and B only 1"):
        found.inverse_transform(y_b)
    with pytest.raises(errors.ShapeError):
        found.inverse_transform(y_b[:, :2])


def test_a_projection_needs_d_plus_one_landmarks():
    pair, both = projected()
    with pytest.raises(errors.LandmarkError, match="2 landmarks cannot align 2 coordinates; at least 3"):
        match(*pair, landmarks=both(square(2, 2, 12)))


def test_no_map_leads_to_more_dimensions():
    pair, both = projected()
    with pytest.raises(errors.DimensionMismatchError, match=r"match\(obs_b, obs_a\) gives the way back"):
        match(*pair[::-1], landmarks=both(square(5, 2, 12))[::-1])


def test_many_landmarks_repair_a_side_that_is_seen_in_a_wrong_metric():
    # B's Jacobians belong to a bent square: no rigid motion joins the two.
    b = maps()[1]
    x = square(2000, 2, 150)
    y, jacobians = b(x)
    bend = np.tile(np.eye(2), (2000, 1, 1))
    bend[:, 0, 0] = 1.0 + 0.4 * x[:, 0]
    pair = observations()[0], Observation.from_jacobians(y, jacobians @ np.linalg.inv(bend))
    y_a, y_b = at(maps(), NEW)
    off = [
        relative_error(match(*pair, landmarks=at(maps(), square(count, 2, 31))).transform(y_a), y_b)
        for count in (3, 50)
    ]
    assert off[1] < off[0] / 10


A_POINTS, _ = at(maps(), THREE)


@pytest.mark.parametrize(
    ("points", "error"),
    [
        (A_POINTS[:, :3], errors.ShapeError),
        (A_POINTS[0], errors.ShapeError),
        (A_POINTS[:0], errors.ShapeError),
        (A_POINTS * np.inf, errors.NonFiniteError),
        (A_POINTS + 0j, errors.DataTypeError),
        (None, errors.DataTypeError),
    ],
)
def test_points_that_cannot_be_transformed(points, error):
    found = matched()
    for transform in (found.transform, found.intrinsic):
        with pytest.raises(error):
            transform(points)
