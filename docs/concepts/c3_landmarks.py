"""
Why landmarks
=============

Two networks give two charts of one domain. Each is right by itself, and each lies as it happens to lie. A few inputs known to
both lay one on the other.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# Two networks, neurons of their own, inputs of their own: no row of A belongs to any row of B.

rng = np.random.default_rng(1)


def network(seed):
    """Five neurons and their derivatives, as a function of inputs."""
    slopes = 1.2 * np.random.default_rng(seed).normal(size=(5, 2))

    def run(x):
        y = np.tanh(x @ slopes.T)
        return y, (1 - y**2)[:, :, None] * slopes

    return run


run_a, run_b = network(5), network(6)
x_a, x_b = rng.random((900, 2)), rng.random((900, 2))
chart_a, chart_b = (diffeo.embed(diffeo.Observation.from_jacobians(*run(x))) for run, x in ((run_a, x_a), (run_b, x_b)))

common = np.array([[0.15, 0.2], [0.8, 0.3], [0.4, 0.85]])
marks_a, marks_b = run_a(common)[0], run_b(common)[0]
t = diffeo.match(chart_a, chart_b, landmarks=(marks_a, marks_b))

fig, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
own_a, own_b = chart_a.transform(marks_a), chart_b.transform(marks_b)
for ax, where, colors, marks, title in (
    (axes[0], chart_a.coordinates, x_a, own_a, "chart of A"),
    (axes[1], chart_b.coordinates, x_b, own_b, "chart of B"),
    (axes[2], t.intrinsic(run_a(x_a)[0]), x_a, t.intrinsic(marks_a), "A laid on B by three landmarks"),
):
    ax.scatter(*where.T, c=colors[:, 0], s=4)
    ax.plot(*marks.T, "k^", markersize=9, markerfacecolor="white")
    ax.set(title=title, aspect="equal")

# %%
# Three are enough for two inputs, d + 1 for d: they fix a rigid motion. Compare what is learned from the pairs
# alone, without the charts: three pairs teach regression nothing.

held_out = rng.random((100, 2))
report = diffeo.assess(t, (run_a(held_out)[0], run_b(held_out)[0]))
print("diffeo".ljust(35), f"{report.forward.error:.4%}")
for one in report.baselines:
    print(one.name.ljust(35), f"{one.forward:.2%}")

# %%
# Without landmarks
# -----------------
#
# A square looks the same in eight positions. With no landmark at all, each of them fits, and diffeo picks none silently:

alone = diffeo.match(chart_a, chart_b)
for candidate in alone.candidates:
    print("-", candidate.name)

# %%
# What breaks the symmetry: one landmark, a domain or a density without symmetry, or a quantity that both networks report
# (``observables=``).
