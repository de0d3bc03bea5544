"""What a notebook shows: of a result a small panel, made by the report stage when it is asked for; and how far long work is."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

# Seconds between two pictures of a bar.
OFTEN = 0.1


class Shown:
    """A result that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        from diffeo.report.notebook import panel

        return panel(self)


def in_notebook() -> bool:
    """Whether what is displayed goes to a notebook, rather than to a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    # Shells of terminals have no kernel.
    return shell is not None and getattr(shell, "kernel", None) is not None


class NotebookBar:
    """A bar that the browser draws, used like one of tqdm: it needs no widgets, and a saved notebook shows how it ended.

    Parameters
    ----------
    name : str
    total : float or None
        What `n` comes to; None where that is not known.
    unit : str
        Of `n`, which is then written; without one the share is.
    """

    def __init__(self, name: str, total: float | None = 1.0, unit: str = "") -> None:
        self.name, self.total, self.unit, self.n = name, total, unit, 0.0
        self._began, self._ended, self._drawn = time.monotonic(), 0.0, 0.0
        self._handle: Any = None

    def __enter__(self) -> NotebookBar:
        self._began = time.monotonic()
        self._handle = sys.modules["IPython"].display.display(self, display_id=True)
        return self

    def __exit__(self, *failure: object) -> None:
        self._ended = time.monotonic()
        self.refresh()

    def update(self, more: float) -> None:
        """Count so many more; drawn only every tenth of a second."""
        self.n += more
        if time.monotonic() - self._drawn >= OFTEN:
            self.refresh()

    def refresh(self) -> None:
        """Draw it."""
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(self)

    def __repr__(self) -> str:
        return f"{self.name}: {self._said()}"

    def _repr_html_(self) -> str:
        value = "" if self.total is None and not self._ended else f' value="{self._share():.4f}"'
        return (
            '<div style="display:flex;gap:.8em;align-items:center;font-family:sans-serif;font-size:.9em">'
            f'<span style="min-width:9em">{html.escape(self.name)}</span>'
            f'<progress max="1"{value} style="flex:0 1 20em" aria-label="{html.escape(self.name)}"></progress>'
            f"<span>{html.escape(self._said())}</span></div>"
        )

    def _share(self) -> float:
        return 1.0 if not self.total else min(1.0, self.n / self.total)

    def _said(self) -> str:
        seconds = (self._ended or time.monotonic()) - self._began
        of = f" of {self.total:,.0f}" if self.total else ""
        done = f"{self.n:,.0f}{of} {self.unit}s" if self.unit else f"{100 * self._share():.0f} %"
        return f"{done}, {seconds:.0f} s"
