"""The paper's first experiment: networks that learned scalar functions, matched through outputs or a few neurons."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.demos.attempts import HELD_OUT, Outcome, Pair, activations, attempt
from diffeo.demos.page import Page
from diffeo.demos.scalar.reconstructed import reconstruct_section
from diffeo.demos.training import import_torch, train
from diffeo.report.plots import (
    COLOR_A,
    COLOR_B,
    input_colors,
    plot_embedding,
    plot_neuron_sweep,
    plot_prediction,
    plot_spectra,
    pyplot,
)

# Layer after the second nonlinearity of a perceptron with two hidden layers.
HIDDEN = "3"


@dataclass(frozen=True)
class Size:
    """How much work a run does."""

    steps: int
    samples_1d: int
    samples_2d: int
    sweep_1d: int
    sweep_2d: int
    draws: int


FULL = Size(steps=2500, samples_1d=2000, samples_2d=8000, sweep_1d=800, sweep_2d=1500, draws=3)
QUICK = Size(steps=1000, samples_1d=800, samples_2d=2500, sweep_1d=800, sweep_2d=1500, draws=2)


def run(out: Path, *, quick: bool = False) -> None:
    """Run the experiment and write pictures and ``scalar.html`` to `out`.

    Parameters
    ----------
    out : Path
        Folder, made if needed.
    quick : bool
        Small samples and few training steps.
    """
    started = time.perf_counter()
    import_torch()
    pyplot()
    out.mkdir(parents=True, exist_ok=True)
    size = QUICK if quick else FULL
    page = Page(
        "Two networks, one input, no shared sample",
        "Each network learned a scalar function and is measured at inputs of its own. From the measurements and their "
        "local covariances alone diffeo recovers the input domain of each, aligns the two by a few landmarks, and so "
        "predicts what network B measures from what network A measures.",
    )
    _one_input(size, out, page)
    _folded(size, out, page)
    _two_inputs(size, out, page)
    page.write(out / "scalar.html")
    print(f"\nwrote {out / 'scalar.html'} and its pictures in {time.perf_counter() - started:.0f} s")


def _one_input(size: Size, out: Path, page: Page) -> None:
    print("(a) one input: A learned a monotone f, B learned exp(f); outputs only")
    torch = import_torch()

    def f(x: Any) -> Any:
        return torch.tanh(3.0 * x[:, 0] - 1.5) + 0.3 * x[:, 0]

    a, error_a = train(f, n_inputs=1, widths=(16, 16), activation="Tanh", seed=0, steps=size.steps, name="A on f")
    b, error_b = train(
        lambda x: torch.exp(f(x)),
        n_inputs=1,
        widths=(24, 24),
        activation="SiLU",
        seed=1,
        steps=size.steps,
        name="B on exp f",
    )
    pair = Pair(a, b, 1, np.random.default_rng(2))
    outcome = attempt(pair, None, (None, None), size.samples_1d, opponents=True)
    lines = [
        f"  training errors {error_a:.4f} and {error_b:.4f}; {size.samples_1d} inputs each, none shared",
        *outcome.lines(),
    ]
    print("\n".join(lines))
    picture = out / "one-input.png"
    _draw_one_input(pair, outcome, picture)
    page.add(
        "One input, outputs only",
        "A learned a monotone function f and B learned exp f: the outputs differ, and yet each is a coordinate of the "
        "same input. One output embeds one input, so outputs alone match.",
        lines,
        [(picture, "outputs of both networks, recovered coordinates, and predicted against true outputs")],
    )


def _draw_one_input(pair: Pair, outcome: Outcome, path: Path) -> None:
    if outcome.transformation is None or outcome.true is None or outcome.predicted is None or outcome.inputs is None:
        raise errors.CaptureError("the monotone pair did not match; there is nothing to draw")
    t = outcome.transformation
    figure, axes = pyplot().subplots(1, 3, figsize=(13, 4), layout="constrained")
    for side, x, color, name in (
        (t.a, outcome.inputs[0], COLOR_A, "A: f"),
        (t.b, outcome.inputs[1], COLOR_B, "B: exp f"),
    ):
        axes[0].plot(x[:, 0], side.observation.points[:, 0], ".", color=color, markersize=3, label=name)
    axes[0].set_title("what the networks put out")
    axes[0].set_xlabel("input (never shown to diffeo)")
    axes[0].set_ylabel("output")
    axes[0].legend(frameon=False, markerscale=4)
    aligned = t.alignment.forward(t.a.coordinates)
    axes[1].plot(outcome.inputs[0][:, 0], aligned[:, 0], ".", color=COLOR_A, markersize=6, label="A, aligned")
    axes[1].plot(outcome.inputs[1][:, 0], t.b.coordinates[:, 0], ".", color=COLOR_B, markersize=2, label="B")
    axes[1].set_title("what diffeo recovers from each")
    axes[1].set_xlabel("input (never shown to diffeo)")
    axes[1].set_ylabel("intrinsic coordinate")
    axes[1].legend(frameon=False, markerscale=3)
    plot_prediction(outcome.true, outcome.predicted, axes[2], title=f"held out: relative error {outcome.error:.2g}")
    figure.savefig(path, dpi=110)
    pyplot().close(figure)


def _folded(size: Size, out: Path, page: Page) -> None:
    print("\n(b) one input: A learned a function that turns back, B a monotone one")
    torch = import_torch()

    def turning(x: Any) -> Any:
        return torch.sin(4.2 * x[:, 0]) + 0.4 * x[:, 0]

    def monotone(x: Any) -> Any:
        return torch.tanh(2.0 * x[:, 0] - 0.8) + 0.5 * x[:, 0]

    a, error_a = train(
        turning, n_inputs=1, widths=(16, 16), activation="Tanh", seed=3, steps=size.steps, name="A, turning"
    )
    b, error_b = train(
        monotone, n_inputs=1, widths=(24, 24), activation="SiLU", seed=4, steps=size.steps, name="B, monotone"
    )
    pair = Pair(a, b, 1, np.random.default_rng(5))
    extrema = output_extrema(a)
    lines = [
        f"  training errors {error_a:.4f} and {error_b:.4f}; A's sample holds its extremum x = {extrema[0, 0]:.3f}"
    ]
    lines.append("  outputs only:")
    outputs = attempt(pair, None, (None, None), size.samples_1d, extrema, opponents=True)
    lines += outputs.lines()
    lines.append("  three hidden neurons of each:")
    neurons = attempt(pair, HIDDEN, (3, 3), size.samples_1d, extrema, opponents=True)
    lines += neurons.lines()
    print("\n".join(lines))
    sweep = neuron_sweep(pair, size.sweep_1d, size.draws)
    lines += sweep_lines(sweep)
    print("\n".join(sweep_lines(sweep)))
    picture = out / "neurons-one-input.png"
    figure, axes = pyplot().subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    grid = np.linspace(0.0, 1.0, 400)[:, None]
    axes[0].plot(grid, activations(a, grid, None, slice(None)), color=COLOR_A, label="A turns back")
    axes[0].plot(grid, activations(b, grid, None, slice(None)), color=COLOR_B, label="B does not")
    for x in extrema[:, 0]:
        axes[0].axvline(x, color="0.6", linestyle="--", linewidth=1)
    axes[0].set_title("A's output forgets on which side of the extremum it was")
    axes[0].set_xlabel("input")
    axes[0].set_ylabel("output")
    axes[0].legend(frameon=False)
    _draw_sweep(sweep, 1, axes[1])
    figure.savefig(picture, dpi=110)
    pyplot().close(figure)
    page.add(
        "A function that turns back",
        "A's output takes the same value on both sides of its extremum, so no function of the output can tell them "
        "apart: diffeo names the fold. Three generic hidden neurons embed a one-dimensional input (Whitney: 2d + 1).",
        lines,
        [(picture, "outputs of both networks, and error and problems against the number of neurons")],
    )


def output_extrema(network: Any) -> FloatArray:
    """Interior extrema (k, 1) of a scalar network on [0, 1], to rounding, by bisection on its derivative."""
    torch = import_torch()

    def slope(x: float) -> float:
        at = torch.tensor([[x]], dtype=torch.double, requires_grad=True)
        return float(torch.autograd.grad(network(at).sum(), at)[0])

    grid = np.linspace(0.0, 1.0, 101)
    slopes = np.array([slope(x) for x in grid])
    found = []
    for k in np.flatnonzero(slopes[:-1] * slopes[1:] < 0):
        low, high = grid[k], grid[k + 1]
        for _ in range(60):
            middle = 0.5 * (low + high)
            if slope(middle) * slopes[k] > 0:
                low = middle
            else:
                high = middle
        found.append(0.5 * (low + high))
    return np.array(found).reshape(-1, 1)


def _two_inputs(size: Size, out: Path, page: Page) -> None:
    print("\n(c) two inputs: both learned one function; five hidden neurons of each")
    torch = import_torch()

    def target(x: Any) -> Any:
        return torch.sin(3.0 * x[:, 0]) * torch.cos(2.0 * x[:, 1]) + x[:, 0] * x[:, 1]

    a, error_a = train(target, n_inputs=2, widths=(32, 32), activation="Tanh", seed=6, steps=size.steps, name="A")
    b, error_b = train(target, n_inputs=2, widths=(48, 48), activation="SiLU", seed=7, steps=size.steps, name="B")
    pair = Pair(a, b, 2, np.random.default_rng(8))
    outcome = first_without_problems(pair, size.samples_2d)
    lines = [
        f"  training errors {error_a:.4f} and {error_b:.4f}; {size.samples_2d} inputs each, none shared",
        *outcome.lines(),
    ]
    print("\n".join(lines))
    sweep = neuron_sweep(pair, size.sweep_2d, size.draws)
    lines += sweep_lines(sweep)
    print("\n".join(sweep_lines(sweep)))
    pictures = [(out / "two-inputs.png", "embeddings, spectra, predictions")]
    if outcome.transformation is not None:
        _draw_two_inputs(outcome, pictures[0][0])
    else:
        pictures = []
    sweep_picture = out / "neurons-two-inputs.png"
    figure, ax = pyplot().subplots(figsize=(6.5, 4.2), layout="constrained")
    _draw_sweep(sweep, 2, ax)
    figure.savefig(sweep_picture, dpi=110)
    pyplot().close(figure)
    page.add(
        "Two inputs, five neurons",
        "A single output cannot embed two inputs, but 2d + 1 = 5 generic hidden neurons can. Colours show the true "
        "input, which diffeo never sees: both embeddings arrange it in the same way.",
        lines,
        [*pictures, (sweep_picture, "error and problems against the number of neurons")],
    )
    if outcome.transformation is not None and outcome.inputs is not None:
        chart = outcome.transformation.a
        reconstruct_section(
            lambda x: activations(a, x, HIDDEN, chart.observation.neurons),
            chart,
            outcome.inputs[0],
            lambda x: activations(a, x, None, slice(None)),
            pair.inputs(HELD_OUT),
            out,
            page,
        )


def first_without_problems(pair: Pair, n: int, tries: int = 4) -> Outcome:
    """Draw five neurons of each until diffeo names no problem: what a user would do on its advice."""
    for seed in range(tries):
        neurons = _drawn_neurons(pair, 5, seed)
        outcome = attempt(pair, HIDDEN, neurons, n, opponents=True)
        if not outcome.problems:
            break
        print(f"  draw {seed}: diffeo advises against these neurons: {outcome.problems[0]}")
    return outcome


def _drawn_neurons(pair: Pair, count: int, seed: int) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(1000 + seed)
    return (
        np.sort(rng.choice(pair.a[2].out_features, count, replace=False)),
        np.sort(rng.choice(pair.b[2].out_features, count, replace=False)),
    )


def neuron_sweep(pair: Pair, n: int, draws: int) -> dict[int, list[Outcome]]:
    """Matches through 1 ... 2d + 2 random neurons of each network, several draws of each number."""
    from tqdm import tqdm

    counts = range(1, 2 * pair.n_inputs + 3)
    jobs = [(count, draw) for count in counts for draw in range(draws)]
    found: dict[int, list[Outcome]] = {count: [] for count in counts}
    for count, draw in tqdm(jobs, desc="neurons", leave=False, disable=None):
        neurons = _drawn_neurons(pair, count, 100 * count + draw)
        # Too few neurons have no isometric coordinates; the search for others would only take its time to refuse them.
        found[count].append(attempt(pair, HIDDEN, neurons, n, coordinates="isometric"))
    return found


def sweep_lines(sweep: dict[int, list[Outcome]]) -> list[str]:
    """The sweep as a table."""
    lines = ["  neurons   median error   draws with problems   refused"]
    for count, outcomes in sweep.items():
        found = [o.error for o in outcomes if o.error is not None]
        middle = f"{np.median(found):.2g}" if found else "  --  "
        flagged = sum(bool(o.problems) and o.error is not None for o in outcomes)
        refused = sum(o.error is None for o in outcomes)
        lines.append(f"  {count:>7}   {middle:>12}   {flagged:>12} of {len(outcomes)}   {refused:>7}")
    return lines


def _draw_sweep(sweep: dict[int, list[Outcome]], dim: int, ax: Any) -> None:
    counts = np.array(list(sweep), dtype=float)
    found = [np.array([o.error for o in outcomes if o.error is not None]) for outcomes in sweep.values()]
    flagged = np.array([np.mean([bool(o.problems) for o in outcomes]) for outcomes in sweep.values()])
    doubted = [
        np.array([bool(o.problems) for o in outcomes if o.error is not None], dtype=bool) for outcomes in sweep.values()
    ]
    plot_neuron_sweep(
        counts, found, flagged, 2 * dim + 1, ax, flagged_draws=doubted, title="how many neurons does it take?"
    )


def _draw_two_inputs(outcome: Outcome, path: Path) -> None:
    t = outcome.transformation
    if t is None or outcome.inputs is None or outcome.true is None or outcome.predicted is None:
        raise errors.CaptureError("nothing to draw")
    figure, axes = pyplot().subplots(2, 3, figsize=(13.5, 8.4), layout="constrained")
    colors = [input_colors(x) for x in outcome.inputs]
    for side, color, ax, name in ((t.a, colors[0], axes[0, 0], "A"), (t.b, colors[1], axes[1, 0], "B")):
        y = side.observation.points
        ax.scatter(y[:, 0], y[:, 1], c=color, s=3, linewidths=0)
        ax.set_title(f"two of the five neurons of {name}")
        ax.set_xlabel("activation")
        ax.set_ylabel("activation")
    plot_embedding(t.alignment.forward(t.a.coordinates), colors[0], axes[0, 1], title="A, embedded and aligned")
    plot_embedding(t.b.coordinates, colors[1], axes[1, 1], title="B, embedded")
    if outcome.paper is not None and outcome.paper.diagnostics.generator_eigenvalues is not None:
        plot_spectra(
            *outcome.paper.diagnostics.generator_eigenvalues, axes[0, 2], title="spectra: one domain seen twice"
        )
    plot_prediction(outcome.true, outcome.predicted, axes[1, 2], title=f"held out: relative error {outcome.error:.2g}")
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
