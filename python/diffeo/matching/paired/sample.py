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


def paired_sample(
    source: tuple[Components, FloatArray, FloatArray],
    target: tuple[Components, FloatArray, FloatArray],
    dim: int,
    *,
    with_slopes: bool,
) -> PairedSample:
    """The sample of a direction, from (components, points (n, m), jacobians (n, m, p)) of both sides."""
    points, values = (side[0].reduced(side[1]) for side in (source, target))
    own, other = (side[0].turned(side[2]) for side in (source, target))
    tangents = tangents_of(own, dim)
    slopes = np.ascontiguousarray(np.einsum("nvp,npd->nvd", other, tangents.inputs, optimize=True))
    targets, target_slopes = values, slopes
    v = values.shape[1]
    if v > MOST_TESTED:
        # Squares of random combinations add up to those of all, but for some 10 % (Johnson and Lindenstrauss 1984).
        mixing = np.random.default_rng(0).standard_normal((v, COMBINATIONS)) / np.sqrt(COMBINATIONS)
        targets = np.concatenate([values @ mixing, values], axis=1)
        target_slopes = np.concatenate([np.einsum("nvd,vh->nhd", slopes, mixing, optimize=True), slopes], axis=1)
    return PairedSample(
        points,
        values,
        np.ascontiguousarray(tangents.frames * tangents.stretches[:, None]),
        slopes,
        with_slopes,
        np.ascontiguousarray(tangents.frames / tangents.stretches[:, None]),
        tangents.stretches,
        PointTree(np.ascontiguousarray(points[:, : _leading(points, dim)])),
        np.ascontiguousarray(targets),
        np.ascontiguousarray(target_slopes),
    )


def _leading(points: FloatArray, dim: int) -> int:
    """How many components to search in: those that add little to any distance only slow it, and count afterwards."""
    energy = np.cumsum((points**2).sum(axis=0)[::-1])[::-1]
    return max(dim, int(np.count_nonzero(energy > UNSEARCHED * energy[0])))
