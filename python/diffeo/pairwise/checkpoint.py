"""What a run has finished, in a folder of files named by what they are results of: a run that was killed goes on from there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict
from typing import Any

import numpy as np

from diffeo import errors
from diffeo.family.cells import Cell, cell_of_dict
from diffeo.files.container import write
from diffeo.pairwise.packed import Packed, told
from diffeo.pairwise.tasks import Settings

# The longest result of a pair that is read back: its texts take some kilobytes.
LONGEST = 1 << 20


class Checkpoint:
    """Results by what they depend on: digests of the networks and the settings, so that no file is taken for another one's.

    Networks that were added since, or observed anew, are compared; what did not change is not. Without a folder nothing is
    kept. Files are replaced in one step; one that cannot be read is made again.

    Raises
    ------
    StorageError
        The folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Settings) -> None:
        self.folder = None if folder is None else os.fsdecode(folder)
        self.settings = settings
        if self.folder is None:
            return
        try:
            for part in ("networks", "pairs", "triangles"):
                os.makedirs(os.path.join(self.folder, part), exist_ok=True)
        except OSError as error:
            raise errors.StorageError(error.errno, error.strerror, self.folder) from error

    def network(self, identity: str) -> Packed | str | None:
        """A network that was embedded, or why it was not."""
        reason = self._json("networks", self._key(identity))
        if isinstance(reason, str):
            return reason
        data = self._read("networks", self._key(identity), "safetensors")
        if data is None:
            return None
        packed = np.frombuffer(data, dtype=np.uint8)
        with contextlib.suppress(errors.DiffeoError, KeyError):
            if told(packed)[0]:
                return packed
        return None

    def keep_network(self, identity: str, packed: Packed | str) -> None:
        """Keep an embedded network, or why there is none."""
        if isinstance(packed, str):
            self._write("networks", self._key(identity), "json", _text(packed))
            return
        self._write("networks", self._key(identity), "safetensors", packed.tobytes())

    def cell(self, a: str, b: str) -> Cell | None:
        """The comparison of two networks, by their identities."""
        found = self._json("pairs", self._key(a, b))
        with contextlib.suppress(errors.InputError):
            return None if found is None else cell_of_dict(found)
        return None

    def keep_cell(self, a: str, b: str, cell: Cell) -> None:
        """Keep the comparison of two networks."""
        self._write("pairs", self._key(a, b), "json", _text(cell.to_dict()))

    def triangle(self, *corners: str) -> tuple[float, ...] | str | None:
        """Errors of a round trip, or why there are none."""
        found = self._json("triangles", self._key(*corners))
        if isinstance(found, list) and len(found) == 3 and all(type(one) is float for one in found):
            return tuple(found)
        return found if isinstance(found, str) else None

    def keep_triangle(self, corners: tuple[str, ...], found: tuple[float, ...] | str) -> None:
        """Keep a round trip."""
        self._write("triangles", self._key(*corners), "json", _text(found))

    def _key(self, *identities: str) -> str:
        return hashlib.sha256(_text([*identities, asdict(self.settings)])).hexdigest()[:40]

    def _path(self, part: str, key: str, kind: str) -> str:
        return os.path.join(self.folder or "", part, f"{key}.{kind}")

    def _read(self, part: str, key: str, kind: str) -> bytes | None:
        path = self._path(part, key, kind)
        if self.folder is None or not os.path.isfile(path):
            return None
        with open(path, "rb") as file:
            return file.read()

    def _json(self, part: str, key: str) -> Any:
        data = self._read(part, key, "json")
        if data is None or len(data) > LONGEST:
            return None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            return None

    def _write(self, part: str, key: str, kind: str, data: bytes) -> None:
        if self.folder is None:
            return
        path = self._path(part, key, kind)
        try:
            write(data, path)
        except OSError as error:
            raise errors.StorageError(error.errno, error.strerror, path) from error


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=True).encode()
