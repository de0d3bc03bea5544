"""What one observation lost of the domain that the other one keeps: level sets, their direction, place and share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent

# Neighbours in measurement whose places are looked at: enough to see both sheets of a fold, few enough to be near.
NEIGHBORS = 8
# Neighbours in measurement are elsewhere if they are this many times as far away as that many nearest places ...
ELSEWHERE = 3.0
# ... and this share of the diameter of the domain.
LEAST_EXTENT = 0.05
# A level set is more than a point if this share of the neighbours is elsewhere: one of two sheets has a half of them.
ELSEWHERE_SHARE = 0.25
# Less than this share of the domain is left to chance.
LEAST_SHARE = 0.02
# Places of a level set with a gap of more than this share of their reach are separate points, not a curve.
GAP = 0.5
# Most places that are compared: more do not change a share.
MOST_PLACES = 3000
# Example pairs.
EXAMPLES = 20


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
        Those samples of the keeping side; of maps learned from pairs, those pairs, held-out ones last.
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


def find_loss(
    places: FloatArray, measured: FloatArray, samples: FloatArray, *, names: tuple[str, str], collapsed: bool = False
) -> Loss | None:
    """Level sets of one observation in the coordinates of another.

    Where an observation tells all places apart, the places whose measurements are nearest to one place's are near to it;
    where it does not, some of them are elsewhere: along a curve if it ignores a direction, at separate points if it folds.

    Parameters
    ----------
    places : ndarray of shape (k, d)
        Intrinsic coordinates of k inputs on the side that keeps something.
    measured : ndarray of shape (k, m)
        What the other side measures there, or the map predicts that it does.
    samples : ndarray of shape (n, d)
        Intrinsic coordinates of all samples of the keeping side, to which rows refer.
    names : tuple of str
        The side that keeps something, and the one that lost it.
    collapsed : bool
        Whether the other side is known to have fewer dimensions: its level sets are curves then.

    Returns
    -------
    Loss or None
        None where less than 2 % of the places have a level set that can be told from a point.
    """
    seen = np.linspace(0, len(places) - 1, min(len(places), MOST_PLACES)).astype(np.int64)
    x, y = places[seen], _standardised(measured[seen])
    k = min(NEIGHBORS, len(x) - 1)
    if k < 2:
        return None
    diameter = _diameter(x)
    near = PointTree(x).query(x, k + 1, workers=workers())[0][:, -1]
    alike = PointTree(y).query(y, k + 1, workers=workers())[1]
    steps = x[alike] - x[:, None]
    distances = np.linalg.norm(steps, axis=2)
    elsewhere = distances > np.maximum(ELSEWHERE * near, LEAST_EXTENT * diameter)[:, None]
    lost = elsewhere.sum(axis=1) >= ELSEWHERE_SHARE * k
    if lost.mean() < LEAST_SHARE:
        return None
    steps, elsewhere = steps[lost], elsewhere[lost]
    direction = _principal(steps[elsewhere])
    along = np.sort(steps @ direction, axis=1)
    reach = along[:, -1] - along[:, 0]
    gaps = np.diff(along, axis=1).max(axis=1) / reach
    kind = "collapse" if collapsed or np.median(gaps) < GAP else "fold"
    # Between k + 1 places spread evenly along a curve lies k / (k + 2) of its length.
    length = np.median(reach) * (k + 2) / k if kind == "collapse" else np.median(distances[lost].max(axis=1))
    extent = min(1.0, float(length) / diameter)
    nearest = PointTree(x).query(samples, workers=workers())[1]
    rows = np.flatnonzero(lost[nearest])
    if not len(rows):  # the pairs that show it lie beside all samples
        return None
    share = len(rows) / len(samples)
    centre = samples[rows].mean(axis=0)
    return Loss(
        kind,
        share,
        rows,
        direction,
        centre,
        extent,
        _examples(x, samples, steps, np.flatnonzero(lost)),
        _sentence(kind, share, extent, direction, centre, names),
    )


def _standardised(measured: FloatArray) -> FloatArray:
    """Every measurement in units of its own spread; those that do not vary say nothing."""
    spread = measured.std(axis=0)
    standard: FloatArray = (measured - measured.mean(axis=0)) / np.where(spread > 0.0, spread, np.inf)
    return standard


def _diameter(x: FloatArray) -> float:
    """Largest distance between places, or a little less: from the one farthest from the mean to the one farthest from it."""
    first = np.linalg.norm(x - x.mean(axis=0), axis=1).argmax()
    return float(np.linalg.norm(x - x[first], axis=1).max())


def _principal(steps: FloatArray) -> FloatArray:
    """Unit vector along which steps (k, d) are longest; its largest entry is positive."""
    direction: FloatArray = np.linalg.eigh(steps.T @ steps)[1][:, -1]
    return direction if direction[np.abs(direction).argmax()] > 0 else -direction


def _examples(x: FloatArray, samples: FloatArray, steps: FloatArray, lost: IntArray) -> IntArray:
    """Samples nearest to some lost places, and to the farthest place that looks the same; steps (lost, k, d)."""
    some = np.linspace(0, len(lost) - 1, min(len(lost), EXAMPLES)).astype(np.int64)
    farthest = np.linalg.norm(steps[some], axis=2).argmax(axis=1)
    here, there = x[lost[some]], x[lost[some]] + steps[some, farthest]
    tree = PointTree(samples)
    pairs = np.column_stack([tree.query(place, workers=workers())[1] for place in (here, there)])
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0).astype(np.int64)


def _sentence(
    kind: str, share: float, extent: float, direction: FloatArray, centre: FloatArray, names: tuple[str, str]
) -> str:
    keeps, lost = names
    # Rounded first, so that no zero has a sign.
    along, around = (
        f"({', '.join(f'{value:.2f}' for value in np.round(vector, 2) + 0.0)})" for vector in (direction, centre)
    )
    where = f"in {percent(share)} of the domain, around {around} in {keeps}'s coordinates"
    if kind == "collapse":
        return (
            f"{lost} lost a direction that {keeps} keeps: {where}, places along {along} give the same measurements on {lost} "
            f"over {percent(extent)} of the domain's diameter."
        )
    return (
        f"{lost} folds the domain that {keeps} keeps: {where}, places that lie {percent(extent)} of its diameter apart, along "
        f"{along}, give the same measurements on {lost}."
    )
