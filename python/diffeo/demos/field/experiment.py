"""The paper's second experiment: networks that learned a vector field, each in coordinates of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.charts.chart import CoordinateChoice
from diffeo.demos.attempts import activations
from diffeo.demos.field import pictures
from diffeo.demos.field.oscillator import (
    STARTS,
    TIME,
    Instrument,
    Learned,
    Moved,
    OneToOne,
    border,
    inside,
    learn,
    one_to_one,
    states,
)
from diffeo.demos.field.transfer import transfer_section
from diffeo.demos.page import Page
from diffeo.matching.match_observations import match
from diffeo.matching.transformation import Transformation
from diffeo.networks.measurement import measure
from diffeo.networks.neuron_choice import suggest_neurons
from diffeo.networks.observe_networks import observe
from diffeo.observation.observation import Observation
from diffeo.report.plots import pyplot
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit, procrustes_fit
from diffeo.verdict.error_bounds import relative_error

# Layer after the second nonlinearity of a perceptron with two hidden layers, behind its instrument.
HIDDEN = "1.3"
# States that align the two sides, far apart as one would choose them, and how many random ones test the map.
LANDMARKS = np.array([[-0.95, -0.65], [1.35, -0.95], [0.4, 0.95]])
HELD_OUT = 500
N_BURSTS = 20


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    steps: int
    polish: int
    samples: int
    samples_transfer: int
    draws: int


FULL = Size(steps=500, polish=3000, samples=10000, samples_transfer=2000, draws=3)
QUICK = Size(steps=300, polish=700, samples=1500, samples_transfer=1000, draws=1)


@dataclass(frozen=True)
class View:
    """What is measured of both networks: their outputs (layer None), or neurons of a hidden layer."""

    a: Learned
    b: Learned
    layer: str | None = None
    neurons: tuple[Any, Any] = (None, None)

    def observe(self, x_a: FloatArray, x_b: FloatArray, **how: Any) -> tuple[Observation, Observation]:
        """Both networks behind their instruments, each at states of its own; derivatives are with respect to the state."""
        a, b = (
            observe(side.observed, x, layer=self.layer, neurons=neurons, **how)
            for side, x, neurons in zip((self.a, self.b), (x_a, x_b), self.neurons, strict=True)
        )
        return a, b

    def layer_of_a(self, x: FloatArray) -> FloatArray:
        """All neurons of A's layer at states (n, 2)."""
        return activations(self.a.observed, x, self.layer, slice(None))

    def pairs(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What both measure at common states (n, 2)."""
        a, b = (
            activations(side.observed, x, self.layer, slice(None) if neurons is None else neurons)
            for side, neurons in zip((self.a, self.b), self.neurons, strict=True)
        )
        return a, b


@dataclass(frozen=True)
class Matched:
    """A transformation, how far it errs on held-out pairs, and what others make of the same landmarks."""

    transformation: Transformation
    rows: list[tuple[str, float, float]]
    true: FloatArray
    predicted: FloatArray

    @property
    def error(self) -> float:
        """Held-out relative error of the transformation from A to B."""
        return self.rows[0][1]

    def lines(self) -> list[str]:
        """What to print."""
        text = [f"  held-out relative error, {len(LANDMARKS)} landmarks{'':<16}A -> B     B -> A"]
        text += [f"    {name:<42}{there:>8.2g}   {back:>8.2g}" for name, there, back in self.rows]
        return text + [f"  problem: {problem}" for problem in self.transformation.diagnostics.problems]


def run(out: Path, *, quick: bool = False) -> None:
    """Run the experiment and write pictures and ``field.html`` to `out`.

    Parameters
    ----------
    out : Path
        Folder, made if needed.
    quick : bool
        Small samples and few training steps.
    """
    run_sized(out, QUICK if quick else FULL)


def run_sized(out: Path, size: Size) -> dict[str, float]:
    """Run the experiment at a size; returns its errors by name."""
    started = time.perf_counter()
    pyplot()
    out.mkdir(parents=True, exist_ok=True)
    page = Page(
        "One oscillator, two instruments, two networks",
        "Two networks learned how the state of one oscillator moves. Each saw it through an instrument of its own, in bent, "
        "turned and stretched coordinates, so that their fields look nothing alike. From what the networks put out, and how "
        "that responds to small changes of the state, diffeo finds the change of coordinates between them: three common "
        "states are all that it is told.",
    )
    rng = np.random.default_rng(2)
    a, b = _learned(size, out, page)
    x = states(size.samples, rng), states(size.samples, rng)
    outputs = _outputs(View(a, b), x, rng, out, page)
    view, neurons = _neurons(a, b, size, rng, page)
    moved = _trajectories(a, b, outputs.transformation, rng, out, page)
    pictures.draw_overview(a, b, outputs.transformation, x, moved, out / "overview.png")
    found = {"outputs": outputs.error, "neurons": neurons.error, "trajectories": float(moved.distances()[-1].max())}
    found |= transfer_section(view, size.samples_transfer, size.draws, rng, out, page)
    page.write(out / "field.html")
    print(f"\nwrote {out / 'field.html'} and its pictures in {time.perf_counter() - started:.0f} s")
    return found


def _learned(size: Size, out: Path, page: Page) -> tuple[Learned, Learned]:
    print("(a) one oscillator, two instruments: both networks learn its velocity, each in its own coordinates")
    a, b = learned_pair(size)
    lines = [f"  training error of A {a.error:.1g}, of B {b.error:.1g}"]
    checks = [check_outputs(side) for side in (a, b)]
    for side, check in zip((a, b), checks, strict=True):
        (low, high), (least, most) = check.determinants, check.stretches
        lines.append(
            f"  {side.name}, state -> output: determinants {low:.2f} to {high:.2f}, stretches {least:.2f} to {most:.2f}, "
            f"{check.crossings} crossings: " + ("one to one" if check.holds else "NOT one to one")
        )
    print("\n".join(lines))
    pictures.draw_fields(a, b, out / "fields.png")
    pictures.draw_one_to_one(a, b, out / "one-to-one.png")
    page.add(
        "One oscillator, seen twice",
        "A bowed string (Rayleigh): the state is position q and momentum p, and every motion ends on one limit cycle. "
        "Instrument A shears the state; instrument B shears it otherwise, turns it, stretches it and mirrors it. Network A "
        "learned dz/dt as a function of its z, network B as a function of its own. The two outputs embed the two-dimensional "
        "state: the determinant keeps its sign, and the image of the border does not cross itself.",
        lines,
        [
            (out / "fields.png", "streamlines of the field in A's coordinates, in the state, and in B's coordinates"),
            (out / "one-to-one.png", "a sheet of states, and what the outputs of A and of B make of it"),
        ],
        [learned_pair, check_outputs],
    )
    return a, b


def learned_pair(size: Size) -> tuple[Learned, Learned]:
    """Two networks of different width and activation, behind different instruments, trained on different states."""
    bent = Instrument((0.4, 0.8), (-0.2, 1.5), angle=0.0, units=(1.0, 1.0))
    turned = Instrument((0.37, 0.84), (-0.33, 1.66), angle=2.3, units=(1.2, -0.9))
    a = learn("A", bent, (32, 32), "Tanh", seed=0, steps=size.steps, polish=size.polish)
    b = learn("B", turned, (48, 48), "SiLU", seed=1, steps=size.steps, polish=size.polish)
    return a, b


def check_outputs(side: Learned, n: int = 2000) -> OneToOne:
    """Whether the outputs of a network embed the state."""
    jacobians = measure(side.observed, states(n, np.random.default_rng(3))).jacobians
    return one_to_one(np.asarray(jacobians), side.field(side.coordinates(border(200))))


def _outputs(view: View, x: tuple[FloatArray, FloatArray], rng: np.random.Generator, out: Path, page: Page) -> Matched:
    print(f"\n(b) outputs only: two velocities of each network, {len(x[0])} states each, none shared")
    found = match_outputs(view, *x, LANDMARKS, states(HELD_OUT, rng))
    lines = found.lines()
    print("\n".join(lines))
    pictures.draw_outputs(found.transformation, x, (found.true, found.predicted), found.rows, out / "outputs.png")
    page.add(
        "Outputs only",
        "Each network is measured at states of its own. Left: what they put out, coloured by the true state, which diffeo "
        "never sees. Middle: what it recovers from each, aligned by three common states. The same colours lie in the same "
        "places, so that any output of A can be looked up in B.",
        lines,
        [
            (
                out / "outputs.png",
                "outputs, recovered coordinates, errors beside other methods, prediction against truth",
            )
        ],
        [View, match_outputs],
    )
    return found


def match_outputs(
    view: View, x_a: FloatArray, x_b: FloatArray, x_landmarks: FloatArray, x_held_out: FloatArray
) -> Matched:
    """Match by Jacobians, by bursts, by the paper's own method and by plain fits to the same landmarks."""
    landmarks, (true_a, true_b) = view.pairs(x_landmarks), view.pairs(x_held_out)
    rows, found = [], {}
    for how, choice in (
        ("Jacobians", {"covariances": "jacobians"}),
        (f"bursts of {N_BURSTS}", {"covariances": "bursts", "n_bursts": N_BURSTS}),
    ):
        a, b = view.observe(x_a, x_b, dim=2, **choice)
        ways: tuple[tuple[str, CoordinateChoice], ...] = ("diffeo", "auto"), ("the paper's method", "diffusion")
        for who, coordinates in ways:
            t = found[who, how] = match(a, b, landmarks=landmarks, coordinates=coordinates, check=coordinates == "auto")
            there, back = _quiet(t.transform, true_a), _quiet(t.inverse_transform, true_b)
            rows.append((f"{who}, {how}", relative_error(there, true_b), relative_error(back, true_a)))
    for name, plain in (
        ("affine", affine_fit),
        ("Procrustes", procrustes_fit),
        ("Gaussian process", gaussian_process_fit),
    ):
        there, back = plain(*landmarks)(true_a), plain(*landmarks[::-1])(true_b)
        rows.append((f"{name} fit", relative_error(there, true_b), relative_error(back, true_a)))
    best = found["diffeo", "Jacobians"]
    rows[1], rows[2] = rows[2], rows[1]
    return Matched(best, rows, true_b, _quiet(best.transform, true_a))


def _quiet(mapping: Any, points: FloatArray) -> FloatArray:
    """A map without its warnings of points outside of the sample: between the last sample and the border there are some."""
    with errors.unsaid(errors.OutOfDomainWarning):
        mapped: FloatArray = mapping(points)
    return mapped


def _neurons(a: Learned, b: Learned, size: Size, rng: np.random.Generator, page: Page) -> tuple[View, Matched]:
    print("\n(c) hidden neurons: five of each network, as suggest_neurons picks them")
    x = states(size.samples, rng), states(size.samples, rng)
    view, found = match_neurons(a, b, *x, LANDMARKS, states(HELD_OUT, rng))
    lines = [f"  neurons {view.neurons[0].tolist()} of A and {view.neurons[1].tolist()} of B", *found.lines()]
    print("\n".join(lines))
    page.add(
        "Hidden neurons",
        "The same, one layer below the output: five neurons of each network. Nothing changes but what is measured.",
        lines,
        [],
        [match_neurons],
    )
    return view, found


def match_neurons(
    a: Learned, b: Learned, x_a: FloatArray, x_b: FloatArray, x_landmarks: FloatArray, x_held_out: FloatArray
) -> tuple[View, Matched]:
    """Five neurons of the last hidden layer of each network, matched by Jacobians."""
    chosen = [suggest_neurons(side.observed, x, layer=HIDDEN).neurons for side, x in ((a, x_a), (b, x_b))]
    view = View(a, b, HIDDEN, (chosen[0], chosen[1]))
    t = match(*view.observe(x_a, x_b), landmarks=view.pairs(x_landmarks))
    true_a, true_b = view.pairs(x_held_out)
    there, back = _quiet(t.transform, true_a), _quiet(t.inverse_transform, true_b)
    row = ("diffeo, Jacobians", relative_error(there, true_b), relative_error(back, true_a))
    return view, Matched(t, [row], true_b, there)


def _trajectories(a: Learned, b: Learned, t: Transformation, rng: np.random.Generator, out: Path, page: Page) -> Moved:
    print(f"\n(d) trajectories: A's own, pushed through the transformation, on B's own, over {TIME:g} time units")
    moved = push_trajectories(a, b, t, states(3000, rng))
    lines = [f"  {'start (q, p)':<18}distance from B's own trajectory, in % of its spread:   at the end    at most"]
    for k, (q, p) in enumerate(STARTS):
        distance = 100.0 * moved.distances()[:, k]
        lines.append(f"  ({q:5.2f}, {p:5.2f}){'':<60}{distance[-1]:>8.3f}   {distance.max():>8.3f}")
    print("\n".join(lines))
    pictures.draw_trajectories(a, b, moved, out / "trajectories.png")
    page.add(
        "Trajectories",
        f"A follows its own field in its own coordinates for {TIME:g} time units and reports its outputs on the way. The "
        "transformation turns each into what B would put out there; B's network, inverted by Newton's method, says at which "
        "of its coordinates it puts this out (dots). Lines: B follows its own field from the corresponding start. Nothing "
        "that B computes has seen A's coordinates, nor the state.",
        lines,
        [(out / "trajectories.png", "A's trajectories, the same pushed to B on B's own, and their distance over time")],
        [push_trajectories],
    )
    return moved


def push_trajectories(a: Learned, b: Learned, t: Transformation, x_b: FloatArray) -> Moved:
    """Integrate both fields from the same states; push A's trajectories to B by their outputs."""
    own_a = a.trajectories(a.coordinates(STARTS), TIME)
    own_b = b.trajectories(b.coordinates(STARTS), TIME)
    back_a, back_b = a.states(own_a.reshape(-1, 2)), b.states(own_b.reshape(-1, 2))
    if not (inside(back_a).all() and inside(back_b).all()):
        raise errors.DomainMismatchError("a trajectory leaves the region of states that the networks were sampled on")
    outputs_of_b = _quiet(t.transform, a.field(own_a.reshape(-1, 2)))
    pushed = b.where(outputs_of_b, b.coordinates(x_b)).reshape(own_b.shape)
    return Moved(own_a, own_b, pushed)
