"""Samples that fall into pieces: a chart of the piece that holds most of them, and what was left out, by row."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from support.samples import smooth_map, square

A, B = smooth_map(2, 5, 3), smooth_map(2, 5, 4)


def observed(measure, x, apart):
    """Measurements of the square; the samples with x_0 below `apart` lie elsewhere, with tangents that others do not have."""
    y, jacobians = measure(x)
    y, jacobians = np.pad(y, ((0, 0), (0, 5))), np.pad(jacobians, ((0, 0), (0, 5), (0, 0)))
    there = x[:, 0] < apart
    y[there] = np.roll(y[there], 5, axis=1) + 9.0
    jacobians[there] = np.roll(jacobians[there], 5, axis=1)
    return Observation.from_jacobians(y, np.ascontiguousarray(jacobians))


def test_the_piece_that_holds_most_of_the_sample_gets_a_chart():
    x = square(1200, 2, 1)
    apart = np.flatnonzero(x[:, 0] < 0.2)
    chart = diffeo.embed(observed(A, x, 0.2))
    assert chart.kind == "isometric"
    np.testing.assert_array_equal(chart.left_out, apart)
    (said,) = chart.problems
    assert f"{len(apart)} samples ({100 * len(apart) / 1200:.0f} %; rows {apart[0]}, {apart[1]}" in said
    assert "suggest_inputs" in said
    kept = np.setdiff1d(np.arange(1200), apart)
    found, true = chart.coordinates[kept], x[kept]
    u, _, vt = np.linalg.svd((found - found.mean(0)).T @ (true - true.mean(0)))
    miss = (found - found.mean(0)) @ (u @ vt) - (true - true.mean(0))
    assert np.linalg.norm(miss) < 1e-3 * np.linalg.norm(true - true.mean(0))


def test_matches_go_on_with_the_largest_piece_and_name_the_rest():
    x, new = square(1200, 2, 1), np.column_stack([0.25 + 0.7 * square(100, 1, 9), square(100, 1, 10)])
    a = observed(A, x, 0.2)
    b = Observation.from_jacobians(*B(square(1000, 2, 2)))
    # Of the landmarks two lie in the other piece, one fewer than that would need for a map of its own.
    marks = np.concatenate(
        [np.column_stack([0.25 + 0.7 * square(12, 1, 6), square(12, 1, 7)]), [[0.05, 0.5], [0.1, 0.2]]]
    )
    found = diffeo.match(a, b, landmarks=(observed(A, marks, 0.2).points, B(marks)[0]), check=False)
    assert found.coordinates == "isometric"
    y = np.pad(A(new)[0], ((0, 0), (0, 5)))
    assert diffeo.relative_error(found.transform(y), B(new)[0]) < 0.01
    said = " ".join(found.diagnostics.problems)
    assert "do not hang together with the others" in said
    assert "landmarks" in said


@pytest.mark.parametrize("apart", [(0.3, 0.0), (0.0, 0.3)])
def test_expected_errors_count_what_a_chart_leaves_out(apart, tmp_path):
    def sides(x_a, x_b):
        # Of a few inputs, none apart, half of the measurements are constant.
        with errors.unsaid(errors.ConstantNeuronWarning):
            return [observed(one, x, least) for one, x, least in zip((A, B), (x_a, x_b), apart, strict=True)]

    marks, new = np.column_stack([0.35 + 0.6 * square(5, 1, 6), square(5, 1, 7)]), square(400, 2, 9)
    found = diffeo.match(
        *sides(square(700, 2, 1), square(700, 2, 2)), landmarks=[one.points for one in sides(marks, marks)]
    )
    assert 0.25 < max(len(found.a.left_out), len(found.b.left_out)) / 700 < 1 / 3
    y_a, y_b = (one.points for one in sides(new, new))
    known, expected = found.diagnostics, found.expected
    with errors.unsaid(errors.OutOfDomainWarning):
        forward = diffeo.relative_error(found.transform(y_a), y_b)
        backward = diffeo.relative_error(found.inverse_transform(y_b), y_a)
    assert 0.5 < known.expected_error / forward < 2
    assert 0.5 < known.expected_error_back / backward < 2
    # Of the samples in both charts it is known that they are mapped well, and said.
    assert max(expected.forward.among_places, expected.backward.among_places) < 0.01
    assert "that were left out of a chart" in known.problems[0]
    # Both what side A left out, and what side B did.
    rows = found.predicted_error(y_a)
    assert np.median(rows[new[:, 0] < 0.25]) > 0.5
    assert np.median(rows[new[:, 0] > 0.35]) < 0.01
    found.save(tmp_path / "t.safetensors")
    loaded = diffeo.load(tmp_path / "t.safetensors")
    assert loaded.diagnostics.expected_error == known.expected_error
    assert loaded.diagnostics.expected_error_back == known.expected_error_back
    np.testing.assert_array_equal(loaded.predicted_error(y_a), rows)


def test_samples_of_which_no_piece_is_most_are_refused_with_the_rows_of_each():
    x = square(1000, 2, 1)
    apart = np.flatnonzero(x[:, 0] < 0.45)
    for refused in (
        lambda: diffeo.IsometricEmbedding().fit(observed(A, x, 0.45)),
        lambda: diffeo.embed(observed(A, x, 0.45), coordinates="isometric"),
        lambda: diffeo.embed(observed(A, x, 0.45), coordinates="diffusion"),
        lambda: diffeo.embed(observed(A, x, 0.45)).coordinates,
    ):
        with pytest.raises(errors.DisconnectedError, match="pieces") as refusal:
            refused()
        rows = refusal.value.rows
        assert [len(piece) for piece in rows[:2]] == [1000 - len(apart), len(apart)]
        np.testing.assert_array_equal(rows[1], apart)
