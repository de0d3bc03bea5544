"""A small transformer encoder, trained here, at mixtures of three sequences of tokens; its layers matched with each other."""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any

import diffeo
import numpy as np
from diffeo import errors
from diffeo.demos.training import import_torch

from bench.rows import Clock

TOKENS, FEATURES, WIDTH, DEPTH = 8, 6, 32, 4
HELD_OUT = 300
# Weights of the second and third sequence, of three mixtures that lie well apart.
MARKS = np.array([[0.08, 0.1], [0.78, 0.12], [0.12, 0.74]])


@functools.cache
def mixed_encoder(seed: int, steps: int) -> Any:
    """A network of two weights (n, 2): an encoder that was trained on random sequences, at mixtures of three of them.

    Its task needs attention: the values of the tokens, weighed by a softmax of their keys.
    """
    torch = import_torch()
    nn = torch.nn
    torch.set_num_threads(1)
    torch.manual_seed(seed)

    class Encoder(nn.Module):  # type: ignore[misc,name-defined]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Linear(FEATURES, WIDTH)
            self.places = nn.Parameter(0.3 * torch.randn(TOKENS, WIDTH))
            kind = functools.partial(nn.TransformerEncoderLayer, activation="gelu", batch_first=True, norm_first=True)
            self.blocks = nn.ModuleList(kind(WIDTH, 4, 2 * WIDTH, 0.0) for _ in range(DEPTH))
            self.head = nn.Linear(WIDTH, 2)

        def forward(self, tokens: Any) -> Any:
            h = self.embedding(tokens) + self.places
            for block in self.blocks:
                h = block(h)
            return self.head(h.mean(1))

    class Mixed(nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self, encoder: Any, sequences: Any) -> None:
            super().__init__()
            self.encoder, self.sequences = encoder, nn.Parameter(sequences)

        def forward(self, weights: Any) -> Any:
            all_weights = torch.cat([1.0 - weights.sum(1, keepdim=True), weights], 1)
            return self.encoder(torch.einsum("nk,ktf->ntf", all_weights, self.sequences))

    encoder = Encoder()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=2e-3)
    for _ in range(steps):
        tokens = torch.randn(64, TOKENS, FEATURES)
        target = (torch.softmax(2.0 * tokens[:, :, :1], 1) * tokens[:, :, 1:3]).sum(1)
        loss = (encoder(tokens) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Mixed(encoder, torch.randn(3, TOKENS, FEATURES)).double().eval()


def mixtures(count: int, rng: np.random.Generator) -> np.ndarray:
    """Weights of the second and third sequence, uniform over all mixtures."""
    weights = rng.random((count, 2))
    beyond = weights.sum(axis=1) > 1.0
    weights[beyond] = 1.0 - weights[beyond]
    return weights


@dataclass(frozen=True)
class Deeper:
    """The first layer matched with a deeper one: errors both ways, what was named, how it was sampled, seconds of work."""

    layer: int
    errors: tuple[float, float]
    problems: list[str]
    samples: tuple[int, int]
    ratio: float
    seconds: float

    @property
    def told(self) -> str:
        """In one line."""
        return (
            f"layer {self.layer}: {100 * self.errors[0]:.2g} % there, {100 * self.errors[1]:.2g} % back, {len(self.problems)} "
            f"problems, {self.samples[0]} and {self.samples[1]} samples, s_1/s_2 {self.ratio:.0f}, {self.seconds:.0f} s of work"
        )


def to_deeper_layers(model: Any, n: int, refine: int, seed: int) -> list[Deeper]:
    """Three landmarks, inputs of its own for each layer; `refine` more are added where they are thin."""
    rng = np.random.default_rng([seed, 11])

    def observed(k: int) -> diffeo.Observation:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", errors.DiffeoWarning)  # weak directions, which the row tells
            return diffeo.observe(
                model, mixtures(n, rng), layer=f"encoder.blocks.{k}", reduce="mean", refine=refine or None
            )

    first, new, found = observed(0), 0.005 + 0.985 * mixtures(HELD_OUT, rng), []
    for k in range(1, DEPTH):
        other = observed(k)
        known, held = ([side.measure(model, x) for side in (first, other)] for x in (MARKS, new))
        clock = Clock()
        ratio = float(np.median(other.singular_values[:, 0] / other.singular_values[:, 1]))
        sizes = len(first), len(other)
        try:
            t = diffeo.match(first, other, landmarks=tuple(known), check=False)
        except errors.DiffeoError as error:
            found.append(Deeper(k, (np.inf, np.inf), [str(error)], sizes, ratio, clock.work))
            continue
        with errors.unsaid(errors.OutOfDomainWarning):
            ways = (
                diffeo.relative_error(t.transform(held[0]), held[1]),
                diffeo.relative_error(t.inverse_transform(held[1]), held[0]),
            )
        found.append(Deeper(k, ways, t.diagnostics.problems, sizes, ratio, clock.work))
    return found
