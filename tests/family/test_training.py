"""Checkpoints of one run: they are known by their names, and the page begins with when the class of the last was reached."""

from __future__ import annotations

import re

import pytest
from diffeo.family.cells import Cell, Way
from diffeo.family.drawings import run_figure
from diffeo.family.found import Family
from diffeo.family.training import reached_by_last, steps_of
from diffeo.pairwise.plan import all_pairs


def run_of(classes, names):
    """A family whose networks are of these classes; those of an earlier letter determine those of a later one."""
    cells = {}
    for i, j in all_pairs(len(classes)):
        same = classes[i] == classes[j]
        there, back = (
            Way(e, e, e, e, s, "", "") for e, s in ((0.01, "holds"), (0.01, "holds") if same else (0.8, "fails"))
        )
        if classes[i] > classes[j]:
            there, back = back, there
        verdict = "equivalent" if same else "a_to_b" if classes[i] < classes[j] else "b_to_a"
        cells[i, j] = Cell(verdict, "said", there, back)
    known = dict.fromkeys(names, "")
    return Family(names, cells, [], {name: [] for name in names}, known, 0.05, 0.05, {"diffeo": "0"})


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("aabbb", "the class of the last {} (A) is reached at {}-20 and not left again"),
        ("aabab", "the class of the last {}, {}-40, was left again in between: {}-20, {}-40"),
        ("ababb", "the class of the last {} (A) is reached at {}-30, after it had been left again, and not left again"),
        ("aaaab", "no other {} is of the class of the last one, {}-40"),
        ("aaaaa", "the class of the last {} is that of all"),
    ],
)
@pytest.mark.parametrize(
    ("word", "order", "noun"), [("step", "In training", "checkpoint"), ("seed", "In the order given", "network")]
)
def test_when_the_class_of_the_last_was_reached(classes, said, word, order, noun, tmp_path):
    family = run_of(classes, [f"{word}-{10 * k}" for k in range(5)])
    expected = (
        f"{order}, {said}".replace("last {}", f"last {noun}").replace("other {}", f"other {noun}").replace("{}", word)
    )
    assert expected in re.sub(r"\s+", " ", family.summary())
    family.to_html(tmp_path / "page.html")
    page = re.sub(r"\s+", " ", (tmp_path / "page.html").read_text(encoding="utf-8"))
    # Checkpoints have it in the header and drawn at once, others after the graph.
    header, main = page.split("</header>")
    assert (expected in header) == (word == "step")
    assert expected in page
    assert (main.index('id="order"') < main.index('id="matrix"')) == (word == "step")
    assert page.count('id="order"') == 1


def test_the_figure_marks_where_the_class_was_reached():
    family = run_of("aabbb", [f"step-{10 * k}" for k in range(5)])
    found = reached_by_last(family)
    assert (found.first, found.alone, found.left) == (2, False, False)
    drawn = run_figure(family)
    assert "reached at step-20" in drawn
    assert "step-10: class B; step-20: class A" in drawn
    # To and from the last one: four dots in one path, and four rings.
    assert drawn.count("<circle") == 4
    assert re.search(r'd="(M[\d.]+ [\d.]+h0){4}" class="dot ink"', drawn)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["step-0", "step-20", "step-100"], ["0", "20", "100"]),
        (["e1-s10", "e1-s20", "e2-s5"], ["10", "20", "5"]),
        (["resnet-50-epoch-1", "resnet-50-epoch-2", "resnet-50-epoch-10"], ["1", "2", "10"]),
        (["seed-1", "seed-2", "seed-3"], []),
        (["run1-step-10", "run1-step-20", "run2-step-10"], []),
        (["step-20", "step-0", "step-100"], []),
        (["step-1", "step-2", "final"], []),
        (["step-1", "step-2"], []),
        (["one", "one", "one"], []),
    ],
)
def test_checkpoints_are_known_by_their_names(names, steps):
    assert steps_of(names) == steps
