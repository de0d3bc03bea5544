"""Coordinates isometric to the input domain: a neighbour graph with Mahalanobis lengths, laid out without distortion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from diffeo import errors
from diffeo._validation import FloatArray, IntArray, float_array, integer, rows_text, threads
from diffeo.interpolation import HermiteChart
from diffeo.kernel import build_tree
from diffeo.observation import Observation

# Landmarks of the start: each costs one run of Dijkstra; 60 fix some 3 % of every distance.
START_LANDMARKS = 60
# Steps of the refinement; it needs 30 to 80 where an isometric chart exists.
MAX_STEPS = 200
# Earlier steps that Anderson acceleration combines; 5 to 20 were measured alike.
MEMORY = 8
# The refinement has converged when no sample moves by more than this share of the median length of the edges.
SETTLED = 1e-6
# Acceleration that lets the stress grow by more than this is forgotten and started anew.
ALLOWED_GROWTH = 1.05
# Rounds in which lengths are corrected by the derivatives of the layout found with them; two suffice.
CORRECTION_ROUNDS = 3
# A corrected length that differs more than this from sqrt(q), relatively, is not believed.
BELIEVABLE = 0.2
# A correction that leaves more than this share of the stress is the last.
LITTLE_GAIN = 0.7
# Rounds in which frames and symmetrised displacements correct each other.
FRAME_ROUNDS = 4
# Measurements nearer than this share of their range are the same sample again.
TWIN = 1e-12
# Edges longer than this many times the median do not join pieces: what is that far away is on its own.
BRIDGE_LENGTH = 8.0
# Searches for this many times more neighbours try to join pieces of the graph.
BRIDGE_FACTORS = (2, 4, 8)
# Samples in small pieces of the graph, up to this share in all, are left out.
STRAY_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """Edges between near samples: positions of both ends in `rows`, and lengths sqrt(q).

    `rows` (n,) holds the caller's rows in tree order; `i`, `j` (e,) int64; `lengths` (e,) in input units.
    """

    rows: IntArray
    i: IntArray
    j: IntArray
    lengths: FloatArray

    def matrix(self, values: FloatArray) -> sp.csr_array:
        """Symmetric matrix with the given edge values."""
        n = len(self.rows)
        both = sp.coo_array((values, (self.i, self.j)), shape=(n, n)).tocsr()
        return both + both.T


class IsometricEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Isometric coordinates of the input domain, recovered from an observation.

    Edges join each sample to its nearest others by squared Mahalanobis distance q among the pairs that pass the gates.
    Graph distances to a few landmarks give a start (landmark multidimensional scaling: de Silva and Tenenbaum 2004),
    whose stress sum_edges w_ij (norm(X_i - X_j) - l_ij)^2, l_ij = sqrt(q_ij), is then minimised by majorisation (de
    Leeuw 1977): each step solves one graph Laplacian, which is factored once, with Anderson acceleration (Anderson
    1965). Only local lengths enter the stress, so that holes and non-convex domains do no harm. The layout gives the
    derivatives of the measurements along its own coordinates, and these correct the lengths to the next order
    (`corrected_lengths`), for a second refinement that is more accurate by one to two orders of magnitude.

    An isometric chart exists for flat domains without period (an interval, a square, an annulus). For closed or
    curved domains (circle, torus, sphere) `stress_` stays large; use `DiffusionMap` there.

    Parameters
    ----------
    n_neighbors : int
        Edges from each sample.
    random_state : Any
        Not used: nothing here is random. Kept for the common interface.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.

    Attributes
    ----------
    embedding_ : ndarray of shape (n, d)
        Coordinates X in input units, up to a rigid motion (centred).
    stress_ : float
        sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2) over the edges; below 1e-3 where all is well.
    misfit_ : ndarray of shape (n,)
        The same over the edges of each sample: where it is large, so is the doubt.
    jacobians_ : ndarray of shape (n, m, d)
        dy/dX, the derivatives of the measurements along the recovered coordinates.
    overlap_ : float
        Share of the samples whose nearest sample in `embedding_` is not near in the graph: 0 where the layout is one
        to one, about a half where it lies in two sheets (a circle flattened to a line).
    n_iter_ : int
        Steps of the refinement, all rounds together.
    converged_ : bool
        Whether its last round settled within the allowed steps.
    left_out_ : ndarray of int64
        Samples without full rank, without neighbours, or equal to an earlier one; they are placed by `transform`.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (500, 2, 2)))
    >>> diffeo.IsometricEmbedding().fit(obs).embedding_.shape
    (500, 2)
    """

    def __init__(self, *, n_neighbors: int = 12, random_state: Any = 0, n_jobs: int | None = None) -> None:
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs

    def fit(self, X: Observation | Any, y: None = None) -> IsometricEmbedding:
        """Compute isometric coordinates.

        Parameters
        ----------
        X : Observation, or array_like of shape (n, m)
            An array gets the Euclidean metric: its coordinates are then those of the array, up to a motion.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        SampleSizeError
            Fewer than two samples of full rank.
        DisconnectedError
            The graph of an observation falls into pieces (pieces of an array are joined, with a warning).
        """
        n_neighbors = integer(self.n_neighbors, "n_neighbors", 1)
        n_threads = threads(self.n_jobs)
        observation, is_array = self._checked(X, reset=True)
        if len(observation.usable) < 2:
            raise errors.SampleSizeError(f"n_samples = {len(observation.usable)} of full rank; at least 2 are needed")
        whole, observation = observation, _without_repeats(observation)
        if len(observation.usable) < 2:
            raise errors.SampleSizeError(f"n_samples = {len(whole)}, all of them at one point: nothing to lay out")
        graph = bridged(neighbor_graph(observation, n_neighbors, n_threads), observation, n_neighbors, n_threads)
        graph = self._connected(graph, observation, is_array)
        # The coordinates of a plain array are those of the array: the refinement only confirms it.
        layout = observation.points[graph.rows] if is_array else start_layout(graph, observation.dim)
        layout, self.n_iter_, self.converged_ = refine(graph, layout)
        points = np.ascontiguousarray(observation.points[graph.rows])
        whitening = observation.whitening[graph.rows]
        gradients = _gradients(whitening, local_frames(graph, layout, points, whitening))
        for _ in range(CORRECTION_ROUNDS):
            before = relative_stress(graph, layout)
            better = replace(graph, lengths=corrected_lengths(graph, layout, points, gradients))
            moved, steps, settled = refine(better, layout)
            after = relative_stress(better, moved)
            if not after < before:
                break
            graph, layout, self.converged_ = better, moved, settled
            self.n_iter_ += steps
            gradients = _gradients(whitening, local_frames(graph, layout, points, whitening))
            if after > LITTLE_GAIN * before:
                break
        self.stress_ = relative_stress(graph, layout)
        self.overlap_ = overlap(graph, layout)
        spread = np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1) - graph.lengths
        self._chart = HermiteChart(np.ascontiguousarray(layout), points, gradients)
        self._scatter(whole, graph, spread, n_threads)
        return self

    def fit_transform(self, X: Observation | Any, y: None = None) -> FloatArray:
        """Fit and return ``embedding_``, shape (n, d)."""
        return self.fit(X).embedding_

    def transform(self, X: Observation | Any) -> FloatArray:
        """Coordinates (count, d) of new measurements (count, m), by inverting the Hermite interpolant.

        Warns
        -----
        OutOfDomainWarning
            Points off the measured manifold or outside of the sampled domain.
        """
        check_is_fitted(self)
        observation, _ = self._checked(X, reset=False)
        located = self._chart.locate(observation.points, threads(self.n_jobs))
        if len(located.outside):
            errors.warn(
                f"{len(located.outside)} of {len(observation.points)} points lie off the measured manifold or outside of "
                f"the sampled domain ({rows_text(located.outside)}); their coordinates are extrapolated",
                errors.OutOfDomainWarning,
            )
        return located.coordinates

    def inverse_transform(self, X: Any) -> FloatArray:
        """Measurements (count, m) at coordinates (count, d), by Hermite interpolation (cubic, derivatives included)."""
        check_is_fitted(self)
        d = self.embedding_.shape[1]
        coordinates = float_array(X, "coordinates", 2, shape=(None, d), axes="(count, d)")
        return self._chart.measurements(coordinates, threads(self.n_jobs))

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

    def _checked(self, X: Any, *, reset: bool) -> tuple[Observation, bool]:
        """The observation, and whether it was made from a plain array (whose metric is the identity)."""
        if isinstance(X, Observation):
            if reset:
                self.n_features_in_ = X.points.shape[1]
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
            elif X.points.shape[1] != self.n_features_in_:
                raise errors.ShapeError(f"{X.points.shape[1]} measurements, the fit had {self.n_features_in_}")
            return X, False
        try:
            points = validate_data(
                self, X, reset=reset, dtype=np.float64, order="C", ensure_min_samples=2 if reset else 1
            )
        except ValueError as error:
            raise errors.InputError(str(error)) from error
        except TypeError as error:
            raise errors.DataTypeError(str(error)) from error
        n, m = points.shape
        identity = np.ascontiguousarray(np.broadcast_to(np.eye(m), (n, m, m)))
        none = np.empty(0, dtype=np.int64)
        return Observation(points, identity, np.ones((n, m)), m, none, "jacobians"), True

    def _connected(self, graph: NeighborGraph, observation: Observation, is_array: bool) -> NeighborGraph:
        """The graph in one piece: a few strays left out, pieces of a plain array joined, else an error."""
        count, labels = connected_components(graph.matrix(np.ones(len(graph.i))), directed=False)
        if count == 1:
            return graph
        sizes = np.bincount(labels)
        listed = ", ".join(map(str, np.sort(sizes)[::-1][:6])) + (", ..." if count > 6 else "")
        if is_array:
            errors.warn(
                f"the neighbour graph falls into {count} pieces of {listed} samples; they are joined at their nearest "
                "samples",
                errors.DisconnectedWarning,
            )
            return _joined(graph, observation.points[graph.rows], labels)
        keep = labels == sizes.argmax()
        if (~keep).sum() > STRAY_SHARE * len(observation):
            raise errors.DisconnectedError(
                f"the neighbour graph falls into {count} pieces of {listed} samples: the measurements fold or bend too "
                "sharply for this many samples, or do not cover the domain; add neurons, or samples"
            )
        place = np.cumsum(keep) - 1
        edges = keep[graph.i] & keep[graph.j]
        return NeighborGraph(graph.rows[keep], place[graph.i[edges]], place[graph.j[edges]], graph.lengths[edges])

    def _scatter(self, observation: Observation, graph: NeighborGraph, spread: FloatArray, n_threads: int) -> None:
        """Results in the caller's order; samples outside of the graph are placed by extension."""
        n, d = len(observation), observation.dim
        chart = self._chart
        size = np.bincount(np.r_[graph.i, graph.j], np.tile(graph.lengths**2, 2), minlength=len(graph.rows))
        off = np.bincount(np.r_[graph.i, graph.j], np.tile(spread**2, 2), minlength=len(graph.rows))
        self.misfit_ = np.full(n, np.inf)
        self.misfit_[graph.rows] = np.sqrt(off / np.maximum(size, np.finfo(float).tiny))
        self.embedding_ = np.empty((n, d))
        self.embedding_[graph.rows] = chart.nodes
        self.jacobians_ = np.zeros((n, observation.points.shape[1], d))
        self.jacobians_[graph.rows] = chart.gradients
        self.left_out_ = np.setdiff1d(np.arange(n), graph.rows)
        if len(self.left_out_):
            points = np.ascontiguousarray(observation.points[self.left_out_])
            self.embedding_[self.left_out_] = chart.locate(points, n_threads).coordinates


def _without_repeats(observation: Observation) -> Observation:
    """Samples equal to an earlier one, metric included, are left out: a crowd of them would fill neighbourhoods."""
    rows = observation.usable
    points, whitening = observation.points[rows], observation.whitening[rows]
    # Equal up to the rounding of a matrix product.
    grid = np.round((points - points.mean(axis=0)) / max(TWIN * float(np.ptp(points)), np.finfo(float).tiny))
    _, first, place = np.unique(grid, axis=0, return_index=True, return_inverse=True)
    twin = first[place.ravel()]
    repeats = np.flatnonzero(twin != np.arange(len(rows)))
    # Two sheets can cross in one point: the metrics, compared free of their gauge, tell.
    own, other = (whitening[i] @ whitening[i].transpose(0, 2, 1) for i in (repeats, twin[repeats]))
    size = np.abs(other).max(axis=(1, 2), initial=0.0)
    repeats = rows[repeats[np.abs(own - other).max(axis=(1, 2), initial=0.0) <= 1e-6 * size]]
    if len(repeats) == 0:
        return observation
    errors.warn(
        f"{len(repeats)} samples repeat an earlier one ({rows_text(repeats)}); each is placed where the first one is",
        errors.DuplicateWarning,
    )
    return replace(observation, deficient=np.union1d(observation.deficient, repeats))


def neighbor_graph(observation: Observation, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Edges from each sample to its nearest others by q among the pairs that pass the gates, each edge once."""
    tree = build_tree(observation, n_threads)
    n = tree.size
    k = min(n_neighbors, n - 1)
    neighbors, squared = tree.nearest_neighbors(k, n_threads)
    i, j = np.repeat(np.arange(n), k), neighbors.ravel().astype(np.int64)
    found = j >= 0
    i, j, squared = i[found], j[found], squared.ravel()[found]
    low, high = np.minimum(i, j), np.maximum(i, j)
    _, first = np.unique(low * n + high, return_index=True)
    rows = observation.usable[tree.order]
    return NeighborGraph(rows, low[first], high[first], np.sqrt(squared[first]))


def bridged(graph: NeighborGraph, observation: Observation, n_neighbors: int, n_threads: int) -> NeighborGraph:
    """Add edges between pieces of the graph from searches for more neighbours.

    Random gaps in one dimension leave clusters whose members all have their nearest neighbours among themselves;
    wider searches find the gated pairs that join them. Edges within a piece are not added.
    """
    for factor in BRIDGE_FACTORS:
        count, labels = connected_components(graph.matrix(np.ones(len(graph.i))), directed=False)
        if count == 1:
            break
        wide = neighbor_graph(observation, factor * n_neighbors, n_threads)
        between = (labels[wide.i] != labels[wide.j]) & (wide.lengths <= BRIDGE_LENGTH * np.median(graph.lengths))
        graph = NeighborGraph(
            graph.rows,
            np.concatenate([graph.i, wide.i[between]]),
            np.concatenate([graph.j, wide.j[between]]),
            np.concatenate([graph.lengths, wide.lengths[between]]),
        )
    return graph


def _joined(graph: NeighborGraph, points: FloatArray, labels: Any) -> NeighborGraph:
    """Join every piece to the nearest sample of the pieces joined before."""
    i, j, lengths = [graph.i], [graph.j], [graph.lengths]
    inside = labels == labels[0]
    for label in np.unique(labels[~inside]):
        members = np.flatnonzero(labels == label)
        known = np.flatnonzero(inside)
        distance, nearest = cKDTree(points[known]).query(points[members])
        closest = int(distance.argmin())
        i.append(np.array([members[closest]]))
        j.append(known[nearest[closest : closest + 1]])
        lengths.append(distance[closest : closest + 1])
        inside[members] = True
    return NeighborGraph(graph.rows, np.concatenate(i), np.concatenate(j), np.concatenate(lengths))


def start_layout(graph: NeighborGraph, dim: int) -> FloatArray:
    """Layout (n, dim) by multidimensional scaling of graph distances to landmarks far from each other."""
    n = len(graph.rows)
    # A length of exactly 0 would mean "no edge" to the sparse format: twins are a hair apart.
    hair = 1e-12 * max(float(graph.lengths.max(initial=0.0)), np.finfo(float).tiny)
    matrix = graph.matrix(np.maximum(graph.lengths, hair))
    landmark = int(np.argmax(dijkstra(matrix, directed=False, indices=0)))
    landmarks, distances = [], []
    nearest = np.full(n, np.inf)
    for _ in range(min(START_LANDMARKS, n)):
        landmarks.append(landmark)
        distances.append(dijkstra(matrix, directed=False, indices=landmark))
        nearest = np.minimum(nearest, distances[-1])
        landmark = int(np.argmax(nearest))
    squared = np.array(distances) ** 2
    among = squared[:, landmarks]
    centre = np.eye(len(landmarks)) - 1.0 / len(landmarks)
    values, vectors = np.linalg.eigh(-0.5 * centre @ among @ centre)
    values, vectors = values[::-1][:dim], vectors[:, ::-1][:, :dim]
    # Directions that the landmarks do not span (fewer landmarks than dimensions) start at zero.
    scale = np.where(values > 1e-12 * max(values[0], 0.0), 1.0 / np.sqrt(np.maximum(values, 1e-300)), 0.0)
    layout = -0.5 * ((squared - among.mean(axis=1)[:, None]).T @ (vectors * scale))
    if layout.shape[1] < dim:
        layout = np.pad(layout, ((0, 0), (0, dim - layout.shape[1])))
    return np.ascontiguousarray(layout)


def refine(graph: NeighborGraph, layout: FloatArray) -> tuple[FloatArray, int, bool]:
    """Minimise sum_edges (norm(X_i - X_j) - length)^2; returns the layout, the steps, and whether it settled.

    The majorisation step solves L X_new = B^T (length * direction) with the fixed Laplacian L = B^T B. Its fixed-point
    iteration gains a factor of a few per ten steps; Anderson acceleration makes it ten times as fast.
    """
    n, d = layout.shape
    edges = np.arange(len(graph.i))
    signs = np.concatenate([-np.ones(len(edges)), np.ones(len(edges))])
    places = (np.tile(edges, 2), np.concatenate([graph.i, graph.j]))
    incidence = sp.coo_array((signs, places), shape=(len(edges), n)).tocsr()
    transposed = incidence.T.tocsr()
    # One sample is held at the origin, which makes the Laplacian positive definite.
    weights = edge_weights(graph.lengths)
    laplacian = (transposed @ sp.diags_array(weights) @ incidence).tocsc()[1:, 1:]
    if n > 1:
        solve = splu(
            laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        ).solve

    def majorise(x: FloatArray) -> tuple[FloatArray, float]:
        step = x[graph.j] - x[graph.i]
        norm = np.linalg.norm(step, axis=1)
        pull = step * (weights * graph.lengths / np.maximum(norm, np.finfo(float).tiny))[:, None]
        new = np.zeros_like(x)
        new[1:] = solve((transposed @ pull)[1:])
        return new - new.mean(axis=0), float((weights * (norm - graph.lengths) ** 2).sum())

    layout = layout - layout.mean(axis=0)
    settled = SETTLED * float(np.median(graph.lengths)) if len(graph.lengths) else 0.0
    moves: list[FloatArray] = []
    images: list[FloatArray] = []
    best = np.inf
    for step in range(MAX_STEPS):
        image, stress = majorise(layout)
        move = image - layout
        if np.abs(move).max() <= settled:
            return image, step + 1, True
        if stress > ALLOWED_GROWTH * best:
            moves, images = [], []
        best = min(best, stress)
        moves, images = [*moves, move.ravel()][-MEMORY - 1 :], [*images, image.ravel()][-MEMORY - 1 :]
        layout = _accelerated(moves, images).reshape(n, d)
    return majorise(layout)[0], MAX_STEPS, False


def relative_stress(graph: NeighborGraph, layout: FloatArray) -> float:
    """sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2)."""
    norm = np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1)
    total = max(float((graph.lengths**2).sum()), np.finfo(float).tiny)
    return float(np.sqrt(((norm - graph.lengths) ** 2).sum() / total))


def corrected_lengths(
    graph: NeighborGraph, layout: FloatArray, points: FloatArray, gradients: FloatArray
) -> FloatArray:
    """Lengths of the edges to the next order, from the derivatives of the measurements along a layout, (e,).

    With s = X_j - X_i, G = dy/dX and D_i = d2y/dX2 [s, s] at i, Hermite quadrature (Euler and Maclaurin) says
    y_j - y_i = (G_i + G_j) s / 2 + (D_i - D_j) / 12 + O(s^5), where sqrt(q) has a relative error O(s^2). What
    the current s misses of y_j - y_i is turned into a displacement by the pseudo-inverse of the mean derivative.
    Second derivatives come from least squares on the differences of G along the edges; they only enter at third
    order, so the errors of the layout do not matter to the lengths.
    """
    i, j = graph.i, graph.j
    step = layout[j] - layout[i]
    curvature = _second_differences(graph, step, gradients)
    mean = 0.5 * (gradients[i] + gradients[j])
    missing = points[j] - points[i] - np.einsum("emd,ed->em", mean, step) - curvature / 12.0
    corrected = np.linalg.norm(step + _least_squares(mean, missing), axis=1)
    first = graph.lengths
    believable = np.abs(corrected - first) <= BELIEVABLE * first
    return np.where(believable, corrected, first)


def _least_squares(slopes: FloatArray, values: FloatArray) -> FloatArray:
    """Solutions s (e, d) of slopes s = values, (e, m, d) and (e, m), by normal equations: many, small, well posed."""
    normal = np.einsum("emk,eml->ekl", slopes, slopes)
    # Enough to keep a vanishing slope from dividing by zero; its result is not believed anyway.
    d = normal.shape[1]
    normal += (1e-14 * np.trace(normal, axis1=1, axis2=2) + np.finfo(float).tiny)[:, None, None] * np.eye(d)
    solved: FloatArray = np.linalg.solve(normal, np.einsum("emk,em->ek", slopes, values)[:, :, None])[:, :, 0]
    return solved


def _second_differences(graph: NeighborGraph, step: FloatArray, gradients: FloatArray) -> FloatArray:
    """D_i - D_j (e, m): second derivatives along each edge at its two ends."""
    n, m, d = gradients.shape
    i, j = graph.i, graph.j
    weight = 1.0 / np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    outer = np.einsum("e,ea,eb->eab", weight, step, step)
    ends = sp.csr_array(
        (np.ones(2 * len(i)), (np.concatenate([i, j]), np.tile(np.arange(len(i)), 2))), shape=(n, len(i))
    )
    moments = (ends @ outer.reshape(len(i), -1)).reshape(n, d, d)
    change = np.einsum("emk,ea,e->emka", gradients[j] - gradients[i], step, weight)
    slopes = (ends @ change.reshape(len(i), -1)).reshape(n, m, d, d)
    second = np.einsum("nmka,nab->nmkb", slopes, np.linalg.pinv(moments, rcond=1e-6, hermitian=True))
    second = 0.5 * (second + second.transpose(0, 1, 3, 2))
    at_i, at_j = (np.einsum("emka,ek,ea->em", second[end], step, step) for end in (i, j))
    difference: FloatArray = at_i - at_j
    return difference


def edge_weights(lengths: FloatArray) -> FloatArray:
    """Weights of the stress: short edges count more, because the error of a length grows like its third power.

    The inverse first power takes up part of that; higher ones would, but slow the refinement down many times.
    """
    middle = float(np.median(lengths)) if len(lengths) else 1.0
    weights: FloatArray = middle / np.maximum(lengths, 0.1 * middle)
    return weights


def _accelerated(moves: list[FloatArray], images: list[FloatArray]) -> FloatArray:
    """Anderson's combination of the last images, whose combined move is smallest."""
    if len(moves) == 1:
        return images[-1]
    move_steps = np.diff(np.array(moves), axis=0)
    image_steps = np.diff(np.array(images), axis=0)
    weights = np.linalg.lstsq(move_steps @ move_steps.T, move_steps @ moves[-1], rcond=1e-12)[0]
    combined: FloatArray = images[-1] - weights @ image_steps
    return combined


def overlap(graph: NeighborGraph, layout: FloatArray) -> float:
    """Share of samples whose nearest sample in the layout is neither their neighbour nor a neighbour's neighbour.

    Twins aside, a one-to-one layout has the nearest sample among the neighbours; sheets on top of each other do not.
    """
    n = len(layout)
    nearest = cKDTree(layout).query(layout, 2, workers=-1)[1][:, 1]
    near = graph.matrix(np.ones(len(graph.i))) + sp.eye_array(n, format="csr")
    # Row i of (near @ near) at column nearest[i], without the product: do the two neighbourhoods share a member?
    shared = near.multiply(near[nearest]).sum(axis=1)
    return float(np.mean(np.asarray(shared).ravel() == 0))


def local_frames(graph: NeighborGraph, layout: FloatArray, points: FloatArray, whitening: FloatArray) -> FloatArray:
    """Rotations Q_i (n, d, d) with W_i^T (y_j - y_i) = Q_i (X_j - X_i) in the limit.

    Procrustes over the edges of each sample. One-sided local coordinates have an error of second order, which the
    two ends of an edge see with opposite signs: displacements averaged over both ends are better by an order, and
    need the frames; so frames and averages are computed in turn.
    """
    n, d = layout.shape
    i, j = graph.i, graph.j
    step = layout[j] - layout[i]
    weight = 1.0 / np.maximum((step**2).sum(axis=1), np.finfo(float).tiny)
    delta = points[j] - points[i]
    from_i = np.einsum("em,emd->ed", delta, whitening[i])
    from_j = -np.einsum("em,emd->ed", delta, whitening[j])

    def procrustes(at_i: FloatArray, at_j: FloatArray) -> FloatArray:
        scaled = step * weight[:, None]
        total = np.empty((n, d, d))
        for a in range(d):
            for b in range(d):
                total[:, a, b] = np.bincount(i, at_i[:, a] * scaled[:, b], minlength=n)
                total[:, a, b] -= np.bincount(j, at_j[:, a] * scaled[:, b], minlength=n)
        u, _, vt = np.linalg.svd(total)
        rotation: FloatArray = u @ vt
        return rotation

    frames = procrustes(from_i, from_j)
    for _ in range(FRAME_ROUNDS):
        average = 0.5 * (np.einsum("ed,edk->ek", from_i, frames[i]) - np.einsum("ed,edk->ek", from_j, frames[j]))
        frames = procrustes(np.einsum("ek,edk->ed", average, frames[i]), -np.einsum("ek,edk->ed", average, frames[j]))
    return frames


def _gradients(whitening: FloatArray, frames: FloatArray) -> FloatArray:
    """dy/dX_i = U_i Sigma_i Q_i = W_i Sigma_i^2 Q_i, (n, m, d)."""
    squared_stretches = 1.0 / (whitening**2).sum(axis=1)
    return np.ascontiguousarray(np.einsum("nmd,nd,ndk->nmk", whitening, squared_stretches, frames))
