"""Regressions on the values of pairs, without derivatives: what maps learned from pairs are compared with."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

Predict = Callable[[np.ndarray], np.ndarray]

# Widths of kernels in distances to the eighth neighbour, ridges, and numbers of neighbours, chosen by pairs left out.
WIDTHS, RIDGES, NEIGHBORS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0), (1e-10, 1e-8, 1e-5), (1, 2, 4, 8, 16)
# A Gaussian process by likelihood takes as many pairs at most; exact kernel ridge, and the perceptron, as many.
MOST_FOR_PROCESS, MOST_EXACT, MOST_FOR_PERCEPTRON = 200, 10000, 1000
CENTRES, VALIDATED = 5000, 0.2


def gaussian(squares: np.ndarray, width: float) -> np.ndarray:
    """exp(-s / 2 h^2), and zero below 1e-30: far below rounding, and denormal products would take most of the time."""
    found = np.exp(-squares / (2.0 * width**2))
    found[found < 1e-30] = 0.0
    return found


def kernel_ridge(a: np.ndarray, b: np.ndarray) -> Predict:
    """Gaussian kernels on the values; width and ridge by the error of a fifth of the pairs, then fitted to all."""
    order, mean = np.random.default_rng(0).permutation(len(a)), b.mean(axis=0)
    spacing = float(np.median(cKDTree(a).query(a, 9)[0][:, -1]))
    test, train = order[: len(a) // 5], order[len(a) // 5 :]

    def fitted(rows: np.ndarray, squares: np.ndarray, width: float, ridge: float) -> Predict:
        kernel = gaussian(squares, width) + ridge * np.eye(len(rows))
        dual = cho_solve(cho_factor(kernel, overwrite_a=True), b[rows] - mean)
        return lambda y: mean + gaussian(cdist(y, a[rows], "sqeuclidean"), width) @ dual

    errors, squares = {}, cdist(a[train], a[train], "sqeuclidean")
    for width in spacing * np.array(WIDTHS):
        for ridge in RIDGES:
            try:
                errors[width, ridge] = np.linalg.norm(fitted(train, squares, width, ridge)(a[test]) - b[test])
            except np.linalg.LinAlgError:
                continue
    return fitted(np.arange(len(a)), cdist(a, a, "sqeuclidean"), *min(errors, key=lambda one: errors[one]))


def nystroem(a: np.ndarray, b: np.ndarray) -> Predict:
    """Kernel ridge in the span of 5,000 of the pairs; width and ridge by a fifth of the pairs, with a fifth of the kernels."""
    rng = np.random.default_rng(0)
    order, mean = rng.permutation(len(a)), b.mean(axis=0)
    spacing = float(np.median(cKDTree(a).query(a[order[:2000]], 9)[0][:, -1]))

    def fitted(rows: np.ndarray, count: int, width: float, ridge: float) -> Predict:
        centres = a[rows[:count]]
        lower = cholesky(kernel(centres, centres, width) + 1e-11 * np.eye(count), lower=True)
        normal, right = ridge * np.eye(count), np.zeros((count, b.shape[1]))
        for start in range(0, len(rows), 4000):
            part = rows[start : start + 4000]
            features = solve_triangular(lower, kernel(centres, a[part], width), lower=True)
            normal += features @ features.T
            right += features @ (b[part] - mean)
        dual = solve_triangular(lower.T, cho_solve(cho_factor(normal), right))
        return lambda y: mean + kernel(y, centres, width) @ dual

    def kernel(x: np.ndarray, y: np.ndarray, width: float) -> np.ndarray:
        return gaussian(cdist(x, y, "sqeuclidean"), width)

    held = int(VALIDATED * len(a))
    test, train = order[:held], order[held:]
    errors = {}
    for factor in WIDTHS[1:]:
        for ridge in RIDGES:
            predict = fitted(train[:6000], CENTRES // 5, factor * spacing, ridge)
            errors[factor, ridge] = float(np.linalg.norm(predict(a[test[:1000]]) - b[test[:1000]]))
    factor, ridge = min(errors, key=lambda one: errors[one])
    # With five times the kernels a narrower one may be better.
    tried = {}
    for one in (factor, 0.5 * factor):
        predict = fitted(train, CENTRES, one * spacing, ridge)
        tried[one] = float(np.linalg.norm(predict(a[test]) - b[test])), predict
    return min(tried.values(), key=lambda pair: pair[0])[1]


def nearest(a: np.ndarray, b: np.ndarray) -> Predict:
    """The nearest pairs, weighted by the inverse distance; their number by pairs left out."""
    tree = cKDTree(a)

    def predicted(y: np.ndarray, k: int, skip: int) -> np.ndarray:
        distances, rows = tree.query(y, k + skip)
        distances, rows = distances.reshape(len(y), -1)[:, skip:], rows.reshape(len(y), -1)[:, skip:]
        weights = 1.0 / np.maximum(distances, 1e-300)
        return np.einsum("qk,qkv->qv", weights / weights.sum(axis=1, keepdims=True), b[rows])

    some = np.linspace(0, len(a) - 1, min(len(a), 2000)).astype(int)
    best = min(NEIGHBORS, key=lambda k: float(np.linalg.norm(predicted(a[some], k, 1) - b[some])))
    return lambda y: predicted(y, best, 0)


def perceptron(a: np.ndarray, b: np.ndarray) -> Predict:
    """Scikit-learn's multilayer perceptron, two layers of 128, on standardised values, with early stopping."""
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network = MLPRegressor(hidden_layer_sizes=(128, 128), max_iter=200, tol=1e-6, random_state=0, n_iter_no_change=20)
    model = TransformedTargetRegressor(make_pipeline(StandardScaler(), network), transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(a, b)
    return lambda y: np.asarray(model.predict(y)).reshape(len(y), -1)


def opponents(n: int, with_perceptron: bool = True) -> dict[str, Callable[[np.ndarray, np.ndarray], Predict]]:
    """Those that can be fitted to so many pairs."""
    found: dict[str, Callable[[np.ndarray, np.ndarray], Predict]] = {
        "kernel ridge": kernel_ridge if n <= MOST_EXACT else nystroem,
        "nearest": nearest,
        "affine": affine_fit,
    }
    if n <= MOST_FOR_PROCESS:
        found["Gaussian process"] = gaussian_process_fit
    if n <= MOST_FOR_PERCEPTRON and with_perceptron:
        found["perceptron"] = perceptron
    return found
