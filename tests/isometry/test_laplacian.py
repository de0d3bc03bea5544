"""Laplacians of neighbour graphs: factored and by multigrid, against dense systems and one another."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import errors
from diffeo._support import core
from diffeo.isometry import laplacian
from diffeo.isometry.laplacian import (
    HeldLaplacian,
    MultigridLaplacian,
    anchored_solution,
    diagonal_matrix,
    factored,
    graph_laplacian,
)
from scipy.spatial import cKDTree
from support.samples import square


def held_laplacian(n):
    """Weighted Laplacian of a neighbour graph of n samples, the first held."""
    x = square(n, 2, 0)
    i, j = cKDTree(x).query_pairs(0.2, output_type="ndarray").T
    weights = 1.0 / np.linalg.norm(x[i] - x[j], axis=1)
    near = sp.coo_array((weights, (i, j)), shape=(n, n))
    near = near + near.T
    return (diagonal_matrix(near.sum(axis=1)) - near).tocsc()[1:, 1:]


@pytest.mark.parametrize("shape", [(), (1,), (3,)])
def test_solutions_are_those_of_the_dense_system(shape):
    laplacian = held_laplacian(200)
    right = np.random.default_rng(1).normal(size=(199, *shape))
    found = factored(laplacian)(right)
    assert found.shape == right.shape
    np.testing.assert_allclose(found, np.linalg.solve(laplacian.toarray(), right), rtol=1e-9, atol=1e-12)


def test_one_factorisation_serves_many_right_sides():
    laplacian = held_laplacian(100)
    solve = factored(laplacian)
    for seed in range(3):
        right = np.random.default_rng(seed).normal(size=(99, 2))
        np.testing.assert_allclose(laplacian @ solve(right), right, atol=1e-10)
        assert solve(right).tobytes() == factored(laplacian)(right).tobytes()


def test_nothing_to_solve_for():
    assert factored(sp.csc_array((0, 0)))(np.empty((0, 2))).shape == (0, 2)


def test_singular_matrix_is_an_error():
    with pytest.raises(errors.ConvergenceError, match="held by no length"):
        factored(sp.csc_array(np.zeros((3, 3))))


# --- graphs with periods, and many samples ------------------------------------------------------------------


def wound_graph(n, dim=2, n_periods=1, seed=0):
    """Edges (e,) of the unit cube closed up along its first axes, weights over six orders, windings (e, k)."""
    x = square(n, dim, seed)
    near = cKDTree(x, boxsize=[1.0] * n_periods + [4.0] * (dim - n_periods)).query(x, 13)[1][:, 1:]
    edges = np.unique(np.sort(np.column_stack([np.repeat(np.arange(n), 12), near.ravel()]), axis=1), axis=0)
    i, j = np.ascontiguousarray(edges.T, dtype=np.int64)
    weights = 10.0 ** np.random.default_rng(seed + 1).uniform(-6.0, 0.0, len(i))
    return i, j, weights, np.ascontiguousarray(np.round(x[i] - x[j])[:, :n_periods])


def dense(n, i, j, weights, windings):
    incidence = np.zeros((len(i), n + windings.shape[1]))
    incidence[np.arange(len(i)), i] -= 1.0
    incidence[np.arange(len(i)), j] += 1.0
    incidence[:, n:] = windings
    return incidence.T @ (weights[:, None] * incidence)


@pytest.mark.parametrize("solver", [HeldLaplacian, MultigridLaplacian])
@pytest.mark.parametrize(("dim", "n_periods"), [(1, 0), (2, 0), (2, 1), (3, 3)])
def test_laplacians_with_periods_are_solved(solver, dim, n_periods):
    n = 800
    graph = wound_graph(n, dim, n_periods)
    matrix = dense(n, *graph)
    x = np.random.default_rng(3).normal(size=(n + n_periods, 2))
    found = solver(n, *graph).solve(matrix @ x)
    np.testing.assert_allclose(matrix @ found, matrix @ x, atol=1e-8 * np.abs(matrix @ x).max())
    # A translation of the samples is free, the periods are not.
    np.testing.assert_allclose(found[n:], x[n:], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_periods", [0, 1, 2])
def test_a_correction_brings_every_error_down(n_periods):
    n = 900
    i, j, _, windings = wound_graph(n, 2, n_periods)
    weights = np.random.default_rng(5).uniform(0.1, 1.0, len(i))
    matrix = dense(n, i, j, weights, windings)
    laplacian = MultigridLaplacian(n, i, j, weights, windings)
    error = np.random.default_rng(6).normal(size=(n + n_periods, 3))
    energies = []
    for _ in range(12):
        energies.append((error * (matrix @ error)).sum(axis=0))
        error = error - laplacian.correct(matrix @ error)
    shares = np.array(energies[1:]) / np.array(energies[:-1])
    assert (shares < 0.7).all()
    # Symmetric, as conjugate gradients need it.
    a, b = (matrix @ np.random.default_rng(seed).normal(size=(n + n_periods, 1)) for seed in (1, 2))
    one, other = float((a * laplacian.correct(b)).sum()), float((b * laplacian.correct(a)).sum())
    assert one == pytest.approx(other, rel=1e-4)


def test_iterations_do_not_grow_with_the_sample():
    counts = []
    for n in (2000, 30_000):
        i, j, _, _ = wound_graph(n)
        solver = core.LaplacianSolver(n, i, j, np.ones(len(i)), None, 2)
        right = np.random.default_rng(0).normal(size=(n, 2))
        counts.append(solver.solve(right - right.mean(axis=0), 1e-10, 200)[1])
    assert counts[1] <= counts[0] + 6
    assert counts[1] <= 25


def test_many_samples_take_multigrid(monkeypatch):
    graph = wound_graph(600)
    assert isinstance(graph_laplacian(600, *graph), HeldLaplacian)
    monkeypatch.setattr(laplacian, "DIRECT_SIZE", 500)
    assert isinstance(graph_laplacian(600, *graph), MultigridLaplacian)


def test_anchored_solutions_agree(monkeypatch):
    n = 700
    i, j, weights, _ = wound_graph(n)
    anchors = np.where(np.arange(n) % 5 == 0, 1.0, 0.0)
    right = np.random.default_rng(2).normal(size=(n, 2))
    exact = np.linalg.solve(dense(n, i, j, weights, np.empty((len(i), 0))) + np.diag(anchors), right)
    np.testing.assert_allclose(anchored_solution(n, i, j, weights, anchors, right), exact, rtol=1e-6)
    monkeypatch.setattr(laplacian, "DIRECT_SIZE", 100)
    found = anchored_solution(n, i, j, weights, anchors, right)
    assert np.linalg.norm(found - exact) < 1e-2 * np.linalg.norm(exact)


def test_unsolvable_systems_are_errors():
    i, j, _, windings = wound_graph(600)
    laplacian = MultigridLaplacian(600, i, j, np.ones(len(i)), windings[:, :0])
    with pytest.raises(errors.ConvergenceError, match="were not found"):
        laplacian.solve(np.ones((600, 1)))


def test_arguments_of_the_core_are_checked():
    i = np.array([0, 1])
    with pytest.raises(ValueError, match="no such row"):
        core.LaplacianSolver(2, i, i + 1, np.ones(2), None, 1)
    with pytest.raises(ValueError, match="same shape"):
        core.LaplacianSolver(3, i, i + 1, np.ones(3), None, 1)
    with pytest.raises(ValueError, match="anchors"):
        core.LaplacianSolver(3, i, i + 1, np.ones(2), np.ones(2), 1)
    solver = core.LaplacianSolver(3, i, i + 1, np.ones(2), None, 1)
    for call in (solver.cycle, lambda right: solver.solve(right, 1e-9, 10)):
        with pytest.raises(ValueError, match="right"):
            call(np.ones((2, 2)))
        with pytest.raises(ValueError, match="axes"):
            call(np.ones(3))


def test_a_singular_system_names_the_part_of_the_graph_that_nothing_holds():
    i, j = np.array([0, 1, 2, 4, 5]), np.array([1, 2, 3, 5, 6])
    rows = np.array([10, 11, 12, 13, 20, 21, 22])
    with pytest.raises(
        errors.ConvergenceError, match=r"3 samples of the neighbour graph \(rows 20, 21, 22\)"
    ) as refusal:
        graph_laplacian(7, i, j, np.ones(5), np.empty((5, 0)), rows)
    assert "actor" not in str(refusal.value)
