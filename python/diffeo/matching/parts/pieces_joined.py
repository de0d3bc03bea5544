"""Transformations of pairs of pieces joined to one, with what is to be said of it: what is matched, and how well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import thread_count
from diffeo._support.wording import Names, percent, rows_text
from diffeo.charts.coordinates import Coordinates
from diffeo.charts.measured import MeasuredChart
from diffeo.isometry.trust import STRAYS
from diffeo.matching.by_pairs.pair_map import roughly_aligned
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.expected_error import COMPARED, some_of, spread_of
from diffeo.matching.parts.pieces_posed import InPieces
from diffeo.matching.piecewise.by_pieces import ByPieces
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.observation.folds import near_folds

# Samples of a piece that lie on the manifold of another, as far as can be told, beyond which it is said.
CONFUSED = 0.02
# What lies within pieces is said where the whole is expected to be wrong by so many times as much.
MOSTLY = 1.5
Rows = tuple[IntArray, IntArray]
Ways = tuple[float | None, float | None]


def joined_pieces(
    problem: MatchProblem, posed: InPieces, found: Sequence[Transformation | errors.DiffeoError], good: float
) -> Transformation:
    """One map of those of the pairs of pieces that have one, of which there are some.

    A problem says so where it is expected to be wrong by more than what is `good`.
    """
    pairs = list(zip(posed.joints, found, strict=True))
    made = [(joint, t) for joint, t in pairs if isinstance(t, Transformation)]
    refused = {joint.numbers: error for joint, error in pairs if not isinstance(error, Transformation)}
    rows = [joint.rows for joint, _ in made]
    lost = [
        np.setdiff1d(np.concatenate(pieces), np.concatenate([pair[k] for pair in rows]))
        for k, pieces in enumerate(posed.pieces)
    ]
    sides = [MeasuredChart(chart.measured) for chart in problem.charts]
    parts = [t for _, t in made]
    wrong = [part.diagnostics.wrong_landmarks for part in parts] + [problem.numbered(posed.wrong)]
    apart = [part.diagnostics.apart_landmarks for part in parts] + [problem.numbered(posed.apart)]
    left_out = np.unique(np.concatenate(wrong)), np.setdiff1d(np.concatenate(apart), np.concatenate(wrong))
    t = assembled((sides[0], sides[1]), parts, rows, (lost[0], lost[1]), problem.n_jobs, left_out=left_out)
    joined = t.map
    if not isinstance(joined, ByPieces):
        raise errors.InputError("the transformation is not one by pieces")
    problems = _unmatched(problem, posed, joined, refused)
    problems += _landmarks_left_out(problem, posed)
    numbers = [joint.numbers for joint, _ in made]
    problems += _confused(problem, joined, numbers)
    within = within_pieces(joined, parts, inverse=False), within_pieces(joined, parts, inverse=True)
    for number, (joint, part) in enumerate(made):
        p, q = joint.numbers
        where = f"piece {p + 1} of {problem.names[0]} with piece {q + 1} of {problem.names[1]}"
        counted = f"rows of samples are counted within them, as in t.map.rows[{number}]"
        problems += [f"{where} ({counted}): {said}" for said in part.diagnostics.problems]
    known = t.diagnostics
    ways = (known.expected_error, known.expected_error_back)
    if max(way or 0.0 for way in ways) > good:
        cut = "samples beside cuts in a piece, which the other side is torn along"
        why = [cut] * (len({pair[0] for pair in numbers}) < len(made) or len({pair[1] for pair in numbers}) < len(made))
        why += ["the pieces that are not matched"] * bool(len(lost[0]) or len(lost[1]))
        problems.insert(0, _expected_text(problem.names, ways, within, " and ".join(why)))
    return replace(t, diagnostics=replace(known, problems=problems))


def assembled(
    sides: tuple[MeasuredChart, MeasuredChart],
    parts: list[Transformation],
    rows: list[Rows],
    unmatched: Rows,
    n_jobs: int | None,
    *,
    left_out: Rows,
    problems: Sequence[str] = (),
    known_errors: Ways | None = None,
) -> Transformation:
    """The transformation of these pieces; its figures are those of the pieces, weighed by their samples.

    `left_out` are the numbers of landmarks that are wrong, and of those that are apart. Errors that are known, both ways, are
    not estimated again.
    """
    taken = [part.landmarks for part in parts if part.landmarks is not None]
    marks = np.vstack([one for one, _ in taken]), np.vstack([other for _, other in taken])
    n_threads = thread_count(n_jobs)
    at_a, at_b = (side.place(y, n_threads).values for side, y in zip(sides, marks, strict=True))
    alignment = roughly_aligned(at_a, at_b[:, : at_a.shape[1]])
    joined = ByPieces(*sides, alignment, tuple(parts), tuple(rows), unmatched)
    observations = sides[0].observation, sides[1].observation
    known = [part.diagnostics for part in parts]
    sizes = np.array([len(one) for one, _ in rows], dtype=np.float64)
    stress = [one.stress for one in known if one.stress is not None]
    if known_errors is None:
        known_errors = (
            _over_all(joined, parts, n_threads, inverse=False),
            _over_all(joined, parts, n_threads, inverse=True),
        )
    diagnostics = Diagnostics(
        list(problems),
        float(np.sqrt(np.average([one.landmark_residual**2 for one in known], weights=sizes))),
        (max(one for one, _ in stress), max(other for _, other in stress)) if len(stress) == len(parts) else None,
        None,
        None,
        (near_folds(observations[0]), near_folds(observations[1])),
        expected_error=known_errors[0],
        expected_error_back=known_errors[1],
        wrong_landmarks=left_out[0],
        apart_landmarks=left_out[1],
    )
    scale = float(np.exp(np.average(np.log([part.scale for part in parts]), weights=sizes)))
    return Transformation(joined, [alignment], scale, diagnostics, n_jobs, marks)


def _over_all(joined: ByPieces, parts: list[Transformation], n_threads: int, *, inverse: bool) -> float | None:
    """Relative error over all samples of the side that a direction starts from; None where that of a piece is not known."""
    within = within_pieces(joined, parts, inverse=inverse)
    if within is None:
        return None
    side, source = (1, joined.b) if inverse else (0, joined.a)
    counts = [len(rows[side]) for rows in joined.rows]
    total = sum(counts) * within**2
    for number, rows in enumerate(joined.rows):
        points = source.observation.points[_some(rows[side])]
        total += counts[number] * joined.beside_cuts(number, points, n_threads, inverse=inverse)
    lost = joined.unmatched[side]
    if len(lost):
        missed = joined.predicted_error(source.observation.points[_some(lost)], n_threads, inverse=inverse)
        total += len(lost) * float((missed**2).mean())
    return float(np.sqrt(total / (sum(counts) + len(lost))))


def _some(rows: IntArray) -> IntArray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), COMPARED)).astype(np.int64)]


def within_pieces(joined: ByPieces, parts: list[Transformation], *, inverse: bool) -> float | None:
    """Relative error over the samples in pieces that are matched, each by the map of its own; None where it is not known."""
    side, target = (1, joined.a) if inverse else (0, joined.b)
    known = [(t.diagnostics.expected_error_back if inverse else t.diagnostics.expected_error) for t in parts]
    own = [spread_of((t.a if inverse else t.b).observation.points) for t in parts]
    counts = [len(rows[side]) for rows in joined.rows]
    squares = 0.0
    for one, spread, count in zip(known, own, counts, strict=True):
        if one is None:
            return None
        squares += count * (one * spread) ** 2
    return float(np.sqrt(squares / sum(counts))) / spread_of(target.observation.points)


def _expected_text(names: Names, ways: Ways, within: Ways, why: str) -> str:
    """What the map is expected to be wrong by, and what it is elsewhere than `why` says, if that is much less."""
    a, b = names
    said = [
        f"{percent(way)} from {one} to {other}" for way, one, other in zip(ways, (a, b), (b, a), strict=True) if way
    ]
    text = f"expect errors of about {' and '.join(said)}"
    both = [(way, own) for way, own in zip(ways, within, strict=True) if way is not None and own is not None]
    if any(way > MOSTLY * own for way, own in both):
        rest = " and ".join(percent(own) for _, own in both)
        text += f", with {why or 'samples that may belong to another piece'} ({rest} elsewhere)"
    return text


def _unmatched(
    problem: MatchProblem, posed: InPieces, joined: ByPieces, refused: dict[tuple[int, int], errors.DiffeoError]
) -> list[str]:
    """What of each side is not matched, and why."""
    said = list[str]()
    for side, (name, pieces) in enumerate(zip(problem.names, posed.pieces, strict=True)):
        n, lost = len(joined.a.observation if side == 0 else joined.b.observation), joined.unmatched[side]
        counts = posed.counts if side == 0 else posed.counts.T
        missing = [(k, rows) for k, piece in enumerate(pieces) if len(rows := np.intersect1d(piece, lost))]
        if missing:
            texts = []
            for k, rows in missing:
                why = next((str(error) for pair, error in refused.items() if pair[side] == k), "")
                part = "piece" if len(rows) == len(pieces[k]) else "a part of piece"
                where = f"{part} {k + 1} ({rows_text(rows)}; {percent(len(rows) / n)} of {name})"
                if why:
                    texts.append(f"{where} could not be matched: {why}")
                elif counts[k].max() < posed.needed:
                    texts.append(f"{where} has {counts[k].max()} of the {posed.needed} landmarks it needs")
                else:
                    texts.append(f"{where} has landmarks that contradict those of other pieces, or no counterpart")
            whole = len(pieces) - len(missing)
            said.append(
                f"{whole} of {len(pieces)} pieces of {name}, {percent(1.0 - len(lost) / n)} of its samples, are matched; "
                f"{'; '.join(texts)}: what is measured there is sent nowhere sensible, and named by the transform's warning; "
                "bring landmarks there"
            )
        rest = np.setdiff1d(np.arange(n), np.concatenate(pieces))
        if len(rest) > STRAYS * n:
            said.append(
                f"{percent(len(rest) / n)} of {name}'s samples ({rows_text(rest)}) lie in no large piece, and were left out"
            )
    return said


def _landmarks_left_out(problem: MatchProblem, posed: InPieces) -> list[str]:
    """Landmarks that join pieces in another way than the others."""
    said = list[str]()
    for positions, because in (
        (
            posed.wrong,
            "join pieces that the others join to other ones: check these pairs (diagnostics.wrong_landmarks)",
        ),
        (
            posed.apart,
            "join a piece to another one than those of which the others are more, and need not be wrong "
            "(diagnostics.apart_landmarks)",
        ),
    ):
        if len(positions):
            rows = rows_text(problem.numbered(positions))
            said.append(f"{len(positions)} of {problem.count} landmarks ({rows}) were left out: they {because}")
    return said


def _confused(problem: MatchProblem, joined: ByPieces, numbers: list[tuple[int, int]]) -> list[str]:
    """Whether samples of a piece lie on the manifold of another one: then it cannot be told to which a point belongs."""
    said, n_threads = list[str](), thread_count(problem.n_jobs)
    for side, name in enumerate(problem.names):
        for k, part in enumerate(joined.parts):
            own, rows = (part.a, part.b)[side], joined.rows[k][side]
            points = own.observation.points[some_of(own)]
            for other, there in enumerate(joined.parts):
                if numbers[other][side] == numbers[k][side]:
                    continue
                share = _on(points, (there.a, there.b)[side], n_threads)
                if share > CONFUSED:
                    said.append(
                        f"{percent(share)} of the samples of piece {numbers[k][side] + 1} of {name} ({rows_text(rows)}) lie "
                        f"where piece {numbers[other][side] + 1} has some too: to which a measurement belongs is hardly "
                        f"told there; measure more neurons of {name}"
                    )
    return said


def _on(points: FloatArray, chart: Coordinates, n_threads: int) -> float:
    """Share of measurements (count, m) that lie on the measured manifold of a chart, inside of its sampled domain."""
    return 1.0 - len(chart.place(points, n_threads).outside.off_manifold) / len(points)
