"""Loading refuses everything damaged or hostile."""

from __future__ import annotations

import json
import os

import diffeo
import numpy as np
import pytest
import safetensors.numpy
from diffeo import errors
from diffeo.files import charts
from support.forgeries import forge, refused
from support.stored import DISTINCT, assert_same, parts

# Reading what is damaged


def test_missing_file_names_the_path_and_keeps_the_cause(tmp_path):
    with pytest.raises(errors.StorageError, match="absent") as caught:
        diffeo.load(tmp_path / "absent.safetensors")
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.filename == str(tmp_path / "absent.safetensors")


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(errors.StorageError, match="not a regular file"):
            diffeo.load(path)


@pytest.mark.parametrize("kind", DISTINCT)
def test_truncated_files_are_refused(kind, files, tmp_path):
    data, path = files[kind][0].read_bytes(), tmp_path / "cut.safetensors"
    lengths = {*range(12), *np.linspace(0, len(data) - 1, 120).astype(int).tolist(), len(data) - 1}
    for length in sorted(lengths):
        path.write_bytes(data[:length])
        with pytest.raises(errors.StorageError):
            diffeo.load(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(errors.StorageError, match="damaged or truncated"):
        diffeo.load(path)


def loads_equal_or_is_refused(path, saved):
    try:
        loaded = diffeo.load(path)
    except errors.StorageError:
        return False
    assert_same(saved, loaded)
    return True


@pytest.mark.parametrize("kind", DISTINCT)
def test_flipped_bits_are_refused(kind, files, tmp_path):
    saved, data, path = files[kind][1], files[kind][0].read_bytes(), tmp_path / "flipped.safetensors"
    header = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(1)
    places = np.concatenate([rng.integers(0, header, 200), rng.integers(header, len(data), 50), np.arange(16)])
    harmless = 0
    for place in places:
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        harmless += loads_equal_or_is_refused(path, saved)
    # Such as 1e-08 that became 1E-08.
    assert harmless <= 0.03 * len(places)


def test_overwritten_bytes_are_refused(files, tmp_path):
    (source, saved), path = files["observation"], tmp_path / "overwritten.safetensors"
    data, rng = source.read_bytes(), np.random.default_rng(2)
    for _ in range(300):
        damaged = bytearray(data)
        start, count = int(rng.integers(0, len(data))), int(rng.integers(1, 9))
        damaged[start : start + count] = rng.bytes(count)
        path.write_bytes(damaged[: len(data)])
        loads_equal_or_is_refused(path, saved)


# Reading what is hostile


def raw(header, body=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated"),
        (b"PK\x03\x04" + bytes(200), "header too large|truncated"),
        (raw(b"{}", length=2**64 - 1), "header too large"),
        (raw(b"{}", length=2**20 + 1, body=bytes(2**21)), "header too large"),
        (raw(b"{}", length=1000), "truncated"),
        (raw(b"\xff\xfe{}"), "not a safetensors file"),
        (raw(b"[" * 100_000), "not a safetensors file"),
        (raw(b'{"a":' * 100_000), "not a safetensors file"),
        (raw(b"1" * 10_000), "not a safetensors file"),
        (raw([]), "not one that diffeo wrote"),
        (
            raw({"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}, bytes(8)),
            "not one that diffeo wrote",
        ),
        (raw({"__metadata__": {"format": "pt"}}), "not one that diffeo wrote"),
        (raw({"__metadata__": {"diffeo": "[]"}}), "not one that diffeo wrote"),
        (raw({"__metadata__": {"diffeo": "[" * 100_000}}), "not one that diffeo wrote"),
        (raw({"__metadata__": {"diffeo": '{"format": 1}'}}), "not one that diffeo wrote"),
    ],
    ids=range(15),
)
def test_hostile_bytes_are_refused(data, message, tmp_path):
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(data)
    refused(path, message)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F64", "shape": [2**62, 2], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [2**62, 0], "data_offsets": [0, 0]},
        {"dtype": "F64", "shape": [-1], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [1], "data_offsets": [8, 0]},
        {"dtype": "F64", "shape": [1], "data_offsets": [2**63, 2**63 + 8]},
        {"dtype": "F64", "shape": [1], "data_offsets": [0, 800]},
        {"dtype": "F99", "shape": [1], "data_offsets": [0, 8]},
        {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]},
        {"dtype": "F64", "shape": [1]},
        {"dtype": ["F64"], "shape": 1, "data_offsets": None},
        None,
    ],
    ids=range(11),
)
def test_hostile_tensor_tables_are_refused(entry, files, tmp_path):
    description, path = json.dumps(parts(files["observation"][0])[0]), tmp_path / "hostile.safetensors"
    path.write_bytes(raw({"__metadata__": {"diffeo": description}, "points": entry}, bytes(8)))
    refused(path, "damaged or truncated")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 4, "entries": "of another form"}, "version 4; .* reads versions 1 to 3: update diffeo"),
        ({"format_version": True}, "its format is 'diffeo', version True"),
        ({"format_version": "1"}, "its format is 'diffeo', version '1'"),
        ({"format": "other"}, "its format is 'other'"),
        ({"kind": "kernel"}, "unknown kind, 'kernel'"),
        ({"kind": ["observation"]}, "unknown kind"),
        ({"kind": "isometric"}, "entries are missing: a.observation.points"),
        ({"kind": "diffusion"}, "entries are missing: a.observation.points"),
        ({"entries": None}, "damaged"),
        ({"entries": [1]}, "damaged"),
        ({"orders": None}, "damaged"),
        ({"orders": 5}, "damaged"),
        ({"orders": {"points": [0]}}, "none of the axes"),
        ({"orders": {"points": [0, 0]}}, "none of the axes"),
        ({"orders": {"points": [0, -1]}}, "none of the axes"),
        ({"orders": {"points": [1e300, 0]}}, "none of the axes"),
        ({"orders": {"points": [True, False]}}, "damaged|none of the axes"),
        ({"orders": {"points": "01"}}, "none of the axes"),
        ({"orders": {"points": 1}}, "damaged"),
        ({"orders": {"absent": [0, 1]}}, "damaged"),
    ],
    ids=str,
)
def test_forged_descriptions_are_refused(change, message, copy_of):
    path = copy_of("observation")
    description, tensors = parts(path)
    forge(path, description | change, tensors)
    refused(path, message)


def test_missing_digest_is_refused(copy_of):
    path = copy_of("observation")
    forge(path, *parts(path), digest=False)
    refused(path, "damaged or truncated")


def test_altered_number_is_detected(copy_of):
    path = copy_of("observation")
    description, tensors = parts(path)
    tensors["points"][0, 0] += 1e-12
    path.write_bytes(safetensors.numpy.save(tensors, {"diffeo": json.dumps(description)}))
    refused(path, "SHA-256 does not fit")


def grown(tensors, at, names, axis, times):
    for name in names:
        tensors[at + name] = np.concatenate([tensors[at + name]] * times, axis)


@pytest.mark.parametrize("side", ["forward.", "backward."])
def test_models_that_would_exhaust_memory_or_time_are_refused(side, copy_of):
    path = copy_of("isometric")
    description, tensors = parts(path)
    many = dict(tensors)
    grown(many, side, ("base", "inverse_scales", "amplitude", "noise", "offset", "spread", "doubt", "dual"), 0, 5)
    entries = description["entries"] | {f"{side}kinds": ["aligned"] * 20}
    forge(path, description | {"entries": entries}, many)
    refused(path, "20 predictors and 30 landmarks do not fit")
    grown(tensors, side, ("landmarks",), 0, 201)
    grown(tensors, side, ("dual",), 1, 201)
    forge(path, description, tensors)
    refused(path, "4 predictors and 6030 landmarks do not fit")


def test_copies_of_nodes_are_counted_before_they_are_made(monkeypatch):
    nodes = np.vstack([np.zeros(9), np.full(9, 0.9)])
    charts._check_periods(np.eye(9)[:8], nodes, "periods")
    with pytest.raises(errors.InputError, match="9 periods in 9 dimensions are too many"):
        charts._check_periods(np.eye(9), nodes, "periods")
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", str(3**8 * nodes.nbytes - 1))
    with pytest.raises(errors.MemoryLimitError, match="13122 copies"):
        charts._check_periods(np.eye(9)[:8], nodes, "periods")


def test_name_in_both_tables_is_refused(copy_of):
    path = copy_of("observation")
    description, tensors = parts(path)
    description["entries"]["points"] = 3
    forge(path, description, tensors)
    refused(path, "multiple values .* 'points'")


def test_nothing_is_unpickled(tmp_path):
    import pickle

    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "executed"),))

    path = tmp_path / "bomb.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    refused(path, "header too large|truncated|not a safetensors")
    assert not (tmp_path / "executed").exists()


def test_file_above_the_memory_limit_is_refused_before_it_is_read(files, monkeypatch):
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "1000")
    with pytest.raises(errors.MemoryLimitError):
        diffeo.load(files["observation"][0])
