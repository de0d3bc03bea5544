"""All layers of one network against all of another, at common inputs: maps learned from pairs with derivatives."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.engine import Lost, run
from diffeo._support.progress import stage
from diffeo._support.threads import working
from diffeo.charts.measured import MeasuredChart
from diffeo.matching.by_pairs.matched import Sides, learned, split
from diffeo.matching.paired.components import Components, components_of
from diffeo.matching.paired.kernel_choice import QUICK
from diffeo.matching.paired.sample import Side, Source
from diffeo.matching.paired.targets import SharedKernels, shared_kernels
from diffeo.matching.pairs import Pairs
from diffeo.networks.measurement import Measurement, Recipe, measured_layers
from diffeo.observation.observation import Observation
from diffeo.verdict.assess_transformation import Judging, judged
from diffeo.verdict.common.seen_inputs import Seen
from diffeo.verdict.layer_comparison import LayerComparison, LayerTable
from diffeo.verdict.shown_loss import BothWays

# Kernels of either layer as a source, for all layers of the other network.
_Known = tuple[SharedKernels | None, SharedKernels | None]

# What may be left out of a layer's components, as a share of the margin of a verdict.
LEFT_OUT = 0.01


@dataclass(frozen=True, eq=False)
class _Layer:
    """A layer at all common inputs, in its principal components; as observed at those that are learned from; and what it tells
    of distances between all of them, those that are learned from first.
    """

    points: FloatArray
    jacobians: FloatArray
    observation: Observation
    seen: Seen
    chart: MeasuredChart

    def side(self, rows: IntArray) -> Side:
        """At these of the inputs, whose components are those of all."""
        m = self.points.shape[1]
        return Components(np.zeros(m), np.eye(m)), self.points[rows], self.jacobians[rows]


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all pairs of layers have in common: inputs that are learned from, how maps are judged on the others, the seed."""

    rows: IntArray
    judging: Judging
    rng: int


def compared_at_common_inputs(
    models: tuple[Any, Any],
    inputs: Any,
    layers: tuple[str | Iterable[str], str | Iterable[str]],
    recipes: tuple[Recipe, Recipe],
    judging: Judging,
    rng: int,
) -> LayerComparison:
    """Learn maps between all layers from four fifths of common inputs, and judge each by the last fifth, the same for all.

    Layers are reduced to their principal components once, so that none of the comparisons depends on their width.
    """
    sides, reasons = [], []
    for model, names, recipe in zip(models, layers, recipes, strict=True):
        with stage("measuring"), errors.unsaid(errors.PiecewiseLinearWarning):
            measured = measured_layers(model, inputs, names, recipe)
        found, why = dict[str, _Layer](), dict[str, str]()
        order = [*measured]
        kept, _ = split(Pairs(np.arange(len(inputs), dtype=float)[:, None], np.zeros((len(inputs), 1))), None, rng)
        rows = kept.points_a[:, 0].astype(np.int64)
        for name in order:
            try:
                found[name] = _reduced(measured.pop(name), rows, judging)
            except errors.DiffeoError as error:
                why[name] = str(error)
        sides.append((order, found))
        reasons.append(why)
    return _compared(sides, reasons, rows, judging, rng)


def _reduced(measured: Measurement, rows: IntArray, judging: Judging) -> _Layer:
    if measured.jacobians is None:
        raise errors.ParameterError('common inputs are compared by derivatives: covariances must be "jacobians"')
    with working(judging.n_jobs):
        components = components_of(measured.points[rows], LEFT_OUT * judging.margin)
        points = np.ascontiguousarray(components.reduced(measured.points))
        jacobians = components.turned(measured.jacobians)
    observation = Observation.from_jacobians(points[rows], jacobians[rows])
    seen = Seen(observation, np.vstack([points[rows], points[_others(rows, len(points))]]))
    seen.metric.complete()
    return _Layer(points, jacobians, observation, seen, MeasuredChart(observation))


def _others(rows: IntArray, count: int) -> IntArray:
    """Common inputs that are held out."""
    return np.setdiff1d(np.arange(count), rows)


def _compared(
    sides: list[tuple[list[str], dict[str, _Layer]]],
    reasons_of: list[dict[str, str]],
    rows: IntArray,
    judging: Judging,
    rng: int,
) -> LayerComparison:
    """All pairs of layers, by the workers of joblib: first kernels of each layer as a source, then each pair."""
    (names_a, a), (names_b, b) = sides
    table = LayerTable(names_a, names_b)
    # Each task has one thread, whoever works on it.
    setting = _Setting(rows, replace(judging, n_jobs=1), rng)
    sources = _shared_kernels(a, b, setting, judging.n_jobs)
    cells, tasks = list[tuple[int, int]](), list[tuple[Any, ...]]()
    for i, name_a in enumerate(names_a):
        for j, name_b in enumerate(names_b):
            if name_a in a and name_b in b:
                cells.append((i, j))
                known = sources[0].get(name_a), sources[1].get(name_b)
                number = [*b].index(name_b), [*a].index(name_a)
                tasks.append((a[name_a], b[name_b], known, number, setting))
                continue
            told = [
                f"{side}: {why[name]}"
                for side, why, name in (("A", reasons_of[0], name_a), ("B", reasons_of[1], name_b))
                if name in why
            ]
            table.reasons[i][j] = "; ".join(told)

    def finished(number: int, found: Any) -> None:
        i, j = cells[number]
        if isinstance(found, Lost):
            table.reasons[i][j] = f"the worker that compared them was lost: {found.reason}"
        elif isinstance(found, str):
            table.reasons[i][j] = found
        else:
            table.fill(i, j, *found)

    run(_cell, tasks, finished, n_jobs=judging.n_jobs, name="layers")
    return table.comparison(({}, {}), ({}, {}), judging.margin, judging.significance)


def _shared_kernels(
    a: dict[str, _Layer], b: dict[str, _Layer], setting: _Setting, n_jobs: int | None
) -> tuple[dict[str, SharedKernels], dict[str, SharedKernels]]:
    """Of each layer of A as a source, and of each of B; none where there are none for all targets together."""
    sources = [(0, name, layer, b) for name, layer in a.items()] + [(1, name, layer, a) for name, layer in b.items()]
    found: tuple[dict[str, SharedKernels], dict[str, SharedKernels]] = ({}, {})

    def finished(number: int, known: Any) -> None:
        if isinstance(known, SharedKernels):
            found[sources[number][0]][sources[number][1]] = known

    tasks = [(layer, [*targets.values()], setting) for _, _, layer, targets in sources if targets]
    run(_source, tasks, finished, n_jobs=n_jobs, name="sources")
    return found


def _source(layer: _Layer, targets: list[_Layer], setting: _Setting) -> SharedKernels | None:
    """The kernels of a layer for all layers of the other network; None where there are none for all together."""
    try:
        with errors.unsaid(errors.DiffeoWarning), working(setting.judging.n_jobs):
            source = Source.of(layer.side(setting.rows), layer.observation.dim)
            return shared_kernels(source, [one.side(setting.rows) for one in targets], setting.rng, QUICK)
    except Exception:  # each pair of layers is then tried alone, and its cell has the reason
        return None


def _cell(a: _Layer, b: _Layer, known: _Known, number: tuple[int, int], setting: _Setting) -> Any:
    """What is kept of the report on the maps between two layers; why there are none."""
    try:
        with errors.unsaid(errors.DiffeoWarning):
            report = _judged(a, b, known, number, setting)
    except Exception as error:  # a pair that has no maps is a cell with a reason
        return str(error) if isinstance(error, errors.DiffeoError) else f"{type(error).__name__}: {error}"
    return (report.forward.error, report.backward.error), report.verdict, report.reason, report.problems


def _judged(a: _Layer, b: _Layer, known: _Known, number: tuple[int, int], setting: _Setting) -> Any:
    """The report on the maps between two layers, each a target of the other by its number."""
    rows, judging = setting.rows, setting.judging
    whole = Pairs(a.points, b.points, a.jacobians, b.jacobians)
    pairs, held_out = whole[rows], whole[_others(rows, len(whole))]
    components = a.side(rows)[0], b.side(rows)[0]
    with working(judging.n_jobs):
        given = Sides(pairs, (a.jacobians[rows], b.jacobians[rows]), a.observation, b.observation)
        kernels = [
            None if one is None else one.of_target(k, target.side(rows))
            for one, k, target in zip(known, number, (b, a), strict=True)
        ]
        charts, both = (a.chart, b.chart), (kernels[0], kernels[1])
        t = learned(given, held_out, setting.rng, judging.n_jobs, components, (QUICK, QUICK), both, charts)
        seen = BothWays(a.seen, b.seen, judging.names, judging.margin)
        return judged(t, replace(judging, spectra=False, places=False), seen)
