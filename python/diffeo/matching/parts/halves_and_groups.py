"""The problem of a match posed again with parts of each side's samples: two halves, or all without each of some groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from diffeo._support.arrays import IntArray
from diffeo.charts.chart import Chart, Part
from diffeo.matching.expected_error import GROUPS
from diffeo.matching.problem import MatchProblem

# A half with fewer samples than this for each dimension says nothing.
FEWEST = 25

# Of side A and of side B.
Sides = tuple[bool, bool]


def has_halves(chart: Chart) -> bool:
    """Whether the halves of a sample are large enough to say anything."""
    return len(chart.observation.usable) >= 2 * FEWEST * (chart.dim + 1)


def halves(problem: MatchProblem) -> Iterator[MatchProblem]:
    """The problem of each half of each side; landmarks that are samples belong to both."""
    rows = _kept(problem)
    for number in (0, 1):
        yield _of_parts(problem, [chart.halves(kept)[number] for chart, kept in zip(problem.charts, rows, strict=True)])


def without_groups(problem: MatchProblem, by_groups: Sides) -> Iterator[MatchProblem]:
    """The problem without each group of the samples of some sides in turn, and with one half of another side.

    Landmarks that are samples are given by their measurements: of a small side they would be most.
    """
    if problem.landmarks is not None:
        problem = replace(problem, landmarks=replace(problem.landmarks, rows=None))
    none = np.empty(0, dtype=np.int64)
    for number in range(GROUPS):
        sides = [
            chart.without_each(GROUPS)[number] if grouped else chart.halves(none)[number % 2]
            for chart, grouped in zip(problem.charts, by_groups, strict=True)
        ]
        yield _of_parts(problem, sides)


def _kept(problem: MatchProblem) -> list[IntArray]:
    """Rows of both sides that are landmarks."""
    pairs = problem.landmarks
    if pairs is None or pairs.rows is None:
        return [np.empty(0, dtype=np.int64)] * 2
    return [np.unique(pairs.rows[:, side]) for side in (0, 1)]


def _of_parts(problem: MatchProblem, sides: list[Part]) -> MatchProblem:
    """The problem of some samples of each side."""
    a, b = sides
    pairs, values = problem.landmarks, problem.observables
    if pairs is not None and pairs.rows is not None:
        found = [np.searchsorted(part.rows, pairs.rows[:, side]) for side, part in enumerate(sides)]
        pairs = replace(pairs, rows=np.column_stack(found))
    if values is not None:
        values = values[0][a.rows], values[1][b.rows]
    return replace(problem, a=a.chart, b=b.chart, landmarks=pairs, observables=values, check=False, is_half=True)
