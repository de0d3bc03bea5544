"""What the source of a failing direction lost: evidence without any map, and level sets where a map tells them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import Names
from diffeo.matching.paired.both_ways import ByPairFits
from diffeo.matching.pairs import Pairs
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
        seen = _with_held_out(t.map)
        there = with_slopes(found[0], seen, sides[0], False, names)
        return there, with_slopes(found[1], seen, sides[1], True, names[::-1])
    return found


def _with_held_out(found: ByPairFits) -> Pairs:
    """All pairs that carry derivatives: those that were learned from, then those held out.

    No map takes part in what they show, and a share of the inputs is known the better the more of them are counted.
    """
    pairs, others = found.pairs, found.held_out
    if others is None:
        return pairs
    a, b, more_a, more_b = pairs.jacobians_a, pairs.jacobians_b, others.jacobians_a, others.jacobians_b
    if a is None or b is None or more_a is None or more_b is None or a.shape[2] != more_a.shape[2]:
        return pairs
    at_a, at_b = (np.vstack(both) for both in zip(pairs.points, others.points, strict=True))
    return Pairs(at_a, at_b, np.concatenate([a, more_a]), np.concatenate([b, more_b]))


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
            seen = _with_held_out(t.map)
            # Held-out pairs outside of the domain are a problem already.
            placed = chart.place(seen.points[keeps], thread_count(t.n_jobs)).values
            seen_by = moved(t, placed) if keeps == 0 else placed
            loss = loss_of_pairs(seen, *observations, seen_by, keeps == 0, (names[keeps], names[lost]))
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
