"""What one network measures: points, and at each point the whitening of its local covariance."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import _core, errors
from diffeo._support.arrays import FloatArray, IntArray, float_array, integer, real
from diffeo._support.wording import rows_text
from diffeo.observation.neighborhoods import fitted_jacobians, unit_tangents
from diffeo.observation.noise import rounding_of_lengths, sampling_noise_of_lengths, single_precision
from diffeo.observation.rank import (
    COVARIANCE_FLOOR,
    JACOBIAN_FLOOR,
    NEIGHBOR_FLOOR,
    SINGLE_COVARIANCE_FLOOR,
    SINGLE_FLOOR,
    burst_floor,
    rank_by_gap,
)
from diffeo.observation.shrinkage import noise_argument, noise_variance, without_noise
from diffeo.observation.whitening import checked_points, whiten

if TYPE_CHECKING:
    import os

_logger = logging.getLogger("diffeo")

# A whitening shortened by less than this is that of a covariance without sampling noise.
EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class Observation:
    """One network's measurements of sampled inputs, with their local covariances.

    Build it with `diffeo.observe` or one of the ``from_...`` constructors.

    Attributes
    ----------
    points : ndarray of shape (n, m), float64
        Measurements y_i.
    whitening : ndarray of shape (n, m, dim), float64
        W_i = U_d / Sigma_d, whose W_i W_i^T is the rank-d pseudo-inverse of the local covariance C_i (for bursts times
        (K - d - 2)/(K - 1), which removes the bias of inverting a sample covariance). Rows listed in `deficient` hold
        no usable whitening.
    singular_values : ndarray of shape (n, r), float64
        Of J_i, descending: square roots of the eigenvalues of C_i. Unit: measurement per input.
    dim : int
        Intrinsic dimension d.
    deficient : ndarray of int64
        Samples whose rank is below d (and samples that `diffeo.match` found without neighbours). They stay in `points`
        but are left out of the graph.
    source : str
        "jacobians", "bursts", "smoothed" (bursts, by `diffeo.observation.burst_smoothing.smoothed`), "covariances" or
        "neighbors".
    known_unit : bool
        False when distances are known only up to a factor (neighbours without a reference).
    layer, neurons, scale
        What `diffeo.observe` measured: layer name (None: the output), measured neurons, and the standard deviation of
        the bursts.
    """

    points: FloatArray
    whitening: FloatArray
    singular_values: FloatArray
    dim: int
    deficient: IntArray
    source: str
    known_unit: bool = True
    layer: str | None = None
    neurons: IntArray | None = None
    scale: float | None = None
    _usable: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        usable = np.ones(len(self.points), dtype=bool)
        usable[self.deficient] = False
        object.__setattr__(self, "_usable", np.flatnonzero(usable))

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        n, m = self.points.shape
        left_out = f", {len(self.deficient)} rank-deficient" if len(self.deficient) else ""
        return f"Observation({n} samples, {m} measurements, dim={self.dim}, from {self.source}{left_out})"

    @property
    def usable(self) -> IntArray:
        """Rows with a whitening of full rank, ascending."""
        return self._usable

    def subset(self, rows: Any) -> Observation:
        """The observation of some of the samples, (k,) row numbers, in their order.

        Raises
        ------
        InputError
            Rows that are no integers, or outside of the sample.
        """
        chosen = np.asarray(rows)
        if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
            raise errors.InputError(f"rows must be a list of row numbers, not {chosen.dtype} of shape {chosen.shape}")
        outside = chosen[(chosen < 0) | (chosen >= len(self))]
        if len(outside):
            raise errors.InputError(
                f"{len(outside)} rows ({rows_text(outside)}) are outside of the {len(self)} samples"
            )
        return replace(
            self,
            points=self.points[chosen],
            whitening=self.whitening[chosen],
            singular_values=self.singular_values[chosen],
            deficient=np.flatnonzero(np.isin(chosen, self.deficient)),
        )

    @property
    def degrees_of_freedom(self) -> FloatArray:
        """Of each sample's covariance, (n,): K - 1 for a burst of K, more after smoothing, infinite for derivatives.

        Decoded from the whitening, whose columns are shortened by sqrt((nu - d - 1)/nu) to remove the bias of
        inverting a sample covariance (K - d - 2 over K - 1 for a burst).
        """
        gain = np.linalg.norm(self.whitening[:, :, 0], axis=1) * self.singular_values[:, 0]
        missing = 1.0 - gain**2
        exact = missing < EXACT
        freedom: FloatArray = np.where(exact, np.inf, (self.dim + 1) / np.where(exact, 1.0, missing))
        return freedom

    @property
    def precision(self) -> str:
        """What the measurements show: "single" if all are numbers of single precision (a float32 network's), else "double"."""
        return "single" if single_precision(self.points) else "double"

    @property
    def length_noise(self) -> float:
        """Relative standard deviation of the length sqrt(q) of a usual edge of the neighbour graph from noise.

        That of the metric itself, 1/(2 sqrt(K - d - 4)) for bursts of K and 1/sqrt(2 (nu - d - 3)) after smoothing
        to nu degrees of freedom, and of the rounding of the measurements: about 1e-7 of their range, through the
        whitening, over the spacing of the samples, for networks in single precision.
        """
        rows = self.usable
        points, whitening = self.points[rows], self.whitening[rows]
        sampling = sampling_noise_of_lengths(
            self.degrees_of_freedom[rows], self.dim, independent=self.source != "smoothed"
        )
        return math.hypot(sampling, rounding_of_lengths(points, whitening))

    @classmethod
    def from_jacobians(cls, points: Any, jacobians: Any, *, dim: int | None = None) -> Observation:
        """Build from measurements and their Jacobians with respect to the common inputs.

        Parameters
        ----------
        points : array_like of shape (n, m)
        jacobians : array_like of shape (n, m, p)
            dy/dx at each sample, or its product with d orthonormal tangents of the input set. Each may be multiplied
            from the right by its own orthogonal matrix: only J_i J_i^T is used.
        dim : int, optional
            Intrinsic dimension. Default: the largest d with s_d above 1e-6 of s_1 (or of its median, whichever is
            larger) on 99 % of the samples.

        Raises
        ------
        ShapeError, NonFiniteError, DataTypeError
            Data that do not fit.
        RankError
            More than 1 % of the samples are rank-deficient (fewer are listed with a `RankWarning`).
        """
        y = checked_points(points)
        j = float_array(jacobians, "jacobians", 3, shape=(*y.shape, None), axes="(n, m, p)")
        single = single_precision(j[:256])
        limit = min(j.shape[1:])
        return _build(
            cls,
            y,
            lambda d: _core.whitening_from_jacobians(j, d, 0),
            dim,
            limit,
            SINGLE_FLOOR if single else JACOBIAN_FLOOR,
            "jacobians",
        )

    @classmethod
    def from_bursts(
        cls,
        points: Any,
        bursts: Any,
        *,
        scale: float = 1.0,
        dim: int | None = None,
        shrinkage: str | float | None = None,
    ) -> Observation:
        """Build from measurements of bursts of nearby inputs around each sample.

        C_i = sum_k (y_ik - mean)(y_ik - mean)^T / ((K - 1) scale^2).

        Parameters
        ----------
        points : array_like of shape (n, m)
        bursts : array_like of shape (n, K, m)
            Measurements of K isotropic Gaussian perturbations of input i.
        scale : float
            Their standard deviation per input coordinate (input units).
        dim : int, optional
            Intrinsic dimension; needs K >= dim + 3. Default: where the singular values drop most, not counting those
            below 2 % of the first, which curvature explains. Give it where you know it.
        shrinkage : "optimal", float or None
            For members measured with noise of their own, independent in each measurement and member: removes its part
            from the eigenvalues of C_i (spiked model, see `diffeo.observation.shrinkage.shrunken`). A number is the standard
            deviation of that noise, in units of the measurements; "optimal" estimates it from the eigenvalues beyond the d-th,
            so it needs more measurements than dimensions. Directions that drown in the noise get the singular value 0.

        Raises
        ------
        SampleSizeError
            Too few members in a burst.
        ShapeError, NonFiniteError, DataTypeError, ParameterError, RankError
            As in `from_jacobians`.

        Notes
        -----
        The error of the input recovered by `IsometricEmbedding`, in percent (``python -m bench.bench_bursts``: unit
        square, five measurements, 10,000 samples, scale 0.0058; Jacobians 0.0002), by the metric used: "plain" has the
        inverse of the sample covariance, "corrected" that without its bias, which is what `whitening` holds, "smoothed"
        is `diffeo.observation.burst_smoothing.smoothed`. On the right each member has noise of 0.2 times the scale, with
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
        level = noise_argument(shrinkage)
        y = checked_points(points)
        b = float_array(bursts, "bursts", 3, shape=(len(y), None, y.shape[1]), axes="(n, K, m)")
        size = b.shape[1]
        scale = real(scale, "scale", above=0.0)
        needed = (1 if dim is None else integer(dim, "dim", 1)) + 3
        if size < needed:
            raise errors.SampleSizeError(
                f"bursts have {size} members; at least dim + 3 = {needed} are needed to invert their covariances"
            )
        limit = min(y.shape[1], size - 3)
        floor = burst_floor(y, b)

        def decompose(d: int) -> tuple[FloatArray, FloatArray]:
            values, whitening = _core.whitening_from_bursts(b, scale, d, 0)
            return (values, whitening) if level is None else without_noise(values, whitening, variance, size - 1)

        if level == "optimal":
            values = _core.whitening_from_bursts(b, scale, 0, 0)[0]
            signal = rank_by_gap(values, limit, floor) if dim is None else dim
            variance = noise_variance(values**2, y.shape[1], size - 1, signal)
        elif level is not None:
            variance = (float(level) / scale) ** 2
        built = _build(cls, y, decompose, dim, limit, floor, "bursts", by_gap=True)
        return replace(built, scale=scale)

    @classmethod
    def from_covariances(cls, points: Any, covariances: Any, *, dim: int | None = None) -> Observation:
        """Build from measurements and given local covariances per unit of input covariance.

        Parameters
        ----------
        points : array_like of shape (n, m)
        covariances : array_like of shape (n, m, m)
            Symmetric and positive semi-definite C_i = J_i J_i^T. In single precision (numbers that are its multiples) they
            resolve singular values down to 1e-3 of the largest only.
        dim : int, optional
            As in `from_jacobians`.

        Raises
        ------
        InputError
            Covariances that are not symmetric (to 1e-8 of the largest entry, 1e-6 in single precision) or have negative
            eigenvalues.
        """
        y = checked_points(points)
        m = y.shape[1]
        c = float_array(covariances, "covariances", 3, shape=(len(y), m, m), axes="(n, m, m)")
        size = np.abs(c).max(axis=(1, 2))
        skew = np.abs(c - c.transpose(0, 2, 1)).max(axis=(1, 2))
        single = single_precision(c[:256])
        bad = np.flatnonzero(skew > (1e-6 if single else 1e-8) * size)
        if len(bad):
            raise errors.InputError(
                f"covariances of {len(bad)} samples are not symmetric ({rows_text(bad)}); pass (C + C^T)/2 if the "
                "difference is noise"
            )
        smallest = _core.whitening_from_covariances(c, 0, 0)[0][:, -1]
        negative = np.flatnonzero(-smallest * np.abs(smallest) > (1e-6 if single else 1e-10) * size)
        if len(negative):
            raise errors.InputError(
                f"covariances of {len(negative)} samples have negative eigenvalues ({rows_text(negative)}): they are not "
                "covariances; check how they were computed"
            )

        def decompose(d: int) -> tuple[FloatArray, FloatArray]:
            values, whitening = _core.whitening_from_covariances(c, d, 0)
            return np.maximum(values, 0.0), whitening

        return _build(cls, y, decompose, dim, m, SINGLE_COVARIANCE_FLOOR if single else COVARIANCE_FLOOR, "covariances")

    @classmethod
    def from_neighbors(
        cls, points: Any, reference: Any = None, *, n_neighbors: int = 32, dim: int | None = None
    ) -> Observation:
        """Build from measurements and reference coordinates in which nearby samples are known.

        J_i is the local least-squares fit of `points` on `reference` over the nearest samples in `reference`.

        Parameters
        ----------
        points : array_like of shape (n, m)
        reference : array_like of shape (n, p), optional
            Inputs, time along a trajectory, a physical state. Without it nearest samples in `points` itself are used,
            which tell nothing of the stretch: accepted only for ``dim=1``, and the unit of length stays unknown.
        n_neighbors : int
            Samples in each neighbourhood, the sample itself included; at least p + 2.
        dim : int, optional
            As in `from_bursts`; required (as 1) without a reference.

        Raises
        ------
        SampleSizeError
            Fewer samples than `n_neighbors`.
        RankError
            Neighbours that do not span the reference space.
        """
        y = checked_points(points)
        n_neighbors = integer(n_neighbors, "n_neighbors", 4)
        if len(y) < n_neighbors:
            raise errors.SampleSizeError(f"{len(y)} samples are fewer than n_neighbors = {n_neighbors}")
        if reference is None:
            return _from_own_neighbors(cls, y, n_neighbors, dim)
        x = float_array(reference, "reference", 2, shape=(len(y), None), axes="(n, p)")
        jacobians = fitted_jacobians(y, x, n_neighbors)
        return _build(
            cls,
            y,
            lambda d: _core.whitening_from_jacobians(jacobians, d, 0),
            dim,
            min(jacobians.shape[1:]),
            NEIGHBOR_FLOOR,
            "neighbors",
            by_gap=True,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.storage import save_observation

        save_observation(self, path)


def _build(
    cls: type[Observation],
    points: FloatArray,
    decompose: Callable[[int], tuple[FloatArray, FloatArray]],
    dim: int | None,
    limit: int,
    floor: float,
    source: str,
    *,
    by_gap: bool = False,
) -> Observation:
    """The observation of whitened measurements."""
    found = whiten(points, decompose, dim, limit, floor, source, by_gap=by_gap)
    return cls(points, found.whitening, found.singular_values, found.dim, found.deficient, source)


def _from_own_neighbors(cls: type[Observation], points: FloatArray, n_neighbors: int, dim: int | None) -> Observation:
    """One-dimensional observations without a reference: unit tangents, so distances are arc lengths."""
    if dim != 1:
        raise errors.ParameterError(
            "from_neighbors without a reference tells nothing of how the network stretches its input, so only dim=1 "
            f"is accepted (got dim={dim}); pass reference coordinates, Jacobians or bursts"
        )
    # Neighbours that all coincide have no tangent; the zero there is listed as rank-deficient.
    unit = unit_tangents(points, n_neighbors)
    built = _build(cls, points, lambda d: _core.whitening_from_jacobians(unit, d, 0), 1, 1, JACOBIAN_FLOOR, "neighbors")
    return replace(built, known_unit=False)
