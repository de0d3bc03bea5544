"""A layout that needs no distances: local frames turned into one another, steps summed up, periods found on the way."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.sparse.csgraph import breadth_first_order

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.isometry.frames import local_frames
from diffeo.isometry.graph import NeighborGraph
from diffeo.isometry.laplacian import graph_laplacian
from diffeo.isometry.periods import nearest_zero, reduced_basis, whole_turns
from diffeo.isometry.stress import refine

# Frames that differ by more than this after synchronisation (norm of the difference of the rotations) ...
TWISTED = 0.5
# ... on more than this share of the edges turn on the way around something: the domain is curved, or not orientable.
TWISTED_SHARE = 0.02
# As many edges per sqrt(n) that reverse the orientation are a cut through a domain that has none.
REVERSED_EDGES = 1.0
# Rounds of synchronisation: the first is exact to first order in the rotations that are left.
SYNCHRONISATION_ROUNDS = 3
# Rounds in which edges that were cut for the errors of others are mended.
OPENINGS = 4
# A loop whose steps miss zero by this many edge lengths goes around a period.
PERIOD_LENGTHS = 6.0
# At least this many edges per sqrt(n) close such loops if the period is real: a cut through the domain ...
CUT_EDGES = 0.2
# ... and at least this share of those whose sums agree best: where sheets cross, the false edges that no test of a pair
# can see (along the bisector of two tangents) agree as well, but they are few.
CUT_SHARE = 0.25
# Sums whose agreement with others is counted.
SEEDS = 100
# Sums of steps around one period agree within this share of the shortest.
PERIOD_SPREAD = 0.25
# A sum of steps that, less whole periods, is below this share of the shortest is that of no further period.
NO_PERIOD = 0.5
# Periods that leave more than this share of the loops unexplained are those of no flat domain.
UNEXPLAINED = 0.25
# Where in the order of the samples spanning trees start, one after the other until loops add up to periods: along an
# unlucky tree the errors of steps hide them.
ROOTS = (0.5, 0.25, 0.75, 0.0)


@dataclass(frozen=True, eq=False)
class _Tree:
    """A spanning tree by breadth: `order` of the samples, root first, cut into `levels`; `parent` of each; its edge."""

    order: IntArray
    levels: IntArray
    parent: IntArray
    edge: IntArray
    forward: FloatArray


def develop(graph: NeighborGraph, points: FloatArray, whitening: FloatArray) -> tuple[NeighborGraph, FloatArray] | None:
    """The graph with the windings of its edges, and a layout (n + k, d) for it; None where the domain is curved.

    The orthogonal parts of W_i^T pinv(W_j^T) turn local frames into one another. Frames are carried along a spanning
    tree, then synchronised over all edges: small rotations add up, so that this is a Poisson equation (cf. Singer and
    Wu 2012). In common frames each edge is a known step, and a second Poisson equation gives the layout. Steps around a
    hole sum up to zero; around a closed direction they sum up to a period. The periods are a basis of all such sums, and
    unknowns of the second equation like the samples.
    """
    for root in ROOTS:
        tree = _spanning_tree(graph, int(root * len(graph.rows)))
        frames = _synchronised(graph, tree, whitening)
        if frames is None:
            return None
        found = _developed(graph, points, whitening, tree, frames)
        if found is not None:
            return found
    return None


def _developed(
    graph: NeighborGraph, points: FloatArray, whitening: FloatArray, tree: _Tree, frames: FloatArray
) -> tuple[NeighborGraph, FloatArray] | None:
    """As `develop`, from one spanning tree and the frames carried along it."""
    steps = _steps(graph, points, whitening, frames)
    median = float(np.median(graph.lengths))
    far = np.linalg.norm(_missed(graph, tree, steps), axis=1) > PERIOD_LENGTHS * median
    if not far.any():
        return graph, _poisson(graph, steps, steps.shape[1])
    # Frames are right to first order only where stretches differ, and errors of steps add up along the tree. The domain
    # cut open at the far edges (no tree edge is one) is laid out by its lengths, which gives better frames and sums.
    opened = _poisson(graph.subset(~far), steps[~far], steps.shape[1])
    for _ in range(OPENINGS):
        cut = graph.subset(~far)
        opened, _, _ = refine(cut, opened)
        steps = _steps(graph, points, whitening, local_frames(cut, opened, points, whitening))
        miss = steps - graph.steps(opened)
        mended = far & (np.linalg.norm(miss, axis=1) <= PERIOD_LENGTHS * median)
        far &= ~mended
        if not mended.any():
            break
    closed = _with_periods(graph, steps, miss, far)
    if closed is None:
        return None
    graph, steps = closed
    return graph, _poisson(graph, steps, steps.shape[1])


def _spanning_tree(graph: NeighborGraph, root: int) -> _Tree:
    n = len(graph.rows)
    order, parent = breadth_first_order(graph.matrix(np.ones(len(graph.i))), root, directed=False)
    parent[order[0]] = order[0]
    depth = np.zeros(n, dtype=np.int64)
    while True:
        deeper = depth[parent] + (parent != np.arange(n))
        if np.array_equal(deeper, depth):
            break
        depth = deeper
    # Edge numbers from 1, negative against their direction.
    number = np.arange(1, len(graph.i) + 1)
    numbers = sp.coo_array(
        (np.concatenate([number, -number]), (np.r_[graph.i, graph.j], np.r_[graph.j, graph.i])), shape=(n, n)
    ).tocsr()
    signed = np.asarray(numbers[parent, np.arange(n)]).ravel()
    order = order[np.argsort(depth[order], kind="stable")].astype(np.int64)
    levels = np.searchsorted(depth[order], np.arange(depth.max() + 2))
    return _Tree(order, levels, parent.astype(np.int64), np.abs(signed) - 1, np.sign(signed).astype(np.float64))


def _synchronised(graph: NeighborGraph, tree: _Tree, whitening: FloatArray) -> FloatArray | None:
    """Rotations Q (n, d, d) with W_i^T (y_j - y_i) = Q_i s for a step s in common coordinates; None if there are none."""
    slopes = whitening / (whitening**2).sum(axis=1)[:, None, :]
    i, j = graph.i, graph.j
    d = whitening.shape[2]
    both = np.einsum("emk,eml->ekl", whitening[i], slopes[j]) + np.einsum("emk,eml->ekl", slopes[i], whitening[j])
    transport = _orthogonal(both)
    frames = np.broadcast_to(np.eye(d), (len(graph.rows), d, d)).copy()
    for begin, end in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        nodes = tree.order[begin:end]
        turn = transport[tree.edge[nodes]]
        # Along the edge i -> j the frame of j is O_ij^T times that of i; against it, O_ij times.
        turn = np.where(tree.forward[nodes][:, None, None] > 0, turn.transpose(0, 2, 1), turn)
        frames[nodes] = turn @ frames[tree.parent[nodes]]

    def left() -> FloatArray:
        turned: FloatArray = np.einsum("eak,eab,ebl->ekl", frames[i], transport, frames[j], optimize=True)
        return turned

    for _ in range(SYNCHRONISATION_ROUNDS if d > 1 else 0):
        # exp(a_i) must take up Q_i^T O_ij Q_j = exp(a_i - a_j).
        remaining = left()
        skew = 0.5 * (remaining - remaining.transpose(0, 2, 1))
        correction = _poisson(graph, -skew.reshape(len(i), -1), frames.shape[1]).reshape(frames.shape)
        frames = frames @ _orthogonal(np.eye(d) + correction)
    remaining = left()
    twisted = np.linalg.norm(remaining - np.eye(d), axis=(1, 2)) > TWISTED
    reversed_ = np.linalg.det(remaining) < 0.0
    bad = twisted.mean() > TWISTED_SHARE or reversed_.sum() > REVERSED_EDGES * len(frames) ** ((d - 1) / d)
    return None if bad else frames


def _steps(graph: NeighborGraph, points: FloatArray, whitening: FloatArray, frames: FloatArray) -> FloatArray:
    """Displacements (e, d) of the edges in common coordinates, averaged over both ends."""
    delta = points[graph.j] - points[graph.i]
    ends = [np.einsum("em,emd,edk->ek", delta, whitening[k], frames[k], optimize=True) for k in (graph.i, graph.j)]
    steps: FloatArray = 0.5 * (ends[0] + ends[1])
    return steps


def _missed(graph: NeighborGraph, tree: _Tree, steps: FloatArray) -> FloatArray:
    """By how much the loop along the tree from i to j and back over the edge misses zero, (e, d)."""
    summed = np.zeros((len(graph.rows), steps.shape[1]))
    for begin, end in zip(tree.levels[1:-1], tree.levels[2:], strict=True):
        nodes = tree.order[begin:end]
        summed[nodes] = summed[tree.parent[nodes]] + tree.forward[nodes][:, None] * steps[tree.edge[nodes]]
    missed: FloatArray = steps - (summed[graph.j] - summed[graph.i])
    return missed


def _with_periods(
    graph: NeighborGraph, steps: FloatArray, miss: FloatArray, far: NDArray[np.bool_]
) -> tuple[NeighborGraph, FloatArray] | None:
    """Windings of the edges around periods, if loops show any; edges that close a loop by none of them are dropped.

    `miss` (e, d) is what the loop over each edge misses zero by, and `far` says where that is no error. None where most
    loops show something else than periods.
    """
    n, d = len(graph.rows), steps.shape[1]
    enough = CUT_EDGES * n ** ((d - 1) / d)
    periods = _lattice(miss[far], enough)
    if len(periods) == 0:
        return graph, steps
    windings = np.zeros((len(miss), len(periods)))
    windings[far] = whole_turns(miss[far], periods)
    kept = np.linalg.norm(miss - windings @ periods, axis=1) <= PERIOD_SPREAD * np.linalg.norm(periods, axis=1).min()
    if (~kept).sum() > UNEXPLAINED * far.sum():
        return None
    # A step s = X_j - X_i + winding @ periods.
    return replace(graph, windings=windings).subset(kept), steps[kept]


def _lattice(sums: FloatArray, enough: float) -> FloatArray:
    """A basis (k, d) of short vectors for sums of steps (count, d) that scatter around the points of a lattice."""
    d = sums.shape[1]
    basis = np.empty((0, d))
    left = sums
    while len(left) > enough and len(basis) < d:
        seeds = left[:: max(1, len(left) // SEEDS)]
        most = max(_agreeing(left, seed)[0].sum() for seed in seeds)
        shortest = left[np.linalg.norm(left, axis=1).argmin()]
        near, sign = _agreeing(left, shortest)
        period = (sign[:, None] * left)[near].mean(axis=0)
        beside = float(np.linalg.norm(period - period @ np.linalg.pinv(basis) @ basis))
        if near.sum() < max(enough, 1.0, CUT_SHARE * most) or beside < PERIOD_SPREAD * np.linalg.norm(shortest):
            # A false edge, alone with its sum; or a fraction of a period that is known, which no closed domain has.
            left = left[~near]
            continue
        basis = reduced_basis(np.vstack([basis, period]))
        rest = nearest_zero(sums, basis)
        left = rest[np.linalg.norm(rest, axis=1) > NO_PERIOD * np.linalg.norm(basis, axis=1).min()]
    return basis


def _agreeing(sums: FloatArray, one: FloatArray) -> tuple[NDArray[np.bool_], FloatArray]:
    """Which sums are about the given one, or opposite to it; and their signs, 1 or -1."""
    limit = PERIOD_SPREAD * float(np.linalg.norm(one))
    opposite = np.linalg.norm(sums + one, axis=1) < limit
    same: NDArray[np.bool_] = np.linalg.norm(sums - one, axis=1) < limit
    return same | opposite, np.where(opposite, -1.0, 1.0)


def _poisson(graph: NeighborGraph, steps: FloatArray, dim: int) -> FloatArray:
    """Layout (n + k, columns) whose steps are nearest to the given ones, by least squares; `dim`: of the neighbourhoods."""
    ones = np.ones(len(graph.i))
    laplacian = graph_laplacian(len(graph.rows), graph.i, graph.j, ones, graph.windings, graph.rows, dim=dim)
    return laplacian.solve(graph.incidence().T @ steps)


def _orthogonal(matrices: FloatArray) -> FloatArray:
    """Nearest orthogonal matrices."""
    u, _, vt = np.linalg.svd(matrices)
    nearest: FloatArray = u @ vt
    return nearest
