"""Isometric coordinates of one observation, in input units, both ways."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.isometry.periods import turns
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation


@dataclass(frozen=True, eq=False)
class IsometricChart:
    """Isometric coordinates, in input units.

    Attributes
    ----------
    observation : Observation
    embedding : IsometricEmbedding
    coordinates : ndarray of shape (n, d)
        Of all samples.
    """

    observation: Observation
    embedding: IsometricEmbedding
    coordinates: FloatArray

    def intrinsic(self, points: FloatArray, n_threads: int) -> FloatArray:
        """Intrinsic coordinates (count, d) of new measurements (count, m), by inverting the Hermite interpolant."""
        coordinates: FloatArray = self.embedding._transform(points, n_threads)
        return coordinates

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at intrinsic coordinates (count, d), by Hermite interpolation."""
        return self.embedding._inverse_transform(coordinates, n_threads)

    def strays(self, landmarks: Any, n_threads: int) -> IntArray:
        """Which landmarks, rows (L,) or measurements (L, m), are not on the measured manifold."""
        if landmarks.ndim == 1:
            return np.flatnonzero(np.isin(landmarks, self.embedding.left_out_))
        return self.embedding._chart.locate(landmarks, n_threads).outside

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates moved by periods into one cell."""
        return self.embedding._chart.wrapped(coordinates)

    def features(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates as inputs of a regression: sine and cosine of what is periodic, the rest as it is."""
        periods = self.embedding.periods_
        if len(periods) == 0:
            return coordinates
        phase = 2.0 * np.pi * turns(coordinates, periods)
        rest = coordinates @ np.linalg.svd(periods)[2][len(periods) :].T
        return np.column_stack([np.cos(phase), np.sin(phase), rest])


# What became of observations within one `charts_kept`, by their identity; they are kept, and so is their identity.
_kept: ContextVar[dict[int, tuple[Observation, IsometricChart | str]] | None] = ContextVar(
    "diffeo_charts", default=None
)


@contextmanager
def charts_kept() -> Iterator[None]:
    """Within, an observation that is matched again keeps its isometric chart, or the reason why it has none.

    Bursts are smoothed anew in each match, so smooth them before.
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def isometric_chart(observation: Observation, name: str, n_jobs: int | None) -> IsometricChart:
    """Isometric coordinates of an observation (bursts are smoothed first); the error names the side."""
    kept = _kept.get()
    found = None if kept is None or id(observation) not in kept else kept[id(observation)][1]
    if found is None:
        try:
            found = _isometric_chart(observation, n_jobs)
        except errors.DisconnectedError as error:
            found = str(error)
        if kept is not None:
            kept[id(observation)] = observation, found
    if isinstance(found, str):
        raise errors.DisconnectedError(f"observation {name}: {found}")
    return found


def _isometric_chart(observation: Observation, n_jobs: int | None) -> IsometricChart:
    observation = smoothed(observation, n_jobs=n_jobs)
    with warnings.catch_warnings():
        # The diagnostics of the match say it.
        warnings.simplefilter("ignore", errors.DistortionWarning)
        fitted = IsometricEmbedding(n_jobs=n_jobs).fit(observation)
    return IsometricChart(observation, fitted, fitted.embedding_)
