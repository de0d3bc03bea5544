"""Noise: of landmarks, of their inputs, of samples and of queries; sides of unequal size; wrong held-out pairs; a ring."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
from diffeo import Chart, Observation, assess, embed, errors, match, relative_error

from bench.figures import Row, percent
from bench.truth_maps import smooth

Measure = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

NEW = 400
# A ring of tuned units, the concentration of their tuning, and angles at which each is decoded.
UNITS, TUNING, ANGLES = 30, 3.0, 20000


class Side:
    """A random smooth network of the square, its chart, and measurements with noise in units of the mean spread."""

    def __init__(self, rng: np.random.Generator, m: int, n: int, noise: float, marks: np.ndarray | None = None) -> None:
        self.measure: Measure = smooth(2, m, rng)
        self.rng = rng
        x = rng.random((n, 2)) if marks is None else np.vstack([marks, rng.random((n, 2))])
        points, jacobians = self.measure(x)
        self.spread = float(points.std(axis=0).mean())
        self.chart: Chart = embed(Observation.from_jacobians(self.noisy(points, noise), jacobians))

    def noisy(self, points: np.ndarray, level: float) -> np.ndarray:
        """Points with independent noise of this share of the mean spread of a measurement."""
        return points + level * self.spread * self.rng.normal(size=points.shape)

    def seen(self, x: np.ndarray, level: float = 0.0) -> np.ndarray:
        """What is measured of inputs (n, 2)."""
        return self.noisy(self.measure(x)[0], level)


def missed(a: Side, b: Side, landmarks: tuple[np.ndarray, np.ndarray] | np.ndarray, queries: float = 0.0) -> float:
    """Relative error of a map at new inputs, whose measurements of A have noise of their own."""
    x = a.rng.random((NEW, 2))
    found = match(a.chart, b.chart, landmarks=landmarks, check=False)
    return relative_error(found.transform(a.seen(x, queries)), b.seen(x))


def landmarks_as_points(draws: int, n: int) -> Row:
    """Samples and landmarks noisy by 1 %: the same pairs as measurements and as rows."""
    ratios, said = [], []
    for count in (3, 30, 100):
        as_points, as_rows = [], []
        for draw in range(draws):
            rng = np.random.default_rng([draw, count, 1])
            # Few landmarks say little of the usual: several sets of them on the same sides.
            sets = max(min(100 // count, 8), 1)
            x, m = np.vstack([_spread_out(count, rng) for _ in range(sets)]), (30, 7)[draw % 2]
            a, b = Side(rng, m, n, 0.01, x), Side(rng, m, n, 0.01, x)
            for rows in np.arange(sets * count).reshape(sets, count):
                as_points.append(missed(a, b, (a.seen(x[rows], 0.01), b.seen(x[rows], 0.01))))
                as_rows.append(missed(a, b, np.column_stack([rows, rows])))
        ratios.append(float(np.median(as_points) / np.median(as_rows)))
        said.append(f"{count} pairs: {percent(float(np.median(as_points)))} and {percent(float(np.median(as_rows)))}")
    return Row(
        "noise: landmarks",
        f"samples and landmarks noisy by 1 %: median error as points over as rows, {draws} draws each",
        ", ".join(f"{x:.2f}" for x in ratios),
        "1.5",
        max(ratios) <= 1.5,
        "; ".join(said),
    )


def landmark_inputs(draws: int, n: int) -> Row:
    """Landmarks whose measurements of A are noisy by 5 %, all else exact."""
    errors = []
    for count in (10, 30, 100):
        found = []
        for draw in range(draws):
            rng = np.random.default_rng([draw, count, 2])
            a, b = (Side(rng, (30, 7)[draw % 2], n, 0.0) for _ in range(2))
            x = rng.random((count, 2))
            found.append(missed(a, b, (a.seen(x, 0.05), b.seen(x))))
        errors.append(float(np.sqrt(np.mean(np.square(found)))))
    power = -float(np.polyfit(np.log([10, 30, 100]), np.log(errors), 1)[0])
    return Row(
        "noise: landmark inputs",
        f"inputs of 10, 30, 100 landmarks noisy by 5 %: error (root mean square of {draws} draws); falls with the power",
        f"{', '.join(percent(x) for x in errors)}; {power:.2f}",
        "1 % at 100; 0.5",
        errors[-1] < 0.01 and power >= 0.4,
        "all else is exact",
    )


def points(draws: int, n: int) -> Row:
    """Samples, landmarks and queries noisy, 30 measurements, four landmarks as points; against the true values."""
    errors = []
    for level in (0.01, 0.05):
        found = []
        for draw in range(draws):
            rng = np.random.default_rng([draw, 3])
            a, b = (Side(rng, 30, n, level) for _ in range(2))
            x = _spread_out(4, rng)
            found.append(missed(a, b, (a.seen(x, level), b.seen(x, level)), level))
        errors.append(float(np.median(found)))
    return Row(
        "noise: points",
        f"all noisy by 1 and 5 %, four landmarks as points, 30 measurements: median error of {draws} draws",
        ", ".join(percent(x) for x in errors),
        "0.7 %, 3 %",
        errors[0] <= 0.007 and errors[1] <= 0.03,
        "queries are as noisy, and compared with the truth",
    )


def queries(draws: int, n: int) -> Row:
    """Queries noisy by 5 % of 40 neurons: error of the map over the noise of the queries itself."""
    ratios = []
    for draw in range(draws):
        rng = np.random.default_rng([draw, 4])
        a, b = (Side(rng, 40, n, 0.0) for _ in range(2))
        marks, x = _spread_out(4, rng), rng.random((NEW, 2))
        found = match(a.chart, b.chart, landmarks=(a.seen(marks), b.seen(marks)), check=False)
        seen = a.seen(x, 0.05)
        ratios.append(relative_error(seen, a.seen(x)) / relative_error(found.transform(seen), b.seen(x)))
    return Row(
        "noise: queries",
        f"queries noisy by 5 %, 40 neurons: their noise over the error of what they are mapped to, {draws} draws",
        f"median {np.median(ratios):.1f}, least {min(ratios):.1f}",
        "2",
        float(np.median(ratios)) >= 2.0,
        "samples and four landmarks are exact",
    )


def unequal(draws: int, n: int) -> Row:
    """A large side against a small one, and two small ones: true over expected errors, both ways, and partial overlap."""
    ratios, said, unknown, refused = [], [], 0, 0
    sizes = [(n, 20), (50, n), (60, 60), (n, 200), *([(20000, 50)] if n > 1000 else [])]
    for large, few in sizes:
        missed, count = [], draws if large < 20000 else 2
        for draw in range(count):
            rng = np.random.default_rng([draw, large, few, 5])
            a, b = Side(rng, (5, 7, 30)[draw % 3], large, 0.0), Side(rng, 7, few, 0.0)
            marks, x = _spread_out(3 + draw % 4, rng), 0.02 + 0.96 * rng.random((NEW, 2))
            try:
                found = match(a.chart, b.chart, landmarks=(a.seen(marks), b.seen(marks)))
            except errors.DiffeoError:  # too few samples around a landmark, or at all
                refused += 1
                continue
            true = (
                relative_error(found.transform(a.seen(x)), b.seen(x)),
                relative_error(found.inverse_transform(b.seen(x)), a.seen(x)),
            )
            missed.append(true[0])
            known = (found.diagnostics.expected_error, found.diagnostics.expected_error_back)
            unknown += known[0] is None
            ratios += [one / told for one, told in zip(true, known, strict=True) if told is not None]
        said.append(f"{large} against {few}: {percent(float(np.median(missed)))}")
    over, under = np.mean(np.array(ratios) <= 2.0), np.mean(np.array(ratios) >= 0.2)
    return Row(
        "noise: unequal sizes",
        "true errors at most twice the expected ones; expected ones at most five times the true; not told",
        f"{percent(float(over))}; {percent(float(under))} of {len(ratios)}; {unknown}",
        "95 %; 80 %; 0",
        bool(over >= 0.95 and under >= 0.8 and unknown == 0),
        f"both ways; median error {', '.join(said)}; refused {refused}",
    )


def wrong_held_out(draws: int, n: int) -> Row:
    """One wrong held-out pair of 100 and of 1,000: the verdict unchanged, the pair named."""
    right, said = [], []
    for count in (100, 1000):
        good = 0
        for draw in range(draws):
            rng = np.random.default_rng([draw, count, 6])
            a, b = (Side(rng, 7, n, 0.0) for _ in range(2))
            marks, x = _spread_out(5, rng), rng.random((count, 2))
            found = match(a.chart, b.chart, landmarks=(a.seen(marks), b.seen(marks)), check=False)
            at_a, at_b = a.seen(x), b.seen(x)
            clean = assess(found, held_out=(at_a, at_b), baselines=False).verdict
            row = int(rng.integers(count))
            at_b[row] = b.seen(rng.random((1, 2)))[0]
            report = assess(found, held_out=(at_a, at_b), baselines=False)
            good += report.verdict == clean and list(report.set_aside) == [row]
        right.append(good / draws)
        said.append(f"of {count}: {good} of {draws}")
    return Row(
        "noise: wrong held-out pair",
        f"one wrong held-out pair: verdict unchanged, and the pair named ({draws} draws each)",
        ", ".join(percent(x) for x in right),
        "95 %",
        min(right) >= 0.95,
        "; ".join(said),
    )


def ring(draws: int, n: int) -> Row:
    """Two rings of 30 tuned units noisy by 5 %, measured beside (cos, sin) of the angle; three landmarks as points."""
    grid = np.linspace(0.0, 2.0 * np.pi, ANGLES, endpoint=False)
    ratios, finite = [], True
    for draw in range(draws):
        rng = np.random.default_rng([draw, 7])
        tuned = [_tuned(rng) for _ in range(2)]
        level = 0.05 * float(tuned[0](grid).std(axis=0).mean())

        def seen(side: int, angles: np.ndarray, tuned=tuned, level=level, rng=rng) -> np.ndarray:
            clean = tuned[side](angles)
            return clean + level * rng.normal(size=clean.shape)

        sides = []
        for side in (0, 1):
            angles = 2.0 * np.pi * rng.random(n)
            reference = np.column_stack([np.cos(angles), np.sin(angles)])
            sides.append(Observation.from_neighbors(seen(side, angles), reference, dim=1))
        marks = 2.0 * np.pi * (np.arange(3) + rng.random(3)) / 3.0
        new = 2.0 * np.pi * rng.random(NEW)
        asked = seen(0, new)
        predicted = match(*sides, landmarks=(seen(0, marks), seen(1, marks)), check=False).transform(asked)
        finite = finite and bool(np.isfinite(predicted).all())
        off = [_turned(grid[_nearest(f(grid), y)] - new) for f, y in zip(tuned, (asked, predicted), strict=True)]
        ratios.append(off[1] / off[0])
    return Row(
        "noise: ring",
        f"angle decoded from what noisy activity is mapped to, over the decoding floor, {draws} draws; all finite",
        f"median {np.median(ratios):.2f}, worst {max(ratios):.2f}; {'yes' if finite else 'no'}",
        "2; yes",
        finite and float(np.median(ratios)) <= 2.0,
        "the floor: the nearest of the true activities",
    )


def _spread_out(count: int, rng: np.random.Generator) -> np.ndarray:
    """Inputs (count, 2) off the border that are not near one another: the farthest of many from those before."""
    x = [rng.uniform(0.05, 0.95, 2)]
    while len(x) < count:
        more = rng.uniform(0.05, 0.95, (200, 2))
        x.append(more[np.linalg.norm(more[:, None] - np.array(x), axis=2).min(axis=1).argmax()])
    return np.array(x)


def _tuned(rng: np.random.Generator) -> Callable[[np.ndarray], np.ndarray]:
    preferred = 2.0 * np.pi * rng.random(UNITS)
    return lambda angles: np.exp(TUNING * (np.cos(angles[:, None] - preferred) - 1.0))


def _nearest(known: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which of `known` (k, m) is nearest to each of the points (n, m)."""
    return ((known**2).sum(axis=1) - 2.0 * points @ known.T).argmin(axis=1)


def _turned(angles: np.ndarray) -> float:
    """Root mean square of differences of angles."""
    return float(np.sqrt(((np.mod(angles + np.pi, 2.0 * np.pi) - np.pi) ** 2).mean()))


NOISE: dict[str, Callable[[int, int], Row]] = {
    "noise: landmarks": landmarks_as_points,
    "noise: landmark inputs": landmark_inputs,
    "noise: points": points,
    "noise: queries": queries,
    "noise: unequal sizes": unequal,
    "noise: wrong held-out pair": wrong_held_out,
    "noise: ring": ring,
}


def noise_row(name: str, draws: int, samples: int) -> Row:
    """The row of this name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return NOISE[name](draws, samples)
