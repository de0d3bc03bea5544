"""Input domains that close on themselves or are curved, domains without landmarks, and smooth measurements of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from diffeo import Observation

# A convex pentagon without symmetry, inside of the unit square: corners in order.
PENTAGON = np.array([(0.02, 0.1), (0.7, 0.02), (0.98, 0.35), (0.8, 0.95), (0.15, 0.75)])


@dataclass(frozen=True)
class Sampled:
    """Points (n, D) of a domain in R^D and orthonormal tangents (n, D, d)."""

    points: np.ndarray
    tangents: np.ndarray


def circle(n: int, rng: np.random.Generator) -> Sampled:
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    points = np.column_stack([np.cos(angle), np.sin(angle)])
    return Sampled(points, np.column_stack([-points[:, 1], points[:, 0]])[:, :, None])


def flat_torus(n: int, rng: np.random.Generator) -> Sampled:
    """In R^4; the radii 1 and 0.7 leave it no exchange of its two circles."""
    first, second = circle(n, rng), circle(n, rng)
    tangents = np.zeros((n, 4, 2))
    tangents[:, :2, :1], tangents[:, 2:, 1:] = first.tangents, second.tangents
    return Sampled(np.column_stack([first.points, 0.7 * second.points]), tangents)


def sphere(n: int, rng: np.random.Generator) -> Sampled:
    points = rng.normal(size=(n, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    frames = np.concatenate([points[:, :, None], rng.normal(size=(n, 3, 2))], axis=2)
    return Sampled(points, np.linalg.qr(frames)[0][:, :, 1:])


def pentagon(n: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform points (n, 2) of a domain that no motion but the identity maps to itself."""
    x = rng.random((4 * n, 2))
    edges = np.roll(PENTAGON, -1, axis=0) - PENTAGON
    offsets = x[:, None, :] - PENTAGON
    inside = (edges[:, 0] * offsets[:, :, 1] - edges[:, 1] * offsets[:, :, 0] > 0.0).all(axis=1)
    return x[inside][:n]


@dataclass(frozen=True)
class Units:
    """Measurements tanh(z) + 0.3 z, z = W x + b, (n, m) of points (n, D): they bend and never saturate."""

    weights: np.ndarray
    biases: np.ndarray

    @classmethod
    def random(cls, n_units: int, dim: int, rng: np.random.Generator) -> Units:
        return cls(0.7 * rng.normal(size=(n_units, dim)), 0.5 * rng.normal(size=n_units))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        z = points @ self.weights.T + self.biases
        measured: np.ndarray = np.tanh(z) + 0.3 * z
        return measured

    def observe(self, sampled: Sampled, rng: np.random.Generator) -> Observation:
        """With exact Jacobians along the tangents, each turned by its own random rotation."""
        y = self(sampled.points)
        slopes = 1.3 - np.tanh(sampled.points @ self.weights.T + self.biases) ** 2
        jacobians = (slopes[:, :, None] * self.weights) @ sampled.tangents
        d = jacobians.shape[2]
        return Observation.from_jacobians(y, jacobians @ np.linalg.qr(rng.normal(size=(len(y), d, d)))[0], dim=d)


CLOSED: dict[str, tuple[Callable[[int, np.random.Generator], Sampled], int]] = {
    "circle": (circle, 5),
    "flat torus": (flat_torus, 7),
    "sphere": (sphere, 7),
}
