"""What a file holds of what landmarks taught, and the correction made from it again."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.schema import holds, take
from diffeo.matching.landmark_correction import MAX_LANDMARKS, LandmarkCorrection

# A correction has a handful of predictors, each with a factor of landmarks by landmarks.
MAX_PREDICTORS = 16
# Amplitude over noise of its processes, which search them within 1e17: beyond, factors are not found in bounded time.
MAX_SIGNAL = 1e20


def correction_content(at: str, model: LandmarkCorrection) -> Content:
    """Arrays and entries of a model, whose names begin like this."""
    known = {f"{at}errors.names": list(model.errors), f"{at}errors.values": np.array([*model.errors.values()])}
    stored = {at + name: getattr(model, name) for name in schema.CORRECTION}
    for name in ("linear", "known"):
        if not stored[at + name].any():
            del stored[at + name]
    return stored | {f"{at}kinds": list(model.kinds)} | known


def build_correction(content: Content, at: str, sizes: dict[str, int], assemble: bool) -> LandmarkCorrection | None:
    """The model, from content that may be anything; None where there is none, or it is only checked."""
    if not holds(content, at):
        return None
    # Only affine predictors have coefficients, and files written before there were any have none.
    if f"{at}linear" not in content:
        kinds = content.get(f"{at}kinds")
        if isinstance(kinds, list) and "affine of points" in kinds:
            raise errors.InputError(f"entries are missing: {at}linear")
        scales, offset = (np.atleast_2d(content.get(at + name, 0.0)) for name in ("inverse_scales", "offset"))
        content[f"{at}linear"] = np.zeros((*scales.shape, offset.shape[1]))
    # Nor have those by landmarks without noise of their own.
    content.setdefault(f"{at}known", np.zeros_like(np.atleast_1d(content.get(f"{at}noise", 0.0))))
    taken, known = take(content, at, schema.CORRECTION, sizes), take(content, f"{at}errors.", schema.ERRORS, sizes)
    if not len(taken["kinds"]) == sizes["j"] <= MAX_PREDICTORS or sizes["L"] > MAX_LANDMARKS:
        raise errors.ShapeError(
            f"{at}kinds and {at}landmarks: {sizes['j']} predictors and {sizes['L']} landmarks do not fit"
        )
    if len(set(known["names"])) != sizes["e"] or len(known["names"]) != sizes["e"] or "combined" not in known["names"]:
        raise errors.InputError(f"{at}errors.names do not name its errors")
    amplitude, noise = taken["amplitude"], taken["noise"]
    if (amplitude < 0).any() or not (amplitude <= MAX_SIGNAL * noise).all():
        raise errors.InputError(f"{at}amplitude and {at}noise are negative or out of proportion")
    if (taken["known"] < 0).any() or (taken["known"] > noise).any():
        raise errors.InputError(f"{at}known is negative, or more than {at}noise")
    with np.errstate(over="ignore"):
        reach = np.abs(taken["landmarks"]).max(axis=0) * np.abs(taken["inverse_scales"])
    if not np.isfinite(reach).all():
        raise errors.InputError(f"{at}inverse_scales are out of proportion to {at}landmarks")
    if not assemble:
        return None
    relative = dict(zip(known["names"], known["values"].tolist(), strict=True))
    return LandmarkCorrection(**taken | {"kinds": tuple(taken["kinds"])}, errors=relative)
