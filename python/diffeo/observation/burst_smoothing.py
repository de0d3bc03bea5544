"""Metrics averaged over neighbouring samples, which takes most of the noise out of burst covariances."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray, integer
from diffeo._support.point_tree import PointTree
from diffeo._support.progress import stage
from diffeo._support.threads import thread_count
from diffeo.observation.observation import Observation
from diffeo.observation.tree import build_tree

_logger = logging.getLogger("diffeo")

# Neighbourhood sizes among which leave-one-out prediction chooses.
SIZES = (16, 32, 64, 128)
# The first pass only has to find neighbours for the second.
FIRST_SIZE = 32
# Variance after the last pass over that before it, for which it removes most of the bias: 1.24 to 1.41 were measured in two
# and three dimensions.
TWICED = 1.3
# Samples on which the sizes are compared.
TRIAL_SAMPLES = 1000
# Frames whose transport T has norm(T^T T - 1) above this are of another sheet or beyond a bend (60 degrees) ...
MAX_TURN = 0.75
# ... and so are neighbours with more than this share of their squared distance outside of the tangent space.
MAX_OFF_TANGENT = 0.3
# Steps of Newton and Schulz to the nearest rotation: the gates leave it little to do.
POLAR_STEPS = 3
# A linear fit that falls below this share of the plain average in any direction has been extrapolated too far.
LEAST_SHARE = 0.25
# Pairs of samples, times measurements and dimensions, that are worked on at a time, and those kept in all.
CHUNK = 1 << 22
MAX_PAIRS = 1 << 25


def smoothed(observation: Observation, *, n_neighbors: int | str = "auto", n_jobs: int | None = None) -> Observation:
    """Average the local metric of each sample over its neighbours.

    The covariance of a burst of K members is off by about sqrt(2/K), independently at each sample, while the true
    one varies smoothly. In the frame of sample i, that of its neighbour j is R_ij Sigma_j^2 R_ij^T, with R_ij the rotation
    nearest to U_i^T U_j (parallel transport); a local linear fit of these over N neighbours, weighted by
    1 - (distance/bandwidth)^2, gives the smoothed covariance at i. Neighbours are nearest in the space of measurements
    at first, then by the squared Mahalanobis distance q of the metric found with them, so that they are not chosen by
    the noise of their own metric. Last, the covariances are seen through the whitening V of the smoothed ones,
    where V_i^T C_i V_i = 1 but for noise and for the bias of the average, and averaged again over 2N neighbours,
    transported by the rotation nearest to V_i^T pinv(V_j^T): this takes out most of the bias, which is large where the
    network stretches one direction far more than another.

    Parameters
    ----------
    observation : Observation
    n_neighbors : int or "auto"
        N, the sample itself included. "auto" takes that of 16, 32, 64 and 128 which predicts the covariances left out
        best (Stein's loss).
    n_jobs : int, optional
        Threads of the neighbour searches.

    Returns
    -------
    Observation
        The same samples with the smoothed whitening and singular values, ``source="smoothed"``. Its `length_noise`
        counts what noise is left. Fewer than 16 samples, and with "auto" anything but bursts, come back as they are.

    Notes
    -----
    Local linear fits: Fan and Gijbels, Local polynomial modelling and its applications, 1996. Smoothing what a first
    smoothing leaves: "twicing", Tukey, Exploratory data analysis, 1977.

    The error of the input recovered by `IsometricEmbedding`, in percent (``python -m bench.bench_bursts``: unit
    square, five measurements, 10,000 samples, scale 0.0058; Jacobians 0.0002), by the metric used: "plain" has the
    inverse of the sample covariance, "corrected" that without its bias, which is what `Observation.whitening` holds,
    "smoothed" is this. On the right each member has noise of 0.2 times the scale, with
    ``shrinkage="optimal"`` before the smoothing in the last column (bursts of 8 are refused there: some directions
    drown). Without shrinkage no burst size helps against it.

    ===  =====  =========  ========  =========  ========  ========
    K    plain  corrected  smoothed  corrected  smoothed  shrunken
    ===  =====  =========  ========  =========  ========  ========
    8     3.66      25.64      1.21      26.58      6.09         -
    12    1.70      14.84      0.81      17.65      4.42      0.93
    20    0.94       8.24      0.53      11.24      3.96      0.60
    32    0.64       5.04      0.50       8.04      4.04      0.61
    64    0.46       2.33      0.33       5.42      3.60      0.38
    128   0.35       1.15      0.24       4.30      3.40      0.25
    320   0.24       0.51      0.14       3.68      3.29      0.15
    ===  =====  =========  ========  =========  ========  ========

    Edges are chosen by the smallest q, hence by the noise of it: that is why the unbiased metric alone is worse than the
    biased one, whose errors cancel here by luck, and why smoothing repairs both. The finite size of a burst adds an
    error that grows like scale^2: smoothed bursts of 128 were off by 0.4 % up to a scale of 0.04 of the side of
    the square, by 0.8 % at 0.08 and 2.9 % at 0.16 (3,000 samples).
    """
    n_threads = thread_count(n_jobs)
    rows = observation.usable
    n = len(rows)
    chosen = None if n_neighbors == "auto" else integer(n_neighbors, "n_neighbors", 1)
    if n < SIZES[0] or (chosen is None and observation.source != "bursts"):
        return observation
    metric = _Metric(observation)
    size = min(n, FIRST_SIZE)
    distances, neighbors = PointTree(metric.points).query(metric.points, size, workers=n_threads or -1)
    fitted, shares = metric.fit_all(neighbors, distances)
    first = _with_covariances(observation, metric, fitted, shares)
    largest = max(SIZES[0], min(SIZES[-1] if chosen is None else chosen, n // 4, MAX_PAIRS // n))
    neighbors, distances = _nearest_by_metric(first, largest, n_threads)
    if chosen is None:
        chosen = _best_size(metric, neighbors, distances)
        _logger.info("metrics are averaged over %d neighbours", chosen)
    fitted, shares = metric.fit_all(neighbors[:, :chosen], distances[:, :chosen])
    second = _with_covariances(observation, metric, fitted, shares)
    metric = _Metric(observation, second)
    neighbors, distances = _nearest_by_metric(second, max(SIZES[0], min(2 * chosen, n // 4, MAX_PAIRS // n)), n_threads)
    fitted, _ = metric.fit_all(neighbors[:, : 2 * chosen], distances[:, : 2 * chosen])
    return replace(_with_covariances(observation, metric, fitted, TWICED * shares), source="smoothed")


class _Metric:
    """Usable samples with their covariances in local frames, and the averages around each.

    Frames are the tangent directions U_i, or the whitening V_i of a reference metric; `dual` is pinv(V_i)^T, so that
    C_i = dual_i covariances_i dual_i^T. Both are stored transposed, (n, d, m).
    """

    def __init__(self, observation: Observation, reference: Observation | None = None) -> None:
        rows, d = observation.usable, observation.dim
        whitening = observation.whitening[rows]
        self.points = np.ascontiguousarray(observation.points[rows])
        self.squared = observation.singular_values[rows, :d] ** 2
        self.tangents = reference is None
        directions = np.ascontiguousarray((whitening / np.linalg.norm(whitening, axis=1)[:, None]).transpose(0, 2, 1))
        if reference is None:
            self.frames = self.dual = directions
            self.covariances = self.squared[:, :, None] * np.eye(d)
            return
        stretches = reference.singular_values[rows, :d]
        dual = reference.whitening[rows] / np.linalg.norm(reference.whitening[rows], axis=1)[:, None]
        self.frames = np.ascontiguousarray((dual / stretches[:, None]).transpose(0, 2, 1))
        self.dual = np.ascontiguousarray((dual * stretches[:, None]).transpose(0, 2, 1))
        factor = self.frames @ directions.transpose(0, 2, 1) * np.sqrt(self.squared)[:, None]
        self.covariances = factor @ factor.transpose(0, 2, 1)

    def fit(self, rows: IntArray, neighbors: IntArray, distances: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Covariances (c, d, d) in the frames of `rows`, and the shares (c, k) of the neighbours in them.

        Rows of `neighbors` begin with the sample itself; missing ones are negative.
        """
        c, k = neighbors.shape
        d, m = self.frames.shape[1:]
        own = self.frames[rows]
        turn = (self.dual[neighbors].reshape(c, k * d, m) @ own.transpose(0, 2, 1)).reshape(c, k, d, d)
        turn = turn.transpose(0, 1, 3, 2)
        offset = self.points[neighbors] - self.points[rows, None]
        local = offset @ own.transpose(0, 2, 1)
        rotation, turned = _nearest_rotations(turn)
        near = (neighbors >= 0) & (turned <= MAX_TURN)
        if self.tangents:
            near &= (local**2).sum(axis=2) >= (1.0 - MAX_OFF_TANGENT) * (offset**2).sum(axis=2)
        near[:, 0] = True
        rotation[~near] = 0.0
        there = np.einsum("ckab,ckbf,ckef->ckae", rotation, self.covariances[neighbors], rotation, optimize=True)
        # A little beyond the farthest, which would otherwise not count at all.
        bandwidth = 1.1 * np.where(neighbors >= 0, distances, 0.0).max(axis=1, keepdims=True)
        closeness = np.where(near, distances, 0.0) / np.maximum(bandwidth, np.finfo(float).tiny)
        weights = near * (1.0 - closeness**2)
        flat = there.reshape(c, k, d * d)
        average_shares = weights / weights.sum(axis=1, keepdims=True)
        average = np.einsum("ck,cke->ce", average_shares, flat).reshape(c, d, d)
        shares = _linear_shares(local, weights)
        linear = np.einsum("ck,cke->ce", shares, flat).reshape(c, d, d)
        poor = ~_at_least(linear, LEAST_SHARE * average)
        shares[poor], linear[poor] = average_shares[poor], average[poor]
        return linear, shares

    def chunks(self, rows: IntArray, k: int) -> Iterator[slice]:
        """Slices of `rows` that fit into a bounded amount of memory."""
        d, m = self.frames.shape[1:]
        step = max(1, CHUNK // (k * d * max(m, d)))
        yield from (slice(start, start + step) for start in range(0, len(rows), step))

    def fit_all(self, neighbors: IntArray, distances: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Covariances (n, d, d) of all samples, and the sums of squared shares (n,): 1/N for a plain average of N."""
        rows = np.arange(len(self.points))
        fitted, concentration = [], []
        with stage("smoothing") as report:
            for part in self.chunks(rows, neighbors.shape[1]):
                report(part.start, len(rows))
                covariances, shares = self.fit(rows[part], neighbors[part], distances[part])
                fitted.append(covariances)
                concentration.append((shares**2).sum(axis=1))
        return np.concatenate(fitted), np.concatenate(concentration)


def _nearest_rotations(turn: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Orthogonal factors (..., d, d) of polar decompositions T, by Newton and Schulz, and norm(T^T T - 1), (...).

    Where the norm is at most MAX_TURN, the singular values lie between 0.5 and 1.33, from where it converges.
    """
    # Pairs along the last axis: products of small matrices are then sums of long vectors, several times as fast.
    x = np.ascontiguousarray(np.moveaxis(turn, (-2, -1), (0, 1)))
    for step in range(POLAR_STEPS):
        gram = np.einsum("ea...,eb...->ab...", x, x)
        if step == 0:
            unit = np.eye(len(x)).reshape(len(x), len(x), *(1,) * (x.ndim - 2))
            turned: FloatArray = np.sqrt(((gram - unit) ** 2).sum(axis=(0, 1)))
            # What is too far to be used must not overflow either.
            x = np.where(turned <= MAX_TURN, x, 0.0)
        x = 1.5 * x - 0.5 * np.einsum("ae...,eb...->ab...", x, gram)
    return np.ascontiguousarray(np.moveaxis(x, (0, 1), (-2, -1))), turned


def _linear_shares(local: FloatArray, weights: FloatArray) -> FloatArray:
    """Shares l_k (c, k) with which values at local coordinates enter the intercept of a weighted linear fit."""
    c, k, d = local.shape
    spread = np.sqrt(np.einsum("ck,cka->ca", weights, local**2) / weights.sum(axis=1, keepdims=True))
    # No neighbour weighs anything beside a sample alone: there is no slope to fit, and nothing to scale.
    scaled = local / np.where(spread > 0, spread, 1.0)[:, None, :]
    design = np.concatenate([np.ones((c, k, 1)), scaled], axis=2)
    weighted = design * weights[:, :, None]
    # Relative to the unit diagonal: neighbours in a line leave a direction without slope, which is then not fitted.
    normal = weighted.transpose(0, 2, 1) @ design / weights.sum(axis=1)[:, None, None] + 1e-8 * np.eye(1 + d)
    # Of three axes like `normal`: NumPy before 2 takes (1 + d, 1) for vectors, one a matrix.
    first = np.linalg.solve(normal, np.eye(1 + d)[None, :, :1])[:, :, 0] / weights.sum(axis=1, keepdims=True)
    shares: FloatArray = np.einsum("cka,ca->ck", weighted, first)
    return shares


def _at_least(covariances: FloatArray, floor: FloatArray) -> NDArray[np.bool_]:
    """Whether C - floor is positive definite."""
    smallest: NDArray[np.bool_] = np.linalg.eigvalsh(covariances - floor)[:, 0] > 0.0
    return smallest


def _nearest_by_metric(observation: Observation, k: int, n_threads: int) -> tuple[IntArray, FloatArray]:
    """The sample itself and its k - 1 nearest by q within the gates, (n, k); missing ones are -1 at distance 0."""
    tree = build_tree(observation, n_threads)
    found, squared = tree.nearest_neighbors(k - 1, n_threads)
    order = np.asarray(tree.order, dtype=np.int64)
    neighbors = np.empty((tree.size, k), dtype=np.int64)
    distances = np.zeros((tree.size, k))
    neighbors[order, 0] = order
    neighbors[order, 1:] = np.where(found >= 0, order[found], -1)
    distances[order, 1:] = np.sqrt(np.where(found >= 0, squared, 0.0))
    return neighbors, distances


def _best_size(metric: _Metric, neighbors: IntArray, distances: FloatArray) -> int:
    """The neighbourhood size that predicts left-out covariances best.

    Stein's loss tr(S C^-1) + log det C of a covariance S predicted as C is smallest for the true one. Leaving
    sample i out of its own linear fit changes the result to (C - l_ii S)/(1 - l_ii).
    """
    n = len(metric.points)
    trial = np.unique(np.linspace(0, n - 1, min(n, TRIAL_SAMPLES)).astype(np.int64))
    losses = []
    sizes = [size for size in SIZES if size <= neighbors.shape[1]]
    for size in sizes:
        loss = np.empty(len(trial))
        for part in metric.chunks(trial, size):
            rows = trial[part]
            own = metric.covariances[rows]
            fitted, shares = metric.fit(rows, neighbors[rows, :size], distances[rows, :size])
            left_out = (fitted - shares[:, :1, None] * own) / np.maximum(1.0 - shares[:, 0], 1e-3)[:, None, None]
            values, vectors = np.linalg.eigh(left_out)
            # Left-out fits of the sparsest corners may not be positive: that is a bad prediction, not an error.
            values = np.maximum(values, 1e-2 * metric.squared[rows, -1:])
            inside = np.einsum("cab,ca,cab->cb", vectors, metric.squared[rows], vectors)
            loss[part] = (inside / values + np.log(values)).sum(axis=1)
        losses.append(loss)
    best = int(np.argmin(np.mean(losses, axis=1)))
    return sizes[best]


def _with_covariances(
    observation: Observation, metric: _Metric, covariances: FloatArray, concentration: FloatArray
) -> Observation:
    """The observation with these covariances (n, d, d) in the frames of its usable samples.

    The smoothed covariance has nu / concentration degrees of freedom if each sample has nu; the bias of its inverse,
    (nu - d - 1)/nu, is removed from the whitening as for single bursts.
    """
    rows, d = observation.usable, observation.dim
    values, vectors = np.linalg.eigh(covariances)
    factor = np.einsum("nam,nab->nmb", metric.dual, vectors * np.sqrt(values)[:, None])
    squared, vectors = np.linalg.eigh(factor.transpose(0, 2, 1) @ factor)
    stretches = np.sqrt(squared[:, ::-1])
    directions = factor @ vectors[:, :, ::-1] / stretches[:, None]
    degrees_of_freedom = observation.degrees_of_freedom.copy()
    degrees_of_freedom[rows] = freedom = observation.degrees_of_freedom[rows] / concentration
    gain = np.sqrt(np.maximum(1.0 - (d + 1) / freedom, np.finfo(float).eps))
    whitening, singular_values = observation.whitening.copy(), observation.singular_values.copy()
    whitening[rows] = directions * (gain[:, None] / stretches)[:, None, :]
    singular_values[rows, :d] = stretches
    # Smoothing may lift or lower a value past those of the normal directions, which stay as they were.
    singular_values[rows, d:] = np.minimum(singular_values[rows, d:], stretches[:, -1:])
    return replace(
        observation, whitening=whitening, singular_values=singular_values, degrees_of_freedom=degrees_of_freedom
    )
