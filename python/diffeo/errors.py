"""Every error and warning that diffeo raises; each error is also the built-in that fits."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BandwidthWarning",
    "CaptureError",
    "ConstantNeuronWarning",
    "ConvergenceError",
    "CurvatureWarning",
    "DataTypeError",
    "DiffeoError",
    "DiffeoWarning",
    "DimensionMismatchError",
    "DisconnectedError",
    "DisconnectedWarning",
    "DomainMismatchError",
    "DuplicateWarning",
    "ForwardModeWarning",
    "InputError",
    "LandmarkError",
    "LayerError",
    "MemoryLimitError",
    "MissingDependencyError",
    "NonFiniteError",
    "NotInvertibleError",
    "OutOfDomainWarning",
    "ParameterError",
    "PiecewiseLinearWarning",
    "PrecisionWarning",
    "RankError",
    "RankWarning",
    "SampleSizeError",
    "ShapeError",
    "SpectrumWarning",
    "StorageError",
    "WorkerError",
]


class DiffeoError(Exception):
    """Base of every error that diffeo raises on purpose."""


class InputError(DiffeoError, ValueError):
    """Data that cannot be used as it is."""


class ShapeError(InputError):
    """An array has the wrong number of axes, or axes that do not fit each other."""


class NonFiniteError(InputError):
    """An array holds NaN or infinity; the message says in which rows."""


class DataTypeError(DiffeoError, TypeError):
    """An object of a type, or an array of a dtype, that would lose information."""


class ParameterError(DiffeoError, ValueError):
    """A parameter is outside of its range."""


class SampleSizeError(InputError):
    """Fewer samples (or burst members, or neighbours) than the computation needs."""


class RankError(InputError):
    """Local covariances of too many samples have a rank below the intrinsic dimension."""


class DisconnectedError(InputError):
    """A neighbour or kernel graph falls into pieces, so that no common coordinates exist.

    Attributes
    ----------
    rows : list of ndarray of int64
        Rows of the samples in each piece, the largest first; empty where they are not known.
    """

    def __init__(self, message: str = "", rows: Iterable[ArrayLike] = ()) -> None:
        super().__init__(message)
        self.rows: list[NDArray[np.int64]] = [np.array(piece, dtype=np.int64) for piece in rows]


class DimensionMismatchError(InputError):
    """Two observations have intrinsic dimensions that the requested map cannot join."""


class DomainMismatchError(InputError):
    """Two observations fill domains of different size, shape or topology, so that no rigid motion joins them."""


class NotInvertibleError(DiffeoError, RuntimeError):
    """A map that loses dimensions has no inverse."""


class LandmarkError(InputError):
    """Landmarks that are too few, out of range, or that do not determine the alignment."""


class UnrelatedLandmarksError(LandmarkError):
    """Landmarks of which fewer than half agree, as where the rows of one side are shifted, or in another order."""


class LayerError(DiffeoError, LookupError):
    """A layer name matches no module; the message lists close names."""


class CaptureError(DiffeoError, RuntimeError):
    """A network could not be evaluated or differentiated as asked."""


class ConvergenceError(DiffeoError, RuntimeError):
    """An iteration stopped before its residuals fell below the tolerance."""


# MemoryError first: what makes errors again from their class (on a cluster) asks for its __new__, which takes no other base.
class MemoryLimitError(MemoryError, DiffeoError):
    """A result would take more memory than the limit; nothing was allocated."""


class MissingDependencyError(DiffeoError, ImportError):
    """An optional package is needed; the message says how to install it."""


class StorageError(DiffeoError, OSError):
    """A file cannot be written, or is damaged, foreign or of an unknown version."""


class WorkerError(DiffeoError, RuntimeError):
    """Workers of a cluster, or processes, ended before any of their tasks did."""


class DiffeoWarning(UserWarning):
    """Base of every warning that diffeo emits."""


class DisconnectedWarning(DiffeoWarning):
    """The kernel graph falls into pieces; the eigenvalue 1 is as many-fold."""


class DuplicateWarning(DiffeoWarning):
    """Several samples have the same measurements."""


class RankWarning(DiffeoWarning):
    """A few samples have rank-deficient local covariances and are left out of the graph."""


class ConstantNeuronWarning(DiffeoWarning):
    """Some measured neurons do not vary over the sample."""


class BandwidthWarning(DiffeoWarning):
    """No bandwidth is small beside the domain and yet joins neighbours: too few samples for so many dimensions."""


class CurvatureWarning(DiffeoWarning):
    """Many pairs within the kernel radius fail the gates: epsilon is large for the curvature."""


class OutOfDomainWarning(DiffeoWarning):
    """New points lie off the measured manifold or outside of the samples, or their partners do; one warning a call.

    Results there are finite, but extrapolated, or those of the nearest sample.

    Attributes
    ----------
    off_manifold : ndarray of int64
        Rows of the call's argument that lie off the manifold on which they were measured, or outside of its sampled domain.
    no_counterpart : ndarray of int64
        Rows that do not, but whose partners lie outside of the samples of the other side.
    """

    def __init__(self, message: str = "", off_manifold: ArrayLike = (), no_counterpart: ArrayLike = ()) -> None:
        super().__init__(message)
        self.off_manifold: NDArray[np.int64] = np.array(off_manifold, dtype=np.int64)
        self.no_counterpart: NDArray[np.int64] = np.array(no_counterpart, dtype=np.int64)

    @property
    def rows(self) -> NDArray[np.int64]:
        """All of them, ascending."""
        return np.union1d(self.off_manifold, self.no_counterpart)


class PiecewiseLinearWarning(DiffeoWarning):
    """The network has piecewise-linear units, whose Jacobians jump between linear pieces."""


class PrecisionWarning(DiffeoWarning):
    """The network computes in half precision, of two to three digits."""


class ForwardModeWarning(DiffeoWarning):
    """Forward mode fails, or contradicts the network; reverse mode was used instead, or central differences."""


class DistortionWarning(DiffeoWarning):
    """No layout keeps the distances between neighbours: coordinates are distorted, or lie in sheets."""


class SpectrumWarning(DiffeoWarning):
    """The spectrum does not allow what was asked (e.g. too few independent eigenvectors)."""


_unsaid: ContextVar[tuple[type[DiffeoWarning], ...]] = ContextVar("diffeo_unsaid", default=())


@contextmanager
def unsaid(*categories: type[DiffeoWarning]) -> Iterator[None]:
    """Within, in this thread, warnings of these categories are not given: their facts are said in another way.

    Filters of the module `warnings` belong to the process, and other threads, so that none is changed.
    """
    token = _unsaid.set((*_unsaid.get(), *categories))
    try:
        yield
    finally:
        _unsaid.reset(token)


def warn(message: str, category: type[DiffeoWarning]) -> None:
    """Warn at the line that called into diffeo, however deep inside the reason was found."""
    give(category(message))


def give(warning: DiffeoWarning) -> None:
    """As `warn`, of a warning that knows more than its message."""
    if isinstance(warning, _unsaid.get()):
        return
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").startswith("diffeo."):
        level, frame = level + 1, frame.f_back
    warnings.warn(warning, stacklevel=level)
