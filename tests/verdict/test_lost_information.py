"""Level sets found where they are: curves, folds, parts of the domain; and none where nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo.verdict.lost_information import find_loss
from support.samples import square

NAMES = ("A", "B")
X = 2.0 * square(1000, 2, 1) - 1.0
TURN = np.array([[0.8, -0.6], [0.6, 0.8]])


def loss(measured, x=X, **options):
    return find_loss(x, measured, x, names=NAMES, **options)


def bent(z):
    """Measurements that tell all values of z apart."""
    return np.column_stack([z, 0.3 * np.sin(2.0 * z), z[:, :1] ** 2])


def angle(direction, true):
    return np.degrees(np.arccos(min(1.0, abs(direction @ true))))


def test_an_ignored_direction():
    found = loss(bent((X @ TURN.T)[:, :1]))
    assert found.kind == "collapse"
    assert found.share > 0.9
    assert angle(found.direction, TURN[1]) < 5
    assert np.linalg.norm(found.direction) == pytest.approx(1.0)
    # Chords of the square at this angle, over its diagonal.
    assert 0.55 < found.extent < 0.95
    assert np.linalg.norm(found.centre) < 0.1
    assert found.text.startswith("B lost a direction that A keeps")


def test_a_fold():
    z = X @ TURN.T
    found = loss(bent(np.column_stack([z[:, 0] ** 2, z[:, 1]])))
    assert found.kind == "fold"
    assert found.share > 0.7
    assert angle(found.direction, TURN[0]) < 5
    assert found.text.startswith("B folds the domain that A keeps")
    # The samples of a pair are mirror images.
    here, there = z[found.pairs[:, 0]], z[found.pairs[:, 1]]
    assert np.abs(here[:, 0] + there[:, 0]).max() < 0.2
    assert np.abs(here[:, 1] - there[:, 1]).max() < 0.2
    assert np.abs(here[:, 0]).min() > 0.1


def test_a_part_of_the_domain():
    found = loss(np.column_stack([np.minimum(X[:, 0], 0.0), X[:, 1]]))
    assert found.kind == "collapse"
    assert 0.4 < found.share < 0.6
    assert X[found.rows, 0].min() > -0.2
    assert found.centre[0] == pytest.approx(0.5, abs=0.1)
    assert angle(found.direction, np.array([1.0, 0.0])) < 5


def test_a_fold_into_four():
    found = loss(X**2)
    assert found.kind == "fold"
    assert found.share > 0.8


def test_a_circle_seen_by_its_cosine():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 800)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    found = loss(circle[:, :1], circle)
    assert found.kind == "fold"
    assert angle(found.direction, np.array([0.0, 1.0])) < 5


@pytest.mark.parametrize("condition", [1.0, 5.0])
def test_nothing_is_lost_where_places_are_told_apart(condition):
    assert loss(bent(X * [1.0, 1.0 / condition] @ TURN)) is None


def test_what_does_not_vary_says_nothing():
    constant = np.ones((len(X), 1))
    assert loss(np.hstack([X, constant])) is None
    found = loss(np.hstack([X[:, :1], constant]))
    assert angle(found.direction, np.array([0.0, 1.0])) < 5
    # Nothing measured at all: everything is one level set.
    assert loss(constant).share > 0.9


def test_a_lower_dimension_is_a_collapse():
    places = X[:120]
    measured = places[:, :1]
    assert find_loss(places, measured, X, names=NAMES, collapsed=True).kind == "collapse"


def test_few_places_speak_for_all_samples():
    found = find_loss(X[:200], (X[:200] @ TURN.T)[:, :1], X, names=("B", "A"))
    assert found.share == pytest.approx(len(found.rows) / len(X))
    assert len(found.rows) > 600
    assert found.pairs.max() < len(X)
    assert found.text.startswith("A lost a direction that B keeps")


def test_a_handful_of_places_says_nothing():
    assert find_loss(X[:2], X[:2], X, names=NAMES) is None


def test_more_places_than_are_compared():
    x = 2.0 * square(5000, 2, 2) - 1.0
    found = loss(x[:, :1], x)
    assert found.share > 0.9
    assert found.rows.max() > 4000
