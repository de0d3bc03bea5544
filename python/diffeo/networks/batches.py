"""What a network is fed with: batches as tensors on its device, in its dtype, finite."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class Form:
    """How a row (p,) of numbers becomes floating arguments of a network, by their names; `given` are the same for all rows."""

    shapes: dict[str, tuple[int, ...]]
    given: dict[str, Any]

    def keywords(self, flat: torch.Tensor, held: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Arguments by name, of numbers (b, p) and of what is held (b, ...)."""
        parts = flat.split([int(np.prod(shape)) for shape in self.shapes.values()], dim=1)
        varied = {
            name: part.reshape(len(flat), *shape)
            for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
        return {**self.given, **held, **varied}


class NamedInputs:
    """Inputs by the names of the network's arguments: arrays or tensors (n, ...) each, and values that are the same for all.

    Floating arrays are what varies (but for an attention mask); others (numbers of tokens, masks) are held as they are.
    """

    ndim = 1

    def __init__(self, inputs: Mapping[str, Any]) -> None:
        found = {str(name): value if _is_plain(value) else sample_set(value) for name, value in inputs.items()}
        self.arrays = {name: value for name, value in found.items() if hasattr(value, "shape") and len(value.shape)}
        self.given = {name: value for name, value in found.items() if name not in self.arrays}
        lengths = {name: len(value) for name, value in self.arrays.items()}
        if not lengths:
            raise errors.DataTypeError(f"inputs are a mapping without arrays; its entries are {[*found]}")
        if len(set(lengths.values())) > 1:
            raise errors.ShapeError(f"inputs are a mapping to arrays of different lengths: {lengths}")
        self.varied = sorted(name for name, value in self.arrays.items() if _is_floating(value) and name != MASK)

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def __getitem__(self, rows: Any) -> dict[str, Any]:
        return {**self.given, **{name: value[rows] for name, value in self.arrays.items()}}

    @property
    def form(self) -> Form:
        """How numbers (p,) of a sample are its floating arguments."""
        return Form({name: tuple(self.arrays[name].shape[1:]) for name in self.varied}, self.given)

    def flat(self) -> NDArray[Any]:
        """What varies, side by side: (n, p)."""
        if not self.varied:
            kinds = ", ".join(f"{name}: {value.dtype}" for name, value in self.arrays.items())
            raise errors.DataTypeError(
                f"none of the inputs is floating ({kinds}), and only floating values can be varied: give embeddings in the "
                "place of tokens"
            )
        return np.concatenate([host(self.arrays[name]).reshape(len(self), -1) for name in self.varied], axis=1)

    def flat_tangents(self, tangents: Any) -> NDArray[Any]:
        """Tangents (n, ..., d) by name, side by side: (n, p, d); zero where a name is left out."""
        if not isinstance(tangents, Mapping) or not tangents or not set(tangents) <= set(self.varied):
            raise errors.DataTypeError(f"inputs are a mapping, so tangents are one, too, from (some of) {self.varied}")
        given = {name: dense(value, f"tangents of {name}") for name, value in tangents.items()}
        for name, value in given.items():
            if value.ndim < 2 or value.shape[:-1] != tuple(self.arrays[name].shape):
                raise errors.ShapeError(
                    f"tangents of {name} have shape {value.shape}; they must be {(*self.arrays[name].shape, 'd')}"
                )
        d = {value.shape[-1] for value in given.values()}
        if len(d) > 1:
            raise errors.ShapeError(f"tangents have different numbers of directions: {sorted(d)}")
        parts = []
        for name in self.varied:
            width = int(np.prod(self.arrays[name].shape[1:]))
            empty = np.zeros((len(self), width, *d))
            parts.append(given[name].reshape(len(self), width, *d) if name in given else empty)
        return np.concatenate(parts, axis=1)

    def held(self, rows: Any) -> dict[str, Any]:
        """Arrays that do not vary, at some rows."""
        return {name: value[rows] for name, value in self.arrays.items() if name not in self.varied}


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, bytes))


def _is_tensor(value: Any) -> bool:
    """Whether a value is a floating tensor."""
    return hasattr(value, "is_floating_point") and bool(value.is_floating_point())


def _is_floating(values: Any) -> bool:
    return bool(values.is_floating_point() if hasattr(values, "is_floating_point") else values.dtype.kind == "f")


def count(inputs: Any) -> int | None:
    """How many samples a set of them holds; None of what gives batches."""
    import torch

    return len(inputs) if isinstance(inputs, (np.ndarray, torch.Tensor, NamedInputs)) and inputs.ndim else None


def sample_set(inputs: Any) -> Any:
    """An array or tensor (n, ...) of what is a set of samples; an iterator or loader, which gives batches, as it is.

    Sets of samples are arrays, tensors, data frames and all else that has a length and can be converted; a list holds one
    sample an entry. A mapping holds arrays by the names of the network's arguments. A list of mappings holds batches: one of
    keyword arguments each.
    """
    import torch

    if isinstance(inputs, NamedInputs):
        return inputs

    if isinstance(inputs, torch.Tensor):
        check_dense(inputs, "inputs")
        return inputs
    if isinstance(inputs, np.ndarray) or hasattr(inputs, "__array__") or hasattr(inputs, "__dlpack__"):
        return dense(inputs, "inputs")
    if isinstance(inputs, Mapping):
        return NamedInputs(inputs)
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

    if isinstance(inputs, (np.ndarray, torch.Tensor, NamedInputs)):
        if not inputs.ndim:
            raise errors.ShapeError("inputs have shape (); they must be (n, ...)")
        yield from (inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size))
    elif isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes, Mapping)):
        yield from inputs
    else:
        raise errors.DataTypeError(
            f"inputs are an array, a tensor, a mapping of these or an iterable of batches; got {type(inputs).__name__}"
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

    def arrays(self) -> list[torch.Tensor]:
        """Its tensors that have a row a sample."""
        values = [*self.positional, *self.keywords.values()]
        return [value for value in values if hasattr(value, "is_floating_point") and value.ndim]

    def passes(self, rows: int | None) -> Iterator[tuple[Batch, int]]:
        """Batches of exactly so many rows, the last filled up with rows over again, and how many rows of each count."""
        total = self.size * self.copies
        if rows is None:
            yield self, total
            return
        import torch

        for start in range(0, total, rows):
            taken = [(start + k) % total for k in range(rows)]

            def cut(value: Any, taken: list[int] = taken) -> Any:
                return value[taken] if isinstance(value, torch.Tensor) and value.ndim and len(value) == total else value

            keywords = {name: cut(value) for name, value in self.keywords.items()}
            yield Batch([cut(value) for value in self.positional], keywords, rows), min(rows, total - start)

    def cast(self, dtype: torch.dtype) -> Batch:
        """The batch with its floating values in another dtype."""
        floating = {name: value.to(dtype) for name, value in self.keywords.items() if _is_tensor(value)}
        positional = [value.to(dtype) if _is_tensor(value) else value for value in self.positional]
        return replace(self, positional=positional, keywords={**self.keywords, **floating})

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
    """The batch with its perturbed copies; of keyword arguments the floating ones are perturbed."""
    if scale is None:
        return batch
    if batch.positional and batch.positional[0].is_floating_point():
        return Batch([perturbed(batch.positional[0], scale, batch.tangents)], {}, batch.size, N_COPIES)
    import torch

    arrays = {name: value for name, value in batch.keywords.items() if isinstance(value, torch.Tensor) and value.ndim}
    varied = sorted(name for name, value in arrays.items() if _is_floating(value) and name != MASK)
    if not varied:
        raise errors.ParameterError("smooth is for networks of floating inputs; integers cannot be varied")
    form = Form({name: tuple(arrays[name].shape[1:]) for name in varied}, batch.keywords)
    flat = torch.cat([arrays[name].reshape(batch.size, -1) for name in varied], dim=1)
    held = {
        name: value.repeat(N_COPIES, *[1] * (value.ndim - 1)) for name, value in arrays.items() if name not in varied
    }
    return Batch([], form.keywords(perturbed(flat, scale, batch.tangents), held), batch.size, N_COPIES)


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
