"""Warnings that are not said, in one thread at a time, and facts that are handed on in their place."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest
from diffeo import errors
from diffeo._support.placed import Placed


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
    with pytest.warns(errors.OutOfDomainWarning, match="1 of 2 points"):
        assert Placed(values, "1 of 2 points").said() is values
