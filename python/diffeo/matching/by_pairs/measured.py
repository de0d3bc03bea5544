"""measure_pairs: what two networks make of common inputs, with derivatives by the same coordinates of these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, boolean
from diffeo._support.threads import sound
from diffeo.matching.pairs import Pairs
from diffeo.networks.capture_activations import capture
from diffeo.networks.measurement import Recipe, check_measured, measured_layers, one_layer
from diffeo.networks.reduction import choose_neurons
from diffeo.observation.observation import Observation

# More coordinates of an input than these mean so many passes that tangents must be meant.
MOST_COORDINATES = 64


@dataclass(frozen=True)
class _Way:
    """How one network is measured."""

    layer: str | None = None
    reduce: Any = None
    neurons: Any = None
    smooth: float | None = None


@sound
def measure_pairs(
    model_a: Any,
    model_b: Any,
    inputs: Any,
    *,
    like: tuple[Observation, Observation] | None = None,
    layers: tuple[str | None, str | None] | None = None,
    reduce: Any = None,
    neurons: Any = None,
    tangents: NDArray[Any] | Any | None = None,
    jacobians: bool = True,
    batch_size: int = 1024,
    device: Any = None,
    rng: int | np.random.Generator | None = 0,
    verbose: bool = False,
) -> Pairs:
    """Measure two torch modules at common inputs, with derivatives by the same coordinates of the input.

    Each network runs over the inputs once, batch by batch, with one more (forward-mode) pass a batch for each coordinate or
    tangent. Rectifiers and pooling do no harm: between two networks derivatives are compared at the same inputs.

    Parameters
    ----------
    model_a, model_b : torch.nn.Module
    inputs : ndarray or torch.Tensor of shape (n, ...)
        Common inputs; each network computes in the dtype of its own parameters.
    like : tuple of Observation, optional
        Both sides as they were observed: layer, neurons, reduction and smoothing are theirs.
    layers : tuple of str or None, optional
        Layer of A and layer of B, as in `diffeo.observe`; None is the output.
    reduce : as in `diffeo.observe`, or a tuple of two of these, for A and for B
    neurons : int, array_like of int, or a tuple of two of these, optional
        How many to draw with `rng`, or which; None takes all.
    tangents : array_like of shape (n, ..., d), optional
        Orthonormal directions of the input set at each sample, where it fills only a d-dimensional set (pictures): derivatives
        are taken along them. Without them inputs have at most 64 coordinates.
    jacobians : bool
        Whether to measure derivatives.
    batch_size, device, rng, verbose
        As in `diffeo.observe`.

    Returns
    -------
    Pairs

    Raises
    ------
    ParameterError
        Inputs of more than 64 coordinates without tangents; `like` beside what it stands for.
    LayerError, CaptureError, NonFiniteError, DataTypeError, ShapeError, MemoryLimitError
        As in `diffeo.observe`; messages begin with the network.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> other = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Softplus()).double()
    >>> diffeo.measure_pairs(net, other, x)
    Pairs(200 pairs of 3 measurements of A and 5 of B, with derivatives)
    """
    ways = _ways(like, layers, reduce, neurons)
    if boolean(jacobians, "jacobians"):
        _check_coordinates(inputs, tangents)
    points, derivatives = list[FloatArray](), list[FloatArray]()
    for name, model, way in zip("ab", (model_a, model_b), ways, strict=True):
        common = {"batch_size": batch_size, "device": device, "verbose": verbose}
        try:
            if jacobians:
                recipe = Recipe(
                    reduce=way.reduce,
                    smooth=way.smooth,
                    neurons=way.neurons,
                    covariances="jacobians",
                    tangents=tangents,
                    rng=rng,
                    **common,
                )
                # Between two networks kinks are no matter: derivatives of both are those of one piece.
                with errors.unsaid(errors.PiecewiseLinearWarning):
                    (found,) = measured_layers(model, inputs, [one_layer(model, way.layer)], recipe).values()
                check_measured(found)
                points.append(found.points)
                derivatives += [] if found.jacobians is None else [found.jacobians]
            else:
                layer = one_layer(model, way.layer)
                along = None if way.smooth is None else tangents
                captured = capture(
                    model, inputs, [layer], reduce=way.reduce, smooth=way.smooth, tangents=along, **common
                )[layer]
                chosen = choose_neurons(way.neurons, captured.shape[1], rng)
                points.append(np.ascontiguousarray(captured[:, chosen], dtype=np.float64))
        except errors.DiffeoError as error:
            raise type(error)(f"model_{name}: {error}") from error
    return Pairs(*points, *derivatives)


def _ways(like: Any, layers: Any, reduce: Any, neurons: Any) -> tuple[_Way, _Way]:
    """How A and how B is measured."""
    if like is None:
        a, b = (
            _Way(layer, rule, chosen)
            for layer, rule, chosen in zip(
                _both(layers, "layers", None), _both(reduce, "reduce"), _both(neurons, "neurons"), strict=True
            )
        )
        return a, b
    if layers is not None or reduce is not None or neurons is not None:
        raise errors.ParameterError("like says how both sides are measured: leave out layers, reduce and neurons")
    if not (isinstance(like, tuple) and len(like) == 2 and all(isinstance(one, Observation) for one in like)):
        raise errors.DataTypeError("like is a tuple of two observations (obs_a, obs_b), as diffeo.observe gives them")
    x, y = (_Way(one.options.layer, one.options.rule(), one.options.neurons, one.options.smooth) for one in like)
    return x, y


def _both(given: Any, name: str, *single: Any) -> tuple[Any, Any]:
    """One for each side, from a tuple of two, or from what is meant for both; `single`: only these are."""
    if isinstance(given, tuple):
        if len(given) != 2:
            raise errors.ParameterError(f"{name} is a tuple of {len(given)}: give two, one for A and one for B")
        return given[0], given[1]
    if single and given not in single:
        raise errors.ParameterError(f"{name} is a tuple of two, one for A and one for B; got {given!r:.60}")
    return given, given


def _check_coordinates(inputs: Any, tangents: Any) -> None:
    """Refuse derivatives along all coordinates of large inputs, and say what to give instead."""
    if tangents is not None or getattr(inputs, "ndim", 0) < 2:
        return
    count = int(np.prod(inputs.shape[1:]))
    if count > MOST_COORDINATES:
        raise errors.ParameterError(
            f"inputs have {count} coordinates, and derivatives along all of them are for up to {MOST_COORDINATES}: give "
            "tangents of shape (n, *input_shape, d), orthonormal directions of the set that the inputs fill (the Q of a QR "
            "factorisation of the derivatives of what made them, such as angle and size), or jacobians=False, which needs many "
            "more pairs"
        )
