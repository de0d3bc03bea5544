"""What the source of a failing direction lost: evidence without any map, and level sets where a map tells them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import Names
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.transformation import Transformation
from diffeo.verdict.common.seen_inputs import Seen
from diffeo.verdict.error_bounds import FAILS, HOLDS, Direction
from diffeo.verdict.lost_information import MOST_PLACES, find_loss
from diffeo.verdict.shown_loss import BothWays, Evidence
from diffeo.verdict.unseen_inputs import loss_of_pairs, with_slopes

Pair = tuple[FloatArray, FloatArray]


def evidence_both_ways(
    t: Transformation, common: Pair, names: Names, margin: float, known: BothWays | None = None
) -> tuple[Evidence, Evidence]:
    """Whether A, and whether B, is shown to have lost what the other keeps, at common inputs (points of A, points of B).

    What is `known` of both sides' samples at all common inputs counts, unless some of these were left out of the map.
    """
    sides = t.a.observation, t.b.observation
    if known is None or not known.is_of(common):
        known = BothWays(Seen(sides[0], common[0]), Seen(sides[1], common[1]), names, margin)
    found = known.found
    if isinstance(t.map, ByPairFits):
        there = with_slopes(found[0], t.map.pairs, sides[0], False, names)
        return there, with_slopes(found[1], t.map.pairs, sides[1], True, names[::-1])
    return found


def with_landmarks(t: Transformation, pairs: Pair) -> Pair:
    """All that both sides are known to measure at common inputs: landmarks first."""
    if t.landmarks is None:
        return pairs
    return np.vstack([t.landmarks[0], pairs[0]]), np.vstack([t.landmarks[1], pairs[1]])


def with_losses(
    t: Transformation, pairs: Pair, forward: Direction, backward: Direction, names: Names
) -> tuple[Direction, Direction]:
    """Both directions, with what the source of a failing one, whose loss is shown, lost of what its target keeps.

    Where the other direction holds, the keeping side's samples are pushed through it; where both fail there is no map to
    push them through, and landmarks and held-out pairs are the places at which both sides were measured.
    """
    pairs = with_landmarks(t, pairs)
    charts, found = (t.a, t.b), list[Direction]()
    for one, other, (keeps, lost) in ((forward, backward, (1, 0)), (backward, forward, (0, 1))):
        if one.status != FAILS:
            found.append(one)
            continue
        chart = charts[keeps]
        if isinstance(t.map, ByPairFits):
            observations = chart.observation, charts[lost].observation
            seen_by = moved(t, chart.coordinates) if keeps == 0 else chart.coordinates
            loss = loss_of_pairs(t.map.pairs, *observations, seen_by, keeps == 0, (names[keeps], names[lost]))
            found.append(replace(one, loss=loss))
            continue
        samples = moved(t, chart.coordinates) if keeps == 0 else t.b.wrapped(chart.coordinates)
        if other.status == HOLDS:
            rows = np.linspace(0, len(samples) - 1, min(len(samples), MOST_PLACES)).astype(np.int64)
            push = t.sent if keeps == 0 else t.sent_back
            places, measured = samples[rows], push(chart.observation.points[rows]).values
        else:
            places, measured = located(t, pairs)[keeps], pairs[lost]
        collapsed = charts[lost].observation.dim < chart.observation.dim
        loss = find_loss(places, measured, samples, names=(names[keeps], names[lost]), collapsed=collapsed)
        found.append(replace(one, loss=loss))
    return found[0], found[1]


def moved(t: Transformation, coordinates: FloatArray) -> FloatArray:
    """Coordinates of A moved to B's, where there is such a motion."""
    return t.b.wrapped(t.alignment.forward(coordinates)) if t.invertible else coordinates


def located(t: Transformation, pairs: Pair) -> Pair:
    """Intrinsic coordinates of the held-out pairs as each side sees them."""
    # What is outside of the domain is a problem already.
    at_a, at_b = (side.place(y, thread_count(t.n_jobs)).values for side, y in zip((t.a, t.b), pairs, strict=True))
    return moved(t, at_a), t.b.wrapped(at_b)
