"""Whether the verdict can be trusted: pairs at and under the margin, pairs that lost something, and trained networks.

``python -m bench.bench_verdict [--quick] [--only NAME,...] [--size NAME=NUMBER,...]`` prints one table; ``--only`` takes names
of rows or how they begin, ``--size`` smaller numbers of pairs. Targets are those of the full sizes. All seeds are fixed. The
exit code is 1 if a row could not be computed, 0 otherwise: a missed target is shown, not hidden in a code.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from diffeo import Report, observe
from diffeo.verdict.assess_transformation import compare
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT, HOLDS, NOT_EQUIVALENT, Direction, judge, verdict
from tqdm import tqdm

from bench.figures import Row, percent
from bench.rows import Rows
from bench.verdict_pairs import (
    LostPair,
    embedding_task,
    folded_domain,
    folding_task,
    ignored_input,
    inputs,
    nothing_lost,
    observed,
    other_level_sets,
    trained,
)

MARGIN, SIGNIFICANCE = 0.05, 0.05
# Wild samples: of so many held-out pairs one lies this many spreads from all others, and is mapped as well as they are.
ONE_WILD_OF, WILD = 100, 100.0
# Wanted at half the margin, with t(5) errors, by the number of held-out pairs.
POWER = {50: 0.75, 200: 0.95}
LANDMARKS, HELD_OUT = 100, 200
# A loss is found where it is if its direction is within this angle of the true one.
DEGREES = 15.0


@dataclass(frozen=True)
class Size:
    """How much work a run does: simulated pairs a row, samples of each side, pairs of trained networks."""

    simulated: int
    pairs: int
    samples: int
    networks: int
    training_steps: int


FULL = Size(500, 200, 1000, 4, 3000)
QUICK = Size(40, 3, 600, 1, 300)

row = Rows("bench_verdict", __doc__, FULL, QUICK)


# --- a known error ------------------------------------------------------------------------------------------


def predictions(error: float, count: int, freedom: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (count, 3) whose relative error is exactly `error` in the population, and the truth.

    The truth is (sqrt 2 cos a, 2 sin b, cos a sin b) with uniform angles: mean 0, mean squared norm 1 + 2 + 1/4. Errors are
    independent, by Student's t with `freedom` degrees, and twice as large somewhere as elsewhere: times 1 + cos(b) / 3, of
    mean square 1 + 1/18.
    """
    a, b = rng.uniform(0.0, 2.0 * np.pi, (2, count))
    true = np.column_stack([np.sqrt(2.0) * np.cos(a), 2.0 * np.sin(b), np.cos(a) * np.sin(b)])
    noise = rng.standard_t(freedom, (count, 3)) / np.sqrt(freedom / (freedom - 2.0))
    noise *= (1.0 + np.cos(b) / 3.0)[:, None] / np.sqrt(1.0 + 1.0 / 18.0)
    return true + noise * (error * np.sqrt(3.25 / 3.0)), true


def judged(error: float, count: int, freedom: float, rng: np.random.Generator, wild: bool = False) -> Direction:
    predicted, true = predictions(error, count, freedom, rng)
    if wild:
        away = np.zeros_like(true)
        away[: max(1, count // ONE_WILD_OF), 0] = WILD
        predicted, true = predicted + away, true + away
    return judge(predicted, true, "simulated", margin=MARGIN, significance=SIGNIFICANCE)


def called_equivalent(
    ways: tuple[float, float],
    count: int,
    freedom: float,
    size: Size,
    rng: np.random.Generator,
    wild: bool = False,
) -> float:
    """Share of simulated pairs of observations with these errors both ways that are called equivalent."""
    calls = 0
    for _ in range(size.simulated):
        forward, backward = (judged(error, count, freedom, rng, wild).status for error in ways)
        calls += verdict(forward, backward) == EQUIVALENT
    return calls / size.simulated


def sampling(share: float, count: int) -> float:
    """Two standard errors of a share."""
    return 2.0 * float(np.sqrt(share * (1.0 - share) / count))


@row("margin 50", "margin 200")
def at_the_margin(name: str, size: Size) -> Row:
    count = int(name.split()[1])
    rng = np.random.default_rng([1, count])
    # The other direction holds by far: it does not help to refuse the pair.
    ways = (MARGIN, MARGIN / 10)
    share = called_equivalent(ways, count, 5.0, size, rng)
    both = called_equivalent((MARGIN, MARGIN), count, 5.0, size, rng)
    wild = called_equivalent(ways, count, 5.0, size, rng, wild=True)
    others = {f"t({df:g})": called_equivalent(ways, count, df, size, rng) for df in (3.0, 4.0, 30.0)}
    what = f"error of one direction at the margin, of the other far below, t(5), {count} held-out pairs, {size.simulated} times"
    limit = SIGNIFICANCE + sampling(SIGNIFICANCE, size.simulated)
    beside = f"both at the margin {percent(both)}; " + ", ".join(f"{k} errors {percent(v)}" for k, v in others.items())
    value = f"equivalent {percent(share)}, with {max(1, count // ONE_WILD_OF)} wild {percent(wild)}"
    return Row(name, what, value, "<= 5 %", max(share, wild) <= limit, beside)


@row("half 50", "half 200")
def at_half_the_margin(name: str, size: Size) -> Row:
    count = int(name.split()[1])
    rng = np.random.default_rng([2, count])
    ways = (MARGIN / 2, MARGIN / 2)
    share = called_equivalent(ways, count, 5.0, size, rng)
    others = {f"t({df:g})": called_equivalent(ways, count, df, size, rng) for df in (3.0, 4.0, 30.0)}
    what = f"errors of both directions at half the margin, t(5), {count} held-out pairs, {size.simulated} times"
    beside = ", ".join(f"{k} errors {percent(v)}" for k, v in others.items())
    limit = POWER[count] - sampling(POWER[count], size.simulated)
    return Row(name, what, f"equivalent {percent(share)}", f">= {percent(POWER[count])}", share >= limit, beside)


# --- something lost -----------------------------------------------------------------------------------------

PAIRS: dict[str, tuple[Callable[[np.random.Generator], LostPair], str]] = {
    "ignored": (ignored_input, "a bottleneck ignores one direction of the input"),
    "folded": (folded_domain, "five measurements fold the domain"),
    "level sets": (other_level_sets, "two outputs with other level sets"),
    "control": (nothing_lost, "five measurements of random networks on both sides, nothing lost"),
}


@dataclass(frozen=True)
class Outcome:
    """What a report says of a pair, and what it should: angles in degrees, errors forward and backward."""

    verdict: str
    expected: str
    kind: str
    found_kind: str
    share: float
    angle: float
    errors: tuple[float, float]


@row("ignored", "folded", "level sets")
def something_lost(name: str, size: Size) -> Row:
    outcomes = [outcome(name, seed, size) for seed in tqdm(range(size.pairs), desc=name, leave=False, disable=None)]
    called = sum(one.verdict == EQUIVALENT for one in outcomes)
    named = float(np.mean([one.verdict == one.expected for one in outcomes]))
    beside = f"kind of loss right in {percent(float(np.mean([one.found_kind == one.kind for one in outcomes])))}"
    angles = np.array([one.angle for one in outcomes])
    if np.isfinite(angles).any():
        beside += f", its direction within {DEGREES:.0f} degrees in {percent(float(np.mean(angles < DEGREES)))}"
    beside += f"; median share of the domain {percent(float(np.median([one.share for one in outcomes])))}"
    least = [min(one.errors) for one in outcomes]
    beside += (
        f"; error of the better direction {percent(float(np.median(least)))} (median), {percent(max(least))} (worst)"
    )
    text = f"{PAIRS[name][1]}, either side, {len(outcomes)} pairs: called equivalent, direction of loss named"
    beside += f"; verdicts: {verdicts(outcomes)}"
    return Row(name, text, f"{called}, {percent(named)}", "0, >= 95 %", called == 0 and named >= 0.95, beside)


@row("control")
def control(name: str, size: Size) -> Row:
    outcomes = [outcome(name, seed, size) for seed in tqdm(range(size.pairs), desc=name, leave=False, disable=None)]
    share = float(np.mean([one.verdict == EQUIVALENT for one in outcomes]))
    worse = [max(one.errors) for one in outcomes]
    beside = (
        f"error of the worse direction {percent(float(np.median(worse)))} (median), {percent(max(worse))} (worst); "
    )
    text = f"{PAIRS[name][1]}, {len(outcomes)} pairs: called equivalent"
    return Row(name, text, percent(share), ">= 95 %", share >= 0.95, beside + f"verdicts: {verdicts(outcomes)}")


def outcome(name: str, seed: int, size: Size) -> Outcome:
    """Match and assess a pair of this row; the keeping side is A, and B for odd seeds."""
    rng = np.random.default_rng([3, seed, *name.encode()])
    pair, swap = PAIRS[name][0](rng), bool(seed % 2)
    sides = (pair.loses, pair.keeps) if swap else (pair.keeps, pair.loses)
    samples = [inputs(size.samples, rng) for _ in sides]
    a, b = (observed(measure, x) for measure, x in zip(sides, samples, strict=True))
    marks, new = inputs(LANDMARKS, rng), inputs(HELD_OUT, rng)
    landmarks, held_out = (tuple(measure(x)[0] for measure in sides) for x in (marks, new))
    report = compare(
        a,
        b,
        landmarks=landmarks,
        held_out=held_out,
        margin=MARGIN,
        significance=SIGNIFICANCE,
        baselines=False,
    )
    loss = report.backward.loss if report.forward.status == HOLDS else report.forward.loss
    return Outcome(
        report.verdict,
        EQUIVALENT if not pair.kind else B_TO_A if swap else A_TO_B,
        pair.kind,
        "" if loss is None else loss.kind,
        0.0 if loss is None else loss.share,
        angle_of(report, pair, samples[int(swap)], int(swap)),
        (report.forward.error, report.backward.error),
    )


def angle_of(report: Report, pair: LostPair, x: np.ndarray, keeps: int) -> float:
    """Angle between the direction of the loss, moved to the input, and the true one; infinite where there is none."""
    loss = (report.forward if keeps else report.backward).loss
    if loss is None or pair.direction is None or len(loss.direction) != x.shape[1] or report.rows is None:
        return np.inf
    known, found = x[report.rows[keeps]], report.embeddings[keeps]
    u, _, vt = np.linalg.svd((found - found.mean(axis=0)).T @ (known - known.mean(axis=0)))
    cosine = abs(float(loss.direction @ (u @ vt) @ pair.direction))
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def verdicts(outcomes: Sequence[Outcome]) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(one.verdict for one in outcomes).most_common())


# --- trained networks ---------------------------------------------------------------------------------------

# Layers of the trained networks: the first wide hidden layer, the second, and the output.
FIRST, SECOND, OUTPUT = "1", "3", None


def compared(networks: tuple[Any, Any], layer: str | None, size: Size, seed: int) -> Report:
    """All units of one layer of two networks, which share no input but landmarks and held-out pairs."""
    import torch

    rng = np.random.default_rng([5, seed])
    a, b = (observe(one, inputs(size.samples, rng), layer=layer) for one in networks)

    def at(x: np.ndarray) -> tuple[np.ndarray, ...]:
        depth = None if layer is None else int(layer) + 1
        with torch.no_grad():
            return tuple(one[:depth](torch.as_tensor(x)).numpy() for one in networks)

    marks, new = inputs(LANDMARKS, rng), inputs(HELD_OUT, rng)
    return compare(
        a, b, landmarks=at(marks), held_out=at(new), margin=MARGIN, significance=SIGNIFICANCE, baselines=False
    )


@row("trained seeds")
def two_seeds(name: str, size: Size) -> Row:
    found: dict[str, list[Report]] = {"hidden 1": [], "hidden 2": [], "outputs": []}
    for k in tqdm(range(size.networks), desc=name, leave=False, disable=None):
        pair = tuple(trained(embedding_task, 3, 2 * k + side, size.training_steps) for side in (0, 1))
        for key, layer in zip(found, (FIRST, SECOND, OUTPUT), strict=True):
            found[key].append(compared((pair[0], pair[1]), layer, size, k))
    right = [report.verdict == EQUIVALENT for reports in found.values() for report in reports]
    text = f"two seeds on one task with outputs that embed the input, {size.networks} pairs, outputs and hidden layers"
    return Row(name, text, f"{sum(right)} of {len(right)} equivalent", "all", all(right), summaries(found))


@row("trained task")
def another_task(name: str, size: Size) -> Row:
    found: dict[str, list[Report]] = {"hidden 1": [], "outputs": []}
    for k in tqdm(range(size.networks), desc=name, leave=False, disable=None):
        first = trained(embedding_task, 3, 100 + k, size.training_steps)
        second = trained(folding_task, 3, 200 + k, size.training_steps, start=first)
        for key, layer in zip(found, (FIRST, OUTPUT), strict=True):
            found[key].append(compared((first, second), layer, size, k))
    right = [report.verdict == EQUIVALENT for report in found["hidden 1"]]
    right += [report.verdict in (A_TO_B, NOT_EQUIVALENT) for report in found["outputs"]]
    text = (
        f"one network, and it retrained on a task with other level sets, {size.networks} pairs: hidden layer, outputs"
    )
    beside = summaries(found) + f"\n{found['outputs'][0].reason}"
    value = f"{sum(right)} of {len(right)} as they should be"
    return Row(name, text, value, "equivalent, not", all(right), beside)


def summaries(found: dict[str, list[Report]]) -> str:
    """Verdicts and errors of every layer."""
    return "\n".join(
        f"{key}: "
        + ", ".join(f"{r.verdict} ({percent(r.forward.error)} and back {percent(r.backward.error)})" for r in reports)
        for key, reports in found.items()
    )


if __name__ == "__main__":
    sys.exit(row.main())
