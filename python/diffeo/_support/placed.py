"""Values at new points, with what is to be said of those outside of the sampled domain: handed on, warned of at the edge."""

from __future__ import annotations

from typing import NamedTuple

from diffeo import errors
from diffeo._support.arrays import FloatArray


class Placed(NamedTuple):
    """What a chart, or a map, gives at new points.

    Attributes
    ----------
    values : ndarray of shape (count, k)
    outside : str
        How many points, and which, are off the measured manifold or outside of the sampled domain; empty for none.
    """

    values: FloatArray
    outside: str = ""

    def said(self) -> FloatArray:
        """The values, with an `OutOfDomainWarning` where points are outside: for the public edge."""
        if self.outside:
            errors.warn(self.outside, errors.OutOfDomainWarning)
        return self.values
