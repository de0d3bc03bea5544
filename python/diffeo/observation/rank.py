"""The intrinsic dimension that singular values show, and the samples that fall short of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent, rows_text
from diffeo.observation.noise import rounding

# A singular value below this share of the largest counts as zero: Jacobians are exact up to rounding.
JACOBIAN_FLOOR = 1e-6
# The same for Jacobians that came in single precision.
SINGLE_FLOOR = 1e-5
# Square roots of eigenvalues: a covariance in double precision resolves ratios of singular values to 1e-8.
COVARIANCE_FLOOR = 1e-6
# The same in single precision: 3.5e-4 is the root of its unit.
SINGLE_COVARIANCE_FLOOR = 1e-3
# Bursts: curvature shows as singular values of a second order, a few percent of the first at sensible scales.
BURST_FLOOR = 0.02
# Singular values of bursts below this many standard deviations of the rounding are not resolved: the largest eigenvalue
# of pure noise is (1 + sqrt(m/K))^2 times its variance, below 4 as long as a burst has no fewer members than neurons.
ROUNDING_MARGIN = 3.0
# Local least squares on neighbours: the same, from the curvature across a neighbourhood.
NEIGHBOR_FLOOR = 0.02
# At most this share of the samples may be rank-deficient; they are listed and left out of the graph.
MAX_DEFICIENT = 0.01
# Where no dimension is given, a rank is taken that all but this share of the samples have, and these are left out.
MOST_LEFT_OUT = 0.1
# A rank that all but this share of the samples have is worth a word where another is taken.
PART = 0.5
# Sources of local covariances whose every singular value above the floor is one of the network.
EXACT_SOURCES = ("jacobians", "covariances")
# Ranks that fewer samples than this share have are no part of the domain, and not described.
DESCRIBED = 0.005
# One measurement tells where a rank is if it separates those samples from the others up to this share of each.
TELLS = 0.9
# Neighbours of a sample by which samples of one rank hang together.
PLACE_NEIGHBORS = 10
# Singular values that fall by this factor within the rank leave directions of which lengths say little.
LARGE_GAP = 50.0
# Rounding that is more than this many times the bursts is told like this.
MOST_LOST = 1e9


def _scales(values: FloatArray) -> FloatArray:
    """Per sample: its largest singular value, or the median of those where its own nearly vanishes."""
    largest = values[:, 0]
    return np.maximum(largest, np.median(largest))


def burst_floor(points: FloatArray, bursts: FloatArray, precision: str) -> float:
    """Share of the first singular value below which curvature or rounding explains the others."""
    spread = float(np.median(np.sqrt(bursts.var(axis=1).sum(axis=1))))
    lost = ROUNDING_MARGIN * float(np.linalg.norm(rounding(points, precision)))
    # Beyond 1 nothing is seen of any direction, whatever the numbers.
    return max(BURST_FLOOR, lost / spread if lost < spread * MOST_LOST else MOST_LOST)


def deficient_samples(values: FloatArray, dim: int, floor: float) -> IntArray:
    """Samples whose d-th singular value is not above the floor times their scale."""
    scales = _scales(values)
    if not scales.max() > 0:
        raise errors.RankError("all local covariances are zero: the measurements do not depend on the inputs")
    return np.flatnonzero(~(values[:, dim - 1] > floor * scales))


def rank_by_floor(values: FloatArray, limit: int, floor: float) -> int:
    """Largest d whose singular value is above the floor on 99 % of the samples; 0 where not even the first is."""
    share = (values[:, :limit] > floor * _scales(values)[:, None]).mean(axis=0)
    return int((share >= 1.0 - MAX_DEFICIENT).sum())


def ranks_in_part(values: FloatArray, limit: int, floor: float, dim: int) -> tuple[int, IntArray] | None:
    """A rank above `dim` that most samples have, and the rows of those that have not; None where there is none."""
    for rank in range(limit, dim, -1):
        short = ~(values[:, rank - 1] > floor * _scales(values))
        if short.mean() <= PART:
            return rank, np.flatnonzero(short)
    return None


def gap_after(values: FloatArray, dim: int) -> tuple[int, float] | None:
    """The rank below `dim` after which the median singular values fall most, and by which factor, if that is large."""
    median = np.median(values[:, :dim], axis=0)
    falls = median[:-1] / np.maximum(median[1:], np.finfo(float).tiny)
    if not len(falls) or falls.max() < LARGE_GAP:
        return None
    return int(falls.argmax()) + 1, float(falls.max())


def rank_by_gap(values: FloatArray, limit: int, floor: float) -> int:
    """Rank after which the median singular value falls most, the floor standing in below the last."""
    if not values.max() > 0:
        raise errors.RankError("all local covariances are zero: the measurements do not depend on the inputs")
    scales = np.maximum(_scales(values), np.finfo(float).tiny)
    median = np.median(values[:, : limit + 1] / scales[:, None], axis=0)
    levels = np.append(np.maximum(median[:limit], 1e-12), floor)
    if len(median) > limit:
        levels[-1] = max(median[limit], 1e-12)
    drops = np.log(levels[:-1] / levels[1:])
    drops[levels[:-1] < floor] = -np.inf
    return int(np.argmax(drops)) + 1


@dataclass(frozen=True, eq=False)
class RankMap:
    """Where in the sample the local covariances have which rank: `Observation.rank_map`.

    Printed, it says so in words: the share of each rank, the measurement that tells it from the others, how many places.

    Attributes
    ----------
    ranks : ndarray of shape (n,), int64
        Rank of the local covariance of each sample: how many of its singular values are above the floor.
    floor : float
        Share of the largest singular value (or of its median, whichever is larger) below which one counts as zero.
    points : ndarray of shape (n, m)
        The measurements, among which places are sought.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.linspace(0.0, 1.0, 500)[:, None] * [[1.0, 7.0]] % 1.0
    >>> jacobians = np.tile(np.eye(2), (500, 1, 1))
    >>> jacobians[:20, 1] = 0.0
    >>> with diffeo.errors.unsaid(diffeo.errors.RankWarning):
    ...     observation = diffeo.Observation.from_jacobians(x, jacobians)
    >>> print(observation.rank_map)
    rank 2 on 96 % of the samples, where measurement 0 is above 0.0391: rows 20, 21, 22, 23, 24 and 475 more
    rank 1 on 4 % of the samples, where measurement 0 is below 0.0391: rows 0, 1, 2, 3, 4 and 15 more
    """

    ranks: IntArray
    floor: float
    points: FloatArray = field(repr=False)

    @property
    def shares(self) -> dict[int, float]:
        """The share of the samples that has each rank, by rank in descending order."""
        ranks, counts = np.unique(self.ranks, return_counts=True)
        return {
            int(rank): float(count / len(self.ranks)) for rank, count in zip(ranks[::-1], counts[::-1], strict=True)
        }

    def rows(self, rank: int) -> IntArray:
        """The samples of this rank, ascending."""
        found: IntArray = np.flatnonzero(self.ranks == rank)
        return found

    def places(self, rank: int) -> list[IntArray]:
        """The samples of this rank in groups that hang together, largest first.

        Two hang together if one is among the ten nearest of the other, by measurements in units of their spread.
        """
        rows = self.rows(rank)
        if len(rows) < 2:
            return [rows] if len(rows) else []
        spread = self.points.std(axis=0)
        y = self.points / np.where(spread > 0.0, spread, np.inf)
        k = min(PLACE_NEIGHBORS + 1, len(y))
        near = PointTree(y).query(y[rows], k, workers=workers())[1].reshape(len(rows), k)
        start = np.repeat(rows, k)
        graph = coo_array((np.ones(start.size), (start, near.ravel())), shape=(len(y), len(y))).tocsr()
        groups = connected_components(graph[rows][:, rows], directed=False)[1]
        parts = [rows[groups == group] for group in range(int(groups.max()) + 1)]
        return sorted(parts, key=lambda part: (-len(part), int(part[0])))

    def border(self, rank: int) -> tuple[int, float, bool] | None:
        """The measurement that tells this rank best from the others: its column, a threshold, and whether it lies below.

        None where no single one separates nine in ten of both.
        """
        inside = self.ranks == rank
        count = int(inside.sum())
        if not 0 < count < len(inside):
            return None
        best, found = TELLS, None
        for column, y in enumerate(self.points.T):
            order = np.argsort(y, kind="stable")
            kept = np.cumsum(inside[order]) / count
            others = np.cumsum(~inside[order]) / (len(inside) - count)
            # A threshold lies between two values that differ.
            cuts = np.flatnonzero(np.diff(y[order]) > 0.0)
            for below, quality in ((True, np.minimum(kept, 1.0 - others)), (False, np.minimum(1.0 - kept, others))):
                if len(cuts) and quality[cuts].max() > best:
                    cut = cuts[int(quality[cuts].argmax())]
                    best = float(quality[cut])
                    found = column, float(0.5 * (y[order[cut]] + y[order[cut + 1]])), below
        return found

    def __str__(self) -> str:
        return "\n".join(f"{self._described(rank)}: {rows_text(self.rows(rank))}" for rank in self.shares)

    def falls(self, dim: int) -> list[str]:
        """Where the rank is below `dim`, in words, of each rank that more than one in two hundred samples have."""
        return [self._described(rank) for rank, share in self.shares.items() if rank < dim and share >= DESCRIBED]

    def _described(self, rank: int) -> str:
        where, border, places = "", self.border(rank), self.places(rank)
        if border is not None:
            column, threshold, below = border
            where = f", where measurement {column} is {'below' if below else 'above'} {threshold:.3g}"
        large = [part for part in places if len(part) >= max(2, DESCRIBED * len(self.ranks))]
        if len(large) > 1:
            around = ", ".join(str(int(part[0])) for part in large[:5])
            where += f", in {len(large)} places (of samples {around}{' and others' if len(large) > 5 else ''})"
        return f"rank {rank} on {percent(self.shares[rank])} of the samples{where}"


def ranks_of(points: FloatArray, values: FloatArray, floor: float) -> RankMap:
    """How many singular values (n, r) are above the floor, at each of the points (n, m)."""
    return RankMap((values > floor * _scales(values)[:, None]).sum(axis=1).astype(np.int64), floor, points)


def floor_of(source: str, precision: str) -> float:
    """The floor of measurements from this source; of bursts and neighbours that below which their rounding is."""
    if source == "covariances":
        return SINGLE_COVARIANCE_FLOOR if precision == "single" else COVARIANCE_FLOOR
    return SINGLE_FLOOR if precision == "single" else JACOBIAN_FLOOR
