"""Peak memory of one call, as the kernel of the operating system keeps it (Linux)."""

from __future__ import annotations

import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20


def peak_of_process() -> float:
    """Largest resident size of this process so far, in MiB: interpreter, inputs and all."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def with_peak(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float | None]:
    """Result of a call and its peak resident size beyond what was resident before it (the inputs), in MiB.

    The high-water mark of the process is reset before the call (writing 5 to clear_refs; proc(5)) and read after
    it, so nothing is sampled and nothing missed. None where the system does not allow that.
    """
    gc.collect()
    # Memory that earlier calls freed but the allocator kept would hide what this call takes.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return function(*arguments), None
    before = resident("VmRSS")
    result = function(*arguments)
    return result, max(0.0, (resident("VmHWM") - before) / 1024)


def resident(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise KeyError(name)
