"""One door: an array of any kind goes in everywhere alike, or is refused everywhere alike, by an error of the library."""

from __future__ import annotations

import decimal
import importlib
import warnings
from types import SimpleNamespace

import diffeo
import numpy as np
import pytest
from diffeo import errors

N = 60
X = np.random.default_rng(0).random((N, 2)).astype(np.float32).astype(np.float64)
J = np.broadcast_to(np.eye(2), (N, 2, 2))


class NoImplicitConversion:
    """As arrays on a graphics card are."""

    shape, ndim, dtype = (N, 2), 2, np.dtype(float)

    def __len__(self):
        return N

    def __array__(self, dtype=None, copy=None):
        raise TypeError("implicit conversion is not allowed; use .get()")


class Exported:
    """Speaks DLPack only."""

    def __dlpack__(self, **options):
        return X.__dlpack__(**options)

    def __dlpack_device__(self):
        return X.__dlpack_device__()


class Labelled:
    """Speaks ``__array__`` only."""

    def __array__(self, dtype=None, copy=None):
        return X


def masked():
    return np.ma.masked_array(X, np.arange(2 * N).reshape(N, 2) < 5)


def kinds():
    """Name: (array, whether it is taken)."""
    found = {
        "list of lists": (X.tolist(), True),
        "list of rows": (list(X), True),
        "tuple": (tuple(map(tuple, X)), True),
        "Fortran order": (np.asfortranarray(X), True),
        "big-endian": (X.astype(">f8"), True),
        "single": (X.astype(np.float32), True),
        "negative strides": (X[::-1].copy()[::-1], True),
        "objects that are numbers": (X.astype(object), True),
        "labelled": (Labelled(), True),
        "DLPack": (Exported(), True),
        "mask without entries": (np.ma.masked_array(X, np.zeros_like(X, bool)), True),
        "masked": (masked(), False),
        "on a device": (NoImplicitConversion(), False),
        "data set": (SimpleNamespace(data_vars={}, shape=X.shape), False),
        "long double": (X.astype(np.longdouble), False),
        "complex": (X + 0j, False),
        "boolean": (X > 0.5, False),
        "text": (X.astype(str), False),
        "objects that are none": (np.where(X > 0.5, None, X.astype(object)), False),
        "integers of 400 digits": ([[10**400, 1]] * N, False),
        "ragged": ([[1.0, 2.0], [3.0]], False),
        "dates": (np.zeros((N, 2), dtype="datetime64[s]"), False),
        "NaN": (np.where(X > 0.9, np.nan, X), False),
        "decimal numbers": ([[decimal.Decimal(number) for number in row] for row in X], True),
    }
    read_only = X.copy()
    read_only.flags.writeable = False
    found["read-only"] = (read_only, True)
    import scipy.sparse

    found["sparse"] = (scipy.sparse.csr_array(X), False)
    return found | frames() | tensors()


def installed(module):
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def frames():
    """Of pandas, its Arrow columns, xarray, polars and pyarrow: those that are installed."""
    found = {}
    if pd := installed("pandas"):
        frame = pd.DataFrame(X, columns=["a", "b"])
        missing = frame.astype("Float64")
        missing.iloc[3, 1] = pd.NA
        found |= {
            "frame": (frame, True),
            "frame, nullable": (frame.astype("Float64"), True),
            "frame, missing": (missing, False),
            "frame, text": (frame.astype(str), False),
            "frame, decimal": (frame.map(decimal.Decimal), True),
            "frame, dates": (frame.assign(b=pd.date_range("2020", periods=N)), False),
            "frame, sparse columns": (frame.astype(pd.SparseDtype("float64", 0.0)), False),
            "frame, classes": (frame.assign(b=pd.Categorical(["u", "v"] * (N // 2))), False),
            "frame, same index": (frame.set_axis([0] * N), True),
            "frames by group": (frame.groupby("a"), False),
            "list of series": ([pd.Series(row) for row in X], True),
        }
    if (pa := installed("pyarrow")) and pd:
        arrow = frame.astype("double[pyarrow]")
        missing = arrow.copy()
        missing.iloc[3, 1] = None
        found |= {
            "frame, Arrow": (arrow, True),
            "frame, Arrow in one column": (frame.assign(b=arrow.b), True),
            "frame, Arrow, missing": (missing, False),
        }
    if pa:
        halves = [pa.table({"a": part[:, 0], "b": part[:, 1]}) for part in np.split(X, 2)]
        found |= {
            "Arrow table in chunks": (pa.concat_tables(halves), True),
            "Arrow table, text": (pa.table({"a": X[:, 0], "b": ["x"] * N}), False),
            "Arrow table, missing": (pa.table({"a": pa.array([None, *X[1:, 0]]), "b": X[:, 1]}), False),
            "Arrow tensor": (pa.Tensor.from_numpy(X), True),
            "Arrow lists": (pa.FixedSizeListArray.from_arrays(X.ravel(), 2), False),
        }
    if xr := installed("xarray"):
        found |= {
            "labelled array": (xr.DataArray(X, dims=("sample", "neuron")), True),
            "labelled array, NaN": (xr.DataArray(np.where(X > 0.9, np.nan, X)), False),
            "labelled arrays": (xr.Dataset({"a": ("n", X[:, 0]), "b": ("n", X[:, 1])}), False),
        }
    if pl := installed("polars"):
        frame = pl.DataFrame(X, schema=["a", "b"])
        found |= {
            "polars": (frame, True),
            "polars, single": (frame.cast(pl.Float32), True),
            "polars, array": (pl.Series(X.tolist(), dtype=pl.Array(pl.Float64, 2)), True),
            "polars, missing": (frame.with_columns(pl.when(pl.col("a") < 0.9).then("a").alias("a")), False),
            "polars, text": (frame.with_columns(pl.lit("x").alias("b")), False),
            "polars, lazy": (frame.lazy(), False),
        }
    return found


def tensors():
    try:
        import torch
    except ImportError:
        return {}
    t = torch.tensor(X)
    return {
        "tensor": (t, True),
        "tensor with gradient": (t.clone().requires_grad_(True), True),
        "tensor, negated view": (torch._neg_view(-t), True),
        "tensor, bfloat16": (t.bfloat16(), True),
        "tensor, half": (t.half(), True),
        "tensors in a list": (list(t), True),
        "tensor, sparse": (t.to_sparse(), False),
        "tensor, meta": (torch.empty(N, 2, device="meta"), False),
    }


FITTED = diffeo.DiffusionMap(n_components=2).fit(X)
OBSERVED = diffeo.Observation.from_jacobians(X, J)
# Points of pairs that are sampled twice are no problem of their kind.
DOORS = {
    "from_jacobians": lambda x: diffeo.Observation.from_jacobians(x, J),
    "kernel": diffeo.mahalanobis_kernel,
    "diffusion map": lambda x: diffeo.DiffusionMap(n_components=2).fit(x),
    "embedding": lambda x: diffeo.IsometricEmbedding().fit(x),
    "transform": lambda x: FITTED.transform(x),
    "pairs": lambda x: diffeo.Pairs(x, X),
    "relative error": lambda x: diffeo.relative_error(x, X),
    "from_neighbors": lambda x: diffeo.Observation.from_neighbors(X, x, dim=2, n_neighbors=12),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_gives_the_same_answer(door):
    wrong = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (array, taken) in kinds().items():
            try:
                DOORS[door](array)
                answer = True
            except errors.DiffeoError as error:
                answer = len(str(error)) < 20
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            if answer != taken:
                wrong.append((name, answer))
    assert not wrong


@pytest.mark.parametrize("door", ["observe", "capture"])
def test_networks_take_the_same_kinds(door):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net, wrong = torch.nn.Linear(2, 5).double(), []
    use = {"observe": lambda x: diffeo.observe(net, x), "capture": lambda x: diffeo.capture(net, x, "")[""]}[door]
    # What differs: a network may be fed with truth values, too, and `capture` with whole numbers.
    left_out = ("boolean", "frame, missing")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (array, taken) in kinds().items():
            if name in left_out:
                continue
            try:
                use(array)
                answer = True
            except errors.DiffeoError:
                answer = False
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            if answer != taken:
                wrong.append((name, answer))
    assert not wrong


def test_landmark_rows_with_masked_entries_are_refused():
    rows = np.ma.masked_array(np.column_stack([np.arange(12)] * 2), mask=np.arange(24).reshape(12, 2) < 4)
    with pytest.raises(errors.InputError, match="4 masked"):
        diffeo.match(OBSERVED, OBSERVED, landmarks=rows)
