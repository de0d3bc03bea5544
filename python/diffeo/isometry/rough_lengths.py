"""Layouts of lengths that are rough everywhere, as between the linear pieces of rectifiers: neighbours by place, no gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.isometry.graph import NeighborGraph, overlap, pieces, place_graph
from diffeo.isometry.stress import edge_misfits, refine_robustly, relative_stress, start_layout
from diffeo.isometry.trust import OVERLAPPING, explained_by_roughness, holds_most, is_rough
from diffeo.observation.observation import Observation

# Rounds in which neighbours are searched anew in the layout; the first takes most of the error, the third a tenth.
ROUNDS = 3
# Edges that miss by so many times the median join no neighbours, and are dropped in the end: up to this share of all.
OUTLYING, MOST_OUTLYING = 8.0, 0.05
# Neighbours of each sample whose lengths from both ends are compared.
COMPARED = 12
# Where the ends of edges differ by at least this share of the misfit they show why the layout misses, ...
SEEN_AT_ENDS = 0.25
# ... if such edges hold at least this share of its stress: 0.7 to 0.99 were measured beside cliffs, 0.45 to 0.6 where some
# samples are caught folded over as well (which edges chosen anew free), and below 0.1 where all is due to those.
MOSTLY_SEEN = 0.3


@dataclass(frozen=True, eq=False)
class RoughLayout:
    """A layout (n, d) of an ungated graph, steps of refinement in all, and whether the last settled."""

    graph: NeighborGraph
    layout: FloatArray
    n_iter: int
    settled: bool


def roughness(points: FloatArray, whitening: FloatArray, places: FloatArray) -> float:
    """Median of abs(a - b) / (a + b), a and b the lengths of a step as its two ends see them.

    Over the nearest neighbours of each sample among `places` (n, d): norm(W_i^T (y_j - y_i)) and that with W_j. Their mean
    has about this relative error where derivatives change from sample to sample without rule; where these are smooth,
    both ends differ by the curvature, which cancels in the mean to the next order.
    """
    k = min(COMPARED, len(places) - 1)
    if k < 1:
        return 0.0
    near = PointTree(places).query(places, k + 1, workers=workers())[1][:, 1:]
    i, j = np.repeat(np.arange(len(places)), k), near.ravel()
    return float(np.median(disagreement(points, whitening, i, j)))


def ends_disagree(observation: Observation, graph: NeighborGraph, layout: FloatArray) -> bool:
    """Whether the misfits of a layout are those of lengths that the two ends of edges see differently.

    So they are beside cliffs, while edges of samples that are caught folded over have ends that agree on the length that the
    layout contradicts.
    """
    points, whitening = observation.points[graph.rows], observation.whitening[graph.rows]
    misfit = edge_misfits(graph, layout)
    squares = (misfit * graph.lengths) ** 2
    seen = disagreement(points, whitening, graph.i, graph.j) >= SEEN_AT_ENDS * misfit
    return bool(squares[seen].sum() >= MOSTLY_SEEN * squares.sum())


def disagreement(points: FloatArray, whitening: FloatArray, i: IntArray, j: IntArray) -> FloatArray:
    """abs(a - b) / (a + b) of each edge (e,), a and b the lengths of its step as its two ends see them."""
    step = points[j] - points[i]
    a, b = (np.linalg.norm(np.einsum("emk,em->ek", whitening[end], step), axis=1) for end in (i, j))
    share: FloatArray = np.abs(a - b) / np.maximum(a + b, np.finfo(float).tiny)
    return share


def lengths_are_rough(observation: Observation, graph: NeighborGraph, layout: FloatArray) -> bool:
    """Whether the misfits of a layout are everywhere, and no larger than lengths from both ends of edges differ."""
    misfit = float(np.median(edge_misfits(graph, layout)))
    stress = relative_stress(graph, layout)
    if graph.n_periods or not is_rough(stress, misfit, np.inf):
        return False
    rows = graph.rows
    return is_rough(stress, misfit, roughness(observation.points[rows], observation.whitening[rows], layout))


def relaid(
    observation: Observation, rows: IntArray, layout: FloatArray, n_neighbors: int, n_threads: int
) -> RoughLayout | None:
    """The layout (n, d) of `rows` anew, from all edges between samples that are near in it; None where it falls apart.

    Neighbours that are chosen by their lengths are those whose lengths are too short, and gates, which are for smooth
    derivatives, keep those whose ends happen to agree: both bend the layout. Those chosen by place have errors that
    average out.
    """
    total, settled, graph = 0, False, None
    for _ in range(ROUNDS):
        graph = place_graph(observation, rows, layout, n_neighbors, n_threads)
        count, labels = pieces(graph)
        if count > 1:
            keep = labels == np.bincount(labels).argmax()
            if not holds_most(int(keep.sum()), len(observation)):
                return None
            graph, layout, rows = graph.restricted(keep), layout[keep], rows[keep]
        layout, steps, settled = refine_robustly(graph, layout)
        total += steps
    return None if graph is None else RoughLayout(_without_outliers(graph, layout), layout, total, settled)


def _without_outliers(graph: NeighborGraph, layout: FloatArray) -> NeighborGraph:
    """The graph without the few edges that the layout contradicts by far, if it hangs together without them."""
    misfit = edge_misfits(graph, layout)
    kept = misfit <= OUTLYING * float(np.median(misfit))
    few = graph.subset(kept)
    return few if kept.mean() >= 1.0 - MOST_OUTLYING and pieces(few)[0] == 1 else graph


def ungated(observation: Observation, n_neighbors: int, n_threads: int) -> RoughLayout | None:
    """A layout from the nearest samples by measurements and shortest paths among them, where the gates leave no graph.

    None unless it lies in one sheet, and its misfits are no larger than the roughness of the lengths explains.
    """
    rows = observation.usable
    graph = place_graph(observation, rows, observation.points[rows], n_neighbors, n_threads)
    count, labels = pieces(graph)
    if count > 1:
        keep = labels == np.bincount(labels).argmax()
        if not holds_most(int(keep.sum()), len(observation)):
            return None
        graph = graph.restricted(keep)
    layout, _, _ = refine_robustly(graph, start_layout(graph, observation.dim))
    found = relaid(observation, graph.rows, layout, n_neighbors, n_threads)
    if found is None or not lengths_are_rough(observation, found.graph, found.layout):
        return None
    rows = found.graph.rows
    rough = roughness(observation.points[rows], observation.whitening[rows], found.layout)
    explained = explained_by_roughness(relative_stress(found.graph, found.layout), rough)
    return found if explained and overlap(found.graph, found.layout) <= OVERLAPPING else None


def fits_better(
    observation: Observation, one: RoughLayout, layout: FloatArray, n_neighbors: int, n_threads: int
) -> bool:
    """Whether a layout has a lower median misfit than another of the same samples, over the neighbours that both have."""
    rows = one.graph.rows
    graphs = [place_graph(observation, rows, places, n_neighbors, n_threads) for places in (one.layout, layout)]
    found, other = (
        np.median(np.concatenate([edge_misfits(graph, places) for graph in graphs])) for places in (one.layout, layout)
    )
    return bool(found < other)
