"""Forward hooks: a network as a function of a batch, listened to at some modules, at one call of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.networks.batches import Batch, Form, as_tensor, host, smoothed
from diffeo.networks.layer_names import Target, call_keys, say
from diffeo.networks.reduction import Reduce, rows_of, rule_for

if TYPE_CHECKING:
    import torch

# Rows of the batch on which a layer is tried out before the work: few, and enough to halve.
TRIAL_ROWS = 8


def all_calls(
    model: torch.nn.Module, targets: Iterable[Target], batch: Batch, reduce: Reduce, fixed: int | None = None
) -> dict[str, list[torch.Tensor]]:
    """Run the model; per name, copies of what each call returned as (b, m), taken before anything can overwrite it.

    A model that takes batches of one size only is run on those, `fixed` rows each.
    """
    import torch

    by_name, own = {target.name: target for target in targets}, get_ident()
    heard: list[dict[str, list[torch.Tensor]]] = []

    def listen(target: Target, part: Batch, kept: int) -> Callable[..., None]:
        rule = rule_for(target, reduce)

        def hear(_module: Any, _inputs: Any, output: Any) -> None:
            if get_ident() != own:  # a pass of the network's owner
                return
            rows = rows_of(target, output, rule, part.size * part.copies, part.mask)[:kept]
            rows = averaged(rows, part.copies, target.name).detach()
            heard[-1][target.name].append(rows.clone(memory_format=torch.contiguous_format))

        return hear

    for part, kept in batch.passes(fixed):
        heard.append({name: [] for name in by_name})
        with ExitStack() as hooks:
            for target in by_name.values():
                hooks.callback(target.module.register_forward_hook(listen(target, part, kept)).remove)
            model(*part.positional, **part.keywords)
    if fixed is None:
        return heard[0]
    return {
        name: [
            averaged(torch.cat(rows), batch.copies, name) for rows in zip(*(one[name] for one in heard), strict=True)
        ]
        for name in by_name
    }


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
    that is smoothed along tangents is told those (b, ..., d) of the next batches by `tangents`, and one of named arguments
    what is `held` in them; `form` makes the others of numbers (b, p). Batches have `fixed` rows where that is set.
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
    form: Form | None = None
    held: dict[str, torch.Tensor] = field(default_factory=dict)
    fixed: int | None = None

    def along(self, tangents: FloatArray | None, held: Mapping[str, Any] | None = None, rows: Any = None) -> Layers:
        """The same layers for a batch with these tangents, which only a smoothed network asks for, and held arguments.

        Of both some `rows` are taken where these are given.
        """

        def some(values: Any) -> Any:
            return values if rows is None else values[rows]

        self.tangents = None if tangents is None or self.smooth is None else self.send(some(tangents))
        self.held = {}
        for name, values in (held or {}).items():
            tensor = as_tensor(some(values), name).to(self.place)
            self.held[name] = tensor.to(self.dtype) if tensor.is_floating_point() else tensor
        return self

    def batch(self, x: torch.Tensor) -> Batch:
        """What the network is given for numbers (b, ...), with perturbed copies where it is smoothed."""
        # A copy: it may work in place on its input, which is used again.
        if self.form is None:
            batch = Batch([x.clone() if self.smooth is None else x], {}, len(x), tangents=self.tangents)
        else:
            held = {name: value.clone() for name, value in self.held.items()}
            batch = Batch([], self.form.keywords(x.clone(), held), len(x), tangents=self.tangents)
        return smoothed(batch, self.smooth)

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

        batch = self.batch(x)
        passed = [self._heard(part, kept) for part, kept in batch.passes(self.fixed)]
        parts = passed[0]
        if self.fixed is not None:
            names = [target.name for target in self.targets]
            together = [torch.cat(rows) for rows in zip(*passed, strict=True)]
            parts = [averaged(rows, batch.copies, name) for rows, name in zip(together, names, strict=True)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _heard(self, part: Batch, kept: int) -> list[torch.Tensor]:
        """The chosen neurons of each layer in one pass, at the rows that count."""
        counts, parts, own = [0] * len(self.targets), dict[int, Any](), get_ident()

        def listen(k: int) -> Callable[..., None]:
            target, rule = self.targets[k], rule_for(self.targets[k], self.reduce)

            def hear(_module: Any, _inputs: Any, output: Any) -> None:
                if get_ident() != own:  # a pass of the network's owner
                    return
                counts[k] += 1
                if counts[k] != self.calls[k] + 1:
                    return
                rows = rows_of(target, output, rule, part.copies * part.size, part.mask)[:kept]
                rows = averaged(rows, part.copies, target.name)
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
                self.model(*part.positional, **part.keywords)
        for k, target in enumerate(self.targets):
            if k not in parts:
                raise errors.CaptureError(f"{say(target.name)} is called a varying number of times, now {counts[k]}")
        return [parts[k] for k in range(len(parts))]

    def try_out(
        self, inputs: FloatArray, tangents: FloatArray | None = None, held: Mapping[str, Any] | None = None
    ) -> list[int]:
        """Find the calls to listen to, and make sure that rows depend on their own input only; return the widths.

        Equal to 100 units of rounding when run again; to its square root when rows are left out of the batch.
        """
        x = self.send(inputs)
        batch = self.along(tangents, held).batch(x)
        calls = all_calls(self.model, self.targets, batch, self.reduce, self.fixed)
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
        part = host(self.along(tangents, held, slice(half, None))(x[half:]))
        begin = 0
        for key, first in zip(self.keys, firsts, strict=True):
            columns = slice(begin, begin + first.shape[1])
            _check_repeats(self.model, say(key), first, again[:, columns], part[:, columns])
            begin = columns.stop
        return [first.shape[1] for first in firsts]


def _check_repeats(model: torch.nn.Module, what: str, first: torch.Tensor, again: Any, part: Any) -> None:
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
        quantised = [name for name, module in model.named_modules() if "quantized.dynamic" in type(module).__module__]
        why = (
            f": {len(quantised)} modules ({quantised[0]!r} first) are quantised dynamically, and tell the range of values from "
            "the whole batch. Observe the network as it was before it was quantised (its weights in single precision), or "
            "quantise it statically and take covariances='bursts' with a scale wider than its steps; capture with "
            "batch_size=1 gives the activations as they are"
            if quantised
            else " (batch normalisation without running statistics? batch_first=False? ranges of quantised values told from "
            "the batch?): give the module running statistics or fixed ranges, or inputs with the samples along the first axis"
        )
        raise errors.CaptureError(
            f"{what} of a sample depends on which other samples are in its batch, so it has no derivatives of its own{why}"
        )
