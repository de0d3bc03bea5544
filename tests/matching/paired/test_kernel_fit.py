"""The kernel fit: what it misses of pairs left out in turn, and the choice of width and slopes."""

from __future__ import annotations

import numpy as np
from diffeo.matching.paired import kernel_fit
from diffeo.matching.paired.kernel_fit import _Recipe, _trained, fit_kernels
from support.paired import pairs_of, sample_of_pairs, smooth_pairs, with_cliff
from support.samples import square


def test_left_out_errors_are_those_of_fits_without_the_pair():
    pairs, *_ = smooth_pairs(60)
    sample, *_ = sample_of_pairs(pairs, 2)
    rows, centres = np.arange(60), np.arange(0, 60, 3)
    for slopes in (True, False):
        recipe = _Recipe(2.0, 1e-6, slopes)
        whole = _trained(sample, rows, centres, recipe, 0.1)
        kernels = whole.model.centres
        for i in (1, 20, 59):
            kept = np.delete(rows, i)
            # The same kernels, and the same ridge in all.
            again = np.array([np.flatnonzero(kept == c)[0] for c in centres])
            one = _trained(sample, kept, again, _Recipe(2.0, 1e-6 * 60 / 59, slopes), 0.1)
            assert np.array_equal(one.model.centres, kernels)
            missed = sample.values[i] - one.model.predict(sample.points[i : i + 1])[0]
            assert np.allclose(missed, whole.missed[i], rtol=1e-4, atol=1e-9)


def test_slopes_help_where_values_are_few():
    a, b = with_cliff(2, 5, 1, 8.0), with_cliff(2, 6, 2, 8.0)
    pairs, new = pairs_of(a, b, square(250, 2, 3)), square(300, 2, 9)
    errors = []
    for with_slopes in (True, False):
        sample, source, target = sample_of_pairs(pairs, 2, with_slopes)
        found = fit_kernels(sample, np.arange(250), np.random.default_rng(0))
        predicted = target.restored(found.model.predict(source.reduced(a(new)[0])))
        errors.append(np.linalg.norm(predicted - b(new)[0]))
        # What is missed of pairs left out tells the error.
        per_pair = np.sqrt((found.missed**2).sum() / 250), errors[-1] / np.sqrt(300)
        assert 0.2 < per_pair[0] / per_pair[1] < 5.0
    assert errors[0] < 0.7 * errors[1]


def test_no_kernel_is_fitted_to_what_cannot_be_factored(monkeypatch):
    pairs, *_ = smooth_pairs(40)
    sample, *_ = sample_of_pairs(pairs, 2)
    monkeypatch.setattr(kernel_fit, "JITTER", -10.0)
    assert _trained(sample, np.arange(40), np.arange(40), _Recipe(1.0, 1e-6, True), 0.1) is None
