"""Kernels around each query: as good as one fit to all, and chosen by pairs left out."""

from __future__ import annotations

import numpy as np
from diffeo.matching.paired.kernel_choice import FULL
from diffeo.matching.paired.kernel_fit import input_spacing
from diffeo.matching.paired.local_kernels import LocalKernels, fit_local_kernels
from support.paired import pairs_of, sample_of_pairs, smooth_pairs, with_cliff
from support.samples import square


def fitted(sample, known):
    return fit_local_kernels(sample, known, input_spacing(sample, known), FULL)


def relative(missed, sample):
    return float(np.sqrt((missed**2).sum(axis=1).mean())) / sample.spread


def test_left_out_errors_tell_those_of_new_inputs():
    a, b = with_cliff(2, 5, 1, 15.0), with_cliff(2, 6, 2, 12.0)
    sample, source, target = sample_of_pairs(pairs_of(a, b, square(900, 2, 3)), 2)
    found, missed = fitted(sample, np.arange(0, 900, 2))
    new = square(500, 2, 9)
    errors = target.reduced(b(new)[0]) - found.predict(source.reduced(a(new)[0]))
    assert 0.3 < relative(errors, sample) / relative(missed, sample) < 3.0
    assert relative(errors, sample) < 0.01


def test_slopes_count_where_there_are_some():
    pairs, a, b = smooth_pairs(400)
    new, errors = square(200, 2, 31), []
    for with_slopes in (True, False):
        sample, source, target = sample_of_pairs(pairs, 2, with_slopes)
        found, _ = fitted(sample, np.arange(200))
        assert (found.step > 0.0) == with_slopes
        errors.append(relative(target.reduced(b(new)[0]) - found.predict(source.reduced(a(new)[0])), sample))
    assert errors[0] < 0.7 * errors[1]


def test_a_pair_left_out_does_not_count():
    pairs, *_ = smooth_pairs(300)
    sample, *_ = sample_of_pairs(pairs, 2)
    model, rows = LocalKernels(sample, "gaussian", 2.0, 1e-12, 0.05), np.array([3, 70, 250])
    with_itself, without = model.predict(sample.points[rows]), model.predict(sample.points[rows], rows)
    assert np.allclose(with_itself, sample.values[rows], atol=1e-6)
    assert (np.linalg.norm(without - sample.values[rows], axis=1) > 1e-9).all()
