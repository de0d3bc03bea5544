"""Maps of one protocol: what each joins, what it is called, and candidates taken one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from diffeo import errors, relative_error
from diffeo.matching.maps import ByDiffusion, ByIsometry, ByPairs, ByRegistration
from support.stored import at, circle, matched, new_inputs

KINDS = {
    "isometric": (ByIsometry, "isometric"),
    "circle": (ByIsometry, "isometric"),
    "projection": (ByIsometry, "isometric"),
    "diffusion": (ByDiffusion, "diffusion"),
    "sphere": (ByRegistration, "diffusion"),
    "regression": (ByPairs, "regression"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformation_is_its_map(kind):
    t = matched(kind)
    points_a, points_b = at(kind, new_inputs(kind))
    assert (type(t.map), t.coordinates) == KINDS[kind]
    assert (t.a, t.b, t.alignment) == (t.map.a, t.map.b, t.map.alignment)
    assert (t.registration is not None) == (kind == "sphere")
    forward = t.map.forward(points_a, 1)
    assert forward.values.tobytes() == t.sent(points_a).values.tobytes()
    assert t.map.intrinsic(points_a, 1).values.shape == (len(points_a), t.b.coordinates.shape[1])
    if t.invertible:
        assert t.map.backward(points_b, 1).values.tobytes() == t.sent_back(points_b).values.tobytes()
    else:
        with pytest.raises(errors.NotInvertibleError):
            t.sent_back(points_b)
    # Off the manifold, every map with coordinates says so.
    assert bool(t.map.forward(points_a + 0.5, 1).outside)


def test_points_outside_are_warned_of_once():
    t = matched("isometric")
    far = at("isometric", new_inputs("isometric"))[0] + 1e3
    for use in (t.transform, t.intrinsic):
        with pytest.warns(errors.OutOfDomainWarning) as caught:
            use(far)
        assert len(caught) == 1


def test_candidates_are_taken_one_by_one():
    t = matched("candidates")
    points_a, points_b = at("candidates", circle(np.linspace(0.0, 1.0, 40))[0])
    assert t.by_candidate(0) is t
    maps = [t.by_candidate(k) for k in range(len(t.candidates))]
    assert [one.alignment for one in maps] == t.candidates
    assert all(len(one.candidates) == 1 for one in maps[1:])
    missed = [relative_error(one.transform(points_a), points_b) for one in maps]
    assert min(missed) < 0.05 < 0.3 < max(missed)
    back = [relative_error(one.inverse_transform(points_b), points_a) for one in maps]
    assert np.argmin(back) == np.argmin(missed)


@pytest.mark.parametrize("number", [2, -1, 1.0, None])
def test_other_candidates_are_refused(number):
    with pytest.raises(errors.ParameterError, match="number"):
        matched("candidates").by_candidate(number)


def test_registrations_and_regressions_leave_no_choice():
    for kind in ("sphere", "regression"):
        t = matched(kind)
        other = t.candidates[0]
        t = replace(t, candidates=[other, replace(other)])
        with pytest.raises(errors.ParameterError, match="match again, with a landmark that decides"):
            t.by_candidate(1)
