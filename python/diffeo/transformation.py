"""The change of coordinates between two networks: measurements of A in, those of B out, and back."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.spatial import cKDTree

from diffeo import _core, errors
from diffeo._validation import FloatArray, float_array, index_array, rows_text, seed, threads
from diffeo.alignment import Alignment, align
from diffeo.diffusion_map import DiffusionMap
from diffeo.kernel import automatic_epsilon
from diffeo.observation import Observation
from diffeo.selection import IndependentCoordinates, independent_coordinates

if TYPE_CHECKING:
    import os

# Eigenvectors tried before the search for d independent coordinates gives up.
N_COMPONENTS = (10, 30, 80)
# Nodes of a local linear fit per coefficient.
NODES_PER_COEFFICIENT = 8
# Landmarks predicted from the others worse than this (relative to their spread) contradict each other.
CONTRADICTION = 0.15
# Generator eigenvalues of one domain agree within a few percent; beyond this factor the domains differ.
SPECTRUM_FACTOR = 1.25
# Share of gated pairs beyond which the measurements are suspected not to embed the input.
SUSPICIOUS_GATED_SHARE = 0.1
# Samples in small pieces of the graph, up to this share in all, are left out; more than that is an error.
STRAY_SHARE = 0.01
# A smallest singular value below this share of its median is a near-fold ...
NEAR_FOLD = 0.05
# ... and so many of the samples in one are a problem.
NEAR_FOLD_SHARE = 0.002


@dataclass(frozen=True, eq=False)
class Side:
    """One observation with its embedding.

    Attributes
    ----------
    observation : Observation
    diffusion_map : DiffusionMap
    selection : IndependentCoordinates
    coordinates : ndarray of shape (n, c)
        Intrinsic coordinates of all samples.
    """

    observation: Observation
    diffusion_map: DiffusionMap
    selection: IndependentCoordinates
    coordinates: FloatArray

    def intrinsic(self, points: FloatArray) -> FloatArray:
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


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """What is known of the trustworthiness of a transformation.

    Attributes
    ----------
    problems : list of str
        Each names what is suspected, where, and what to do; empty when nothing is.
    landmark_residual : float
        Relative misfit of the landmarks in B's coordinates, each predicted from the others where there are enough.
    generator_eigenvalues : tuple of ndarray
        Of A and of B, per squared input unit, nontrivial ones only.
    gated_share : tuple of float
        Share of the pairs within the kernel radius that the gates dropped, on A and on B.
    near_folds : tuple of ndarray of int64
        Samples of A and of B whose smallest stretch is below 5 % of its median.
    """

    problems: list[str]
    landmark_residual: float
    generator_eigenvalues: tuple[FloatArray, FloatArray]
    gated_share: tuple[float, float]
    near_folds: tuple[Any, Any]


@dataclass(frozen=True, eq=False)
class Transformation:
    """The map between two observations of one input domain; made by `diffeo.match`.

    Attributes
    ----------
    a, b : Side
        The two observations with their embeddings.
    alignment : Alignment
        From A's intrinsic coordinates to B's.
    candidates : list of Alignment
        All alignments that fit the landmarks equally well; the first is used.
    scale : float
        Unit of length of B over that of A, from the two spectra; 1 up to sampling for one common domain.
    diagnostics : Diagnostics
    """

    a: Side
    b: Side
    alignment: Alignment
    candidates: list[Alignment]
    scale: float
    diagnostics: Diagnostics
    n_jobs: int | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return (
            f"Transformation({self.a.observation.points.shape[1]} measurements of A <-> "
            f"{self.b.observation.points.shape[1]} of B, dim={self.a.observation.dim}, diffusion coordinates, "
            f"{len(self.diagnostics.problems)} problems)"
        )

    def transform(self, points_a: Any) -> FloatArray:
        """Measurements of B, (count, m_b), that belong to measurements of A, (count, m_a).

        Warns
        -----
        OutOfDomainWarning
            Points without a sample within the kernel radius.
        """
        y = float_array(points_a, "points_a", 2, shape=(None, self.a.observation.points.shape[1]), axes="(count, m_a)")
        return self.b.measurements(self.alignment.forward(self.a.intrinsic(y)), threads(self.n_jobs))

    def inverse_transform(self, points_b: Any) -> FloatArray:
        """Measurements of A, (count, m_a), that belong to measurements of B, (count, m_b)."""
        y = float_array(points_b, "points_b", 2, shape=(None, self.b.observation.points.shape[1]), axes="(count, m_b)")
        return self.a.measurements(self.alignment.backward(self.b.intrinsic(y)), threads(self.n_jobs))

    def intrinsic(self, points_a: Any) -> FloatArray:
        """Common intrinsic coordinates (count, c) of measurements of A: those of B's embedding."""
        y = float_array(points_a, "points_a", 2, shape=(None, self.a.observation.points.shape[1]), axes="(count, m_a)")
        return self.alignment.forward(self.a.intrinsic(y))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.storage import save_transformation

        save_transformation(self, path)


def match(
    obs_a: Observation,
    obs_b: Observation,
    *,
    landmarks: Any = None,
    coordinates: str = "auto",
    observables: Any = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
) -> Transformation:
    """Find the change of coordinates between two observations of one input domain.

    The method of Bertalan, Dietrich and Kevrekidis (arXiv 2007.05646): both observations are embedded by diffusion
    maps under their local Mahalanobis metrics, the embeddings are aligned by landmarks, and measurements are
    interpolated on the common coordinates.

    Parameters
    ----------
    obs_a, obs_b : Observation
        They need not share a single input, but their inputs must fill the same domain.
    landmarks : tuple of array_like (points_a (L, m_a), points_b (L, m_b)), or integer array_like of shape (L, 2)
        Measurements of L common inputs, or rows of `obs_a` and `obs_b` that belong together. At least as many as
        there are intrinsic coordinates: d for a domain with a border, more for closed ones (circle: 2).
    coordinates : {"auto", "diffusion"}
        Intrinsic coordinates; this version has diffusion coordinates only.
    observables : None
        Reserved; only None is accepted in this version.
    random_state : int, numpy generator or None
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives.

    Returns
    -------
    Transformation
        Look at ``.diagnostics.problems`` before use.

    Raises
    ------
    DisconnectedError
        A kernel graph falls into pieces; the message gives their sizes.
    DimensionMismatchError
        The observations have different intrinsic dimensions.
    LandmarkError
        Landmarks that are missing, too few, out of range, off the measured manifold or dependent.
    """
    _check_arguments(obs_a, obs_b, coordinates, observables)
    parsed = _parse_landmarks(landmarks, obs_a, obs_b)
    epsilon = max(automatic_epsilon(obs_a, n_jobs), automatic_epsilon(obs_b, n_jobs))
    seed_value = seed(random_state)
    a = _embed(obs_a, "A", epsilon if obs_a.known_unit and obs_b.known_unit else "auto", seed_value, n_jobs)
    b = _embed(obs_b, "B", epsilon if obs_a.known_unit and obs_b.known_unit else "auto", seed_value, n_jobs)
    a, b = _common_coordinates(a, b)
    at_a = _landmark_coordinates(a, parsed[0], "A")
    at_b = _landmark_coordinates(b, parsed[1], "B")
    alignment = align(at_a, at_b)
    lambda_a, lambda_b = (side.diffusion_map.generator_eigenvalues_[1:] for side in (a, b))
    shared = min(len(lambda_a), len(lambda_b))
    scale = float(np.exp(0.5 * np.mean(np.log(lambda_a[:shared] / lambda_b[:shared]))))
    diagnostics = _diagnose(a, b, alignment, lambda_a[:shared], lambda_b[:shared])
    return Transformation(a, b, alignment, [alignment], scale, diagnostics, n_jobs)


def _check_arguments(obs_a: Any, obs_b: Any, coordinates: str, observables: Any) -> None:
    for name, obs in (("obs_a", obs_a), ("obs_b", obs_b)):
        if not isinstance(obs, Observation):
            raise errors.DataTypeError(f"{name} must be a diffeo.Observation, not {type(obs).__name__}")
    if coordinates not in ("auto", "diffusion"):
        raise errors.ParameterError(f'coordinates must be "auto" or "diffusion" in this version, not {coordinates!r}')
    if observables is not None:
        raise errors.ParameterError("observables is not available in this version; pass landmarks")
    if obs_a.dim != obs_b.dim:
        raise errors.DimensionMismatchError(
            f"A has intrinsic dimension {obs_a.dim}, B has {obs_b.dim}: no invertible map joins them; give dim= to the "
            "observations if one was misjudged, or measure more neurons"
        )


def _parse_landmarks(landmarks: Any, obs_a: Observation, obs_b: Observation) -> tuple[Any, Any]:
    """Landmarks as two float arrays of points, or two integer arrays of rows."""
    if landmarks is None:
        raise errors.LandmarkError(
            "landmarks are needed: a few pairs of measurements (points_a, points_b) of common inputs, or an (L, 2) array "
            "of row numbers"
        )
    if isinstance(landmarks, (tuple, list)) and len(landmarks) == 2 and np.ndim(landmarks[0]) == 2:
        m_a, m_b = obs_a.points.shape[1], obs_b.points.shape[1]
        at_a = float_array(landmarks[0], "landmarks[0]", 2, shape=(None, m_a), axes="(L, m_a)")
        at_b = float_array(landmarks[1], "landmarks[1]", 2, shape=(len(at_a), m_b), axes="(L, m_b)")
        return at_a, at_b
    pairs = np.asarray(landmarks)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise errors.LandmarkError(
            f"landmarks has shape {pairs.shape}; expected (points_a (L, m_a), points_b (L, m_b)) or row numbers (L, 2)"
        )
    try:
        rows_a = index_array(pairs[:, 0], "landmarks[:, 0]", len(obs_a))
        rows_b = index_array(pairs[:, 1], "landmarks[:, 1]", len(obs_b))
    except errors.InputError as error:
        raise errors.LandmarkError(str(error)) from error
    return rows_a, rows_b


def _embed(obs: Observation, name: str, epsilon: float | str, seed_value: int, n_jobs: int | None) -> Side:
    """Diffusion map with enough eigenvectors for d independent coordinates."""
    fitted = _fit(obs, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
    if fitted.n_components_found_ > 1:
        obs = _without_strays(fitted, obs, name)
        fitted = _fit(obs, name, N_COMPONENTS[0], epsilon, seed_value, n_jobs)
        if fitted.n_components_found_ > 1:
            raise errors.DisconnectedError(_pieces(fitted, name))
    # A closed domain of dimension d embeds in 2d coordinates, as the flat torus does.
    selection = independent_coordinates(fitted, 2 * obs.dim)
    for n_components in N_COMPONENTS[1:]:
        if selection.mixing.shape[1] >= obs.dim:
            break
        fitted = _fit(obs, name, n_components, fitted.epsilon_, seed_value, n_jobs)
        selection = independent_coordinates(fitted, 2 * obs.dim)
    if selection.mixing.shape[1] < obs.dim:
        warnings.warn(
            f"only {selection.mixing.shape[1]} of {obs.dim} independent coordinates were found among "
            f"{fitted.embedding_.shape[1]} eigenvectors of observation {name}: the domain is very thin in some direction",
            errors.SpectrumWarning,
            stacklevel=3,
        )
    return Side(obs, fitted, selection, fitted.embedding_ @ selection.mixing)


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
        raise errors.DisconnectedError(_pieces(fitted, name))
    return replace(obs, deficient=np.union1d(obs.deficient, strays))


def _common_coordinates(a: Side, b: Side) -> tuple[Side, Side]:
    """As many coordinates on both sides as the poorer one has."""
    c = min(a.coordinates.shape[1], b.coordinates.shape[1])
    if c == 0:
        raise errors.InputError("no eigenvector tells samples apart; the observation may be constant")
    return (
        Side(a.observation, a.diffusion_map, a.selection, a.coordinates[:, :c]),
        Side(b.observation, b.diffusion_map, b.selection, b.coordinates[:, :c]),
    )


def _landmark_coordinates(side: Side, landmarks: Any, name: str) -> FloatArray:
    """Intrinsic coordinates of landmarks given as rows or as measurements."""
    if landmarks.ndim == 1:
        coordinates: FloatArray = side.coordinates[landmarks]
        return coordinates
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", errors.OutOfDomainWarning)
        coordinates = side.intrinsic(landmarks)
    for warning in caught:
        if issubclass(warning.category, errors.OutOfDomainWarning):
            raise errors.LandmarkError(f"landmarks on side {name}: {warning.message}; remove these landmarks")
        warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    return coordinates


def _diagnose(a: Side, b: Side, alignment: Alignment, lambda_a: FloatArray, lambda_b: FloatArray) -> Diagnostics:
    problems = []
    n_a, n_b = (int(side.selection.mixing.shape[1]) for side in (a, b))
    if n_a != n_b:
        problems.append(
            f"A has {n_a} independent coordinates and B has {n_b}: the two domains have different shapes or topologies; "
            "check that both inputs fill the same domain, and add neurons to the side that folds it"
        )
    misfit = alignment.left_out if np.isfinite(alignment.left_out) else alignment.residual
    if misfit > CONTRADICTION:
        problems.append(
            f"the landmarks miss their partners by {100 * misfit:.0f} % of their spread: no rigid motion joins the two "
            "embeddings; a side folds the domain, the inputs fill different domains, or landmarks are wrong"
        )
    first = min(6, len(lambda_a))
    ratio = np.abs(np.log(lambda_a[:first] / lambda_b[:first]))
    if ratio.max() > np.log(SPECTRUM_FACTOR):
        k = int(ratio.argmax())
        problems.append(
            f"the spectra differ: generator eigenvalue {k + 1} is {lambda_a[k]:.4g} on A and {lambda_b[k]:.4g} on B "
            "(per squared input unit); the two sides do not see the same domain in the same unit"
        )
    folds = []
    for name, side in (("A", a), ("B", b)):
        share = side.diffusion_map.kernel_.gated_share
        if share > SUSPICIOUS_GATED_SHARE:
            problems.append(
                f"on side {name} {100 * share:.0f} % of the near pairs fail the gates: the measurements bend sharply or "
                "cross themselves; add neurons, or samples"
            )
        rows = side.observation.deficient
        if len(rows):
            problems.append(
                f"on side {name} {len(rows)} samples are rank-deficient or have no neighbours that pass the gates "
                f"({rows_text(rows)}); they were left out of the graph: the measurements fold or bend sharply there"
            )
        rows = _near_folds(side.observation)
        folds.append(rows)
        if len(rows) > NEAR_FOLD_SHARE * len(side.observation):
            problems.append(
                f"on side {name} the Jacobian nearly vanishes in some direction at {len(rows)} samples "
                f"({rows_text(rows)}): the measurements fold there; add neurons that respond"
            )
    shares = (a.diffusion_map.kernel_.gated_share, b.diffusion_map.kernel_.gated_share)
    return Diagnostics(problems, misfit, (lambda_a, lambda_b), shares, (folds[0], folds[1]))


def _near_folds(obs: Observation) -> Any:
    smallest = obs.singular_values[:, obs.dim - 1]
    return np.flatnonzero(smallest < NEAR_FOLD * np.median(smallest))
