"""Parts of an observation, by rows and by neurons, and the union of several."""

from __future__ import annotations

from dataclasses import replace

import diffeo
import numpy as np
import pytest
from diffeo import Observation, errors
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.how_measured import MeasureOptions
from sklearn.model_selection import KFold, train_test_split
from support.samples import smooth_map, square


def observed(n=40, m=5, seed=1):
    return Observation.from_jacobians(*smooth_map(2, m, 6)(square(n, 2, seed)))


def bursts(n=60, m=5, size=30):
    x = square(n, 2, 3)
    measure = smooth_map(2, m, 6)
    moved = x[:, None] + 0.01 * np.random.default_rng(0).normal(size=(n, size, 2))
    return measure(x)[0], measure(moved.reshape(-1, 2))[0].reshape(n, size, m)


# Rows


def assert_rows(part, whole, rows):
    for name in ("points", "whitening", "singular_values", "degrees_of_freedom"):
        assert getattr(part, name).tobytes() == getattr(whole, name)[rows].tobytes()
    assert len(part) == len(rows)


def test_rows_keep_what_belongs_to_their_samples():
    whole = replace(
        observed(), deficient=np.array([3, 17]), degrees_of_freedom=np.arange(40.0) + 7, options=MeasureOptions("net.3")
    )
    part = whole[[17, 5, 3, 20]]
    assert_rows(part, whole, [17, 5, 3, 20])
    assert part.deficient.tolist() == [0, 2]
    assert part.usable.tolist() == [1, 3]
    assert part.options is whole.options


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        (slice(3, 20, 4), [3, 7, 11, 15, 19]),
        (slice(None, None, -13), [39, 26, 13, 0]),
        (7, [7]),
        (np.int32(-1), [39]),
        ([-1, 0, 0], [39, 0, 0]),
        (np.arange(40) % 13 == 5, [5, 18, 31]),
        ((np.array([4, 2], dtype=np.uint8), ...), [4, 2]),
    ],
    ids=str,
)
def test_rows_are_numbers_masks_and_slices(key, rows):
    assert_rows(observed()[key], observed(), rows)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        ([0, 40], errors.InputError, "1 rows .*outside of the 40"),
        (-41, errors.InputError, "outside of the 40"),
        ([0.0, 1.0], errors.DataTypeError, "rows are float64"),
        ("points", errors.DataTypeError, "row numbers, a boolean mask or a slice"),
        (None, errors.DataTypeError, "rows are object"),
        ([[0, 1]], errors.ShapeError, r"shape \(1, 2\)"),
        ([[0], [1, 2]], errors.ShapeError, "not a rectangular"),
        (np.ones(39, dtype=bool), errors.ShapeError, "mask of length 39 does not fit 40"),
        (np.zeros(40, dtype=bool), errors.InputError, "no row of the 40"),
        ([], errors.InputError, "no row of the 40"),
        (slice(50, 60), errors.InputError, "no row of the 40"),
        (slice("a", 3), errors.DataTypeError, "rows"),
        ((0, 1), errors.DataTypeError, r"obs.select\(neurons\)"),
        ((slice(None), slice(0, 2)), errors.DataTypeError, r"obs.select\(neurons\)"),
    ],
    ids=str,
)
def test_other_rows_are_refused(key, error, message):
    with pytest.raises(error, match=message):
        observed()[key]


def test_scikit_learn_splits_observations():
    whole = observed()
    for train, test in KFold(4, shuffle=True, random_state=0).split(whole):
        assert_rows(whole[train], whole, train)
        assert len(whole[test]) == 10
    numbers = np.arange(40)
    train, test, train_rows, test_rows = train_test_split(whole, numbers, test_size=0.25, random_state=1)
    assert_rows(train, whole, train_rows)
    assert_rows(test, whole, test_rows)


def test_an_observation_is_neither_an_array_nor_a_sequence():
    with pytest.raises(errors.DataTypeError, match=r"its measurements are \.points"):
        np.asarray(observed())
    with pytest.raises(TypeError, match="not iterable"):
        list(observed())
    with pytest.raises(errors.DataTypeError, match="no array"):
        Observation.from_jacobians(observed(), np.ones((40, 5, 2)))


# Neurons


def metrics(observation):
    """Pseudo-inverse of the covariance of each sample, free of the gauge."""
    return observation.whitening @ observation.whitening.transpose(0, 2, 1)


def test_selected_neurons_have_the_metric_that_they_have_alone():
    points, jacobians = smooth_map(2, 9, 6)(square(80, 2, 1))
    chosen = [7, 2, 0, 5]
    part = Observation.from_jacobians(points, jacobians).select(chosen)
    alone = Observation.from_jacobians(points[:, chosen], jacobians[:, chosen])
    assert part.points.tobytes() == alone.points.tobytes()
    np.testing.assert_allclose(part.singular_values, alone.singular_values, rtol=1e-12)
    np.testing.assert_allclose(metrics(part), metrics(alone), rtol=0, atol=1e-11 * np.abs(metrics(alone)).max())
    assert (part.dim, part.source, len(part.deficient)) == (2, "jacobians", 0)


def test_selected_neurons_of_bursts_keep_their_degrees_of_freedom():
    points, around = bursts(m=4)
    whole = Observation.from_bursts(points, around, scale=0.01, dim=2)
    part = whole.select([3, 0, 2])
    alone = Observation.from_bursts(points[:, [3, 0, 2]], around[:, :, [3, 0, 2]], scale=0.01, dim=2)
    assert part.degrees_of_freedom.tolist() == alone.degrees_of_freedom.tolist() == [29.0] * 60
    # Curvature, which the selection leaves out, is of the second order in the scale.
    np.testing.assert_allclose(part.singular_values, alone.singular_values[:, :2], rtol=1e-3)
    gain = np.linalg.norm(part.whitening[:, :, 0], axis=1) * part.singular_values[:, 0]
    np.testing.assert_allclose(gain**2, 1 - 3 / 29, rtol=1e-12)
    assert part.scale == 0.01


def test_all_neurons_are_the_same_observation():
    for whole in (observed(), smoothed(Observation.from_bursts(*bursts(), scale=0.01, dim=2))):
        again = whole.select(range(5))
        np.testing.assert_allclose(metrics(again), metrics(whole), rtol=0, atol=1e-11 * np.abs(metrics(whole)).max())
        assert again.length_noise == pytest.approx(whole.length_noise, rel=1e-9)


def test_neurons_are_named_by_their_numbers_in_the_layer():
    options = MeasureOptions("net.3", np.array([30, 4, 11, 2, 8]), width=40)
    whole = replace(observed(), options=options)
    part = whole.select([2, 30])
    assert part.points.tobytes() == np.ascontiguousarray(whole.points[:, [3, 0]]).tobytes()
    assert part.neurons.tolist() == [2, 30]
    assert (part.layer, part.options.width) == ("net.3", 40)
    with pytest.raises(errors.InputError, match=r"1 of 2 neurons \(rows? 0\).*numbers are those of the layer"):
        whole.select([0, 30])


@pytest.mark.parametrize(
    ("neurons", "error", "message"),
    [
        ([0], errors.RankError, "1 neurons cannot embed 2 dimensions"),
        ([0, 5], errors.InputError, "1 of 2 neurons"),
        ([0, -1], errors.InputError, "not among the 5"),
        ([0, 1, 0], errors.InputError, "more than once"),
        ([0.0, 1.0], errors.DataTypeError, "float64"),
        ([True, False, True, True, False], errors.DataTypeError, "bool"),
        (3, errors.ShapeError, r"shape \(\)"),
        ([[0, 1]], errors.ShapeError, r"shape \(1, 2\)"),
        ([[0], [1, 2]], errors.ShapeError, "not a rectangular"),
        (None, errors.DataTypeError, "object"),
    ],
    ids=str,
)
def test_other_neurons_are_refused(neurons, error, message):
    with pytest.raises(error, match=message):
        observed().select(neurons)


def test_neurons_that_lose_a_direction_are_refused():
    x = square(60)
    points = np.column_stack([x[:, 0], 2 * x[:, 0] ** 2, x[:, 1]])
    jacobians = np.zeros((60, 3, 2))
    jacobians[:, 0, 0], jacobians[:, 1, 0], jacobians[:, 2, 1] = 1.0, 4 * x[:, 0], 1.0
    whole = Observation.from_jacobians(points, jacobians)
    with pytest.raises(errors.RankError, match="60 of 60 samples"):
        whole.select([0, 1])
    assert whole.select([1, 2]).dim == 2


def test_neurons_suggested_from_an_observation_need_no_second_pass():
    points, jacobians = smooth_map(2, 20, 6)(square(300, 2, 1))
    layer = Observation.from_jacobians(points, jacobians)
    chosen = diffeo.suggest_neurons(layer)
    part = layer.select(chosen)
    assert part.whitening.tobytes() == layer.select(chosen.neurons).whitening.tobytes()
    assert part.points.tobytes() == np.ascontiguousarray(points[:, chosen.neurons]).tobytes()


# Union


def test_observations_of_the_same_measurements_are_joined():
    first, more = observed(30, seed=1), observed(20, seed=2)
    first = replace(first, deficient=np.array([3]))
    more = replace(more, deficient=np.array([0, 19]), degrees_of_freedom=np.full(20, 9.0))
    both = diffeo.concatenate(iter([first, more]))
    assert_rows(both[:30], first, np.arange(30))
    assert_rows(both[30:], more, np.arange(20))
    assert both.deficient.tolist() == [3, 30, 49]
    assert diffeo.concatenate([first]).points.tobytes() == first.points.tobytes()


def test_the_parts_of_an_observation_make_it_again():
    whole = Observation.from_bursts(*bursts(), scale=0.01, dim=2)
    again = diffeo.concatenate([whole[:17], whole[17:]])
    assert_rows(again, whole, np.arange(60))
    assert again.length_noise == whole.length_noise


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": MeasureOptions("net.3")}, "differ in options.layer"),
        ({"options": MeasureOptions(neurons=np.arange(5))}, "differ in options.neurons"),
        ({"options": MeasureOptions(smooth=0.1, reduce="mean")}, "differ in options.reduce, options.smooth"),
        ({"source": "covariances", "known_unit": False}, "differ in source, known_unit"),
    ],
    ids=str,
)
def test_observations_measured_otherwise_are_not_joined(change, message):
    with pytest.raises(errors.InputError, match=message):
        diffeo.concatenate([observed(), observed(), replace(observed(), **change)])
    with pytest.raises(errors.InputError, match=r"observations\[0\] and observations\[1\] differ in the number of"):
        diffeo.concatenate([observed(m=5), observed(m=4)])


@pytest.mark.parametrize(
    ("given", "message"), [([], "no observation"), (None, "list of them"), ([np.ones((3, 2))], r"\[0\] must be")]
)
def test_other_things_are_not_joined(given, message):
    with pytest.raises((errors.InputError, errors.DataTypeError), match=message):
        diffeo.concatenate(given)
    with pytest.raises(errors.DataTypeError, match=r"diffeo.concatenate\(\[obs, more\]\)"):
        diffeo.concatenate(observed())


# Facts that are kept


def test_the_noise_of_lengths_is_computed_once(monkeypatch):
    whole = observed()
    assert whole.length_noise == whole[:].length_noise
    monkeypatch.setattr("diffeo.observation.observation.rounding_of_lengths", None)
    assert whole.length_noise < 1e-10


def test_precision_is_that_of_the_whole_sample():
    points, jacobians = smooth_map(2, 5, 6)(square(40))
    points[:8] = np.round(8 * points[:8]) / 8
    whole = Observation.from_jacobians(points, jacobians)
    # These rows alone look like numbers of single precision.
    assert whole.precision == whole[:8].precision == "double"
    single = Observation.from_jacobians(points.astype(np.float32), jacobians)
    assert diffeo.concatenate([whole, single]).precision == "single"
