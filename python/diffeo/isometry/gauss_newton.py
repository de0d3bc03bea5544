"""The end of a refinement: Gauss-Newton steps on the stress, which bend long thin layouts back where majorisation creeps."""

from __future__ import annotations

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.threads import workers
from diffeo.isometry.graph import NeighborGraph
from diffeo.isometry.laplacian import GraphLaplacian, Solve

# Steps; 8 to 15 settle from a layout without folds.
MAX_STEPS = 40
# Conjugate gradients reduce the residual of a step by this factor (in 7 to 40 iterations mostly), at most so many in a step.
REDUCTION = 0.1
MAX_ITERATIONS = 200
# A response to errors has its softest part last, goes on to this, and is damped by less.
RESPONSE_REDUCTION, RESPONSE_DAMPING = 1e-4, 1e-8
# No step begins after so many iterations in all; 200 to 500 were measured on arms an eighth as wide as long.
ENOUGH_ITERATIONS = 1000
# Damping in units of the Laplacian: at first; its factors after a step that halved the stress, that lowered it, and that
# did not; and its bounds. At 1 a step is shorter than that of majorisation.
DAMPING = 0.1
HALVED, LOWERED, RAISED = 0.1, 0.2, 5.0
LEAST_DAMPING, MOST_DAMPING = 1e-5, 10.0
# After so many steps, those that together gain less than this share of the stress over so many are the last: where false
# lengths leave stress, layouts wander on its floor. They have settled if the last move was below so many of the tolerance.
PATIENCE, FLOOR_STEPS, FLOOR_GAIN, FLOOR_SETTLED = 12, 6, 1e-4, 100.0
# Where more than this relative stress is left and the median misfit is below that share of it, a few lengths are wrong. The
# softest bends of a layout then follow them, at hardly a gain and away from the truth as often as towards it: steps that
# together gain less than so much of the stress, damped by no more than this, are the last.
WRONG_LENGTHS, FEW_WRONG = 0.004, 0.1
WRONG_STEPS, WRONG_GAIN, WRONG_DAMPING = 2, 0.02, 1e-3
# Damping goes no lower there: bends softer than that are left to the right lengths that majorisation has followed.
WRONG_LEAST_DAMPING = 1e-4
# A stress that grows by less than this share has not grown: rounding.
ROUNDING = 1e-12


def bend(
    graph: NeighborGraph,
    layout: FloatArray,
    weights: FloatArray,
    laplacian: GraphLaplacian,
    settled: float,
    *,
    damping: float = DAMPING,
    max_steps: int = MAX_STEPS,
) -> tuple[FloatArray, int, bool]:
    """Minimise sum_edges w (norm(step) - length)^2 by damped Gauss-Newton steps, from a layout near a minimum.

    A majorisation step costs an arm of length L and width w that is bent only (w / L)^2 of its misfit, so that the
    refinement creeps. With unit vectors u_e along the edges, a step x here solves (G + mu K) x = -gradient, where
    G = B^T diag(w u u^T) B, K = B^T diag(w) B the Laplacian, and mu is the damping of Levenberg and Marquardt. Because
    0 <= G <= K, conjugate gradients preconditioned with K need some sqrt(1 / mu) iterations, whatever the number of
    samples; `laplacian` solves with K, or nearly so, once an iteration.

    Parameters
    ----------
    graph : NeighborGraph
    layout : ndarray of shape (n + k, d)
    weights : ndarray of shape (e,)
    laplacian : GraphLaplacian
        With these weights.
    settled : float
        No coordinate moves by more than this in the last step.
    damping : float
        Of the first step.
    max_steps : int

    Returns
    -------
    layout : ndarray of shape (n + k, d)
        Never of higher stress.
    iterations : int
        Solutions with the Laplacian, in all.
    converged : bool
    """
    forces = _forces(graph, weights)
    total = 0
    unit, miss = _directions(graph, layout)
    stress = float((weights * miss**2).sum())
    history = [stress]
    for _ in range(max_steps):
        right = -forces.gradient(layout, workers())[0]
        step, iterations = _step(right, forces, unit, laplacian.correct, damping)
        total += iterations
        trial = layout + step
        trial_unit, trial_miss = _directions(graph, trial)
        trial_stress = float((weights * trial_miss**2).sum())
        if trial_stress <= (1.0 + ROUNDING) * stress:
            halved = trial_stress < 0.5 * stress
            layout, unit, miss, stress = trial, trial_unit, trial_miss, trial_stress
            if np.abs(step).max(initial=0.0) <= settled:
                return layout, total, True
            damping = max((HALVED if halved else LOWERED) * damping, LEAST_DAMPING)
            if damping < WRONG_LEAST_DAMPING and held_up_by_few(graph, layout):
                damping = WRONG_LEAST_DAMPING
        else:
            if damping <= WRONG_DAMPING and held_up_by_few(graph, layout):
                return layout, total, True
            damping *= RAISED
        history.append(stress)
        gain = history[max(0, len(history) - 1 - FLOOR_STEPS)] - stress
        if len(history) > PATIENCE and gain <= FLOOR_GAIN * stress:
            return layout, total, bool(np.abs(step).max(initial=0.0) <= FLOOR_SETTLED * settled)
        if damping <= WRONG_DAMPING and len(history) > WRONG_STEPS:
            gain = history[-1 - WRONG_STEPS] - stress
            if gain <= WRONG_GAIN * stress and held_up_by_few(graph, layout):
                return layout, total, True
        if damping > MOST_DAMPING or total > ENOUGH_ITERATIONS:
            break
    return layout, total, False


def held_up_by_few(graph: NeighborGraph, layout: FloatArray) -> bool:
    """Whether few wrong lengths hold the stress of a layout up, which is not bent or folded as a whole."""
    miss = np.abs(_directions(graph, layout)[1])
    relative = float(np.sqrt((miss**2).sum() / max(float((graph.lengths**2).sum()), np.finfo(float).tiny)))
    return relative > WRONG_LENGTHS and float(np.median(miss)) <= FEW_WRONG * relative * float(np.median(graph.lengths))


def response(
    graph: NeighborGraph, layout: FloatArray, weights: FloatArray, laplacian: GraphLaplacian, errors: FloatArray
) -> FloatArray:
    """The move (n + k, d) with which a layout of least stress answers small errors (e,) of its lengths, to first order.

    `weights` and `laplacian` as in `bend`.
    """
    unit, _ = _directions(graph, layout)
    right = graph.incidence().T @ (unit * (weights * errors)[:, None])
    return _step(right, _forces(graph, weights), unit, laplacian.correct, RESPONSE_DAMPING, RESPONSE_REDUCTION)[0]


def _forces(graph: NeighborGraph, weights: FloatArray) -> core.Stress:
    return core.Stress(len(graph.rows), graph.i, graph.j, graph.lengths, weights, graph.windings)


def _directions(graph: NeighborGraph, layout: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Unit vectors (e, d) along the edges, and by how much these are too long, (e,)."""
    step = graph.steps(layout)
    norm = np.linalg.norm(step, axis=1)
    return step / np.maximum(norm, np.finfo(float).tiny)[:, None], norm - graph.lengths


def _step(
    right: FloatArray,
    forces: core.Stress,
    unit: FloatArray,
    solve: Solve,
    damping: float,
    reduction: float = REDUCTION,
) -> tuple[FloatArray, int]:
    """Solution (n + k, d) of the damped system by preconditioned conjugate gradients, and the iterations."""
    step = np.zeros_like(right)
    residual = right
    direction = solve(residual)
    size = first = float((residual * direction).sum())
    iterations = 1
    while size > reduction**2 * first and iterations <= MAX_ITERATIONS:
        product = forces.stiffness(unit, damping, direction, workers())
        curvature = float((direction * product).sum())
        if not curvature > 0.0:
            break  # a misfit so small that its square is lost: nothing is left to gain
        along = size / curvature
        step = step + along * direction
        residual = residual - along * product
        smoothed = solve(residual)
        before, size = size, float((residual * smoothed).sum())
        direction = smoothed + (size / before) * direction
        iterations += 1
    return step, iterations
