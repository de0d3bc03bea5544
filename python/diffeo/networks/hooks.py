"""Forward hooks: a network as a function of a batch, listened to at some modules, at one call of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.networks.batches import N_COPIES, Batch, as_tensor, host, perturbed, smoothed
from diffeo.networks.layer_names import Target, call_keys, say
from diffeo.networks.reduction import Reduce, rows_of, rule_for

if TYPE_CHECKING:
    import torch

# Rows of the batch on which a layer is tried out before the work: few, and enough to halve.
TRIAL_ROWS = 8


def all_calls(
    model: torch.nn.Module, targets: Iterable[Target], batch: Batch, reduce: Reduce
) -> dict[str, list[torch.Tensor]]:
    """Run the model; per name, copies of what each call returned as (b, m), taken before anything can overwrite it."""
    import torch

    by_name, own = {target.name: target for target in targets}, get_ident()
    calls: dict[str, list[torch.Tensor]] = {name: [] for name in by_name}

    def listen(target: Target) -> Callable[..., None]:
        rule = rule_for(target, reduce)

        def hear(_module: Any, _inputs: Any, output: Any) -> None:
            if get_ident() != own:  # a pass of the network's owner
                return
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

    `calls` and `neurons` have an entry a layer: which call to listen to, and which columns of it count (None: all). A network
    that is smoothed along tangents is told those (b, ..., d) of the next batches by `tangents`.
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
    tangents: torch.Tensor | None = None

    def along(self, tangents: FloatArray | None) -> Layers:
        """The same layers for a batch with these tangents, which only a smoothed network asks for."""
        self.tangents = None if tangents is None or self.smooth is None else self.send(tangents)
        return self

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

        counts, parts, own = [0] * len(self.targets), dict[int, Any](), get_ident()
        copies = 1 if self.smooth is None else N_COPIES

        def listen(k: int) -> Callable[..., None]:
            target, rule = self.targets[k], rule_for(self.targets[k], self.reduce)

            def hear(_module: Any, _inputs: Any, output: Any) -> None:
                if get_ident() != own:  # a pass of the network's owner
                    return
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
                self.model(x.clone() if self.smooth is None else perturbed(x, self.smooth, self.tangents))
        for k, target in enumerate(self.targets):
            if k not in parts:
                raise errors.CaptureError(f"{say(target.name)} is called a varying number of times, now {counts[k]}")
        return parts[0] if len(parts) == 1 else torch.cat([parts[k] for k in range(len(parts))], dim=1)

    def try_out(self, inputs: FloatArray, tangents: FloatArray | None = None) -> list[int]:
        """Find the calls to listen to, and make sure that rows depend on their own input only; return the widths.

        Equal to 100 units of rounding when run again; to its square root when rows are left out of the batch.
        """
        x = self.send(inputs)
        batch = smoothed(Batch([x.clone()], {}, len(x), tangents=self.along(tangents).tangents), self.smooth)
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
        part = host(self.along(None if tangents is None else tangents[half:])(x[half:]))
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
