"""DiffusionMap as a scikit-learn estimator."""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import DiffusionMap, IsometricEmbedding, errors
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from support.samples import smooth_observation, square


# scikit-learn's checks feed separated clusters and repeated rows, of which diffeo rightly warns.
@pytest.mark.filterwarnings("ignore::diffeo.errors.DiffeoWarning")
@parametrize_with_checks(
    [DiffusionMap(n_components=2), DiffusionMap(n_components=1, epsilon=0.5, alpha=0.0), IsometricEmbedding()]
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def test_clone_keeps_parameters_and_drops_the_fit():
    fitted = DiffusionMap(n_components=3, epsilon=0.01, alpha=0.5, tol=1e-6, random_state=4, n_jobs=1).fit(square(100))
    fresh = clone(fitted)
    assert fresh.get_params() == fitted.get_params()
    assert not hasattr(fresh, "embedding_")
    with pytest.raises(NotFittedError):
        fresh.transform(square(10))
    with pytest.raises(NotFittedError):
        _ = fresh.operator_


def test_fit_rewrites_no_parameter():
    estimator = DiffusionMap(epsilon="auto", n_components=np.int64(3), random_state=None)
    before = dict(estimator.get_params())
    estimator.fit(square(200))
    assert estimator.get_params() == before


def test_constructor_takes_keywords_only():
    with pytest.raises(TypeError):
        DiffusionMap(3)


def test_fit_transform_is_fit_then_embedding():
    x = square(300)
    fitted = DiffusionMap(n_components=3).fit(x)
    np.testing.assert_array_equal(DiffusionMap(n_components=3).fit_transform(x), fitted.embedding_)


def test_names_of_the_features():
    fitted = DiffusionMap(n_components=3).fit(square(100))
    assert list(fitted.get_feature_names_out()) == ["diffusionmap0", "diffusionmap1", "diffusionmap2"]


def test_pandas_output():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(square(150), columns=["a", "b"], index=np.arange(150) * 2)
    estimator = DiffusionMap(n_components=2).set_output(transform="pandas")
    placed = estimator.fit_transform(frame)
    assert list(placed.columns) == ["diffusionmap0", "diffusionmap1"]
    assert list(placed.index) == list(frame.index)
    assert list(estimator.feature_names_in_) == ["a", "b"]
    np.testing.assert_array_equal(placed.to_numpy(), estimator.embedding_)
    np.testing.assert_allclose(estimator.transform(frame).to_numpy(), estimator.embedding_, atol=1e-6)


def test_refitting_on_an_observation_forgets_the_column_names():
    pandas = pytest.importorskip("pandas")
    estimator = DiffusionMap(n_components=2).fit(pandas.DataFrame(square(150), columns=["a", "b"]))
    observation = smooth_observation(150, 2, 5)
    estimator.fit(observation)
    assert estimator.n_features_in_ == 5
    assert not hasattr(estimator, "feature_names_in_")
    np.testing.assert_allclose(estimator.transform(observation), estimator.embedding_, atol=1e-6)


def test_in_a_pipeline():
    x = square(600, seed=1)
    target = np.cos(np.pi * x[:, 0])
    model = make_pipeline(StandardScaler(), DiffusionMap(n_components=6), LinearRegression())
    model.fit(x[:500], target[:500])
    assert model.score(x[500:], target[500:]) > 0.98


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (np.full((20, 2), np.nan), errors.InputError),
        (np.zeros((0, 2)), errors.InputError),
        (np.zeros((1, 2)), errors.InputError),
        (np.zeros(20), errors.InputError),
        (np.zeros((20, 2, 2)), errors.InputError),
        (np.zeros((20, 2), dtype=complex), errors.InputError),
        ([["a", "b"]] * 20, errors.DataTypeError),
    ],
)
def test_data_that_cannot_be_used(data, error):
    with pytest.raises(error):
        DiffusionMap(n_components=1).fit(data)


def test_sparse_data_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(errors.DataTypeError, match=r"[Ss]parse"):
        DiffusionMap(n_components=1).fit(sparse.csr_array(np.eye(20)))
