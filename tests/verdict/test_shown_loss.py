"""Evidence of a loss: shown where something is lost, and not where pairs, samples, noise or stretch explain what is seen."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from diffeo import Observation
from diffeo.verdict.shown_loss import find_evidence, rank_is_shown
from support.samples import smooth_map, square

MAPS = [smooth_map(2, 5, 0), smooth_map(2, 6, 9), smooth_map(1, 3, 6)]
PLACES = square(240, 2, 8)


def whole(x):
    return MAPS[0](x)


def other(x):
    return MAPS[1](x)


def fold(x):
    y, jacobians = MAPS[1](np.column_stack([4.0 * (x[:, 0] - 0.5) ** 2, x[:, 1]]))
    return y, jacobians * np.stack([8.0 * (x[:, 0] - 0.5), np.ones(len(x))], axis=1)[:, None]


def line(x):
    y, jacobians = MAPS[2](x[:, :1])
    return y, np.concatenate([jacobians, np.zeros_like(jacobians)], axis=2)


def walls(x):
    """Smooth, but for ten steps that no sample and no derivative sees, across the whole square."""
    y, jacobians = MAPS[1](x)
    places = np.linspace(0.05, 0.95, 10)
    heights = np.random.default_rng(3).normal(size=(10, 6))
    steps = np.sign(x[:, :1] - places) @ heights
    return y + 0.3 * steps, jacobians


@functools.cache
def observed(measure, seed, dim=2, n=900):
    return Observation.from_jacobians(*measure(square(n, 2, seed)), dim=dim)


def sides(first, second, x=PLACES):
    dims = [1 if one is line else 2 for one in (first, second)]
    seen = [observed(one, seed, dim) for seed, (one, dim) in enumerate(zip((first, second), dims, strict=True))]
    return seen, (first(x)[0], second(x)[0])


def evidence(first, second, x=PLACES, change=None, margin=0.05):
    """Whether the first side is shown to have lost what the second keeps; `change` alters the pairs."""
    seen, pairs = sides(first, second, x)
    return find_evidence(*seen, pairs if change is None else change(*pairs), ("A", "B"), margin)


def test_a_fold_is_shown_and_its_other_direction_is_not():
    found = evidence(fold, whole)
    assert (found.shown, found.kind) == (True, "pairs")
    assert 0.2 < found.torn / found.twins < 0.6
    # The variance of two sheets: half of the first coordinate's is lost.
    assert 0.15 < found.least_error < 1.0
    # Torn twins are mirror images.
    here, there = PLACES[found.pairs[:, 0]], PLACES[found.pairs[:, 1]]
    assert np.abs(here[:, 0] + there[:, 0] - 1.0).max() < 0.2
    assert np.median(np.abs(here[:, 0] - there[:, 0])) > 0.1
    assert len(np.unique(found.pairs)) == found.pairs.size
    assert found.text.startswith("Loss is shown: of ")
    back = evidence(whole, fold)
    assert (back.shown, back.kind, back.least_error) == (False, "none", 0.0)


def test_an_ignored_direction_is_shown_by_pairs_and_by_derivatives():
    found = evidence(line, whole)
    assert found.kind == "pairs"
    assert found.torn > 0.8 * found.twins
    assert "the derivatives of A have rank 1, those of B 2" in found.text
    # Twins next to each other on the line are far apart across it.
    assert np.abs(np.diff(PLACES[found.pairs][:, :, 0])).max() < 0.1
    assert not evidence(whole, line).shown


@pytest.mark.parametrize("unit", [1e-100, 1e-6, 1e6, 1e100])
def test_evidence_does_not_depend_on_the_unit_of_measurement(unit):
    (a, b), (y, z) = sides(fold, whole)
    scaled = Observation.from_jacobians(*(unit * part for part in whole(square(900, 2, 1))), dim=2)
    found, plain = (
        find_evidence(a, one, (y, points), ("A", "B"), 0.05) for one, points in ((scaled, unit * z), (b, z))
    )
    assert (found.twins, found.torn, found.kind) == (plain.twins, plain.torn, plain.kind)
    assert found.least_error == pytest.approx(plain.least_error, rel=1e-6)


def test_nothing_is_shown_where_both_sides_keep_the_input():
    for found in (evidence(whole, other), evidence(other, whole)):
        assert (found.shown, found.kind, found.torn, found.torn_share) == (False, "none", 0, 0.0)
        assert found.twins > 80
        assert len(found.wrong) == 0
        assert found.text.startswith("No loss is shown")


def test_a_loss_below_the_margin_is_none():
    thin = np.array([1.0, 0.02])
    assert not evidence(line, whole, PLACES * thin).shown
    assert evidence(line, whole, PLACES * thin, margin=0.001).shown


def test_few_wrong_pairs_are_named_and_show_nothing():
    rows = np.arange(5, 240, 12)  # of which there are 20

    def exchanged(y, z):
        z = z.copy()
        z[rows] = z[np.roll(rows, 7)]
        return y, z

    for found in (
        evidence(whole, other, change=exchanged),
        evidence(other, whole, change=lambda y, z: exchanged(z, y)[::-1]),
    ):
        assert not found.shown
        assert len(np.intersect1d(found.wrong, rows)) > 10
        assert len(np.setdiff1d(found.wrong, rows)) <= 4
    # They hide no loss either.
    assert evidence(fold, whole, change=exchanged).shown


def test_no_single_pair_shows_a_loss():
    def one_wild(y, z):
        z = z.copy()
        z[7] *= 1e4
        return y, z

    found = evidence(whole, other, change=one_wild)
    assert not found.shown
    assert found.wrong.tolist() in ([], [7])
    # Nor hides it one.
    assert evidence(fold, whole, change=one_wild).shown


@pytest.mark.parametrize("count", [40, 240])
def test_pairs_in_another_order_show_nothing(count):
    order = np.random.default_rng(0).permutation(count)
    found = evidence(whole, other, PLACES[:count], change=lambda y, z: (y, z[order]))
    assert (found.shown, found.kind, found.least_error) == (False, "unrelated", 0.0)
    assert "say nothing of each other" in found.text


def test_steep_places_between_the_samples_show_nothing():
    found = evidence(whole, walls)
    assert found.torn > 10
    assert not found.shown
    assert "steep places" in found.text


@pytest.mark.parametrize("level", [0.01, 0.1, 0.3])
def test_noise_shows_nothing(level):
    rng = np.random.default_rng(4)

    def noisy(points):
        return points + level * points.std(axis=0).mean() * rng.normal(size=points.shape)

    x = square(900, 2, 0), square(900, 2, 1)
    seen = [
        Observation.from_jacobians(noisy(measure(at)[0]), measure(at)[1], dim=2)
        for measure, at in zip((whole, other), x, strict=True)
    ]
    pairs = noisy(whole(PLACES)[0]), noisy(other(PLACES)[0])
    assert not find_evidence(*seen, pairs, ("A", "B"), 0.05).shown
    assert not find_evidence(*seen[::-1], pairs[::-1], ("B", "A"), 0.05).shown


def test_a_handful_of_pairs_shows_nothing():
    found = evidence(fold, whole, PLACES[:12])
    assert (found.shown, found.kind) == (False, "too few")
    assert "Only " in found.text


def test_derivatives_show_a_rank_without_pairs():
    found = evidence(line, whole, PLACES[:6])
    assert (found.shown, found.kind, found.least_error) == (True, "rank", 0.0)
    assert found.text == "Loss is shown by derivatives: the derivatives of A have rank 1, those of B 2."
    # Pairs in another order say nothing, the derivatives as much as before.
    assert evidence(line, whole, change=lambda y, z: (y, z[np.random.default_rng(0).permutation(240)])).kind == "rank"


def weak(x, strength=0.01):
    """Both coordinates, the second one hardly."""
    y, jacobians = whole(x * [1.0, strength])
    return y, jacobians * [1.0, strength]


def test_a_dimension_set_by_hand_shows_no_rank():
    x = square(900, 2, 0)
    source, target = Observation.from_jacobians(*weak(x), dim=1), observed(whole, 1)
    assert not rank_is_shown(source, target)
    assert rank_is_shown(observed(line, 0, 1), target)
    assert not rank_is_shown(target, observed(line, 0, 1))
    # Nor do pairs: what lies beside the line is measured, however weakly.
    assert not find_evidence(source, target, (weak(PLACES)[0], whole(PLACES)[0]), ("A", "B"), 0.05).shown


def test_bursts_show_no_rank_but_fewer_measurements_do():
    x, rng = square(300, 2, 0), np.random.default_rng(0)
    bursts = line((x[:, None] + 0.01 * rng.normal(size=(300, 20, 2))).reshape(-1, 2))[0].reshape(300, 20, -1)
    source = Observation.from_bursts(line(x)[0], bursts, scale=0.01)
    assert source.dim == 1
    assert not rank_is_shown(source, observed(whole, 1))
    assert rank_is_shown(Observation.from_bursts(line(x)[0][:, :1], bursts[:, :, :1], scale=0.01), observed(whole, 1))
    # Pairs show what bursts do not resolve.
    assert (
        find_evidence(source, observed(whole, 1), (line(PLACES)[0], whole(PLACES)[0]), ("A", "B"), 0.05).kind == "pairs"
    )


def test_sides_without_a_unit():
    """A line from its points alone, and the same folded."""
    t = np.sort(np.random.default_rng(0).random((300, 1)), axis=0)
    places = np.random.default_rng(1).random((150, 1))
    arc, bent = (
        (lambda s: np.column_stack([3.0 * s, s**2])),
        (lambda s: np.column_stack([(s - 0.5) ** 2, (s - 0.5) ** 4])),
    )
    whole_line, folded = (Observation.from_neighbors(measure(t), dim=1) for measure in (arc, bent))
    pairs = bent(places), arc(places)
    assert not whole_line.known_unit
    assert find_evidence(folded, whole_line, pairs, ("A", "B"), 0.05).shown
    assert not find_evidence(whole_line, folded, pairs[::-1], ("B", "A"), 0.05).shown
