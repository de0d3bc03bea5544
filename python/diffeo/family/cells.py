"""What is kept of the comparison of one pair: its verdict, why, and both directions in numbers."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from diffeo import errors
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT, FAILS, HOLDS, UNDETERMINED, Direction
from diffeo.verdict.layer_comparison import NOT_MATCHED
from diffeo.verdict.report import Report
from diffeo.verdict.sentences import SWAPPED

VERDICTS = (EQUIVALENT, A_TO_B, B_TO_A, "not_equivalent", UNDETERMINED, NOT_MATCHED)
STATUSES = (HOLDS, FAILS, UNDETERMINED)


@dataclass(frozen=True)
class Way:
    """One direction of a pair.

    Attributes
    ----------
    error, lower, upper : float
        Held-out relative error with its one-sided bounds; NaN where there is none.
    expected : float or None
        What the map was expected to be wrong by before any pair was held out.
    status : {"holds", "fails", "undetermined"}
    how : str
        What predicted.
    evidence : str
        Whether a loss is shown, in words.
    """

    error: float
    lower: float
    upper: float
    expected: float | None
    status: str
    how: str
    evidence: str


@dataclass(frozen=True)
class Cell:
    """The comparison of two networks, called A and B in its texts.

    Attributes
    ----------
    verdict : str
        As in `diffeo.assess`, or "not_matched".
    reason : str
        Why; what refused the match, where it was refused.
    forward, backward : Way or None
        From A to B, and from B to A; None where nothing was judged.
    problems : tuple of str
        What the diagnostics of the match name.
    advice : tuple of str
        What would decide the directions that are undetermined.
    coordinates : str
        By which coordinates the networks were matched; empty where they were not.
    via : tuple of str
        Names of the networks by whose comparisons this one was inferred; empty where both were compared.
    """

    verdict: str
    reason: str
    forward: Way | None = None
    backward: Way | None = None
    problems: tuple[str, ...] = field(default=(), repr=False)
    advice: tuple[str, ...] = field(default=(), repr=False)
    coordinates: str = ""
    via: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Cell({self.verdict}: {self.reason})"

    @property
    def inferred(self) -> bool:
        """Whether it follows from other comparisons, rather than from one of its own."""
        return bool(self.via)

    @property
    def errors(self) -> tuple[float, float]:
        """Errors from A to B, and back; NaN where there is none."""
        a, b = (math.nan if way is None else way.error for way in (self.forward, self.backward))
        return a, b

    def turned(self) -> Cell:
        """The same with A and B exchanged; texts stay as they are."""
        return replace(
            self, verdict=SWAPPED.get(self.verdict, self.verdict), forward=self.backward, backward=self.forward
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and texts, as JSON has them: what is not finite is a text."""
        found = asdict(self)
        for name in ("forward", "backward"):
            if found[name] is not None:
                for bound in ("error", "lower", "upper", "expected"):
                    found[name][bound] = _said(found[name][bound])
        return found


def cell_of(report: Report) -> Cell:
    """What is kept of a report."""
    ways = (report.forward, report.expected_error[0]), (report.backward, report.expected_error[1])
    forward, backward = (_way(one, expected) for one, expected in ways)
    problems, advice = tuple(report.problems), tuple(report.would_decide)
    return Cell(report.verdict, report.reason, forward, backward, problems, advice, report.coordinates)


def refused(error: Exception) -> Cell:
    """The cell of two networks that could not be matched."""
    said = str(error) if isinstance(error, errors.DiffeoError) else f"{type(error).__name__}: {error}"
    return Cell(NOT_MATCHED, said or type(error).__name__)


def cell_of_dict(found: Any) -> Cell:
    """The cell, from what may be anything.

    Raises
    ------
    InputError
        It is no cell.
    """
    try:
        ways = [None if found[name] is None else _way_of_dict(found[name]) for name in ("forward", "backward")]
        texts = {name: tuple(found[name]) for name in ("problems", "advice", "via")}
        kinds = str(found["verdict"]), str(found["reason"])
        cell = Cell(*kinds, ways[0], ways[1], texts["problems"], texts["advice"], found["coordinates"], texts["via"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.InputError(f"not the comparison of a pair ({error!r:.100})") from error
    words = [cell.reason, cell.coordinates, *cell.problems, *cell.advice, *cell.via]
    if cell.verdict not in VERDICTS or not all(isinstance(word, str) for word in words):
        raise errors.InputError(f"not the comparison of a pair: its verdict is {cell.verdict!r:.60}")
    if cell.verdict == EQUIVALENT and not cell.via and any(one is None or one.status != HOLDS for one in ways):
        raise errors.InputError("its verdict is equivalent, although a direction does not hold")
    return cell


def _way(one: Direction, expected: float | None) -> Way:
    evidence = "" if one.evidence is None else one.evidence.text
    lost = evidence if one.loss is None else one.loss.text
    return Way(float(one.error), float(one.lower), float(one.upper), expected, one.status, one.how, lost)


def _way_of_dict(found: Any) -> Way:
    bounds = [float(found[name]) for name in ("error", "lower", "upper")]
    expected = None if found["expected"] is None else float(found["expected"])
    way = Way(bounds[0], bounds[1], bounds[2], expected, found["status"], found["how"], found["evidence"])
    if way.status not in STATUSES or not isinstance(way.how, str) or not isinstance(way.evidence, str):
        raise ValueError(f"status {way.status!r:.60}")
    return way


def _said(value: float | None) -> float | str | None:
    """A number for JSON, which has no infinity and no NaN."""
    return value if value is None or math.isfinite(value) else str(value)
