"""A network's input and output from a few of its neurons and a few known values."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors, relative_error
from diffeo.charts.isometric import isometric_chart
from support.samples import smooth_map, square

MEASURE = smooth_map(2, 5, 3)


def output(x):
    return np.column_stack([np.sin(3.0 * x[:, 0]) * np.cos(2.0 * x[:, 1]), x[:, 0] * x[:, 1]])


@pytest.fixture(scope="module")
def sample():
    x = square(1500)
    observation = Observation.from_jacobians(*MEASURE(x))
    return x, observation, isometric_chart(observation, None)


@pytest.fixture(scope="module")
def test_set():
    x = 0.98 * square(300, seed=50) + 0.01
    return x, MEASURE(x)[0]


def test_three_known_inputs_are_enough(sample, test_set):
    x, observation, _ = sample
    found = diffeo.reconstruct(observation, [0, 1, 2], x[:3])
    assert relative_error(found.predict(test_set[1]), test_set[0]) < 1e-3
    assert found.problems == []
    assert found.error == np.inf
    assert found.alignment.kind == "rigid"
    assert found.kind == "input"


def test_more_known_inputs_improve_and_tell_the_error(sample, test_set):
    x, _, chart = sample
    few = diffeo.reconstruct(chart, np.arange(3), x[:3])
    many = diffeo.reconstruct(chart, np.arange(40), x[:40])
    error = relative_error(many.predict(test_set[1]), test_set[0])
    assert error <= 1.1 * relative_error(few.predict(test_set[1]), test_set[0])
    assert error / 4 < many.error < 4 * error


def test_known_measurements_serve_as_well_as_rows(sample, test_set):
    x, observation, chart = sample
    by_rows = diffeo.reconstruct(chart, np.arange(12), x[:12])
    by_points = diffeo.reconstruct(chart, observation.points[:12], x[:12])
    np.testing.assert_allclose(by_points.predict(test_set[1]), by_rows.predict(test_set[1]), atol=1e-5)


def test_outputs_from_a_few_tens(sample, test_set):
    x, _, chart = sample
    t, points = test_set
    found = {n: diffeo.reconstruct(chart, np.arange(n), output(x[:n]), kind="output") for n in (30, 100)}
    held_out = {n: relative_error(f.predict(points), output(t)) for n, f in found.items()}
    assert held_out[30] < 0.1
    assert held_out[100] < 0.01
    assert found[100].alignment is None
    assert all(held_out[n] / 6 < found[n].error < 6 * held_out[n] for n in found)


def test_an_unknown_unit_is_found(test_set):
    x = square(1500)
    points, jacobians = MEASURE(x)
    observation = Observation.from_covariances(points, 9.0 * jacobians @ jacobians.transpose(0, 2, 1), dim=2)
    if observation.known_unit:
        # In a unit three times as large the problem is named.
        found = diffeo.reconstruct(observation, np.arange(5), x[:5])
        assert any("another unit" in problem for problem in found.problems)
    else:
        found = diffeo.reconstruct(observation, np.arange(5), x[:5])
        assert relative_error(found.predict(test_set[1]), test_set[0]) < 1e-3


def test_values_that_do_not_depend_on_the_input_are_named(sample):
    _, _, chart = sample
    noise = np.random.default_rng(0).normal(size=(40, 1))
    found = diffeo.reconstruct(chart, np.arange(40), noise, kind="output")
    assert found.error > 0.5
    assert len(found.problems) == 1
    assert "left out one by one, the 40 known values are missed by" in found.problems[0]


def test_inputs_in_another_unit_are_named(sample):
    x, _, chart = sample
    found = diffeo.reconstruct(chart, np.arange(5), 2.0 * x[:5])
    assert any("2.0" in problem and "another unit" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("known", "values", "kind", "error", "message"),
    [
        ([0, 1], square(2), "input", errors.LandmarkError, "at least 3"),
        ([0, 0, 0], np.ones((3, 2)), "input", errors.LandmarkError, "leave a direction"),
        ([0, 1, 2], square(3)[:, :1], "input", errors.ShapeError, "inputs need 2 columns"),
        ([0, 1, 2, 3, 4], square(5), "output", errors.SampleSizeError, "at least 15"),
        ([0, 1, 2], square(4), "input", errors.ShapeError, "length 3"),
        ([0, 1, 99999], square(3), "input", errors.InputError, "outside of"),
        (np.ones((3, 4)), square(3), "input", errors.ShapeError, "length 5"),
        ([[1.0], [2.0, 3.0]], square(2), "input", errors.ShapeError, "rectangular"),
        ([0, 1, 2], np.full((3, 2), np.nan), "input", errors.NonFiniteError, "NaN"),
        ([0, 1, 2], square(3), "inputs", errors.ParameterError, "kind must be"),
        (np.full((3, 5), 1e3) + np.eye(3, 5), square(3), "input", errors.LandmarkError, "manifold"),
    ],
)
def test_what_cannot_be_used(sample, known, values, kind, error, message):
    with pytest.raises(error, match=message):
        diffeo.reconstruct(sample[2], known, values, kind=kind)


def test_a_source_that_is_none(sample):
    with pytest.raises(errors.DataTypeError, match="source must be"):
        diffeo.reconstruct(sample[0], [0, 1, 2], sample[0][:3])


def test_points_off_the_manifold_warn(sample):
    x, _, chart = sample
    found = diffeo.reconstruct(chart, np.arange(3), x[:3])
    with pytest.warns(errors.OutOfDomainWarning):
        found.predict(np.full((1, 5), 100.0))
    with pytest.raises(errors.ShapeError):
        found.predict(np.ones((2, 4)))


def test_the_section_of_the_demo(sample, tmp_path, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    from diffeo.demos.page import Page
    from diffeo.demos.scalar.reconstructed import KNOWN_INPUTS, KNOWN_OUTPUTS, reconstruct_section

    x, _, chart = sample
    page = Page("title", "lead")
    reconstruct_section(
        lambda t: MEASURE(t)[0], chart, x, lambda t: output(t)[:, :1], 0.9 * square(100, seed=8) + 0.05, tmp_path, page
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [line[1] for line in lines] == ["inputs"] * len(KNOWN_INPUTS) + ["outputs"] * len(KNOWN_OUTPUTS)
    # From three known inputs the reconstruction is far better than either plain fit.
    assert float(lines[0][2]) < 0.01 * min(map(float, lines[0][-2:]))
    assert (tmp_path / "reconstruction.png").stat().st_size > 10_000
    assert len(page.sections) == 1
    page.write(tmp_path / "page.html")
    assert "data:image/png;base64," in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_section_of_the_demo_without_coordinates_says_so(tmp_path, capsys):
    from diffeo.demos.page import Page
    from diffeo.demos.scalar.reconstructed import reconstruct_section

    page = Page("title", "lead")
    reconstruct_section(None, None, square(3), None, square(3), tmp_path, page)
    assert "nothing to reconstruct from" in capsys.readouterr().out
    assert page.sections == []
