"""Families compared in all pairs: classes, cells with a reason, checkpoints, any backend with the same bits."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from types import SimpleNamespace

import diffeo
import joblib
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.pairwise import compare_all
from support.families import smooth_family

KINDS = (True, False, True, True, False, True, False, True)
CLASSES = [["both-0", "both-2", "both-3", "both-5", "both-7"], ["first-1", "first-4", "first-6"]]


def compare(given, **more):
    observations, landmarks, held_out = given
    return diffeo.compare_family(observations, landmarks=landmarks, held_out=held_out, **more)


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """Eight networks of two kinds, what came of them, and the checkpoint of the run."""
    given, folder = smooth_family(KINDS, 250), tmp_path_factory.mktemp("work")
    return SimpleNamespace(given=given, family=compare(given, checkpoint=folder), folder=folder)


@pytest.fixture(scope="module")
def three():
    return smooth_family((True, False, True), 250)


def counted(monkeypatch):
    """Numbers of tasks by the name of their work, in every run that follows."""
    counts = {}
    usual = compare_all.run

    def run(work, tasks, *rest, **more):
        counts[work.__name__] = counts.get(work.__name__, 0) + len(tasks)
        usual(work, tasks, *rest, **more)

    monkeypatch.setattr(compare_all, "run", run)
    return counts


def test_eight_networks_fall_into_their_two_classes(eight):
    found = eight.family
    assert found.classes == CLASSES
    assert found.labels.tolist() == [0, 1, 0, 0, 1, 0, 1, 0]
    assert not found.conflicts
    (edge,) = found.determines
    assert (edge.source, edge.target, edge.count, edge.total) == (0, 1, 15, 15)
    # Both inputs determine the first, and not the other way round.
    assert found.verdicts[0, 1] == "a_to_b"
    assert found.verdicts[1, 0] == "b_to_a"
    assert found.errors[0, 1] < 0.05 < 0.3 < found.errors[1, 0]
    assert found.cell("first-1", "both-0").verdict == "b_to_a"
    assert found.cell("first-1", "both-0").backward == found.cell("both-0", "first-1").forward
    assert (found.verdicts.diagonal() == "equivalent").all()
    assert found.expected_false == pytest.approx(0.05 * 28)
    assert found.class_of("first-4") == CLASSES[1]
    assert all(max(trip.errors) < 0.15 for trip in found.round_trips)
    # Every member of both classes is visited.
    assert {name for trip in found.round_trips for name in trip.names} == set(found.names)
    assert not found.strange_trips


def test_a_cell_says_what_match_and_assess_say(eight):
    observations, landmarks, held_out = eight.given
    a, b = "both-0", "both-3"
    t = diffeo.match(observations[a], observations[b], landmarks=(landmarks[a], landmarks[b]))
    report = diffeo.assess(t, (held_out[a], held_out[b]), baselines=False)
    cell = eight.family.cell(a, b)
    assert cell.verdict == report.verdict == "equivalent"
    assert cell.errors == (report.forward.error, report.backward.error)
    assert cell.forward.upper == report.forward.upper
    assert cell.forward.expected == report.expected_error[0]
    assert cell.problems == tuple(report.problems)


def test_started_again_a_run_computes_what_is_missing(eight, monkeypatch):
    counts = counted(monkeypatch)
    again = compare(eight.given, checkpoint=eight.folder)
    assert set(counts.values()) == {0}
    assert again.cells == eight.family.cells
    assert again.round_trips == eight.family.round_trips
    # One is gone and one is damaged, as after a failure of the disk.
    lost, damaged, *_ = sorted((eight.folder / "pairs").iterdir())
    lost.unlink()
    damaged.write_text('{"verdict": "equivalent"}')
    once_more = compare(eight.given, checkpoint=eight.folder)
    assert counts["compare_networks"] == 2
    assert counts["embed_network"] == 0
    assert once_more.cells == eight.family.cells
    assert json.loads(damaged.read_text())["verdict"] in ("equivalent", "a_to_b", "b_to_a")


def test_a_network_that_changed_is_compared_again_and_others_are_not(eight, monkeypatch):
    counts = counted(monkeypatch)
    given = [{name: one[name] for name in ("both-0", "both-2", "both-3")} for one in eight.given]
    given[0]["both-3"] = given[0]["both-3"][:240]
    compare(given, checkpoint=eight.folder)
    assert counts == {"embed_network": 1, "compare_networks": 2, "around": 1}
    # Other settings are another question.
    given = [{name: one[name] for name in ("both-0", "both-2")} for one in eight.given]
    compare(given, checkpoint=eight.folder, margin=0.06)
    assert counts["compare_networks"] == 3


def test_pairs_that_span_the_classes_find_the_same_ones(eight, monkeypatch):
    counts = counted(monkeypatch)
    found = compare(eight.given, pairs="spanning", checkpoint=eight.folder)
    assert found.classes == CLASSES
    assert "compare_networks" not in counts
    assert found.n_judged < 28
    assert found.verdicts.tolist() == eight.family.verdicts.tolist()
    inferred = [pair for pair, cell in found.cells.items() if cell.inferred]
    assert len(inferred) == 28 - found.n_judged > 0
    assert all(np.isnan(found.errors[pair]) for pair in inferred)
    for pair, cell in found.cells.items():
        assert cell.inferred or cell == eight.family.cells[pair]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_same_bits_on_any_backend(backend, three):
    few = compare(three, n_jobs=1)
    with joblib.parallel_config(backend=backend, n_jobs=2):
        found = compare(three)
    assert found.cells == few.cells


@pytest.mark.slow
def test_the_same_bits_on_a_dask_cluster_even_when_a_worker_is_killed(three):
    distributed = pytest.importorskip("distributed")
    expected = compare(three, n_jobs=1)
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, protocol="tcp://", dashboard_address=None
    )
    with cluster, distributed.Client(cluster) as client, joblib.parallel_config(backend="dask"):
        assert compare(three).cells == expected.cells
        victim = next(iter(client.run(os.getpid).values()))
        killer = threading.Thread(target=lambda: (time.sleep(0.5), os.kill(victim, signal.SIGKILL)))
        killer.start()
        found = compare(three)
        killer.join()
    assert found.cells == expected.cells


def test_what_cannot_be_matched_is_a_cell_with_a_reason(three):
    observations, landmarks, held_out = (dict(one) for one in three)
    # Two far pieces: no coordinates, and too few landmarks for maps from these alone.
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.random((60, 2)), 100.0 + rng.random((60, 2))])
    observations["torn"] = Observation.from_jacobians(x, np.tile(np.eye(2), (120, 1, 1)))
    landmarks["torn"], held_out["torn"] = rng.random((8, 2)), rng.random((60, 2))
    # Five samples: nothing at all can be made of them.
    observations["tiny"] = observations["both-0"][:5]
    landmarks["tiny"], held_out["tiny"] = landmarks["both-0"], held_out["both-0"]
    landmarks = {name: points[:4] for name, points in landmarks.items()}
    found = compare((observations, landmarks, held_out))
    assert found.cell("both-0", "both-2").verdict == "equivalent"
    for name in ("torn", "tiny"):
        cells = [found.cell(name, other) for other in found.names if other != name]
        assert {cell.verdict for cell in cells} <= {"not_matched", "undetermined", "not_equivalent", "b_to_a"}
        assert all(cell.reason for cell in cells)
        assert found.class_of(name) == [name]
    tiny = found.cell("tiny", "both-2")
    assert tiny.verdict == "not_matched"
    assert np.isnan(tiny.errors).all()
    assert "landmarks on side" in tiny.reason
    assert "without a map: " in found.summary()


def test_a_loss_that_is_shown_needs_no_coordinates(monkeypatch):
    given = smooth_family((True, False), 120, 24, derivatives=True)
    # The map is good at landmarks, and held-out inputs leave it open: their measurements are off by as much as the margin.
    known = given[2]["first-1"]
    given[2]["first-1"] = known + 0.045 * known.std(axis=0) * np.random.default_rng(0).standard_normal(known.shape)
    counts = counted(monkeypatch)
    cell = compare(given).cell("both-0", "first-1")
    assert (cell.forward.status, cell.backward.status) == ("undetermined", "fails")
    assert cell.forward.expected < 0.025
    assert cell.coordinates == "pairs"
    assert "bring more held-out pairs" in cell.advice[0]
    assert counts == {"compare_by_derivatives": 1, "embed_network": 0}


def test_landmarks_with_derivatives_let_maps_from_pairs_compete():
    given = smooth_family((True, True), 60, 24, derivatives=True)
    with_slopes = compare(given).cells[0, 1]
    observations, landmarks, held_out = given
    without = compare((observations, {name: one[0] for name, one in landmarks.items()}, held_out)).cells[0, 1]
    assert (with_slopes.coordinates, with_slopes.verdict) == ("pairs", "equivalent")
    assert without.coordinates != "pairs"
    assert with_slopes.forward.expected < 0.05


def test_charts_are_taken_in_the_place_of_observations(three):
    observations, landmarks, held_out = three
    charts = {name: diffeo.embed(one) for name, one in observations.items()}
    assert compare((charts, landmarks, held_out)).cells == compare(three).cells


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda o, m, h: (o, {}, h), errors.LandmarkError, "landmarks lack 3 of 3 networks"),
        (
            lambda o, m, h: (o, m, h | {"both-2": h["both-2"][:30]}),
            errors.LandmarkError,
            "60 points and those of both-2 30",
        ),
        (lambda o, m, h: (o, m, m), errors.LandmarkError, "8 common inputs are the same as earlier ones"),
        (lambda o, m, h: (o, m | {"both-2": m["both-2"][:, :3]}, h), errors.ShapeError, "3 measurements"),
        (lambda o, m, h: ({"both-0": o["both-0"]}, m, h), errors.ParameterError, "two networks"),
        (lambda o, m, h: (list(o.values()), m, h), errors.DataTypeError, "mapping"),
        (lambda o, m, h: (o | {"both-2": 3}, m, h), errors.DataTypeError, "both-2"),
        (lambda o, m, h: (o, m | {"both-2": m["both-2"] * np.nan}, h), errors.NonFiniteError, "both-2"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_the_work(change, error, message, three, monkeypatch):
    monkeypatch.setattr(compare_all, "run", lambda *_, **__: pytest.fail("work was done"))
    with pytest.raises(error, match=message):
        compare(change(*(dict(one) for one in three)))


@pytest.mark.parametrize("wrong", [{"pairs": "some"}, {"margin": 2.0}, {"coordinates": "flat"}, {"check": "yes"}])
def test_choices_are_checked(wrong, three):
    with pytest.raises((errors.ParameterError, errors.DataTypeError)):
        compare(three, **wrong)


def test_a_checkpoint_that_cannot_be_written_is_one_error(three, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StorageError):
        compare(three, checkpoint=tmp_path / "file" / "folder")
