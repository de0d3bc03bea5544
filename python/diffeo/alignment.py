"""Joins the intrinsic coordinates of two observations by a linear map found from landmarks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._validation import FloatArray

# Below this ratio of singular values the landmarks leave a direction of the alignment open.
UNDETERMINED = 1e-3
# Landmarks per coefficient of a general linear map before it may replace the orthogonal one.
LANDMARKS_PER_COEFFICIENT = 2


@dataclass(frozen=True, eq=False)
class Alignment:
    """Affine map between intrinsic coordinates: ``x_b = x_a @ linear + shift``.

    Attributes
    ----------
    linear : ndarray of shape (c, c)
    shift : ndarray of shape (c,)
    kind : str
        "orthogonal" (rotation or reflection, no shift) or "affine".
    residual : float
        Root-mean-square misfit at the landmarks, relative to their spread.
    left_out : float
        The same, each landmark predicted from the others; infinite when there are too few to leave one out.
    """

    linear: FloatArray
    shift: FloatArray
    kind: str
    residual: float
    left_out: float

    def forward(self, coordinates: FloatArray) -> FloatArray:
        """From A's coordinates (n, c) to B's."""
        return coordinates @ self.linear + self.shift

    def backward(self, coordinates: FloatArray) -> FloatArray:
        """From B's coordinates (n, c) to A's."""
        solved: FloatArray = np.linalg.solve(self.linear.T, (coordinates - self.shift).T).T
        return np.ascontiguousarray(solved)


def align(coordinates_a: FloatArray, coordinates_b: FloatArray) -> Alignment:
    """Align diffusion coordinates of landmarks: orthogonal, or affine where many landmarks prefer it.

    Eigenfunctions of one domain agree up to an orthogonal map within each eigenspace, so the orthogonal Procrustes
    map (Schoenemann 1966) is the model; with many landmarks a general affine map also takes up what sampling did to
    each embedding. The better one on left-out landmarks is taken.

    Parameters
    ----------
    coordinates_a, coordinates_b : ndarray of shape (L, c)
        Intrinsic coordinates of the same L inputs on both sides.

    Returns
    -------
    Alignment

    Raises
    ------
    LandmarkError
        Fewer than c landmarks, or landmarks that leave a direction open (coincident or dependent ones).
    """
    count, c = coordinates_a.shape
    if count < c:
        raise errors.LandmarkError(
            f"{count} landmarks cannot align {c} coordinates; at least {c} are needed (more average out noise)"
        )
    _check_determined(coordinates_a, "A")
    _check_determined(coordinates_b, "B")
    best = _fit(coordinates_a, coordinates_b, "orthogonal", _orthogonal, c + 1)
    if count >= LANDMARKS_PER_COEFFICIENT * (c + 1):
        affine = _fit(coordinates_a, coordinates_b, "affine", _affine, LANDMARKS_PER_COEFFICIENT * (c + 1))
        well_posed = np.linalg.cond(affine.linear) < 1.0 / UNDETERMINED
        if well_posed and affine.left_out < best.left_out:
            return affine
    return best


def _orthogonal(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    u, _, vt = np.linalg.svd(p.T @ q)
    return u @ vt, np.zeros(p.shape[1])


def _affine(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    solution = np.linalg.lstsq(np.column_stack([p, np.ones(len(p))]), q, rcond=None)[0]
    return solution[:-1], solution[-1]


def _fit(
    p: FloatArray,
    q: FloatArray,
    kind: str,
    solve: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]],
    needed: int,
) -> Alignment:
    linear, shift = solve(p, q)
    # Eigenfunctions have mean 0, so that their own size is their spread.
    spread = float(np.sqrt((q**2).sum(axis=1).mean()))
    residual = float(np.sqrt(((p @ linear + shift - q) ** 2).sum(axis=1).mean())) / spread
    left_out = np.inf
    if len(p) >= needed:
        misfit = 0.0
        for i in range(len(p)):
            rest = np.arange(len(p)) != i
            part, offset = solve(p[rest], q[rest])
            misfit += float(((p[i] @ part + offset - q[i]) ** 2).sum())
        left_out = float(np.sqrt(misfit / len(p))) / spread
    return Alignment(linear, shift, kind, residual, left_out)


def _check_determined(coordinates: FloatArray, side: str) -> None:
    values = np.linalg.svd(coordinates, compute_uv=False)
    if not values[-1] > UNDETERMINED * values[0]:
        raise errors.LandmarkError(
            f"the {len(coordinates)} landmarks leave a direction of the alignment open on side {side} (singular values "
            f"{np.array2string(values, precision=2)}): some coincide or depend on each other; spread them out or add some"
        )
