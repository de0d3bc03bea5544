"""Where local covariances come from: Jacobians, bursts, given covariances, or neighbours; each measured, then whitened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray, check_units, float_array, integer, real
from diffeo._support.threads import sound
from diffeo._support.wording import rows_text
from diffeo.observation.how_measured import MeasureOptions, Shrinkage
from diffeo.observation.neighborhoods.axes import nearest
from diffeo.observation.neighborhoods.local_fits import fitted_jacobians
from diffeo.observation.noise import noise_of_points, shown_precision, usual_noise
from diffeo.observation.rank import (
    COVARIANCE_FLOOR,
    JACOBIAN_FLOOR,
    NEIGHBOR_FLOOR,
    SINGLE_COVARIANCE_FLOOR,
    SINGLE_FLOOR,
    burst_floor,
    gap_after,
    rank_by_gap,
)
from diffeo.observation.shrinkage import noise_argument, noise_variance, without_noise
from diffeo.observation.whitening import checked_points, whiten

# Squared steps along a path grow with the second power of time where it is smooth, with none where noise was measured, and
# with about the first, over these lags alike, where noise drives it. Where they grow by less than a share, noise of
# measurements hides it, and longer lags tell: those that the path has many times, while steps are shorter than it is wide.
LAGS, DIFFUSES, GROWN, FEWEST_STEPS = (2, 4, 8, 16), (0.5, 1.35), 0.1, 200
LONGER, FEWEST_TIMES, WIDE = (1, 2, 4, 8, 16), 8, 1.0


@dataclass(frozen=True, eq=False)
class Measured:
    """Points with whitened local covariances, by the names that `Observation` has for them."""

    points: FloatArray
    whitening: FloatArray
    singular_values: FloatArray
    dim: int
    deficient: IntArray
    source: str
    known_unit: bool = True
    options: MeasureOptions = field(default_factory=MeasureOptions)
    degrees_of_freedom: FloatArray = field(default_factory=lambda: np.empty(0))
    precision: str = "double"
    noise: float = 0.0
    noise_of_points: FloatArray = field(default_factory=lambda: np.empty(0))

    def noisy(self, noise: Any) -> Measured:
        """The same points with noise of known standard deviation; None: not known."""
        deviations = noise_of_points(noise, len(self.points))
        return replace(self, noise=usual_noise(deviations), noise_of_points=deviations)


@sound
def by_jacobians(points: Any, jacobians: Any, dim: int | None) -> Measured:
    """C_i = J_i J_i^T; arguments and errors as in `Observation.from_jacobians`."""
    y = checked_points(points)
    j = float_array(jacobians, "jacobians", 3, shape=(*y.shape, None), axes="(n, m, p)")
    single = shown_precision(jacobians, j[:256]) == "single"
    limit = min(j.shape[1:])
    built = _whitened(
        y,
        lambda d: core.whitening_from_jacobians(j, d, 0),
        dim,
        limit,
        SINGLE_FLOOR if single else JACOBIAN_FLOOR,
        "jacobians",
    )
    if dim is None and gap_after(built.singular_values, built.dim) is not None:
        _say_gap(y, j, built.dim)
    return replace(built, precision=shown_precision(points, y))


def _say_gap(points: FloatArray, jacobians: FloatArray, dim: int) -> None:
    """Warn of directions that are far weaker than the others, each measurement in units of its own spread."""
    spread = points.std(axis=0)
    scaled = np.ascontiguousarray(jacobians / np.where(spread > 0.0, spread, np.inf)[:, None])
    gap = gap_after(core.whitening_from_jacobians(scaled, 0, 0)[0], dim)
    if gap is not None:
        errors.warn(
            f"dim = {dim}, but after the first {gap[0]} the singular values fall by a factor of {gap[1]:.0f} (median of the "
            f"samples, measurements in units of their spread): lengths along the other directions take as much finer samples; "
            f"give dim={gap[0]} if these are not wanted",
            errors.RankWarning,
        )


@sound
def by_bursts(
    points: Any, bursts: Any, scale: Any, dim: int | None, shrinkage: Shrinkage, directions: int | None = None
) -> Measured:
    """Sample covariances of bursts; arguments and errors as in `Observation.from_bursts`.

    Bursts along so many `directions` show no more dimensions: what is beyond is curvature.
    """
    level = noise_argument(shrinkage)
    y = checked_points(points)
    b = float_array(bursts, "bursts", 3, shape=(len(y), None, y.shape[1]), axes="(n, K, m)")
    check_units(b.reshape(-1, b.shape[2]), "bursts")
    size = b.shape[1]
    scale = real(scale, "scale", above=0.0)
    needed = (1 if dim is None else integer(dim, "dim", 1)) + 3
    if size < needed:
        raise errors.SampleSizeError(
            f"bursts have {size} members; at least dim + 3 = {needed} are needed to invert their covariances"
        )
    limit = min(y.shape[1], size - 3, y.shape[1] if directions is None else directions)
    precision = shown_precision(points, y)
    floor = burst_floor(y, b, precision)

    def decompose(d: int) -> tuple[FloatArray, FloatArray]:
        values, whitening = core.whitening_from_bursts(b, scale, d, 0)
        return (values, whitening) if level is None else without_noise(values, whitening, variance, size - 1)

    if level == "optimal":
        values = core.whitening_from_bursts(b, scale, 0, 0)[0]
        signal = rank_by_gap(values, limit, floor) if dim is None else dim
        variance = noise_variance(values**2, y.shape[1], size - 1, signal)
    elif level is not None:
        variance = (float(level) / scale) ** 2
    built = _whitened(y, decompose, dim, limit, floor, "bursts", by_gap=True)
    return replace(
        built,
        options=MeasureOptions(scale=scale, n_bursts=size, shrinkage=level),
        degrees_of_freedom=np.full(len(y), size - 1.0),
        precision=precision,
    )


@sound
def by_covariances(points: Any, covariances: Any, dim: int | None) -> Measured:
    """Given covariances; arguments and errors as in `Observation.from_covariances`."""
    y = checked_points(points)
    m = y.shape[1]
    c = float_array(covariances, "covariances", 3, shape=(len(y), m, m), axes="(n, m, m)")
    size = np.abs(c).max(axis=(1, 2))
    skew = np.abs(c - c.transpose(0, 2, 1)).max(axis=(1, 2))
    single = shown_precision(covariances, c[:256]) == "single"
    bad = np.flatnonzero(skew > (1e-6 if single else 1e-8) * size)
    if len(bad):
        raise errors.InputError(
            f"covariances of {len(bad)} samples are not symmetric ({rows_text(bad)}); pass (C + C^T)/2 if the "
            "difference is noise"
        )
    smallest = core.whitening_from_covariances(c, 0, 0)[0][:, -1]
    negative = np.flatnonzero(-smallest * np.abs(smallest) > (1e-6 if single else 1e-10) * size)
    if len(negative):
        raise errors.InputError(
            f"covariances of {len(negative)} samples have negative eigenvalues ({rows_text(negative)}): they are not "
            "covariances; check how they were computed"
        )

    def decompose(d: int) -> tuple[FloatArray, FloatArray]:
        values, whitening = core.whitening_from_covariances(c, d, 0)
        return np.maximum(values, 0.0), whitening

    floor = SINGLE_COVARIANCE_FLOOR if single else COVARIANCE_FLOOR
    built = _whitened(y, decompose, dim, m, floor, "covariances")
    return replace(built, precision=shown_precision(points, y))


@sound
def by_neighbors(points: Any, reference: Any, n_neighbors: Any, dim: int | None) -> Measured:
    """Local fits on reference coordinates; arguments and errors as in `Observation.from_neighbors`."""
    y = checked_points(points)
    n_neighbors = integer(n_neighbors, "n_neighbors", 4)
    if len(y) < n_neighbors:
        raise errors.SampleSizeError(f"{len(y)} samples are fewer than n_neighbors = {n_neighbors}")
    precision = shown_precision(points, y)
    if reference is None:
        return replace(_by_own_neighbors(y, n_neighbors, dim), precision=precision)
    x = float_array(reference, "reference", 2, shape=(len(y), None), axes="(n, p)")
    check_units(x, "reference")
    if x.shape[1] == 1:
        _refuse_diffusion(y, x[:, 0])
    jacobians = fitted_jacobians(y, x, n_neighbors)
    built = _whitened(
        y,
        lambda d: core.whitening_from_jacobians(jacobians, d, 0),
        dim,
        min(jacobians.shape[1:]),
        NEIGHBOR_FLOOR,
        "neighbors",
        by_gap=True,
    )
    return replace(built, precision=precision)


def _whitened(
    points: FloatArray,
    decompose: Callable[[int], tuple[FloatArray, FloatArray]],
    dim: int | None,
    limit: int,
    floor: float,
    source: str,
    *,
    by_gap: bool = False,
) -> Measured:
    """The measurements, whitened."""
    found = whiten(points, decompose, dim, limit, floor, source, by_gap=by_gap)
    return Measured(points, found.whitening, found.singular_values, found.dim, found.deficient, source)


def _by_own_neighbors(points: FloatArray, n_neighbors: int, dim: int | None) -> Measured:
    """One-dimensional observations without a reference: unit tangents, so distances are arc lengths."""
    if dim != 1:
        raise errors.ParameterError(
            "from_neighbors without a reference tells nothing of how the network stretches its input, so only dim=1 "
            f"is accepted (got dim={dim}); pass reference coordinates, Jacobians or bursts"
        )
    # Neighbours that all coincide have no tangent; the zero there is listed as rank-deficient.
    unit = _unit_tangents(points, n_neighbors)
    built = _whitened(points, lambda d: core.whitening_from_jacobians(unit, d, 0), 1, 1, JACOBIAN_FLOOR, "neighbors")
    return replace(built, known_unit=False)


def _refuse_diffusion(points: FloatArray, time: FloatArray) -> None:
    """Make sure that points (n, m) do not diffuse along a reference (n,): then it is no reference for them.

    Raises
    ------
    InputError
        Squared steps grow like time itself.
    """
    if len(points) < FEWEST_STEPS:
        return
    path = points[np.argsort(time, kind="stable")]
    spread = path.std(axis=0)
    path = path / np.where(spread > 0.0, spread, np.inf)
    for longer in LONGER:
        lags = [longer * lag for lag in LAGS]
        if lags[-1] > len(path) // FEWEST_TIMES:
            return
        squares = np.array([((path[lag:] - path[:-lag]) ** 2).sum(axis=1).mean() for lag in lags])
        # Noise of measurements adds the same to all; steps as long as the path is wide tell nothing.
        grown = np.diff(squares)
        if longer > 1 and squares[-1] - squares[0] > WIDE * path.shape[1]:
            return
        if (grown > 0.0).all() and grown[-2] >= GROWN * squares[-2]:
            break
    else:
        return
    powers = np.diff(np.log2(grown))
    if DIFFUSES[0] < powers.min() and powers.max() < DIFFUSES[1]:
        raise errors.InputError(
            f"along the reference the points diffuse: what squared steps over {', '.join(map(str, lags[:-1]))} and {lags[-1]} "
            f"samples have beyond noise of measurements grows with its powers {', '.join(f'{x:.2f}' for x in powers)} (2 for a "
            "smooth path), as on one that noise drives. Time then tells neither which samples have nearby inputs nor a "
            "derivative: give the state of the system as reference, or Jacobians, or bursts from each sample"
        )


def _unit_tangents(points: FloatArray, n_neighbors: int) -> FloatArray:
    """Unit tangents (n, m, 1) of a curve through points (n, m): with these as Jacobians, distances are arc lengths.

    Zero where all neighbours coincide.
    """
    neighborhoods = points[nearest(points, n_neighbors)]
    _, tangents = core.whitening_from_bursts(np.ascontiguousarray(neighborhoods), 1.0, 1, 0)
    size = np.linalg.norm(tangents, axis=1, keepdims=True)
    return np.ascontiguousarray(tangents / np.where(size > 0.0, size, 1.0))
