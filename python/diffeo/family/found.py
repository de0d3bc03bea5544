"""What came of comparing all pairs of a family: verdicts, errors, classes, conflicts, and which class determines which."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.family.cells import Cell
from diffeo.family.classes import (
    Conflict,
    Edge,
    Pair,
    conflicts_of,
    distances,
    edges_of,
    labels_of,
    order_of,
    tree_of,
)
from diffeo.verdict.error_bounds import EQUIVALENT
from diffeo.verdict.layer_comparison import NOT_MATCHED

if TYPE_CHECKING:
    import os

# Round trips may be wrong by as much as their three maps together.
MAPS_AROUND = 3


@dataclass(frozen=True)
class RoundTrip:
    """Held-out points of each of three networks, sent to the second, the third, and back.

    Attributes
    ----------
    names : tuple of str
    errors : tuple of float
        Relative errors of the points of each, when they are back; empty where a map could not be made.
    reason : str
        Why not.
    """

    names: tuple[str, str, str]
    errors: tuple[float, ...]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Family:
    """All pairs of many networks; made by `diffeo.compare_family`.

    Attributes
    ----------
    names : list of str
        Of the N networks, in the order given.
    cells : dict of tuple of int to Cell
        Per pair (i, j), i < j, its comparison; `cell` takes names.
    round_trips : list of RoundTrip
        Around triangles of equivalent networks, which visit every member of a class of three and more.
    notes : dict of str to list of str
        By network, what is suspected of it alone, or why it has no coordinates.
    facts : dict of str to str
        By network, what was observed.
    margin, significance : float
    settings : dict
        Versions and arguments.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> rng = np.random.default_rng(0)
    >>> common, obs, marks, held = rng.random((60, 2)), {}, {}, {}
    >>> for name, slope in (("one", 1.0), ("two", 2.0)):
    ...     x = rng.random((300, 2))
    ...     obs[name] = diffeo.Observation.from_jacobians(slope * x, np.tile(slope * np.eye(2), (300, 1, 1)))
    ...     marks[name], held[name] = slope * common[:10], slope * common[10:]
    >>> family = diffeo.compare_family(obs, landmarks=marks, held_out=held)
    >>> family.cell("one", "two").verdict, family.classes
    ('equivalent', [['one', 'two']])
    """

    names: list[str]
    cells: dict[Pair, Cell] = field(repr=False)
    round_trips: list[RoundTrip] = field(repr=False)
    notes: dict[str, list[str]] = field(repr=False)
    facts: dict[str, str] = field(repr=False)
    margin: float
    significance: float
    settings: dict[str, Any] = field(repr=False)

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(one)) for one in self.classes)
        return f"Family({len(self.names)} networks in {len(self.classes)} classes of {sizes})"

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def verdicts(self) -> NDArray[np.str_]:
        """Verdicts (N, N), that of [i, j] with i as A: "equivalent", "a_to_b" (i determines j), ..., or "not_matched"."""
        found = np.full((len(self), len(self)), EQUIVALENT, dtype="<U16")
        for (i, j), cell in self.cells.items():
            found[i, j], found[j, i] = cell.verdict, cell.turned().verdict
        return found

    @cached_property
    def errors(self) -> FloatArray:
        """Held-out relative errors (N, N), that of [i, j] from i to j; 0 on the diagonal, NaN where nothing was judged."""
        found = np.zeros((len(self), len(self)))
        for (i, j), cell in self.cells.items():
            found[i, j], found[j, i] = cell.errors
        return found

    @cached_property
    def tree(self) -> FloatArray:
        """Complete linkage (N - 1, 4), as SciPy writes it, by the worse error of both directions.

        Whatever is joined below the margin is equivalent pair by pair; whatever is not equivalent is joined above it.
        """
        return tree_of(distances(self.cells, len(self), self.margin))

    @cached_property
    def order(self) -> IntArray:
        """Networks (N,) in the order of the leaves of the tree."""
        return order_of(self.tree)

    @cached_property
    def labels(self) -> IntArray:
        """The class of each network (N,), from 0; larger classes first."""
        return labels_of(self.tree, self.margin)

    @cached_property
    def classes(self) -> list[list[str]]:
        """Names of the members of each class; all of them are equivalent to each other."""
        return [
            [name for name, label in zip(self.names, self.labels, strict=True) if label == k]
            for k in range(int(self.labels.max()) + 1)
        ]

    @cached_property
    def conflicts(self) -> list[Conflict]:
        """Networks of different classes that were found equivalent: within a margin that is not transitive."""
        return conflicts_of(self.cells, self.labels, self.names)

    @cached_property
    def determines(self) -> list[Edge]:
        """Which classes determine which, one way, where most pairs of both say so."""
        return edges_of(self.cells, self.labels)

    @property
    def strange_trips(self) -> list[RoundTrip]:
        """Round trips that end further from where they began than three maps within the margin explain."""
        most = MAPS_AROUND * self.margin
        return [one for one in self.round_trips if one.errors and not max(one.errors) <= most]

    @property
    def n_judged(self) -> int:
        """Number of pairs that were judged by pairs of their own."""
        return sum(not cell.inferred and cell.verdict != NOT_MATCHED for cell in self.cells.values())

    @property
    def expected_false(self) -> float:
        """The most pairs to be expected that are called equivalent and are not: number of pairs judged times the level.

        As many there are if every pair is exactly at the margin; pairs that are far from it add none.
        """
        return self.significance * self.n_judged

    def cell(self, a: str, b: str) -> Cell:
        """The comparison of two networks by name, the first one as A (its texts call A whichever comes first in `names`)."""
        i, j = (self._number(name) for name in (a, b))
        if i == j:
            raise errors.ParameterError(f"{a!r} was not compared with itself")
        return self.cells[i, j] if i < j else self.cells[j, i].turned()

    def class_of(self, name: str) -> list[str]:
        """Names of all that are equivalent to each other and to this one."""
        return self.classes[int(self.labels[self._number(name)])]

    def summary(self) -> str:
        """Classes, which determines which, conflicts, and what could not be told, for a terminal."""
        from diffeo.family.text import summary

        return summary(self)

    def plot(self, ax: Any = None) -> Any:
        """Heat map of the errors of both directions in the order of the tree; returns the axes."""
        from diffeo.family.plots import plot_family
        from diffeo.report.plots import pyplot

        return plot_family(self, pyplot().subplots(layout="constrained")[1] if ax is None else ax)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page: matrix, tree, graph, and the report of every pair; no network, no scripts."""
        from diffeo.family.page import family_page
        from diffeo.files.saved import write_text

        write_text(family_page(self), path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_family

        save_family(self, path)

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise errors.ParameterError(
                f"{name!r} is none of the {len(self)} networks: {', '.join(self.names[:5])}, ..."
            )
        return self.names.index(name)
