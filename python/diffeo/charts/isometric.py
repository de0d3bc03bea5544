"""Isometric coordinates of one observation, in input units, both ways."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.placed import Placed
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.isometry.periods import turns
from diffeo.isometry.rough_lengths import roughness
from diffeo.isometry.trust import explained_by_roughness, is_one_to_one, is_rough, keeps_lengths
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation

# Samples that tell how coarse a chart is, and the share of them that do not count.
TRIALS, WORST = 200, 0.1
# The root mean square misfit of the edges of a sample is so many times the median misfit of edges.
MISFITS_OF_A_SAMPLE = 2.0


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

    def place(self, points: FloatArray, n_threads: int) -> Placed:
        """Intrinsic coordinates (count, d) of new measurements (count, m), by inverting the Hermite interpolant."""
        return self.embedding._placed(points, n_threads)

    @property
    def left_out(self) -> IntArray:
        """Samples that are not in the graph, ascending."""
        rows: IntArray = self.embedding.left_out_
        return rows

    @property
    def used(self) -> IntArray:
        """Samples in the graph, ascending."""
        return np.setdiff1d(np.arange(len(self.observation)), self.left_out)

    @property
    def keeps_lengths(self) -> bool:
        """Whether the layout has the lengths of its edges, up to what their noise, or their roughness, explains."""
        kept = keeps_lengths(self.embedding.stress_, self.observation.length_noise)
        return kept or explained_by_roughness(self.embedding.stress_, self.roughness)

    @functools.cached_property
    def roughness(self) -> float:
        """Of the lengths, where the layout misses them everywhere; else 0: see `diffeo.isometry.rough_lengths`."""
        stress, used = self.embedding.stress_, self.used
        misfit = float(np.median(self.embedding.misfit_[used])) if len(used) else 0.0
        if not is_rough(stress, misfit, np.inf) or len(self.embedding.periods_):
            return 0.0
        points, whitening = self.observation.points[used], self.observation.whitening[used]
        found = roughness(points, whitening, self.coordinates[used])
        return found if is_rough(stress, misfit, MISFITS_OF_A_SAMPLE * found) else 0.0

    @property
    def is_open(self) -> bool:
        """Whether the domain closes in no direction."""
        return len(self.embedding.periods_) == 0

    @property
    def is_chart(self) -> bool:
        """Whether the layout keeps lengths and is one to one."""
        return self.keeps_lengths and is_one_to_one(self.embedding.overlap_)

    def coarseness(self, n_threads: int) -> float:
        """Error to suspect of the coordinates of samples too few for their curvature, relative to the size of the domain.

        By how far off the measurements of some samples are, interpolated from the others (all but the worst tenth), over their
        usual slope: 0.02 for 40 samples of a smooth network of two inputs, 0.001 for 200.
        """
        nodes, values = self.embedding._chart.nodes, self.embedding._chart.values
        usual = self.missed(n_threads) / np.sqrt(values.shape[1] / nodes.shape[1])
        size = float(np.sqrt(self.coordinates[self.used].var(axis=0).sum()))
        return usual / size if size > 0.0 else 0.0

    def missed(self, n_threads: int, worst: float = WORST) -> float:
        """What interpolation misses of some samples, left out of it, in units of residuals; of all but a worst share."""
        interpolant = self.embedding._chart
        count = len(interpolant.nodes)
        rows = np.linspace(0, count - 1, min(count, TRIALS)).astype(np.int64)
        missed = (interpolant.left_out(rows, n_threads) - interpolant.values[rows]) * interpolant.units
        return float(np.quantile(np.linalg.norm(missed, axis=1), 1.0 - worst))

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at intrinsic coordinates (count, d), by Hermite interpolation."""
        return self.embedding._chart.measurements(coordinates, n_threads)

    def slopes(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Derivatives (count, m, d) of the measurements by the intrinsic coordinates."""
        return self.embedding._chart.expansion(coordinates, n_threads)[1]

    def outside(self, coordinates: FloatArray, n_threads: int) -> NDArray[np.bool_]:
        """Which intrinsic coordinates (count, d) lie outside of the sampled domain."""
        return self.embedding._chart.outside(coordinates, n_threads)

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


def isometric_chart(observation: Observation, n_jobs: int | None) -> IsometricChart:
    """Isometric coordinates of an observation; bursts are smoothed first.

    Raises
    ------
    DisconnectedError
        Its graph falls into pieces.
    """
    observation = smoothed(observation, n_jobs=n_jobs)
    # The diagnostics of a match, and the problems of a chart, say it.
    with errors.unsaid(errors.DistortionWarning, errors.DisconnectedWarning):
        fitted = IsometricEmbedding(n_jobs=n_jobs).fit(observation)
    return IsometricChart(observation, fitted, fitted.embedding_)
