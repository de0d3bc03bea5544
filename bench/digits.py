"""Convolutional networks with rectifiers and pooling that read how far a handwritten digit is turned and zoomed."""

from __future__ import annotations

import functools
import time
from dataclasses import dataclass
from typing import Any

import diffeo
import numpy as np

# Side of the pictures, in pixels; the digit, and the width of the brush that draws its pixels, in units of half a picture.
SIDE, DIGIT, BRUSH = 16, 4, 0.15
PROJECTIONS, LANDMARKS, HELD_OUT = 16, 3, 300
# Landmarks reach this far, of the domain [-1, 1]^2, and are the widest of so many draws.
REACH, DRAWS = 0.9, 50


def pictures(theta: Any) -> Any:
    """The digit (n, 1, SIDE, SIDE), turned and zoomed by torch inputs (n, 2) in [-1, 1]^2; smooth in these."""
    import torch
    from sklearn.datasets import load_digits

    digit = torch.tensor(load_digits().images[DIGIT] / 16.0, dtype=theta.dtype)
    angle, zoom = 0.8 * theta[:, 0], torch.exp(0.3 * theta[:, 1])
    grid = (torch.arange(SIDE, dtype=theta.dtype) + 0.5) / SIDE * 2.0 - 1.0
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    c, s = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    places = c[:, None, None] * x + s[:, None, None] * y, c[:, None, None] * y - s[:, None, None] * x
    strokes = (torch.arange(8, dtype=theta.dtype) + 0.5) / 8 * 2.0 - 1.0
    across, down = (torch.exp(-((place[..., None] / 0.8 - strokes) ** 2) / (2 * BRUSH**2)) for place in places)
    return torch.einsum("nhwa,nhwb,ba->nhw", across, down, digit)[:, None]


@functools.cache
def reader(seed: int, channels: int, steps: int) -> Any:
    """A network trained to say the angle and the zoom; its layer `body` is the last hidden one."""
    import torch
    from torch import nn

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels), nn.ReLU(),
                nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * channels, 64), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Linear(64, 3)

        def forward(self, theta: Any) -> Any:
            return self.head(self.body(pictures(theta)))

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    network = Reader()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        theta = 2.0 * torch.rand(64, 2) - 1.0
        target = torch.stack([torch.sin(theta[:, 0]), torch.cos(theta[:, 0]), theta[:, 1]], dim=1)
        loss = (network(theta) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.double().eval()


@dataclass(frozen=True)
class Read:
    """Errors of the maps both ways, infinite where refused; the verdict; seconds of CPU of the match."""

    forward: float
    backward: float
    verdict: str
    seconds: float


def matched(numbers: tuple[int, int], n: int, steps: int, draws: int, how: dict[str, Any]) -> list[Read]:
    """Match the last hidden layers of two readers from n inputs a side, none shared, by so many draws of landmarks."""
    networks = [reader(number, 6 + 2 * k, steps) for k, number in enumerate(numbers)]
    rng = np.random.default_rng([*numbers, 11])
    sides = [
        diffeo.observe(
            network, rng.uniform(-1.0, 1.0, (n, 2)), layer="body", reduce=diffeo.RandomProjection(PROJECTIONS), **how
        )
        for network in networks
    ]
    charts = [diffeo.embed(side) for side in sides]
    new = 0.95 * rng.uniform(-1.0, 1.0, (HELD_OUT, 2))
    held = tuple(side.measure(network, new) for side, network in zip(sides, networks, strict=True))
    found = []
    for _ in range(draws):
        tries = REACH * rng.uniform(-1.0, 1.0, (DRAWS, LANDMARKS, 2))
        widths = [np.linalg.svd(marks - marks.mean(axis=0), compute_uv=False)[-1] for marks in tries]
        marks = tries[int(np.argmax(widths))]
        known = tuple(side.measure(network, marks) for side, network in zip(sides, networks, strict=True))
        start = time.process_time()
        try:
            t = diffeo.match(*charts, landmarks=known, check=False)
        except diffeo.errors.DiffeoError as error:
            found.append(Read(np.inf, np.inf, type(error).__name__, time.process_time() - start))
            continue
        forward = diffeo.relative_error(t.transform(held[0]), held[1])
        backward = diffeo.relative_error(t.inverse_transform(held[1]), held[0])
        seconds = time.process_time() - start
        found.append(Read(forward, backward, diffeo.assess(t, held_out=held).verdict, seconds))
    return found
