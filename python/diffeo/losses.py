"""What one observation lost of the domain that the other one keeps: level sets, their direction, place and share."""

from __future__ import annotations

from dataclasses import dataclass

from diffeo._validation import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Loss:
    """Level sets of the observation that lost something, seen in the intrinsic coordinates of the one that keeps it.

    Attributes
    ----------
    kind : {"collapse", "fold"}
        Level sets are curves or surfaces (an input is ignored), or separate points (the domain is folded).
    share : float
        Share of the domain (of the keeping side's samples) whose level set is more than a point.
    rows : ndarray of int64
        Those samples of the keeping side.
    direction : ndarray of shape (d,)
        Unit vector: principal direction of the level sets, in intrinsic coordinates of the keeping side.
    centre : ndarray of shape (d,)
        Where: mean intrinsic coordinates of `rows`.
    extent : float
        Median length of the level sets (or distance between the points of one) over the diameter of the domain.
    pairs : ndarray of shape (k, 2)
        Examples: rows of the keeping side, far apart there, that the other side does not tell apart.
    text : str
        One sentence that says all of it.
    """

    kind: str
    share: float
    rows: IntArray
    direction: FloatArray
    centre: FloatArray
    extent: float
    pairs: IntArray
    text: str
