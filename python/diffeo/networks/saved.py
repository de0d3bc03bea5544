"""A network that somebody saved: its class or factory by name, its weights from safetensors."""

from __future__ import annotations

import difflib
import importlib
import logging
import os
import sys
from typing import Any

from diffeo import errors

_logger = logging.getLogger("diffeo")

# What DataParallel, DistributedDataParallel, torch.compile, FSDP and averages of weights put into names.
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")


def load_network(specification: str, weights: str | os.PathLike[str], dtype: str | None = None) -> Any:
    """Make the module that MODULE:FACTORY names, and give it these weights.

    MODULE is imported as ``python -m`` would, from the current directory too, and FACTORY called without arguments. That
    code, which is yours, is all that runs: weights are numbers.

    Parameters
    ----------
    specification : str
        MODULE:FACTORY; FACTORY is a function or class that gives a torch.nn.Module, or such a module.
    weights : str or path-like
        A safetensors file, as ``safetensors.torch.save_model(net, path)`` or ``save_file(net.state_dict(), path)`` write it.
    dtype : {"float32", "float64"}, optional
        In which the network computes. Default: that of the weights, at least single.

    Raises
    ------
    ParameterError
        The module or the factory does not exist, or gives something else.
    StorageError
        The weights are missing, damaged or no safetensors file.
    InputError
        They are of another network; the message lists what is missing, unexpected, or of another shape.
    """
    import torch

    network = _made(specification, torch)
    stored = _read_weights(os.fsdecode(weights))
    kinds = {value.dtype for value in stored.values() if value.is_floating_point()}
    if dtype is not None:
        network = network.to(getattr(torch, dtype))
    elif len(kinds) == 1:
        # Otherwise double precision would be rounded on its way into a module made in single; half is for storage.
        network = network.to(torch.promote_types(kinds.pop(), torch.float32))
    _give(network, stored, os.fsdecode(weights), torch)
    return network


def _made(specification: str, torch: Any) -> Any:
    name, colon, factory = specification.partition(":")
    if not (name and colon and factory):
        raise errors.ParameterError(f"{specification!r} is not MODULE:FACTORY, such as networks:make_a")
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the user's own module lacks something: its traceback says where
        raise errors.ParameterError(f"there is no module {name!r} in {os.getcwd()} or on Python's path") from error
    made: Any = module
    for part in factory.split("."):
        if not hasattr(made, part):
            close = difflib.get_close_matches(part, [x for x in dir(made) if not x.startswith("_")])
            hint = f"; close: {', '.join(close)}" if close else ""
            raise errors.ParameterError(f"{name} has no {factory!r}{hint}")
        made = getattr(made, part)
    if not isinstance(made, torch.nn.Module):
        if not callable(made):
            raise errors.ParameterError(
                f"{specification} is a {type(made).__name__}, not a factory of a torch.nn.Module"
            )
        made = made()
    if not isinstance(made, torch.nn.Module):
        raise errors.ParameterError(f"{specification} gives a {type(made).__name__}, not a torch.nn.Module")
    return made


def _read_weights(path: str) -> dict[str, Any]:
    import safetensors
    from safetensors.torch import load_file

    try:
        stored: dict[str, Any] = load_file(path)
    except OSError as error:
        raise errors.StorageError(error.errno, error.strerror or str(error), path) from error
    except safetensors.SafetensorError as error:
        raise errors.StorageError(
            f"{path}: not a safetensors file, or damaged ({error}). From a network in torch: "
            "safetensors.torch.save_model(net, path); pickled weights are never read"
        ) from error
    return stored


def _give(network: Any, stored: dict[str, Any], path: str, torch: Any) -> None:
    """Load strictly: every weight of the network, and nothing else, tied ones once; prefixes of wrappers do not count."""
    own = network.state_dict()
    stored = _named_alike(stored, own)
    wrong = [
        f"{key} is {tuple(stored[key].shape)}, not {tuple(value.shape)}"
        for key, value in own.items()
        if key in stored and stored[key].shape != value.shape
    ]
    unexpected = sorted(stored.keys() - own.keys())
    # Of weights that share their memory only one is stored.
    known = {own[key].data_ptr() for key in own.keys() & stored.keys()}
    missing = sorted(key for key in own.keys() - stored.keys() if own[key].data_ptr() not in known)
    parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", wrong)]
    listed = [f"{what}: {_some(keys)}" for what, keys in parts if keys]
    if listed:
        raise errors.InputError(f"{path} is not of this network; {'; '.join(listed)}")
    with torch.no_grad():
        network.load_state_dict(stored, strict=False)


def _named_alike(stored: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The weights without the names that wrappers put before or between those of modules, where the network has none such."""
    if stored.keys() <= own.keys():
        return stored
    plain = {_unwrapped(key): key for key in own}
    # An average of weights says of how many it is one.
    stored = {key: value for key, value in stored.items() if key != "n_averaged" or key in own}
    found = {plain.get(_unwrapped(key), key): value for key, value in stored.items()}
    if len(plain) < len(own) or len(found) < len(stored):  # two would become one
        return stored
    _logger.info(
        "the weights were stored of a wrapped network, or are given to one: module. and _orig_mod. are passed over"
    )
    return found


def _unwrapped(key: str) -> str:
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
