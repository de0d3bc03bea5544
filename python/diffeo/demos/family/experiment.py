"""Equivalence classes at a glance: networks of two tasks, compared in all pairs, at their outputs and in a hidden layer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.demos.attempts import activations
from diffeo.demos.family import pictures
from diffeo.demos.page import Page
from diffeo.demos.training import fit
from diffeo.family.found import Family
from diffeo.matching.by_pairs.measured import measure_pairs
from diffeo.matching.pairs import Pairs
from diffeo.networks.neuron_choice import suggest_neurons
from diffeo.networks.observe_networks import observe
from diffeo.observation.observation import Observation
from diffeo.pairwise.compare_all import compare_family
from diffeo.report.plots import pyplot
from diffeo.verdict.error_bounds import A_TO_B, B_TO_A, EQUIVALENT, relative_error

# Two networks are of one class below this error, both ways.
MARGIN = 0.05
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
class Member:
    """A trained network: whether its task folds the input, what it is, and its held-out relative error at the task."""

    folds: bool
    name: str
    network: Any
    error: float


@dataclass(frozen=True)
class Seen:
    """What is observed of all networks at one place, each at inputs of its own, and at the common ones, by name."""

    observations: dict[str, Observation]
    landmarks: dict[str, tuple[FloatArray, FloatArray]]
    held_out: dict[str, FloatArray]


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    members: int
    steps: int
    polish: int
    samples: int
    n_jobs: int | None = None


FULL = Size(members=5, steps=500, polish=800, samples=700)
QUICK = Size(members=3, steps=500, polish=800, samples=500)


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


def run_sized(out: Path, size: Size) -> tuple[list[Member], dict[str, Family]]:
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
    seen = {place: look(members, layer, size.samples, common, rng) for place, layer in places.items()}
    print(f"\n(b) all {len(members) * (2 * size.members - 1) // 2} pairs, at the outputs and in a hidden layer")
    found = {place: compare(one, size) for place, one in seen.items()}
    for place, family in found.items():
        lines = figures(family, members)
        print("\n".join([f"  {place}", *lines]))
        page.add(place.capitalize(), WORDS[place], lines, [], [])
        family.to_html(out / f"family-{place.replace(' ', '-')}.html")
    pictures.draw_family(found, out / "family.png")
    page.add(
        "All pairs",
        "Colour: the error from row to column. =: equivalent. Arrows: one way only, from the row to the column, or back. The "
        "trees join networks at the worst error between any two of them: what is joined below the dashed line is one class. "
        "The report of every pair is in family-outputs.html and family-hidden-layer.html, beside this page.",
        [],
        [(out / "family.png", "Heat maps and trees: two classes at the outputs, one in the hidden layer")],
        [look, compare],
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
    members: Sequence[Member],
    layer: str | None,
    n: int,
    common: tuple[FloatArray, FloatArray],
    rng: np.random.Generator,
) -> Seen:
    """Observe each network at n inputs of its own, both outputs or five hidden neurons; and at the common inputs, with
    derivatives at those that align.
    """
    seen = Seen({}, {}, {})
    for member in members:
        x = inputs(n, rng)
        neurons = np.arange(2) if layer is None else suggest_neurons(member.network, x, layer=layer, dim=2).neurons
        observation = observe(member.network, x, layer=layer, neurons=neurons, dim=2)
        seen.observations[member.name] = observation
        there = measure_pairs(member.network, member.network, common[0], like=(observation, observation))
        seen.landmarks[member.name] = landmarks_of(there)
        seen.held_out[member.name] = observation.measure(member.network, common[1])
    return seen


def landmarks_of(pairs: Pairs) -> tuple[FloatArray, FloatArray]:
    """What one network measures at the common inputs, and its derivatives."""
    if pairs.jacobians_a is None:
        raise ValueError("the pairs were measured without derivatives")
    return pairs.points_a, pairs.jacobians_a


def compare(seen: Seen, size: Size) -> Family:
    """Compare all pairs at one place."""
    return compare_family(
        seen.observations, landmarks=seen.landmarks, held_out=seen.held_out, margin=MARGIN, n_jobs=size.n_jobs
    )


def figures(family: Family, members: Sequence[Member]) -> list[str]:
    """Counts of verdicts and errors within the tasks and across, and the classes."""
    lines = []
    worse = np.maximum(family.errors, family.errors.T)
    better = np.minimum(family.errors, family.errors.T)
    for text, across in (("of one task", False), ("across tasks", True)):
        pairs = [(i, j) for i, j in family.cells if (members[i].folds != members[j].folds) == across]
        verdicts = [family.cells[pair].verdict for pair in pairs]
        one_way = sum(verdict in (A_TO_B, B_TO_A) for verdict in verdicts)
        errors = [worse[pair] for pair in pairs]
        lines.append(
            f"    pairs {text:<14}{verdicts.count(EQUIVALENT)} of {len(pairs)} equivalent, {one_way} one way only;  worse "
            f"error {min(errors):.2g} to {max(errors):.2g}, better one at most {max(better[pair] for pair in pairs):.2g}"
        )
    lines.append(f"    classes, cut at the margin of {100 * MARGIN:.0f} %: {len(family.classes)}")
    return lines
