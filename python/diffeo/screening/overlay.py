"""One sample laid over the other without any pair: how far their domains cover each other, and the way there and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import IntArray
from diffeo._support.progress import stage
from diffeo.alignment.lattices import lattice_isometries
from diffeo.alignment.linear import Alignment
from diffeo.alignment.motion import Freedom, Motion, freedom
from diffeo.alignment.motion_search import best_motion
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.diagnostics import diagnose_isometric, without_counterpart
from diffeo.matching.maps import ByIsometry
from diffeo.matching.transformation import Transformation

# Samples of each side that are sent there and back, and shown.
SENT = 1000


@dataclass(frozen=True, eq=False)
class Overlay:
    """A's sample laid over B's by one of the motions that fit best; which one does not matter here.

    Attributes
    ----------
    transformation : Transformation
        Not to be used as a map: where the domain is symmetric, the motion is any of several.
    border : float
        Share of the size of the domain by which the borders of both samples miss each other beyond chance.
    density : float
        Misfit of the densities after the motion: 1 where only chance is left.
    uncovered : tuple of ndarray of int64
        Samples of A and of B without a counterpart on the other side.
    round_trip : tuple of float
        Relative error of A's samples sent to B and back, and of B's sent to A and back.
    problems : list of str
        Of both layouts, as `diffeo.match` names them.
    """

    transformation: Transformation
    border: float
    density: float
    uncovered: tuple[IntArray, IntArray]
    round_trip: tuple[float, float]
    problems: list[str]


def lay_over(a: IsometricChart, b: IsometricChart, rng: np.random.Generator, n_jobs: int | None) -> Overlay:
    """Lay A's sample over B's by shape and density alone.

    Raises
    ------
    DomainMismatchError
        Closed domains with different periods.
    LandmarkError
        More than three dimensions, in which no search for a motion settles.
    """
    known_unit = a.observation.known_unit and b.observation.known_unit
    with stage("overlay"):
        motion, unit = _motion(a, b, known_unit=known_unit, rng=rng)
    kind = "rigid" if known_unit else "similarity"
    alignment = Alignment(unit * motion.linear, motion.shift, kind, 0.0, np.inf, unit)
    none = np.empty((0, b.coordinates.shape[1]))
    diagnostics = diagnose_isometric(a, b, alignment, none, known_unit)
    found = Transformation(ByIsometry(a, b, alignment), [alignment], unit, diagnostics, n_jobs)
    aligned, there = b.wrapped(alignment.forward(a.coordinates)), b.wrapped(b.coordinates)
    uncovered = (without_counterpart(aligned, there), without_counterpart(there, aligned))
    return Overlay(
        found,
        motion.border,
        motion.density,
        uncovered,
        _round_trip(found),
        [*diagnostics.problems, *diagnostics.reasons],
    )


def _motion(
    a: IsometricChart, b: IsometricChart, *, known_unit: bool, rng: np.random.Generator
) -> tuple[Motion, float]:
    """A motion of A's coordinates in B's unit, and B's unit of length over that of A."""
    periods_a, periods_b = a.embedding.periods_, b.embedding.periods_
    samples_a, samples_b = a.coordinates[a.used], b.coordinates[b.used]
    closed = bool(len(periods_a) or len(periods_b))
    unit = 1.0
    if not known_unit:
        spreads = (periods_a, periods_b) if len(periods_a) and len(periods_b) else (samples_a, samples_b)
        one, other = (np.linalg.norm(x - (0.0 if closed else x.mean(axis=0))) / np.sqrt(len(x)) for x in spreads)
        unit = float(other / one) if one > 0.0 else 1.0
    if not closed:
        nothing = np.empty((0, samples_a.shape[1]))
        free: Freedom = freedom(unit * samples_a, samples_b, nothing, nothing, 0.0)
        return best_motion(unit * samples_a, samples_b, free, rng), unit
    linear = lattice_isometries(unit * periods_a, periods_b)[0]
    # Around the periods every position fits; across them the middles of both samples do.
    return Motion(linear, samples_b.mean(axis=0) - unit * samples_a.mean(axis=0) @ linear, 1.0), unit


def _round_trip(found: Transformation) -> tuple[float, float]:
    """Relative errors of samples sent to the other side and back."""
    sent = []
    # What falls outside of the other side's domain is what the error shows.
    for side, forth, back in ((found.a, found.sent, found.sent_back), (found.b, found.sent_back, found.sent)):
        points = side.observation.points
        rows = side.observation.usable[np.linspace(0, len(side.observation.usable) - 1, SENT).astype(np.int64)]
        some = points[np.unique(rows)]
        again = back(forth(some).values).values
        sent.append(float(np.linalg.norm(again - some) / np.linalg.norm(some - points.mean(axis=0))))
    return sent[0], sent[1]
