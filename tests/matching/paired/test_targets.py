"""Kernels for many targets of one source: chosen once, solved once, as good as each target's own."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.matching.paired.kernel_choice import Effort
from diffeo.matching.paired.kernel_fit import KernelFit
from diffeo.matching.paired.local_kernels import LocalKernels
from diffeo.matching.paired.targets import kernels_of, kernels_of_all
from support.paired import pairs_of, relative, sample_of_pairs, with_cliff
from support.samples import square

# Of one fit to all pairs, and of one around each query.
EFFORTS = {KernelFit: Effort(1200, 240, 480, 100, 60), LocalKernels: Effort(300, 240, 300, 100, 60)}


@pytest.fixture(scope="module")
def samples():
    """One source with a wall, three targets of other sizes and units, more values in all than are combined; new inputs."""
    source, x, new = with_cliff(2, 5, 1, 12.0), square(300, 2, 3), square(200, 2, 9)
    widths, units = (6, 40, 30), (1.0, 1e3, 1e-4)
    targets = [with_cliff(2, m, 2 + k, 6.0) for k, m in enumerate(widths)]
    found = [
        sample_of_pairs(pairs_of(source, lambda x, b=b, u=u: tuple(u * part for part in b(x)), x), 2)
        for b, u in zip(targets, units, strict=True)
    ]
    truths = [u * b(new)[0] for b, u in zip(targets, units, strict=True)]
    return [one[0] for one in found], found[0][1].reduced(source(new)[0]), [one[2] for one in found], truths


@pytest.mark.parametrize("kind", EFFORTS)
def test_each_target_is_met_as_by_kernels_of_its_own(samples, kind):
    given, queries, components, truths = samples
    found = kernels_of_all(given, 0, EFFORTS[kind])
    assert all(np.array_equal(one.metric, found[0].metric) for one in found)
    for sample, known, target, truth in zip(given, found, components, truths, strict=True):
        own = kernels_of(sample, 0, EFFORTS[kind])
        assert isinstance(known.model, kind)
        assert np.array_equal(known.known, own.known)
        errors = [relative(target.restored(one.model.predict(queries @ one.metric)), truth) for one in (known, own)]
        assert errors[0] < 2.0 * errors[1]
        # What is missed of pairs left out tells of new ones.
        missed = np.linalg.norm(known.missed) / np.sqrt(len(known.missed)) / sample.spread
        assert errors[0] / 10.0 < missed < 10.0 * errors[0]


def test_pairs_left_out_are_missed_as_by_a_fit_without_them(samples):
    given = samples[0]
    for known, sample in zip(kernels_of_all(given, 0, EFFORTS[LocalKernels]), given, strict=True):
        alone = known.model.predict(known.seen.points[known.known], known.known)
        assert np.allclose(sample.values[known.known] - alone, known.missed, rtol=0.0, atol=1e-9 * sample.spread)


def test_one_target_alone_is_as_without_others(samples):
    (found,), own = (
        kernels_of_all(samples[0][:1], 0, EFFORTS[KernelFit]),
        kernels_of(samples[0][0], 0, EFFORTS[KernelFit]),
    )
    assert np.array_equal(found.missed, own.missed)
