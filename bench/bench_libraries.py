"""Where diffeo keeps code of its own that a library has too: both on the same task, time and error side by side.

``python -m bench.bench_libraries [--quick] [--only NAME,...]`` prints one table. The target is the rule by which own code
stays: the library takes more than twice as long, or misses more than twice as much. Both sides work in one thread and
in turn; the fewest CPU seconds of all rounds count, which other work on the machine hardly changes.
"""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from diffeo import relative_error
from diffeo._support.threads import working
from diffeo.isometry.graph import neighbor_graph
from diffeo.isometry.laplacian import FULL, MultigridLaplacian, incidence_matrix
from diffeo.isometry.stress import edge_weights
from diffeo.matching import gaussian_process
from diffeo.matching.gaussian_process import fit_process, sections
from scipy.optimize import minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from bench.bench_isometry import inputs, observe_at
from bench.figures import Row, digits
from bench.opponents import _loaded
from bench.rows import Rows

# A library that is at most so many times as slow, or as wrong, is to replace what is our own.
FACTOR = 2.0


@dataclass(frozen=True)
class Size:
    """The largest graph, the most landmarks, and the rounds."""

    samples: int
    landmarks: int
    rounds: int


row = Rows(
    "bench_libraries",
    __doc__,
    Size(1_000_000, 400, 3),
    Size(3000, 50, 1),
    lambda name, size: name == "laplacian million" and size.samples < 1_000_000,
)


def alternated(rounds: int, *functions: Callable[[], Any]) -> list[tuple[float, Any]]:
    """Fewest CPU seconds, and the result, of each in turn."""
    best: list[tuple[float, Any]] = [(math.inf, None)] * len(functions)
    for _ in range(rounds):
        for k, function in enumerate(functions):
            start = time.process_time()
            result = function()
            best[k] = min(best[k][0], time.process_time() - start), result
    return best


# --- Laplacians of neighbour graphs -------------------------------------------------------------------------

GRAPHS = {
    "laplacian square": ("square", 100_000),
    "laplacian cube": ("cube", 50_000),
    "laplacian million": ("square", 1_000_000),
}


@row(*GRAPHS)
def laplacian(name: str, size: Size) -> Row:
    """Set up and solved for the d coordinates of a layout, to the same residual."""
    domain, n = GRAPHS[name]
    rounds = 1 if n > 100_000 else size.rounds
    observation = observe_at(inputs(domain, min(n, size.samples)))
    graph = neighbor_graph(observation, 12, 0)
    n, weights = len(graph.rows), edge_weights(graph.lengths)
    incidence = incidence_matrix(n, graph.i, graph.j, np.empty((len(graph.i), 0)))
    matrix = sp.csr_matrix(incidence.T @ sp.diags_array(weights) @ incidence)
    right = matrix @ np.random.default_rng(0).normal(size=(n, observation.dim))

    def ours() -> tuple[np.ndarray, float]:
        solver = MultigridLaplacian(n, graph.i, graph.j, weights, np.empty((len(graph.i), 0)))
        found, start = solver.solve(right), time.process_time()
        solver.correct(right)
        return found, time.process_time() - start

    methods = ("ruge_stuben_solver", "smoothed_aggregation_solver")
    with working(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pyamg, where rounding ends its conjugate gradients
        own, *theirs = alternated(rounds, ours, *(lambda m=m: by_pyamg(m, matrix, right) for m in methods))
    told = [
        f"pyamg {method} {digits(seconds)} s, {digits(seconds / own[0])} times as long, a cycle {digits(cycle / own[1][1])} "
        f"times; residual {residual(matrix, found, right):.0e}"
        for method, (seconds, (found, cycle)) in zip(methods, theirs, strict=True)
    ]
    return Row(
        name,
        f"Laplacian of n = {n}, {len(graph.i)} edges, set up and solved for {observation.dim} columns",
        f"{digits(own[0])} s, a cycle {digits(1e3 * own[1][1])} ms, residual {residual(matrix, own[1][0], right):.0e}",
        f"pyamg > {FACTOR:.0f} times",
        min(seconds for seconds, _ in theirs) > FACTOR * own[0],
        "\n".join(told),
    )


def residual(matrix: sp.csr_matrix, found: np.ndarray, right: np.ndarray) -> float:
    return float((np.linalg.norm(right - matrix @ found, axis=0) / np.linalg.norm(right, axis=0)).max())


def by_pyamg(method: str, matrix: sp.csr_matrix, right: np.ndarray) -> tuple[np.ndarray, float]:
    """Solution column by column, which is all that pyamg has, and the seconds of a cycle for each.

    Conjugate gradients with smoothed aggregation break down on the singular matrix: it gets a shift far below what counts.
    """
    pyamg = _loaded("pyamg")
    # Some of its set-up draws from NumPy's global generator.
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    aggregated = method == "smoothed_aggregation_solver"
    shift = 1e-9 * float(matrix.diagonal().mean()) * aggregated
    options = {"symmetry": "symmetric"} if aggregated else {}
    levels = getattr(pyamg, method)(matrix + shift * sp.eye(matrix.shape[0], format="csr"), **options)
    found = np.column_stack([levels.solve(b, tol=FULL, accel="cg", maxiter=200) for b in right.T])
    np.random.set_state(state)  # noqa: NPY002
    cycle, start = levels.aspreconditioner(), time.process_time()
    for b in right.T:
        cycle @ b
    return found, time.process_time() - start


# --- Gaussian processes -------------------------------------------------------------------------------------

LANDMARKS = (10, 50, 100, 200, 400)


@row("process")
def process(name: str, size: Size) -> Row:
    """Five measurements of two inputs predict five others, at several numbers of landmarks."""
    counts = [count for count in LANDMARKS if count <= size.landmarks]
    with working(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runs = [alternated(size.rounds, *fits(count)) for count in counts]
    told = []
    for k, how in ((1, "as it is"), (2, "searching as diffeo does, through its hook")):
        slower = listed_digits(run[k][0] / run[0][0] for run in runs)
        worse = listed_digits(run[k][1] / run[0][1] for run in runs)
        told.append(f"scikit-learn {how}: {slower} times as long, error {worse} times")
    kept = all(any(run[k][0] > FACTOR * run[0][0] or run[k][1] > FACTOR * run[0][1] for run in runs) for k in (1, 2))
    value = f"{listed_digits(run[0][0] for run in runs)} s, error {listed_digits(run[0][1] for run in runs)}"
    what = f"a process of 5 inputs and 5 targets fitted to {', '.join(map(str, counts))} landmarks"
    return Row(name, what, value, f"> {FACTOR:.0f} times somewhere", kept, "\n".join(told))


def listed_digits(values: Iterable[float]) -> str:
    return ", ".join(f"{value:.2g}" for value in values)


def fits(count: int) -> list[Callable[[], float]]:
    """Error at new inputs of diffeo's process, of scikit-learn's, and of that one searched as diffeo does."""
    z, targets = measured(count, 7)
    queries, true = measured(500, 99)

    def ours() -> float:
        found = fit_process(z, targets)
        kernel = sections(queries, found.inputs, found.inverse_scales, found.amplitude)
        return relative_error(found.offset + kernel @ found.dual, true)

    def theirs(optimizer: Any) -> float:
        middle, unit = z.mean(axis=0), z.std(axis=0)
        scales = np.full(z.shape[1], gaussian_process.START_LENGTH)
        kernel = ConstantKernel(1.0, gaussian_process.AMPLITUDE_RANGE) * RBF(scales, gaussian_process.LENGTH_RANGE)
        kernel += WhiteKernel(gaussian_process.NOISE_STAGES[0], gaussian_process.NOISE_RANGE)
        model = GaussianProcessRegressor(kernel, alpha=0.0, normalize_y=True, optimizer=optimizer)
        return relative_error(model.fit((z - middle) / unit, targets).predict((queries - middle) / unit), true)

    return [ours, lambda: theirs("fmin_l_bfgs_b"), lambda: theirs(search_with_prior(targets.size))]


def measured(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of five units tanh(z) + 0.3 z, z = A x + b, at the same uniform x (count, 2)."""
    x = np.random.default_rng(seed).random((count, 2))
    found = []
    for network in (1, 2):
        rng = np.random.default_rng(network)
        weights, biases = 1.5 * rng.normal(size=(5, 2)), rng.normal(size=5)
        z = x @ weights.T + biases
        found.append(np.tanh(z) + 0.3 * z)
    return found[0], found[1]


def search_with_prior(count: int) -> Callable[..., tuple[np.ndarray, float]]:
    """diffeo's prior and stages as an `optimizer` of scikit-learn's, which knows neither; `count` numbers are fitted."""

    def search(likelihood: Callable[..., Any], initial: np.ndarray, bounds: Any) -> tuple[np.ndarray, float]:
        def posterior(theta: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = likelihood(theta)
            deviation = theta[1:-1] - np.log(gaussian_process.PRIOR_LENGTH)
            more = np.zeros_like(theta)
            more[1:-1] = deviation / gaussian_process.PRIOR_LOG_VARIANCE
            return (value + 0.5 * float(deviation @ more[1:-1])) / count, (gradient + more) / count

        theta = initial.copy()
        for stage in gaussian_process.NOISE_STAGES:
            limits = np.array(bounds)
            if stage is not None:
                theta[-1] = limits[-1] = np.log(stage)
            options = {"maxiter": gaussian_process.MAX_STEPS}
            found = minimize(posterior, theta, jac=True, method="L-BFGS-B", bounds=limits, options=options)
            theta = np.clip(found.x, limits[:, 0], limits[:, 1])
        return theta, posterior(theta)[0]

    return search


if __name__ == "__main__":
    sys.exit(row.main())
