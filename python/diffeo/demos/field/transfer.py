"""Section of the field demo: a head trained on B's neurons reads A's, through the transformation, beside its rivals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.demos.field.oscillator import MU, states
from diffeo.demos.page import Page
from diffeo.demos.training import fit, import_torch
from diffeo.matching.match_observations import match
from diffeo.observation.observation import Observation
from diffeo.report.plots import COLOR_A, COLOR_B, pyplot
from diffeo.verdict.baselines import affine_fit, gaussian_process_fit
from diffeo.verdict.error_bounds import relative_error

# Common states, measured by both networks; their labels are known, too, to those rivals that learn from labels.
PAIRS = (0, 3, 10, 100)
HELD_OUT = 1000
# The head: a perceptron on five neurons of B, trained on as many labels as B has samples.
WIDTHS, STEPS, POLISH = (32, 32), 500, 1200
# Steps of fine-tuning: all weights of the stitching layer and of the head, on the labels of the pairs.
TUNING_STEPS = 300
THROUGH = "head of B, through diffeo"

Head = Callable[[FloatArray], FloatArray]


class Measured(Protocol):
    """What is measured of both networks; see `diffeo.demos.field.experiment.View`."""

    def observe(self, x_a: FloatArray, x_b: FloatArray) -> tuple[Observation, Observation]:
        """Observations of both at states of their own."""

    def pairs(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What both measure at common states."""

    def layer_of_a(self, x: FloatArray) -> FloatArray:
        """All neurons of A's layer at states."""


def labels(x: FloatArray) -> FloatArray:
    """What the head is to read (n, 2): the energy of the oscillator, and the power that the bow feeds into it."""
    q, p = x.T
    return np.column_stack([0.5 * (q**2 + p**2), MU * (p**2 - 4.0 / 3.0 * p**4)])


@dataclass(frozen=True)
class Study:
    """Both observations, the head of B, and A's held-out neurons, five and the whole layer, with their labels."""

    view: Measured
    a: Observation
    b: Observation
    head: Any
    spread: tuple[FloatArray, FloatArray]
    held_out: FloatArray
    held_out_layer: FloatArray
    true: FloatArray

    def read(self, points_b: FloatArray) -> FloatArray:
        """What the head of B says of measurements of B."""
        torch = import_torch()
        with torch.no_grad():
            read: FloatArray = self.head(torch.from_numpy((points_b - self.spread[0]) / self.spread[1])).numpy()
        return read

    def attempt(self, x: FloatArray) -> dict[str, float]:
        """Held-out errors of every way to read A's neurons, given the pairs at common states x (L, 2)."""
        pairs = self.view.pairs(x) if len(x) else None
        read = {THROUGH: through_diffeo(self, pairs)(self.held_out)}
        if pairs is not None:
            # Stitching may use all that A has in this layer.
            layer, y_b = self.view.layer_of_a(x), pairs[1]
            stitch = affine_fit(layer, y_b)
            read["head of B, stitched by a linear layer"] = self.read(stitch(self.held_out_layer))
            read["the same, fine-tuned on the labels"] = fine_tuned(self, stitch, layer, labels(x))(self.held_out_layer)
            read["fresh head on A's labels"] = gaussian_process_fit(pairs[0], labels(x))(self.held_out)
        return {name: relative_error(values, self.true) for name, values in read.items()}


def through_diffeo(study: Study, pairs: tuple[FloatArray, FloatArray] | None) -> Head:
    """B's head behind the transformation that the pairs give; without pairs shape and density of the samples decide."""
    t = match(study.a, study.b, landmarks=pairs)

    def read(points_a: FloatArray) -> FloatArray:
        with errors.unsaid(errors.OutOfDomainWarning):
            return study.read(t.transform(points_a))

    return read


def fine_tuned(study: Study, stitch: Head, y_a: FloatArray, known: FloatArray) -> Head:
    """Stitching layer and B's head, all weights trained further on A's labelled measurements."""
    import copy

    torch = import_torch()
    width = study.head[0].in_features
    origin = stitch(np.zeros((1, y_a.shape[1])))
    slope = stitch(np.eye(y_a.shape[1])) - origin
    layer = torch.nn.Linear(y_a.shape[1], width).double()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy((slope / study.spread[1]).T))
        layer.bias.copy_(torch.from_numpy(((origin - study.spread[0]) / study.spread[1])[0]))
    network = torch.nn.Sequential(layer, copy.deepcopy(study.head))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x, y = torch.from_numpy(y_a), torch.from_numpy(known)
    for _ in range(TUNING_STEPS):
        loss = ((network(x) - y) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def read(points_a: FloatArray) -> FloatArray:
        with torch.no_grad():
            values: FloatArray = network(torch.from_numpy(points_a)).numpy()
        return values

    return read


def prepare(view: Measured, n: int, rng: np.random.Generator) -> tuple[Study, float]:
    """Observe both networks, train the head on B's; also the head's held-out error on B itself."""
    x_a, x_b, x = states(n, rng), states(n, rng), states(HELD_OUT, rng)
    a, b = view.observe(x_a, x_b)
    centre, spread = b.points.mean(axis=0), b.points.std(axis=0)
    head = fit(
        b.points.shape[1],
        WIDTHS,
        "Tanh",
        ((b.points - centre) / spread, labels(x_b)),
        seed=4,
        steps=STEPS,
        polish=POLISH,
        name="the head of B",
    )
    y_a, y_b = view.pairs(x)
    study = Study(view, a, b, head, (centre, spread), y_a, view.layer_of_a(x), labels(x))
    return study, relative_error(study.read(y_b), study.true)


def transfer_section(
    view: Measured, n: int, draws: int, rng: np.random.Generator, out: Path, page: Page
) -> dict[str, float]:
    """Train a head on B, let it read A in every way, print the errors and draw them.

    Parameters
    ----------
    view : View
        Hidden neurons of both networks.
    n : int
        Samples of each network, labels of the head.
    draws : int
        Draws of the pairs; the median is shown, and each draw in the picture.
    rng : Generator
    out : Path
        Folder for the picture.
    page : Page

    Returns
    -------
    dict of str to float
        Median error through diffeo by "transfer, L pairs".
    """
    from tqdm import tqdm

    print("\n(e) transfer: a head trained on B's neurons reads the oscillator's energy and power from A's")
    study, floor = prepare(view, n, rng)
    jobs = [count for count in PAIRS for _ in range(draws if count else 1)]
    found: dict[str, dict[int, list[float]]] = {}
    for count in tqdm(jobs, desc="pairs", leave=False, disable=None):
        for name, error in study.attempt(states(count, rng)).items():
            found.setdefault(name, {}).setdefault(count, []).append(error)
    lines = [f"  held-out relative error, median of {draws} draws of the pairs; the head on B itself: {floor:.2g}"]
    lines.append(f"    {'pairs':<42}" + "".join(f"{count:>9}" for count in PAIRS))
    for name, errors_of in found.items():
        cells = [f"{np.median(errors_of[count]):>9.2g}" if count in errors_of else f"{'--':>9}" for count in PAIRS]
        lines.append(f"    {name:<42}" + "".join(cells))
    print("\n".join(lines))
    picture = out / "transfer.png"
    _draw(found, floor, picture)
    page.add(
        "Transfer: a head of B reads A",
        f"A head that was trained on {n} labels of B reads energy and power from five hidden neurons of B. Behind the "
        "transformation it reads them from A's neurons as well as from B's own, and has not seen one label of A. The region of "
        "states has no symmetry, so that no pair at all will do, too: shape alone aligns the two. Rivals on the same pairs: a "
        "linear layer from all neurons of A's layer to B's five; the same with all weights tuned on the labels of the pairs; a "
        "fresh head on A (Gaussian process) that learns from these labels only.",
        lines,
        [(picture, "error against the number of pairs, for four ways to read A's neurons")],
        [through_diffeo, fine_tuned],
    )
    return {f"transfer, {count} pairs": float(np.median(found[THROUGH][count])) for count in PAIRS}


def _draw(found: dict[str, dict[int, list[float]]], floor: float, path: Path) -> None:
    figure, ax = pyplot().subplots(figsize=(8, 4.8), layout="constrained")
    # Zero has no place on a logarithmic axis; it gets one to the left of the others.
    place = {0: 1.0}
    looks = ((COLOR_A, "o"), (COLOR_B, "s"), ("#8a8a8a", "^"), ("#3f8f5f", "D"))
    for (name, by_count), (color, marker) in zip(found.items(), looks, strict=True):
        counts = [place.get(count, count) for count in by_count]
        ax.loglog(counts, [np.median(e) for e in by_count.values()], "-", color=color, linewidth=1.8)
        for at, values in zip(counts, by_count.values(), strict=True):
            ax.loglog([at] * len(values), values, marker, color=color, markersize=6, alpha=0.7)
        ax.loglog([], [], "-" + marker, color=color, label=name)
    ax.axhline(floor, color="0.5", linestyle="--", linewidth=1)
    ax.annotate("the head on B itself", (1.0, 0.9 * floor), color="0.35", va="top")
    ax.set_xticks([place.get(count, count) for count in PAIRS], [str(count) for count in PAIRS])
    ax.minorticks_off()
    ax.set_xlabel("pairs: states measured by both networks")
    ax.set_ylabel("held-out relative error")
    ax.set_title("reading energy and power from A's neurons")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)
    pyplot().close(figure)
