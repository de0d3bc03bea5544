"""Warnings that are not said, in one thread at a time, and facts that are handed on in their place."""

from __future__ import annotations

import pickle
import threading
import warnings

import numpy as np
import pytest
from diffeo import errors
from diffeo._support.placed import Outside, Placed


def warned(*categories):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for category in categories:
            errors.warn("said", category)
    return [one.category for one in caught]


def test_what_is_not_to_be_said_is_not_said():
    both = errors.RankWarning, errors.SpectrumWarning
    with errors.unsaid(errors.RankWarning):
        assert warned(*both) == [errors.SpectrumWarning]
        with errors.unsaid(errors.DiffeoWarning):
            assert warned(*both) == []
        assert warned(*both) == [errors.SpectrumWarning]
    assert warned(*both) == [*both]


def test_after_an_error_all_is_said_again():
    with pytest.raises(ZeroDivisionError), errors.unsaid(errors.DiffeoWarning):
        _ = 1 / 0
    assert warned(errors.RankWarning) == [errors.RankWarning]


def test_other_threads_are_not_silenced():
    found = []
    with errors.unsaid(errors.DiffeoWarning):
        thread = threading.Thread(target=lambda: found.extend(warned(errors.RankWarning)))
        thread.start()
        thread.join()
    assert found == [errors.RankWarning]


def test_filters_are_those_of_the_caller():
    before = list(warnings.filters)
    with errors.unsaid(errors.DiffeoWarning):
        assert warnings.filters == before


def test_placed_values_are_warned_of_at_the_edge():
    values = np.ones((2, 3))
    assert Placed(values).said() is values
    outside = Outside(9, np.array([1]), np.arange(2, 9))
    with pytest.warns(errors.OutOfDomainWarning) as caught:
        assert Placed(values, outside).said("A", "B") is values
    assert [str(one.message) for one in caught] == [
        "1 of 9 points lie off A's measured manifold or outside of A's sampled domain (row 1); the partners of 7 of 9 points "
        "lie outside of B's samples (rows 2, 3, 4, 5, 6 and 2 more): results there are extrapolated, or those of the nearest "
        "sample"
    ]
    warning = caught[0].message
    assert warning.off_manifold.tolist() == [1]
    assert warning.rows.tolist() == list(range(1, 9))
    with errors.unsaid(errors.OutOfDomainWarning):
        assert Placed(values, outside).said() is values


def test_a_row_is_named_for_one_reason():
    outside = Outside(5, np.array([1, 3])).partners(np.array([True, True, False, False, False]))
    assert outside
    assert outside.off_manifold.tolist() == [1, 3]
    assert outside.no_counterpart.tolist() == [0]
    more = outside.partners(np.array([False, False, False, False, True]))
    assert more.no_counterpart.tolist() == [0, 4]
    assert not Outside(5).partners(np.zeros(5, dtype=bool))
    assert str(Outside(5)) == ""
    assert "the measured manifold" in str(outside)
    assert "the other side's samples" in str(outside)


def test_a_warning_with_rows_survives_a_pickle():
    # Processes hand warnings to each other.
    warning = pickle.loads(pickle.dumps(errors.OutOfDomainWarning("said", [3], [1, 2])))
    assert (str(warning), warning.off_manifold.tolist(), warning.no_counterpart.tolist()) == ("said", [3], [1, 2])
    plain = errors.OutOfDomainWarning("said")
    assert len(plain.rows) == 0
