"""The state a network runs in: evaluating, without gradients, on its device; and which of its modules failed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from diffeo import errors
from diffeo.networks.looking.operators import uncompiled

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

# Training flags, torch's fast paths, its kernels and its levels of forward mode belong to the process, not to a thread:
# networks are observed one after the other, whichever threads ask. (Reentrant: within one observation another may begin.)
_one_at_a_time = threading.RLock()


class _Undone:
    """What is to be undone, latest first: at `undo`, or where an interrupt comes before that, when nobody holds this."""

    def __init__(self) -> None:
        self.steps: list[Callable[[], object]] = []

    def undo(self) -> None:
        """Undo what is not undone yet."""
        while self.steps:
            self.steps[-1]()
            self.steps.pop()

    def __del__(self) -> None:
        self.undo()


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
    if isinstance(model, torch.jit.ScriptModule):
        _logger.info("the model is TorchScript, of which only the output can be heard")
        model = _wrapped(model)
    return model


def _wrapped(script: torch.nn.Module) -> torch.nn.Module:
    """A module around one of TorchScript, which takes no hooks itself."""
    import torch

    class Scripted(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.script = script

        def forward(self, *inputs: Any, **named: Any) -> Any:
            return self.script(*inputs, **named)

    return Scripted().train(script.training)


@contextmanager
def prepared(model: torch.nn.Module, device: Any) -> Iterator[tuple[torch.device, torch.dtype | None]]:
    """Eval mode, no gradients, on `device`; yields the device and the parameters' dtype; undoes all.

    Other threads that observe wait. What the owner of the network runs in a thread meanwhile is not heard, and runs on the
    same device, but evaluates, too.
    """
    with _one_at_a_time:
        yield from _prepared(model, device)


def _prepared(model: torch.nn.Module, device: Any) -> Iterator[tuple[torch.device, torch.dtype | None]]:
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
    changed = _Undone()
    changed.steps.append(partial(_forget_hooks, model))
    changed.steps.append(partial(mha.set_fastpath_enabled, mha.get_fastpath_enabled()))
    changed.steps.extend(partial(setattr, module, "training", flag) for module, flag in training)
    if moved:
        changed.steps.append(partial(model.to, home))
    try:
        # Under torch.inference_mode dual numbers lose their tangents without a word, so it is left here.
        with torch.inference_mode(False), torch.no_grad(), _eager(model):
            if moved:
                model.to(place)
            _evaluating(model)
            # The fast path of nn.TransformerEncoder goes past its modules, and hands nested tensors on where there is padding.
            mha.set_fastpath_enabled(False)
            yield place, dtype
    finally:
        changed.undo()


def _forget_hooks(model: torch.nn.Module) -> None:
    """Remove hooks of ours that an interrupt left behind, between their registration and the note of it."""
    for module in model.modules():
        for key, hook in list(module._forward_hooks.items()):
            if getattr(hook, "__module__", "").startswith("diffeo."):
                module._forward_hooks.pop(key, None)


def alternatives(
    model: torch.nn.Module, dtype: torch.dtype | None, own: torch.dtype, *sizes: int
) -> Iterator[tuple[torch.dtype | None, int | None]]:
    """Ways to run a model, the usual first: the dtype to cast inputs to, and the number of rows that a batch must have.

    Where no parameter has a dtype (quantised networks), double precision may be too much. Networks that were exported or
    traced for batches of one size take no others: that size, if the graph tells it, or one of `sizes` is tried.
    """
    import torch

    dtypes = [dtype] if dtype is not None or own != torch.float64 else [None, torch.float32]
    nodes = getattr(getattr(model, "graph", None), "nodes", ())
    arguments = [node.meta.get("val") for node in nodes if getattr(node, "op", "") == "placeholder"]
    told = [len(value) for value in arguments if getattr(value, "ndim", 0) and isinstance(value.shape[0], int)]
    for rows in dict.fromkeys([None, *told, *sizes]):
        for kind in dtypes:
            yield kind, rows


def say_way(dtype: torch.dtype | None, rows: int | None) -> None:
    """Say in which of the `alternatives` a model runs, where it is not the usual one."""
    if rows is not None:
        _logger.info("the network runs on batches of %d rows only; shorter ones are filled up", rows)
    if dtype is not None:
        _logger.info("inputs are cast to %s", dtype)


def _evaluating(model: torch.nn.Module) -> None:
    """Put the model into eval mode, as far as it knows one."""
    try:
        model.eval()
    except NotImplementedError:  # of torch.export: the graph is fixed, in the mode in which it was exported
        _logger.info("%s has no eval mode; it is run as it is", type(model).__name__)


@contextmanager
def _eager(model: torch.nn.Module) -> Iterator[None]:
    """Run compiled modules inside the model as they are: their own modules cannot be heard otherwise."""
    import torch

    def is_compiled(module: torch.nn.Module) -> bool:
        wraps = isinstance(getattr(module, "_orig_mod", None), torch.nn.Module)
        return wraps or getattr(module, "_compiled_call_impl", None) is not None

    if not any(is_compiled(module) for module in model.modules()):
        yield
        return
    _logger.info("the model holds compiled modules; they are run as they are")
    with uncompiled():
        yield


@contextmanager
def failures_named(model: torch.nn.Module, first: int, size: int) -> Iterator[None]:
    """Turn what the model raises on `size` rows from `first` into a CaptureError that says where it was raised.

    What was raised outside of the model is not its error, and passes (but for a lack of memory, of which a batch is the cause).
    """
    try:
        yield
    except (errors.DiffeoError, MemoryError):
        raise
    except Exception as error:
        import torch

        full = isinstance(error, torch.OutOfMemoryError)
        raiser = _raiser(model, error)
        if raiser is None and not full:
            raise
        raise errors.CaptureError(
            f"{raiser or type(model).__name__} fails on rows {first} to {first + size - 1}: {type(error).__name__}: {error}"
            f"{'; lower batch_size' if full else ''}"
        ) from error


def _raiser(model: torch.nn.Module, error: BaseException) -> str | None:
    """The innermost module of the model that the exception came through, in words; None if it came through none."""
    names = {id(module): name for name, module in model.named_modules()}
    found, trace = None, error.__traceback__
    while trace is not None:
        owner = trace.tb_frame.f_locals.get("self")
        found = owner if id(owner) in names else found
        trace = trace.tb_next
    if found is None:
        return None
    name = names[id(found)]
    return f"{type(model).__name__}, in its module {name!r} ({type(found).__name__})," if name else type(model).__name__
