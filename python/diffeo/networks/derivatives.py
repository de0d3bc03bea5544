"""A batch with its derivatives along given tangents, by what its operators allow: forward mode, reverse, or differences."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

# From a batch of inputs (b, ...) to what is measured (b, m); it keeps dual tensors dual and graphs alive.
Evaluate = Callable[["torch.Tensor"], "torch.Tensor"]

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
    try:
        with plain_kernels(), Watch():
            evaluate(x)
    except (errors.DiffeoError, MemoryError):
        raise
    except Exception as error:  # an operator that lets nobody look; if it is the network's own, a pass will say so
        _logger.info("a look at the operators ended early: %s", error)
    return found


class Differentiator:
    """Evaluate a batch together with its derivatives along given tangents.

    Forward mode (dual numbers, one pass per tangent) is tried first; then forward mode with torch's fused
    kernels switched off, which gives recurrent layers and attention forward rules; then reverse mode (one
    backward pass per measured neuron), then central differences (two passes per tangent), the last two with a
    `ForwardModeWarning`. What failed once is not tried again.

    Parameters
    ----------
    evaluate : callable
        Maps a tensor (b, ...) to a tensor (b, m), row by row (no row may depend on another row).
    """

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        # Each with what is said where it is the first that works.
        self._modes = [
            (_forward, ""),
            (plain_kernels()(_forward), ""),
            (plain_kernels()(_reverse), "reverse mode is used, one backward pass per measured neuron"),
            (
                _differences,
                "central differences along the tangents are used, good to 3 to 9 digits in single and double precision",
            ),
        ]

    def __call__(self, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return y = f(x), (b, m), and (dy/dx) T, (b, m, d), for x (b, ...) and tangents T (b, ..., d)."""
        import torch

        for k, (mode, _) in enumerate(self._modes):
            try:
                found = mode(self._evaluate, x, tangents)
            except (errors.DiffeoError, MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                # Differences only run the network: what they raise is its own.
                if k == len(self._modes) - 1:
                    raise
                text = str(error) or type(error).__name__
            else:
                self._modes = self._modes[k:]
                if k and self._modes[0][1]:
                    which = "forward-mode" if len(self._modes) == 2 else "forward- and reverse-mode"
                    errors.warn(
                        f"{which} differentiation is not possible, so {self._modes[0][1]}; torch says: "
                        f"{text.splitlines()[0]}",
                        errors.ForwardModeWarning,
                    )
                return found
        raise AssertionError("differences return or raise")


def _forward(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Dual numbers, one pass per tangent; a result without a tangent does not depend on the input: zeros."""
    import torch
    from torch.autograd import forward_ad

    _load_rules()
    columns = []
    with torch.no_grad(), forward_ad.dual_level():
        for k in range(tangents.shape[-1]):
            dual = forward_ad.make_dual(x, tangents[..., k].contiguous())
            y, derivative = forward_ad.unpack_dual(evaluate(dual))
            columns.append(torch.zeros_like(y) if derivative is None else derivative)
    return y, torch.stack(columns, dim=-1)


@lru_cache(maxsize=1)
def _load_rules() -> None:
    """Import torch's rules for forward mode, as it does when it first meets a dual number, but without its own deprecations.

    Where warnings are errors they would end the pass, and the network would be blamed.
    """
    with warnings.catch_warnings(), suppress(ImportError):
        warnings.simplefilter("ignore")
        importlib.import_module("torch._decomp.decompositions_for_jvp")


def _reverse(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """One backward pass per column of y; rows are independent, so a column's sum has row-wise gradients."""
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        y = evaluate(x)
        rows = []
        for k in range(y.shape[1]):
            gradient = torch.zeros_like(x)
            if y.requires_grad:
                (gradient,) = torch.autograd.grad(y[:, k].sum(), x, retain_graph=True, materialize_grads=True)
            rows.append(torch.einsum("bp,bpd->bd", gradient.reshape(len(x), -1), tangents.flatten(1, -2)))
    return y.detach(), torch.stack(rows, dim=1)


def _differences(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Central differences (f(x + h t) - f(x - h t)) / 2h along each tangent t."""
    import torch

    step = difference_step(x)
    with torch.no_grad():
        columns = [
            (evaluate(x + step * tangents[..., k]) - evaluate(x - step * tangents[..., k])) / (2 * step)
            for k in range(tangents.shape[-1])
        ]
        return evaluate(x), torch.stack(columns, dim=-1)


def difference_step(x: torch.Tensor) -> float:
    """The step that balances the truncation (h^2) and the rounding (eps/h) of a central difference, times |x|."""
    import torch

    size = float(torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1).mean()) or 1.0
    precision = float(torch.finfo(x.dtype).eps)
    return float(np.cbrt(precision)) * size


def check_derivative(evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor, jacobians: torch.Tensor) -> None:
    """Compare Jacobians (b, m, d) with central differences along a random direction in each span of tangents.

    Automatic differentiation is silently wrong where a network leaves torch (numpy), detaches part of a
    value, or brings its own derivative. Differences at two steps, (f(x + h v) - f(x - h v)) / 2h, that agree
    with each other to 2 % and differ from J v by more than 10 % (and by more than rounding) prove that.

    Raises
    ------
    CaptureError
        Naming the first columns of y whose derivatives are wrong.
    """
    import torch

    coefficients = np.random.default_rng(0).standard_normal((len(x), tangents.shape[-1]))
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
    g = torch.tensor(coefficients, dtype=x.dtype, device=x.device)
    direction = torch.einsum("b...d,bd->b...", tangents, g)
    claimed = torch.einsum("bmd,bd->bm", jacobians, g)
    precision = float(torch.finfo(x.dtype).eps)
    step = difference_step(x)
    with torch.no_grad():
        wide, narrow = ((evaluate(x + h * direction) - evaluate(x - h * direction)) / (2 * h) for h in (step, step / 2))
        floor = 10 * precision * evaluate(x).abs().amax(dim=0) / step * len(x) ** 0.5

    def norm(values: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(values, dim=0)

    larger = torch.maximum(norm(narrow), norm(claimed))
    wrong = (norm(wide - narrow) <= 0.02 * larger) & (norm(narrow - claimed) > 0.1 * larger + floor)
    if bool(wrong.any()):
        columns = torch.nonzero(wrong).flatten().tolist()
        raise errors.CaptureError(
            f"torch's derivatives are not those of the network: {len(columns)} of {wrong.numel()} measured "
            f"neurons differ from central differences by more than 10 % (first: {columns[:5]}). Some value "
            "is detached, computed outside of torch (numpy), or has its own rule for the derivative; use "
            "covariances='bursts', which need no derivatives"
        )
