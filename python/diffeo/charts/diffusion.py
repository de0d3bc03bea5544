"""Diffusion coordinates of one observation, both ways: eigenvectors that are no harmonics, and local fits back."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray, reach_of
from diffeo._support.placed import Placed
from diffeo._support.point_tree import PointTree
from diffeo._support.wording import rows_text
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.diffusion.independent import IndependentCoordinates, independent_coordinates
from diffeo.isometry.trust import too_many_strays
from diffeo.observation.curvature import SUGGESTED
from diffeo.observation.observation import Observation

# Eigenvectors tried before the search for d independent coordinates gives up.
N_COMPONENTS = (10, 30, 80)


# Nodes of a local linear fit per coefficient.
NODES_PER_COEFFICIENT = 8
# Coordinates farther than this many spacings from their nearest sample are outside of the sampled domain.
OUTSIDE = 2.5
# Those that come from another side are themselves only right to this share of their spread.
DOUBT = 0.15


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

    def place(self, points: FloatArray, n_threads: int) -> Placed:
        """Intrinsic coordinates (count, c) of new measurements (count, m), by Nystroem extension."""
        extended, outside = self.diffusion_map._extend(points, None, n_threads)
        coordinates: FloatArray = extended @ self.selection.mixing
        return Placed(coordinates[:, : self.coordinates.shape[1]], outside)

    @property
    def left_out(self) -> IntArray:
        """Samples that are not in the graph, ascending."""
        return self.observation.deficient

    def measurements(self, coordinates: FloatArray, n_threads: int) -> FloatArray:
        """Measurements (count, m) at intrinsic coordinates (count, c), by local linear fits to the samples.

        Eigenfunctions are flat at the border of the domain, so that measurements vary there like square roots and
        must not be extrapolated: a query farther from its nearest sample than that sample's own neighbour is first
        pulled back to that distance. So measurements are finite however far away the coordinates are.
        """
        rows = self.diffusion_map.kernel_.rows
        nodes = np.ascontiguousarray(self.coordinates[rows])
        coordinates = reach_of(nodes).pulled(coordinates)
        tree, workers = PointTree(nodes), n_threads or -1
        k = min(len(nodes), NODES_PER_COEFFICIENT * (1 + self.observation.dim))
        distance, nearest = tree.query(coordinates, workers=workers)
        spacing = tree.query(nodes[nearest], 2, workers=workers)[0][:, 1]
        pull = np.minimum(1.0, spacing / np.maximum(distance, np.finfo(float).tiny))
        queries = np.ascontiguousarray(nodes[nearest] + (coordinates - nodes[nearest]) * pull[:, None])
        _, neighbors = tree.query(queries, k, workers=workers)
        neighbors = np.ascontiguousarray(neighbors.reshape(len(queries), k), dtype=np.int64)
        values = np.ascontiguousarray(self.observation.points[rows])
        fitted = core.local_polynomial_fit(queries, nodes, values, neighbors, 1, n_threads)
        lost = np.flatnonzero(~np.isfinite(fitted).all(axis=1))
        fitted[lost] = values[nearest[lost]]
        return fitted

    def outside(self, coordinates: FloatArray, n_threads: int, doubt: float = DOUBT) -> NDArray[np.bool_]:
        """Which intrinsic coordinates (count, c) lie outside of the sampled domain, by more than the doubt about them."""
        nodes = np.ascontiguousarray(self.coordinates[self.diffusion_map.kernel_.rows])
        tree, workers = PointTree(nodes), n_threads or -1
        distance, nearest = tree.query(reach_of(nodes).pulled(coordinates), workers=workers)
        k = min(len(nodes), NODES_PER_COEFFICIENT * (1 + self.observation.dim))
        spacing = 0.5 * tree.query(nodes[nearest], k, workers=workers)[0].reshape(len(nearest), k)[:, -1]
        spread = np.sqrt(((nodes - nodes.mean(axis=0)) ** 2).sum(axis=1).mean())
        beyond: NDArray[np.bool_] = distance > np.maximum(OUTSIDE * spacing, doubt * spread)
        return beyond

    def wrapped(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates: there are no periods."""
        return coordinates

    def features(self, coordinates: FloatArray) -> FloatArray:
        """The coordinates."""
        return coordinates


def diffusion_chart(
    observation: Observation, name: str, epsilon: float | str, seed_value: int, n_jobs: int | None
) -> DiffusionChart:
    """Diffusion coordinates of an observation, with enough eigenvectors for d independent ones; messages call it `name`."""
    fitted = _fit(observation, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
    if fitted.n_connected_components_ > 1:
        observation = _without_strays(fitted, observation, name)
        fitted = _fit(observation, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
        if fitted.n_connected_components_ > 1:
            raise errors.DisconnectedError(_pieces(fitted, name), fitted.kernel_.pieces())
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
            f"{fitted.embedding_.shape[1]} eigenvectors of {name}: the domain is very thin in some direction",
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


def _fit(
    obs: Observation, name: str, n_components: int, epsilon: float | str, seed_value: int, n_jobs: int | None
) -> DiffusionMap:
    # A block of eigenvectors must stay small beside the sample.
    asked = min(n_components, len(obs.usable) // 4)
    if asked <= obs.dim:
        raise errors.SampleSizeError(
            f"{name} has {len(obs.usable)} samples of full rank: too few to embed {obs.dim} dimensions"
        )
    # Pieces are handled by the caller, curvature by the diagnostics.
    with errors.unsaid(errors.DisconnectedWarning, errors.CurvatureWarning, errors.BandwidthWarning):
        return DiffusionMap(n_components=asked, epsilon=epsilon, random_state=seed_value, n_jobs=n_jobs).fit(obs)


def _pieces(fitted: DiffusionMap, name: str) -> str:
    sizes = fitted.kernel_.component_sizes()
    return (
        f"the kernel graph of {name} falls into {len(sizes)} pieces of "
        f"{', '.join(map(str, sizes[:6]))}{', ...' if len(sizes) > 6 else ''} samples "
        f"({fitted.kernel_.n_gated} pairs failed the gates): the measurements fold or bend too sharply for this "
        f"many samples, or do not cover the domain; add neurons, or samples: {SUGGESTED}"
    )


def _without_strays(fitted: DiffusionMap, obs: Observation, name: str) -> Observation:
    """The observation with the few samples outside of the largest piece of its graph marked as left out."""
    strays = fitted.kernel_.stray_rows()
    if too_many_strays(len(strays), len(obs)):
        said = _pieces(fitted, name) + f" (outside of the largest piece: {rows_text(strays)})"
        raise errors.DisconnectedError(said, fitted.kernel_.pieces())
    return replace(obs, deficient=np.union1d(obs.deficient, strays))
