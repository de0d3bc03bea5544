"""
The local metric
================

A network bends and stretches its inputs. Distances between activations are therefore not distances between inputs. But how
each point was stretched can be measured there, and undone.
"""

import matplotlib.pyplot as plt
import numpy as np

# %%
# Left: inputs on a square, with small round neighbourhoods. Right: what a network makes of them. The circles became ellipses,
# of another shape at every place.


def network(x):
    """Two outputs that bend and stretch."""
    u, v = x[..., 0], x[..., 1]
    return np.stack([np.exp(1.2 * u) * np.cos(v), np.exp(1.2 * u) * np.sin(v) + 0.4 * u], axis=-1)


def jacobian(x):
    """Its derivatives, (2, 2)."""
    u, v = x
    e = np.exp(1.2 * u)
    return np.array([[1.2 * e * np.cos(v), -e * np.sin(v)], [1.2 * e * np.sin(v) + 0.4, e * np.cos(v)]])


grid = np.stack(np.meshgrid(np.linspace(0.1, 0.9, 5), np.linspace(0.1, 0.9, 5)), axis=-1).reshape(-1, 2)
around = np.linspace(0, 2 * np.pi, 60)
circle = 0.06 * np.stack([np.cos(around), np.sin(around)], axis=1)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for center in grid:
    left.plot(*(center + circle).T, color="#1b4f8f", linewidth=1)
    right.plot(*(network(center) + circle @ jacobian(center).T).T, color="#b3540c", linewidth=1)
for ax, where in ((left, grid), (right, network(grid))):
    ax.plot(*where.T, "k.", markersize=3)
    ax.set_aspect("equal")
left.set_title("inputs: circles of one size")
_ = right.set_title("activations: ellipses, each of its own")

# %%
# The ellipse at a point is its local covariance
#
# .. math:: C_i = J_i J_i^\top, \qquad J_i = \frac{\partial y}{\partial x}(x_i).
#
# Lengths measured in units of these ellipses are lengths of the input. With the (pseudo-)inverses at both ends of a short step,
#
# .. math::
#
#    q_{ij} = \frac{1}{2} (y_j - y_i)^\top \left(C_i^{+} + C_j^{+}\right) (y_j - y_i)
#           = \lVert x_i - x_j \rVert^2 + O(\lVert x_i - x_j \rVert^4).
#
# Nothing of the input is on the left side. So, for short steps:

steps = np.random.default_rng(0)
x = steps.random((400, 2))
y = x + 0.08 * steps.normal(size=(400, 2))
seen = network(y) - network(x)


def mahalanobis(at, step):
    """Length of a step by the metric at one end."""
    return np.linalg.norm(np.linalg.solve(jacobian(at), step))


lengths = [np.sqrt((mahalanobis(p, s) ** 2 + mahalanobis(q, s) ** 2) / 2) for p, q, s in zip(x, y, seen, strict=True)]
true = np.linalg.norm(y - x, axis=1)
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
axes[0].plot(true, np.linalg.norm(seen, axis=1), ".", color="#b3540c")
axes[0].set(xlabel="distance of inputs", ylabel="distance of activations", title="as measured")
axes[1].plot(true, lengths, ".", color="#1b4f8f")
_ = axes[1].set(xlabel="distance of inputs", ylabel="sqrt(q)", title="by the local metric")

# %%
# With more neurons than inputs the activations fill a thin surface among them. The inverse is then that within the surface, and
# blind across it; *gates* keep pairs out whose surfaces are turned against each other (:doc:`/reference/conventions`).
#
# After A. Singer and R. R. Coifman, *Non-linear independent component analysis with diffusion maps*, ACHA 25 (2008).
