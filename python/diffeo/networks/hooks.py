"""A network as a function of a batch: run in what state, listened to where, and what failed if it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.networks.batches import N_COPIES, Batch, as_tensor, host, perturbed, smoothed
from diffeo.networks.layer_names import Target, call_keys, say
from diffeo.networks.reduction import Reduce, rows_of, rule_for

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

# Rows of the batch on which a layer is tried out before the work: few, and enough to halve.
TRIAL_ROWS = 8


def checked_model(model: Any) -> torch.nn.Module:
    """Make sure that torch, which only this stage needs, is there, and that `model` is a module that can be listened to.

    Returns the module itself; of one that `torch.compile` wraps the original, whose modules can be heard.
    """
    try:
        import torch
    except ImportError as error:
        raise errors.MissingDependencyError("capturing needs torch: pip install 'diffeo[torch]'") from error
    if not isinstance(model, torch.nn.Module):
        raise errors.DataTypeError(f"model is a torch.nn.Module; got {type(model).__name__}")
    original = getattr(model, "_orig_mod", None)
    if isinstance(original, torch.nn.Module):
        _logger.info("the model is compiled; the module that was compiled is run as it is")
        model = original
    tensors = [*model.parameters(), *model.buffers()]
    if any(torch.nn.parameter.is_lazy(tensor) for tensor in tensors):
        raise errors.CaptureError("the model has lazy parameters without a shape: run it on one batch first")
    if isinstance(model, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        raise errors.CaptureError(
            f"the model is TorchScript ({type(model).__name__}), whose modules cannot be listened to; take the module it was "
            "made of"
        )
    return model


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
    if any(tensor.is_meta for tensor in tensors):
        raise errors.CaptureError(
            "the model has parameters on the meta device, which hold no data: load its weights first"
        )
    dtype = next((tensor.dtype for tensor in tensors if tensor.is_floating_point()), None)
    training = [(module, module.training) for module in model.modules()]
    mha = torch.backends.mha
    fast = mha.get_fastpath_enabled()
    try:
        # Under torch.inference_mode dual numbers lose their tangents without a word, so it is left here.
        with torch.inference_mode(False), torch.no_grad(), _eager(model):
            if moved:
                model.to(place)
            model.eval()
            # The fast path of nn.TransformerEncoder goes past its modules, and hands nested tensors on where there is padding.
            mha.set_fastpath_enabled(False)
            yield place, dtype
    finally:
        mha.set_fastpath_enabled(fast)
        for module, flag in training:
            module.training = flag
        if moved:
            model.to(home)


@contextmanager
def _eager(model: torch.nn.Module) -> Iterator[None]:
    """Run compiled modules inside the model as they are: their own modules cannot be heard otherwise."""
    import torch

    def is_compiled(module: torch.nn.Module) -> bool:
        wraps = isinstance(getattr(module, "_orig_mod", None), torch.nn.Module)
        return wraps or getattr(module, "_compiled_call_impl", None) is not None

    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    if stance is None or not any(is_compiled(module) for module in model.modules()):
        yield
        return
    _logger.info("the model holds compiled modules; they are run as they are")
    with stance("force_eager"):
        yield


@contextmanager
def failures_named(model: torch.nn.Module, first: int, size: int) -> Iterator[None]:
    """Turn what the model raises on `size` rows from `first` into a CaptureError that says where it was raised."""
    try:
        yield
    except (errors.DiffeoError, MemoryError):
        raise
    except Exception as error:
        import torch

        advice = "; lower batch_size" if isinstance(error, torch.OutOfMemoryError) else ""
        raise errors.CaptureError(
            f"{_raiser(model, error)} fails on rows {first} to {first + size - 1}: {type(error).__name__}: {error}{advice}"
        ) from error


def _raiser(model: torch.nn.Module, error: BaseException) -> str:
    """The innermost module of the model that the exception came through, in words."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = model, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = owner if id(owner) in names else found
        trace = trace.tb_next
    name = names[id(found)]
    return f"{type(model).__name__}, in its module {name!r} ({type(found).__name__})," if name else type(model).__name__


def all_calls(
    model: torch.nn.Module, targets: Iterable[Target], batch: Batch, reduce: Reduce
) -> dict[str, list[torch.Tensor]]:
    """Run the model; per name, copies of what each call returned as (b, m), taken before anything can overwrite it."""
    import torch

    by_name = {target.name: target for target in targets}
    calls: dict[str, list[torch.Tensor]] = {name: [] for name in by_name}

    def listen(target: Target) -> Callable[..., None]:
        rule = rule_for(target, reduce)

        def hear(_module: Any, _inputs: Any, output: Any) -> None:
            rows = rows_of(target, output, rule, batch.size * batch.copies, batch.mask)
            rows = averaged(rows, batch.copies, target.name).detach()
            calls[target.name].append(rows.clone(memory_format=torch.contiguous_format))

        return hear

    with ExitStack() as hooks:
        for target in by_name.values():
            hooks.callback(target.module.register_forward_hook(listen(target)).remove)
        model(*batch.positional, **batch.keywords)
    return calls


def averaged(rows: torch.Tensor, copies: int, name: str) -> torch.Tensor:
    """The mean (b, m) over perturbed copies (copies b, m)."""
    if copies == 1:
        return rows
    if not rows.is_floating_point():
        raise errors.DataTypeError(
            f"{say(name)} has dtype {rows.dtype}, which has no mean over perturbed inputs (smooth=)"
        )
    return rows.unflatten(0, (copies, -1)).mean(0)


class _Reached(BaseException):
    """Ends a pass at the last layer; not an Exception, so that no handler inside the model swallows it."""


@dataclass
class Layers:
    """Chosen neurons of some layers, side by side, as a function of a batch; duals and graphs kept, later layers not run.

    `calls` and `neurons` have an entry a layer: which call to listen to, and which columns of it count (None: all).
    """

    model: torch.nn.Module
    targets: list[Target]
    place: torch.device
    dtype: torch.dtype
    reduce: Reduce = None
    smooth: float | None = None
    keys: list[str] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    neurons: list[IntArray | None] = field(default_factory=list)

    def send(self, values: FloatArray) -> torch.Tensor:
        """A copy on the model's device, in its dtype."""
        return as_tensor(values).to(self.place, self.dtype)

    def only(self, k: int) -> Layers:
        """The k-th layer alone."""
        one = slice(k, k + 1)
        return replace(
            self, targets=self.targets[one], keys=self.keys[one], calls=self.calls[one], neurons=self.neurons[one]
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Evaluate a batch (b, ...) to (b, m), m counting the neurons of all layers."""
        import torch

        counts, parts = [0] * len(self.targets), dict[int, Any]()
        copies = 1 if self.smooth is None else N_COPIES

        def listen(k: int) -> Callable[..., None]:
            target, rule = self.targets[k], rule_for(self.targets[k], self.reduce)

            def hear(_module: Any, _inputs: Any, output: Any) -> None:
                counts[k] += 1
                if counts[k] != self.calls[k] + 1:
                    return
                rows = averaged(rows_of(target, output, rule, copies * len(x), None), copies, target.name)
                # A copy where the pass goes on: what follows may work in place on it.
                rows = rows.clone() if self.neurons[k] is None else rows[:, self.neurons[k]]
                parts[k] = rows
                if len(parts) == len(self.targets):
                    raise _Reached

            return hear

        with ExitStack() as hooks:
            for k, target in enumerate(self.targets):
                hooks.callback(target.module.register_forward_hook(listen(k)).remove)
            with suppress(_Reached):
                # A copy: it may work in place on its input, which is used again.
                self.model(x.clone() if self.smooth is None else perturbed(x, self.smooth))
        for k, target in enumerate(self.targets):
            if k not in parts:
                raise errors.CaptureError(f"{say(target.name)} is called a varying number of times, now {counts[k]}")
        return parts[0] if len(parts) == 1 else torch.cat([parts[k] for k in range(len(parts))], dim=1)

    def try_out(self, inputs: FloatArray) -> list[int]:
        """Find the calls to listen to, and make sure that rows depend on their own input only; return the widths.

        Equal to 100 units of rounding when run again; to its square root when rows are left out of the batch.
        """
        x = self.send(inputs)
        batch = smoothed(Batch([x.clone()], {}, len(x)), self.smooth)
        calls = all_calls(self.model, self.targets, batch, self.reduce)
        found = [(target, *pair) for target in self.targets for pair in call_keys(target, len(calls[target.name]))]
        if not found:
            raise errors.CaptureError("no module that matches is called when the model runs")
        self.targets = [target for target, _, _ in found]
        self.keys, self.calls = [key for _, key, _ in found], [call for _, _, call in found]
        self.neurons = [None] * len(found)
        firsts = [calls[target.name][call] for target, _, call in found]
        for key, first in zip(self.keys, firsts, strict=True):
            if not first.is_floating_point():
                raise errors.DataTypeError(f"{say(key)} has dtype {first.dtype}, which does not vary smoothly")
        half = len(x) // 2
        again = host(self(x))
        # The later half: what runs along the samples by mistake, as if they were time, goes from the first to the last.
        part = host(self(x[half:]))
        begin = 0
        for key, first in zip(self.keys, firsts, strict=True):
            columns = slice(begin, begin + first.shape[1])
            _check_repeats(say(key), first, again[:, columns], part[:, columns])
            begin = columns.stop
        return [first.shape[1] for first in firsts]


def _check_repeats(what: str, first: torch.Tensor, again: Any, part: Any) -> None:
    """Compare a first pass with one over the same inputs, and with one over the later half of them."""
    import torch

    y = host(first)
    precision = float(torch.finfo(first.dtype).eps)
    size = float(np.abs(y[np.isfinite(y)]).max(initial=0))
    if not np.allclose(y, again, rtol=0, atol=100 * precision * size, equal_nan=True):
        raise errors.CaptureError(
            f"{what} differs between two passes over the same inputs: something random (dropout, "
            "noise) is active in eval mode"
        )
    if not np.allclose(y[len(y) - len(part) :], part, rtol=0, atol=precision**0.5 * size, equal_nan=True):
        raise errors.CaptureError(
            f"{what} of a sample depends on which other samples are in its batch (batch "
            "normalisation without running statistics? batch_first=False?), so it has no derivatives of its own"
        )


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
