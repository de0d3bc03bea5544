"""Small networks of real architectures on pictures of a blob, whose position (x1, x2) is the common input domain."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

SIZE = 12
WIDTH = 0.2


def blobs(positions):
    """Pictures (n, 1, SIZE, SIZE) of blobs at positions (n, 2) in the unit square, as a tensor or an array."""
    xp = torch if isinstance(positions, torch.Tensor) else np
    grid = (xp.arange(SIZE) + 0.5) / SIZE
    across = xp.exp(-((grid[None] - positions[:, :1]) ** 2) / (2 * WIDTH**2))
    down = xp.exp(-((grid[None] - positions[:, 1:]) ** 2) / (2 * WIDTH**2))
    return (across[:, :, None] * down[:, None, :])[:, None]


class Rendered(nn.Module):
    """A network on pictures, as a function of the position: the picture is its first layer."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, positions):
        return self.network(blobs(positions))


def conv_net(seed, channels=6, activation=nn.Tanh, pool=nn.AvgPool2d):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1),
        activation(),
        pool(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1),
        activation(),
        pool(2),
        nn.Flatten(),
        nn.Linear(2 * channels * (SIZE // 4) ** 2, 24),
        activation(),
        nn.Linear(24, 2),
    ).double()


class Tokens(nn.Module):
    """A small transformer of SIZE tokens, the rows of the picture; returns a model output with a class token's logits."""

    def __init__(self, seed, width=16, heads=2, depth=2):
        super().__init__()
        torch.manual_seed(seed)
        self.embed = nn.Linear(SIZE, width)
        self.positions = nn.Parameter(0.3 * torch.randn(SIZE, width))
        layer = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.1, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(width, 2)
        self.double()

    def forward(self, pictures):
        hidden = self.encoder(self.embed(pictures[:, 0]) + self.positions)
        return self.head(hidden.mean(1))


def trained(network, steps=60, task=0):
    """The network after some steps of Adam towards a smooth function of the position."""
    torch.manual_seed(7)
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        x = torch.rand(64, 2, dtype=torch.float64)
        y = torch.stack([torch.sin(3 * x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1]], 1) if task == 0 else torch.cos(4 * x)
        optimiser.zero_grad()
        ((network(blobs(x)) - y) ** 2).mean().backward()
        optimiser.step()
    return network
