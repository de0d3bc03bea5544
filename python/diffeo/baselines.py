"""What a plain fit to the landmarks achieves: the opponents of every transformation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._validation import FloatArray, float_array

Map = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True)
class Baseline:
    """Held-out relative error of a plain method that was fitted to the same landmarks.

    Attributes
    ----------
    name : str
    forward, backward : float or None
        Relative error from A to B and from B to A; None where the method cannot be fitted.
    note : str
        Why not, or what was chosen; may be empty.
    """

    name: str
    forward: float | None
    backward: float | None
    note: str = ""


def affine_fit(points_a: Any, points_b: Any) -> Map:
    """Affine map by ridge regression, its penalty chosen by leave-one-out error (generalised where that is singular).

    Parameters
    ----------
    points_a, points_b : array_like of shape (L, m_a) and (L, m_b)

    Returns
    -------
    callable
        From (count, m_a) to (count, m_b).
    """
    from sklearn.linear_model import RidgeCV

    p, q = _pairs(points_a, points_b)
    centre, spread = p.mean(axis=0), p.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    model = RidgeCV(alphas=np.logspace(-8, 2, 21)).fit((p - centre) / spread, q)
    return lambda y: np.asarray(model.predict((y - centre) / spread)).reshape(len(y), -1)


def procrustes_fit(points_a: Any, points_b: Any) -> Map:
    """Rotation or reflection, scale and shift (Schoenemann 1966); the narrower side is padded with zeros."""
    p, q = _pairs(points_a, points_b)
    width, m_a, m_b = max(p.shape[1], q.shape[1]), p.shape[1], q.shape[1]
    centre_a, centre_b = p.mean(axis=0), q.mean(axis=0)
    padded_p = np.pad(p - centre_a, ((0, 0), (0, width - m_a)))
    padded_q = np.pad(q - centre_b, ((0, 0), (0, width - m_b)))
    u, s, vt = np.linalg.svd(padded_p.T @ padded_q)
    size = float((padded_p**2).sum())
    linear = u @ vt * (s.sum() / size if size > 0 else 0.0)
    return lambda y: (y - centre_a) @ linear[:m_a, :m_b] + centre_b


def gaussian_process_fit(points_a: Any, points_b: Any) -> Map:
    """Gaussian process with an anisotropic squared-exponential kernel, its scales by maximum likelihood (scikit-learn)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    p, q = _pairs(points_a, points_b)
    centre, spread = p.mean(axis=0), np.where(p.std(axis=0) > 0, p.std(axis=0), 1.0)
    prior = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(np.ones(p.shape[1]), (1e-2, 1e3)) + WhiteKernel(1e-8, (1e-12, 1e-1))
    with warnings.catch_warnings():
        # A scale at its bound, or a search that stops early, is how good this opponent is; nobody can act on it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = GaussianProcessRegressor(prior, normalize_y=True, random_state=0).fit((p - centre) / spread, q)
    return lambda y: np.asarray(model.predict((y - centre) / spread)).reshape(len(y), -1)


def _pairs(points_a: Any, points_b: Any) -> tuple[FloatArray, FloatArray]:
    p = float_array(points_a, "points_a", 2, axes="(L, m_a)")
    q = float_array(points_b, "points_b", 2, shape=(len(p), None), axes="(L, m_b)")
    if len(p) < 2:
        raise errors.SampleSizeError(f"a baseline needs at least 2 pairs, got {len(p)}")
    return p, q
