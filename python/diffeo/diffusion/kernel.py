"""The sparse Mahalanobis kernel of an observation, assembled and gated by the core."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray, check_units, float_array, real
from diffeo._support.memory import memory_limit
from diffeo._support.progress import showing, stage
from diffeo._support.threads import thread_count, working
from diffeo._support.wording import rows_text
from diffeo.diffusion.bandwidth import EpsilonCurve, choose_epsilon, what_does_not_fit
from diffeo.observation.observation import Observation
from diffeo.observation.tree import build_tree

# Below this the exponent of the kernel overflows.
SMALLEST_EPSILON = 1e-290
# When the gates drop more than this share of the pairs within the radius, epsilon is large for the curvature.
MAX_GATED_SHARE = 0.25
# Bytes an entry takes while the kernel is assembled: column and value; what tasks hold beside it is small.
BYTES_PER_ENTRY = 12.0


@dataclass(frozen=True, eq=False)
class Kernel:
    """The kernel k_ij = exp(-q_ij / (4 epsilon)) of an observation, cut at `truncation` and gated.

    Rows are kept in tree order, which holds neighbours together in memory; `matrix` has the caller's order.

    Attributes
    ----------
    observation : Observation or ndarray
        What it was made from (an array: Euclidean distances).
    epsilon, truncation : float
    curve : EpsilonCurve or None
        How epsilon was chosen, when it was.
    indptr, indices, values : ndarray
        Compressed rows in tree order over the usable samples.
    rows : ndarray of int64
        The caller's row of each tree position.
    gated : ndarray of int32
        Pairs within the radius that the gates dropped, per tree position.
    n_gated : int
        The same over all samples, each pair once.
    """

    observation: Observation | FloatArray
    epsilon: float
    truncation: float
    curve: EpsilonCurve | None
    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: FloatArray
    rows: IntArray
    gated: NDArray[np.int32]
    n_gated: int
    _tree: list[core.MetricTree] = field(repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # The tree is rebuilt on demand: it is a compiled object, and cheap beside the kernel.
        return {name: value for name, value in self.__dict__.items() if name != "matrix"} | {"_tree": []}

    def __repr__(self) -> str:
        n = self.n_samples
        return (
            f"Kernel({n} samples, epsilon={self.epsilon:.3g}, {self.nnz / n:.0f} entries a row, {self.n_gated} gated)"
        )

    @property
    def points(self) -> FloatArray:
        """Measurements of all samples, (n, m)."""
        return self.observation.points if isinstance(self.observation, Observation) else self.observation

    @property
    def n_samples(self) -> int:
        """Number of samples, rank-deficient ones included."""
        return len(self.points)

    @property
    def nnz(self) -> int:
        """Stored entries, diagonal included."""
        return len(self.values)

    @property
    def gated_share(self) -> float:
        """Share of the pairs within the radius that the gates dropped."""
        pairs = (self.nnz - len(self.rows)) // 2
        return self.n_gated / max(1, pairs + self.n_gated)

    @cached_property
    def matrix(self) -> sp.csr_array:
        """The kernel in the caller's row order: symmetric, unit diagonal (alone in rank-deficient rows)."""
        n = self.n_samples
        indptr, indices, values = core.permute_rows(self.indptr, self.indices, self.values, self.rows, n, 0)
        matrix = sp.csr_array((values, indices, indptr), shape=(n, n))
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix

    def in_tree_order(self) -> sp.csr_array:
        """The kernel over the usable samples as SciPy sees it, sharing memory where index types allow."""
        n = len(self.rows)
        indptr = self.indptr.astype(np.int32) if self.nnz < 2**31 else self.indptr
        return sp.csr_array((self.values, self.indices, indptr), shape=(n, n))

    def tree(self) -> core.MetricTree:
        """The search tree (rebuilt after unpickling)."""
        if not self._tree:
            self._tree.append(build_tree(self.observation, 0))
        return self._tree[0]

    def cross(self, points: FloatArray, whitening: FloatArray | None, n_threads: int) -> sp.csr_array:
        """Kernel between new points and the samples, (count, n), columns in the caller's rows.

        One-sided (q from the samples' metric alone) unless `whitening` (count, m, dim) is given.
        """
        indptr, columns, values = self.tree().cross(self.epsilon, self.truncation, points, whitening, n_threads)
        if isinstance(self.observation, Observation):
            columns = self.observation.usable[columns]
        return sp.csr_array((values, columns, indptr), shape=(len(points), self.n_samples))

    @cached_property
    def component_labels(self) -> NDArray[np.int32]:
        """Connected piece of the graph that each tree position belongs to, (n,)."""
        labels: NDArray[np.int32] = core.connected_components(self.indptr, self.indices, self.values)
        return labels

    def component_sizes(self) -> IntArray:
        """Sizes of the connected pieces of the graph, largest first."""
        sizes: IntArray = np.sort(np.bincount(self.component_labels))[::-1].astype(np.int64)
        return sizes

    def pieces(self) -> list[IntArray]:
        """Rows of each connected component, the largest first."""
        order = np.argsort(-np.bincount(self.component_labels), kind="stable")
        return [np.sort(self.rows[self.component_labels == label]) for label in order]

    def stray_rows(self) -> IntArray:
        """The caller's rows outside of the largest piece, ascending."""
        largest = np.bincount(self.component_labels).argmax()
        return np.sort(self.rows[self.component_labels != largest])


def mahalanobis_kernel(
    observation: Observation | ArrayLike,
    *,
    epsilon: float | str = "auto",
    truncation: float = 1e-4,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Kernel:
    """Assemble the sparse Mahalanobis kernel of an observation.

    k_ij = exp(-q_ij / (4 epsilon)) with q_ij = (a_ij + a_ji) / 2 and a_ij = norm(W_i^T (y_j - y_i))^2 (Singer and
    Coifman 2008), for the pairs with k_ij >= truncation that pass the gates stated in `diffeo.reference`.

    Parameters
    ----------
    observation : Observation, or array_like of shape (n, m)
        An array gets the Euclidean metric.
    epsilon : float or "auto"
        Bandwidth, in squared input units. "auto" aims at a median row sum of 20, or 40 for d = 1: less for small samples,
        for more than 200,000, for samples on a grid, and while the gates drop more than 3 % of the pairs; up to twice as
        much where density varies. It does not depend on the order of the samples; the curve is kept in ``.curve``.
    truncation : float
        Smallest entry kept, between 0 and 1.
    n_jobs : int, optional
        Threads: None or -1 takes all that OpenMP gives. The result does not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Kernel
        With ``.matrix`` (scipy csr_array in the caller's order, symmetric, unit diagonal), ``.epsilon``, ``.n_gated``.

    Raises
    ------
    ParameterError
        Parameters outside of their range.
    MemoryLimitError
        The kernel would need more than half of the machine's memory (or ``DIFFEO_MEMORY_LIMIT`` bytes).

    Warns
    -----
    DuplicateWarning, CurvatureWarning, BandwidthWarning
        Samples with the same measurements; an epsilon too large for the curvature; no "auto" that fits: six dimensions
        or more, or rows that hold a third of 200 samples or more.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> kernel = diffeo.mahalanobis_kernel(np.random.default_rng(0).random((500, 2)))
    >>> kernel.matrix.shape
    (500, 500)
    """
    if not isinstance(observation, Observation):
        observation = float_array(observation, "points", 2, axes="(n, m)")
        check_units(observation, "points")
    truncation = real(truncation, "truncation", above=0.0, below=1.0)
    n_threads = thread_count(n_jobs)
    automatic = isinstance(epsilon, str)
    if automatic and epsilon != "auto":
        raise errors.ParameterError(f'epsilon must be a positive number or "auto", not {epsilon!r}')
    if not automatic:
        epsilon = real(epsilon, "epsilon", above=SMALLEST_EPSILON)
    curve = None
    with showing(verbose), working(n_jobs):
        tree = build_tree(observation, n_threads)
        if automatic:
            epsilon, curve, dim = choose_epsilon(tree, observation, truncation, n_threads)
        bandwidth = float(epsilon)
        _check_memory(tree, bandwidth, truncation, n_threads)
        with stage("kernel"):
            (indptr, indices, values), gated, n_gated, n_ones, finite = tree.assemble(bandwidth, truncation, n_threads)
    if not finite:
        raise errors.NonFiniteError(
            "squared distances overflow or vanish: the measurements (or their covariances) are too large or too small for "
            "double precision; rescale them"
        )
    rows = tree.order.astype(np.int64)
    if isinstance(observation, Observation):
        rows = observation.usable[rows]
    kernel = Kernel(observation, bandwidth, truncation, curve, indptr, indices, values, rows, gated, n_gated, [tree])
    if automatic:
        _warn_of_bandwidth(kernel, dim)
    if n_ones > 0:
        _warn_of_duplicates(kernel)
    _warn_of_curvature(kernel)
    return kernel


def automatic_epsilon(observation: Observation, n_jobs: int | None = None, truncation: float = 1e-4) -> float:
    """The bandwidth that epsilon="auto" chooses, without assembling the kernel."""
    n_threads = thread_count(n_jobs)
    return choose_epsilon(build_tree(observation, n_threads), observation, truncation, n_threads)[0]


def _check_memory(tree: core.MetricTree, epsilon: float, truncation: float, n_threads: int) -> None:
    """Estimate the number of entries from a few rows and refuse what would not fit."""
    limit = memory_limit()
    if BYTES_PER_ENTRY * tree.size**2 <= limit:  # even all pairs fit
        return
    probes = np.unique(np.linspace(0, tree.size - 1, min(tree.size, 64)).astype(np.int32))
    _, entries, _ = tree.row_statistics(epsilon, truncation, probes, n_threads)
    needed = float(entries.mean()) * tree.size * BYTES_PER_ENTRY
    if needed > limit:
        raise errors.MemoryLimitError(
            f"the kernel would have about {entries.mean():.0f} entries in each of {tree.size} rows and take "
            f"{needed / 2**30:.2f} GiB, above the limit of {limit / 2**30:.2f} GiB; lower epsilon, subsample, or set "
            "the environment variable DIFFEO_MEMORY_LIMIT (bytes)"
        )


def _warn_of_bandwidth(kernel: Kernel, dim: int) -> None:
    reason = what_does_not_fit(len(kernel.rows), dim, kernel.nnz / len(kernel.rows))
    if reason:
        errors.warn(
            f"no bandwidth fits: {reason}, so that none is small beside the domain and yet joins neighbours; what follows "
            "from the kernel is coarse, eigenvalues above all: more samples, or fewer dimensions",
            errors.BandwidthWarning,
        )


def _warn_of_duplicates(kernel: Kernel) -> None:
    """Entries of exactly 1 off the diagonal join samples that the kernel cannot tell apart."""
    ones = np.flatnonzero(kernel.values == 1.0)
    positions = np.searchsorted(kernel.indptr, ones, side="right") - 1
    rows, others = kernel.rows[positions], kernel.rows[kernel.indices[ones]]
    # A wide kernel rounds to 1 between distinct samples too.
    same = (rows != others) & (kernel.points[rows] == kernel.points[others]).all(axis=1)
    twins = np.unique(rows[same])
    if len(twins) == 0:
        return
    errors.warn(
        f"{len(twins)} samples have the same measurements as another one ({rows_text(twins)}); they count double in "
        "the density; remove repeated rows unless that is meant",
        errors.DuplicateWarning,
    )


def _warn_of_curvature(kernel: Kernel) -> None:
    share = kernel.gated_share
    if share <= MAX_GATED_SHARE:
        return
    order = np.argsort(-kernel.gated, kind="stable")[:5]
    errors.warn(
        f"{100 * share:.0f} % of the pairs within the kernel radius fail the gates, most of them around "
        f"{rows_text(kernel.rows[order])}: epsilon = {kernel.epsilon:.3g} is large for the curvature of the "
        "measurements, or they do not embed the input; use more samples, a smaller epsilon, or more neurons",
        errors.CurvatureWarning,
    )
