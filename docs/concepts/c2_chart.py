"""
Charts: coordinates of one network's inputs
===========================================

Short lengths, many of them, fix the whole: as a table of distances between neighbouring towns fixes the map of a country, up
to how one holds the sheet.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# Five neurons see two inputs, each bent in its own way. Two of them are drawn.

rng = np.random.default_rng(0)
x = rng.random((1000, 2))
slopes = 1.2 * np.random.default_rng(5).normal(size=(5, 2))
y = np.tanh(x @ slopes.T)
obs = diffeo.Observation.from_jacobians(y, (1 - y**2)[:, :, None] * slopes)
chart = diffeo.embed(obs)
print(chart.kind, chart.coordinates.shape, "problems:", chart.problems)

# %%
# The chart has the shape of the input square, though only the neurons were seen: *isometric* coordinates, in units of the
# input. Colours show the first true input.

fig, axes = plt.subplots(1, 3, figsize=(10, 3.3), layout="constrained")
for ax, where, title in zip(
    axes, (x, y[:, :2], chart.coordinates), ("inputs (never seen)", "two neurons", "the chart"), strict=True
):
    ax.scatter(*where.T, c=x[:, 0], s=5)
    ax.set(title=title, aspect="equal")

# %%
# It is the square, but turned, shifted, perhaps reflected. The best rigid motion shows how well:

centred, own = x - x.mean(axis=0), chart.coordinates - chart.coordinates.mean(axis=0)
u, _, vt = np.linalg.svd(own.T @ centred)
print("relative error after a rigid motion", np.linalg.norm(own @ u @ vt - centred) / np.linalg.norm(centred))

# %%
# Diffusion coordinates
# ---------------------
#
# The paper's way to the same: a random walk that steps along the metric, and the leading eigenvectors of its matrix. They exist
# for every domain, curved ones too, and are right to a few percent.

diffusion = diffeo.DiffusionMap(n_components=3).fit(obs)
fig, axes = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for k, ax in enumerate(axes):
    ax.scatter(*x.T, c=diffusion.embedding_[:, k], s=5, cmap="coolwarm")
    ax.set(title=f"eigenvector {k + 1}, over the inputs", aspect="equal")

# %%
# How fast the walk forgets them are the tones of the domain, of a drum of its shape: for the unit square 1, 1, 2, ... times
# pi squared. ``generator_eigenvalues_`` approximates them from the samples, and says how well.

print("over pi^2", np.round(diffusion.generator_eigenvalues_[1:] / np.pi**2, 2))
print("expected errors", np.round(diffusion.generator_errors_[1:] / np.pi**2, 2))

# %%
# ``diffeo.match`` takes the better of the two, and says which it took. A chart goes both ways: ``chart.transform(points)``
# places new measurements, ``chart.inverse_transform`` leads back.
