"""Neighbour graphs, and their layout in the plane or in space by stress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree

from diffeo._validation import FloatArray, IntArray
from diffeo.kernel import build_tree
from diffeo.observation import Observation

# Landmarks of the start: each costs one run of Dijkstra; 60 fix some 3 % of every distance.
START_LANDMARKS = 60
# Steps of the refinement; it needs 30 to 80 where an isometric chart exists.
MAX_STEPS = 200
# Earlier steps that Anderson acceleration combines; 5 to 20 were measured alike.
MEMORY = 8
# The refinement has converged when no sample moves by more than this share of the median length of the edges.
SETTLED = 1e-6
# Acceleration that lets the stress grow by more than this is forgotten and started anew.
ALLOWED_GROWTH = 1.05
# Rounds of freeing samples that were caught folded over.
UNTANGLING_ROUNDS = 4
# An edge off by this share of its length, and ten times the usual, has such a sample at an end ...
CAUGHT = 0.1
# ... unless so many are that something else is wrong.
MAX_CAUGHT = 0.3
# Edges longer than this many times the median do not join pieces: what is that far away is on its own.
BRIDGE_LENGTH = 8.0
# Searches for this many times more neighbours try to join pieces of the graph.
BRIDGE_FACTORS = (2, 4, 8)


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """Edges between near samples: positions of both ends in `rows`, and lengths sqrt(q).

    `rows` (n,) holds the caller's rows in tree order; `i`, `j` (e,) int64; `lengths` (e,) in input units.
    """

    rows: IntArray
    i: IntArray
    j: IntArray
    lengths: FloatArray

    def matrix(self, values: FloatArray) -> sp.csr_array:
        """Symmetric matrix with the given edge values."""
        n = len(self.rows)
        both = sp.coo_array((values, (self.i, self.j)), shape=(n, n)).tocsr()
        return both + both.T


def neighbor_graph(observation: Observation, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Edges from each sample to its nearest others by q among the pairs that pass the gates, each edge once."""
    tree = build_tree(observation, n_threads)
    n = tree.size
    k = min(n_neighbors, n - 1)
    neighbors, squared = tree.nearest_neighbors(k, n_threads)
    i, j = np.repeat(np.arange(n), k), neighbors.ravel().astype(np.int64)
    found = j >= 0
    i, j, squared = i[found], j[found], squared.ravel()[found]
    low, high = np.minimum(i, j), np.maximum(i, j)
    _, first = np.unique(low * n + high, return_index=True)
    rows = observation.usable[tree.order]
    return NeighborGraph(rows, low[first], high[first], np.sqrt(squared[first]))


def bridged(graph: NeighborGraph, observation: Observation, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Add edges between pieces of the graph from searches for more neighbours.

    Random gaps in one dimension leave clusters whose members all have their nearest neighbours among themselves;
    wider searches find the gated pairs that join them. Edges within a piece are not added.
    """
    for factor in BRIDGE_FACTORS:
        count, labels = connected_components(graph.matrix(np.ones(len(graph.i))), directed=False)
        if count == 1:
            break
        wide = neighbor_graph(observation, factor * n_neighbors, n_threads)
        between = (labels[wide.i] != labels[wide.j]) & (wide.lengths <= BRIDGE_LENGTH * np.median(graph.lengths))
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
        distance, nearest = cKDTree(points[known]).query(points[members])
        closest = int(distance.argmin())
        i.append(np.array([members[closest]]))
        j.append(known[nearest[closest : closest + 1]])
        lengths.append(distance[closest : closest + 1])
        inside[members] = True
    return NeighborGraph(graph.rows, np.concatenate(i), np.concatenate(j), np.concatenate(lengths))


def start_layout(graph: NeighborGraph, dim: int) -> FloatArray:
    """Layout (n, dim) by multidimensional scaling of graph distances to landmarks far from each other."""
    n = len(graph.rows)
    # A length of exactly 0 would mean "no edge" to the sparse format: twins are a hair apart.
    hair = 1e-12 * max(float(graph.lengths.max(initial=0.0)), np.finfo(float).tiny)
    matrix = graph.matrix(np.maximum(graph.lengths, hair))
    landmark = int(np.argmax(dijkstra(matrix, directed=False, indices=0)))
    landmarks, distances = [], []
    nearest = np.full(n, np.inf)
    for _ in range(min(START_LANDMARKS, n)):
        landmarks.append(landmark)
        distances.append(dijkstra(matrix, directed=False, indices=landmark))
        nearest = np.minimum(nearest, distances[-1])
        landmark = int(np.argmax(nearest))
    squared = np.array(distances) ** 2
    among = squared[:, landmarks]
    centre = np.eye(len(landmarks)) - 1.0 / len(landmarks)
    values, vectors = np.linalg.eigh(-0.5 * centre @ among @ centre)
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    # Directions that the landmarks do not span (fewer landmarks than dimensions) start at zero.
    scale = np.where(values > 1e-12 * max(values[0], 0.0), 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    layout = -0.5 * ((squared - among.mean(axis=1)[:, None]).T @ (vectors * scale))
    if layout.shape[1] < dim:
        layout = np.pad(layout, ((0, 0), (0, dim - layout.shape[1])))
    return np.ascontiguousarray(layout)


def refine(graph: NeighborGraph, layout: FloatArray) -> tuple[FloatArray, int, bool]:
    """Minimise sum_edges (norm(X_i - X_j) - length)^2; returns the layout, the steps, and whether it settled.

    The majorisation step solves L X_new = B^T (length * direction) with the fixed Laplacian L = B^T B. Its fixed-point
    iteration gains a factor of a few per ten steps; Anderson acceleration makes it ten times as fast.
    """
    n, d = layout.shape
    edges = np.arange(len(graph.i))
    signs = np.concatenate([-np.ones(len(edges)), np.ones(len(edges))])
    places = (np.tile(edges, 2), np.concatenate([graph.i, graph.j]))
    incidence = sp.coo_array((signs, places), shape=(len(edges), n)).tocsr()
    transposed = incidence.T.tocsr()
    # One sample is held at the origin, which makes the Laplacian positive definite.
    weights = edge_weights(graph.lengths)
    laplacian = (transposed @ sp.diags_array(weights) @ incidence).tocsc()[1:, 1:]
    if n > 1:
        solve = splu(
            laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        ).solve

    def majorise(x: FloatArray) -> tuple[FloatArray, float]:
        step = x[graph.j] - x[graph.i]
        norm = np.linalg.norm(step, axis=1)
        pull = step * (weights * graph.lengths / np.maximum(norm, np.finfo(float).tiny))[:, None]
        new = np.zeros_like(x)
        new[1:] = solve((transposed @ pull)[1:])
        return new - new.mean(axis=0), float((weights * (norm - graph.lengths) ** 2).sum())

    layout = layout - layout.mean(axis=0)
    settled = SETTLED * float(np.median(graph.lengths)) if len(graph.lengths) else 0.0
    moves: list[FloatArray] = []
    images: list[FloatArray] = []
    best = np.inf
    for step in range(MAX_STEPS):
        image, stress = majorise(layout)
        move = image - layout
        if np.abs(move).max() <= settled:
            return image, step + 1, True
        if stress > ALLOWED_GROWTH * best:
            moves, images = [], []
        best = min(best, stress)
        moves, images = [*moves, move.ravel()][-MEMORY - 1 :], [*images, image.ravel()][-MEMORY - 1 :]
        layout = _accelerated(moves, images).reshape(n, d)
    return majorise(layout)[0], MAX_STEPS, False


def untangle(graph: NeighborGraph, layout: FloatArray) -> tuple[FloatArray, int, bool]:
    """Refine, then free samples that were caught on the wrong side of their neighbours; as `refine`.

    A rough start scrambles samples that are nearer to each other than its error, and a few of them stay folded over in
    a local minimum. They have by far the largest misfits. Placed anew by harmonic interpolation between the samples
    around them, they unfold.
    """
    layout, total, settled = refine(graph, layout)
    for _ in range(UNTANGLING_ROUNDS):
        stress = relative_stress(graph, layout)
        caught = _caught(graph, layout)
        if not caught.any() or caught.mean() > MAX_CAUGHT:
            break
        trial, steps, trial_settled = refine(graph, _harmonic(graph, layout, caught))
        total += steps
        if not relative_stress(graph, trial) < stress:
            break
        layout, settled = trial, trial_settled
    return layout, total, settled


def _caught(graph: NeighborGraph, layout: FloatArray) -> NDArray[np.bool_]:
    """Samples with misfits far above the usual, and their neighbours."""
    n = len(layout)
    norm = np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1)
    off = np.abs(norm - graph.lengths) / np.maximum(graph.lengths, np.finfo(float).tiny)
    worst = np.zeros(n)
    np.maximum.at(worst, graph.i, off)
    np.maximum.at(worst, graph.j, off)
    caught = worst > max(CAUGHT, 10.0 * float(np.median(worst)))
    around: NDArray[np.bool_] = caught | (graph.matrix(np.ones(len(graph.i))) @ caught > 0)
    return around if caught.any() else caught


def _harmonic(graph: NeighborGraph, layout: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """The layout with the free samples placed where each is the mean of its neighbours."""
    adjacency = graph.matrix(np.ones(len(graph.i)))
    degree = np.asarray(adjacency.sum(axis=1)).ravel()
    inner = sp.diags_array(degree[free] * (1.0 + 1e-9)).tocsc() - adjacency[free][:, free].tocsc()
    placed = layout.copy()
    placed[free] = splu(inner.tocsc()).solve(adjacency[free][:, ~free] @ layout[~free])
    return placed


def relative_stress(graph: NeighborGraph, layout: FloatArray) -> float:
    """sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2)."""
    norm = np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1)
    total = max(float((graph.lengths**2).sum()), np.finfo(float).tiny)
    return float(np.sqrt(((norm - graph.lengths) ** 2).sum() / total))


def edge_weights(lengths: FloatArray) -> FloatArray:
    """Weights of the stress: short edges count more, because the error of a length grows like its third power.

    The inverse first power takes up part of that; higher ones would, but slow the refinement down many times.
    """
    middle = float(np.median(lengths)) if len(lengths) else 1.0
    weights: FloatArray = middle / np.maximum(lengths, 0.1 * middle)
    return weights


def _accelerated(moves: list[FloatArray], images: list[FloatArray]) -> FloatArray:
    """Anderson's combination of the last images, whose combined move is smallest."""
    if len(moves) == 1:
        return images[-1]
    move_steps = np.diff(np.array(moves), axis=0)
    image_steps = np.diff(np.array(images), axis=0)
    weights = np.linalg.lstsq(move_steps @ move_steps.T, move_steps @ moves[-1], rcond=1e-12)[0]
    combined: FloatArray = images[-1] - weights @ image_steps
    return combined


def overlap(graph: NeighborGraph, layout: FloatArray) -> float:
    """Share of samples whose nearest sample in the layout is neither their neighbour nor a neighbour's neighbour.

    Twins aside, a one-to-one layout has the nearest sample among the neighbours; sheets on top of each other do not.
    """
    n = len(layout)
    nearest = cKDTree(layout).query(layout, 2, workers=-1)[1][:, 1]
    near = graph.matrix(np.ones(len(graph.i))) + sp.eye_array(n, format="csr")
    # Row i of (near @ near) at column nearest[i], without the product: do the two neighbourhoods share a member?
    shared = near.multiply(near[nearest]).sum(axis=1)
    return float(np.mean(np.asarray(shared).ravel() == 0))
