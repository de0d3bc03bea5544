"""Two networks compared layer by layer: which layers of one can be computed from which of the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._progress import showing, stage
from diffeo._validation import FloatArray, IntArray, integer
from diffeo.assessing import compare
from diffeo.charts import charts_kept
from diffeo.neurons import suggest_neurons
from diffeo.observation import Observation
from diffeo.observing import observed
from diffeo.smoothing import smoothed

# Samples, spread over all, at which neurons are chosen.
MOST_FOR_CHOICE = 2000

NOT_MATCHED = "not_matched"
# How a table shows a verdict.
SIGNS = {"equivalent": "=", "a_to_b": ">", "b_to_a": "<", "not_equivalent": "x", "undetermined": "?", NOT_MATCHED: "-"}

# Reasons that begin with as many equal characters are said once.
ALIKE = 60


@dataclass(frozen=True, eq=False)
class LayerComparison:
    """Every layer of A against every layer of B; made by `diffeo.compare_layers`.

    Attributes
    ----------
    layers_a, layers_b : list of str
        Names of the I layers of A and the J layers of B.
    forward, backward : ndarray of shape (I, J), float64
        Held-out relative errors of A's layer -> B's layer, and back. NaN where there is no map.
    verdicts : ndarray of shape (I, J), str
        As in `diffeo.assess`: "equivalent", "a_to_b", "b_to_a", "not_equivalent", "undetermined"; or "not_matched".
    reasons : list of list of str
        Per cell, why.
    problems : list of list of list of str
        Per cell, what the diagnostics of the match name.
    neurons_a, neurons_b : dict of str to ndarray of int64
        Which neurons of each layer were measured (columns of what `reduce` leaves); none of layers that failed.
    limits_a, limits_b : dict of str to list of str
        Per layer what `diffeo.suggest_neurons` found to limit it (folds, discarded directions, sharp bends); empty if
        neurons were not suggested.
    margin, significance : float
    """

    layers_a: list[str]
    layers_b: list[str]
    forward: FloatArray
    backward: FloatArray
    verdicts: NDArray[np.str_]
    reasons: list[list[str]] = field(repr=False)
    problems: list[list[list[str]]] = field(repr=False)
    neurons_a: dict[str, IntArray] = field(repr=False)
    neurons_b: dict[str, IntArray] = field(repr=False)
    limits_a: dict[str, list[str]] = field(repr=False)
    limits_b: dict[str, list[str]] = field(repr=False)
    margin: float
    significance: float

    def table(self) -> str:
        """Errors of both directions in percent and a sign for the verdict, one row a layer of A, and why cells have no map."""
        heads = ["A \\ B", *(name or "(output)" for name in self.layers_b)]
        rows = [heads]
        for i, name in enumerate(self.layers_a):
            rows.append([name or "(output)", *(self._cell(i, j) for j in range(len(self.layers_b)))])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines.append("")
        lines.append(
            f"held-out errors of A -> B and of B -> A in percent; margin {100 * self.margin:g} %: = equivalent, > only A -> B, "
            "< only B -> A, x not equivalent, ? undetermined, - not matched, ! with problems"
        )
        for reason, cells in self._failures().items():
            lines.append(f"- {cells}: {reason}")
        lines.extend(self._limits())
        return "\n".join(lines)

    def plot(self, ax: Any = None) -> Any:
        """Heat map of the larger error of both directions; returns the axes."""
        from diffeo.plotting import plot_layers, pyplot

        return plot_layers(self, pyplot().subplots(layout="constrained")[1] if ax is None else ax)

    def _cell(self, i: int, j: int) -> str:
        sign = SIGNS[str(self.verdicts[i, j])] + ("!" if self.problems[i][j] else "")
        if self.verdicts[i, j] == NOT_MATCHED:
            return sign
        return f"{percent(self.forward[i, j])} {percent(self.backward[i, j])} {sign}"

    def _limits(self) -> list[str]:
        """The first limit of every layer that was matched with no other."""
        alone = self.verdicts == NOT_MATCHED
        sides = (
            ("A", self.layers_a, self.limits_a, alone.all(axis=1)),
            ("B", self.layers_b, self.limits_b, alone.all(axis=0)),
        )
        return [
            f"! {name or '(output)'} of {side}: {limits[name][0]}"
            for side, names, limits, rows in sides
            for name, lone in zip(names, rows, strict=True)
            if lone and name in limits
        ]

    def _failures(self) -> dict[str, str]:
        """Reasons of cells that were not matched, alike ones once, with the cells they hold for."""
        found: dict[str, list[str]] = {}
        reasons: dict[str, str] = {}
        for i, a in enumerate(self.layers_a):
            for j, b in enumerate(self.layers_b):
                if self.verdicts[i, j] == NOT_MATCHED:
                    reason = self.reasons[i][j]
                    # Numbers differ from cell to cell, the beginning tells what it is.
                    found.setdefault(reasons.setdefault(reason[:ALIKE], reason), []).append(
                        f"{a or '(output)'} / {b or '(output)'}"
                    )
        return {
            reason: ", ".join(cells[:3]) + (f" and {len(cells) - 3} more" if len(cells) > 3 else "")
            for reason, cells in found.items()
        }


def percent(error: float) -> str:
    """A relative error in percent: two digits, no fractions of ten and more."""
    if np.isnan(error):
        return "--"
    return f"{100 * error:.0f}" if error >= 0.0995 else f"{100 * error:.2g}"


def compare_layers(
    model_a: Any,
    model_b: Any,
    inputs_a: Any,
    inputs_b: Any,
    *,
    layers_a: str | Iterable[str],
    layers_b: str | Iterable[str],
    landmark_inputs: Any,
    held_out_inputs: Any,
    reduce: Any = None,
    smooth: float | None = None,
    neurons: str | int | None = "suggest",
    covariances: str = "jacobians",
    n_bursts: int = 32,
    scale: float | None = None,
    tangents_a: Any = None,
    tangents_b: Any = None,
    dim: int | None = None,
    margin: float = 0.05,
    significance: float = 0.05,
    coordinates: str = "auto",
    batch_size: int = 1024,
    device: Any = None,
    rng: int = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> LayerComparison:
    """Match and assess every layer of A with every layer of B.

    Each network is measured in two passes (one to choose neurons, one for these), each layer gets its coordinates once, and
    each pair of layers is matched by the same landmarks and judged by the same held-out inputs.

    Parameters
    ----------
    model_a, model_b : torch.nn.Module
    inputs_a, inputs_b : array_like or torch.Tensor of shape (n, ...)
        Samples of the common domain for each; they need not share a single one.
    layers_a, layers_b : str or iterable of str
        Names, `fnmatch` patterns, "" for the output, as in `diffeo.capture`.
    landmark_inputs : array_like or torch.Tensor (L, ...)
        Inputs at which both networks are known to see the same: d + 1 or more.
    held_out_inputs : array_like or torch.Tensor (H, ...)
        At least 20 others, drawn like the samples.
    reduce : as in `diffeo.observe`, or tuple of two of these
        For both networks, or for each.
    smooth : float, optional
        As in `diffeo.observe`, for both networks.
    neurons : "suggest", int or None
        `diffeo.suggest_neurons` for each layer (all where there are no more than 2 d + 1), so many random ones, or all.
    covariances, n_bursts, scale, dim, batch_size, device
        As in `diffeo.observe`.
    tangents_a, tangents_b : array_like of shape (n, ..., d), optional
        As in `diffeo.observe`.
    margin, significance
        As in `diffeo.assess`.
    coordinates
        As in `diffeo.match`. "isometric" saves time on layers that fold, whose cells then show large errors.
    rng : int
        Seed of the choice of neurons and of the match.
    n_jobs : int, optional
        Threads; None or -1 takes all that OpenMP gives. Results do not depend on it.
    verbose : bool
        Show progress bars.

    Returns
    -------
    LayerComparison
        A layer that cannot be observed, and a pair that cannot be matched, have their reason in it.

    Raises
    ------
    LayerError, CaptureError, DataTypeError, ShapeError, ParameterError, NonFiniteError
        Arguments that do not fit, networks that fail: as in `diffeo.observe`.

    Warns
    -----
    As `diffeo.observe` does, for all layers of a network together.
    """
    if neurons is not None and neurons != "suggest":
        integer(neurons, "neurons", 1)
    rules = reduce if isinstance(reduce, tuple) else (reduce, reduce)
    if len(rules) != 2:
        raise errors.ParameterError(f"reduce holds {len(rules)} rules for two networks")
    options = {
        "smooth": smooth,
        "covariances": covariances,
        "n_bursts": n_bursts,
        "scale": scale,
        "batch_size": batch_size,
        "device": device,
    }
    pairs = landmark_inputs, held_out_inputs
    with showing(verbose), charts_kept():
        with stage("observing"):
            a = _side(
                model_a,
                inputs_a,
                layers_a,
                pairs,
                neurons,
                dim,
                rng,
                {**options, "reduce": rules[0], "tangents": tangents_a},
            )
            b = _side(
                model_b,
                inputs_b,
                layers_b,
                pairs,
                neurons,
                dim,
                rng,
                {**options, "reduce": rules[1], "tangents": tangents_b},
            )
            for side in (a, b):
                side.smooth_bursts(n_jobs)
        judging = {"margin": margin, "significance": significance, "coordinates": coordinates}
        return _compared(a, b, judging, rng, n_jobs)


@dataclass(eq=False)
class _Side:
    """The layers of one network: observations, or why there is none, and measurements at landmarks and held-out inputs."""

    names: list[str]
    observations: dict[str, Observation]
    reasons: dict[str, str]
    landmarks: dict[str, FloatArray]
    held_out: dict[str, FloatArray]
    limits: dict[str, list[str]]

    def smooth_bursts(self, n_jobs: int | None) -> None:
        """Smooth bursts once, rather than in every match."""
        for name, observation in self.observations.items():
            self.observations[name] = smoothed(observation, n_jobs=n_jobs)

    def neurons(self) -> dict[str, IntArray]:
        return {name: seen.neurons for name, seen in self.observations.items() if seen.neurons is not None}


def _side(
    model: Any,
    inputs: Any,
    layers: str | Iterable[str],
    pairs: tuple[Any, Any],
    neurons: str | int | None,
    dim: int | None,
    rng: int,
    options: dict[str, Any],
) -> _Side:
    """Observe the layers of one network, and capture them at the landmarks and held-out inputs."""
    from diffeo.capture import capture
    from diffeo.measuring import measure_layers

    side = _Side([], {}, {}, {}, {}, {})
    chosen: Any = neurons
    wanted: Any = layers
    if neurons == "suggest":
        chosen = _suggested(side, model, inputs, layers, dim, rng, options)
        wanted = [*chosen]
    if wanted:
        measured = measure_layers(model, inputs, wanted, neurons=chosen, rng=rng, **options)
        side.names = side.names or [*measured]
        for name in [*measured]:
            try:
                side.observations[name] = observed(measured.pop(name), dim)
            except errors.DiffeoError as error:
                side.reasons[name] = str(error)
    if side.observations:
        passing = {name: options[name] for name in ("reduce", "smooth", "batch_size", "device")}
        for inputs_of_pairs, values in zip(pairs, (side.landmarks, side.held_out), strict=True):
            found = capture(model, inputs_of_pairs, [*side.observations], **passing)
            for name, neurons_of_layer in side.neurons().items():
                values[name] = np.asarray(found[name][:, neurons_of_layer], dtype=np.float64)
    return side


def _suggested(
    side: _Side, model: Any, inputs: Any, layers: Any, dim: int | None, rng: int, options: dict[str, Any]
) -> dict[str, IntArray]:
    """Neurons of each layer that can be observed; why the others cannot goes to the side."""
    from diffeo.measuring import measure_layers

    rows = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), MOST_FOR_CHOICE)).astype(np.int64))
    tangents = options["tangents"]
    some = {**options, "tangents": None if tangents is None else tangents[rows]}
    found: dict[str, IntArray] = {}
    with warnings.catch_warnings():
        # The second pass over the network gives the warnings again.
        warnings.simplefilter("ignore", errors.DiffeoWarning)
        measured = measure_layers(model, inputs[rows], layers, rng=rng, **some)
        side.names = [*measured]
        for name in side.names:
            try:
                observation = observed(measured.pop(name), dim)
                chosen = suggest_neurons(
                    observation, n_neurons=min(observation.points.shape[1], 2 * observation.dim + 1), rng=rng
                )
                found[name] = np.sort(chosen.neurons)
                if chosen.problems:
                    side.limits[name] = chosen.problems
            except errors.DiffeoError as error:
                side.reasons[name] = str(error)
    return found


def _cells(a: _Side, b: _Side) -> Iterator[tuple[int, int, str, str]]:
    for i, name_a in enumerate(a.names):
        for j, name_b in enumerate(b.names):
            yield i, j, name_a, name_b


def _compared(a: _Side, b: _Side, judging: dict[str, Any], rng: int, n_jobs: int | None) -> LayerComparison:
    """All pairs of layers, one after the other."""
    shape = len(a.names), len(b.names)
    forward, backward = np.full(shape, np.nan), np.full(shape, np.nan)
    verdicts = np.full(shape, NOT_MATCHED, dtype="<U16")
    reasons = [[""] * shape[1] for _ in range(shape[0])]
    problems: list[list[list[str]]] = [[[] for _ in range(shape[1])] for _ in range(shape[0])]
    with stage("layers") as report_progress:
        for done, (i, j, name_a, name_b) in enumerate(_cells(a, b)):
            report_progress(done, len(a.names) * len(b.names))
            reasons[i][j] = "; ".join(
                f"{which}: {side.reasons[name]}"
                for which, side, name in (("A", a, name_a), ("B", b, name_b))
                if name in side.reasons
            )
            if reasons[i][j]:
                continue
            try:
                report = compare(
                    a.observations[name_a],
                    b.observations[name_b],
                    landmarks=(a.landmarks[name_a], b.landmarks[name_b]),
                    held_out=(a.held_out[name_a], b.held_out[name_b]),
                    baselines=False,
                    random_state=rng,
                    n_jobs=n_jobs,
                    **judging,
                )
            except errors.ParameterError:
                raise
            except errors.DiffeoError as error:
                reasons[i][j] = str(error)
                continue
            forward[i, j], backward[i, j] = report.forward.error, report.backward.error
            verdicts[i, j], reasons[i][j], problems[i][j] = report.verdict, report.reason, report.problems
    return LayerComparison(
        a.names,
        b.names,
        forward,
        backward,
        verdicts,
        reasons,
        problems,
        a.neurons(),
        b.neurons(),
        a.limits,
        b.limits,
        judging["margin"],
        judging["significance"],
    )
