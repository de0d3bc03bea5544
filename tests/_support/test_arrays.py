"""Every check of arrays and parameters at the Python edge, with what its message says."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import scipy.sparse as sp
from diffeo import errors
from diffeo._support.arrays import float_array, index_array, integer, real, seed
from diffeo._support.threads import thread_count
from diffeo._support.wording import rows_text


class Tensor:
    """As much of a torch tensor as the checks look at."""

    def __init__(self, array, dtype="torch.float32"):
        self.array, self.dtype = array, dtype

    def detach(self):
        return self

    def cpu(self):
        return self

    def float(self):
        return Tensor(self.array.astype(np.float32))

    def numpy(self):
        if self.dtype in ("torch.bfloat16", "torch.float16"):
            raise TypeError("NumPy has no such dtype")
        return self.array


# --- arrays ---


def test_float64_is_passed_through_without_a_copy():
    array = np.arange(6.0).reshape(2, 3)
    assert float_array(array, "points", 2) is array


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.int64, np.uint16])
def test_other_real_numbers_are_raised_and_logged(dtype, caplog):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    with caplog.at_level(logging.INFO, logger="diffeo"):
        result = float_array(array, "points", 2)
    assert result.dtype == np.float64
    np.testing.assert_array_equal(result, np.arange(6.0).reshape(2, 3))
    assert f"points: {np.dtype(dtype)} raised to float64" in caplog.text


def test_layout_becomes_contiguous():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    result = float_array(array, "points", 2)
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, array)
    backwards = np.arange(6.0).reshape(2, 3).astype(">f8")
    assert float_array(backwards, "points", 2).dtype.isnative


def test_nested_lists():
    np.testing.assert_array_equal(float_array([[1, 2], [3, 4]], "points", 2), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("dtype", ["torch.float32", "torch.float16", "torch.bfloat16"])
def test_tensors(dtype):
    array = np.arange(4, dtype=np.float32).reshape(2, 2)
    np.testing.assert_array_equal(float_array(Tensor(array, dtype), "points", 2), array)


@pytest.mark.parametrize(
    "value",
    [np.zeros((2, 2), dtype=complex), np.zeros((2, 2), dtype=bool), np.array([[object(), 1]]), [["a", "b"]]],
)
def test_other_dtypes_are_refused(value):
    with pytest.raises(errors.DataTypeError, match=r"points has dtype .*real numbers are needed"):
        float_array(value, "points", 2)


@pytest.mark.skipif(np.dtype(np.longdouble).itemsize == 8, reason="long double is double here")
def test_long_doubles_are_refused():
    with pytest.raises(errors.DataTypeError, match="would lose precision"):
        float_array(np.zeros((2, 2), dtype=np.longdouble), "points", 2)


def test_sparse_arrays_are_refused():
    with pytest.raises(errors.DataTypeError, match=r"points is sparse.*toarray"):
        float_array(sp.csr_array(np.eye(3)), "points", 2)


def test_masked_entries_are_refused():
    masked = np.ma.masked_array(np.ones((3, 2)), mask=[[0, 0], [0, 1], [0, 0]])
    with pytest.raises(errors.InputError, match="points"):
        float_array(masked, "points", 2)


def test_ragged_lists_are_refused():
    with pytest.raises(errors.ShapeError, match="points is not a rectangular array"):
        float_array([[1.0, 2.0], [3.0]], "points", 2)


def test_wrong_number_of_axes():
    with pytest.raises(errors.ShapeError, match=r"points has shape \(3,\); expected \(n, m\)"):
        float_array(np.zeros(3), "points", 2, axes="(n, m)")
    with pytest.raises(errors.ShapeError, match="expected 3 axes"):
        float_array(np.zeros((3, 2)), "jacobians", 3)


def test_wrong_lengths():
    with pytest.raises(errors.ShapeError, match=r"shape \(4, 2, 3\); expected \(n, m, p\) with length 5 along axis 0"):
        float_array(np.zeros((4, 2, 3)), "jacobians", 3, shape=(5, 2, None), axes="(n, m, p)")
    assert float_array(np.zeros((4, 2, 3)), "jacobians", 3, shape=(4, 2, None)).shape == (4, 2, 3)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_empty_arrays(shape):
    with pytest.raises(errors.ShapeError, match="points is empty"):
        float_array(np.zeros(shape), "points", 2)


def test_non_finite_numbers_are_counted_and_located():
    array = np.zeros((10, 3))
    array[[2, 5], 0] = np.nan
    array[5, 1] = np.inf
    with pytest.raises(
        errors.NonFiniteError, match=r"points holds NaN: 3 non-finite numbers in 2 of 10 rows \(rows 2, 5\)"
    ):
        float_array(array, "points", 2)
    cube = np.zeros((10, 2, 2))
    cube[1:9, 0, 0] = -np.inf
    with pytest.raises(
        errors.NonFiniteError, match=r"infinity: 8 .* in 8 of 10 rows \(rows 1, 2, 3, 4, 5 and 3 more\)"
    ):
        float_array(cube, "jacobians", 3)


def test_infinities_that_cancel_are_found():
    with pytest.raises(errors.NonFiniteError, match="row 0"):
        float_array(np.array([[np.inf, -np.inf], [0.0, 1.0]]), "points", 2)


def test_numbers_whose_sum_overflows_are_finite():
    array = np.full((4, 2), 1e308)
    assert float_array(array, "points", 2) is array


def test_rows_text():
    assert rows_text(np.array([3])) == "row 3"
    assert rows_text(np.array([3, 7])) == "rows 3, 7"
    assert rows_text(np.arange(9)) == "rows 0, 1, 2, 3, 4 and 4 more"


# --- indices ---


def test_indices():
    result = index_array(np.array([0, 4], dtype=np.int32), "neurons", 5)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, [0, 4])
    np.testing.assert_array_equal(index_array([[0, 1], [2, 3]], "landmarks", 4, ndim=2), [[0, 1], [2, 3]])


def test_indices_out_of_range_are_counted():
    with pytest.raises(errors.InputError, match=r"neurons: 2 of 4 indices are outside of \[0, 5\), the first is 7"):
        index_array([0, 7, 1, -1], "neurons", 5)


@pytest.mark.parametrize("value", [[0.0, 1.0], [True, False], ["a"]])
def test_indices_of_other_dtypes(value):
    with pytest.raises(errors.DataTypeError, match=r"neurons has dtype .*integers are needed"):
        index_array(value, "neurons", 5)


def test_indices_of_other_shapes():
    with pytest.raises(errors.ShapeError, match=r"neurons has shape \(1, 2\); expected 1 axes"):
        index_array([[0, 1]], "neurons", 5)


# --- numbers ---


@pytest.mark.parametrize("value", [3, np.int32(3), np.uint8(3)])
def test_integers(value):
    result = integer(value, "dim", 1)
    assert result == 3
    assert type(result) is int


@pytest.mark.parametrize("value", [2.0, "2", True, None, np.float64(2)])
def test_what_is_no_integer(value):
    with pytest.raises(errors.ParameterError, match="dim must be an integer"):
        integer(value, "dim", 1)


def test_integers_below_the_minimum():
    with pytest.raises(errors.ParameterError, match="dim must be at least 1, not 0"):
        integer(0, "dim", 1)


@pytest.mark.parametrize("value", [2, 2.5, np.float32(2.5), np.int64(2)])
def test_reals(value):
    result = real(value, "scale", above=0.0)
    assert result == float(value)
    assert type(result) is float


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, "1", None, True, 1j, [1.0]])
def test_what_is_no_finite_number(value):
    with pytest.raises(errors.ParameterError, match="scale must be a finite number"):
        real(value, "scale")


@pytest.mark.parametrize(
    ("bounds", "value", "text"),
    [
        ({"above": 0.0}, 0.0, r"must be > 0\.0, not 0\.0"),
        ({"at_least": 1.0}, 0.5, r"must be >= 1\.0, not 0\.5"),
        ({"below": 1.0}, 1.0, r"must be < 1\.0, not 1\.0"),
        ({"above": 0.0, "below": 1.0}, 2.0, r"must be > 0\.0 and < 1\.0, not 2\.0"),
    ],
)
def test_reals_out_of_bounds(bounds, value, text):
    with pytest.raises(errors.ParameterError, match=text):
        real(value, "scale", **bounds)


def test_reals_at_their_bounds():
    assert real(1.0, "scale", at_least=1.0) == 1.0
    assert real(0.5, "scale", above=0.0, below=1.0) == 0.5


@pytest.mark.parametrize(("n_jobs", "expected"), [(None, 0), (-1, 0), (1, 1), (np.int64(4), 4)])
def test_threads(n_jobs, expected):
    assert thread_count(n_jobs) == expected


@pytest.mark.parametrize("n_jobs", [0, -2, 1.0, True, "all"])
def test_numbers_of_threads_that_mean_nothing(n_jobs):
    with pytest.raises(errors.ParameterError, match="n_jobs must be None, -1 or a positive integer"):
        thread_count(n_jobs)


def test_seeds():
    assert seed(None) == 0
    assert seed(np.int64(7)) == 7
    first, again = (seed(np.random.default_rng(3)) for _ in range(2))
    assert first == again
    assert seed(np.random.default_rng(4)) != first
    assert seed(np.random.RandomState(3)) == seed(np.random.RandomState(3))
    generator = np.random.default_rng(3)
    assert seed(generator) != seed(generator)


@pytest.mark.parametrize("random_state", [-1, 1.5, "seed", True, 2**64])
def test_seeds_that_mean_nothing(random_state):
    with pytest.raises(errors.ParameterError, match="random_state must be"):
        seed(random_state)
