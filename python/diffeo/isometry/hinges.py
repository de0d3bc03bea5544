"""Hinges: parts of a sample that few edges hold, which a layout may fold over or turn without any stress to show for it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo.isometry.frames import local_frames
from diffeo.isometry.gauss_newton import response
from diffeo.isometry.graph import NeighborGraph, neighbor_graph, pieces
from diffeo.isometry.laplacian import graph_laplacian
from diffeo.isometry.stress import edge_weights
from diffeo.observation.observation import Observation

# A cut between parts of which the smaller has k samples is sparse if fewer edges than this times k^((d - 1) / d) cross it.
# Cuts through squares, cubes, rings and strips ten times as long as wide were measured at 3 to 8; bridges over a gap of 8 to
# 10 % at 0.02 to 1, corridors of a tenth at 0.1 to 0.7. Some sparse cuts are no hinges: looking at one costs time only.
SPARSE = 1.0
# Parts have at least this share of the samples, and this many.
LEAST_SHARE, LEAST_SAMPLES = 0.01, 20
# Vectors, and steps of inverse iteration, that look for cuts: eigenvalues of a sparse one lie far below all the others.
VECTORS, ITERATIONS = 4, 3
# Searches for this many times more neighbours find edges to brace a sparse cut with.
BRACE_FACTORS = (2, 4)
# The error that is left in a corrected length, as a share of the correction: 0.2 to 0.8 were measured on edges over gaps and
# in corridors.
LEFT_OF_CORRECTION = 0.5
# Draws of errors of lengths that show by how much a part may be off.
DRAWS = 3
# Frames at both ends of an edge agree if the turn between them has this cosine (the mean over its planes), and no mirror.
AGREEING = 0.7


@dataclass(frozen=True, eq=False)
class LoosePart:
    """A part of the sample that is held loosely by the rest.

    `rows` of its samples, ascending; `n_edges` that hold it; `doubt`, the relative error of the layout that errors of the
    lengths explain, and 1 where the frames at most of these edges disagree: the part is mirrored, or turned away.
    """

    rows: IntArray
    n_edges: int
    doubt: float


@dataclass(frozen=True, eq=False)
class Hinges:
    """Parts between sparse cuts of a graph, and edges to brace them with.

    `part` (N,) of each row of the observation, 0 for the first and for rows outside of the graph; `braces` over all rows.
    """

    part: IntArray
    braces: NeighborGraph

    def braced(self, graph: NeighborGraph) -> NeighborGraph:
        """The graph with those braces between its samples that it does not have."""
        if graph.n_periods:
            return graph
        place = np.full(len(self.part), -1)
        place[graph.rows] = np.arange(len(graph.rows))
        i, j = place[self.braces.i], place[self.braces.j]
        new = (
            (i >= 0) & (j >= 0) & ~np.isin(_numbers(i, j, len(graph.rows)), _numbers(graph.i, graph.j, len(graph.rows)))
        )
        return replace(
            graph,
            i=np.concatenate([graph.i, i[new]]),
            j=np.concatenate([graph.j, j[new]]),
            lengths=np.concatenate([graph.lengths, self.braces.lengths[new]]),
        )

    def turned(self, observation: Observation, graph: NeighborGraph, layout: FloatArray) -> FloatArray:
        """The layout with each part moved as the frames at the ends of its crossing edges say.

        Frames come from the edges within parts. Those at both ends of an edge are turned into one another by the orthogonal
        part of W_i^T pinv(W_j^T), whatever the layout; so they tell a mirrored part from a right one, which lengths do not.
        """
        part = self.part[graph.rows]
        crossing = graph.subset(part[graph.i] != part[graph.j])
        points, whitening = np.ascontiguousarray(observation.points[graph.rows]), observation.whitening[graph.rows]
        frames = local_frames(graph.subset(part[graph.i] == part[graph.j]), layout, points, whitening)
        # A direction v at j is transports @ v at i.
        transports = _transports(crossing, whitening, frames)
        transports /= np.linalg.norm(transports, axis=(1, 2))[:, None, None]
        delta = points[crossing.j] - points[crossing.i]
        at_i, at_j = (
            np.einsum("em,emd,edk->ek", delta, whitening[k], frames[k], optimize=True) for k in (crossing.i, crossing.j)
        )
        weights = edge_weights(crossing.lengths)
        moved, turns = layout.copy(), {}
        label_i, label_j = part[crossing.i], part[crossing.j]
        turns[int(np.bincount(part).argmax())] = np.eye(layout.shape[1])
        while len(turns) <= part.max():
            known_i, known_j = (np.isin(label, list(turns)) for label in (label_i, label_j))
            leaving = np.where(known_i & ~known_j, label_j, np.where(known_j & ~known_i, label_i, -1))
            if not (leaving >= 0).any():
                break
            # The part that most edges join to those that are placed.
            label = int(np.bincount(leaving[leaving >= 0]).argmax())
            edges = np.flatnonzero(leaving == label)
            ahead, w = known_i[edges], weights[edges]
            near = np.where(ahead, crossing.i[edges], crossing.j[edges])
            far = np.where(ahead, crossing.j[edges], crossing.i[edges])
            there = np.array([turns[int(k)] for k in part[near]])
            across = np.where(ahead[:, None, None], transports[edges], transports[edges].transpose(0, 2, 1))
            u, _, vt = np.linalg.svd(np.einsum("e,eab,ebc->ac", w, there, across))
            turn = u @ vt
            from_near, from_far = (
                np.where(ahead[:, None], x, -y) for x, y in ((at_i[edges], at_j[edges]), (at_j[edges], at_i[edges]))
            )
            step = 0.5 * (np.einsum("eab,eb->ea", there, from_near) + from_far @ turn.T)
            shift = np.average(moved[near] + step - layout[far] @ turn.T, axis=0, weights=w)
            moved[part == label] = layout[part == label] @ turn.T + shift
            turns[label] = turn
        return moved

    def loose(self, observation: Observation, graph: NeighborGraph, layout: FloatArray) -> list[LoosePart]:
        """By how much each part of a layout may be off.

        Lengths get errors drawn at random, of the size that is left in them and no smaller than what the layout misses of
        them, and the layout answers as its stress says.
        """
        part = self.part[graph.rows]
        n, d = len(graph.rows), observation.dim
        labels = np.setdiff1d(part, [np.bincount(part).argmax()])
        if len(labels) == 0 or graph.n_periods:
            return []
        crossing = part[graph.i] != part[graph.j]
        points, whitening = np.ascontiguousarray(observation.points[graph.rows]), observation.whitening[graph.rows]
        plain, _ = core.edge_lengths(points, np.ascontiguousarray(whitening), graph.i, graph.j, workers())
        relative = np.zeros(len(graph.i))
        for edges in (crossing, ~crossing):
            change = graph.lengths[edges] - plain[edges]
            size = float((graph.lengths[edges] ** 2).sum())
            relative[edges] = LEFT_OF_CORRECTION * np.sqrt(float((change**2).sum()) / max(size, np.finfo(float).tiny))
        missed = np.abs(np.linalg.norm(graph.steps(layout), axis=1) - graph.lengths)
        error = np.maximum(np.maximum(relative, observation.length_noise) * graph.lengths, missed)
        draws = np.random.default_rng(0).standard_normal((DRAWS, len(graph.i))) * error
        weights = edge_weights(graph.lengths)
        laplacian = graph_laplacian(n, graph.i, graph.j, weights, graph.windings, graph.rows, dim=d)
        moves = np.array([response(graph, layout, weights, laplacian, draw) for draw in draws])
        spread = float(((layout[:n] - layout[:n].mean(axis=0)) ** 2).sum())
        frames = local_frames(graph.subset(~crossing), layout, points, whitening)
        found = []
        for label in labels:
            behind = part == label
            off = np.mean([_beside(layout[:n], move[:n], behind) for move in moves])
            edges = np.flatnonzero((part[graph.i] == label) != (part[graph.j] == label))
            transports = _transports(graph.subset(edges), whitening, frames)
            agree = np.trace(transports, axis1=1, axis2=2) > AGREEING * np.sqrt(d) * np.linalg.norm(
                transports, axis=(1, 2)
            )
            agree &= np.linalg.det(transports) > 0.0
            doubt = float(np.sqrt(off / max(spread, np.finfo(float).tiny)))
            if 2 * agree.sum() <= len(edges):
                doubt = max(doubt, 1.0)
            found.append(LoosePart(np.sort(graph.rows[behind]), len(edges), doubt))
        return found


def find_hinges(observation: Observation, graph: NeighborGraph, n_neighbors: int, n_threads: int) -> Hinges | None:
    """Sparse cuts of a graph, and edges across them from searches for more neighbours; None where there is none."""
    if observation.dim == 1:
        return None
    part = sparse_parts(graph, observation.dim)
    if not part.any():
        return None
    whole, inside = np.zeros(len(observation), dtype=np.int64), np.zeros(len(observation), dtype=bool)
    whole[graph.rows], inside[graph.rows] = part, True
    enough = SPARSE * np.bincount(part).min() ** ((observation.dim - 1) / observation.dim)
    nothing = np.empty(0, dtype=np.int64)
    hinges = Hinges(whole, NeighborGraph(np.arange(len(observation)), nothing, nothing, np.empty(0)))
    held = int((part[graph.i] != part[graph.j]).sum())
    for factor in BRACE_FACTORS:
        if held + len(hinges.braces.i) >= enough * part.max() or factor * n_neighbors >= len(graph.rows):
            break
        wide = neighbor_graph(observation, factor * n_neighbors, n_threads)
        i, j = wide.rows[wide.i], wide.rows[wide.j]
        across = (whole[i] != whole[j]) & inside[i] & inside[j]
        hinges = Hinges(whole, NeighborGraph(hinges.braces.rows, i[across], j[across], wide.lengths[across]))
    return hinges


def sparse_parts(graph: NeighborGraph, dim: int) -> IntArray:
    """The part (n,) of each sample, numbered from 0: what sparse cuts leave, cut again until there is none."""
    n = len(graph.rows)
    part = np.zeros(n, dtype=np.int64)
    todo = [np.arange(n)]
    while todo:
        members = todo.pop()
        keep = np.zeros(n, dtype=bool)
        keep[members] = True
        inner = graph.restricted(keep)
        if pieces(inner)[0] > 1:
            continue
        behind = _behind_sparsest(inner, dim)
        if behind.any():
            part[members[behind]] = part.max() + 1
            todo += [members[behind], members[~behind]]
    return part


def _behind_sparsest(graph: NeighborGraph, dim: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which samples lie behind the sparsest cut, (n,), the smaller side; none where no cut is sparse.

    Leading eigenvectors of the Laplacian are nearly constant on both sides of a sparse cut (Fiedler 1973); the samples in
    the order of one are cut where fewest edges cross, for the size of the smaller side (a sweep: Spielman and Teng 1996).
    """
    n = len(graph.rows)
    behind = np.zeros(n, dtype=bool)
    least = max(LEAST_SAMPLES, int(LEAST_SHARE * n))
    if n < 2 * least:
        return behind
    ones = np.ones(len(graph.i))
    laplacian = graph_laplacian(n, graph.i, graph.j, ones, np.empty((0, 0)), graph.rows, dim=dim)
    vectors = np.random.default_rng(0).standard_normal((n, VECTORS))
    for _ in range(ITERATIONS):
        vectors = laplacian.correct(vectors - vectors.mean(axis=0))
        vectors = np.linalg.qr(vectors - vectors.mean(axis=0))[0]
    steps = vectors[graph.i] - vectors[graph.j]
    vectors = vectors @ np.linalg.eigh(steps.T @ steps)[1]
    size = np.minimum(np.arange(1, n), np.arange(n - 1, 0, -1))
    sparsest = SPARSE
    for vector in vectors.T:
        order = np.argsort(vector, kind="stable")
        place = np.empty(n, dtype=np.int64)
        place[order] = np.arange(n)
        first, last = np.minimum(place[graph.i], place[graph.j]), np.maximum(place[graph.i], place[graph.j])
        crossing = np.cumsum(np.bincount(first, minlength=n) - np.bincount(last, minlength=n))[:-1]
        ratio = np.where(size >= least, crossing / size ** ((dim - 1) / dim), np.inf)
        cut = int(ratio.argmin())
        if ratio[cut] < sparsest:
            sparsest = float(ratio[cut])
            behind[:] = False
            behind[order[: cut + 1] if 2 * (cut + 1) <= n else order[cut + 1 :]] = True
    return behind


def _transports(graph: NeighborGraph, whitening: FloatArray, frames: FloatArray) -> FloatArray:
    """Q_i^T O_ij Q_j (e, d, d), up to positive stretches: near the identity where the frames Q (n, d, d) agree."""
    slopes = whitening / (whitening**2).sum(axis=1)[:, None, :]
    i, j = graph.i, graph.j
    both = np.einsum("emk,eml->ekl", whitening[i], slopes[j]) + np.einsum("emk,eml->ekl", slopes[i], whitening[j])
    turned: FloatArray = np.einsum("eak,eab,ebl->ekl", frames[i], both, frames[j], optimize=True)
    return turned


def _beside(layout: FloatArray, move: FloatArray, behind: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Sum of squares, over all samples, of what a part moves against the rest.

    Both move rigidly, each by the motion nearest to its own move; what the whole moves rigidly does not count.
    """
    motions = np.zeros_like(move)
    for rows in (behind, ~behind):
        motions[rows] = _rigid(layout[rows], move[rows])
    left = motions - _rigid(layout, motions)
    return float((left**2).sum())


def _rigid(at: FloatArray, move: FloatArray) -> FloatArray:
    """The small rigid motion nearest to a move (n, d): its mean, and the antisymmetric part that fits best."""
    d = at.shape[1]
    centred = at - at.mean(axis=0)
    pairs = [(a, b) for a in range(d) for b in range(a)]
    turns = np.zeros((len(pairs), *at.shape))
    for turn, (a, b) in zip(turns, pairs, strict=True):
        turn[:, a], turn[:, b] = -centred[:, b], centred[:, a]
    basis = turns.reshape(len(pairs), -1).T
    free = move - move.mean(axis=0)
    rigid: FloatArray = move.mean(axis=0) + (basis @ (np.linalg.pinv(basis) @ free.ravel())).reshape(at.shape)
    return rigid


def _numbers(i: IntArray, j: IntArray, n: int) -> IntArray:
    numbers: IntArray = np.minimum(i, j) * n + np.maximum(i, j)
    return numbers
