"""The choice of eigenvectors that are coordinates of their own."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, Observation
from diffeo.diffusion.independent import independent_coordinates
from support.samples import relative_gap, smooth_map, smooth_observation, square


def lattice():
    """A Fibonacci lattice on the torus: as even as a grid, but no two samples share an angle."""
    i = np.arange(2584)
    return 2 * np.pi * np.stack([i / 2584, i * 1597 % 2584 / 2584], axis=1)


def torus(angles, lengths=1.0):
    """Every angle as a point of a unit circle; inputs run `lengths[k]` times as fast along the k-th."""
    n, d = angles.shape
    points, jacobians = np.empty((n, 2 * d)), np.zeros((n, 2 * d, d))
    for k in range(d):
        points[:, 2 * k], points[:, 2 * k + 1] = np.cos(angles[:, k]), np.sin(angles[:, k])
        jacobians[:, 2 * k, k], jacobians[:, 2 * k + 1, k] = -np.sin(angles[:, k]), np.cos(angles[:, k])
    return Observation.from_jacobians(points, jacobians / lengths, dim=d)


def chosen(data, n_components=10, max_coordinates=4, **options):
    fitted = DiffusionMap(n_components=n_components, **options).fit(data)
    return fitted, independent_coordinates(fitted, max_coordinates)


def assert_well_formed(fitted, selection):
    count = selection.mixing.shape[1]
    assert selection.mixing.shape[0] == fitted.embedding_.shape[1]
    np.testing.assert_allclose(selection.mixing.T @ selection.mixing, np.eye(count), atol=1e-10)
    assert selection.components.shape == (count,)
    assert selection.unexplained.shape == (fitted.embedding_.shape[1],)
    assert ((selection.unexplained >= 0) & (selection.unexplained < 1.5)).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_a_square_has_two(seed):
    observation = smooth_observation(2500, 2, 5, seed=seed)
    fitted, selection = chosen(observation)
    assert_well_formed(fitted, selection)
    assert selection.mixing.shape[1] == 2
    assert set(selection.components) <= {0, 1}
    x = square(2500, 2, seed + 1)
    gap = relative_gap(fitted.embedding_ @ selection.mixing, np.cos(np.pi * x))
    assert gap.max() < 0.1


def test_an_interval_has_one():
    observation = smooth_observation(800, 1, 3)
    fitted, selection = chosen(observation)
    assert_well_formed(fitted, selection)
    np.testing.assert_array_equal(selection.components, [0])
    assert selection.unexplained[0] == pytest.approx(1.0, abs=1e-6)
    # Harmonics are functions of the first.
    assert selection.unexplained[1:5].max() < 0.2


def test_a_circle_has_two():
    angles = 2 * np.pi * square(1000, 1)
    fitted, selection = chosen(torus(angles))
    assert_well_formed(fitted, selection)
    assert selection.mixing.shape[1] == 2
    assert set(selection.components) <= {0, 1}
    gap = relative_gap(fitted.embedding_ @ selection.mixing, torus(angles).points)
    assert gap.max() < 0.1


@pytest.mark.parametrize("lengths", [(1.0, 1.0), (1.0, 0.7)])
def test_a_flat_torus_has_four(lengths):
    # Of a square torus the first eigenvalue is four-fold. Any three directions of the eigenspace nearly determine
    # the fourth, but two networks would take different ones.
    angles = lattice()
    observation = torus(angles, np.array(lengths))
    fitted, selection = chosen(observation, n_components=12)
    assert_well_formed(fitted, selection)
    assert selection.mixing.shape[1] == 4
    assert relative_gap(fitted.embedding_ @ selection.mixing, observation.points).max() < 0.02


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_thin_strip_finds_its_width_although_a_harmonic_of_its_length_coincides(seed):
    # Both 4 x length and 1 x width have the eigenvalue 16 pi^2; the eigensolver returns a mixture.
    x = square(3000, 2, seed) * [1.0, 0.25]
    observation = Observation.from_jacobians(*smooth_map(2, 5, seed)(x))
    fitted, selection = chosen(observation)
    assert_well_formed(fitted, selection)
    assert selection.mixing.shape[1] == 2
    coordinates = fitted.embedding_ @ selection.mixing
    assert selection.components[0] == 0
    assert selection.components[1] >= 2
    for axis in (0, 1):
        assert abs(np.corrcoef(coordinates[:, axis], np.cos(np.pi * x[:, axis] / x[:, axis].max()))[0, 1]) > 0.95


def test_a_cube_has_three():
    x = square(3000, 3)
    fitted, selection = chosen(Observation.from_jacobians(*smooth_map(3, 7, 0)(x)), max_coordinates=6)
    assert_well_formed(fitted, selection)
    assert selection.mixing.shape[1] == 3
    assert relative_gap(fitted.embedding_ @ selection.mixing, np.cos(np.pi * x)).max() < 0.2


@pytest.mark.parametrize("most", [1, 2, 3])
def test_no_more_than_asked(most):
    _, selection = chosen(torus(lattice()), max_coordinates=most)
    assert selection.mixing.shape[1] == most


def test_the_choice_is_the_same_for_any_number_of_threads():
    observation = smooth_observation(1200, 2, 5, seed=2)
    one, two = (chosen(observation, n_jobs=n_jobs)[1] for n_jobs in (1, 2))
    assert one.mixing.tobytes() == two.mixing.tobytes()
    assert one.unexplained.tobytes() == two.unexplained.tobytes()


@pytest.mark.filterwarnings("ignore::diffeo.errors.DuplicateWarning")
def test_twins_are_not_explained_by_each_other():
    # Every sample twice: leaving out the sample itself would leave its twin.
    x = np.repeat(square(900), 2, axis=0)
    fitted = DiffusionMap(n_components=6).fit(np.ascontiguousarray(x + 1e-9 * square(1800, seed=3)))
    selection = independent_coordinates(fitted, 4)
    assert selection.mixing.shape[1] == 2
