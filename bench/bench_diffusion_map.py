"""The whole fit with its search for epsilon: against NumPy or SciPy's k-d tree and ARPACK, epsilon given; its spectra.

``python -m bench.bench_diffusion_map [--quick] [--only NAME,...]`` compares generator eigenvalues, by defaults, with those of
domains where they are known; results are kept in ``bench/results/spectra.txt``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import DiffusionMap, reference

from bench import generator_spectra as domains
from bench import opponents, samples
from bench.figures import Row, percent
from bench.opponents import eigenpairs_by_arpack, kernel_by_ckdtree, operator
from bench.rows import Rows

# Neumann eigenvalues of the unit square over pi^2: i^2 + j^2, the trivial 0 left out.
SQUARE = np.array([1, 1, 2, 4, 4, 5, 5, 8])


def spectrum_error(eigenvalues: np.ndarray) -> float:
    """Largest relative error of -log(lambda_k) beside the spectrum of the square, after the best scale."""
    logs = -np.log(eigenvalues[1:9])
    scale = (logs @ SQUARE) / (SQUARE @ SQUARE)
    return float(np.abs(logs / (scale * SQUARE) - 1).max())


def first_pair_error(embedding: np.ndarray, points: np.ndarray) -> float:
    """Sine of the largest angle between the first two coordinates and cos(pi x_1), cos(pi x_2), the limit."""
    found, limit = embedding[:, :2], np.cos(np.pi * points)
    basis = [np.linalg.qr(part - part.mean(axis=0))[0] for part in (found, limit)]
    return float(np.sqrt(max(0.0, 1 - np.linalg.svd(basis[0].T @ basis[1])[1].min() ** 2)))


def kernel_in_blocks(observation, epsilon: float) -> sp.csr_array:
    i, j, values = reference.kernel_in_blocks(observation.points, observation.whitening, epsilon)
    return sp.coo_array((values, (i, j)), shape=(len(observation),) * 2).tocsr()


@pytest.mark.parametrize(
    ("n", "assemble"), [(10_000, kernel_in_blocks), (50_000, kernel_by_ckdtree)], ids=["small", "large"]
)
def test_diffusion_map(contest, opponent, record, size, n, assemble):
    n = size(n)
    observation = samples.mushroom(n)
    fitted = contest(lambda: DiffusionMap(n_components=8).fit(observation), rounds=2)

    def baseline():
        return eigenpairs_by_arpack(operator(assemble(observation, fitted.epsilon_))[0], 9, 1e-8)

    name = "numpy in blocks, eigsh" if assemble is kernel_in_blocks else "cKDTree, numpy gates, eigsh"
    found = opponent(name, baseline, rounds=1)
    missed = opponents.missed_copies(found.result[0], fitted.eigenvalues_)
    assert fitted.eigenvalues_.sum() > found.result[0].sum() - 1e-7
    record(
        "DiffusionMap().fit, mushroom",
        [found.told(f"epsilon given, {missed} of 9 missed")],
        n=n,
        m=2,
        d=2,
        entries=fitted.kernel_.nnz / n,
        error=spectrum_error(fitted.eigenvalues_),
        error_of="spectrum",
    )


def test_ordinary_diffusion_map(contest, opponent, record, size):
    """Plain points, the nearest that scikit-learn has: its graph joins k neighbours with equal weights."""
    n = size(20_000)
    points = np.random.default_rng(0).random((n, 2))
    fitted = contest(lambda: DiffusionMap(n_components=8).fit(points), rounds=2)
    n_neighbors = round(fitted.kernel_.nnz / n)
    found = opponent(
        "scikit-learn SpectralEmbedding, pyamg", opponents.embedding_by_sklearn, points, 8, n_neighbors, rounds=1
    )
    note = f"error {first_pair_error(found.result, points):.1e}, another operator" if found.ran else ""
    record(
        "DiffusionMap().fit, plain points",
        [found.told(note)],
        n=n,
        m=2,
        d=2,
        entries=fitted.kernel_.nnz / n,
        error=first_pair_error(fitted.embedding_, points),
        error_of="first pair",
    )


# --- spectra, by defaults ---------------------------------------------------------------------------------------

row = Rows("bench_diffusion_map", __doc__, 1, 8, lambda name, share: share > 1 and name == "square n=1000000")


def _compared(name: str, what: str, drawn: Sequence[domains.Domain], most: float, ratios: float = np.inf) -> Row:
    """Worst deviation of an eigenvalue, and of the ratios of each draw after the best common scale."""
    worst, apart, plain, covered, scales = 0.0, 0.0, 0.0, [], []
    for domain in drawn:
        found = domains.fitted(domain)
        count = len(domain.spectrum)
        deviations = found.generator_eigenvalues_[1 : count + 1] / domain.spectrum - 1.0
        scale = float(np.exp(np.log1p(deviations).mean()))
        scales.append(scale - 1.0)
        worst = max(worst, float(np.abs(deviations).max()))
        apart = max(apart, float(np.abs((1.0 + deviations) / scale - 1.0).max()))
        plain = max(plain, float(np.abs(found.plain_generator_eigenvalues_[1 : count + 1] / domain.spectrum - 1).max()))
        covered += list(np.abs(deviations) * domain.spectrum <= found.generator_errors_[1 : count + 1])
    by_scale = np.isfinite(ratios)
    value = f"{percent(float(np.abs(scales).max()))}, {percent(apart)}" if by_scale else percent(worst)
    target = f"< {percent(most)}, < {percent(ratios)}" if by_scale else f"< {percent(most)}"
    reached = (float(np.abs(scales).max()) < most and apart < ratios) if by_scale else worst < most
    beside = f"worst eigenvalue {percent(worst)}, of the plain ones {percent(plain)}; stated errors cover "
    beside += f"{percent(float(np.mean(covered)))} of {len(covered)}"
    stated = "scale, ratios" if by_scale else "worst of the eigenvalues"
    return Row(name, f"{what}, {len(drawn)} draws: {stated}", value, target, reached, beside)


@row("square n=1000", "square n=10000", "square n=1000000")
def square_row(name: str, share: int) -> Row:
    n = int(name.split("=")[1])
    count, most = {1000: (10, 0.05), 10_000: (4, 0.02), 1_000_000: (1, 0.005)}[n]
    size = max(500, n // share)
    drawn = [domains.square(size, seed) for seed in range(count)]
    return _compared(name, f"mushroom on the unit square, n = {size}", drawn, most, 0.01 if n == 10_000 else 1.0)


@row("line", "squared line")
def line_row(name: str, share: int) -> Row:
    squared = name == "squared line"
    domain = domains.line(2 if squared else 1)
    one = _compared(
        name,
        f"81 samples of [0, 2 pi], {'squared' if squared else 'even'} spacing",
        [domain],
        0.05 if squared else 0.02,
    )
    functions = domains.fitted(domain).generator_functions_
    waves = np.cos(0.5 * np.arange(1, 5) * domain.samples)
    least = min(abs(np.corrcoef(functions[:, k], waves[:, k])[0, 1]) for k in range(4))
    wanted = 0.995 if squared else 0.999
    what = f"{one.what}; least correlation of functions with cosines"
    return Row(
        name, what, f"{one.value}, {least:.4f}", f"{one.target}, > {wanted}", one.ok and least > wanted, one.beside
    )


@row("rectangle grid", "sphere grid")
def grid_row(name: str, share: int) -> Row:
    if name == "sphere grid":
        return _compared(name, "sphere on 60 by 30 angles", [domains.sphere_grid()], 0.05)
    return _compared(name, "31 by 61 grid on a rectangle of sides pi and 2 pi", [domains.rectangle_grid()], 0.05)


@row("circle", "flat torus")
def closed_row(name: str, share: int) -> Row:
    n, circles = (10_000 // share, 1) if name == "circle" else (40_000 // share, 2)
    return _compared(name, f"{name}, n = {n}", [domains.angles(n, seed, circles) for seed in range(3)], 0.01)


@row("cube", "strip", "ring", "density")
def open_row(name: str, share: int) -> Row:
    n = (20_000 if name in ("cube", "density") else 10_000) // share
    made = {"cube": domains.cube, "strip": domains.strip, "ring": domains.ring, "density": domains.uneven}[name]
    what = {
        "cube": "unit cube", "strip": "strip of 1 by 0.1", "ring": "disc with a hole",
        "density": "unit square, density growing 30-fold",
    }[name]  # fmt: skip
    return _compared(name, f"{what}, n = {n}", [made(n, seed) for seed in range(2)], 0.05)


@row("alpha=0", "alpha=0.5", "alpha=1")
def alpha_row(name: str, share: int) -> Row:
    alpha = float(name.split("=")[1])
    return _compared(name, "[0, 1] with density exp(2 x), 1000 quantiles", [domains.exponential_line(alpha)], 0.02)


@row("cover")
def cover_row(name: str, share: int) -> Row:
    """Stated errors of all kinds of domain, a few hundred to some thousand samples, seeds of their own."""
    covered = []
    for seed in range(100, 104):
        for domain in (
            domains.square(1000, seed), domains.square(4000, seed), domains.angles(2000, seed, 1),
            domains.angles(4000, seed, 2), domains.strip(3000, seed), domains.ring(3000, seed), domains.cube(4000, seed),
            domains.uneven(4000, seed),
        ):  # fmt: skip
            found = domains.fitted(domain)
            covered.append(np.abs(found.generator_eigenvalues_[1:] - domain.spectrum) <= found.generator_errors_[1:])
        if share > 1:
            break
    by_kind = np.mean(np.reshape(covered, (-1, 8, 8)), axis=(0, 2))
    beside = "square n = 1000 and 4000, circle, torus, strip, ring, cube, density: " + ", ".join(map(percent, by_kind))
    share_covered = float(np.mean(covered))
    return Row(
        name,
        f"stated errors cover the true ones, {np.size(covered)} eigenvalues",
        percent(share_covered),
        ">= 90 %",
        share_covered >= 0.9,
        beside,
    )


@row("cost")
def cost_row(name: str, share: int) -> Row:
    """Processor time of the fit over that without what corrects the spectrum; the rest is what it was."""
    ratios = []
    for n in (10_000 // share, 100_000 // share):
        observation, spent = samples.mushroom(n), []
        measure = DiffusionMap._measure_generator

        def timed(self, *arguments, measure=measure, spent=spent):
            start = time.process_time()
            measure(self, *arguments)
            spent.append(time.process_time() - start)

        DiffusionMap._measure_generator = timed
        try:
            start = time.process_time()
            for _ in range(3):
                DiffusionMap(n_jobs=1).fit(observation)
            total = time.process_time() - start
        finally:
            DiffusionMap._measure_generator = measure
        ratios.append(total / (total - sum(spent)))
    value = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    return Row(name, "fit over fit without correction, n = 10,000 and 100,000", value, "<= 1.6", max(ratios) <= 1.6, "")


if __name__ == "__main__":
    sys.exit(row.main())
