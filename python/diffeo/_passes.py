"""A network as a function of a batch: which layer, fed with what, run in what state, and what comes out."""

from __future__ import annotations

import difflib
import fnmatch
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._validation import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")


def check_model(model: Any) -> None:
    """Make sure that torch, which only this stage needs, is there, and that `model` is a module."""
    try:
        import torch
    except ImportError as error:
        raise errors.MissingDependencyError("capturing needs torch: pip install 'diffeo[torch]'") from error
    if not isinstance(model, torch.nn.Module):
        raise errors.DataTypeError(f"model is a torch.nn.Module; got {type(model).__name__}")


def say(name: str) -> str:
    """Name a layer in a message."""
    return f"layer {name!r}" if name else "the output"


class Target(NamedTuple):
    """A module to listen to: dotted name, the call wanted (None: the only one), strict unless by pattern."""

    name: str
    module: torch.nn.Module
    call: int | None
    strict: bool


def resolve(model: torch.nn.Module, layers: str | Iterable[str]) -> list[Target]:
    """Turn names and patterns into targets, in the order asked, each once."""
    named = dict(model.named_modules(remove_duplicate=False))
    targets: dict[tuple[str, int | None], Target] = {}
    for asked in [layers] if isinstance(layers, str) else layers:
        if not isinstance(asked, str):
            raise errors.DataTypeError(f"layer names are str; got {type(asked).__name__}")
        base, call = asked, None
        if asked not in named and (parts := re.fullmatch(r"(.*):(\d+)", asked)):
            base, call = parts[1], int(parts[2])
        strict = base in named
        names = [base] if strict else [name for name in named if name and fnmatch.fnmatchcase(name, base)]
        if not names:
            close = difflib.get_close_matches(base, [name for name in named if name], n=5, cutoff=0.4)
            raise errors.LayerError(
                f"no layer is named {asked!r}, and as a pattern it matches none; close names: "
                f"{close or 'none'}. List: [name for name, _ in model.named_modules()]; '' is the output"
            )
        for name in names:
            targets.setdefault((name, call), Target(name, named[name], call, strict))
    if not targets:
        raise errors.ParameterError("layers is empty")
    return list(targets.values())


def call_keys(target: Target, n_calls: int) -> list[tuple[str, int]]:
    """Pair the keys of a target in the result with the indices of the calls they stand for."""
    name, call, strict = target.name, target.call, target.strict
    if call is None and n_calls == 1:
        return [(name, 0)]
    wanted = [k for k in range(n_calls) if k == call or (call is None and not strict)]
    if wanted:
        return [(f"{name}:{k}", k) for k in wanted]
    if not strict:
        _logger.info("%s is left out: it was called %d times", say(name), n_calls)
        return []
    if n_calls == 0:
        raise errors.CaptureError(f"{say(name)} is not called when the model runs (or runs compiled, out of sight)")
    raise errors.CaptureError(
        f"{say(name)} is called {n_calls} times in one pass; append ':0' to ':{n_calls - 1}' to choose"
    )


def batches(inputs: Any, batch_size: int) -> Iterator[Any]:
    """Cut an array or tensor into batches; pass on the batches of another iterable."""
    import torch

    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        if not inputs.ndim:
            raise errors.ShapeError("inputs have shape (); they must be (n, ...)")
        yield from (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
    elif isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes, Mapping)):
        yield from inputs
    else:
        raise errors.DataTypeError(
            f"inputs are an array, a tensor or an iterable of batches; got {type(inputs).__name__}"
        )


def as_tensor(values: Any) -> torch.Tensor:
    """A copy as a tensor (a copy, since a model may work in place on what it is given)."""
    import torch

    if isinstance(values, torch.Tensor):
        return values.detach().clone()
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise errors.DataTypeError(
            f"inputs have dtype {values.dtype}; they must be floating (64 bits), integer or bool"
        )
    return torch.tensor(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


def arguments(
    batch: Any, place: torch.device, dtype: torch.dtype | None, row: int
) -> tuple[list[Any], dict[str, Any], int]:
    """Positional and keyword arguments of the model for one batch that begins at `row`, and its size."""
    import torch

    def send(name: str, values: Any) -> torch.Tensor:
        tensor = as_tensor(values)
        bad = row + bad_rows(host(tensor))
        raise_non_finite({name: bad}, row + len(tensor))
        if dtype is None or not tensor.is_floating_point():
            return tensor.to(place)
        if row == 0 and tensor.dtype != dtype:
            _logger.info("%s are cast from %s to %s, the dtype of the parameters", name, tensor.dtype, dtype)
        return tensor.to(place, dtype)

    def is_array(value: Any) -> bool:
        return isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim > 0

    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping):
        keywords = {name: send(name, value) if is_array(value) else value for name, value in batch.items()}
        size = next((len(value) for value in keywords.values() if is_array(value)), None)
        if size is None:
            raise errors.DataTypeError("a batch holds no array and no tensor")
        return [], keywords, size
    if not is_array(batch):
        raise errors.DataTypeError(f"a batch is an array, a tensor, a tuple or a mapping; got {type(batch).__name__}")
    return [send("inputs", batch)], {}, len(batch)


def first_tensor(output: Any, name: str) -> torch.Tensor:
    """The tensor that stands for a module's output; the rule is in the docstring of `capture`."""
    import torch

    stack = [output]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            return value
        if isinstance(value, (tuple, list)):
            stack.extend(reversed(value))
        elif isinstance(value, Mapping) or hasattr(value, "__dict__"):
            fields = dict(value) if isinstance(value, Mapping) else vars(value)
            first = [fields[key] for key in ("last_hidden_state", "logits") if fields.get(key) is not None]
            stack.extend(reversed(first or list(fields.values())))
    raise errors.CaptureError(f"{say(name)} returns no tensor, but {type(output).__name__}")


def flatten(output: torch.Tensor, name: str, size: int) -> torch.Tensor:
    """(b, ...) to (b, m), after making sure that the first axis is the batch's."""
    if output.ndim == 0 or output.shape[0] != size:
        raise errors.CaptureError(
            f"{say(name)} gives shape {tuple(output.shape)} for a batch of {size} samples: its first axis "
            "must be the batch's"
        )
    return output[:, None].flatten(1)


def host(values: Any) -> NDArray[Any]:
    """A tensor or array as an array on the host; half-precision tensors become float32."""
    import torch

    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    half = values.dtype in (torch.float16, torch.bfloat16)
    array: NDArray[Any] = values.detach().to("cpu", torch.float32 if half else values.dtype).numpy()
    return array


def bad_rows(values: NDArray[Any]) -> IntArray:
    """Rows (n, ...) that hold NaN or infinity."""
    return np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))


def some_of(rows: Any, n: int) -> str:
    """Say how many rows out of n there are, and which come first."""
    return f"{len(rows)} of {n} rows (first: {', '.join(str(row) for row in rows[:5])})"


def raise_non_finite(bad: Mapping[str, Any], n: int) -> None:
    """Raise if there are bad rows (indices) under any name (words for the message)."""
    found = [f"{name} in {some_of(rows, n)}" for name, rows in bad.items() if len(rows)]
    if found:
        raise errors.NonFiniteError(f"NaN or infinity in {'; '.join(found)}")


@contextmanager
def prepared(model: torch.nn.Module, device: Any) -> Iterator[tuple[torch.device, torch.dtype | None]]:
    """Eval mode, no gradients, on `device`; yields the device and the parameters' dtype; undoes all."""
    import torch

    tensors = [*model.parameters(), *model.buffers()]
    homes = {tensor.device for tensor in tensors}
    try:
        home = tensors[0].device if tensors else torch.device("cpu")
        place = home if device is None else torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise errors.ParameterError(f"device={device!r} cannot be used: {error}") from error
    moved = device is not None and bool(homes - {place})
    if moved and len(homes) > 1:
        raise errors.ParameterError(f"the model is spread over {len(homes)} devices; leave device=None")
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
    training = [(module, module.training) for module in model.modules()]
    try:
        # Under torch.inference_mode dual numbers lose their tangents without a word, so it is left here.
        with torch.inference_mode(False), torch.no_grad():
            if moved:
                model.to(place)
            model.eval()
            yield place, dtype
    finally:
        for module, flag in training:
            module.training = flag
        if moved:
            model.to(home)


def all_calls(
    model: torch.nn.Module, targets: Iterable[Target], positional: Iterable[Any], keywords: Mapping[str, Any]
) -> dict[str, list[torch.Tensor]]:
    """Run the model; per name, copies of what each call returned, taken before anything can overwrite it."""
    modules = {target.name: target.module for target in targets}
    calls: dict[str, list[torch.Tensor]] = {name: [] for name in modules}

    def listen(name: str) -> Callable[..., None]:
        return lambda _module, _inputs, output: calls[name].append(first_tensor(output, name).detach().clone())

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.callback(module.register_forward_hook(listen(name)).remove)
        model(*positional, **keywords)
    return calls


class _Reached(BaseException):
    """Ends a pass at the layer; not an Exception, so that no handler inside the model swallows it."""


@dataclass
class Layer:
    """Chosen neurons of one layer as a function of a batch; duals and graphs kept, later layers not run."""

    model: torch.nn.Module
    target: Target
    place: torch.device
    dtype: torch.dtype
    call: int = 0
    neurons: IntArray | None = None

    def send(self, values: FloatArray) -> torch.Tensor:
        """A copy on the model's device, in its dtype."""
        return as_tensor(values).to(self.place, self.dtype)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Evaluate a batch (b, ...) to (b, m)."""
        name = self.target.name
        outputs: list[Any] = []

        def listen(_module: Any, _inputs: Any, output: Any) -> None:
            outputs.append(output)
            if len(outputs) > self.call:
                raise _Reached

        handle = self.target.module.register_forward_hook(listen)
        try:
            with suppress(_Reached):
                self.model(x.clone())  # it may work in place on its input, which is used again
        finally:
            handle.remove()
        if len(outputs) <= self.call:
            raise errors.CaptureError(f"{say(name)} is called a varying number of times, now {len(outputs)}")
        flat = flatten(first_tensor(outputs[self.call], name), name, len(x))
        return flat if self.neurons is None else flat[:, self.neurons]

    def try_out(self, inputs: FloatArray) -> int:
        """Find the call to listen to, and make sure that rows depend on their own input only; return m.

        Equal to 100 units of rounding when run again; to its square root when rows are left out of the batch.
        """
        import torch

        name, x = self.target.name, self.send(inputs)
        calls = all_calls(self.model, [self.target], [x.clone()], {})[name]
        self.call = call_keys(self.target._replace(strict=True), len(calls))[0][1]
        first = flatten(calls[self.call], name, len(x))
        if not first.is_floating_point():
            raise errors.DataTypeError(f"{say(name)} has dtype {first.dtype}, which does not vary smoothly")
        y, half = host(first), len(x) // 2
        precision = float(torch.finfo(first.dtype).eps)
        size = float(np.abs(y[np.isfinite(y)]).max(initial=0))
        if not np.allclose(y, host(self(x)), rtol=0, atol=100 * precision * size, equal_nan=True):
            raise errors.CaptureError(
                f"{say(name)} differs between two passes over the same inputs: something random (dropout, "
                "noise) is active in eval mode"
            )
        if half and not np.allclose(y[:half], host(self(x[:half])), rtol=0, atol=precision**0.5 * size, equal_nan=True):
            raise errors.CaptureError(
                f"{say(name)} of a sample depends on which other samples are in its batch (batch "
                "normalisation without running statistics?), so it has no derivatives of its own"
            )
        return int(first.shape[1])


def seeded(rng: int | np.random.Generator | None) -> np.random.Generator:
    """Turn a seed into a generator."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise errors.ParameterError(f"rng={rng!r} is no seed: {error}") from error


def choose_neurons(neurons: Any, width: int, rng: int | np.random.Generator | None) -> IntArray:
    """Indices of the measured columns out of `width`: all (None), so many at random (int), or those given."""
    if neurons is None:
        return np.arange(width)
    index = host(neurons)
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
