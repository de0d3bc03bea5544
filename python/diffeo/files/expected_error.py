"""What a file holds of the error that a map is expected to have, and of the maps that were tried beside it."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.schema import fields_of, holds, take
from diffeo.matching.expected_error import ErrorField, ExpectedError
from diffeo.matching.transformation import Transformation

WAYS = ("forward", "backward")
# What a field may have beside its errors, to measure them by.
SIZES = ("stretch", "deviation")


def expected_content(t: Transformation) -> Content:
    """Arrays and entries, by dotted names."""
    known = t.diagnostics
    content: Content = {
        "tried.reasons": known.reasons,
        "tried.names": list(known.competed),
        "tried.errors": np.array([*known.competed.values()], dtype=np.float64),
    }
    for way in WAYS:
        found: ErrorField | None = None if t.expected is None else getattr(t.expected, way)
        if found is not None:
            content |= fields_of(f"expected.{way}.", found, schema.ERROR_FIELD)
    if t.expected is not None and t.expected.forward.whole is not None:
        back = t.expected.backward
        content |= {
            "over_all.forward": t.expected.forward.whole,
            "over_all.backward": None if back is None else back.whole,
        }
    if t.expected is not None:
        forward, back = t.expected.forward, t.expected.backward
        for name in SIZES:
            sizes = getattr(forward, name), None if back is None else getattr(back, name)
            if any(one is not None for one in sizes):
                content |= {f"{name}.{way}": one for way, one in zip(WAYS, sizes, strict=True)}
    return content


def build_tried(content: Content) -> Content:
    """Reasons and figures of the maps that were tried, as `Diagnostics` takes them; older files have none."""
    if not holds(content, "tried."):
        return {}
    taken = take(content, "tried.", schema.TRIED, {})
    if len(taken["names"]) != len(taken["errors"]) or (np.isnan(taken["errors"]) | (taken["errors"] < 0.0)).any():
        raise errors.InputError("tried.names and tried.errors do not fit each other")
    return {
        "reasons": taken["reasons"],
        "competed": dict(zip(taken["names"], taken["errors"].tolist(), strict=True)),
    }


def build_expected(content: Content, widths: tuple[int, int], invertible: bool) -> ExpectedError | None:
    """The expected error, from content that may be anything; the `widths` are how many numbers a place has on each side."""
    fields: list[ErrorField | None] = []
    over_all = take(content, "over_all.", schema.ERROR_OVER_ALL, {}) if holds(content, "over_all.") else {}
    sizes = {name: take(content, f"{name}.", schema.ERROR_SIZES, {}) for name in SIZES if holds(content, f"{name}.")}
    for way, width in zip(WAYS, widths, strict=True):
        at = f"expected.{way}."
        if not holds(content, at):
            fields.append(None)
            continue
        taken = take(content, at, schema.ERROR_FIELD, {"f": width})
        if any((taken[name] < 0.0).any() for name in ("errors", "spacing", "growth")) or taken["order"] > 2:
            raise errors.InputError(f"{at}errors, spacing or growth are negative, or its order is not 1 or 2")
        own = {name: found[way] for name, found in sizes.items() if found[way] is not None}
        for name, values in own.items():
            if len(values) != len(taken["errors"]) or (values < 0.0).any():
                raise errors.InputError(f"{name}.{way} is negative, or not of as many places as expected errors")
        fields.append(ErrorField(**taken, whole=over_all.get(way), **own))
    forward, backward = fields
    if (backward is not None) != (forward is not None and invertible):
        raise errors.InputError("an expected error has a way back where the map has one")
    if over_all and (forward is None or (over_all["backward"] is None) != (backward is None)):
        raise errors.InputError("expected errors over all samples are there for ways that have none")
    for way, one in zip(WAYS, fields, strict=True):
        if one is None and any(found[way] is not None for found in sizes.values()):
            raise errors.InputError(f"sizes of errors are there for a way that has no expected error: {way}")
    return None if forward is None else ExpectedError(forward, backward)
