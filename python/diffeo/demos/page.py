"""One self-contained HTML page a demo: its words, numbers and pictures."""

from __future__ import annotations

import base64
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffeo.report.template import rendered


@dataclass
class Page:
    """Collects sections in the order of the demo; `write` makes the page."""

    title: str
    lead: str
    sections: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        heading: str,
        text: str,
        numbers: list[str],
        pictures: list[tuple[Path, str]],
        code: Sequence[Any] = (),
    ) -> None:
        """Add a section: words, printed lines, (picture, description) pairs, and the functions that made them, folded."""
        encoded = [(base64.b64encode(path.read_bytes()).decode(), description) for path, description in pictures]
        source = "\n\n".join(inspect.getsource(each).rstrip() for each in code)
        section = {"heading": heading, "text": text, "numbers": numbers, "pictures": encoded, "code": source}
        self.sections.append(section)

    def write(self, path: Path) -> None:
        """Write the page with everything inside it."""
        path.write_text(rendered("demos/page.html", page=self), encoding="utf-8")
