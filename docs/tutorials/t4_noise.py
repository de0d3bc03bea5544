"""
Recordings with noise
=====================

Measurements from an instrument carry noise: of the points themselves, and of what tells how they stretch. Both go in as
they are. This page shows what diffeo makes of them, and how far the answer can be trusted.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# Two recordings of a system with two hidden states: twelve channels in one laboratory, ten in another, each channel some
# smooth response. No state was recorded in both, but for a few.

rng = np.random.default_rng(0)


def instrument(channels, seed):
    """Smooth channels of a state, (n, channels), and their derivatives."""
    own = np.random.default_rng(seed)
    slopes, shift = 1.5 * own.normal(size=(channels, 2)), own.normal(size=channels)

    def record(states, noise=0.0):
        clean = np.tanh(states @ slopes.T + shift)
        return clean + noise * rng.normal(size=clean.shape)

    return record


record_a, record_b = instrument(12, seed=1), instrument(10, seed=2)

# %%
# Around each state 30 more, a little off (a *burst*), tell how the channels respond. Everything has noise: some 3 % of the
# spread of a channel.

SPREAD, NOISE = 0.05, 0.004


def recording(record, n=1200):
    """An observation from bursts of 30."""
    states = rng.random((n, 2))
    near = states[:, None] + SPREAD * rng.normal(size=(n, 30, 2))
    bursts = record(near.reshape(-1, 2), NOISE).reshape(n, 30, -1)
    return diffeo.Observation.from_bursts(
        record(states, NOISE), bursts, scale=SPREAD, dim=2, shrinkage="optimal"
    ), states


obs_a, states_a = recording(record_a)
obs_b, states_b = recording(record_b)
obs_a

# %%
# Match
# -----
#
# Sixty states were recorded in both laboratories, with noise too: 20 align, 40 judge.

common = rng.random((60, 2))
seen_a, seen_b = record_a(common, NOISE), record_b(common, NOISE)
t = diffeo.match(obs_a, obs_b, landmarks=(seen_a[:20], seen_b[:20]))
print("expected error", t.diagnostics.expected_error)
for problem in t.diagnostics.problems:
    print("problem:", problem)

# %%
report = diffeo.assess(t, (seen_a[20:], seen_b[20:]), margin=0.1)
print(report.summary())

# %%
# Held-out pairs are noisy themselves, and count against the map. Beside the truth, which only a simulation knows:

fresh = rng.random((500, 2))
predicted = t.transform(record_a(fresh, NOISE))
print("error against channels without noise", diffeo.relative_error(predicted, record_b(fresh)))
print("noise of B over its spread          ", NOISE / record_b(fresh).std(axis=0).mean())

# %%
# What was recovered
# ------------------
#
# The hidden states of A, up to a rotation, from twelve noisy channels.

chart = diffeo.embed(obs_a)
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, where, name in zip(axes, (states_a, chart.coordinates[:, :2]), ("hidden states", "recovered"), strict=True):
    ax.scatter(*where.T, c=states_a[:, 0], s=6)
    ax.set(title=name, aspect="equal")

# %%
# If you know the noise, say so: ``noise=0.004`` at any constructor replaces the estimate; ``noise=0`` says that there is none.
