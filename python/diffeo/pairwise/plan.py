"""Which pairs are compared, in which order: all of them, or those that span the classes; and what follows for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from diffeo.family.cells import Cell
from diffeo.verdict.error_bounds import EQUIVALENT, UNDETERMINED

Pair = tuple[int, int]
PairChoice = Literal["all", "spanning"]
# Pairs of one class are inferred where the bounds of both errors by way of a third network add up to less than the margin
# over this: the second map may stretch what the first one missed.
STRETCH = 2.0


def all_pairs(n: int) -> list[Pair]:
    """Every pair once, row by row: who works on a row has one of its networks at hand already."""
    return [(i, j) for i in range(n) for j in range(i + 1, n)]


def rounds(pairs: Sequence[Pair], sizes: Sequence[int], most: int) -> list[list[Pair]]:
    """The pairs in groups whose networks together have at most `most` bytes, where two groups of networks allow that."""
    block, filled, blocks = 0, 0, []
    for size in sizes:
        if filled and filled + size > most // 2:
            block, filled = block + 1, 0
        filled += size
        blocks.append(block)
    grouped: dict[tuple[int, int], list[Pair]] = {}
    for i, j in pairs:
        grouped.setdefault((blocks[i], blocks[j]), []).append((i, j))
    return list(grouped.values())


class Spanning:
    """Pairs that span the classes: the first network against all; of those that are not of its class, the first against all
    others; and so on.

    Who is not equivalent to a class's first network cannot join that class, which complete linkage makes of networks that are
    all equivalent to each other: other pairs with it change nothing. Within a class a pair is inferred where both errors by
    way of the first network add up to well below the margin, and compared otherwise.
    """

    def __init__(self, n: int, margin: float) -> None:
        self.n, self.margin = n, margin
        self.leaders: list[int] = []
        self.leader_of: dict[int, int] = {}
        self._asked_within = False

    def next_pairs(self, cells: Mapping[Pair, Cell]) -> list[Pair]:
        """Pairs to be compared next, given what was found; none when all is known."""
        if self.leaders:
            leader = self.leaders[-1]
            for k in range(self.n):
                if k not in self.leader_of and cells[_sorted(leader, k)].verdict == EQUIVALENT:
                    self.leader_of[k] = leader
        free = [k for k in range(self.n) if k not in self.leader_of]
        if free:
            self.leaders.append(free[0])
            self.leader_of[free[0]] = free[0]
            if len(free) > 1:
                return [_sorted(free[0], k) for k in free[1:]]
        if self._asked_within:
            return []
        self._asked_within = True
        return [
            (i, j)
            for i, j in all_pairs(self.n)
            if self.leader_of[i] == self.leader_of[j] and (i, j) not in cells and not self._follows(i, j, cells)
        ]

    def _follows(self, i: int, j: int, cells: Mapping[Pair, Cell]) -> bool:
        """Whether two networks of one class are equivalent by way of its first."""
        leader = self.leader_of[i]
        one, other = cells[_sorted(leader, i)], cells[_sorted(leader, j)]
        ways = [way for cell in (one, other) for way in (cell.forward, cell.backward) if way is not None]
        return len(ways) == 4 and STRETCH * 2.0 * max(way.upper for way in ways) <= self.margin

    def inferred(self, cells: Mapping[Pair, Cell], names: Sequence[str]) -> dict[Pair, Cell]:
        """What follows for the pairs that were not compared."""
        found = {}
        for i, j in all_pairs(self.n):
            if (i, j) in cells:
                continue
            a, b = self.leader_of[i], self.leader_of[j]
            if a == b:
                leader = names[a]
                text = f"Both were found equivalent to {leader}, with errors that add up to well below the margin."
                found[i, j] = Cell(EQUIVALENT, text, via=(leader,))
                continue
            # Of the two classes one was found first, and its first network was compared with all of the other.
            first, member, other = (a, i, j) if self.leaders.index(a) < self.leaders.index(b) else (b, j, i)
            known = _oriented(cells, first, other)
            if member > other:
                known = known.turned()
            text = (
                f"{names[member]} is equivalent to {names[first]}, which was compared with {names[other]}: "
                f"{known.verdict.replace('_', ' ')}."
            )
            verdict = UNDETERMINED if known.verdict == EQUIVALENT else known.verdict
            found[i, j] = Cell(verdict, text, via=(names[first],))
        return found


def _sorted(i: int, j: int) -> Pair:
    return (i, j) if i < j else (j, i)


def _oriented(cells: Mapping[Pair, Cell], i: int, j: int) -> Cell:
    """The cell of two networks with i as A."""
    return cells[i, j] if i < j else cells[j, i].turned()
