"""Coordinates isometric to the input domain: a neighbour graph with Mahalanobis lengths, laid out without distortion."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
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
# The refinement has converged when no sample moves by more than this share of the layout's radius.
SETTLED = 1e-7
# Acceleration that lets the stress grow by more than this is forgotten and started anew.
ALLOWED_GROWTH = 1.05
# Rounds in which frames and symmetrised displacements correct each other.
FRAME_ROUNDS = 4
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
    whose stress sum_edges (norm(X_i - X_j) - sqrt(q_ij))^2 is then minimised by majorisation (de Leeuw 1977): each
    step solves one graph Laplacian, which is factored once, with Anderson acceleration (Anderson 1965). Only local
    lengths enter the stress, so that holes and non-convex domains do no harm.

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
        sqrt(sum (norm(X_i - X_j) - sqrt(q_ij))^2 / sum q_ij) over the edges; below 1e-3 where all is well.
    misfit_ : ndarray of shape (n,)
        The same over the edges of each sample: where it is large, so is the doubt.
    jacobians_ : ndarray of shape (n, m, d)
        dy/dX, the derivatives of the measurements along the recovered coordinates.
    n_iter_ : int
        Steps of the refinement.
    converged_ : bool
        Whether it settled within the allowed steps.
    left_out_ : ndarray of int64
        Samples without full rank or without neighbours; they are placed by `transform`.

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
        graph = neighbor_graph(observation, n_neighbors, n_threads)
        graph = self._connected(graph, observation, is_array)
        layout = start_layout(graph, observation.dim)
        layout, self.n_iter_, self.converged_ = refine(graph, layout)
        spread = np.linalg.norm(layout[graph.j] - layout[graph.i], axis=1) - graph.lengths
        self.stress_ = float(np.sqrt((spread**2).sum() / max((graph.lengths**2).sum(), np.finfo(float).tiny)))
        points = np.ascontiguousarray(observation.points[graph.rows])
        whitening = observation.whitening[graph.rows]
        frames = local_frames(graph, layout, points, whitening)
        gradients = _gradients(whitening, frames)
        self._chart = HermiteChart(np.ascontiguousarray(layout), points, gradients)
        self._scatter(observation, graph, spread, n_threads)
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
            warnings.warn(
                f"{len(located.outside)} of {len(observation.points)} points lie off the measured manifold or outside of "
                f"the sampled domain ({rows_text(located.outside)}); their coordinates are extrapolated",
                errors.OutOfDomainWarning,
                stacklevel=2,
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
            warnings.warn(
                f"the neighbour graph falls into {count} pieces of {listed} samples; they are joined at their nearest "
                "samples",
                errors.DisconnectedWarning,
                stacklevel=3,
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
    laplacian = (transposed @ incidence).tocsc()[1:, 1:]
    if n > 1:
        solve = splu(
            laplacian, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        ).solve

    def majorise(x: FloatArray) -> tuple[FloatArray, float]:
        step = x[graph.j] - x[graph.i]
        norm = np.linalg.norm(step, axis=1)
        pull = step * (graph.lengths / np.maximum(norm, np.finfo(float).tiny))[:, None]
        new = np.zeros_like(x)
        new[1:] = solve((transposed @ pull)[1:])
        return new - new.mean(axis=0), float(((norm - graph.lengths) ** 2).sum())

    layout = layout - layout.mean(axis=0)
    moves: list[FloatArray] = []
    images: list[FloatArray] = []
    best = np.inf
    for step in range(MAX_STEPS):
        image, stress = majorise(layout)
        move = image - layout
        radius = float(np.sqrt((image**2).sum(axis=1).mean()))
        if np.abs(move).max() <= SETTLED * radius:
            return image, step + 1, True
        if stress > ALLOWED_GROWTH * best:
            moves, images = [], []
        best = min(best, stress)
        moves, images = [*moves, move.ravel()][-MEMORY - 1 :], [*images, image.ravel()][-MEMORY - 1 :]
        layout = _accelerated(moves, images).reshape(n, d)
    return majorise(layout)[0], MAX_STEPS, False


def _accelerated(moves: list[FloatArray], images: list[FloatArray]) -> FloatArray:
    """Anderson's combination of the last images, whose combined move is smallest."""
    if len(moves) == 1:
        return images[-1]
    move_steps = np.diff(np.array(moves), axis=0)
    image_steps = np.diff(np.array(images), axis=0)
    weights = np.linalg.lstsq(move_steps @ move_steps.T, move_steps @ moves[-1], rcond=1e-12)[0]
    combined: FloatArray = images[-1] - weights @ image_steps
    return combined


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
        average = 0.5 * (
            np.einsum("ed,edk->ek", from_i, frames[i]) - np.einsum("ed,edk->ek", from_j, frames[j])
        )
        frames = procrustes(
            np.einsum("ek,edk->ed", average, frames[i]), -np.einsum("ek,edk->ed", average, frames[j])
        )
    return frames


def _gradients(whitening: FloatArray, frames: FloatArray) -> FloatArray:
    """dy/dX_i = U_i Sigma_i Q_i = W_i Sigma_i^2 Q_i, (n, m, d)."""
    squared_stretches = 1.0 / (whitening**2).sum(axis=1)
    return np.ascontiguousarray(np.einsum("nmd,nd,ndk->nmk", whitening, squared_stretches, frames))

