"""How neurons of a network respond to small changes of its input: derivatives, or perturbed copies."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import seeded
from diffeo._support.notebook import NotebookBar, in_notebook
from diffeo.networks.batches import N_COPIES, as_tensor, bad_rows, count, raise_non_finite, sample_set, say_cost
from diffeo.networks.bursts.burst_sizes import members
from diffeo.networks.bursts.slope_choice import (
    Slopes,
    chosen_slopes,
    cut_to_rank,
    rank_shown,
    say_slopes,
    scale_and_size,
)
from diffeo.networks.hooks import TRIAL_ROWS, Layers
from diffeo.networks.layer_names import resolve, say
from diffeo.networks.looking.operators import OperatorsUsed
from diffeo.networks.model_state import alternatives, checked_model, failures_named, prepared, say_way
from diffeo.networks.recipes.measured import Measurement
from diffeo.networks.recipes.recipe import Asked, BurstSize, CovarianceKind, Neurons, Recipe
from diffeo.networks.reduction import check_reduce, neurons_of, rule_for, rules_of
from diffeo.networks.responses import (
    Samples,
    auto_scale,
    check_samples,
    looked_over,
    measure_bursts,
    measure_jacobians,
    measure_slopes,
    warn_of_half_precision,
    warn_of_kinks,
)
from diffeo.observation.how_measured import MeasureOptions

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")


__all__ = [
    "BurstSize",
    "CovarianceKind",
    "Measurement",
    "Neurons",
    "Recipe",
    "bar_of",
    "check_measured",
    "measure",
    "measure_layers",
    "measured_layers",
    "one_layer",
    "settled",
]


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
    covariances : {"auto", "jacobians", "slopes", "bursts"}
        Derivatives; "slopes", Jacobians fitted to perturbed copies of each input, for networks with kinks; or "bursts", the
        copies themselves. "auto": derivatives, or slopes for layers with operators that have kinks, where these predict steps
        between neighbouring samples better. Points are the same.
    n_bursts : int or "auto"
        K, perturbed copies per sample; "auto" takes as many as the verdict needs (`diffeo.networks.bursts`).
    scale : float, optional
        Standard deviation of the perturbations per direction, in input units. None: of slopes about 0.7 times the spacing of
        the samples (root mean square over all directions); of bursts 0.02 sqrt(V / p), V the total variance of the inputs, p
        the number of directions (0.02 of the rms spread).
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
        The layer is computed with rectifiers, max pooling or the like, and Jacobians were asked for, or "auto" takes slopes.
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
    with _ready(model, inputs, layers, recipe) as ready, bar_of(inputs, recipe.verbose) as bar:
        if not ready.by_slopes:
            return _measured(ready, bar)
    say_slopes(ready.by_slopes, ready.kinks)
    measured = dict[str, Measurement]()
    for way in dict.fromkeys(ready.by_slopes.get(key) for key in ready.layers.keys):
        part = [key for key in ready.layers.keys if ready.by_slopes.get(key) == way]
        with errors.unsaid(errors.PiecewiseLinearWarning):  # it was chosen by what the network shows
            measured |= measured_layers(model, ready.inputs, part, ready.settled(way, part))
    return {key: measured[key].as_auto() for key in ready.layers.keys}


def settled(model: Any, inputs: Any, layer: str, recipe: Recipe) -> Recipe:
    """The recipe for one layer, with "auto" decided by all of the inputs and said as `measured_layers` does."""
    with _ready(model, inputs, [layer], recipe) as ready:
        if recipe.covariances == "slopes":
            found = scale_and_size(recipe.n_bursts, recipe.scale, ready.samples, ready.batch_size)
            return ready.settled(Slopes(*found, *ready.ranks()), ready.layers.keys)
        if recipe.covariances != "auto":
            return ready.recipe
        way = None if not ready.by_slopes else next(iter(ready.by_slopes.values()))
        if ready.by_slopes:
            say_slopes(ready.by_slopes, ready.kinks)
        elif ready.by_slopes is None:
            warn_of_kinks(ready.kinks)
        return ready.settled(way, ready.layers.keys)


@dataclass(frozen=True, eq=False)
class _Ready:
    """Layers that were tried and looked over: their widths, operators, those with kinks, and which slopes are to be taken of.

    `by_slopes` is None where nothing tells, or nothing was to be told.
    """

    layers: Layers
    samples: Samples
    inputs: Any
    recipe: Recipe
    widths: list[int]
    looks: list[OperatorsUsed]
    kinks: dict[str, list[str]]
    by_slopes: dict[str, Slopes] | None

    @property
    def batch_size(self) -> int:
        """Samples a pass."""
        batch_size = self.recipe.batch_size
        return batch_size if self.recipe.smooth is None else max(1, batch_size // N_COPIES)

    def ranks(self) -> list[int]:
        """The largest rank that slopes of each layer can have."""
        own = self.recipe.rank
        layers = map(self.layers.only, range(len(self.layers.keys)))
        return [rank_shown(one, self.samples, self.batch_size) if own is None else own for one in layers]

    def settled(self, way: Slopes | None, keys: Iterable[str]) -> Recipe:
        """The recipe for some of the layers, by slopes or by derivatives, with the neurons that were drawn."""
        at = [self.layers.keys.index(key) for key in keys]
        return replace(
            self.recipe,
            neurons={self.layers.keys[k]: self.layers.neurons[k] for k in at},
            reduce=rules_of([self.layers.targets[k] for k in at], self.recipe.reduce),
            covariances="jacobians" if way is None else "slopes",
            scale=None if way is None else way.scale,
            n_bursts="auto" if way is None else way.n_bursts,
            rank=None if way is None else way.rank,
        )


@contextmanager
def _ready(model: Any, inputs: Any, layers: str | Iterable[str], recipe: Recipe) -> Iterator[_Ready]:
    model = checked_model(model)
    inputs = sample_set(inputs)
    recipe = recipe.checked()
    targets = resolve(model, layers)
    check_reduce(recipe.reduce, [target.name for target in targets])
    if callable(recipe.tangents):
        recipe = replace(recipe, tangents=recipe.tangents(inputs))
    samples = Samples.of(inputs, recipe.tangents)
    check_samples(samples, recipe.covariances, recipe.batch_size)
    with prepared(model, recipe.device) as (place, dtype):
        own = dtype or as_tensor(samples.inputs[:1]).dtype
        chosen = Layers(model, targets, place, own, recipe.reduce, recipe.smooth)
        chosen.form = None if samples.named is None else samples.named.form
        ready = _Ready(chosen, samples, inputs, recipe, [], [], {}, None)
        widths = _tried(chosen, samples, alternatives(model, dtype, own, ready.batch_size, len(samples)))
        chosen.neurons = [*neurons_of(chosen.keys, widths, recipe.neurons, recipe.rng)]
        looks = looked_over(chosen, samples)
        # A network that is smoothed has no kinks.
        smooth = recipe.smooth is not None
        kinks = {} if smooth else {key: [*o.kinked] for key, o in zip(chosen.keys, looks, strict=True) if o.kinked}
        by_slopes = None
        if recipe.covariances == "auto" and kinks:
            by_slopes = chosen_slopes(chosen, kinks, samples, recipe.n_bursts, recipe.scale, recipe.batch_size)
        yield replace(ready, widths=widths, looks=looks, kinks=kinks, by_slopes=by_slopes)


def _measured(ready: _Ready, bar: Any) -> dict[str, Measurement]:
    """Measure layers, all of them in one way."""
    chosen, samples, recipe, batch_size = ready.layers, ready.samples, ready.recipe, ready.batch_size
    scale, kind, precision = recipe.scale, recipe.covariances, "double" if chosen.dtype.itemsize == 8 else "single"
    _logger.info("computing in %s on %s; results are float64", chosen.dtype, chosen.place)
    say_cost(recipe.smooth)
    if kind == "jacobians" or (kind == "auto" and ready.by_slopes is None):
        warn_of_kinks(ready.kinks)
    proof = {"kinked": any(o.kinked for o in ready.looks), "half": any(o.half for o in ready.looks)}
    n_bursts: int | None = None
    if kind == "bursts":
        n_bursts = members(recipe.n_bursts, len(samples), samples.n_directions)
        scale = scale or auto_scale(samples, batch_size, chosen.dtype)
        found = measure_bursts(chosen, samples, n_bursts, scale, seeded(recipe.rng), batch_size, bar)
    elif kind == "slopes":
        scale, n_bursts = scale_and_size(recipe.n_bursts, scale, samples, batch_size)
        found = measure_slopes(chosen, samples, n_bursts, scale, seeded(recipe.rng), batch_size, bar)
        ranks = ready.ranks()
        found = [(y, cut_to_rank(slopes, rank)) for (y, slopes), rank in zip(found, ranks, strict=True)]
    else:
        scale = None
        found = measure_jacobians(chosen, samples, batch_size, bar, **proof)
    warn_of_half_precision([say(key) for key in chosen.keys], [name for look in ready.looks for name in look.half])
    common = MeasureOptions(
        smooth=recipe.smooth,
        covariances=kind,
        n_bursts=n_bursts,
        scale=scale,
        tangents=recipe.tangents is not None,
        complete=True,
    )
    measured = {}
    for k, (key, (points, around)) in enumerate(zip(chosen.keys, found, strict=True)):
        rule = rule_for(chosen.targets[k], recipe.reduce)
        options = replace(common, layer=key or None, neurons=chosen.neurons[k], width=ready.widths[k], reduce=rule)
        jacobians, perturbed = (None, around) if kind == "bursts" else (around, None)
        measured[key] = Measurement(points, jacobians, perturbed, options, precision, samples.n_directions)
    return measured


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
