"""Pages from templates: every value is escaped, steers no terminal, and keeps a percent sign beside its number."""

from __future__ import annotations

import html
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from diffeo._support.wording import printable

# Templates stand beside the modules that give them their values.
PACKAGE = Path(__file__).parents[1]


def rendered(name: str, **values: Any) -> str:
    """The page of a template, named by its path within the package; a name that it lacks is an error."""
    return _environment().get_template(name).render(values)


@cache
def _environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(PACKAGE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters["verbatim"] = _verbatim
    return found


def _shown(value: Any) -> Any:
    """What stands for a value: markup for itself."""
    if hasattr(value, "__html__"):
        return value
    return printable(str(value)).replace(" %", "\N{NO-BREAK SPACE}%")


def _verbatim(code: str) -> Markup:
    """Code, escaped, whose spaces stay as they are."""
    return Markup(html.escape(printable(code)))
