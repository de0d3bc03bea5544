"""What one network measures: points, and at each point the whitening of its local covariance."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.notebook import Shown
from diffeo.observation.how_measured import MeasureOptions, Reduction, Shrinkage
from diffeo.observation.noise import rounding_of_lengths, sampling_noise_of_lengths, usual_noise
from diffeo.observation.rank import EXACT_SOURCES, RankMap, floor_of, ranks_of
from diffeo.observation.selection import Chosen, chosen_columns, chosen_rows, fewer_measurements
from diffeo.observation.sources import by_bursts, by_covariances, by_jacobians, by_neighbors
from diffeo.observation.whitening import warn_of_constants


@dataclass(frozen=True, eq=False)
class Observation(Shown):
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
    options : MeasureOptions
        How the network was measured: layer, neurons, reduction, smoothing. ``layer``, ``neurons`` (None: not known) and
        ``scale`` (of bursts) are short for its own.
    degrees_of_freedom : ndarray of shape (n,), float64
        Of each sample's covariance: K - 1 for a burst of K, more after smoothing, infinite for derivatives.
    precision : str
        "single" if the measurements are numbers of single precision (a float32 network's), else "double".
    noise : float
        Standard deviation of the noise of each measurement, which charts take out of `points`; 0 where none is known.
    noise_of_points : ndarray of shape (n,), float64
        That of each sample, as it was given; empty where charts have to estimate it.

    Notes
    -----
    ``obs[rows]`` is the observation of some of the samples, by row numbers, a boolean mask or a slice; scikit-learn's
    splitters work on observations (``KFold().split(obs)``, ``train_test_split(obs)``).
    """

    points: FloatArray
    whitening: FloatArray
    singular_values: FloatArray
    dim: int
    deficient: IntArray
    source: str
    known_unit: bool = True
    options: MeasureOptions = field(default_factory=MeasureOptions)
    degrees_of_freedom: FloatArray = field(default_factory=lambda: np.empty(0))  # none given: infinite
    precision: str = "double"
    noise: float = 0.0
    noise_of_points: FloatArray = field(default_factory=lambda: np.empty(0))
    _usable: IntArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        usable = np.ones(len(self.points), dtype=bool)
        usable[self.deficient] = False
        object.__setattr__(self, "_usable", np.flatnonzero(usable))
        if len(self.degrees_of_freedom) == 0:
            object.__setattr__(self, "degrees_of_freedom", np.full(len(self.points), np.inf))

    def __len__(self) -> int:
        return len(self.points)

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and of measurements, (n, m)."""
        return (len(self), self.points.shape[1])

    # Neither a sequence of its rows nor an array: what would take it for one gets an error that says so.
    __iter__ = None

    def __array__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise errors.DataTypeError("an Observation is no array; its measurements are .points")

    def __repr__(self) -> str:
        left_out = f", {len(self.deficient)} rank-deficient" if len(self.deficient) else ""
        rest = f"from {self.source}{self.options.over_bursts}{left_out}"
        return f"Observation({len(self)} samples, {self.shape[1]} measurements, dim={self.dim}, {rest})"

    @property
    def usable(self) -> IntArray:
        """Rows with a whitening of full rank, ascending."""
        return self._usable

    @property
    def layer(self) -> str | None:
        """Name of the layer that was measured; None is the output."""
        return self.options.layer

    @property
    def neurons(self) -> IntArray | None:
        """Which columns of the layer were measured, (m,)."""
        return self.options.neurons

    @property
    def scale(self) -> float | None:
        """Standard deviation of the bursts, in input units."""
        return self.options.scale

    def __getitem__(self, rows: Any) -> Observation:
        """The observation of some of the samples, in the order of the rows.

        Parameters
        ----------
        rows : int, array_like of int, array_like of bool of shape (n,), or slice
            Row numbers (negative ones count from the end), a mask, or a range.

        Raises
        ------
        InputError, DataTypeError, ShapeError
            Rows outside of the sample, or none at all; rows that are no integers; masks of another length.
        """
        chosen = chosen_rows(rows, len(self))
        own = self.noise_of_points[chosen] if len(self.noise_of_points) else self.noise_of_points
        return replace(
            self,
            points=self.points[chosen],
            whitening=self.whitening[chosen],
            singular_values=self.singular_values[chosen],
            deficient=np.flatnonzero(np.isin(chosen, self.deficient)),
            degrees_of_freedom=self.degrees_of_freedom[chosen],
            noise=usual_noise(own) if len(own) else self.noise,
            noise_of_points=own,
        )

    def select(self, neurons: ArrayLike | Chosen) -> Observation:
        """The observation of fewer neurons at the same samples, as if only these had been measured.

        Parameters
        ----------
        neurons : array_like of int, (k,), or NeuronSet
            Their numbers in the layer, in the wanted order (where `neurons` is None, columns of `points`); or what
            `diffeo.suggest_neurons` chose.

        Returns
        -------
        Observation
            With the local covariances of these neurons, J_S J_S^T. Of bursts, the part beyond the d-th singular value,
            which is curvature and noise, is not in it.

        Raises
        ------
        InputError, RankError
            Neurons that were not measured, or listed twice; fewer than `dim` neurons, or neurons that do not respond to all
            directions on more than 1 % of the samples.

        Examples
        --------
        >>> import numpy as np, diffeo
        >>> x = np.random.default_rng(0).random((500, 2))
        >>> slopes = np.random.default_rng(1).normal(size=(20, 2))
        >>> y = np.tanh(x @ slopes.T)
        >>> layer = diffeo.Observation.from_jacobians(y, (1 - y**2)[:, :, None] * slopes)
        >>> layer.select(diffeo.suggest_neurons(layer))
        Observation(500 samples, 5 measurements, dim=2, from jacobians)
        """
        columns = chosen_columns(neurons, self.neurons, self.points.shape[1])
        points = np.ascontiguousarray(self.points[:, columns])
        warn_of_constants(points)
        found = fewer_measurements(
            points,
            self.whitening[:, columns],
            self.singular_values,
            self.degrees_of_freedom,
            self.source,
            self.precision,
        )
        options = self.options
        if options.neurons is not None:
            options = replace(options, neurons=options.neurons[columns])
        deficient = np.union1d(self.deficient, found.deficient)
        return replace(self, points=points, **found._asdict() | {"deficient": deficient}, options=options)

    def measure(
        self,
        model: Any,
        inputs: Any,
        *,
        reduce: Reduction = None,
        tangents: Any = None,
        batch_size: int = 1024,
        device: Any = None,
        verbose: bool = False,
    ) -> FloatArray:
        """Measure a network at other inputs as it was observed, ndarray (L, m): for landmarks and held-out pairs.

        Parameters
        ----------
        model : torch.nn.Module
            The network that was observed. Layer, neurons, reduction and smoothing are those of the observation.
        inputs : array_like or torch.Tensor of shape (L, ...)
        reduce : callable, optional
            Only for an observation from a file whose `reduce` was a callable, which no file holds.
        tangents, batch_size, device, verbose
            As in `diffeo.observe`; tangents are needed where the network was smoothed along them.

        Raises
        ------
        InputError
            How the observation was measured is not known; or the network is another one: its layer has another width, or
            computes in a coarser precision.
        ParameterError, LayerError, CaptureError, NonFiniteError, DataTypeError
            `reduce` is missing, or another one than that of the observation; else as in `diffeo.observe`.
        """
        from diffeo.networks.observe_networks import measure_alike

        rule = self.options.rule(reduce)
        return measure_alike(self, model, inputs, rule, tangents, batch_size=batch_size, device=device, verbose=verbose)

    @cached_property
    def length_noise(self) -> float:
        """Relative standard deviation of the length sqrt(q) of a usual edge of the neighbour graph from noise.

        That of the metric itself, 1/(2 sqrt(K - d - 4)) for bursts of K and 1/sqrt(2 (nu - d - 3)) after smoothing
        to nu degrees of freedom, and of the rounding of the measurements: about 1e-7 of their range, through the
        whitening, over the spacing of the samples, for networks in single precision. Computed once.
        """
        free = self.degrees_of_freedom[self.usable]
        sampling = sampling_noise_of_lengths(free, self.dim, independent=self.source != "smoothed")
        return math.hypot(sampling, self.rounding_noise)

    @cached_property
    def rounding_noise(self) -> float:
        """That of `length_noise` which is from the rounding of the measurements alone."""
        rows = self.usable
        return rounding_of_lengths(self.points[rows], self.whitening[rows], self.precision)

    @cached_property
    def rank_map(self) -> RankMap:
        """Where the local covariances have which rank; printed, it says so in words.

        Of bursts and neighbours up to `dim`, beyond which theirs are curvature and noise. Computed once.
        """
        values = self.singular_values if self.source in EXACT_SOURCES else self.singular_values[:, : self.dim]
        return ranks_of(self.points, values, floor_of(self.source, self.precision))

    @classmethod
    def from_jacobians(
        cls, points: ArrayLike, jacobians: ArrayLike, *, dim: int | None = None, noise: ArrayLike | None = None
    ) -> Observation:
        """Build from measurements and their Jacobians with respect to the common inputs.

        Parameters
        ----------
        points : array_like of shape (n, m)
        jacobians : array_like of shape (n, m, p)
            dy/dx at each sample, or its product with d orthonormal tangents of the input set. Each may be multiplied
            from the right by its own orthogonal matrix: only J_i J_i^T is used.
        dim : int, optional
            Intrinsic dimension. Default: the largest d with s_d above 1e-6 of s_1 (or of its median, whichever is
            larger) on 99 % of the samples; or on 90 %, with a `RankWarning` that names the others.
        noise : float or array_like of shape (n,), optional
            Standard deviation of the noise of the points, of all or of each, in units of the measurements: the same in every
            measurement, and independent. Default: charts estimate it from what lies across the manifold. 0: there is none.

        Raises
        ------
        ShapeError, NonFiniteError, DataTypeError, RankError
            Data that do not fit; more than 1 % of the samples are rank-deficient (fewer are listed with a `RankWarning`).
        """
        return cls(**vars(by_jacobians(points, jacobians, dim).noisy(noise)))

    @classmethod
    def from_bursts(
        cls,
        points: ArrayLike,
        bursts: ArrayLike,
        *,
        scale: float = 1.0,
        dim: int | None = None,
        shrinkage: Shrinkage = None,
        noise: ArrayLike | None = None,
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
        noise
            Of `points`, as in `from_jacobians`.

        Raises
        ------
        SampleSizeError, ShapeError, NonFiniteError, DataTypeError, ParameterError, RankError
            Too few members in a burst; else as in `from_jacobians`.

        See Also
        --------
        diffeo.observation.burst_smoothing.smoothed : Smooths bursts before they are embedded; figures by their size.
        """
        return cls(**vars(by_bursts(points, bursts, scale, dim, shrinkage).noisy(noise)))

    @classmethod
    def from_covariances(
        cls, points: ArrayLike, covariances: ArrayLike, *, dim: int | None = None, noise: ArrayLike | None = None
    ) -> Observation:
        """Build from measurements and given local covariances per unit of input covariance.

        Parameters
        ----------
        points : array_like of shape (n, m)
        covariances : array_like of shape (n, m, m)
            Symmetric and positive semi-definite C_i = J_i J_i^T. In single precision (numbers that are its multiples) they
            resolve singular values down to 1e-3 of the largest only.
        dim, noise
            As in `from_jacobians`.

        Raises
        ------
        InputError
            Covariances that are not symmetric (to 1e-8 of the largest entry, 1e-6 in single precision) or have negative
            eigenvalues.
        """
        return cls(**vars(by_covariances(points, covariances, dim).noisy(noise)))

    @classmethod
    def from_neighbors(
        cls,
        points: ArrayLike,
        reference: ArrayLike | None = None,
        *,
        n_neighbors: int = 32,
        dim: int | None = None,
        noise: ArrayLike | None = None,
    ) -> Observation:
        """Build from measurements and reference coordinates in which nearby samples are known.

        J_i is the local least-squares fit of `points` on `reference` over the nearest samples there, more where noise asks.

        Parameters
        ----------
        points : array_like of shape (n, m)
        reference : array_like of shape (n, p), optional
            Inputs, time along a smooth trajectory, a physical state; fits are along the tangents of a curved set, as (cos, sin)
            of an angle. Without it, nearest samples in `points` are used, which tell nothing of the stretch: accepted only
            for ``dim=1``, and the unit of length stays unknown.
        n_neighbors : int
            Samples in each neighbourhood, the sample itself included; at least p + 2. Up to sixteen times as many are taken,
            where noise is more than 1 % of a Jacobian and more neighbours show the same.
        dim : int, optional
            As in `from_bursts`; required (as 1) without a reference.
        noise
            As in `from_jacobians`.

        Raises
        ------
        SampleSizeError, RankError, InputError
            Fewer samples than `n_neighbors`; neighbours that do not span the reference space; time as reference of a path that
            noise drives.
        """
        return cls(**vars(by_neighbors(points, reference, n_neighbors, dim).noisy(noise)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_observation

        save_observation(self, path)
