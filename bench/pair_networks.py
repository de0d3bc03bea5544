"""Pairs of networks at common inputs: random smooth ones with cliffs, and trained ones of several architectures."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from diffeo.demos.training import import_torch

Measured = tuple[np.ndarray, np.ndarray]
Measure = Callable[[np.ndarray], Measured]

SIZE = 16
# Width of the dots that pictures are made of, and how many lie in the unit square.
DOT, DOTS = 0.18, 16
STEPS = 600


def steep(d: int, m: int, seed: int, slope: float) -> Measure:
    """A random smooth network of [0, 1]^d with m outputs; with a slope: and a wall that they climb, tanh of that slope."""
    r = np.random.default_rng(seed)
    inner, shift = r.standard_normal((48, d)) * 1.5 / np.sqrt(d), r.standard_normal(48) * 0.5
    outer, height = r.standard_normal((m, 48)) / 7.0, r.standard_normal(m) * 0.3
    place, wave = r.uniform(0.3, 0.7), r.uniform(2.0, 5.0)

    def measure(x: np.ndarray) -> Measured:
        hidden = np.tanh(x @ inner.T + shift)
        y = np.tanh(hidden @ outer.T)
        jacobians = np.einsum("nm,mw,nw,wd->nmd", 1 - y * y, outer, 1 - hidden * hidden, inner, optimize=True)
        if slope == 0.0:
            return y, jacobians
        step = np.tanh(slope * (x[:, 0] + 0.2 * np.sin(wave * x[:, -1]) - place))
        along = np.zeros_like(x)
        along[:, 0] += 1.0
        along[:, -1] += 0.2 * wave * np.cos(wave * x[:, -1])
        wall = (slope * (1 - step**2))[:, None, None] * height[None, :, None] * along[:, None]
        return y + step[:, None] * height, jacobians + wall

    return measure


def digits(parameters: Any) -> Any:
    """Pictures (n, 1, 16, 16) of one digit, turned by up to 0.6 and zoomed by up to a quarter; differentiable."""
    from sklearn.datasets import load_digits

    torch = import_torch()
    picture = torch.tensor(load_digits().images[13] / 16.0, dtype=parameters.dtype)[None, None]
    angle, zoom = 1.2 * (parameters[:, 0] - 0.5), 1.0 + 0.5 * (parameters[:, 1] - 0.5)
    cosine, sine, zero = torch.cos(angle) * zoom, torch.sin(angle) * zoom, torch.zeros_like(angle)
    maps = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = torch.nn.functional.affine_grid(maps, [len(parameters), 1, SIZE, SIZE], align_corners=False)
    # Smooth in the angle: bilinear interpolation would put kinks of its own into the domain.
    weights = torch.exp(-((grid[:, :, :, None, :] - _centres(torch, parameters.dtype)) ** 2).sum(-1) / (2 * DOT**2))
    # By what the dots add up to inside the picture: a number, so that a picture depends on its own parameters alone.
    return (weights @ picture.reshape(-1))[:, None] / (2 * math.pi * DOT**2 * DOTS)


def _centres(torch: Any, dtype: Any) -> Any:
    at = (torch.arange(8, dtype=dtype) + 0.5) / 4.0 - 1.0
    return torch.stack(torch.meshgrid(at, at, indexing="xy"), -1).reshape(-1, 2)


def pictures(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, 1, 16, 16) at parameters (n, 2) in the unit square, single precision, and orthonormal tangents of them."""
    torch = import_torch()
    shown, slopes = [], []
    for part in np.array_split(x, max(1, len(x) // 500)):
        at = torch.tensor(part)
        shown.append(digits(at).numpy())
        columns = [torch.func.jvp(digits, (at,), (torch.eye(2, dtype=at.dtype)[k].expand_as(at),))[1] for k in (0, 1)]
        slopes.append(torch.stack(columns, -1).numpy())
    found = np.concatenate(shown)
    tangents = np.linalg.qr(np.concatenate(slopes).reshape(len(x), -1, 2))[0].reshape(*found.shape, 2)
    return found.astype(np.float32), tangents


def convolutional(seed: int, channels: int, steps: int = STEPS) -> Any:
    """Rectifiers, max pooling and batch norm, float32, trained to tell angle and size of the digit; in evaluation mode."""
    torch = import_torch()
    nn = torch.nn
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * channels, 32), nn.ReLU(), nn.Linear(32, 2),
    )  # fmt: skip
    return _trained(torch, model, lambda x: digits(x), steps)


def rectified(seed: int, widths: tuple[int, ...], steps: int = STEPS) -> Any:
    """A perceptron with rectifiers, trained on two functions of the unit square."""
    torch = import_torch()
    torch.manual_seed(seed)
    layers: list[Any] = []
    for a, b in zip((2, *widths), (*widths, 2), strict=True):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    return _trained(torch, torch.nn.Sequential(*layers[:-1]), lambda x: x, steps).double()


def transformer(seed: int, depth: int = 4, width: int = 32, steps: int = STEPS) -> Any:
    """A transformer encoder whose tokens are waves of two inputs, trained on two functions of these; each layer by its name."""
    torch = import_torch()
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc,name-defined]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Linear(8, width)
            self.positions = nn.Parameter(0.1 * torch.randn(6, width))
            layers = [
                nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, "gelu", batch_first=True) for _ in range(depth)
            ]
            self.blocks = nn.ModuleList(layers)
            self.head = nn.Linear(width, 2)

        def forward(self, x: Any) -> Any:
            steps = torch.arange(6, dtype=x.dtype)[None, :, None]
            waves = [torch.sin(k * x[:, None, :] + 0.7 * steps) for k in (1.0, 2.0)]
            waves += [torch.cos(k * x[:, None, :] - 0.4 * steps) for k in (1.5, 3.0)]
            h = self.embedding(torch.cat(waves, -1)) + self.positions
            for block in self.blocks:
                h = block(h)
            return self.head(h.mean(1))

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    return _trained(torch, Network(), lambda x: x, steps).double()


def _trained(torch: Any, model: Any, given: Callable[[Any], Any], steps: int) -> Any:
    """Adam on a wave and a hill of two inputs in the unit square."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(steps):
        x = torch.rand(64, 2)
        wave = torch.sin(3.0 * x[:, 0] + 2.0 * x[:, 1])
        target = torch.stack([wave, torch.exp(-4.0 * ((x - 0.4) ** 2).sum(1))], 1)
        loss = ((model(given(x)) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()
