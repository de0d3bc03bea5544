"""A report, and its directions, in one line each where they are printed."""

from __future__ import annotations

import diffeo
import numpy as np


def test_a_report_and_its_directions_are_short_where_they_are_printed():
    x = np.random.default_rng(0).random((160, 1))
    slopes = np.ones((160, 1, 1))
    report = diffeo.assess(diffeo.match_pairs(diffeo.Pairs(x, np.sin(x), slopes, np.cos(x)[:, :, None])))
    assert repr(report).startswith("Report(equivalent: A -> B ")
    assert repr(report).endswith(" %, holds; 0 problems)")
    assert len(repr(report)) < 100
    assert "array(" not in repr(report.forward).partition("evidence=")[0]
    assert "status='holds'" in repr(report.forward)
