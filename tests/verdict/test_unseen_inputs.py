"""Losses seen in derivatives at common inputs: shown, with direction and share, for 200 pairs."""

from __future__ import annotations

import diffeo
import numpy as np
import pytest
from diffeo import Pairs
from support.paired import pairs_of
from support.samples import smooth_map, square

WHOLE = smooth_map(2, 6, 4)


def by_differences(function):
    """A map with its derivatives, by central differences good to some 1e-9."""

    def measure(x):
        h = 1e-5
        slopes = [(function(x + h * e) - function(x - h * e)) / (2.0 * h) for e in np.eye(x.shape[1])]
        return function(x), np.stack(slopes, axis=2)

    return measure


def ignored(x):
    angle = 0.6 * x[:, :1] + 0.8 * x[:, 1:]
    return np.column_stack([angle, np.sin(3.0 * angle), angle**2])


def ignored_exactly(x):
    s = 0.6 * x[:, :1] + 0.8 * x[:, 1:]
    slopes = np.column_stack([np.ones_like(s), 3.0 * np.cos(3.0 * s), 2.0 * s])[:, :, None]
    return ignored(x), slopes * np.array([0.6, 0.8])


def folded(x):
    z = np.column_stack([(x[:, 0] - 0.5) ** 2, x[:, 1]])
    return np.column_stack([z, np.sin(3.0 * z[:, 0] + z[:, 1]), z[:, 0] * z[:, 1]])


def blind_below(x):
    """Sees the second input only where the first is above 0.4."""
    gate = np.maximum(0.0, x[:, 0] - 0.4)
    points = np.column_stack([x[:, 0], np.sin(2.0 * x[:, 0]), 10.0 * gate**2 * x[:, 1]])
    slopes = np.zeros((len(x), 3, 2))
    slopes[:, 0, 0], slopes[:, 1, 0] = 1.0, 2.0 * np.cos(2.0 * x[:, 0])
    slopes[:, 2, 0], slopes[:, 2, 1] = 20.0 * gate * x[:, 1], 10.0 * gate**2
    return points, slopes


@pytest.mark.filterwarnings("ignore::diffeo.errors.RankWarning")  # that is what is shown
@pytest.mark.parametrize(
    ("lossy", "direction", "share", "kind"),
    [
        (ignored_exactly, (0.8, -0.6), 1.0, "collapse"),
        (by_differences(folded), (1.0, 0.0), 1.0, "fold"),
        (blind_below, (0.0, 1.0), 0.4, "collapse"),
    ],
    ids=["ignored input", "fold", "part of the inputs"],
)
@pytest.mark.parametrize("swapped", [False, True])
def test_a_loss_is_shown_with_its_direction_and_share(lossy, direction, share, kind, swapped):
    pairs = pairs_of(lossy, WHOLE, square(200, 2, 5))
    report = diffeo.assess(diffeo.match_pairs(pairs.swapped() if swapped else pairs), baselines=False)
    assert report.verdict == ("a_to_b" if swapped else "b_to_a")
    one = report.backward if swapped else report.forward
    assert one.evidence.shown
    assert one.loss.kind == kind
    assert abs(one.loss.direction @ np.array(direction)) > np.cos(np.radians(3.0))
    assert abs(one.loss.share - share) < 0.1
    assert one.loss.text in report.reason
    lost = "B lost" if swapped else "A lost"
    assert lost in one.loss.text


def test_nothing_is_shown_where_nothing_is_lost():
    for other in (smooth_map(2, 5, 8), smooth_map(2, 7, 9)):
        report = diffeo.assess(diffeo.match_pairs(pairs_of(other, WHOLE, square(200, 2, 5))), baselines=False)
        assert report.verdict == "equivalent"
        assert not report.forward.evidence.shown
        assert not report.backward.evidence.shown
        assert report.forward.loss is report.backward.loss is None


def test_without_derivatives_pairs_show_a_fold_and_no_direction():
    pairs = pairs_of(by_differences(folded), WHOLE, square(400, 2, 5))
    report = diffeo.assess(diffeo.match_pairs(Pairs(*pairs.points)), baselines=False)
    assert report.forward.status != "holds"
    assert report.backward.status == "holds"
    assert report.forward.loss is None


@pytest.mark.parametrize(("n_inputs", "dim"), [(1, 1), (2, 2), (3, 2)])
def test_a_fold_is_told_up_to_its_edge(n_inputs, dim):
    """Of a fifth of the inputs the mirror image is outside of the domain; a last input that no side sees changes nothing."""

    def folds(x):
        z = np.column_stack([(x[:, 0] - 0.4) ** 2, x[:, 1:dim]])
        return np.column_stack([z, np.sin(2.0 * z[:, 0]), z[:, 0] * z[:, -1]])

    def keeps(x):
        return smooth_map(dim, 6, 4)(x[:, :dim])[0]

    x = square(240, n_inputs, 5)
    report = diffeo.assess(
        diffeo.match_pairs(pairs_of(by_differences(folds), by_differences(keeps), x)), baselines=False
    )
    loss = report.forward.loss
    assert loss.kind == "fold"
    assert abs(loss.direction[0]) > np.cos(np.radians(3.0))
    true = x[:, 0] < 0.8
    assert abs(loss.share - true.mean()) < 0.08
    told = np.zeros(len(x), dtype=bool)
    held = np.sort(np.random.default_rng(0).permutation(len(x))[:48])
    order = np.concatenate([np.setdiff1d(np.arange(len(x)), held), held])
    told[order[loss.rows]] = True
    edge = np.abs(x[:, 0] - 0.4) < 0.1
    assert told[edge & true].mean() > 0.8
