"""observe: from a network and inputs to an observation of some neurons, of one layer or of several in the same passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, integer
from diffeo._support.threads import sound
from diffeo.networks.capture_activations import capture
from diffeo.networks.layer_names import say
from diffeo.networks.measurement import (
    BurstSize,
    CovarianceKind,
    Measurement,
    Neurons,
    Recipe,
    check_measured,
    measured_layers,
    one_layer,
)
from diffeo.networks.reduction import Reduce
from diffeo.networks.shards.measured_shards import measured_in_shards
from diffeo.observation.how_measured import Shrinkage
from diffeo.observation.observation import Observation
from diffeo.observation.sampling.input_suggestions import ENOUGH, Between, suggest_inputs
from diffeo.observation.sources import by_bursts

if TYPE_CHECKING:
    import torch

# Rounds in which inputs are added, each where the sample is then too thin.
REFINING_ROUNDS = 6
# Lengths of edges off by more than this from rounding alone are worth a warning.
ROUNDED_LENGTHS = 0.01

_logger = logging.getLogger("diffeo")


@sound
def observe(
    model: torch.nn.Module,
    inputs: NDArray[Any] | torch.Tensor,
    *,
    layer: str | None = None,
    reduce: Reduce = None,
    smooth: float | None = None,
    neurons: Neurons = None,
    covariances: CovarianceKind = "auto",
    n_bursts: BurstSize = "auto",
    scale: float | None = None,
    shrinkage: Shrinkage = None,
    tangents: NDArray[Any] | torch.Tensor | Callable[[Any], Any] | None = None,
    dim: int | None = None,
    noise: ArrayLike | None = None,
    refine: int | None = None,
    between: Between | None = None,
    shards: int | None = None,
    batch_size: int = 1024,
    device: torch.device | str | None = None,
    rng: int | np.random.Generator | None = 0,
    verbose: bool = False,
) -> Observation:
    """Measure a torch module on sampled inputs: activations and their local covariances.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : array_like or torch.Tensor of shape (n, ...), or mapping of str to these
        Points of the common domain. A mapping goes to the arguments of these names: what is floating there varies (all of it
        together is the input), and integers, masks and single values are held.
    layer : str, optional
        Dotted module name, with ":k" for the k-th call of a module that is called several times; None is the output.
    reduce : {None, "mean", "first", "last"}, callable, or mapping of layers to these
        How positions (tokens, time steps, pixels) are reduced before neurons are counted, as in `diffeo.capture`; None
        flattens. `diffeo.RandomProjection` mixes neurons.
    smooth : float, optional
        For piecewise-linear networks (rectifiers, max pooling), whose Jacobians jump: observe the network averaged over 32
        fixed Gaussian perturbations of the input of this standard deviation (input units; the spacing of the samples is a
        good first choice), along the tangents where these are given: 32 times as many passes. Measure landmarks and what is
        to be transformed with the same number, and along their tangents (`Observation.measure`).
    neurons : int or array_like of int, optional
        How many neurons to draw with `rng`, or which; None takes all.
    covariances : {"auto", "jacobians", "slopes", "bursts"}
        "jacobians": exact derivatives by forward mode (one pass a tangent). "slopes": Jacobians fitted to bursts of inputs
        about the spacing of the samples away, for rectifiers, pooling and the like, whose derivatives jump. "bursts":
        covariances of bursts, by the outputs alone. "auto": derivatives; where a layer has operators with kinks, slopes if
        these predict the steps between neighbouring samples better, and says so. Points never depend on it, and landmarks
        need nothing else.
    n_bursts : int or "auto"
        Perturbed inputs a sample, for slopes and bursts; "auto": as many as the verdict needs (`diffeo.networks.bursts`).
    scale : float, optional
        Their standard deviation per input coordinate, or tangent (input units). Default: for slopes as much as makes the root
        mean square perturbation 0.7 times the spacing of the samples; for bursts a fiftieth of the spread of the inputs
        (`diffeo.networks.measurement.measure`).
    shrinkage : "optimal", float or None
        For bursts of networks that compute with noise; see `Observation.from_bursts`.
    tangents : array_like of shape (n, ..., d), or callable, optional
        Orthonormal directions of the input set at each sample, where it fills only a d-dimensional set. A callable makes
        them of inputs (k, ...), as `refine` needs it. Of a mapping of inputs a mapping, without what does not change.
    dim : int, optional
        Intrinsic dimension; see the constructors of `Observation`.
    noise : float or array_like of shape (n,), optional
        Standard deviation of the noise that the network's activations have (dropout left on, sensors in the loop); see
        `Observation.from_jacobians`. Default: charts estimate it.
    refine : int, optional
        Add up to so many inputs where the sample is too thin for the curvature, in six rounds of `diffeo.suggest_inputs`;
        fewer where 99 % of the steps between neighbours are resolved, in weak directions too. They follow the given ones in
        the observation, and ``options.added_inputs`` hands them back. Default, and 0: none.
    between : callable, optional
        For `refine`, as in `diffeo.suggest_inputs`: inputs half way between others, where their mean is none.
    shards : int, optional
        Measure the inputs in so many parts of whole batches, sent with the network to the workers of
        ``joblib.parallel_config(backend="loky")`` (or "dask", "ray"); the bits are those of one go. Threads of one process take
        turns, and gain nothing. Not for covariances="bursts".
    batch_size, device, rng, verbose
        Samples a pass; torch device (default: the model's); seed or generator; progress bar.

    Notes
    -----
    Networks in single precision round what they compute by about 1e-7 of its range (root mean square, measured on three
    networks of 2 to 5 layers), and so do not see how far apart two samples are to better than that over the stretch. It is
    far below everything else where samples are as near as n = 1,000 to 100,000 in a square lie: lengths of edges were off by
    4e-6 to 2e-4, and the coordinates recovered from 10,000 samples as accurate as in double precision (4e-6 and 3e-5 both
    ways for two networks). It grows like 1/spacing and 1/stretch: `Observation.length_noise` counts it, floors of the rank
    respect it, and a warning says when it blurs the usual edge by more than 1 %. Then cast the model (``model.double()``).

    Returns
    -------
    Observation
        Remembers how it was measured (``options``): `Observation.measure` measures other inputs alike.

    Raises
    ------
    LayerError, CaptureError, NonFiniteError, DataTypeError, ParameterError, RankError
        Each says where, how many and what to do.

    Warns
    -----
    DiffeoWarning
        Rounding in single precision blurs distances between neighbouring samples. Or why `refine` will not end: weak
        directions, kinks.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> obs = diffeo.observe(net, x, layer="1")
    >>> obs
    Observation(200 samples, 8 measurements, dim=2, from jacobians)
    >>> obs.measure(net, x[:5]).shape
    (5, 8)
    """
    recipe = Recipe(
        reduce=reduce,
        smooth=smooth,
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
    added = 0 if refine is None else integer(refine, "refine", 0)
    if shards is not None and (added or shrinkage is not None):
        raise errors.ParameterError("shards do not go with refine, nor with shrinkage, which is for bursts")
    if added:
        return refined(model, inputs, layer, recipe, dim, shrinkage, noise, added, between)[1]
    if refine is None and between is not None:
        raise errors.ParameterError("between is for refine=n: nothing is added without it")
    if shards is not None:
        return observed(measured_in_shards(model, inputs, one_layer(model, layer), recipe, shards), dim, None, noise)
    (found,) = observed_layers(
        model, inputs, [one_layer(model, layer)], recipe, dim, shrinkage, noise, named=False
    ).values()
    return found


@sound
def observe_layers(
    model: torch.nn.Module,
    inputs: NDArray[Any] | torch.Tensor,
    layers: str | Iterable[str],
    *,
    reduce: Reduce = None,
    smooth: float | None = None,
    neurons: Neurons | Mapping[str, Neurons] = None,
    covariances: CovarianceKind = "auto",
    n_bursts: BurstSize = "auto",
    scale: float | None = None,
    shrinkage: Shrinkage = None,
    tangents: NDArray[Any] | torch.Tensor | None = None,
    dim: int | None = None,
    noise: ArrayLike | None = None,
    batch_size: int = 1024,
    device: torch.device | str | None = None,
    rng: int | np.random.Generator | None = 0,
    verbose: bool = False,
) -> dict[str, Observation]:
    """Observe several layers of a torch module in the same passes; each equals what `observe` gives of it alone.

    Parameters
    ----------
    model, inputs, smooth, covariances, n_bursts, scale, shrinkage, tangents, dim, noise, batch_size, device, rng, verbose
        As in `observe`.
    layers : str or iterable of str
        Names, `fnmatch` patterns ("blocks.*"), "" for the output, as in `diffeo.capture`.
    reduce : as in `observe`
        A mapping may give each layer its own.
    neurons : int, array_like of int, or mapping of layers to these, optional
        For all layers, or for each; layers without an entry are measured whole.

    Returns
    -------
    dict of str to Observation
        In the order asked for; a module that a pattern matches and that is called several times has ":k" in its name.

    Raises
    ------
    LayerError, CaptureError, NonFiniteError, DataTypeError, ParameterError, RankError, MemoryLimitError
        As in `observe`; of errors of one layer the message begins with its name.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> list(diffeo.observe_layers(net, x, ["0", "1"]))
    ['0', '1']
    """
    recipe = Recipe(
        reduce=reduce,
        smooth=smooth,
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
    return observed_layers(model, inputs, layers, recipe, dim, shrinkage, noise)


def observed_layers(
    model: torch.nn.Module,
    inputs: NDArray[Any] | torch.Tensor,
    layers: str | Iterable[str],
    recipe: Recipe,
    dim: int | None = None,
    shrinkage: Shrinkage = None,
    noise: ArrayLike | None = None,
    *,
    named: bool = True,
) -> dict[str, Observation]:
    """What `observe_layers` gives, by a recipe; messages begin with the layer only where it is `named`."""
    _check_shrinkage(recipe, shrinkage)
    measured = measured_layers(model, inputs, layers, recipe)
    found = {}
    for name in list(measured):
        try:
            # Each is freed once it is observed: Jacobians are the largest of all.
            found[name] = observed(measured.pop(name), dim, shrinkage, noise)
        except errors.DiffeoError as error:
            if not named:
                raise
            raise type(error)(f"layer {name!r}: {error}" if name else f"the output: {error}") from error
    return found


def refined(
    model: torch.nn.Module,
    inputs: Any,
    layer: str | None,
    recipe: Recipe,
    dim: int | None,
    shrinkage: Shrinkage,
    noise: ArrayLike | None,
    n: int,
    between: Between | None,
) -> tuple[Measurement, Observation]:
    """What `observe` measures with ``refine=n``, and the observation that it makes."""
    _check_shrinkage(recipe, shrinkage)
    left = integer(n, "refine", 1)
    if isinstance(inputs, Mapping):
        raise errors.ParameterError(
            "refine= adds inputs to one array of them; a mapping of arguments is observed as it is"
        )
    if noise is not None and np.ndim(noise) > 0:
        raise errors.ParameterError("inputs are added: give one noise= for all, not one for each of those given")
    if recipe.tangents is not None and not (callable(recipe.tangents) and between is not None):
        raise errors.ParameterError(
            "inputs on a set of their own (tangents were given) can be added only if it is known what lies between two of "
            "them: give between=, and tangents= as a callable that makes tangents (k, ..., d) of inputs (k, ...)"
        )
    names = [one_layer(model, layer)]
    (measured,) = measured_layers(model, inputs, names, recipe).values()
    built = observed(measured, dim, shrinkage, noise)
    # What was found from the given inputs holds for all.
    recipe = recipe.like(measured)
    x = inputs.detach().cpu().numpy() if hasattr(inputs, "detach") else np.asarray(inputs)
    count = len(x)
    for done in range(REFINING_ROUNDS + 1):
        found = suggest_inputs(built, x, max(1, -(-left // max(1, REFINING_ROUNDS - done))), between=between)
        settled = found.settled and found.resolved_with_weak >= ENOUGH
        if found.inputs is None or not len(found.inputs) or settled or left == 0 or done == REFINING_ROUNDS:
            break
        rng = recipe.rng + 1 if isinstance(recipe.rng, int) else recipe.rng  # other bursts than before
        recipe = replace(recipe, rng=rng)
        with errors.unsaid(errors.DiffeoWarning):  # of the first pass they were given
            (more,) = measured_layers(model, found.inputs, names, recipe).values()
            measured = measured.joined(more)
            built = observed(measured, built.dim, shrinkage, noise)
        x, left = np.concatenate([x, found.inputs]), left - len(found.inputs)
    _logger.info("refine: %d inputs added, %.1f %% of the steps are resolved", len(x) - count, 100 * found.resolved)
    for problem in found.problems:
        errors.warn(f"refine: {problem}", errors.CurvatureWarning)
    added = np.ascontiguousarray(x[count:], dtype=np.float64)
    return measured, replace(built, options=replace(built.options, added_inputs=added, resolved=found.resolved))


def _check_shrinkage(recipe: Recipe, shrinkage: Shrinkage) -> None:
    if shrinkage is not None and recipe.covariances != "bursts":
        raise errors.ParameterError('shrinkage is for covariances="bursts"; derivatives have no sampling noise')


def observed(
    measured: Measurement, dim: int | None, shrinkage: Shrinkage = None, noise: ArrayLike | None = None
) -> Observation:
    """The observation that a measurement makes."""
    check_measured(measured)
    if measured.jacobians is not None:
        built = Observation.from_jacobians(measured.points, measured.jacobians, dim=dim, noise=noise)
    else:
        bursts, scale = measured.with_scale()
        found = by_bursts(measured.points, bursts, scale, dim, shrinkage, measured.directions)
        built = Observation(**vars(found.noisy(noise)))
    # A module inside may compute in single precision although the network does not: the numbers tell.
    precision = "single" if "single" in (measured.precision, built.precision) else "double"
    built = replace(built, options=replace(measured.options, shrinkage=built.options.shrinkage), precision=precision)
    _warn_of_rounding(built)
    return built


@sound
def measure_alike(
    observation: Observation, model: Any, inputs: Any, reduce: Reduce, tangents: Any, **passing: Any
) -> FloatArray:
    """Measurements (L, m) of other inputs, as `Observation.measure` gives them; `passing` goes to `capture`."""
    options = observation.options
    layer, along = options.layer or "", options.smooth is not None and options.tangents
    if along and tangents is None:
        raise errors.ParameterError(
            "the network was observed as its mean along the tangents of each input (smooth= and tangents=): give tangents= of "
            "these inputs, too, of shape (L, *input_shape, d)"
        )
    if along:
        passing["tangents"] = tangents
    captured = capture(model, inputs, [layer], reduce=reduce, smooth=options.smooth, **passing)[layer]
    if captured.shape[1] != options.width or options.neurons is None:
        raise errors.InputError(
            f"{say(layer)} has {captured.shape[1]} neurons here, and had {options.width} when it was observed: this is another "
            "network, or its inputs have another shape"
        )
    if captured.dtype != np.float64 and observation.precision == "double":
        raise errors.InputError(
            f"{say(layer)} is computed in {captured.dtype} here, and was observed in double precision: cast the network "
            "(model.double()), as it was then"
        )
    return np.ascontiguousarray(captured[:, options.neurons], dtype=np.float64)


def _warn_of_rounding(observation: Observation) -> None:
    """Say when the precision of the network limits the lengths of edges."""
    if observation.precision == "double":
        return
    noise = observation.rounding_noise
    if noise > ROUNDED_LENGTHS:
        errors.warn(
            f"rounding in single precision blurs the distance between neighbouring samples by {100 * noise:.1f} %: the "
            "samples are too dense for the precision, or neurons barely respond; cast the model to double "
            "(model.double()), take fewer samples, or add neurons",
            errors.DiffeoWarning,
        )
