"""What the user says of both sides together, parsed: landmarks, and observables."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, float_array, index_array
from diffeo.observation.observation import Observation


def parse_observables(observables: Any, obs_a: Observation, obs_b: Observation) -> tuple[FloatArray, FloatArray] | None:
    """Values of one quantity at the samples of both sides, (n_a, p) and (n_b, p), checked."""
    if observables is None:
        return None
    if not (isinstance(observables, (tuple, list)) and len(observables) == 2):
        raise errors.ParameterError(
            "observables must be a pair (values_a, values_b): a quantity that both networks report, at every sample of each"
        )
    values = []
    for name, given, obs in (("observables[0]", observables[0], obs_a), ("observables[1]", observables[1], obs_b)):
        if np.ndim(given) == 1:
            given = np.reshape(given, (-1, 1))
        values.append(float_array(given, name, 2, shape=(len(obs), None), axes="(n,) or (n, p)"))
    if values[0].shape[1] != values[1].shape[1]:
        raise errors.ShapeError(
            f"observables have {values[0].shape[1]} and {values[1].shape[1]} columns: they must be the same quantities"
        )
    constant = np.flatnonzero((np.ptp(values[0], axis=0) == 0) | (np.ptp(values[1], axis=0) == 0))
    if len(constant):
        raise errors.InputError(f"column {constant[0]} of the observables is constant on a side: it says nothing")
    return values[0], values[1]


def _has_two_axes(value: Any) -> bool:
    """Whether an array-like has two axes; ragged lists have none."""
    try:
        return int(np.ndim(value)) == 2
    except ValueError:
        return False


def parse_landmarks(landmarks: Any, obs_a: Observation, obs_b: Observation, name: str = "landmarks") -> tuple[Any, Any]:
    """Landmarks as two float arrays of points, or two integer arrays of rows (empty ones for None); `name` is for messages."""
    if landmarks is None:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    if isinstance(landmarks, (tuple, list)) and len(landmarks) == 2 and _has_two_axes(landmarks[0]):
        m_a, m_b = obs_a.points.shape[1], obs_b.points.shape[1]
        at_a = float_array(landmarks[0], f"{name}[0]", 2, shape=(None, m_a), axes="(L, m_a)")
        at_b = float_array(landmarks[1], f"{name}[1]", 2, shape=(len(at_a), m_b), axes="(L, m_b)")
        return at_a, at_b
    if isinstance(landmarks, tuple) and len(landmarks) == 2 and not _has_two_axes(landmarks[0]):
        raise errors.LandmarkError(
            f"{name} is a tuple of two one-dimensional sequences; give row numbers as one (L, 2) array, e.g. "
            "np.column_stack([rows_a, rows_b])"
        )
    try:
        pairs = np.asarray(landmarks)
    except ValueError as error:
        raise errors.LandmarkError(f"{name} are not pairs of equal length: {error}") from error
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise errors.LandmarkError(
            f"{name} has shape {pairs.shape}; expected (points_a (L, m_a), points_b (L, m_b)) or row numbers (L, 2)"
        )
    try:
        rows_a = index_array(pairs[:, 0], f"{name}[:, 0]", len(obs_a))
        rows_b = index_array(pairs[:, 1], f"{name}[:, 1]", len(obs_b))
    except errors.InputError as error:
        raise errors.LandmarkError(str(error)) from error
    return rows_a, rows_b


def landmark_points(
    obs_a: Observation, obs_b: Observation, landmarks: tuple[Any, Any]
) -> tuple[FloatArray, FloatArray] | None:
    """Measurements (L, m_a) and (L, m_b) of parsed landmarks, which may be rows; None if there are none."""
    if len(landmarks[0]) == 0:
        return None
    at_a, at_b = (
        obs.points[given] if given.ndim == 1 else given for obs, given in zip((obs_a, obs_b), landmarks, strict=True)
    )
    return at_a, at_b
