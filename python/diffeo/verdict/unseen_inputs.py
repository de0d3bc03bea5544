"""What pairs with derivatives show of a loss: directions of the input that one side does not see, and the other does."""

from __future__ import annotations

from dataclasses import replace
from math import exp, lgamma, pi

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import Names, percent, rows_text
from diffeo.matching.pairs import Pairs
from diffeo.observation.observation import Observation
from diffeo.verdict.common.joined_inputs import inputs_joined
from diffeo.verdict.common.seen_inputs import floor_of
from diffeo.verdict.lost_information import Loss
from diffeo.verdict.shown_loss import Evidence, torn_pairs

# A direction that the source does not see counts where the target's response to it is above this share of its usual largest.
SEEN = 0.05
# Less than this share of the inputs is left to chance.
LEAST_SHARE = 0.02
# Neighbours on the source, and the share of them that must be far apart on the target, where derivatives show nothing.
NEIGHBORS, TORN_SHARE = 8, 0.25
# The volume of one tangent frame seen in another, at least, where both are of one plane: turned by 60 degrees at most.
SAME_PLANE = 0.5
# Directions whose mean squared response is a smaller share of the largest are not seen: rounding, in single precision too.
UNSEEN = 1e-10
# So many neighbours for each dimension tell whether an input lies among the others: more where their places are well known.
AROUND, AROUND_JOINED = 4, 6
# Most pairs that are compared with one another, and examples that are kept.
MOST_PAIRS, EXAMPLES = 500, 20
# The word that evidence by derivatives at common inputs has.
SLOPES = "slopes"


def with_slopes(found: Evidence, pairs: Pairs, source: Observation, inverse: bool, names: Names) -> Evidence:
    """The evidence of a direction, and where that shows nothing, what derivatives at common inputs show.

    A direction n of the input with J_source n = 0 and J_target n of the usual size is lost by the source, whatever the map.
    """
    if found.shown:
        return found
    lost, directions = _unseen(pairs, source, inverse)
    share = float(lost.mean())
    if share < LEAST_SHARE:
        return found
    direction = _principal(directions[lost])
    rows = np.flatnonzero(lost)
    text = (
        f"Loss is shown by derivatives: at {percent(share)} of the inputs {names[0]} does not respond to a direction, "
        f"{_vector(direction)} of the input on the whole, that {names[1]} sees (pairs: {rows_text(rows)})."
    )
    return replace(found, shown=True, kind=SLOPES, text=text)


def loss_of_pairs(
    pairs: Pairs, keeps: Observation, lost_by: Observation, coordinates: FloatArray, inverse: bool, names: Names
) -> Loss | None:
    """What the source of a direction lost, along which direction of the input, and for which share of the inputs.

    Parameters
    ----------
    pairs : Pairs
        With derivatives, or without (then nothing is said).
    keeps, lost_by : Observation
        The target and the source, at the pairs or at some of them.
    coordinates : ndarray of shape (n, c)
        Of the pairs on the keeping side, for pictures.
    inverse : bool
        Whether the source is B.
    names : tuple of str
        The side that keeps something, and the one that lost it.
    """
    if pairs.jacobians_a is None or pairs.jacobians_b is None:
        return None
    lost, directions = _unseen(pairs, lost_by, inverse)
    kind, rows, steps = "collapse", np.flatnonzero(lost), directions[lost]
    others: IntArray = np.empty((0, 2), dtype=np.int64)
    if lost.mean() < LEAST_SHARE:
        seen = np.unique(np.linspace(0, len(pairs) - 1, min(len(pairs), MOST_PAIRS)).astype(np.int64))
        places, others, steps = _elsewhere(pairs, seen, lost_by, keeps, inverse)
        kind, rows = "fold", seen[places]
        if len(places) < LEAST_SHARE * len(seen):
            return None
        share = len(places) / len(seen)
    else:
        share = float(lost.mean())
    direction = _principal(steps)
    along = "places that differ along it" if kind == "collapse" else "places apart along it"
    text = (
        f"{names[1]} lost what {names[0]} keeps at {percent(share)} of the inputs: the direction {_vector(direction)} of the "
        f"input; {along} look the same on {names[1]} (pairs: {rows_text(rows)})."
    )
    extent = 1.0 if kind == "collapse" else _extent(steps, pairs, keeps)
    centre = coordinates[rows].mean(axis=0)
    return Loss(kind, share, rows, direction, centre, extent, others[:EXAMPLES], text)


def _jacobians(pairs: Pairs, inverse: bool) -> tuple[FloatArray, FloatArray]:
    """Of source and target."""
    a, b = pairs.jacobians_a, pairs.jacobians_b
    if a is None or b is None:
        empty = np.empty((len(pairs), 0, 0))
        return empty, empty
    return (b, a) if inverse else (a, b)


def _unseen(pairs: Pairs, source: Observation, inverse: bool) -> tuple[NDArray[np.bool_], FloatArray]:
    """Which inputs have a direction that the source does not see and the target does, and that direction (n, p)."""
    own, other = _jacobians(pairs, inverse)
    n, p = len(pairs), own.shape[2]
    lost, directions = np.zeros(n, dtype=bool), np.zeros((n, p))
    if p == 0:
        return lost, directions
    # All directions of the input are wanted, and no more of the measurements than these.
    _, s, vt = np.linalg.svd(own, full_matrices=own.shape[1] < p)
    values = np.zeros((n, p))
    values[:, : s.shape[1]] = s
    unseen = values <= floor_of(source) * np.maximum(values[:, :1], np.median(values[:, 0]))
    # The target's response to each of the source's directions, those that it sees left out.
    response = np.einsum("nvp,nkp->nvk", other, vt, optimize=True) * unseen[:, None, :]
    rows = np.flatnonzero(unseen.any(axis=1))
    if len(rows) == 0:
        return lost, directions
    sizes, right = np.linalg.svd(response[rows], full_matrices=False)[1:]
    usual = float(np.median(np.linalg.norm(other, axis=(1, 2), ord=2)))
    lost[rows] = sizes[:, 0] > SEEN * usual
    directions[rows] = np.einsum("nk,nkp->np", right[:, 0], vt[rows])
    return lost, directions


def _elsewhere(
    pairs: Pairs, seen: IntArray, source: Observation, target: Observation, inverse: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """Inputs near which, on the source, are some that are far on the target: which, examples, and steps of the input."""
    sides = pairs.points[::-1] if inverse else pairs.points
    y, z = sides[0][seen], sides[1][seen]
    own, other = (jacobians[seen] for jacobians in _jacobians(pairs, inverse))
    axes = _seen_directions(own, other)
    own, other = own @ axes, other @ axes
    near = torn_pairs(source, target, (y, z))[0]
    order = np.argsort(near, axis=1, kind="stable")[:, : 2 * NEIGHBORS]
    known = np.isfinite(np.take_along_axis(near, order, axis=1))
    # From neither end do the slopes explain the step on the target: not even its size.
    steps = z[order] - z[:, None]
    inputs_of_source: FloatArray = np.linalg.pinv(own).astype(np.float64)
    forward = np.einsum("nvp,npm,nkm->nkv", other, inputs_of_source, y[order] - y[:, None], optimize=True)
    # The step of the input by which each neighbour reaches the place on the source, and what that makes on the target.
    reached = np.einsum("nkpm,nkm->nkp", inputs_of_source[order], y[:, None] - y[order], optimize=True)
    back = -np.einsum("nkvp,nkp->nkv", other[order], reached, optimize=True)
    missed = [np.linalg.norm(steps - told, axis=2) - np.linalg.norm(told, axis=2) for told in (forward, back)]
    found = known & (np.minimum(*missed) > 0.0)
    if source.dim == own.shape[2]:
        found |= known & _turned_over(own, inputs_of_source, order)
    near_ones = slice(0, NEIGHBORS)
    enough = found[:, near_ones].sum(axis=1) >= TORN_SHARE * known[:, near_ones].sum(axis=1)
    nothing = np.empty(0, dtype=np.int64), np.empty((0, 2), dtype=np.int64), np.empty((0, 1))
    if not (enough & found.any(axis=1)).any():
        return nothing
    # Of those elsewhere the one that reaches the place by the shortest step.
    lengths = np.where(found, np.linalg.norm(reached, axis=2), np.inf)
    best, rows = lengths.argmin(axis=1), np.arange(len(y))
    there = _Places(target, z, other)
    partners, ends = order[rows, best], reached[rows, best]
    places = np.array(
        [i for i in np.flatnonzero(found.any(axis=1)) if there.holds(int(i), int(partners[i]), ends[i])],
        dtype=np.int64,
    )
    if len(places) == 0:
        return nothing
    moved = there.moved(places, partners[places], ends) @ axes.T
    return places, np.column_stack([seen[places], seen[partners[places]]]), moved


def _seen_directions(*sides: FloatArray) -> FloatArray:
    """Orthonormal directions (p, k) of the input that derivatives (n, m, p) of any side see anywhere, beyond rounding."""
    total = np.zeros((sides[0].shape[2],) * 2)
    for jacobians in sides:
        squares = np.einsum("nmp,nmq->pq", jacobians, jacobians)
        total += squares / max(float(np.trace(squares)), float(np.finfo(float).tiny))
    values, axes = np.linalg.eigh(total)
    seen: FloatArray = np.ascontiguousarray(axes[:, values > UNSEEN * values[-1]])
    return seen


def _turned_over(jacobians: FloatArray, inputs: FloatArray, order: IntArray) -> NDArray[np.bool_]:
    """Which of the neighbours (n, k) see the inputs in a mirror: the other sheet of a fold, however near to its edge.

    J_i^+ J_j takes steps of the input at a neighbour to those here that the source does not tell from them. Of one sheet it is
    near to the identity, across a fold a reflection: its determinant is negative. Tangent planes must be nearly the same, and
    the source must see all directions of the input.
    """
    frames = np.linalg.svd(jacobians, full_matrices=False)[0]
    alike = np.linalg.det(np.einsum("nvp,nkvq->nkpq", frames, frames[order], optimize=True))
    turned = np.linalg.det(np.einsum("npv,nkvq->nkpq", inputs, jacobians[order], optimize=True))
    mirrored: NDArray[np.bool_] = (np.abs(alike) >= SAME_PLANE) & (turned < 0.0)
    return mirrored


class _Places:
    """Where inputs lie among each other, as the target tells: joined to one picture, or else from each input by its slopes."""

    def __init__(self, target: Observation, points: FloatArray, jacobians: FloatArray) -> None:
        self.points, self.jacobians = points, jacobians
        self.inputs: FloatArray = np.linalg.pinv(jacobians).astype(np.float64)
        self.joined = inputs_joined(target, points, jacobians)
        self.count = (AROUND if self.joined is None else AROUND_JOINED) * jacobians.shape[2]

    def moved(self, places: IntArray, partners: IntArray, ends: FloatArray) -> FloatArray:
        """Steps (k, p) of the input from places to those that look the same, which lie a step beyond partners."""
        if self.joined is not None:
            return self.joined[partners] + ends[places] - self.joined[places]
        step = self.points[partners] - self.points[places]
        at_ends = [np.einsum("npv,nv->np", self.inputs[at], step) for at in (places, partners)]
        moved: FloatArray = 0.5 * (at_ends[0] + at_ends[1])
        return moved

    def holds(self, place: int, start: int, step: FloatArray) -> bool:
        """Whether the input that lies a step (p,) from a pair lies among the inputs of all pairs.

        From within a domain others are seen all around, from its border within half of all directions only. There the mean of k
        of their unit vectors has the mean square h^2 + (1 - h^2) / k, h = Gamma(p / 2) / (sqrt(pi) Gamma((p + 1) / 2)) the
        distance of the centroid of a half sphere. Where an input looks the same from its own place, the border is that of all.
        """
        p = len(step)
        squared = exp(2.0 * (lgamma(p / 2) - lgamma((p + 1) / 2))) / pi
        border = squared + (1.0 - squared) / self.count
        own = self._one_sided(place, np.zeros(p), 1)
        return bool(self._one_sided(start, step, 0) < max(border, own))

    def _one_sided(self, start: int, step: FloatArray, skipped: int) -> float:
        """The squared length of the mean of unit vectors to the nearest inputs, the first ones skipped."""
        count = self.count
        if self.joined is not None:
            offsets = self.joined - (self.joined[start] + step)
        else:
            z = self.points
            apart = np.linalg.norm(z - (z[start] + self.jacobians[start] @ step), axis=1)
            near = np.argsort(apart, kind="stable")[skipped : 3 * count + skipped]
            offsets, skipped = (z[near] - z[start]) @ self.inputs[start].T - step, 0
        lengths = np.linalg.norm(offsets, axis=1)
        around = np.argsort(lengths, kind="stable")[skipped : count + skipped]
        mean = (offsets[around] / np.maximum(lengths[around], np.finfo(float).tiny)[:, None]).mean(axis=0)
        return float(mean @ mean)


def _extent(steps: FloatArray, pairs: Pairs, keeps: Observation) -> float:
    """Length of the steps over the usual diameter of the domain, both as the keeping side's metric has them."""
    points = keeps.points[keeps.usable]
    spread = float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))
    stretch = float(np.median(keeps.singular_values[keeps.usable, 0]))
    diameter = max(float(np.sqrt(12.0)) * spread / stretch, float(np.finfo(float).tiny))
    return min(1.0, float(np.median(np.linalg.norm(steps, axis=1))) / diameter)


def _principal(steps: FloatArray) -> FloatArray:
    """Unit vector along which unit steps (k, p) are on the whole; its largest entry is positive."""
    unit = steps / np.maximum(np.linalg.norm(steps, axis=1, keepdims=True), np.finfo(float).tiny)
    direction: FloatArray = np.linalg.eigh(unit.T @ unit)[1][:, -1]
    return direction if direction[np.abs(direction).argmax()] > 0 else -direction


def _vector(direction: FloatArray) -> str:
    # Rounded first, so that no zero has a sign; of many coordinates the largest are told.
    if len(direction) <= 8:
        return f"({', '.join(f'{value:.2f}' for value in np.round(direction, 2) + 0.0)})"
    largest = np.argsort(-np.abs(direction), kind="stable")[:3]
    return "mainly " + ", ".join(f"{direction[k]:.2f} of coordinate {k}" for k in largest)
