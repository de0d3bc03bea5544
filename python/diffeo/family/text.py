"""What is said of a family in words: its classes, conflicts and doubts, for a terminal and for the page."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence

from diffeo._support.wording import percent, printable
from diffeo.family.classes import Edge, reduced
from diffeo.family.found import MAPS_AROUND, Family
from diffeo.family.training import reached_by_last, steps_of
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT, NOT_EQUIVALENT, UNDETERMINED
from diffeo.verdict.layer_comparison import NOT_MATCHED

WIDTH, MOST_NAMED = 100, 8
# Pieces of advice in a summary.
MOST_ADVICE = 3
# In a cell (row, column), for the verdict on (row, column).
MARKS = {
    EQUIVALENT: "=",
    A_TO_B: "\N{RIGHTWARDS ARROW}",
    B_TO_A: "\N{LEFTWARDS ARROW}",
    NOT_EQUIVALENT: "\N{MULTIPLICATION SIGN}",
    UNDETERMINED: "?",
    NOT_MATCHED: "\N{EN DASH}",
}
WORDS = {
    EQUIVALENT: "equivalent",
    A_TO_B: "the row determines the column, not the other way round",
    B_TO_A: "the column determines the row, not the other way round",
    NOT_EQUIVALENT: "neither determines the other",
    UNDETERMINED: "it could not be told",
    NOT_MATCHED: "no map could be made",
}


def letter(label: int) -> str:
    """What a class is called: A to Z, AA, AB, ..."""
    text = ""
    label += 1
    while label:
        label, rest = divmod(label - 1, 26)
        text = chr(65 + rest) + text
    return text


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Names in a row, the first ones of many."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def headline(family: Family) -> str:
    """How many networks are in how many classes."""
    count = len(family.classes)
    return f"{len(family)} networks, {count} class{'es' if count != 1 else ''}"


def counted(family: Family) -> str:
    """How many pairs there are, and what was found of them."""
    total = len(family.cells)
    found = Counter(cell.verdict for cell in family.cells.values())
    one_way = found[A_TO_B] + found[B_TO_A]
    parts = [
        (found[EQUIVALENT], "equivalent"),
        (one_way, "one way only"),
        (found[NOT_EQUIVALENT], "not equivalent"),
        (found[UNDETERMINED], "undetermined"),
        (found[NOT_MATCHED], "without a map"),
    ]
    inferred = sum(cell.inferred for cell in family.cells.values())
    text = f"{total:,} pairs: " + ", ".join(f"{count:,} {word}" for count, word in parts if count)
    return text + (f". {inferred:,} of these were inferred from others, not compared" if inferred else "")


def chance(family: Family) -> str:
    """How many pairs may be called equivalent falsely."""
    return (
        f"{family.n_judged:,} pairs were judged, each at level {100 * family.significance:g} %: at most "
        f"{family.expected_false:.1f} may be expected to be called equivalent falsely, if all were exactly at the margin of "
        f"{percent(family.margin)}; those far from it add none"
    )


def edge_text(one: Edge) -> str:
    """One class determines another."""
    return f"{letter(one.source)} determines {letter(one.target)}, not the other way round ({one.count} of {one.total} pairs)"


def trips_text(family: Family) -> str:
    """What round trips say of the whole; empty where there was no triangle."""
    known = [one for one in family.round_trips if one.errors]
    if not known:
        return ""
    worst = max(max(one.errors) for one in known)
    count = f"{len(known)} round trip{'s' if len(known) > 1 else ''}"
    text = (
        f"{count} around triangles of equivalent networks, off by {percent(worst)} at most "
        f"({MAPS_AROUND} maps within the margin: {percent(MAPS_AROUND * family.margin)})"
    )
    strange = family.strange_trips
    if strange:
        text += f"; {len(strange)} end further off than that: {listed([' → '.join(one.names) for one in strange], 3)}"
    return text


def reached(family: Family) -> str:
    """When the class of the last network was reached: in training, where networks are checkpoints, or in the order given."""
    found, names, run = reached_by_last(family), family.names, bool(steps_of(family.names))
    order, last = ("In training", "checkpoint") if run else ("In the order given", "network")
    if found.alone:
        return f"{order}, no other {last} is of the class of the last one, {names[-1]}"
    if found.left and found.first == len(names) - 1:
        members = listed(family.classes[found.label])
        return f"{order}, the class of the last {last}, {names[-1]}, was left again in between: {members}"
    if found.first == 0:
        return f"{order}, the class of the last {last} is that of all"
    here = f"({letter(found.label)}) is reached at {names[found.first]}"
    before = ", after it had been left again," if found.left else ""
    return f"{order}, the class of the last {last} {here}{before} and not left again"


def conflict_texts(family: Family) -> list[str]:
    """Equivalences that are not transitive."""
    return [
        f"{one.pair[0]} and {one.pair[1]} were found equivalent, but {one.against[0]} and {one.against[1]} were not "
        f"({one.verdict.replace('_', ' ')}): errors within the margin add up"
        for one in family.conflicts
    ]


def summary(family: Family) -> str:
    """The whole for a terminal, in lines of at most 100 characters."""
    lines = [headline(family)]
    for k, members in enumerate(family.classes):
        lines += _wrapped(f"{letter(k)} ({len(members)}): {listed(members)}")
    lines += [line for one in reduced(family.determines) for line in _wrapped(edge_text(one))]
    lines += _wrapped(counted(family)) + _wrapped(chance(family))
    for text in (trips_text(family), reached(family)):
        lines += _wrapped(text) if text else []
    said = conflict_texts(family)
    lines += [line for text in said[:MOST_NAMED] for line in _wrapped(f"conflict: {text}")]
    if len(said) > MOST_NAMED:
        lines += _wrapped(f"and {len(said) - MOST_NAMED} conflicts more")
    advice = Counter(text for cell in family.cells.values() for text in set(cell.advice))
    for text, count in sorted(advice.items(), key=lambda one: (-one[1], one[0]))[:MOST_ADVICE]:
        lines += _wrapped(f"would decide {count} pair{'s' if count != 1 else ''}: {text}")
    reasons = Counter(cell.reason for cell in family.cells.values() if cell.verdict == NOT_MATCHED)
    for reason, count in reasons.most_common(3):
        lines += _wrapped(f"{count} pair{'s' if count != 1 else ''} without a map: {reason}")
    return "\n".join(printable(line) for line in lines)


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ")
