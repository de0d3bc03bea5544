"""Looking at the operators that torch dispatches, stepping aside where one of them lets nobody look."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diffeo import errors

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

# ATen operators (without a trailing "_") whose derivative jumps; any name with "max_pool" in it counts too.
# `where` is left out: attention masks use it on conditions that do not depend on the input.
_KINKED = frozenset(
    "relu relu6 leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise threshold hardtanh hardswish "  # noqa: SIM905
    "hardsigmoid hardshrink softshrink abs sign sgn round floor ceil trunc clamp clamp_min clamp_max clip "
    "maximum minimum fmax fmin max min amax amin aminmax topk sort median nanmedian kthvalue mode".split()
)

# What is called after each operator: its name, its arguments (positional, then named), and its result.
Look = Callable[[str, Any, Any], None]


@contextmanager
def seen_by(look: Look) -> Iterator[None]:
    """Call `look` after every operator that torch dispatches in the block, those within higher-order operators included.

    Compiled functions run as they are meanwhile: torch's compiler remembers for good that it met a dispatch mode, and what
    was fine before then fails without one. Where the compiler is loaded only within the block (`torch.cond` does so), what it
    remembers is of the block alone, and is forgotten at its end.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_map

    class Mode(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        supports_higher_order_operators = True  # otherwise they refuse any mode
        _should_skip_dynamo = classmethod(lambda cls: False)  # otherwise torch loads its compiler

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            if isinstance(func, torch._ops.HigherOrderOperator):
                try:  # with the functions that it is given (branches, bodies of loops) looked at, too
                    result = func(*tree_map(self._looked_at, args), **kwargs)
                except Exception:  # it takes functions of its own kind only; what is the network's own is raised again
                    result = func(*args, **kwargs)
            else:
                result = func(*args, **kwargs)
            look(getattr(func, "overloadpacket", func).__name__, (args, kwargs), result)
            return result

        def _looked_at(self, value: Any) -> Any:
            if not callable(value) or isinstance(value, torch.Tensor):
                return value

            def called(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return value(*args, **kwargs)

            return called

    loaded = "torch._dynamo" in sys.modules
    try:
        with uncompiled(), Mode():
            yield
    finally:
        if not loaded and "torch._dynamo" in sys.modules:
            torch.compiler.reset()


@contextmanager
def uncompiled() -> Iterator[None]:
    """Run compiled functions as they are, where there can be any."""
    import torch

    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    if stance is None or "torch._dynamo" not in sys.modules:
        yield
        return
    with stance("force_eager"), _without_advice():
        yield


@contextmanager
def _without_advice() -> Iterator[None]:
    """Keep flex attention, which its owner compiled, from advising to compile it."""
    said: set[str] = getattr(sys.modules.get("torch.nn.attention.flex_attention"), "_WARNINGS_SHOWN", set())
    advice = {"flex_attention_performance"} - said
    said |= advice
    try:
        yield
    finally:
        said -= advice


@dataclass(frozen=True)
class OperatorsUsed:
    """Names of kinked operators, and of half-precision dtypes, on the way from the input to a layer, in order."""

    kinked: dict[str, None]
    half: dict[str, None]


def operators_used(evaluate: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> OperatorsUsed:
    """Which operators with jumping derivatives, and which half precisions, act on floating values computed from x.

    They are seen where torch dispatches them, so functional calls count as much as modules. Operators on
    constants (parameters, masks, positions) do not count: what is computed from x is followed.
    """
    import torch
    from torch.utils._pytree import tree_leaves

    # Tensors by identity; keeping them alive keeps the identities unique. x is small.
    followed = {id(x): x}
    found = OperatorsUsed({}, {})

    def follow(value: torch.Tensor) -> None:
        followed[id(value)] = value
        if value.dtype in (torch.float16, torch.bfloat16):
            found.half.setdefault(str(value.dtype).removeprefix("torch."))

    def look(name: str, arguments: Any, result: Any) -> None:
        if not any(id(leaf) in followed for leaf in tree_leaves(arguments)):
            return
        if name.rstrip("_") in _KINKED or "max_pool" in name:
            found.kinked.setdefault(name.strip("_").removesuffix("_kernel"))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
                follow(leaf)

    follow(x)
    try:
        with plain_kernels(), seen_by(look):
            evaluate(x)
    except (errors.DiffeoError, MemoryError):
        raise
    except Exception as error:  # an operator that lets nobody look; if it is the network's own, a pass will say so
        _logger.info("a look at the operators ended early: %s", error)
    return found


@contextmanager
def plain_kernels() -> Iterator[None]:
    """Switch off fused kernels (cuDNN and oneDNN recurrences, flash attention), which lack forward rules."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mha, mkldnn = torch.backends.mha, torch.backends.mkldnn
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.callback(mha.set_fastpath_enabled, mha.get_fastpath_enabled())
        mha.set_fastpath_enabled(False)
        # Not by mkldnn.flags(), which also sets flags of Intel GPUs, and warns of them on other machines.
        stack.callback(setattr, mkldnn, "enabled", mkldnn.enabled)
        mkldnn.enabled = False
        yield


def counted(run: Callable[[], Any]) -> tuple[Any, int | None]:
    """What `run` gives, and the bytes of all that operators of torch return anew in it; None where they let nobody look."""
    from torch.utils._pytree import tree_leaves

    total = 0

    def storages(values: Any) -> dict[int, int]:
        found = [leaf.untyped_storage() for leaf in tree_leaves(values) if hasattr(leaf, "untyped_storage")]
        return {storage.data_ptr(): storage.nbytes() for storage in found}

    def look(_name: str, arguments: Any, result: Any) -> None:
        nonlocal total
        read = storages(arguments)
        total += sum(size for place, size in storages(result).items() if place not in read)

    try:
        with seen_by(look):
            result = run()
    except errors.CaptureError as error:
        if error.__cause__ is None:  # not the network failed, but what it gives is not usable
            raise
        _logger.info("a look at what a pass takes of memory failed: %s", error)
        return run(), None
    return result, total
