"""One self-contained HTML page a demo: its words, numbers and pictures."""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STYLE = """
body{font:17px/1.55 Georgia,serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c1c1c;background:#fff}
h1,h2{font-family:system-ui,sans-serif;line-height:1.2}h1{font-size:1.9rem}h2{font-size:1.3rem;margin-top:2.2rem}
img{max-width:100%;height:auto;border:1px solid #ddd}
pre{background:#f5f5f2;padding:.8rem;white-space:pre-wrap;font-size:.85rem;line-height:1.4}
summary{font-family:system-ui,sans-serif;cursor:pointer;margin:.6rem 0}
@media (prefers-color-scheme:dark){body{background:#16181b;color:#e6e6e6}pre{background:#22262b}img{background:#fff}}
"""


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
        path.write_text(
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>{html.escape(self.title)}</title><style>{STYLE}</style><body>{body}</body></html>",
            encoding="utf-8",
        )
