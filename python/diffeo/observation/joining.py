"""concatenate: several samples of the same measurements as one observation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo.observation.noise import usual_noise
from diffeo.observation.observation import Observation


def concatenate(observations: Iterable[Observation]) -> Observation:
    """Join observations of the same measurements at different samples, one after the other.

    Parameters
    ----------
    observations : iterable of Observation
        All measured alike: the same neurons of the same layer, reduced and smoothed in the same way, with local
        covariances of one kind.

    Returns
    -------
    Observation
        With sum(n_i) samples, in the order given.

    Raises
    ------
    InputError
        Observations that were measured differently (the message names what differs), or none.
    DataTypeError
        Something else than observations.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((2, 300, 2))
    >>> first, more = (diffeo.Observation.from_jacobians(p, np.broadcast_to(np.eye(2), (300, 2, 2))) for p in x)
    >>> diffeo.concatenate([first, more])
    Observation(600 samples, 2 measurements, dim=2, from jacobians)
    """
    try:
        parts = list(observations)
    except TypeError as error:
        raise errors.DataTypeError(
            f"observations must be a list of them, diffeo.concatenate([obs, more]), not {type(observations).__name__}"
        ) from error
    if not parts:
        raise errors.InputError("there is no observation to join")
    for i, part in enumerate(parts):
        if not isinstance(part, Observation):
            raise errors.DataTypeError(f"observations[{i}] must be a diffeo.Observation, not {type(part).__name__}")
    first = parts[0]
    for i, part in enumerate(parts[1:], 1):
        differing = [f"options.{name}" for name in first.options.differences(part.options)]
        differing += [name for name in ("dim", "source", "known_unit") if getattr(first, name) != getattr(part, name)]
        if bool(len(first.noise_of_points)) != bool(len(part.noise_of_points)):
            differing.append("whether their noise is known")
        if first.shape[1] != part.shape[1]:
            differing.insert(0, "the number of measurements")
        if differing:
            raise errors.InputError(
                f"observations[0] and observations[{i}] differ in {', '.join(differing)}: they are not samples of the same "
                "measurements; observe both alike (give dim=, scale= and noise= where these were found from the data)"
            )
    starts = np.cumsum([0, *(len(part) for part in parts)])
    # Beyond the smallest number of them the singular values of all are not known.
    noise = np.concatenate([part.noise_of_points for part in parts])
    rank = min(part.singular_values.shape[1] for part in parts)
    return replace(
        first,
        points=np.concatenate([part.points for part in parts]),
        whitening=np.concatenate([part.whitening for part in parts]),
        singular_values=np.concatenate([part.singular_values[:, :rank] for part in parts]),
        deficient=np.concatenate([part.deficient + start for part, start in zip(parts, starts[:-1], strict=True)]),
        degrees_of_freedom=np.concatenate([part.degrees_of_freedom for part in parts]),
        noise=usual_noise(noise) if len(noise) else max(part.noise for part in parts),
        noise_of_points=noise,
        options=replace(first.options, added_inputs=None, resolved=None),
        precision="single" if any(part.precision == "single" for part in parts) else "double",
    )
