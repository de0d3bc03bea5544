"""The change of coordinates between two networks: measurements of A in, those of B out, and back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import FloatArray, float_array, integer
from diffeo._support.notebook import Shown
from diffeo._support.placed import Placed
from diffeo._support.threads import exact, thread_count
from diffeo._support.wording import SIDES
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import Alignment
from diffeo.charts.coordinates import Coordinates
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.expected_error import (
    TINY,
    ExpectedError,
    among_none,
    missed_at_least,
    places_of,
    some_of,
    spread_of,
    stretch_at,
)
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.matching.maps import ByIsometry, ByPairs, ByRegistration, Joined, Map
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.pairs import Pairs
from diffeo.matching.piecewise.by_pieces import ByPieces

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, eq=False)
class Transformation(Shown):
    """The map between two observations of one input domain; made by `diffeo.match`, or by `diffeo.match_pairs`.

    Attributes
    ----------
    map : ByIsometry, ByDiffusion, ByRegistration, ByPairs, ByPieces or ByPairFits
        What joins the sides. ``t.map.parts`` of ByPieces are the transformations of each pair of pieces, ``t.map.rows`` the
        samples that are in them.
    candidates : list of Alignment
        All alignments that cannot be told apart, each with a name; the first is used (`by_candidate` takes another).
    scale : float
        Unit of length of B over that of A: 1 up to sampling for one common domain.
    diagnostics : Diagnostics
    landmarks : tuple of ndarray of shape (L, m_a), (L, m_b), or None
        Measurements of the landmarks that were used, so that `diffeo.assess` can refuse to judge by them.
    expected : ExpectedError or None
        What the map is expected to be wrong by, everywhere (`predicted_error`); None where it was not checked or could not be.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> a = diffeo.Observation.from_jacobians(x[:150], np.tile(np.eye(2), (150, 1, 1)))
    >>> b = diffeo.Observation.from_jacobians(2 * x[150:], np.tile(2 * np.eye(2), (150, 1, 1)))
    >>> marks = np.array([[0.1, 0.2], [0.8, 0.3], [0.4, 0.9]])
    >>> t = diffeo.match(a, b, landmarks=(marks, 2 * marks))
    >>> t.coordinates, t.diagnostics.problems
    ('isometric', [])
    >>> t.transform(marks).shape, t.predicted_error(marks).shape
    ((3, 2), (3,))
    """

    map: Map
    candidates: list[Alignment]
    scale: float
    diagnostics: Diagnostics
    n_jobs: int | None = field(default=None, repr=False)
    landmarks: tuple[FloatArray, FloatArray] | None = field(default=None, repr=False)
    expected: ExpectedError | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        by_pieces = isinstance(self.map, ByPieces)
        return (
            f"Transformation({self.a.observation.points.shape[1]} measurements of A <-> "
            f"{self.b.observation.points.shape[1]} of B, dim={self.a.observation.dim}, "
            f"{'piece by piece' if by_pieces else f'{self.coordinates} coordinates'}, "
            f"{len(self.diagnostics.problems)} problems)"
        )

    @property
    def a(self) -> Coordinates:
        """A's observation with its intrinsic coordinates, if it has some."""
        return self.map.a

    @property
    def b(self) -> Coordinates:
        """B's observation with its intrinsic coordinates, if it has some."""
        return self.map.b

    @property
    def coordinates(self) -> Joined:
        """What joins the sides.

        "isometric": coordinates in input units. "diffusion": leading eigenvectors, on curved domains with A's samples
        registered on B's manifold from there. "regression": no coordinates, but models learned from the landmarks alone.
        "pieces": the samples fall into pieces, and each pair of these is joined on its own. "pairs": maps of
        `diffeo.match_pairs`.
        """
        return self.map.coordinates

    @property
    def alignment(self) -> Alignment:
        """From A's intrinsic coordinates to B's."""
        return self.map.alignment

    @property
    def registration(self) -> Registration | None:
        """On curved domains, A's samples placed on B's manifold so that all lengths agree."""
        return self.map.registration if isinstance(self.map, ByRegistration) else None

    @property
    def forward(self) -> LandmarkCorrection | None:
        """What the landmarks teach beyond the alignment, for `transform`; all of it, for a regression."""
        return self.map.taught if isinstance(self.map, (ByIsometry, ByPairs)) else None

    @property
    def backward(self) -> LandmarkCorrection | None:
        """The same for `inverse_transform`."""
        return self.map.taught_back if isinstance(self.map, (ByIsometry, ByPairs)) else None

    @property
    def held_out(self) -> Pairs | None:
        """Pairs that `diffeo.match_pairs` left out, by which `diffeo.assess` judges."""
        return self.map.held_out if isinstance(self.map, ByPairFits) else None

    @property
    def invertible(self) -> bool:
        """Whether there is a way back: not where A has more dimensions than B, unless both ways were learned from pairs."""
        return isinstance(self.map, ByPairFits) or self.a.observation.dim == self.b.observation.dim

    @exact
    def transform(self, points_a: ArrayLike) -> FloatArray:
        """Measurements of B, (count, m_b), that belong to measurements of A, (count, m_a).

        All are finite. Outside of the samples they are extrapolated, or those of the nearest sample.

        Warns
        -----
        OutOfDomainWarning
            One for the call: its ``off_manifold`` has the rows that lie off A's measured manifold or outside of its sampled
            domain, its ``no_counterpart`` the others, whose partners lie outside of B's samples, or which lie in pieces of A
            that are not matched.
        """
        return self.sent(self._points_a(points_a)).said(*SIDES)

    @exact
    def inverse_transform(self, points_b: ArrayLike) -> FloatArray:
        """Measurements of A, (count, m_a), that belong to measurements of B, (count, m_b).

        Finite, and warned of, as those of `transform`, with A and B exchanged.

        Raises
        ------
        NotInvertibleError
            A has more dimensions than B.
        """
        y = float_array(points_b, "points_b", 2, shape=(None, self.b.observation.points.shape[1]), axes="(count, m_b)")
        return self.sent_back(y).said(*SIDES[::-1])

    @exact
    def intrinsic(self, points_a: ArrayLike) -> FloatArray:
        """Common intrinsic coordinates (count, c) of measurements of A: those of B's embedding.

        Where a regression joins the sides there are none: these are A's, roughly moved to where B's are. Finite, and warned
        of, as what `transform` gives.
        """
        return self.map.intrinsic(self._points_a(points_a), thread_count(self.n_jobs)).said(*SIDES)

    @exact
    def predicted_error(self, points: ArrayLike, *, inverse: bool = False) -> FloatArray:
        """Expected error (count,) of each mapped point: of `transform`, or with `inverse` of `inverse_transform`.

        From what two halves of the samples make of the places around (`diffeo.matching.self_check`), the noise of the
        landmarks, how far a point lies off the measured manifold, and how far it and its partner lie from the samples of their
        sides; where landmarks carry the map, also from how far it lies from these. Of `diffeo.match_pairs`, from what is missed
        of pairs left out in turn. Saved with the map.

        Parameters
        ----------
        points : array_like of shape (count, m_a), with `inverse` (count, m_b)
        inverse : bool

        Returns
        -------
        ndarray of shape (count,)
            Root-mean-square errors relative to the spread of the side that is mapped to: the root-mean-square distance of its
            samples from their mean.

        Raises
        ------
        InputError
            The error of this map is not known: it was matched with ``check=False``, or could not be checked
            (`diagnostics.problems` says why).
        NotInvertibleError
            A has more dimensions than B, and `inverse` is asked for.
        """
        if isinstance(self.map, (ByPieces, ByPairFits)):
            if inverse:
                self._need_a_way_back()
            side = self.b if inverse else self.a
            y = float_array(points, "points", 2, shape=(None, side.observation.points.shape[1]), axes="(count, m)")
            return self.map.predicted_error(y, thread_count(self.n_jobs), inverse=inverse)
        if self.expected is None:
            raise errors.InputError(
                "the error of this map is not known: it was matched with check=False, or diagnostics.problems says why it "
                "could not be checked"
            )
        source = self.b if inverse else self.a
        if inverse:
            self._need_a_way_back()
        own = self.expected.backward if inverse else self.expected.forward
        if own is None:
            raise errors.InputError("the error of the way back is not known")
        shape = (None, source.observation.points.shape[1])
        y = float_array(points, "points", 2, shape=shape, axes="(count, m)")
        n_threads = thread_count(self.n_jobs)
        at = source.place(y, n_threads).values
        # Points may be as far away as numbers go: no error is larger than these.
        with np.errstate(over="ignore"):
            size, taught = None, self.backward if inverse else self.forward
            if own.deviation is not None and taught is not None:  # another candidate has none
                size = self.deviation(y, at, backward=inverse)
            elif own.stretch is not None:
                target, sent = (self.a, self.sent_back) if inverse else (self.b, self.sent)
                size = stretch_at(target, sent(y).values)
            among, beyond = own.at(places_of(source, at, y), size)
            squares = among**2 + beyond**2
            if isinstance(self.map, ByIsometry):
                off = source.measurements(at, n_threads) - y
                squares += (np.linalg.norm(off, axis=1) / spread_of(source.observation.points)) ** 2
            squares += self.partners_beyond(at, inverse=inverse) ** 2
        return np.minimum(np.sqrt(squares), np.finfo(float).max)

    def deviation(self, points: FloatArray, coordinates: FloatArray, *, backward: bool) -> FloatArray:
        """What the landmarks say of the error (count,) at points (count, m) of the source, with their coordinates there.

        In units of the measurements that are mapped to; 0 where no landmarks were learned from.
        """
        model = self.backward if backward else self.forward
        if model is None:
            return np.zeros(len(points))
        source = self.b if backward else self.a
        if isinstance(self.map, ByPairs):
            return model.deviation(points, source.features(coordinates))
        common = coordinates if backward else self.alignment.forward(coordinates)
        return model.deviation(points, self.b.features(common))

    def partners_beyond(self, at: FloatArray, *, inverse: bool) -> FloatArray:
        """What to expect, (count,), of coordinates (count, c) whose partners lie beyond the samples of the other side.

        If that side left samples out of its chart, these may be the partners, and what is sent beyond misses all of them.
        """
        none = np.zeros(len(at))
        if self.expected is None or not isinstance(self.map, ByIsometry):
            return none
        there = self.expected.forward if inverse else self.expected.backward
        if there is None:
            return none
        source, target = (self.b, self.a) if inverse else (self.a, self.b)
        moved = self.alignment.backward if inverse else self.alignment.forward
        beyond = there.at(target.features(moved(at)))[1]
        if len(target.left_out) and len(rows := np.flatnonzero(among_none(moved(at), target))):
            # Partners that the other side does not have, as far as it left out enough samples to be them, are among these.
            usual = among_none(moved(source.coordinates[some_of(source)]), target).mean()
            share = len(target.left_out) / len(target.observation) / max(float(usual), TINY)
            sent = target.measurements(moved(at[rows]), thread_count(self.n_jobs))
            beyond[rows] = np.maximum(beyond[rows], np.sqrt(min(share, 1.0)) * missed_at_least(sent, target))
        return beyond

    def sent(self, points_a: FloatArray) -> Placed:
        """What `transform` gives of checked measurements, with what it would warn of."""
        return self.map.forward(points_a, thread_count(self.n_jobs))

    def sent_back(self, points_b: FloatArray) -> Placed:
        """What `inverse_transform` gives of checked measurements, with what it would warn of."""
        self._need_a_way_back()
        return self.map.backward(points_b, thread_count(self.n_jobs))

    def by_candidate(self, number: int) -> Transformation:
        """The transformation by another of the `candidates`; nothing that landmarks taught is in it.

        Parameters
        ----------
        number : int
            Which; `candidates` give their names.

        Raises
        ------
        ParameterError
            There is no such candidate, or a registration or regression leaves no choice.
        """
        if integer(number, "number", 0) >= len(self.candidates):
            raise errors.ParameterError(f"number = {number}, and there are {len(self.candidates)} candidates")
        chosen = self.candidates[number]
        if chosen is self.alignment:
            return self
        if isinstance(self.map, (ByRegistration, ByPairs)):
            raise errors.ParameterError(
                "samples were registered, or maps learned from landmarks, for the first candidate alone: match again, with a "
                "landmark that decides"
            )
        changed = replace(self.map, alignment=chosen)
        if isinstance(changed, ByIsometry):
            changed = replace(changed, taught=None, taught_back=None)
        return replace(self, map=changed, candidates=[chosen])

    def _need_a_way_back(self) -> None:
        if not self.invertible:
            raise errors.NotInvertibleError(
                f"A has {self.a.observation.dim} intrinsic dimensions and B only {self.b.observation.dim}: what B discards "
                "cannot be had back from it"
            )

    def _points_a(self, points_a: ArrayLike) -> FloatArray:
        return float_array(
            points_a, "points_a", 2, shape=(None, self.a.observation.points.shape[1]), axes="(count, m_a)"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_transformation

        save_transformation(self, path)
