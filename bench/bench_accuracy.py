"""Every accuracy that is promised, beside its target and the baselines, on networks that are trained here.

``python -m bench.bench_accuracy [--quick] [--only NAME,...]`` prints one table; ``--only`` takes names of rows or how
they begin. Targets are those of the full sizes. All seeds are fixed. The exit code is 1 if a row could not be
computed, 0 otherwise: a missed target is shown, not hidden in a code.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffeo import IsometricEmbedding, Observation, errors, match, relative_error
from diffeo.charts.diffusion import diffusion_chart
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit, procrustes_fit
from tqdm import tqdm

from bench.bench_bursts import SCALE, measure_bursts
from bench.bench_isometry import inputs, observe_at
from bench.bench_isometry import relative_error as error_after_motion
from bench.figures import Row, digits, listed, percent
from bench.manifolds import CLOSED, Units, pentagon
from bench.networks import FUNCTIONS, FUNCTIONS_OF_THREE, Draw, Inputs, Pair, draw, spread_landmarks, train_pair
from bench.rows import Rows

BASELINES = {"affine": affine_fit, "Procrustes": procrustes_fit, "Gaussian process": gaussian_process_fit}
PAPER = "the paper's method"
HELD_OUT = 500
# Beyond this relative error a map must come with a problem named.
WRONG = 0.01


@dataclass(frozen=True)
class Size:
    """How much work a run does: sample sizes, draws for each pair, and how many pairs there are."""

    recovered: int
    recovered_cube: int
    recovered_large: int
    matched: int
    matched_cube: int
    closed: int
    draws_closed: int
    draws: int
    draws_suggested: int
    draws_of_landmarks: int
    landmarks: tuple[int, ...]
    pairs: int
    pairs_free: int
    pairs_of_three: int
    training_steps: int


FULL = Size(10_000, 20_000, 100_000, 4000, 6000, 4000, 3, 5, 2, 2, (10, 50, 200), 8, 4, 4, 2000)
QUICK = Size(1500, 1500, 4000, 1500, 1500, 1500, 1, 2, 1, 1, (10, 50), 2, 1, 1, 600)


@dataclass(frozen=True)
class Outcome:
    """One match: held-out relative error (infinite where it is refused), problems, and the errors of the baselines."""

    name: str
    error: float
    problems: tuple[str, ...]
    baselines: dict[str, float]

    @property
    def flagged(self) -> bool:
        return len(self.problems) > 0


def _landmarks_left_out(name: str, size: Size) -> bool:
    return name.startswith("landmarks ") and int(name.split()[1]) not in size.landmarks


row = Rows("bench_accuracy", __doc__, FULL, QUICK, _landmarks_left_out)


def trained(size: Size, functions: Iterable[str], count: int) -> list[Pair]:
    """The first `count` pairs, both architectures of every function."""
    jobs = [(function, variant) for variant in (0, 1) for function in functions]
    return [_pair(*job, size.training_steps) for job in jobs[:count]]


@functools.cache
def _pair(function: str, variant: int, steps: int) -> Pair:
    return train_pair(function, variant, steps)


# --- the input recovered ------------------------------------------------------------------------------------

# Domain of bench_isometry, and the target.
RECOVERED = {
    "square": ("square", 2e-4),
    "strip": ("strip 1 x 0.25", 5e-4),
    "round hole": ("round hole", 5e-4),
    "uneven": ("uneven density", 5e-4),
    "cube": ("cube", 2e-3),
    "large": ("square", 2e-4),
}
LARGE_SECONDS = 30.0


@row(*RECOVERED)
def recovered(name: str, size: Size) -> Row:
    domain, target = RECOVERED[name]
    n = {"cube": size.recovered_cube, "large": size.recovered_large}.get(name, size.recovered)
    x = inputs(domain, n)
    observation = observe_at(x)
    start = time.perf_counter()
    error = error_after_motion(IsometricEmbedding().fit(observation).embedding_, x)
    seconds = time.perf_counter() - start
    in_time = seconds < LARGE_SECONDS or name != "large"
    limit = f"< {percent(target)}" + (f" in {LARGE_SECONDS:.0f} s" if name == "large" else "")
    return Row(
        name,
        f"input recovered, {domain}, {observation.points.shape[1]} measurements, n = {n}",
        f"{percent(error)} in {seconds:.1f} s",
        limit,
        error < target and in_time,
        diffusion_beside(observation, x),
    )


@row("bursts")
def recovered_from_bursts(name: str, size: Size) -> Row:
    x = inputs("square", size.recovered)
    points = observe_at(x).points
    observation = Observation.from_bursts(points, measure_bursts(x, 20, 0.0), scale=SCALE, dim=2)
    error = error_after_motion(IsometricEmbedding().fit(observation).embedding_, x)
    what = f"input recovered, square, bursts of 20, n = {len(x)}"
    return Row(name, what, percent(error), "< 1.5 %", error < 0.015, diffusion_beside(observation, x))


def diffusion_beside(observation: Observation, x: np.ndarray) -> str:
    """What diffusion coordinates make of the same observation, when all inputs are known for the fit."""
    start = time.perf_counter()
    found = diffusion_chart(observation, "A", "auto", 0, None).coordinates
    design = np.column_stack([found, np.ones(len(x))])
    error = relative_error(design @ np.linalg.lstsq(design, x, rcond=None)[0], x)
    return f"diffusion coordinates, affine fit to all inputs: {percent(error)} in {time.perf_counter() - start:.1f} s"


# --- two networks -------------------------------------------------------------------------------------------


def attempt(one: Draw, landmarks: np.ndarray, held_out: np.ndarray) -> Outcome:
    """Match two observations by landmarks at common inputs, and the opponents by the same landmarks."""
    marks, (y_a, y_b) = one.pairs(landmarks), one.pairs(held_out)
    found = {name: relative_error(fit(*marks)(y_a), y_b) for name, fit in BASELINES.items()}
    if one.bursts is not None:
        found[PAPER] = matched(one.bursts, y_a, y_b, landmarks=marks, coordinates="diffusion")[0]
    error, problems = matched((one.a, one.b), y_a, y_b, landmarks=marks)
    return Outcome(one.name, error, problems, found)


def matched(
    sides: tuple[Observation, Observation], y_a: np.ndarray, y_b: np.ndarray, **arguments: Any
) -> tuple[float, tuple[str, ...]]:
    """Held-out relative error and problems; a refusal is an infinite error and a problem."""
    try:
        found = match(*sides, **arguments)
        return relative_error(found.transform(y_a), y_b), tuple(found.diagnostics.problems)
    except errors.DiffeoError as error:
        return np.inf, (f"refused: {error}",)


def held_out(pair: Pair, seed: int, inputs: Inputs | None = None) -> np.ndarray:
    return (inputs or pair.inputs)(HELD_OUT, np.random.default_rng([seed, 2, *pair.name.encode()]))


@functools.cache
def draws(size: Size, *, suggested: bool) -> list[Outcome]:
    """Three landmarks; random neurons come with all opponents."""
    found = []
    count = size.draws_suggested if suggested else size.draws
    jobs = [(pair, seed) for pair in trained(size, FUNCTIONS, size.pairs) for seed in range(count)]
    for pair, seed in tqdm(jobs, desc="draws", leave=False, disable=None):
        one = draw(pair, seed, size.matched, suggested=suggested, bursts=not suggested)
        found.append(attempt(one, spread_landmarks(pair, seed, 3), held_out(pair, seed)))
    return found


def medians(outcomes: Sequence[Outcome]) -> dict[str, float]:
    return {name: float(np.median([one.baselines[name] for one in outcomes])) for name in outcomes[0].baselines}


def with_flags(error: float, outcomes: Sequence[Outcome]) -> str:
    """The error, and how many of the draws came with a problem named, if any did."""
    count = sum(one.flagged for one in outcomes)
    return percent(error) + (f", {count} flagged" if count else "")


def above(values: Iterable[float]) -> int:
    return sum(value > WRONG for value in values)


@row("random median")
def random_median(name: str, size: Size) -> Row:
    outcomes = draws(size, suggested=False)
    error = float(np.median([one.error for one in outcomes]))
    what = f"two networks, 5 random neurons each, 3 landmarks, {len(outcomes)} draws: median error"
    return Row(name, what, percent(error), "< 0.1 %", error < 1e-3, listed(medians(outcomes)))


@row("random silent")
def random_silent(name: str, size: Size) -> Row:
    outcomes = draws(size, suggested=False)
    silent = [one.error for one in outcomes if not one.flagged]
    count = above(silent)
    wrong = {key: above(one.baselines[key] for one in outcomes) for key in outcomes[0].baselines}
    beside = f"worst without a problem named {percent(max(silent, default=0.0))}; above 1 %: diffeo "
    beside += f"{above(one.error for one in outcomes)}, " + ", ".join(f"{key} {value}" for key, value in wrong.items())
    beside += "".join(
        f"\n{one.name}: {percent(one.error)}" for one in outcomes if one.error > WRONG and not one.flagged
    )
    return Row(name, "  of which above 1 % and no problem named", str(count), "0", count == 0, beside)


@row("random flagged")
def random_flagged(name: str, size: Size) -> Row:
    outcomes = draws(size, suggested=False)
    flagged = [one.error for one in outcomes if one.flagged]
    share = len(flagged) / len(outcomes)
    beside = f"their errors: {', '.join(percent(error) for error in sorted(flagged))}" if flagged else ""
    return Row(name, "  of which with a problem named", percent(share), "<= 20 %", share <= 0.2, beside)


@row("suggested")
def suggested_neurons(name: str, size: Size) -> Row:
    outcomes = draws(size, suggested=True)
    worst, flagged = max(one.error for one in outcomes), sum(one.flagged for one in outcomes)
    what = f"the same with suggest_neurons, {len(outcomes)} draws: worst error, problems named"
    target = "< 0.5 %, 0"
    return Row(
        name, what, f"{percent(worst)}, {flagged}", target, worst < 5e-3 and flagged == 0, listed(medians(outcomes))
    )


@row("landmarks 10", "landmarks 50", "landmarks 200")
def more_landmarks(name: str, size: Size) -> Row:
    count = int(name.split()[1])
    jobs = [(pair, seed) for pair in trained(size, FUNCTIONS, size.pairs) for seed in range(size.draws_of_landmarks)]
    outcomes = []
    for pair, seed in tqdm(jobs, desc=name, leave=False, disable=None):
        one = draw(pair, seed, size.matched)
        outcomes.append(attempt(one, spread_landmarks(pair, seed, count), held_out(pair, seed)))
    ratios = [one.error / min(one.baselines.values()) for one in outcomes]
    middle, worst = float(np.median(ratios)), max(ratios)
    error = float(np.median([one.error for one in outcomes]))
    what = f"{count} landmarks, {len(outcomes)} draws: error over the best baseline's, median and worst"
    beside = f"medians: diffeo {percent(error)}, {listed(medians(outcomes))}"
    return Row(name, what, f"{digits(middle)}, {digits(worst)}", "<= 1, <= 1.2", middle <= 1.0 and worst <= 1.2, beside)


# --- closed and curved domains ------------------------------------------------------------------------------

# Landmarks, and the target.
CLOSED_TARGETS = {"circle": (3, 5e-3), "flat torus": (4, 5e-3), "sphere": (4, 1e-2)}


@row(*CLOSED_TARGETS)
def closed(name: str, size: Size) -> Row:
    n_landmarks, target = CLOSED_TARGETS[name]
    outcomes = [closed_outcome(name, size.closed, n_landmarks, seed) for seed in range(size.draws_closed)]
    worst = max(one.error for one in outcomes)
    what = f"{name}, {n_landmarks} landmarks, n = {size.closed}, {len(outcomes)} draws of {CLOSED[name][1]} measurements: worst"
    value, beside = with_flags(worst, outcomes), f"medians: {listed(medians(outcomes))}"
    return Row(name, what, value, f"< {percent(target)}", worst < target, beside)


def closed_outcome(name: str, n: int, n_landmarks: int, seed: int) -> Outcome:
    """One draw of unrelated measurements on both sides."""
    sample, n_units = CLOSED[name]
    rng = np.random.default_rng([seed, 3, *name.encode()])
    marks, new = sample(n_landmarks, rng), sample(HELD_OUT, rng)
    units = [Units.random(n_units, marks.points.shape[1], rng) for _ in "AB"]
    a, b = (unit.observe(sample(n, rng), rng) for unit in units)
    landmarks = (units[0](marks.points), units[1](marks.points))
    y_a, y_b = units[0](new.points), units[1](new.points)
    found = {key: relative_error(fit(*landmarks)(y_a), y_b) for key, fit in BASELINES.items()}
    found["diffusion coordinates"], _ = matched((a, b), y_a, y_b, landmarks=landmarks, coordinates="diffusion")
    error, problems = matched((a, b), y_a, y_b, landmarks=landmarks)
    return Outcome(f"{name} seed {seed}", error, problems, found)


# --- no landmarks -------------------------------------------------------------------------------------------


def free_draw(pair: Pair, size: Size, *, on_pentagon: bool) -> tuple[Draw, np.ndarray, np.ndarray]:
    """Suggested neurons, held-out inputs, and three landmarks for comparison."""
    sample = pentagon if on_pentagon else pair.inputs
    one = draw(pair, 0, size.matched, suggested=True, inputs=sample)
    return one, held_out(pair, 0, sample), spread_landmarks(pair, 0, 3, sample)


@row("free shape", "free observable")
def landmark_free(name: str, size: Size) -> Row:
    import torch

    found, how = [], "shape alone" if name == "free shape" else "a quantity that both report"
    for pair in tqdm(trained(size, FUNCTIONS, size.pairs_free), desc=name, leave=False, disable=None):
        one, new, marks = free_draw(pair, size, on_pentagon=True)
        observables = None
        if name == "free observable":
            function = FUNCTIONS[pair.name.rpartition("-")[0]]
            observables = tuple(function(torch.as_tensor(x)).numpy()[:, None] for x in one.inputs)
        y_a, y_b = one.pairs(new)
        error, problems = matched((one.a, one.b), y_a, y_b, observables=observables)
        by_landmarks, _ = matched((one.a, one.b), y_a, y_b, landmarks=one.pairs(marks))
        found.append(Outcome(one.name, error, problems, {"3 landmarks": by_landmarks}))
    worst = max(one.error for one in found)
    by_landmarks = max(one.baselines["3 landmarks"] for one in found)
    what = f"no landmarks, pentagon without symmetry, {how}, {len(found)} draws: worst"
    beside = f"worst with 3 landmarks {percent(by_landmarks)}"
    return Row(name, what, with_flags(worst, found), "< 0.1 %", worst < 1e-3, beside)


@row("free square")
def landmark_free_square(name: str, size: Size) -> Row:
    one, new, _ = free_draw(trained(size, FUNCTIONS, 1)[0], size, on_pentagon=False)
    y_a, y_b = one.pairs(new)
    found = match(one.a, one.b)
    candidates = [getattr(candidate, "name", "") for candidate in found.candidates]
    maps = [found.by_candidate(number) for number in range(len(found.candidates))]
    accuracies = sorted(relative_error(candidate.transform(y_a), y_b) for candidate in maps)
    distinct = len({text for text in candidates if text})
    beside = f"error of the right one {percent(accuracies[0])}, of the next {percent(accuracies[1])}; "
    beside += "; ".join(candidates)
    value = f"{len(candidates)} candidates, {distinct} names"
    ok = len(candidates) == distinct == 8 and bool(found.diagnostics.problems)
    return Row(name, "no landmarks, square: candidates, named", value, "8, 8", ok, beside)


# --- three inputs -------------------------------------------------------------------------------------------


@row("three suggested", "three random")
def three_inputs(name: str, size: Size) -> Row:
    suggested = name == "three suggested"
    outcomes = []
    for pair in tqdm(trained(size, FUNCTIONS_OF_THREE, size.pairs_of_three), desc=name, leave=False, disable=None):
        one = draw(pair, 0, size.matched_cube, suggested=suggested)
        outcomes.append(attempt(one, spread_landmarks(pair, 0, 4), held_out(pair, 0)))
    silent = [one.error for one in outcomes if not one.flagged]
    middle, worst = float(np.median([one.error for one in outcomes])), max(silent, default=0.0)
    flagged = sum(one.flagged for one in outcomes)
    what = f"three inputs, 7 {name.split()[1]} neurons, 4 landmarks, {len(outcomes)} draws: median, worst unflagged, flagged"
    value = f"{percent(middle)}, {percent(worst)}, {flagged}"
    return Row(name, what, value, "< 1 %", middle < 0.01 and worst < 0.01, listed(medians(outcomes)))


if __name__ == "__main__":
    sys.exit(row.main())
