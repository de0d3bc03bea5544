"""Pairs: parsed once, with identifiers that must agree; and landmarks that were measured in another way."""

from __future__ import annotations

from dataclasses import replace

import diffeo
import numpy as np
import pytest
from diffeo import Pairs, errors
from diffeo.matching.pairs import as_pairs
from diffeo.observation.how_measured import MeasureOptions
from support.samples import smooth_map, square
from support.samples import smooth_observation as observation

A, B = observation(30, 2, 4, seed=1), observation(40, 2, 5, seed=2)
P, Q = A.points[:6], B.points[:6]
ROWS = [[0, 39], [29, 1], [4, 4]]


def test_pairs_hold_both_sides():
    pairs = Pairs(P.tolist(), Q)
    assert len(pairs) == 6
    assert [points.tobytes() for points in pairs.points] == [P.tobytes(), Q.tobytes()]
    assert pairs.rows is pairs.ids is None
    assert [marks.rows for marks in pairs.marks] == [None, None]
    there = pairs.swapped()
    assert there.points_a.tobytes() == Q.tobytes()


@pytest.mark.parametrize(
    ("key", "rows"),
    [([4, 0], [4, 0]), (slice(1, 6, 2), [1, 3, 5]), (np.arange(6) > 3, [4, 5]), (2, [2]), (-1, [5])],
    ids=str,
)
def test_parts_keep_rows_and_identifiers(key, rows):
    pairs = Pairs(P, Q, ids_a=list("abcdef"), ids_b=np.array(list("abcdef")))[key]
    assert pairs.points_a.tobytes() == P[rows].tobytes()
    assert pairs.points_b.tobytes() == Q[rows].tobytes()
    assert pairs.ids.tolist() == [*np.array(list("abcdef"))[rows]]
    by_rows = Pairs.from_rows(A, B, np.column_stack([np.arange(6), np.arange(6) + 9]))[key]
    assert by_rows.rows.tolist() == [[k, k + 9] for k in rows]
    assert by_rows.swapped().rows.tolist() == [[k + 9, k] for k in rows]


def test_pairs_are_no_array_and_no_sequence():
    with pytest.raises(errors.DataTypeError, match=r"\.points_a and \.points_b"):
        np.asarray(Pairs(P, Q))
    with pytest.raises(TypeError, match="not iterable"):
        list(Pairs(P, Q))
    with pytest.raises(errors.InputError, match="6"):
        Pairs(P, Q)[[6]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ((P, Q[:5]), errors.ShapeError, "points_b has shape"),
        ((P[0], Q[0]), errors.ShapeError, "points_a has shape"),
        ((P * np.nan, Q), errors.NonFiniteError, "points_a holds NaN"),
        ((P, Q + 1j), errors.DataTypeError, "points_b has dtype complex"),
        ((None, Q), errors.DataTypeError, "points_a has dtype object"),
        ((P[:0], Q[:0]), errors.ShapeError, "points_a is empty"),
    ],
)
def test_other_measurements_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        Pairs(*given)


@pytest.mark.parametrize(
    "ids", [range(6), np.arange(6, dtype=np.uint8), list("abcdef"), np.array(list("abcdef"), dtype=object)], ids=str
)
def test_identifiers_that_agree(ids):
    assert Pairs(P, Q, ids_a=ids, ids_b=list(ids)).ids.tolist() == list(ids)


@pytest.mark.parametrize(
    ("ids_a", "ids_b", "error", "message"),
    [
        (range(6), None, errors.LandmarkError, "of one side only"),
        (None, range(6), errors.LandmarkError, "of one side only"),
        (
            range(6),
            [0, 1, 2, 3, 5, 4],
            errors.LandmarkError,
            r"2 of 6 pairs differ \(rows 4, 5; at row 4 .*another order",
        ),
        (
            range(6),
            [0, 1, 2, 3, 4, 9],
            errors.LandmarkError,
            r"1 of 6 pairs differ \(row 5; at row 5 A has .*B .*9.*\)$",
        ),
        (list("abcdef"), list("abcdeg"), errors.LandmarkError, "'f'.* and B .*'g'"),
        (range(6), list("012345"), errors.LandmarkError, "numbers and texts never agree"),
        ([0, 0, 1, 2, 3, 4], [0, 0, 1, 2, 3, 4], errors.LandmarkError, "1 identifiers are there more than once"),
        (range(5), range(6), errors.ShapeError, r"ids_a have shape \(5,\); one identifier for each of 6"),
        ([[0]] * 6, [[0]] * 6, errors.ShapeError, r"ids_a have shape \(6, 1\)"),
        (np.arange(6.0), np.arange(6.0), errors.DataTypeError, "ids_a are float64"),
        ([None] * 6, [None] * 6, errors.DataTypeError, "ids_a are object"),
        ([[0], [1, 2]], range(6), errors.ShapeError, "ids_a are not a plain list"),
    ],
    ids=range(12),
)
def test_identifiers_that_do_not_agree_are_refused(ids_a, ids_b, error, message):
    with pytest.raises(error, match=message):
        Pairs(P, Q, ids_a=ids_a, ids_b=ids_b)


def test_rows_with_identifiers_of_all_samples():
    ids_a, ids_b = np.arange(30) + 100, np.arange(40)
    ids_b[[39, 1, 4]] = [100, 129, 104]
    pairs = Pairs.from_rows(A, B, ROWS, ids_a=ids_a, ids_b=ids_b)
    assert pairs.ids.tolist() == [100, 129, 104]
    assert pairs.points_a.tobytes() == A.points[[0, 29, 4]].tobytes()
    with pytest.raises(errors.LandmarkError, match="2 of 3 pairs differ"):
        Pairs.from_rows(
            A, B, ROWS, ids_a=ids_a, ids_b=np.roll(ids_b, 1) * (np.arange(40) != 4) + 104 * (np.arange(40) == 4)
        )
    with pytest.raises(errors.ShapeError, match="ids_a have shape"):
        Pairs.from_rows(A, B, ROWS, ids_a=ids_a[:3], ids_b=ids_b)
    with pytest.raises(errors.LandmarkError, match=r"rows\[:, 0\].*outside of"):
        Pairs.from_rows(A, B, [[30, 0]])
    with pytest.raises(errors.LandmarkError, match="one side only"):
        Pairs.from_rows(A, B, ROWS, ids_a=ids_a)


def test_pairs_are_taken_as_they_are():
    pairs = Pairs(P, Q)
    assert as_pairs(pairs, A, B) is pairs
    rows = Pairs.from_rows(A, B, ROWS)
    assert as_pairs(rows, A, B) is rows
    with pytest.raises(errors.LandmarkError, match="not of these two observations"):
        as_pairs(rows, replace(A, points=A.points + 1.0), B)
    with pytest.raises(errors.LandmarkError, match="not of these two observations"):
        as_pairs(rows, A[:20], B)
    with pytest.raises(errors.ShapeError, match=r"held_out\.points_a has 5 measurements, and its observation 4"):
        as_pairs(pairs.swapped(), A, B, "held_out")


def test_landmarks_of_the_whole_layer_are_said_to_be_that():
    options = MeasureOptions("net.3", np.array([1, 5, 0, 7]), width=9)
    known = replace(A, options=options)
    wide = np.ones((6, 9))
    for given in ((wide, Q), Pairs(wide, Q)):
        with pytest.raises(errors.ShapeError, match=r"all of layer 'net.3', of which .* 4 neurons; .*obs\.measure"):
            as_pairs(given, known, B)
        with pytest.raises(errors.ShapeError, match=r"9 measurements, and its observation 4$"):
            as_pairs(given, A, B)
    output = replace(A, options=replace(options, layer=None))
    with pytest.raises(errors.ShapeError, match="all of the output"):
        as_pairs((wide, Q), output, B)


# In use

F, G = smooth_map(2, 5, 10), smooth_map(2, 6, 11)
X, NEW = square(10, 2, 98), square(60, 2, 99)


@pytest.fixture(scope="module")
def charts():
    sides = [diffeo.Observation.from_jacobians(*f(square(400, 2, seed))) for seed, f in enumerate((F, G))]
    return [diffeo.embed(side) for side in sides]


def at(x):
    return F(x)[0], G(x)[0]


def test_pairs_give_the_bits_of_their_measurements(charts):
    plain = diffeo.match(*charts, landmarks=at(X))
    found = diffeo.match(*charts, landmarks=Pairs(*at(X), ids_a=range(10), ids_b=range(10)))
    assert found.transform(F(NEW)[0]).tobytes() == plain.transform(F(NEW)[0]).tobytes()
    reports = [diffeo.assess(plain, held_out, baselines=False) for held_out in (at(NEW), Pairs(*at(NEW)))]
    assert reports[0].summary() == reports[1].summary()
    rows = np.column_stack([np.arange(5)] * 2)
    plain, found = (
        diffeo.match(charts[0], charts[0], landmarks=given)
        for given in (rows, Pairs.from_rows(charts[0].observation, charts[0].observation, rows))
    )
    assert found.transform(F(NEW)[0]).tobytes() == plain.transform(F(NEW)[0]).tobytes()


def test_held_out_pairs_with_the_identifiers_of_landmarks_are_refused(charts):
    from diffeo.verdict.assess_transformation import compare

    landmarks = Pairs(*at(X), ids_a=range(10), ids_b=range(10))
    # Measured again, and so not equal.
    again = Pairs(*(1e-9 + points for points in at(NEW)), ids_a=range(8, 68), ids_b=range(8, 68))
    with pytest.raises(errors.InputError, match=r"2 of 60 held-out pairs \(rows 0, 1\) have identifiers of landmarks"):
        compare(*charts, landmarks=landmarks, held_out=again)
    report = compare(*charts, landmarks=landmarks, held_out=again[2:], baselines=False)
    assert report.verdict == "equivalent"
