"""What samples that were left out of a chart add to the error that a map is expected to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.matching.expected_error import COMPARED, ErrorField, ExpectedError, some_of
from diffeo.matching.transformation import Transformation


def with_left_out(t: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of a map, over all samples of each side where a chart leaves out some of either."""
    if not len(t.a.left_out) and not len(t.b.left_out):
        return expected
    known = replace(t, expected=expected)
    forward = _over_all(known, expected.forward, inverse=False)
    back = None if expected.backward is None else _over_all(known, expected.backward, inverse=True)
    return ExpectedError(forward, back)


def _over_all(t: Transformation, own: ErrorField, *, inverse: bool) -> ErrorField:
    """With what partners beyond the other chart add, and samples left out of the own, by what is predicted of each."""
    source = t.b if inverse else t.a
    n, apart = len(source.observation), source.left_out
    beyond = t.partners_beyond(source.coordinates[some_of(source)], inverse=inverse)
    inside = float(np.hypot(own.among_places, _size(beyond)))
    if not len(apart):
        return replace(own, whole=inside)
    looked_up = apart[np.linspace(0, len(apart) - 1, min(len(apart), COMPARED)).astype(np.int64)]
    outside = _size(t.predicted_error(source.observation.points[looked_up], inverse=inverse))
    share = len(apart) / n
    return replace(own, whole=float(np.hypot(np.sqrt(1.0 - share) * inside, np.sqrt(share) * outside)))


def _size(values: FloatArray) -> float:
    """Root mean square of numbers of which none is below 0; their squares may overflow."""
    largest = float(values.max(initial=0.0))
    return largest * float(np.sqrt(np.square(values / largest).mean())) if largest > 0.0 else 0.0
