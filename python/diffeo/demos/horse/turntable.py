"""A camera and the network trained on its pictures: what it measures of a solid on a turntable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.horse.autoencoder import Autoencoder
from diffeo.demos.horse.solid import Camera, Solid
from diffeo.observation.observation import Observation

# Standard deviation of the angles of a burst, in radians (0.6 degrees).
SCALE = 0.01
# Angles farther apart than this are distinct, in radians.
DISTINCT = np.radians(20.0)


@dataclass(frozen=True, eq=False)
class Eye:
    """A camera and its network, with the angles (n,) and pictures (n, size, size) that both have seen."""

    solid: Solid
    camera: Camera
    network: Autoencoder
    angles: FloatArray
    pictures: FloatArray

    def see(self, angles: FloatArray) -> FloatArray:
        """Pictures (count, size, size)."""
        return self.camera.photograph(self.solid, angles)

    def codes(self, angles: FloatArray) -> FloatArray:
        """Latent codes (count, m) of the pictures at some angles."""
        return self.network.encode(self.see(angles))

    def bursts(self, size: int, rng: np.random.Generator, *, standardised: bool = True) -> FloatArray:
        """Pictures (n * size, ...) at `size` angles near each of the sample's."""
        return self.see(burst_angles(self.angles, size, rng, standardised=standardised).ravel())


def burst_angles(angles: FloatArray, size: int, rng: np.random.Generator, *, standardised: bool = True) -> FloatArray:
    """Gaussian angles (n, size) around each of `angles` (n,).

    It is we who turn the table, so a burst can be given exactly the mean and the variance that it is drawn with
    (moment matching: Barraquand 1995). The covariance of what a network makes of it is then that of its derivative, but
    for curvature, without the sampling noise of sqrt(2/K) that an independently drawn burst of K has.
    """
    drawn = rng.standard_normal((len(angles), size))
    if standardised:
        drawn -= drawn.mean(axis=1, keepdims=True)
        drawn /= drawn.std(axis=1, ddof=1, keepdims=True)
    perturbed: FloatArray = angles[:, None] + SCALE * drawn
    return perturbed


def observed(points: FloatArray, members: FloatArray, *, standardised: bool = True) -> Observation:
    """An observation from measurements (n, m) and those of bursts (n * K, m), `burst_angles`."""
    members = members.reshape(len(points), -1, points.shape[1])
    if not standardised:
        return Observation.from_bursts(points, members, scale=SCALE, dim=1)
    # The correction for the noise of a drawn burst would be wrong here: there is none.
    centred = members - members.mean(axis=1, keepdims=True)
    covariances = np.einsum("nka,nkb->nab", centred, centred) / ((members.shape[1] - 1) * SCALE**2)
    return Observation.from_covariances(points, covariances, dim=1)


def closest_approach(angles: FloatArray, pictures: FloatArray) -> float:
    """How near pictures at distinct angles come: their least distance over the root mean square from the mean picture."""
    flat = pictures.reshape(len(pictures), -1)
    flat = flat - flat.mean(axis=0)
    squared = (flat**2).sum(axis=1)
    distances = squared[:, None] + squared - 2.0 * flat @ flat.T
    distinct = np.abs(difference(angles[:, None], angles)) > DISTINCT
    return float(np.sqrt(max(distances[distinct].min(), 0.0) / squared.mean()))


def difference(a: Any, b: Any) -> FloatArray:
    """Signed difference a - b of angles, in [-pi, pi)."""
    wrapped: FloatArray = (a - b + np.pi) % (2.0 * np.pi) - np.pi
    return wrapped


def angles_of_codes(codes: FloatArray, grid: FloatArray, curve: FloatArray) -> FloatArray:
    """Angles (count,) at which the closed curve (k, m) through codes at the angles `grid` (k,) comes nearest to `codes`."""
    step, size = np.roll(curve, -1, axis=0) - curve, difference(np.roll(grid, -1), grid)
    offset = codes[:, None] - curve
    along = np.clip((offset * step).sum(axis=2) / (step**2).sum(axis=1), 0.0, 1.0)
    missed = ((offset - along[:, :, None] * step) ** 2).sum(axis=2)
    nearest = missed.argmin(axis=1)
    angles: FloatArray = grid[nearest] + along[np.arange(len(codes)), nearest] * size[nearest]
    return angles


def angles_on_circle(coordinates: FloatArray, at: FloatArray, angles: FloatArray) -> FloatArray:
    """Angles that belong to places on a recovered circle (count,), by landmarks at places `at` (L,) and their angles.

    The circle's coordinate is in radians, as the bursts are: what is open is where it begins, and which way it runs.
    """
    found = []
    for sign in (1.0, -1.0):
        offsets = difference(angles, sign * at)
        start = np.angle(np.exp(1j * offsets).mean())
        found.append((np.abs(difference(offsets, start)).max(), sign, start))
    _, sign, start = min(found)
    read: FloatArray = sign * coordinates + start
    return read
