"""embed, and the chart that it makes: one observation with intrinsic coordinates, both ways, made once, matched many times."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, RandomState, float_array, seed
from diffeo._support.notebook import Shown
from diffeo._support.placed import Outside, Placed
from diffeo._support.progress import showing
from diffeo._support.threads import exact, thread_count, working
from diffeo.charts.diffusion import DiffusionChart, diffusion_chart
from diffeo.charts.halves import split, without_each
from diffeo.charts.isometric import IsometricChart, isometric_chart
from diffeo.charts.measurement_noise import denoised, noise_of
from diffeo.charts.problems import kernel_problems, layout_problems, loose_problems
from diffeo.diffusion.kernel import automatic_epsilon
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation

CoordinateChoice = Literal["auto", "isometric", "diffusion"]
CHOICES = ("auto", "isometric", "diffusion")


@dataclass(frozen=True, eq=False)
class Chart(Shown):
    """One observation with intrinsic coordinates, both ways; made by `diffeo.embed`.

    `diffeo.match`, `diffeo.screen`, `diffeo.reconstruct` take it in the place of its observation, and give the same bits as
    from that; what a chart has made of its observation is not made again.

    Attributes
    ----------
    observation : Observation
        As it was given.
    asked : {"auto", "isometric", "diffusion"}
        What was asked of `diffeo.embed`; matches of this chart are restricted to that.
    random_state : int
        Seed of the eigensolver's start.
    n_jobs : int or None
        Threads of what is still to be made.
    """

    observation: Observation
    asked: CoordinateChoice = "auto"
    random_state: int = 0
    n_jobs: int | None = field(default=None, repr=False)
    # What was made of the observation, by name; shared by charts of one observation.
    _made: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        # Nothing is made for the sake of a message.
        layout: IsometricChart | None = self._made.get("isometric")
        isometric = layout is not None and self.asked != "diffusion" and (layout.is_chart or self.asked == "isometric")
        return f"Chart({'isometric' if isometric else self.asked} coordinates of {self.observation!r})"

    def __len__(self) -> int:
        return len(self.observation)

    @property
    def kind(self) -> Literal["isometric", "diffusion", "none"]:
        """Which coordinates these are.

        "isometric": in input units, up to a motion. "diffusion": leading eigenvectors of a diffusion map. "none": with
        ``coordinates="auto"``, where the graph of the samples falls into pieces; `problems` says why.
        """
        if self.asked == "diffusion":
            return "diffusion"
        layout = self.isometric()
        if layout is not None and (layout.is_chart or self.asked == "isometric"):
            return "isometric"
        return "diffusion" if self._own_diffusion() is not None else "none"

    @property
    def coordinates(self) -> FloatArray:
        """Of all samples, (n, c), samples left out of the graph placed by extension; c = d for isometric ones."""
        found: FloatArray = self._own().coordinates
        return found

    @property
    def periods(self) -> FloatArray:
        """Places that differ by a sum of these, (k, c), are the same; k = 0 unless the domain is closed and isometric."""
        own = self._own()
        if isinstance(own, IsometricChart):
            periods: FloatArray = own.embedding.periods_
            return periods
        return np.empty((0, own.coordinates.shape[1]))

    @property
    def left_out(self) -> IntArray:
        """Samples that are not in the graph, ascending: rank-deficient, without neighbours, or repeated."""
        return self._own().left_out

    @property
    def problems(self) -> list[str]:
        """What is suspected, where, and what to do; empty when nothing is."""
        kind, said = self.kind, list[str]()
        if kind == "isometric":
            layout = self.isometric()
            if layout is None:
                return []
            return layout_problems("", layout) + [text for text, _ in loose_problems("", layout)]
        if self.asked == "auto":
            layout = self.isometric()
            if layout is None:
                said.append(f"no isometric coordinates: {self.disconnected}")
            elif not layout.keeps_lengths:
                said.append(
                    f"no isometric coordinates (relative stress {layout.embedding.stress_:.3f}): noise, a curved domain, "
                    "neurons that do not embed, or a thin domain whose layout was caught on the way"
                )
        own = self._own_diffusion()
        if own is None:
            return [*said, f"no diffusion coordinates: {self.no_diffusion}"]
        return said + kernel_problems("", own)

    @exact
    def transform(self, points: ArrayLike) -> FloatArray:
        """Coordinates (count, c) of new measurements (count, m); all are finite.

        Warns
        -----
        OutOfDomainWarning
            Points off the measured manifold or outside of the sampled domain; its ``off_manifold`` has their rows. Isometric
            coordinates are extrapolated there by at most five spacings, diffusion ones are those of the nearest sample.
        """
        y = float_array(points, "points", 2, shape=(None, self.observation.shape[1]), axes="(count, m)")
        return self._own().place(y, thread_count(self.n_jobs)).said()

    @exact
    def inverse_transform(self, coordinates: ArrayLike) -> FloatArray:
        """Measurements (count, m) at coordinates (count, c): by Hermite interpolation, of diffusion ones by local fits.

        Warns
        -----
        OutOfDomainWarning
            Coordinates outside of the sampled domain; its ``off_manifold`` has their rows. Measurements there are finite:
            extrapolated linearly, or at the border for diffusion ones.
        """
        own, n_threads = self._own(), thread_count(self.n_jobs)
        at = float_array(coordinates, "coordinates", 2, shape=(None, own.coordinates.shape[1]), axes="(count, c)")
        # These are the chart's own coordinates: no doubt about them.
        beyond = own.outside(at, n_threads, 0.0) if isinstance(own, DiffusionChart) else own.outside(at, n_threads)
        return Placed(own.measurements(at, n_threads), Outside(len(at), np.flatnonzero(beyond))).said()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to one safetensors file (atomically); read it back with `diffeo.load`."""
        from diffeo.files.saved import save_chart

        save_chart(self, path)

    @property
    def dim(self) -> int:
        """Intrinsic dimension d."""
        return self.observation.dim

    @property
    def measured(self) -> Observation:
        """The observation whose coordinates these are: bursts smoothed, noise taken out; as it is for the paper's method."""
        if self.asked == "diffusion":
            return self.observation
        if "smoothed" not in self._made:
            found = smoothed(self.observation, n_jobs=self.n_jobs)
            self._made["smoothed"] = found if self._made.get("exact") else denoised(found, noise_of(found))
        measured: Observation = self._made["smoothed"]
        return measured

    def isometric(self) -> IsometricChart | None:
        """The isometric layout, whether or not it is a chart; None where the graph falls into pieces."""
        if "isometric" not in self._made:
            layout, reason, apart = None, "", list[IntArray]()
            try:
                layout = isometric_chart(self.measured, self.n_jobs)
            except errors.DisconnectedError as error:
                reason, apart = str(error), error.rows
            self._made.update(disconnected=reason, pieces=apart, isometric=layout)
        found: IsometricChart | None = self._made["isometric"]
        return found

    @property
    def disconnected(self) -> str:
        """Why there is no isometric layout; empty where there is one."""
        self.isometric()
        return str(self._made["disconnected"])

    @property
    def pieces(self) -> list[IntArray]:
        """Rows of the pieces into which the graph falls where there is no isometric layout; else empty."""
        self.isometric()
        return list(self._made.get("pieces", []))

    @property
    def epsilon(self) -> float:
        """The bandwidth that a diffusion map of this observation alone chooses."""
        key = ("epsilon", self.asked == "diffusion")
        if key not in self._made:
            self._made[key] = automatic_epsilon(self.measured, self.n_jobs)
        found: float = self._made[key]
        return found

    def diffusion(self, epsilon: float | str, name: str) -> DiffusionChart:
        """Diffusion coordinates at a bandwidth, which a match chooses for both sides; messages begin with the `name`.

        Raises
        ------
        DisconnectedError, SampleSizeError
            The kernel graph falls into pieces; too few samples.
        """
        paper = self.asked == "diffusion"
        key = ("diffusion", paper, epsilon)
        found: DiffusionChart | None = self._made.get(key)
        if found is None:
            found = diffusion_chart(self.measured, name, epsilon, self.random_state, self.n_jobs)
            # Kernels are large: beside that of the own bandwidth only the latest is kept.
            own = self._made.get(("epsilon", paper), "auto")
            for other in [one for one in list(self._made) if one[:2] == key[:2] and one[2] != own]:
                self._made.pop(other, None)
            self._made[key] = found
        return found

    def restricted(self, coordinates: CoordinateChoice, name: str, n_jobs: int | None) -> Chart:
        """The chart for a match that asks for these coordinates."""
        if "auto" in (coordinates, self.asked) or coordinates == self.asked:
            return replace(self, asked=self.asked if coordinates == "auto" else coordinates, n_jobs=n_jobs)
        raise errors.ParameterError(
            f'{name} is a chart of {self.asked} coordinates; coordinates="{coordinates}" needs its observation, or a chart '
            'made with coordinates="auto"'
        )

    def halves(self, kept: IntArray) -> tuple[Part, Part]:
        """Two random halves of the samples as charts of their own, the rows that are `kept` in both; made once."""
        key = ("halves", self.asked == "diffusion")
        made = self._made.get(key)
        if made is None or not np.array_equal(made[0], kept):
            parts = split(len(self.observation), kept, self.random_state)
            made = self._made[key] = (kept, [(self.part(rows), rows) for rows in parts])
        one, other = (Part(replace(chart, asked=self.asked, n_jobs=self.n_jobs), rows) for chart, rows in made[1])
        return one, other

    def without_each(self, groups: int) -> list[Part]:
        """The samples without each of so many random groups in turn, as charts of their own; made once."""
        key = ("without", groups, self.asked == "diffusion")
        if key not in self._made:
            self._made[key] = [(self.part(rows), rows) for rows in without_each(len(self), groups, self.random_state)]
        return [Part(replace(one, asked=self.asked, n_jobs=self.n_jobs), rows) for one, rows in self._made[key]]

    def part(self, rows: IntArray) -> Chart:
        """Some samples as a chart of their own. Without noise in the whole, which tells it better, they have none either."""
        return Chart(self.observation[rows], self.asked, self.random_state, None, {"exact": not self.measured.noise})

    def halved(self, kept: IntArray, parts: list[tuple[Chart, IntArray]]) -> None:
        """Take halves, and which rows they are, that were made before, rather than make them again."""
        self._made["halves", self.asked == "diffusion"] = (kept, parts)

    @property
    def own_bandwidth(self) -> tuple[float | str, str]:
        """The bandwidth of this observation alone, and what messages call the observation: arguments of `diffusion`."""
        return self.epsilon if self.observation.known_unit else "auto", "the observation"

    @property
    def no_diffusion(self) -> str:
        """Why diffusion coordinates, which were needed, could not be made; empty where nothing is known of that."""
        return str(self._made.get(("no diffusion", self.asked == "diffusion"), ""))

    def made(
        self,
        measured: Observation,
        layout: IsometricChart | None,
        disconnected: str,
        own: DiffusionChart | None,
        no_diffusion: str,
        epsilon: float | None,
    ) -> None:
        """Take what was made before from a file, rather than make it again."""
        paper = self.asked == "diffusion"
        if not paper:
            self._made.update(smoothed=measured, isometric=layout, disconnected=disconnected)
        if no_diffusion:
            self._made["no diffusion", paper] = no_diffusion
        if epsilon is not None:
            self._made["epsilon", paper] = epsilon
        if own is not None:
            self._made["diffusion", paper, "auto" if epsilon is None else epsilon] = own

    def _own_diffusion(self) -> DiffusionChart | None:
        """Diffusion coordinates at this chart's own bandwidth, or None, with the reason in what was made."""
        if self.no_diffusion:
            return None
        try:
            return self.diffusion(*self.own_bandwidth)
        except (errors.DisconnectedError, errors.SampleSizeError) as error:
            if self.asked == "diffusion":
                raise
            self._made["no diffusion", False] = str(error)
            return None

    def _own(self) -> DiffusionChart | IsometricChart:
        """The coordinates of this kind."""
        if self.kind == "isometric":
            layout: DiffusionChart | IsometricChart | None = self.isometric()
        else:
            layout = self._own_diffusion()
        if layout is None:
            why = "; ".join(self.problems)
            raise errors.DisconnectedError(f"this observation has no coordinates: {why}", self.pieces)
        return layout


@dataclass(frozen=True, eq=False)
class Part:
    """Some samples of a chart as a chart of their own, and which rows of the whole they are, ascending."""

    chart: Chart
    rows: IntArray


def embed(
    observation: Observation,
    *,
    coordinates: CoordinateChoice = "auto",
    random_state: RandomState = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> Chart:
    """Give one observation intrinsic coordinates: once, to be matched many times.

    Parameters
    ----------
    observation : Observation
    coordinates : {"auto", "isometric", "diffusion"}
        "auto" takes isometric coordinates where they exist, else those of diffusion. Matches of a chart of one kind use
        that kind.
    random_state : int, numpy generator or None
        Seed of the eigensolver's start.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    Chart
        Look at ``.problems`` before use.

    Raises
    ------
    DisconnectedError, SampleSizeError
        The graph of the samples falls into pieces, and one kind was asked for (with "auto" such a chart is of the kind "none",
        and `diffeo.match` may still learn maps from landmarks); too few samples.

    Examples
    --------
    >>> import numpy as np, diffeo
    >>> x = np.random.default_rng(0).random((500, 2))
    >>> obs = diffeo.Observation.from_jacobians(x, np.broadcast_to(np.eye(2), (500, 2, 2)))
    >>> chart = diffeo.embed(obs)
    >>> chart.kind, chart.coordinates.shape, chart.problems
    ('isometric', (500, 2), [])
    >>> bool(abs(chart.inverse_transform(chart.transform(x)) - x).max() < 1e-6)
    True
    """
    if not isinstance(observation, Observation):
        raise errors.DataTypeError(f"observation must be a diffeo.Observation, not {type(observation).__name__}")
    check_choice(coordinates)
    chart = Chart(observation, coordinates, seed(random_state), n_jobs)
    with showing(verbose), working(n_jobs):
        if coordinates == "isometric" and chart.isometric() is None:
            raise errors.DisconnectedError(f"the observation: {chart.disconnected}", chart.pieces)
        # Makes what is missing.
        _ = chart.kind if coordinates == "auto" else chart.coordinates
    return chart


def check_choice(coordinates: Any) -> None:
    """Make sure that this is a choice of coordinates."""
    if not isinstance(coordinates, str) or coordinates not in CHOICES:
        raise errors.ParameterError(f'coordinates must be "auto", "isometric" or "diffusion", not {coordinates!r}')


def as_chart(
    given: Any, name: str, coordinates: CoordinateChoice = "auto", random_state: int = 0, n_jobs: int | None = None
) -> Chart:
    """An observation as a chart of which nothing is made yet, or a chart for a match that asks for these coordinates.

    Raises
    ------
    DataTypeError, ParameterError
        Something else; a chart of another kind.
    """
    if isinstance(given, Chart):
        return given.restricted(coordinates, name, n_jobs)
    if not isinstance(given, Observation):
        raise errors.DataTypeError(f"{name} must be a diffeo.Observation or a diffeo.Chart, not {type(given).__name__}")
    return Chart(given, coordinates, random_state, n_jobs)
