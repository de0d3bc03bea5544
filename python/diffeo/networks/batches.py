"""What a network is fed with: batches as tensors on its device, in its dtype, finite."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import IntArray, dense, real

if TYPE_CHECKING:
    import torch

_logger = logging.getLogger("diffeo")

# Perturbed copies over which a smoothed network is averaged: pieces of rectifiers shrink as many times.
N_COPIES = 32

# The name that Hugging Face's models and tokenizers give to the mask of what is no padding.
MASK = "attention_mask"


def sample_set(inputs: Any) -> Any:
    """An array or tensor (n, ...) of what is a set of samples; an iterator or loader, which gives batches, as it is.

    Sets of samples are arrays, tensors, data frames and all else that has a length and can be converted; a list holds one
    sample an entry. A list of mappings holds batches: one of keyword arguments each.
    """
    import torch

    if isinstance(inputs, torch.Tensor):
        check_dense(inputs, "inputs")
        return inputs
    if isinstance(inputs, np.ndarray) or hasattr(inputs, "__array__") or hasattr(inputs, "__dlpack__"):
        return dense(inputs, "inputs")
    if not isinstance(inputs, Sequence) or isinstance(inputs, (str, bytes)) or not len(inputs):
        return inputs
    if all(isinstance(one, Mapping) for one in inputs):
        return inputs
    try:
        if all(isinstance(one, torch.Tensor) for one in inputs):
            return torch.stack(list(inputs))
        array = dense(list(inputs), "inputs")
    except (RuntimeError, errors.ShapeError, errors.DataTypeError) as error:
        raise _no_samples(inputs) from error
    if array.dtype.kind not in "fiub":
        raise _no_samples(inputs)
    return array


def _no_samples(inputs: Any) -> errors.DiffeoError:
    return errors.DataTypeError(
        f"inputs are a {type(inputs).__name__} of {len(inputs)} entries, which is read as one sample an entry, and these "
        "are no numbers of one shape: stack them to one array, or give batches by an iterator (iter(batches)) or a loader"
    )


def in_batches(inputs: Any, batch_size: int) -> Iterator[Any]:
    """Cut an array or tensor into batches; pass on the batches of another iterable."""
    import torch

    if isinstance(inputs, (np.ndarray, torch.Tensor)):
        if not inputs.ndim:
            raise errors.ShapeError("inputs have shape (); they must be (n, ...)")
        yield from (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
    elif isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes, Mapping)):
        yield from inputs
    else:
        raise errors.DataTypeError(
            f"inputs are an array, a tensor or an iterable of batches; got {type(inputs).__name__}"
        )


def check_dense(tensor: torch.Tensor, name: str) -> None:
    """Refuse tensors whose numbers cannot be read row by row."""
    import torch

    kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
    if kind in ("nested", "meta") or tensor.layout != torch.strided:
        raise errors.DataTypeError(f"{name} are a {kind} tensor; dense ones with data are needed")


def as_tensor(values: Any, name: str = "inputs") -> torch.Tensor:
    """A copy as a tensor (a copy, since a model may work in place on what it is given)."""
    import torch

    if isinstance(values, torch.Tensor):
        check_dense(values, name)
        return values.detach().clone()
    if values.dtype.kind not in "fiub" or values.dtype.itemsize > 8:
        raise errors.DataTypeError(
            f"{name} have dtype {values.dtype}; they must be floating (64 bits), integer or bool"
        )
    return torch.tensor(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")))


@dataclass(frozen=True)
class Batch:
    """Arguments of the model for some samples, how many there are, and how many perturbed copies of all of them.

    `tangents` (size, ..., d) are the directions along which a smoothed network is averaged; None for all.
    """

    positional: list[Any]
    keywords: dict[str, Any]
    size: int
    copies: int = 1
    tangents: Any = None

    @property
    def mask(self) -> torch.Tensor | None:
        """(b, T), nonzero where a position is no padding; None without one."""
        mask = self.keywords.get(MASK)
        return None if mask is None or getattr(mask, "ndim", 0) != 2 else mask

    def rows(self, first: int, last: int) -> Batch:
        """Some of the rows: of every tensor whose first axis is the batch's."""

        def cut(value: Any) -> Any:
            # A copy: models may work in place on what they are given.
            return value[first:last].clone() if getattr(value, "ndim", 0) and len(value) == self.size else value

        return Batch(
            [cut(value) for value in self.positional],
            {name: cut(value) for name, value in self.keywords.items()},
            min(last, self.size) - first,
            tangents=cut(self.tangents),
        )


def check_smooth(smooth: Any) -> float | None:
    """Check the standard deviation of the perturbations of a smoothed network."""
    return None if smooth is None else real(smooth, "smooth", above=0.0)


def perturbed(x: torch.Tensor, scale: float, tangents: torch.Tensor | None = None) -> torch.Tensor:
    """Copies x + scale z_k of a batch (b, ...), as (K b, ...): normal z_k in pairs of either sign, the same for every x.

    The mean over the copies is then one function of x, as smooth as the mean of K shifted networks, with the Jacobian that is
    the mean of theirs. With orthonormal `tangents` T (b, ..., d), the copies are x + scale T T^t z_k: normal along the span of
    T, and the same for any basis of it, so that the mean is one function on the set that the inputs fill. Its Jacobian along T
    is then the mean but for terms of second order in the scale, by which T turns.
    """
    import torch

    z = np.random.default_rng(0).standard_normal((N_COPIES // 2, 1, *x.shape[1:]))
    offsets = torch.tensor(scale * np.concatenate([z, -z]), dtype=x.dtype, device=x.device)
    if tangents is not None:
        spanned = tangents.flatten(1, -2)
        along = torch.einsum("kp,bpd->kbd", offsets.flatten(1), spanned)
        offsets = torch.einsum("bpd,kbd->kbp", spanned, along).unflatten(-1, x.shape[1:])
    return (x + offsets).flatten(0, 1)


def smoothed(batch: Batch, scale: float | None) -> Batch:
    """The batch with its perturbed copies."""
    if scale is None:
        return batch
    if not batch.positional or not batch.positional[0].is_floating_point():
        raise errors.ParameterError(
            "smooth is for networks of one floating input; mappings and integers cannot be varied"
        )
    return Batch([perturbed(batch.positional[0], scale, batch.tangents)], {}, batch.size, N_COPIES)


def say_cost(smooth: float | None) -> None:
    """Say what a smoothed network costs, before it runs."""
    if smooth is not None:
        said = "smooth=%g: the network runs on %d perturbed copies of every input, and takes as many times as long"
        _logger.info(said, smooth, N_COPIES)


def arguments(batch: Any, place: torch.device, dtype: torch.dtype | None, row: int, *, trial: bool = False) -> Batch:
    """Arguments of the model for one batch that begins at `row`; of a trial nothing is checked or said yet."""
    import torch

    def send(name: str, values: Any) -> torch.Tensor:
        tensor = as_tensor(values, name)
        if not trial:
            raise_non_finite({name: row + bad_rows(host(tensor))}, row + len(tensor))
        if dtype is None or not tensor.is_floating_point():
            return tensor.to(place)
        if row == 0 and not trial and tensor.dtype != dtype:
            _logger.info("%s are cast from %s to %s, the dtype of the parameters", name, tensor.dtype, dtype)
        return tensor.to(place, dtype)

    def is_array(value: Any) -> bool:
        return isinstance(value, (np.ndarray, torch.Tensor)) and value.ndim > 0

    while isinstance(batch, (tuple, list)) and batch:
        batch = batch[0]
    if isinstance(batch, Mapping):
        keywords = {name: send(name, value) if is_array(value) else value for name, value in batch.items()}
        size = next((len(value) for value in keywords.values() if is_array(value)), None)
        if size is None:
            raise errors.DataTypeError("a batch holds no array and no tensor")
        return Batch([], keywords, size)
    if not is_array(batch):
        raise errors.DataTypeError(f"a batch is an array, a tensor, a tuple or a mapping; got {type(batch).__name__}")
    return Batch([send("inputs", batch)], {}, len(batch))


def host(values: Any) -> NDArray[Any]:
    """A tensor or array as an array on the host; half-precision tensors become float32."""
    import torch

    if not isinstance(values, torch.Tensor):
        return np.asarray(values)
    half = values.dtype in (torch.float16, torch.bfloat16)
    dense_values = values.detach().to("cpu", torch.float32 if half else values.dtype).resolve_conj().resolve_neg()
    array: NDArray[Any] = dense_values.numpy()
    return array


def bad_rows(values: NDArray[Any]) -> IntArray:
    """Rows (n, ...) that hold NaN or infinity."""
    return np.flatnonzero(~np.isfinite(values).all(axis=tuple(range(1, values.ndim))))


def some_of(rows: Any, n: int) -> str:
    """Say how many rows out of n there are, and which come first."""
    return f"{len(rows)} of {n} rows (first: {', '.join(str(row) for row in rows[:5])})"


def raise_non_finite(bad: Mapping[str, Any], n: int) -> None:
    """Raise if there are bad rows (indices) under any name (words for the message)."""
    found = [f"{name} in {some_of(rows, n)}" for name, rows in bad.items() if len(rows)]
    if found:
        raise errors.NonFiniteError(f"NaN or infinity in {'; '.join(found)}")
