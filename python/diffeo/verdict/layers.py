"""Two networks compared layer by layer: which layers of one can be computed from which of the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, integer
from diffeo._support.progress import showing, stage
from diffeo._support.threads import sound
from diffeo.charts.chart import Chart, CoordinateChoice, as_chart, check_choice
from diffeo.networks.capture_activations import capture
from diffeo.networks.measurement import BurstSize, CovarianceKind, Recipe, measured_layers
from diffeo.networks.neuron_choice import suggest_neurons
from diffeo.networks.observe_networks import observed
from diffeo.observation.burst_smoothing import smoothed
from diffeo.observation.observation import Observation
from diffeo.verdict.assess_transformation import Judging
from diffeo.verdict.common_inputs import compared_at_common_inputs
from diffeo.verdict.layer_comparison import LayerComparison, LayerTable

# Samples, spread over all, at which neurons are chosen.
MOST_FOR_CHOICE = 2000


@sound
def compare_layers(
    model_a: Any,
    model_b: Any,
    inputs_a: Any = None,
    inputs_b: Any = None,
    *,
    layers_a: str | Iterable[str],
    layers_b: str | Iterable[str],
    landmark_inputs: Any = None,
    held_out_inputs: Any = None,
    common_inputs: Any = None,
    reduce: Any = None,
    smooth: float | None = None,
    neurons: str | int | None = "suggest",
    covariances: CovarianceKind = "auto",
    n_bursts: BurstSize = "auto",
    scale: float | None = None,
    tangents_a: Any = None,
    tangents_b: Any = None,
    dim: int | None = None,
    margin: float = 0.05,
    significance: float = 0.05,
    coordinates: CoordinateChoice = "auto",
    batch_size: int = 1024,
    device: Any = None,
    rng: int = 0,
    n_jobs: int | None = None,
    verbose: bool = False,
) -> LayerComparison:
    """Match and assess every layer of A with every layer of B.

    Each network is measured in two passes (one to choose neurons, one for these), each layer gets its coordinates once, and
    each pair of layers is matched by the same landmarks and judged by the same held-out inputs.

    With `common_inputs` both networks run over the same inputs, all neurons count, maps are learned from four fifths of these
    with derivatives (`diffeo.match_pairs`), and judged by the last fifth: more accurate, and faster. Kernels are chosen once
    for each layer, for all layers of the other network together, which count alike: errors of a pair of layers change a little
    with the others that are compared. So many comparisons are made that some verdicts are wrong by chance: the level of each
    is `significance`.

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
    common_inputs : array_like or torch.Tensor (n, ...), optional
        Inputs for both networks, in the place of all the others; `tangents_a` are then theirs, and what chooses neurons,
        bursts, coordinates or dimensions must be left out.
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
        Threads, or pairs of layers at a time; None or -1 takes all that OpenMP gives. Inside of ``joblib.parallel_config`` its
        backend compares the pairs, as in `diffeo.compare_family`. Results do not depend on it.
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

    Examples
    --------
    >>> import numpy as np, torch, diffeo
    >>> net = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    >>> x = np.random.default_rng(0).random((200, 2))
    >>> found = diffeo.compare_layers(net, net, common_inputs=x, layers_a="1", layers_b=("1", ""))
    >>> found.verdicts.shape
    (1, 2)
    """
    if neurons is not None and neurons != "suggest":
        integer(neurons, "neurons", 1)
    rules = reduce if isinstance(reduce, tuple) else (reduce, reduce)
    if len(rules) != 2:
        raise errors.ParameterError(f"reduce holds {len(rules)} rules for two networks")
    recipes = [
        Recipe(
            reduce=rule,
            smooth=smooth,
            covariances=covariances,
            n_bursts=n_bursts,
            scale=scale,
            tangents=tangents,
            batch_size=batch_size,
            device=device,
            rng=rng,
        )
        for rule, tangents in zip(rules, (tangents_a, tangents_b), strict=True)
    ]
    judging = Judging(margin, significance, baselines=False, n_jobs=n_jobs)
    pairs = landmark_inputs, held_out_inputs
    if common_inputs is not None:
        others = inputs_a, inputs_b, *pairs, tangents_b, dim, scale
        if any(one is not None for one in others) or neurons != "suggest" or covariances != "auto":
            raise errors.ParameterError(
                "common_inputs take the place of other inputs, and all neurons are compared by derivatives: leave out "
                "inputs_a, inputs_b, landmark_inputs, held_out_inputs, neurons, covariances, scale, dim and tangents_b"
            )
        recipe_a, recipe_b = (replace(one, tangents=tangents_a, covariances="jacobians") for one in recipes)
        with showing(verbose):
            given = (model_a, model_b), common_inputs, (layers_a, layers_b), (recipe_a, recipe_b)
            return compared_at_common_inputs(*given, judging, rng)
    if any(one is None for one in (inputs_a, inputs_b, *pairs)):
        raise errors.ParameterError("give common_inputs, or inputs_a, inputs_b, landmark_inputs and held_out_inputs")
    check_choice(coordinates)
    with showing(verbose):
        with stage("observing"):
            a = _side(model_a, inputs_a, layers_a, pairs, neurons, dim, recipes[0])
            b = _side(model_b, inputs_b, layers_b, pairs, neurons, dim, recipes[1])
        return _compared(a, b, judging, coordinates, rng)


@dataclass(eq=False)
class _Side:
    """The layers of one network: observations, or why there is none, and measurements at landmarks and held-out inputs."""

    names: list[str]
    observations: dict[str, Observation]
    reasons: dict[str, str]
    landmarks: dict[str, FloatArray]
    held_out: dict[str, FloatArray]
    limits: dict[str, list[str]]

    def charts(self, coordinates: CoordinateChoice, rng: int, n_jobs: int | None) -> dict[str, Chart]:
        """Charts of all layers, each of which is embedded once, by the first match that asks for it; bursts are smoothed."""
        return {
            name: as_chart(smoothed(seen, n_jobs=n_jobs), name, coordinates, rng, n_jobs)
            for name, seen in self.observations.items()
        }

    def neurons(self) -> dict[str, IntArray]:
        return {name: seen.neurons for name, seen in self.observations.items() if seen.neurons is not None}


def _side(
    model: Any,
    inputs: Any,
    layers: str | Iterable[str],
    pairs: tuple[Any, Any],
    neurons: str | int | None,
    dim: int | None,
    recipe: Recipe,
) -> _Side:
    """Observe the layers of one network, and capture them at the landmarks and held-out inputs."""
    side = _Side([], {}, {}, {}, {}, {})
    chosen: Any = neurons
    wanted: Any = layers
    if neurons == "suggest":
        chosen = _suggested(side, model, inputs, layers, dim, recipe)
        wanted = [*chosen]
    if wanted:
        measured = measured_layers(model, inputs, wanted, replace(recipe, neurons=chosen))
        side.names = side.names or [*measured]
        for name in [*measured]:
            try:
                side.observations[name] = observed(measured.pop(name), dim)
            except errors.DiffeoError as error:
                side.reasons[name] = str(error)
    if side.observations:
        passing = {"smooth": recipe.smooth, "batch_size": recipe.batch_size, "device": recipe.device}
        for inputs_of_pairs, values in zip(pairs, (side.landmarks, side.held_out), strict=True):
            found = capture(model, inputs_of_pairs, [*side.observations], reduce=recipe.reduce, **passing)
            for name, neurons_of_layer in side.neurons().items():
                values[name] = np.asarray(found[name][:, neurons_of_layer], dtype=np.float64)
    return side


def _suggested(
    side: _Side, model: Any, inputs: Any, layers: Any, dim: int | None, recipe: Recipe
) -> dict[str, IntArray]:
    """Neurons of each layer that can be observed; why the others cannot goes to the side."""
    rows = np.unique(np.linspace(0, len(inputs) - 1, min(len(inputs), MOST_FOR_CHOICE)).astype(np.int64))
    some = replace(recipe, tangents=None if recipe.tangents is None else recipe.tangents[rows])
    found: dict[str, IntArray] = {}
    # The second pass over the network gives the warnings again.
    with errors.unsaid(errors.DiffeoWarning):
        measured = measured_layers(model, inputs[rows], layers, some)
        side.names = [*measured]
        for name in side.names:
            try:
                observation = observed(measured.pop(name), dim)
                chosen = suggest_neurons(
                    observation, n_neurons=min(observation.points.shape[1], 2 * observation.dim + 1), rng=recipe.rng
                )
                found[name] = np.sort(chosen.neurons)
                if chosen.problems:
                    side.limits[name] = chosen.problems
            except errors.DiffeoError as error:
                side.reasons[name] = str(error)
    return found


def _compared(a: _Side, b: _Side, judging: Judging, coordinates: CoordinateChoice, rng: int) -> LayerComparison:
    """All pairs of layers, by the workers of joblib: each layer gets its coordinates once, each pair is a task."""
    # What travels to workers, and what they do, a family shares.
    from diffeo.pairwise.tasks import Settings, compared_once

    settings = Settings(judging.margin, judging.significance, coordinates, False, rng)
    sides = [side.charts(coordinates, rng, judging.n_jobs) for side in (a, b)]
    members = [
        {name: (chart, side.landmarks[name], side.held_out[name]) for name, chart in charts.items()}
        for side, charts in zip((a, b), sides, strict=True)
    ]
    cells = compared_once(members[0], members[1], settings, judging.n_jobs)
    table = LayerTable(a.names, b.names)
    for i, name_a in enumerate(a.names):
        for j, name_b in enumerate(b.names):
            missing = [
                f"{which}: {side.reasons[name]}"
                for which, side, name in (("A", a, name_a), ("B", b, name_b))
                if name in side.reasons
            ]
            if missing:
                table.reasons[i][j] = "; ".join(missing)
                continue
            cell = cells[name_a, name_b]
            table.fill(i, j, cell.errors, cell.verdict, cell.reason, list(cell.problems))
    return table.comparison((a.neurons(), b.neurons()), (a.limits, b.limits), judging.margin, judging.significance)
