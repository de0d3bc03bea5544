"""Pairs of ordinary networks, trained on the spot, that keep the same two numbers: recurrent, convolutional, transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from diffeo import Observation, RandomProjection, capture, observe
from diffeo.demos.training import import_torch

Points = tuple[np.ndarray, np.ndarray]

# Measurements of a layer: so many random projections of it.
PROJECTIONS = 16
STEPS_OF_WAVES, AHEAD = 40, 5
TOKENS, WIDTH = 8, 32


@dataclass(frozen=True)
class OrdinaryPair:
    """Two networks of two numbers in [-1, 1]^2, each with the layer that is looked at; sizes go from too few to plenty.

    Of the samples so many are `added` by refine, up to this share; the others are uniform.
    """

    networks: tuple[Any, Any]
    layers: tuple[str, str]
    sizes: tuple[int, ...] = (200, 500, 1000, 3000)
    added: float = 0.0

    def observe(self, n: int, rng: np.random.Generator, **how: Any) -> tuple[Observation, Observation]:
        """Both sides at n inputs each, none shared; `how` goes to `diffeo.observe`."""
        added = int(self.added * n)
        how = {"reduce": RandomProjection(PROJECTIONS), "refine": added or None} | how
        a, b = (
            observe(network, rng.uniform(-1.0, 1.0, (n - added, 2)), layer=layer, **how)
            for network, layer in zip(self.networks, self.layers, strict=True)
        )
        return a, b

    def pairs(self, rng: np.random.Generator, count: int) -> Points:
        """What both measure at common inputs."""
        x, reduce = rng.uniform(-1.0, 1.0, (count, 2)), RandomProjection(PROJECTIONS)
        a, b = (
            capture(network, x, [layer], reduce=reduce)[layer]
            for network, layer in zip(self.networks, self.layers, strict=True)
        )
        return a, b


def _trained(network: Any, loss: Callable[[Any], Any], steps: int, rate: float) -> Any:
    import torch

    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        value = loss(network)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network.double().eval()


# --- waves, continued by a recurrent network or by a transformer ----------------------------------------------


def _waves(theta: Any, n_steps: int, start: float = 0.0) -> Any:
    """Sine waves (n, n_steps) of a frequency and a phase."""
    import torch

    time = start + torch.linspace(0.0, 1.0, STEPS_OF_WAVES, dtype=theta.dtype)[:n_steps]
    return torch.sin(2.0 * np.pi * (1.5 + 0.5 * theta[:, :1]) * time + 1.2 * theta[:, 1:2])


def _wave_loss(network: Any) -> Any:
    import torch

    theta = 2.0 * torch.rand(128, 2) - 1.0
    return (network(theta) - _waves(theta, AHEAD, 1.0 + 1.0 / STEPS_OF_WAVES)).square().mean()


@cache
def recurrent(number: int, steps: int) -> OrdinaryPair:
    """A gated recurrent network and a long short-term memory that continue waves; their hidden states over time."""
    torch = import_torch()
    torch.set_num_threads(1)

    class Recurrent(torch.nn.Module):
        def __init__(self, kind: Any, width: int) -> None:
            super().__init__()
            self.cells = kind(1, width, batch_first=True)
            self.states = torch.nn.Identity()
            self.head = torch.nn.Linear(width, AHEAD)

        def forward(self, theta: Any) -> Any:
            waves = _waves(theta, STEPS_OF_WAVES)
            if self.training:  # or a network remembers waves by their last digits
                waves = waves + 0.02 * torch.randn_like(waves)
            return self.head(self.states(self.cells(waves[..., None])[0])[:, -1])

    networks = []
    for kind, width, seed in ((torch.nn.GRU, 32, 2 * number), (torch.nn.LSTM, 40, 2 * number + 1)):
        torch.manual_seed(seed)
        networks.append(_trained(Recurrent(kind, width), _wave_loss, steps, 5e-3))
    return OrdinaryPair((networks[0], networks[1]), ("states", "states"))


@cache
def transformers(number: int, steps: int) -> OrdinaryPair:
    """Two transformer encoders that continue waves, cut into tokens: the means of their last layers over the tokens."""
    torch = import_torch()
    torch.set_num_threads(1)

    class Encoder(torch.nn.Module):
        def __init__(self, depth: int) -> None:
            super().__init__()
            self.embed = torch.nn.Linear(STEPS_OF_WAVES // TOKENS, WIDTH)
            self.places = torch.nn.Parameter(0.3 * torch.randn(TOKENS, WIDTH))
            layer = torch.nn.TransformerEncoderLayer(
                WIDTH, 4, 2 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            self.layers = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
            self.pooled = torch.nn.Identity()
            self.head = torch.nn.Linear(WIDTH, AHEAD)

        def forward(self, theta: Any) -> Any:
            tokens = _waves(theta, STEPS_OF_WAVES).reshape(len(theta), TOKENS, -1)
            return self.head(self.pooled(self.layers(self.embed(tokens) + self.places).mean(dim=1)))

    networks = []
    for depth, seed in ((2, 2 * number), (3, 2 * number + 1)):
        torch.manual_seed(1000 + seed)
        networks.append(_trained(Encoder(depth), _wave_loss, steps, 1e-3))
    return OrdinaryPair((networks[0], networks[1]), ("pooled", "pooled"), (500, 1000, 3000, 12000))


def refined_transformers(number: int, steps: int) -> OrdinaryPair:
    """The same encoders, sampled where they bend: plenty are 3,000 uniform inputs and up to 5,000 that refine adds."""
    return replace(transformers(number, steps), sizes=(8000,), added=5 / 8)


# --- pictures of a blob, read by convolutions with rectifiers ---------------------------------------------------


def _pictures(theta: Any, size: int = 16) -> Any:
    """Pictures (n, 1, size, size) of a blob and its tail, turned by an angle and zoomed."""
    import torch

    angle, zoom = 0.8 * theta[:, 0], torch.exp(0.3 * theta[:, 1])
    grid = (torch.arange(size, dtype=theta.dtype) + 0.5) / size * 2.0 - 1.0
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    parts = []
    for place, height in (((0.5, 0.0), 1.0), ((-0.1, 0.25), 0.7), ((-0.4, -0.2), 0.5)):
        c, s = torch.cos(angle) * zoom, torch.sin(angle) * zoom
        at_x, at_y = c * place[0] - s * place[1], s * place[0] + c * place[1]
        parts.append(height * torch.exp(-((x - at_x[:, None, None]) ** 2 + (y - at_y[:, None, None]) ** 2) / 0.08))
    return sum(parts)[:, None]


@cache
def convolutional(number: int, steps: int) -> OrdinaryPair:
    """Two convolutional networks with rectifiers, pooling and batch norm that read angle and zoom; hidden layers."""
    torch = import_torch()
    torch.set_num_threads(1)

    class Reader(torch.nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            nn = torch.nn
            self.body = nn.Sequential(
                nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(32 * width, 64), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(64, 3)

        def forward(self, theta: Any) -> Any:
            return self.head(self.body(_pictures(theta)))

    def loss(network: Any) -> Any:
        theta = 2.0 * torch.rand(64, 2) - 1.0
        target = torch.stack([torch.sin(theta[:, 0]), torch.cos(theta[:, 0]), theta[:, 1]], dim=1)
        return (network(theta) - target).square().mean()

    networks = []
    for width, seed in ((6, 2 * number), (8, 2 * number + 1)):
        torch.manual_seed(2000 + seed)
        networks.append(_trained(Reader(width), loss, steps, 2e-3))
    return OrdinaryPair((networks[0], networks[1]), ("body", "body"), (300, 1000, 2000, 4000))


# Kinds of pairs, and below how many draws, of the sizes in turn, are made of each pair.
ORDINARY: dict[str, Callable[[int, int], OrdinaryPair]] = {
    "recurrent": recurrent,
    "transformers": transformers,
    "refined transformers": refined_transformers,
    "convolutional": convolutional,
}
DRAWS_OF_A_PAIR = dict.fromkeys(ORDINARY, 4) | {"refined transformers": 1}
