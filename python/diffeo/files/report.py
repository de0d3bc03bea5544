"""What a file holds of a report, and the report made from it again."""

from __future__ import annotations

import json
import math

import numpy as np

from diffeo import errors
from diffeo.files import schema
from diffeo.files.container import MAX_HEADER, Content
from diffeo.files.schema import holds, take
from diffeo.report.text import HEADLINES
from diffeo.verdict.baselines import Baseline
from diffeo.verdict.error_bounds import FAILS, HOLDS, UNDETERMINED, Direction
from diffeo.verdict.lost_information import Loss
from diffeo.verdict.report import Report
from diffeo.verdict.shown_loss import EVIDENCE_KINDS, SHOWN, Evidence

# One of the words that an entry may be.
WORDS = {
    "verdict": tuple(HEADLINES),
    "coordinates": ("isometric", "diffusion", "regression", "pieces", "pairs"),
    "status": (HOLDS, FAILS, UNDETERMINED),
    "kind": ("collapse", "fold"),
}
FACTS = ("diagnostics", "settings")
BOUNDS = ("error", "lower", "upper")


def report_content(report: Report) -> Content:
    """Arrays and entries of a report, by dotted names."""
    content = {name: getattr(report, name) for name in schema.REPORT}
    for name in FACTS:
        content[name] = json.dumps(content[name])  # a text keeps the order of the facts
        if len(content[name]) > MAX_HEADER // 4:
            raise errors.InputError(
                f"{name} are {len(content[name])} characters long: too long for the header of a file"
            )
    for i, side in enumerate("ab"):
        content |= {f"{side}.{name}": getattr(report, name)[i] for name in ("embeddings", "held_out", "spectra")}
        content[f"{side}.rows"] = None if report.rows is None else report.rows[i]
    content["baselines.names"] = [one.name for one in report.baselines]
    content["baselines.notes"] = [one.note for one in report.baselines]
    found = [[one.forward, one.backward] for one in report.baselines]
    content["baselines.errors"] = np.array(found, dtype=np.float64).reshape(-1, 2)  # None becomes NaN
    for at, one in (("forward.", report.forward), ("backward.", report.backward)):
        content |= {at + name: getattr(one, name) for name in schema.DIRECTION if name != "bounds"}
        content[f"{at}bounds"] = np.array([getattr(one, name) for name in BOUNDS])
        if one.evidence is not None:
            content |= {f"{at}evidence.{name}": getattr(one.evidence, name) for name in schema.EVIDENCE}
        if one.loss is not None:
            content |= {f"{at}loss.{name}": getattr(one.loss, name) for name in schema.LOSS}
    if len(report.set_aside):
        content |= {"aside.rows": report.set_aside, "aside.verdict": report.verdict_with_all}
    return content


def build_report(content: Content) -> Report:
    """The report, from content that may be anything."""
    sizes = {"2": 2, "3": 3}
    taken = take(content, "", schema.REPORT, sizes)
    _one_of_words(taken)
    for name in FACTS:
        taken[name] = json.loads(taken[name])
        if not isinstance(taken[name], dict):
            raise errors.InputError(f"{name} are no facts by name")
    own = take(content, "a.", schema.REPORT_SIDE_A, sizes), take(content, "b.", schema.REPORT_SIDE_B, sizes)
    pairs: Content = {name: (own[0][name], own[1][name]) for name in schema.REPORT_SIDE_A}
    if (own[0]["rows"] is None) != (own[1]["rows"] is None):
        raise errors.InputError("rows are known of one side only")
    if own[0]["rows"] is None:
        pairs["rows"] = None
    # Each direction has measurements of its own side.
    directions: Content = {
        name: _build_direction(content, f"{name}.", dict(sizes), taken["margin"]) for name in ("forward", "backward")
    }
    if taken["verdict"] == "equivalent" and any(directions[way].status != HOLDS for way in ("forward", "backward")):
        raise errors.InputError("verdict is equivalent, although a direction does not hold")
    if holds(content, "aside."):
        aside = take(content, "aside.", schema.ASIDE, {})
        _one_of_words({"verdict": aside["verdict"]})
        count = sizes["H"] + len(aside["rows"])
        if len(np.unique(aside["rows"])) < len(aside["rows"]) or not (aside["rows"] < count).all():
            raise errors.InputError(f"aside.rows are no different rows of {count} held-out pairs")
        directions |= {"set_aside": aside["rows"], "verdict_with_all": aside["verdict"]}
    table = take(content, "baselines.", schema.BASELINES, sizes)
    if not len(table["names"]) == len(table["notes"]) == len(table["errors"]):
        raise errors.ShapeError("baselines have names, notes and errors of different numbers")
    baselines = [
        Baseline(name, None if math.isnan(a) else a, None if math.isnan(b) else b, note)
        for name, (a, b), note in zip(table["names"], table["errors"].tolist(), table["notes"], strict=True)
    ]
    return Report(**taken, **pairs, **directions, baselines=baselines)


def _build_direction(content: Content, at: str, sizes: dict[str, int], margin: float) -> Direction:
    loss = None
    if holds(content, f"{at}loss."):
        lost = take(content, f"{at}loss.", schema.LOSS, {"2": 2})
        _one_of_words(lost)
        loss = Loss(**lost)
    evidence = None
    if holds(content, f"{at}evidence."):
        evidence = Evidence(**take(content, f"{at}evidence.", schema.EVIDENCE, {"2": 2}))
        if evidence.kind not in EVIDENCE_KINDS or evidence.shown != (evidence.kind in SHOWN):
            raise errors.InputError(f"{at}evidence.kind is {evidence.kind!r:.60}, shown {evidence.shown}")
    taken = take(content, at, schema.DIRECTION, sizes)
    _one_of_words(taken)
    error, lower, upper = taken.pop("bounds").tolist()
    status = taken["status"]
    if (status == HOLDS and not upper <= margin) or (status == FAILS and not lower >= margin):
        raise errors.InputError(f"{at}status is {status!r}, although its bounds are {lower:.3g} and {upper:.3g}")
    if status == FAILS and evidence is not None and not evidence.shown:
        raise errors.InputError(f"{at}status is {status!r}, although its evidence shows no loss")
    return Direction(error, lower, upper, **taken, loss=loss, evidence=evidence)


def _one_of_words(taken: Content) -> None:
    for name, words in WORDS.items():
        if name in taken and taken[name] not in words:
            raise errors.InputError(f"{name} is {taken[name]!r:.60}; known are {', '.join(words)}")
