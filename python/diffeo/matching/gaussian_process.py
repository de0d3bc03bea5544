"""A Gaussian process whose every landmark can be left out in closed form: fitted, judged and evaluated on plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.dense import cholesky, cholesky_solve, triangular_solve

# The noise falls in these stages (the last one is free), each from where the one before ended: started at its final
# size the likelihood is so steep that the first step of the search leaves the region where it can be evaluated.
NOISE_STAGES = (1e-3, 1e-6, 1e-9, None)
# In units of the targets' variance. Below it the covariance of some hundred landmarks has no Cholesky factor.
NOISE_RANGE = (1e-12, 1e-1)
AMPLITUDE_RANGE = (1e-3, 1e5)
# Noise that is known of the targets may be this many times smaller, and larger, than it is said to be.
KNOWN_SMALLER, KNOWN_LARGER = 2.0, 3.0
# Length scales, in standard deviations of each input, and where the search starts.
LENGTH_RANGE = (1e-2, 1e3)
START_LENGTH = 3.0
# A wide log-normal prior on length scales: ten points say little of seven scales, and a likelihood without it can
# end at scales so short that nothing is predicted.
PRIOR_LENGTH, PRIOR_LOG_VARIANCE = 10.0, 5.0
# Steps of the search in each stage.
MAX_STEPS = 40
# Stands for the value where rounding leaves the kernel matrix indefinite; finite, or the line search fails on it.
INDEFINITE = 1e6
# Landmarks that the search sees: its cost grows with their cube, what they say of a few scales does not grow.
SEARCHED = 400
# Tenfold increases of the noise until the kernel matrix can be factored.
FACTOR_ROUNDS = 30


@dataclass(frozen=True, eq=False)
class Process:
    """Squared-exponential process, k(x, x') = amplitude exp(-norm(s * (x - x'))^2 / 2) + noise [x = x'].

    Attributes
    ----------
    inputs : ndarray of shape (L, f)
    inverse_scales : ndarray of shape (f,)
        s, per unit of each input.
    amplitude, noise : float
        In units of the variance of the targets.
    offset, spread : ndarray of shape (m,)
        Mean and standard deviation of the targets.
    dual : ndarray of shape (L, m)
        Coefficients of the kernel sections, in units of the targets.
    """

    inputs: FloatArray
    inverse_scales: FloatArray
    amplitude: float
    noise: float
    offset: FloatArray
    spread: FloatArray
    dual: FloatArray

    def left_out(self, groups: list[IntArray] | None = None) -> tuple[FloatArray, FloatArray]:
        """Residuals (L, m) of each target predicted from the others, and their variances (L, m).

        With `groups`, which hold each landmark once, from those that are not in its group. Rasmussen and Williams, Gaussian
        Processes for Machine Learning (2006), equations 5.10 to 5.12; of a group, with its block of the inverse matrix in the
        place of a diagonal entry.
        """
        factor = kernel_factor(self.inputs, self.inverse_scales, self.amplitude, self.noise)
        precision = cholesky_solve(factor, np.eye(len(factor)))
        if groups is None:
            own = np.diag(precision)[:, None]
            return self.dual / own, self.spread**2 / own
        missed, variances = np.empty_like(self.dual), np.empty_like(self.dual)
        for rows in groups:
            covariance = np.linalg.inv(precision[np.ix_(rows, rows)])
            missed[rows] = covariance @ self.dual[rows]
            variances[rows] = np.diag(covariance)[:, None] * self.spread**2
        return missed, variances


def fit_process(inputs: FloatArray, targets: FloatArray, searched: int = SEARCHED, known: float = 0.0) -> Process:
    """Fit a process with one length scale per input, at largest posterior density; every output shares the kernel.

    Parameters
    ----------
    inputs : ndarray of shape (L, f)
    targets : ndarray of shape (L, m)
    searched : int
        Landmarks that the search of the scales sees, evenly spaced.
    known : float
        Variance of the targets' noise, as far as it is known, in units of theirs.

    Returns
    -------
    Process
        Equal arguments give equal bits: the search is deterministic.
    """
    unit = _or_one(inputs.std(axis=0))
    offset, spread = targets.mean(axis=0), targets.std(axis=0)
    z, standard = (inputs - inputs.mean(axis=0)) / unit, (targets - offset) / _or_one(spread)
    seen = np.linspace(0, len(z) - 1, min(len(z), searched)).astype(np.int64)
    amplitude, *inverse_scales, noise = np.exp(_search(z[seen], standard[seen], known))
    scales = np.array(inverse_scales)
    factor = kernel_factor(z, scales, amplitude, noise)
    dual = cholesky_solve(factor, standard) * spread
    return Process(inputs, scales / unit, float(amplitude), float(noise), offset, spread, dual)


def sections(queries: FloatArray, inputs: FloatArray, inverse_scales: FloatArray, amplitude: float) -> FloatArray:
    """Kernel k(query, input) without noise, (count, L)."""
    # A query so far away that it overflows has no kernel with any input, as it should be.
    with np.errstate(over="ignore"):
        scaled = [np.ascontiguousarray(x * inverse_scales) for x in (queries, inputs)]
    kernel: FloatArray = amplitude * np.exp(-0.5 * cdist(*scaled, "sqeuclidean"))
    return kernel


def kernel_factor(inputs: FloatArray, inverse_scales: FloatArray, amplitude: float, noise: float) -> FloatArray:
    """Lower Cholesky factor (L, L) of the kernel matrix; where rounding leaves it indefinite, of one with more noise."""
    kernel = sections(inputs, inputs, inverse_scales, amplitude)
    noise = max(noise, np.finfo(float).eps * amplitude)
    # Rounding is far below the size of the kernel: a few rounds suffice.
    for _ in range(FACTOR_ROUNDS):
        try:
            return cholesky(kernel + noise * np.eye(len(kernel)))
        except LinAlgError:
            noise *= 10.0
    raise errors.NonFiniteError("the kernel matrix of a Gaussian process cannot be factored: its inputs are not finite")


def explained(factor: FloatArray, kernel: FloatArray) -> FloatArray:
    """Variance (count,) that the landmarks take away at queries with these kernel sections (count, L)."""
    half = triangular_solve(factor, kernel.T)
    variance: FloatArray = (half**2).sum(axis=0)
    return variance


def negative_log_posterior(theta: FloatArray, z: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
    """Per target and up to a constant, with its gradient, at the logarithms of amplitude, inverse scales and noise.

    With K = Q Q^T, A = K^-1 T and G = (m K^-1 - A A^T) / 2 the derivative along any parameter is sum(G * dK); along a
    scale it needs sums over i and j of W_ij (z_i - z_j)^2 only, which are products of W with vectors, so that no
    (L, L, f) array of distances is built.
    """
    amplitude, scales, noise = np.exp(theta[0]), np.exp(theta[1:-1]), np.exp(theta[-1])
    kernel = sections(z, z, scales, amplitude)
    try:
        factor = cholesky(kernel + noise * np.eye(len(z)))
    except LinAlgError:
        return INDEFINITE, np.zeros_like(theta)
    inverse = cholesky_solve(factor, np.eye(len(z)))
    dual = inverse @ targets
    m = targets.shape[1]
    deviation = theta[1:-1] + np.log(PRIOR_LENGTH)
    value = 0.5 * float((targets * dual).sum()) + m * float(np.log(np.diag(factor)).sum())
    value += 0.5 * float((deviation**2).sum()) / PRIOR_LOG_VARIANCE
    g = 0.5 * (m * inverse - dual @ dual.T)
    w = g * kernel
    along = 2.0 * (w.sum(axis=1) @ z**2 - (z * (w @ z)).sum(axis=0))
    gradient = np.concatenate([[w.sum()], deviation / PRIOR_LOG_VARIANCE - scales**2 * along, [noise * np.trace(g)]])
    return value / targets.size, gradient / targets.size


def _search(z: FloatArray, targets: FloatArray, known: float) -> FloatArray:
    """Logarithms of amplitude, inverse scales and noise of largest posterior density, by continuation in the noise."""
    least = max(NOISE_RANGE[0], known / KNOWN_SMALLER)
    noise_range = least, max(NOISE_RANGE[1], KNOWN_LARGER * known)
    lengths = (1.0 / LENGTH_RANGE[1], 1.0 / LENGTH_RANGE[0])
    bounds = np.log([AMPLITUDE_RANGE, *[lengths] * z.shape[1], noise_range])
    theta: FloatArray = np.log(np.array([1.0, *[1.0 / START_LENGTH] * z.shape[1], NOISE_STAGES[0]]))
    for stage in NOISE_STAGES:
        limits = bounds.copy()
        if stage is not None:
            theta[-1] = limits[-1] = np.log(max(stage, least))
        found = minimize(
            negative_log_posterior,
            theta,
            args=(z, targets),
            jac=True,
            method="L-BFGS-B",
            bounds=limits,
            options={"maxiter": MAX_STEPS},
        )
        theta = np.asarray(np.clip(found.x, limits[:, 0], limits[:, 1]), dtype=np.float64)
    return theta


def _or_one(spread: FloatArray) -> FloatArray:
    """Spreads, and 1 in place of those that vanish."""
    usable: FloatArray = np.where(spread > 0.0, spread, 1.0)
    return usable
