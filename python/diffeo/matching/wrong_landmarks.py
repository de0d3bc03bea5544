"""Landmarks that the others contradict, found before anything is fitted to them, named by row, and left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent, rows_text
from diffeo.alignment.robust import NEIGHBORS, Consensus, contradicted, diffusion_consensus, motion_consensus, unrelated
from diffeo.charts.isometric import IsometricChart
from diffeo.isometry.periods import nearest_zero
from diffeo.isometry.trust import OVERLAPPING, doubt_of_stress, is_suspicious
from diffeo.matching.diagnostics import Diagnostics, many_without, without_counterpart
from diffeo.matching.expected_error import spread_of
from diffeo.matching.gaussian_process import SEARCHED, explained, fit_process, kernel_factor, sections
from diffeo.matching.pairs import Pairs
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation
from diffeo.observation.folds import many_near_folds, near_folds

# Samples of one domain, drawn alike, have main axes that agree within this share.
SAME_AXES = 0.15
# Layouts of few samples are wrong by so many times what interpolation between these misses.
COARSE = 4.0
# Error to suspect of diffusion coordinates, relative to their spread.
DIFFUSION_DOUBT = 0.1
# Landmarks around each, itself among them, whose median tells which are alike; fits of a process at most; and by how many of
# its own standard deviations it may miss landmarks that it takes up.
AROUND, STEPS, UNEXPECTED = 7, 8, 3.5
# Landmarks by which the scales of a process are sought, for a part of the samples.
SEARCHED_OF_PART = 100
# A landmark is wrong only if the last of them misses it by so many.
CERTAIN = 8.0
# Landmarks that a map learned from pairs alone needs at least for any to be judged.
FEWEST_JUDGED = 12
# Relative error, in the median, up to which a map carries landmarks; and that below which none is contradicted.
CARRIED, LEAST_MISS = 0.1, 0.1
# Above this in the median, after a second fit, a map is none.
HOPELESS = 0.3
# More than this share of the pairs cannot be told from a map that is no function.
MOST_WRONG = 0.4
# Where a part of a side has no counterpart, a landmark that contradicts the others is not called wrong unless it is nearer to
# the other side's samples than so many of these are to each other: a wrong one then only makes the expected error larger.
MOST = 0.8
# ... and what it misses is explained by how far it is from these: a fold lays it on its mirror image, twice as far away as the
# nearest sample; here twice that counts.
FOLDED = 4.0
# A layout that misses the lengths around a landmark by more than this share may be what is wrong there.
STRAINED = 0.02
# A landmark without a place that the map misses by no more than this, both ways, is not wrong, and shows no fold: in maps that
# are right to a fraction of a percent, the worst of a hundred rows were missed by a percent or two.
NEITHER_WRONG_NOR_FOLDED = 0.05
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Sifted:
    """A problem without the landmarks that the others contradict; their rows among those given; and what is said of them.

    `apart` are the rows of those that were left out as well, and need not be wrong; `reasons` what that may be the reason of.
    """

    problem: MatchProblem
    wrong: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    said: list[str] = field(default_factory=list)
    apart: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    reasons: list[str] = field(default_factory=list)

    @property
    def landmarks(self) -> Pairs:
        """Those that are left; LandmarkError where there were none."""
        if self.problem.landmarks is None:
            raise errors.LandmarkError("maps cannot be learned without landmarks")
        return self.problem.landmarks

    def noted(self, diagnostics: Diagnostics) -> Diagnostics:
        """The diagnostics with these landmarks in them."""
        if not self.said and not self.reasons:
            return diagnostics
        wrong = np.union1d(self.wrong, diagnostics.wrong_landmarks)
        problems = [*self.said, *diagnostics.problems]
        reasons = [*self.reasons, *diagnostics.reasons]
        return replace(
            diagnostics, problems=problems, reasons=reasons, wrong_landmarks=wrong, apart_landmarks=self.apart
        )


def by_motion(problem: MatchProblem, a: IsometricChart, b: IsometricChart) -> Sifted:
    """Without the landmarks that miss the rigid motion on which most agree.

    Those of them are wrong by themselves whose ends both lie among samples of the other side, as that motion has them. Where
    many samples of a side have no counterpart, and a landmark lies among these, nothing vouches for the motion there.

    Raises
    ------
    UnrelatedLandmarksError
        Fewer than half agree, and nothing but another order of their rows explains it: both sides have good coordinates of
        domains alike, and what is near on one is anywhere on the other.
    """
    closed = bool(len(a.embedding.periods_) or len(b.embedding.periods_))
    if problem.landmarks is None or (closed and not problem.invertible):
        return Sifted(problem)
    at_a, at_b = problem.located(a, b)
    samples = b.coordinates[b.used]
    size = float(np.sqrt(samples.var(axis=0).sum()))
    doubt = max(
        doubt_of_stress(a.embedding.stress_, b.embedding.stress_),
        float(np.concatenate([a.embedding.looseness_, b.embedding.looseness_, [0.0]]).max()),
        COARSE * max(a.coarseness(problem.n_threads), b.coarseness(problem.n_threads)),
    )

    def agreement(there: FloatArray) -> Consensus:
        return motion_consensus(
            at_a, there, a.embedding.periods_, b.embedding.periods_,
            size=size, doubt=doubt, known_unit=problem.known_unit, seed=problem.random_state,
        )  # fmt: skip

    found = agreement(at_b)
    if not found.found and _same_domain(a, b, problem.known_unit) and unrelated(at_a, at_b):
        raise errors.UnrelatedLandmarksError(_unrelated_text(problem, found, agreement, at_b))
    if not found.found:
        return by_neighbors(problem)
    apart = found.wrong[_beyond(a, b, found, (at_a[found.wrong], at_b[found.wrong]))]
    wrong = np.setdiff1d(found.wrong, apart)
    strained = wrong[:0]
    if len(wrong) and (neighbors := _by_neighbors(problem)) is not None:
        # Where a layout does not keep lengths, it may be the motion that is off: the landmarks around are asked as well.
        strained = wrong[(_strained(a, at_a[wrong]) | _strained(b, at_b[wrong])) & ~neighbors[wrong]]
        wrong = np.setdiff1d(wrong, strained)
    sifted = _without(problem, wrong, "no motion that most of them agree on carries them to their partners")
    if not len(apart) and not len(strained):
        return sifted
    said = [_apart_text(problem, problem.numbered(apart)), *sifted.said] if len(apart) else sifted.said
    reasons = [_strained_text(problem, problem.numbered(strained))] if len(strained) else []
    rows = problem.numbered(np.union1d(apart, strained))
    return Sifted(problem.without(found.wrong), sifted.wrong, said, rows, reasons)


def by_diffusion_coordinates(problem: MatchProblem, located: tuple[FloatArray, FloatArray]) -> Sifted:
    """Without the landmarks that miss the orthogonal map of diffusion coordinates on which most agree."""
    found = diffusion_consensus(*located, doubt=DIFFUSION_DOUBT, seed=problem.random_state)
    return _without(problem, found.wrong, "no orthogonal map that most of them agree on carries them to their partners")


def by_neighbors(problem: MatchProblem) -> Sifted:
    """Without the landmarks that those next to them contradict, on A and on B: for maps learned from landmarks alone."""
    wrong = _by_neighbors(problem)
    if wrong is None:
        return Sifted(problem)
    return _without(
        problem, np.flatnonzero(wrong), "those next to them on both sides agree with one another, and not with them"
    )


def _by_neighbors(problem: MatchProblem) -> NDArray[np.bool_] | None:
    """Which landmarks those next to them contradict (L,), on A and on B; None where these cannot tell."""
    if problem.landmarks is None or problem.count < max(FEWEST_JUDGED, 2 * NEIGHBORS):
        return None
    y_a, y_b = (
        (x - x.mean(axis=0)) / max(float(np.linalg.norm(x.std(axis=0))), TINY) for x in problem.landmarks.points
    )
    # What the whole map takes for wrong is out of its parts already: scales need only be about those of the whole.
    searched = SEARCHED_OF_PART if problem.is_half else SEARCHED
    judged = [_missed(y_a, y_b, searched)]
    if problem.invertible:
        judged.append(_missed(y_b, y_a, searched))
    # A way that is no function contradicts nothing.
    judged = [one for one in judged if np.median(one.missed) <= CARRIED]
    if not judged:
        return None
    wrong = contradicted(y_a, y_b, [one.missed for one in judged], LEAST_MISS)
    for one in judged:
        wrong &= one.unexpected > CERTAIN
    return wrong


def _strained(side: IsometricChart, at: FloatArray) -> NDArray[np.bool_]:
    """At which coordinates (count, d) the layout of a side misses the lengths around by more than a share."""
    rows = side.used
    nodes = side.features(side.coordinates[rows])
    k = min(len(rows), nodes.shape[1] + 2)
    near = PointTree(nodes).query(side.features(at), k, workers=workers())[1].reshape(len(at), k)
    strained: NDArray[np.bool_] = np.sqrt((side.embedding.misfit_[rows][near] ** 2).mean(axis=1)) > STRAINED
    return strained


class _Judged(NamedTuple):
    """By how much a map misses each landmark that it does not know, (L,), and that in its own standard deviations."""

    missed: FloatArray
    unexpected: FloatArray


def _missed(inputs: FloatArray, targets: FloatArray, searched: int) -> _Judged:
    """By how much a process misses each landmark (L,) that it does not know, and knows none that the others contradict.

    It starts from the landmarks that are most like those next to them, because a few wrong ones make it expect little of all;
    takes up those that it misses by no more than it expects, and gives up those that it misses by far more, until nothing
    changes (concentration steps: Rousseeuw and Van Driessen 1999). Landmarks that it knows are left out one by one.
    """
    count = len(targets)
    near = PointTree(inputs).query(inputs, min(AROUND, count), workers=workers())[1]
    unlike = np.linalg.norm(targets - np.median(targets[near], axis=1), axis=1)
    fewest = int(np.ceil((1.0 - MOST_WRONG) * count))
    used = np.zeros(count, dtype=bool)
    used[np.argsort(unlike, kind="stable")[:fewest]] = True
    for left in reversed(range(STEPS)):
        judged = _by_process(inputs, targets, used, searched)
        taken = judged.unexpected <= UNEXPECTED
        if taken.sum() < fewest:
            taken[np.argsort(judged.unexpected, kind="stable")[:fewest]] = True
        # A way that is no function contradicts nothing: no better fit is to be expected.
        lost = left < STEPS - 1 and np.median(judged.missed) > HOPELESS
        if not left or lost or (taken == used).all():
            break
        used = taken
    return judged


def _by_process(inputs: FloatArray, targets: FloatArray, used: NDArray[np.bool_], searched: int) -> _Judged:
    """What a process of the landmarks that are `used` (L,) misses: of these each left out, of the others as they are."""
    fitted = fit_process(np.ascontiguousarray(inputs[used]), targets[used], searched)
    missed, variances = fitted.left_out()
    sizes, deviations = np.empty(len(targets)), np.empty(len(targets))
    sizes[used], deviations[used] = np.linalg.norm(missed, axis=1), np.sqrt(variances.sum(axis=1))
    rest = ~used
    kernel = sections(np.ascontiguousarray(inputs[rest]), fitted.inputs, fitted.inverse_scales, fitted.amplitude)
    factor = kernel_factor(fitted.inputs, fitted.inverse_scales, fitted.amplitude, fitted.noise)
    variance = fitted.noise + np.maximum(fitted.amplitude - explained(factor, kernel), 0.0)
    sizes[rest] = np.linalg.norm(fitted.offset + kernel @ fitted.dual - targets[rest], axis=1)
    deviations[rest] = np.sqrt(variance) * np.linalg.norm(fitted.spread)
    return _Judged(sizes, sizes / np.maximum(deviations, TINY))


def _beyond(
    a: IsometricChart, b: IsometricChart, found: Consensus, located: tuple[FloatArray, FloatArray]
) -> NDArray[np.bool_]:
    """Which landmarks, located on A and on B, lie among many samples of a side to which a motion brings none of the other."""
    beyond = np.zeros(len(located[0]), dtype=bool)
    if found.motion is None or not len(beyond):
        return beyond
    linear, shift = found.motion
    periods = b.embedding.periods_
    missed = np.linalg.norm(nearest_zero(located[0] @ linear + shift - located[1], periods), axis=1)
    moved, marks = (b.wrapped(x @ linear + shift) for x in (a.coordinates[a.used], located[0]))
    own = b.coordinates[b.used]
    for samples, ends, there in ((own, located[1], moved), (moved, marks, own)):
        if many_without(without_counterpart(samples, there), samples, there):
            beyond[without_counterpart(ends, there, MOST)] = True
            beyond |= missed <= FOLDED * PointTree(there).query(ends, workers=workers())[0]
    return beyond


def _apart_text(problem: MatchProblem, rows: IntArray) -> str:
    a, b = problem.names
    return (
        f"{len(rows)} of {problem.count} landmarks ({rows_text(rows)}) do not fit the motion on which the others agree, but "
        f"need not be wrong: it brings no samples of one side to where they lie on the other, so that {a} or {b} folds, or is "
        "torn, and there is not one change of coordinates, or the inputs fill different domains; they were left out of the "
        "motion (diagnostics.apart_landmarks), and count in the expected error"
    )


def _strained_text(problem: MatchProblem, rows: IntArray) -> str:
    return (
        f"{len(rows)} of {problem.count} landmarks ({rows_text(rows)}) lie where the coordinates do not keep local lengths, "
        "and do not fit the motion on which the others agree, but those next to them do not contradict them: they were left "
        "out of the motion (diagnostics.apart_landmarks), and count in the expected error"
    )


def _without(problem: MatchProblem, positions: IntArray, because: str) -> Sifted:
    if not len(positions):
        return Sifted(problem)
    rows = problem.numbered(positions)
    said = (
        f"{len(rows)} of {problem.count} landmarks ({rows_text(rows)}) contradict the others, and were left out: {because}; "
        "check these pairs (all are in diagnostics.wrong_landmarks)"
    )
    return Sifted(problem.without(positions), rows, [said])


def _same_domain(a: IsometricChart, b: IsometricChart, known_unit: bool) -> bool:
    """Whether both sides have good coordinates, of samples of one size and shape."""
    for side in (a, b):
        fitted, observation = side.embedding, side.observation
        if is_suspicious(fitted.stress_, observation.length_noise) or fitted.overlap_ > OVERLAPPING:
            return False
        if many_near_folds(len(near_folds(observation)), len(observation)) or len(fitted.looseness_):
            return False
    if a.observation.dim != b.observation.dim or len(a.embedding.periods_) or len(b.embedding.periods_):
        return False
    axes = [np.linalg.svd(side.coordinates[side.used] - side.coordinates[side.used].mean(axis=0), compute_uv=False)
            / np.sqrt(len(side.used)) for side in (a, b)]  # fmt: skip
    if not known_unit:
        axes = [one / np.linalg.norm(one) for one in axes]
    return bool(np.abs(np.log(axes[0] / axes[1])).max() <= SAME_AXES)


def _unrelated_text(
    problem: MatchProblem, found: Consensus, agreement: Callable[[FloatArray], Consensus], at_b: FloatArray
) -> str:
    """What is wrong with the rows, and by how much they are shifted, if that is it."""
    one, other = problem.names
    text = (
        f"no motion carries more than {percent(found.agreeing)} of the {problem.count} landmarks to their partners, although "
        f"{one} and {other} have coordinates of domains alike, and landmarks next to each other on {one} are as far apart on "
        f"{other} as any two: are the rows of one side shifted, or in another order?"
    )
    for shift in (1, -1):
        if agreement(np.roll(at_b, shift, axis=0)).found:
            return f"{text} With those of {other} moved by {abs(shift)} {'down' if shift > 0 else 'up'} most agree"
    return f"{text} Identifiers tell (diffeo.Pairs(..., ids_a=..., ids_b=...))"


def are_sent_right(problem: MatchProblem, t: Transformation, rows: IntArray) -> bool:
    """Whether the map misses none of these landmarks, of which it knows nothing, by more than a few percent, both ways."""
    return all(
        np.sqrt(squares.max(initial=0.0)) <= NEITHER_WRONG_NOR_FOLDED for squares in squares_away(problem, t, rows)
    )


def squares_away(problem: MatchProblem, t: Transformation, rows: IntArray) -> list[FloatArray]:
    """By how much landmarks are missed, squared and relative to the spread of the side they are sent to, on each way."""
    sides = (t.b, t.a)
    return [
        (found**2).sum(axis=1) / max(spread_of(side.observation.points), TINY) ** 2
        for found, side in zip(away(problem, t, rows), sides, strict=False)
    ]


def away(problem: MatchProblem, t: Transformation, rows: IntArray) -> list[FloatArray]:
    """From where landmarks are to where they are sent, forward and, where there is a way back, backward."""
    if problem.landmarks is None:
        return []
    at_a, at_b = (points[rows] for points in problem.landmarks.points)
    # That they lie outside is what is asked.
    with errors.unsaid(errors.OutOfDomainWarning):
        found = [t.sent(at_a).values - at_b]
        if t.invertible:
            found.append(t.sent_back(at_b).values - at_a)
    return found
