"""The first stage: from a torch module and inputs to activations, and how they respond to small changes."""

from __future__ import annotations

import logging
import os
import urllib.parse
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._jacobians import (
    TRIAL_ROWS,
    Samples,
    auto_scale,
    check_samples,
    measure_bursts,
    measure_jacobians,
)
from diffeo._passes import (
    Layer,
    all_calls,
    arguments,
    as_tensor,
    bad_rows,
    batches,
    call_keys,
    check_model,
    choose_neurons,
    flatten,
    host,
    prepared,
    raise_non_finite,
    resolve,
    say,
    seeded,
)
from diffeo._validation import FloatArray, IntArray, integer, real

if TYPE_CHECKING:
    import torch

__all__ = ["Measurement", "capture", "measure"]

_logger = logging.getLogger("diffeo")


@dataclass(frozen=True, eq=False)
class Measurement:
    """What `measure` saw of one layer at n samples; exactly one of `jacobians` and `bursts` is there.

    Attributes
    ----------
    points : ndarray (n, m), float64, C-contiguous
        The measured neurons.
    jacobians : ndarray (n, m, p), float64, or None
        dy/dx on flattened inputs (p = input size), or (dy/dx) T with p = d tangents.
    bursts : ndarray (n, K, m), float64, or None
        The same neurons at K perturbed inputs per sample.
    scale : float or None
        Standard deviation of the perturbation per direction, in input units; None with Jacobians.
    layer : str or None
        Name of the layer as asked for; None is the output.
    neurons : ndarray (m,), int64
        Which columns of the flattened layer were measured.
    """

    points: FloatArray
    jacobians: FloatArray | None
    bursts: FloatArray | None
    scale: float | None
    layer: str | None
    neurons: IntArray


def capture(
    model: torch.nn.Module,
    inputs: Any,
    layers: str | Iterable[str],
    *,
    out: str | os.PathLike[str] | None = None,
    batch_size: int = 1024,
    device: Any = None,
    verbose: bool = False,
) -> dict[str, NDArray[Any]]:
    """Run a network once and return the activations of the layers asked for.

    Parameters
    ----------
    model : torch.nn.Module
        Put into eval mode for the pass; training flags, gradients, hooks and device are then as before.
    inputs : ndarray, torch.Tensor, or iterable of batches
        (n, ...), cut into batches; or e.g. a DataLoader, read once, in its order. Of a batch that is a tuple
        or list the first element is used; a mapping becomes keyword arguments. Floating values, which must be
        finite, take the dtype of the model's parameters (said in the log).
    layers : str or iterable of str
        Dotted names ("net.3"), `fnmatch` patterns ("blocks.*"; "*" also matches dots), or "" for the output.
        A module that is called several times in a pass needs ":k" for its k-th call ("act:0"); a pattern
        takes all calls under such names, and skips modules that are not called.
    out : path, optional
        A directory: each layer is streamed to a .npy file there, named by its percent-encoded name
        ("@output.npy" for ""), which appears, or replaces an older one, only when everything has succeeded.
    batch_size : int
        Rows per pass; batches from an iterable are taken as they are.
    device : torch device, optional
        Where to run; by default where the parameters are. A model on another device is moved there and back.
    verbose : bool
        Show a tqdm bar.

    Returns
    -------
    dict of str to ndarray (n, m)
        Per layer, everything after the first axis flattened, dtype as computed (half precisions become
        float32); with `out` read-only memory maps. Of a layer that returns a tuple or list the first tensor
        is taken; of a mapping or object "last_hidden_state", else "logits", else its first tensor value.

    Raises
    ------
    LayerError
        A name or pattern matches no module.
    CaptureError
        A module is not called, called several times, or its first axis is not the batch's.
    NonFiniteError
        Inputs or activations hold NaN or infinity (layer, number and first rows are named).
    """
    check_model(model)
    integer(batch_size, "batch_size", 1)
    targets = resolve(model, layers)
    folder = None if out is None else Path(out)
    sinks: dict[str, _Sink] = {}
    row = 0
    with ExitStack() as cleanup:
        place, dtype = cleanup.enter_context(prepared(model, device))
        bar = cleanup.enter_context(_bar(inputs, verbose))
        for batch in batches(inputs, batch_size):
            positional, keywords, size = arguments(batch, place, dtype, row)
            calls = all_calls(model, targets, positional, keywords)
            found = {
                key: host(flatten(calls[target.name][k], key, size))
                for target in targets
                for key, k in call_keys(target, len(calls[target.name]))
            }
            if not found:
                raise errors.CaptureError(f"no module that matches {layers!r} is called when the model runs")
            if row and found.keys() != sinks.keys():
                raise errors.CaptureError(
                    f"layers called in the batch from row {row} are {[*found]}; before they were {[*sinks]}"
                )
            for key, values in found.items():
                if key not in sinks:
                    sink = _Sink(key, values.shape[1], values.dtype, folder)
                    sinks[key] = cleanup.enter_context(sink)
                sinks[key].append(values)
            row += size
            bar.update(size)
        if not row:
            raise errors.SampleSizeError("inputs hold no samples")
        raise_non_finite({say(key): sink.bad for key, sink in sinks.items()}, row)
        return {key: sink.close() for key, sink in sinks.items()}


def measure(
    model: torch.nn.Module,
    inputs: NDArray[Any] | torch.Tensor,
    *,
    layer: str | None = None,
    neurons: int | ArrayLike | None = None,
    covariances: str = "jacobians",
    n_bursts: int = 32,
    scale: float | None = None,
    tangents: NDArray[Any] | torch.Tensor | None = None,
    batch_size: int = 1024,
    device: Any = None,
    rng: int | np.random.Generator | None = 0,
    verbose: bool = False,
) -> Measurement:
    """Measure neurons of one layer, and how they respond to small changes of each input.

    Parameters
    ----------
    model : torch.nn.Module
        As in `capture`; a sample's activations must not depend on the other samples, nor on chance.
    inputs : ndarray or torch.Tensor (n, ...), floating
        Finite; computed with in the dtype of the model's parameters.
    layer : str, optional
        Dotted name, with ":k" for the k-th call; None is the output. What follows runs in one trial only.
    neurons : int or array of int, optional
        None: all; a number: so many, drawn by ``np.random.default_rng(rng)``, sorted; an array: those.
    covariances : {"jacobians", "bursts"}
        Derivatives, or perturbed copies of each input.
    n_bursts : int
        K, perturbed copies per sample.
    scale : float, optional
        Standard deviation of the perturbations per direction, in input units. None: 0.02 sqrt(V / p), V the
        total variance of the inputs, p the number of directions (p = input size: 0.02 of the rms spread).
    tangents : ndarray or torch.Tensor (n, ..., d), optional
        Orthonormal directions T_i (input shape, then d) of each sample: Jacobians are (dy/dx_i) T_i, bursts
        y(x_i + T_i z) with z ~ N(0, scale^2 I). None: all p input coordinates (Jacobians: p <= 64).
    batch_size : int
        Rows per pass. Perturbations do not depend on it.
    device : torch device, optional
        As in `capture`.
    rng : int, Generator or None
        Seed of the neurons drawn and of the bursts.
    verbose : bool
        Show a tqdm bar.

    Returns
    -------
    Measurement
        float64, whatever dtype it was computed in (that is logged).

    Raises
    ------
    CaptureError
        Random outputs, outputs that mix samples, derivatives that are all zero or contradict differences.
    DataTypeError, ShapeError, ParameterError, NonFiniteError, LayerError
        Inputs, tangents or parameters that cannot be used, non-finite results (layer, rows and number named).

    Warns
    -----
    PiecewiseLinearWarning
        Jacobians were asked for, and the layer is computed with rectifiers, max pooling or the like.
    ForwardModeWarning
        An operator has no forward-mode rule; reverse mode was used.
    """
    check_model(model)
    integer(batch_size, "batch_size", 1)
    if covariances not in ("jacobians", "bursts"):
        raise errors.ParameterError(f"covariances is 'jacobians' or 'bursts'; got {covariances!r}")
    if covariances == "bursts":
        integer(n_bursts, "n_bursts", 2)
    elif scale is not None:
        raise errors.ParameterError("scale is for covariances='bursts'; Jacobians have none")
    if scale is not None:
        scale = real(scale, "scale", above=0.0)
    target, *others = resolve(model, ["" if layer is None else layer])
    if others:
        raise errors.LayerError(
            f"{layer!r} matches several layers, measure takes one: {[target.name, *(t.name for t in others)]}"
        )
    samples = Samples(inputs, tangents)
    check_samples(samples, covariances, batch_size)
    with prepared(model, device) as (place, dtype), _bar(inputs, verbose) as bar:
        chosen = Layer(model, target, place, dtype or as_tensor(inputs[:1]).dtype)
        _logger.info("computing in %s on %s; results are float64", chosen.dtype, place)
        _, trial, _ = next(samples.blocks(TRIAL_ROWS))
        chosen.neurons = choose_neurons(neurons, chosen.try_out(trial), rng)
        jacobians = bursts = None
        if covariances == "jacobians":
            points, jacobians = measure_jacobians(chosen, samples, batch_size, bar)
        else:
            scale = auto_scale(samples, batch_size) if scale is None else scale
            points, bursts = measure_bursts(chosen, samples, n_bursts, scale, seeded(rng), batch_size, bar)
    bad = [bad_rows(values) for values in (points, jacobians, bursts) if values is not None]
    raise_non_finite({say(target.name): np.unique(np.concatenate(bad))}, len(points))
    if jacobians is not None and not jacobians.any():
        raise errors.CaptureError(f"{say(target.name)} does not depend on the input: all its derivatives are zero")
    return Measurement(points, jacobians, bursts, scale, layer, chosen.neurons)


def _bar(inputs: Any, verbose: bool) -> Any:
    """A tqdm bar of samples; without an end if the inputs are an iterable of batches."""
    import torch
    from tqdm import tqdm

    total = len(inputs) if isinstance(inputs, (np.ndarray, torch.Tensor)) and inputs.ndim else None
    return tqdm(total=total, unit="sample", desc="capture", disable=not verbose)


class _Sink:
    """Collects the batches of one layer, in memory or in a .npy file that appears only when complete."""

    def __init__(self, name: str, width: int, dtype: np.dtype[Any], folder: Path | None) -> None:
        self.bad: list[int] = []  # rows that hold NaN or infinity
        self._name, self._width, self._dtype, self._n = name, width, dtype, 0
        self._parts: list[NDArray[Any]] = []
        self._file: BinaryIO | None = None
        if folder is not None:
            # Percent-encoding is one to one and never writes "@" itself.
            self._path = folder / f"{urllib.parse.quote(name, safe='') or '@output'}.npy"
            self._draft = self._path.with_name(self._path.name + ".part")
            with _storing(self._path):
                folder.mkdir(parents=True, exist_ok=True)
                self._file = self._draft.open("wb")
                self._write_header(self._file)

    def __enter__(self) -> _Sink:
        return self

    def append(self, values: NDArray[Any]) -> None:
        """Add rows (b, m)."""
        if (values.shape[1], values.dtype) != (self._width, self._dtype):
            raise errors.CaptureError(
                f"{say(self._name)} gives {values.shape[1]} values of {values.dtype} a sample from row "
                f"{self._n}, {self._width} of {self._dtype} before; pad the inputs to one size"
            )
        self.bad.extend(self._n + bad_rows(values))
        self._n += len(values)
        if self._file is None:
            self._parts.append(values)
        else:
            with _storing(self._path):
                self._file.write(np.ascontiguousarray(values).data)

    def _write_header(self, file: BinaryIO) -> None:
        """Write a .npy header for the rows so far; NumPy pads it so that n may grow in place."""
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n, self._width)}
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)

    def close(self) -> NDArray[Any]:
        """The array (n, m); of a file a read-only memory map."""
        if self._file is None:
            return np.concatenate(self._parts)
        with _storing(self._path):
            self._write_header(self._file)
            self._file.close()
            self._draft.replace(self._path)
            mapped: NDArray[Any] = np.load(self._path, mmap_mode="r", allow_pickle=False)
        return mapped

    def __exit__(self, *_error: object) -> None:
        if self._file is not None:
            self._file.close()
            self._draft.unlink(missing_ok=True)


@contextmanager
def _storing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.StorageError(f"{path} cannot be written: {error}") from error
