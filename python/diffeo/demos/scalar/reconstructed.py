"""Section of the scalar demo: a network's input and output from five of its neurons and a few known values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.charts.isometric import IsometricChart
from diffeo.demos.page import Page
from diffeo.matching.reconstruction import Reconstruction, reconstruct
from diffeo.report.plots import plot_grid, plot_prediction, pyplot
from diffeo.verdict.baselines import Map, affine_fit, gaussian_process_fit
from diffeo.verdict.error_bounds import relative_error

KNOWN_INPUTS = (3, 10, 50)
KNOWN_OUTPUTS = (30, 100)
# Number of known inputs, and outputs, in the picture.
DRAWN = (3, 30)
# Lines of the drawn grid in each direction, and points of each.
GRID_LINES, GRID_POINTS = 9, 60


Kind = Literal["input", "output"]


@dataclass(frozen=True)
class Study:
    """Held-out inputs and outputs with what five neurons say at them, and known values at rows of the sample."""

    chart: IsometricChart
    known: dict[str, FloatArray]
    held_out: dict[str, FloatArray]
    measured: FloatArray

    def attempt(self, kind: Kind, count: int) -> tuple[Reconstruction, list[float]]:
        """Reconstruct from `count` known values; held-out errors of it, a Gaussian process and an affine fit."""
        rows, values, true = np.arange(count), self.known[kind][:count], self.held_out[kind]
        found = reconstruct(self.chart, rows, values, kind=kind)
        points = self.chart.observation.points[rows]
        fits: list[Map] = [found.predict, gaussian_process_fit(points, values), affine_fit(points, values)]
        return found, [relative_error(fit(self.measured), true) for fit in fits]


def reconstruct_section(
    measure: Any, chart: Any, inputs: FloatArray, outputs: Any, held_out: FloatArray, out: Path, page: Page
) -> None:
    """Reconstruct inputs and outputs, print the errors, and draw them.

    Parameters
    ----------
    measure, outputs : callable
        From inputs (count, 2) to the observed neurons (count, m), and to the output (count, 1).
    chart : IsometricChart
        Of those neurons at `inputs` (n, 2).
    held_out : ndarray of shape (count, 2)
        Inputs to test at.
    out : Path
        Folder for the picture.
    page : Page
    """
    print("\n(d) A's input and output, reconstructed from its five neurons and a few known values")
    if not isinstance(chart, IsometricChart):
        print("  these neurons have no isometric coordinates; nothing to reconstruct from")
        return
    study = Study(
        chart,
        {"input": inputs, "output": outputs(inputs)},
        {"input": held_out, "output": outputs(held_out)},
        measure(held_out),
    )
    lines = ["  known values   held-out relative error   left out     Gaussian process   affine fit"]
    with errors.unsaid(errors.OutOfDomainWarning):
        found = {}
        kinds: tuple[tuple[Kind, tuple[int, ...]], ...] = ("input", KNOWN_INPUTS), ("output", KNOWN_OUTPUTS)
        for kind, counts in kinds:
            for count in counts:
                found[kind, count], (error, process, affine) = study.attempt(kind, count)
                left_out = found[kind, count].error
                stated = f"{left_out:.2g}" if np.isfinite(left_out) else "--"
                lines.append(
                    f"  {count:>4} {kind}s   {error:>20.2g}   {stated:>14}   {process:>16.2g}   {affine:>10.2g}"
                )
        print("\n".join(lines))
        picture = out / "reconstruction.png"
        _draw(study, measure, found["input", DRAWN[0]], found["output", DRAWN[1]], picture)
    page.add(
        "Input and output from five neurons",
        "The recovered coordinates are A's inputs up to a rigid motion, so three known inputs turn five activations "
        "back into the input that caused them. The output is some smooth function of it, learned from a few tens of "
        "known outputs. Beside them: a Gaussian process and an affine fit from the neurons to the same known values.",
        lines,
        [(picture, "true and reconstructed inputs, where the reconstruction errs, true against reconstructed outputs")],
    )


def _draw(study: Study, measure: Any, of_input: Reconstruction, of_output: Reconstruction, path: Path) -> None:
    figure, axes = pyplot().subplots(1, 3, figsize=(14.5, 4.6), layout="constrained")
    along, across = np.linspace(0.02, 0.98, GRID_POINTS), np.linspace(0.02, 0.98, GRID_LINES)
    upright = np.stack(np.broadcast_arrays(across[:, None], along), axis=2)
    lines = np.concatenate([upright, upright[:, :, ::-1]])
    shape = (*lines.shape[:2], 2)
    reconstructed = of_input.predict(measure(lines.reshape(-1, 2))).reshape(shape)
    known = study.known["input"][: DRAWN[0]]
    plot_grid(lines, reconstructed, known, axes[0], title=f"input, from {DRAWN[0]} known ones")
    missed = np.linalg.norm(of_input.predict(study.measured) - study.held_out["input"], axis=1)
    dots = axes[1].scatter(*study.held_out["input"].T, c=np.log10(missed), s=14, cmap="cividis", linewidths=0)
    figure.colorbar(dots, ax=axes[1], label="log10 of the distance to the true input")
    axes[1].set_title("where the reconstructed input errs")
    axes[1].set_xlabel("input 1")
    axes[1].set_ylabel("input 2")
    axes[1].set_aspect("equal")
    true = study.held_out["output"]
    predicted = of_output.predict(study.measured)
    title = f"output, from {DRAWN[1]} known ones (error {relative_error(predicted, true):.2g})"
    plot_prediction(true, predicted, axes[2], title=title)
    axes[2].set_xlabel("true output")
    axes[2].set_ylabel("reconstructed output")
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
