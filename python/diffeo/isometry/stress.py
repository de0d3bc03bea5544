"""Layouts of neighbour graphs: a start from graph distances, and the stress minimised from there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.csgraph import dijkstra

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.progress import stage
from diffeo._support.threads import workers
from diffeo.isometry.gauss_newton import bend, held_up_by_few, response
from diffeo.isometry.graph import NeighborGraph
from diffeo.isometry.laplacian import GraphLaplacian, anchored_solution, graph_laplacian
from diffeo.isometry.trust import FOLDED

# Landmarks of the start: each costs one run of Dijkstra; 60 fix some 3 % of every distance.
START_LANDMARKS = 60
# Steps of the refinement; it needs 30 to 80 where an isometric chart exists.
MAX_STEPS = 100
# The refinement has converged when no sample moves by more than this share of the median length of the edges.
SETTLED = 1e-6
# Acceleration that lets the stress grow by more than this is forgotten and started anew.
ALLOWED_GROWTH = 1.05
# So many steps that gain less than this share of the stress are the last where few wrong lengths are what is left of it.
STALLED_STEPS, STALLED_GAIN = 10, 0.05
# Rounds of freeing samples that were caught folded over. One that gains less than this share of the stress is the last: it
# frees none (a tenth to all were measured where it does, and at most a twentieth beside cliffs).
UNTANGLING_ROUNDS, FREED_GAIN = 4, 0.05
# An edge off by this share of its length, and ten times the usual, has such a sample at an end ...
CAUGHT = 0.1
# ... unless so many are that something else is wrong.
MAX_CAUGHT = 0.3
# Rounds of robust reweighting. An edge whose misfit is this many times the usual counts half ...
ROBUST_ROUNDS = 3
ROBUST_WIDTH = 3.0
# ... where the usual is at least this share of the relative stress, within bounds (beside cliffs most lengths are right to
# 1e-4 and some wrong by a tenth; those that hold the sides together are wrong by a percent, and better than none), and no
# edge counts less than LEAST_TRUST.
MISFIT_SHARE = 0.1
USUAL_MISFIT = (1e-4, 1e-3)
LEAST_TRUST = 1e-3
# Groups of edges by doubt, as many in each.
DOUBT_GROUPS = 20
# Steps of a round, and its tolerance: the weights still change.
ROBUST_STEPS = 60
ROBUST_SETTLED = 1e-4
# Damping of the Gauss-Newton step after weights have changed; see `diffeo.isometry.gauss_newton`.
REWEIGHTED_DAMPING = 1e-3
# Earlier steps that are combined; 5 to 20 were measured alike on layouts.
MEMORY = 8


class Anderson:
    """Anderson's acceleration of fixed-point iterations (1965), for vectors of one size.

    The next iterate is the combination of the last images whose combined move is smallest.

    Differences of consecutive moves and images are kept, the oldest replaced, with the Gram matrix of the former, so
    that a step costs a few passes over them.
    """

    def __init__(self, size: int) -> None:
        self._moves, self._images = np.empty((MEMORY, size)), np.empty((MEMORY, size))
        self._gram = np.zeros((MEMORY, MEMORY))
        self._count = 0
        self._last: tuple[FloatArray, FloatArray] | None = None

    def forget(self) -> None:
        """Start anew."""
        self._count, self._last = 0, None

    def __call__(self, image: FloatArray, move: FloatArray) -> FloatArray:
        """The next iterate, from the image (size,) of the last one and how far that is from it."""
        if self._last is None:
            self._last = (image, move)
            return image
        slot = self._count % MEMORY
        np.subtract(image, self._last[0], out=self._images[slot])
        np.subtract(move, self._last[1], out=self._moves[slot])
        self._last = (image, move)
        self._count += 1
        used = min(self._count, MEMORY)
        moves = self._moves[:used]
        self._gram[slot, :used] = self._gram[:used, slot] = moves @ self._moves[slot]
        weights = np.linalg.lstsq(self._gram[:used, :used], moves @ move, rcond=1e-12)[0]
        combined: FloatArray = image - weights @ self._images[:used]
        return combined


def start_layout(graph: NeighborGraph, dim: int) -> FloatArray:
    """Layout (n, dim) by multidimensional scaling of graph distances to landmarks far from each other."""
    n = len(graph.rows)
    # A length of exactly 0 would mean "no edge" to the sparse format: twins are a hair apart.
    hair = 1e-12 * max(float(graph.lengths.max(initial=0.0)), np.finfo(float).tiny)
    matrix = graph.matrix(np.maximum(graph.lengths, hair))
    landmark = int(np.argmax(dijkstra(matrix, directed=False, indices=0)))
    landmarks, distances = [], []
    nearest = np.full(n, np.inf)
    count = min(START_LANDMARKS, n)
    with stage("start") as report:
        for done in range(count):
            report(done, count)
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


def check_lengths(lengths: FloatArray) -> None:
    """Raise unless the lengths can be computed with."""
    if not (np.isfinite(lengths).all() and lengths.max(initial=0.0) > 1e-150):
        raise errors.NonFiniteError(
            "lengths overflow or vanish: the inputs behind the measurements are in units too large or too small for "
            "double precision; rescale them"
        )


def refine(
    graph: NeighborGraph,
    layout: FloatArray,
    *,
    trust: FloatArray | None = None,
    max_steps: int = MAX_STEPS,
    tolerance: float = SETTLED,
) -> tuple[FloatArray, int, bool]:
    """Minimise sum_edges w (norm(step) - length)^2; returns the layout, the steps, and whether it settled.

    A majorisation step x - M^-1 g, g half the gradient of the stress, lowers the stress wherever M is at least the
    Laplacian L = B^T diag(w) B, B the incidence of the graph (periods are unknowns like samples): M is L itself for
    small graphs, as in de Leeuw's SMACOF, and one multigrid cycle for large ones. The fixed-point iteration gains a
    factor of a few per ten steps; Anderson acceleration makes it ten times as fast. Long thin domains still creep, and
    Gauss-Newton steps finish those (`diffeo.isometry.gauss_newton`). `trust` (e,) multiplies the weights; the tolerance is
    relative to the median length.
    """
    weights = edge_weights(graph.lengths) * (1.0 if trust is None else trust)
    laplacian = _laplacian(graph, weights, layout.shape[1])
    layout, steps, settled, _ = _refined(graph, layout, weights, laplacian, trust is not None, max_steps, tolerance)
    return layout, steps, settled


def _refined(
    graph: NeighborGraph,
    layout: FloatArray,
    weights: FloatArray,
    laplacian: GraphLaplacian,
    is_weighed: bool,
    max_steps: int,
    tolerance: float,
) -> tuple[FloatArray, int, bool, bool]:
    """As `refine` with these weights, which trust edges or not; last, whether Gauss-Newton steps ended it."""
    forces = core.Stress(len(graph.rows), graph.i, graph.j, graph.lengths, weights, graph.windings)

    def majorise(x: FloatArray) -> tuple[FloatArray, float]:
        gradient, stress = forces.gradient(x, workers())
        return _centred(graph, x - laplacian.correct(gradient)), stress

    layout = _centred(graph, layout)
    settled = _settled(graph, tolerance)
    acceleration = Anderson(layout.size)
    best, earlier = np.inf, np.inf
    with stage("refinement") as report:
        for step in range(max_steps):
            report(step, max_steps)
            image, stress = majorise(layout)
            move = image - layout
            if np.abs(move).max() <= settled:
                return image, step + 1, True, False
            if stress > ALLOWED_GROWTH * best:
                acceleration.forget()
            best = min(best, stress)
            if step % STALLED_STEPS == STALLED_STEPS - 1:
                if earlier - best <= STALLED_GAIN * best and held_up_by_few(graph, layout):
                    if not is_weighed:
                        return image, step + 1, False, False
                    # Without the wrong lengths, the sides that they join bend.
                    max_steps = step + 1
                    break
                earlier = best
            layout = acceleration(image.ravel(), move.ravel()).reshape(layout.shape)
    layout, stress = majorise(layout)
    if stress > FOLDED**2 * float((weights * graph.lengths**2).sum()):
        return layout, max_steps, False, False
    layout, iterations, converged = bend(graph, layout, weights, laplacian, settled)
    return _centred(graph, layout), max_steps + iterations, converged, True


def refine_robustly(
    graph: NeighborGraph, layout: FloatArray, rounds: int = ROBUST_ROUNDS, doubts: FloatArray | None = None
) -> tuple[FloatArray, int, bool]:
    """As `refine`, by iteratively reweighted least squares: edges that most others contradict lose their weight.

    The weight of an edge is 1 / (1 + (r / (3 r_0))^2), r its relative misfit and r_0 the median of all (Cauchy's
    M-estimator): where the measurements bend sharply some lengths are wrong by ten percent among many right ones.

    With `doubts` (e,), of which larger ones come with larger errors, the median r_e of the edges of about the same doubt takes
    the place of r_0, and weights get the factor (r_0 / r_e)^2, as least squares ask for. Beside cliffs most edges miss by many
    times r_0: one for all leaves those there that the layout happens to satisfy, which keep it as it is.
    """
    total, settled, bent = 0, False, False
    for _ in range(rounds):
        misfit = edge_misfits(graph, layout)
        least = float(np.clip(MISFIT_SHARE * relative_stress(graph, layout), *USUAL_MISFIT))
        usual = max(float(np.median(misfit)), least)
        own = usual if doubts is None else np.maximum(_usual_by_doubt(misfit, doubts), usual)
        trust = np.maximum((usual / own) ** 2 / (1.0 + (misfit / (ROBUST_WIDTH * own)) ** 2), LEAST_TRUST)
        weights = edge_weights(graph.lengths) * trust
        laplacian = _laplacian(graph, weights, layout.shape[1])
        if bent:
            # Weights have changed by little: one step from where the last ones ended answers that, before they change again.
            tolerance = _settled(graph, ROBUST_SETTLED)
            layout, steps, _ = bend(
                graph, layout, weights, laplacian, tolerance, damping=REWEIGHTED_DAMPING, max_steps=1
            )
        else:
            layout, steps, settled, bent = _refined(
                graph, layout, weights, laplacian, True, ROBUST_STEPS, ROBUST_SETTLED
            )
        total += steps
    return _centred(graph, layout), total, settled


def _usual_by_doubt(misfit: FloatArray, doubts: FloatArray) -> FloatArray:
    """Of each edge (e,), the median misfit of those of about the same doubt."""
    groups = np.array_split(np.argsort(doubts, kind="stable"), DOUBT_GROUPS)
    usual = np.empty_like(misfit)
    for group in groups:
        usual[group] = np.median(misfit[group]) if len(group) else 0.0
    return usual


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
        freed = relative_stress(graph, trial)
        if freed < stress:
            layout, settled = trial, trial_settled
        if not freed <= (1.0 - FREED_GAIN) * stress:
            break
    return layout, total, settled


def unbent(graph: NeighborGraph, start: FloatArray) -> tuple[FloatArray, int, bool]:
    """As `untangle`, with Gauss-Newton steps after it in any case."""
    layout, steps, _ = untangle(graph, start)
    weights = edge_weights(graph.lengths)
    laplacian = _laplacian(graph, weights, start.shape[1])
    layout, iterations, converged = bend(graph, layout, weights, laplacian, _settled(graph, SETTLED))
    return layout, steps + iterations, converged


def _laplacian(graph: NeighborGraph, weights: FloatArray, dim: int) -> GraphLaplacian:
    return graph_laplacian(len(graph.rows), graph.i, graph.j, weights, graph.windings, graph.rows, dim=dim)


def _centred(graph: NeighborGraph, layout: FloatArray) -> FloatArray:
    moved, n = layout.copy(), len(graph.rows)
    moved[:n] -= layout[:n].mean(axis=0)
    return moved


def _settled(graph: NeighborGraph, tolerance: float) -> float:
    """Moves below this have settled: a share of the median length."""
    return tolerance * float(np.median(graph.lengths)) if len(graph.lengths) else 0.0


def edge_misfits(graph: NeighborGraph, layout: FloatArray) -> FloatArray:
    """abs(norm(step) - length) / length, (e,)."""
    norm = np.linalg.norm(graph.steps(layout), axis=1)
    misfit: FloatArray = np.abs(norm - graph.lengths) / np.maximum(graph.lengths, np.finfo(float).tiny)
    return misfit


def _caught(graph: NeighborGraph, layout: FloatArray) -> NDArray[np.bool_]:
    """Samples with misfits far above the usual, and their neighbours."""
    misfit = edge_misfits(graph, layout)
    worst = np.zeros(len(graph.rows))
    np.maximum.at(worst, graph.i, misfit)
    np.maximum.at(worst, graph.j, misfit)
    caught = worst > max(CAUGHT, 10.0 * float(np.median(worst)))
    around: NDArray[np.bool_] = caught | (graph.matrix(np.ones(len(graph.i))) @ caught > 0)
    return around if caught.any() else caught


def _harmonic(graph: NeighborGraph, layout: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """The layout with the free samples placed where each is the mean of its neighbours."""
    n = len(graph.rows)
    known = layout.copy()
    known[:n][free] = 0.0
    pull = graph.steps(known)
    ends = np.concatenate([graph.i, graph.j])
    right: FloatArray = np.array([np.bincount(ends, np.concatenate([x, -x]), minlength=n) for x in pull.T]).T
    inner = free[graph.i] & free[graph.j]
    degree = np.bincount(ends, minlength=n)
    anchors = degree - np.bincount(ends, np.tile(inner, 2), minlength=n) + 1e-9 * degree
    place = np.cumsum(free) - 1
    i, j = place[graph.i[inner]], place[graph.j[inner]]
    placed = layout.copy()
    placed[:n][free] = anchored_solution(int(free.sum()), i, j, np.ones(len(i)), anchors[free], right[free])
    return placed


def relative_stress(graph: NeighborGraph, layout: FloatArray) -> float:
    """sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2)."""
    norm = np.linalg.norm(graph.steps(layout), axis=1)
    total = max(float((graph.lengths**2).sum()), np.finfo(float).tiny)
    return float(np.sqrt(((norm - graph.lengths) ** 2).sum() / total))


def moved_by_misfits(graph: NeighborGraph, layout: FloatArray) -> float:
    """Relative error of a layout of least stress if every length is off by what it is missed by, all to one side.

    To first order. A few lengths that are wrong by tens of percent make a stress as large as many that are wrong by a few,
    and hardly move what the others hold; misfits of one sign, as those of lengths that bend or that jump over a fold, move more
    than independent ones.
    """
    n, weights = len(graph.rows), edge_weights(graph.lengths)
    laplacian = graph_laplacian(n, graph.i, graph.j, weights, graph.windings, graph.rows, dim=layout.shape[1])
    missed = np.abs(np.linalg.norm(graph.steps(layout), axis=1) - graph.lengths)
    move, offsets = (x[:n] - x[:n].mean(axis=0) for x in (response(graph, layout, weights, laplacian, missed), layout))
    # What a small rotation does is no error: the antisymmetric part of the best linear map from the layout to its move.
    linear = np.linalg.lstsq(offsets, move, rcond=None)[0]
    move -= offsets @ (0.5 * (linear - linear.T))
    return float(np.linalg.norm(move) / max(float(np.linalg.norm(offsets)), np.finfo(float).tiny))


def edge_weights(lengths: FloatArray) -> FloatArray:
    """Weights of the stress: short edges count more, because the error of a length grows like its third power.

    The inverse first power takes up part of that; higher ones would, but slow the refinement down many times.
    """
    middle = float(np.median(lengths)) if len(lengths) else 1.0
    weights: FloatArray = middle / np.maximum(lengths, 0.1 * middle)
    return weights
