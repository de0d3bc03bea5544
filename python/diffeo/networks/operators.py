"""Which operators a network runs on what comes from its input, and with which kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# ATen operators (without a trailing "_") whose derivative jumps; any name with "max_pool" in it counts too.
# `where` is left out: attention masks use it on conditions that do not depend on the input.
_KINKED = frozenset(
    "relu relu6 leaky_relu prelu _prelu_kernel rrelu rrelu_with_noise threshold hardtanh hardswish "  # noqa: SIM905
    "hardsigmoid hardshrink softshrink abs sign sgn round floor ceil trunc clamp clamp_min clamp_max clip "
    "maximum minimum fmax fmin max min amax amin aminmax topk sort median nanmedian kthvalue mode".split()
)


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
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    # Tensors by identity; keeping them alive keeps the identities unique. x is small.
    followed = {id(x): x}
    found = OperatorsUsed({}, {})

    def follow(value: torch.Tensor) -> None:
        followed[id(value)] = value
        if value.dtype in (torch.float16, torch.bfloat16):
            found.half.setdefault(str(value.dtype).removeprefix("torch."))

    class Watch(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
        _should_skip_dynamo = classmethod(
            lambda cls: False
        )  # nothing is compiled; without this torch loads its compiler

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            if any(id(leaf) in followed for leaf in tree_leaves((args, kwargs))):
                name = func.overloadpacket.__name__
                if name.rstrip("_") in _KINKED or "max_pool" in name:
                    found.kinked.setdefault(name.strip("_").removesuffix("_kernel"))
                for leaf in tree_leaves(result):
                    if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
                        follow(leaf)
            return result

    follow(x)
    with plain_kernels(), Watch():
        evaluate(x)
    return found
