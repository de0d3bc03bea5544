"""
What the verdict says, and what it does not
===========================================

Two directions are judged, each for itself: does A determine B, does B determine A? Held-out pairs, which no map was made from,
are the judges.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# The error of a direction is relative: 100 % is no better than always saying the mean. Its interval is set beside the *margin*,
# the error that you still call equal. Three things can come of it:

fig, ax = plt.subplots(figsize=(8, 2.6), layout="constrained")
rows = (
    ("holds: all of it under the margin", 0.6, 1.4, "#1d6b45"),
    ("undetermined: it could not be told", 3.0, 9.0, "#6a3fa0"),
    ("fails: over the margin, and a loss is shown", 14.0, 30.0, "#8c1d18"),
)
for height, (name, low, high, color) in enumerate(rows[::-1]):
    ax.plot([low, high], [height, height], color=color, linewidth=5, solid_capstyle="butt")
    ax.text(0.105, height + 0.22, name, color=color)
ax.axvline(5, color="0.3", linestyle="--")
ax.set(xscale="log", xlim=(0.1, 100), ylim=(-0.5, 2.8), xlabel="relative error of held-out pairs, %", yticks=[])
_ = ax.text(5.2, 2.5, "margin", color="0.3")

# %%
# Both directions hold: *equivalent*. One holds and the other fails: *one way only*. Whatever is left open makes it
# *undetermined*, since the map may be at fault, and not the networks.
#
# What shows a loss
# -----------------
#
# A large error alone proves nothing: a better map might exist. A loss is *shown* by pairs: inputs that are next to each other
# on one side and far apart on the other. No continuous map leads from the first side to the second then.

rng = np.random.default_rng(0)
x = rng.random((300, 1))
angle = 2 * np.pi * x
side_a = np.hstack([np.cos(0.9 * angle), np.sin(0.9 * angle)])
side_b = np.cos(angle)
slopes_a = 1.8 * np.pi * np.hstack([-np.sin(0.9 * angle), np.cos(0.9 * angle)])[:, :, None]
slopes_b = -2 * np.pi * np.sin(angle)[:, :, None]
report = diffeo.assess(diffeo.match_pairs(diffeo.Pairs(side_a, side_b, slopes_a, slopes_b)))
print(report.verdict)
print(report.reason)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
axes[0].scatter(*side_a.T, c=x[:, 0], s=8)
axes[0].set(title="A: every input has its place", aspect="equal")
axes[1].scatter(x[:, 0], side_b[:, 0], c=x[:, 0], s=8)
axes[1].axhline(0.3, color="0.3", linestyle="--", linewidth=1)
_ = axes[1].set(title="B: one value, two inputs", xlabel="input", ylabel="B")

# %%
# What it does not say
# --------------------
#
# - *Equivalence belongs to what is observed, where it is observed.* Most wide hidden layers keep the whole input, trained or
#   not: they are all equivalent. Networks differ where something is discarded: outputs, bottlenecks, invariances.
# - It holds over the input domain that was sampled, and within the margin. Outside of it nothing was asked.
# - *Equivalent* does not mean alike: the map may be as bent as it likes, as long as it is smooth and goes both ways. The report
#   shows beside it what a linear map does.
# - *Undetermined* is no verdict against. ``report.would_decide`` says what would tell
#   (:doc:`/auto/tutorials/t7_from_could_not_tell`).
# - Each direction is judged at a level, 5 % unless you say otherwise: so often is one that lies exactly at the margin called
#   one that holds. Measured over thousands of cases: :doc:`/benchmarks`.
