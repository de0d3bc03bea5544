"""Equivalence classes at a glance: networks of two tasks, compared in all pairs, at their outputs and in a hidden layer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo.charts.chart import as_chart
from diffeo.demos.attempts import activations
from diffeo.demos.family import pictures
from diffeo.demos.family.compared import MARGIN, Compared, Judged, Member, Seen
from diffeo.demos.page import Page
from diffeo.demos.training import fit
from diffeo.networks.neuron_choice import suggest_neurons
from diffeo.networks.observe_networks import observe
from diffeo.report.plots import pyplot
from diffeo.screening.screen_observations import screen
from diffeo.verdict.assess_transformation import compare
from diffeo.verdict.error_bounds import EQUIVALENT, relative_error

# Units after the first nonlinearity: monotone in directions of the input, so that some of them tell any two inputs apart.
HIDDEN = "1"
# Common inputs that align two networks (a map that a fold leaves to them alone takes 10 a dimension), and that judge.
LANDMARKS, HELD_OUT = 60, 200
# Widths and activations of the networks of each task.
ARCHITECTURES: tuple[tuple[tuple[int, ...], str], ...] = (
    ((32, 32), "Tanh"),
    ((48, 24), "Sigmoid"),
    ((24, 24), "SiLU"),
    ((40, 20), "GELU"),
    ((64,), "Tanh"),
)


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    members: int
    steps: int
    polish: int
    samples: int
    screened: bool = True
    processes: int | None = None


FULL = Size(members=5, steps=500, polish=800, samples=700, screened=True)
QUICK = Size(members=3, steps=500, polish=800, samples=500, screened=False)


def run(out: Path, *, quick: bool = False) -> None:
    """Run the experiment and write pictures and ``family.html`` to `out`.

    Parameters
    ----------
    out : Path
        Folder, made if needed.
    quick : bool
        Six networks rather than ten, of small samples.
    """
    run_sized(out, QUICK if quick else FULL)


def run_sized(out: Path, size: Size) -> tuple[list[Member], dict[str, Compared]]:
    """Run the experiment at a size; returns the networks, and what was found at their outputs and in the hidden layer."""
    started = time.perf_counter()
    pyplot()
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    page = Page(
        "Equivalence belongs to what is observed",
        f"{2 * size.members} networks have two outputs each. Those of half of them are an invertible function of their two "
        "inputs, those of the other half know the first input up to its sign only. No two report in the same way, and no two "
        "were measured at the same inputs. All pairs are compared, without being told which are which.",
    )
    print(f"(a) {2 * size.members} networks learn two tasks, each in its own way")
    members = learn(size, rng)
    lines = [f"  {member.name:<28}training error {member.error:.1e}" for member in members]
    print("\n".join(lines))
    page.add(
        "The networks", "Each task, five architectures at most; error on fresh inputs.", lines, [], [target, learn]
    )
    common = inputs(LANDMARKS, rng), inputs(HELD_OUT, rng)
    places = {"outputs": None, "hidden layer": HIDDEN}
    seen = {place: [look(m, layer, size.samples, common, rng) for m in members] for place, layer in places.items()}
    print(f"\n(b) all {len(members) * (len(members) - 1) // 2} pairs, at the outputs and in a hidden layer")
    found = compare_all(seen, size)
    for place in places:
        lines = figures(found[place], members)
        print("\n".join([f"  {place}", *lines]))
        page.add(place.capitalize(), WORDS[place], lines, [], [])
    pictures.draw_family(found, members, MARGIN, out / "family.png")
    page.add(
        "All pairs",
        "Colour: the worse error of both directions. =: equivalent. Arrows: one way only, from the row to the column, or "
        "back. The trees join networks at the worst error between any two of them: what is joined below the dashed line is "
        "one class.",
        [],
        [(out / "family.png", "Heat maps and trees: two classes at the outputs, one in the hidden layer")],
        [look, judge_row, compare_all, Compared],
    )
    if size.screened:
        pictures.draw_screening(found, members, out / "screening.png")
        page.add(
            "Without a single pair",
            "The spectra of both sides, as far apart as this in units of chance: about 1 for one domain. This needs no "
            "common input; it can speak against equivalence, and never prove it.",
            [],
            [(out / "screening.png", "Heat maps of the distance of spectra at the outputs and in the hidden layer")],
            [],
        )
    page.write(out / "family.html")
    print(f"\nwrote {out / 'family.html'} and its pictures in {time.perf_counter() - started:.0f} s")
    return members, found


WORDS = {
    "outputs": "What the first half reports determines what the second half reports, and not the other way round: the sign "
    "of the first input is lost. Two classes.",
    "hidden layer": "The same networks, a layer or two earlier: all still know both inputs. One class. Whether two networks "
    "are equivalent is no question about networks alone, but about what is observed of them.",
}


def inputs(n: int, rng: np.random.Generator) -> FloatArray:
    """Fresh uniform inputs (n, 2) in [-1, 1]^2."""
    drawn: FloatArray = rng.uniform(-1.0, 1.0, (n, 2))
    return drawn


def target(x: FloatArray, folds: bool, way: int) -> FloatArray:
    """Two outputs (n, 2): a turn and waves, a different one each `way`, of (x1, x2), or of (2 x1^2 - 1, x2).

    z + 0.3 sin(1.5 z' + phases), with z' the coordinates exchanged, is invertible: its slopes are below 1.
    """
    rng = np.random.default_rng(way)
    angle, phases = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 2.0 * np.pi, 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    z = np.column_stack([2.0 * x[:, 0] ** 2 - 1.0 if folds else x[:, 0], x[:, 1]]) @ turn.T
    reported: FloatArray = z + 0.3 * np.sin(1.5 * z[:, ::-1] + phases)
    return reported


def learn(size: Size, rng: np.random.Generator) -> list[Member]:
    """Train the networks of both tasks."""
    members = []
    for folds in (False, True):
        for k, (widths, activation) in enumerate(ARCHITECTURES[: size.members]):
            way = 100 + k + len(ARCHITECTURES) * folds
            x, fresh = inputs(2000, rng), inputs(1000, rng)
            name = f"{'x1², x2' if folds else 'x1, x2'} · {activation} {'-'.join(map(str, widths))}"
            data = x, target(x, folds, way)
            network = fit(2, widths, activation, data, seed=way, steps=size.steps, polish=size.polish, name=name)
            error = relative_error(activations(network, fresh, None, slice(None)), target(fresh, folds, way))
            members.append(Member(folds, name, network, error))
    return members


def look(
    member: Member, layer: str | None, n: int, common: tuple[FloatArray, FloatArray], rng: np.random.Generator
) -> Seen:
    """Observe a network at n inputs of its own, both outputs or five hidden neurons; and at the common inputs."""
    x = inputs(n, rng)
    neurons = np.arange(2) if layer is None else suggest_neurons(member.network, x, layer=layer, dim=2).neurons
    observation = observe(member.network, x, layer=layer, neurons=neurons, dim=2)
    landmarks, held_out = (activations(member.network, at, layer, neurons) for at in common)
    return Seen(observation, landmarks, held_out)


def compare_all(seen: dict[str, list[Seen]], size: Size) -> dict[str, Compared]:
    """Judge all pairs at each place, a network against all later ones at a time, in as many processes as there are cores."""
    from tqdm import tqdm

    rows = [(place, i) for place, sides in seen.items() for i in range(len(sides) - 1)]
    total = sum(len(list(combinations(sides, 2))) for sides in seen.values())
    judged: dict[str, list[Judged]] = {place: [] for place in seen}
    # A fresh interpreter each: to fork one in which torch and OpenMP have threads may hang.
    with (
        ProcessPoolExecutor(size.processes or core.n_threads(0), get_context("spawn")) as pool,
        tqdm(total=total, desc="comparing pairs", leave=False, disable=None) as bar,
    ):
        waiting = {pool.submit(judge_row, seen[place], i, size.screened): place for place, i in rows}
        for done in as_completed(waiting):
            judged[waiting[done]] += done.result()
            bar.update(len(done.result()))
    return {place: gather(pairs, len(seen[place])) for place, pairs in judged.items()}


def judge_row(seen: Sequence[Seen], i: int, screened: bool) -> list[Judged]:
    """Compare one network with all later ones, in one thread."""
    found = []
    # What they warn of a fold, the verdict says.
    with errors.unsaid(errors.DiffeoWarning):
        chart = as_chart(seen[i].observation, "the first", n_jobs=1)
        for j in range(i + 1, len(seen)):
            a, b = seen[i], seen[j]
            other = as_chart(b.observation, "the second", n_jobs=1)
            report = compare(
                chart,
                other,
                landmarks=(a.landmarks, b.landmarks),
                held_out=(a.held_out, b.held_out),
                margin=MARGIN,
                baselines=False,
                n_jobs=1,
            )
            distance = screen(chart, other, n_jobs=1).distance if screened else np.nan
            found.append(Judged(i, j, report.verdict, report.forward.error, report.backward.error, distance))
    return found


def gather(pairs: Sequence[Judged], n: int) -> Compared:
    """All pairs of n networks in matrices."""
    missed, distances = np.zeros((n, n)), np.zeros((n, n))
    for pair in pairs:
        missed[pair.i, pair.j], missed[pair.j, pair.i] = pair.forward, pair.backward
        distances[pair.i, pair.j] = distances[pair.j, pair.i] = pair.distance
    return Compared(missed, {(pair.i, pair.j): pair.verdict for pair in pairs}, distances)


def figures(found: Compared, members: Sequence[Member]) -> list[str]:
    """Counts of verdicts, errors and distances within the tasks and across, and the classes."""
    lines = []
    for text, across in (("of one task", False), ("across tasks", True)):
        pairs = [(i, j) for i, j in found.verdicts if (members[i].folds != members[j].folds) == across]
        verdicts = [found.verdicts[pair] for pair in pairs]
        one_way = sum(verdict in ("a_to_b", "b_to_a") for verdict in verdicts)
        worse = [found.worse[pair] for pair in pairs]
        better = [min(found.errors[i, j], found.errors[j, i]) for i, j in pairs]
        lines.append(
            f"    pairs {text:<14}{verdicts.count(EQUIVALENT)} of {len(pairs)} equivalent, {one_way} one way only;  worse "
            f"error {min(worse):.2g} to {max(worse):.2g}, better one at most {max(better):.2g}"
        )
        spectra = [found.distances[pair] for pair in pairs]
        if np.isfinite(spectra).any():
            lines[-1] += f";  spectra {np.nanmedian(spectra):.2g} apart (median)"
    lines.append(f"    classes, cut at the margin of {100 * MARGIN:.0f} %: {found.classes.max()}")
    return lines
