"""Array files that people bring: observations and pairs from npz, npy, csv and safetensors, read with distrust."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import IntArray, integer, real
from diffeo._support.memory import memory_limit
from diffeo.files.container import path_of, write
from diffeo.files.how_measured import options_of_text
from diffeo.matching.pairs import Pairs
from diffeo.observation.observation import Observation

Arrays = dict[str, NDArray[Any]]
# What tells how the network stretches its inputs, one of which stands beside the points.
METRICS = ("jacobians", "bursts", "covariances", "reference")
KNOWN = ("points", *METRICS, "scale", "dim", "noise", "layer", "neurons", "options")
# A row number has fewer digits, and a line of two of them fewer characters.
LONGEST_LINE = 1000
# The longest header of a plain array.
LONGEST_HEADER = 10_000
# How programs write that a number is missing.
MISSING = ("na", "n/a", "nan", "nil", "none", "null", "missing", "inf", "infinity", "true", "false")
PAIRS_FORMAT = "two columns, row in A and row in B, counted from 0"


def read_observation(path: str | os.PathLike[str]) -> Observation:
    """An observation from what was saved of it: ``.npz`` with `points` and a metric, or a file by ``Observation.save``.

    Parameters
    ----------
    path : str or path-like
        An npz file of `points` (n, m) and one of `jacobians` (n, m, p), `bursts` (n, K, m) with their `scale`,
        `covariances` (n, m, m) or `reference` (n, p); optionally `dim`, and `noise` (one
        number, or (n,)). `points` alone, in npz or npy, is accepted for one intrinsic dimension only: state ``dim=1``.

    Raises
    ------
    StorageError
        The file is missing, damaged, of another kind, or holds Python objects.
    InputError
        It lacks something, or holds two metrics; the message lists what was found.
    MemoryLimitError
        Its arrays would take more memory than `mahalanobis_kernel` allows.
    """
    name = path_of(path)
    if _starts(name) not in (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUM"):
        from diffeo.files.saved import load

        found = load(name)
        if not isinstance(found, Observation):
            raise errors.InputError(f"{name} holds a {type(found).__name__}, not an Observation")
        return found
    arrays = read_arrays(name, KNOWN)
    return observation_of(arrays, name)


def observation_of(arrays: Arrays, name: str) -> Observation:
    """The observation that arrays by name make; errors as in `read_observation`."""
    found = ", ".join(sorted(arrays)) or "nothing known"
    if "points" not in arrays:
        raise errors.InputError(f"{name} holds no array named points (found: {found}); known names: {', '.join(KNOWN)}")
    metrics = [metric for metric in METRICS if metric in arrays]
    if len(metrics) > 1:
        raise errors.InputError(f"{name} holds {' and '.join(metrics)}: which of them counts? Keep one")
    points = arrays["points"]
    dim = None if "dim" not in arrays else integer(_single(arrays["dim"], "dim", name), "dim", 1)
    noise = (
        None if "noise" not in arrays else arrays["noise"].reshape(()) if arrays["noise"].size == 1 else arrays["noise"]
    )
    metric = metrics[0] if metrics else None
    if ("scale" in arrays) != (metric == "bursts"):
        raise errors.InputError(f"{name}: bursts need their scale, and nothing else has one (found: {found})")
    if metric == "jacobians":
        built = Observation.from_jacobians(points, arrays[metric], dim=dim, noise=noise)
    elif metric == "bursts":
        scale = real(_single(arrays["scale"], "scale", name), "scale", above=0.0)
        built = Observation.from_bursts(points, arrays[metric], scale=scale, dim=dim, noise=noise)
    elif metric == "covariances":
        built = Observation.from_covariances(points, arrays[metric], dim=dim, noise=noise)
    elif metric == "reference":
        built = Observation.from_neighbors(points, arrays[metric], dim=dim, noise=noise)
    elif dim == 1:
        built = Observation.from_neighbors(points, dim=1, noise=noise)
    else:
        raise errors.InputError(
            f"{name} holds points alone (found: {found}), which do not tell how the network stretches its inputs: add "
            "jacobians, bursts with their scale, covariances or reference. Only for one intrinsic dimension do points suffice: "
            "then add dim=1"
        )
    options = built.options
    if "layer" in arrays:
        options = replace(options, layer=str(_single(arrays["layer"], "layer", name)))
    if "neurons" in arrays:
        options = replace(options, neurons=_rows(arrays["neurons"], "neurons", 1, points.shape[1]))
    if "options" in arrays:
        options = options_of_text(str(_single(arrays["options"], "options", name)), options.neurons)
    return replace(built, options=options)


def _single(array: NDArray[Any], name: str, file: str) -> Any:
    if array.size != 1:
        raise errors.ShapeError(f"{file}: {name} has shape {array.shape}; one value is needed")
    return array.reshape(-1)[0].item()


def _rows(array: NDArray[Any], name: str, ndim: int, length: int) -> IntArray:
    if array.dtype.kind not in "iu" or array.ndim != ndim or len(array) != length:
        raise errors.ShapeError(f"{name} are {array.dtype} of shape {array.shape}; {length} integers are needed")
    return np.ascontiguousarray(array, dtype=np.int64)


def read_pairs(path: str | os.PathLike[str]) -> Any:
    """Pairs of common inputs: rows (L, 2) from csv, npy or npz, or measurements (points_a, points_b) from npz.

    Text is as `numpy.savetxt`, pandas and spreadsheets write it, in UTF-8 or UTF-16: whole numbers may have decimals (``1.0``,
    ``1e+00``), commas, semicolons, tabs or blanks separate them, and the first line may be a header, of two names.

    Raises
    ------
    StorageError
        The file is missing or damaged.
    InputError
        A line is not two row numbers (the message gives its number), or an array is missing.
    """
    name = path_of(path)
    if _starts(name) == b"\x93NUM":
        return _pairs_of_array(name, read_arrays(name, ("rows",))["rows"])
    if _starts(name) in (b"PK\x03\x04", b"PK\x05\x06"):
        arrays = read_arrays(name, ("points_a", "points_b", "rows", "arr_0"))
        rows = arrays.get("rows", arrays.get("arr_0"))
        if len(arrays) == 1 and rows is not None:
            return _pairs_of_array(name, rows)
        if arrays.keys() != {"points_a", "points_b"}:
            raise errors.InputError(
                f"{name} must hold points_a and points_b, or rows (found: {', '.join(arrays) or 'none of them'})"
                + ("; it is a spreadsheet: export it as CSV" if _is_spreadsheet(name) else "")
            )
        return arrays["points_a"], arrays["points_b"]
    if _starts(name)[:2] == b"\x1f\x8b":
        raise errors.InputError(f"{name} is compressed (gzip): unpack it first")
    return _pairs_of_lines(name)


def read_measured_pairs(path: str | os.PathLike[str]) -> Pairs:
    """Pairs with their derivatives: a file by ``Pairs.save``, or npz of points_a, points_b, jacobians_a and jacobians_b.

    Raises
    ------
    StorageError
        The file is missing, damaged, of another kind, or holds Python objects.
    InputError
        It lacks something.
    """
    name = path_of(path)
    if _starts(name) not in (b"PK\x03\x04", b"PK\x05\x06"):
        from diffeo.files.saved import load

        found = load(name)
        if not isinstance(found, Pairs):
            raise errors.InputError(f"{name} holds a {type(found).__name__}, not Pairs")
        return found
    arrays = read_arrays(name, ("points_a", "points_b", "jacobians_a", "jacobians_b"))
    if "points_a" not in arrays or "points_b" not in arrays:
        raise errors.InputError(f"{name} must hold points_a and points_b (found: {', '.join(arrays) or 'neither'})")
    return Pairs(**arrays)


def _pairs_of_lines(name: str) -> IntArray:
    pairs: list[tuple[int, int]] = []
    headed = False
    encoding = "utf-16" if _starts(name)[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with _reading(name), open(name, encoding=encoding, newline="") as file:
        if os.fstat(file.fileno()).st_size > memory_limit() // 16:  # a pair takes far more than its text
            raise errors.MemoryLimitError(f"{name} is too large for a list of pairs")
        # One character a line beyond what two row numbers take is enough to see that it is no list of pairs.
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), ""), 1):
            fields = _fields(line)
            if not fields:
                continue
            if not pairs and not headed and len(fields) == 2 and all(_is_name(field) for field in fields):
                _check_header(name, fields)
                headed = True
                continue
            rows = [_row(field) for field in fields]
            if len(line) > LONGEST_LINE or len(rows) != 2 or rows[0] is None or rows[1] is None:
                hint = "; was an index column written too (pandas: index=False)?" if len(fields) == 3 else ""
                if not hint and any(character.isdigit() for character in line):
                    hint = "; row numbers are whole and not negative, in plain digits"
                raise errors.InputError(f"{name}, line {number}: {line.strip()[:60]!r} is not {PAIRS_FORMAT}{hint}")
            pairs.append((rows[0], rows[1]))
    if not pairs:
        raise errors.InputError(f"{name} holds no pairs; expected {PAIRS_FORMAT}")
    return np.array(pairs, dtype=np.int64)


def _fields(line: str) -> list[str]:
    """Fields of a line that commas, semicolons, tabs or blanks separate; none of a blank line or a comment."""
    line = line.split("#", 1)[0].strip()
    if not line:
        return []
    separator = next((mark for mark in ";\t," if mark in line), None)
    parts = line.split() if separator is None else next(csv.reader([line], delimiter=separator))
    return [part.strip() for part in parts]


def _row(field: str) -> int | None:
    """A row number, also with decimals that are zero; None of all else."""
    if field.isascii() and field.isdigit() and len(field) <= 18:
        return int(field)
    number = _number(field)
    # Beyond 2^53 decimals no longer tell whole numbers apart.
    return int(number) if number is not None and 0.0 <= number < 2.0**53 and number.is_integer() else None


def _is_name(field: str) -> bool:
    """Whether a field is the name of a column, and no number, nor what stands for a number that is missing."""
    return field[:1].isalpha() and _number(field) is None and field.lower() not in MISSING


def _number(field: str) -> float | None:
    """A number with a decimal point, or comma, in the digits of ASCII; None where a comma may stand for thousands."""
    if not field.isascii() or "_" in field or re.fullmatch(r"[+-]?\d{1,3}(,\d{3})+", field):
        return None
    try:
        return float(field.replace(",", "."))
    except ValueError:
        return None


def _pairs_of_array(name: str, array: NDArray[Any]) -> IntArray:
    if array.ndim != 2 or array.shape[1] != 2 or not len(array):
        raise errors.InputError(f"{name} holds an array of shape {array.shape}; row numbers (L, 2) are needed")
    if array.dtype.kind not in "fiu":
        raise errors.InputError(f"{name} holds {array.dtype}; row numbers are integers")
    wrong = np.flatnonzero(~((array >= 0) & (array < 2.0**53) & (array == np.floor(array))).all(axis=1))
    if len(wrong):
        raise errors.InputError(
            f"{name}: {len(wrong)} of {len(array)} pairs are no whole, non-negative row numbers; the first, pair "
            f"{wrong[0]}, is {array[wrong[0]].tolist()}"
        )
    return array.astype(np.int64)


def _check_header(name: str, fields: list[str]) -> None:
    """Columns that are named the other way round would be silently wrong."""
    ends = [field.lower().rstrip("_ )")[-1:] for field in fields]
    if ends == ["b", "a"]:
        raise errors.InputError(f"{name}: its header is {fields}, B before A; expected {PAIRS_FORMAT}")


def read_arrays(path: str | os.PathLike[str], names: tuple[str, ...]) -> Arrays:
    """Those of the named arrays that an npz file holds; of an npy file its only array, called by the first name.

    Nothing is unpickled, and sizes are checked before anything is allocated. Errors as in `read_observation`.
    """
    name = path_of(path)
    with _reading(name):
        if _starts(name) == b"\x93NUM":
            with open(name, "rb") as file:
                return {names[0]: _read_array(file, names[0], os.fstat(file.fileno()).st_size, memory_limit())}
        arrays: Arrays = {}
        room = memory_limit()
        with zipfile.ZipFile(name) as archive:
            for info in archive.infolist():
                inner = info.filename.removesuffix(".npy")
                if inner not in names or inner == info.filename:
                    continue
                if inner in arrays:
                    raise errors.InputError(f"it holds {inner} twice")
                with archive.open(info) as member:
                    arrays[inner] = _read_array(member, inner, info.file_size, room)
                room -= arrays[inner].nbytes
        return arrays


def _read_array(file: IO[bytes], name: str, size: int, room: int) -> NDArray[Any]:
    """One array in NumPy's format whose header fits its size."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise errors.InputError(f"{name} is of format {version}, which plain arrays do not need")
    shape, _, dtype = read(file, max_header_size=LONGEST_HEADER)
    if dtype.hasobject or dtype.kind not in "fiubU":
        raise errors.InputError(
            f"{name} is {dtype}, not plain numbers: Python objects are never read; save plain arrays"
        )
    needed = math.prod(shape) * dtype.itemsize
    if needed > room:
        raise errors.MemoryLimitError(f"{name} takes {needed} bytes, above the limit of {room}")
    if file.tell() + needed != size:
        raise errors.InputError(f"{name} is damaged: {size} bytes where its header asks for {file.tell() + needed}")
    file.seek(0)
    array: NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False, max_header_size=LONGEST_HEADER)
    return array


def write_arrays(path: str | os.PathLike[str], arrays: Arrays) -> None:
    """Write an npz file in one step.

    Raises
    ------
    StorageError
        It cannot be written; an old file is left as it was.
    """
    name = path_of(path)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with _reading(name, " was not written"):
        write(buffer.getvalue(), name)


def write_array(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an npy file in one step; errors as of `write_arrays`."""
    name = path_of(path)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with _reading(name, " was not written"):
        write(buffer.getvalue(), name)


def _is_spreadsheet(name: str) -> bool:
    with _reading(name), zipfile.ZipFile(name) as archive:
        return not {"xl/workbook.xml", "content.xml"}.isdisjoint(archive.namelist())


def _starts(name: str) -> bytes:
    """The first bytes of a file, whose suffix may be anything."""
    with _reading(name):
        if not os.path.isfile(name) and os.path.exists(name):
            raise errors.InputError("not a regular file")
        with open(name, "rb") as file:
            return file.read(4)


@contextlib.contextmanager
def _reading(name: str, what: str = "") -> Iterator[None]:
    """Turn what a path, or a damaged file, provokes into StorageError with its name; diffeo's own errors get the name too."""
    try:
        yield
    except errors.InputError as error:
        if name in str(error):
            raise
        raise errors.InputError(f"{name}{what}: {error}") from error
    except errors.DiffeoError:
        raise
    except OSError as error:
        raise errors.StorageError(error.errno, error.strerror, name) from error
    except Exception as error:  # whatever strange bytes provoke in three parsers
        raise errors.StorageError(f"{name}{what}: damaged, or not an array file ({error!r:.120})") from error
