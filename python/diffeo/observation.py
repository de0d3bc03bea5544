"""What one network measures: points, and at each point the whitening of its local covariance."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffeo import _core, errors
from diffeo._validation import FloatArray, IntArray, check_units, float_array, integer, real, rows_text
from diffeo.rank import (
    BURST_FLOOR,
    COVARIANCE_FLOOR,
    JACOBIAN_FLOOR,
    MAX_DEFICIENT,
    NEIGHBOR_FLOOR,
    SINGLE_FLOOR,
    deficient_samples,
    rank_by_floor,
    rank_by_gap,
)

if TYPE_CHECKING:
    import os

_logger = logging.getLogger("diffeo")

# Neighbours whose reference positions are flatter than this do not determine a Jacobian.
FLAT_REFERENCE = 1e-8


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
        "jacobians", "bursts", "covariances" or "neighbors".
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
        y = _points(points)
        j = float_array(jacobians, "jacobians", 3, shape=(*y.shape, None), axes="(n, m, p)")
        # Numbers computed in single precision are multiples of its unit, whatever type they arrive in.
        with np.errstate(over="ignore", under="ignore"):
            single = bool((j[:256] == j[:256].astype(np.float32)).all() and np.any(j[:256] % 1.0))
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
        cls, points: Any, bursts: Any, *, scale: float = 1.0, dim: int | None = None, shrinkage: Any = None
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
        shrinkage : None
            Reserved; only None is accepted in this version.

        Raises
        ------
        SampleSizeError
            Too few members in a burst.
        ShapeError, NonFiniteError, DataTypeError, ParameterError, RankError
            As in `from_jacobians`.
        """
        if shrinkage is not None:
            raise errors.ParameterError("shrinkage is not available in this version; pass None")
        y = _points(points)
        b = float_array(bursts, "bursts", 3, shape=(len(y), None, y.shape[1]), axes="(n, K, m)")
        size = b.shape[1]
        scale = real(scale, "scale", above=0.0)
        needed = (1 if dim is None else integer(dim, "dim", 1)) + 3
        if size < needed:
            raise errors.SampleSizeError(
                f"bursts have {size} members; at least dim + 3 = {needed} are needed to invert their covariances"
            )
        limit = min(y.shape[1], size - 3)
        built = _build(
            cls,
            y,
            lambda d: _core.whitening_from_bursts(b, scale, d, 0),
            dim,
            limit,
            BURST_FLOOR,
            "bursts",
            by_gap=True,
        )
        return replace(built, scale=scale)

    @classmethod
    def from_covariances(cls, points: Any, covariances: Any, *, dim: int | None = None) -> Observation:
        """Build from measurements and given local covariances per unit of input covariance.

        Parameters
        ----------
        points : array_like of shape (n, m)
        covariances : array_like of shape (n, m, m)
            Symmetric and positive semi-definite C_i = J_i J_i^T.
        dim : int, optional
            As in `from_jacobians`.

        Raises
        ------
        InputError
            Covariances that are not symmetric (to 1e-8 of the largest entry) or have negative eigenvalues.
        """
        y = _points(points)
        m = y.shape[1]
        c = float_array(covariances, "covariances", 3, shape=(len(y), m, m), axes="(n, m, m)")
        size = np.abs(c).max(axis=(1, 2))
        skew = np.abs(c - c.transpose(0, 2, 1)).max(axis=(1, 2))
        bad = np.flatnonzero(skew > 1e-8 * size)
        if len(bad):
            raise errors.InputError(
                f"covariances of {len(bad)} samples are not symmetric ({rows_text(bad)}); pass (C + C^T)/2 if the "
                "difference is noise"
            )
        smallest = _core.whitening_from_covariances(c, 0, 0)[0][:, -1]
        negative = np.flatnonzero(-smallest * np.abs(smallest) > 1e-10 * size)
        if len(negative):
            raise errors.InputError(
                f"covariances of {len(negative)} samples have negative eigenvalues ({rows_text(negative)}): they are not "
                "covariances; check how they were computed"
            )

        def decompose(d: int) -> tuple[FloatArray, FloatArray]:
            values, whitening = _core.whitening_from_covariances(c, d, 0)
            return np.maximum(values, 0.0), whitening

        return _build(cls, y, decompose, dim, m, COVARIANCE_FLOOR, "covariances")

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
        y = _points(points)
        n_neighbors = integer(n_neighbors, "n_neighbors", 4)
        if len(y) < n_neighbors:
            raise errors.SampleSizeError(f"{len(y)} samples are fewer than n_neighbors = {n_neighbors}")
        if reference is None:
            return _from_own_neighbors(cls, y, n_neighbors, dim)
        x = float_array(reference, "reference", 2, shape=(len(y), None), axes="(n, p)")
        p = x.shape[1]
        if n_neighbors < p + 2:
            raise errors.SampleSizeError(f"n_neighbors = {n_neighbors} must be at least p + 2 = {p + 2}")
        jacobians, conditions = _core.jacobians_from_neighbors(y, x, _nearest(x, n_neighbors), 0)
        flat = np.flatnonzero(conditions < FLAT_REFERENCE)
        if len(flat):
            raise errors.RankError(
                f"the neighbours of {len(flat)} samples do not span the {p} reference coordinates ({rows_text(flat)}); "
                "drop constant or dependent reference columns, or raise n_neighbors"
            )
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
        from diffeo.storage import save_observation

        save_observation(self, path)


def observe(
    model: Any,
    inputs: Any,
    *,
    layer: str | None = None,
    neurons: int | NDArray[Any] | None = None,
    covariances: str = "jacobians",
    n_bursts: int = 32,
    scale: float | None = None,
    tangents: Any = None,
    dim: int | None = None,
    batch_size: int = 1024,
    device: Any = None,
    rng: Any = 0,
    verbose: bool = False,
) -> Observation:
    """Measure a torch module on sampled inputs: activations and their local covariances.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : array_like or torch.Tensor of shape (n, ...)
        Points of the common domain.
    layer : str, optional
        Dotted module name; None is the output.
    neurons : int or array_like of int, optional
        How many neurons to draw with `rng`, or which; None takes all.
    covariances : {"jacobians", "bursts"}
        Exact derivatives by forward mode (one pass a tangent), or covariances of perturbed inputs.
    n_bursts : int
        Perturbed inputs a sample, for bursts.
    scale : float, optional
        Their standard deviation per input coordinate (input units); see `diffeo.capture.measure` for the default.
    tangents : array_like of shape (n, ..., d), optional
        Orthonormal directions of the input set at each sample, where it fills only a d-dimensional set.
    dim : int, optional
        Intrinsic dimension; see the constructors of `Observation`.
    batch_size, device, rng, verbose
        Samples a pass; torch device (default: the model's); seed or generator; progress bar.

    Returns
    -------
    Observation
        Remembers ``layer`` and ``neurons``.

    Raises
    ------
    LayerError, CaptureError, NonFiniteError, DataTypeError, ParameterError, RankError
        Each says where, how many and what to do.
    """
    from diffeo.capture import measure

    measured = measure(
        model,
        inputs,
        layer=layer,
        neurons=neurons,
        covariances=covariances,
        n_bursts=n_bursts,
        scale=scale,
        tangents=tangents,
        batch_size=batch_size,
        device=device,
        rng=rng,
        verbose=verbose,
    )
    if measured.jacobians is not None:
        built = Observation.from_jacobians(measured.points, measured.jacobians, dim=dim)
    else:
        built = Observation.from_bursts(measured.points, measured.bursts, scale=measured.scale or 1.0, dim=dim)
    return replace(built, layer=measured.layer, neurons=measured.neurons)


def _points(points: Any) -> FloatArray:
    """Check the measurements and warn of neurons that do not vary."""
    # A copy: what the caller does to the array later must not change the observation.
    y = float_array(points, "points", 2, axes="(n, m)").copy()
    if len(y) < 2:
        raise errors.SampleSizeError("points holds 1 sample; at least 2 are needed")
    check_units(y, "points")
    constant = np.flatnonzero(np.ptp(y, axis=0) == 0.0)
    if len(constant) == y.shape[1]:
        raise errors.RankError(f"all {y.shape[1]} measurements are constant over the {len(y)} samples: nothing varies")
    if len(constant):
        errors.warn(
            f"{len(constant)} of {y.shape[1]} measurements are constant over all samples (columns "
            f"{', '.join(map(str, constant[:5]))}): they carry no information; leave those neurons out",
            errors.ConstantNeuronWarning,
        )
    return y


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
    """Choose the rank from the singular values, list deficient samples, and whiten."""
    if dim is None:
        values = decompose(0)[0]
        dim = rank_by_gap(values, limit, floor) if by_gap else rank_by_floor(values, limit, floor)
    else:
        dim = integer(dim, "dim", 1)
        if dim > limit:
            raise errors.RankError(
                f"dim = {dim} exceeds {limit}, the largest rank that {points.shape[1]} measurements and these {source} allow"
            )
    values, whitening = decompose(dim)
    # A dimension that only counts large gaps may leave small singular values: rounding alone makes them unusable.
    deficient = deficient_samples(values, dim, min(floor, JACOBIAN_FLOOR) if by_gap else floor)
    if len(deficient) > MAX_DEFICIENT * len(points):
        raise errors.RankError(
            f"{len(deficient)} of {len(points)} samples have local covariances of rank below dim = {dim} "
            f"({rows_text(deficient)}); lower dim, or measure neurons that respond to every input direction"
        )
    if len(deficient):
        errors.warn(
            f"{len(deficient)} of {len(points)} samples have local covariances of rank below dim = {dim} "
            f"({rows_text(deficient)}); they are left out of the graph and placed by extension",
            errors.RankWarning,
        )
        whitening[deficient] = 0.0
    return cls(points, whitening, values, dim, deficient, source)


def _nearest(coordinates: FloatArray, k: int) -> IntArray:
    """Rows of the k nearest samples of every sample, itself included."""
    from scipy.spatial import cKDTree

    _, rows = cKDTree(coordinates).query(coordinates, k, workers=-1)
    return np.ascontiguousarray(rows, dtype=np.int64)


def _from_own_neighbors(cls: type[Observation], points: FloatArray, n_neighbors: int, dim: int | None) -> Observation:
    """One-dimensional observations without a reference: unit tangents, so distances are arc lengths."""
    if dim != 1:
        raise errors.ParameterError(
            "from_neighbors without a reference tells nothing of how the network stretches its input, so only dim=1 "
            f"is accepted (got dim={dim}); pass reference coordinates, Jacobians or bursts"
        )
    neighborhoods = points[_nearest(points, n_neighbors)]
    _, tangents = _core.whitening_from_bursts(np.ascontiguousarray(neighborhoods), 1.0, 1, 0)
    size = np.linalg.norm(tangents, axis=1, keepdims=True)
    # Neighbours that all coincide have no tangent; the zero left there is listed as rank-deficient.
    unit = np.ascontiguousarray(tangents / np.where(size > 0.0, size, 1.0))
    built = _build(cls, points, lambda d: _core.whitening_from_jacobians(unit, d, 0), 1, 1, JACOBIAN_FLOOR, "neighbors")
    return replace(built, known_unit=False)
