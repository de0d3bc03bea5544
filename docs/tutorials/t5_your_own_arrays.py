"""
Your own arrays
===============

Networks in JAX, a simulation in Fortran, data from an instrument: diffeo takes plain arrays. What it needs beside the
measurements is how they respond to a small change of the input, in one of four forms.
"""

import tempfile
from pathlib import Path

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# The measurements are rows, ``points`` (n, m). Here: six channels of two inputs.

rng = np.random.default_rng(0)
mixing = rng.normal(size=(6, 2))


def measure(x):
    """Six smooth channels (n, 6) of inputs (n, 2)."""
    return np.sin(x @ mixing.T) + 0.2 * x @ mixing.T


x = rng.random((1000, 2))
points = measure(x)

# %%
# The four forms
# --------------
#
# **Jacobians** (n, m, p), from automatic differentiation (``jax.vmap(jax.jacfwd(net))(x)``) or by hand: the most accurate.

jacobians = (np.cos(x @ mixing.T) + 0.2)[:, :, None] * mixing
by_jacobians = diffeo.Observation.from_jacobians(points, jacobians)

# %%
# **Bursts** (n, K, m): what K inputs around each give, and how far around. For whatever can be run but not differentiated.

near = x[:, None] + 0.01 * rng.normal(size=(1000, 24, 2))
bursts = measure(near.reshape(-1, 2)).reshape(1000, 24, 6)
by_bursts = diffeo.Observation.from_bursts(points, bursts, scale=0.01)

# %%
# **Covariances** (n, m, m) of the measurements, per unit of input covariance.

by_covariances = diffeo.Observation.from_covariances(points, jacobians @ jacobians.transpose(0, 2, 1))

# %%
# **Neighbours**: nothing but a reference in which samples are near each other (n, p), such as time along a path, or a state.

by_neighbors = diffeo.Observation.from_neighbors(points, x)

# %%
# What each is worth
# ------------------
#
# The inputs come back from the measurements and three known rows, with these errors, away from the border:

errors, inside = {}, (abs(x - 0.5) < 0.45).all(axis=1)
for obs in (by_jacobians, by_covariances, by_neighbors, by_bursts):
    found = diffeo.reconstruct(obs, [0, 1, 2], x[:3])
    errors[obs.source] = diffeo.relative_error(found.predict(points[inside]), x[inside])

fig, ax = plt.subplots(figsize=(6, 2.2), layout="constrained")
ax.barh(list(errors), list(errors.values()), color="#1b4f8f")
ax.bar_label(ax.containers[0], fmt=" {:.1e}")
ax.invert_yaxis()
_ = ax.set(xscale="log", xlim=(1e-6, 1), xlabel="relative error of the recovered inputs")

# %%
# Two sides that number their rows differently
# --------------------------------------------
#
# Landmarks and held-out pairs are measurements of common inputs. Give identifiers, and rows in the wrong order are an error,
# not a wrong map.

names = [f"trial-{k}" for k in range(30)]
try:
    diffeo.Pairs(points[:30], points[:30], ids_a=names, ids_b=names[::-1])
except diffeo.errors.DiffeoError as error:
    print(error)

# %%
# On the command line
# -------------------
#
# The same arrays in an npz file are what ``diffeo compare A.npz B.npz --landmarks pairs.csv`` reads: ``points``, and one of
# ``jacobians``, ``bursts`` with their ``scale``, ``covariances`` or ``reference``.

with tempfile.TemporaryDirectory() as folder:
    np.savez(Path(folder) / "A.npz", points=points, jacobians=jacobians)
    by_jacobians.save(Path(folder) / "A.safetensors")
    print(diffeo.load(Path(folder) / "A.safetensors"))
