"""A layout of an observation's graph, and its lengths corrected by the derivatives along it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.isometry.frame_layout import develop
from diffeo.isometry.frames import corrected_lengths, gradients_along, local_frames
from diffeo.isometry.graph import NeighborGraph, neighbor_graph, overlap
from diffeo.isometry.hermite import HermiteChart
from diffeo.isometry.hinges import LoosePart
from diffeo.isometry.stress import moved_by_misfits, refine, refine_robustly, relative_stress, untangle
from diffeo.isometry.trust import DOUBTFUL
from diffeo.observation.observation import Observation

# Rounds in which lengths are corrected by the derivatives of the layout found with them; two suffice.
CORRECTION_ROUNDS = 3
# A correction that leaves more than this share of the stress is the last.
LITTLE_GAIN = 0.7
# Ends of a curve that a search for this many times more neighbours finds near each other, while the layout has them this
# many times farther apart, meet in a gap of the sample, if that is no larger than this many times log(n) mean spacings
# (twice the expected largest gap: larger ones have a probability of 1 / n).
CLOSING_FACTOR = 4
CLOSING_DETOUR = 4.0
LARGEST_GAP = 2.0
# A closed curve of a sample as uneven as that has no wider gap, in mean spacings times log(n).
WIDEST_GAP = 10.0


@dataclass(frozen=True, eq=False)
class Unfolding:
    """A layout of a neighbour graph.

    `layout` (n + k, d): coordinates in the order of `graph.rows`, then the periods; `gradients` (n, m, d) = dy/dX;
    `stress` and `overlap` as in `IsometricEmbedding`; `n_iter` steps of refinement in all; whether the last `settled`;
    parts that few edges hold, `loose` or not.
    """

    graph: NeighborGraph
    layout: FloatArray
    gradients: FloatArray
    stress: float
    overlap: float
    n_iter: int
    settled: bool
    loose: list[LoosePart] = field(default_factory=list)

    @property
    def coordinates(self) -> FloatArray:
        """Coordinates X (n, d) of the samples."""
        return np.ascontiguousarray(self.layout[: len(self.graph.rows)])

    @property
    def periods(self) -> FloatArray:
        """Periods (k, d): X and X + any sum of them are the same place."""
        return np.ascontiguousarray(self.layout[len(self.graph.rows) :])

    @functools.cached_property
    def moved(self) -> float:
        """Relative error that the misfits of its lengths may stand for (`moved_by_misfits`)."""
        return moved_by_misfits(self.graph, self.layout)

    def distance(self, other: Unfolding) -> float:
        """Distance of the layouts of the samples that are in both, relative to their size."""
        _, own, there = np.intersect1d(self.graph.rows, other.graph.rows, return_indices=True)
        x, y = (each - each.mean(axis=0) for each in (self.layout[own], other.layout[there]))
        return float(np.linalg.norm(y - x)) / max(float(np.linalg.norm(x)), np.finfo(float).tiny)

    def chart(self, observation: Observation) -> HermiteChart:
        """Interpolation between coordinates and measurements."""
        points = np.ascontiguousarray(observation.points[self.graph.rows])
        return HermiteChart(self.coordinates, points, self.gradients, self.periods, observation.noise)


def corrected(
    observation: Observation,
    graph: NeighborGraph,
    layout: FloatArray,
    n_iter: int,
    settled: bool,
    *,
    rounds: int = CORRECTION_ROUNDS,
    robust: bool = False,
    doubts: FloatArray | None = None,
) -> Unfolding:
    """Correct the lengths by the derivatives along the layout, refine it with them (`robust`, by `doubts`), and again."""
    points = np.ascontiguousarray(observation.points[graph.rows])
    whitening = observation.whitening[graph.rows]
    gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
    for _ in range(rounds):
        before = relative_stress(graph, layout)
        better = replace(graph, lengths=corrected_lengths(graph, layout, points, gradients))
        moved, steps, moved_settled = refine_robustly(better, layout, 2, doubts) if robust else refine(better, layout)
        after = relative_stress(better, moved)
        if not (after < before or robust):
            break
        graph, layout, settled, n_iter = better, moved, moved_settled, n_iter + steps
        gradients = gradients_along(whitening, local_frames(graph, layout, points, whitening))
        if after > LITTLE_GAIN * before:
            break
    return Unfolding(graph, layout, gradients, relative_stress(graph, layout), overlap(graph, layout), n_iter, settled)


def winds_over_a_gap(found: Unfolding) -> bool:
    """Whether edges that wind around a curve jump where it has no samples: false ones, or its sample would have been cut."""
    if found.graph.n_periods != 1 or found.layout.shape[1] != 1:
        return False
    around = float(abs(found.periods[0, 0]))
    places = np.sort(found.coordinates[:, 0] % around)
    gaps = np.diff(places, append=places[0] + around)
    return bool(gaps.max() > WIDEST_GAP * np.log(len(places)) * around / len(places))


def closed_over_gap(observation: Observation, found: Unfolding, n_neighbors: int, n_threads: int) -> Unfolding:
    """A curve closed over the largest gap of its sample, if its ends meet there; else as it was found.

    Random gaps of n samples on a circle reach log(n) mean spacings, beyond the nearest neighbours of both sides: the
    graph is then that of an interval. In more dimensions a gap cannot cut a domain.
    """
    wide = neighbor_graph(observation, CLOSING_FACTOR * n_neighbors, n_threads)
    if not np.array_equal(wide.rows, found.graph.rows):
        return found
    there = np.linalg.norm(wide.steps(found.layout), axis=1)
    gap = LARGEST_GAP * np.log(len(wide.rows)) * float(np.ptp(found.coordinates)) / len(wide.rows)
    closing = (there > CLOSING_DETOUR * wide.lengths) & (wide.lengths <= gap)
    # A stretched edge may be in the graph already: twice it would be two edges of one number.
    new, old = (np.minimum(g.i, g.j) * len(g.rows) + np.maximum(g.i, g.j) for g in (wide, found.graph))
    closing &= ~np.isin(new, old)
    if not closing.any():
        return found
    added, graph = wide.subset(closing), found.graph
    graph = replace(
        graph,
        i=np.concatenate([graph.i, added.i]),
        j=np.concatenate([graph.j, added.j]),
        lengths=np.concatenate([graph.lengths, added.lengths]),
    )
    points = np.ascontiguousarray(observation.points[graph.rows])
    development = develop(graph, points, observation.whitening[graph.rows])
    if development is None or not development[0].n_periods:
        return found
    closed = corrected(observation, development[0], *untangle(*development))
    return closed if closed.stress + closed.overlap <= DOUBTFUL else found
