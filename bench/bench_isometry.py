"""Isometric coordinates: the input recovered from five (seven) smooth measurements, against the start alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from diffeo import IsometricEmbedding, Observation
from diffeo.isometry import laplacian, layout_search
from diffeo.isometry.graph import neighbor_graph
from diffeo.isometry.stress import start_layout

DOMAINS = ("square", "strip 1 x 0.25", "round hole", "uneven density", "cube")


def inputs(name: str, n: int) -> np.ndarray:
    rng = np.random.default_rng(5)
    if name == "round hole":
        x = rng.random((3 * n, 2))
        return x[np.linalg.norm(x - 0.5, axis=1) > 0.25][:n]
    x = rng.random((n, 3 if name == "cube" else 2))
    if name == "strip 1 x 0.25":
        x[:, 1] *= 0.25
    return x**2 if name == "uneven density" else x


def observe_at(x: np.ndarray) -> Observation:
    """2d + 1 units tanh(z) + 0.3 z, z = A x + b; every Jacobian is turned by its own random rotation."""
    rng = np.random.default_rng(0)
    n, d = x.shape
    weights, biases = 1.5 * rng.normal(size=(2 * d + 1, d)), rng.normal(size=2 * d + 1)
    z = x @ weights.T + biases
    jacobians = (1.3 - np.tanh(z) ** 2)[:, :, None] * weights
    turns = np.linalg.qr(rng.normal(size=(n, d, d)))[0]
    return Observation.from_jacobians(np.tanh(z) + 0.3 * z, jacobians @ turns, dim=d)


def relative_error(found: np.ndarray, x: np.ndarray) -> float:
    """Relative rms error after the best rigid motion."""
    p, q = found - found.mean(axis=0), x - x.mean(axis=0)
    u, _, vt = np.linalg.svd(p.T @ q)
    return float(np.linalg.norm(p @ (u @ vt) - q) / np.linalg.norm(q))


@pytest.mark.parametrize(("name", "n"), [(name, 6000 if name == "cube" else 10_000) for name in DOMAINS])
def test_isometric_embedding(name, n, size, contest, opponent, record):
    n = size(n)
    size.once("isometry", name, n)
    x = inputs(name, n)
    observation = observe_at(x)

    def start_alone():
        graph = neighbor_graph(observation, 12, 0)
        return graph.rows, start_layout(graph, observation.dim)

    beside = opponent("start alone", start_alone, rounds=1)
    rows, start = beside.result
    fitted = contest(IsometricEmbedding().fit, observation, rounds=1)
    error = relative_error(fitted.embedding_, x)
    assert error < 0.01 * relative_error(start, x[rows])
    record(
        f"IsometricEmbedding().fit, {name}",
        [beside.told(f"error {relative_error(start, x[rows]):.1e}")],
        n=n,
        m=observation.points.shape[1],
        d=observation.dim,
        error=error,
        error_of="input recovered",
    )


def directly(observation: Observation) -> IsometricEmbedding:
    """The fit with factored Laplacians and a start from the whole graph, as small samples have it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(laplacian, "DIRECT_SIZE", math.inf)
        patch.setattr(layout_search, "LARGE", math.inf)
        return IsometricEmbedding().fit(observation)


@pytest.mark.parametrize(("name", "n"), [("square", 100_000), ("cube", 50_000), ("square", 1_000_000)])
def test_large_isometric_embedding(name, n, size, long, contest, opponent, record):
    full = size.is_full(n)
    n = size(n)
    size.once("large isometry", name, n)
    x = inputs(name, n)
    observation = observe_at(x)
    skip = "" if long or n <= 100_000 else "takes many minutes (--long)"
    direct = opponent("factored, whole start", directly, observation, rounds=1, skip=skip)
    fitted = contest(IsometricEmbedding().fit, observation, rounds=1)
    error = relative_error(fitted.embedding_, x)
    assert fitted.converged_
    if direct.ran:
        before = relative_error(direct.result.embedding_, x)
        assert error < 1.2 * before
        direct = direct.told(f"error {before:.1e}")
    elif full:
        assert error < 1e-7
    record(
        f"multigrid against factors, {name}",
        [direct],
        n=n,
        m=observation.points.shape[1],
        d=observation.dim,
        error=error,
        error_of="input recovered",
    )
