"""The words of a report but for its reason: what terminal and page share, the summary, and the JSON form."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict
from typing import Any

import numpy as np

from diffeo._support.wording import percent, printable
from diffeo.verdict.baselines import Baseline, linear_enough
from diffeo.verdict.error_bounds import (
    A_TO_B,
    B_TO_A,
    EQUIVALENT,
    FAILS,
    HOLDS,
    NOT_EQUIVALENT,
    UNDETERMINED,
    Direction,
)
from diffeo.verdict.report import Report

# Changes when a name in the JSON form changes its meaning or goes.
SCHEMA = "diffeo.report/1"
WIDTH, MAX_LINES = 100, 30
HEADLINES = {
    EQUIVALENT: "Equivalent: the same up to a change of coordinates",
    A_TO_B: "One way only: from A to B, not back",
    B_TO_A: "One way only: from B to A, not back",
    NOT_EQUIVALENT: "Not equivalent, in neither direction",
    UNDETERMINED: "Undetermined: it could not be told",
}
STATUS = {
    HOLDS: "under the margin",
    FAILS: "over the margin, and a loss is shown",
    UNDETERMINED: "could not be told",
}
PYTHON = """\
report = diffeo.assess(diffeo.match(obs_a, obs_b, landmarks=landmarks), held_out,
                       margin={margin!r}, significance={significance!r})"""


PYTHON_OF_PAIRS = "report = diffeo.assess(diffeo.match_pairs(pairs), margin={margin!r}, significance={significance!r})"


def number(value: float | None, digits: int = 2) -> str:
    """A number for readers: significant digits, a dash where there is none."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return f"{value:.{digits}g}"


def share(value: float | None) -> str:
    """A relative error in percent."""
    return number(value) if value is None or not math.isfinite(value) else percent(value)


def interval(direction: Direction) -> str:
    """Lower and upper bound in brackets."""
    return f"[{share(direction.lower)}, {share(direction.upper)}]"


def affine_baseline(report: Report) -> Baseline | None:
    """The affine fit; None where it was not tried or could not be fitted."""
    found = next((one for one in report.baselines if one.name == "affine"), None)
    return None if found is None or found.forward is found.backward is None else found


def linear_remark(report: Report) -> str:
    """Whether a linear map already does what the transformation does, in a sentence; empty where none was tried."""
    affine = affine_baseline(report)
    if affine is None:
        return ""
    enough = linear_enough(report.baselines, report.margin)
    if enough:
        return f"{enough[0].upper()}{enough[1:]}."
    return f"No linear map does it: the affine fit misses by {share(affine.forward)} and {share(affine.backward)}."


def sides(report: Report) -> str:
    """What was compared, in one line of facts; sizes come from the settings where they name them."""
    h, m_b = report.forward.true.shape
    m_a = report.backward.true.shape[1]
    d_a, d_b = (x.shape[1] for x in report.embeddings)
    dims = (
        f"{d_b} intrinsic dimension{'s' if d_b != 1 else ''}" if d_a == d_b else f"{d_a} and {d_b} intrinsic dimensions"
    )
    pairs = f"{report.n_landmarks:,} landmark{'s' if report.n_landmarks != 1 else ''}, {h:,} held-out pairs"
    how = {"pairs": "learned from pairs", "pieces": _by_pieces(report)}.get(
        report.coordinates, f"{report.coordinates} coordinates"
    )
    return f"{m_a} measurements of A, {m_b} of B; {dims}; {pairs}; {how}"


def _by_pieces(report: Report) -> str:
    """How many pairs of pieces are joined, and which share of each side is in them."""
    count, shares = report.diagnostics.get("pieces"), report.diagnostics.get("share_in_pieces", [])
    if count is None or len(shares) != 2:
        return "piece by piece"
    return f"piece by piece ({count}: {percent(shares[0])} of A, {percent(shares[1])} of B)"


def recipe(report: Report) -> str:
    """The command that made the report, or the Python that makes it again."""
    command = report.settings.get("command")
    if isinstance(command, str) and command:
        return command
    python = PYTHON_OF_PAIRS if report.coordinates == "pairs" else PYTHON
    return python.format(margin=report.margin, significance=report.significance)


def summary(report: Report) -> str:
    """At most 30 lines of at most 100 characters."""
    lines = _wrapped(HEADLINES.get(report.verdict, report.verdict), "")
    lines += [*_wrapped(report.reason, "  ", most=6), ""]
    for advice in report.would_decide:
        lines += _wrapped(f"would decide it: {advice}", "  ", "    ", most=3)
    if report.would_decide:
        lines.append("")
    level = f"margin {share(report.margin)}, significance {share(report.significance)}"
    lines += [f"  {'':<8}{'error':>9}  {'[lower, upper]':<24}{level}"]
    ways = (("A -> B", report.forward), ("B -> A", report.backward))
    for (name, one), expected in zip(ways, report.expected_error, strict=True):
        row = f"  {name:<8}{share(one.error):>9}  {interval(one):<23} {one.status}"
        row += "" if expected is None else f", expected {share(expected)}"
        how = one.how.replace("transformation, with what the landmarks teach", "corrected by landmarks")
        lines.append(_cut(row + (f" ({how})" if how else "")))
    if report.baselines:
        lines += ["", f"  {'on the same pairs':<40}{'A -> B':>10}{'B -> A':>10}"]
        lines += [
            _cut(f"  {one.name:<40.40}{share(one.forward):>10}{share(one.backward):>10}  {one.note}".rstrip())
            for one in report.baselines[:7]
        ]
        lines += _wrapped(linear_remark(report), "  ", most=2)
    tail = ["", *_wrapped(sides(report), "  ", most=2), *_wrapped(f"reproduce: {recipe(report)}", "  ", most=3)]
    lines += ["", *_problem_lines(report.problems, MAX_LINES - len(lines) - len(tail) - 1), *tail]
    return "\n".join(line.rstrip() for line in lines)


def _problem_lines(problems: list[str], room: int) -> list[str]:
    """As many problems as there is room for, and how many more there are."""
    if not problems:
        return ["  no problems"]
    count = "1 problem, which does" if len(problems) == 1 else f"{len(problems)} problems, which do"
    lines = [f"  {count} not change the verdict:"]
    for k, problem in enumerate(problems):
        last = k == len(problems) - 1
        # Rather the beginning of one more than none of it.
        left = room - len(lines) - (0 if last else 1)
        if left < 1:
            said = f"and {len(problems) - k} more in report.problems"
            return [*lines, f"  {said}"] if k else [f"  {count} not change the verdict: see report.problems"]
        lines += _wrapped(problem, "  - ", "    ", most=min(3, left))
    return lines


def _wrapped(text: str, first: str, rest: str | None = None, *, most: int = 3) -> list[str]:
    # A percent sign stays with its number.
    lines = textwrap.wrap(
        printable(text).replace(" %", "\N{NO-BREAK SPACE}%"),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if rest is None else rest,
        max_lines=most,
        placeholder=" ...",
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]


def _cut(line: str) -> str:
    line = printable(line).replace("\n", " ")
    return line if len(line) <= WIDTH else line[: WIDTH - 4] + " ..."


def as_json(report: Report, *, arrays: bool) -> dict[str, Any]:
    """The report as JSON values: no NaN and no infinity, which JSON cannot say."""
    found: dict[str, Any] = {"schema": SCHEMA, "verdict": report.verdict, "headline": HEADLINES.get(report.verdict)}
    for name in (
        "reason",
        "margin",
        "significance",
        "problems",
        "n_landmarks",
        "coordinates",
        "diagnostics",
        "settings",
    ):
        found[name] = getattr(report, name)
    found["n_held_out"] = len(report.forward.true)
    found |= {"set_aside": report.set_aside, "verdict_with_all": report.verdict_with_all}
    found |= {"forward": _direction(report.forward, arrays), "backward": _direction(report.backward, arrays)}
    found["would_decide"] = report.would_decide
    found["baselines"] = [asdict(one) for one in report.baselines]
    found["linear_remark"] = linear_remark(report)
    found["spectra"] = _both(report.spectra)
    if arrays:
        found |= {"embeddings": _both(report.embeddings), "held_out": _both(report.held_out)}
        found["rows"] = None if report.rows is None else _both(report.rows)
    finite: dict[str, Any] = _finite(found)
    return finite


def _both(pair: tuple[Any, Any]) -> dict[str, Any]:
    return {"a": pair[0].tolist(), "b": pair[1].tolist()}


def _direction(one: Direction, arrays: bool) -> dict[str, Any]:
    found = {name: getattr(one, name) for name in ("error", "lower", "upper", "status", "how")}
    if arrays:
        found |= {"true": one.true.tolist(), "predicted": one.predicted.tolist()}
    found["loss"] = found["evidence"] = None
    if one.evidence is not None:
        hidden = () if arrays else ("wrong", "pairs")
        found["evidence"] = {name: value for name, value in vars(one.evidence).items() if name not in hidden}
    if one.loss is not None:
        hidden = () if arrays else ("rows", "pairs")
        found["loss"] = {name: value for name, value in vars(one.loss).items() if name not in hidden}
    return found


def _finite(value: Any) -> Any:
    """The same with null for what is not finite, and lists for arrays."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
