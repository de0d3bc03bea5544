"""Where captured rows go: an array in memory, or a file that appears only when it is complete."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo.networks.batches import bad_rows
from diffeo.networks.layer_names import say


class Sink:
    """Collects the batches of one layer.

    Parameters
    ----------
    name : str
        The layer's.
    width : int
        Numbers a row.
    dtype : dtype
    total : int or None
        Rows to come, where that is known.
    folder : Path or None
        Where the .npy file goes; None collects in memory.
    """

    def __init__(self, name: str, width: int, dtype: np.dtype[Any], total: int | None, folder: Path | None) -> None:
        self.bad: list[int] = []  # rows that hold NaN or infinity
        self._name, self._width, self._dtype, self._n = name, width, dtype, 0
        self._parts: list[NDArray[Any]] = []
        self._whole = None if total is None or folder is not None else np.empty((total, width), dtype)
        self._file: BinaryIO | None = None
        if folder is not None:
            # Percent-encoding is one to one and never writes "@" itself.
            self._path = folder / f"{urllib.parse.quote(name, safe='') or '@output'}.npy"
            self._draft = self._path.with_name(self._path.name + ".part")
            with _storing(self._path):
                folder.mkdir(parents=True, exist_ok=True)
                self._file = self._draft.open("wb")
                self._write_header(self._file)

    def __enter__(self) -> Sink:
        return self

    @property
    def kept(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in self._parts)

    def append(self, values: NDArray[Any]) -> None:
        """Add rows (b, m)."""
        if (values.shape[1], values.dtype) != (self._width, self._dtype):
            raise errors.CaptureError(
                f"{say(self._name)} gives {values.shape[1]} values of {values.dtype} a sample from row "
                f"{self._n}, {self._width} of {self._dtype} before; pad the inputs to one size, or reduce="
            )
        self.bad.extend(self._n + bad_rows(values))
        if self._file is not None:
            with _storing(self._path):
                self._file.write(np.ascontiguousarray(values).data)
        elif self._whole is not None:
            self._whole[self._n : self._n + len(values)] = values
        else:
            self._parts.append(values)
        self._n += len(values)

    def _write_header(self, file: BinaryIO) -> None:
        """Write a .npy header for the rows so far; NumPy pads it so that n may grow in place."""
        header = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._n, self._width)}
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header)

    def close(self) -> NDArray[Any]:
        """The array (n, m); of a file a read-only memory map."""
        if self._file is None:
            return np.concatenate(self._parts) if self._whole is None else self._whole
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
