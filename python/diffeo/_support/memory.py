"""How much memory one result may take."""

from __future__ import annotations

import os

from diffeo import errors


def memory_limit() -> int:
    """Bytes that one result may take: ``DIFFEO_MEMORY_LIMIT``, or half of the machine's memory."""
    given = os.environ.get("DIFFEO_MEMORY_LIMIT")
    if given is None:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    try:
        return int(float(given))
    except ValueError as error:
        raise errors.ParameterError(f"DIFFEO_MEMORY_LIMIT must be a number of bytes, not {given!r}") from error
