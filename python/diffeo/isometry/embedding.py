"""Coordinates isometric to the input domain: a neighbour graph with Mahalanobis lengths, laid out without distortion."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, RandomState, check_units, float_array, integer
from diffeo._support.memory import memory_limit
from diffeo._support.placed import Outside, Placed
from diffeo._support.progress import showing
from diffeo._support.threads import exact, thread_count, working
from diffeo._support.wording import percent, rows_text
from diffeo.isometry.graph import array_graph, joined, overlap, pieces, pieces_text
from diffeo.isometry.layout_search import unfold
from diffeo.isometry.stress import check_lengths, relative_stress, untangle
from diffeo.isometry.trust import DISTORTED, FEW_DIMENSIONS, LOOSE, TURNED, is_distorted, is_suspicious, too_many_strays
from diffeo.isometry.unfolding import Unfolding
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.curvature import SUGGESTED
from diffeo.observation.estimator_input import all_or_nothing, checked_input, of_one_fit
from diffeo.observation.observation import Observation

# Measurements nearer than this share of their range are the same sample again.
TWIN = 1e-12
# Edges from each sample, in up to three dimensions. With as few in six, layouts of 10,000 samples are soft: they take ten
# times the steps, and are twice as far off.
NEIGHBORS = 12


class IsometricEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Isometric coordinates of the input domain, recovered from an observation.

    Edges join each sample to its nearest others among the pairs that pass the gates and whose step stays in the span of
    both tangents; their lengths l_ij come from the derivatives at both ends. Graph distances to a few landmarks give a
    start (landmark multidimensional scaling: de Silva and Tenenbaum 2004), whose stress
    sum_edges w_ij (norm(X_i - X_j) - l_ij)^2 is then minimised by majorisation (de Leeuw 1977): each step solves one
    graph Laplacian, which is factored once, with Anderson acceleration (Anderson 1965). Above 5,000 samples one cycle
    of algebraic multigrid takes the place of the solution (smoothed aggregation: Vanek, Mandel and Brezina 1996), and
    above 30,000 the start is the layout of 15,000 of them, so that time and memory grow like the sample. Long thin
    domains, which creep, are finished by Gauss-Newton steps, preconditioned likewise. Only local lengths enter the
    stress, so that holes do no harm. The layout gives the derivatives of the measurements along its own coordinates,
    and these correct the lengths to the next order, for a second refinement that is more accurate by one to two orders
    of magnitude. In more than three dimensions, where neighbours are far apart, a polynomial of the whole layout takes the
    most part of the measurements, and only the rest is expanded along the edges (`diffeo.isometry.trend`).

    Where stress is left, local frames are synchronised and developed into a layout that needs no distances, which may
    close up around `periods_`; and the graph is searched anew among samples that are near in the layout, its edges
    weighed by how far they agree.

    An isometric chart exists for flat domains (an interval, a square, an annulus), and modulo periods for closed flat
    ones (a circle, a flat torus, a cylinder). For others (a sphere, a Moebius strip) `stress_` stays large, and a
    warning says so; use `DiffusionMap` there. Bursts are smoothed first (`diffeo.observation.burst_smoothing.smoothed`).

    Parameters
    ----------
    n_neighbors : int or "auto"
        Edges from each sample. "auto" takes 12, and 4 d where d > 3, as a neighbourhood must hold a layout in every direction.
    random_state : Any
        Not used: nothing here is random. Kept for the common interface.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars while fitting.

    Attributes
    ----------
    embedding_ : ndarray of shape (n, d)
        Coordinates X in input units, up to a rigid motion (centred where there are no periods).
    stress_ : float
        sqrt(sum (norm(X_i - X_j) - l_ij)^2 / sum l_ij^2) over the edges; below 1e-3 where all is well.
    misfit_ : ndarray of shape (n,)
        The same over the edges of each sample: where it is large, so is the doubt.
    jacobians_ : ndarray of shape (n, m, d)
        dy/dX, the derivatives of the measurements along the recovered coordinates.
    overlap_ : float
        Share of the samples whose nearest sample in `embedding_` is not near in the graph: 0 where the layout is one
        to one, about a half where it lies in two sheets (a circle flattened to a line).
    periods_ : ndarray of shape (k, d)
        On closed flat domains X and X + any sum of periods are the same place (a circle has k = 1, a torus k = 2),
        and `embedding_` lies in one cell; k = 0 elsewhere.
    loose_part_ : ndarray of shape (n,) and int64
        Of each sample, 0 where the rest holds it firmly, and k in the k-th part that few edges hold, as beyond a gap or a
        corridor: the lengths hardly tell how it is turned against the rest.
    looseness_ : ndarray of shape (k,)
        Relative error of `embedding_` that each such part may cause; 1 and more where it may be mirrored.
    moved_ : float
        Relative error of `embedding_` that the misfits may stand for, where the stress is suspicious; else 0.
    n_iter_ : int
        Steps of the refinement, all rounds together.
    converged_ : bool
        Whether its last round settled within the allowed steps.
    left_out_ : ndarray of int64
        Samples without full rank, outside of the largest piece of the graph, or equal to an earlier one; they are placed by
        `transform`.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (500, 2, 2)))
    >>> diffeo.IsometricEmbedding().fit(obs).embedding_.shape
    (500, 2)
    """

    def __init__(
        self,
        *,
        n_neighbors: int | str = "auto",
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_neighbors = n_neighbors
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X: Observation | ArrayLike, y: None = None) -> IsometricEmbedding:
        """Compute isometric coordinates.

        Parameters
        ----------
        X : Observation, or array_like of shape (n, m)
            An array gets the Euclidean metric: its coordinates are then those of the array, up to a motion. Of n rows n - 1
            coordinates hold everything: there are no more, however many columns.
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
            The graph of an observation falls into pieces of which none holds two thirds of the samples; its ``rows`` are
            those of each (pieces of an array are joined, with a warning).

        Warns
        -----
        DistortionWarning
            An observation has no isometric chart: `stress_` or `overlap_` stays above what its noise explains. Or a part
            of it is held loosely: `looseness_`.
        """
        auto = isinstance(self.n_neighbors, str) and self.n_neighbors == "auto"
        asked = None if auto else integer(self.n_neighbors, "n_neighbors", 1)
        with showing(self.verbose), working(self.n_jobs):
            observation, is_array = self._checked(X)
            n_neighbors = usual_neighbors(1 if is_array else observation.dim) if asked is None else asked
            self._fit(observation, is_array, n_neighbors)
        return self

    @all_or_nothing
    def fit_transform(self, X: Observation | ArrayLike, y: None = None) -> FloatArray:
        """Fit and return ``embedding_``, shape (n, d)."""
        return self.fit(X).embedding_

    @of_one_fit
    @exact
    def transform(self, X: Observation | ArrayLike) -> FloatArray:
        """Coordinates (count, d) of new measurements (count, m), by inverting the Hermite interpolant.

        All are finite; none is farther from the samples than five times their spacing.

        Warns
        -----
        OutOfDomainWarning
            Points off the measured manifold or outside of the sampled domain; its ``off_manifold`` has their rows.
        """
        return self._placed(X, thread_count(self.n_jobs)).said()

    def _placed(self, X: Observation | ArrayLike, n_threads: int) -> Placed:
        check_is_fitted(self)
        # Not as what is laid out: points as far away as numbers go have coordinates, too.
        checked = checked_input(self, X, reset=False)
        points = checked.points if isinstance(checked, Observation) else checked
        located = self._chart.locate(points, n_threads)
        return Placed(located.coordinates, Outside(len(located.coordinates), located.outside))

    @of_one_fit
    @exact
    def inverse_transform(self, X: ArrayLike) -> FloatArray:
        """Measurements (count, m) at coordinates (count, d), by Hermite interpolation (cubic, derivatives included).

        All are finite: outside of the sampled domain they are extrapolated linearly from the nearest sample.

        Warns
        -----
        OutOfDomainWarning
            Coordinates outside of the sampled domain; its ``off_manifold`` has their rows.
        """
        check_is_fitted(self)
        d = self.embedding_.shape[1]
        coordinates = float_array(X, "coordinates", 2, shape=(None, d), axes="(count, d)")
        return self._measured(coordinates, thread_count(self.n_jobs)).said()

    def _measured(self, coordinates: FloatArray, n_threads: int) -> Placed:
        beyond = np.flatnonzero(self._chart.outside(coordinates, n_threads))
        return Placed(self._chart.measurements(coordinates, n_threads), Outside(len(coordinates), beyond))

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

    def _checked(self, X: Any) -> tuple[Observation, bool]:
        """The observation, and whether it was made from a plain array (whose metric is the identity)."""
        checked = checked_input(self, X, reset=True)
        if isinstance(checked, Observation):
            return checked, False
        check_units(checked, "points")
        n, m = checked.shape
        d = min(m, max(n - 1, 1))
        if n * m * d * 8 > memory_limit():
            raise errors.MemoryLimitError(
                f"{m} columns have derivatives of {n} x {m} x {d} numbers, above the limit: the coordinates of an array are "
                "those of the array up to a motion, so reduce it first (by principal components), or set the environment "
                "variable DIFFEO_MEMORY_LIMIT (bytes)"
            )
        basis = np.eye(m) if d == m else np.linalg.svd(checked - checked.mean(axis=0), full_matrices=False)[2][:d].T
        none = np.empty(0, dtype=np.int64)
        return Observation(checked, np.broadcast_to(basis, (n, m, d)), np.ones((n, d)), d, none, "jacobians"), True

    def _fit(self, observation: Observation, is_array: bool, n_neighbors: int) -> None:
        n_threads = thread_count(self.n_jobs)
        if not is_array:
            observation = smoothed(observation, n_jobs=self.n_jobs)
        if len(observation.usable) < 2:
            raise errors.SampleSizeError(f"n_samples = {len(observation.usable)} of full rank; at least 2 are needed")
        whole, observation = observation, without_repeats(observation)
        if len(observation.usable) < 2:
            raise errors.SampleSizeError(f"n_samples = {len(whole)}, all of them at one point: nothing to lay out")
        if n_neighbors <= observation.dim and not is_array:
            raise errors.ParameterError(
                f"n_neighbors = {n_neighbors} leaves a layout in {observation.dim} dimensions loose; use at least "
                f"{observation.dim + 1}, better {usual_neighbors(observation.dim)}"
            )
        found = (
            self._array_layout(observation, n_neighbors, n_threads)
            if is_array
            else unfold(observation, n_neighbors, n_threads)
        )
        self.stress_, self.overlap_, self.periods_ = found.stress, found.overlap, found.periods
        self.n_iter_, self.converged_ = found.n_iter, found.settled
        suspicious = not is_array and is_suspicious(found.stress, observation.length_noise)
        self.moved_ = found.moved if suspicious else 0.0
        self._chart = found.chart(observation)
        self._rows = found.graph.rows  # of the nodes of the chart
        self._scatter(whole, found, n_threads)
        if not is_array:
            _warn_of_distortion(found, observation)
            apart = np.setdiff1d(observation.usable, found.graph.rows)
            if too_many_strays(len(apart), len(whole)):
                errors.warn(
                    f"{percent(len(apart) / len(whole))} of the samples ({rows_text(apart)}) hang together with the others by "
                    f"no edge, and were left out; {SUGGESTED}",
                    errors.DisconnectedWarning,
                )
            for said in loose_texts(self.loose_part_, self.looseness_):
                errors.warn(said, errors.DistortionWarning)

    def _array_layout(self, observation: Observation, n_neighbors: int, n_threads: int) -> Unfolding:
        """The coordinates of a plain array are those of the array: the refinement only confirms it."""
        graph = array_graph(observation.points, observation.usable, n_neighbors, n_threads)
        count, labels = pieces(graph)
        if count > 1:
            errors.warn(
                f"the neighbour graph falls into {pieces_text(labels)} samples; they are joined at their nearest samples",
                errors.DisconnectedWarning,
            )
            graph = joined(graph, observation.points[graph.rows], labels)
        check_lengths(graph.lengths)
        points = observation.points[graph.rows]
        # A wide array lies in the span of its differences.
        wide = observation.dim < points.shape[1]
        layout, steps, settled = untangle(graph, points @ observation.whitening[0] if wide else points)
        # It started where it ends, but for a shift: coordinates are the columns, and so are the derivatives.
        gradients = np.ascontiguousarray(observation.whitening[graph.rows])
        stress, overlapping = relative_stress(graph, layout), overlap(graph, layout)
        return Unfolding(graph, layout, gradients, stress, overlapping, steps, settled)

    def _scatter(self, observation: Observation, found: Unfolding, n_threads: int) -> None:
        """Results in the caller's order; samples outside of the graph are placed by extension."""
        n, d = len(observation), observation.dim
        graph, chart = found.graph, self._chart
        spread = np.linalg.norm(graph.steps(found.layout), axis=1) - graph.lengths
        ends = np.concatenate([graph.i, graph.j])
        size = np.bincount(ends, np.tile(graph.lengths**2, 2), minlength=len(graph.rows))
        off = np.bincount(ends, np.tile(spread**2, 2), minlength=len(graph.rows))
        self.misfit_ = np.full(n, np.inf)
        self.misfit_[graph.rows] = np.sqrt(off / np.maximum(size, np.finfo(float).tiny))
        self.embedding_ = np.empty((n, d))
        self.embedding_[graph.rows] = chart.nodes
        loose = [part for part in found.loose if part.doubt > LOOSE]
        self.loose_part_ = np.zeros(n, dtype=np.int64)
        self.looseness_ = np.array([part.doubt for part in loose])
        for number, part in enumerate(loose, 1):
            self.loose_part_[part.rows] = number
        self.jacobians_ = np.zeros((n, observation.points.shape[1], d))
        self.jacobians_[graph.rows] = chart.gradients
        left_out = np.ones(n, dtype=bool)
        left_out[graph.rows] = False
        self.left_out_ = np.flatnonzero(left_out)
        if len(self.left_out_):
            points = np.ascontiguousarray(observation.points[self.left_out_])
            self.embedding_[self.left_out_] = chart.locate(points, n_threads).coordinates


def usual_neighbors(dim: int) -> int:
    """Edges from each sample that hold a layout in so many dimensions, and hardly more."""
    return NEIGHBORS if dim <= FEW_DIMENSIONS else 4 * dim


def loose_texts(part: IntArray, looseness: FloatArray) -> list[str]:
    """What is to be said of parts that few edges hold, one sentence each."""
    texts = []
    for number, doubt in enumerate(looseness, 1):
        rows = np.flatnonzero(part == number)
        may = f"be turned by so much that coordinates are off by about {percent(doubt)}"
        texts.append(
            f"{percent(len(rows) / len(part))} of the samples ({rows_text(rows)}) hang on the others by a few edges only, as "
            f"behind a gap or a corridor: they may {'lie mirrored' if doubt >= TURNED else may}, and no length tells; add "
            f"samples in between: {SUGGESTED}"
        )
    return texts


def _warn_of_distortion(found: Unfolding, observation: Observation) -> None:
    """Say when the layout is not isometric to the domain, or not one to one."""
    if not is_distorted(found.stress, found.overlap, observation.length_noise):
        return
    errors.warn(
        f"no isometric chart: stress {found.stress:.2g} (below {DISTORTED:g} where there is one), "
        f"{100 * found.overlap:.0f} % of the samples lie on others that are not near them; either the domain is curved or "
        "closed up with a twist (use DiffusionMap), or the measurements do not embed it (add neurons), or bend too "
        f"sharply for this many samples (add some: {SUGGESTED}); misfit_ says where",
        errors.DistortionWarning,
    )


def without_repeats(observation: Observation) -> Observation:
    """Samples equal to an earlier one, metric included, are left out: a crowd of them would fill neighbourhoods."""
    rows = observation.usable
    points, whitening = observation.points[rows], observation.whitening
    # Equal up to the rounding of a matrix product.
    unit = np.maximum(TWIN * np.ptp(points, axis=0), 4.0 * np.finfo(float).eps * np.abs(points).max(axis=0))
    grid = np.round((points - points.mean(axis=0)) / np.maximum(unit, np.finfo(float).tiny))
    # Only rows with equal sums of their terms, which depend on nothing but the row, can be equal.
    sums = np.zeros(len(grid))
    for k, column in enumerate(grid.T):
        sums += np.cos(1.0 + k) * column
    order = np.argsort(sums, kind="stable")
    same = np.diff(sums[order]) == 0.0
    alike = np.sort(order[np.append(same, False) | np.append(False, same)])
    twin = np.arange(len(rows))
    if len(alike):
        _, first, place = np.unique(grid[alike], axis=0, return_index=True, return_inverse=True)
        twin[alike] = alike[first[place.ravel()]]
    repeats = np.flatnonzero(twin != np.arange(len(rows)))
    # Two sheets can cross in one point: the metrics, compared free of their gauge, tell.
    own, other = (whitening[i] @ whitening[i].transpose(0, 2, 1) for i in (rows[repeats], rows[twin[repeats]]))
    size = np.abs(other).max(axis=(1, 2), initial=0.0)
    repeats = rows[repeats[np.abs(own - other).max(axis=(1, 2), initial=0.0) <= 1e-6 * size]]
    if len(repeats) == 0:
        return observation
    errors.warn(
        f"{len(repeats)} samples repeat an earlier one ({rows_text(repeats)}); each is placed where the first one is",
        errors.DuplicateWarning,
    )
    return replace(observation, deficient=np.union1d(observation.deficient, repeats))
