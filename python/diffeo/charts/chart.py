"""One observation with intrinsic coordinates: measurements to coordinates, and back. Isometric, or of diffusion."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from diffeo import _core, errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import threads
from diffeo._support.wording import rows_text
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.diffusion.independent import IndependentCoordinates, independent_coordinates
from diffeo.isometry.embedding import IsometricEmbedding
from diffeo.isometry.periods import turns
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation

# Eigenvectors tried before the search for d independent coordinates gives up.
N_COMPONENTS = (10, 30, 80)
# Nodes of a local linear fit per coefficient.
NODES_PER_COEFFICIENT = 8
# Samples in small pieces of the graph, up to this share in all, are left out; more than that is an error.
STRAY_SHARE = 0.01


@dataclass(frozen=True, eq=False)
class DiffusionChart:
    """Diffusion coordinates: eigenvectors that are not harmonics of others.

    Attributes
    ----------
    observation : Observation
    diffusion_map : DiffusionMap
    selection : IndependentCoordinates
    coordinates : ndarray of shape (n, c)
        Of all samples.
    """

    observation: Observation
    diffusion_map: DiffusionMap
    selection: IndependentCoordinates
    coordinates: FloatArray

    def intrinsic(self, points: FloatArray, n_threads: int) -> FloatArray:
        """Intrinsic coordinates (count, c) of new measurements (count, m), by Nystroem extension."""
        extended: FloatArray = self.diffusion_map.transform(points) @ self.selection.mixing
        return extended[:, : self.coordinates.shape[1]]

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at intrinsic coordinates (count, c), by local linear fits to the samples.

        Eigenfunctions are flat at the border of the domain, so that measurements vary there like square roots and
        must not be extrapolated: a query farther from its nearest sample than that sample's own neighbour is first
        pulled back to that distance.
        """
        rows = self.diffusion_map.kernel_.rows
        nodes = np.ascontiguousarray(self.coordinates[rows])
        tree, workers = cKDTree(nodes), n_threads or -1
        k = min(len(nodes), NODES_PER_COEFFICIENT * (1 + self.observation.dim))
        distance, nearest = tree.query(coordinates, workers=workers)
        spacing = tree.query(nodes[nearest], 2, workers=workers)[0][:, 1]
        pull = np.minimum(1.0, spacing / np.maximum(distance, np.finfo(float).tiny))
        queries = np.ascontiguousarray(nodes[nearest] + (coordinates - nodes[nearest]) * pull[:, None])
        _, neighbors = tree.query(queries, k, workers=workers)
        neighbors = np.ascontiguousarray(neighbors.reshape(len(queries), k), dtype=np.int64)
        values = np.ascontiguousarray(self.observation.points[rows])
        return _core.local_polynomial_fit(queries, nodes, values, neighbors, 1, n_threads)

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates: there are no periods."""
        return coordinates

    def features(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates."""
        return coordinates


@dataclass(frozen=True, eq=False)
class IsometricChart:
    """Isometric coordinates, in input units.

    Attributes
    ----------
    observation : Observation
    embedding : IsometricEmbedding
    coordinates : ndarray of shape (n, d)
        Of all samples.
    """

    observation: Observation
    embedding: IsometricEmbedding
    coordinates: FloatArray

    def intrinsic(self, points: FloatArray, n_threads: int) -> FloatArray:
        """Intrinsic coordinates (count, d) of new measurements (count, m), by inverting the Hermite interpolant."""
        coordinates: FloatArray = self.embedding.transform(points)
        return coordinates

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at intrinsic coordinates (count, d), by Hermite interpolation."""
        return self.embedding.inverse_transform(coordinates)

    def strays(self, landmarks: Any, n_threads: int) -> IntArray:
        """Which landmarks, rows (L,) or measurements (L, m), are not on the measured manifold."""
        if landmarks.ndim == 1:
            return np.flatnonzero(np.isin(landmarks, self.embedding.left_out_))
        return self.embedding._chart.locate(landmarks, n_threads).outside

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates moved by periods into one cell."""
        return self.embedding._chart.wrapped(coordinates)

    def features(self, coordinates: FloatArray) -> FloatArray:
        """Coordinates as inputs of a regression: sine and cosine of what is periodic, the rest as it is."""
        periods = self.embedding.periods_
        if len(periods) == 0:
            return coordinates
        phase = 2.0 * np.pi * turns(coordinates, periods)
        rest = coordinates @ np.linalg.svd(periods)[2][len(periods) :].T
        return np.column_stack([np.cos(phase), np.sin(phase), rest])


@dataclass(frozen=True, eq=False)
class MeasuredChart:
    """No intrinsic coordinates: for an observation that has none, because it folds its domain or does not embed it.

    Attributes
    ----------
    observation : Observation
    coordinates : ndarray of shape (n, d)
        Leading principal components of the standardised measurements: to be looked at, no map uses them.
    """

    observation: Observation
    coordinates: FloatArray = field(init=False, repr=False)
    _centre: FloatArray = field(init=False, repr=False)
    _axes: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        points = self.observation.points
        centre, spread = points.mean(axis=0), points.std(axis=0)
        units = np.where(spread > 0.0, 1.0 / np.where(spread > 0.0, spread, 1.0), 0.0)
        axes = np.linalg.svd((points - centre) * units, full_matrices=False)[2][: self.observation.dim].T
        object.__setattr__(self, "_centre", centre)
        object.__setattr__(self, "_axes", units[:, None] * axes)
        object.__setattr__(self, "coordinates", self.intrinsic(points, 0))

    def intrinsic(self, points: FloatArray, n_threads: int) -> FloatArray:
        """Principal components (count, d) of measurements (count, m)."""
        coordinates: FloatArray = (points - self._centre) @ self._axes
        return coordinates

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) with these principal components, and none beside them."""
        return self._centre + coordinates @ np.linalg.pinv(self._axes)

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates: there are no periods."""
        return coordinates

    def features(self, coordinates: FloatArray) -> FloatArray:
        """None of the inputs of a regression, (count, 0): it has the measurements."""
        return np.empty((len(coordinates), 0))


Chart = DiffusionChart | IsometricChart | MeasuredChart


# What became of observations within one `charts_kept`, by their identity; they are kept, and so is their identity.
_kept: ContextVar[dict[int, tuple[Observation, IsometricChart | str]] | None] = ContextVar(
    "diffeo_charts", default=None
)


@contextmanager
def charts_kept() -> Iterator[None]:
    """Within, an observation that is matched again keeps its isometric chart, or the reason why it has none.

    Bursts are smoothed anew in each match, so smooth them before.
    """
    token = _kept.set({})
    try:
        yield
    finally:
        _kept.reset(token)


def isometric_chart(observation: Observation, name: str, n_jobs: int | None) -> IsometricChart:
    """Isometric coordinates of an observation (bursts are smoothed first); the error names the side."""
    kept = _kept.get()
    found = None if kept is None or id(observation) not in kept else kept[id(observation)][1]
    if found is None:
        try:
            found = _isometric_chart(observation, n_jobs)
        except errors.DisconnectedError as error:
            found = str(error)
        if kept is not None:
            kept[id(observation)] = observation, found
    if isinstance(found, str):
        raise errors.DisconnectedError(f"observation {name}: {found}")
    return found


def _isometric_chart(observation: Observation, n_jobs: int | None) -> IsometricChart:
    observation = smoothed(observation, n_jobs=n_jobs)
    with warnings.catch_warnings():
        # The diagnostics of the match say it.
        warnings.simplefilter("ignore", errors.DistortionWarning)
        fitted = IsometricEmbedding(n_jobs=n_jobs).fit(observation)
    return IsometricChart(observation, fitted, fitted.embedding_)


def diffusion_chart(
    observation: Observation, name: str, epsilon: float | str, seed_value: int, n_jobs: int | None
) -> DiffusionChart:
    """Diffusion coordinates of an observation, with enough eigenvectors for d independent ones."""
    fitted = _fit(observation, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
    if fitted.n_connected_components_ > 1:
        observation = _without_strays(fitted, observation, name)
        fitted = _fit(observation, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
        if fitted.n_connected_components_ > 1:
            raise errors.DisconnectedError(_pieces(fitted, name))
    # A closed domain of dimension d embeds in 2d coordinates, as the flat torus does.
    selection = independent_coordinates(fitted, 2 * observation.dim)
    for n_components in N_COMPONENTS[1:]:
        if selection.mixing.shape[1] >= observation.dim:
            break
        fitted = _fit(observation, name, n_components, fitted.epsilon_, seed_value, n_jobs)
        selection = independent_coordinates(fitted, 2 * observation.dim)
    if selection.mixing.shape[1] < observation.dim:
        errors.warn(
            f"only {selection.mixing.shape[1]} of {observation.dim} independent coordinates were found among "
            f"{fitted.embedding_.shape[1]} eigenvectors of observation {name}: the domain is very thin in some direction",
            errors.SpectrumWarning,
        )
    return DiffusionChart(observation, fitted, selection, fitted.embedding_ @ selection.mixing)


def common_coordinates(a: DiffusionChart, b: DiffusionChart) -> tuple[DiffusionChart, DiffusionChart]:
    """As many diffusion coordinates on both sides as the poorer one has."""
    c = min(a.coordinates.shape[1], b.coordinates.shape[1])
    if c == 0:
        raise errors.InputError("no eigenvector tells samples apart; the observation may be constant")
    return (
        replace(a, coordinates=np.ascontiguousarray(a.coordinates[:, :c])),
        replace(b, coordinates=np.ascontiguousarray(b.coordinates[:, :c])),
    )


def landmark_coordinates(chart: Chart, landmarks: Any, name: str, n_jobs: int | None) -> FloatArray:
    """Intrinsic coordinates (L, c) of landmarks given as rows (L,) or as measurements (L, m)."""
    if landmarks.ndim == 1:
        left_out = chart.embedding.left_out_ if isinstance(chart, IsometricChart) else chart.observation.deficient
        bad = np.intersect1d(landmarks, left_out)
        if len(bad):
            raise errors.LandmarkError(
                f"landmarks on side {name}: {rows_text(bad)} are rank-deficient or were left out of the graph; take others"
            )
        coordinates: FloatArray = chart.coordinates[landmarks]
        return coordinates
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", errors.OutOfDomainWarning)
        coordinates = chart.intrinsic(landmarks, threads(n_jobs))
    for warning in caught:
        if issubclass(warning.category, errors.OutOfDomainWarning):
            raise errors.LandmarkError(f"landmarks on side {name}: {warning.message}; remove these landmarks")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return coordinates


def _fit(
    obs: Observation, name: str, n_components: int, epsilon: float | str, seed_value: int, n_jobs: int | None
) -> DiffusionMap:
    # A block of eigenvectors must stay small beside the sample.
    asked = min(n_components, len(obs.usable) // 4)
    if asked <= obs.dim:
        raise errors.SampleSizeError(
            f"observation {name} has {len(obs.usable)} samples of full rank: too few to embed {obs.dim} dimensions"
        )
    with warnings.catch_warnings():
        # Pieces are handled by the caller, curvature by the diagnostics.
        warnings.simplefilter("ignore", errors.DisconnectedWarning)
        warnings.simplefilter("ignore", errors.CurvatureWarning)
        return DiffusionMap(n_components=asked, epsilon=epsilon, random_state=seed_value, n_jobs=n_jobs).fit(obs)


def _pieces(fitted: DiffusionMap, name: str) -> str:
    sizes = fitted.kernel_.component_sizes()
    return (
        f"the kernel graph of observation {name} falls into {len(sizes)} pieces of "
        f"{', '.join(map(str, sizes[:6]))}{', ...' if len(sizes) > 6 else ''} samples "
        f"({fitted.kernel_.n_gated} pairs failed the gates): the measurements fold or bend too sharply for this "
        "many samples, or do not cover the domain; add neurons, or samples"
    )


def _without_strays(fitted: DiffusionMap, obs: Observation, name: str) -> Observation:
    """The observation with the few samples outside of the largest piece of its graph marked as left out."""
    strays = fitted.kernel_.stray_rows()
    if len(strays) > STRAY_SHARE * len(obs):
        raise errors.DisconnectedError(_pieces(fitted, name) + f" (outside of the largest piece: {rows_text(strays)})")
    return replace(obs, deficient=np.union1d(obs.deficient, strays))
