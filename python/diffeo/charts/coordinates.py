"""Coordinates of one observation, of any kind, and the places of marks (rows, or measurements) in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.placed import Outside
from diffeo._support.wording import rows_text
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart
from diffeo.isometry.hermite import NOISE_EXCESS

# Marks that lie this far off the manifold, as a share of the spread of the samples, may all be noisy; one is wrong that lies so
# many times as far off as most.
MOST_NOISE, NOISY_MARKS = 0.1, 3.0
# Samples for each dimension and one more, below which the border of the domain is far from them.
FEW_SAMPLES = 30

Coordinates = DiffusionChart | IsometricChart | MeasuredChart


class Marks(NamedTuple):
    """Places on one side: measurements (L, m), and row numbers (L,) where they are samples of the observation."""

    points: FloatArray
    rows: IntArray | None = None


def coordinates_of(chart: Coordinates, marks: Marks, what: str, n_threads: int) -> FloatArray:
    """Intrinsic coordinates (L, c) of marks, which messages call `what`, "landmarks on side A", say.

    Raises
    ------
    LandmarkError
        Rows that are not in the graph, and measurements off the manifold or outside of the sampled domain.
    """
    if marks.rows is not None:
        bad = np.intersect1d(marks.rows, chart.left_out)
        if len(bad):
            raise errors.LandmarkError(
                f"{what}: {rows_text(bad)} are rank-deficient or were left out of the graph; take others"
            )
        coordinates: FloatArray = chart.coordinates[marks.rows]
        return coordinates
    if isinstance(chart, IsometricChart):
        found, off = _located(chart, marks.points, n_threads)
        outside = Outside(len(found), off)
    else:
        found, outside = chart.place(marks.points, n_threads)
    if outside:
        raise errors.LandmarkError(f"{what}: {outside.where()}; remove these landmarks")
    return found


def places_of_marks(chart: Coordinates, marks: Marks, n_threads: int) -> tuple[FloatArray, IntArray]:
    """Intrinsic coordinates (L, c) of marks, and which are off the manifold: where it comes nearest to them then."""
    if marks.rows is not None:
        return chart.coordinates[marks.rows], np.flatnonzero(np.isin(marks.rows, chart.left_out))
    if isinstance(chart, IsometricChart):
        return _located(chart, marks.points, n_threads)
    found, outside = chart.place(marks.points, n_threads)
    return found, outside.off_manifold


def _located(chart: IsometricChart, points: FloatArray, n_threads: int) -> tuple[FloatArray, IntArray]:
    """Coordinates of marks, and which are off the manifold: those that lie about as far from it as most are only noisy."""
    interpolant = chart.embedding._chart
    located = interpolant.locate(points, n_threads)
    off = located.outside
    usual = float(np.median(located.residual)) if len(points) else 0.0
    if len(off) and chart.roughness > 0.0:
        # Between linear pieces all marks are off the interpolant, by as much as samples that it does not know.
        usual = max(usual, chart.missed(n_threads))
    if len(off) and len(interpolant.nodes) < FEW_SAMPLES * (interpolant.nodes.shape[1] + 1):
        # Few samples end well inside of their domain: a mark beyond them is missed as their own outermost ones are.
        usual = min(max(usual, chart.missed(n_threads, 0.0)), MOST_NOISE * interpolant.spread)
    if len(off) == 0 or usual > MOST_NOISE * interpolant.spread:
        return located.coordinates, off
    numbers = max(interpolant.codim, 1)
    # The usual of a few numbers is itself known to a share of one over the root of theirs only.
    far = located.residual[off] > NOISY_MARKS * (1.0 + NOISE_EXCESS / np.sqrt(numbers * len(points))) * usual
    # What noise does to the places of most, it does to those at the border.
    beyond = interpolant.outside(located.coordinates[off], n_threads, usual / np.sqrt(numbers))
    return located.coordinates, off[far | beyond]
