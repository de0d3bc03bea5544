"""Every public object goes through pickle, cloudpickle and copy and to other processes; failed fits leave no trace."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import diffeo
import numpy as np
import pytest
from diffeo import errors
from support.samples import smooth_map, square

N = 150
MAPS = smooth_map(2, 5, seed=1), smooth_map(2, 6, seed=2)


def measured(x):
    return MAPS[0](x)[0], MAPS[1](x)[0]


def objects():
    """By name: an object, and what it gives."""
    a, b = (diffeo.Observation.from_jacobians(*MAPS[side](square(N, seed=side))) for side in (0, 1))
    few, held = measured(square(12, seed=5)), measured(square(30, seed=6))
    x = square(60, seed=7)
    pairs = diffeo.Pairs(*measured(x), MAPS[0](x)[1], MAPS[1](x)[1])
    t = diffeo.match(a, b, landmarks=few, check=False)

    def mapped(one):
        return one.transform(held[0])

    return {
        "observation": (a, lambda one: one.whitening),
        "kernel": (diffeo.mahalanobis_kernel(a), lambda one: one.matrix.toarray()),
        "diffusion map": (diffeo.DiffusionMap(n_components=3).fit(a), mapped),
        "embedding": (diffeo.IsometricEmbedding().fit(a), mapped),
        "chart": (diffeo.embed(a), mapped),
        "transformation": (t, mapped),
        "by diffusion": (
            diffeo.match(a, b, landmarks=few, coordinates="diffusion", check=False), mapped,
        ),
        "pairs": (pairs, lambda one: one.jacobians_a),
        "by pairs": (diffeo.match_pairs(pairs), mapped),
        "report": (diffeo.assess(t, held), lambda one: one.summary()),
        "screening": (diffeo.screen(a, b), lambda one: one.summary()),
        "projection": (diffeo.RandomProjection(3), repr),
        "reconstruction": (
            diffeo.reconstruct(a, few[0], square(12, seed=5)), lambda one: one.predict(held[0])
        ),
        "error": (errors.MemoryLimitError("much"), str),
        "warning": (errors.OutOfDomainWarning("far", [1], [2, 3]), lambda one: (str(one), one.rows)),
        "module's function": (diffeo.match, lambda one: one.__qualname__),
    }  # fmt: skip


@pytest.fixture(scope="module")
def every():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return objects()


WAYS = {
    "pickle": lambda one: pickle.loads(pickle.dumps(one)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", [*WAYS, "cloudpickle"])
def test_copies_give_the_same_bits(every, way):
    if way == "cloudpickle":
        cloudpickle = pytest.importorskip("cloudpickle")
        copied = lambda one: pickle.loads(cloudpickle.dumps(one))  # noqa: E731
    else:
        copied = WAYS[way]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (one, use) in every.items():
            again = copied(one)
            assert type(again) is type(one), name
            np.testing.assert_equal(use(again), use(one), err_msg=name)


def test_functions_that_use_the_library_and_its_objects_go_to_other_processes(tmp_path):
    pytest.importorskip("cloudpickle")
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path[:0] = {sys.path!r}
import warnings
import diffeo, joblib, multiprocessing, numpy as np
from concurrent.futures import ProcessPoolExecutor

def job(observation, seed):
    return diffeo.DiffusionMap(n_components=2, random_state=seed).fit(observation)

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    x = np.random.default_rng(0).random((150, 2))
    a = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (150, 2, 2)))
    here = job(a, 0).embedding_
    local = lambda seed: job(a, seed).transform(x)
    assert np.array_equal(joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(local)(i) for i in range(2))[0],
                          job(a, 0).transform(x))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(job, a, 0).result().embedding_, here)
""")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("estimator", [diffeo.DiffusionMap(n_components=2), diffeo.IsometricEmbedding()])
def test_a_failed_fit_leaves_the_estimator_as_it_was(estimator, monkeypatch):
    estimator.fit(square(120, dim=2, seed=0))
    before, state = estimator.transform(square(5, seed=1)), dict(vars(estimator))
    with errors.unsaid(errors.DiffeoWarning), pytest.raises(errors.DiffeoError):
        estimator.fit(np.zeros((100, 3)))
    assert vars(estimator) == state

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("diffeo.diffusion.diffusion_map.mahalanobis_kernel", interrupted)
    monkeypatch.setattr("diffeo.isometry.embedding.smoothed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(diffeo.Observation.from_jacobians(*MAPS[0](square(100))))
    assert vars(estimator) == state
    assert np.array_equal(estimator.transform(square(5, seed=1)), before)
