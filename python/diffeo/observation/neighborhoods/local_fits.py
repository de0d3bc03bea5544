"""Jacobians by local least squares of measurements on reference coordinates, over as many neighbours as noise asks for."""

from __future__ import annotations

import itertools

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import rows_text
from diffeo.observation.neighborhoods.axes import FLAT_REFERENCE, filled, filled_beside_noise, main_axes, nearest

# Neighbours times measurements that are fitted at once.
CHUNK = 1 << 22
# Where noise is more than this share of a Jacobian (root mean square over the samples), cubic fits to so many times the
# neighbours are tried, at most this share of the samples, along at most so many directions.
NOISY, LARGER, MOST_SAMPLES, MOST_DIRECTIONS = 0.01, (4, 8, 16), 1.0 / 3.0, 3
# A larger neighbourhood is taken where its Jacobian differs from those of all smaller ones by no more than this times what the
# noise of these makes, and so many of its standard errors.
DIFFERS, STANDARD_ERRORS = 1.0, 2.0
# Samples at which it is asked whether a direction of the reference is noise, and what measurements have of it beside: more than
# this times what chance makes is a direction.
PROBES, BY_CHANCE = 200, 3.0


def fitted_jacobians(points: FloatArray, reference: FloatArray, n_neighbors: int) -> FloatArray:
    """Jacobians (n, m, p) by local least squares of points (n, m) on reference coordinates (n, p).

    On a curved set of q < p dimensions, (n, m, q) along its own tangents: across it there is nothing to fit, or noise.

    Raises
    ------
    SampleSizeError
        Fewer than p + 2 neighbours.
    RankError
        Neighbours that do not span the reference space.
    """
    p = reference.shape[1]
    if n_neighbors < p + 2:
        raise errors.SampleSizeError(f"n_neighbors = {n_neighbors} must be at least p + 2 = {p + 2}")
    near = nearest(reference, n_neighbors)
    q = filled(reference, near)
    if q < p:
        tangents = np.ascontiguousarray(main_axes(reference, near)[1][:, :, :q])
        return _over_more(points, reference, near, _along(points, reference, near, tangents), q)
    q, count = _beside_noise(points, reference, n_neighbors)
    if q < p:
        near = nearest(reference, count)
        tangents = np.ascontiguousarray(main_axes(reference, near)[1][:, :, :q])
        return _over_more(points, reference, near, _along(points, reference, near, tangents), q)
    jacobians: FloatArray
    jacobians, conditions = core.jacobians_from_neighbors(points, reference, near, 0)
    flat = np.flatnonzero(conditions < FLAT_REFERENCE)
    if len(flat):
        raise errors.RankError(
            f"the neighbours of {len(flat)} samples do not span the {p} reference coordinates ({rows_text(flat)}); "
            "drop constant or dependent reference columns, or raise n_neighbors"
        )
    return _over_more(points, reference, near, jacobians, p)


def _beside_noise(points: FloatArray, reference: FloatArray, n_neighbors: int) -> tuple[int, int]:
    """Dimensions of the set that a reference fills beside noise across it, and the neighbours that show it.

    All dimensions where measurements have something of those that would be noise.
    """
    n, p = reference.shape
    probes = np.unique(np.linspace(0, n - 1, min(n, PROBES)).astype(np.int64))
    for factor in LARGER[::2]:
        count = factor * n_neighbors
        if p == 1 or count > MOST_SAMPLES * n:
            break
        near = nearest(reference, count)
        q = filled_beside_noise(reference, near[probes])
        if q < p and q <= MOST_DIRECTIONS and not _respond_across(points, reference, near[probes], q):
            return q, count
    return p, n_neighbors


def _respond_across(points: FloatArray, reference: FloatArray, near: IntArray, q: int) -> bool:
    """Whether measurements depend on what lies across the first q axes, beside a cubic of what lies along them."""
    offsets = reference[near] - reference[near].mean(axis=1, keepdims=True)
    own = np.einsum("nkp,npq->nkq", offsets, main_axes(reference, near)[1])
    y = points[near] - points[near].mean(axis=1, keepdims=True)
    within = _monomials(own[:, :, :q], 3)
    both = np.concatenate([within, own[:, :, q:]], axis=2)
    left, less = (((y - _projected(design, y)) ** 2).sum(axis=(1, 2)) for design in (within, both))
    across, free = both.shape[2] - within.shape[2], near.shape[1] - both.shape[2]
    ratio = (left - less) / across / np.maximum(less / free, np.finfo(float).tiny)
    return bool(np.median(ratio) > BY_CHANCE)


def _over_more(points: FloatArray, reference: FloatArray, near: IntArray, jacobians: FloatArray, q: int) -> FloatArray:
    """Jacobians (n, m, q), where noise is much of them, from cubic fits over more neighbours.

    The most of these are taken, sample by sample, whose Jacobian differs from all of fewer neighbours by what noise makes of
    them (Lepskii's method), so that none is taken where the measurements bend within it. Jacobians by other axes of the same
    space are compared after a rotation: their products with the axes are.
    """
    n, k = near.shape
    coefficients = len(_powers(q, 3))
    if q > MOST_DIRECTIONS or k < 2 * coefficients:
        return jacobians
    variance, noise = _noise(points, reference, near, q)
    size = (jacobians**2).sum(axis=(1, 2))
    if not np.median(variance / np.maximum(size, np.finfo(float).tiny)) > NOISY**2:
        return jacobians
    found, known = jacobians.copy(), [(_as_map(reference, near, jacobians, q), variance)]
    left = np.arange(n)
    numbers = points.shape[1] * q
    for factor in LARGER:
        count = factor * k
        if count > MOST_SAMPLES * n or len(left) == 0:
            break
        wider = nearest(reference, count)[left]
        fitted, variance = _cubic(points, reference, wider, q, noise[left])
        mapped = _as_map(reference, wider, fitted, q)
        same = np.ones(len(left), dtype=bool)
        for other, its in known:
            allowed = DIFFERS * its * (1.0 + STANDARD_ERRORS * np.sqrt(2.0 / numbers))
            same &= ((mapped - other) ** 2).sum(axis=(1, 2)) <= allowed
        left, mapped, variance = left[same], mapped[same], variance[same]
        known = [(other[same], its[same]) for other, its in known] + [(mapped, variance)]
        found[left] = fitted[same]
    return found


def _as_map(reference: FloatArray, near: IntArray, jacobians: FloatArray, q: int) -> FloatArray:
    """Jacobians (k, m, q) along the main axes of neighbourhoods as (k, m, p), by the coordinates of the reference."""
    if q == reference.shape[1]:
        return jacobians
    found: FloatArray = np.einsum("nmq,npq->nmp", jacobians, main_axes(reference, near)[1][:, :, :q])
    return found


def _along(points: FloatArray, reference: FloatArray, near: IntArray, tangents: FloatArray) -> FloatArray:
    """Jacobians (n, m, q) by local least squares of points (n, m) on the neighbours' coordinates along tangents (n, p, q)."""
    (n, m), q = points.shape, tangents.shape[2]
    found = np.empty((n, m, q))
    for rows in _chunks(near, m + reference.shape[1]):
        offsets, steps = reference[near[rows]], points[near[rows]]
        along = np.einsum("nkp,npq->nkq", offsets - offsets.mean(axis=1, keepdims=True), tangents[rows])
        found[rows] = np.einsum("nqk,nkm->nmq", np.linalg.pinv(along), steps - steps.mean(axis=1, keepdims=True))
    return found


def _noise(points: FloatArray, reference: FloatArray, near: IntArray, q: int) -> tuple[FloatArray, FloatArray]:
    """Variance (n,) of Jacobians of linear fits from noise, and that of the noise itself: both summed over measurements.

    The noise by what cubic fits leave.
    """
    variance, noise = np.empty(len(near)), np.empty(len(near))
    for rows in _chunks(near, points.shape[1]):
        own = _own(reference, near[rows], q)
        y = points[near[rows]]
        design = _monomials(own, 3)
        left = ((y - _projected(design, y)) ** 2).sum(axis=(1, 2))
        noise[rows] = left / (near.shape[1] - design.shape[2])
        centred = own - own.mean(axis=1, keepdims=True)
        inverse = np.linalg.pinv(np.einsum("nkp,nkq->npq", centred, centred))
        variance[rows] = noise[rows] * np.trace(inverse, axis1=1, axis2=2)
    return variance, noise


def _cubic(
    points: FloatArray, reference: FloatArray, near: IntArray, q: int, noise: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Jacobians (k, m, q) of local cubic fits at the samples, each first of its neighbours, and their variance from noise."""
    found, variance = np.empty((len(near), points.shape[1], q)), np.empty(len(near))
    for rows in _chunks(near, points.shape[1]):
        own = _own(reference, near[rows], q)
        # In units of the neighbourhood, for the sake of the digits.
        size = np.sqrt((own**2).mean(axis=(1, 2), keepdims=True))
        solve = np.linalg.pinv(_monomials(own / size, 3))[:, 1 : 1 + q]
        found[rows] = np.einsum("nqk,nkm->nmq", solve, points[near[rows]]) / size
        variance[rows] = noise[rows] * (solve**2).sum(axis=(1, 2)) / size[:, 0, 0] ** 2
    return found, variance


def _own(reference: FloatArray, near: IntArray, q: int) -> FloatArray:
    """Positions (k, K, q) of neighbours about the sample itself, along q main axes, or as they are where that is all."""
    offsets = reference[near] - reference[near[:, :1]]
    if q == reference.shape[1]:
        return offsets
    found: FloatArray = np.einsum("nkp,npq->nkq", offsets, main_axes(reference, near)[1][:, :, :q])
    return found


def _powers(q: int, degree: int) -> list[tuple[int, ...]]:
    """Which coordinates each monomial multiplies, by degree."""
    return [which for total in range(degree + 1) for which in itertools.combinations_with_replacement(range(q), total)]


def _monomials(x: FloatArray, degree: int) -> FloatArray:
    """All monomials (k, K, c) of coordinates (k, K, q) up to a degree, by degree."""
    columns = [x[..., list(which)].prod(axis=-1) for which in _powers(x.shape[-1], degree)]
    return np.stack(columns, axis=-1)


def _projected(design: FloatArray, y: FloatArray) -> FloatArray:
    """The least-squares fits of y (k, K, m) by the columns of designs (k, K, c)."""
    basis = np.linalg.qr(design)[0]
    found: FloatArray = basis @ (basis.transpose(0, 2, 1) @ y)
    return found


def _chunks(near: IntArray, width: int) -> list[slice]:
    """Rows of neighbourhoods that are worked on at once."""
    step = max(CHUNK // (near.shape[1] * max(width, 1)), 1)
    return [slice(start, start + step) for start in range(0, len(near), step)]
