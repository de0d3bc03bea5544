"""A side that folds its domain: whether its landmarks, all of them right, are called wrong, and what error is expected."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from diffeo import Observation, assess, errors, match, relative_error

from bench.truth_maps import Measure, held_inputs, smooth
from bench.verdict_pairs import Measured

# Where a function turns back, as a share of its range; landmarks for each dimension; samples of each side.
TURNS, LANDMARKS, SAMPLES = (0.08, 0.92), (3, 5, 10, 20, 60), (300, 600, 1500)
# A map that is wrong by more must say so.
WRONG = 0.02
# Measurements of the side that keeps its input, and of the folded one: one number, or more than embed it.
MEASURED = {1: (1, 3, 5), 2: (5, 7)}


@dataclass(frozen=True)
class Folded:
    """One match of a side that folds, landmarks, of which some may be wrong, and new pairs."""

    name: str
    sides: tuple[Observation, Observation]
    landmarks: Measured
    new: Measured
    folds_a: bool


@dataclass
class FoldTally:
    """What came out of many of them; a direction is one map."""

    draws: int = 0
    refused: int = 0
    directions: int = 0
    unknown: int = 0
    not_over: int = 0  # true errors at most twice the expected ones
    not_under: int = 0  # expected errors at most five times the true ones
    silent: int = 0
    named: int = 0  # draws with good landmarks that are called wrong
    false: int = 0  # verdicts that the fold is kept
    said: list[str] = field(default_factory=list)

    def add(self, known: Folded) -> None:
        self.draws += 1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                t = match(*known.sides, landmarks=known.landmarks)
                ways = (t.transform(known.new[0]), known.new[1]), (t.inverse_transform(known.new[1]), known.new[0])
                verdict = assess(t, held_out=known.new, baselines=False).verdict
        except errors.DiffeoError as error:
            self.refused += 1
            self.said.append(f"{known.name}: refused ({type(error).__name__})")
            return
        told = t.diagnostics
        true = [relative_error(*way) for way in ways]
        for error, expected in zip(true, (told.expected_error, told.expected_error_back), strict=True):
            self.directions += 1
            self.silent += error > WRONG and not told.problems and (expected is None or expected < 0.5 * error)
            if expected is None:
                self.unknown += 1
                continue
            self.not_over += error <= 2.0 * expected
            self.not_under += expected <= 5.0 * error
        self.named += bool(len(told.wrong_landmarks))
        self.false += verdict in ("equivalent", "a_to_b" if known.folds_a else "b_to_a")
        expected = f"{_told(told.expected_error)}, {_told(told.expected_error_back)}"
        self.said.append(
            f"{known.name}: true {true[0]:.2g}, {true[1]:.2g}, expected {expected}; {t.coordinates}; "
            f"{len(told.wrong_landmarks)} named; {verdict}"
        )


def _told(expected: float | None) -> str:
    return "unknown" if expected is None else f"{expected:.2g}"


def turning(kind: int, at: float, lean: float) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function of [0, 1] that turns back there, and its slope: even, uneven, or with nearly straight arms."""

    def value(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = x - at
        if kind == 0:
            return t**2, 2.0 * t
        if kind == 1:
            return t**2 * (1.0 + lean * t), 2.0 * t + 3.0 * lean * t**2
        # The slope vanishes where tanh does: the lean of the arms is taken out there.
        moved = t + np.arctanh(-0.5 * lean) / 4.0
        return np.logaddexp(4.0 * moved, -4.0 * moved) / 4.0 + 0.5 * lean * moved, np.tanh(4.0 * moved) + 0.5 * lean

    def scaled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = value(np.linspace(0.0, 1.0, 1001))[0]
        size = np.ptp(ends)
        y, slope = value(x)
        return (y - ends.min()) / size, slope / size

    return scaled


def after_turning(outer: Measure, turned: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]) -> Measure:
    """Measurements that see the first input only through the function that turns back."""

    def measure(x: np.ndarray) -> Measured:
        u, slope = turned(x[:, 0])
        y, jacobians = outer(np.column_stack([u, x[:, 1:]]))
        jacobians = jacobians.copy()
        jacobians[:, :, 0] *= slope[:, None]
        return y, jacobians

    return measure


def embedding(d: int, m: int, rng: np.random.Generator) -> Measure:
    """A random smooth network of d inputs; one measurement of one input is a monotone function."""
    if m > 1:
        return smooth(d, m, rng)
    slope, middle = rng.uniform(1.0, 3.0), rng.uniform(0.2, 0.8)

    def measure(x: np.ndarray) -> Measured:
        y = np.tanh(slope * (x - middle)) + 0.3 * x
        return y, (slope * (1.0 - np.tanh(slope * (x - middle)) ** 2) + 0.3)[:, :, None]

    return measure


def folded_map(number: int, seed: int, d: int | None = None) -> Folded:
    """The draw of this number."""
    rng = np.random.default_rng([seed, number, 13])
    d = 1 + number % 2 if d is None else d
    kind, at, lean = number % 3, float(rng.uniform(*TURNS)), float(rng.uniform(-0.6, 0.6))
    n, count = int(rng.choice(SAMPLES)), d * int(rng.choice(LANDMARKS))
    keeps = embedding(d, int(rng.choice(MEASURED[d])), rng)
    folds = after_turning(embedding(d, int(rng.choice(MEASURED[d])), rng), turning(kind, at, lean))
    folds_a = (number // 2) % 2 == 0
    ways = (folds, keeps) if folds_a else (keeps, folds)
    sides = tuple(Observation.from_jacobians(*f(rng.random((n, d))), dim=d) for f in ways)
    marks, held = rng.random((count, d)), held_inputs(d, rng)
    name = f"{number}: d = {d}, n = {n}, {count} landmarks, kind {kind} at {at:.2f} on {'A' if folds_a else 'B'}"
    pairs = [(f(marks)[0], f(held)[0]) for f in ways]
    return Folded(name, (sides[0], sides[1]), (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1]), folds_a)


def folded_sides(draws: int, seed: int) -> FoldTally:
    """Maps of folded sides."""
    tally = FoldTally()
    for number in range(draws):
        tally.add(folded_map(number, seed))
    return tally
