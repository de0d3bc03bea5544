"""Held-out pairs that those next to them contradict on both sides are set aside and named; large errors alone are not."""

from __future__ import annotations

import json

import diffeo
import numpy as np
import pytest
from diffeo.verdict.set_aside import contradicted_pairs
from support.pairs import at, maps, matched
from support.samples import square


def judged(wrong, count=100, seed=3):
    """A report of a good map on held-out pairs of which some rows have the partner of another input."""
    x = square(count, 2, seed)
    a, b = at(maps(), x)
    b[wrong] = maps()[1](1.0 - x[wrong])[0]
    return diffeo.assess(matched(), (a, b), baselines=False)


@pytest.mark.parametrize(("row", "count"), [(17, 100), (503, 1000)])
def test_one_wrong_pair_does_not_change_the_verdict_and_is_named(row, count, tmp_path):
    good, found = judged([], count), judged([row], count)
    assert good.verdict == found.verdict == "equivalent"
    assert len(good.set_aside) == 0
    assert good.verdict_with_all == good.verdict
    assert np.array_equal(found.set_aside, [row])
    assert found.verdict_with_all == "undetermined"
    assert len(found.forward.true) == len(found.held_out[0]) == count - 1
    assert row not in found.judged
    for text in (found.reason, found.summary().replace("\n  ", " ")):
        assert f"1 of {count} held-out pairs (row {row}, " in text
        assert "with it the verdict would be 'undetermined'" in text
    found.to_json(tmp_path / "r.json")
    stored = json.loads((tmp_path / "r.json").read_text())
    assert stored["set_aside"] == [row]
    assert stored["verdict_with_all"] == "undetermined"
    found.to_html(tmp_path / "r.html")
    assert f"(row {row}, " in (tmp_path / "r.html").read_text()
    found.save(tmp_path / "r.safetensors")
    again = diffeo.load(tmp_path / "r.safetensors")
    assert np.array_equal(again.set_aside, [row])
    assert again.verdict_with_all == "undetermined"


def test_many_wrong_pairs_are_not_set_aside():
    found = judged([5, 17, 40, 66, 80])
    assert len(found.set_aside) == 0
    assert found.verdict != "equivalent"


def ways(count=200, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.random((count, 2))
    return true + 1e-3 * rng.normal(size=true.shape), true


def test_a_large_error_alone_sets_nothing_aside():
    # By far the largest, and yet others of the map are nearer by no more than it.
    predicted, true = ways()
    predicted[8] += 0.03
    assert len(contradicted_pairs([(predicted, true)])) == 0
    # A region in which the map is wrong.
    predicted, true = ways()
    region = np.argsort(np.linalg.norm(true - true[8], axis=1))[:4]
    predicted[region] = predicted[region] + 0.4
    assert len(contradicted_pairs([(predicted, true)])) == 0
    # A pair that is far from all others on one side.
    predicted, true = ways()
    true[8] += 5.0
    assert len(contradicted_pairs([(predicted, true)])) == 0


def test_a_direction_that_misses_most_pairs_contradicts_none():
    rng = np.random.default_rng(1)
    predicted, true = ways()
    true[8] = 1.0 - true[8]
    lost = rng.random((200, 2)), rng.random((200, 2))
    assert np.array_equal(contradicted_pairs([(predicted, true), lost]), [8])
    assert len(contradicted_pairs([lost])) == 0
    # What holds both ways must contradict it both ways.
    assert len(contradicted_pairs([(predicted, true), ways(seed=2)])) == 0
    assert len(contradicted_pairs([(predicted[:19], true[:19])])) == 0
