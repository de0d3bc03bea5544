"""The ladder of stresses: in order, in one place, and what each rule says at its rungs."""

from __future__ import annotations

import re
from pathlib import Path

import diffeo
import numpy as np
import pytest
from diffeo.isometry import trust

LADDER = (
    "SECOND_LOOK",
    "UNSETTLED",
    "DOUBTFUL",
    "SUSPICIOUS",
    "DISTORTED",
    "FOLDED",
    "STRAINED",
    "NOT_ISOMETRIC",
    "NOISY_ISOMETRIC",
)


def test_the_ladder_rises():
    rungs = [getattr(trust, name) for name in LADDER]
    assert rungs == sorted(set(rungs))
    assert trust.OVERLAPPING < trust.SHEETS


def test_no_other_module_keeps_a_threshold_of_its_own():
    here = Path(trust.__file__)
    named = re.compile(r"^\w*(STRESS|ISOMETRIC|DISTORTED|SHEETS|OVERLAP)\w* = [\d.]", re.MULTILINE)
    assert named.search(here.read_text(encoding="utf-8"))
    for path in Path(diffeo.__file__).parent.rglob("*.py"):
        if path != here:
            assert not named.search(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_chart_keeps_lengths_as_far_as_their_noise_allows_and_is_one_to_one(noise):
    limit = max(trust.NOT_ISOMETRIC, noise)
    assert trust.is_chart(limit, trust.SHEETS, noise)
    assert not trust.is_chart(np.nextafter(limit, 1.0), 0.0, noise)
    assert not trust.is_chart(0.0, np.nextafter(trust.SHEETS, 1.0), noise)
    assert not trust.is_chart(np.nan, 0.0, noise)
    assert trust.is_distorted(np.nan, 0.0, noise)
    assert not trust.is_distorted(max(trust.DISTORTED, noise), trust.SHEETS, noise)
    assert trust.is_suspicious(np.nextafter(max(trust.SUSPICIOUS, noise), 1.0), noise)
    # What no problem is named of is no distortion, and what is distorted may still be a chart.
    for stress in np.geomspace(1e-5, 1.0, 60):
        assert trust.is_suspicious(stress, noise) or not trust.is_distorted(stress, 0.0, noise)
        assert trust.is_distorted(stress, 0.0, noise) or trust.keeps_lengths(stress, noise)


def test_a_suspicious_stress_is_a_problem_where_it_may_stand_for_a_wrong_layout():
    stress = 0.5 * (trust.SUSPICIOUS + trust.STRAINED)
    assert trust.is_strained(stress, 0.0, 1.01 * trust.MOVED)
    assert not trust.is_strained(stress, 0.0, trust.MOVED)
    assert trust.is_strained(1.01 * trust.STRAINED, 0.0, 0.0)
    assert not trust.is_strained(trust.SUSPICIOUS, 0.0, 1.0)
    assert not trust.is_strained(0.1, 0.2, 1.0)


def test_noise_excuses_a_registration_up_to_a_limit():
    assert trust.is_isometry(trust.NOT_ISOMETRIC, 0.0)
    assert not trust.is_isometry(1.01 * trust.NOT_ISOMETRIC, 0.0)
    assert trust.is_isometry(0.09, 0.03)
    assert not trust.is_isometry(1.01 * trust.NOISY_ISOMETRIC, 10.0)


@pytest.mark.parametrize(
    ("stress", "overlap", "settled", "doubtful"),
    [(1e-4, 0.0, True, False), (1e-4, 0.0, False, True), (1e-4, 0.02, True, True), (0.01, 0.0, True, True)],
)
def test_what_is_looked_at_again(stress, overlap, settled, doubtful):
    assert trust.is_doubtful(stress, overlap, settled, 3) == doubtful


@pytest.mark.parametrize(
    ("stress", "overlap", "settled", "doubtful"),
    [(0.01, 0.0, False, False), (0.02, 0.0, True, True), (1e-4, 0.02, True, True)],
)
def test_what_is_looked_at_again_in_many_dimensions(stress, overlap, settled, doubtful):
    assert trust.is_doubtful(stress, overlap, settled, 4) == doubtful


def test_doubt_grows_with_the_square_of_the_worse_stress():
    assert trust.doubt_of_stress(1e-3, 1e-2) == pytest.approx(1e-2)
    assert trust.doubt_of_stress(5e-3) == pytest.approx(0.25 * trust.doubt_of_stress(1e-2))
    assert trust.doubt_of_stress(0.5) == 1.0


def test_one_stray_of_a_hundred_is_left_out():
    assert not trust.too_many_strays(10, 1000)
    assert trust.too_many_strays(11, 1000)
