"""The change of coordinates between two networks: measurements of A in, those of B out, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from diffeo import errors
from diffeo._support.arrays import FloatArray, float_array
from diffeo._support.threads import thread_count
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import Alignment
from diffeo.charts.chart import Chart
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.diagnostics import Diagnostics
from diffeo.matching.landmark_correction import LandmarkCorrection

if TYPE_CHECKING:
    import os


@dataclass(frozen=True, eq=False)
class Transformation:
    """The map between two observations of one input domain; made by `diffeo.match`.

    Attributes
    ----------
    a, b : IsometricChart, DiffusionChart or MeasuredChart
        The two observations with their intrinsic coordinates; the last has none.
    alignment : Alignment
        From A's intrinsic coordinates to B's.
    candidates : list of Alignment
        All alignments that cannot be told apart, each with a name; the first is used.
    scale : float
        Unit of length of B over that of A: 1 up to sampling for one common domain.
    diagnostics : Diagnostics
    registration : Registration or None
        On curved domains: A's samples placed on B's manifold so that all lengths agree.
    forward, backward : LandmarkCorrection or None
        What the landmarks teach beyond the alignment, for `transform` and `inverse_transform`.
    landmarks : tuple of ndarray of shape (L, m_a), (L, m_b), or None
        Measurements of the landmarks that were used, so that `diffeo.assess` can refuse to judge by them.
    """

    a: Chart
    b: Chart
    alignment: Alignment
    candidates: list[Alignment]
    scale: float
    diagnostics: Diagnostics
    n_jobs: int | None = field(default=None, repr=False)
    registration: Registration | None = field(default=None, repr=False)
    forward: LandmarkCorrection | None = field(default=None, repr=False)
    backward: LandmarkCorrection | None = field(default=None, repr=False)
    landmarks: tuple[FloatArray, FloatArray] | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return (
            f"Transformation({self.a.observation.points.shape[1]} measurements of A <-> "
            f"{self.b.observation.points.shape[1]} of B, dim={self.a.observation.dim}, {self.coordinates} coordinates, "
            f"{len(self.diagnostics.problems)} problems)"
        )

    @property
    def coordinates(self) -> str:
        """What joins the sides: isometric or diffusion coordinates, or a regression on the landmarks alone."""
        if self.alignment.kind == "regression":
            return "regression"
        return "isometric" if isinstance(self.a, IsometricChart) else "diffusion"

    @property
    def invertible(self) -> bool:
        """Whether there is a way back: not where A has more dimensions than B."""
        return self.a.observation.dim == self.b.observation.dim

    def transform(self, points_a: Any) -> FloatArray:
        """Measurements of B, (count, m_b), that belong to measurements of A, (count, m_a).

        Warns
        -----
        OutOfDomainWarning
            Points off A's measured manifold or outside of its sampled domain.
        """
        y, n_threads = self._points_a(points_a), thread_count(self.n_jobs)
        if self.registration is not None:
            return self.registration.transform(y, n_threads)
        if self.coordinates == "regression":
            return _regressed(self.forward, self.a, y, n_threads)
        common = self.alignment.forward(self.a.intrinsic(y, n_threads))
        predicted = self.b.measurements(common, n_threads)
        if self.forward is None:
            return predicted
        return self.forward.predict(y, self.b.features(common), predicted)

    def inverse_transform(self, points_b: Any) -> FloatArray:
        """Measurements of A, (count, m_a), that belong to measurements of B, (count, m_b).

        Raises
        ------
        NotInvertibleError
            A has more dimensions than B.
        """
        y = float_array(points_b, "points_b", 2, shape=(None, self.b.observation.points.shape[1]), axes="(count, m_b)")
        if not self.invertible:
            raise errors.NotInvertibleError(
                f"A has {self.a.observation.dim} intrinsic dimensions and B only {self.b.observation.dim}: what B discards "
                "cannot be had back from it"
            )
        n_threads = thread_count(self.n_jobs)
        if self.registration is not None:
            return self.registration.inverse_transform(y, n_threads)
        if self.coordinates == "regression":
            return _regressed(self.backward, self.b, y, n_threads)
        common = self.b.intrinsic(y, n_threads)
        predicted = self.a.measurements(self.alignment.backward(common), n_threads)
        if self.backward is None:
            return predicted
        return self.backward.predict(y, self.b.features(common), predicted)

    def intrinsic(self, points_a: Any) -> FloatArray:
        """Common intrinsic coordinates (count, c) of measurements of A: those of B's embedding.

        Where a regression joins the sides there are none: these are A's, roughly moved to where B's are.
        """
        y, n_threads = self._points_a(points_a), thread_count(self.n_jobs)
        if self.registration is not None:
            return self.b.intrinsic(self.registration.transform(y, n_threads), n_threads)
        return self.b.wrapped(self.alignment.forward(self.a.intrinsic(y, n_threads)))

    def _points_a(self, points_a: Any) -> FloatArray:
        return float_array(
            points_a, "points_a", 2, shape=(None, self.a.observation.points.shape[1]), axes="(count, m_a)"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_transformation

        save_transformation(self, path)


def _regressed(model: LandmarkCorrection | None, chart: Chart, points: FloatArray, n_threads: int) -> FloatArray:
    """Measurements by a model of one side's measurements and of its own coordinates, where it has some."""
    if model is None:
        raise errors.InputError("the transformation is a regression on landmarks, and lacks it")
    return model.predict(points, chart.features(chart.intrinsic(points, n_threads)))
