"""Evidence without pairs: what speaks against one domain, and what does not."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest
from diffeo import Observation, Screening, errors, screen
from diffeo.charts.isometric import isometric_chart
from diffeo.screening.overlay import lay_over
from support.domains import closed, seen, sphere
from support.samples import smooth_map, square

N = 400


def flat(seed=0, n=N, size=(1.0, 1.0), m=5):
    return Observation.from_jacobians(*smooth_map(len(size), m, seed)(square(n, len(size), seed) * size))


def folded(seed=1, n=N):
    """The first input is folded at 0.4."""
    x = square(n, 2, seed)
    inner = np.zeros((n, 2, 2))
    inner[:, 0, 0], inner[:, 1, 1] = 4.0 * (x[:, 0] - 0.4), 1.0
    y, outer = smooth_map(2, 5, seed)(np.column_stack([2.0 * (x[:, 0] - 0.4) ** 2, x[:, 1]]))
    return Observation.from_jacobians(y, outer @ inner, dim=2)


def interval(seed=1, n=N):
    return seen(square(n, 1, seed), np.ones((n, 1, 1)), 5, seed)


@functools.cache
def alike():
    return screen(flat(), flat(1, n=500, m=6))


def differs(found, *words):
    assert found.conclusion.startswith("differs: ")
    for word in words:
        assert word in found.conclusion, found.conclusion


def test_nothing_speaks_against_two_networks_on_one_domain():
    found = alike()
    assert isinstance(found, Screening)
    assert found.conclusion == "nothing speaks against equivalence"
    assert 0.2 < found.distance < 2.0
    assert found.dims == (2, 2)
    assert max(found.stress) < 1e-3
    assert max(found.overlay.round_trip) < 1e-3
    assert found.overlay.border < 0.02
    assert sum(map(len, found.overlay.uncovered)) < 0.02 * 900
    np.testing.assert_array_equal(found.ranks[0], [0.0, 0.0, 1.0])


def test_all_of_it_is_shown_and_goes_through_json():
    found = alike()
    text = found.summary()
    for word in ("intrinsic dimension", "spectrum of A", "stress of B", "there and back", "never prove"):
        assert word in text
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["distance"] == found.distance
    assert content["settings"]["n_samples"] == [400, 500]
    np.testing.assert_array_equal(content["fingerprints"]["spectra"]["halves"][1], found.fingerprints.spectra.halves[1])
    assert [len(x) for x in found.embeddings] == [400, 500]
    # A's sample lies over B's.
    np.testing.assert_allclose(*(np.ptp(x, axis=0) for x in found.embeddings), rtol=0.03)
    assert "nothing speaks against" in repr(found)


def test_an_input_that_a_side_ignores():
    differs(screen(flat(), interval()), "intrinsic dimension 2 and B 1", "B discards")
    found = screen(interval(), flat())
    differs(found, "A discards")
    assert found.overlay is None
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert "differs" in found.summary()


def test_a_folded_side():
    found = screen(flat(n=600), folded(n=600))
    differs(found, "of A's samples have no counterpart in B's domain")
    assert any("fold" in problem for problem in found.problems)


def test_another_domain():
    found = screen(flat(), flat(1, size=(1.0, 0.7)))
    differs(found, "spectra differ", "of A's samples have no counterpart")
    assert found.distance > 3.0
    assert not any("no counterpart" in problem for problem in found.problems)
    assert 0.1 * N < len(found.overlay.uncovered[0]) < 0.3 * N
    assert len(found.overlay.uncovered[1]) < 0.02 * N


def test_another_unit():
    differs(screen(flat(), flat(1, size=(1.25, 1.25))), "lengths on B are 1.2", "common factor")


def test_uneven_inputs_are_a_problem_and_no_difference():
    x = square(2 * N, 2, 1)
    x[:, 0] = 0.25 * np.sqrt(1.0 + 24.0 * x[:, 0]) - 0.25
    found = screen(flat(n=2 * N), Observation.from_jacobians(*smooth_map(2, 5, 1)(x)))
    assert found.differences == []
    assert any("not drawn alike" in problem for problem in found.problems)
    assert "but" in found.conclusion


def test_spheres_have_spectra_only():
    """Of round spheres, in R^3 itself: they bend little there."""
    sides = []
    for seed in (0, 1):
        y = sphere(N, seed)[0]
        sides.append(Observation.from_covariances(y, np.eye(3) - y[:, :, None] * y[:, None, :], dim=2))
    found = screen(*sides)
    assert found.differences == []
    assert found.overlay is None
    assert found.embeddings is None
    assert any("curved" in problem for problem in found.problems)
    assert found.fingerprints.spectra.p_value > 0.01


def test_measurements_that_bend_too_sharply_are_no_difference():
    """Five measurements of a sphere bend away between so few samples: its spectrum is that of the gates."""
    found = screen(sphere(N)[1], sphere(N, seed=1)[1])
    assert max(found.fingerprints.gated_share) > 0.3
    assert found.differences == []
    assert any("fail the gates" in problem for problem in found.problems)


def test_circles():
    turn = 2 * np.pi
    found = screen(closed(N, [[turn]])[1], closed(N, [[turn]], seed=3)[1])
    assert found.differences == []
    assert max(found.overlay.round_trip) < 1e-3
    differs(screen(closed(N, [[turn]])[1], closed(N, [[1.2 * turn]], seed=3)[1]), "period")


def test_points_alone_of_one_dimension():
    """Without a reference the unit is unknown, and only what does not depend on it is compared."""
    x, z = square(300, 1, 0), square(300, 1, 1)
    a = Observation.from_neighbors(np.hstack([np.sin(2 * x), x]), dim=1)
    b = Observation.from_neighbors(np.hstack([3.0 * z, np.cos(z)]), dim=1)
    found = screen(a, b)
    assert not a.known_unit
    assert found.dims == (1, 1)
    assert found.fingerprints is not None
    assert found.differences == []
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_an_unknown_unit_is_no_difference():
    a, b = (replace(obs, known_unit=False) for obs in (flat(), flat(1, size=(2.0, 2.0))))
    found = screen(a, b)
    assert found.differences == []
    assert found.overlay.transformation.scale == pytest.approx(2.0, rel=0.05)


def test_pieces_leave_no_conclusion():
    x = square(N, 2, 0) + 30.0 * (np.arange(N)[:, None] % 2)
    broken = Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (N, 2, 2)))
    found = screen(broken, flat())
    assert found.conclusion.startswith("no conclusion: ")
    assert "pieces" in found.conclusion
    assert found.distance == np.inf
    assert found.to_dict()["distance"] is None
    assert found.stress[0] is None
    assert "problem: no isometric coordinates" in found.summary()


def test_too_few_samples_leave_no_conclusion():
    found = screen(flat(n=100), flat(1, n=100))
    assert found.conclusion.startswith("no conclusion: the spectra could not be compared: 100 samples")
    assert screen(flat(n=100), flat(1, n=100), n_eigenvalues=3).fingerprints is not None


def test_deficient_samples_are_counted():
    x = square(N, 2, 0)
    y, jacobians = smooth_map(2, 5, 0)(x)
    jacobians[:3, :, 1] = 0.0
    with pytest.warns(errors.RankWarning):
        a = Observation.from_jacobians(y, jacobians)
    found = screen(a, flat(1))
    assert found.ranks[0][1] == pytest.approx(3 / N)
    np.testing.assert_array_equal(found.deficient[0], [0, 1, 2])
    assert "3 samples left out" in found.summary()


def test_four_dimensions_are_not_laid_over_each_other():
    found = screen(flat(n=400, size=(1.0,) * 4, m=6), flat(1, n=400, size=(1.0,) * 4, m=6), n_eigenvalues=4)
    assert found.overlay is None
    assert found.problems


def test_the_same_bits_for_any_number_of_threads():
    one, two = (screen(flat(n=200), flat(1, n=200), n_jobs=count).to_dict() for count in (1, 2))
    assert json.dumps(one) == json.dumps(two)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"obs_a": np.ones((5, 2))}, errors.DataTypeError),
        ({"obs_b": None}, errors.DataTypeError),
        ({"n_eigenvalues": 0}, errors.ParameterError),
        ({"significance": 1.0}, errors.ParameterError),
        ({"random_state": "seed"}, errors.ParameterError),
        ({"n_jobs": 0}, errors.ParameterError),
    ],
)
def test_arguments(arguments, error):
    with pytest.raises(error):
        screen(**({"obs_a": flat(n=50), "obs_b": flat(1, n=50)} | arguments))


# --- the overlay --------------------------------------------------------------------------------------------


def test_a_domain_without_symmetry_is_laid_over_itself():
    """A triangle of sides 3, 4, 5: each sample of A comes to lie next to samples of B with nearly its own input."""
    sides = []
    for seed in (0, 1):
        x = square(2 * N, 2, seed)
        x = x[x.sum(axis=1) < 1.0] * [0.3, 0.4]
        sides.append((x, isometric_chart(Observation.from_jacobians(*smooth_map(2, 5, seed)(x)), None)))
    (x_a, a), (x_b, b) = sides
    found = lay_over(a, b, np.random.default_rng(0), None)
    moved = found.transformation.alignment.forward(a.coordinates)
    nearest = np.linalg.norm(moved[:, None] - b.coordinates, axis=2).argmin(axis=1)
    assert np.median(np.linalg.norm(x_a - x_b[nearest], axis=1)) < 0.02
    assert found.density < 2.0
    assert found.border < 0.02
