"""Assembly of the kernel: against vectorised NumPy, k-d trees, and datafold.

k-d trees answer an easier question, the 32 nearest Euclidean neighbours, from a tree that was built before; diffeo's
time has the tree, the gates, the entries and both directions in it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import mahalanobis_kernel, reference

from bench import opponents, samples
from bench.floor import dense_floor, kernel_floor


def difference(found: sp.csr_array, expected: sp.csr_array) -> float:
    """Largest difference; entries at the edge of the kernel may fall either way by rounding, and are 1e-4."""
    gap = float(abs(found - expected).max())
    assert gap < 1e-3
    assert abs(found.nnz - expected.nnz) <= 1e-6 * expected.nnz + 2
    return gap


def difference_in_rows(kernel, epsilon: float, count: int = 100) -> float:
    """The same over some rows, found by brute force: for kernels that no baseline assembles in reasonable time."""
    rows = np.unique(np.linspace(0, kernel.n_samples - 1, count).astype(np.int64))
    matrix = kernel.matrix
    gap = 0.0
    for row, (columns, values) in zip(rows, opponents.sampled_rows(kernel.observation, epsilon, rows), strict=True):
        expected = np.zeros(kernel.n_samples)
        expected[columns] = values
        part = slice(matrix.indptr[row], matrix.indptr[row + 1])
        expected[matrix.indices[part]] -= matrix.data[part]
        gap = max(gap, float(np.abs(expected).max()))
    assert gap < 1e-3
    return gap


def difference_from_datafold(found: sp.csr_array, theirs: sp.csr_array) -> tuple[float, str]:
    """Largest difference of the entries that both have, and how the rest differs.

    datafold cuts at a Euclidean distance of the measurements, diffeo where the kernel is 1e-4; datafold has no gates.
    """
    both = (found != 0).multiply(theirs != 0)
    gap = float(abs((found - theirs).multiply(both)).max())
    missed = float((found - found.multiply(both)).max())
    assert gap < 1e-9
    share = both.nnz / found.nnz
    return gap, f"{gap:.0e} on the {100 * share:.0f} % that both have; its cut-off drops entries up to {missed:.1g}"


def floor_of(kernel, observation):
    m, d = observation.whitening.shape[1:]
    return kernel_floor(len(observation), m, d, kernel.nnz, kernel.n_gated)


@pytest.mark.parametrize("measurements", ["mushroom", "units"])
def test_kernel(contest, opponent, record, size, measurements):
    """n = 10,000 and 330 entries a row: the size at which datafold is used."""
    n = size(10_000)
    observation = getattr(samples, measurements)(n)
    entries = min(330, n / 10)
    epsilon = samples.epsilon_for(observation, entries)
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon))
    arrays = opponent("numpy in blocks", reference.kernel_in_blocks, observation.points, observation.whitening, epsilon)
    rows, columns, values = arrays.result
    expected = sp.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
    baselines = [
        arrays.told("the definition"),
        opponent("scipy cKDTree, numpy gates", opponents.kernel_by_ckdtree, observation, epsilon).told("the same"),
    ]
    if measurements == "mushroom":
        baselines.append(datafold(opponent, observation, epsilon, kernel, 500 if size.is_full(10_000) else None))
    record(
        f"kernel, {measurements}, 330 entries",
        baselines,
        n=n,
        m=observation.points.shape[1],
        d=2,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="entries",
        floor=floor_of(kernel, observation),
    )


def datafold(opponent, observation, epsilon, kernel, at_least):
    """datafold with as many entries a row, timed by itself."""
    cut_off = opponents.cut_off_for(observation.points, kernel.nnz / len(observation))
    found = opponent("datafold", opponents.kernel_by_datafold, observation, epsilon, cut_off, rounds=1)
    if not found.ran:
        return found
    matrix, seconds = found.result
    note = difference_from_datafold(kernel.matrix, matrix)[1]
    return replace(found, result=matrix, seconds=seconds, note=note, at_least=at_least)


def test_kernel_of_wide_layer(contest, opponent, record, size):
    """1,000 samples of 512 activations."""
    full, n, m = size.is_full(1000) and not size.quick, size(1000), 512
    if size.quick:
        n, m = 500, 64
    observation = samples.units(n, m)
    kernel = contest(lambda: mahalanobis_kernel(observation))
    arrays = opponent(
        "numpy in blocks", reference.kernel_in_blocks, observation.points, observation.whitening, kernel.epsilon
    )
    rows, columns, values = arrays.result
    expected = sp.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
    baselines = [
        arrays.told("the definition"),
        datafold(opponent, observation, kernel.epsilon, kernel, 100 if full else None),
    ]
    record(
        'kernel, epsilon="auto"',
        baselines,
        n=n,
        m=m,
        d=2,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="entries",
        floor=floor_of(kernel, observation),
    )


@pytest.mark.parametrize(("n", "entries"), [(100_000, 33), (1_000_000, 33)], ids=["1e5", "1e6"])
def test_kernel_and_neighbors(contest, opponent, record, size, long, n, entries):
    """m = 5, d = 2, 33 entries a row, against 32 Euclidean neighbours of the same points."""
    full, n = size.is_full(n), size(n)
    size.once("kernel", n, entries)
    observation = samples.units(n)
    epsilon = samples.epsilon_for(observation, entries)
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon), rounds=3)
    points = observation.points
    easier = "32 Euclidean neighbours, no tree build"
    slow = "" if n <= 100_000 or long else "takes minutes (--long)"
    at_least = 1 / 0.35 if full and n == 1_000_000 else None
    baselines = [
        query(opponent, "scipy cKDTree query", opponents.query_by_ckdtree, points).told(easier, at_least),
        query(opponent, "pykdtree query", opponents.query_by_pykdtree, points).told(easier),
        query(opponent, "scikit-learn NearestNeighbors", opponents.query_by_sklearn, points, slow).told(easier),
        opponent(
            "scipy cKDTree, numpy gates", opponents.kernel_by_ckdtree, observation, epsilon, rounds=1, skip=slow
        ).told("the same kernel"),
    ]
    record(
        "kernel, units, 33 entries",
        baselines,
        n=n,
        m=5,
        d=2,
        entries=kernel.nnz / n,
        error=difference_in_rows(kernel, epsilon),
        error_of="entries, 100 rows",
        floor=floor_of(kernel, observation),
    )


def query(opponent, name, prepare, points, skip=""):
    """Time a neighbour query alone, without the building of its tree."""
    if skip:
        return opponent(name, prepare, skip=skip)
    ready = opponent(name, prepare, points, 32, rounds=1)
    return opponent(name, ready.result) if ready.ran else ready


def test_kernel_euclidean(contest, opponent, record, size):
    """Plain points: the ordinary diffusion map's kernel."""
    n = size(100_000)
    points = np.random.default_rng(0).random((n, 2))
    epsilon = samples.epsilon_for(points, 60)
    kernel = contest(lambda: mahalanobis_kernel(points, epsilon=epsilon))
    found = opponent("scipy cKDTree query_pairs", opponents.euclidean_kernel_by_ckdtree, points, epsilon)
    record(
        "kernel, plain points",
        [found.told("the same kernel")],
        n=n,
        m=2,
        d=2,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, found.result),
        error_of="entries",
        floor=kernel_floor(n, 2, 0, kernel.nnz, 0),
    )


@pytest.mark.parametrize(("m", "share"), [(32, 0.5), (128, 0.7), (512, 0.7)])
def test_dense(contest, opponent, record, size, m, share):
    """Few samples of many activations: all pairs by tiles of matrix products."""
    n = 300 if size.quick else size(1000)
    observation = samples.units(n, m)
    # A radius of 1.05 in the unit square: hardly a tile can be left out, so that the operations counted are done.
    epsilon = 0.03
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon), rounds=10)
    arrays = opponent("numpy in blocks", reference.kernel_in_blocks, observation.points, observation.whitening, epsilon)
    rows, columns, values = arrays.result
    expected = sp.coo_array((values, (rows, columns)), shape=(n, n)).tocsr()
    record(
        f"dense kernel, m = {m}",
        [arrays.told("the definition")],
        n=n,
        m=m,
        d=2,
        entries=kernel.nnz / n,
        error=difference(kernel.matrix, expected),
        error_of="entries",
        floor=dense_floor(n, m, 2),
        floor_at_least=share if n == 1000 else None,
    )
