"""Eight threads on one network, one estimator, one chart and one transformation: the bits of one, and nobody is disturbed."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import diffeo
import numpy as np
import pytest
from support.samples import smooth_map, square
from threadpoolctl import threadpool_info

THREADS, ROUNDS, FULL_ROUNDS = 8, 1, 25
MAPS = smooth_map(2, 5, seed=1), smooth_map(2, 6, seed=2)
N = 150


def observation(side, seed):
    return diffeo.Observation.from_jacobians(*MAPS[side](square(N, seed=seed)))


def state():
    """What belongs to the whole process, and is nobody's to change."""
    blas = [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]
    return blas, np.geterr(), warnings.filters[:]


def together(job, count):
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(job, range(count)))


@pytest.fixture
def rounds(full):
    return FULL_ROUNDS if full else ROUNDS


@pytest.mark.filterwarnings("ignore::diffeo.errors.DiffeoWarning")
def test_one_fitted_object_serves_all_threads(rounds):
    a, b = (observation(side, side) for side in (0, 1))
    held = [tuple(one(square(40, seed=k))[0] for one in MAPS) for k in range(THREADS)]
    few = tuple(one(square(12, seed=20))[0] for one in MAPS)
    t = diffeo.match(a, b, landmarks=few)
    fitted = diffeo.DiffusionMap(n_components=3).fit(a), diffeo.IsometricEmbedding().fit(a)

    def used(k, chart):
        x, y = held[k % THREADS]
        found = [t.transform(x), t.inverse_transform(y), *(one.transform(x) for one in (*fitted, chart))]
        return [*found, diffeo.assess(t, (x, y)).summary()] if k == 0 else found

    alone, before = [used(k, diffeo.embed(a)) for k in range(THREADS)], state()
    for _ in range(rounds):
        # A chart is made when it is first asked for: all ask at once.
        chart = diffeo.embed(a)
        for found, expected in zip(together(lambda k, one=chart: used(k, one), THREADS), alone, strict=True):
            np.testing.assert_equal(found, expected)
    assert state() == before


@pytest.mark.parametrize("kind", [lambda: diffeo.DiffusionMap(n_components=3), diffeo.IsometricEmbedding])
def test_one_estimator_refitted_by_all_threads_is_always_one_of_the_fits(kind, rounds):
    sides = [observation(0, seed) for seed in range(THREADS)]
    held = MAPS[0](square(30, seed=30))[0]
    expected = [(one.embedding_.tobytes(), one.transform(held).tobytes()) for one in (kind().fit(o) for o in sides)]
    estimator, before = kind().fit(sides[0]), state()

    def job(k):
        if k % 2:
            estimator.fit(sides[k % THREADS])
        return estimator.embedding_.tobytes(), estimator.transform(held).tobytes()

    embeddings, transformed = zip(*together(job, THREADS * rounds), strict=True)
    assert set(embeddings) <= {one for one, _ in expected}
    assert set(transformed) <= {one for _, one in expected}
    assert (estimator.embedding_.tobytes(), estimator.transform(held).tobytes()) in expected
    assert state() == before


def test_one_network_serves_all_threads_and_its_owner(rounds):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layers = torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Dropout(0.5), torch.nn.Linear(16, 4)
    net = torch.nn.Sequential(*layers).double().train()
    inputs = [square(64, seed=k) for k in range(THREADS)]
    x = torch.tensor(inputs[0])
    with torch.no_grad():
        own = net[1](net[0](x))

    def used(k):
        k %= THREADS
        seen = diffeo.observe(net, inputs[k], layer="1", neurons=6, rng=k)
        return seen.whitening, diffeo.capture(net, inputs[k], "1", batch_size=16 + k)["1"]

    def job(k):
        if k % THREADS:
            return used(k)
        with torch.no_grad():
            return [bool(torch.equal(net[1](net[0](x)), own)) for _ in range(50)]

    alone, before = [used(k) for k in range(THREADS)], state()
    for k, found in enumerate(together(job, THREADS * rounds)):
        if k % THREADS:
            np.testing.assert_equal(found, alone[k % THREADS])
        else:
            assert all(found)
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert state() == before
