"""Saving and loading: one safetensors file an object, no pickle, written atomically, read with distrust.

Names in a file are dotted paths such as ``a.observation.points``. Kernels, search trees, atlases and factors of kernel
matrices are not stored but made again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import IO

import numpy as np

from diffeo import errors
from diffeo.charts.chart import Chart
from diffeo.family.found import Family
from diffeo.files.container import Content, decode, encode, name_of, read, write
from diffeo.files.embedded import build_embedded, embedded_content
from diffeo.files.observation import build_observation, observation_content
from diffeo.files.older_formats import upgraded
from diffeo.files.pairs import build_paired, build_pairs, paired_content, pairs_content
from diffeo.files.piecewise.stored_pieces import build_pieces, pieces_content
from diffeo.files.report import build_report, report_content
from diffeo.files.transformation import build_transformation, transformation_content
from diffeo.matching.pairs import Pairs
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation
from diffeo.verdict.report import Report

# A path, or a file that is open in binary mode.
File = str | os.PathLike[str] | IO[bytes]


def save_observation(observation: Observation, path: File) -> None:
    """Write an observation to one file; on failure raise StorageError and leave an old file as it was."""
    _save(lambda: observation_content("", observation), "observation", path)


def save_chart(chart: Chart, path: File) -> None:
    """Write a chart, with its observation, to one file; errors as in `save_observation`."""
    _save(lambda: embedded_content(chart), "chart", path)


def save_transformation(transformation: Transformation, path: File) -> None:
    """Write a transformation, with both observations, to one file; errors as in `save_observation`."""
    special = {"pairs": paired_content, "pieces": pieces_content}
    make = special.get(transformation.coordinates, transformation_content)
    _save(lambda: make(transformation), transformation.coordinates, path)


def save_pairs(pairs: Pairs, path: File) -> None:
    """Write pairs of common inputs to one file; errors as in `save_observation`."""
    _save(lambda: pairs_content("", pairs), "common inputs", path)


def save_report(report: Report, path: File) -> None:
    """Write a report to one file; errors as in `save_observation`."""
    _save(lambda: report_content(report), "report", path)


def save_family(family: Family, path: File) -> None:
    """Write a family to one file; errors as in `save_observation`."""
    from diffeo.pairwise.stored import family_content

    _save(lambda: family_content(family), "family", path)


def write_text(text: str, path: File) -> None:
    """Write a text file in UTF-8, in one step; errors as in `save_observation`."""
    name = name_of(path)
    with _refusing(name, " was not written"):
        write(text.encode("utf-8", "replace"), path)  # lone surrogates, of which no text consists


Saved = Observation | Chart | Pairs | Transformation | Report | Family


def load(path: File) -> Saved:
    """Read what ``.save`` wrote, bit for bit. Nothing in a file is executed.

    Kernels and trees of a transformation or chart are made again; its maps give the same bits as when it was saved.

    Parameters
    ----------
    path : str, path-like, or a file that is open in binary mode

    Raises
    ------
    StorageError
        The file is missing, not one of diffeo's, of a newer format, truncated, altered or inconsistent.
    MemoryLimitError
        The file, or a kernel made from it, would take more memory than `mahalanobis_kernel` allows.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (300, 2, 2)))
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     obs.save(os.path.join(folder, "a.safetensors"))
    ...     again = diffeo.load(os.path.join(folder, "a.safetensors"))
    >>> bool((again.points == obs.points).all())
    True
    """
    name = name_of(path)
    with _refusing(name):
        content, kind, version = decode(read(path))
        built = _build(upgraded(content, version), kind, assemble=True)
        if built is None:
            raise errors.InputError("it holds nothing that could be made again")
        return built


def _save(make: Callable[[], Content], kind: str, path: File) -> None:
    name = name_of(path)
    with _refusing(name, " was not written"):
        content = {key: x.item() if isinstance(x, np.generic) else x for key, x in make().items()}
        _build(dict(content), kind, assemble=False)  # what could not be read back is not written
        write(encode(content, kind), path)


@contextlib.contextmanager
def _refusing(name: str, what: str = "") -> Iterator[None]:
    """Turn what a path, a file or its content provokes into StorageError; MemoryLimitError stays."""
    try:
        yield
    except OSError as error:
        raise errors.StorageError(error.errno, error.strerror, name) from error
    except (errors.DataTypeError, ValueError, IndexError, OverflowError, RuntimeError) as error:
        raise errors.StorageError(f"{name}{what}: {error}") from error


def _build(content: Content, kind: str, *, assemble: bool) -> Saved | None:
    """The object, from content that may be anything, with its kernels if asked; nothing may be left over."""
    if kind == "observation":
        built: Saved | None = build_observation(content, "", {})
    elif kind == "chart":
        built = build_embedded(content, assemble)
    elif kind in ("isometric", "diffusion", "regression"):
        built = build_transformation(content, kind, assemble)
    elif kind == "pieces":
        built = build_pieces(content, assemble)
    elif kind == "pairs":
        built = build_paired(content, assemble)
    elif kind == "common inputs":
        built = build_pairs(content, "")
    elif kind == "report":
        built = build_report(content)
    elif kind == "family":
        from diffeo.pairwise.stored import build_family

        built = build_family(content)
    else:
        raise errors.InputError(f"it holds an object of unknown kind, {kind!r:.60}")
    if content:
        raise errors.InputError(f"unexpected entries: {', '.join(sorted(content))!r:.300}")
    return built
