"""A chart around every sample: measurements and metric as polynomials of local coordinates, and lengths in it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray, check_finite, reach_of
from diffeo._support.point_tree import PointTree
from diffeo.observation.observation import Observation
from diffeo.observation.tree import build_tree

# Degree of the polynomials. Their error falls with this power of the spacing of the samples, plus one.
DEGREE = 3
# Equations per coefficient of the metric, which has values only: random neighbourhoods are lopsided.
EQUATIONS = 3
# Eigenvalues that an inverse metric may have in the chart of a neighbour: squares of what the gates allow.
METRIC_RANGE = (0.1, 10.0)
# Nodes and weights of Gauss quadrature of order 5 on (0, 1).
QUADRATURE = ((0.5 - math.sqrt(0.15), 0.5, 0.5 + math.sqrt(0.15)), (5.0 / 18.0, 8.0 / 18.0, 5.0 / 18.0))
# Nearest samples that serve as starts where sheets pass near each other.
STARTS = 4
# What a chart leaves of a point, as a share of what its radius changes in the measurements, beyond which the point is
# off the manifold: a tenth of the spacing of the samples.
OFF_MANIFOLD = 0.03
# A prediction is off the manifold by more than its error where it leaves this share of the spread of the measurements.
ASTRAY = 0.1
# A neighbour that misses the fit by this share of its distance lies on another sheet: those of one sheet miss it by a
# percent at most.
STRAY = 0.1
# Added to squared stretches between charts, which lie between 1/4 and 4 where the gates do their duty.
RIGHT_ANGLE = 1e-8
# Local coordinates beyond this share of the radius are outside of the samples.
OUTSIDE = 0.8
# So many radii away the weights of a local fit, exp(-2 * 18^2), are still numbers: queries farther out are pulled back.
FARTHEST = 18.0
# Samples whose charts are fitted at a time, to bound the memory.
BATCH = 4096


@dataclass(frozen=True, eq=False)
class Atlas:
    """Local coordinates u = W_k^T (y - y_k) around every sample k, with y(u) and the inverse metric g(u).

    Both are exact at the sample: y = y_k + D_k u + terms of degree 2 on, g = 1 + terms of degree 1 on. Numbers in the
    neighbourhood decide the rest by least squares: values and derivatives dy/du of the neighbours for y, their
    local covariances W_k^T C_j W_k for g. Nothing here depends on the gauge of the Jacobians.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        The caller's rows; everything else counts nodes, in this order.
    points, whitening, slopes : ndarray of shape (n, m), (n, m, d), (n, m, d)
        y_k, W_k and D_k = dy/du at u = 0.
    neighbors : ndarray of int64, shape (n, k)
        Nearest nodes that pass the gates; -1 where there are fewer.
    radius : ndarray of shape (n,)
        Largest norm of u among the neighbours: beyond it polynomials are not trusted.
    surface : ndarray of shape (n, p, m)
        Coefficients of y(u) in monomials of u / radius of degree 2 on.
    metric : ndarray of shape (n, q, d, d)
        Coefficients of g(u) in monomials of u / radius of degree 1 on.
    """

    rows: IntArray
    points: FloatArray
    whitening: FloatArray
    slopes: FloatArray
    neighbors: IntArray
    radius: FloatArray
    surface: FloatArray
    metric: FloatArray

    @property
    def dim(self) -> int:
        """Intrinsic dimension d."""
        return int(self.whitening.shape[2])

    def local(self, node: IntArray, points: FloatArray) -> FloatArray:
        """Local coordinates (N, d) of points (N, m) in the charts of nodes (N,)."""
        u: FloatArray = np.einsum("nm,nmd->nd", points - self.points[node], self.whitening[node])
        return u

    def measurements(self, node: IntArray, u: FloatArray) -> FloatArray:
        """Measurements (N, m) at local coordinates (N, d); linear beyond the radius."""
        inside = self._inside(node, u)
        terms = monomials(inside, powers(self.dim, 2, DEGREE))
        linear = np.einsum("nmd,nd->nm", self.slopes[node], u)
        y: FloatArray = self.points[node] + linear + np.einsum("np,npm->nm", terms, self.surface[node])
        return y

    def derivatives(self, node: IntArray, u: FloatArray) -> FloatArray:
        """dy/du (N, m, d) at local coordinates (N, d)."""
        terms = gradients(self._inside(node, u), powers(self.dim, 2, DEGREE))
        bent = np.einsum("npd,npm->nmd", terms, self.surface[node]) / self.radius[node][:, None, None]
        slope: FloatArray = self.slopes[node] + bent
        return slope

    def inverse_metric(self, node: IntArray, u: FloatArray) -> FloatArray:
        """G (N, d, d) at local coordinates (N, d): the covariance of u per unit of input covariance."""
        terms = monomials(self._inside(node, u), powers(self.dim, 1, DEGREE))
        g: FloatArray = np.eye(self.dim) + np.einsum("nq,nqab->nab", terms, self.metric[node])
        low, high = METRIC_RANGE
        # Frobenius norms of what lies outside of the range are the exception: only those are decomposed.
        doubt = np.flatnonzero(
            (np.linalg.norm(g - np.eye(self.dim), axis=(1, 2)) > 0.5) | ~np.isfinite(g).all(axis=(1, 2))
        )
        if len(doubt):
            values, vectors = np.linalg.eigh(np.nan_to_num(g[doubt]))
            g[doubt] = np.einsum("nab,nb,ncb->nac", vectors, np.clip(values, low, high), vectors)
        return g

    def geodesics(self, node: IntArray, u: FloatArray, points: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Lengths (N,) of geodesics from u (N, d) to points (N, m), and their unit tangents (N, d) at u.

        In the chart, the curve u + t s + t (1 - t) c from u to u + s has the least energy, which is the squared
        length, at c = Gamma(s, s) / 2, up to terms of higher order; the straight line's energy is larger by
        c^T G c / 3. Tangents are expressed in the orthonormal frame that the Cholesky factor of g gives.
        """
        s = self.local(node, points) - u
        times, weights = QUADRATURE
        energy = np.zeros(len(s))
        for time, weight in zip(times, weights, strict=True):
            g = self.inverse_metric(node, u + time * s)
            covector = np.linalg.solve(g, s[:, :, None])[:, :, 0]
            energy += weight * (covector * s).sum(axis=1)
            if time == 0.5:
                middle, momentum = g, covector
        slope = gradients(self._inside(node, u + 0.5 * s), powers(self.dim, 1, DEGREE))
        change = np.einsum("nqe,nqab->neab", slope, self.metric[node]) / self.radius[node][:, None, None, None]
        pulled = np.einsum("neab,nb->nea", change, momentum)
        christoffel = -np.einsum("ne,nea->na", s, pulled)
        christoffel += 0.5 * np.einsum("nae,ne->na", middle, np.einsum("nea,na->ne", pulled, momentum))
        c = 0.5 * christoffel
        half, size = 0.5 * np.sqrt((s**2).sum(axis=1)), np.sqrt((c**2).sum(axis=1))
        # A correction as large as the step itself is out of its range.
        c *= (np.minimum(half, size) / np.maximum(size, np.finfo(float).tiny))[:, None]
        excess = (c * np.linalg.solve(middle, c[:, :, None])[:, :, 0]).sum(axis=1) / 3.0
        length = np.sqrt(np.maximum(energy - excess, 0.0))
        frame = np.linalg.cholesky(self.inverse_metric(node, u))
        tangent = np.linalg.solve(frame, (s + c)[:, :, None])[:, :, 0]
        tangent /= np.maximum(np.linalg.norm(tangent, axis=1, keepdims=True), np.finfo(float).tiny)
        return length, tangent

    def nearer(self, node: IntArray, points: FloatArray) -> IntArray:
        """Of each node and its neighbours the one whose local coordinates of the point are smallest, (N,)."""
        best = node.copy()
        for start in range(0, len(node), BATCH):
            part = slice(start, start + BATCH)
            around = np.column_stack([node[part], self.neighbors[node[part]]])
            known = np.where(around >= 0, around, around[:, :1])
            offset = points[part, None, :] - self.points[known]
            distance = (np.einsum("nkm,nkmd->nkd", offset, self.whitening[known]) ** 2).sum(axis=2)
            best[part] = known[np.arange(len(known)), distance.argmin(axis=1)]
        return best

    def _inside(self, node: IntArray, u: FloatArray) -> FloatArray:
        """U / radius, pulled back to norm 1: a sample without neighbours has next to no radius, whose inverse is no number."""
        with np.errstate(over="ignore"):
            reach = np.maximum(self.radius[node][:, None], np.linalg.norm(u, axis=1, keepdims=True))
        pulled: FloatArray = u / reach
        return pulled


def atlas_of(observation: Observation, n_threads: int) -> Atlas:
    """Fit a chart around every usable sample of an observation."""
    tree = build_tree(observation, n_threads)
    d = observation.dim
    k = min(math.ceil(EQUATIONS * len(powers(d, 1, DEGREE))), tree.size - 1)
    neighbors = tree.nearest_neighbors(k, n_threads)[0].astype(np.int64)
    rows = observation.usable[tree.order]
    points, whitening = observation.points[rows], observation.whitening[rows]
    slopes = whitening / (whitening**2).sum(axis=1)[:, None, :]
    nodes = np.arange(len(rows))
    parts = [
        _fitted(points, whitening, slopes, nodes[start : start + BATCH], neighbors)
        for start in range(0, len(rows), BATCH)
    ]
    radius, surface, metric, stray = (np.concatenate(pieces) for pieces in zip(*parts, strict=True))
    # Neighbours of another sheet fit no polynomial: without them, once more.
    neighbors[stray] = -1
    again = np.flatnonzero(stray.any(axis=1))
    for start in range(0, len(again), BATCH):
        part = again[start : start + BATCH]
        radius[part], surface[part], metric[part], _ = _fitted(points, whitening, slopes, part, neighbors)
    return Atlas(rows, points, whitening, slopes, neighbors, radius, surface, metric)


def _fitted(
    points: FloatArray, whitening: FloatArray, slopes: FloatArray, nodes: IntArray, neighbors: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    """Radius and coefficients of the charts of some nodes, and which neighbours do not fit."""
    around = neighbors[nodes]
    found = (around >= 0).astype(float)
    around = np.where(around >= 0, around, nodes[:, None])
    d, m = whitening.shape[2], points.shape[1]
    w, slope = whitening[nodes], slopes[nodes]
    offset = points[around] - points[nodes][:, None]
    u = np.einsum("nkm,nmd->nkd", offset, w)
    norm = np.linalg.norm(u, axis=2) * found
    radius = np.maximum(norm.max(axis=1), np.finfo(float).tiny)
    scaled = u / radius[:, None, None]
    trust = found * np.exp(-2.0 * (norm / radius[:, None]) ** 2)
    turn = np.einsum("nma,nkmb->nkab", w, slopes[around])
    g = np.einsum("nkac,nkbc->nkab", turn, turn) - np.eye(d)
    flat = scaled.reshape(-1, d)
    shape = scaled.shape[:2]
    metric = _least_squares(
        monomials(flat, powers(d, 1, DEGREE)).reshape(*shape, -1), g.reshape(*shape, d * d), trust
    ).reshape(len(nodes), -1, d, d)
    # Values and derivatives of the measurements together: 1 + d equations a neighbour.
    exponents = powers(d, 2, DEGREE)
    # A hint of a ridge, for neighbours whose tangents are at right angles.
    square = np.einsum("nkba,nkbc->nkac", turn, turn) + RIGHT_ANGLE * np.eye(d)
    inverse = np.linalg.solve(square, turn.transpose(0, 1, 3, 2))
    bend = (np.einsum("nkma,nkab->nkmb", slopes[around], inverse) - slope[:, None]) * radius[:, None, None, None]
    rise = offset - np.einsum("nmd,nkd->nkm", slope, u)
    design = np.concatenate(
        [monomials(flat, exponents)[:, None], gradients(flat, exponents).transpose(0, 2, 1)], axis=1
    ).reshape(len(nodes), -1, len(exponents))
    values = np.concatenate([rise[:, :, None], bend.transpose(0, 1, 3, 2)], axis=2).reshape(len(nodes), -1, m)
    surface = _least_squares(design, values, np.repeat(trust, 1 + d, axis=1))
    left = np.linalg.norm(rise - np.einsum("nkp,npm->nkm", design[:, :: 1 + d], surface), axis=2) * found
    return radius, surface, metric, left > STRAY * np.linalg.norm(offset, axis=2)


def _least_squares(design: FloatArray, values: FloatArray, trust: FloatArray) -> FloatArray:
    """Weighted least squares for many small problems: (n, e, p), (n, e, v) and (n, e) give (n, p, v)."""
    weighted = design * trust[:, :, None]
    normal = np.einsum("nep,neq->npq", weighted, design, optimize=True)
    # Too few neighbours leave coefficients open: the smallest ones are taken.
    normal += (1e-10 * np.trace(normal, axis1=1, axis2=2) + np.finfo(float).tiny)[:, None, None] * np.eye(
        design.shape[2]
    )
    solved: FloatArray = np.linalg.solve(normal, np.einsum("nep,nev->npv", weighted, values, optimize=True))
    return solved


def powers(dim: int, low: int, high: int) -> NDArray[np.int64]:
    """Exponents (p, dim) of the monomials in `dim` variables of degrees `low` to `high`."""
    rows = [e for e in itertools.product(range(high + 1), repeat=dim) if low <= sum(e) <= high]
    return np.array(sorted(rows, key=sum), dtype=np.int64).reshape(-1, dim)


def monomials(u: FloatArray, exponents: NDArray[np.int64]) -> FloatArray:
    """Values (N, p) of monomials at u (N, d)."""
    table = _table(u, int(exponents.max(initial=0)))
    result = np.ones((len(u), len(exponents)))
    for axis in range(u.shape[1]):
        result *= table[axis][:, exponents[:, axis]]
    return result


def gradients(u: FloatArray, exponents: NDArray[np.int64]) -> FloatArray:
    """Derivatives (N, p, d) of monomials at u (N, d)."""
    table = _table(u, int(exponents.max(initial=0)))
    result = np.ones((len(u), *exponents.shape))
    for axis in range(u.shape[1]):
        for variable in range(u.shape[1]):
            power = exponents[:, axis]
            if axis == variable:
                result[:, :, variable] *= power * table[axis][:, np.maximum(power - 1, 0)]
            else:
                result[:, :, variable] *= table[axis][:, power]
    return result


def _table(u: FloatArray, degree: int) -> list[FloatArray]:
    """Powers 0 to `degree` of every variable, (N, degree + 1) each."""
    table = [np.ones((len(u), degree + 1)) for _ in range(u.shape[1])]
    for powers_of, column in zip(table, u.T, strict=True):
        for power in range(1, degree + 1):
            np.multiply(powers_of[:, power - 1], column, out=powers_of[:, power])
    return table


def local_weights(
    charts: Atlas, node: IntArray, u: FloatArray, degree: int, *, flat: bool = False
) -> tuple[IntArray, FloatArray]:
    """Nodes (N, 1 + k) and weights (N, 1 + k) of local polynomial fits, evaluated at u (N, d) in the charts of `node`.

    Neighbours count less with their distance from u, or alike if `flat`, which smooths more. From afar the nearest ones
    alone count, and u is pulled back to `FARTHEST` radii.
    """
    around = np.column_stack([node, charts.neighbors[node]])
    found = around >= 0
    around = np.where(found, around, around[:, :1])
    radius = charts.radius[node]
    with np.errstate(over="ignore"):
        far = np.linalg.norm(u, axis=1) > FARTHEST * radius
    if far.any():
        way = np.nan_to_num(u[far])
        way /= np.abs(way).max(axis=1, keepdims=True)
        u = u.copy()
        u[far] = way / np.linalg.norm(way, axis=1, keepdims=True) * FARTHEST * radius[far][:, None]
    offset = charts.points[around] - charts.points[node][:, None]
    # Centred on u, the value there is the constant term alone.
    scaled = (np.einsum("nkm,nmd->nkd", offset, charts.whitening[node]) - u[:, None]) / radius[:, None, None]
    trust = found * (1.0 if flat else np.exp(-2.0 * (scaled**2).sum(axis=2)))
    terms = monomials(scaled.reshape(-1, charts.dim), powers(charts.dim, 0, degree)).reshape(*around.shape, -1)
    weighted = terms * trust[:, :, None]
    normal = np.einsum("nkp,nkq->npq", weighted, terms, optimize=True)
    normal += (1e-10 * np.trace(normal, axis1=1, axis2=2))[:, None, None] * np.eye(terms.shape[2])
    first = np.zeros((len(node), terms.shape[2], 1))
    first[:, 0] = 1.0
    weights = np.einsum("nkp,np->nk", weighted, np.linalg.solve(normal, first)[:, :, 0])
    # The small ridge must not move constants.
    weights /= weights.sum(axis=1, keepdims=True)
    return around, weights


class AtlasMap:
    """Values known at the samples, as a function of the measurements.

    Parameters
    ----------
    charts : Atlas
    values : ndarray of shape (rows of the observation, v)
        In the caller's order.
    """

    def __init__(self, charts: Atlas, values: FloatArray) -> None:
        self.charts = charts
        self.values = values
        # One measurement may be a million times another: distances count in units of the root mean square slope of
        # each, and a measurement that does not respond counts for nothing.
        slope = np.sqrt((charts.slopes**2).sum(axis=2).mean(axis=0))
        self._units = np.where(slope > 0.0, 1.0 / np.where(slope > 0.0, slope, 1.0), 0.0)
        self._tree = PointTree(charts.points * self._units)
        self._reach = reach_of(charts.points, self._units)

    def __call__(self, points: FloatArray, n_threads: int) -> tuple[FloatArray, IntArray]:
        """Values (N, v) at measurements (N, m), and which of them lie off the manifold or outside of the samples.

        Values are finite however far away the measurements are: those of the nearest samples, in the end.
        """
        node, u, outside = self.locate(points, n_threads)
        around, weights = local_weights(self.charts, node, u, DEGREE)
        values = np.einsum("nk,nkv->nv", weights, self.values[self.charts.rows[around]])
        return values, np.flatnonzero(outside)

    def locate(self, points: FloatArray, n_threads: int) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
        """Chart (N,) and local coordinates (N, d) of measurements (N, m), and whether they are not on any.

        Sheets that pass near each other are told apart by what each leaves of the measurements.
        """
        starts, points = min(STARTS, len(self.charts.rows)), self._reach.pulled(points)
        distance, nearest = self._tree.query(points * self._units, starts, workers=n_threads or -1)
        check_finite(distance, "distances from the points to the samples")
        nearest = nearest.reshape(len(points), starts).astype(np.int64)
        best = np.full(len(points), np.inf)
        node, at = nearest[:, 0].copy(), np.zeros((len(points), self.charts.dim))
        for start in nearest.T:
            here = self.charts.nearer(self.charts.nearer(start, points), points)
            # Where a metric nearly vanishes, local coordinates overflow: no chart of such a node is better than none.
            with np.errstate(over="ignore", invalid="ignore"):
                u = self.charts.local(here, points)
                left = np.linalg.norm((points - self.charts.measurements(here, u)) * self._units, axis=1)
                stretch = np.linalg.norm(self.charts.slopes[here] * self._units[:, None], axis=(1, 2))
                doubt = left / (OFF_MANIFOLD * stretch * self.charts.radius[here])
                doubt = np.maximum(doubt, np.linalg.norm(u, axis=1) / (OUTSIDE * self.charts.radius[here]))
            better = doubt < 0.5 * best
            best[better], node[better], at[better] = doubt[better], here[better], u[better]
        return node, at, best > 1.0

    def beyond(self, points: FloatArray, n_threads: int) -> NDArray[np.bool_]:
        """Which predicted measurements (N, m) lie outside of the samples: along the manifold, or off it by more than error."""
        points = self._reach.pulled(points)
        node, u, outside = self.locate(points, n_threads)
        rows = np.flatnonzero(outside)
        node, u, samples = node[rows], u[rows], self.charts.points * self._units
        radius, stretch = (
            self.charts.radius[node],
            np.linalg.norm(self.charts.slopes[node] * self._units[:, None], axis=(1, 2)),
        )
        # What is a quarter around a sphere from a chart is at no great distance along it.
        left = np.linalg.norm((points[rows] - self.charts.measurements(node, u)) * self._units, axis=1)
        spread = np.sqrt(((samples - samples.mean(axis=0)) ** 2).sum(axis=1).mean())
        beyond = np.zeros(len(points), dtype=bool)
        beyond[rows] = (np.linalg.norm(u, axis=1) > OUTSIDE * radius) | (
            left > np.maximum(ASTRAY * spread, 10.0 * OFF_MANIFOLD * stretch * radius)
        )
        return beyond
