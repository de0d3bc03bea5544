"""The reason for a verdict, in words; and a report told from the other side."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from diffeo._support.arrays import IntArray
from diffeo._support.wording import percent, rows_text
from diffeo.verdict.error_bounds import (
    A_TO_B,
    B_TO_A,
    EQUIVALENT,
    FAILS,
    HOLDS,
    LEAST_PAIRS,
    NOT_EQUIVALENT,
    UNDETERMINED,
    Direction,
)
from diffeo.verdict.report import Report

SWAPPED = {A_TO_B: B_TO_A, B_TO_A: A_TO_B}
# What `how` says where nothing could be fitted.
WITHOUT_LANDMARKS = "without landmarks"
# Twins that decide, and the factor beyond which a number of pairs is not asked for.
ENOUGH_TWINS, MOST_ASKED = 20, 20
# Pairs that are named, and the share of torn twins beyond which they are worth a look.
MOST_NAMED, FEW_TORN = 5, 0.05


def reason_for(
    found: str,
    forward: Direction,
    backward: Direction,
    margin: float,
    significance: float,
    expected: tuple[float | None, float | None] = (None, None),
) -> str:
    """One or two sentences: why this verdict, and what is lost where; `expected` is what the map was to be wrong by."""
    level = f"margin {percent(margin)}, level {100 * significance:.3g} %"
    to_b, to_a = _bounded(forward), _bounded(backward)
    if found == EQUIVALENT:
        return f"Each side determines the other: held-out relative error {to_b} from A to B and {to_a} from B to A ({level})."
    losses = [_lost(one) for one in (forward, backward) if one.status == FAILS]
    tail = "".join(f" {text}" for text in losses if text)
    if found == A_TO_B:
        return f"A determines B (error {to_b}), but B does not determine A (error {to_a}; {level}).{tail}"
    if found == B_TO_A:
        return f"B determines A (error {to_a}), but A does not determine B (error {to_b}; {level}).{tail}"
    if found == NOT_EQUIVALENT:
        return f"Neither side determines the other: error {to_b} from A to B and {to_a} from B to A ({level}).{tail}"
    ways = ((forward, "from A to B", expected[0]), (backward, "from B to A", expected[1]))
    open_ways = [_undecided(one, way, margin, known) for one, way, known in ways]
    return f"{' '.join(text for text in open_ways if text)}{tail}"


def _lost(one: Direction) -> str:
    """What is lost where, or what shows that something is."""
    if one.loss is not None:
        return one.loss.text
    return "" if one.evidence is None else one.evidence.text


def exchanged(report: Report) -> Report:
    """The same report with A and B exchanged, of a match that was made the other way round; its texts stay as they are."""
    return replace(
        report,
        verdict=SWAPPED.get(report.verdict, report.verdict),
        verdict_with_all=SWAPPED.get(report.verdict_with_all, report.verdict_with_all),
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


def _undecided(one: Direction, way: str, margin: float, expected: float | None) -> str:
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
    if one.lower > margin and one.evidence is not None and WITHOUT_LANDMARKS not in one.how:
        known = ""
        if expected is not None and expected > margin:
            known = f" An error of about {percent(expected)} was expected of the map before any pair was held out."
        return (
            f"The map {way} misses by {_bounded(one)}, over the margin of {percent(margin)}; whether the networks differ or "
            f"the map is wrong could not be told.{known} {one.evidence.text}"
        )
    return f"Nothing can be said {way}: {one.how}."


def what_would_decide(report: Report) -> list[str]:
    """For every open direction, what would settle it, as things to do."""
    found = []
    for source, target, one in (("A", "B", report.forward), ("B", "A", report.backward)):
        if one.status == UNDETERMINED:
            found.append((f"From {source} to {target}", _to_do(report, one, source, target)))
    # What is asked for in both directions is asked for once.
    if len(found) == 2 and found[0][1] == found[1][1]:
        return [f"In both directions: {found[0][1]}"]
    return [f"{way}: {words}" for way, words in found]


def _to_do(report: Report, one: Direction, source: str, target: str) -> str:
    count, evidence = len(one.true), one.evidence
    if count < LEAST_PAIRS:
        return f"bring {LEAST_PAIRS - count} more held-out pairs, {LEAST_PAIRS} at least."
    if WITHOUT_LANDMARKS in one.how:
        return "bring landmarks."
    if not one.lower > report.margin and len(report.set_aside):
        return f"check held-out {rows_text(report.set_aside)}, and bring more landmarks, which lower the error."
    if not one.lower > report.margin:
        return "bring more held-out pairs (four times as many halve the interval), or more landmarks, which lower the error."
    if evidence is None:
        return "assess again: the file is of a version that sought no evidence."
    if evidence.kind == "unrelated":
        return (
            "check that both sides list the same inputs in the same order (diffeo.Pairs with ids_a, ids_b makes sure)."
        )
    pairs, said = count + report.n_landmarks, []
    if evidence.kind == "too few":
        wanted = min(ENOUGH_TWINS * pairs // max(evidence.twins, 1), MOST_ASKED * pairs)
        said.append(f"bring about {wanted:,} pairs of common inputs instead of {pairs:,}")
    if len(evidence.wrong):
        said.append(f"check {_named(evidence.wrong, report.n_landmarks)}, which may be wrong")
    if evidence.kind == "none" and evidence.torn > FEW_TORN * evidence.twins:
        said.append("bring more pairs, which show whether those far apart are a loss")
    worst = rows_text(report.judged[_worst(one)])
    said.append(
        f"draw more samples of both sides near the inputs of held-out {worst}, where the map misses most, or bring more "
        "landmarks there"
    )
    if evidence.kind == "none" and evidence.torn <= FEW_TORN * evidence.twins:
        said.append("measure more neurons, since nothing speaks for a loss")
    return "; or ".join(said) + "."


def _worst(one: Direction) -> IntArray:
    """Held-out pairs with the largest errors, five at most, ascending."""
    return np.sort(np.argsort(-np.linalg.norm(one.predicted - one.true, axis=1), kind="stable")[:MOST_NAMED])


def _named(rows: IntArray, n_landmarks: int) -> str:
    """Rows of landmarks and held-out pairs together, told apart."""
    marks, held = rows[rows < n_landmarks], rows[rows >= n_landmarks] - n_landmarks
    return " and ".join(
        f"{name} {rows_text(part)}" for name, part in (("landmark", marks), ("held-out", held)) if len(part)
    )


def _swapped_fact(name: str, value: Any) -> Any:
    """Facts of both sides are lists of two; the scale is the unit of length of B over that of A."""
    if name == "scale":
        return 1.0 / value
    return value[::-1] if isinstance(value, list) and len(value) == 2 else value


def _swapped_settings(settings: dict[str, Any]) -> dict[str, Any]:
    ends = {"_a": "_b", "_b": "_a"}
    return {name[:-2] + ends[name[-2:]] if name[-2:] in ends else name: value for name, value in settings.items()}
