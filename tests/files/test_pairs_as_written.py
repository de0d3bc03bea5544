"""Row pairs as other programs write them: read, or refused by an error that names the line."""

from __future__ import annotations

import zipfile

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


def test_unicode_text_of_a_spreadsheet(tmp_path):
    (tmp_path / "pairs.txt").write_text("row a\trow b\r\n" + lines(ROWS, "\t", "\r\n"), encoding="utf-16", newline="")
    assert np.array_equal(read_pairs(tmp_path / "pairs.txt"), ROWS)


@pytest.mark.parametrize("arrays", [{"rows": ROWS}, {"arr_0": ROWS.astype(float)}])
def test_numpy_savez(arrays, tmp_path):
    np.savez(tmp_path / "pairs.npz", **arrays)
    assert np.array_equal(read_pairs(tmp_path / "pairs.npz"), ROWS)


def test_what_holds_no_plain_pairs_says_what_it_is(tmp_path):
    np.savetxt(tmp_path / "pairs.csv.gz", ROWS)
    with pytest.raises(errors.InputError, match="gzip"):
        read_pairs(tmp_path / "pairs.csv.gz")
    with zipfile.ZipFile(tmp_path / "pairs.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "<workbook/>")
    with pytest.raises(errors.InputError, match="spreadsheet: export it as CSV"):
        read_pairs(tmp_path / "pairs.xlsx")


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
        (",a,b\n0,1,2\n", "line 1.*index=False"),
        ("NA,NA\n0,0\n", "line 1"),
        ("None;None\n0;0\n", "line 1"),
        ("-,-\n0,0\n", "line 1"),
        ("\uff11,\uff12\n0,0\n", "line 1.*plain digits"),
        ("1'000;2'000\n0;0\n", "line 1"),
        ('a,b\n"1,000","2,000"\n', "line 2.*plain digits"),
        ("1_0,2_0\n", "line 1"),
    ],
)
def test_no_line_is_passed_over(text, words, tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError, match=words):
        read_pairs(path)


@pytest.mark.parametrize(
    "array", [np.zeros((3, 3), int), np.full((4, 2), -1), np.full((4, 2), 0.5), np.full((2, 2), "a")]
)
def test_arrays_that_are_no_row_numbers(array, tmp_path):
    np.save(tmp_path / "pairs.npy", array)
    with pytest.raises(errors.InputError, match="row numbers"):
        read_pairs(tmp_path / "pairs.npy")
