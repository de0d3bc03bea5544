"""What is measured of one layer: derivatives along tangents, or values at perturbed inputs (bursts)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, dense
from diffeo._support.memory import memory_limit
from diffeo.networks.batches import NamedInputs, bad_rows, check_dense, host, raise_non_finite, some_of
from diffeo.networks.derivatives import Differentiator
from diffeo.networks.hooks import TRIAL_ROWS, Layers
from diffeo.networks.layer_names import say
from diffeo.networks.looking.operators import OperatorsUsed, operators_used
from diffeo.networks.model_state import failures_named

if TYPE_CHECKING:
    import torch

# More identity directions than this mean so many forward passes that tangents or bursts must be meant.
_MAX_IDENTITY = 64
# Largest entry of T^T T - I; single-precision QR factors pass.
_ORTHONORMALITY = 1e-6
# Bursts this small a part of the spread of the inputs see little curvature, and are far above rounding.
_AUTO_SCALE = 0.02
# In half precision they may be this large, no more; smaller than so many units of rounding they are lost in any.
_LARGEST_SCALE, _LEAST_SCALE = 0.1, 16


@dataclass(frozen=True)
class Samples:
    """Inputs (n, ...) and tangents (n, ..., d) or None, read block by block in float64.

    Of inputs by name (`named`) those that vary stand side by side, (n, p).
    """

    inputs: Any
    tangents: Any
    named: NamedInputs | None = None

    @classmethod
    def of(cls, inputs: Any, tangents: Any) -> Samples:
        """Samples of a set (`sample_set`), with tangents in its form: arrays of any kind, or a mapping to these."""
        if isinstance(inputs, NamedInputs):
            along = None if tangents is None else inputs.flat_tangents(tangents)
            return cls(inputs.flat(), along, inputs)
        if isinstance(tangents, Mapping):
            raise errors.DataTypeError("tangents are a mapping only where inputs are one")
        return cls(inputs, tangents if tangents is None or hasattr(tangents, "detach") else dense(tangents, "tangents"))

    def held(self, rows: Any) -> dict[str, Any]:
        """Arguments of the network that do not vary, at some rows."""
        return {} if self.named is None else self.named.held(rows)

    def __len__(self) -> int:
        return len(self.inputs)

    def at(self, rows: IntArray) -> Samples:
        """Some of the samples."""
        named = None if self.named is None else NamedInputs(self.named[rows])
        return Samples(self.inputs[rows], None if self.tangents is None else self.tangents[rows], named)

    @property
    def n_directions(self) -> int:
        """Number d of tangents, or of all coordinates of an input."""
        return int(np.prod(self.inputs.shape[1:]) if self.tangents is None else self.tangents.shape[-1])

    def blocks(self, size: int) -> Iterator[tuple[slice, FloatArray, FloatArray | None]]:
        """Slices of at most `size` rows, with the inputs and tangents there."""

        def read(values: Any) -> FloatArray:
            return np.ascontiguousarray(host(values), dtype=np.float64)

        for start in range(0, len(self), size):
            block = slice(start, start + size)
            tangents = None if self.tangents is None else read(self.tangents[block])
            yield block, read(self.inputs[block]), tangents


def check_samples(samples: Samples, covariances: str, batch_size: int) -> None:
    """Check the inputs and tangents of `measure`: kinds and shapes, then block by block the values."""
    inputs, tangents = samples.inputs, samples.tangents
    _check_floating("inputs", inputs)
    if tangents is not None:
        _check_floating("tangents", tangents)
        if tuple(tangents.shape[:-1]) != tuple(inputs.shape):
            raise errors.ShapeError(
                f"tangents have shape {tuple(tangents.shape)}; for these inputs they must be {(*inputs.shape, 'd')}"
            )
    elif covariances != "bursts" and samples.n_directions > _MAX_IDENTITY:
        raise errors.ParameterError(
            f"inputs have {samples.n_directions} coordinates; derivatives along all of them are for up to "
            f"{_MAX_IDENTITY}. Give tangents of shape (n, *input_shape, d), or use covariances='bursts'"
        )
    bad: dict[str, list[int]] = {"inputs": [], "tangents": []}
    skewed: list[int] = []
    for block, x, t in samples.blocks(batch_size):
        bad["inputs"].extend(block.start + bad_rows(x))
        if t is not None:
            bad["tangents"].extend(block.start + bad_rows(t))
            t = t.reshape(len(t), -1, t.shape[-1])
            error = np.abs(np.einsum("ipd,ipe->ide", t, t) - np.eye(t.shape[-1]))
            skewed.extend(block.start + np.flatnonzero(error.max(axis=(1, 2)) > _ORTHONORMALITY))
    raise_non_finite(bad, len(samples))
    if skewed:
        raise errors.ParameterError(
            f"tangents are not orthonormal to {_ORTHONORMALITY:g} in {some_of(skewed, len(samples))}; take "
            "the Q of a QR factorisation"
        )


def _check_floating(name: str, values: Any) -> None:
    """Make sure that `values` is an array or tensor (n, ...) of floating numbers of at most 64 bits."""
    import torch

    if isinstance(values, torch.Tensor):
        check_dense(values, name)
    if not isinstance(values, (np.ndarray, torch.Tensor)):
        raise errors.DataTypeError(
            f"{name} are an ndarray or a tensor; got {type(values).__name__}. (Concatenate batches: an "
            "iterable may give another order when it is read again)"
        )
    floating = values.dtype.kind == "f" if isinstance(values, np.ndarray) else values.is_floating_point()
    if not floating or values.dtype.itemsize > 8:
        raise errors.DataTypeError(
            f"{name} have dtype {values.dtype}: only floating values (of at most 64 bits) can be varied"
        )
    if not values.ndim or 0 in values.shape:
        raise errors.ShapeError(f"{name} have shape {tuple(values.shape)}; they must be (n, ...), not empty")


def looked_over(layers: Layers, samples: Samples) -> list[OperatorsUsed]:
    """What operators each layer is computed with, by a few rows."""
    block, inputs, tangents = next(samples.blocks(TRIAL_ROWS))
    x = layers.send(inputs)
    return [operators_used(layers.only(k).along(tangents, samples.held(block)), x) for k in range(len(layers.keys))]


def measure_jacobians(
    layers: Layers, samples: Samples, batch_size: int, bar: Any, *, kinked: bool = False, half: bool = False
) -> list[tuple[FloatArray, FloatArray]]:
    """Points (n, m) and Jacobians (n, m, d) of each layer along the tangents, or along all p coordinates of the input.

    Derivatives are proven by differences: where the network is `kinked`, a little away from the samples; in half precision
    they are not.
    """
    differentiate = Differentiator(layers)
    found: list[tuple[FloatArray, FloatArray]] = []
    for block, inputs, directions in samples.blocks(batch_size):
        x = layers.send(inputs)
        if directions is None:
            p = samples.n_directions
            tangents = layers.send(np.eye(p)).reshape(1, *x.shape[1:], p).expand(*x.shape, p)
        else:
            tangents = layers.send(directions)
        with failures_named(layers.model, block.start, len(x)):
            if block.start == 0:
                layers.along(directions, samples.held(block), slice(TRIAL_ROWS))
                if not half:  # differences of three digits would prove nothing
                    differentiate.settle(x[:TRIAL_ROWS], tangents[:TRIAL_ROWS], kinked=kinked)
            layers.along(directions, samples.held(block))
            y, derivatives = differentiate(x, tangents)
        found = _stored(found, layers, samples, block, host(y), host(derivatives))
        bar.update(len(x))
    return found


def measure_bursts(
    layers: Layers,
    samples: Samples,
    n_bursts: int,
    scale: float,
    generator: np.random.Generator,
    batch_size: int,
    bar: Any,
) -> list[tuple[FloatArray, FloatArray]]:
    """Points (n, m) and bursts (n, K, m) of each layer; the deviates are drawn row by row, whatever the batches."""
    found: list[tuple[FloatArray, FloatArray]] = []
    for block, x, tangents in samples.blocks(max(1, batch_size // n_bursts)):
        drawn = generator.standard_normal((len(x), n_bursts, samples.n_directions))
        y, around = _perturbed(layers, samples, (block, x, tangents), drawn, scale, batch_size)
        found = _stored(found, layers, samples, block, y, around, axis=2)
        bar.update(len(x))
    return found


def measure_slopes(
    layers: Layers,
    samples: Samples,
    n_bursts: int,
    scale: float,
    generator: np.random.Generator,
    batch_size: int,
    bar: Any,
) -> list[tuple[FloatArray, FloatArray]]:
    """Points (n, m) of each layer, and Jacobians (n, m, d): linear fits to bursts of inputs around each sample.

    Members are K/2 pairs x + s z, x - s z, so that curvature cancels: J = sum_k (y_k+ - y_k-) z_k^T (2 s sum_k z_k z_k^T)^-1.
    In the limit of many members it is the mean derivative within the burst; of a linear network it is exact for any.
    """
    found: list[tuple[FloatArray, FloatArray]] = []
    half = n_bursts // 2
    for block, x, tangents in samples.blocks(max(1, batch_size // n_bursts)):
        z = burst_directions(len(x), half, samples.n_directions, generator)
        both = np.concatenate([z, -z], axis=1)
        y, around = _perturbed(layers, samples, (block, x, tangents), both, scale, batch_size)
        gram = np.einsum("ika,ikb->iab", z, z)
        change = np.einsum("ikm,ika->iam", around[:, :half] - around[:, half:], z)
        slopes = np.linalg.solve(2.0 * scale * gram, change).transpose(0, 2, 1)
        found = _stored(found, layers, samples, block, y, slopes)
        bar.update(len(x))
    return found


def burst_directions(count: int, half: int, d: int, generator: np.random.Generator) -> FloatArray:
    """Directions (count, half, d) of perturbations, whose mean square along any direction is about 1, for each of some samples.

    Random orthonormal frames, each at a radius of its own: those of equal shells of a ball. As many numbers are drawn for each
    sample, so that it does not matter in which batch it is.
    """
    frames = -(-half // d)
    bases = np.linalg.qr(generator.standard_normal((count, frames, d, d)))[0]
    radii = ((np.arange(frames) + 0.5) / frames) ** (1.0 / d)
    radii *= np.sqrt(d / (radii**2).mean())
    return np.ascontiguousarray((bases * radii[:, None, None]).reshape(count, frames * d, d)[:, :half])


def _perturbed(
    layers: Layers,
    samples: Samples,
    part: tuple[slice, FloatArray, FloatArray | None],
    deviates: FloatArray,
    scale: float,
    batch_size: int,
) -> tuple[FloatArray, FloatArray]:
    """Values (b, m) at the inputs of a block, and (b, K, m) at inputs moved by a scale times deviates (b, K, d)."""
    block, x, tangents = part
    weights = scale * deviates
    least = _LEAST_SCALE * _precision(layers.dtype) * float(np.abs(x).max())
    if scale < least:
        raise errors.ParameterError(
            f"scale={scale:g} is lost in the rounding of {layers.dtype}, to {_precision(layers.dtype):.2g} of inputs of up "
            f"to {np.abs(x).max():.3g}: cast the model (model.float()), or give scale={_rounded_up(least):g} at least, if "
            "the network is about linear over such a distance"
        )
    if tangents is None:
        change = weights.reshape(*weights.shape[:2], *x.shape[1:])
    else:
        change = np.einsum("i...d,ikd->ik...", tangents, weights)
    moved = (x[:, None] + change).reshape(-1, *x.shape[1:])
    with failures_named(layers.model, block.start, len(x)):
        parts = []
        for k in range(0, len(moved), batch_size):
            few = moved[k : k + batch_size]
            layers.along(tangents, samples.held(block), np.arange(k, k + len(few)) // weights.shape[1])
            parts.append(host(layers(layers.send(few))))
        y = host(layers.along(tangents, samples.held(block))(layers.send(x)))
    return y, np.concatenate(parts).reshape(len(x), weights.shape[1], -1)


def _stored(
    found: list[tuple[FloatArray, FloatArray]],
    layers: Layers,
    samples: Samples,
    block: slice,
    points: FloatArray,
    beside: FloatArray,
    axis: int = 1,
) -> list[tuple[FloatArray, FloatArray]]:
    """What is measured of all samples, with that of a block of b added: `points` (b, m), and three axes `beside` them.

    Of these, `axis` counts neurons. In a block the neurons of all layers stand side by side; of all samples each layer has
    arrays of its own, made with the first block.
    """
    if not found:
        shape = [len(samples), *beside.shape[1:]]
        for width in _widths(layers, samples, beside.shape[3 - axis]):
            shape[axis] = width
            found.append((np.empty((len(samples), width)), np.empty(shape)))
    begin = 0
    for of_points, of_beside in found:
        columns = slice(begin, begin + of_points.shape[1])
        of_points[block] = points[:, columns]
        of_beside[block] = beside[:, columns] if axis == 1 else beside[:, :, columns]
        begin = columns.stop
    return found


def _widths(layers: Layers, samples: Samples, per_neuron: int) -> list[int]:
    """Measured neurons of each layer, if all that is measured of them fits into memory."""
    widths = [len(index) for index in layers.neurons if index is not None]
    needed = 8 * len(samples) * sum(widths) * (1 + per_neuron)
    if needed > memory_limit():
        raise errors.MemoryLimitError(
            f"{len(samples)} samples of {sum(widths)} neurons and {per_neuron} numbers for each neuron take "
            f"{needed / 2**30:.2f} GiB, above the limit of {memory_limit() / 2**30:.2f} GiB; measure fewer neurons "
            "(neurons=), reduce=, or set the environment variable DIFFEO_MEMORY_LIMIT (bytes)"
        )
    return widths


def _rounded_up(number: float) -> float:
    """A positive number with two digits, no smaller than itself."""
    unit = 10.0 ** (np.floor(np.log10(number)) - 1)
    return float(np.ceil(number / unit) * unit)


def _precision(dtype: torch.dtype) -> float:
    import torch

    return float(torch.finfo(dtype).eps)


def auto_scale(samples: Samples, batch_size: int, dtype: torch.dtype) -> float:
    """0.02 sqrt(V / p): V the sum of the variances of the input's coordinates, p the number of directions.

    In half precision as much more as it takes to be above the rounding of the inputs, if that is still small (0.1 in the
    place of 0.02): bfloat16 on [0, 1] would take 0.43 of the spread, which is no derivative, and is not chosen unasked.

    Without tangents p is the input size and this is 0.02 of the rms spread. With d tangents p = d: the same
    total variance is then spread over d directions, as it is on a d-dimensional set.
    """
    mean = sum(x.sum(axis=0) for _, x, _ in samples.blocks(batch_size)) / len(samples)
    variance = sum(np.square(x - mean).sum() for _, x, _ in samples.blocks(batch_size)) / len(samples)
    scale = _AUTO_SCALE * float(np.sqrt(variance / samples.n_directions))
    if not scale > 0:
        raise errors.ParameterError("the inputs are all equal, so no scale can be chosen for bursts; give scale")
    least = _LEAST_SCALE * _precision(dtype) * max(float(np.abs(x).max()) for _, x, _ in samples.blocks(batch_size))
    return max(scale, least) if least <= scale * _LARGEST_SCALE / _AUTO_SCALE else scale


def warn_of_kinks(kinked: Mapping[str, Iterable[str]]) -> None:
    """Warn of layers with operators whose derivatives jump, by the names of both, where Jacobians are taken."""
    if not kinked:
        return
    names = list(dict.fromkeys(name for operators in kinked.values() for name in operators))
    errors.warn(
        f"{', '.join(map(say, kinked))} {'is' if len(kinked) == 1 else 'are'} computed with piecewise-linear or otherwise "
        f"kinked operators ({', '.join(names)}): Jacobians jump between the pieces, and miss a stretch that acts on a "
        "larger scale than one piece. Use covariances='auto' or 'slopes' (Jacobians fitted to inputs about the spacing of the "
        "samples away: the network as it is), smooth= with about that spacing (the network averaged over perturbations of that "
        "size, capture alike), or smooth activations (tanh, gelu, softplus, average pooling)",
        errors.PiecewiseLinearWarning,
    )


def warn_of_half_precision(names: Iterable[str], dtypes: Iterable[str]) -> None:
    """Warn of layers that are computed in half precision."""
    found = [*dtypes]
    if not found:
        return
    digits = "0.4 %" if "bfloat16" in found else "0.05 %"
    errors.warn(
        f"{', '.join(names)}: computed in {', '.join(found)}, and only then raised to float64. Each step rounds to {digits}, "
        "and so do activations and their Jacobians, which limits every distance: measure the model in single or double "
        "precision (model.float(), outside of autocast)",
        errors.PrecisionWarning,
    )
