"""Pairs as a map from one side to the other sees them: source, target, and the slopes along the source's tangents."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.matching.paired.components import Components
from diffeo.matching.paired.tangents import tangents_of

# Misfits of more values than these are told by so many random combinations of them.
MOST_TESTED, COMBINATIONS = 20, 12
# Components with a smaller share of the variance than this, all together, are left out of the search for near pairs.
UNSEARCHED = 1e-5

# Components, points (n, m) and jacobians (n, m, p) of a side.
Side = tuple[Components, FloatArray, FloatArray]


@dataclass(frozen=True, eq=False)
class PairedSample:
    """Pairs in components of both sides.

    Attributes
    ----------
    points : ndarray of shape (n, r)
        On the source.
    values : ndarray of shape (n, v)
        On the target.
    jacobians, slopes : ndarray of shape (n, r, d) and (n, v, d)
        U_i Sigma_i, and the target's derivatives along the same directions of the input, V_i.
    with_slopes : bool
        Whether the slopes are measured, and count; where they were estimated, only the source's tangents are used.
    whitening : ndarray of shape (n, r, d)
    stretches : ndarray of shape (n, d)
    tree : PointTree
        Of the leading components of the points, in which near ones are sought.
    targets, target_slopes : ndarray of shape (n, h + v) and (n, h + v, d)
        Values and slopes, where there are many after h random combinations of them, by which misfits are told.
    """

    points: FloatArray
    values: FloatArray
    jacobians: FloatArray
    slopes: FloatArray
    with_slopes: bool
    whitening: FloatArray = field(repr=False)
    stretches: FloatArray = field(repr=False)
    tree: PointTree = field(repr=False)
    targets: FloatArray = field(repr=False)
    target_slopes: FloatArray = field(repr=False)

    @cached_property
    def axes(self) -> FloatArray:
        """The whitening as the core reads it, (n, d, r)."""
        return np.ascontiguousarray(self.whitening.transpose(0, 2, 1))

    @cached_property
    def columns(self) -> FloatArray:
        """The jacobians as the core reads them, (n, d, r)."""
        return np.ascontiguousarray(self.jacobians.transpose(0, 2, 1))

    @cached_property
    def by_pair(self) -> FloatArray:
        """The values and, after them, the slopes of each pair, (n, 1 + d, v)."""
        return np.ascontiguousarray(np.concatenate([self.values[:, None], self.slopes.transpose(0, 2, 1)], axis=1))

    @property
    def hidden(self) -> int:
        """Number h of random combinations."""
        return int(self.targets.shape[1] - self.values.shape[1])

    def __len__(self) -> int:
        return len(self.points)

    @property
    def dim(self) -> int:
        """Intrinsic dimension d of the source."""
        return int(self.whitening.shape[2])

    @property
    def spread(self) -> float:
        """Root mean square distance of the target's values from their mean."""
        return float(np.sqrt(((self.values - self.values.mean(axis=0)) ** 2).sum(axis=1).mean()))

    def leading(self, queries: FloatArray) -> FloatArray:
        """Those components (count, s) of queries (count, r) in which near points are sought."""
        return queries[:, : self.tree.m]

    def seen_by(self, metric: FloatArray) -> PairedSample:
        """The same pairs with the source in coordinates y L, L of shape (r, s), whose unit is that of the tangents too."""
        points = np.ascontiguousarray(self.points @ metric)
        jacobians = np.ascontiguousarray(np.einsum("nrd,rs->nsd", self.jacobians, metric, optimize=True))
        frames = tangents_of(jacobians, self.dim).frames
        stretches = np.ones((len(points), self.dim))
        tree = PointTree(np.ascontiguousarray(points[:, : _leading(points, self.dim)]))
        return replace(self, points=points, jacobians=jacobians, whitening=frames, stretches=stretches, tree=tree)

    def near(self, queries: FloatArray, k: int, rows: IntArray | None = None) -> IntArray:
        """Rows (count, k) of the points nearest to queries (count, r), which may be rows that do not count themselves."""
        own = 0 if rows is None else 1
        near = self.tree.query(self.leading(queries), k + own, workers=workers())[1]
        found: IntArray = np.asarray(near, dtype=np.int64).reshape(len(queries), k + own)
        if rows is None:
            return found
        kept = found != rows[:, None]
        kept[kept.all(axis=1), -1] = False
        others: IntArray = found[kept].reshape(len(queries), k)
        return others


@dataclass(frozen=True, eq=False)
class Source:
    """What a sample is made of but for its target.

    Attributes
    ----------
    points, jacobians, whitening, stretches, tree
        As in `PairedSample`.
    inputs : ndarray of shape (n, p, d)
        V_i.
    """

    points: FloatArray
    jacobians: FloatArray
    whitening: FloatArray
    stretches: FloatArray
    tree: PointTree
    inputs: FloatArray

    @classmethod
    def of(cls, side: Side, dim: int) -> Source:
        """A side in its components, with the tangents of `dim` directions."""
        points = side[0].reduced(side[1])
        tangents = tangents_of(side[0].turned(side[2]), dim)
        return cls(
            points,
            np.ascontiguousarray(tangents.frames * tangents.stretches[:, None]),
            np.ascontiguousarray(tangents.frames / tangents.stretches[:, None]),
            tangents.stretches,
            PointTree(np.ascontiguousarray(points[:, : _leading(points, dim)])),
            tangents.inputs,
        )

    def target(self, side: Side) -> tuple[FloatArray, FloatArray]:
        """Values (n, v) and slopes (n, v, d) of a target."""
        slopes = np.einsum("nvp,npd->nvd", side[0].turned(side[2]), self.inputs, optimize=True)
        return side[0].reduced(side[1]), np.ascontiguousarray(slopes)

    def sample(self, values: FloatArray, slopes: FloatArray, *, with_slopes: bool) -> PairedSample:
        """The pairs with this target."""
        targets, target_slopes = (np.ascontiguousarray(one) for one in _with_combinations(values, slopes))
        return PairedSample(
            self.points,
            values,
            self.jacobians,
            slopes,
            with_slopes,
            self.whitening,
            self.stretches,
            self.tree,
            targets,
            target_slopes,
        )


def paired_sample(source: Side, target: Side, dim: int, *, with_slopes: bool) -> PairedSample:
    """The sample of a direction, from (components, points (n, m), jacobians (n, m, p)) of both sides."""
    found = Source.of(source, dim)
    return found.sample(*found.target(target), with_slopes=with_slopes)


def _with_combinations(values: FloatArray, slopes: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values and slopes, after random combinations of them where there are many."""
    v = values.shape[1]
    if v <= MOST_TESTED:
        return values, slopes
    mixed = combined(values, slopes, np.random.default_rng(0).standard_normal((v, COMBINATIONS)))
    return np.concatenate([mixed[0], values], axis=1), np.concatenate([mixed[1], slopes], axis=1)


def combined(values: FloatArray, slopes: FloatArray, mixing: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Combinations (n, h) and (n, h, d) by independent standard normal numbers (v, h).

    Their squares add up to those of all values, but for a share of sqrt(2 / h) (Johnson and Lindenstrauss 1984).
    """
    unit = mixing / np.sqrt(mixing.shape[1])
    return values @ unit, np.einsum("nvd,vh->nhd", slopes, unit, optimize=True)


def _leading(points: FloatArray, dim: int) -> int:
    """How many components to search in: those that add little to any distance only slow it, and count afterwards."""
    energy = np.cumsum((points**2).sum(axis=0)[::-1])[::-1]
    return max(dim, int(np.count_nonzero(energy > UNSEARCHED * energy[0])))
