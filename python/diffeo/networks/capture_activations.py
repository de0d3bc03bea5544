"""capture: from torch modules and inputs to activations, in memory or streamed to the disk."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import integer
from diffeo._support.memory import memory_limit
from diffeo._support.threads import sound
from diffeo.networks.batches import (
    N_COPIES,
    Batch,
    arguments,
    as_tensor,
    check_smooth,
    count,
    host,
    in_batches,
    raise_non_finite,
    sample_set,
    say_cost,
    smoothed,
)
from diffeo.networks.hooks import TRIAL_ROWS, all_calls
from diffeo.networks.layer_names import Target, call_keys, resolve, say
from diffeo.networks.measurement import Measurement, bar_of, measure, measure_layers
from diffeo.networks.memory_need import Need, rows_within, tried
from diffeo.networks.model_state import alternatives, checked_model, failures_named, prepared, say_way
from diffeo.networks.reduction import Reduce, check_reduce
from diffeo.networks.responses import Samples, check_samples
from diffeo.networks.sinks import Sink

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

__all__ = ["Measurement", "capture", "capture_networks", "measure", "measure_layers"]


@sound
def capture(
    model: torch.nn.Module,
    inputs: Any,
    layers: str | Iterable[str],
    *,
    reduce: Reduce = None,
    smooth: float | None = None,
    tangents: Any = None,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 1024,
    max_memory: int | None = None,
    device: Any = None,
    verbose: bool = False,
) -> dict[str, NDArray[Any]]:
    """Run a network once and return the activations of the layers asked for.

    Parameters
    ----------
    model : torch.nn.Module
        Put into eval mode for the pass; training flags, gradients, hooks and device are then as before. Of what
        `torch.compile` returns the original module is run; of TorchScript only the output can be heard. A network that takes
        batches of one size only (`torch.export` without dynamic shapes) gets batches that are filled up to it; where its graph
        does not tell the size, give it as `batch_size`.
    inputs : array_like or torch.Tensor of shape (n, ...), mapping of str to these, or iterable of batches
        Arrays of any kind, and lists of one sample an entry, are sets of samples, and cut into batches; arrays of a mapping
        go to the arguments of these names. Iterators, loaders and lists of mappings give batches, read once, in their order.
        Of a batch that is a tuple or list the first element is used; a mapping becomes keyword arguments. Floating values,
        which must be finite, take the dtype of the model's parameters (said in the log).
    layers : str or iterable of str
        Dotted names ("net.3"), `fnmatch` patterns ("blocks.*"; "*" also matches dots), or "" for the output.
        A module that is called several times in a pass needs ":k" for its k-th call ("act:0"); a pattern
        takes all calls under such names, and skips modules that are not called.
    reduce : {None, "mean", "first", "last"}, callable, or mapping of layers to these
        None flattens everything after the first axis. The others reduce positions: the second of three axes (tokens,
        time steps), all after the second of four and more (feature maps: mean only); layers without positions stay.
        Padding does not count where a batch is a mapping with an "attention_mask" (b, T), or the layer gives a packed
        sequence. A callable gets what the module returned and gives a tensor (b, ...).
    smooth : float, optional
        Standard deviation, in input units, of Gaussian perturbations of every coordinate of the input, over 32 of which
        (the same for all inputs) activations are averaged. What kinks (rectifiers, max pooling) do at that scale remains,
        without the kinks, and 32 times as many inputs run. Inputs must be one floating array.
    tangents : ndarray or torch.Tensor of shape (n, ..., d), optional
        Orthonormal directions of the set that the inputs fill: a smoothed network is averaged along them alone, whatever
        their basis. For arrays of inputs (or a mapping, of a mapping), and of no use without `smooth`.
    out : path, optional
        A directory: each layer is streamed to a .npy file there, named by its percent-encoded name
        ("@output.npy" for ""), which appears, or replaces an older one, only when everything has succeeded.
    batch_size : int
        Rows per pass; batches from an iterable are taken as they are.
    max_memory : int, optional
        Bytes that activations may take. Passes of arrays get shorter so as to keep to it (what all operators of one pass
        return, together, is counted: more than is alive at once), and without `out` the result counts too. Default: the
        environment variable DIFFEO_MEMORY_LIMIT, or half of the machine's memory. The model, the inputs, and
        what kernels need for themselves (some ten MiB) do not count.
    device : torch device, optional
        Where to run; by default where the parameters are. A model on another device is moved there and back.
    verbose : bool
        Show a tqdm bar.

    Returns
    -------
    dict of str to ndarray (n, m)
        Per layer, dtype as computed (half precisions become float32); with `out` read-only memory maps. Of a layer that
        returns a tuple or list the first tensor is taken (of recurrent layers the outputs of all steps); of a mapping or
        object "last_hidden_state", else "logits", else its first tensor value. Modules of torch that read (time, batch,
        channel) are turned to (batch, time, channel).

    Raises
    ------
    LayerError
        A name or pattern matches no module.
    CaptureError
        A module is not called, called several times, fails (module and rows are named), or its first axis is not the
        batch's.
    NonFiniteError
        Inputs or activations hold NaN or infinity (layer, number and first rows are named).
    MemoryLimitError
        `max_memory` holds not even one row, or without `out` not the result. Nothing was computed.

    Warns
    -----
    DiffeoWarning
        A sample's activations depend on the other samples in its batch.

    Notes
    -----
    The fast path of `nn.TransformerEncoder` is switched off: it goes past the modules inside. It differs from what runs
    here by rounding, and at padded positions, where it gives zeros.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> diffeo.capture(net, x, "1")["1"].shape
    (200, 8)
    """
    names = [layers] if isinstance(layers, str) else layers
    run = _Pass(smooth, tangents, out, batch_size, max_memory, device, verbose)
    return _captured({"": model}, inputs, {"": names}, {"": reduce}, run)[""]


@sound
def capture_networks(
    models: Mapping[str, torch.nn.Module],
    inputs: Any,
    layers: str | Iterable[str] | Mapping[str, Any],
    *,
    reduce: Any = None,
    smooth: float | None = None,
    tangents: Any = None,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 1024,
    max_memory: int | None = None,
    device: Any = None,
    verbose: bool = False,
) -> dict[str, dict[str, NDArray[Any]]]:
    """Feed several networks from one pass over the same inputs, so that the rows of all pair up.

    A shuffled loader gives another order each time it is read; here it is read once.

    Parameters
    ----------
    models : mapping of str to torch.nn.Module
        Networks by names of your choice.
    inputs, smooth, tangents, batch_size, max_memory, device, verbose
        As in `capture`.
    layers : str, iterable of str, or mapping of the names of networks to these
        For all networks, or for each.
    reduce : as in `capture`, or mapping of the names of networks to that
        A mapping whose keys are the names of all networks is read in the second way.
    out : path, optional
        A directory, in which each network gets one of its name.

    Returns
    -------
    dict of str to dict of str to ndarray (n, m)
        Per network what `capture` returns.

    Raises
    ------
    LayerError, CaptureError, NonFiniteError, MemoryLimitError
        As in `capture`.

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> found = diffeo.capture_networks({"one": net, "two": net}, x, "1")
    >>> found["two"]["1"].shape
    (200, 8)
    """
    if not isinstance(models, Mapping) or not models or not all(isinstance(name, str) for name in models):
        raise errors.DataTypeError(f"models are a mapping from names to networks; got {type(models).__name__}")
    if isinstance(layers, Mapping) and layers.keys() != models.keys():
        raise errors.ParameterError(f"layers name the networks {[*layers]}; models {[*models]}")
    rules = reduce if isinstance(reduce, Mapping) and reduce.keys() == models.keys() else dict.fromkeys(models, reduce)
    asked = (
        layers
        if isinstance(layers, Mapping)
        else dict.fromkeys(models, [layers] if isinstance(layers, str) else layers)
    )
    run = _Pass(smooth, tangents, out, batch_size, max_memory, device, verbose)
    return _captured(models, inputs, asked, rules, run)


@dataclass(frozen=True)
class _Pass:
    """How inputs are fed to networks, and where activations go; described at `capture`."""

    smooth: float | None
    tangents: Any
    out: str | os.PathLike[str] | None
    batch_size: int
    max_memory: int | None
    device: Any
    verbose: bool


def _captured(
    models: Mapping[str, torch.nn.Module], inputs: Any, asked: Mapping[str, Any], rules: Mapping[str, Any], how: _Pass
) -> dict[str, dict[str, NDArray[Any]]]:
    """What `capture_networks` gives, of layers and rules by the names of networks."""
    integer(how.batch_size, "batch_size", 1)
    smooth, tangents = check_smooth(how.smooth), how.tangents
    models = {name: checked_model(model) for name, model in models.items()}
    inputs = sample_set(inputs)
    if tangents is not None:
        if smooth is None:
            raise errors.ParameterError(
                "tangents are those along which a network is smoothed: give smooth=, or leave them out"
            )
        samples = Samples.of(inputs, tangents)
        check_samples(samples, "bursts", how.batch_size)
        tangents = samples.tangents
    say_cost(smooth)
    limit = memory_limit() if how.max_memory is None else integer(how.max_memory, "max_memory", 1)
    if how.out is not None and not isinstance(how.out, (str, os.PathLike)):
        raise errors.DataTypeError(f"out is the path of a directory; got {type(how.out).__name__}")
    folder = None if how.out is None else Path(how.out)
    networks = []
    for name, module in models.items():
        targets = resolve(module, asked[name])
        check_reduce(rules[name], [target.name for target in targets])
        networks.append(
            _Network(name, module, targets, rules[name], smooth, folder and (folder / name if name else folder))
        )
    with ExitStack() as cleanup:
        for network in networks:
            network.place, network.dtype = cleanup.enter_context(prepared(network.model, how.device))
        bar = cleanup.enter_context(bar_of(inputs, how.verbose))
        _run(networks, inputs, tangents, how.batch_size, limit, bar, cleanup)
        return {network.name: {key: sink.close() for key, sink in network.sinks.items()} for network in networks}


@dataclass(eq=False)
class _Network:
    """One network of a pass, and where its activations go."""

    name: str
    model: torch.nn.Module
    targets: list[Target]
    reduce: Reduce
    smooth: float | None
    folder: Path | None
    place: Any = None
    dtype: Any = None
    fixed: int | None = None
    sinks: dict[str, Sink] = field(default_factory=dict)

    def layer(self, key: str) -> str:
        return f"{say(key)} of {self.name!r}" if self.name else say(key)

    def outputs(self, batch: Batch, row: int) -> dict[str, NDArray[Any]]:
        """Activations of one batch by key."""
        with failures_named(self.model, row, batch.size):
            calls = all_calls(self.model, self.targets, smoothed(batch, self.smooth), self.reduce, self.fixed)
        return {
            key: host(calls[target.name][k])
            for target in self.targets
            for key, k in call_keys(target, len(calls[target.name]))
        }

    def tried(self, batch: Batch, *sizes: int) -> Need:
        """What a pass takes, told from the first rows of a batch, in the first way in which the network runs."""
        import torch

        given = next((value.dtype for value in batch.arrays() if value.is_floating_point()), torch.float32)
        for dtype, rows in alternatives(self.model, self.dtype, given, *sizes):
            self.fixed, cast = rows, batch if dtype is None else batch.cast(dtype)
            try:
                need = tried(lambda few: self.outputs(few, 0), cast, self.layer)
            except errors.CaptureError as error:
                if error.__cause__ is None:  # not the network failed, but what it gives is not usable
                    raise
                _logger.info("a trial on a few rows failed: %s", error)
                continue
            say_way(None if dtype == self.dtype else dtype, rows)
            self.dtype = dtype
            return need
        self.fixed = None
        return Need(0.0, 0.0, 0)

    def run(self, batch: Batch, row: int, total: int | None, cleanup: ExitStack) -> None:
        """Send one batch through and store what comes out."""
        found = self.outputs(batch, row)
        if not found:
            raise errors.CaptureError(
                f"no module that matches {[target.name for target in self.targets]} is called when the model runs"
            )
        if row and found.keys() != self.sinks.keys():
            raise errors.CaptureError(
                f"layers called in the batch from row {row} are {[*found]}; before they were {[*self.sinks]}"
            )
        for key, values in found.items():
            if key not in self.sinks:
                sink = Sink(key, values.shape[1], values.dtype, total, self.folder)
                self.sinks[key] = cleanup.enter_context(sink)
            self.sinks[key].append(values)


def _run(
    networks: list[_Network], inputs: Any, tangents: Any, batch_size: int, limit: int, bar: Any, cleanup: ExitStack
) -> None:
    """Pass all batches through all networks, into their sinks."""
    total = count(inputs)
    row = 0
    if networks[0].smooth is not None:
        batch_size = max(1, batch_size // N_COPIES)
    if total:
        few = inputs[:TRIAL_ROWS]
        trials = [(network, arguments(few, network.place, network.dtype, 0, trial=True)) for network in networks]
        sizes = min(batch_size, total), batch_size
        needs = [network.tried(_along(network, batch, tangents, 0), *sizes) for network, batch in trials]
        batch_size = min(batch_size, rows_within(limit, needs, total, keeps=networks[0].folder is None))
    for raw in in_batches(inputs, batch_size):
        for network in networks:
            batch = _along(network, arguments(raw, network.place, network.dtype, row), tangents, row)
            if row == 0 and not total and batch.positional:
                network.tried(batch, batch.size)
                batch = batch if network.dtype is None else batch.cast(network.dtype)
            network.run(batch, row, total, cleanup)
        # Networks read one batch, and so as many rows.
        row += batch.size
        bar.update(batch.size)
        kept = sum(sink.kept for network in networks for sink in network.sinks.values())
        if not total and 2 * kept > limit:  # the parts, and what they are joined to
            raise errors.MemoryLimitError(
                f"activations of the first {row} rows take {kept / 2**30:.3g} GiB, twice when joined, above the limit of "
                f"{limit / 2**30:.3g} GiB; give out=, reduce=, fewer layers, or a larger max_memory"
            )
    if not row:
        raise errors.SampleSizeError("inputs hold no samples")
    raise_non_finite({network.layer(key): sink.bad for network in networks for key, sink in network.sinks.items()}, row)


def _along(network: _Network, batch: Batch, tangents: Any, row: int) -> Batch:
    """The batch that begins at `row`, with its tangents."""
    if tangents is None:
        return batch
    dtype = next(value.dtype for value in batch.arrays() if value.is_floating_point())
    return replace(batch, tangents=as_tensor(tangents[row : row + batch.size]).to(network.place, dtype))
