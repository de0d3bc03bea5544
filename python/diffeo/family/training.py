"""Networks that are checkpoints of one run, by the numbers in their names: when the class of the last one was reached."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diffeo.family.found import Family

# Networks of a run at least.
LEAST = 3
# Before a number: it tells runs of one kind from each other, and no time of one run is meant.
NO_TIME = re.compile(r"seed|rng|random|subject|fold|replica|member|run", re.IGNORECASE)


@dataclass(frozen=True)
class Reached:
    """When the class of the last network was reached, in the order given.

    Attributes
    ----------
    label : int
        That class.
    first : int
        The network from which on all are of this class.
    alone, left : bool
        Whether the last one is the only one of its class; and whether its class was left again in between.
    """

    label: int
    first: int
    alone: bool
    left: bool


def reached_by_last(family: Family) -> Reached:
    """When the class of the last network was reached, in the order given."""
    labels = family.labels
    last = int(labels[-1])
    others = np.flatnonzero(labels != last)
    first = int(others[-1]) + 1 if len(others) else 0
    members = np.flatnonzero(labels == last)
    return Reached(last, first, len(members) == 1, len(members) > 1 and bool(members[0] < first))


def steps_of(names: Sequence[str]) -> list[str]:
    """The numbers by which names differ, where these ascend and the rest of the names is the same; else nothing.

    Names such as step-0, step-100, step-2000 are those of checkpoints of one run.
    """
    parts = [re.split(r"(\d+)", name) for name in names]
    frames = {tuple(one[::2]) for one in parts}
    if len(names) < LEAST or len(frames) != 1:
        return []
    numbers = [tuple(int(part) for part in one[1::2]) for one in parts]
    if any(one >= other for one, other in pairwise(numbers)):
        return []
    varying = [k for k in range(len(numbers[0])) if len({one[k] for one in numbers}) > 1]
    if any(NO_TIME.search(parts[0][2 * k]) for k in varying):
        return []
    # The last of them counts time at its finest: steps after epochs.
    return [str(one[varying[-1]]) for one in numbers]
