"""The reason for a verdict, in words; and a report told from the other side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from diffeo._support.wording import percent
from diffeo.verdict.error_bounds import (
    A_TO_B,
    B_TO_A,
    EQUIVALENT,
    HOLDS,
    LEAST_PAIRS,
    NOT_EQUIVALENT,
    UNDETERMINED,
    Direction,
)
from diffeo.verdict.report import Report

SWAPPED = {A_TO_B: B_TO_A, B_TO_A: A_TO_B}


def reason_for(found: str, forward: Direction, backward: Direction, margin: float, significance: float) -> str:
    """One or two sentences: why this verdict, and what is lost where."""
    level = f"margin {percent(margin)}, level {100 * significance:.3g} %"
    to_b, to_a = _bounded(forward), _bounded(backward)
    if found == EQUIVALENT:
        return f"Each side determines the other: held-out relative error {to_b} from A to B and {to_a} from B to A ({level})."
    losses = [one.loss.text for one in (forward, backward) if one.loss is not None]
    tail = "".join(f" {text}" for text in losses)
    if found == A_TO_B:
        return f"A determines B (error {to_b}), but B does not determine A (error {to_a}; {level}).{tail}"
    if found == B_TO_A:
        return f"B determines A (error {to_a}), but A does not determine B (error {to_b}; {level}).{tail}"
    if found == NOT_EQUIVALENT:
        return f"Neither side determines the other: error {to_b} from A to B and {to_a} from B to A ({level}).{tail}"
    open_ways = [_undecided(one, way, margin) for one, way in ((forward, "from A to B"), (backward, "from B to A"))]
    return f"{' '.join(text for text in open_ways if text)}{tail}"


def exchanged(report: Report) -> Report:
    """The same report with A and B exchanged, of a match that was made the other way round; its texts stay as they are."""
    return replace(
        report,
        verdict=SWAPPED.get(report.verdict, report.verdict),
        forward=report.backward,
        backward=report.forward,
        baselines=[replace(one, forward=one.backward, backward=one.forward) for one in report.baselines],
        embeddings=report.embeddings[::-1],
        held_out=report.held_out[::-1],
        spectra=report.spectra[::-1],
        diagnostics={name: _swapped_fact(name, value) for name, value in report.diagnostics.items()},
        settings=_swapped_settings(report.settings),
        rows=None if report.rows is None else report.rows[::-1],
    )


def _bounded(one: Direction) -> str:
    if one.status == HOLDS:
        return f"{percent(one.error)}, at most {percent(one.upper)}"
    return f"{percent(one.error)}, at least {percent(one.lower)}"


def _undecided(one: Direction, way: str, margin: float) -> str:
    """Why a direction is open, or how it came out."""
    if one.status != UNDETERMINED:
        word = "holds" if one.status == HOLDS else "fails"
        return f"The map {way} {word} (error {_bounded(one)})."
    if len(one.true) < LEAST_PAIRS:
        return f"Only {len(one.true)} held-out pairs: a verdict {way} takes at least {LEAST_PAIRS}."
    if one.lower <= margin <= one.upper:
        return (
            f"The map {way} has an error between {percent(one.lower)} and {percent(one.upper)}, on both sides of the margin of "
            f"{percent(margin)}: more held-out pairs would decide, or more landmarks."
        )
    return f"Nothing can be said {way}: {one.how}."


def _swapped_fact(name: str, value: Any) -> Any:
    """Facts of both sides are lists of two; the scale is the unit of length of B over that of A."""
    if name == "scale":
        return 1.0 / value
    return value[::-1] if isinstance(value, list) and len(value) == 2 else value


def _swapped_settings(settings: dict[str, Any]) -> dict[str, Any]:
    ends = {"_a": "_b", "_b": "_a"}
    return {name[:-2] + ends[name[-2:]] if name[-2:] in ends else name: value for name, value in settings.items()}
