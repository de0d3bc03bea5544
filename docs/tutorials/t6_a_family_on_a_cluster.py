"""
A family on a cluster
=====================

Ten seeds, sixty checkpoints, a sweep of architectures: ``compare_family`` matches and judges every pair, finds the classes
of equivalent networks, and says which class determines which. The same lines run on a laptop and on a cluster.
"""

import tempfile

import diffeo
import joblib
import numpy as np

# %%
# Five networks as arrays (see :doc:`t5_your_own_arrays`): three keep both inputs, two forget the sign of the first.

rng = np.random.default_rng(0)


def network(seed, folds):
    """Measurements and derivatives of a network of five outputs, as a function of inputs."""
    own = np.random.default_rng(seed)
    mixing, second = own.normal(size=(2, 2)) + 2 * np.eye(2), 0.3 * own.normal(size=(5, 2))
    lift = own.normal(size=(5, 2))

    def run(x):
        z = np.stack([x[:, 0] ** 2 if folds else x[:, 0], x[:, 1]], axis=1)
        inner = np.stack([2 * x[:, 0] if folds else np.ones(len(x)), np.ones(len(x))], axis=1)
        h = z @ mixing.T
        y = h @ lift.T + np.sin(h) @ second.T
        slopes = (lift + second * np.cos(h)[:, None, :]) @ (mixing * inner[:, None, :])
        return y, slopes

    return run


networks = {f"full {k}": network(k, folds=False) for k in range(3)} | {
    f"folded {k}": network(10 + k, folds=True) for k in range(2)
}

# %%
# Each network is observed at inputs of its own, and measured at 270 common ones: 20 align, 250 judge.

common = 2 * rng.random((270, 2)) - 1
observations, landmarks, held_out = {}, {}, {}
for name, run in networks.items():
    own = 2 * rng.random((350, 2)) - 1
    observations[name] = diffeo.Observation.from_jacobians(*run(own), dim=2)
    seen = run(common)[0]
    landmarks[name], held_out[name] = seen[:20], seen[20:]

# %%
# Compare
# -------
#
# joblib runs the pairs, here on threads. ``checkpoint`` keeps what is done: a run that was killed goes on from there, and
# networks that are added later are compared with the rest. ``check=False`` halves the time, and leaves out expected errors.

with tempfile.TemporaryDirectory() as checkpoint, joblib.parallel_config(backend="threading", n_jobs=2):
    family = diffeo.compare_family(
        observations, landmarks=landmarks, held_out=held_out, checkpoint=checkpoint, check=False
    )
print(family.summary())

# %%
family.plot()

# %%
# On a cluster
# ------------
#
# Only the backend changes, and the results have the same bits (``pip install distributed``)::
#
#     from distributed import Client
#
#     with Client("tcp://scheduler:8786"), joblib.parallel_config(backend="dask"):
#         family = diffeo.compare_family(observations, landmarks=landmarks, held_out=held_out, checkpoint="work")
#
# ``family.to_html("family.html")`` writes matrix, tree and the report of every pair as one page. From checkpoints on disk, two
# commands do all of it: :doc:`/guides/command_line`.
