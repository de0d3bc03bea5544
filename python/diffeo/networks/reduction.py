"""From whatever a module returned, a tensor, a tuple or a mapping, to one row of numbers a sample, or an error.

The rules for `reduce`, which `capture` and `observe` share:

None
    Everything after the first axis is flattened.
"mean", "first", "last"
    Over positions. Of three axes (batch, position, channel), as transformers and recurrent networks give them, positions
    are the second; of four and more (batch, channel, row, column, ...), as convolutions do, all after the second, which
    have a mean but no first and last. Fewer axes have no positions and stay. Where the batch is a mapping with an
    ``attention_mask``, or the layer returned a packed sequence, padding does not count. What remains is flattened.
callable
    Gets what the module returned, whole, and gives a tensor (batch, ...), flattened. For one-dimensional convolutions
    (batch, channel, position), channels last, class tokens, cell states, other fields of a model output.
mapping
    From names or patterns of layers to one of these; layers that no key matches are flattened.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields as fields_of
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import IntArray, integer, seeded
from diffeo.networks.batches import host
from diffeo.networks.layer_names import Target, say

if TYPE_CHECKING:
    import torch

RULES = ("mean", "first", "last")

Reduce = str | Callable[[Any], Any] | Mapping[str, Any] | None


class RandomProjection:
    """Random combinations of all neurons of a layer, as a rule for ``reduce=``.

    A layer of m neurons, flattened, becomes z = P y / sqrt(m) with P of independent standard normal numbers, drawn from
    `rng` and m alone: `capture` and `observe` see the same. Where single neurons are dead or kinked (rectifiers), or their
    set must not be chosen, 2d + 1 generic combinations embed d dimensions, and more bend less.

    Parameters
    ----------
    n_components : int
    rng : int
        Seed.

    Examples
    --------
    >>> import diffeo
    >>> diffeo.RandomProjection(16)
    RandomProjection(16, rng=0)
    """

    def __init__(self, n_components: int, rng: int = 0) -> None:
        self.n_components = integer(n_components, "n_components", 1)
        self.rng = integer(rng, "rng", 0)

    def __repr__(self) -> str:
        return f"RandomProjection({self.n_components}, rng={self.rng})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RandomProjection) and (self.n_components, self.rng) == (other.n_components, other.rng)

    def __hash__(self) -> int:
        return hash((self.n_components, self.rng))

    def __call__(self, output: Any) -> torch.Tensor:
        """Project what a module returned, (b, ...), to (b, n_components)."""
        import torch

        rows = _unpacked(first_tensor(output, "?"), "?")[0].flatten(1)
        if not rows.is_floating_point():
            raise errors.DataTypeError(f"a layer of dtype {rows.dtype} cannot be projected")
        width = rows.shape[1]
        matrix = np.random.default_rng(self.rng).standard_normal((width, self.n_components)) / np.sqrt(width)
        return rows @ torch.tensor(matrix, dtype=rows.dtype, device=rows.device)


def check_reduce(reduce: Any, names: Iterable[str]) -> None:
    """Make sure that `reduce` is a rule, or a mapping of rules for layers that there are."""
    if not isinstance(reduce, Mapping):
        if reduce is not None and reduce not in RULES and not callable(reduce):
            raise errors.ParameterError(
                f"reduce is None, 'mean', 'first', 'last', a callable or a mapping from layers to these; got {reduce!r}"
            )
        return
    names = list(names)
    for pattern, rule in reduce.items():
        if isinstance(rule, Mapping):
            raise errors.ParameterError("reduce maps layers to rules, not to mappings")
        check_reduce(rule, names)
        if not any(_matches(name, pattern) for name in names):
            raise errors.LayerError(f"reduce names {pattern!r}, which is none of the layers asked for: {names}")


def rule_for(target: Target, reduce: Reduce) -> Any:
    """The rule for one layer."""
    if not isinstance(reduce, Mapping):
        return reduce
    return next((rule for pattern, rule in reduce.items() if _matches(target.name, pattern)), None)


def rules_of(targets: Iterable[Target], reduce: Reduce) -> Reduce:
    """The rule, or of a mapping those that some of these layers take."""
    if not isinstance(reduce, Mapping):
        return reduce
    names = [target.name for target in targets]
    return {pattern: rule for pattern, rule in reduce.items() if any(_matches(name, pattern) for name in names)}


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def rows_of(target: Target, output: Any, rule: Any, size: int, mask: torch.Tensor | None) -> torch.Tensor:
    """What a module returned for `size` samples as (size, m)."""
    import torch

    name = target.name
    if callable(rule):
        output = rule(output)
        if not isinstance(output, torch.Tensor):
            raise errors.CaptureError(
                f"reduce gives {type(output).__name__} for {say(name)}; a tensor (batch, ...) is needed"
            )
        return _flat(output, name, size, " (from reduce)")
    tensor, packed = _unpacked(first_tensor(output, name), name)
    if packed is not None:
        mask = packed
    elif time_first(target.module) and tensor.ndim == 3:
        if tensor.shape[1] != size:
            raise errors.CaptureError(
                f"{say(name)} takes its input as (time, batch, channel) and gives shape {tuple(tensor.shape)} for a batch of "
                f"{size} samples: make it with batch_first=True, or swap the axes before it"
            )
        tensor = tensor.transpose(0, 1)
    # The mask has one row a sample, so what it masks must too.
    _flat(tensor, name, size)
    return _flat(tensor if rule is None else _reduced(tensor, rule, name, mask), name, size)


def first_tensor(output: Any, name: str) -> Any:
    """The tensor (or packed sequence) that stands for a module's output; the rule is in the docstring of `capture`."""
    import torch

    # Objects may refer to each other: each is looked at once. (They live as long as the output.)
    stack, seen = [output], set[int]()
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, (torch.Tensor, torch.nn.utils.rnn.PackedSequence)):
            return value
        if isinstance(value, (tuple, list)):
            stack.extend(reversed(value))
        elif isinstance(value, Mapping) or hasattr(value, "__dict__") or is_dataclass(value):
            fields = dict(value) if isinstance(value, Mapping) else _attributes(value)
            first = [fields[key] for key in ("last_hidden_state", "logits") if fields.get(key) is not None]
            stack.extend(reversed(first or list(fields.values())))
    raise errors.CaptureError(f"{say(name)} returns no tensor, but {type(output).__name__}")


def _attributes(value: Any) -> dict[str, Any]:
    """Attributes by their names; of a dataclass its fields, which may be in slots."""
    names = [one.name for one in fields_of(value)] if is_dataclass(value) else list(vars(value))
    return {name: getattr(value, name, None) for name in names}


def _unpacked(value: Any, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A packed sequence as (batch, position, channel), padded with zeros, and the mask of what is no padding."""
    import torch

    if isinstance(value, torch.Tensor):
        if value.is_nested:
            raise errors.CaptureError(
                f"{say(name)} returns a nested tensor; pad it to one length (reduce= may do that)"
            )
        return value, None
    padded, lengths = torch.nn.utils.rnn.pad_packed_sequence(value, batch_first=True)
    return padded, torch.arange(padded.shape[1])[None] < lengths[:, None]


def time_first(module: Any) -> bool:
    """Whether a module of torch's own reads and gives (time, batch, channel)."""
    import torch

    if isinstance(module, (torch.nn.TransformerEncoder, torch.nn.TransformerDecoder)):
        module = module.layers[0] if len(module.layers) else None
    if isinstance(module, (torch.nn.TransformerEncoderLayer, torch.nn.TransformerDecoderLayer)):
        module = module.self_attn
    kinds = (torch.nn.RNNBase, torch.nn.MultiheadAttention, torch.nn.Transformer)
    return isinstance(module, kinds) and not module.batch_first


def _reduced(tensor: torch.Tensor, rule: str, name: str, mask: torch.Tensor | None) -> torch.Tensor:
    if tensor.ndim < 3:
        return tensor
    if tensor.ndim > 3:
        if rule == "mean":
            return tensor.flatten(2).mean(2)
        raise errors.CaptureError(
            f"{say(name)} gives shape {tuple(tensor.shape)}, whose positions have no {rule} one; take reduce='mean', or a "
            "callable that picks"
        )
    if mask is None:
        return tensor.mean(1) if rule == "mean" else tensor[:, 0 if rule == "first" else -1]
    return _masked(tensor, rule, name, mask)


def _masked(tensor: torch.Tensor, rule: str, name: str, mask: torch.Tensor) -> torch.Tensor:
    import torch

    real = mask.to(tensor.device) != 0
    if real.shape != tensor.shape[:2]:
        raise errors.CaptureError(
            f"{say(name)} gives shape {tuple(tensor.shape)}, and the mask has shape {tuple(real.shape)}: positions do not "
            "correspond; give a callable as reduce"
        )
    empty = torch.nonzero(~real.any(1)).flatten().tolist()
    if empty:
        raise errors.CaptureError(f"{len(empty)} samples of a batch are all padding (first: {empty[:5]})")
    if rule == "mean":
        # Padding may hold anything, infinity included.
        kept = torch.where(real[:, :, None], tensor, torch.zeros_like(tensor))
        return kept.sum(1) / real.sum(1)[:, None]
    places = torch.arange(real.shape[1], device=tensor.device)
    scores = torch.where(real, places if rule == "last" else -places, -real.shape[1])
    return tensor[torch.arange(len(tensor), device=tensor.device), scores.argmax(1)]


def _flat(output: torch.Tensor, name: str, size: int, how: str = "") -> torch.Tensor:
    """(b, ...) to (b, m), after making sure that the first axis is the batch's."""
    if output.ndim == 0 or output.shape[0] != size:
        raise errors.CaptureError(
            f"{say(name)} gives shape {tuple(output.shape)}{how} for a batch of {size} samples: its first axis "
            "must be the batch's"
        )
    return output[:, None].flatten(1)


def neurons_of(keys: list[str], widths: list[int], neurons: Any, rng: Any) -> list[IntArray]:
    """Which columns of each layer are measured."""
    if not isinstance(neurons, Mapping):
        return [choose_neurons(neurons, width, rng) for width in widths]
    unknown = [key for key in neurons if key not in keys]
    if unknown:
        raise errors.LayerError(f"neurons names {unknown}, which are none of the layers measured: {keys}")
    return [choose_neurons(neurons.get(key), width, rng) for key, width in zip(keys, widths, strict=True)]


def choose_neurons(neurons: Any, width: int, rng: int | np.random.Generator | None) -> IntArray:
    """Indices of the measured columns out of `width`: all (None), so many at random (int), or those given."""
    if neurons is None:
        return np.arange(width)
    try:
        index = host(neurons)
    except ValueError as error:
        raise errors.ShapeError(f"neurons is not a rectangular array; it must be (m,): {error}") from error
    if index.dtype.kind not in "iu":
        raise errors.DataTypeError(f"neurons is None, an int or an array of int; got dtype {index.dtype}")
    if index.ndim == 0:
        if not 1 <= index <= width:
            raise errors.ParameterError(f"neurons={index}, but the layer has {width}")
        return np.sort(seeded(rng).choice(width, int(index), replace=False))
    if index.ndim > 1 or not index.size:
        raise errors.ShapeError(f"neurons has shape {index.shape}; it must be (m,) with m >= 1")
    if index.min() < 0 or index.max() >= width:
        raise errors.ParameterError(f"neurons run from {index.min()} to {index.max()}; the layer has 0 to {width - 1}")
    values, counts = np.unique(index, return_counts=True)
    if values.size < index.size:
        raise errors.ParameterError(f"neurons holds some indices more than once: {values[counts > 1][:5].tolist()}")
    return index.astype(np.int64)
