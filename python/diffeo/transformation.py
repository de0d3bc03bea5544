"""The change of coordinates between two networks: measurements of A in, those of B out, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from diffeo import errors
from diffeo._validation import FloatArray, float_array, index_array, seed, threads
from diffeo.alignment import Alignment, align_diffusion, align_isometric
from diffeo.charts import (
    Chart,
    IsometricChart,
    common_coordinates,
    diffusion_chart,
    isometric_chart,
    landmark_coordinates,
)
from diffeo.diagnostics import Diagnostics, diagnose_diffusion, diagnose_isometric, spectral_scale
from diffeo.kernel import automatic_epsilon
from diffeo.observation import Observation

if TYPE_CHECKING:
    import os

# Beyond this relative stress no isometric chart exists, and coordinates="auto" takes diffusion coordinates.
NOT_ISOMETRIC = 0.05
# A layout in which more than this share of the samples lies on another sheet is not one to one: the domain is closed.
TWO_SHEETS = 0.1


@dataclass(frozen=True, eq=False)
class Transformation:
    """The map between two observations of one input domain; made by `diffeo.match`.

    Attributes
    ----------
    a, b : IsometricChart or DiffusionChart
        The two observations with their intrinsic coordinates.
    alignment : Alignment
        From A's intrinsic coordinates to B's.
    candidates : list of Alignment
        All alignments that fit the landmarks equally well; the first is used.
    scale : float
        Unit of length of B over that of A: 1 up to sampling for one common domain.
    diagnostics : Diagnostics
    """

    a: Chart
    b: Chart
    alignment: Alignment
    candidates: list[Alignment]
    scale: float
    diagnostics: Diagnostics
    n_jobs: int | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return (
            f"Transformation({self.a.observation.points.shape[1]} measurements of A <-> "
            f"{self.b.observation.points.shape[1]} of B, dim={self.a.observation.dim}, {self.coordinates} coordinates, "
            f"{len(self.diagnostics.problems)} problems)"
        )

    @property
    def coordinates(self) -> str:
        """Which intrinsic coordinates the charts have: isometric or diffusion."""
        return "isometric" if isinstance(self.a, IsometricChart) else "diffusion"

    def transform(self, points_a: Any) -> FloatArray:
        """Measurements of B, (count, m_b), that belong to measurements of A, (count, m_a).

        Warns
        -----
        OutOfDomainWarning
            Points off A's measured manifold or outside of its sampled domain.
        """
        return self.b.measurements(self.intrinsic(points_a), threads(self.n_jobs))

    def inverse_transform(self, points_b: Any) -> FloatArray:
        """Measurements of A, (count, m_a), that belong to measurements of B, (count, m_b)."""
        y = float_array(points_b, "points_b", 2, shape=(None, self.b.observation.points.shape[1]), axes="(count, m_b)")
        n_threads = threads(self.n_jobs)
        return self.a.measurements(self.alignment.backward(self.b.intrinsic(y, n_threads)), n_threads)

    def intrinsic(self, points_a: Any) -> FloatArray:
        """Common intrinsic coordinates (count, c) of measurements of A: those of B's embedding."""
        y = float_array(points_a, "points_a", 2, shape=(None, self.a.observation.points.shape[1]), axes="(count, m_a)")
        return self.alignment.forward(self.a.intrinsic(y, threads(self.n_jobs)))

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

    Both observations are given intrinsic coordinates from their local Mahalanobis metrics, landmarks align the two,
    and measurements are interpolated on the common coordinates. With diffusion coordinates this is the method of
    Bertalan, Dietrich and Kevrekidis (arXiv 2007.05646); isometric coordinates are far more accurate where they exist.

    Parameters
    ----------
    obs_a, obs_b : Observation
        They need not share a single input, but their inputs must fill the same domain.
    landmarks : tuple of array_like (points_a (L, m_a), points_b (L, m_b)), or integer array_like of shape (L, 2)
        Measurements of L common inputs, or rows of `obs_a` and `obs_b` that belong together. d + 1 or more for
        isometric coordinates, as many as there are coordinates for diffusion ones.
    coordinates : {"auto", "isometric", "diffusion"}
        "auto" takes isometric coordinates unless a domain is closed or curved, or its graph falls into pieces.
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
        A neighbour graph falls into pieces; the message gives their sizes.
    DimensionMismatchError
        The observations have different intrinsic dimensions.
    LandmarkError
        Landmarks that are missing, too few, out of range, off the measured manifold or dependent.
    """
    _check_arguments(obs_a, obs_b, coordinates, observables)
    parsed = _parse_landmarks(landmarks, obs_a, obs_b)
    seed_value = seed(random_state)
    if coordinates == "diffusion":
        return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs)
    try:
        a, b = isometric_chart(obs_a, "A", n_jobs), isometric_chart(obs_b, "B", n_jobs)
    except errors.DisconnectedError as error:
        if coordinates == "isometric":
            raise
        return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs, [f"no isometric coordinates: {error}"])
    if coordinates == "auto" and not all(_is_chart(side) for side in (a, b)):
        return _match_diffusion(obs_a, obs_b, parsed, seed_value, n_jobs, _no_chart(a, b))
    known_unit = obs_a.known_unit and obs_b.known_unit
    at_a = landmark_coordinates(a, parsed[0], "A", n_jobs)
    at_b = landmark_coordinates(b, parsed[1], "B", n_jobs)
    alignment = align_isometric(at_a, at_b, known_unit=known_unit)
    diagnostics = diagnose_isometric(a, b, alignment, at_b, known_unit)
    return Transformation(a, b, alignment, [alignment], alignment.scale, diagnostics, n_jobs)


def _is_chart(side: IsometricChart) -> bool:
    """Whether the layout keeps lengths and is one to one."""
    return side.embedding.stress_ <= NOT_ISOMETRIC and side.embedding.overlap_ <= TWO_SHEETS


def _no_chart(a: IsometricChart, b: IsometricChart) -> list[str]:
    """Why diffusion coordinates were taken, unless the domain is simply closed."""
    return [
        f"side {name} has no isometric coordinates (relative stress {side.embedding.stress_:.3f}): noise, a curved domain, "
        "neurons that do not embed, or a thin domain whose layout was caught on the way; diffusion coordinates were "
        "taken, which are right to a few percent at best"
        for name, side in (("A", a), ("B", b))
        if side.embedding.stress_ > NOT_ISOMETRIC and side.embedding.overlap_ <= TWO_SHEETS
    ]


def _match_diffusion(
    obs_a: Observation,
    obs_b: Observation,
    landmarks: tuple[Any, Any],
    seed_value: int,
    n_jobs: int | None,
    problems: list[str] | None = None,
) -> Transformation:
    """The paper's own method: one bandwidth on both sides, diffusion coordinates, orthogonal alignment."""
    known_unit = obs_a.known_unit and obs_b.known_unit
    epsilon: float | str = "auto"
    if known_unit:
        epsilon = max(automatic_epsilon(obs_a, n_jobs), automatic_epsilon(obs_b, n_jobs))
    a = diffusion_chart(obs_a, "A", epsilon, seed_value, n_jobs)
    b = diffusion_chart(obs_b, "B", epsilon, seed_value, n_jobs)
    a, b = common_coordinates(a, b)
    at_a = landmark_coordinates(a, landmarks[0], "A", n_jobs)
    at_b = landmark_coordinates(b, landmarks[1], "B", n_jobs)
    alignment = align_diffusion(at_a, at_b)
    diagnostics = diagnose_diffusion(a, b, alignment, known_unit)
    diagnostics.problems[:0] = problems or []
    scale = spectral_scale(*diagnostics.generator_eigenvalues) if diagnostics.generator_eigenvalues else 1.0
    return Transformation(a, b, alignment, [alignment], scale, diagnostics, n_jobs)


def _check_arguments(obs_a: Any, obs_b: Any, coordinates: str, observables: Any) -> None:
    for name, obs in (("obs_a", obs_a), ("obs_b", obs_b)):
        if not isinstance(obs, Observation):
            raise errors.DataTypeError(f"{name} must be a diffeo.Observation, not {type(obs).__name__}")
    if not isinstance(coordinates, str) or coordinates not in ("auto", "isometric", "diffusion"):
        raise errors.ParameterError(f'coordinates must be "auto", "isometric" or "diffusion", not {coordinates!r}')
    if observables is not None:
        raise errors.ParameterError("observables is not available in this version; pass landmarks")
    if obs_a.dim != obs_b.dim:
        raise errors.DimensionMismatchError(
            f"A has intrinsic dimension {obs_a.dim}, B has {obs_b.dim}: no invertible map joins them; give dim= to the "
            "observations if one was misjudged, or measure more neurons"
        )


def _has_two_axes(value: Any) -> bool:
    """Whether an array-like has two axes; ragged lists have none."""
    try:
        return int(np.ndim(value)) == 2
    except ValueError:
        return False


def _parse_landmarks(landmarks: Any, obs_a: Observation, obs_b: Observation) -> tuple[Any, Any]:
    """Landmarks as two float arrays of points, or two integer arrays of rows."""
    if landmarks is None:
        raise errors.LandmarkError(
            "landmarks are needed: a few pairs of measurements (points_a, points_b) of common inputs, or an (L, 2) array "
            "of row numbers"
        )
    if isinstance(landmarks, (tuple, list)) and len(landmarks) == 2 and _has_two_axes(landmarks[0]):
        m_a, m_b = obs_a.points.shape[1], obs_b.points.shape[1]
        at_a = float_array(landmarks[0], "landmarks[0]", 2, shape=(None, m_a), axes="(L, m_a)")
        at_b = float_array(landmarks[1], "landmarks[1]", 2, shape=(len(at_a), m_b), axes="(L, m_b)")
        return at_a, at_b
    if isinstance(landmarks, tuple) and len(landmarks) == 2 and not _has_two_axes(landmarks[0]):
        raise errors.LandmarkError(
            "landmarks is a tuple of two one-dimensional sequences; give row numbers as one (L, 2) array, e.g. "
            "np.column_stack([rows_a, rows_b])"
        )
    try:
        pairs = np.asarray(landmarks)
    except ValueError as error:
        raise errors.LandmarkError(f"landmarks are not pairs of equal length: {error}") from error
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
