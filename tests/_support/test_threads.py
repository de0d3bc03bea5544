"""Threads: the same bits for any number of them, of the core, of SciPy's searches and of BLAS; and beside torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from diffeo import DiffusionMap, IsometricEmbedding, Observation, errors, mahalanobis_kernel, match
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers, working
from support.samples import smooth_map, square
from threadpoolctl import threadpool_info, threadpool_limits

N = 1500
MAPS = smooth_map(2, 5, seed=1), smooth_map(2, 6, seed=2)


def observation(side):
    return Observation.from_jacobians(*MAPS[side](square(N, seed=side)))


def bursts():
    y, jacobians = MAPS[0](square(N, seed=3))
    steps = 1e-3 * np.random.default_rng(0).normal(size=(N, 16, 2))
    return Observation.from_bursts(y, y[:, None] + np.einsum("nmp,nkp->nkm", jacobians, steps), scale=1e-3)


def matched(n_jobs, **options):
    x = square(60, seed=5)
    landmarks = MAPS[0](x)[0], MAPS[1](x)[0]
    return match(observation(0), observation(1), landmarks=landmarks, n_jobs=n_jobs, **options).transform(landmarks[0])


# Results that search with SciPy's trees; the others do with the core's.
SEARCHING = {"isometry", "bursts", "match", "match by diffusion"}
# Queries that no second thread would speed up.
FEW = 100

RESULTS = {
    "kernel": lambda n_jobs: mahalanobis_kernel(observation(0), n_jobs=n_jobs).values,
    "diffusion": lambda n_jobs: DiffusionMap(n_jobs=n_jobs).fit(observation(0)).embedding_,
    "isometry": lambda n_jobs: IsometricEmbedding(n_jobs=n_jobs).fit(observation(0)).embedding_,
    "bursts": lambda n_jobs: IsometricEmbedding(n_jobs=n_jobs).fit(bursts()).embedding_,
    "match": matched,
    "match by diffusion": lambda n_jobs: matched(n_jobs, coordinates="diffusion"),
}


@pytest.mark.parametrize("result", RESULTS)
def test_the_same_bits_for_any_number_of_threads(result):
    one, two, three = (RESULTS[result](n_jobs) for n_jobs in (1, 2, 3))
    assert one.tobytes() == two.tobytes() == three.tobytes()


@pytest.mark.parametrize("result", RESULTS)
def test_the_same_bits_for_any_number_of_threads_of_blas(result):
    found = []
    for count in (1, 2):
        with threadpool_limits(limits=count, user_api="blas"):
            found.append(RESULTS[result](1))
    assert found[0].tobytes() == found[1].tobytes()


def test_blas_works_in_one_thread_and_gets_its_threads_back():
    def threads_of_blas():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    with threadpool_limits(limits=2, user_api="blas"):
        before = threads_of_blas()
        with working(None):
            assert set(threads_of_blas()) == {1}
        assert threads_of_blas() == before
        with pytest.raises(errors.ParameterError, match="n_jobs"), working(0):
            pass
        assert threads_of_blas() == before


def test_workers_are_those_asked_for():
    assert workers() == -1
    with working(3):
        assert workers() == 3
        with working(None):
            assert workers() == -1
        assert workers() == 3
    assert workers() == -1


@pytest.mark.parametrize("result", RESULTS)
def test_every_search_is_given_the_number_of_threads(result, monkeypatch):
    import diffeo

    asked = []

    class Tree(PointTree):
        def query(self, x, k=1, *, workers=None, **options):
            asked.append((workers, len(np.atleast_2d(x))))
            return super().query(x, k, workers=1 if workers is None else workers, **options)

    for module in list(sys.modules.values()):
        if module.__name__.startswith(f"{diffeo.__name__}.") and hasattr(module, "PointTree"):
            monkeypatch.setattr(module, "PointTree", Tree)
    RESULTS[result](3)
    # A search of a handful may do without.
    numbers = {workers for workers, rows in asked if workers is not None or rows > FEW}
    assert numbers == ({3} if result in SEARCHING else set())


@pytest.mark.parametrize("imports", ["import torch, diffeo", "import diffeo._support.core, torch"])
def test_the_same_bits_beside_torch(imports):
    pytest.importorskip("torch")
    here = Path(__file__).parent
    code = (
        f"import sys\nsys.path[:0] = {[str(here), str(here.parent)]!r}\n{imports}\nimport hashlib, test_threads\n"
        "torch.ones(2000, 2000) @ torch.ones(2000, 2000)\n"
        "print(hashlib.sha256(test_threads.RESULTS['kernel'](2).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    import hashlib

    assert done.stdout.strip() == hashlib.sha256(RESULTS["kernel"](1).tobytes()).hexdigest()
