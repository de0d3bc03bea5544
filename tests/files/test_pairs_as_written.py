"""Row pairs as other programs write them: read, or refused by an error that names the line."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import errors
from diffeo.files.arrays import read_pairs

ROWS = np.column_stack([np.arange(50), np.arange(50)[::-1]])


def lines(rows, separator=",", ending="\n"):
    return "".join(f"{a}{separator}{b}{ending}" for a, b in rows)


@pytest.mark.parametrize(
    "text",
    [
        lines(ROWS),
        "a,b\n" + lines(ROWS.astype(float)),
        "a;b\r\n" + lines([(f"{a},0", f"{b},0") for a, b in ROWS], ";", "\r\n"),
        "row_a\trow_b\n" + lines(ROWS, "\t"),
        "\ufeff" + lines(ROWS),
        "# exported\n\na,b\n" + lines([(f'"{a}"', f'"{b}"') for a, b in ROWS]),
    ],
)
def test_text_of_spreadsheets_and_data_frames(text, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert np.array_equal(read_pairs(path), ROWS)


@pytest.mark.parametrize("options", [{}, {"delimiter": ","}, {"delimiter": ",", "header": "a,b"}, {"fmt": "%d"}])
def test_numpy_savetxt(options, tmp_path):
    np.savetxt(tmp_path / "pairs.txt", ROWS, **options)
    assert np.array_equal(read_pairs(tmp_path / "pairs.txt"), ROWS)


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float32])
def test_numpy_save(dtype, tmp_path):
    np.save(tmp_path / "pairs.npy", ROWS.astype(dtype))
    found = read_pairs(tmp_path / "pairs.npy")
    assert found.dtype == np.int64
    assert np.array_equal(found, ROWS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n-1,-1\n0,0\n", "line 2.*whole and not negative"),
        ("-1,-1\n0,0\n", "line 1.*whole and not negative"),
        ("nan,nan\n0,0\n", "line 1"),
        ("0.5,1\n", "line 1.*whole"),
        ("0,0\n1e300,1\n", "line 2"),
        ("a,b\nc,d\n0,0\n", "line 2"),
        ("0,1,2\n", "line 1.*index column"),
    ],
)
def test_no_line_is_passed_over(text, words, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(text)
    with pytest.raises(errors.InputError, match=words):
        read_pairs(path)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3), int), np.full((4, 2), -1), np.full((4, 2), 0.5), np.full((2, 2), "a")]
)
def test_arrays_that_are_no_row_numbers(array, tmp_path):
    np.save(tmp_path / "pairs.npy", array)
    with pytest.raises(errors.InputError, match="row numbers"):
        read_pairs(tmp_path / "pairs.npy")
