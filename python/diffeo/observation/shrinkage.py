"""Eigenvalues of burst covariances under measurement noise: the spiked model, and the shrinkage that is optimal in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, real
from diffeo.observation.how_measured import Shrinkage

# Points of the quadrature of the Marchenko-Pastur density; its error is far below that of any estimate.
QUADRATURE = 4001


def noise_argument(value: Any) -> Shrinkage:
    """Check `shrinkage`: None, "optimal" or a standard deviation."""
    if value is None:
        return None
    if isinstance(value, str) and value == "optimal":
        return "optimal"
    if isinstance(value, str):
        raise errors.ParameterError(f'shrinkage must be None, "optimal" or a standard deviation, not {value!r}')
    return real(value, "shrinkage", at_least=0.0)


def marchenko_pastur_median(ratio: float) -> float:
    """Median of the nonzero eigenvalues of a sample covariance of unit white noise, many measurements and members.

    `ratio` is the number of measurements over the degrees of freedom. The nonzero eigenvalues have the density
    sqrt((b - x)(x - a))/(2 pi ratio x) on [a, b] = (1 -+ sqrt(ratio))^2 (Marchenko and Pastur 1967), times 1/ratio
    where the ratio is above 1 and most eigenvalues are zero.
    """
    # With x = 1 + ratio + 2 sqrt(ratio) sin(t) the roots at both ends turn into cosines.
    t = np.linspace(-0.5 * np.pi, 0.5 * np.pi, QUADRATURE)
    x = 1.0 + ratio + 2.0 * np.sqrt(ratio) * np.sin(t)
    density = np.cos(t) ** 2 / np.maximum(x, 1e-12)
    mass = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]))])
    return float(np.interp(0.5 * mass[-1], mass, x))


def noise_variance(eigenvalues: FloatArray, n_measurements: int, freedom: int, dim: int) -> float:
    """Variance of the measurement noise from the eigenvalues (n, r), descending, that are not of the signal.

    The median of all those below the d-th over that of Marchenko and Pastur for the m - d remaining measurements
    (after Gavish and Donoho 2014).

    Raises
    ------
    RankError
        Measurements or members leave no eigenvalue to the noise.
    """
    # Only as many as there are degrees of freedom differ from zero.
    small = eigenvalues[:, dim : min(n_measurements, freedom)]
    if small.shape[1] == 0:
        raise errors.RankError(
            f"dim = {dim} leaves no eigenvalue from which the noise of {n_measurements} measurements could be estimated: "
            "pass its standard deviation as shrinkage="
        )
    expected = marchenko_pastur_median((n_measurements - dim) / (freedom - dim))
    # The signal takes up d degrees of freedom of the noise as well.
    return float(np.median(small)) / expected * freedom / (freedom - dim)


def shrunken(eigenvalues: FloatArray, n_measurements: int, freedom: int, variance: float) -> FloatArray:
    """Variances of the signal behind the eigenvalues of sample covariances, as optimal for their inverse.

    With C = signal + variance I, gamma = m/nu and lambda an eigenvalue over the variance, the spike behind it is

        l(lambda) = (lambda + 1 - gamma + sqrt((lambda + 1 - gamma)^2 - 4 lambda)) / 2  where lambda > (1 + sqrt(gamma))^2

    and the variance of the signal is (l - 1) times that of the noise; eigenvalues inside of the bulk become 0. Among all
    functions of the eigenvalues, its inverse has the smallest asymptotic error in operator norm of the
    pseudo-inverse of the signal's covariance, hence of Mahalanobis distances: the error of eta u u^T against
    v v^T/s is (|e| + sqrt(e^2 + 4 eta sin^2/s))/2 with e = eta - 1/s, smallest at eta = 1/s whatever the angle.

    References
    ----------
    Gavish, Talmon, Su, Wu, Optimal recovery of precision matrix for Mahalanobis distance from high-dimensional noisy
    observations in manifold learning, Information and Inference 11, 2022 (arXiv 1904.09204). Donoho, Gavish, Johnstone,
    Optimal shrinkage of eigenvalues in the spiked covariance model, Annals of Statistics 46, 2018.
    """
    if variance == 0.0:
        return eigenvalues
    gamma = n_measurements / freedom
    scaled = eigenvalues / variance
    edge = (1.0 + np.sqrt(gamma)) ** 2
    half = np.maximum(scaled, edge) + 1.0 - gamma
    spike = 0.5 * (half + np.sqrt(np.maximum(half**2 - 4.0 * np.maximum(scaled, edge), 0.0)))
    return np.where(scaled > edge, variance * (spike - 1.0), 0.0)


def without_noise(
    values: FloatArray, whitening: FloatArray, variance: float, freedom: int
) -> tuple[FloatArray, FloatArray]:
    """Singular values (n, r) without the part of the noise, and the whitening (n, m, d) that belongs to them.

    The factor that removes the bias of inverting a sample covariance stays in the whitening.
    """
    _, m, d = whitening.shape
    kept = np.sqrt(shrunken(values**2, m, freedom, variance))
    if not kept.any():
        raise errors.RankError(
            f"all eigenvalues of the burst covariances are explained by noise of standard deviation {np.sqrt(variance):.3g} "
            "per unit of scale; use a larger scale or more members"
        )
    if len(whitening) == 0:
        return kept, whitening
    longer = np.divide(values[:, :d], kept[:, :d], out=np.zeros_like(kept[:, :d]), where=kept[:, :d] > 0.0)
    return kept, whitening * longer[:, None, :]
