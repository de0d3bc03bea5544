"""Which modules of a network to listen to: names and patterns, and calls where a module runs more than once."""

from __future__ import annotations

import difflib
import fnmatch
import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from diffeo import errors

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")


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
    import torch

    every = dict(model.named_modules(remove_duplicate=False))
    scripted = {
        name.removeprefix("script.") for name, module in every.items() if isinstance(module, torch.jit.ScriptModule)
    }
    named = {name: module for name, module in every.items() if not isinstance(module, torch.jit.ScriptModule)}
    targets: dict[tuple[str, int | None], Target] = {}
    for asked in _asked(layers):
        base, call = asked, None
        if asked not in named and (parts := re.fullmatch(r"(.*):(\d+)", asked)):
            base, call = parts[1], int(parts[2])
        strict = base in named
        names = [base] if strict else [name for name in named if name and fnmatch.fnmatchcase(name, base)]
        if not names and base in scripted:
            raise errors.CaptureError(
                f"{say(base)} is TorchScript, whose modules cannot be listened to; take the module that it was made of"
            )
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


def _asked(layers: Any) -> list[str]:
    if isinstance(layers, str):
        return [layers]
    if not isinstance(layers, Iterable):
        raise errors.DataTypeError(
            f"layers are a name or a list of names; got {type(layers).__name__} ('' is the output, '*' takes all)"
        )
    names = list(layers)
    for name in names:
        if not isinstance(name, str):
            raise errors.DataTypeError(f"layer names are str; got {type(name).__name__}")
    return names


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
