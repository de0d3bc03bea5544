"""Isometric coordinates of samples that do not fit: deficient, far, repeated, too few, in pieces; and of plain arrays."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from diffeo import IsometricEmbedding, Observation, errors
from scipy.spatial.distance import pdist
from support.recovered import apply, fitted_square, motion, observe_at, procrustes_error
from support.samples import smooth_map, smooth_observation, square

# --- samples that do not fit --------------------------------------------------------------------------------


def test_deficient_samples_are_placed():
    x, measure = square(1500), smooth_map(2, 5, 0)
    y, jacobians = measure(x)
    lost = [3, 700, 1400]
    jacobians[lost] = 0.0
    with pytest.warns(errors.RankWarning):
        observation = Observation.from_jacobians(y, jacobians)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_array_equal(fitted.left_out_, lost)
    np.testing.assert_array_equal(fitted.misfit_[lost], np.inf)
    assert np.isfinite(np.delete(fitted.misfit_, lost)).all()
    kept = np.delete(np.arange(1500), lost)
    there = motion(fitted.embedding_[kept], x[kept])
    assert np.abs(apply(there, fitted.embedding_) - x).max() < 5e-3
    np.testing.assert_array_equal(fitted.jacobians_[lost], 0.0)


def pieces(n, apart):
    """A square whose last `apart` samples lie elsewhere with tangents that the others do not have."""
    x = square(n)
    y, jacobians = smooth_map(2, 5, 0)(x)
    y, jacobians = np.pad(y, ((0, 0), (0, 5))), np.pad(jacobians, ((0, 0), (0, 5), (0, 0)))
    y[-apart:], jacobians[-apart:] = (
        np.roll(y[-apart:], 5, axis=1) + 9.0,
        np.roll(jacobians[-apart:], 5, axis=1),
    )
    return x, Observation.from_jacobians(y, jacobians)


def test_pieces_of_an_observation_are_an_error_with_their_sizes():
    with pytest.raises(errors.DisconnectedError, match="2 pieces of 600, 400 samples"):
        IsometricEmbedding().fit(pieces(1000, 400)[1])


def test_a_few_strays_are_left_out():
    x, observation = pieces(2000, 13)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_array_equal(fitted.left_out_, np.arange(1987, 2000))
    assert procrustes_error(fitted.embedding_[:1987], x[:1987]) < 1e-3
    assert np.isfinite(fitted.embedding_).all()


def test_a_few_far_samples_cost_the_others_nothing():
    x = square(2000)
    x[:5] = 8.0 + 0.01 * x[:5]
    fitted = IsometricEmbedding().fit(observe_at(x, smooth_map(2, 5, 0, bend=0.1)))
    assert procrustes_error(fitted.embedding_[5:], x[5:]) < 1e-3


@pytest.mark.filterwarnings("ignore::diffeo.errors.DuplicateWarning")
@pytest.mark.parametrize("copies", [6, 30])
def test_twins_do_no_harm(copies):
    # 30 copies are more than a neighbourhood holds, and must not untie the samples around them.
    x = np.vstack([square(800), square(60), np.repeat(square(1, seed=5), copies, axis=0)])
    measure = smooth_map(2, 5, 0)
    fitted = IsometricEmbedding().fit(observe_at(x, measure))
    miss = np.linalg.norm(apply(motion(fitted.embedding_, x), fitted.embedding_) - x, axis=1)
    assert miss.max() < 3e-3
    np.testing.assert_allclose(fitted.embedding_[:60], fitted.embedding_[800:860], atol=1e-3)
    assert np.isfinite(fitted.jacobians_).all()
    np.testing.assert_allclose(fitted.transform(measure(x)[0]), fitted.embedding_, atol=2e-3)


def test_repeats_are_named_and_placed_together():
    x = np.repeat(square(400), 3, axis=0)
    with pytest.warns(errors.DuplicateWarning, match="800 samples repeat"):
        fitted = IsometricEmbedding().fit(Observation.from_jacobians(*smooth_map(2, 5, 0)(x)))
    assert np.ptp(fitted.embedding_.reshape(400, 3, 2), axis=1).max() < 1e-3
    assert procrustes_error(fitted.embedding_, x) < 3e-3
    with pytest.warns(errors.DuplicateWarning), pytest.raises(errors.SampleSizeError):
        IsometricEmbedding().fit(np.ones((10, 2)))


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("n", [2, 3, 5, 12])
def test_a_handful_of_samples(n, dim):
    # All pairs are edges of exact length, which leave nothing open but a motion.
    x = square(n, dim, seed=n)
    linear = np.random.default_rng(1).normal(size=(dim + 2, dim))
    observation = Observation.from_jacobians(x @ linear.T, np.broadcast_to(linear, (n, dim + 2, dim)), dim=dim)
    fitted = IsometricEmbedding().fit(observation)
    np.testing.assert_allclose(pdist(fitted.embedding_), pdist(x), atol=1e-4)
    assert np.isfinite(fitted.jacobians_).all()
    assert np.isfinite(fitted.inverse_transform(fitted.embedding_)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", errors.OutOfDomainWarning)
        assert np.isfinite(fitted.transform(observation)).all()


def test_bits_depend_on_neither_threads_nor_the_run():
    observation = smooth_observation(1500, 2, 5, seed=2)
    y = observation.points[:100] + 1e-3
    fits = [IsometricEmbedding(n_jobs=n_jobs).fit(observation) for n_jobs in (1, 2, 1, None)]
    for fitted in fits[1:]:
        for name in ("embedding_", "jacobians_", "misfit_", "stress_"):
            assert np.asarray(getattr(fitted, name)).tobytes() == np.asarray(getattr(fits[0], name)).tobytes()
        assert fitted._chart.locate(y, 2).coordinates.tobytes() == fits[0]._chart.locate(y, 1).coordinates.tobytes()


# --- plain arrays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_an_array_is_its_own_chart(dim):
    x = square(600, dim)
    fitted = IsometricEmbedding().fit(x)
    assert procrustes_error(fitted.embedding_, x) < 1e-5
    assert fitted.stress_ < 1e-5
    np.testing.assert_allclose(fitted.transform(x), fitted.embedding_, atol=1e-5)
    np.testing.assert_allclose(fitted.inverse_transform(fitted.embedding_), x, atol=1e-5)
    np.testing.assert_array_equal(IsometricEmbedding().fit_transform(x), fitted.embedding_)


def test_pieces_of_an_array_are_joined_with_a_warning():
    x = np.vstack([square(600), square(400, seed=1)])
    x[600:, 0] += 1e3
    with pytest.warns(errors.DisconnectedWarning, match="2 pieces of 600, 400 samples"):
        fitted = IsometricEmbedding().fit(x)
    # Each piece keeps its shape, whatever the joint allows.
    for part in (slice(0, 600), slice(600, 1000)):
        assert procrustes_error(fitted.embedding_[part], x[part]) < 1e-3
    centres = [fitted.embedding_[:600].mean(axis=0), fitted.embedding_[600:].mean(axis=0)]
    assert np.linalg.norm(centres[0] - centres[1]) == pytest.approx(1e3, rel=2e-3)
    np.testing.assert_allclose(fitted.transform(x), fitted.embedding_, atol=1e-3)


@pytest.mark.parametrize("n_neighbors", [0, -1, 1.5, True, "12", None])
def test_numbers_of_neighbors_that_do_not_exist(n_neighbors):
    with pytest.raises(errors.ParameterError, match="n_neighbors"):
        IsometricEmbedding(n_neighbors=n_neighbors).fit(square(50))


@pytest.mark.parametrize(
    "data", [np.full((9, 2), np.nan), np.ones(9), np.ones((1, 3)), np.ones((9, 2, 2)), [["a"]] * 9]
)
def test_data_that_cannot_be_used(data):
    fitted = fitted_square()[2]
    for use in (IsometricEmbedding().fit, fitted.transform, fitted.inverse_transform):
        with pytest.raises(errors.DiffeoError):
            use(data)


def test_an_array_of_many_columns_is_its_own_coordinates():
    x = np.random.default_rng(0).normal(size=(120, 100))
    fitted = IsometricEmbedding().fit(x)
    np.testing.assert_allclose(fitted.embedding_, x - x.mean(axis=0), atol=1e-12)
    np.testing.assert_array_equal(fitted.jacobians_[7], np.eye(100))
    assert fitted.stress_ < 1e-12


def test_an_array_of_more_columns_than_rows_has_as_many_coordinates_as_its_rows_span():
    x = np.random.default_rng(0).normal(size=(50, 5000))
    fitted = IsometricEmbedding().fit(x)
    assert fitted.embedding_.shape == (50, 49)
    np.testing.assert_allclose(pdist(fitted.embedding_), pdist(x), rtol=1e-12)
    np.testing.assert_allclose(fitted.transform(x[:3]), fitted.embedding_[:3], atol=1e-9)
    between = (x[:3] + x[3:6]) / 2
    np.testing.assert_allclose(fitted.inverse_transform(fitted.transform(between)), between, atol=1e-9)
    assert fitted.stress_ < 1e-12


def test_an_array_of_too_many_columns_is_refused_with_their_number(monkeypatch):
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "1e6")
    with pytest.raises(errors.MemoryLimitError, match="100 columns"):
        IsometricEmbedding().fit(np.random.default_rng(0).normal(size=(60, 100)))
