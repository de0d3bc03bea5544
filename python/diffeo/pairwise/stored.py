"""What a file holds of a family, and the family made from it again."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import real
from diffeo.family.cells import cell_of_dict
from diffeo.family.found import Family, RoundTrip
from diffeo.files.container import Content

# Deeper or other than this is no family.
PARTS = ("names", "cells", "round_trips", "notes", "facts", "settings")


def family_content(family: Family) -> Content:
    """Numbers and texts as JSON, in an array of bytes: they are too long for the header of a file."""
    found: dict[str, Any] = {name: getattr(family, name) for name in ("names", "notes", "facts", "settings")}
    found["cells"] = [[i, j, cell.to_dict()] for (i, j), cell in family.cells.items()]
    found["round_trips"] = [
        [list(one.names), [_said(value) for value in one.errors], one.reason] for one in family.round_trips
    ]
    data = json.dumps(found, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
    return {
        "told": np.frombuffer(data, dtype=np.uint8).copy(),
        "margin": family.margin,
        "significance": family.significance,
    }


def build_family(content: Content) -> Family:
    """The family, from content that may be anything."""
    told = content.pop("told")
    margin = real(content.pop("margin"), "margin", above=0.0, below=1.0)
    significance = real(content.pop("significance"), "significance", above=0.0, below=0.5)
    if not isinstance(told, np.ndarray) or told.dtype != np.uint8 or told.ndim != 1:
        raise errors.DataTypeError("told is no array of bytes")
    try:
        found = json.loads(told.tobytes())
        names, cells, trips, notes, facts, settings = (found[name] for name in PARTS)
        built = {(int(i), int(j)): cell_of_dict(cell) for i, j, cell in cells}
        round_trips = [
            RoundTrip((a, b, c), tuple(float(value) for value in values), str(reason))
            for (a, b, c), values, reason in trips
        ]
        n = len(names)
        expected = [(i, j) for i in range(n) for j in range(i + 1, n)]
        texts = all(isinstance(name, str) for name in names) and len(set(names)) == n >= 2
        complete = texts and sorted(built) == expected and sorted(notes) == sorted(facts) == sorted(names)
        complete = complete and all(isinstance(one, str) for said in notes.values() for one in said)
        complete = complete and all(isinstance(one, str) for one in facts.values()) and isinstance(settings, dict)
        complete = complete and all(name in notes for one in round_trips for name in one.names)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise errors.InputError(f"not the comparisons of a family ({error!r:.100})") from error
    if not complete:
        raise errors.InputError("not the comparisons of a family: networks, pairs and what is told of them do not fit")
    return Family(names, built, round_trips, notes, facts, margin, significance, settings)


def _said(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)
