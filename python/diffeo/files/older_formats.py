"""Content of files of formats 1 and 2, brought to what format 3 holds: facts that they lack are decoded from their numbers."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.files.container import Content
from diffeo.files.schema import MEASURE_OPTIONS, OBSERVATION, OBSERVATION_BEFORE_3, checked
from diffeo.observation.noise import single_precision

# A whitening shortened by less than this is that of a covariance without sampling noise.
EXACT = 1e-9
UNKNOWN = {"tangents": False, "complete": False}


def upgraded(content: Content, version: int) -> Content:
    """The content of a file of this version as one of format 3 has it.

    Every observation in it gets the degrees of freedom that its whitening shows, and the precision that its numbers
    show. How positions were reduced, and whether the network was smoothed, stays unknown.
    """
    if version >= 3:
        return content
    places = [name.removesuffix("singular_values") for name in content if name.endswith("singular_values")]
    added: Content = {}
    for at in places:
        sizes = dict[str, int]()
        taken = {
            name: checked(rule, content.get(at + name), at + name, sizes) for name, rule in OBSERVATION_BEFORE_3.items()
        }
        if taken["dim"] != sizes["d"] or sizes["d"] > min(sizes["m"], sizes["r"]):
            raise errors.ShapeError(f"{at}dim = {taken['dim']} does not fit whitening or singular_values")
        freedom = decoded_freedom(taken["whitening"], taken["singular_values"], taken["dim"])
        rest = np.delete(freedom, taken["deficient"])
        freedom[taken["deficient"]] = np.median(rest) if len(rest) else np.inf  # which have no whitening that tells
        added[f"{at}degrees_of_freedom"] = freedom
        added[f"{at}precision"] = "single" if single_precision(taken["points"]) else "double"
        for name in MEASURE_OPTIONS:
            added[f"{at}options.{name}"] = taken.get(name, UNKNOWN.get(name))
    known = [f"{at}{name}" for at in places for name in OBSERVATION_BEFORE_3 if name not in OBSERVATION]
    kept = {name: value for name, value in content.items() if name not in known}
    if new := sorted(kept.keys() & added.keys()):
        raise errors.InputError(f"unexpected entries in a file of format {version}: {', '.join(new)!r:.300}")
    return kept | added


def decoded_freedom(whitening: FloatArray, singular_values: FloatArray, dim: int) -> FloatArray:
    """Degrees of freedom (n,) of each sample's covariance, from how much its whitening is shortened.

    Its columns are shortened by sqrt((nu - d - 1)/nu) to remove the bias of inverting a sample covariance (K - d - 2 over
    K - 1 for a burst).
    """
    gain = np.linalg.norm(whitening[:, :, 0], axis=1) * singular_values[:, 0]
    missing = 1.0 - gain**2
    exact = missing < EXACT
    freedom: FloatArray = np.where(exact, np.inf, (dim + 1) / np.where(exact, 1.0, missing))
    return freedom
