"""Whether a map knows its own error: expected against true errors over many maps, and verdicts on ordinary trained pairs.

``python -m bench.bench_truth [--quick] [--only NAME,...] [--size NAME=NUMBER,...]`` prints one table; ``--only`` takes names
of rows or how they begin, ``--size`` smaller numbers of maps or pairs. All seeds are fixed. Each row is computed with the
check (``match(check=True)``) and, beside it, without.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import diffeo
import numpy as np
from diffeo import errors
from joblib import Parallel, delayed

from bench.figures import Row, percent
from bench.rows import Rows
from bench.truth_folds import folded_sides
from bench.truth_hinges import hinges
from bench.truth_landmarks import wrong_landmarks
from bench.truth_maps import KINDS, smooth_map
from bench.truth_networks import DRAWS_OF_A_PAIR, ORDINARY, OrdinaryPair
from bench.truth_noise import NOISE, noise_row
from bench.truth_plain_fits import KINDS as PLAIN_KINDS
from bench.truth_plain_fits import NUMBERS_OF_PAIRS, beside_plain_fits
from bench.truth_rows import KINDS as ROW_KINDS
from bench.truth_rows import reached
from bench.truth_tally import tally_of

MARGIN = 0.05
# Kinds of maps, those that take most time first.
LONGEST_FIRST = ("cliffs", "bursts", "trained", "smooth", "closed", "inexact landmarks", "noise", "hinges")


@dataclass(frozen=True)
class Size:
    """Maps of each kind, pairs of each kind of network, training steps, draws against plain fits, samples for the cost; the
    seed of the maps.
    """

    maps: int
    pairs: int
    steps: int
    draws: int
    samples: int
    seed: int = 0


FULL, QUICK = Size(40, 34, 600, 16, 4000), Size(2, 1, 100, 1, 600)


def _too_long(name: str, size: Size) -> bool:
    return size.draws == 1 and name.startswith("plain fits") and name.split()[-1] in ("200", "1000")


row = Rows("bench_truth", __doc__, FULL, QUICK, _too_long)


# --- expected and true errors -------------------------------------------------------------------------------


@row(*(f"maps: {kind}" for kind in KINDS))
def maps(name: str, size: Size) -> Row:
    """Expected and true errors of maps of one kind."""
    kind = name.removeprefix("maps: ")
    return tally_of(kind, size.maps, size.steps, size.seed).row(name, f"maps ({kind})")


@row("all kinds of maps")
def all_kinds(name: str, size: Size) -> Row:
    """The same over all kinds together, each by a process of its own: as many maps of each."""
    sizes = size.maps, size.steps, size.seed
    found = Parallel(n_jobs=os.cpu_count())(delayed(tally_of)(kind, *sizes) for kind in LONGEST_FIRST)
    whole = sum(found[1:], start=found[0])
    row = whole.row(name, "maps (all kinds)")
    of_kinds = zip(LONGEST_FIRST, found, strict=True)
    beside = [
        f"{kind}: {part.row(kind, '').value}; {part.row(kind, '').beside}".replace("\n", "; ")
        for kind, part in of_kinds
    ]
    return replace(row, beside="\n".join([row.beside, *beside]))


@row("reachable")
def reachable(name: str, size: Size) -> Row:
    """Correlation of predicted and true errors of rows, beside the best that is expected of any prediction."""
    counts = (6, 8) if size is FULL else (1, 2)
    kinds = ROW_KINDS if size is FULL else ROW_KINDS[-1:]
    found = {kind: reached(kind, *counts, size.seed) for kind in kinds}
    said = {
        kind: (np.median([one.ours for one in part]), np.median([one.best for one in part]))
        for kind, part in found.items()
    }
    return Row(
        name,
        f"rows of {counts[0]} maps of each kind whose errors span a decade: median correlation of predicted and true errors",
        "; ".join(f"{kind} {ours:.2f}" for kind, (ours, _) in said.items()),
        "0.7",
        all(ours >= 0.7 for ours, _ in said.values()),
        f"with the root mean square of true errors of {counts[1]} maps whose samples are drawn anew, as much as is expected: "
        + "; ".join(f"{kind} {best:.2f}" for kind, (_, best) in said.items()),
    )


@row("hinges")
def hinged_charts(name: str, size: Size) -> Row:
    """Charts of parts that hang together by a gap or a corridor: wrong ones must be named."""
    count = 100 if size is FULL else 4
    silent, named, right, mended = hinges(count, 0)
    return Row(
        name,
        f"{count} charts of squares with a gap, rooms with a corridor: wrong by 2 % without a word",
        str(silent),
        "0",
        silent == 0,
        f"right {right}, of which {mended} would be wrong without parts being turned; with a problem {named}",
    )


@row("folded side: expected error")
def folded(name: str, size: Size) -> Row:
    """Sides that fold, matched by landmarks that are all right: what error is expected, and whether any is called wrong."""
    tally = folded_sides(24 if size is FULL else 2, 0)
    known = max(tally.directions - tally.unknown, 1)
    over, under = tally.not_over / known, tally.not_under / known
    return Row(
        name,
        f"{tally.draws} folded sides, both ways: true at most 2 x expected; expected at most 5 x true; silent above 2 %",
        f"{percent(over)}; {percent(under)}; {tally.silent}",
        "95 %; 80 %; 0",
        over >= 0.95 and under >= 0.8 and tally.silent == 0,
        f"draws with a good landmark called wrong: {tally.named}; verdicts that the fold keeps its input: {tally.false}; "
        f"directions of unknown error {tally.unknown} of {tally.directions}; draws refused {tally.refused}\n"
        + "\n".join(tally.said),
    )


@row("wrong landmarks")
def wrong(name: str, size: Size) -> Row:
    """Landmarks of which some are wrong: named, and the error beside that without them."""
    found = wrong_landmarks(8, 0) if size is FULL else wrong_landmarks(2, 0, networks=2, samples=600, steps=50)
    draws = [one for part in found.values() for one in part]
    right = np.mean([one.missed == 0 and one.falsely == 0 for one in draws])
    ratios = [one.error / max(one.without, np.finfo(float).tiny) for one in draws]
    shares = "; ".join(
        f"{bad} of {count}: {percent(float(np.mean([one.missed == 0 and one.falsely == 0 for one in part])))}"
        for (count, bad), part in found.items()
    )
    return Row(
        name,
        f"{len(draws)} draws: all named and no good one; error over that without them",
        f"{percent(float(right))}; median {np.median(ratios):.2f}, worst {max(ratios):.2f}",
        "95 %; 1.5",
        bool(right >= 0.95 and max(ratios) <= 1.5),
        shares,
    )


@row(*NOISE)
def noise(name: str, size: Size) -> Row:
    """Noise of landmarks, points and queries, unequal sides, a wrong held-out pair."""
    return noise_row(name, 8, 1500) if size is FULL else noise_row(name, 2, 600)


# --- ordinary trained pairs, all of them equivalent -----------------------------------------------------------


@row(*(f"equivalent: {kind}" for kind in ORDINARY))
def equivalent(name: str, size: Size) -> Row:
    """Verdicts on pairs of ordinary networks that keep the same, from too few samples to plenty."""
    kind = name.removeprefix("equivalent: ")
    make: Callable[[int, int], OrdinaryPair] = ORDINARY[kind]
    counts: dict[str, list[str]] = {}
    for number in range(size.pairs):
        pair = make(number // DRAWS_OF_A_PAIR[kind], size.steps)
        n, plenty = pair.sizes[number % len(pair.sizes)], number % len(pair.sizes) == len(pair.sizes) - 1
        rng = np.random.default_rng([number, 7])
        a, b = pair.observe(n, rng)
        try:
            report = diffeo.assess(
                diffeo.match(a, b, landmarks=pair.pairs(rng, 8)), pair.pairs(rng, 300), margin=MARGIN, baselines=False
            )
            found = report.verdict
        except errors.DiffeoError as error:
            found = f"refused ({type(error).__name__})"
        counts.setdefault("plenty" if plenty else "fewer", []).append(found)
    all_found = [x for found in counts.values() for x in found]
    false = sum(x in ("not_equivalent", "a_to_b", "b_to_a") for x in all_found)
    plenty_found = counts.get("plenty", [])
    share = sum(x == "equivalent" for x in plenty_found) / max(len(plenty_found), 1)
    said = "; ".join(
        f"{size_name}: " + ", ".join(f"{found.count(word)} {word}" for word in sorted(set(found)))
        for size_name, found in counts.items()
    )
    return Row(
        name,
        f"{size.pairs} equivalent pairs: called different or one way; called equivalent with plenty of samples",
        f"{false}; {percent(share)}",
        "0; 70 %",
        false == 0 and share >= 0.7,
        said,
    )


# --- never far from a plain fit -------------------------------------------------------------------------------


@row(*(f"plain fits: {kind} by {count}" for kind in PLAIN_KINDS for count in NUMBERS_OF_PAIRS))
def plain_fits(name: str, size: Size) -> Row:
    """The map beside the best of affine, Procrustes, Gaussian process and kernel ridge on the same landmarks."""
    kind, count = name.removeprefix("plain fits: ").split(" by ")
    found = beside_plain_fits(kind, size.draws, int(count), size.steps)
    ratios, clock = [one.ratio for one in found], np.sum([one.seconds for one in found], axis=0)
    worst = found[int(np.argmax(ratios))]
    return Row(
        name,
        f"error by {count} pairs over that of the best plain fit in hindsight, {len(found)} draws",
        f"median {np.median(ratios):.2g}, worst {max(ratios):.2g}",
        "1; 1.3",
        float(np.median(ratios)) <= 1.0 and max(ratios) <= 1.3,
        f"median error {np.median([one.error for one in found]):.2g}, of the best fit "
        f"{np.median([one.best for one in found]):.2g}; above 1.3: {sum(ratio > 1.3 for ratio in ratios)}; refused "
        f"{sum(not np.isfinite(one.error) for one in found)}; {clock[0]:.0f} s of processors to match, {clock[1]:.0f} s for "
        f"the fits\nthe worst: {worst.told()}",
    )


# --- what the check costs -------------------------------------------------------------------------------------


@row("cost of the check, d = 1", "cost of the check, d = 2", "cost of the check, d = 3")
def cost(name: str, size: Size) -> Row:
    """Processor time of a match with the check over that of one without."""
    d, ratios, seconds = int(name[-1]), [], []
    for draw in range(3):
        known = smooth_map(np.random.default_rng([draw, d, 9]), d, size.samples, d + 1)
        taken = []
        for check in (False, True):
            start = time.process_time()
            diffeo.match(known.a, known.b, landmarks=known.landmarks, check=check, n_jobs=1)
            taken.append(time.process_time() - start)
        ratios.append(taken[1] / taken[0])
        seconds.append(taken[1])
    return Row(
        name,
        f"smooth networks, n = {size.samples}: processor time with the check over without",
        f"{np.median(ratios):.2f}",
        "2.5",
        float(np.median(ratios)) <= 2.5,
        f"{np.median(seconds):.2f} s with it; three draws: {', '.join(f'{x:.2f}' for x in ratios)}",
    )


if __name__ == "__main__":
    warnings.simplefilter("ignore", errors.DiffeoWarning)
    sys.exit(row.main())
