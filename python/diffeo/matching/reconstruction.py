"""A network's input, or output, from a few of its neurons: recovered coordinates regressed to a few known values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import FloatArray, float_array, index_array
from diffeo._support.threads import exact, thread_count
from diffeo.alignment.linear import SCALE_TOLERANCE, Alignment, align_isometric, left_out_coordinates
from diffeo.charts.chart import Chart
from diffeo.charts.coordinates import Marks, coordinates_of
from diffeo.charts.isometric import IsometricChart
from diffeo.isometry.trust import doubt_of_stress
from diffeo.matching.landmark_correction import LandmarkCorrection, learn_correction
from diffeo.observation.observation import Observation

# Fewer known outputs than this per coordinate, and one more, hide how far off they are: even their left-out error does.
KNOWN_PER_COORDINATE = 5
# Left-out errors above this are named.
DOUBTFUL_ERROR = 0.1


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """Values that belong to measurements; made by `diffeo.reconstruct`.

    Attributes
    ----------
    chart : IsometricChart
        The observation with its isometric coordinates.
    kind : str
        "input" or "output".
    alignment : Alignment or None
        From isometric coordinates to inputs; None for an output.
    model : LandmarkCorrection
        What the known values teach beyond the alignment; all of it, for an output.
    error : float
        Relative error at the known values, each predicted from the others; infinite when there are too few to tell.
    problems : list of str
        What is suspected, and what to do; empty when nothing is.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (300, 2, 2)))
    >>> found = diffeo.reconstruct(obs, [0, 1, 2], x[:3])
    >>> found.predict(x).shape
    (300, 2)
    """

    chart: IsometricChart
    kind: str
    alignment: Alignment | None
    model: LandmarkCorrection
    error: float
    problems: list[str]
    n_jobs: int | None = field(default=None, repr=False)

    @exact
    def predict(self, points: ArrayLike) -> FloatArray:
        """Values (count, p) that belong to measurements (count, m).

        All are finite: points outside of the sampled domain take the values of coordinates at most five spacings from it.

        Warns
        -----
        OutOfDomainWarning
            Points off the measured manifold or outside of its sampled domain; its ``off_manifold`` has their rows.
        """
        y = float_array(points, "points", 2, shape=(None, self.chart.observation.points.shape[1]), axes="(count, m)")
        coordinates = self.chart.place(y, thread_count(self.n_jobs)).said()
        if self.alignment is None:
            return self.model.predict(y, self.chart.features(coordinates))
        aligned = self.alignment.forward(coordinates)
        return self.model.predict(y, aligned, aligned)


@exact
def reconstruct(
    source: Observation | Chart | IsometricChart,
    known: ArrayLike,
    values: ArrayLike,
    *,
    kind: Literal["input", "output"] = "input",
    n_jobs: int | None = None,
) -> Reconstruction:
    """Reconstruct a network's input, or its output, from the neurons that were observed.

    The isometric coordinates of an observation are its inputs up to a rigid motion, so that d + 1 known inputs fix them
    up to the error of the embedding; more known inputs repair part of that, too (`learn_correction`). An output is some
    smooth function of the input: a Gaussian process on the coordinates learns it from a few tens of known values. After
    Bertalan, Dietrich and Kevrekidis, Chaos 34 (2024), 10.1063/5.0206406, who regress on diffusion coordinates.

    Parameters
    ----------
    source : Observation, or Chart
        A chart of `diffeo.embed`, or the side ``transformation.a``, saves a second embedding.
    known : array_like of shape (L,) or (L, m)
        Rows of the observation, or measurements, of which the values are known.
    values : array_like of shape (L, p)
        Known inputs, p = d, or outputs.
    kind : {"input", "output"}
        "input" for a quantity in whose metric the observation was differentiated, "output" for any other smooth one.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives.

    Returns
    -------
    Reconstruction
        Look at ``.error`` and ``.problems`` before use.

    Raises
    ------
    LandmarkError
        Fewer than d + 1 known inputs, or inputs that leave a direction open (coincident or in a hyperplane).
    SampleSizeError
        Fewer than 5 d + 5 known outputs.
    DisconnectedError
        The neighbour graph falls into pieces.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> obs = diffeo.Observation.from_jacobians(2.0 * x, np.broadcast_to(2.0 * np.eye(2), (500, 2, 2)))
    >>> found = diffeo.reconstruct(obs, [0, 1, 2], x[:3])
    >>> bool(diffeo.relative_error(found.predict(obs.points), x) < 1e-4)
    True
    """
    if kind not in ("input", "output"):
        raise errors.ParameterError(f'kind must be "input" or "output", not {kind!r}')
    if not isinstance(source, (Observation, Chart, IsometricChart)):
        raise errors.DataTypeError(
            f"source must be a diffeo.Observation, or a chart with isometric coordinates, not {type(source).__name__}"
        )
    if isinstance(source, Chart) and source.asked == "diffusion":
        raise errors.ParameterError(
            "source is a chart of diffusion coordinates; isometric ones are needed: embed again"
        )
    observation = source if isinstance(source, Observation) else source.observation
    marks = _parse_known(known, observation)
    points = marks.points
    targets = float_array(values, "values", 2, shape=(len(points), None), axes="(L, p)")
    d = observation.dim
    if kind == "input" and targets.shape[1] != d:
        raise errors.ShapeError(
            f'values has shape {targets.shape}; inputs need {d} columns, the intrinsic dimension (kind="output" takes any)'
        )
    if kind == "output" and len(targets) < KNOWN_PER_COORDINATE * (d + 1):
        raise errors.SampleSizeError(
            f"{len(targets)} known outputs cannot teach a function of {d} coordinates; at least "
            f"{KNOWN_PER_COORDINATE * (d + 1)} are needed, a few tens are good"
        )
    chart = _isometric(source, n_jobs)
    at = coordinates_of(chart, marks, "known", thread_count(n_jobs))
    stress = chart.embedding.stress_
    if kind == "output":
        # Around a closed domain an output is as smooth at the edge of the cell as anywhere.
        model = learn_correction(points, chart.features(at), targets)
        return Reconstruction(
            chart, kind, None, model, model.error, _problems(model.error, len(targets), stress), n_jobs
        )
    known_unit = observation.known_unit
    alignment = align_isometric(at, targets, known_unit=known_unit)
    left_out = left_out_coordinates(at, targets, alignment, known_unit=known_unit)
    model = learn_correction(points, alignment.forward(at), targets, left_out, doubt=doubt_of_stress(stress))
    error = model.error if len(targets) > d + 1 else np.inf
    problems = _problems(error, len(targets), stress)
    if known_unit and abs(np.log(alignment.scale)) > SCALE_TOLERANCE:
        problems.append(
            f"the known inputs are {alignment.scale:.3f} times as far apart as the coordinates, which are in input units: "
            "they are measured in another unit, or the neurons fold the input"
        )
    return Reconstruction(chart, kind, alignment, model, error, problems, n_jobs)


def _isometric(source: Observation | Chart | IsometricChart, n_jobs: int | None) -> IsometricChart:
    """The isometric layout of a source."""
    if isinstance(source, IsometricChart):
        return source
    chart = source if isinstance(source, Chart) else Chart(source, n_jobs=n_jobs)
    layout = chart.isometric()
    if layout is None:
        raise errors.DisconnectedError(f"observation to reconstruct from: {chart.disconnected}")
    return layout


def _parse_known(known: Any, observation: Observation) -> Marks:
    """Rows, if they were given, and the measurements there."""
    try:
        axes = np.ndim(known)
    except ValueError as error:
        raise errors.ShapeError(f"known is not a rectangular array: {error}") from error
    if axes == 1:
        rows = index_array(known, "known", len(observation))
        return Marks(np.ascontiguousarray(observation.points[rows]), rows)
    m = observation.points.shape[1]
    return Marks(float_array(known, "known", 2, shape=(None, m), axes=f"row numbers (L,) or measurements (L, {m})"))


def _problems(error: float, count: int, stress: float) -> list[str]:
    if not DOUBTFUL_ERROR < error < np.inf:
        return []
    return [
        f"left out one by one, the {count} known values are missed by {100 * error:.0f} % of their spread (relative stress "
        f"of the coordinates {stress:.4f}): too few are known, some are wrong, or the neurons do not determine them; add "
        "known values, or neurons"
    ]
