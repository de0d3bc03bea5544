"""To which of several groups of a side's samples a measurement belongs: by its nearest sample, and by what their charts fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo.charts.coordinates import Coordinates

# Groups with a sample up to so many times as far away as the nearest one are compared by their charts.
NEAR = 2.0


class Routed(NamedTuple):
    """Number of the group (count,) of each measurement, that of another in question, and how probably it is that one.

    A boundary that passes between two samples may be anywhere between them.
    """

    labels: IntArray
    others: IntArray
    doubt: FloatArray


class Routes:
    """Groups of samples of one side, with their charts.

    Parameters
    ----------
    points : ndarray of shape (n, m)
        Of all samples.
    groups : sequence of ndarray of int64
        Rows of each group.
    charts : sequence of Coordinates or None
        Of each group, if it has one.
    """

    def __init__(self, points: FloatArray, groups: Sequence[IntArray], charts: Sequence[Coordinates | None]) -> None:
        spread = points.std(axis=0)
        self._units = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 0.0)
        self._trees = [PointTree(points[rows] * self._units) for rows in groups]
        self._charts = list(charts)

    def routed(
        self, points: FloatArray, n_threads: int, *, first: int | None = None, known: int | None = None
    ) -> Routed:
        """Where measurements (count, m) belong; with `first` among the first so many groups alone.

        If they are samples of the group `known`, as if each were not.
        """
        trees, scaled = self._trees[:first], points * self._units
        distances = np.array([tree.query(scaled, workers=n_threads or -1)[0] for tree in trees])
        if known is not None:
            k = min(2, trees[known].n)
            distances[known] = trees[known].query(scaled, k, workers=n_threads or -1)[0].reshape(len(points), k)[:, -1]
        labels: IntArray = distances.argmin(axis=0).astype(np.int64)
        others, doubt = labels.copy(), np.zeros(len(points))
        near = distances <= NEAR * distances.min(axis=0)
        rows = np.flatnonzero(near.sum(axis=0) > 1)
        if not len(rows):
            return Routed(labels, others, doubt)
        missed = np.full((len(trees), len(rows)), np.inf)
        for group, chart in enumerate(self._charts[:first]):
            here = np.flatnonzero(near[group, rows])
            if chart is not None and len(here):
                missed[group, here] = self._missed(chart, points[rows[here]], n_threads)
            elif chart is None:  # what is nearest to its samples is there
                missed[group, here[labels[rows[here]] == group]] = 0.0
        # Those that fit it, or where none does, all in question: of these the nearest.
        fitting = missed == missed.min(axis=0)
        away = np.where(fitting, distances[:, rows], np.inf)
        order = np.argsort(away, axis=0, kind="stable")[:2]
        labels[rows], others[rows] = order
        nearest, second = np.take_along_axis(away, order, axis=0)
        open_ones = np.isfinite(second) & (second > 0.0)
        doubt[rows[open_ones]] = nearest[open_ones] / (nearest + second)[open_ones]
        others[rows[~open_ones]] = labels[rows[~open_ones]]
        return Routed(labels, others, doubt)

    def _missed(self, chart: Coordinates, points: FloatArray, n_threads: int) -> FloatArray:
        """How far measurements (count, m) are from what a chart can measure: 0 on its manifold, in its sampled domain."""
        placed = chart.place(points, n_threads)
        with np.errstate(over="ignore"):
            found: FloatArray = np.linalg.norm(
                (chart.measurements(placed.values, n_threads) - points) * self._units, axis=1
            )
        found[np.setdiff1d(np.arange(len(points)), placed.outside.off_manifold)] = 0.0
        return np.minimum(found, np.finfo(float).max)
