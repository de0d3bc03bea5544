"""What estimators take: an observation or a plain array, checked as scikit-learn expects it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.utils.validation import validate_data

from diffeo import errors
from diffeo._support.arrays import FloatArray, dense
from diffeo.observation.observation import Observation

Method = TypeVar("Method", bound=Callable[..., Any])


def all_or_nothing(fit: Method) -> Method:
    """A method that fits, after whose failure, or Ctrl-C, the estimator is what it was; other threads see no half."""

    @wraps(fit)
    def whole(self: Any, *arguments: Any, **options: Any) -> Any:
        fresh = object.__new__(type(self))
        fresh.__dict__.update(vars(self))
        found = fit(fresh, *arguments, **options)
        self.__dict__ = fresh.__dict__
        return self if found is fresh else found

    return cast(Method, whole)


def of_one_fit(method: Method) -> Method:
    """A method that reads one fit from its beginning to its end, though another thread fits the estimator meanwhile.

    Fits give the estimator another ``__dict__`` (`all_or_nothing`): the method reads the one that it met.
    """

    @wraps(method)
    def steady(self: Any, *arguments: Any, **options: Any) -> Any:
        seen = object.__new__(type(self))
        seen.__dict__ = self.__dict__
        return method(seen, *arguments, **options)

    return cast(Method, steady)


def _converted(X: Any) -> Any:
    """An array by the same rules as everywhere; what scikit-learn refuses in its own words is left to it."""
    try:
        array = dense(X, "X")
    except errors.ShapeError:
        return X
    wide = array.dtype.kind == "f" and array.dtype.itemsize > 8
    # Complex numbers scikit-learn refuses itself, and mappings and the like among objects; of text it would make numbers.
    foreign = array.dtype == object and any(isinstance(one, (str, datetime.date)) for one in array.flat)
    if wide or foreign or array.dtype.kind not in "fiucO":
        raise errors.DataTypeError(f"X has dtype {array.dtype}; convert it with .astype(float) if that is safe")
    return array


def checked_input(estimator: Any, X: Any, *, reset: bool) -> Observation | FloatArray:
    """An observation as it is, or an array (n, m) as float64, C-contiguous and finite.

    Parameters
    ----------
    estimator : BaseEstimator
        Gets ``n_features_in_`` (and ``feature_names_in_`` of a data frame) where `reset` is true, and is compared with
        them where it is not.
    X : Observation, or array_like of shape (n, m)
        A torch tensor may have a gradient, and be on any device.
    reset : bool
        True in ``fit`` (at least two samples), false in ``transform``.

    Raises
    ------
    ShapeError
        An observation of other than the fitted number of measurements.
    InputError, DataTypeError
        As of `diffeo._support.arrays.dense`; or scikit-learn's own messages.
    """
    if isinstance(X, Observation):
        m = X.points.shape[1]
        if reset:
            estimator.n_features_in_ = m
            if hasattr(estimator, "feature_names_in_"):
                del estimator.feature_names_in_
        elif m != estimator.n_features_in_:
            raise errors.ShapeError(f"the observation has {m} measurements, the fit had {estimator.n_features_in_}")
        return X
    array = _converted(X)
    # A data frame is handed on as it is, whose names scikit-learn remembers.
    X = X if hasattr(X, "columns") else array
    try:
        # Sums of finite numbers may overflow there.
        with np.errstate(over="ignore", invalid="ignore"):
            checked: FloatArray = validate_data(
                estimator, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=2 if reset else 1
            )
    except ValueError as error:
        raise errors.InputError(str(error)) from error
    except TypeError as error:
        raise errors.DataTypeError(str(error)) from error
    return checked
