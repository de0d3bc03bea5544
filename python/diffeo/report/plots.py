"""Pictures of embeddings, spectra and predictions. Every function draws into given axes and returns them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.verdict.layer_comparison import percent

# One colour a network throughout, told apart in grey by their lightness too.
COLOR_A = "#1b4f8f"
COLOR_B = "#e07b39"
COLOR_PROBLEM = "#b3261e"
# More points than this only blacken a scatter plot.
MAX_POINTS = 4000


def pyplot() -> Any:
    """Matplotlib's pyplot, with the user's backend (its own choice without a screen needs none), or what is missing."""
    try:
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise errors.MissingDependencyError("pictures need matplotlib: pip install 'diffeo[plot]'") from error
    return plt


def input_colors(inputs: FloatArray) -> FloatArray:
    """RGB of points of the input domain (n, 1 or 2): one hue ramp, or a two-way map with four distinct corners."""
    x = (inputs - inputs.min(axis=0)) / np.ptp(inputs, axis=0)
    if x.shape[1] == 1:
        from matplotlib import colormaps

        return np.asarray(colormaps["viridis"](x[:, 0]))[:, :3]
    u, v = x[:, :1], x[:, 1:2]
    corners = np.array([[0.10, 0.25, 0.65], [0.15, 0.65, 0.55], [0.85, 0.25, 0.35], [0.98, 0.83, 0.30]])
    blend: FloatArray = (
        (1 - u) * (1 - v) * corners[0] + (1 - u) * v * corners[1] + u * (1 - v) * corners[2] + u * v * corners[3]
    )
    return blend


def plot_embedding(coordinates: FloatArray, colors: FloatArray, ax: Any, *, title: str = "") -> Any:
    """Scatter intrinsic coordinates (n, c >= 1), coloured by the input; one coordinate is drawn against its rank."""
    rows = _thin(len(coordinates))
    first = coordinates[rows, 0]
    second = coordinates[rows, 1] if coordinates.shape[1] > 1 else np.argsort(np.argsort(first)) / len(first)
    ax.scatter(first, second, c=colors[rows], s=5, linewidths=0)
    ax.set_title(title)
    ax.set_xlabel("intrinsic coordinate 1")
    ax.set_ylabel("intrinsic coordinate 2" if coordinates.shape[1] > 1 else "rank")
    return ax


def plot_spectra(generator_a: FloatArray, generator_b: FloatArray, ax: Any, *, title: str = "") -> Any:
    """Nontrivial generator eigenvalues of both observations side by side."""
    k = np.arange(1, min(len(generator_a), len(generator_b)) + 1)
    ax.plot(k, generator_a[: len(k)], "o", color=COLOR_A, markersize=9, markerfacecolor="none", label="network A")
    ax.plot(k, generator_b[: len(k)], "x", color=COLOR_B, markersize=8, label="network B")
    ax.set_xticks(k)
    ax.set_xlabel("eigenvalue number")
    ax.set_ylabel("generator eigenvalue")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
    ax.set_title(title)
    return ax


def plot_prediction(true: FloatArray, predicted: FloatArray, ax: Any, *, title: str = "") -> Any:
    """Predicted against true measurements (n, m), one shade a measurement, on the diagonal where they agree."""
    shades = np.linspace(0.0, 0.75, true.shape[1])
    from matplotlib import colormaps

    for k in range(true.shape[1]):
        ax.plot(true[:, k], predicted[:, k], ".", color=colormaps["cividis"](shades[k]), markersize=3)
    span = [true.min(), true.max()]
    ax.plot(span, span, color="0.4", linewidth=0.8, zorder=0)
    margin = 0.08 * (span[1] - span[0])
    ax.set_xlim(span[0] - margin, span[1] + margin)
    ax.set_ylim(span[0] - margin, span[1] + margin)
    ax.set_xlabel("true measurement of B")
    ax.set_ylabel("predicted from A")
    ax.set_title(title)
    return ax


def plot_grid(true: FloatArray, found: FloatArray, known: FloatArray, ax: Any, *, title: str = "") -> Any:
    """Lines (k, count, 2) of the true input under the reconstructed ones, with the known inputs (L, 2)."""
    for k in range(len(true)):
        ax.plot(*true[k].T, "-", color="0.75", linewidth=4, label="true" if k == 0 else None)
    for k in range(len(found)):
        ax.plot(*found[k].T, "-", color=COLOR_A, linewidth=1, label="reconstructed" if k == 0 else None)
    ax.plot(*known.T, "o", color=COLOR_B, markersize=9, label="known")
    ax.set_aspect("equal")
    ax.set_xlabel("input 1")
    ax.set_ylabel("input 2")
    ax.set_title(title)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
    return ax


def plot_neuron_sweep(
    counts: FloatArray,
    errors_by_count: list[FloatArray],
    refusals: FloatArray,
    whitney: int,
    ax: Any,
    *,
    flagged_draws: list[NDArray[np.bool_]] | None = None,
    title: str = "",
) -> Any:
    """Held-out error of every draw against the number of neurons, and the draws that were flagged or refused.

    `errors_by_count` holds the errors of the draws that gave a map, `flagged_draws` which of those came with a named
    problem (drawn red), and `refusals` the share of all draws that were flagged or refused.
    """
    for k, (count, found) in enumerate(zip(counts, errors_by_count, strict=True)):
        doubted = np.zeros(len(found), dtype=bool) if flagged_draws is None else flagged_draws[k]
        for color, rows in ((COLOR_A, ~doubted), (COLOR_PROBLEM, doubted)):
            chosen = np.asarray(found)[rows]
            ax.semilogy(np.full(len(chosen), count), chosen, "o", color=color, alpha=0.7, markersize=6)
    middle = [(c, float(np.median(e))) for c, e in zip(counts, errors_by_count, strict=True) if len(e)]
    ax.semilogy(
        *zip(*middle, strict=True), "-", color=COLOR_A, linewidth=1.5, label="held-out error (median, each draw)"
    )
    ax.axvline(whitney, color="0.5", linestyle="--", linewidth=1)
    ax.annotate(f" 2d+1 = {whitney}", (whitney, 0.97), xycoords=("data", "axes fraction"), va="top", color="0.35")
    ax.set_xlabel("neurons of each network")
    ax.set_ylabel("relative error")
    ax.set_xticks(counts)
    low, high = ax.get_ylim()
    ax.set_ylim(10.0 ** np.floor(np.log10(low)), 10.0 ** np.ceil(np.log10(high)))
    ax.set_title(title)
    flagged = ax.twinx()
    flagged.bar(counts, refusals, width=0.35, color=COLOR_PROBLEM, alpha=0.25)
    flagged.set_ylim(0, 1)
    flagged.set_ylabel("share of draws flagged or refused", color=COLOR_PROBLEM)
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return ax


def plot_layers(comparison: Any, ax: Any, *, title: str = "") -> Any:
    """Heat map of a `LayerComparison`: the larger held-out error of both directions, in percent, on a logarithmic scale.

    Darker is better. Cells say both errors, A -> B over B -> A; empty ones have no map. A frame marks what is equivalent.
    """
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Rectangle

    worst = 100.0 * np.fmax(comparison.forward, comparison.backward)
    norm = LogNorm(min(0.01, np.nanmin(worst, initial=1.0)), 100.0, clip=True)
    image = ax.imshow(np.ma.masked_invalid(worst), norm=norm, cmap=colormaps["cividis"])
    for (i, j), error in np.ndenumerate(worst):
        if np.isnan(error):
            ax.text(j, i, "none", ha="center", va="center", color="0.4")
            continue
        texts = percent(comparison.forward[i, j]), percent(comparison.backward[i, j])
        ax.text(j, i, "\n".join(texts), ha="center", va="center", color="black" if norm(error) > 0.55 else "white")
        if comparison.verdicts[i, j] == "equivalent":
            ax.add_patch(Rectangle((j - 0.46, i - 0.46), 0.92, 0.92, fill=False, edgecolor=COLOR_B, linewidth=2))
    ax.set_xticks(
        range(len(comparison.layers_b)), [name or "output" for name in comparison.layers_b], rotation=45, ha="right"
    )
    ax.set_yticks(range(len(comparison.layers_a)), [name or "output" for name in comparison.layers_a])
    ax.set_xlabel("layer of B")
    ax.set_ylabel("layer of A")
    ax.set_title(title or f"held-out error in percent; framed: equivalent within {100 * comparison.margin:g} %")
    ax.figure.colorbar(image, ax=ax, label="larger error of both directions (%)")
    return ax


def _thin(n: int) -> Any:
    return np.linspace(0, n - 1, min(n, MAX_POINTS)).astype(np.int64)
