"""Where common inputs lie among each other, from one side's derivatives alone: steps between neighbours, joined."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diffeo._support.arrays import FloatArray
from diffeo.observation.observation import Observation
from diffeo.verdict.common.seen_inputs import LocalMetric

# Neighbours of each input, for each dimension and one more, whose steps are joined.
STEPS = 4
# Steps that fit together to this share of their lengths, in the median, are of one set of coordinates.
AGREEMENT = 0.1
# The relative error of a step whose ends agree.
LEAST_ERROR = 0.01


def inputs_joined(observation: Observation, points: FloatArray, jacobians: FloatArray) -> FloatArray | None:
    """Inputs (n, p), up to a shift, from measurements (n, m) and derivatives (n, m, p) by the same p coordinates.

    The step from i to j is 1/2 (J_i^+ + J_j^+) (y_j - y_i), but for terms of third order, which grow with the square of how far
    both ends disagree. Least squares over the steps between near inputs, weighted by that, are a Poisson equation on the graph
    of neighbours. None where steps do not fit together, as along tangents that each input has its own, or where the graph is
    not connected.
    """
    n, _, p = jacobians.shape
    k = min(n - 1, STEPS * (p + 1))
    if p == 0 or k < 1:
        return None
    lengths = LocalMetric(observation, points).lengths
    near = np.argsort(lengths, axis=1, kind="stable")[:, :k]
    first = np.repeat(np.arange(n), k)
    second = near.ravel()
    known = np.isfinite(lengths[first, second])
    first, second = first[known], second[known]
    joined = coo_array((np.ones(len(first)), (first, second)), shape=(n, n))
    if connected_components(joined, directed=False)[0] > 1:
        return None
    inputs = np.linalg.pinv(jacobians)
    ends = [np.einsum("epm,em->ep", inputs[at], points[second] - points[first]) for at in (first, second)]
    steps = 0.5 * (ends[0] + ends[1])
    sizes = np.maximum(np.linalg.norm(steps, axis=1), np.finfo(float).tiny)
    bent = np.linalg.norm(ends[1] - ends[0], axis=1) / sizes
    weights = 1.0 / (sizes * (LEAST_ERROR + bent**2)) ** 2
    laplacian, right = np.zeros((n, n)), np.zeros((n, p))
    for a, b, sign in ((first, second, -1.0), (second, first, 1.0)):
        np.add.at(laplacian, (a, a), weights)
        np.add.at(laplacian, (a, b), -weights)
        np.add.at(right, a, sign * weights[:, None] * steps)
    # Constants are all that the Laplacian of a connected graph does not see.
    found: FloatArray = np.linalg.solve(laplacian + np.trace(laplacian) / n**2, right)
    missed = np.linalg.norm(found[second] - found[first] - steps, axis=1)
    return found if float(np.median(missed / sizes)) < AGREEMENT else None
