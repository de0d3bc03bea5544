"""A chart: one observation with intrinsic coordinates, isometric, of diffusion or none; and the places of landmarks in it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import rows_text
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.measured import MeasuredChart

Chart = DiffusionChart | IsometricChart | MeasuredChart


def landmark_coordinates(chart: Chart, landmarks: Any, name: str, n_jobs: int | None) -> FloatArray:
    """Intrinsic coordinates (L, c) of landmarks given as rows (L,) or as measurements (L, m)."""
    if landmarks.ndim == 1:
        left_out = chart.embedding.left_out_ if isinstance(chart, IsometricChart) else chart.observation.deficient
        bad = np.intersect1d(landmarks, left_out)
        if len(bad):
            raise errors.LandmarkError(
                f"landmarks on side {name}: {rows_text(bad)} are rank-deficient or were left out of the graph; take others"
            )
        coordinates: FloatArray = chart.coordinates[landmarks]
        return coordinates
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", errors.OutOfDomainWarning)
        coordinates = chart.intrinsic(landmarks, thread_count(n_jobs))
    for warning in caught:
        if issubclass(warning.category, errors.OutOfDomainWarning):
            raise errors.LandmarkError(f"landmarks on side {name}: {warning.message}; remove these landmarks")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return coordinates
