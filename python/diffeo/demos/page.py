"""One self-contained HTML page a demo: its words, numbers and pictures."""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diffeo.report.style import document


@dataclass
class Page:
    """Collects sections in the order of the demo; `write` makes the page."""

    title: str
    lead: str
    sections: list[str] = field(default_factory=list)

    def add(
        self,
        heading: str,
        text: str,
        numbers: list[str],
        pictures: list[tuple[Path, str]],
        code: Sequence[Any] = (),
    ) -> None:
        """Add a section: words, printed lines, (picture, description) pairs, and the functions that made them, folded."""
        parts = [f"<section><h2>{html.escape(heading)}</h2><p>{html.escape(text)}</p>"]
        if numbers:
            parts.append(f"<pre>{html.escape(chr(10).join(numbers))}</pre>")
        for path, description in pictures:
            data = base64.b64encode(path.read_bytes()).decode()
            parts.append(f'<img src="data:image/png;base64,{data}" alt="{html.escape(description)}">')
        if code:
            source = "\n\n".join(inspect.getsource(each).rstrip() for each in code)
            parts.append(
                f"<details><summary>The code that made this</summary><pre><code>{html.escape(source)}</code></pre></details>"
            )
        self.sections.append("".join(parts) + "</section>")

    def write(self, path: Path) -> None:
        """Write the page with everything inside it."""
        body = f"<h1>{html.escape(self.title)}</h1><p>{html.escape(self.lead)}</p>" + "".join(self.sections)
        path.write_text(document(html.escape(self.title), body), encoding="utf-8")
