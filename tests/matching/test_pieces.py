"""Sides that fall into pieces: each pair of pieces that landmarks join is matched on its own, and the rest is named."""

from __future__ import annotations

import dataclasses
import warnings

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.matching.expected_error import spread_of
from diffeo.matching.maps import ByPairs
from diffeo.matching.self_check import expected_of, good_where_mapped
from support.samples import smooth_map, square

# What each side measures of the square: as many numbers in each of three slots, one for each piece.
WIDTH = 5
A, B, LINE = smooth_map(2, WIDTH, 3), smooth_map(2, WIDTH, 4), smooth_map(1, WIDTH, 5)
SPREAD = np.array(
    [[0.1, 0.1], [0.1, 0.9], [0.27, 0.5], [0.38, 0.2], [0.4, 0.85], [0.62, 0.5], [0.75, 0.1], [0.97, 0.3], [0.8, 0.9]]
)


def torn(measure, x, cuts):
    """Measurements of the square, and derivatives; behind each cut in x_0 it is other neurons that respond."""
    y, jacobians = measure(x)
    slots = len(cuts) + 1
    values, slopes = np.zeros((len(x), WIDTH * slots)), np.zeros((len(x), WIDTH * slots, x.shape[1]))
    piece = np.searchsorted(cuts, x[:, 0])
    for k in range(slots):
        rows, slot = piece == k, slice(WIDTH * k, WIDTH * (k + 1))
        values[rows, slot], slopes[rows, slot] = y[rows] + 3.0 * k, jacobians[rows]
    return values, slopes


def observed(measure, x, cuts):
    with errors.unsaid(errors.ConstantNeuronWarning):
        return Observation.from_jacobians(*torn(measure, x, cuts))


def sides(cuts_a, cuts_b, n=500):
    return observed(A, square(n, 2, 1), cuts_a), observed(B, square(n, 2, 2), cuts_b)


def common(x, cuts_a, cuts_b):
    return torn(A, x, cuts_a)[0], torn(B, x, cuts_b)[0]


def away_from(cuts, x, by=0.06):
    """Inputs that are no farther than a few spacings from a cut are left to other tests."""
    return x[(np.abs(x[:, :1] - np.array(cuts)) > by).all(axis=1)]


NEW = square(300, 2, 9)


@pytest.mark.parametrize("cuts", [[0.45], [0.32, 0.68]])
def test_pieces_on_both_sides_are_matched_one_by_one(cuts, tmp_path):
    a, b = sides(cuts, cuts, 600)
    t = diffeo.match(a, b, landmarks=common(SPREAD, cuts, cuts))
    assert t.coordinates == "pieces"
    assert len(t.map.parts) == len(cuts) + 1
    assert not any("expect errors" in said or "matched" in said for said in t.diagnostics.problems)
    y_a, y_b = common(NEW, cuts, cuts)
    with warnings.catch_warnings():
        warnings.simplefilter("error", errors.OutOfDomainWarning)
        at_b, at_a = t.transform(y_a), t.inverse_transform(y_b)
    ways = diffeo.relative_error(at_b, y_b), diffeo.relative_error(at_a, y_a)
    assert max(ways) < 1e-3
    known = t.diagnostics.expected_error, t.diagnostics.expected_error_back
    assert all(0.2 < one / true < 5 for one, true in zip(known, ways, strict=True))
    # Errors of each row are relative to the whole side, and those of the whole are made of them.
    assert 0.3 < np.sqrt((t.predicted_error(y_a) ** 2).mean()) / known[0] < 3
    # Rows are those of the caller.
    inside = np.searchsorted(cuts, square(600, 2, 1)[:, 0])
    assert all(len(np.unique(inside[rows])) == 1 for rows, _ in t.map.rows)
    assert sum(len(rows) for rows, _ in t.map.rows) == 600
    report = diffeo.assess(t, (y_a, y_b), baselines=False)
    assert report.verdict == "equivalent"
    assert f"piece by piece ({len(cuts) + 1}: 100 % of A, 100 % of B)" in " ".join(report.summary().split())
    report.to_html(tmp_path / "r.html")
    assert "each pair of these is joined on its own" in (tmp_path / "r.html").read_text()
    report.save(tmp_path / "r.safetensors")
    assert diffeo.load(tmp_path / "r.safetensors").coordinates == "pieces"
    t.save(tmp_path / "t.safetensors")
    again = diffeo.load(tmp_path / "t.safetensors")
    assert again.transform(y_a).tobytes() == at_b.tobytes()
    assert again.inverse_transform(y_b).tobytes() == at_a.tobytes()
    assert again.predicted_error(y_b, inverse=True).tobytes() == t.predicted_error(y_b, inverse=True).tobytes()
    assert (again.diagnostics.expected_error, again.diagnostics.expected_error_back) == known
    assert again.alignment.linear.tobytes() == t.alignment.linear.tobytes()


@pytest.mark.parametrize("torn_side", [0, 1])
def test_a_piece_may_be_a_part_of_one_on_the_other_side(torn_side):
    cuts = ([0.45], []) if torn_side == 0 else ([], [0.45])
    a, b = sides(*cuts)
    t = diffeo.match(a, b, landmarks=common(SPREAD, *cuts))
    assert t.coordinates == "pieces"
    y_a, y_b = common(away_from([0.45], NEW), *cuts)
    assert diffeo.relative_error(t.transform(y_a), y_b) < 2e-3
    assert diffeo.relative_error(t.inverse_transform(y_b), y_a) < 2e-3
    # Where the other side is torn there is nothing to see on this one: inputs beside the cut may be sent to either piece.
    y_a, y_b = common(square(2000, 2, 10), *cuts)
    true = diffeo.relative_error(t.transform(y_a), y_b), diffeo.relative_error(t.inverse_transform(y_b), y_a)
    known = t.diagnostics.expected_error, t.diagnostics.expected_error_back
    assert max(known) > 0.05
    assert all(0.4 < one / one_true < 2.5 for one, one_true in zip(known, true, strict=True))
    assert np.argmax(known) == 1 - torn_side
    (said,) = t.diagnostics.problems
    assert "beside cuts" in said


def test_a_piece_with_too_few_landmarks_is_named_and_sent_nowhere_silently():
    cuts = [0.32, 0.68]
    a, b = sides(cuts, cuts, 600)
    kept = [0, 1, 2, 3, 4, 5, 6]
    t = diffeo.match(a, b, landmarks=common(SPREAD[kept], cuts, cuts))
    said = " ".join(t.diagnostics.problems)
    lost = np.flatnonzero(square(600, 2, 1)[:, 0] > 0.68)
    assert "2 of 3 pieces of A" in said
    assert f"rows {lost[0]}, {lost[1]}" in said
    assert f"{100 * len(lost) / 600:.0f} % of A) has 1 of the 3 landmarks it needs" in said
    y_a, y_b = common(NEW, cuts, cuts)
    beyond = np.flatnonzero(NEW[:, 0] > 0.68)
    with pytest.warns(errors.OutOfDomainWarning, match="pieces of A that are not matched") as caught:
        sent = t.transform(y_a)
    np.testing.assert_array_equal(caught[0].message.no_counterpart, beyond)
    assert np.isfinite(sent).all()
    with errors.unsaid(errors.OutOfDomainWarning):
        back = t.inverse_transform(y_b)
    rest = np.setdiff1d(np.arange(len(NEW)), beyond)
    assert diffeo.relative_error(sent[rest], y_b[rest]) < 2e-3
    for known, true in (
        (t.diagnostics.expected_error, diffeo.relative_error(sent, y_b)),
        (t.diagnostics.expected_error_back, diffeo.relative_error(back, y_a)),
    ):
        assert 0.5 < known / true < 2
    predicted = t.predicted_error(y_a)
    assert predicted[beyond].min() > 0.3
    assert predicted[rest].max() < 0.05
    report = diffeo.assess(t, (y_a, y_b), baselines=False)
    assert report.verdict == "undetermined"
    assert report.diagnostics["share_in_pieces"][0] == pytest.approx(1 - len(lost) / 600)


@pytest.mark.parametrize("glued", [False, True])
def test_landmarks_that_join_other_pieces_are_named_as_wrong(glued):
    cuts_a, cuts_b = [] if glued else [0.45], [0.45]
    a, b = sides(cuts_a, cuts_b)
    y_a, y_b = common(np.vstack([SPREAD, square(9, 2, 30)]), cuts_a, cuts_b)
    # Apart, as many of them as a match needs do not make one where they contradict more of the others.
    wrong = [0, 7] if glued else [0, 7, 1, 6, 2, 8]
    y_b[wrong] = y_b[np.reshape(wrong, (-1, 2))[:, ::-1].ravel()]
    t = diffeo.match(a, b, landmarks=(y_a, y_b), check=False)
    np.testing.assert_array_equal(t.diagnostics.wrong_landmarks, np.sort(wrong))
    assert any(f"{len(wrong)} of 18 landmarks (rows 0, " in said for said in t.diagnostics.problems)
    new_a, new_b = common(away_from([0.45], NEW), cuts_a, cuts_b)
    assert diffeo.relative_error(t.transform(new_a), new_b) < 2e-3


def test_landmarks_may_be_rows():
    cuts = [0.45]
    x, z = square(500, 2, 1), square(500, 2, 2)
    z[:9] = x[100:109] = SPREAD
    a, b = observed(A, x, cuts), observed(B, z, [])
    rows = np.column_stack([np.arange(100, 109), np.arange(9)])
    t = diffeo.match(a, b, landmarks=rows, check=False)
    # Charts give the same bits, and so do threads.
    again = diffeo.match(diffeo.embed(a), diffeo.embed(b), landmarks=rows, check=False, n_jobs=2)
    y_a, y_b = common(NEW, cuts, [])
    assert again.transform(y_a).tobytes() == t.transform(y_a).tobytes()
    assert diffeo.relative_error(t.transform(y_a), y_b) < 2e-3
    assert len(t.landmarks[0]) == 9


def test_pieces_of_more_dimensions_than_the_other_side():
    cuts = [0.45]
    a = observed(A, square(500, 2, 1), cuts)
    b = Observation.from_jacobians(*LINE(square(300, 1, 2)))
    t = diffeo.match(a, b, landmarks=(torn(A, SPREAD, cuts)[0], LINE(SPREAD[:, :1])[0]), check=False)
    assert t.coordinates == "pieces"
    assert diffeo.relative_error(t.transform(torn(A, NEW, cuts)[0]), LINE(NEW[:, :1])[0]) < 0.01
    with pytest.raises(errors.NotInvertibleError):
        t.inverse_transform(b.points)
    with pytest.raises(errors.InputError, match="no intrinsic coordinates in common"):
        t.intrinsic(a.points)


def test_without_enough_landmarks_pieces_are_refused_with_what_would_join_them():
    a, b = sides([0.45], [0.45])
    with pytest.raises(errors.DisconnectedError, match="3 landmarks in each piece") as refusal:
        diffeo.match(a, b, landmarks=common(SPREAD[[0, 1, 7, 8]], [0.45], [0.45]), coordinates="isometric")
    assert [len(rows) for rows in refusal.value.rows][:1] == [int((square(500, 2, 1)[:, 0] > 0.45).sum())]


def test_pieces_compete_by_what_is_known_of_each():
    """One piece of unknown error does not hide that another is expected to be wrong by 40 %."""
    cuts = [0.45]
    t = diffeo.match(*sides(cuts, cuts, 600), landmarks=common(SPREAD, cuts, cuts))

    def known(one, error):
        said = dataclasses.replace(one.diagnostics, expected_error=error, expected_error_back=error)
        return dataclasses.replace(one, diagnostics=said)

    parts = known(t.map.parts[0], 0.4), known(t.map.parts[1], None)
    figure = expected_of(known(dataclasses.replace(t, map=dataclasses.replace(t.map, parts=parts)), None))
    first = t.map.parts[0]
    # A chart counts half; what landmarks miss of the other piece is nothing beside it.
    ways = [
        0.2 * spread_of(piece.observation.points) / spread_of(whole.observation.points) * np.sqrt(len(rows) / 600)
        for piece, whole, rows in zip((first.a, first.b), (t.a, t.b), t.map.rows[0], strict=True)
    ]
    np.testing.assert_allclose(figure, np.sqrt(ways[0] * ways[1]), rtol=1e-3)


def test_pieces_without_coordinates_are_no_reason_to_leave_landmarks_out():
    """All are learned from landmarks then, and compete with what is learned of all together."""
    cuts = [0.45]
    t = diffeo.match(*sides(cuts, cuts, 600), landmarks=common(SPREAD, cuts, cuts))
    assert good_where_mapped(t)

    def learned(part):
        return dataclasses.replace(part, map=ByPairs(part.a, part.b, part.alignment, part.forward, part.backward))

    def with_parts(*parts):
        return dataclasses.replace(t, map=dataclasses.replace(t.map, parts=parts))

    one, other = t.map.parts
    assert good_where_mapped(with_parts(learned(one), other))
    assert not good_where_mapped(with_parts(learned(one), learned(other)))
