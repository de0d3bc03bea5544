"""What a match is to solve: two charts, their landmarks and observables, and what both sides are called."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import SIDES, Names
from diffeo.alignment.rough_places import placed_by_others
from diffeo.charts.chart import Chart, CoordinateChoice
from diffeo.charts.coordinates import Coordinates, coordinates_of, places_of_marks
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.pairs import Landmarks, Pairs, as_pairs


@dataclass(frozen=True, eq=False)
class MatchProblem:
    """Two sides to be matched, and all that is known of both together.

    Attributes
    ----------
    a, b : Chart
        Of which only what is asked for is made.
    coordinates : {"auto", "isometric", "diffusion"}
    landmarks : Pairs or None
    numbers : ndarray of int64, shape (L,), or None
        Which of the landmarks given these are; None where all are.
    observables : tuple of ndarray (n_a, p) and (n_b, p), or None
    random_state : int
    n_jobs : int or None
    check : bool
        Whether the map is made again from halves, to know its error.
    is_half : bool
        Whether the sides are halves of others: landmarks outside of what is left of them are placed all the same, and
        corrections are learned as `taught` says.
    names : tuple of str
        What messages call the sides: ("B", "A") where they were exchanged, since a match leads from more dimensions to fewer.
    is_piece : bool
        Whether the sides are pieces of others, which are not taken to pieces again.
    register : bool
        Whether samples may be registered where isometric coordinates are not good: long work, in vain where a side lost
        something.
    """

    a: Chart
    b: Chart
    coordinates: CoordinateChoice = "auto"
    landmarks: Pairs | None = None
    observables: tuple[FloatArray, FloatArray] | None = None
    random_state: int = 0
    n_jobs: int | None = None
    check: bool = False
    is_half: bool = False
    is_piece: bool = False
    names: Names = field(default=SIDES)
    register: bool = True
    numbers: IntArray | None = field(default=None, repr=False)

    @property
    def charts(self) -> tuple[Chart, Chart]:
        """Both sides."""
        return self.a, self.b

    @property
    def known_unit(self) -> bool:
        """Whether both sides measure length in the unit of their inputs."""
        return self.a.observation.known_unit and self.b.observation.known_unit

    @property
    def n_threads(self) -> int:
        """Threads, as the core counts them."""
        return thread_count(self.n_jobs)

    @property
    def invertible(self) -> bool:
        """Whether both sides have as many dimensions."""
        return self.a.dim == self.b.dim

    @property
    def count(self) -> int:
        """Number of landmarks."""
        return 0 if self.landmarks is None else len(self.landmarks)

    @property
    def unused(self) -> list[str]:
        """What is to be said where observables are not used."""
        if self.observables is None:
            return []
        return ["observables were not used: they align isometric coordinates only"]

    def exchanged(self) -> MatchProblem:
        """The same problem with A and B exchanged, called as before."""
        return replace(
            self,
            a=self.b,
            b=self.a,
            landmarks=None if self.landmarks is None else self.landmarks.swapped(),
            observables=None if self.observables is None else self.observables[::-1],
            names=self.names[::-1],
        )

    @property
    def dimensions(self) -> str:
        """Both dimensions, the beginning of a sentence."""
        (a, b), (one, other) = self.names, self.charts
        return f"{a} has intrinsic dimension {one.dim}, {b} has {other.dim}"

    def given(self, landmarks: Landmarks) -> MatchProblem:
        """The problem with these landmarks, in any form in which a user may give them; errors as in `as_pairs`."""
        return replace(self, landmarks=as_pairs(landmarks, self.a.observation, self.b.observation))

    def without(self, rows: IntArray) -> MatchProblem:
        """The problem without some of its landmarks, by position."""
        if self.landmarks is None or not len(rows):
            return self
        kept = np.setdiff1d(np.arange(self.count), rows)
        return replace(self, landmarks=self.landmarks[kept], numbers=self.numbered(kept))

    def numbered(self, rows: IntArray) -> IntArray:
        """Numbers, among the landmarks given, of those at these positions."""
        found: IntArray = rows.astype(np.int64) if self.numbers is None else self.numbers[rows]
        return found

    def positions(self, numbers: IntArray) -> IntArray:
        """Positions of those that have these numbers among the landmarks given; the ones that the problem lacks have none."""
        found: IntArray = np.flatnonzero(np.isin(self.numbered(np.arange(self.count)), numbers))
        return found

    def need_landmarks(self, reason: str) -> None:
        """Refuse to go on without landmarks.

        Raises
        ------
        LandmarkError
            There are none.
        """
        if self.count == 0:
            raise errors.LandmarkError(
                f"landmarks are needed here ({reason}): a few pairs of measurements (points_a, points_b) of common inputs, or "
                "an (L, 2) array of row numbers"
            )

    def located(self, a: Coordinates, b: Coordinates) -> tuple[FloatArray, FloatArray]:
        """Coordinates (L, c) of the landmarks on both sides; LandmarkError where any is off a side.

        Unless the others tell where: see `placed_by_others`.
        """
        if self.landmarks is None:
            return np.empty((0, a.coordinates.shape[1])), np.empty((0, b.coordinates.shape[1]))
        sides = list(zip((a, b), self.landmarks.marks, self.names, strict=True))
        (at_a, off_a), (at_b, off_b) = (places_of_marks(side, marks, self.n_threads) for side, marks, _ in sides)
        if len(off_a) == len(off_b) == 0:
            return at_a, at_b
        if isinstance(a, IsometricChart) and isinstance(b, IsometricChart) and a.is_open and b.is_open:
            found = placed_by_others(at_a, at_b, (off_a, off_b), known_unit=self.known_unit)
            if found is not None:
                return found
        if not self.is_half:
            for side, marks, name in sides:
                coordinates_of(side, marks, f"landmarks on side {name}", self.n_threads)
        return at_a, at_b
