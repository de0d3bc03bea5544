"""Eigenvalues of the generator from the energy of eigenfunctions on the samples, and how far they can be trusted.

The kernel's own eigenvalues carry its bandwidth, its unit diagonal and its border. Their eigenfunctions hardly do, and the
energy of a function near an eigenfunction is right to second order (Rayleigh and Ritz). `diffeo.reference` states all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo.diffusion.bandwidth import DIMENSION_ROWS, own_share, seen_dimension, what_does_not_fit
from diffeo.diffusion.kernel import Kernel
from diffeo.observation.observation import Observation

# Of a half-space of even density seen by the kernel, in units of sqrt(epsilon), b the distance from its border and p(b) the
# kernel's share within: integral of 1/p - 1, and of |v|^2 / (epsilon p), v the mean of the neighbours weighted by 1/p.
BORDER_EXCESS, BORDER_DRIFT = 0.8286, 0.8712
# The latter's |v|^2 / epsilon on the border itself.
DRIFT_AT_BORDER = 0.9493
# No sample loses more of its weight to the border than this leaves.
LEAST_WEIGHT = 0.05
# Squared slopes are too small by this over the square of the row sum: measured on samples drawn independently, against the
# exact eigenfunctions of circle, square and cube at row sums from 7 to 40 (1.7 to 2.7, but for the cube at 15).
SECOND_ORDER = 2.2
# Covariances of neighbours get this share of 2 epsilon, their own where the domain goes on: thinner than that is flat.
RIDGE = 1e-3
# Eigenvalues below this share of the largest one are 0 for all that can be said.
SMALLEST = 1e-6
# Functions that depend on each other beyond this have no spectrum of their own.
DEPENDENT = 1e-10
# Sampling noise of an eigenvalue, relative, is this times the root of sum z^2 / row sum, z what each sample adds to it.
NOISE = 2.0
# What the stated error is of the deviations found: nine in ten true ones are to be smaller.
COVER = 2.0


@dataclass(frozen=True, eq=False)
class GeneratorSpectrum:
    """Eigenvalues of the generator, ascending, and their expected errors, each (k,); what mixes the functions, (k, k)."""

    values: FloatArray
    errors: FloatArray
    mixing: FloatArray


@dataclass(frozen=True, eq=False)
class _Ritz:
    """Ritz values (k,), their relative noise (k,), and the coefficients (k, k) of their functions, of unit length."""

    values: FloatArray
    noise: FloatArray
    mixing: FloatArray


@dataclass(frozen=True, eq=False)
class _Fits:
    """Local linear fits with the weights k^power / p_j, and the weight of each sample in the integral over the domain."""

    kernel: Kernel
    power: int
    sums: FloatArray
    points: FloatArray
    steps: NDArray[np.float32] | None
    unit: float
    n_threads: int
    shift: FloatArray
    mean: FloatArray
    precision: FloatArray
    weights: FloatArray
    whole: FloatArray
    row_sums: FloatArray

    def fit(self, functions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Smoothed values (n, k) and slopes (n, d, k) of functions (n, k)."""
        k = self.kernel
        arrays = (k.indptr, k.indices, k.values)
        moments = (self.mean, self.precision)
        seen = (self.points, self.steps, self.unit)
        return core.local_slopes(
            *arrays, self.power, k.truncation, self.sums, *seen, *moments, functions, self.n_threads
        )


def generator_spectrum(
    kernel: Kernel, functions: FloatArray, plain: FloatArray, alpha: float, n_threads: int
) -> GeneratorSpectrum:
    """Ritz values of the generator among functions on the samples, from their energy instead of from the kernel's eigenvalues.

    Parameters
    ----------
    kernel : Kernel
    functions : ndarray of shape (n, k)
        Eigenfunctions in tree order, the constant left out.
    plain : ndarray of shape (k,)
        What the eigenvalues of the kernel say, ascending.
    alpha : float
        Density exponent of the operator that they belong to.
    n_threads : int

    Returns
    -------
    GeneratorSpectrum
        The plain ones, with infinite errors, where the functions depend on each other, as where they are nearly as many as
        the samples; infinite where they are.
    """
    points, steps, unit = _seen(kernel, n_threads)
    powers = core.power_sums(kernel.indptr, kernel.indices, kernel.values, kernel.truncation, n_threads)
    dim = points.shape[1] if steps is None else steps.shape[1]
    own = own_share(powers[:, 1], powers[:, 2], dim)
    wide = _fits(kernel, 1, powers[:, 0], points, steps, unit, own, n_threads)
    # The eigenfunctions of P are those of the domain seen through the mean shift of its density: f_i = phi(x_i + shift).
    moved = functions - np.einsum("nd,ndk->nk", wide.shift, wide.fit(functions)[1])
    found = _ritz(wide, wide.row_sums, moved, alpha, own)
    narrow = _fits(kernel, 2, powers[:, 1], points, steps, unit, own, n_threads)
    again = _ritz(narrow, wide.row_sums, moved, alpha, own)
    if found is None or again is None:
        return GeneratorSpectrum(plain.copy(), np.full(len(plain), np.inf), np.eye(len(plain)))
    values = found.values
    apart = np.abs(values - again.values) / _denominators(values)
    # One difference may be small by luck: the others are of its kind.
    apart2 = 0.5 * (apart**2 + np.mean(apart**2))
    expected = COVER * values * np.sqrt(apart2 + found.noise**2)
    if what_does_not_fit(len(points), dim, kernel.nnz / len(points)):
        expected = np.hypot(expected, values - plain)
    unknown = ~np.isfinite(plain)
    values[unknown] = expected[unknown] = np.inf
    return GeneratorSpectrum(values, expected, found.mixing)


def _seen(kernel: Kernel, n_threads: int) -> tuple[FloatArray, NDArray[np.float32] | None, float]:
    """Points in tree order, where their neighbours are seen from each (entries, d), and the unit of that; None: as they are."""
    points, unit = np.ascontiguousarray(kernel.points[kernel.rows]), float(np.sqrt(kernel.epsilon))
    arrays = (kernel.indptr, kernel.indices, kernel.values)
    of_surface = not isinstance(kernel.observation, Observation)
    if isinstance(kernel.observation, Observation):
        frames = np.ascontiguousarray(kernel.observation.whitening[kernel.rows])
    else:
        dim = _seen_dimension(kernel, points)
        if dim == points.shape[1]:
            return points, None, unit
        frames = core.tangent_frames(*arrays, points, dim, n_threads)
    return points, core.local_steps(*arrays, points, frames, of_surface, unit, n_threads), unit


def _seen_dimension(kernel: Kernel, points: FloatArray) -> int:
    if points.shape[1] == 1:
        return 1
    rows = np.unique(np.linspace(0, len(points) - 1, DIMENSION_ROWS).astype(np.int64))
    entries = [slice(kernel.indptr[i], kernel.indptr[i + 1]) for i in rows]
    return seen_dimension([(points[kernel.indices[one]], kernel.values[one]) for one in entries], kernel.epsilon)


def _fits(
    kernel: Kernel,
    power: int,
    sums: FloatArray,
    points: FloatArray,
    steps: NDArray[np.float32] | None,
    unit: float,
    own: float,
    n_threads: int,
) -> _Fits:
    epsilon = kernel.epsilon / power
    sums = np.ascontiguousarray(sums)
    arrays = (kernel.indptr, kernel.indices, kernel.values)
    shift, mean, noise, self, precision = core.local_moments(
        *arrays, power, kernel.truncation, sums, points, steps, unit, 2.0 * RIDGE * epsilon, n_threads
    )
    dim = mean.shape[1]
    # An independent sample is nobody's neighbour in its own drift.
    drift = (np.einsum("nd,nd->n", mean, mean) - own * noise) / (epsilon * (1.0 - own * np.minimum(self, 0.5)) ** 2)
    density = np.maximum(sums - own * (1.0 - 2.0 ** (-0.5 * dim)), LEAST_WEIGHT * sums)
    # At the border, where the drift is this large, the kernel sees one half.
    row_sums = density * 2.0 ** np.minimum(drift / DRIFT_AT_BORDER, 3.0)
    # The outermost samples of a grid are its border, and have half a cell: whole ones would be as good a convention.
    half_cell = (1.0 - own) * np.sqrt(np.pi) / row_sums ** (1.0 / dim)
    weights, whole = (
        np.maximum(1.0 - (BORDER_EXCESS + cut) / BORDER_DRIFT * drift, LEAST_WEIGHT) / density
        for cut in (half_cell, 0.0)
    )
    return _Fits(kernel, power, sums, points, steps, unit, n_threads, shift, mean, precision, weights, whole, row_sums)


def _ritz(fits: _Fits, row_sums: FloatArray, functions: FloatArray, alpha: float, own: float) -> _Ritz | None:
    """Ritz values among functions, eigenfunctions at these row sums, and the constant; None where they depend on each other."""
    smoothed, slopes = fits.fit(functions)
    # Smoothing takes from slopes what it takes from values: what it takes twice is known.
    slopes = 2.0 * slopes - fits.fit(smoothed)[1]
    dim = slopes.shape[1]
    weights = fits.weights ** (2.0 * alpha - 1.0)
    raised = weights * (1.0 + SECOND_ORDER * own / np.maximum(row_sums, 3.0) ** 2)
    centred = functions - (weights @ functions) / weights.sum()
    flat = slopes.reshape(-1, slopes.shape[2])
    energy = flat.T @ (np.repeat(raised, dim)[:, None] * flat)
    mass = centred.T @ (weights[:, None] * centred)
    size = np.sqrt(np.diag(mass))
    if not (np.isfinite(energy).all() and np.isfinite(mass).all() and (size > 0).all()):
        return None
    mass, energy = mass / np.outer(size, size), energy / np.outer(size, size)
    if np.linalg.eigvalsh(mass)[0] < DEPENDENT:
        return None
    values, mixing = scipy.linalg.eigh(energy, mass)
    values, mixing = np.maximum(values, 0.0), mixing / size[:, None]
    squares = np.square(slopes[:, 0] @ mixing)
    for axis in range(1, dim):
        squares += np.square(slopes[:, axis] @ mixing)
    masses = np.square(centred @ mixing)
    parts = _denominators(values)
    shares = raised[:, None] * squares / parts - weights[:, None] * masses
    noise = NOISE * np.sqrt(own * ((1.0 / np.maximum(row_sums, 1.0)) @ np.square(shares)))
    # Half of what the other convention on the border of a grid would change.
    whole = fits.whole ** (2.0 * alpha - 1.0)
    border = 0.5 * np.abs((whole * raised / weights) @ squares / (whole @ masses) / parts - 1.0)
    mixing = mixing / np.sqrt(np.square(mixing).sum(axis=0))
    return _Ritz(values, np.hypot(noise, border), mixing)


def _denominators(values: FloatArray) -> FloatArray:
    """Eigenvalues (k,) to divide by: those of separate pieces are 0 but for rounding."""
    floored: FloatArray = np.maximum(values, max(SMALLEST * values[-1], np.finfo(float).tiny))
    return floored
