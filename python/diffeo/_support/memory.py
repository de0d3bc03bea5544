"""How much memory one result may take."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from diffeo import errors

# Where the kernel tells what it holds this process to.
MEMBERSHIP, CONTROL_GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def memory_limit() -> int:
    """Bytes that one result may take: ``DIFFEO_MEMORY_LIMIT``, or half of what this process may have.

    That is the least of the machine's memory, the limits of its control groups (containers, batch systems) and its own
    (``ulimit -v``, ``ulimit -d``).
    """
    given = os.environ.get("DIFFEO_MEMORY_LIMIT")
    if given is None:
        machine = int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return min([machine, *_of_process(), *_of_groups()]) // 2
    try:
        return int(float(given))
    except (ValueError, OverflowError) as error:
        raise errors.ParameterError(f"DIFFEO_MEMORY_LIMIT must be a number of bytes, not {given!r}") from error


def _of_process() -> Iterator[int]:
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield limit


def _of_groups() -> Iterator[int]:
    """Limits of the control groups (version 2, or 1) that this process is in, and of all that these are in."""
    try:
        lines = MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = CONTROL_GROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = CONTROL_GROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = root / path.lstrip("/")
        # A container may see its own group as the root, and be told a path that leads nowhere.
        for group in (own, *own.parents):
            if not group.is_relative_to(root):
                break
            try:
                yield int((group / name).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
