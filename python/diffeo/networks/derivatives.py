"""A batch with its derivatives along given tangents, by what its operators allow: forward mode, reverse, or differences."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from diffeo import errors
from diffeo.networks.looking.operators import plain_kernels, uncompiled

if TYPE_CHECKING:
    import torch

# From a batch of inputs (b, ...) to what is measured (b, m); it keeps dual tensors dual and graphs alive.
Evaluate = Callable[["torch.Tensor"], "torch.Tensor"]

# Where a network has kinks its derivatives are proven this many steps of a difference away from the samples, by steps so many
# times narrower.
_AWAY, _NARROWER = 10, 10


class Differentiator:
    """Evaluate a batch together with its derivatives along given tangents.

    Forward mode (dual numbers, one pass per tangent) is tried first; then forward mode with torch's fused kernels and its
    compiler switched off, which gives recurrent layers, attention and compiled functions forward rules; then reverse mode (one
    backward pass per measured neuron), then central differences (two passes per tangent), the last two with a
    `ForwardModeWarning`. Whatever stops one of them, the next is tried; what failed once is not tried again.

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
            (plain_kernels()(uncompiled()(_forward)), ""),
            (plain_kernels()(_reverse), "reverse mode is used, one backward pass per measured neuron"),
            (
                _differences,
                "central differences along the tangents are used, good to 3 to 9 digits in single and double precision",
            ),
        ]

    def __call__(self, x: torch.Tensor, tangents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return y = f(x), (b, m), and (dy/dx) T, (b, m, d), for x (b, ...) and tangents T (b, ..., d)."""
        return self._first_that(x, tangents, lambda _jacobians: None)

    def settle(self, x: torch.Tensor, tangents: torch.Tensor, *, kinked: bool) -> None:
        """Leave out, by a few rows, what gives other derivatives than the network has; see `doubts`."""
        import torch

        step = difference_step(x)
        if kinked:
            # Away from ties (constant parts of pictures in pooling), where derivatives have a choice; and few kinks a step.
            away = np.random.default_rng(2).standard_normal(x.shape)
            away *= _AWAY * step / np.sqrt(away[0].size)
            x, step = x + torch.tensor(away, dtype=x.dtype, device=x.device), step / _NARROWER
        self._first_that(x, tangents, lambda jacobians: doubts(self._evaluate, x, tangents, jacobians, step))

    def _first_that(
        self, x: torch.Tensor, tangents: torch.Tensor, doubtful: Callable[[torch.Tensor], str | None]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The first mode that works and gives Jacobians that are not doubtful; differences are taken as they are."""
        reason = ""
        for k, (mode, _) in enumerate(self._modes):
            last = k == len(self._modes) - 1
            try:
                found = mode(self._evaluate, x, tangents)
                doubt = None if last else doubtful(found[1])
            except Exception as error:
                # Differences only run the network: what they raise is its own.
                if last:
                    raise
                reason = f"torch says: {(str(error) or type(error).__name__).splitlines()[0]}"
                continue
            if doubt is not None:
                reason = doubt
                continue
            self._modes = self._modes[k:]
            if k and self._modes[0][1]:
                which = "forward-mode" if len(self._modes) == 2 else "forward- and reverse-mode"
                errors.warn(
                    f"{which} differentiation is not possible, so {self._modes[0][1]}; {reason}",
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


def doubts(
    evaluate: Evaluate, x: torch.Tensor, tangents: torch.Tensor, jacobians: torch.Tensor, step: float
) -> str | None:
    """What speaks against Jacobians (b, m, d): central differences along a random direction in each span of tangents.

    Automatic differentiation is silently wrong where a network leaves torch (numpy), detaches part of a value, brings its
    own derivative, or has an operator that drops what it should differentiate. Differences at two steps,
    (f(x + h v) - f(x - h v)) / 2h, with h the `step` and half of it, that agree with each other to 2 % and differ from J v by
    more than 10 % (and by more than rounding) prove that.
    """
    import torch

    coefficients = np.random.default_rng(0).standard_normal((len(x), tangents.shape[-1]))
    coefficients /= np.linalg.norm(coefficients, axis=1, keepdims=True)
    g = torch.tensor(coefficients, dtype=x.dtype, device=x.device)
    direction = torch.einsum("b...d,bd->b...", tangents, g)
    claimed = torch.einsum("bmd,bd->bm", jacobians, g)
    precision = float(torch.finfo(x.dtype).eps)
    with torch.no_grad():
        wide, narrow = ((evaluate(x + h * direction) - evaluate(x - h * direction)) / (2 * h) for h in (step, step / 2))
        floor = 10 * precision * evaluate(x).abs().amax(dim=0) / step * len(x) ** 0.5

    def norm(values: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm(values, dim=0)

    larger = torch.maximum(norm(narrow), norm(claimed))
    wrong = (norm(wide - narrow) <= 0.02 * larger) & (norm(narrow - claimed) > 0.1 * larger + floor)
    if not bool(wrong.any()):
        return None
    columns = torch.nonzero(wrong).flatten().tolist()
    return (
        f"torch's derivatives are not those of the network: {len(columns)} of {wrong.numel()} measured neurons differ from "
        f"central differences by more than 10 % (first: {columns[:5]}). Some value is detached, computed outside of torch "
        "(numpy), or by an operator that has no rule for the derivative, or a wrong one"
    )
