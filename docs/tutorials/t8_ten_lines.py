"""
From networks to a verdict in ten lines
=======================================

A pair of convolutional networks and a pair of transformers are trained here, then compared. All that you would write
yourself stands under *The ten lines*; the rest is training.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

# %%
# Convolutional networks
# ----------------------
#
# The inputs are pictures of one digit, turned and zoomed: 256 pixels, yet a surface of two dimensions, which ``picture`` draws
# from angle and zoom. Each dot of ink is a Gaussian, so that pictures depend smoothly on both.

digit = torch.tensor(load_digits().images[13] / 16.0)
at = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
dots = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).reshape(-1, 2)
at = (torch.arange(16, dtype=torch.float64) + 0.5) / 8 - 1
pixels = torch.stack(torch.meshgrid(at, at, indexing="xy"), -1)


def picture(z):
    """One picture, (1, 16, 16), from angle and zoom, both between 0 and 1."""
    angle, zoom = 1.2 * (z[0] - 0.5), 1 + 0.5 * (z[1] - 0.5)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    squares = ((pixels @ (zoom * turn).T)[:, :, None] - dots).square().sum(-1)
    return (torch.exp(-squares / 0.065) @ digit.reshape(-1))[None] / 3.3


torch.manual_seed(0)
known = torch.rand(500, 2, dtype=torch.float64)
drawn = torch.func.vmap(picture)(known).float()


def trained(net, inputs):
    """Adam on mean squares of batches of 64 of 500 inputs, for 200 steps."""
    optimiser = torch.optim.Adam(net.parameters(), lr=0.004)
    for _ in range(200):
        rows = torch.randint(len(known), (64,))
        loss = (net(inputs[rows]) - wave_and_hill(known[rows]).float()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def wave_and_hill(z):
    """What all four networks learn: two functions of two numbers."""
    return torch.stack([torch.sin(3 * z[:, 0] + 2 * z[:, 1]), torch.exp(-4 * (z - 0.4).square().sum(1))], 1)


def convolutional(channels, seed):
    """Two blocks of convolution, batch norm, rectifiers and pooling, then a hidden layer of 32."""
    torch.manual_seed(seed)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, channels, 3, padding=1),
        torch.nn.BatchNorm2d(channels),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(channels, 2 * channels, 3, padding=1),
        torch.nn.BatchNorm2d(2 * channels),
        torch.nn.ReLU(),
        torch.nn.MaxPool2d(2),
        torch.nn.Flatten(),
        torch.nn.Linear(32 * channels, 32),
        torch.nn.ReLU(),
        torch.nn.Linear(32, 2),
    )
    return trained(net, drawn)


conv_a, conv_b = convolutional(6, seed=0), convolutional(8, seed=1)

# %%
# **The ten lines.** Pictures have too many coordinates to ask for all derivatives: ``tangents`` names orthonormal directions in
# which they can change. Here the derivatives of ``picture`` span them. Layer "9" is the hidden one, before its rectifiers.
# ``baselines=False`` leaves out the plain methods that a report compares, which would take longer than all the rest.

z = torch.rand(600, 2, dtype=torch.float64)
shown = torch.func.vmap(picture)(z).float()
slopes = torch.func.vmap(torch.func.jacfwd(picture))(z).reshape(600, 256, 2)
tangents = torch.linalg.qr(slopes)[0].reshape(600, 1, 16, 16, 2)
pairs = diffeo.measure_pairs(conv_a, conv_b, shown, layers=("9", "9"), tangents=tangents)
t = diffeo.match_pairs(pairs)
convolutional_report = diffeo.assess(t, baselines=False)
print(convolutional_report.summary())

# %%
# The maps take activations of one network to those of the other, with an expected error for each row. At pictures that neither
# the maps nor the verdict have met:

fresh = torch.func.vmap(picture)(torch.rand(200, 2, dtype=torch.float64)).float()
new = diffeo.measure_pairs(conv_a, conv_b, fresh, layers=("9", "9"), jacobians=False)
predicted, expected = t.transform(new.points_a), t.predicted_error(new.points_a)
print(
    "error", diffeo.relative_error(predicted, new.points_b), "expected, root mean square", np.sqrt(np.mean(expected**2))
)

alive = np.argsort(-new.points_b.std(axis=0))[:4]
fig, axes = plt.subplots(1, 4, figsize=(10, 2.8), layout="constrained")
for ax, k in zip(axes, alive, strict=True):
    ax.plot(new.points_b[:, k], predicted[:, k], ".", markersize=4)
    ax.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
    ax.set(title=f"neuron {k} of B", xlabel="measured", ylabel="predicted from A", aspect="equal")

# %%
# Transformers
# ------------
#
# Six tokens, waves of the two numbers, go through two blocks; the second transformer is wider.


class Transformer(torch.nn.Module):
    """Tokens, two blocks, and a head on their mean."""

    def __init__(self, width):
        super().__init__()
        self.embed, self.place = torch.nn.Linear(4, width), torch.nn.Parameter(0.1 * torch.randn(6, width))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True) for _ in range(2)
        )
        self.head = torch.nn.Linear(width, 2)

    def forward(self, x):
        steps = torch.arange(6, dtype=x.dtype)[:, None]
        tokens = torch.cat([torch.sin(x[:, None] + 0.7 * steps), torch.cos(2 * x[:, None] - 0.4 * steps)], -1)
        tokens = self.embed(tokens) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(dim=1))


def transformer(width, seed):
    """A transformer, trained."""
    torch.manual_seed(seed)
    return trained(Transformer(width), known.float())


transformer_a, transformer_b = transformer(16, seed=2), transformer(24, seed=3)

# %%
# **The ten lines.** Two numbers need no tangents. ``reduce`` says what to make of six tokens: their mean.

x = torch.rand(600, 2)
last = ("blocks.1", "blocks.1")
pairs = diffeo.measure_pairs(transformer_a, transformer_b, x, layers=last, reduce="mean")
t = diffeo.match_pairs(pairs)
transformer_report = diffeo.assess(t, baselines=False)
print(transformer_report.summary())

# %%
# Where to go from here: :doc:`t3_transformer_layers` compares all layers at once; :doc:`t7_from_could_not_tell` says what to do
# when the verdict is *undetermined*.
