"""The definitions in plain NumPy, gates included: slow, short, obviously right. Oracle of the tests, opponent of benchmarks.

Every function here states a definition; the compiled core must equal it. Nothing here is fast or bounded in memory
(n-by-n arrays), and inputs are trusted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]


class Gates(NamedTuple):
    """Limits that a pair must meet both ways, with r^2 = 4 epsilon log(1/truncation).

    W_i^T is blind to displacements along the normal, so points of different sheets of the measured manifold can
    have q = 0; a pair that passes these gates is near in the tangent space of both ends.
    """

    reach: float = 1.5
    """norm(y_i - y_j) <= reach * sigma_1 * r: a true neighbour is no farther than the stretch carries it."""
    asymmetry: float = 4.0
    """The larger one-sided squared distance is at most this multiple of the smaller."""
    off_tangent: float = 0.5
    """Share of norm(y_i - y_j)^2 outside of the tangent space, at most."""
    transport: float = 2.0
    """Singular values of W_i^T pinv(W_j^T) lie in [1/transport, transport]; it is orthogonal in the limit."""


GATES = Gates()


def whitening_from_jacobians(jacobians: FloatArray, dim: int) -> tuple[FloatArray, FloatArray]:
    """Singular values (n, r) and whitening U_d / Sigma_d (n, m, dim) of Jacobians (n, m, p)."""
    u, s, _ = np.linalg.svd(jacobians, full_matrices=False)
    return s, u[:, :, :dim] / s[:, None, :dim]


def burst_covariances(bursts: FloatArray, scale: float) -> FloatArray:
    """C_i = sum_k (y_ik - mean)(y_ik - mean)^T / ((K - 1) scale^2) of bursts (n, K, m)."""
    centred = bursts - bursts.mean(axis=1, keepdims=True)
    covariances: FloatArray = np.einsum("nka,nkb->nab", centred, centred) / ((bursts.shape[1] - 1) * scale**2)
    return covariances


def whitening_from_covariances(covariances: FloatArray, dim: int) -> tuple[FloatArray, FloatArray]:
    """Square roots of the eigenvalues (n, m), descending, and U_d / Sigma_d (n, m, dim)."""
    values, vectors = np.linalg.eigh(covariances)
    s = np.sqrt(np.maximum(values[:, ::-1], 0.0))
    return s, vectors[:, :, ::-1][:, :, :dim] / s[:, None, :dim]


def whitening_from_bursts(bursts: FloatArray, scale: float, dim: int) -> tuple[FloatArray, FloatArray]:
    """The same from bursts, with the bias (K - 1)/(K - d - 2) of an inverted sample covariance removed."""
    size = bursts.shape[1]
    s, whitening = whitening_from_covariances(burst_covariances(bursts, scale), dim)
    return s, whitening * np.sqrt((size - dim - 2) / (size - 1))


def jacobians_from_neighbors(points: FloatArray, reference: FloatArray, neighbors: IntArray) -> FloatArray:
    """Least-squares J_i (n, m, p) of centred points on centred reference coordinates over the listed neighbours."""
    jacobians = np.empty((len(points), points.shape[1], reference.shape[1]))
    for i, rows in enumerate(neighbors):
        x, y = reference[rows] - reference[rows].mean(axis=0), points[rows] - points[rows].mean(axis=0)
        jacobians[i] = np.linalg.lstsq(x, y, rcond=None)[0].T
    return jacobians


def one_sided_squared_distances(points: FloatArray, whitening: FloatArray) -> FloatArray:
    """a_ij = norm(W_i^T (y_j - y_i))^2, (n, n); a_ij is measured by sample i."""
    projected = np.einsum("imd,jm->ijd", whitening, points)
    own = np.einsum("iid->id", projected)
    a: FloatArray = ((projected - own[:, None]) ** 2).sum(axis=2)
    return a


def squared_distances(points: FloatArray, whitening: FloatArray) -> FloatArray:
    """q_ij = (a_ij + a_ji) / 2, (n, n)."""
    a = one_sided_squared_distances(points, whitening)
    return 0.5 * (a + a.T)


def displacements(points: FloatArray, whitening: FloatArray, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
    """Trapezoidal displacements v (e, d) of the edges i -- j in the frame of i, and what they leave of each step (e, m).

    step = (J_i + J_j O^T) v / 2 + rest by least squares, J = pinv(W^T), O the orthogonal part of W_i^T J_j + J_i^T W_j.
    """
    at, step = np.linalg.pinv(whitening.transpose(0, 2, 1)), points[j] - points[i]
    u, _, vt = np.linalg.svd(whitening[i].transpose(0, 2, 1) @ at[j] + at[i].transpose(0, 2, 1) @ whitening[j])
    mean = 0.5 * (at[i] + at[j] @ (u @ vt).transpose(0, 2, 1))
    v = np.einsum("ekm,em->ek", np.linalg.pinv(mean), step)
    return v, step - np.einsum("emk,ek->em", mean, v)


def edge_lengths(points: FloatArray, whitening: FloatArray, i: IntArray, j: IntArray) -> tuple[FloatArray, FloatArray]:
    """norm(v) (e,) of `displacements`, and the share (e,) of each step that they leave: norm(rest) / norm(step)."""
    v, rest = displacements(points, whitening, i, j)
    steps = np.linalg.norm(points[j] - points[i], axis=1)
    return np.linalg.norm(v, axis=1), np.linalg.norm(rest, axis=1) / np.where(steps > 0.0, steps, 1.0)


def gates(
    points: FloatArray, whitening: FloatArray, squared_radius: float, limits: Gates = GATES
) -> tuple[BoolArray, BoolArray]:
    """Which pairs are within reach, and which of them pass the other gates: two (n, n) masks.

    The stretches are sigma_k = 1 / norm(column k of W), and U_k = sigma_k W_k.
    """
    stretch = 1.0 / np.linalg.norm(whitening, axis=1)
    delta = points[None, :, :] - points[:, None, :]
    distance2 = (delta**2).sum(axis=2)
    largest = stretch.max(axis=1)
    reach = distance2 <= limits.reach**2 * squared_radius * np.minimum(largest[:, None], largest[None, :]) ** 2

    coordinates = np.einsum("imd,ijm->ijd", whitening, delta)
    a = (coordinates**2).sum(axis=2)
    tame = np.maximum(a, a.T) <= limits.asymmetry * np.minimum(a, a.T)

    tangent = (stretch[:, None, :] ** 2 * coordinates**2).sum(axis=2)
    share = 1.0 - limits.off_tangent
    tame &= (tangent >= share * distance2) & (share * distance2 <= tangent.T)

    # pinv(W_j^T) = U_j Sigma_j = W_j Sigma_j^2.
    i, j = np.nonzero(reach)
    transport = np.einsum("emk,eml->ekl", whitening[i], whitening[j]) * stretch[j][:, None, :] ** 2
    values = np.linalg.svd(transport, compute_uv=False)
    within = (values[:, 0] <= limits.transport) & (values[:, -1] >= 1.0 / limits.transport)
    both = np.zeros_like(tame)
    both[i, j] = within
    return reach, tame & both & both.T


def kernel(
    points: FloatArray, whitening: FloatArray, epsilon: float, truncation: float = 1e-4
) -> tuple[FloatArray, int]:
    """Dense kernel (n, n) with zeros where pairs are cut or gated, and the number of gated pairs (each once)."""
    squared_radius = 4.0 * epsilon * np.log(1.0 / truncation)
    q = squared_distances(points, whitening)
    reach, tame = gates(points, whitening, squared_radius)
    near = (q <= squared_radius) & reach
    kept = near & tame
    np.fill_diagonal(kept, True)
    return np.where(kept, np.exp(-q / (4.0 * epsilon)), 0.0), int((near & ~kept).sum()) // 2


def euclidean_kernel(points: FloatArray, epsilon: float, truncation: float = 1e-4) -> FloatArray:
    """The same under the Euclidean metric, where no gate drops anything within the radius."""
    q = ((points[None, :, :] - points[:, None, :]) ** 2).sum(axis=2)
    return np.where(q <= 4.0 * epsilon * np.log(1.0 / truncation), np.exp(-q / (4.0 * epsilon)), 0.0)


def normalise(k: FloatArray, alpha: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Row sums p = K 1, degrees D = K_alpha 1, and S = D^-1/2 K_alpha D^-1/2 for a dense kernel."""
    density = k.sum(axis=1)
    k_alpha = k / np.outer(density, density) ** alpha
    degree = k_alpha.sum(axis=1)
    return density, degree, k_alpha / np.sqrt(np.outer(degree, degree))


def leading_eigenpairs(s: FloatArray, n_wanted: int) -> tuple[FloatArray, FloatArray]:
    """Largest eigenvalues, descending, and orthonormal eigenvectors (n, n_wanted) of a dense symmetric matrix."""
    values, vectors = np.linalg.eigh(s)
    return values[::-1][:n_wanted], vectors[:, ::-1][:, :n_wanted]


BORDER_EXCESS, BORDER_DRIFT, DRIFT_AT_BORDER = 0.8286, 0.8712, 0.9493
"""Of a half-space of even density, b from its border in units of sqrt(epsilon), of which the kernel sees the share p(b):
integral of 1/p - 1, integral of t/p, and t(0), with t(b) = |v|^2 / epsilon of the mean v of neighbours weighted by 1/p."""

SECOND_ORDER = 2.2
"""What squared slopes of eigenvectors lack, in units of 1 / (row sum)^2."""


def own_share(k: FloatArray, dim: int, truncation: float = 1e-4) -> float:
    """What samples add to their own row sums beyond the density: the median of (sum k^4 - c sum k^2) / (1 - c), in [0, 1].

    c = 2^(-dim/2) is how row sums fall with half of the bandwidth: 1 for independent samples, 0 on a grid.
    """
    fall = 2.0 ** (-dim / 2)
    return float(
        np.clip(
            np.median(((k**4).sum(axis=1) - fall * np.where(k**2 >= truncation, k**2, 0.0).sum(axis=1)) / (1.0 - fall)),
            0.0,
            1.0,
        )
    )


class LocalFits(NamedTuple):
    """Local linear fits, weighted by w_ij = (k_ij / p_j) / sum_j k_ij / p_j with p = k 1."""

    smoothed: FloatArray
    """(n, n): values of the fits at the samples themselves, of values at the samples."""
    slopes: FloatArray
    """(n, d, n): their slopes, in the frame of each sample."""
    shift: FloatArray
    """(n, d): sum_j k_ij u_ij / p_i."""
    weights: FloatArray
    """(n,): measure of the domain that each sample stands for, up to a factor."""
    row_sums: FloatArray
    """(n,): what p would be far from the border, without the sample itself."""


def local_coordinates(points: FloatArray, frames: FloatArray | None, bent: bool = False) -> FloatArray:
    """u_ij, (n, n, d): trapezoidal displacements of the frames W; without frames, y_j - y_i.

    `bent`: W_i^T (y_j - y_i) of orthonormal frames in space, with chords made as long as their arcs: on an arc s of curvature
    c, the squared part off the tangent is c^2 s^4 / 4, the tangential one short by c^2 s^3 / 6.
    """
    delta, n = points[None, :, :] - points[:, None, :], len(points)
    if frames is None:
        return delta
    if not bent:
        return displacements(points, frames, *np.divmod(np.arange(n * n), n))[0].reshape(n, n, -1)
    u: FloatArray = np.einsum("imd,ijm->ijd", frames, delta)
    tangential = (u**2).sum(axis=2)
    off = np.clip(((delta**2).sum(axis=2) - tangential) / np.where(tangential > 0, tangential, 1.0), 0.0, 0.25)
    u *= (1.0 + 2.0 / 3.0 * off)[:, :, None]
    return u


def local_fits(k: FloatArray, u: FloatArray, epsilon: float, own: float) -> LocalFits:
    """Local linear fits on samples with coordinates u (n, n, d), and the weights of the samples in integrals.

    a + b^T u with b = (C + 0.002 epsilon I)^-1 sum_j w_ij (u_ij - v_i) f_j and a = sum_j w_ij f_j - b^T v_i, where v and C are
    mean and covariance of u under w. |v|^2 tells how near the border is: a weight is
    (1 - c t) / p, with c such that a border makes the domain neither larger nor smaller; on a grid smaller by half a cell.
    """
    dim, p = u.shape[2], k.sum(axis=1)
    w = k / p[None, :]
    w /= w.sum(axis=1, keepdims=True)
    v = np.einsum("ij,ijd->id", w, u)
    centred = u - v[:, None, :]
    covariance = np.einsum("ij,ija,ijb->iab", w, centred, centred) + 0.002 * epsilon * np.eye(dim)
    slopes = np.einsum("iab,ijb,ij->iaj", np.linalg.inv(covariance), centred, w)
    smoothed = w - np.einsum("id,idj->ij", v, slopes)
    noise = (w**2 * (u**2).sum(axis=2)).sum(axis=1)
    # Without the share of the sample itself, where samples are independent.
    alone = 1.0 - own * np.minimum(np.diag(w), 0.5)
    drift = ((v**2).sum(axis=1) - own * noise) / (epsilon * alone**2)
    density = np.maximum(p - own * (1.0 - 2.0 ** (-dim / 2)), 0.05 * p)
    row_sums = density * 2.0 ** np.minimum(drift / DRIFT_AT_BORDER, 3.0)
    half_cell = (1.0 - own) * np.sqrt(np.pi) / row_sums ** (1.0 / dim)
    weights = np.maximum(1.0 - (BORDER_EXCESS + half_cell) / BORDER_DRIFT * drift, 0.05) / density
    return LocalFits(smoothed, slopes, np.einsum("ij,ijd->id", k, u) / p[:, None], weights, row_sums)


def generator_spectrum(
    k: FloatArray,
    u: FloatArray,
    epsilon: float,
    functions: FloatArray,
    alpha: float,
    power: int = 1,
    truncation: float = 1e-4,
) -> FloatArray:
    """Eigenvalues of minus the generator among functions (n, c) on the samples and the constant, ascending, without the 0.

    The functions, eigenvectors of P, are those of the domain seen through the mean shift of its density, f_i = phi(x_i +
    shift_i) in first order: phi = f - shift^T grad f. With a the smoothed values and b the slopes of phi, its gradient is
    2 b(phi) - b(a(phi)), and the Ritz values are those of sum_i w_i^(2 alpha - 1) (1 + s c / N_i^2) |grad phi|^2 beside
    sum_i w_i^(2 alpha - 1) phi^2, with N the row sums, s the own share, c of `SECOND_ORDER`. `power` 2: the same fits at half
    of the bandwidth, with k^2.
    """
    own = own_share(k, u.shape[2], truncation)
    fits = local_fits(k, u, epsilon, own)
    phi = functions - np.einsum("nd,ndj,jc->nc", fits.shift, fits.slopes, functions)
    row_sums = fits.row_sums
    if power == 2:
        fits = local_fits(np.where(k**2 >= truncation, k**2, 0.0), u, epsilon / 2, own)
    slopes = np.einsum("ndj,jc->ndc", fits.slopes, 2.0 * phi - fits.smoothed @ phi)
    w = fits.weights ** (2.0 * alpha - 1.0)
    raised = w * (1.0 + SECOND_ORDER * own / np.maximum(row_sums, 3.0) ** 2)
    centred = phi - (w @ phi) / w.sum()
    energy, mass = np.einsum("n,nda,ndb->ab", raised, slopes, slopes), centred.T @ (w[:, None] * centred)
    root = np.linalg.inv(np.linalg.cholesky(mass))
    values: FloatArray = np.linalg.eigvalsh(root @ energy @ root.T)
    return values


def extension(
    new_points: FloatArray,
    points: FloatArray,
    whitening: FloatArray,
    epsilon: float,
    weights: FloatArray,
    embedding: FloatArray,
    eigenvalues: FloatArray,
    truncation: float = 1e-4,
) -> FloatArray:
    """Nystroem extension with the one-sided q of the samples: (count, k) for weights p^-alpha (n,)."""
    squared_radius = 4.0 * epsilon * np.log(1.0 / truncation)
    stretch = 1.0 / np.linalg.norm(whitening, axis=1)
    delta = new_points[:, None, :] - points[None, :, :]
    distance2 = (delta**2).sum(axis=2)
    coordinates = np.einsum("jmd,ijm->ijd", whitening, delta)
    q = (coordinates**2).sum(axis=2)
    tangent = (stretch**2 * coordinates**2).sum(axis=2)
    kept = (q <= squared_radius) & (distance2 <= GATES.reach**2 * squared_radius * stretch.max(axis=1) ** 2)
    kept &= tangent >= (1.0 - GATES.off_tangent) * distance2
    row = np.where(kept, np.exp(-q / (4.0 * epsilon)), 0.0) * weights
    extended: FloatArray = (row @ embedding) / row.sum(axis=1, keepdims=True) / eigenvalues
    return extended


def local_polynomial_fit(
    queries: FloatArray, nodes: FloatArray, values: FloatArray, neighbors: IntArray, degree: int
) -> FloatArray:
    """Weighted least-squares polynomials about each query, evaluated there: (q, v)."""
    result = np.empty((len(queries), values.shape[1]))
    for i, rows in enumerate(neighbors):
        offset = nodes[rows] - queries[i]
        offset = 2.0 * offset / np.linalg.norm(offset, axis=1).max()
        terms = [np.ones(len(rows)), *offset.T]
        if degree == 2:
            d = offset.shape[1]
            terms += [offset[:, a] * offset[:, b] for a in range(d) for b in range(a, d)]
        weight = np.exp(-0.5 * (offset**2).sum(axis=1))[:, None]
        result[i] = np.linalg.lstsq(np.array(terms).T * weight, values[rows] * weight, rcond=1e-6)[0][0]
    return result


def kernel_in_blocks(
    points: FloatArray, whitening: FloatArray, epsilon: float, truncation: float = 1e-4, block: int = 512
) -> tuple[IntArray, IntArray, FloatArray]:
    """The best vectorised NumPy form: blocks of rows by matrix products, gates only on the pairs that are near.

    The opponent of the benchmarks: (rows, columns, values) of the same kernel, diagonal included.
    """
    n, m, dim = whitening.shape
    squared_radius = 4.0 * epsilon * np.log(1.0 / truncation)
    stretch2 = 1.0 / (whitening**2).sum(axis=1)
    reach2 = GATES.reach**2 * squared_radius * stretch2.max(axis=1)
    flat = np.ascontiguousarray(whitening.transpose(0, 2, 1).reshape(n * dim, m))
    own = np.einsum("nmd,nm->nd", whitening, points).reshape(n * dim)
    norms = (points**2).sum(axis=1)
    rows, columns, values = [], [], []
    for start in range(0, n, block):
        stop = min(n, start + block)
        part = slice(start * dim, stop * dim)
        # |W_i^T (y_j - y_i)|^2 for the rows of the block; pairs with a_ij above 1.6 r^2 fail q or the asymmetry.
        u = (flat[part] @ points.T - own[part, None]).reshape(stop - start, dim, n)
        a = np.einsum("bdn,bdn->bn", u, u)
        distance2 = norms[start:stop, None] + norms[None, :] - 2.0 * (points[start:stop] @ points.T)
        bound = 2.0 * GATES.asymmetry / (1.0 + GATES.asymmetry) * squared_radius
        i, j = np.nonzero((a <= bound) & (distance2 <= 1.01 * reach2[start:stop, None] + 1e-12))
        i += start
        upper = j > i
        i, j = i[upper], j[upper]
        delta = points[j] - points[i]
        kept, q = _pairs(delta, whitening[i], whitening[j], stretch2[i], stretch2[j], squared_radius)
        rows.append(i[kept])
        columns.append(j[kept])
        values.append(np.exp(-q[kept] / (4.0 * epsilon)))
    i, j, v = np.concatenate(rows), np.concatenate(columns), np.concatenate(values)
    diagonal = np.arange(n)
    return np.concatenate([i, j, diagonal]), np.concatenate([j, i, diagonal]), np.concatenate([v, v, np.ones(n)])


def _pairs(
    delta: FloatArray, w_i: FloatArray, w_j: FloatArray, s_i: FloatArray, s_j: FloatArray, squared_radius: float
) -> tuple[BoolArray, FloatArray]:
    """Gates and squared distances of listed pairs: displacements (e, m), whitenings (e, m, d), sigma^2 (e, d)."""
    distance2 = (delta**2).sum(axis=1)
    u, v = np.einsum("em,emd->ed", delta, w_i), np.einsum("em,emd->ed", delta, w_j)
    a, b = (u**2).sum(axis=1), (v**2).sum(axis=1)
    q = 0.5 * (a + b)
    share = 1.0 - GATES.off_tangent
    kept = q <= squared_radius
    kept &= distance2 <= GATES.reach**2 * squared_radius * np.minimum(s_i.max(axis=1), s_j.max(axis=1))
    kept &= np.maximum(a, b) <= GATES.asymmetry * np.minimum(a, b)
    kept &= (s_i * u**2).sum(axis=1) >= share * distance2
    kept &= (s_j * v**2).sum(axis=1) >= share * distance2
    near = np.flatnonzero(kept)
    inner = np.einsum("emk,eml->ekl", w_i[near], w_j[near])
    tame = np.ones(len(near), dtype=bool)
    for transport in (inner * s_j[near][:, None, :], inner.transpose(0, 2, 1) * s_i[near][:, None, :]):
        values = _extreme_singular_values(transport)
        tame &= (values[0] <= GATES.transport) & (values[1] >= 1.0 / GATES.transport)
    kept[near] = tame
    return kept, q


def _extreme_singular_values(matrices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Largest and smallest singular values of small square matrices (closed form for d = 1 and 2)."""
    if matrices.shape[1] == 1:
        return np.abs(matrices[:, 0, 0]), np.abs(matrices[:, 0, 0])
    if matrices.shape[1] == 2:
        total = (matrices**2).sum(axis=(1, 2))
        det = matrices[:, 0, 0] * matrices[:, 1, 1] - matrices[:, 0, 1] * matrices[:, 1, 0]
        root = np.sqrt(np.maximum(total**2 - 4.0 * det**2, 0.0))
        return np.sqrt(0.5 * (total + root)), np.sqrt(np.maximum(0.5 * (total - root), 0.0))
    values = np.asarray(np.linalg.svd(matrices, compute_uv=False), dtype=np.float64)
    return values[:, 0], values[:, -1]
