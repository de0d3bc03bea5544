"""Closed bugs that the review of the first version found."""

import subprocess
import sys

import numpy as np
import pytest
from diffeo import DiffusionMap, IsometricEmbedding, Observation, errors, mahalanobis_kernel, match, relative_error
from support.samples import smooth_map, square


def test_a_forked_child_does_not_wait_for_threads_it_does_not_have():
    script = """
import multiprocessing, numpy as np, diffeo
x = np.random.default_rng(0).random((800, 2))
def fit(_):
    return diffeo.DiffusionMap(n_components=3, n_jobs=2).fit(x).eigenvalues_.tobytes()
own = fit(0)
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(fit, [1, 2]) == [own, own]
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


@pytest.mark.parametrize("factor", [1e-5, 3e2, 1e5])
def test_one_large_neuron_does_not_mislead_the_map(factor):
    x, f, g = square(2000), smooth_map(2, 5, 0), smooth_map(2, 5, 1)
    units = np.array([1.0, 1.0, 1.0, 1.0, factor])

    def scaled(points, jacobians):
        return points * units, jacobians * units[:, None]

    rows = np.arange(6)
    t = match(
        Observation.from_jacobians(*scaled(*f(x))),
        Observation.from_jacobians(*g(x)),
        landmarks=np.column_stack([rows, rows]),
    )
    new = square(300, seed=9)
    assert relative_error(t.transform(f(new)[0] * units), g(new)[0]) < 1e-3
    assert t.diagnostics.problems == []


def test_relative_error_neither_overflows_nor_divides_by_rounding():
    big = np.array([[1e200], [-1e200]])
    assert relative_error(big * 1.1, big) == pytest.approx(0.1)
    with pytest.raises(errors.InputError, match="constant"):
        relative_error(np.full((7, 1), 0.2), np.full((7, 1), 0.1))


def test_observations_keep_their_own_points():
    points, jacobians = smooth_map(2, 5, 0)(square(200))
    observation = Observation.from_jacobians(points, jacobians)
    before = observation.points.copy()
    points *= 0.0
    np.testing.assert_array_equal(observation.points, before)


def test_a_wide_kernel_does_not_make_twins():
    mahalanobis_kernel(square(200), epsilon=1e20)


def test_landmarks_huddled_in_a_corner_are_named():
    x, f, g = square(1000), smooth_map(2, 5, 0), smooth_map(2, 5, 1)
    corner = 0.01 * square(3, seed=2)
    t = match(
        Observation.from_jacobians(*f(x)), Observation.from_jacobians(*g(x)), landmarks=(f(corner)[0], g(corner)[0])
    )
    assert any("spread the landmarks" in reason for reason in t.diagnostics.reasons)


def test_the_trivial_eigenvector_is_constant_on_a_graph_in_pieces():
    x = np.vstack([square(300, seed=1), square(200, seed=2) + 10.0, square(150, seed=3) - 10.0])
    with pytest.warns(errors.DisconnectedWarning):
        fitted = DiffusionMap(n_components=3, epsilon=0.02).fit(x)
    operator = fitted.operator_
    degree = fitted.eigenvectors_[:, 0] ** 2
    scaled = operator @ fitted.eigenvectors_[:, 0] - fitted.eigenvectors_[:, 0]
    assert np.abs(scaled).max() < 1e-8
    assert (degree > 0).all()


@pytest.mark.parametrize("factor", [1e160, 1e-170])
def test_units_beyond_double_precision_are_refused(factor):
    for fit in (mahalanobis_kernel, DiffusionMap(n_components=2).fit, IsometricEmbedding().fit):
        with pytest.raises(errors.DiffeoError):
            fit(square(100) * factor)


def test_tiny_epsilon_is_refused():
    with pytest.raises(errors.ParameterError, match="epsilon"):
        mahalanobis_kernel(square(100), epsilon=1e-320)


def test_a_dense_solve_asks_for_memory_first(monkeypatch):
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "5e6")
    with pytest.raises(errors.MemoryLimitError, match="dense solve"):
        DiffusionMap(n_components=300, epsilon=1e-3).fit(square(1000))
