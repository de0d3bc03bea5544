"""A family as one self-contained page, which loads nothing and needs no script: what its template is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from diffeo import __version__
from diffeo.family import drawings, text
from diffeo.family.cells import Cell
from diffeo.family.found import Family
from diffeo.family.training import steps_of
from diffeo.report.template import rendered
from diffeo.report.text import HEADLINES, STATUS, share
from diffeo.verdict.error_bounds import EQUIVALENT, NOT_EQUIVALENT, UNDETERMINED
from diffeo.verdict.layer_comparison import NOT_MATCHED

# Cells of more networks than this are too many to step through one by one: the row of each network has a list of its own.
MOST_STEPPED = 12
# How a cell looks, by its verdict.
LOOKS = {EQUIVALENT: "eq", NOT_EQUIVALENT: "ne", UNDETERMINED: "un", NOT_MATCHED: "no"}
# How a network stands to others, in the order of its list.
RELATIONS = (
    (EQUIVALENT, "Equivalent to"),
    ("a_to_b", "Determines, one way only"),
    ("b_to_a", "Is determined by, one way only"),
    (NOT_EQUIVALENT, "Neither determines the other"),
    (UNDETERMINED, "Could not be told"),
    (NOT_MATCHED, "No map could be made"),
)


@dataclass(frozen=True)
class Square:
    """One square of the matrix: where its report is, how it looks, its mark, and what it says where a pointer rests on it."""

    target: str
    look: str
    mark: str
    said: str
    error: str


def family_page(family: Family) -> str:
    """The whole page as HTML."""
    return rendered(
        "family/page.html",
        family=family,
        text=text,
        drawings=drawings,
        order=[int(k) for k in family.order],
        square=lambda i, j: _square(family, i, j),
        relations=lambda k: list(_relations(family, k)),
        pairs=[(i, j, cell) for (i, j), cell in family.cells.items()],
        headline_of=lambda cell: HEADLINES.get(cell.verdict, "Not matched: no map could be made"),
        share=share,
        STATUS=STATUS,
        tone=_tone,
        stepped=len(family) <= MOST_STEPPED,
        run=bool(steps_of(family.names)),
        letters=[text.letter(int(label)) for label in family.labels],
        version=__version__,
    )


def _oriented(family: Family, i: int, j: int) -> Cell:
    return family.cells[i, j] if i < j else family.cells[j, i].turned()


def _square(family: Family, i: int, j: int) -> Square:
    cell = _oriented(family, i, j)
    mark = text.MARKS.get(cell.verdict, "?")
    error = cell.errors[0]
    said = f"{family.names[i]} → {family.names[j]}: " + ("inferred" if cell.inferred else share(error))
    low, high = min(i, j), max(i, j)
    look = LOOKS.get(cell.verdict, "ow") + (" inf" if cell.inferred else "")
    shown = "" if np.isnan(error) else share(error).replace(" %", "")
    return Square(f"p{low}-{high}", look, mark, said, shown)


def _relations(family: Family, k: int) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What a network is to the others: a heading, and their names with the reports of both."""
    for verdict, heading in RELATIONS:
        found = [
            (family.names[j], f"p{min(j, k)}-{max(j, k)}")
            for j in map(int, family.order)
            if j != k and _oriented(family, k, j).verdict == verdict
        ]
        if found:
            yield f"{heading} ({len(found)})", found


def _tone(cell: Cell) -> str:
    return {EQUIVALENT: "same", UNDETERMINED: "open", NOT_MATCHED: "open"}.get(cell.verdict, "differ")
