"""The dimension that is taken where none is given, and what is said where samples or directions differ."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import Observation, errors
from support.samples import square


def weak_in(part, n=1000, weak=0.0):
    """Two measurements of the square; the second responds less, by a factor, in a part of it."""
    x = square(n, 2, 3)
    jacobians = np.broadcast_to(np.eye(2), (n, 2, 2)).copy()
    rows = np.flatnonzero(x[:, 0] < part)
    jacobians[rows, 1, 1] = weak
    return x, jacobians, rows


def test_a_rank_that_few_samples_lack_is_taken_and_these_are_named():
    x, jacobians, rows = weak_in(0.03)
    assert 10 < len(rows) < 100
    with pytest.warns(
        errors.RankWarning, match=rf"rank 2 on 9\d % of the samples.*\(rows {rows[0]}, .*dim = 2 was taken"
    ):
        observation = Observation.from_jacobians(x, jacobians)
    assert observation.dim == 2
    assert np.array_equal(observation.deficient, rows)
    assert not observation.whitening[rows].any()


def test_a_rank_that_many_samples_lack_is_not_taken_and_said():
    x, jacobians, rows = weak_in(0.3)
    with pytest.warns(
        errors.RankWarning, match=rf"rank 2 on \d+ % of the samples.*\(rows {rows[0]}, .*dim = 1 was taken"
    ):
        assert Observation.from_jacobians(x, jacobians).dim == 1


def test_a_dimension_that_is_given_still_allows_one_percent():
    x, jacobians, _ = weak_in(0.03)
    with pytest.raises(errors.RankError, match="of rank below dim = 2"):
        Observation.from_jacobians(x, jacobians, dim=2)


def test_a_gap_in_the_singular_values_is_named_and_proposed():
    rng = np.random.default_rng(0)
    x, turn = rng.random((500, 20)), np.linalg.qr(rng.normal(size=(20, 20)))[0]
    sizes = np.array([1.0, 0.8, *[0.004] * 18])
    with pytest.warns(errors.RankWarning, match=r"dim = 20, but after the first 2 .* by a factor of \d+ .* give dim=2"):
        observation = Observation.from_jacobians(
            x * sizes @ turn, np.broadcast_to((sizes * np.eye(20)) @ turn, (500, 20, 20))
        )
    assert observation.dim == 20
    assert Observation.from_jacobians(x * sizes, np.broadcast_to(np.diag(sizes), (500, 20, 20)), dim=2).dim == 2


def test_a_weak_third_direction_is_named_and_proposed():
    rng = np.random.default_rng(1)
    x, turn = rng.random((800, 3)), np.linalg.qr(rng.normal(size=(7, 7)))[0][:3]
    sizes = np.array([1.0, 0.7, 0.005])
    # Measurements of their own spread: none is weaker than the others, only a direction is.
    jacobians = np.broadcast_to(sizes[None, :, None] * turn[None], (800, 3, 7)).transpose(0, 2, 1)
    with pytest.warns(errors.RankWarning, match=r"dim = 3, but after the first 2 .* give dim=2"):
        assert Observation.from_jacobians(x * sizes @ turn, jacobians).dim == 3


@pytest.mark.parametrize("seed", range(3))
def test_a_rank_that_changes_over_the_domain_is_mapped(seed):
    x, turn = square(1500, 2, seed), np.random.default_rng(seed).normal(size=(2, 5))
    jacobians = np.broadcast_to(turn.T, (1500, 5, 2)).copy()
    # Two corners; in one of them nothing at all is measured.
    first, second = (np.linalg.norm(x - corner, axis=1) < 0.15 for corner in ([0.0, 0.0], [1.0, 1.0]))
    jacobians[first] = jacobians[first][:, :, :1] * [1.0, 2.0]
    jacobians[second] = 0.0
    with pytest.warns(errors.RankWarning, match=r"rank 1 on .* %.*rank 0 on .* %.*dim = 2 was taken"):
        found = Observation.from_jacobians(x @ turn, jacobians).rank_map
    assert np.array_equal(found.rows(2), np.flatnonzero(~first & ~second))
    assert np.array_equal(found.rows(1), np.flatnonzero(first))
    assert np.array_equal(found.rows(0), np.flatnonzero(second))
    assert found.shares == {2: np.mean(~first & ~second), 1: np.mean(first), 0: np.mean(second)}
    assert [len(found.places(rank)) for rank in (0, 1)] == [1, 1]
    lines = str(found).splitlines()
    assert [line.split(" on ")[0] for line in lines] == ["rank 2", "rank 1", "rank 0"]


def test_the_measurement_that_tells_the_rank_is_named_with_its_threshold():
    x, jacobians, rows = weak_in(0.2)
    jacobians[x[:, 0] > 0.9, 1, 1] = 0.0
    with pytest.warns(errors.RankWarning, match="in 2 places"):
        both = Observation.from_jacobians(x, jacobians).rank_map
    assert both.border(1) is None
    assert {len(part) for part in both.places(1)[:2]} == {len(rows), int((x[:, 0] > 0.9).sum())}
    x, jacobians, rows = weak_in(0.2)
    with pytest.warns(errors.RankWarning, match=r"where measurement 0 is below 0\.[12]"):
        one = Observation.from_jacobians(x, jacobians).rank_map
    column, threshold, below = one.border(1)
    assert (column, below) == (0, True)
    assert x[rows, 0].max() < threshold < x[x[:, 0] >= 0.2, 0].min()


def test_curvature_of_bursts_is_no_rank():
    rng = np.random.default_rng(0)
    x = square(300, 1, 0)
    curve = lambda t: np.column_stack([np.cos(3.0 * t[..., 0].ravel()), np.sin(3.0 * t[..., 0].ravel())])  # noqa: E731
    bursts = curve(x[:, None, :] + 0.05 * rng.normal(size=(300, 20, 1))).reshape(300, 20, 2)
    found = Observation.from_bursts(curve(x), bursts, scale=0.05, dim=1)
    assert found.rank_map.shares == {1: 1.0}
    assert found.rank_map.falls(1) == []


def test_bursts_along_one_tangent_show_one_dimension():
    torch = pytest.importorskip("torch")
    from diffeo import observe

    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    x = np.column_stack([np.cos(angle), np.sin(angle)])
    tangents = np.column_stack([-np.sin(angle), np.cos(angle)])[:, :, None]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh()).double()
    for scale in (0.02, 0.6):
        assert observe(model, x, tangents=tangents, covariances="bursts", scale=scale).dim == 1
    with pytest.raises(errors.RankError, match="dim = 2 exceeds 1"):
        observe(model, x, tangents=tangents, covariances="bursts", scale=0.1, dim=2)


def test_a_reference_on_a_curved_set_is_fitted_along_its_tangents():
    rng = np.random.default_rng(7)
    angle, centres = 2.0 * np.pi * rng.random(1500), 2.0 * np.pi * rng.random(30)
    points = np.exp(3.0 * (np.cos(angle[:, None] - centres) - 1.0))
    slope = np.linalg.norm(3.0 * np.sin(angle[:, None] - centres) * points, axis=1)
    for dim in (1, None):
        found = Observation.from_neighbors(points, np.column_stack([np.cos(angle), np.sin(angle)]), dim=dim)
        assert found.dim == 1
        assert np.median(np.abs(np.log(found.singular_values[:, 0] / slope))) < 0.02


def ring(seed, n, noise, off):
    """Activity of 30 tuned units, noisy by a share of its spread, its (cos, sin) noisy by `off` each, and true slopes."""
    rng = np.random.default_rng(seed)
    angle, centres = 2.0 * np.pi * rng.random(n), 2.0 * np.pi * rng.random(30)
    points = np.exp(3.0 * (np.cos(angle[:, None] - centres) - 1.0))
    slopes = -3.0 * np.sin(angle[:, None] - centres) * points
    seen = points + noise * points.std(axis=0).mean() * rng.normal(size=points.shape)
    return seen, np.column_stack([np.cos(angle), np.sin(angle)]) + off * rng.normal(size=(n, 2)), slopes


def slope_errors(found, slopes):
    """Root-mean-square relative error of the lengths of derivatives, and of their directions."""
    direction = found.whitening[:, :, 0] / np.linalg.norm(found.whitening[:, :, 0], axis=1, keepdims=True)
    true = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    length = found.singular_values[:, 0] / np.linalg.norm(slopes, axis=1) - 1.0
    return np.sqrt((length**2).mean()), np.sqrt(np.mean(1.0 - (direction * true).sum(axis=1) ** 2))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("off", [0.0, 0.01, 0.03])
def test_a_noisy_reference_on_a_curved_set_is_fitted_along_it_over_more_neighbours(seed, off):
    seen, reference, slopes = ring(seed, 1500, 0.05, off)
    found = Observation.from_neighbors(seen, reference)
    assert found.dim == 1
    assert found.singular_values.shape[1] == 1
    length, turned = slope_errors(found, slopes)
    # Over 32 neighbours: 0.04, 0.06 and 0.14.
    assert length < {0.0: 0.02, 0.01: 0.03, 0.03: 0.05}[off]
    assert turned < 0.08


def test_without_noise_no_more_neighbours_are_taken():
    seen, reference, slopes = ring(0, 1500, 0.0, 0.0)
    length, turned = slope_errors(Observation.from_neighbors(seen, reference), slopes)
    assert length < 0.004
    assert turned < 0.01


@pytest.mark.parametrize("seed", range(2))
def test_a_thin_strip_is_no_noise_beside_a_curve(seed):
    """A reference as thick as a noisy one, but measurements depend on what lies across it."""
    rng = np.random.default_rng(seed)
    angle, radius = 2.0 * np.pi * rng.random(2000), 1.0 + 0.06 * (rng.random(2000) - 0.5)
    x = np.column_stack([np.cos(angle), np.sin(angle)]) * radius[:, None]
    points = np.tanh(x @ rng.normal(size=(2, 8)))
    found = Observation.from_neighbors(points + 0.001 * rng.normal(size=points.shape), x, dim=2)
    assert found.singular_values.shape[1] == 2


def test_more_neighbours_are_taken_where_they_show_the_same_only():
    """A reference along which measurements climb a wall: a wide fit would miss it."""
    rng = np.random.default_rng(3)
    x = np.sort(rng.random(3000))
    wall = np.tanh(60.0 * (x - 0.5))
    points = np.column_stack([x, wall, np.sin(3.0 * x)]) + 0.01 * rng.normal(size=(3000, 3))
    found = Observation.from_neighbors(points, x[:, None], dim=1)
    true = np.sqrt(1.0 + (60.0 * (1.0 - wall**2)) ** 2 + (3.0 * np.cos(3.0 * x)) ** 2)
    ratio = np.log(found.singular_values[:, 0] / true)
    assert np.abs(np.median(ratio)) < 0.02
    assert np.quantile(np.abs(ratio), 0.9) < 0.25


def test_a_reference_that_fills_its_space_keeps_all_directions():
    x = np.random.default_rng(1).random((1000, 3)) * [1.0, 1.0, 0.5]
    points = np.tanh(x @ np.random.default_rng(2).normal(size=(3, 8)))
    assert Observation.from_neighbors(points, x, dim=3).singular_values.shape[1] == 3
    sphere = x - x.mean(axis=0)
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    assert Observation.from_neighbors(np.tanh(sphere @ np.ones((3, 8))), sphere, dim=1).singular_values.shape[1] == 2


@pytest.mark.parametrize("dim", [1, 2])
def test_time_is_no_reference_of_a_path_that_noise_drives(dim):
    rng = np.random.default_rng(dim)
    path = np.abs((0.02 * np.cumsum(rng.normal(size=(3000, dim)), axis=0) + 1.0) % 4.0 - 2.0)
    points = np.tanh(path @ rng.normal(size=(dim, 6)))
    time = np.arange(3000.0)[:, None]
    for level in (0.0, 0.002):
        with pytest.raises(errors.InputError, match="diffuse"):
            Observation.from_neighbors(points + level * rng.normal(size=points.shape), time, dim=1)


@pytest.mark.parametrize("seed", [1, 2])
def test_longer_steps_tell_what_noise_of_measurements_hides(seed):
    """Overdamped motion in two wells; over sixteen samples it moves by less than the noise."""
    rng = np.random.default_rng(seed)
    path = np.zeros((6000, 2))
    for i in range(1, 6000):
        path[i] = path[i - 1] + 2e-4 * (path[i - 1] - path[i - 1] ** 3) + 0.02 * rng.normal(size=2)
    points = np.tanh(path @ rng.normal(size=(2, 8)))
    points += 0.1 * points.std() * rng.normal(size=points.shape)
    with pytest.raises(errors.InputError, match="diffuse"):
        Observation.from_neighbors(points, np.arange(6000.0)[:, None], dim=1)


@pytest.mark.parametrize("level", [0.0, 0.01, 0.05, 0.2])
def test_time_is_a_reference_of_a_smooth_path_measured_with_noise(level):
    time = np.sort(np.random.default_rng(0).uniform(0.0, 50.0, 2000))
    points = np.column_stack([np.sin(time), np.cos(0.7 * time), np.sin(1.9 * time)])
    seen = points + level * np.random.default_rng(1).normal(size=points.shape)
    assert Observation.from_neighbors(seen, time[:, None], dim=1).dim == 1
