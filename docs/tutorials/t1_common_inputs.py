"""
Two networks on the same inputs
===============================

You have two networks and can run both on the same inputs. This is the easy case, and the most accurate: any architecture,
any layer, no choice to make. Two lines measure and match, a third judges.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np
import torch

# %%
# Two networks of different width and activation learn the same function. Take your own instead: any ``torch.nn.Module``.


def trained(width, unit, task, seed):
    """A network with one hidden layer, after 400 steps."""
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(2, width), unit(), torch.nn.Linear(width, 12), unit(), torch.nn.Linear(12, 2)]
    net = torch.nn.Sequential(*layers)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(400):
        x = torch.rand(256, 2)
        loss = (net(x) - task(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net


def task(x):
    """Two outputs that keep both inputs."""
    return torch.stack([x[:, 0] + 0.3 * torch.sin(3 * x[:, 1]), x[:, 1] * (1 + x[:, 0])], dim=1)


net_a = trained(32, torch.nn.Tanh, task, seed=0)
net_b = trained(48, torch.nn.Softplus, task, seed=1)

# %%
# Measure
# -------
#
# ``measure_pairs`` runs both networks over the common inputs and keeps how each responds to a small change of the input.
# Here the layer before the output of each, twelve neurons; without ``layers`` it is the output.

inputs = np.random.default_rng(0).random((300, 2))
pairs = diffeo.measure_pairs(net_a, net_b, inputs, layers=("3", "3"))
pairs

# %%
# Match and judge
# ---------------
#
# A fifth of the pairs is held out; the maps are learned from the rest, and judged by that fifth.

t = diffeo.match_pairs(pairs)
report = diffeo.assess(t)
print(report.summary())

# %%
# Activations of A go in, those of B come out, each row with the error that is expected of it. Seen here: four neurons of
# B, predicted from A, for inputs that neither the maps nor the verdict have met.

fresh = np.random.default_rng(1).random((200, 2))
new = diffeo.measure_pairs(net_a, net_b, fresh, layers=("3", "3"), jacobians=False)
predicted, expected = t.transform(new.points_a), t.predicted_error(new.points_a)
print("error", diffeo.relative_error(predicted, new.points_b), "expected, median of the rows", np.median(expected))

alive = np.argsort(-new.points_b.std(axis=0))[:4]
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, k in zip(axes, alive, strict=True):
    ax.plot(new.points_b[:, k], predicted[:, k], ".", markersize=4)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(title=f"neuron {k} of B", xlabel="measured", ylabel="predicted from A", aspect="equal")

# %%
# A network that loses something
# ------------------------------
#
# The third network learns a task that does not know the sign of the first input. Its outputs follow from those of A, and not
# the other way round: no map can bring back what is gone. The report says in which direction of the input.


def folded(x):
    """A task in which inputs on both sides of 0.5 give one output."""
    return torch.stack([(2 * x[:, 0] - 1) ** 2, x[:, 1]], dim=1)


net_c = trained(48, torch.nn.Tanh, folded, seed=2)
lost = diffeo.assess(diffeo.match_pairs(diffeo.measure_pairs(net_a, net_c, inputs)))
print(lost.verdict)
print(lost.reason)

# %%
# Where to go from here: :doc:`t2_two_cameras` needs no common input but three; :doc:`t3_transformer_layers` compares all
# layers at once; ``report.to_html("report.html")`` writes one page to send around; ``t.save`` keeps the maps.
