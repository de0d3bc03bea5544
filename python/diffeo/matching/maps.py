"""Maps between two sides, of one protocol: by isometric coordinates, diffusion, registration, by pieces, by pairs alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.placed import Outside, Placed
from diffeo.alignment.curved.atlas import AtlasMap, atlas_of
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import Alignment
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.cover import Cover
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.piecewise.by_pieces import ByPieces

# What joins the sides: "isometric" coordinates; those of "diffusion", whether or not the samples were registered on top of
# them; a "regression" on the landmarks alone, where no coordinates join the two; "pieces", each pair of them joined by its own;
# or "pairs" (`diffeo.match_pairs`).
Joined = Literal["isometric", "diffusion", "regression", "pieces", "pairs"]

# A regression is itself off by some percent of the spread: nearer to the samples than that, no prediction is outside of them.
DOUBT_OF_REGRESSION = 0.15
# Where there are samples and no landmarks, predictors are wrong by about so many times what they say. Of 39 regressions with
# fewer samples than a chart needs the worst was 1.34 times as wrong as the best plain fit with 1, 1.29 with 2, and 1.63 where
# all that lies off is moved to the samples.
TIMES_OFF = 2.0


@dataclass(frozen=True, eq=False)
class ByIsometry:
    """Isometric coordinates, a rigid motion between them, and what the landmarks teach beyond it.

    Attributes
    ----------
    a, b : IsometricChart
    alignment : Alignment
    taught, taught_back : LandmarkCorrection or None
    """

    a: IsometricChart
    b: IsometricChart
    alignment: Alignment
    taught: LandmarkCorrection | None = None
    taught_back: LandmarkCorrection | None = None
    coordinates: Joined = field(default="isometric", init=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        common = _moved(self.a, self.b, self.alignment, points_a, n_threads, wrapped=False)
        predicted = self.b.measurements(common.values, n_threads)
        if self.taught is not None:
            predicted = self.taught.predict(points_a, self.b.features(common.values), predicted)
        return common._replace(values=predicted)

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        common = self.b.place(points_b, n_threads)
        there = self.alignment.backward(common.values)
        predicted = self.a.measurements(there, n_threads)
        if self.taught_back is not None:
            predicted = self.taught_back.predict(points_b, self.b.features(common.values), predicted)
        return Placed(predicted, common.outside.partners(self.a.outside(there, n_threads)))

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Coordinates (count, c) of measurements of A, as B has them."""
        return _moved(self.a, self.b, self.alignment, points_a, n_threads)


@dataclass(frozen=True, eq=False)
class ByDiffusion:
    """Diffusion coordinates, and a linear map between them: the method of the paper.

    Attributes
    ----------
    a, b : DiffusionChart
    alignment : Alignment
    """

    a: DiffusionChart
    b: DiffusionChart
    alignment: Alignment
    coordinates: Joined = field(default="diffusion", init=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        common = self.intrinsic(points_a, n_threads)
        return common._replace(values=self.b.measurements(common.values, n_threads))

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        common = self.b.place(points_b, n_threads)
        there = self.alignment.backward(common.values)
        predicted = self.a.measurements(there, n_threads)
        return Placed(predicted, common.outside.partners(self.a.outside(there, n_threads)))

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Coordinates (count, c) of measurements of A, as B has them."""
        return _moved(self.a, self.b, self.alignment, points_a, n_threads)


@dataclass(frozen=True, eq=False)
class ByRegistration:
    """A's samples placed on B's manifold so that all lengths agree, from a start by diffusion coordinates.

    Attributes
    ----------
    a, b : DiffusionChart
    alignment : Alignment
        Of the diffusion coordinates of all samples: for pictures.
    registration : Registration
    """

    a: DiffusionChart
    b: DiffusionChart
    alignment: Alignment
    registration: Registration
    coordinates: Joined = field(default="diffusion", init=False)
    _maps: dict[str, tuple[AtlasMap, bool]] = field(default_factory=dict, init=False, repr=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        placed = self.registration.forward(points_a, n_threads)
        side_b, left = self._side_b(n_threads)
        if not left:
            return placed
        return placed._replace(outside=placed.outside.partners(side_b.beyond(placed.values, n_threads)))

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        placed = self.registration.backward(points_b, n_threads)
        # A's samples are all that is registered: a point of B that has none around it may be one of B's own samples.
        rows = placed.outside.off_manifold
        off = self._side_b(n_threads)[0].locate(points_b[rows], n_threads)[2] if len(rows) else np.zeros(0, dtype=bool)
        return placed._replace(outside=Outside(len(points_b), rows[off], rows[~off]))

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Coordinates (count, c) of measurements of A, as B has them."""
        there = self.forward(points_a, n_threads)
        found = self.b.place(there.values, n_threads)
        beyond = np.isin(np.arange(len(points_a)), found.outside.off_manifold)
        return found._replace(outside=there.outside.partners(beyond))

    def _side_b(self, n_threads: int) -> tuple[AtlasMap, bool]:
        """B's samples, and whether some sample of A has its place outside of them: else no partner of points among A's has.

        Made once, by the first who asks.
        """
        if "b" not in self._maps:
            side, places = self.b.observation, self.registration.counterparts
            chart = AtlasMap(atlas_of(side, n_threads), side.points)
            self._maps["b"] = chart, bool(chart.beyond(places.points[places.usable], n_threads).any())
        return self._maps["b"]


@dataclass(frozen=True, eq=False)
class ByPairs:
    """Regressions on the landmarks alone, from measurements and a side's own coordinates where it has some.

    Attributes
    ----------
    a, b : IsometricChart or MeasuredChart
    alignment : Alignment
        Brings the landmarks roughly together: for pictures, neither map uses it.
    taught : LandmarkCorrection
    taught_back : LandmarkCorrection or None
        None where A has more dimensions than B.
    """

    a: Coordinates
    b: Coordinates
    alignment: Alignment
    taught: LandmarkCorrection | None
    taught_back: LandmarkCorrection | None = None
    coordinates: Joined = field(default="regression", init=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a)."""
        return _regressed(self.taught, self.a, self._covers[1], points_a, n_threads)

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        return _regressed(self.taught_back, self.b, self._covers[0], points_b, n_threads)

    def intrinsic(self, points_a: FloatArray, n_threads: int) -> Placed:
        """A's own coordinates (count, c), roughly moved to where B's are: there are no common ones."""
        placed = self.a.place(points_a, n_threads)
        return placed._replace(values=self.b.wrapped(self.alignment.forward(placed.values)))

    @cached_property
    def _covers(self) -> tuple[Cover, Cover]:
        """Where the samples of both sides are."""
        return Cover(self.a.observation), Cover(self.b.observation)


Map = ByIsometry | ByDiffusion | ByRegistration | ByPairs | ByPieces | ByPairFits


def _moved(
    a: DiffusionChart | IsometricChart,
    b: DiffusionChart | IsometricChart,
    alignment: Alignment,
    points: FloatArray,
    n_threads: int,
    *,
    wrapped: bool = True,
) -> Placed:
    placed = a.place(points, n_threads)
    there = alignment.forward(placed.values)
    return Placed(b.wrapped(there) if wrapped else there, placed.outside.partners(b.outside(there, n_threads)))


def _regressed(
    model: LandmarkCorrection | None, chart: Coordinates, other: Cover, points: FloatArray, n_threads: int
) -> Placed:
    if model is None:
        raise errors.InputError("the transformation is a regression on landmarks, and lacks it")
    placed = chart.place(points, n_threads)
    at = chart.features(placed.values)
    predicted = model.predict(points, at)
    beyond = other.outside(predicted, n_threads, DOUBT_OF_REGRESSION)
    near = other.brought_near(predicted, n_threads)
    moved = np.linalg.norm(near - predicted, axis=1)
    rows = np.flatnonzero(moved > 0.0)
    # A domain ends beyond its outermost samples: a prediction s away from them, and itself in doubt by u, is one of two
    # estimates whose squares of errors are u^2 and s^2.
    doubt = np.maximum(TIMES_OFF * model.deviation(points[rows], at[rows]), np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        share = 1.0 / (1.0 + (moved[rows] / doubt) ** 2)
    rows, share = rows[share > 0.0], share[share > 0.0, None]
    predicted[rows] = (1.0 - share) * predicted[rows] + share * near[rows]
    return Placed(predicted, placed.outside.partners(beyond))
