"""How well errors of single rows can be predicted at all: by what the same map, of other samples, is wrong by there."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import diffeo
import numpy as np
from diffeo import errors
from tqdm import tqdm

from bench.truth_maps import map_of

# Kinds of maps whose samples can be drawn anew; those of so many dimensions take seconds.
KINDS, DIMENSIONS = ("smooth", "cliffs", "bursts", "hinges", "inexact landmarks", "closed"), 2
# Maps that are tried for each that is wanted; samples drawn anew of which there must be maps.
TRIES, FEWEST = 20, 2
# Errors of rows span a decade: this share of them from each end does not count.
ENDS = 0.05


@dataclass(frozen=True)
class Reached:
    """Correlations of logarithms of true errors of the rows of one map with those that are predicted."""

    name: str
    ours: float
    best: float  # with the root mean square over samples drawn anew, of each sample in turn; the median

    def told(self) -> str:
        """One line."""
        return f"{self.name}: {self.ours:.2f}, at best {self.best:.2f}"


def reached(kind: str, maps: int, samples: int, seed: int) -> list[Reached]:
    """Of so many maps of a kind whose rows span a decade, each with as many samples drawn anew."""
    found = list[Reached]()
    for number in range(TRIES * maps):
        if len(found) == maps:
            break
        one = map_of(kind, number, seed, [])
        if one.a.dim > DIMENSIONS:
            continue
        with errors.unsaid(errors.DiffeoWarning):
            missed = list(_missed(kind, number, seed, samples))
        if len(missed) > FEWEST + 1:
            said, *true = missed
            found.append(Reached(one.name, _alike(true[0], said), _best(np.array(true))))
            tqdm.write(f"  {kind}: {found[-1].told()}", file=sys.stderr)
    return found


def _missed(kind: str, number: int, seed: int, samples: int) -> Iterator[np.ndarray]:
    """What the errors of held-out rows are predicted to be, and what they are, for the map and those of other samples."""
    for member in range(samples + 1):
        again = np.random.default_rng([seed, number, member]) if member else None
        known = map_of(kind, number, seed, [], again)
        try:
            t = diffeo.match(known.a, known.b, landmarks=known.landmarks, check=member == 0)
        except errors.DiffeoError:
            if member == 0:
                return
            continue
        at_a, at_b = known.held_out
        true = np.linalg.norm(t.transform(at_a) - at_b, axis=1)
        if member == 0:
            low, high = np.quantile(true, [ENDS, 1.0 - ENDS])
            if t.expected is None or high < 10.0 * low:
                return
            yield t.predicted_error(at_a)
        yield true


def _best(true: np.ndarray) -> float:
    """Median correlation of each map's errors (members, rows) with the root mean square of the others'."""
    others = [np.sqrt((np.delete(true, k, axis=0) ** 2).mean(axis=0)) for k in range(len(true))]
    return float(np.median([_alike(one, rest) for one, rest in zip(true, others, strict=True)]))


def _alike(true: np.ndarray, predicted: np.ndarray) -> float:
    tiny = np.finfo(float).tiny
    return float(np.corrcoef(*(np.log(np.maximum(x, tiny)) for x in (true, predicted)))[0, 1])
