"""A horse made from its silhouette, and cameras that photograph it on a turntable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.sparse.linalg import spsolve

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.isometry.laplacian import diagonal_matrix

# Pixels of the silhouette that become one cell of the volume.
REDUCTION = 2
# Pixels around the silhouette, so that the volume closes.
MARGIN = 8
# Width of a horse beside the round body that inflation alone would give it.
FLATNESS = 0.72
# Columns of the silhouette between the hind legs (and where the hind half ends), and between the fore legs.
HIND_LEGS, FORE_LEGS = (84.0, 170.0), 261.0
# Brightness of the coat, and of mane, tail and legs.
COAT = (0.85, 0.28)
# How far left and right legs stand from the middle plane, in lengths of the horse.
LEG_OFFSET = 0.05
# Points are merged in cells of this side, in lengths of the horse: about two thirds of a pixel of the pictures.
CELL = 0.014
# Standard deviation of the footprint of a point, in pixels: neighbouring points melt into a surface.
FOOTPRINT = 0.55
# A surface this much farther away than another (in lengths of the horse) shows through with a weight of 1/e.
SOFT_DEPTH = 0.03
# How opaque one layer of surface is: exp(-OPACITY) of the background shines through.
OPACITY = 3.5
# Surfaces seen at a grazing angle fade in over cosines of this size, so that pictures depend smoothly on the angle.
GRAZING = 0.15
BACKGROUND = 1.0


@dataclass(frozen=True)
class Solid:
    """Points on a surface: positions (n, 3) with y up, unit normals (n, 3), areas (n,) and brightness of the coat (n,).

    Its length along x is 1, and its centre is the origin.
    """

    points: FloatArray
    normals: FloatArray
    areas: FloatArray
    coat: FloatArray


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and where its lamp is; both look at the origin.

    Attributes
    ----------
    azimuth, elevation : float
        Direction of the camera seen from the turntable, in degrees.
    distance, focal : float
        In lengths of the horse, and in widths of the picture.
    lamp : tuple of float
        Direction of the light in the camera's own frame: right, up, towards the camera.
    size : int
        Pixels of a side.
    """

    azimuth: float
    elevation: float
    distance: float = 2.6
    focal: float = 2.1
    lamp: tuple[float, float, float] = (-0.5, 0.7, 0.5)
    size: int = 40

    def photograph(self, solid: Solid, angles: FloatArray) -> FloatArray:
        """Pictures (count, size, size) of a solid turned by `angles` (count,), in radians; 1 is white.

        Each point of the surface leaves a Gaussian footprint, weighted by its projected area and by exp(depth /
        SOFT_DEPTH), so that pictures are smooth functions of the angle. A footprint is a product of a column and a row,
        so that a picture is a product of two matrices.
        """
        axes = self._axes()
        lamp = np.asarray(self.lamp) / np.linalg.norm(self.lamp)
        return np.stack([self._picture(solid, axes, lamp, float(angle)) for angle in np.ravel(angles)])

    def _axes(self) -> FloatArray:
        """Rows: right, up, and towards the camera, in the frame of the turntable."""
        azimuth, elevation = np.radians([self.azimuth, self.elevation])
        right = np.array([np.cos(azimuth), 0.0, -np.sin(azimuth)])
        towards = np.array(
            [np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)]
        )
        return np.stack([right, np.cross(towards, right), towards])

    def _picture(self, solid: Solid, axes: FloatArray, lamp: FloatArray, angle: float) -> FloatArray:
        c, s = np.cos(angle), np.sin(angle)
        turned = axes @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
        seen, normal = solid.points @ turned.T, solid.normals @ turned.T
        ray = np.array([0.0, 0.0, self.distance]) - seen
        reach = np.linalg.norm(ray, axis=1)
        facing = np.einsum("nk,nk->n", normal, ray) / reach
        front = np.flatnonzero(facing > 0.0)
        seen, normal, facing = seen[front], normal[front], facing[front]
        zoom = self.focal * self.size / (self.distance - seen[:, 2])
        pixels = np.arange(self.size, dtype=np.float32)
        row, column = (0.5 * (self.size - 1) + sign * zoom * seen[:, k] for k, sign in ((1, -1.0), (0, 1.0)))
        # Footprints in single precision: they are most of the work, and rounded by 1e-7.
        down, across = (
            np.exp((pixels[:, None] - at.astype(np.float32)) ** 2 * np.float32(-0.5 / FOOTPRINT**2))
            for at in (row, column)
        )
        projected = solid.areas[front] * facing**2 / (facing + GRAZING) * zoom**2 / (2.0 * np.pi * FOOTPRINT**2)
        nearness = projected * np.exp((seen[:, 2] - 1.0) / SOFT_DEPTH)
        light = solid.coat[front] * _lit(normal, lamp)
        weights = np.stack([projected, nearness, nearness * light]).astype(np.float32)
        cover, weight, colour = ((down * weights[:, None]) @ across.T).astype(np.float64)
        opaque = 1.0 - np.exp(-OPACITY * cover)
        shade = colour / np.maximum(weight, np.finfo(float).tiny)
        picture: FloatArray = BACKGROUND * (1.0 - opaque) + opaque * shade
        return picture


def _lit(normals: FloatArray, lamp: FloatArray) -> FloatArray:
    """Light from a lamp, from the sky, and a gloss; normals (n, 3) in the camera's frame."""
    straight = normals @ lamp
    # (1 + cos)^2 / 4 is a soft lamp: nothing is cut off where it sets.
    halfway = lamp + np.array([0.0, 0.0, 1.0])
    gloss = np.maximum(normals @ (halfway / np.linalg.norm(halfway)), 0.0) ** 12
    lit: FloatArray = 0.10 + 0.75 * (0.5 + 0.5 * straight) ** 2 + 0.15 * (0.5 + 0.5 * normals[:, 1]) + 0.25 * gloss
    return lit


def horse() -> Solid:
    """The silhouette of a horse that scikit-image ships (public domain), inflated to a solid and given a coat."""
    try:
        from skimage.data import horse as silhouette
    except ImportError as error:
        raise errors.MissingDependencyError("the horse comes with scikit-image: pip install 'diffeo[demo]'") from error
    inside = ~np.asarray(silhouette())
    row, column = np.indices(inside.shape, dtype=np.float64)
    # Of each pair of legs one stands to the left and one to the right; the tail swings with the nearer one.
    between = np.where(column < HIND_LEGS[1], HIND_LEGS[0], FORE_LEGS)
    side = np.where(column < HIND_LEGS[1], 1.0, -1.0) * np.tanh((between - column) / 5.0)
    middle = LEG_OFFSET * side * _step((row - 195.0) / 65.0)
    # A bay: mane, tail and legs are dark.
    crest = row - inside.argmax(axis=0) - 0.25 * np.maximum(column - 270.0, 0.0)
    mane = ((column > 240) & (column < 352)) * _step((22.0 - crest) / 8.0)
    tail = (column < 62) * (row < 252) * _step((56.0 + 0.2 * np.maximum(110.0 - row, 0.0) - column) / 5.0)
    legs = _step((row - 215.0) / 40.0) * (column > 52)
    coat = COAT[0] + (COAT[1] - COAT[0]) * np.maximum(np.maximum(mane, tail), legs)
    return inflated(inside, middle, coat)


def _step(x: Any) -> FloatArray:
    """Smooth from 0 to 1 between 0 and 1."""
    t = np.clip(x, 0.0, 1.0)
    smooth: FloatArray = t * t * (3.0 - 2.0 * t)
    return smooth


def inflated(silhouette: NDArray[np.bool_], middle: FloatArray | float = 0.0, coat: FloatArray | float = 1.0) -> Solid:
    """A solid with a given outline as seen from the side.

    -Laplacian u = 1 inside of the outline and u = 0 outside; the solid is (z - middle)^2 < 2 u FLATNESS^2. Of a long strip,
    where sqrt(2 u) is a half circle, that makes a round bar.

    Parameters
    ----------
    silhouette : ndarray of bool of shape (rows, columns)
        True inside of the outline.
    middle : float, or ndarray of shape (rows, columns)
        Where the solid's middle is, in lengths of the outline.
    coat : float, or ndarray of shape (rows, columns)
        Its brightness.
    """
    from skimage.measure import marching_cubes

    inside = _reduced(np.pad(silhouette.astype(float), MARGIN))
    middle, coat = (
        _reduced(np.pad(np.broadcast_to(np.asarray(x, dtype=float), silhouette.shape), MARGIN, mode="edge"))
        for x in (middle, coat)
    )
    within = inside > 0.5
    length = float(np.ptp(np.flatnonzero(within.any(axis=0))))
    squared = 2.0 * FLATNESS**2 * _poisson(within)
    height = np.where(within, squared, -distance_transform_edt(~within))
    deepest = int(np.sqrt(squared.max()) + length * np.abs(middle).max()) + 2
    depth = np.arange(-deepest, deepest + 1)
    volume = height[:, :, None] - (depth - length * middle[:, :, None]) ** 2
    vertices, faces, _, _ = marching_cubes(volume, 0.0)
    centre = 0.5 * (np.array(volume.shape) - 1.0)
    corners = ((vertices[faces] - centre) / length)[:, :, [1, 0, 2]] * np.array([1.0, -1.0, 1.0])
    points = corners.mean(axis=1)
    normals = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # The flux of the position through a closed surface is three times its volume: positive if normals point outwards.
    normals *= np.sign(np.einsum("nk,nk->", points, normals))
    row, column = (vertices[faces].mean(axis=1)[:, :2] + 0.5).astype(int).T
    return _merged(points, normals, coat[row, column])


def _reduced(image: FloatArray) -> FloatArray:
    """An image in cells of REDUCTION pixels, slightly smoothed."""
    rows, columns = (size // REDUCTION for size in image.shape)
    cells = image[: rows * REDUCTION, : columns * REDUCTION].reshape(rows, REDUCTION, columns, REDUCTION)
    reduced: FloatArray = gaussian_filter(cells.mean(axis=(1, 3)), 0.7, mode="nearest")
    return reduced


def _merged(points: FloatArray, normals: FloatArray, coat: FloatArray) -> Solid:
    """Triangles, by their centres and normals as long as they are large, merged in cells of side CELL."""
    areas = np.linalg.norm(normals, axis=1)
    # Two surfaces in one cell, as of a thin leg, stay apart: by the octant of the normal.
    key = np.column_stack([np.floor(points / CELL), normals > 0.0]).astype(np.int64)
    _, cell = np.unique(key, axis=0, return_inverse=True)
    cell = cell.ravel()
    area: FloatArray = np.bincount(cell, areas).astype(np.float64)

    def mean(values: FloatArray) -> FloatArray:
        summed: FloatArray = np.bincount(cell, areas * values) / area
        return summed

    centres = np.column_stack([mean(x) for x in points.T])
    directions = np.column_stack([mean(x / areas) for x in normals.T])
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return Solid(centres, directions, area, mean(coat))


def _poisson(inside: NDArray[np.bool_]) -> FloatArray:
    """Solution of -Laplacian u = 1 on the cells inside, u = 0 elsewhere."""
    number = np.full(inside.shape, -1)
    number[inside] = np.arange(inside.sum())
    first_cells, second_cells = [], []
    for axis in (0, 1):
        first, second = (number.take(range(k, number.shape[axis] - 1 + k), axis).ravel() for k in (0, 1))
        both = (first >= 0) & (second >= 0)
        first_cells.append(first[both])
        second_cells.append(second[both])
    i, j = np.concatenate(first_cells), np.concatenate(second_cells)
    n = int(inside.sum())
    adjacency = sp.coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
    laplacian = (diagonal_matrix(np.full(n, 4.0)) - adjacency - adjacency.T).tocsc()
    u = np.zeros(inside.shape)
    u[inside] = spsolve(laplacian, np.ones(n))
    return u
