"""How neurons of a network respond to small changes of its input: derivatives, or perturbed copies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, integer, real, seeded
from diffeo._support.notebook import NotebookBar, in_notebook
from diffeo.networks.batches import (
    N_COPIES,
    as_tensor,
    bad_rows,
    check_smooth,
    count,
    raise_non_finite,
    sample_set,
    say_cost,
)
from diffeo.networks.bursts.burst_sizes import kinked_layers, members, say_bursts, spacing_scale
from diffeo.networks.hooks import TRIAL_ROWS, Layers
from diffeo.networks.layer_names import resolve, say
from diffeo.networks.model_state import alternatives, checked_model, failures_named, prepared, say_way
from diffeo.networks.reduction import Reduce, check_reduce, neurons_of, rule_for, rules_of
from diffeo.networks.responses import Samples, auto_scale, check_samples, measure_bursts, measure_jacobians
from diffeo.observation.how_measured import MeasureOptions

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")


@dataclass(frozen=True, eq=False)
class Measurement:
    """What `measure` saw of one layer at n samples; exactly one of `jacobians` and `bursts` is there.

    Attributes
    ----------
    points : ndarray (n, m), float64, C-contiguous
        The measured neurons.
    jacobians : ndarray (n, m, p), float64, or None
        dy/dx on flattened inputs (p = input size), or (dy/dx) T with p = d tangents.
    bursts : ndarray (n, K, m), float64, or None
        The same neurons at K perturbed inputs per sample.
    options : MeasureOptions
        How it was measured. Its layer has ":k" for the k-th of several calls, and its scale is None with Jacobians.
    precision : str
        "single" or "double": in which the network computed.
    directions : int or None
        Number of tangents, or of coordinates of an input: no more dimensions can show.
    """

    points: FloatArray
    jacobians: FloatArray | None
    bursts: FloatArray | None
    options: MeasureOptions
    precision: str = "double"
    directions: int | None = None

    def __post_init__(self) -> None:
        if (self.jacobians is None) == (self.bursts is None):
            raise errors.InputError("a measurement has either jacobians or bursts")
        if (self.scale is None) != (self.bursts is None):
            raise errors.InputError("bursts need the scale of their perturbations, and Jacobians have none")

    def joined(self, more: Measurement) -> Measurement:
        """Both this and what was measured alike at further samples."""
        around = None if self.jacobians is None else np.concatenate([self.jacobians, _there(more.jacobians)])
        bursts = None if self.bursts is None else np.concatenate([self.bursts, _there(more.bursts)])
        points = np.concatenate([self.points, more.points])
        return replace(self, points=points, jacobians=around, bursts=bursts)

    def select(self, columns: IntArray) -> Measurement:
        """Some of the measured columns, in this order."""
        around = None if self.jacobians is None else np.ascontiguousarray(self.jacobians[:, columns])
        bursts = None if self.bursts is None else np.ascontiguousarray(self.bursts[:, :, columns])
        options = replace(self.options, neurons=self.neurons[columns])
        points = np.ascontiguousarray(self.points[:, columns])
        return replace(self, points=points, jacobians=around, bursts=bursts, options=options)

    def with_scale(self) -> tuple[FloatArray, float]:
        """Bursts and their scale, of a measurement that has them."""
        if self.bursts is None or self.scale is None:
            raise errors.InputError("a measurement of Jacobians has no bursts")
        return self.bursts, self.scale

    @property
    def layer(self) -> str | None:
        """Name of the layer; None is the output."""
        return self.options.layer

    @property
    def neurons(self) -> IntArray:
        """Which columns of the flattened layer were measured, (m,)."""
        return np.arange(self.points.shape[1]) if self.options.neurons is None else self.options.neurons

    @property
    def scale(self) -> float | None:
        """Standard deviation of the perturbation per direction, in input units; None with Jacobians."""
        return self.options.scale


def _there(values: FloatArray | None) -> FloatArray:
    if values is None:
        raise errors.InputError("one measurement has derivatives, and the other bursts")
    return values


CovarianceKind = Literal["jacobians", "bursts", "auto"]
BurstSize = int | Literal["auto"]
Neurons = int | ArrayLike | None


class Asked(TypedDict, total=False):
    """Keywords of `measure`, which are fields of `Recipe`."""

    reduce: Reduce
    smooth: float | None
    neurons: Neurons | Mapping[str, Any]
    covariances: CovarianceKind
    n_bursts: BurstSize
    scale: float | None
    tangents: NDArray[Any] | torch.Tensor | None
    batch_size: int
    device: Any
    rng: int | np.random.Generator | None
    verbose: bool


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is asked of a measurement; the fields are described at `measure`. What came of it, `MeasureOptions` says."""

    reduce: Reduce = None
    smooth: float | None = None
    neurons: Neurons | Mapping[str, Any] = None
    covariances: CovarianceKind = "jacobians"
    n_bursts: BurstSize = 32
    scale: float | None = None
    tangents: Any = None
    batch_size: int = 1024
    device: Any = None
    rng: int | np.random.Generator | None = 0
    verbose: bool = False

    def checked(self) -> Recipe:
        """The recipe with its numbers as Python's own, after all parameters that need no network were checked."""
        integer(self.batch_size, "batch_size", 1)
        if self.covariances not in ("jacobians", "bursts", "auto"):
            raise errors.ParameterError(f"covariances is 'jacobians', 'bursts' or 'auto'; got {self.covariances!r}")
        if self.covariances != "jacobians":
            if self.n_bursts != "auto":
                integer(self.n_bursts, "n_bursts", 2)
        elif self.scale is not None:
            raise errors.ParameterError("scale is for covariances='bursts' or 'auto'; Jacobians have none")
        scale = None if self.scale is None else real(self.scale, "scale", above=0.0)
        return replace(self, scale=scale, smooth=check_smooth(self.smooth))


def measure(
    model: torch.nn.Module, inputs: NDArray[Any] | torch.Tensor, *, layer: str | None = None, **asked: Unpack[Asked]
) -> Measurement:
    """Measure neurons of one layer, and how they respond to small changes of each input.

    Parameters
    ----------
    model : torch.nn.Module
        As in `capture`; a sample's activations must not depend on the other samples, nor on chance.
    inputs : ndarray or torch.Tensor (n, ...), floating
        Finite; computed with in the dtype of the model's parameters.
    layer : str, optional
        Dotted name, with ":k" for the k-th call; None is the output. What follows runs in one trial only.
    reduce : {None, "mean", "first", "last"}, callable or mapping
        How positions (tokens, time steps, pixels) are reduced, as in `capture`.
    smooth : float, optional
        Measure the network averaged over 32 fixed Gaussian perturbations of this standard deviation, as in `capture`, at 32
        times the cost, along the tangents where these are given. Landmarks must be captured with the same number.
    neurons : int or array of int, optional
        None: all; a number: so many, drawn by ``np.random.default_rng(rng)``, sorted; an array: those. Columns of what
        `reduce` leaves.
    covariances : {"jacobians", "bursts", "auto"}
        Derivatives, or perturbed copies of each input; "auto" takes these, at the spacing of the samples, for layers with
        operators that have kinks, and derivatives for others. Points are the same.
    n_bursts : int or "auto"
        K, perturbed copies per sample; "auto" takes as many as `diffeo.networks.bursts.burst_sizes` says.
    scale : float, optional
        Standard deviation of the perturbations per direction, in input units. None: 0.02 sqrt(V / p), V the total variance of
        the inputs, p the number of directions (0.02 of the rms spread); with "auto" the spacing of the samples.
    tangents : ndarray or torch.Tensor (n, ..., d), or callable, optional
        Orthonormal directions T_i (input shape, then d) of each sample: Jacobians are (dy/dx_i) T_i, bursts
        y(x_i + T_i z) with z ~ N(0, scale^2 I). None: all p input coordinates (Jacobians: p <= 64). A callable makes them
        of the inputs.
    batch_size : int
        Rows per pass. Perturbations do not depend on it.
    device : torch device, optional
        As in `capture`.
    rng : int, Generator or None
        Seed of the neurons drawn and of the bursts.
    verbose : bool
        Show a tqdm bar.

    Returns
    -------
    Measurement
        float64, whatever dtype it was computed in (that is logged).

    Raises
    ------
    CaptureError
        Random outputs, outputs that mix samples, derivatives that are all zero, networks that fail (module and rows are
        named).
    DataTypeError, ShapeError, ParameterError, NonFiniteError, LayerError
        Inputs, tangents or parameters that cannot be used, non-finite results (layer, rows and number named).

    Warns
    -----
    PiecewiseLinearWarning
        The layer is computed with rectifiers, max pooling or the like, and Jacobians were asked for, or "auto" takes bursts.
    ForwardModeWarning
        Forward mode fails, or contradicts differences: reverse mode was used, or differences where that does, too.
    PrecisionWarning
        Some of it is computed in half precision.
    """
    (measured,) = measured_layers(model, inputs, [one_layer(model, layer)], Recipe(**asked)).values()
    check_measured(measured)
    return measured


def measure_layers(
    model: torch.nn.Module,
    inputs: NDArray[Any] | torch.Tensor,
    layers: str | Iterable[str],
    **asked: Unpack[Asked],
) -> dict[str, Measurement]:
    """Measure several layers in the same passes; each as `measure` would alone, with the same seed.

    Parameters
    ----------
    layers : str or iterable of str
        Names and patterns, as in `capture`; "" is the output.
    neurons : as in `measure`, or mapping of layers to that
        Layers without an entry are measured whole.
    model, inputs, and other keywords
        As in `measure`.

    Returns
    -------
    dict of str to Measurement
        Layers that are constant or hold NaN are in it; `check_measured` tells.
    """
    return measured_layers(model, inputs, layers, Recipe(**asked))


def measured_layers(
    model: torch.nn.Module, inputs: NDArray[Any] | torch.Tensor, layers: str | Iterable[str], recipe: Recipe
) -> dict[str, Measurement]:
    """What `measure_layers` gives, by a recipe."""
    model = checked_model(model)
    inputs = sample_set(inputs)
    recipe = recipe.checked()
    if recipe.covariances == "auto":
        return _by_operators(model, inputs, layers, recipe)
    scale, smooth, batch_size = recipe.scale, recipe.smooth, recipe.batch_size
    targets = resolve(model, layers)
    check_reduce(recipe.reduce, [target.name for target in targets])
    samples = Samples.of(inputs, recipe.tangents(inputs) if callable(recipe.tangents) else recipe.tangents)
    check_samples(samples, recipe.covariances, batch_size)
    if smooth is not None:
        batch_size = max(1, batch_size // N_COPIES)
    with prepared(model, recipe.device) as (place, dtype), bar_of(inputs, recipe.verbose) as bar:
        own = dtype or as_tensor(samples.inputs[:1]).dtype
        chosen = Layers(model, targets, place, own, recipe.reduce, smooth)
        chosen.form = None if samples.named is None else samples.named.form
        widths = _tried(chosen, samples, alternatives(model, dtype, own, batch_size, len(samples)))
        _logger.info("computing in %s on %s; results are float64", chosen.dtype, place)
        say_cost(smooth)
        numbers = neurons_of(chosen.keys, widths, recipe.neurons, recipe.rng)
        chosen.neurons = [*numbers]
        n_bursts = (
            members(recipe.n_bursts, len(samples), samples.n_directions) if recipe.covariances == "bursts" else None
        )
        if n_bursts is None:
            found = measure_jacobians(chosen, samples, batch_size, bar)
        else:
            scale = scale or auto_scale(samples, batch_size, chosen.dtype)
            found = measure_bursts(chosen, samples, n_bursts, scale, seeded(recipe.rng), batch_size, bar)
        common = MeasureOptions(
            smooth=smooth,
            covariances=recipe.covariances,
            n_bursts=n_bursts,
            scale=scale,
            tangents=recipe.tangents is not None,
            complete=True,
        )
        precision = "double" if str(chosen.dtype) == "torch.float64" else "single"
        measured = {}
        for k, (key, (points, around)) in enumerate(zip(chosen.keys, found, strict=True)):
            rule = rule_for(chosen.targets[k], recipe.reduce)
            options = replace(common, layer=key or None, neurons=numbers[k], width=widths[k], reduce=rule)
            jacobians, perturbed = (around, None) if n_bursts is None else (None, around)
            measured[key] = Measurement(points, jacobians, perturbed, options, precision, samples.n_directions)
        return measured


def _by_operators(model: Any, inputs: Any, layers: str | Iterable[str], recipe: Recipe) -> dict[str, Measurement]:
    """Layers with operators that have kinks by bursts at the spacing of the samples, and others by derivatives."""
    targets = resolve(model, layers)
    check_reduce(recipe.reduce, [target.name for target in targets])
    if callable(recipe.tangents):
        recipe = replace(recipe, tangents=recipe.tangents(inputs))
    samples = Samples.of(inputs, recipe.tangents)
    check_samples(samples, "bursts", recipe.batch_size)
    with errors.unsaid(errors.DiffeoWarning), prepared(model, recipe.device) as (place, dtype):
        own = dtype or as_tensor(samples.inputs[:1]).dtype
        tried = Layers(model, targets, place, own, recipe.reduce, recipe.smooth)
        tried.form = None if samples.named is None else samples.named.form
        widths = _tried(tried, samples, alternatives(model, dtype, own, recipe.batch_size, len(samples)))
        # A network that is smoothed has no kinks.
        kinks = kinked_layers(tried, samples) if recipe.smooth is None else {}
    neurons_of(tried.keys, widths, recipe.neurons, 0)
    scale = recipe.scale
    if kinks:
        scale = scale or spacing_scale(samples, recipe.batch_size)
        say_bursts(kinks, members(recipe.n_bursts, len(samples), samples.n_directions), scale)
    measured, neurons = dict[str, Measurement](), recipe.neurons
    kinds: list[CovarianceKind] = ["jacobians", "bursts"]
    for kind, width in zip(kinds, (None, scale), strict=True):
        both = zip(tried.keys, tried.targets, strict=True)
        part = {key: target for key, target in both if (key in kinks) == (kind == "bursts")}
        how = replace(recipe, covariances=kind, scale=width, reduce=rules_of(part.values(), recipe.reduce))
        if isinstance(neurons, Mapping):
            how = replace(how, neurons={key: neurons[key] for key in part if key in neurons})
        if part:
            measured |= measured_layers(model, inputs, [*part], how)
    found = [replace(measured[key], options=replace(measured[key].options, covariances="auto")) for key in tried.keys]
    return dict(zip(tried.keys, found, strict=True))


def _tried(layers: Layers, samples: Samples, ways: Iterable[tuple[torch.dtype | None, int | None]]) -> list[int]:
    """Try the layers out, in the first way in which the network runs; return their widths."""
    own, failure = layers.dtype, None
    block, trial, directions = next(samples.blocks(TRIAL_ROWS))
    for dtype, layers.fixed in ways:
        layers.dtype = dtype or own
        try:
            widths = layers.try_out(trial, directions, samples.held(block))
        except (errors.DiffeoError, MemoryError):
            raise
        except Exception as error:
            failure = failure or error
            continue
        say_way(dtype, layers.fixed)
        return widths
    with failures_named(layers.model, 0, len(trial)):
        raise failure or AssertionError("there is one way, at least")


def check_measured(measured: Measurement) -> None:
    """Refuse a measurement with NaN or infinity, or with derivatives that are all zero."""
    what = say(measured.layer or "")
    arrays = [values for values in (measured.points, measured.jacobians, measured.bursts) if values is not None]
    bad = np.unique(np.concatenate([bad_rows(values) for values in arrays]))
    raise_non_finite({what: bad}, len(measured.points))
    if measured.jacobians is not None and not measured.jacobians.any():
        raise errors.CaptureError(
            f"{what} does not depend on the input: all its derivatives are zero (of a network with quantised activations they "
            "always are: take covariances='bursts' with a scale wider than its steps)"
        )


def one_layer(model: Any, layer: str | None) -> str:
    """The name of the one layer that is asked for."""
    if layer is not None and not isinstance(layer, str):
        raise errors.DataTypeError(
            f"layer is one name, or None for the output; got {type(layer).__name__}. For several: observe_layers"
        )
    target, *others = resolve(checked_model(model), layer or "")
    if others:
        raise errors.LayerError(
            f"{layer!r} matches several layers, measure takes one: {[target.name, *(t.name for t in others)]}"
        )
    # By its own name a layer counts as asked for by name: it must be called, and once.
    return target.name if target.call is None else f"{target.name}:{target.call}"


def bar_of(inputs: Any, verbose: bool) -> Any:
    """A bar of samples; without an end if the inputs are an iterable of batches."""
    from tqdm import tqdm

    total = count(inputs)
    if verbose and in_notebook():
        return NotebookBar("capture", total, "sample")
    return tqdm(total=total, unit="sample", desc="capture", disable=not verbose)
