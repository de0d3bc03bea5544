"""Kernels for many targets of one source: chosen once, solved once, as good as each target's own."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.matching.paired.components import components_of
from diffeo.matching.paired.kernel_choice import Effort
from diffeo.matching.paired.kernel_fit import KernelFit
from diffeo.matching.paired.local_kernels import LocalKernels
from diffeo.matching.paired.sample import Source, paired_sample
from diffeo.matching.paired.targets import kernels_of, shared_kernels
from support.paired import relative, with_cliff
from support.samples import square

# Of one fit to all pairs, and of one around each query.
EFFORTS = {KernelFit: Effort(1200, 240, 480, 100, 60), LocalKernels: Effort(300, 240, 300, 100, 60)}


@pytest.fixture(scope="module")
def given():
    """One source with a wall, three targets of other sizes and units, more values in all than are combined; new inputs."""
    wall, x, new = with_cliff(2, 5, 1, 12.0), square(300, 2, 3), square(200, 2, 9)
    maps = [with_cliff(2, m, 2 + k, 6.0) for k, m in enumerate((6, 40, 30))]
    units = (1.0, 1e3, 1e-4)

    def side(measure, unit=1.0):
        points, jacobians = (unit * part for part in measure(x))
        return components_of(points), points, jacobians

    source, targets = side(wall), [side(b, u) for b, u in zip(maps, units, strict=True)]
    return source, targets, source[0].reduced(wall(new)[0]), [u * b(new)[0] for b, u in zip(maps, units, strict=True)]


@pytest.mark.parametrize("kind", EFFORTS)
def test_each_target_is_met_as_by_kernels_of_its_own(given, kind):
    source, targets, queries, truths = given
    shared = shared_kernels(Source.of(source, 2), targets, 0, EFFORTS[kind])
    assert isinstance(shared.model, kind)
    for number, (target, truth) in enumerate(zip(targets, truths, strict=True)):
        known = shared.of_target(number, target)
        own = kernels_of(paired_sample(source, target, 2, with_slopes=True), 0, EFFORTS[kind])
        assert np.array_equal(known.known, own.known)
        assert np.array_equal(known.sample.values, own.sample.values)
        errors = [relative(target[0].restored(one.model.predict(queries @ one.metric)), truth) for one in (known, own)]
        assert errors[0] < 2.0 * errors[1]
        # What is missed of pairs left out tells of new ones.
        missed = np.linalg.norm(known.missed) / np.sqrt(len(known.missed)) / known.sample.spread
        assert errors[0] / 10.0 < missed < 10.0 * errors[0]


def test_pairs_left_out_are_missed_as_by_a_fit_without_them(given):
    source, targets = given[:2]
    shared = shared_kernels(Source.of(source, 2), targets, 0, EFFORTS[LocalKernels])
    for number, target in enumerate(targets):
        known = shared.of_target(number, target)
        alone = known.model.predict(known.seen.points[known.known], known.known)
        exact = known.sample.values[known.known] - alone
        assert np.allclose(exact, known.missed, rtol=0.0, atol=1e-9 * known.sample.spread)


def test_what_waits_for_its_target_holds_none(given):
    source, targets = given[:2]
    shared = shared_kernels(Source.of(source, 2), targets, 0, EFFORTS[LocalKernels])
    assert shared.seen.values.size == shared.model.sample.targets.size == 0
