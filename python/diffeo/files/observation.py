"""What a file holds of an observation, and the observation made from it again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import float_array, real
from diffeo.files import schema
from diffeo.files.container import Content
from diffeo.files.how_measured import build_options, options_content
from diffeo.files.schema import fields_of, take
from diffeo.observation.observation import Observation


def observation_content(at: str, observation: Observation) -> Content:
    """Arrays and entries of an observation, whose names begin like this."""
    own = fields_of(at, observation, schema.OBSERVATION)
    if observation.noise > 0.0:
        own[f"{at}noise"] = observation.noise
    if len(observation.noise_of_points):
        own[f"{at}noise_of_points"] = observation.noise_of_points
    if observation.options.added_inputs is not None:
        own[f"{at}added_inputs"], own[f"{at}resolved"] = observation.options.added_inputs, observation.options.resolved
    return own | options_content(f"{at}options.", observation.options)


def build_observation(content: Content, at: str, sizes: dict[str, int]) -> Observation:
    """The observation, from content that may be anything; the lengths of its axes go to `sizes`."""
    taken = take(content, at, schema.OBSERVATION, sizes)
    values, deficient = taken["singular_values"], taken["deficient"]
    if taken["dim"] != sizes["d"] or sizes["d"] > min(sizes["m"], sizes["r"]):
        raise errors.ShapeError(f"{at}dim = {taken['dim']} does not fit whitening or singular_values")
    if (values < 0).any() or (np.diff(values, axis=1) > 0).any():
        raise errors.InputError(f"{at}singular_values are negative or not in descending order")
    if len(np.unique(deficient)) != len(deficient):
        raise errors.InputError(f"{at}deficient lists a sample twice")
    if taken["precision"] not in ("single", "double"):
        raise errors.InputError(f"{at}precision is {taken['precision']!r:.60}; known are single and double")
    if not (taken["degrees_of_freedom"] > 0).all():
        raise errors.InputError(f"{at}degrees_of_freedom are not all positive")
    # Of most there is none, and older files do not know any.
    noise = real(content.pop(f"{at}noise", 0.0), f"{at}noise", at_least=0.0)
    of_points = np.empty(0)
    if f"{at}noise_of_points" in content:
        of_points = take(content, at, {"noise_of_points": "F n"}, sizes)["noise_of_points"]
        if (of_points < 0).any():
            raise errors.InputError(f"{at}noise_of_points are negative")
    options = build_options(content, f"{at}options.", sizes)
    if f"{at}added_inputs" in content:
        found = content.pop(f"{at}added_inputs")
        added = float_array(found, f"{at}added_inputs", np.ndim(found))
        resolved = real(content.pop(f"{at}resolved", None), f"{at}resolved", at_least=0.0)
        if added.ndim < 2 or resolved > 1.0:
            raise errors.InputError(f"{at}added_inputs or {at}resolved are none")
        options = replace(options, added_inputs=added, resolved=resolved)
    return Observation(**taken, noise=noise, noise_of_points=of_points, options=options)
