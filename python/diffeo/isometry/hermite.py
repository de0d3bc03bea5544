"""Between coordinates and measurements with derivatives: Hermite interpolation, and its inverse by Gauss-Newton."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray, Reach, check_finite, reach_of
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo.isometry.periods import turns, wrapped

# Gauss-Newton steps: it converges quadratically from the nearest sample, so 2 or 3 suffice inside of the domain.
MAX_STEPS = 8
# Nearest samples that serve as starts where the first leaves a residual (sheets that pass near each other).
STARTS = 4
# Nearest samples among which starts on other sheets are sought.
NEAR_SAMPLES = 24
# Samples near in measurement that are this many spacings apart are on different sheets.
ELSEWHERE = 4.0
# A step below this share of the spacing of the samples has converged.
SETTLED = 1e-9
# Queries farther than this many spacings from their nearest node are outside of the sampled domain.
OUTSIDE = 2.5
# After so many turns around a closed domain hardly a digit says where in its cell a place is.
MOST_TURNS = 1e12
# Images of nodes are kept around the cell of a closed domain, this many radii of a local fit deep.
IMAGE_MARGIN = 3.0
# A residual above this share of what one spacing changes in the measurements is off the manifold.
OFF_MANIFOLD = 0.1
# Measurements whose slopes are at most this many times their median are taken to be equally noisy, where there is noise.
ALIKE = 10.0
# Coefficients of a local fit, which costs their cube: cubic to nine dimensions, quadratic to twenty, and linear beyond.
MOST_COEFFICIENTS = 250
# Samples that tell what interpolation misses; points that lie off the manifold by so many times that, and by this share of
# the spread of the samples, are noisy.
TRIALS, NOISY, LEAST_NOISE = 200, 2.0, 1e-3
# The norm of k independent noises exceeds its usual size by this over the root of k in one of some thousand cases.
NOISE_EXCESS = 2.5


@dataclass(frozen=True, eq=False)
class Located:
    """Coordinates of measurements.

    Attributes
    ----------
    coordinates : ndarray of shape (count, d)
    residual : ndarray of shape (count,)
        Distance of each point from the measurement at its coordinates, each measurement in units of its root mean
        square slope (so that the residual is in units of the coordinates).
    outside : ndarray of int64
        Points off the measured manifold or outside of the sampled domain.
    """

    coordinates: FloatArray
    residual: FloatArray
    outside: IntArray


@dataclass(frozen=True, eq=False)
class HermiteChart:
    """Nodes with measurements and their derivatives, and the interpolation between them.

    Attributes
    ----------
    nodes : ndarray of shape (n, d)
        Coordinates X_i.
    values : ndarray of shape (n, m)
        Measurements y_i.
    gradients : ndarray of shape (n, m, d)
        dy/dX at the nodes.
    periods : ndarray of shape (k, d)
        X and X + any sum of periods are the same place; nodes and results are moved into one cell.
    noise : float
        Standard deviation of the noise of measurements that are to be located: so far off the manifold they may be.
    """

    nodes: FloatArray
    values: FloatArray
    gradients: FloatArray
    periods: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    noise: float = 0.0
    spacing: FloatArray = field(init=False, repr=False)
    """Typical distance between nodes around each of them, (n,)."""
    _units: FloatArray = field(init=False, repr=False)
    _reach: tuple[Reach, Reach] = field(init=False, repr=False)
    _images: FloatArray = field(init=False, repr=False)
    _origin: IntArray = field(init=False, repr=False)
    _node_tree: PointTree = field(init=False, repr=False)
    _value_tree: PointTree = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", self.wrapped(self.nodes))
        images, origin = self._with_images()
        object.__setattr__(self, "_images", images)
        object.__setattr__(self, "_origin", origin)
        tree = PointTree(images)
        object.__setattr__(self, "_node_tree", tree)
        # One measurement may be a million times another: residuals and nearest samples count in units of the root
        # mean square slope of each, and a measurement that does not respond counts for nothing.
        slope = np.sqrt((self.gradients**2).sum(axis=2).mean(axis=0))
        responds = slope > 0.0
        # Of equally noisy measurements those that respond strongly say more of a place: least squares as they are.
        if self.noise > 0.0 and slope.max() <= ALIKE * np.median(slope[responds]):
            slope = np.where(responds, np.sqrt((slope[responds] ** 2).mean()), 0.0)
        units = np.where(responds, 1.0 / np.where(responds, slope, 1.0), 0.0)
        object.__setattr__(self, "_units", units)
        object.__setattr__(self, "_reach", (reach_of(self.nodes), reach_of(self.values, units)))
        object.__setattr__(self, "_value_tree", PointTree(self.values * units))
        # Half of the radius that holds the nodes of one fit: about the mean distance between nodes there, and much
        # steadier than the distance to the nearest.
        k = min(len(self.nodes), 1 + nodes_of_a_fit(self.nodes.shape[1]))
        radius = tree.query(self.nodes, k, workers=workers())[0].reshape(len(self.nodes), -1)[:, -1]
        object.__setattr__(self, "spacing", 0.5 * radius)

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates moved by periods into the cell at the origin."""
        return wrapped(coordinates, self.periods)

    def _with_images(self) -> tuple[FloatArray, IntArray]:
        """The nodes, then their images just outside of the cell; and which node each of these is."""
        n, k = len(self.nodes), len(self.periods)
        if k == 0:
            return self.nodes, np.arange(n)
        inverse = np.linalg.pinv(self.periods)
        count = min(n, 1 + nodes_of_a_fit(self.nodes.shape[1]))
        reach = float(
            np.median(PointTree(self.nodes).query(self.nodes, count, workers=workers())[0].reshape(n, -1)[:, -1])
        )
        margin = np.minimum(IMAGE_MARGIN * reach * np.linalg.norm(inverse, axis=0), 1.0)
        around = turns(self.nodes, self.periods)
        images, origin = [self.nodes], [np.arange(n)]
        for shift in itertools.product((-1, 0, 1), repeat=k):
            if any(shift):
                moved = around + np.array(shift)
                near = np.flatnonzero(((moved > -margin) & (moved < 1.0 + margin)).all(axis=1))
                images.append(self.nodes[near] + np.array(shift) @ self.periods)
                origin.append(near)
        return np.ascontiguousarray(np.concatenate(images)), np.concatenate(origin)

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at coordinates (count, d); finite however far away these are.

        Beyond `OUTSIDE` spacings the first-order expansion about the nearest node, and its value where that overflows.
        """
        return self._evaluate(self._reach[0].pulled(coordinates), n_threads)[0]

    def expansion(self, coordinates: FloatArray, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Measurements (count, m) at coordinates (count, d), and their derivatives there (count, m, d)."""
        return self._evaluate(self._reach[0].pulled(coordinates), n_threads)

    def left_out(self, rows: IntArray, n_threads: int) -> FloatArray:
        """Measurements (k, m) at some of the nodes, interpolated from the others."""
        d = self.nodes.shape[1]
        k = min(len(self._images) - 1, nodes_of_a_fit(d))
        if k < 1:
            return self.values[rows]
        queries = np.ascontiguousarray(self.nodes[rows])
        near = self._node_tree.query(queries, k + 1, workers=n_threads or -1)[1]
        # Among twins a node itself may not be the first.
        others = np.argsort(near == rows[:, None], axis=1, kind="stable")[:, :k]
        near = np.ascontiguousarray(np.take_along_axis(near, others, 1), dtype=np.int64)
        values, gradients = self.values[self._origin], self.gradients[self._origin]
        found = core.local_hermite_fit(
            queries, self._images, values, gradients, near, degree_that_fits(k, d), n_threads
        )[0]
        return np.where(np.isfinite(found), found, self.values[rows])

    @property
    def codim(self) -> int:
        """How many more measurements than coordinates there are."""
        return int(self.gradients.shape[1] - self.nodes.shape[1])

    @property
    def units(self) -> FloatArray:
        """Of each measurement (m,), by which residuals count: one over its root-mean-square slope."""
        return self._units

    def outside(self, coordinates: FloatArray, n_threads: int, noise: float = 0.0) -> NDArray[np.bool_]:
        """Which coordinates (count, d) lie outside of the sampled domain.

        Where `noise`, of measurements in units of residuals, moves them by more than the spacings that are allowed for, by
        more than it usually does.
        """
        near = self._reach[0].pulled(coordinates)
        distance, node = self._node_tree.query(self.wrapped(near), workers=n_threads or -1)
        around = (
            np.abs(turns(near, self.periods)).max(axis=1, initial=0.0) if len(self.periods) else np.zeros(len(near))
        )
        node = self._origin[node]
        allowed = OUTSIDE * self.spacing[node]
        if noise > 0.0:
            inverse = np.linalg.pinv(self.gradients[node] * self._units[:, None])
            moved = noise * np.sqrt((inverse**2).sum(axis=(1, 2)))
            allowed = np.maximum(allowed, (1.0 + NOISE_EXCESS / np.sqrt(self.nodes.shape[1])) * moved)
        beyond: NDArray[np.bool_] = (distance > allowed) | (around > MOST_TURNS)
        return beyond

    def locate(self, points: FloatArray, n_threads: int) -> Located:
        """Coordinates whose measurements are nearest to the given points (count, m).

        Gauss-Newton on the interpolant from the nearest sample in the space of measurements; points that keep a
        residual try further samples, and the smallest residual wins. Coordinates stay within twice `OUTSIDE` spacings of a
        node, and are finite however far away the points are.
        """
        count, points = len(points), self._reach[1].pulled(points)
        near = min(NEAR_SAMPLES, len(self.nodes))
        distance, nearest = self._value_tree.query(points * self._units, near, workers=n_threads or -1)
        check_finite(distance.reshape(count, near), "distances from the points to the samples")
        nearest = nearest.reshape(count, near)
        coordinates, residual = self._descend(points, nearest[:, 0], n_threads)
        unit = self._unit(nearest[:, 0])
        # Where sheets pass near each other, the nearest sample may be of the wrong one, and its residual small.
        elsewhere = np.linalg.norm(self.nodes[nearest] - self.nodes[nearest[:, :1]], axis=2)
        sheets = elsewhere > ELSEWHERE * self.spacing[nearest[:, :1]]
        for attempt in range(1, min(STARTS, near)):
            doubted = sheets.any(axis=1)
            left = np.flatnonzero((residual > OFF_MANIFOLD * unit + self._noisy) | doubted)
            if len(left) == 0:
                break
            start = nearest[np.arange(count), np.where(doubted, sheets.argmax(axis=1), attempt)]
            # The next start lies apart from this one, too.
            apart = np.linalg.norm(self.nodes[nearest] - self.nodes[start][:, None], axis=2)
            sheets &= apart > ELSEWHERE * self.spacing[start][:, None]
            other, other_residual = self._descend(points[left], start[left], n_threads)
            better = other_residual < residual[left]
            coordinates[left[better]] = other[better]
            residual[left[better]] = other_residual[better]
        coordinates = self.wrapped(coordinates)
        distance, node = self._node_tree.query(coordinates, workers=n_threads or -1)
        node = self._origin[node]
        outside = (residual > OFF_MANIFOLD * self._unit(node) + self._noisy) | (distance > OUTSIDE * self.spacing[node])
        self._take_noise_out(points, coordinates, residual, n_threads)
        return Located(coordinates, residual, np.flatnonzero(outside))

    def units_of(self, points: FloatArray, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Units (count, m) by which residuals of points (count, m) count at their coordinates.

        A point that lies off the manifold by far more than interpolation misses is noisy, by the same variance s^2 in all
        measurements: measurement j then counts by one over the root of s^2 + e_j^2, with e_j what interpolation misses of
        it. Not where measurements are so unlike that they cannot be equally noisy, nor where the chart knows of noise.
        """
        units = np.tile(self._units, (len(points), 1))
        codim, used = self.codim, self._units > 0.0
        if self.noise > 0.0 or codim < 1 or not self._alike:
            return units
        missed = self._missed[used]
        defects = (points - self._evaluate(coordinates, n_threads)[0])[:, used]
        with np.errstate(over="ignore"):
            squares = (defects**2).sum(axis=1) / codim
        least = LEAST_NOISE**2 * float(self.values.var(axis=0).mean())
        # Points as far away as the end of numbers are not noisy.
        noisy = np.flatnonzero(
            np.isfinite(squares) & (squares > max(NOISY**2 * float((missed**2).sum()) / codim, least))
        )
        found = np.zeros((len(noisy), len(used)))
        found[:, used] = 1.0 / np.sqrt(squares[noisy, None] + missed**2)
        units[noisy] = found
        return units

    @cached_property
    def _alike(self) -> bool:
        """Whether no measurement responds so much more strongly than the others that they cannot be equally noisy."""
        slope = 1.0 / self._units[self._units > 0.0]
        return bool(slope.max() <= ALIKE * np.median(slope))

    @cached_property
    def _missed(self) -> FloatArray:
        """Root mean square (m,) of what interpolation misses of samples left out."""
        rows = np.linspace(0, len(self.nodes) - 1, min(len(self.nodes), TRIALS)).astype(np.int64)
        found: FloatArray = np.sqrt(((self.left_out(rows, max(workers(), 0)) - self.values[rows]) ** 2).mean(axis=0))
        return found

    def _take_noise_out(
        self, points: FloatArray, coordinates: FloatArray, residual: FloatArray, n_threads: int
    ) -> None:
        """Find points that are noisy again, each measurement by its precision, in place."""
        units = self.units_of(points, coordinates, n_threads)
        rows = np.flatnonzero((units != self._units).any(axis=1))
        if len(rows) == 0:
            return
        start = self._origin[self._node_tree.query(coordinates[rows], workers=n_threads or -1)[1]]
        coordinates[rows] = self.wrapped(self._descend(points[rows], start, n_threads, units[rows])[0])
        missed = points[rows] - self._evaluate(coordinates[rows], n_threads)[0]
        residual[rows] = np.linalg.norm(missed * self._units, axis=1)

    @property
    def spread(self) -> float:
        """Root-mean-square distance of the nodes' measurements from their mean, in units of residuals."""
        return float(np.sqrt(((self.values.std(axis=0) * self._units) ** 2).sum()))

    @property
    def _noisy(self) -> float:
        """How far noise takes measurements off the manifold, in units of the residual: hardly ever farther."""
        m, d = self.gradients.shape[1:]
        usual = self.noise * np.sqrt((self._units**2).sum() * max(m - d, 0) / m)
        return float(usual * (1.0 + NOISE_EXCESS / np.sqrt(max(m - d, 1))))

    def _unit(self, node: IntArray) -> FloatArray:
        """How far one spacing moves the measurements at the nodes."""
        stretch = np.sqrt(((self.gradients[node] * self._units[:, None]) ** 2).sum(axis=(1, 2)))
        unit: FloatArray = stretch * self.spacing[node]
        return unit

    def _descend(
        self, points: FloatArray, start: IntArray, n_threads: int, units: FloatArray | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Gauss-Newton from one node each; steps are limited to the trusted neighbourhood of the start.

        Residuals count by the chart's units (m,), or by `units` (count, m) of each point.
        """
        scale = np.broadcast_to(self._units, points.shape) if units is None else units
        inverse = np.linalg.pinv(self.gradients[start] * scale[:, :, None])
        x = self.nodes[start] + np.einsum("ndm,nm->nd", inverse, (points - self.values[start]) * scale)
        x = self._near(x, start)
        active = np.arange(len(points))
        residual = np.empty(len(points))
        for _ in range(MAX_STEPS):
            value, slope = self._evaluate(x[active], n_threads)
            defect = (points[active] - value) * scale[active]
            residual[active] = np.linalg.norm(defect, axis=1)
            step = np.einsum("ndm,nm->nd", np.linalg.pinv(slope * scale[active][:, :, None]), defect)
            x[active] = self._near(x[active] + step, start[active])
            moving = np.linalg.norm(step, axis=1) > SETTLED * self.spacing[start[active]]
            active = active[moving]
            if len(active) == 0:
                break
        residual[:] = np.linalg.norm((points - self._evaluate(x, n_threads)[0]) * scale, axis=1)
        return x, residual

    def _near(self, x: FloatArray, node: IntArray) -> FloatArray:
        """Pull coordinates back to at most 2 * OUTSIDE spacings from a node."""
        offset = x - self.nodes[node]
        limit = 2.0 * OUTSIDE * self.spacing[node]
        size = np.linalg.norm(offset, axis=1)
        scale = np.where(size > limit, limit, 1.0) / np.where(size > limit, size, 1.0)
        pulled: FloatArray = self.nodes[node] + offset * scale[:, None]
        return pulled

    def _evaluate(self, coordinates: FloatArray, n_threads: int) -> tuple[FloatArray, FloatArray]:
        """Values and slopes by local fits; first-order expansion about the nearest node far outside."""
        d = self.nodes.shape[1]
        k = min(len(self._images), nodes_of_a_fit(d))
        queries = np.ascontiguousarray(self.wrapped(coordinates))
        distance, neighbors = self._node_tree.query(queries, k, workers=n_threads or -1)
        distance = distance.reshape(len(queries), k)
        check_finite(distance, "distances from the points to the samples")
        neighbors = np.ascontiguousarray(neighbors.reshape(len(queries), k), dtype=np.int64)
        degree = degree_that_fits(k, d)
        origin = self._origin
        values, gradients = (
            (self.values[origin], self.gradients[origin]) if len(self.periods) else (self.values, self.gradients)
        )
        value, slope = core.local_hermite_fit(queries, self._images, values, gradients, neighbors, degree, n_threads)
        nearest = origin[neighbors[:, 0]]
        far = np.flatnonzero(distance[:, 0] > OUTSIDE * self.spacing[nearest])
        if len(far):
            node = nearest[far]
            offset = queries[far] - self._images[neighbors[far, 0]]
            with np.errstate(over="ignore", invalid="ignore"):
                value[far] = self.values[node] + np.einsum("nmd,nd->nm", self.gradients[node], offset)
            slope[far] = self.gradients[node]
        # A fit, or an expansion, that overflows says no more than the node does.
        lost = np.flatnonzero(~(np.isfinite(value).all(axis=1) & np.isfinite(slope).all(axis=(1, 2))))
        value[lost], slope[lost] = self.values[nearest[lost]], self.gradients[nearest[lost]]
        return value, slope


def degree_that_fits(nodes: int, dim: int) -> int:
    """Largest degree that `nodes` values with gradients overdetermine, at most `largest_degree`; 1 for a handful of nodes."""
    equations, most = nodes * (1 + dim), largest_degree(dim)
    return max([1, *(k for k in range(2, most + 1) if 2 * equations >= 3 * math.comb(dim + k, k))])


def largest_degree(dim: int) -> int:
    """Degree of local fits with plenty of nodes: 3, and less where that many dimensions would take too many coefficients."""
    return max([1, *(k for k in (2, 3) if math.comb(dim + k, k) <= MOST_COEFFICIENTS)])


def nodes_of_a_fit(dim: int) -> int:
    """Nodes of a local Hermite fit: three equations a coefficient."""
    degree = largest_degree(dim)
    return math.ceil(3 * math.comb(dim + degree, degree) / (1 + dim))
