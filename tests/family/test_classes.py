"""Classes, conflicts, what determines what, and which pairs span the classes: on verdicts that are made up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from diffeo.errors import InputError
from diffeo.family import classes
from diffeo.family.cells import Cell, Way, cell_of_dict
from diffeo.pairwise.plan import Spanning, all_pairs, rounds

MARGIN = 0.05


def way(error, status):
    return Way(error, 0.9 * error, 1.1 * error, None, status, "made up", "")


def made_up(verdict, error=0.01):
    ways = {
        "equivalent": ("holds", "holds"),
        "a_to_b": ("holds", "fails"),
        "b_to_a": ("fails", "holds"),
        "not_equivalent": ("fails", "fails"),
        "undetermined": ("undetermined", "undetermined"),
    }
    if verdict == "not_matched":
        return Cell(verdict, "no map")
    forward, backward = (way(error if status == "holds" else 0.8, status) for status in ways[verdict])
    return Cell(verdict, verdict, forward, backward)


def family_of(levels, error=0.01):
    """Cells of networks that keep sets of inputs: one determines another that keeps a part of its own."""
    cells = {}
    for i, j in all_pairs(len(levels)):
        a, b = set(levels[i]), set(levels[j])
        if a == b:
            verdict = "equivalent"
        elif a > b:
            verdict = "a_to_b"
        else:
            verdict = "b_to_a" if a < b else "not_equivalent"
        cells[i, j] = made_up(verdict, error)
    return cells


def labels(cells, n):
    return classes.labels_of(classes.tree_of(classes.distances(cells, n, MARGIN)), MARGIN)


LEVELS = ["xy", "x", "xy", "y", "", "x", "xy", "", "y", "x"]


def test_classes_are_cliques_of_equivalent_networks():
    cells = family_of(LEVELS)
    found = labels(cells, len(LEVELS))
    assert [LEVELS[k] for k in range(10) if found[k] == 0] == ["xy"] * 3
    for i, j in all_pairs(10):
        assert (found[i] == found[j]) == (LEVELS[i] == LEVELS[j])
    assert not classes.conflicts_of(cells, found, LEVELS)


@pytest.mark.parametrize("between", ["not_equivalent", "undetermined", "not_matched", "a_to_b"])
def test_equivalence_that_is_not_transitive_is_a_conflict(between):
    # 0 - 1 - 2 in a row, 0 and 1 nearer to each other; 0 and 2 are not equivalent.
    cells = {(0, 1): made_up("equivalent", 0.01), (1, 2): made_up("equivalent", 0.03), (0, 2): made_up(between)}
    found = labels(cells, 3)
    assert found.tolist() == [0, 0, 1]
    (conflict,) = classes.conflicts_of(cells, found, ["a", "b", "c"])
    assert conflict == classes.Conflict(("b", "c"), ("a", "c"), between)


def test_a_small_error_without_a_verdict_joins_nothing():
    # An error below the margin whose bound is above it.
    cells = {(0, 1): Cell("undetermined", "", way(0.049, "undetermined"), way(0.049, "undetermined"))}
    assert labels(cells, 2).tolist() == [0, 1]
    assert classes.distances(cells, 2, MARGIN)[0, 1] > MARGIN


def test_which_class_determines_which():
    cells = family_of(LEVELS)
    found = labels(cells, len(LEVELS))
    name = {int(found[k]): LEVELS[k] for k in range(10)}
    edges = classes.edges_of(cells, found)
    assert {(name[one.source], name[one.target]) for one in edges} == {
        ("xy", "x"), ("xy", "y"), ("xy", ""), ("x", ""), ("y", ""),
    }  # fmt: skip
    assert all(one.count == one.total for one in edges)
    kept = {(name[one.source], name[one.target]) for one in classes.reduced(edges)}
    assert kept == {("xy", "x"), ("xy", "y"), ("x", ""), ("y", "")}
    depth = classes.depths(edges, 4)
    assert [depth[k] for k in sorted(name, key=lambda k: len(name[k]), reverse=True)] == [0, 1, 1, 2]


def test_a_circle_of_classes_ends():
    edges = [classes.Edge(0, 1, 1, 1), classes.Edge(1, 2, 1, 1), classes.Edge(2, 0, 1, 1)]
    assert max(classes.depths(edges, 3)) <= 2


def test_half_of_the_pairs_is_not_enough_to_determine():
    cells = {
        (0, 1): made_up("equivalent"), (0, 2): made_up("a_to_b"), (1, 2): made_up("undetermined"),
    }  # fmt: skip
    assert classes.edges_of(cells, labels(cells, 3)) == []


@pytest.mark.parametrize("sizes", [[3], [4], [5, 3], [2, 1], [9, 4, 1]])
def test_triangles_visit_every_member_of_classes_of_three_and_more(sizes):
    found = np.repeat(np.arange(len(sizes)), sizes)
    corners = classes.triangles(found)
    assert all(len(set(one)) == 3 and len({found[k] for k in one}) == 1 for one in corners)
    visited = {k for one in corners for k in one}
    assert visited == {k for k in range(sum(sizes)) if sizes[found[k]] >= 3}
    assert len(corners) <= sum(sizes) / 2


def spanned(cells, n):
    """What a spanning plan asks for, and what it infers."""
    plan, known = Spanning(n, MARGIN), {}
    while wanted := plan.next_pairs(known):
        assert not set(wanted) & set(known)
        known |= {pair: cells[pair] for pair in wanted}
    return known, plan.inferred(known, [str(k) for k in range(n)])


def test_spanning_pairs_say_the_same_as_all():
    cells = family_of(LEVELS)
    known, inferred = spanned(cells, 10)
    # The first of each class against all that are left: 9 + 6 + 3 + 1.
    assert len(known) == 19
    assert len(known) + len(inferred) == 45
    for pair, cell in inferred.items():
        assert cell.inferred
        assert cell.verdict == cells[pair].verdict, pair
    assert (labels(known | inferred, 10) == labels(cells, 10)).all()


def test_errors_that_may_add_up_to_the_margin_are_not_inferred():
    known, inferred = spanned(family_of(["x"] * 5, error=0.02), 5)
    assert len(known) == 10
    assert not inferred
    known, inferred = spanned(family_of(["x"] * 5, error=0.005), 5)
    assert len(known) == 4
    assert {cell.via for cell in inferred.values()} == {("0",)}


def test_a_network_that_nothing_is_known_of_stays_alone():
    cells = {pair: made_up("not_matched" if 0 in pair else "equivalent", 0.001) for pair in all_pairs(4)}
    known, inferred = spanned(cells, 4)
    assert (labels(known | inferred, 4) == [1, 0, 0, 0]).all()


@pytest.mark.parametrize("most", [1, 10, 25, 1000])
def test_rounds_hold_every_pair_once_and_few_networks(most):
    sizes = [3, 9, 2, 7, 5, 1]
    found = rounds(all_pairs(6), sizes, most)
    assert sorted(itertools.chain(*found)) == all_pairs(6)
    for some in found:
        held = {k for pair in some for k in pair}
        # Two networks there must be.
        assert sum(sizes[k] for k in held) <= most or len(held) == 2 or most == 10
    assert len(rounds(all_pairs(6), sizes, 1000)) == 1


def test_cells_are_the_same_after_json():
    for verdict in ("equivalent", "a_to_b", "undetermined", "not_matched"):
        cell = made_up(verdict)
        assert cell_of_dict(cell.to_dict()) == cell
        assert cell.turned().turned() == cell
    lost = Cell("undetermined", "", way(np.inf, "undetermined"), way(1.0, "fails"))
    assert cell_of_dict(lost.to_dict()) == lost


@pytest.mark.parametrize(
    "damage",
    [
        {"verdict": "splendid"},
        {"reason": None, "problems": [3]},
        {"forward": {"error": "x"}},
        {"forward": None},
        {"problems": None},
    ],
)
def test_what_is_no_cell_is_refused(damage):
    with pytest.raises(InputError):
        cell_of_dict(made_up("equivalent").to_dict() | damage)
    with pytest.raises(InputError):
        cell_of_dict([])
