"""Classes of networks that are equivalent to each other, what contradicts them, and which class determines which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from diffeo._support.arrays import FloatArray, IntArray
from diffeo.family.cells import Cell
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT

Pair = tuple[int, int]
# Networks that are not equivalent are drawn apart by at least so many margins, whatever the error says.
APART = 1.2


@dataclass(frozen=True)
class Conflict:
    """Two networks that were found equivalent, but are of different classes, and whom one of them is not equivalent to.

    Equivalence within a margin is not transitive: errors add up.
    """

    pair: tuple[str, str]
    against: tuple[str, str]
    verdict: str


@dataclass(frozen=True)
class Edge:
    """One class determines another: numbers of both, how many of their pairs say so, and how many there are."""

    source: int
    target: int
    count: int
    total: int


def distances(cells: Mapping[Pair, Cell], n: int, margin: float) -> FloatArray:
    """How far networks are apart (n, n): the worse error of equivalent ones, which is below the margin, else more than that.

    At most 1, which is no better than the mean; pairs without errors are as far apart as that, inferred equivalent ones
    half a margin.
    """
    found = np.zeros((n, n))
    for (i, j), cell in cells.items():
        worse = max(cell.errors)
        if cell.verdict == EQUIVALENT:
            value = 0.5 * margin if cell.inferred else worse
        else:
            value = 1.0 if np.isnan(worse) else min(max(worse, APART * margin), 1.0)
        found[i, j] = found[j, i] = value
    return found


def tree_of(apart: FloatArray) -> FloatArray:
    """Complete linkage: whatever is joined below the margin is equivalent pair by pair."""
    tree: FloatArray = linkage(squareform(apart, checks=False), method="complete", optimal_ordering=True)
    return tree


def order_of(tree: FloatArray) -> IntArray:
    """Networks in the order of the leaves."""
    order: IntArray = leaves_list(tree).astype(np.int64)
    return order


def labels_of(tree: FloatArray, margin: float) -> IntArray:
    """The class of each network (n,), from 0: the largest class first, then that whose first network comes first."""
    raw = fcluster(tree, margin, criterion="distance")
    counts, first = Counter(raw.tolist()), dict[int, int]()
    for k, label in enumerate(raw.tolist()):
        first.setdefault(label, k)
    ranked = sorted(counts, key=lambda label: (-counts[label], first[label]))
    labels: IntArray = np.array([ranked.index(label) for label in raw.tolist()], dtype=np.int64)
    return labels


def conflicts_of(cells: Mapping[Pair, Cell], labels: IntArray, names: Sequence[str]) -> list[Conflict]:
    """Pairs that were found equivalent across classes, each with a pair that keeps their classes apart."""
    found = []
    for (i, j), cell in sorted(cells.items()):
        if cell.verdict != EQUIVALENT or labels[i] == labels[j]:
            continue
        for k in range(len(names)):
            if k in (i, j) or labels[k] not in (labels[i], labels[j]):
                continue
            # A member of the class of one is not equivalent to the other.
            one = j if labels[k] == labels[i] else i
            kept = cells[min(k, one), max(k, one)]
            if kept.verdict != EQUIVALENT:
                found.append(Conflict((names[i], names[j]), (names[k], names[one]), kept.verdict))
                break
    return found


def edges_of(cells: Mapping[Pair, Cell], labels: IntArray) -> list[Edge]:
    """Which classes determine which: where most pairs of both say so, one way."""
    says: Counter[tuple[int, int]] = Counter()
    total: Counter[tuple[int, int]] = Counter()
    for (i, j), cell in cells.items():
        a, b = int(labels[i]), int(labels[j])
        if a == b:
            continue
        total[a, b] += 1
        total[b, a] += 1
        if cell.verdict == A_TO_B:
            says[a, b] += 1
        elif cell.verdict == B_TO_A:
            says[b, a] += 1
    return [Edge(a, b, count, total[a, b]) for (a, b), count in sorted(says.items()) if 2 * count > total[a, b]]


def reduced(edges: Sequence[Edge]) -> list[Edge]:
    """Without those that follow from two others."""
    ways = {(one.source, one.target) for one in edges}
    middle = {a for a, _ in ways}
    return [
        one
        for one in edges
        if not any((one.source, k) in ways and (k, one.target) in ways for k in middle - {one.source, one.target})
    ]


def depths(edges: Sequence[Edge], n_classes: int) -> list[int]:
    """How many classes stand above each: the longest way to it, as far as there is no way around."""
    found = [0] * n_classes
    for _ in range(n_classes):
        for one in edges:
            found[one.target] = min(max(found[one.target], found[one.source] + 1), n_classes - 1)
    return found


def triangles(labels: IntArray) -> list[tuple[int, int, int]]:
    """Triangles within the classes that visit each member of a class of three and more: 0 1 2, 2 3 4, ..., and around."""
    found = []
    for label in range(int(labels.max(initial=-1)) + 1):
        members = np.flatnonzero(labels == label).tolist()
        count = len(members)
        if count >= 3:
            found += [tuple(sorted(members[(k + s) % count] for s in range(3))) for k in range(0, count - 1, 2)]
    return sorted({(one[0], one[1], one[2]) for one in found})
