"""Held-out pairs that pairs next to both of their ends contradict: set aside, and named, but never for their errors alone."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent, rows_text
from diffeo.verdict.error_bounds import LEAST_PAIRS

# Pairs next to each end of a pair that have to contradict it, all of them ...
WITNESSES = 2
# ... by lying nearer to that end than this share of what the pair is missed by, ...
NEAR = 0.75
# ... and being missed by less than this share of what it is missed by.
WITNESS_ERROR = 1 / 8
# A direction whose median pair is missed by more than this, relative to the spread, contradicts nothing.
CARRIED = 0.05
# At most this share of the pairs is set aside, or one: where more are contradicted something else is wrong.
MOST_ASIDE = 0.02

# Predictions and truth (H, m).
Way = tuple[FloatArray, FloatArray]


def contradicted_pairs(ways: list[Way]) -> IntArray:
    """Rows of the held-out pairs that those next to them contradict, on A and on B; none where they are more than a few.

    A pair says that what is at t(a) by the map is at b. It is contradicted if there are pairs nearer to its end on A than
    that, and others nearer to its end on B, which the map misses by far less, all of them: then the map is right at both ends,
    and joins others there. A pair in a region where the map is wrong, or where no pairs are near, is not, however large its
    error.

    Parameters
    ----------
    ways : list of tuple of ndarray of shape (H, m)
        Predicted and true measurements, of each direction that there is; those in which most pairs are missed do not count.
    """
    count, found = len(ways[0][0]), None
    if count < LEAST_PAIRS:
        return np.empty(0, dtype=np.int64)
    for predicted, true in ways:
        missed = np.linalg.norm(predicted - true, axis=1)
        spread = np.linalg.norm(true - true.mean(axis=0), axis=1)
        if np.median(missed) > CARRIED * np.median(spread):
            continue
        alone = np.ones(count, dtype=bool)
        for at in (predicted, true):
            distances, near = PointTree(at).query(at, WITNESSES + 1, workers=workers())
            # Of twins a pair itself may not be the first: then it is its own witness, and stays.
            alone &= (distances[:, -1] < NEAR * missed) & (missed[near[:, 1:]] < WITNESS_ERROR * missed[:, None]).all(
                axis=1
            )
        found = alone if found is None else found & alone
    rows = np.flatnonzero(found) if found is not None else np.empty(0, dtype=np.int64)
    return rows if len(rows) <= max(1, int(MOST_ASIDE * count)) else np.empty(0, dtype=np.int64)


def aside_text(rows: IntArray, count: int, verdict: str, with_them: str) -> str:
    """What is said of pairs that were set aside, and of the verdict with them."""
    if not len(rows):
        return ""
    one = len(rows) == 1
    said = "the verdict would be the same" if verdict == with_them else f"the verdict would be {with_them!r}"
    return (
        f"{len(rows)} of {count} held-out pairs ({rows_text(rows)}, {percent(len(rows) / count)}) "
        f"{'was' if one else 'were'} set aside, because pairs next to {'it' if one else 'them'} on A and on B contradict "
        f"{'it' if one else 'them'}: check {'it' if one else 'them'}; with {'it' if one else 'them'} {said}."
    )
