"""Radial kernels between points, and between points and directions there: what a fit to values and slopes is made of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diffeo._support.arrays import FloatArray

Derivatives = tuple[FloatArray, FloatArray, FloatArray]


def _gaussian(squares: FloatArray) -> Derivatives:
    value: FloatArray = np.exp(-0.5 * squares)
    return value, -value, value


def _matern_5_2(squares: FloatArray) -> Derivatives:
    t = np.sqrt(5.0 * squares)
    falling = np.exp(-t)
    return (1.0 + t + t * t / 3.0) * falling, (-5.0 / 3.0) * (1.0 + t) * falling, (25.0 / 3.0) * falling


def _matern_3_2(squares: FloatArray) -> Derivatives:
    t = np.sqrt(3.0 * squares)
    falling = np.exp(-t)
    # The second derivative grows as 1 / t, and what it is multiplied by vanishes as t^2.
    curved = np.divide(9.0 * falling, t, out=np.zeros_like(t), where=t > 0.0)
    return (1.0 + t) * falling, -3.0 * falling, curved


# phi(s), s = |x - y|^2 / 2 h^2, with its first and second derivatives, from |x - y|^2 / h^2: for maps that are smooth, that
# bend sharply, and that have kinks or cliffs (Rasmussen and Williams 2006, section 4.2).
PROFILES: dict[str, Callable[[FloatArray], Derivatives]] = {
    "gaussian": _gaussian,
    "matern_5_2": _matern_5_2,
    "matern_3_2": _matern_3_2,
}


def functionals(points: FloatArray, directions: FloatArray | None) -> FloatArray:
    """Points (..., n, r) and directions there (..., n, r, d) as panels (..., 1 + d, n, r), or (..., 1, n, r) without."""
    at = points[..., None, :, :]
    panels = at if directions is None else np.concatenate([at, np.moveaxis(directions, -1, -3)], axis=-3)
    return np.ascontiguousarray(panels)


def kernel_matrix(profile: str, width: float, left: FloatArray, right: FloatArray, same: bool = False) -> FloatArray:
    """Kernels between functionals (..., 1 + p, n, r) and (..., 1 + q, m, r), (..., (1 + p) n, (1 + q) m).

    With k = phi(|x - y|^2 / 2 h^2), D_a the derivative by x along a and D_b that by y along b:

        D_a k = phi' (x - y) . a / h^2,   D_b k = -phi' (x - y) . b / h^2,
        D_a D_b k = -phi'' (x - y) . a (x - y) . b / h^4 - phi' a . b / h^2.

    `same` says that both are the same, so that distances to themselves are zero and not what rounding leaves.
    """
    (p, n, r), (q, m) = left.shape[-3:], right.shape[-3:-1]
    batch = left.shape[:-3]
    x, y = left / width, right / width
    products = x.reshape(*batch, p * n, r) @ np.swapaxes(y.reshape(*batch, q * m, r), -1, -2)
    whole = products.reshape(*batch, p, n, q, m)
    own_left = np.einsum("...nr,...pnr->...pn", x[..., 0, :, :], x)
    own_right = np.einsum("...mr,...qmr->...qm", y[..., 0, :, :], y)
    squares = own_left[..., 0, :, None] + own_right[..., 0, None, :] - 2.0 * whole[..., 0, :, 0, :]
    np.maximum(squares, 0.0, out=squares)
    if same:
        squares[..., np.arange(n), np.arange(n)] = 0.0
    value, first, second = PROFILES[profile](squares)
    falling = -first
    # (x - y) . a, and (x - y) . b; panel by panel, so that what is read and written stays near.
    towards = [own_left[..., a, :, None] - whole[..., a, :, 0, :] for a in range(1, p)]
    for b in range(1, q):
        onwards = whole[..., 0, :, b, :] - own_right[..., b, None, :]
        curved = second * onwards
        for a in range(1, p):
            panel = whole[..., a, :, b, :]
            panel *= falling
            panel -= towards[a - 1] * curved
        whole[..., 0, :, b, :] = falling * onwards
    for a in range(1, p):
        whole[..., a, :, 0, :] = first * towards[a - 1]
    whole[..., 0, :, 0, :] = value
    return products
