"""Coordinates of one observation, of any kind, and the places of marks (rows, or measurements) in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart

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
    placed = chart.place(marks.points, n_threads)
    if placed.outside:
        raise errors.LandmarkError(f"{what}: {placed.outside.where()}; remove these landmarks")
    return placed.values


def off_chart(chart: IsometricChart, marks: Marks, n_threads: int) -> IntArray:
    """Which marks are not on the measured manifold."""
    if marks.rows is not None:
        return np.flatnonzero(np.isin(marks.rows, chart.left_out))
    return chart.embedding._chart.locate(marks.points, n_threads).outside
