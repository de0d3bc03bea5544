"""What a layer-by-layer comparison of two networks found: errors, verdicts and reasons, as a table and a heat map."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray

NOT_MATCHED = "not_matched"
# How a table shows a verdict.
SIGNS = {"equivalent": "=", "a_to_b": ">", "b_to_a": "<", "not_equivalent": "x", "undetermined": "?", NOT_MATCHED: "-"}

# Reasons that begin with as many equal characters are said once.
ALIKE = 60


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """Every layer of A against every layer of B; made by `diffeo.compare_layers`.

    Attributes
    ----------
    layers_a, layers_b : list of str
        Names of the I layers of A and the J layers of B.
    forward, backward : ndarray of shape (I, J), float64
        Held-out relative errors of A's layer -> B's layer, and back. NaN where there is no map.
    verdicts : ndarray of shape (I, J), str
        As in `diffeo.assess`: "equivalent", "a_to_b", "b_to_a", "not_equivalent", "undetermined"; or "not_matched".
    reasons : list of list of str
        Per cell, why.
    problems : list of list of list of str
        Per cell, what the diagnostics of the match name.
    neurons_a, neurons_b : dict of str to ndarray of int64
        Which neurons of each layer were measured (columns of what `reduce` leaves); none of layers that failed.
    limits_a, limits_b : dict of str to list of str
        Per layer what `diffeo.suggest_neurons` found to limit it (folds, discarded directions, sharp bends); empty if
        neurons were not suggested.
    margin, significance : float

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> found = diffeo.compare_layers(net, net, common_inputs=x, layers_a="1", layers_b="1")
    >>> str(found.verdicts[0, 0])
    'equivalent'
    """

    layers_a: list[str]
    layers_b: list[str]
    forward: FloatArray
    backward: FloatArray
    verdicts: NDArray[np.str_]
    reasons: list[list[str]] = field(repr=False)
    problems: list[list[list[str]]] = field(repr=False)
    neurons_a: dict[str, IntArray] = field(repr=False)
    neurons_b: dict[str, IntArray] = field(repr=False)
    limits_a: dict[str, list[str]] = field(repr=False)
    limits_b: dict[str, list[str]] = field(repr=False)
    margin: float
    significance: float

    def table(self) -> str:
        """Errors of both directions in percent and a sign for the verdict, one row a layer of A, and why cells have no map."""
        heads = ["A \\ B", *(name or "(output)" for name in self.layers_b)]
        rows = [heads]
        for i, name in enumerate(self.layers_a):
            rows.append([name or "(output)", *(self._cell(i, j) for j in range(len(self.layers_b)))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append("")
        count = int((self.verdicts != NOT_MATCHED).sum())
        lines.append(
            f"{count} comparison{'s were' if count != 1 else ' was'} made, each at level {100 * self.significance:g} %: as "
            "many of a hundred may be wrong by chance"
        )
        lines.append(
            f"held-out errors of A -> B and of B -> A in percent; margin {100 * self.margin:g} %: = equivalent, > only A -> B, "
            "< only B -> A, x not equivalent, ? undetermined, - not matched, ! with problems"
        )
        for reason, cells in self._failures().items():
            lines.append(f"- {cells}: {reason}")
        lines.extend(self._limits())
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Heat map of the larger error of both directions; returns the axes."""
        from diffeo.report.plots import plot_layers, pyplot

        return plot_layers(self, pyplot().subplots(layout="constrained")[1] if ax is None else ax)

    def _cell(self, i: int, j: int) -> str:
        sign = SIGNS[str(self.verdicts[i, j])] + ("!" if self.problems[i][j] else "")
        if self.verdicts[i, j] == NOT_MATCHED:
            return sign
        return f"{percent(self.forward[i, j])} {percent(self.backward[i, j])} {sign}"

    def _limits(self) -> list[str]:
        """The first limit of every layer that was matched with no other."""
        alone = self.verdicts == NOT_MATCHED
        sides = (
            ("A", self.layers_a, self.limits_a, alone.all(axis=1)),
            ("B", self.layers_b, self.limits_b, alone.all(axis=0)),
        )
        return [
            f"! {name or '(output)'} of {side}: {limits[name][0]}"
            for side, names, limits, rows in sides
            for name, lone in zip(names, rows, strict=True)
            if lone and name in limits
        ]

    def _failures(self) -> dict[str, str]:
        """Reasons of cells that were not matched, alike ones once, with the cells they hold for."""
        found: dict[str, list[str]] = {}
        reasons: dict[str, str] = {}
        for i, a in enumerate(self.layers_a):
            for j, b in enumerate(self.layers_b):
                if self.verdicts[i, j] == NOT_MATCHED:
                    reason = self.reasons[i][j]
                    # Numbers differ from cell to cell, the beginning tells what it is.
                    found.setdefault(reasons.setdefault(reason[:ALIKE], reason), []).append(
                        f"{a or '(output)'} / {b or '(output)'}"
                    )
        return {
            reason: ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
            for reason, cells in found.items()
        }


class LayerTable:
    """Cells of a comparison while they are filled: without a map, and without a reason, until they are."""

    def __init__(self, layers_a: list[str], layers_b: list[str]) -> None:
        shape = len(layers_a), len(layers_b)
        self.layers = layers_a, layers_b
        self.forward, self.backward = np.full(shape, np.nan), np.full(shape, np.nan)
        self.verdicts = np.full(shape, NOT_MATCHED, dtype="<U16")
        self.reasons = [[""] * shape[1] for _ in range(shape[0])]
        self.problems: list[list[list[str]]] = [[[] for _ in range(shape[1])] for _ in range(shape[0])]

    def fill(self, i: int, j: int, missed: tuple[float, float], verdict: str, reason: str, problems: list[str]) -> None:
        """What was found of one pair of layers; `missed` from A to B, and back."""
        self.forward[i, j], self.backward[i, j] = missed
        self.verdicts[i, j], self.reasons[i][j], self.problems[i][j] = verdict, reason, problems

    def comparison(
        self,
        neurons: tuple[dict[str, IntArray], dict[str, IntArray]],
        limits: tuple[dict[str, list[str]], dict[str, list[str]]],
        margin: float,
        significance: float,
    ) -> LayerComparison:
        """The whole, with the neurons of A and of B, and their limits."""
        return LayerComparison(
            *self.layers,
            self.forward,
            self.backward,
            self.verdicts,
            self.reasons,
            self.problems,
            *neurons,
            *limits,
            margin,
            significance,
        )


def percent(error: float) -> str:
    """A relative error in percent: two digits, no fractions of ten and more."""
    if np.isnan(error):
        return "--"
    return f"{100 * error:.0f}" if error >= 0.0995 else f"{100 * error:.2g}"
