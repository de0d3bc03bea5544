"""Cost against n from 10^3 to 10^6, for the plot: kernel, eigenpairs and the whole default fit.

40 entries a row throughout (the default fit chooses its own); opponents go as far as they take about a minute.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import DiffusionMap, mahalanobis_kernel, reference

from bench import opponents, samples
from bench.bench_diffusion_map import kernel_in_blocks, spectrum_error
from bench.bench_eigenpairs import compare, leading_eigenpairs
from bench.bench_kernel import difference_in_rows, floor_of
from bench.opponents import eigenpairs_by_arpack, kernel_by_ckdtree, operator

ENTRIES = 40
SIZES = (1000, 3162, 10_000, 31_623, 100_000, 316_228, 1_000_000)


@pytest.fixture(params=SIZES)
def n(request, size):
    if not size.is_full(request.param):
        pytest.skip(f"larger than {size.largest:.0f}")
    return request.param


def beyond(n: int, limit: int) -> str:
    return "" if n <= limit else f"takes minutes beyond n = {limit}"


def test_kernel(contest, opponent, record, long, n):
    observation = samples.mushroom(n)
    epsilon = samples.epsilon_for(observation, ENTRIES)
    kernel = contest(lambda: mahalanobis_kernel(observation, epsilon=epsilon))
    arrays = (observation.points, observation.whitening, epsilon)
    cut_off = opponents.cut_off_for(observation.points, ENTRIES)
    datafold = opponent(
        "datafold", opponents.kernel_by_datafold, observation, epsilon, cut_off, rounds=1, skip=beyond(n, 31_623)
    )
    if datafold.ran:
        matrix, seconds = datafold.result
        datafold = replace(datafold, result=matrix, seconds=seconds)
    by_tree = "" if long else beyond(n, 316_228)
    record(
        "kernel",
        [
            opponent("numpy in blocks", reference.kernel_in_blocks, *arrays, rounds=2, skip=beyond(n, 31_623)),
            opponent("cKDTree, numpy gates", kernel_by_ckdtree, observation, epsilon, rounds=2, skip=by_tree),
            datafold,
        ],
        n=n,
        m=2,
        d=2,
        entries=kernel.nnz / n,
        error=difference_in_rows(kernel, epsilon),
        error_of="entries, 100 rows",
        floor=floor_of(kernel, observation),
    )


def test_eigenpairs(contest, opponent, record, long, n):
    observation = samples.mushroom(n)
    kernel = mahalanobis_kernel(observation, epsilon=samples.epsilon_for(observation, ENTRIES))
    pairs = contest(leading_eigenpairs, kernel)
    compare("eigenpairs", kernel, pairs, opponent, record, long=long and n < 1_000_000, largest=100_000)


def test_fit(contest, opponent, record, n):
    observation = samples.mushroom(n)
    fitted = contest(lambda: DiffusionMap().fit(observation), rounds=3)
    inputs = np.random.default_rng(0).random((n, 2))
    neighbors = round(fitted.kernel_.nnz / n)

    def numpy_alone():
        s = operator(kernel_in_blocks(observation, fitted.epsilon_))[0]
        return reference.leading_eigenpairs(s.toarray(), 9)

    def scipy_alone():
        return eigenpairs_by_arpack(operator(kernel_by_ckdtree(observation, fitted.epsilon_))[0], 9, 1e-8)

    record(
        "fit",
        [
            opponent("numpy, dense eigh", numpy_alone, rounds=1, skip=beyond(n, 3162)),
            opponent("cKDTree, numpy gates, eigsh", scipy_alone, rounds=1, skip=beyond(n, 31_623)),
            opponent(
                "scikit-learn SpectralEmbedding",
                opponents.embedding_by_sklearn,
                inputs,
                8,
                neighbors,
                rounds=1,
                skip=beyond(n, 31_623),
            ).told("plain points, another operator"),
        ],
        n=n,
        m=2,
        d=2,
        entries=fitted.kernel_.nnz / n,
        error=spectrum_error(fitted.eigenvalues_),
        error_of="spectrum",
    )
