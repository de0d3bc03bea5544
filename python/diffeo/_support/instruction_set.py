"""Instruction-set levels: which the build holds, which this processor runs, and which one the process uses.

The hot loops are compiled once per level, into extensions that share no code; the core uses those of one of them. Results
have the same bits for any number of threads on one level. Between levels they differ by rounding, because longer vectors
and fused multiply-adds sum in another order.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from diffeo import errors
from diffeo._support import _cpu

VARIABLE = "DIFFEO_INSTRUCTION_SET"

# How long threads spin before they sleep, for the runtimes of GCC (turns: some microseconds) and of LLVM (milliseconds).
WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}

# Ascending; the names of the x86-64 psABI, and one level for every other architecture.
LEVELS = ("baseline", "x86-64", "x86-64-v3", "x86-64-v4")


def available() -> list[str]:
    """Levels that were built and that this processor runs, ascending."""
    supported = _cpu.instruction_sets()
    return [level for level in _built() if level in supported]


def choose() -> str:
    """The level to use: the one that the environment variable DIFFEO_INSTRUCTION_SET names, else the highest available.

    Raises
    ------
    ParameterError
        If the environment variable names no available level.
    MissingDependencyError
        If this processor runs none of the levels that were built.
    """
    choices = available()
    wanted = os.environ.get(VARIABLE, "")
    if wanted and wanted not in choices:
        raise errors.ParameterError(
            f"{VARIABLE}={wanted!r} is not available here: choose {' or '.join(choices)}, or unset it."
        )
    if not choices:
        raise errors.MissingDependencyError(
            f"diffeo was built for {', '.join(_built()) or 'no instruction set'}, but this processor runs "
            f"{', '.join(_cpu.instruction_sets())}: build without the option DIFFEO_LEVELS."
        )
    return wanted or choices[-1]


def load_core(name: str) -> ModuleType:
    """The core as a module called `name`, with the loops of the chosen level and its name as INSTRUCTION_SET."""
    level = choose()
    with _sleeping():
        loops = importlib.import_module(f"diffeo._support.{_extension(level)}")
        core = _load("_core", name)
    vars(core)["INSTRUCTION_SET"] = core.use_loops(loops.LOOPS)
    return core


@contextmanager
def _sleeping() -> Iterator[None]:
    """An OpenMP runtime that is loaded within has its threads sleep soon when they wait, unless the user says how they wait.

    By default they spin for a millisecond and more at the end of every loop. That is the time of many loops, and where other
    processes want the processors as well, a thread spins while the one that it waits for is not running.
    """
    ours = {} if any(name in os.environ for name in (*WAITING, "OMP_WAIT_POLICY")) else WAITING
    os.environ.update(ours)
    try:
        yield
    finally:
        for variable in ours:
            os.environ.pop(variable, None)


def _load(extension: str, name: str) -> ModuleType:
    """An extension of this folder as a module called `name`."""
    path = _find(extension)
    if path is None:
        raise errors.MissingDependencyError(f"diffeo's extension {extension} is not there: install diffeo again.")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _built() -> list[str]:
    return [level for level in LEVELS if _find(_extension(level)) is not None]


def _extension(level: str) -> str:
    return "_loops_" + level.replace("-", "_")


def _find(extension: str) -> str | None:
    """Path of an extension of this folder; None if it was not built."""
    spec = importlib.util.find_spec(f"diffeo._support.{extension}")
    return None if spec is None else spec.origin
