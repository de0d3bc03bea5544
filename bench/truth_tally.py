"""What comes out of many maps whose true error is known: expected beside true errors, of whole maps and of rows."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field, fields

import diffeo
import numpy as np
from diffeo import errors
from diffeo._support.point_tree import PointTree
from diffeo.matching.expected_error import places_of
from tqdm import tqdm

from bench.figures import Row, percent
from bench.networks import train_pair
from bench.truth_maps import KnownMap, kind_of_maps

# A map that is right to this may carry a problem in one of twenty; one that is wrong by more must carry one.
RIGHT, WRONG = 0.005, 0.02
# Rows around a row whose true errors tell how far a local prediction of its error can get.
AROUND = 16


@dataclass
class Tally:
    """What came out of many maps."""

    maps: int = 0
    refused: int = 0
    unknown: int = 0
    not_over: int = 0  # true errors at most twice the expected ones
    not_under: int = 0  # expected errors at most five times the true ones
    right: int = 0
    right_with_problems: int = 0
    right_with_problems_unchecked: int = 0
    silent: int = 0
    silent_unchecked: int = 0
    correlations: list[float] = field(default_factory=list)
    ceilings: list[float] = field(default_factory=list)  # the same of what is missed by the rows around
    seconds: float = 0.0  # of this process
    within: list[float] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # of each map

    def add(self, known: KnownMap) -> None:
        start = time.process_time()
        try:
            self._add(known)
        finally:
            self.seconds += time.process_time() - start

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def _add(self, known: KnownMap) -> None:
        self.maps += 1
        # Charts, so that the map without the check need not embed again.
        charts = diffeo.Chart(known.a), diffeo.Chart(known.b)
        try:
            t = diffeo.match(*charts, landmarks=known.landmarks)
        except errors.DiffeoError as error:
            self.refused += 1
            self.said.append(f"{known.name}: refused, {error}")
            return
        true = self._true(t, known)
        expected = "not known" if t.expected is None else percent(t.expected.forward.relative)
        problems = "; ".join(t.diagnostics.problems)
        self.said.append(f"{known.name}: true {percent(true)}, expected {expected}. {problems}")
        self.right += true <= RIGHT
        self.right_with_problems += true <= RIGHT and bool(t.diagnostics.problems)
        self.silent += true > WRONG and not t.diagnostics.problems
        try:
            plain = diffeo.match(*charts, landmarks=known.landmarks, check=False)
            error, problems = self._true(plain, known), plain.diagnostics.problems
            self.silent_unchecked += error > WRONG and not problems
            self.right_with_problems_unchecked += error <= RIGHT and bool(problems)
        except errors.DiffeoError:
            pass
        if t.expected is None:
            self.unknown += 1
            return
        self.not_over += true <= 2.0 * t.expected.forward.relative
        self.not_under += t.expected.forward.relative <= 5.0 * max(true, np.finfo(float).eps)
        self._rows(t, known)

    def _true(self, t: diffeo.Transformation, known: KnownMap) -> float:
        return diffeo.relative_error(t.transform(known.held_out[0]), known.held_out[1])

    def _rows(self, t: diffeo.Transformation, known: KnownMap) -> None:
        at_a, at_b = known.held_out
        spread = np.sqrt(((known.b.points - known.b.points.mean(axis=0)) ** 2).sum(axis=1).mean())
        true = np.maximum(np.linalg.norm(t.transform(at_a) - at_b, axis=1) / spread, np.finfo(float).eps)
        said = np.maximum(t.predicted_error(at_a), np.finfo(float).eps)
        low, high = np.quantile(true, [0.05, 0.95])
        if high >= 10.0 * low:
            self.correlations.append(float(np.corrcoef(np.log(true), np.log(said))[0, 1]))
            self.ceilings.append(float(np.corrcoef(np.log(true), np.log(_around(t, at_a, true)))[0, 1]))
        else:
            self.within.append(float(((said / true >= 0.25) & (said / true <= 4.0)).mean()))

    def row(self, name: str, what: str) -> Row:
        known = max(self.maps - self.refused - self.unknown, 1)
        over, under = self.not_over / known, self.not_under / known
        flagged = self.right_with_problems / max(self.right, 1)
        good = over >= 0.95 and under >= 0.8 and flagged <= 0.05 and self.silent == 0
        typical = [f"{np.median(x):.2f}" if x else "-" for x in (self.correlations, self.ceilings, self.within)]
        return Row(
            name,
            f"{self.maps} {what}: true at most 2 x expected; expected at most 5 x true",
            f"{percent(over)}; {percent(under)}",
            "95 %; 80 %",
            good,
            f"silent above 2 %: {self.silent} (without the check {self.silent_unchecked}); right to 0.5 % with a problem: "
            f"{self.right_with_problems} of {self.right} (without {self.right_with_problems_unchecked}); error not known "
            f"{self.unknown}, refused {self.refused}\n"
            f"rows: median correlation where true errors span a decade {typical[0]} ({len(self.correlations)} maps; of what "
            f"the {AROUND} rows around are truly missed by: {typical[1]}), else median share within a factor 4: {typical[2]} "
            f"({len(self.within)} maps); {self.seconds:.0f} s of processors",
        )


def _around(t: diffeo.Transformation, points: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Root mean square of the true errors of the rows around each, itself left out: a prediction that knows the truth nearby.

    Errors of single rows scatter about any local scale, by half a decade and more: this is how far a local prediction can get.
    """
    places = places_of(t.a, t.a.place(points, 1).values, points)
    near = PointTree(places).query(places, AROUND + 1)[1][:, 1:]
    found: np.ndarray = np.sqrt((true[near] ** 2).mean(axis=1))
    return found


def tally_of(kind: str, count: int, steps: int, seed: int) -> Tally:
    """What comes out of `count` maps of a kind; networks are trained in so many steps."""
    tally, pairs = Tally(), []
    if kind == "trained":
        pairs = [train_pair(f, v, steps) for f, v in (("wave", 0), ("hill", 1), ("saddle", 0), ("wave of three", 1))]
    for make in kind_of_maps(kind, count, seed, pairs):
        with errors.unsaid(errors.DiffeoWarning):
            tally.add(make())
        tqdm.write(f"  {tally.said[-1]:.400}", file=sys.stderr)
    return tally
