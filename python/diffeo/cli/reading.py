"""What the commands share: inputs read, files named by their digest, folders checked before the work, what is written."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo.files.arrays import Arrays, read_arrays
from diffeo.files.how_measured import options_text
from diffeo.files.saved import write_text
from diffeo.observation.observation import Observation

if TYPE_CHECKING:
    from diffeo.networks.measurement import Measurement


def read_inputs(path: str, name: str) -> Any:
    """The only array of an npy file."""
    with open(path, "rb") as file:
        if file.read(6) != b"\x93NUMPY":
            raise errors.InputError(f"{path}: {name} are read from an npy file, as np.save writes it")
    return read_arrays(path, (name,))[name]


def check_folder(path: str | None) -> None:
    """Say before the work, not after it, that there is no folder to write to."""
    if path is not None and not os.path.isdir(os.path.dirname(os.path.abspath(path))):
        raise errors.StorageError(f"{path} cannot be written: there is no folder {os.path.dirname(path)}")


def write_json(found: dict[str, Any], path: str) -> None:
    """Write plain numbers and texts as JSON (RFC 8259), in one step."""
    write_text(json.dumps(found, indent=1, allow_nan=False, ensure_ascii=False) + "\n", path)


def facts_of(built: Observation, path: str) -> dict[str, Any]:
    """What was observed, in plain numbers and texts, and where it was written."""
    n, m = built.points.shape
    return {
        "samples": n,
        "measurements": m,
        "dim": built.dim,
        "source": built.source,
        "layer": built.layer,
        "neurons": None if built.neurons is None else built.neurons.tolist(),
        "rank_deficient": built.deficient.tolist(),
        "file": path,
    }


def digest(path: str) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def observation_arrays(measured: Measurement, built: Observation) -> Arrays:
    """What a file holds of a measurement and the observation that it makes."""
    arrays: Arrays = {"points": measured.points, "neurons": measured.neurons, "dim": np.asarray(built.dim)}
    for name in ("jacobians", "bursts", "scale", "layer"):
        # The scale of slopes is among the options.
        if getattr(measured, name) is not None and (name != "scale" or measured.bursts is not None):
            arrays[name] = np.asarray(getattr(measured, name))
    arrays["options"] = np.asarray(options_text(built.options))
    return arrays
