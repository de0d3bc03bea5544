"""Random parts of a sample: what their charts disagree on, the whole does not know."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import IntArray


def split(n: int, kept: IntArray, random_state: int) -> tuple[IntArray, IntArray]:
    """Rows 0 ... n - 1 in two random halves, ascending; the rows that are `kept` belong to both."""
    drawn = np.random.default_rng([random_state, n]).permutation(n)
    first, second = (np.union1d(part, kept).astype(np.int64) for part in (drawn[: n // 2], drawn[n // 2 :]))
    return first, second


def without_each(n: int, groups: int, random_state: int) -> list[IntArray]:
    """Rows 0 ... n - 1 without each of so many random groups in turn, ascending."""
    drawn = np.random.default_rng([random_state, n, groups]).permutation(n)
    return [np.setdiff1d(drawn, group).astype(np.int64) for group in np.array_split(drawn, groups)]
