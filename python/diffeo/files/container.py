"""One safetensors file of arrays and JSON entries, with a digest: written atomically, read with distrust.

Arrays are the tensors of the file. All else is one JSON string, ``diffeo`` in its metadata: format, version,
kind of the object, a flat table of entries, how arrays lie in memory, and a SHA-256 over it all.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import stat
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from diffeo import __version__, errors
from diffeo._support.memory import memory_limit

Content = dict[str, Any]
# Version 2 added the landmarks of a transformation, and regressions; version 3 how an observation was measured.
FORMAT, FORMAT_VERSION, READABLE = "diffeo", 3, (1, 2, 3)
# Names and entries take some kilobytes; a longer header is foreign, damaged or meant to exhaust memory.
MAX_HEADER = 1 << 20
# Drafts stand beside what they are to replace, and are locked while somebody writes.
DRAFT = re.compile(r"\.diffeo-[0-9a-f]{16}\.tmp")


def encode(content: Content, kind: str) -> bytes:
    """The file that holds this content; equal content gives equal bytes."""
    arrays = {name: value for name, value in content.items() if isinstance(value, np.ndarray)}
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    description: Content = {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    description["diffeo_version"] = __version__
    description["entries"] = {name: content[name] for name in content.keys() - arrays.keys()}
    # Matrix products round differently in different memory orders, so the order is kept.
    orders = {name: _memory_order(array) for name, array in arrays.items()}
    description["orders"] = {name: order for name, order in orders.items() if order is not None}
    description["sha256"] = digest(description, tensors)
    data: bytes = safetensors.numpy.save(tensors, {FORMAT: json.dumps(description, sort_keys=True)})
    return data


def decode(data: bytes) -> tuple[Content, str, int]:
    """Content, kind and format version of a file whose digest fits."""
    problem = "not a safetensors file, or damaged"
    try:
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        problem = "a safetensors file, but not one that diffeo wrote"
        description = json.loads(header["__metadata__"][FORMAT])
        name, version = description["format"], description["format_version"]
        if name != FORMAT or version not in READABLE or type(version) is not int:
            stated = f"its format is {name!r:.40}, version {version!r:.20}; this diffeo reads versions"
            raise errors.InputError(f"{stated} 1 to {FORMAT_VERSION}: update diffeo if the file is newer")
        problem = "damaged or truncated"
        tensors, stored = safetensors.numpy.load(data), description.pop("sha256")
        if stored != digest(description, tensors):
            raise errors.InputError("damaged or altered: its SHA-256 does not fit its content")
        ordered = {key: _laid_out(tensors[key], order) for key, order in description["orders"].items()}
        content = dict(**description["entries"], **(tensors | ordered))  # no name twice
        return content, description["kind"], version
    except errors.InputError:
        raise
    except Exception as error:  # whatever strange bytes provoke in two parsers
        raise errors.InputError(f"{problem} ({error!r:.200})") from error


def digest(description: Content, tensors: Content) -> str:
    """SHA-256 over the description, and over name, dtype, shape and bytes of every tensor."""
    found = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(tensors):
        found.update(f"{name!r} {tensors[name].dtype.str} {tensors[name].shape}".encode())
        found.update(tensors[name].data)
    return found.hexdigest()


def _memory_order(array: NDArray[Any]) -> list[int] | None:
    """Axes from the slowest to the fastest in memory; None for the usual order, and where there are gaps."""
    # Axes of length 1 may have any stride.
    order = sorted(range(array.ndim), key=lambda axis: (array.shape[axis] > 1, -array.strides[axis]))
    if array.flags.c_contiguous or not array.transpose(order).flags.c_contiguous:
        return None
    return order


def _laid_out(array: NDArray[Any], order: list[int]) -> NDArray[Any]:
    """The same numbers with their axes in this order in memory."""
    if sorted(order) != list(range(array.ndim)):
        raise errors.InputError("damaged: an order in memory is none of the axes of its array")
    return np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))


def name_of(file: Any) -> str:
    """The path of a file, or how an open one is called in messages."""
    if hasattr(file, "read") or hasattr(file, "write"):
        return str(getattr(file, "name", f"the {type(file).__name__}"))
    try:
        return os.fsdecode(file)
    except TypeError:
        raise errors.DataTypeError(
            f"a file is given by its path (text or path-like), or open in binary mode; got {type(file).__name__}"
        ) from None


def path_of(file: Any) -> str:
    """The path of a file, where it must be one."""
    name = name_of(file)
    if hasattr(file, "read") or hasattr(file, "write"):
        raise errors.DataTypeError(f"{name} is an open file; here a path is needed (text or path-like)")
    return name


def read(file: Any) -> bytes:
    """The bytes of an open file, or of a regular one that is not larger than its header, or memory, allow."""
    if hasattr(file, "read"):
        data = file.read()
        if not isinstance(data, bytes):
            raise errors.DataTypeError(f'it gives {type(data).__name__}, not bytes: open it in binary mode ("rb")')
        return bytes(data)
    name = os.fsdecode(file)
    # Asked before opening, which would wait at a pipe.
    if not stat.S_ISREG(os.stat(name).st_mode):
        raise errors.InputError("not a regular file")
    with open(name, "rb") as opened:
        size, length = os.fstat(opened.fileno()).st_size, int.from_bytes(opened.read(8), "little")
        if not 8 + length <= min(size, MAX_HEADER):
            what = "header too large" if length > MAX_HEADER else "truncated"
            raise errors.InputError(f"{what}: {length} bytes in a file of {size}: not safetensors or damaged")
        if 2 * size > memory_limit():  # the bytes, and the arrays copied out of them
            raise errors.MemoryLimitError(f"{name} has {size} bytes; reading it takes twice as many")
        opened.seek(0)
        return opened.read()


def write(data: bytes, file: Any) -> None:
    """Replace the file in one step: readers, and a crash, see the old one or the new one. (Open ones are just written to.)"""
    if hasattr(file, "write"):
        try:
            file.write(data)
        except TypeError as error:
            raise errors.DataTypeError('it takes no bytes: open it in binary mode ("wb")') from error
        return
    name = os.fsdecode(file)
    target = os.path.realpath(name)
    if os.path.exists(target) and not os.path.isfile(target):
        raise errors.InputError("it exists and is not a regular file")
    folder = os.path.dirname(target)
    _sweep(folder)
    while not _written(data, os.path.join(folder, f".diffeo-{secrets.token_hex(8)}.tmp"), target):
        pass


def _written(data: bytes, draft: str, target: str) -> bool:
    """Write a draft and put it in the place of the target; false where it was swept up before it was locked."""
    try:
        with open(draft, "xb") as file:
            with contextlib.suppress(OSError):  # a file system without locks: drafts there are not swept up
                fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file.fileno()).st_nlink == 0:
                return False
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(draft, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(draft)
        raise
    return True


def _sweep(folder: str) -> None:
    """Remove drafts of processes that were killed while they wrote: those that nobody holds a lock of."""
    with contextlib.suppress(OSError):
        drafts = [name for name in os.listdir(folder) if DRAFT.fullmatch(name)]
        for draft in (os.path.join(folder, name) for name in drafts):
            with contextlib.suppress(OSError):
                descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    if stat.S_ISREG(os.fstat(descriptor).st_mode):
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.unlink(draft)
                finally:
                    os.close(descriptor)
