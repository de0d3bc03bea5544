"""What samples that were left out of a chart add to the error that a map is expected to have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.charts.coordinates import Coordinates
from diffeo.matching.expected_error import COMPARED, ErrorField, ExpectedError, some_of
from diffeo.matching.transformation import Transformation

# Fewer samples than this share, left out of a chart, are strays: they are named, and say nothing of the domain.
STRAYS = 0.01


def with_left_out(t: Transformation, expected: ExpectedError) -> ExpectedError:
    """The expected error of a map, over all samples of each side where a chart leaves out some of either."""
    if not _misses_some(t.a) and not _misses_some(t.b):
        return expected
    known = replace(t, expected=expected)
    # That they lie outside is what is asked.
    with errors.unsaid(errors.OutOfDomainWarning):
        forward = _over_all(known, expected.forward, inverse=False)
        back = None if expected.backward is None else _over_all(known, expected.backward, inverse=True)
    return ExpectedError(forward, back)


def _misses_some(chart: Coordinates) -> bool:
    return len(chart.left_out) > STRAYS * len(chart.observation)


def _over_all(t: Transformation, own: ErrorField, *, inverse: bool) -> ErrorField:
    """With what partners beyond the other chart add, and samples left out of the own, by what is predicted of each."""
    source = t.b if inverse else t.a
    n, apart = len(source.observation), source.left_out
    beyond = t.partners_beyond(source.coordinates[some_of(source)], inverse=inverse)
    inside = float(np.hypot(own.among_places, _size(beyond)))
    if not _misses_some(source):
        return replace(own, whole=inside)
    looked_up = apart[np.linspace(0, len(apart) - 1, min(len(apart), COMPARED)).astype(np.int64)]
    outside = _size(t.predicted_error(source.observation.points[looked_up], inverse=inverse))
    share = len(apart) / n
    return replace(own, whole=float(np.hypot(np.sqrt(1.0 - share) * inside, np.sqrt(share) * outside)))


def _size(values: FloatArray) -> float:
    """Root mean square of numbers of which none is below 0; their squares may overflow."""
    largest = float(values.max(initial=0.0))
    return largest * float(np.sqrt(np.square(values / largest).mean())) if largest > 0.0 else 0.0
