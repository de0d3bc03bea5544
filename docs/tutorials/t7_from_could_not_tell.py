"""
From "could not tell" to a verdict
==================================

*Undetermined* is an answer: the evidence at hand does not decide, and diffeo does not guess. ``report.would_decide`` says
what would. This page goes that way twice.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# Two sides that see the same two inputs through different channels.

rng = np.random.default_rng(0)


def side(seed, channels=7):
    """Measurements and derivatives of a side, as a function of inputs."""
    slopes = np.random.default_rng(seed).normal(size=(channels, 2))

    def run(x):
        y = np.tanh(x @ slopes.T)
        return y, (1 - y**2)[:, :, None] * slopes

    return run


run_a, run_b = side(3), side(4)
obs_a, obs_b = (diffeo.Observation.from_jacobians(*run(rng.random((800, 2)))) for run in (run_a, run_b))


def pairs(n):
    """What both measure at n common inputs."""
    common = rng.random((n, 2))
    return run_a(common)[0], run_b(common)[0]


# %%
# Too few pairs to judge
# ----------------------

t = diffeo.match(obs_a, obs_b, landmarks=pairs(4))
report = diffeo.assess(t, pairs(12))
print(report.summary())

# %%
# The map may be perfect: twelve pairs cannot show it. What would:

for step in report.would_decide:
    print("-", step)

# %%
# More held-out pairs, and the same map, give a verdict. The map need not be made again.

report = diffeo.assess(t, pairs(60))
print(report.verdict, "-", report.reason)

# %%
# A margin that the data cannot reach
# -----------------------------------
#
# The other common reason: landmarks that were measured with errors of their own. The error is over the margin then, but
# nothing shows that a network lost something: the map is at fault, or may be. So a direction neither holds nor fails.

marks_a, marks_b = pairs(4)
judge_a, judge_b = pairs(60)
t = diffeo.match(obs_a, obs_b, landmarks=(marks_a, marks_b + 0.005 * rng.normal(size=marks_b.shape)))
report = diffeo.assess(t, (judge_a, judge_b + 0.005 * rng.normal(size=judge_b.shape)), margin=0.02)
print(report.summary())

# %%
for step in report.would_decide:
    print("-", step)

# %%
# Both intervals lie right of the margin, or across it:


def draw(report):
    """Error and interval of both directions beside the margin."""
    fig, ax = plt.subplots(figsize=(7, 1.8), layout="constrained")
    for height, one in enumerate((report.backward, report.forward)):
        ax.plot([one.lower, one.upper], [height, height], color="#1b4f8f", linewidth=5, solid_capstyle="butt")
        ax.plot(one.error, height, "o", color="black")
    ax.axvline(report.margin, color="0.3", linestyle="--")
    ax.set_yticks([0, 1], ["B to A", "A to B"])
    ax.set(xscale="log", xlim=(1e-3, 1), ylim=(-0.6, 1.6), xlabel="relative error, and the margin (dashed)")
    return fig


_ = draw(report)

# %%
# Say what margin the question needs, or bring pairs measured more accurately. With both as they are, and a margin of 10 %:

report = diffeo.assess(t, (judge_a, judge_b + 0.005 * rng.normal(size=judge_b.shape)), margin=0.1)
print(report.verdict, "-", report.reason)
_ = draw(report)

# %%
# When a loss is shown
# --------------------
#
# *Fails* is said only where a loss is shown without any map: inputs next to each other on one side and far apart on the
# other. Here side C forgets the sign of its first input; then no number of pairs makes the way back hold.


def run_c(x):
    """Two channels that fold the first input at one half."""
    z = np.stack([(2 * x[:, 0] - 1) ** 2, x[:, 1]], axis=1)
    zero = np.zeros(len(x))
    return z, np.stack([np.stack([4 * (2 * x[:, 0] - 1), zero], axis=1), np.stack([zero, zero + 1], axis=1)], axis=1)


common = rng.random((400, 2))
(y_a, j_a), (y_c, j_c) = run_a(common), run_c(common)
report = diffeo.assess(diffeo.match_pairs(diffeo.Pairs(y_a, y_c, j_a, j_c)))
print(report.verdict, "-", report.reason)
