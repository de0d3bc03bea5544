"""The report as one self-contained page, which loads nothing and needs no script: what its template is given."""

from __future__ import annotations

import math
from typing import Any

from diffeo import __version__
from diffeo.report import figures, text
from diffeo.report.template import rendered
from diffeo.verdict.error_bounds import EQUIVALENT, FAILS, UNDETERMINED
from diffeo.verdict.report import Report


def report_page(report: Report) -> str:
    """The whole page as HTML."""
    given = report.settings.get("warnings", [])
    known = {name: value for name, value in report.settings.items() if name not in ("command", "warnings")}
    return rendered(
        "report/page.html",
        report=report,
        headline=text.HEADLINES.get(report.verdict, report.verdict),
        notes=[*report.problems, *(given if isinstance(given, list) else [])],
        diagnostics=_facts(report.diagnostics),
        settings=_facts({"margin": report.margin, "significance": report.significance} | known),
        figures=figures,
        text=text,
        is_finite=math.isfinite,
        version=__version__,
        FAILS=FAILS,
        tone={EQUIVALENT: "same", UNDETERMINED: "open"}.get(report.verdict, "differ"),
    )


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values in words; facts within facts are named by both."""
    rows = []
    for name, value in facts.items():
        if isinstance(value, dict) and value:
            rows += [(f"{name}: {key}", inner) for key, inner in value.items()]
        else:
            rows.append((name, value))
    return [(name.replace("_", " "), _fact(value)) for name, value in rows]


def _fact(value: Any) -> str:
    """One value in words; long lists by their beginning."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\N{EN DASH}"}[value]
    if isinstance(value, float):
        return text.number(value, 4)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list):
        more = f" and {len(value) - 12:,} more" if len(value) > 12 else ""
        return ", ".join(_fact(entry) for entry in value[:12]) + more
    if isinstance(value, dict):
        return "; ".join(f"{key} {_fact(entry)}" for key, entry in value.items())
    return str(value)
