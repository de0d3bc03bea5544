"""
Two cameras that share nothing
==============================

Two cameras look at one turning object, at different times and from different places. No moment is seen by both. Is the
state that they see the same, and how is the picture of one camera turned into that of the other?
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np

# %%
# The object is a frame with five lamps; a camera projects it and blurs it to 20 by 20 pixels.

rng = np.random.default_rng(0)
cloud = np.array([[1.9, 0.9, 0.0], [-1.2, -1.0, 1.2], [0.5, 0.1, -1.7], [-0.4, 1.5, 0.9], [0.9, -1.6, 0.6]])
brightness = np.array([1.0, 0.9, 0.7, 0.6, 0.8])
axis = np.linspace(-3, 3, 20)


def picture(angle, azimuth, elevation):
    """What a camera sees, (20 * 20,), when the object has turned by an angle."""
    c, s = np.cos(angle + azimuth), np.sin(angle + azimuth)
    x, depth = c * cloud[:, 0] + s * cloud[:, 2], c * cloud[:, 2] - s * cloud[:, 0]
    y = cloud[:, 1] * np.cos(elevation) + depth * np.sin(elevation)
    along_x, along_y = (np.exp(-((axis[:, None] - p) ** 2) / 0.9) for p in (x, y))
    return ((along_y * brightness) @ along_x.T).ravel()


def camera_a(angles):
    """Pictures of camera A, (n, 400)."""
    return np.array([picture(a, 0.0, 0.2) for a in angles])


def camera_b(angles):
    """Pictures of camera B, (n, 400)."""
    return np.array([picture(a, 1.3, 0.9) for a in angles])


angles_a, angles_b = rng.uniform(0, 2 * np.pi, 1500), rng.uniform(0, 2 * np.pi, 1500)

fig, axes = plt.subplots(2, 5, figsize=(9, 3.8), layout="constrained")
for row, camera in zip(axes, (camera_a, camera_b), strict=True):
    for ax, seen in zip(row, camera(np.arange(5) * 2 * np.pi / 5), strict=True):
        ax.imshow(seen.reshape(20, 20), cmap="magma")
        ax.set_axis_off()
_ = fig.suptitle("the same five angles, seen by A (above) and by B")

# %%
# Observe
# -------
#
# An observation is a set of measurements with a *local metric*: how strongly each picture changes when the object turns a
# little. Eight random smooth features of the pictures do as well as all pixels.


def observed(camera, angles, seed):
    """Eight features of the pictures, and their derivatives by the angle."""
    weights = np.random.default_rng(seed).normal(size=(400, 8)) / 30

    def measure(at):
        return np.tanh(camera(at) @ weights)

    step = 1e-4
    slopes = (measure(angles + step) - measure(angles - step)) / (2 * step)
    return diffeo.Observation.from_jacobians(measure(angles), slopes[:, :, None]), measure


obs_a, measure_a = observed(camera_a, angles_a, seed=1)
obs_b, measure_b = observed(camera_b, angles_b, seed=2)
obs_a

# %%
# Each side alone
# ---------------
#
# Nobody told diffeo that the states form a circle. ``embed`` finds it, in each camera for itself: a closed curve as long as
# the full turn, 2 pi.

chart_a, chart_b = diffeo.embed(obs_a), diffeo.embed(obs_b)
print("length of the closed curve: A", abs(chart_a.periods.item()), "B", abs(chart_b.periods.item()))

# %%
# Without a single pair, ``screen`` looks for what speaks against one common domain.

print(diffeo.screen(chart_a, chart_b).conclusion)

# %%
# Three common moments
# --------------------
#
# A circle can be turned and flipped: nothing in the samples says how A's lies on B's. Three angles known to both fix it.

common = np.array([0.3, 2.0, 4.1])
t = diffeo.match(chart_a, chart_b, landmarks=(measure_a(common), measure_b(common)))
t

# %%
# Sixty more, which the map has not seen, judge. Where one of them lies in a gap of the samples, a problem says so.

held_out = rng.uniform(0, 2 * np.pi, 60)
report = diffeo.assess(t, (measure_a(held_out), measure_b(held_out)))
print(report.summary())

# %%
# What camera B would have seen
# -----------------------------
#
# Send a picture of A to B's features, and show the picture of B that is nearest to it.

asked = np.array([0.9, 2.7, 4.9])
nearest = [np.argmin(np.linalg.norm(obs_b.points - y, axis=1)) for y in t.transform(measure_a(asked))]
fig, axes = plt.subplots(3, 3, figsize=(5.4, 5.6), layout="constrained")
rows = (camera_a(asked), camera_b(angles_b[nearest]), camera_b(asked))
for row, pictures, name in zip(axes, rows, ("A sees", "sent to B", "B would see"), strict=True):
    for ax, seen in zip(row, pictures, strict=True):
        ax.imshow(seen.reshape(20, 20), cmap="magma")
        ax.set(xticks=[], yticks=[])
    row[0].set_ylabel(name)
