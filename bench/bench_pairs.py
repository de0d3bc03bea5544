"""Maps learned from pairs that carry derivatives, against regressions on their values.

``python -m bench.bench_pairs [--quick] [--only NAME,...]``; results are kept in ``bench/results/pairs.txt``. Errors are those
of new inputs, relative to the spread of the side that is mapped to. All seeds are fixed.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffeo
import numpy as np
from diffeo import Pairs, Transformation

from bench.figures import Row, digits, listed, percent
from bench.networks import FUNCTIONS, draw, spread_landmarks, train_pair
from bench.pair_networks import Measure, convolutional, pictures, rectified, steep, transformer
from bench.pair_opponents import opponents
from bench.rows import Clock, Rows
from bench.verdict_pairs import LostPair, folded_domain, ignored_input, other_level_sets

# Errors below this count as equal.
EQUAL = 1e-7
DEGREES, SHARE = 10.0, 0.1
# The share of rows whose errors are more than four times the expected one, at most.
BEYOND = 0.02


@dataclass(frozen=True)
class Size:
    """Share of the pairs, draws of a row, new inputs, losses of each kind, steps of training, pairs matched by landmarks."""

    share: float
    draws: int
    draws_of_many: int
    new: int
    losses: int
    steps: int
    framed: int

    def pairs(self, n: int) -> int:
        """How many instead of n."""
        return max(100, int(self.share * n))


row = Rows("bench_pairs", __doc__, Size(1.0, 10, 3, 1000, 20, 600, 8), Size(0.03, 1, 1, 200, 2, 60, 1))


@dataclass(frozen=True)
class Judged:
    """Errors of one direction at new inputs: of the map, of its rows, and of what it expected; and of opponents."""

    error: float
    median: float
    correlation: float
    beyond: float
    others: dict[str, float]
    others_median: float

    @property
    def ratio(self) -> float:
        """Over the best opponent's."""
        return max(self.error, EQUAL) / max(min(self.others.values(), default=np.inf), EQUAL)


def learned(pairs: Pairs) -> Transformation:
    """From all pairs but twenty."""
    return diffeo.match_pairs(pairs[:-20], pairs[-20:])


def judged(t: Transformation, new: tuple[np.ndarray, np.ndarray], inverse: bool, against: dict[str, Any]) -> Judged:
    source, target = new[::-1] if inverse else new
    predicted = (t.inverse_transform if inverse else t.transform)(source)
    rows = np.linalg.norm(predicted - target, axis=1)
    spread = float(np.sqrt(((target - target.mean(axis=0)) ** 2).sum(axis=1).mean()))
    expected = t.predicted_error(source, inverse=inverse) * spread
    others, medians = {}, [np.inf]
    if t.landmarks is not None:
        at = t.landmarks[::-1] if inverse else t.landmarks
        for name, fit in against.items():
            missed = fit(*at)(source) - target
            others[name] = float(np.linalg.norm(missed)) / (spread * np.sqrt(len(missed)))
            medians.append(float(np.median(np.linalg.norm(missed, axis=1))) / spread)
    tiny = np.finfo(float).tiny
    correlation = np.corrcoef(np.log(rows + tiny), np.log(expected + tiny))[0, 1]
    return Judged(
        float(np.sqrt((rows**2).mean())) / spread,
        float(np.median(rows)) / spread,
        float(correlation),
        float((rows > np.maximum(4.0 * expected, EQUAL * spread)).mean()),
        others,
        min(medians),
    )


def common(a: Measure, b: Measure, x: np.ndarray) -> Pairs:
    (ya, ja), (yb, jb) = a(x), b(x)
    return Pairs(ya, yb, ja, jb)


def rule(found: list[Judged]) -> str:
    """How expected errors do: correlation of the logarithms, and rows beyond four times."""
    correlation = float(np.median([one.correlation for one in found]))
    beyond = float(np.mean([one.beyond for one in found]))
    return f"expected errors: log correlation {correlation:.2f}, beyond 4 times {percent(beyond)} (2 %)"


def expected_well(found: list[Judged]) -> bool:
    """Whether errors are as expected in nearly all rows."""
    return float(np.mean([one.beyond for one in found])) <= BEYOND


# --- smooth -------------------------------------------------------------------------------------------------

SMOOTH = {"smooth d=2": (2, 2000, 1e-6), "smooth d=3": (3, 4000, 1e-5), "smooth d=5": (5, 20000, None)}


@row(*SMOOTH)
def smooth(name: str, size: Size) -> Row:
    """A smooth map of d dimensions."""
    d, n, target = SMOOTH[name]
    a, b, rng = steep(d, 12, 1, 0.0), steep(d, 16, 2, 0.0), np.random.default_rng(0)
    t = learned(common(a, b, rng.random((size.pairs(n) + 20, d))))
    x = rng.random((size.new, d))
    found = judged(t, (a(x)[0], b(x)[0]), False, opponents(size.pairs(n), with_perceptron=d < 5))
    reached = found.error <= target if target else 3.0 * found.error <= min(found.others.values())
    return Row(
        name,
        f"{size.pairs(n)} pairs, new inputs, error from A to B",
        digits(found.error),
        digits(target) if target else "a third of the best opponent's",
        reached and expected_well([found]),
        f"median row {digits(found.median)}; {listed(found.others)}; {rule([found])}",
    )


# --- cliffs -------------------------------------------------------------------------------------------------

CLIFFS = {f"cliffs d={d} n={n}": (d, n) for n in (300, 3000, 30000) for d in (1, 2, 3)}


@row(*CLIFFS)
def cliffs(name: str, size: Size) -> Row:
    """Walls of slope 15 to 60 on A, on B, or on both at different places; of most pairs one draw, of both."""
    d, n = CLIFFS[name]
    found = []
    draws = range(size.draws) if n <= 1000 else range(size.draws_of_many) if n <= 10000 else [2]
    for seed in draws:
        rng = np.random.default_rng(seed)
        slopes = rng.uniform(15.0, 60.0, 2) * ((1, 0), (0, 1), (1, 1))[seed % 3]
        a, b = (steep(d, m, 2 * seed + k, slopes[k]) for k, m in enumerate((12, 16)))
        t = learned(common(a, b, rng.random((size.pairs(n) + 20, d))))
        x = rng.random((size.new, d))
        found.append(judged(t, (a(x)[0], b(x)[0]), False, opponents(size.pairs(n))))
    ratios = np.array([one.ratio for one in found])
    medians = [one.others_median / max(one.median, 1e-16) for one in found]
    mean, worst = float(np.exp(np.log(ratios).mean())), float(ratios.max())
    best = [min(one.others, key=one.others.__getitem__) for one in found]
    return Row(
        name,
        f"{len(found)} draws, error over the best opponent's: geometric mean, worst; median rows, times better (least)",
        f"{digits(mean)}, {digits(worst)}; {digits(min(medians))}",
        "1, 1.5; 5",
        mean <= 1.0 and worst <= 1.5 and min(medians) >= 5.0 and expected_well(found),
        f"errors {', '.join(digits(one.error) for one in found)}\nbest opponents' "
        f"{', '.join(digits(min(one.others.values())) for one in found)} ({', '.join(sorted(set(best)))}); {rule(found)}",
    )


# --- networks that people have ------------------------------------------------------------------------------


def network_row(name: str, what: str, pairs: Pairs, limit: float | None, size: Size) -> Row:
    """Both ways between two networks, by pairs of which new ones are kept apart."""
    new, given = pairs[: size.new], pairs[size.new :]
    start = time.perf_counter()
    t = learned(given)
    report = diffeo.assess(t, new, baselines=False)
    seconds = time.perf_counter() - start
    found = [judged(t, new.points, inverse, opponents(len(given))) for inverse in (False, True)]
    errors = [one.error for one in found]
    well = all(e <= limit for e in errors) if limit else all(one.ratio <= 1.0 for one in found)
    return Row(
        name,
        f"{what}, {len(given)} pairs, error A to B, B to A; verdict at 5 %",
        f"{percent(errors[0])}, {percent(errors[1])}; {report.verdict}",
        f"{percent(limit)}; equivalent" if limit else "the best opponent's; equivalent",
        well and report.verdict == "equivalent" and expected_well(found),
        f"A to B: {listed(found[0].others)}\nB to A: {listed(found[1].others)}\n{rule(found)}; {seconds:.1f} s",
    )


@row("convolutional networks")
def convolutions(name: str, size: Size) -> Row:
    """Two networks with rectifiers, max pooling and batch norm on turned and zoomed digits, along tangents of the pictures."""
    x = np.random.default_rng(0).random((size.pairs(4000) + size.new, 2))
    shown, tangents = pictures(x)
    a, b = convolutional(0, 6, size.steps), convolutional(1, 8, size.steps)
    pairs = diffeo.measure_pairs(a, b, shown, layers=("9", "9"), tangents=tangents)
    return network_row(name, "hidden layers of 32, float32", pairs, None, size)


@row("perceptrons with rectifiers")
def rectifiers(name: str, size: Size) -> Row:
    """Two perceptrons with rectifiers, hidden layers."""
    x = np.random.default_rng(0).random((size.pairs(4000) + size.new, 2))
    a, b = rectified(0, (64, 64, 32), size.steps), rectified(1, (96, 48), size.steps)
    pairs = diffeo.measure_pairs(a, b, x, layers=("4", "2"))
    return network_row(name, "hidden layers of 32 and 48", pairs, 0.005, size)


@row("layers of a transformer")
def transformers(name: str, size: Size) -> Row:
    """First layer of a small transformer to its last, tokens averaged."""
    x = np.random.default_rng(0).random((size.pairs(3000) + size.new, 2))
    model = transformer(0, steps=size.steps)
    pairs = diffeo.measure_pairs(model, model, x, layers=("blocks.0", "blocks.3"), reduce="mean")
    return network_row(name, "first to last of four", pairs, None, size)


DEPTH, WIDTH, LAYERS_SECONDS = 12, 384, 180.0
# All layers; and every fourth of them, which tells what a pair of layers costs.
DEEP = {"layers of deep networks": 1, "every fourth layer of deep networks": 4}


@row(*DEEP)
def deep(name: str, size: Size) -> Row:
    """Layers of two perceptrons with rectifiers, 12 layers of width 384, at 2,000 common inputs, passes included.

    Pairs of layers are independent tasks: on a machine that others use too, half of what one thread worked is what two idle
    processors take.
    """
    depth = DEPTH if size.share == 1.0 else 2
    a, b = (rectified(seed, (WIDTH,) * depth, size.steps // 30) for seed in (0, 1))
    layers = [str(2 * k + 1) for k in range(0, depth, DEEP[name])]
    x = np.random.default_rng(0).random((size.pairs(2000), 2))
    clock = Clock()
    found = diffeo.compare_layers(a, b, common_inputs=x, layers_a=layers, layers_b=layers)
    seconds, work, told = clock.seconds, clock.work, clock.told()
    limit = LAYERS_SECONDS * found.verdicts.size / depth**2
    counts = [f"{(found.verdicts == one).sum()} {one}" for one in np.unique(found.verdicts)]
    return Row(
        name,
        f"{len(layers)} by {len(layers)} of width {WIDTH}, {len(x)} common inputs",
        f"{min(seconds, work / 2.0):.0f} s of two processors",
        f"{limit:.0f} s",
        min(seconds, work / 2.0) <= limit,
        f"{told}; {', '.join(counts)}",
    )


# --- landmarks that carry derivatives -----------------------------------------------------------------------

# Samples of each side; how many times the error by d + 1 landmarks that by two may be, and the error by one.
SAMPLES, TIMES_AS_LARGE, BY_ONE = 4000, 2.0, 1e-3
FRAMED = {"two landmarks with derivatives": 2, "one landmark with derivatives": 1}


@functools.cache
def framed(size: Size) -> list[dict[int, tuple[float, float]]]:
    """Errors and expected ones by one and by two landmarks with derivatives, and by three without, of each trained pair.

    Both infinite where a match is refused, and the expected one where a problem says that it is not known.
    """
    found = []
    jobs = [(function, variant) for variant in (0, 1) for function in FUNCTIONS]
    for function, variant in jobs[: size.framed]:
        trained = train_pair(function, variant, 2000 if size.framed > 1 else 300)
        one = draw(trained, 0, SAMPLES if size.framed > 1 else 600)
        marks = diffeo.measure_pairs(*trained.networks, spread_landmarks(trained, 0, 3), like=(one.a, one.b))
        y_a, y_b = one.pairs(trained.inputs(size.new, np.random.default_rng(1)))
        sides, errors = (diffeo.embed(one.a), diffeo.embed(one.b)), {}
        for count, landmarks in ((1, marks[:1]), (2, marks[:2]), (3, marks.points)):
            try:
                t = diffeo.match(*sides, landmarks=landmarks)
            except diffeo.errors.DiffeoError:
                errors[count] = np.inf, np.inf
                continue
            known = t.diagnostics.expected_error
            errors[count] = diffeo.relative_error(t.transform(y_a), y_b), np.inf if known is None else known
        found.append(errors)
    return found


@row(*FRAMED)
def with_frames(name: str, size: Size) -> Row:
    """Few landmarks with derivatives instead of d + 1 without, random hidden neurons of the pairs of bench_accuracy."""
    count, found = FRAMED[name], framed(size)
    errors, expected = (np.array([one[count][k] for one in found]) for k in (0, 1))
    usual = np.array([one[3][0] for one in found])
    ratio, median = float(np.median(errors / np.maximum(usual, EQUAL))), float(np.median(errors))
    met = errors <= 4.0 * expected
    return Row(
        name,
        f"{len(found)} trained pairs, medians: error; over that of three landmarks; as expected, within 4 times",
        f"{percent(median)}; {digits(ratio)}; {met.sum()} of {len(found)}",
        "2 times; all" if count > 1 else "0.1 %; all",
        bool(met.all()) and (ratio <= TIMES_AS_LARGE if count > 1 else median <= BY_ONE),
        f"errors {', '.join(percent(one) for one in errors)}\nthree landmarks {', '.join(percent(one) for one in usual)}",
    )


# --- losses -------------------------------------------------------------------------------------------------


def bottleneck(rng: np.random.Generator) -> LostPair:
    """A bottleneck of one unit that bends: level sets are curves."""
    lost = other_level_sets(rng)
    inner = lost.keeps

    def loses(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z, slopes = inner(x)
        s, ds = z[:, :1], slopes[:, :1]
        return np.column_stack([s, np.sin(2 * s), s**2]), np.concatenate(
            [ds, 2 * np.cos(2 * s)[:, :, None] * ds, 2 * s[:, :, None] * ds], axis=1
        )

    return LostPair(lost.keeps, loses, "collapse", None)


def share_of(pair: LostPair, rng: np.random.Generator) -> float:
    """The share of inputs that share their measurements on the losing side with another input of the square."""
    if pair.twin is None:
        return 1.0
    return float((np.abs(pair.twin(rng.uniform(-1.0, 1.0, (20000, 2)))) < 1.0).all(axis=1).mean())


LOSSES: dict[str, Callable[[np.random.Generator], LostPair]] = {
    "loss: ignored input": ignored_input,
    "loss: bottleneck": bottleneck,
    "loss: fold": folded_domain,
    "loss: other level sets": other_level_sets,
}


@row(*LOSSES)
def losses(name: str, size: Size) -> Row:
    """A side that lost something, 200 pairs: shown, its direction and its share."""
    shown, angles, shares = 0, [], []
    for seed in range(size.losses):
        rng = np.random.default_rng(seed)
        pair = LOSSES[name](rng)
        x = rng.uniform(-1.0, 1.0, (200, 2))
        report = diffeo.assess(diffeo.match_pairs(common(pair.loses, pair.keeps, x)), baselines=False)
        one = report.forward
        if one.status != "fails" or one.loss is None:
            continue
        shown += 1
        shares.append(abs(one.loss.share - share_of(pair, rng)))
        if pair.direction is not None:
            angles.append(float(np.degrees(np.arccos(min(1.0, abs(one.loss.direction @ pair.direction))))))
    at = f"; angles {digits(max(angles))} degrees at most" if angles else ""
    well = shown == size.losses and max(shares) <= SHARE and max(angles, default=0.0) <= DEGREES
    return Row(
        name,
        f"{size.losses} draws of 200 pairs: shown; share off by at most; direction",
        f"{shown} of {size.losses}; {percent(max(shares, default=1.0))}{at}",
        "all; 10 %; 10 degrees",
        well,
        f"share off by {percent(float(np.median(shares)))} in the median" if shares else "",
    )


# --- speed --------------------------------------------------------------------------------------------------

SPEED = {"speed m=64 d=3": (3, 64, 20000, 20000, 10.0), "speed m=16 d=2": (2, 16, 100000, 20000, 20.0)}


@row(*SPEED)
def speed(name: str, size: Size) -> Row:
    """Fit, and queries both ways."""
    d, m, n, q, limit = SPEED[name]
    a, b, rng = steep(d, m, 1, 15.0), steep(d, m, 2, 15.0), np.random.default_rng(0)
    pairs = common(a, b, rng.random((size.pairs(n), d)))
    x = rng.random((size.pairs(q), d))
    at_a, at_b = a(x)[0], b(x)[0]
    clock = Clock()
    t = diffeo.match_pairs(pairs)
    fitted = clock.told()
    there, back = t.transform(at_a), t.inverse_transform(at_b)
    seconds = clock.seconds
    told = clock.told()
    return Row(
        name,
        f"{len(pairs)} pairs, {len(x)} queries both ways",
        f"{seconds:.1f} s",
        f"{limit:.0f} s",
        seconds <= limit,
        f"fit and queries: {told}; fit: {fitted}\nerrors {digits(diffeo.relative_error(there, at_b))} and "
        f"{digits(diffeo.relative_error(back, at_a))}",
    )


if __name__ == "__main__":
    sys.exit(row.main())
