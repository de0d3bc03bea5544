"""Array files of observations and pairs: what is read, and that all else is refused with a reason."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.files.arrays import read_arrays, read_observation, read_pairs, write_arrays
from support.reports import report
from support.samples import smooth_map, square
from support.stored import assert_same

X = square(120, 2, 4)
POINTS, JACOBIANS = smooth_map(2, 3, 6)(X)
BURSTS = POINTS[:, None] + 0.01 * np.einsum(
    "nmp,nkp->nkm", JACOBIANS, np.random.default_rng(0).normal(size=(120, 12, 2))
)
COVARIANCES = JACOBIANS @ JACOBIANS.transpose(0, 2, 1)
WHOLE = {
    "jacobians": ({"jacobians": JACOBIANS}, Observation.from_jacobians(POINTS, JACOBIANS)),
    "bursts": (
        {"bursts": BURSTS, "scale": 0.01, "dim": 2},
        Observation.from_bursts(POINTS, BURSTS, scale=0.01, dim=2),
    ),
    "covariances": (
        {"covariances": COVARIANCES, "dim": np.array([2])},
        Observation.from_covariances(POINTS, COVARIANCES, dim=2),
    ),
    "reference": ({"reference": X, "dim": 2}, Observation.from_neighbors(POINTS, X, dim=2)),
    "points": ({"dim": 1}, Observation.from_neighbors(POINTS, dim=1)),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_observations_are_read(kind, save, path):
    arrays, expected = WHOLE[kind]
    save(path, points=POINTS, labels=np.arange(3), **arrays)
    assert_same(expected, read_observation(path))


def test_saved_observations_and_single_arrays_are_read(tmp_path, path):
    expected = WHOLE["jacobians"][1]
    expected.save(tmp_path / "o.safetensors")
    assert_same(expected, read_observation(tmp_path / "o.safetensors"))
    np.savez(path, points=POINTS, jacobians=JACOBIANS, layer="net.3", neurons=np.array([2, 5, 9]))
    found = read_observation(path)
    assert found.layer == "net.3"
    assert found.neurons.tolist() == [2, 5, 9]
    np.save(tmp_path / "p.npy", POINTS)
    with pytest.raises(errors.InputError, match="holds points alone"):
        read_observation(tmp_path / "p.npy")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"no array named points \(found: nothing known\); known names: points, jacobians"),
        ({"jacobians": JACOBIANS, "dim": 2}, r"no array named points \(found: dim, jacobians\)"),
        ({"points": POINTS}, r"points alone \(found: points\).*add jacobians.*Only for one"),
        ({"points": POINTS, "dim": 2}, "points alone"),
        ({"points": POINTS, "Jacobians": JACOBIANS}, "points alone"),
        ({"points": POINTS, "jacobians": JACOBIANS, "covariances": COVARIANCES}, "holds jacobians and covariances"),
        ({"points": POINTS, "bursts": BURSTS}, "bursts need their scale"),
        ({"points": POINTS, "jacobians": JACOBIANS, "scale": 0.1}, "nothing else has one"),
        ({"points": POINTS, "bursts": BURSTS, "scale": 0.0}, "scale must be > 0"),
        ({"points": POINTS, "bursts": BURSTS, "scale": [0.1, 0.2]}, r"scale has shape \(2,\); one value"),
        ({"points": POINTS, "jacobians": JACOBIANS, "dim": 2.0}, "dim must be an integer"),
        ({"points": POINTS, "jacobians": JACOBIANS, "dim": 0}, "dim must be at least 1"),
        ({"points": POINTS, "jacobians": JACOBIANS[:-1]}, "jacobians has shape"),
        ({"points": POINTS, "jacobians": JACOBIANS, "neurons": [1, 2]}, "3 integers are needed"),
        ({"points": POINTS, "jacobians": JACOBIANS, "dim": 3}, "dim = 3 exceeds"),
    ],
)
def test_incomplete_and_contradictory_files_are_refused(arrays, message, path):
    np.savez(path, **arrays)
    with pytest.raises(errors.DiffeoError, match=message):
        read_observation(path)


def npz(members):
    """Bytes of a zip file of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, **options)
    return buffer.getvalue()


def header(text, body=b"", version=b"\x01\x00"):
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text.encode() + body


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (%d, 2), }\n"
DAMAGED = [
    (b"", "damaged|format"),
    (b"PK\x03\x04" + bytes(100), "damaged, or not an array file"),
    (npz([("points.npy", b"")]), "damaged, or not an array file"),
    (npz([("points.npy", npy(POINTS)[:-8])]), "points is damaged"),
    (npz([("points.npy", npy(POINTS) + b"x")]), "points is damaged"),
    (npz([("points.npy", header(HUGE % 3, bytes(8)))]), "points is damaged: .* bytes where its header asks for"),
    (npz([("points.npy", header("{'descr': __import__('os').mkdir('x'), 'shape': ()}"))]), "damaged"),
    (npz([("points.npy", header("(" * 9000))]), "damaged"),
    (npz([("points.npy", header(HUGE % 3, bytes(48), b"\x09\x00"))]), "damaged|format"),
    (npz([("points.npy", npy(POINTS.astype(np.complex128)))]), "complex128, not plain numbers"),
    (npz([("points.npy", npy(np.zeros(3, dtype=[("a", "f8")])))]), "not plain numbers"),
    (npz([("points.npy", npy(POINTS)), ("points.npy", npy(POINTS))]), "points twice"),
    (npz([("points", npy(POINTS))]), "no array named points"),
    (b"\x93NUMPY" + bytes(20), "damaged|format"),
    (npy(POINTS)[:-8], "points is damaged"),
    (header(HUGE % 10**15, bytes(8)), "above the limit"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("data", "message"), DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_and_hostile_files_are_refused(data, message, path):
    path.write_bytes(data)
    with pytest.raises(errors.DiffeoError, match=message) as caught:
        read_observation(path)
    assert "a.npz" in str(caught.value) or isinstance(caught.value, errors.MemoryLimitError)


def test_every_flipped_byte_gives_equal_arrays_or_an_error(path):
    np.savez_compressed(path, points=POINTS[:20], jacobians=JACOBIANS[:20])
    data, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for place in rng.integers(0, len(data), 150):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_observation(path)
        except errors.DiffeoError:
            refused += 1
        else:
            assert_same(found.points, POINTS[:20])
    assert refused > 100


class Bomb:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_nothing_is_unpickled(tmp_path, path):
    bombs = np.array([Bomb(tmp_path / "executed")], dtype=object)
    for data in (npz([("points.npy", npy(bombs))]), npy(bombs), pickle.dumps(bombs)):
        path.write_bytes(data)
        with pytest.raises(errors.DiffeoError):
            read_observation(path)
    path.write_bytes(npz([("points.npy", npy(bombs))]))
    with pytest.raises(errors.InputError, match="Python objects are never read"):
        read_observation(path)
    assert not (tmp_path / "executed").exists()


def test_compressed_zeros_are_refused_before_they_are_read(path, monkeypatch):
    np.savez_compressed(path, points=np.zeros((100_000, 10)), jacobians=JACOBIANS)
    assert path.stat().st_size < 100_000
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "1000000")
    with pytest.raises(errors.MemoryLimitError, match="points takes 8000000 bytes"):
        read_observation(path)


def test_what_is_missing_or_another_object_is_named(tmp_path):
    with pytest.raises(errors.StorageError, match="absent"):
        read_observation(tmp_path / "absent.npz")
    with pytest.raises(errors.DiffeoError, match="not a regular file"):
        read_observation(tmp_path)
    report().save(tmp_path / "r.safetensors")
    with pytest.raises(errors.InputError, match="holds a Report, not an Observation"):
        read_observation(tmp_path / "r.safetensors")
    (tmp_path / "w.pt").write_bytes(b"\x80\x04 a pickle")
    with pytest.raises(errors.StorageError):
        read_observation(tmp_path / "w.pt")


# Pairs


@pytest.mark.parametrize(
    "text",
    [
        "3,5\n0,1\n",
        "row_a,row_b\n3,5\n0,1",
        "\ufeffA;B\r\n3;5\r\n0;1\r\n",
        "3\t5\n0\t1\n",
        "# pairs\n\n 3   5 # the first\n0 1\n\n",
        '"a","b"\n"3","5"\n"0","1"\n',
        "index of a, index of b\n3, 5\n0, 1\n",
    ],
)
def test_pairs_are_read_from_two_columns(text, tmp_path):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    found = read_pairs(tmp_path / "l.csv")
    assert_same(found, np.array([[3, 5], [0, 1]]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no pairs; expected two columns, row in A and row in B, counted from 0"),
        ("a,b\n", "holds no pairs"),
        ("1,2\n3\n", "line 2: '3' is not two columns"),
        ("1,2\n3,x\n", "line 2: '3,x' is not"),
        ("1,2\na,b\n", "line 2: 'a,b' is not"),
        ("a,b\nc,d\n", "line 2: 'c,d' is not"),
        ("1,2.5\n", "line 1: '1,2.5' is not"),
        ("1,-2\n", "line 1"),
        ("0,1,2\n", "line 1: .*was an index column written too"),
        (",a,b\n0,1,2\n", "line 1: .*was an index column written too"),
        ("row_b,row_a\n1,2\n", "B before A"),
        ("B,A\n1,2\n", "B before A"),
        ("1," + "9" * 30 + "\n", "line 1"),
        ("1,\u0663\n", "line 1"),
        ("1," + " " * 5000 + "2\n", "line 1"),
        ("\0\n", "line 1"),
    ],
)
def test_lines_that_are_no_pairs_are_refused_by_number(text, message, tmp_path):
    (tmp_path / "l.csv").write_text(text, encoding="utf-8")
    with pytest.raises(errors.InputError, match=message) as caught:
        read_pairs(tmp_path / "l.csv")
    assert "l.csv" in str(caught.value)


def test_files_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "l.csv").write_bytes(b"\xff\x001,2\n")
    with pytest.raises(errors.StorageError, match=r"l\.csv"):
        read_pairs(tmp_path / "l.csv")
    with pytest.raises(errors.StorageError, match="absent"):
        read_pairs(tmp_path / "absent.csv")


def test_pairs_are_read_as_measurements(path):
    np.savez(path, points_a=POINTS[:5], points_b=POINTS[5:10])
    a, b = read_pairs(path)
    assert_same(a, POINTS[:5])
    assert_same(b, POINTS[5:10])
    np.savez(path, points_a=POINTS[:5])
    with pytest.raises(errors.InputError, match=r"must hold points_a and points_b, or rows \(found: points_a\)"):
        read_pairs(path)


# Writing


def test_arrays_are_written_in_one_step(path):
    arrays = {"points": POINTS, "jacobians": JACOBIANS, "dim": np.array(2)}
    write_arrays(path, arrays)
    assert_same(read_arrays(path, tuple(arrays)), arrays)
    before = path.read_bytes()
    write_arrays(path, arrays)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.npz"]
    with pytest.raises(errors.StorageError, match="folder"):
        write_arrays(path.parent / "no" / "folder.npz", arrays)
