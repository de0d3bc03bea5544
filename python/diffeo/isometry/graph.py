"""Neighbour graphs with lengths: which samples are near each other on the manifold, and how far apart their inputs are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.progress import stage
from diffeo._support.threads import workers
from diffeo.isometry.laplacian import diagonal_matrix, incidence_matrix
from diffeo.isometry.periods import shifts_around, wrapped
from diffeo.observation.observation import Observation
from diffeo.observation.tree import build_tree
from diffeo.reference import GATES

# Candidates for each edge that is kept: those off the tangents are dropped, and the nearest of the others taken.
CANDIDATES = 2
# A step that leaves the span of both tangents by more than this share of its length joins two sheets (edges within one
# sheet were measured to stay below 0.03 at all but a percent, edges between sheets have 0.2 to 0.6) ...
OFF_TANGENT = 0.03
# ... unless the usual step leaves it by a fifth of that: a sparse sample, or noisy metrics.
OFF_TANGENT_FACTOR = 5.0
# Ends of an edge within a sheet have about half of their neighbours in common; those of an edge between sheets that cross
# have none but by other such edges. Fewer in common than this share of the neighbours asked for: measured at 0.3 % of the
# true edges, and at nine in ten of the false ones that the tangents do not show ...
COMMON_SHARE = 1 / 6
# ... and at the rest of these once the others are gone.
COMMON_ROUNDS = 2
# Edges whose neighbours are compared at a time.
CHUNK = 1 << 16
# Edges longer than this many times the median do not join pieces: what is that far away is on its own.
BRIDGE_LENGTH = 8.0
# Searches for this many times more neighbours try to join pieces of the graph.
BRIDGE_FACTORS = (2, 4, 8)
# Beside cliffs, stretches may change by this factor from sample to sample, ...
STEEP = GATES.transport**2
# ... if more than this share of the samples lack more than that of their edges without: none do where measurements are smooth.
FEW_STARVED, LOST = 0.01, 0.25
# At folds eight in ten of those samples have a smallest stretch below this share of the usual one, at cliffs one in ten.
VANISHING = 0.5
# Where that may be, some edges are nearly as steep as the gates let pass.
NEARLY = 0.9
# What the error that a graph falls into pieces adds to its text.
ROWS_OF_ERROR = " (the rows of each piece are in this error's .rows)"
# A pair that is near in a layout but whose length differs from that by this factor is no edge.
AGREEMENT = 2.0


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """Edges between near samples: positions of both ends in `rows`, and lengths.

    `rows` (n,) holds the caller's rows in tree order; `i`, `j` (e,) int64; `lengths` (e,) in input units. On closed
    domains `windings` (e, k) says how often an edge passes around each of the k periods; a layout then has n + k rows,
    the last of which are the periods.
    """

    rows: IntArray
    i: IntArray
    j: IntArray
    lengths: FloatArray
    windings: FloatArray = field(default_factory=lambda: np.empty((0, 0)))

    def __post_init__(self) -> None:
        # The core takes them as they are; without periods there are no windings of each edge.
        windings = self.windings if self.windings.shape[1] else np.empty((len(self.i), 0))
        for name, values, kind in (
            ("i", self.i, np.int64),
            ("j", self.j, np.int64),
            ("lengths", self.lengths, np.float64),
            ("windings", windings, np.float64),
        ):
            object.__setattr__(self, name, np.ascontiguousarray(values, dtype=kind))

    @property
    def n_periods(self) -> int:
        """Number of periods k."""
        return int(self.windings.shape[1])

    def steps(self, layout: FloatArray) -> FloatArray:
        """X_j - X_i + windings @ periods, (e, d), of a layout (n + k, d)."""
        step: FloatArray = layout[self.j] - layout[self.i]
        return step + self.windings @ layout[len(self.rows) :] if self.n_periods else step

    def incidence(self) -> sp.csr_array:
        """The matrix (e, n + k) that makes steps from a layout."""
        return incidence_matrix(len(self.rows), self.i, self.j, self.windings)

    def matrix(self, values: FloatArray) -> sp.csr_array:
        """Symmetric matrix (n, n) with the given edge values, its indices of 32 bits: SciPy's searches take no others."""
        n = len(self.rows)
        check_index_range(n, 2 * len(self.i))
        both = sp.coo_array((values, (self.i.astype(np.int32), self.j.astype(np.int32))), shape=(n, n)).tocsr()
        return both + both.T

    def subset(self, edges: NDArray[Any]) -> NeighborGraph:
        """The graph with these edges only."""
        return replace(
            self, i=self.i[edges], j=self.j[edges], lengths=self.lengths[edges], windings=self.windings[edges]
        )

    def restricted(self, keep: NDArray[np.bool_]) -> NeighborGraph:
        """The graph on these samples only."""
        place = np.cumsum(keep) - 1
        inner = self.subset(keep[self.i] & keep[self.j])
        return replace(inner, rows=self.rows[keep], i=place[inner.i], j=place[inner.j])


def check_index_range(n: int, entries: int) -> None:
    """InputError where indices of 32 bits cannot number n samples, or the entries of a matrix of their graph."""
    most = np.iinfo(np.int32).max
    if max(n, entries) > most:
        raise errors.InputError(
            f"the neighbour graph of {n} samples has {entries} entries, but SciPy searches graphs of at most {most}; use "
            "fewer samples, or a smaller n_neighbors"
        )


def neighbor_graph(
    observation: Observation, n_neighbors: int, n_threads: int, transport: float = GATES.transport
) -> NeighborGraph:
    """Edges from each sample to its nearest others among the pairs that pass the gates, each edge once.

    Candidates are the nearest by q. Their trapezoidal lengths (see edge_lengths.hpp) have up to half the error of
    sqrt(q), and come with the share of the step that leaves the span of both tangents: at edges between sheets that
    cross it is mostly of order one however close the two samples are, which no test of the pair's q can see. What
    slips through are steps along the bisector of the two tangents, which look like a bend: see `supported`.
    """
    tree = build_tree(observation, n_threads)
    n = tree.size
    k = min(CANDIDATES * n_neighbors, n - 1)
    with stage("neighbours"):
        neighbors, _ = tree.nearest_neighbors(k, n_threads, transport)
    graph = _with_lengths(observation, observation.usable[tree.order], neighbors, n_threads)
    return _nearest(graph, n_neighbors)


def array_graph(points: FloatArray, rows: IntArray, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Edges from each of these rows of an array to its nearest others, with Euclidean lengths.

    What `neighbor_graph` finds where every whitening is the identity: no gate is ever closed there.
    """
    tree = build_tree(np.ascontiguousarray(points[rows]), n_threads)
    n = tree.size
    k = min(CANDIDATES * n_neighbors, n - 1)
    neighbors, squared = tree.nearest_neighbors(k, n_threads)
    i, j = np.repeat(np.arange(n), k), neighbors.ravel().astype(np.int64)
    found = j >= 0
    low, high = np.minimum(i, j)[found], np.maximum(i, j)[found]
    _, first = np.unique(low * n + high, return_index=True)
    lengths = np.sqrt(squared.ravel()[found][first])
    return _nearest(NeighborGraph(rows[tree.order], low[first], high[first], lengths), n_neighbors)


def layout_graph(
    observation: Observation, rows: IntArray, layout: FloatArray, n_neighbors: int, n_threads: int
) -> NeighborGraph:
    """Edges between samples that are near in a layout (n, d) of `rows`, where their own length agrees.

    Where the measurements bend sharply, gates and distances among them starve the graph, or leave it neighbours to one
    side only. A layout that is right to a few percent knows all the neighbours.
    """
    n = len(rows)
    k = min(CANDIDATES * n_neighbors, n - 1)
    neighbors = PointTree(layout).query(layout, k + 1, workers=n_threads or -1)[1][:, 1:]
    graph = _with_lengths(observation, rows, neighbors, n_threads)
    there = np.linalg.norm(graph.steps(layout), axis=1)
    ratio = graph.lengths / np.maximum(there, np.finfo(float).tiny)
    return _nearest(graph.subset((ratio <= AGREEMENT) & (ratio >= 1.0 / AGREEMENT)), n_neighbors)


def place_graph(
    observation: Observation, rows: IntArray, places: FloatArray, n_neighbors: int, n_threads: int
) -> NeighborGraph:
    """Edges from each sample to its nearest others among `places` (n, k) of `rows`, all of them, with trapezoidal lengths.

    Neither gates nor lengths choose: see `diffeo.isometry.rough_lengths`.
    """
    k = min(n_neighbors, len(rows) - 1)
    neighbors = PointTree(places).query(places, k + 1, workers=n_threads or -1)[1][:, 1:]
    return _with_lengths(observation, rows, neighbors, n_threads, gated=False)


def _with_lengths(
    observation: Observation, rows: IntArray, neighbors: NDArray[Any], n_threads: int, *, gated: bool = True
) -> NeighborGraph:
    """The candidates (n, k), -1 for none, each once, with trapezoidal lengths; `gated`: if the step stays in both tangents."""
    n = len(rows)
    here, there = np.arange(n)[:, None], neighbors.astype(np.int64)
    pairs = (np.minimum(here, there) * n + np.maximum(here, there))[there >= 0]
    pairs.sort()
    i, j = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], max(n, 1))
    points, whitening = (np.ascontiguousarray(x[rows]) for x in (observation.points, observation.whitening))
    lengths, off_tangent = core.edge_lengths(points, whitening, i, j, n_threads)
    limit = max(OFF_TANGENT, OFF_TANGENT_FACTOR * float(np.median(off_tangent))) if len(off_tangent) else 0.0
    kept = np.isfinite(lengths) & (off_tangent <= limit if gated else lengths > 0.0)
    return NeighborGraph(rows, i[kept], j[kept], lengths[kept])


def _nearest(graph: NeighborGraph, n_neighbors: int) -> NeighborGraph:
    """The edges that are among the shortest `n_neighbors` of at least one of their ends."""
    e = len(graph.i)
    shortest = np.argsort(graph.lengths, kind="stable")
    ends = np.column_stack([graph.i[shortest], graph.j[shortest]]).ravel()
    # Compressed rows gather the edges around each sample and keep their order.
    around = sp.coo_array((np.repeat(shortest, 2), (ends, np.arange(2 * e))), shape=(len(graph.rows), 2 * e)).tocsr()
    rank = np.arange(2 * e) - np.repeat(around.indptr[:-1], np.diff(around.indptr))
    kept = np.zeros(e, dtype=bool)
    kept[around.data[rank < n_neighbors]] = True
    return graph.subset(kept)


def supported(graph: NeighborGraph, observation: Observation, n_neighbors: int) -> NeighborGraph:
    """The edges whose ends have enough neighbours in common, but no sample loses half of its edges.

    Edges between sheets that cross have hardly any. So have few true edges, which leave their ends more loosely held:
    this is for graphs whose layout is in doubt. On a line, edges over a gap have none in common either; they are longer
    than the usual edge at both ends, and stay.
    """
    least = _least_in_common(observation, n_neighbors)
    n = len(graph.rows)
    for _ in range(COMMON_ROUNDS if least > 0 else 0):
        lonely = _in_common(graph, np.arange(len(graph.i))) < least
        ends = np.concatenate([graph.i, graph.j])
        degree = np.bincount(ends, minlength=n)
        spared = 2.0 * np.bincount(ends, np.tile(lonely, 2), minlength=n) > degree
        kept = ~lonely | spared[graph.i] | spared[graph.j]
        if observation.dim == 1:
            usual = np.bincount(ends, np.tile(graph.lengths, 2), minlength=n) / np.maximum(degree, 1)
            kept |= graph.lengths > np.maximum(usual[graph.i], usual[graph.j])
        graph = graph.subset(kept)
    return graph


def _least_in_common(observation: Observation, n_neighbors: int) -> int:
    """Neighbours that the ends of an edge must have in common; none where tangents fill the space: no sheets cross."""
    crossing = observation.dim < observation.points.shape[1]
    return int(COMMON_SHARE * min(n_neighbors, len(observation.usable) - 1)) if crossing else 0


def _in_common(graph: NeighborGraph, edges: IntArray) -> IntArray:
    """Number of common neighbours of the ends of these edges."""
    near = graph.matrix(np.ones(len(graph.i)))
    counts = np.zeros(len(edges), dtype=np.int64)
    for begin in range(0, len(edges), CHUNK):
        part = edges[begin : begin + CHUNK]
        counts[begin : begin + CHUNK] = near[graph.i[part]].multiply(near[graph.j[part]]).sum(axis=1)
    return counts


def steep_graph(
    observation: Observation, graph: NeighborGraph, n_neighbors: int, n_threads: int
) -> NeighborGraph | None:
    """As `neighbor_graph`, bridged, where stretches may change more from sample to sample; None if few samples gain by that.

    Across a cliff they change by more than the gates let pass, so that what a sample has there are edges along it. False edges
    are told by the step off the tangents as before.
    """
    steep = neighbor_graph(observation, n_neighbors, n_threads, STEEP)
    if len(steep.i) == 0 or _starved(observation, graph, steep) <= FEW_STARVED:
        return None
    return bridged(steep, observation, n_neighbors, n_threads)


def changes_steeply(observation: Observation, graph: NeighborGraph) -> bool:
    """Whether samples have edges whose stretches change nearly by what the gates let pass, and so may lack others."""
    if len(graph.i) == 0:
        return False
    stretches = np.log(observation.singular_values[graph.rows, : observation.dim])
    steep = np.abs(stretches[graph.i] - stretches[graph.j]).max(axis=1) > np.log(NEARLY * GATES.transport)
    return len(np.unique(np.concatenate([graph.i[steep], graph.j[steep]]))) > FEW_STARVED * len(graph.rows)


def _starved(observation: Observation, graph: NeighborGraph, wider: NeighborGraph) -> float:
    """Share of the samples that lack a good part of the edges that they have in a wider graph; none where that is for a fold.

    There stretches change as steeply, because the smallest vanishes.
    """
    n = len(observation)
    wide, narrow = (
        np.minimum(g.rows[g.i], g.rows[g.j]) * n + np.maximum(g.rows[g.i], g.rows[g.j]) for g in (wider, graph)
    )
    ends = np.concatenate([wider.i, wider.j])
    lost = np.bincount(ends, np.tile(~np.isin(wide, narrow), 2), minlength=len(wider.rows))
    starved = lost > LOST * np.bincount(ends, minlength=len(wider.rows))
    smallest = observation.singular_values[wider.rows, observation.dim - 1]
    at_folds = float(np.mean(starved & (smallest < VANISHING * np.median(smallest))))
    share = float(np.mean(starved)) - at_folds
    return share if share > at_folds else 0.0


def pieces(graph: NeighborGraph) -> tuple[int, IntArray]:
    """Number of connected components, and the component of each sample."""
    count, labels = connected_components(graph.matrix(np.ones(len(graph.i))), directed=False)
    return int(count), labels


def pieces_text(labels: IntArray) -> str:
    """For example "3 pieces of 500, 20, 1"."""
    sizes = np.sort(np.bincount(labels))[::-1]
    return f"{len(sizes)} pieces of {', '.join(map(str, sizes[:6]))}{', ...' if len(sizes) > 6 else ''}"


def bridged(graph: NeighborGraph, observation: Observation, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Add edges between pieces of the graph from searches for more neighbours.

    Random gaps in one dimension leave clusters whose members all have their nearest neighbours among themselves;
    wider searches find the gated pairs that join them. Edges within a piece are not added.
    """
    for factor in BRIDGE_FACTORS:
        count, labels = pieces(graph)
        if count == 1 or len(graph.i) == 0:
            break
        wide = neighbor_graph(observation, factor * n_neighbors, n_threads)
        near = wide.lengths <= BRIDGE_LENGTH * np.median(graph.lengths)
        between = np.flatnonzero((labels[wide.i] != labels[wide.j]) & near)
        if observation.dim > 1:
            between = between[_in_common(wide, between) >= _least_in_common(observation, n_neighbors)]
        graph = NeighborGraph(
            graph.rows,
            np.concatenate([graph.i, wide.i[between]]),
            np.concatenate([graph.j, wide.j[between]]),
            np.concatenate([graph.lengths, wide.lengths[between]]),
        )
    return graph


def joined(graph: NeighborGraph, points: FloatArray, labels: Any) -> NeighborGraph:
    """Join every piece to the nearest sample of the pieces joined before."""
    i, j, lengths = [graph.i], [graph.j], [graph.lengths]
    inside = labels == labels[0]
    for label in np.unique(labels[~inside]):
        members = np.flatnonzero(labels == label)
        known = np.flatnonzero(inside)
        distance, nearest = PointTree(points[known]).query(points[members], workers=workers())
        closest = int(distance.argmin())
        i.append(np.array([members[closest]]))
        j.append(known[nearest[closest : closest + 1]])
        lengths.append(distance[closest : closest + 1])
        inside[members] = True
    return NeighborGraph(graph.rows, np.concatenate(i), np.concatenate(j), np.concatenate(lengths))


def overlap(graph: NeighborGraph, layout: FloatArray) -> float:
    """Share of samples whose nearest sample in the layout is neither their neighbour nor a neighbour's neighbour.

    On closed domains, the nearest modulo periods. Twins aside, a one-to-one layout has the nearest sample among the
    neighbours; sheets on top of each other do not.
    """
    n = len(graph.rows)
    periods = layout[n:]
    samples = wrapped(layout[:n], periods)
    images = np.concatenate([samples + shift for shift in shifts_around(periods)])
    image = PointTree(images).query(samples, 2, workers=workers())[1][:, 1]
    nearest = image % n
    near = graph.matrix(np.ones(len(graph.i))) + diagonal_matrix(np.ones(n)).tocsr()
    # Row i of (near @ near) at column nearest[i], without the product: do the two neighbourhoods share a member?
    shared = np.asarray(near.multiply(near[nearest]).sum(axis=1)).ravel()
    # A sample nearest to its own image has a period that is none.
    return float(np.mean((shared == 0) | ((nearest == np.arange(n)) & (image >= n))))
