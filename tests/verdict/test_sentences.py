"""What would decide an open verdict, in words that can be acted on; nothing is asked for where nothing is open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo.verdict.sentences import exchanged, reason_for
from support.reports import VERDICTS, evidence_of, report


def opened(kind="none", **change):
    """A report whose way from A to B is open, for want of this evidence."""
    given = report("undetermined")
    return replace(given, forward=replace(given.forward, evidence=replace(evidence_of(kind), **change)))


@pytest.mark.parametrize("verdict", VERDICTS)
def test_only_open_directions_ask_for_anything(verdict):
    given = report(verdict)
    assert len(given.would_decide) == (verdict == "undetermined")
    assert all(text.startswith("From A to B: ") for text in given.would_decide)
    assert bool(given.would_decide) == ("would decide it" in given.summary())


def test_without_torn_twins_it_is_the_map_that_is_to_be_mended():
    (text,) = opened(torn=0, wrong=np.empty(0, dtype=np.int64)).would_decide
    missed = np.linalg.norm(report("undetermined").forward.predicted - report("undetermined").forward.true, axis=1)
    worst = ", ".join(str(row) for row in np.sort(np.argsort(-missed)[:5]))
    assert f"more samples of both sides near the inputs of held-out rows {worst}" in text
    assert "more neurons" in text
    assert "check" not in text


def test_some_torn_twins_ask_for_more_pairs():
    (text,) = opened(torn=20).would_decide
    assert "bring more pairs" in text
    assert "more neurons" not in text


def test_suspected_pairs_are_told_by_the_rows_of_their_files():
    # Ten landmarks come first.
    (text,) = opened(wrong=np.array([4, 21, 30])).would_decide
    assert "check landmark row 4 and held-out rows 11, 20, which may be wrong" in text
    assert "check" not in opened(wrong=np.empty(0, dtype=np.int64)).would_decide[0]


def test_too_few_pairs_ask_for_a_number():
    (text,) = opened("too few", twins=5).would_decide
    assert "bring about 1,000 pairs of common inputs instead of 250" in text
    # Never for more than a multiple of what there is.
    assert "about 5,000 pairs" in opened("too few", twins=0).would_decide[0]


def test_unrelated_pairs_ask_for_their_order():
    (text,) = opened("unrelated").would_decide
    assert "same inputs in the same order" in text


def test_few_held_out_pairs_and_margins_within_the_bounds_come_first():
    given = opened("unrelated")
    few = replace(given.forward, true=given.forward.true[:12], predicted=given.forward.predicted[:12])
    assert replace(given, forward=few).would_decide == ["From A to B: bring 8 more held-out pairs, 20 at least."]
    between = replace(given.forward, lower=0.04)
    assert "halve the interval" in replace(given, forward=between).would_decide[0]


def test_reports_of_older_versions_ask_to_be_assessed_again():
    given = report("undetermined")
    assert "assess again" in replace(given, forward=replace(given.forward, evidence=None)).would_decide[0]


def test_what_is_asked_for_follows_its_side():
    there = exchanged(opened("unrelated"))
    assert there.would_decide[0].startswith("From B to A: check")
    both = opened("unrelated")
    both = replace(both, backward=replace(both.forward, true=both.backward.true, predicted=both.backward.predicted))
    assert len(both.would_decide) == 1
    assert both.would_decide[0].startswith("In both directions: ")


def test_the_reason_says_that_the_map_may_be_at_fault():
    given = opened()
    text = reason_for("undetermined", given.forward, given.backward, given.margin, given.significance)
    assert "whether the networks differ or the map is wrong could not be told. No loss is shown" in text
    failed = report("not_equivalent")
    text = reason_for("not_equivalent", replace(failed.forward, loss=None), failed.backward, 0.05, 0.05)
    assert "Loss is shown" in text
    assert "could not be told" not in text
