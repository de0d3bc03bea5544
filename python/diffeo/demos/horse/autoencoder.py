"""Convolutional autoencoders of small pictures, trained on the spot, reproducibly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.training import import_torch

# Pictures of a training step.
BATCH = 48
LEARNING_RATE = 1e-2
# Pictures evaluated at once.
CHUNK = 512


@dataclass(frozen=True)
class Architecture:
    """Convolutions as (channels, kernel, stride), a dense hidden layer, and the latent code; the decoder mirrors it."""

    convolutions: Sequence[tuple[int, int, int]]
    activation: str
    hidden: int
    latent: int

    def build(self, size: int) -> tuple[Any, Any]:
        """Untrained encoder and decoder for pictures (count, 1, size, size)."""
        nn = import_torch().nn
        activation = getattr(nn, self.activation)
        down: list[Any] = []
        up: list[Any] = []
        channels = 1
        for width, kernel, stride in self.convolutions:
            padding = (kernel - stride) // 2
            down += [nn.Conv2d(channels, width, kernel, stride, padding), activation()]
            up = [nn.ConvTranspose2d(width, channels, kernel, stride, padding), *([activation()] if up else []), *up]
            channels, size = width, size // stride
        cells = channels * size**2
        encoder = nn.Sequential(
            *down, nn.Flatten(), nn.Linear(cells, self.hidden), activation(), nn.Linear(self.hidden, self.latent)
        )
        decoder = nn.Sequential(
            nn.Linear(self.latent, self.hidden),
            activation(),
            nn.Linear(self.hidden, cells),
            activation(),
            nn.Unflatten(1, (channels, size, size)),
            *up,
        )
        for module in [*encoder.modules(), *decoder.modules()]:
            if hasattr(module, "weight"):
                # Signals keep their size through the layers, or training would first sit at the mean picture.
                nn.init.xavier_normal_(module.weight, gain=1.4)
                nn.init.zeros_(module.bias)
        return encoder, decoder


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """A trained encoder and decoder in double precision; pictures are (count, size, size)."""

    encoder: Any
    decoder: Any
    mean: float
    spread: float

    def encode(self, pictures: FloatArray) -> FloatArray:
        """Latent codes (count, latent)."""
        return _evaluated(self.encoder, self._scaled(pictures))

    def hidden(self, pictures: FloatArray) -> FloatArray:
        """Activations (count, hidden) of the dense layer before the code."""
        return _evaluated(self.encoder[:-1], self._scaled(pictures))

    def decode(self, codes: FloatArray) -> FloatArray:
        """Pictures of latent codes."""
        return _evaluated(self.decoder, codes)[:, 0] * self.spread + self.mean

    def _scaled(self, pictures: FloatArray) -> FloatArray:
        scaled: FloatArray = (pictures[:, None] - self.mean) / self.spread
        return scaled


def train_autoencoder(
    pictures: FloatArray, architecture: Architecture, *, seed: int, steps: int, name: str
) -> Autoencoder:
    """Train on pictures (count, size, size) to the least mean squared error: Adam, one cycle of the learning rate.

    The seed fixes initial weights and batches. Trained in single precision, returned in double.
    """
    from tqdm import trange

    torch = import_torch()
    mean, spread = float(pictures.mean()), float(pictures.std())
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(seed)
    # Networks this small lose more to waking threads than they gain.
    torch.set_num_threads(1)
    try:
        encoder, decoder = architecture.build(pictures.shape[-1])
        parameters = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
        x = torch.as_tensor((pictures[:, None] - mean) / spread, dtype=torch.float32)
        for _ in trange(steps, desc=f"training {name}", leave=False, disable=None):
            batch = x[torch.randint(0, len(x), (BATCH,))]
            loss = ((decoder(encoder(batch)) - batch) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    finally:
        torch.random.set_rng_state(state)
        torch.set_num_threads(n_threads)
    return Autoencoder(encoder.double().eval(), decoder.double().eval(), mean, spread)


def _evaluated(network: Any, inputs: FloatArray) -> FloatArray:
    torch = import_torch()
    with torch.no_grad():
        parts = [
            network(torch.as_tensor(inputs[start : start + CHUNK])).numpy() for start in range(0, len(inputs), CHUNK)
        ]
    return np.ascontiguousarray(np.concatenate(parts))
