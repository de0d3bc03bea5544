"""Values at new points, with what is to be said of those outside of the sampled domain: handed on, warned of at the edge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text


def _none() -> IntArray:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Outside:
    """Which points are outside, and of what: false where none is, and a sentence in messages.

    Attributes
    ----------
    count : int
        Number of points.
    off_manifold : ndarray of int64
        Rows off the measured manifold, or outside of its sampled domain.
    no_counterpart : ndarray of int64
        Other rows, whose partners lie outside of the samples of the other side.
    note : str
        More about those off the manifold.
    unmatched : ndarray of int64
        Other rows again, that lie in pieces of their side of which nothing is known where they belong.
    """

    count: int = 0
    off_manifold: IntArray = field(default_factory=_none)
    no_counterpart: IntArray = field(default_factory=_none)
    note: str = ""
    unmatched: IntArray = field(default_factory=_none)

    def __bool__(self) -> bool:
        return len(self.off_manifold) + len(self.no_counterpart) + len(self.unmatched) > 0

    def __str__(self) -> str:
        return self.text()

    def text(self, here: str = "", there: str = "") -> str:
        """How many and which, and what is made of them, in words."""
        return (
            f"{self.where(here, there)}: results there are extrapolated, or those of the nearest sample" if self else ""
        )

    def where(self, here: str = "", there: str = "") -> str:
        """How many and which, in words, with the names of the points' own side and of the other one, if they have some."""
        parts = []
        if len(self.off_manifold):
            side, its = (f"{here}'s", f"{here}'s") if here else ("the", "the")
            note = f"; {self.note}" if self.note else ""
            parts.append(
                f"{len(self.off_manifold)} of {self.count} points lie off {side} measured manifold or outside of {its} "
                f"sampled domain ({rows_text(self.off_manifold)}{note})"
            )
        if len(self.no_counterpart):
            other = f"{there}'s samples" if there else "the other side's samples"
            parts.append(
                f"the partners of {len(self.no_counterpart)} of {self.count} points lie outside of {other} "
                f"({rows_text(self.no_counterpart)})"
            )
        if len(self.unmatched):
            pieces = f"pieces of {here}" if here else "pieces"
            parts.append(
                f"{len(self.unmatched)} of {self.count} points lie in {pieces} that are not matched "
                f"({rows_text(self.unmatched)})"
            )
        return "; ".join(parts)

    def partners(self, beyond: NDArray[np.bool_]) -> Outside:
        """With the points, of all, whose partners lie outside of the samples of the other side."""
        beyond = beyond.copy()
        beyond[self.no_counterpart] = True
        beyond[self.off_manifold] = False
        return replace(self, count=len(beyond), no_counterpart=np.flatnonzero(beyond))


NOWHERE = Outside()


class Placed(NamedTuple):
    """What a chart, or a map, gives at new points.

    Attributes
    ----------
    values : ndarray of shape (count, k)
    outside : Outside
        Which points, or their partners, are off the measured manifold or outside of the sampled domain.
    """

    values: FloatArray
    outside: Outside = NOWHERE

    def said(self, here: str = "", there: str = "") -> FloatArray:
        """The values, with one `OutOfDomainWarning` where points are outside: for the public edge."""
        if self.outside:
            apart = np.union1d(self.outside.no_counterpart, self.outside.unmatched)
            rows = self.outside.off_manifold, apart
            errors.give(errors.OutOfDomainWarning(self.outside.text(here, there), *rows))
        return self.values
