"""Diffusion maps: leading eigenvectors of the normalised kernel, their extension, and the independent ones."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FAR, FloatArray, IntArray, RandomState, integer, reach_of, real, seed
from diffeo._support.memory import memory_limit
from diffeo._support.placed import Outside, Placed
from diffeo._support.point_tree import PointTree
from diffeo._support.progress import showing, stage
from diffeo._support.threads import exact, thread_count, working
from diffeo.diffusion.bandwidth import EpsilonCurve
from diffeo.diffusion.generator import generator_spectrum
from diffeo.diffusion.kernel import Kernel, mahalanobis_kernel
from diffeo.observation.estimator_input import all_or_nothing, checked_input, of_one_fit
from diffeo.observation.observation import Observation

# Iterations after which the block eigensolver gives up; it needs 10 to 30.
MAX_ITERATIONS = 300
# More components than one in this many samples are found by a dense solve.
DENSE_SHARE = 10
# A correlation with a measurement below this is at the level of sampling noise, and no base for a sign.
SIGN_CORRELATION = 0.1


class DiffusionMap(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Diffusion map under the local Mahalanobis metric of an observation.

    With K the kernel of `mahalanobis_kernel`, D_0 = diag(K 1), K_alpha = D_0^-alpha K D_0^-alpha and
    D = diag(K_alpha 1), the eigenvectors v_k of S = D^-1/2 K_alpha D^-1/2 give phi_k = D^-1/2 v_k (Coifman and Lafon
    2006). With alpha = 1, they and -log(lambda_k) / epsilon approximate the Neumann eigenfunctions and eigenvalues of minus
    the Laplacian of the input domain (Singer and Coifman 2008), whatever the network; with p the density of the inputs, in
    general of f -> -p^(2 alpha - 2) div(p^(2 - 2 alpha) grad f).

    The bandwidth, the unit diagonal and the border of the domain change -log(lambda_k) / epsilon by some per cent each. They
    change its eigenfunctions far less, and the energy of a function near an eigenfunction is right to second order, so that
    `generator_eigenvalues_` are Ritz values of that energy, sum w (grad f)^2 / sum w f^2, with gradients by local linear
    fits on the samples and weights w that measure the domain up to its border: `diffeo.reference.generator_spectrum`.

    Parameters
    ----------
    n_components : int
        Nontrivial eigenvectors; the trivial one is never counted.
    epsilon : float or "auto"
        Bandwidth, in squared input units; see `mahalanobis_kernel`.
    alpha : float
        Density exponent between 0 and 1; 1 removes the density of the sample.
    tol : float
        Bound on norm(S v_k - lambda_k v_k) for every pair.
    random_state : int, numpy generator or None
        Seed of the start block; None means 0, so results are always reproducible.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars while fitting.

    Attributes
    ----------
    eigenvalues_ : ndarray of shape (n_components + 1,)
        Descending; entry 0 is the trivial 1.
    eigenvectors_ : ndarray of shape (n, n_components + 1)
        Orthonormal eigenvectors of S over the samples of full rank (rows of deficient ones are zero).
    residuals_ : ndarray of shape (n_components + 1,)
        norm(S v_k - lambda_k v_k), each <= tol.
    embedding_ : ndarray of shape (n, n_components)
        phi_1, phi_2, ..., scaled so that sum D_i phi_ik^2 / sum D_i = 1, not multiplied by powers of lambda. Sign: the
        measurement most correlated with phi_k is positively correlated; where no correlation exceeds 0.1, the
        entry of largest absolute value is positive. Rank-deficient samples are placed by extension.
    generator_eigenvalues_ : ndarray of shape (n_components + 1,)
        Of minus the generator, ascending, per squared input unit; entry 0 is 0. Ritz values, see above; the plain ones
        where the eigenfunctions depend on each other.
    generator_errors_ : ndarray of shape (n_components + 1,)
        Expected error of each: nine in ten deviate by less. From the same at half of the bandwidth, and from sampling noise;
        where no bandwidth fits, from the plain ones too. Infinite where nothing can be said.
    generator_mixing_ : ndarray of shape (n_components, n_components)
        Coefficients of the Ritz functions in `embedding_`, columns of unit length: see `generator_functions_`.
    plain_generator_eigenvalues_ : ndarray of shape (n_components + 1,)
        -log(lambda_k) / epsilon, infinite where lambda_k <= 0.
    epsilon_ : float
    epsilon_curve_ : EpsilonCurve or None
    kernel_ : Kernel
    n_connected_components_ : int
        Connected pieces of the graph.
    n_iter_ : int
        Iterations of the eigensolver (0: dense, or known from the pieces of the graph).
    levels_ : ndarray of int64
        Samples of each level of the multigrid that preconditions the eigensolver, all of them first (alone: no multigrid).

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> X = np.random.default_rng(0).random((1000, 2))
    >>> diffeo.DiffusionMap(n_components=3).fit(X).embedding_.shape
    (1000, 3)
    """

    def __init__(
        self,
        *,
        n_components: int = 8,
        epsilon: float | str = "auto",
        alpha: float = 1.0,
        tol: float = 1e-8,
        random_state: RandomState = 0,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_components = n_components
        self.epsilon = epsilon
        self.alpha = alpha
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    @all_or_nothing
    def fit(self, X: Observation | ArrayLike, y: None = None) -> DiffusionMap:
        """Compute the diffusion map of an observation, or of plain points under the Euclidean metric.

        Parameters
        ----------
        X : Observation, or array_like of shape (n, m)
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        SampleSizeError
            Not more samples of full rank than components.
        ConvergenceError
            Some residual stayed above `tol`; the message lists them.

        Warns
        -----
        DisconnectedWarning
            The graph falls into pieces, so that the eigenvalue 1 is as many-fold.
        """
        n_components = integer(self.n_components, "n_components", 1)
        alpha = real(self.alpha, "alpha", at_least=0.0, at_most=1.0)
        tol = real(self.tol, "tol", above=0.0)
        start = seed(self.random_state)
        data = checked_input(self, X, reset=True)
        usable = len(data.usable) if isinstance(data, Observation) else len(data)
        if usable <= n_components:
            raise errors.SampleSizeError(
                f"n_components = {n_components} needs more than {n_components} samples of full rank, got n_samples = {usable}"
            )
        with showing(self.verbose), working(self.n_jobs):
            kernel = mahalanobis_kernel(data, epsilon=self.epsilon, n_jobs=self.n_jobs)
            self._solve(kernel, n_components, alpha, tol, start)
            self._measure_generator(kernel, alpha)
            self._embed(kernel)
        return self

    @all_or_nothing
    def fit_transform(self, X: Observation | ArrayLike, y: None = None) -> FloatArray:
        """Fit and return ``embedding_``, shape (n, n_components)."""
        return self.fit(X).embedding_

    @of_one_fit
    @exact
    def transform(self, X: Observation | ArrayLike) -> FloatArray:
        """Extend the embedding to new points (Nystroem).

        phi_k(y) = sum_j P(y, y_j) phi_k(y_j) / lambda_k with P the row-normalised K_alpha between y and the samples.

        Parameters
        ----------
        X : array_like of shape (count, m), or Observation
            Plain points have no metric of their own: q is one-sided, from the samples alone. An observation gives
            the two-sided q of the fit, and the samples of the fit their own embedding.

        Returns
        -------
        ndarray of shape (count, n_components)
            Finite, however far away the points are.

        Warns
        -----
        OutOfDomainWarning
            Points without a sample in the kernel's reach take the embedding of the nearest sample; its ``off_manifold``
            has their rows.
        """
        return self._transform(X, thread_count(self.n_jobs))

    def _transform(self, X: Observation | ArrayLike, n_threads: int) -> FloatArray:
        check_is_fitted(self)
        data = checked_input(self, X, reset=False)
        if not isinstance(data, Observation):
            return self._extend(data, None, n_threads).said()
        if isinstance(self.kernel_.observation, Observation) and data.dim != self.kernel_.observation.dim:
            raise errors.DimensionMismatchError(
                f"the observation has dim = {data.dim}, the fit had {self.kernel_.observation.dim}"
            )
        if not isinstance(self.kernel_.observation, Observation):
            return self._extend(data.points, None, n_threads).said()
        result = np.empty((len(data), self.embedding_.shape[1]))
        lost, notes = [], []
        for rows, whitening in (
            (data.usable, np.ascontiguousarray(data.whitening[data.usable])),
            (data.deficient, None),
        ):
            if len(rows):
                result[rows], outside = self._extend(data.points[rows], whitening, n_threads)
                lost.append(rows[outside.off_manifold])
                notes.append(outside.note)
        return Placed(
            result, Outside(len(data), np.sort(np.concatenate(lost)), note=", or ".join(filter(None, notes)))
        ).said()

    @property
    @of_one_fit
    def operator_(self) -> sp.csr_array:
        """S in the caller's row order, built on request (rank-deficient rows are empty)."""
        check_is_fitted(self)
        s = np.zeros(self.kernel_.n_samples)
        s[self.kernel_.rows] = self._scaling
        operator = self.kernel_.matrix.tocoo()
        operator.data = operator.data * (s[operator.row] * s[operator.col])
        return operator.tocsr()

    @property
    @of_one_fit
    def generator_functions_(self) -> FloatArray:
        """Ritz functions (n, n_components) of ``generator_eigenvalues_``, scaled like ``embedding_``.

        They are ``embedding_ @ generator_mixing_``: nearer to the Neumann eigenfunctions than the eigenvectors, which the
        border mixes with those of smaller eigenvalues.
        """
        check_is_fitted(self)
        return self.embedding_ @ self.generator_mixing_

    @property
    def _n_features_out(self) -> int:
        return int(self.embedding_.shape[1])

    def _solve(self, kernel: Kernel, n_components: int, alpha: float, tol: float, start: int) -> None:
        n_threads = thread_count(self.n_jobs)
        sizes = kernel.component_sizes()
        self.n_connected_components_ = len(sizes)
        if len(sizes) > 1:
            errors.warn(
                f"the kernel graph falls into {len(sizes)} pieces of {', '.join(map(str, sizes[:6]))}"
                f"{', ...' if len(sizes) > 6 else ''} samples: the eigenvalue 1 is {len(sizes)}-fold and the leading "
                "eigenvectors only tell the pieces apart; use a larger epsilon or more samples",
                errors.DisconnectedWarning,
            )
        _check_dense_memory(len(kernel.rows), n_components)
        arrays = (kernel.indptr, kernel.indices, kernel.values)
        with stage("eigenpairs"):
            density, degree, scaling = core.normalise(*arrays, alpha, n_threads)
            values, vectors, residuals, iterations, _, converged, levels = core.leading_eigenpairs(
                *arrays,
                scaling,
                np.sqrt(degree),
                n_components + 1,
                tol,
                MAX_ITERATIONS,
                start,
                n_threads,
                kernel.tree(),
                kernel.epsilon,
                kernel.truncation,
                alpha,
            )
        if not converged:
            raise errors.ConvergenceError(
                f"the eigensolver stopped after {iterations} iterations with residuals "
                f"{np.array2string(residuals, precision=2)} above tol = {tol:g}; raise tol or epsilon"
            )
        vectors = _trivial_first(vectors, np.sqrt(degree), min(len(sizes), n_components + 1))
        self.kernel_ = kernel
        self.epsilon_ = kernel.epsilon
        self.epsilon_curve_: EpsilonCurve | None = kernel.curve
        self.eigenvalues_: FloatArray = values
        self.residuals_: FloatArray = residuals
        # Eigenvalues may exceed 1 by rounding; the truncated kernel can have tiny negative ones, whose logarithm
        # does not exist: they stand for infinitely fast decay.
        with np.errstate(divide="ignore"):
            self.plain_generator_eigenvalues_: FloatArray = -np.log(np.clip(values, 0.0, 1.0)) / kernel.epsilon
        self.n_iter_ = int(iterations)
        self.levels_: IntArray = levels
        self._vectors, self._degree, self._scaling = vectors, degree, scaling
        self._weights = density**-alpha

    def _measure_generator(self, kernel: Kernel, alpha: float) -> None:
        """Eigenvalues of the generator by the energy of its eigenfunctions, instead of by those of the kernel."""
        plain = self.plain_generator_eigenvalues_
        functions = np.ascontiguousarray(self._vectors[:, 1:] * np.sqrt(self._degree.sum() / self._degree)[:, None])
        with stage("generator"):
            found = generator_spectrum(kernel, functions, plain[1:], alpha, thread_count(self.n_jobs))
        self.generator_eigenvalues_: FloatArray = np.concatenate([[0.0], found.values])
        self.generator_errors_: FloatArray = np.concatenate([[0.0], found.errors])
        self.generator_mixing_: FloatArray = found.mixing

    def _embed(self, kernel: Kernel) -> None:
        """Scatter to the caller's rows, scale, fix signs, and place rank-deficient samples."""
        n = kernel.n_samples
        phi = self._vectors / np.sqrt(self._degree)[:, None] * np.sqrt(self._degree.sum())
        signs = _signs(phi, kernel.points[kernel.rows], self._degree)
        mixing = signs[1:, None] * self.generator_mixing_
        strongest = np.abs(mixing).argmax(axis=0)
        self.generator_mixing_ = mixing * np.sign(mixing[strongest, np.arange(mixing.shape[1])])
        self.eigenvectors_ = np.zeros((n, phi.shape[1]))
        self.eigenvectors_[kernel.rows] = self._vectors * signs
        self.embedding_ = np.zeros((n, phi.shape[1] - 1))
        self.embedding_[kernel.rows] = (phi * signs)[:, 1:]
        self._sample_weights = np.zeros(n)
        self._sample_weights[kernel.rows] = self._weights
        del self._vectors
        left_out = np.ones(n, dtype=bool)
        left_out[kernel.rows] = False
        missing = np.flatnonzero(left_out)
        if len(missing):
            points = np.ascontiguousarray(kernel.points[missing])
            placed = self._extend(points, None, thread_count(self.n_jobs))
            outside = Outside(n, missing[placed.outside.off_manifold], note=placed.outside.note)
            self.embedding_[missing] = placed._replace(outside=outside).said()

    def _extend(self, points: FloatArray, whitening: FloatArray | None, n_threads: int) -> Placed:
        """Nystroem extension."""
        samples = self.kernel_.points[self.kernel_.rows]
        given, points = points, reach_of(samples).pulled(points)
        rows = self.kernel_.cross(points, whitening, n_threads)
        # The factor p(y)^-alpha of the new point cancels when its row is normalised.
        weighted = rows @ np.column_stack([self._sample_weights[:, None] * self.embedding_, self._sample_weights])
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            extended: FloatArray = weighted[:, :-1] / weighted[:, -1:] / self.eigenvalues_[1:]
        # Those without a sample in reach divide by nothing, as do all by an eigenvalue of zero.
        lost = np.flatnonzero((np.diff(rows.indptr) == 0) | ~np.isfinite(extended).all(axis=1))
        if len(lost) == 0:
            return Placed(extended)
        distance, nearest = PointTree(samples).query(points[lost], workers=n_threads or -1)
        extended[lost] = self.embedding_[self.kernel_.rows[nearest]]
        away = f"{distance.max():.3g}" if points is given else f"more than {FAR:g} times the extent of the samples"
        note = f"no sample is within the kernel radius, the nearest up to {away} away"
        return Placed(extended, Outside(len(points), lost, note=note))


def _check_dense_memory(n: int, n_components: int) -> None:
    """Many eigenvectors beside the sample are found densely, with three n-by-n arrays: refuse what would not fit."""
    needed = 24 * n * n
    if DENSE_SHARE * n_components > n and needed > memory_limit():
        raise errors.MemoryLimitError(
            f"{n_components} eigenvectors of {n} samples need a dense solve of {needed / 2**30:.1f} GiB, above the limit "
            f"of {memory_limit() / 2**30:.2f} GiB; ask for fewer components (up to {n // DENSE_SHARE})"
        )


def _trivial_first(vectors: FloatArray, trivial: FloatArray, multiplicity: int) -> FloatArray:
    """Rotate the eigenspace of the eigenvalue 1, as many-fold as the graph has pieces, so that sqrt(D) comes first."""
    if multiplicity == 1:
        return vectors
    components = vectors[:, :multiplicity].T @ trivial
    basis = np.linalg.qr(np.column_stack([components, np.eye(multiplicity)]))[0]
    return np.column_stack([vectors[:, :multiplicity] @ basis, vectors[:, multiplicity:]])


def _signs(phi: FloatArray, points: FloatArray, degree: FloatArray) -> FloatArray:
    """Sign of each eigenfunction by the stated rule: see `DiffusionMap`, ``embedding_``."""
    weights = degree / degree.sum()
    centred = points - weights @ points
    spread = np.sqrt(weights @ centred**2)
    centred = centred / np.where(spread > 0, spread, 1.0)
    signs = np.ones(phi.shape[1])
    for k in range(phi.shape[1]):
        correlation = (weights * phi[:, k]) @ centred
        strongest = int(np.argmax(np.abs(correlation)))
        if k > 0 and abs(correlation[strongest]) > SIGN_CORRELATION:
            signs[k] = np.sign(correlation[strongest])
        else:
            # Rounding must not choose between entries of equal size: the first within 1e-6 decides.
            size = np.abs(phi[:, k])
            signs[k] = np.sign(phi[np.argmax(size >= (1.0 - 1e-6) * size.max()), k])
    return signs
