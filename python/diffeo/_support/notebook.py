"""What a result is in a notebook: a small panel, made by the report stage when it is asked for."""

from __future__ import annotations


class Shown:
    """A result that shows itself in a notebook."""

    def _repr_html_(self) -> str:
        from diffeo.report.notebook import panel

        return panel(self)
