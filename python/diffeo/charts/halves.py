"""Two random halves of one observation, each with coordinates of its own: what they disagree on, the whole does not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from diffeo._support.arrays import IntArray

if TYPE_CHECKING:
    from diffeo.charts.chart import Chart


@dataclass(frozen=True, eq=False)
class Half:
    """Half of the samples of a chart, as a chart of their own.

    Attributes
    ----------
    chart : Chart
    rows : ndarray of int64
        Of the whole, ascending.
    """

    chart: Chart
    rows: IntArray


def split(n: int, kept: IntArray, random_state: int) -> tuple[IntArray, IntArray]:
    """Rows 0 ... n - 1 in two random halves, ascending; the rows that are `kept` belong to both."""
    drawn = np.random.default_rng([random_state, n]).permutation(n)
    first, second = (np.union1d(part, kept).astype(np.int64) for part in (drawn[: n // 2], drawn[n // 2 :]))
    return first, second
