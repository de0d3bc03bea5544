"""Reports come back bit for bit from one file, and damaged or forged files are refused."""

from __future__ import annotations

import json
from dataclasses import replace

import diffeo
import numpy as np
import pytest
from diffeo import errors
from diffeo.report.page import report_page
from support.forgeries import forge, refused
from support.reports import VERDICTS, report
from support.stored import assert_same, parts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "report.safetensors"


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("dim", [1, 2])
def test_report_comes_back_equal_in_every_field(verdict, dim, path, tmp_path):
    saved = report(verdict, dim=dim, rows=(np.arange(900), np.arange(900)) if dim == 2 else None)
    saved.save(path)
    loaded = diffeo.load(path)
    assert_same(saved, loaded)
    assert report_page(loaded) == report_page(saved)
    assert loaded.summary() == saved.summary()
    loaded.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    assert parts(path)[0]["kind"] == "report"


def test_unusual_reports_come_back(path):
    open_end = replace(report().forward, lower=0.0, upper=np.inf, status="undetermined", error=np.nan)
    saved = report(
        "undetermined",
        forward=open_end,
        baselines=[],
        spectra=(np.empty(0), np.array([1.0, np.inf])),
        diagnostics={},
        settings={"z": {"b": [1, 2.5, None, "\u00e9"]}, "a": float("inf"), "order": True},
    )
    saved.save(path)
    loaded = diffeo.load(path)
    assert_same(saved, loaded)
    assert list(loaded.settings) == ["z", "a", "order"]


def test_reports_of_different_dimensions_come_back(path):
    flat = report(dim=1)
    saved = report(
        "a_to_b",
        embeddings=(report().embeddings[0], flat.embeddings[1]),
        held_out=(report().held_out[0], flat.held_out[1]),
    )
    saved.save(path)
    assert_same(saved, diffeo.load(path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinates": "polar"}, "coordinates is 'polar'; known are isometric, diffusion, regression"),
        ({"margin": -0.1}, "margin must be > 0"),
        ({"embeddings": (np.zeros((3, 2)), np.full((3, 2), np.nan))}, r"b\.embeddings holds NaN"),
        ({"held_out": (np.zeros((3, 2)), np.zeros((4, 2)))}, r"b\.held_out has shape"),
        ({"rows": (np.arange(5), np.arange(900))}, r"a\.rows has shape"),
        ({"settings": {"x": ["long text " * 100] * 9000}}, "too long for the header"),
        ({"problems": [1]}, "problems must be texts"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_what_could_not_be_read_back_is_not_written(change, message, path):
    with pytest.raises(errors.StorageError, match=message):
        report(**change).save(path)
    assert not path.exists()


REMOVED = object()
FORGERIES = [
    ("verdict", "fine", "verdict is 'fine'"),
    ("verdict", ["equivalent"], "verdict must be str"),
    ("verdict", "equivalent", "although a direction does not hold"),
    ("reason", REMOVED, "entries are missing: reason"),
    ("margin", "0.05", "margin must be a finite number"),
    ("significance", 0.0, "significance must be > 0"),
    ("n_landmarks", -1, "n_landmarks must be at least 0"),
    ("coordinates", "polar", "coordinates is 'polar'"),
    ("settings", "[1]", "settings are no facts"),
    ("settings", "{", "Expecting property name"),
    ("settings", "[" * 100_000, "recursion|no facts"),
    ("settings", {"a": 1}, "settings must be str"),
    ("settings", json.dumps({"a": [[[[[[[[1]]]]]]]]}), "6 deep"),
    ("diagnostics", json.dumps({"a": [0] * 20000}), "20000 entries"),
    ("problems", "none", "problems must be texts"),
    ("forward.status", "perhaps", "status is 'perhaps'"),
    ("forward.status", "fails", "forward.status is 'fails', although its bounds are"),
    ("backward.status", "holds", "backward.status is 'holds', although its bounds are"),
    ("forward.bounds", np.zeros(2), "forward.bounds has shape"),
    ("forward.true", lambda x: x[:-1], "has shape"),
    ("forward.true", lambda x: x[:, :-1].copy(), "predicted has shape"),
    ("forward.predicted", lambda x: x * np.nan, "forward.predicted holds NaN"),
    ("forward.how", 1, "forward.how must be str"),
    ("forward.loss.kind", "tear", "entries are missing: forward.loss"),
    ("backward.loss.kind", "tear", "kind is 'tear'"),
    ("backward.loss.share", -0.5, "loss.share must be"),
    ("backward.loss.rows", lambda x: -1 - x, "outside of"),
    ("backward.loss.rows", lambda x: x.astype(float), "loss.rows is float64"),
    ("backward.loss.direction", lambda x: x[:0], "loss.direction has shape"),
    ("backward.loss.centre", lambda x: x * np.inf, "loss.centre holds"),
    ("backward.loss.pairs", lambda x: x[:, :1].copy(), "loss.pairs has shape"),
    ("backward.loss.text", None, "loss.text must be str"),
    ("backward.loss.text", REMOVED, "entries are missing: backward.loss.text"),
    ("forward.evidence.kind", "guess", "forward.evidence.kind is 'guess'"),
    ("forward.evidence.shown", True, "forward.evidence.kind is 'none', shown True"),
    ("forward.evidence.shown", 1, "forward.evidence.shown must be bool"),
    ("backward.evidence.twins", -1, "backward.evidence.twins must be"),
    ("backward.evidence.torn_share", -0.1, "backward.evidence.torn_share must be"),
    ("backward.evidence.pairs", lambda x: x[:, :1].copy(), "backward.evidence.pairs has shape"),
    ("backward.evidence.wrong", lambda x: x.astype(float), "backward.evidence.wrong is float64"),
    ("backward.evidence.text", REMOVED, "entries are missing: backward.evidence.text"),
    ("baselines.names", ["affine"], "of different numbers"),
    ("baselines.errors", np.zeros((5, 3)), "baselines.errors has shape"),
    ("a.embeddings", lambda x: x[:0], "embeddings has shape"),
    ("a.held_out", lambda x: x[:, :1].copy(), "a.held_out has shape"),
    ("a.spectra", lambda x: x[:, None], "a.spectra has shape"),
    ("a.rows", None, "rows are known of one side only"),
    ("a.rows", np.arange(3), "a.rows has shape"),
    ("b.rows", lambda x: x - 1, "outside of"),
    ("extra", 1, "unexpected entries: 'extra'"),
    ("c.rows", np.arange(3), "unexpected entries: 'c.rows'"),
]


@pytest.mark.parametrize(("name", "change", "message"), FORGERIES, ids=range(len(FORGERIES)))
def test_forgeries_are_refused(name, change, message, path):
    report("a_to_b", rows=(np.arange(900), np.arange(900))).save(path)
    description, tensors = parts(path)
    old = tensors.pop(name, None)
    description["entries"].pop(name, None)
    value = change(old) if callable(change) else change
    if isinstance(value, np.ndarray):
        tensors[name] = np.ascontiguousarray(value)
    elif value is not REMOVED:
        description["entries"][name] = value
    forge(path, description, tensors)
    refused(path, message)


def test_a_direction_that_fails_without_evidence_of_a_loss_is_refused(path):
    saved = report("a_to_b")
    with pytest.raises(errors.StorageError, match="although its evidence shows no loss"):
        replace(saved, backward=replace(saved.backward, evidence=saved.forward.evidence)).save(path)


def test_reports_of_older_versions_have_no_evidence(path):
    saved = report("a_to_b")
    saved.save(path)
    description, tensors = parts(path)
    entries = {key: value for key, value in description["entries"].items() if ".evidence." not in key}
    forge(path, description | {"entries": entries}, {key: x for key, x in tensors.items() if ".evidence." not in key})
    loaded = diffeo.load(path)
    assert loaded.forward.evidence is loaded.backward.evidence is None
    assert (loaded.backward.status, loaded.reason) == ("fails", saved.reason)
    assert report_page(loaded)
    assert loaded.summary() == saved.summary()


def test_every_entry_is_required(path):
    report("not_equivalent", rows=(np.arange(900), np.arange(900))).save(path)
    description, tensors = parts(path)
    for name in [*tensors, *description["entries"]]:
        entries = {key: value for key, value in description["entries"].items() if key != name}
        forge(path, description | {"entries": entries}, {key: x for key, x in tensors.items() if key != name})
        refused(path, "entries are missing")


def test_damaged_files_are_refused(path):
    saved = report("a_to_b", n=60, pairs=30)
    saved.save(path)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for length in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:length])
        refused(path, ".")
    same = 0
    for place in rng.integers(0, len(data), 200):
        damaged = bytearray(data)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert_same(saved, diffeo.load(path))
            same += 1
        except errors.StorageError:
            pass
    assert same <= 6


def test_other_kinds_and_versions_are_refused(path):
    report().save(path)
    description, tensors = parts(path)
    forge(path, description | {"kind": "observation"}, tensors)
    refused(path, "entries are missing: points")
    forge(path, description | {"format_version": 99}, tensors)
    refused(path, "update diffeo")
