"""Linear maps between the coordinates of two observations, from landmarks: rigid motions, similarities, projections."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo._support.wording import SIDES, Names

Solver = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]

# Below this ratio of singular values the landmarks leave a direction of the alignment open.
UNDETERMINED = 1e-3
# Landmarks per coefficient of a general linear map before it may replace the orthogonal one.
LANDMARKS_PER_COEFFICIENT = 2
# Steps of the majorisation of a projection: a linear rate set by how round the landmarks lie.
PROJECTION_STEPS = 2000
# Landmarks predicted from the others worse than this (relative to their spread) contradict each other. Diffusion
# coordinates are themselves only right to a few percent.
CONTRADICTION = {"isometric": 0.03, "diffusion": 0.15}
# Landmarks left out that are missed by less than this, relative to their spread, are missed by rounding alone.
EXACT = 1e-12
# Of more landmarks than this none is left out of the alignment: by then a single one hardly bends it.
LEFT_OUT_ONE_BY_ONE = 50
# One unit of length on both sides: landmarks that are farther apart, or nearer, by a larger share are suspicious.
SCALE_TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Alignment:
    """Affine map between intrinsic coordinates: ``x_b = x_a @ linear + shift``.

    Attributes
    ----------
    linear : ndarray of shape (c, c), of a projection (c, c_b)
    shift : ndarray of shape (c,), of a projection (c_b,)
    kind : str
        "rigid" (rotation or reflection, and shift), "similarity" (times a scale), "orthogonal" (no shift), "affine", or
        "projection" (onto fewer coordinates, with orthonormal columns, and shift).
    residual : float
        Root-mean-square misfit at the landmarks, relative to their spread in B's coordinates.
    left_out : float
        The same, each landmark predicted from the others; infinite when there are too few to leave one out.
    scale : float
        Spread of the landmarks in B's coordinates over that in A's: 1 for isometric coordinates in one unit.
    name : str
        What tells it from the first of several candidates; empty where there is one.
    """

    linear: FloatArray
    shift: FloatArray
    kind: str
    residual: float
    left_out: float
    scale: float
    name: str = ""

    def forward(self, coordinates: FloatArray) -> FloatArray:
        """From A's coordinates (n, c) to B's."""
        return coordinates @ self.linear + self.shift

    def backward(self, coordinates: FloatArray) -> FloatArray:
        """From B's coordinates (n, c) to A's; NotInvertibleError for a projection."""
        if self.kind == "projection":
            raise errors.NotInvertibleError("a projection loses dimensions and has no inverse")
        solved = np.linalg.solve(self.linear.T, (coordinates - self.shift).T).T
        return np.ascontiguousarray(solved, dtype=np.float64)


def align_isometric(coordinates_a: FloatArray, coordinates_b: FloatArray, *, known_unit: bool) -> Alignment:
    """Rigid motion (a similarity where the unit of length is unknown) between isometric coordinates of landmarks.

    Parameters
    ----------
    coordinates_a, coordinates_b : ndarray of shape (L, d)
        Coordinates of the same L inputs on both sides.
    known_unit : bool
        Whether both sides measure length in the same unit.

    Returns
    -------
    Alignment

    Raises
    ------
    LandmarkError
        Fewer than d + 1 landmarks, or landmarks that leave a direction open (coincident or in a hyperplane).
    """
    _check(coordinates_a, coordinates_b, coordinates_a.shape[1] + 1, centred=True)
    kind, solver = ("rigid", _rigid) if known_unit else ("similarity", _similarity)
    return _fit(coordinates_a, coordinates_b, kind, solver, coordinates_a.shape[1] + 2)


def left_out_coordinates(
    coordinates_a: FloatArray, coordinates_b: FloatArray, alignment: Alignment, *, known_unit: bool
) -> FloatArray:
    """Aligned coordinates (L, d) of landmarks, each by a rigid alignment to the others.

    A few landmarks bend the alignment towards themselves, which hides what it misses elsewhere. Where the others do not
    determine an alignment, and with many landmarks, the given one is used.
    """
    aligned = alignment.forward(coordinates_a)
    if not coordinates_a.shape[1] + 2 <= len(coordinates_a) <= LEFT_OUT_ONE_BY_ONE:
        return aligned
    for i in range(len(coordinates_a)):
        rest = np.arange(len(coordinates_a)) != i
        with contextlib.suppress(errors.LandmarkError):
            without = align_isometric(coordinates_a[rest], coordinates_b[rest], known_unit=known_unit)
            aligned[i] = without.forward(coordinates_a[i])
    return aligned


def align_projection(coordinates_a: FloatArray, coordinates_b: FloatArray, names: Names = SIDES) -> Alignment:
    """Projection of isometric coordinates onto fewer: x_b = x_a L + c, L (d_a, d_b) with orthonormal columns.

    Minimises the misfit at the landmarks over all such L (the unbalanced Procrustes problem), by majorisation from the
    affine fit.

    Parameters
    ----------
    coordinates_a, coordinates_b : ndarray of shape (L, d_a) and (L, d_b)
        Coordinates of the same L inputs on both sides, d_a > d_b.
    names : tuple of str
        What messages call the sides.

    Raises
    ------
    LandmarkError
        Fewer than d_a + 1 landmarks, or landmarks that leave a direction open.
    """
    _check(coordinates_a, coordinates_b, coordinates_a.shape[1] + 1, centred=True, names=names)
    return _fit(coordinates_a, coordinates_b, "projection", _projection, coordinates_a.shape[1] + 2)


def align_diffusion(coordinates_a: FloatArray, coordinates_b: FloatArray, names: Names = SIDES) -> Alignment:
    """Align diffusion coordinates of landmarks: orthogonal, or affine where many landmarks prefer it.

    Eigenfunctions of one domain agree up to an orthogonal map within each eigenspace, so the orthogonal Procrustes
    map (Schoenemann 1966) is the model; with many landmarks a general affine map also takes up what sampling did to
    each embedding. The better one on left-out landmarks is taken.

    Parameters
    ----------
    coordinates_a, coordinates_b : ndarray of shape (L, c)
        Intrinsic coordinates of the same L inputs on both sides.
    names : tuple of str
        What messages call the sides.

    Returns
    -------
    Alignment

    Raises
    ------
    LandmarkError
        Fewer than c landmarks, or landmarks that leave a direction open (coincident or dependent ones).
    """
    count, c = coordinates_a.shape
    _check(coordinates_a, coordinates_b, c, centred=False, names=names)
    best = _fit(coordinates_a, coordinates_b, "orthogonal", _orthogonal, c + 1)
    if count >= LANDMARKS_PER_COEFFICIENT * (c + 1):
        affine = _fit(coordinates_a, coordinates_b, "affine", _affine, LANDMARKS_PER_COEFFICIENT * (c + 1))
        well_posed = np.linalg.cond(affine.linear) < 1.0 / UNDETERMINED
        if well_posed and max(affine.left_out, EXACT) < best.left_out:
            return affine
    return best


def parameters(alignment: Alignment, count: int, c: int) -> int:
    """How many numbers of landmarks an alignment takes up."""
    turns, rows = c * (c - 1) // 2, len(alignment.linear)
    return {
        "rigid": c + turns,
        "similarity": c + turns + 1,
        "orthogonal": turns,
        "affine": c + c * c,
        "projection": c + rows * c - c * (c + 1) // 2,
    }.get(alignment.kind, c + turns)


def displacements(places: FloatArray, centre: FloatArray, kind: str) -> FloatArray:
    """What each generator of the motions of this kind does to places (n, c): (p, n, c)."""
    n, c = places.shape
    moved = [] if kind == "orthogonal" else [np.tile(row, (n, 1)) for row in np.eye(c)]
    offsets = places if kind == "orthogonal" else places - centre
    for i in range(c):
        for j in range(i):
            turn = np.zeros((n, c))
            turn[:, i], turn[:, j] = offsets[:, j], -offsets[:, i]
            moved.append(turn)
    if kind in ("similarity", "affine"):
        moved.append(offsets)
    return np.array(moved).reshape(-1, n, c)


def _orthogonal(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    u, _, vt = np.linalg.svd(p.T @ q)
    return u @ vt, np.zeros(p.shape[1])


def _rigid(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    rotation, _ = _orthogonal(p - p.mean(axis=0), q - q.mean(axis=0))
    return rotation, q.mean(axis=0) - p.mean(axis=0) @ rotation


def _similarity(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    u, s, vt = np.linalg.svd((p - p.mean(axis=0)).T @ (q - q.mean(axis=0)))
    linear = u @ vt * (s.sum() / ((p - p.mean(axis=0)) ** 2).sum())
    return linear, q.mean(axis=0) - p.mean(axis=0) @ linear


def _projection(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    centred, target = p - p.mean(axis=0), q - q.mean(axis=0)
    u, _, vt = np.linalg.svd(np.linalg.lstsq(centred, target, rcond=None)[0], full_matrices=False)
    linear = u @ vt
    inner, cross = centred.T @ centred, centred.T @ target
    bound = float(np.linalg.eigvalsh(inner)[-1])
    for _ in range(PROJECTION_STEPS):
        # norm(P L - Q)^2 is majorised at L by a multiple of norm(L' - (L - (inner L - cross) / bound))^2.
        u, _, vt = np.linalg.svd(linear - (inner @ linear - cross) / bound, full_matrices=False)
        if np.abs(u @ vt - linear).max() < 1e-14:
            break
        linear = u @ vt
    return linear, q.mean(axis=0) - p.mean(axis=0) @ linear


def _affine(p: FloatArray, q: FloatArray) -> tuple[FloatArray, FloatArray]:
    solution = np.asarray(np.linalg.lstsq(np.column_stack([p, np.ones(len(p))]), q, rcond=None)[0], dtype=np.float64)
    return solution[:-1], solution[-1]


def _fit(p: FloatArray, q: FloatArray, kind: str, solve: Solver, needed: int) -> Alignment:
    linear, shift = solve(p, q)
    # Eigenfunctions have mean 0, so that their own size is their spread; other coordinates are centred first.
    centred = kind in ("rigid", "similarity", "projection")
    spread_a, spread_b = (_size(x - x.mean(axis=0) if centred else x) for x in (p, q))
    residual = _size(p @ linear + shift - q) / spread_b
    left_out = np.inf
    if len(p) >= needed:
        misses = np.empty_like(q)
        for i in range(len(p)):
            rest = np.arange(len(p)) != i
            part, offset = solve(p[rest], q[rest])
            misses[i] = p[i] @ part + offset - q[i]
        left_out = _size(misses) / spread_b
    if kind == "projection":
        spread_a = _size((p - p.mean(axis=0)) @ linear)
    return Alignment(linear, shift, kind, residual, left_out, spread_b / spread_a)


def _size(x: FloatArray) -> float:
    return float(np.sqrt((x**2).sum(axis=1).mean()))


def _check(
    coordinates_a: FloatArray, coordinates_b: FloatArray, needed: int, *, centred: bool, names: Names = SIDES
) -> None:
    count, c = coordinates_a.shape
    if count < needed:
        raise errors.LandmarkError(
            f"{count} landmarks cannot align {c} coordinates; at least {needed} are needed (more average out noise)"
        )
    for side, coordinates in zip(names, (coordinates_a, coordinates_b), strict=True):
        offsets = coordinates - coordinates.mean(axis=0) if centred else coordinates
        values = np.linalg.svd(offsets, compute_uv=False)
        if not values[-1] > UNDETERMINED * values[0]:
            raise errors.LandmarkError(
                f"the {count} landmarks leave a direction of the alignment open on side {side} (singular values "
                f"{np.array2string(values, precision=2)}): some coincide or depend on each other; spread them out or "
                "add some"
            )
