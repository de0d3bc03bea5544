"""Pictures: what is drawn into the given axes, and that nothing is shown."""

from __future__ import annotations

import sys

import numpy as np
import pytest

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from diffeo import errors  # noqa: E402
from diffeo.report import plots  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from support.samples import square  # noqa: E402


@pytest.fixture
def ax(monkeypatch):
    def show(*_, **__):
        raise AssertionError("a plotting function opened a window")

    monkeypatch.setattr(plt, "show", show)
    figure, axes = plt.subplots()
    before = plt.get_fignums()
    yield axes
    # Drawn, and into the given figure only.
    figure.canvas.draw()
    assert plt.get_fignums() == before
    plt.close(figure)


@pytest.mark.parametrize("backend", ["agg", "svg"])
def test_the_backend_stays_that_of_the_user(backend):
    matplotlib.use(backend)
    try:
        assert plots.pyplot() is plt
        assert matplotlib.get_backend().lower() == backend
    finally:
        matplotlib.use("agg")


def test_a_missing_matplotlib_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(errors.MissingDependencyError, match=r"pip install 'diffeo\[plot\]'"):
        plots.pyplot()


@pytest.mark.parametrize("dim", [1, 2])
def test_colors_are_rgb_and_tell_inputs_apart(dim):
    x = square(200, dim) * 7.0 - 3.0
    colors = plots.input_colors(x)
    assert colors.shape == (200, 3)
    assert ((colors >= 0) & (colors <= 1)).all()
    np.testing.assert_allclose(plots.input_colors(100.0 * x + 5.0), colors, atol=1e-12)
    # The ramp of one input has 256 steps, the map of two none.
    assert len(np.unique(colors.round(6), axis=0)) > (100 if dim == 1 else 199)


def test_corners_of_the_square_have_four_distinct_colors():
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    colors = plots.input_colors(corners)
    gaps = np.linalg.norm(colors[:, None] - colors[None], axis=2)[np.triu_indices(4, 1)]
    assert gaps.min() > 0.3


@pytest.mark.parametrize("c", [1, 2, 4])
def test_embedding(ax, c):
    coordinates = square(300, c)
    assert plots.plot_embedding(coordinates, plots.input_colors(square(300)), ax, title="A") is ax
    (scatter,) = ax.collections
    drawn = np.asarray(scatter.get_offsets())
    np.testing.assert_array_equal(drawn[:, 0], coordinates[:, 0])
    if c == 1:
        # Drawn against its rank: increasing along the coordinate.
        assert (np.diff(drawn[np.argsort(drawn[:, 0]), 1]) > 0).all()
    else:
        np.testing.assert_array_equal(drawn[:, 1], coordinates[:, 1])
    assert ax.get_title() == "A"
    assert ax.get_xlabel()
    assert ax.get_ylabel()


def test_large_embeddings_are_thinned(ax):
    n = 3 * plots.MAX_POINTS
    plots.plot_embedding(square(n), plots.input_colors(square(n)), ax)
    assert len(ax.collections[0].get_offsets()) == plots.MAX_POINTS
    assert len(ax.collections[0].get_facecolors()) == plots.MAX_POINTS


def test_spectra_of_unequal_length(ax):
    a, b = np.array([1.0, 4.0, 9.0, 16.0]), np.array([1.1, 4.1, 9.3])
    assert plots.plot_spectra(a, b, ax, title="spectra") is ax
    first, second = ax.lines
    np.testing.assert_array_equal(first.get_ydata(), a[:3])
    np.testing.assert_array_equal(second.get_ydata(), b)
    np.testing.assert_array_equal(first.get_xdata(), [1, 2, 3])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["network A", "network B"]
    assert ax.get_ylim()[0] == 0.0


@pytest.mark.parametrize("m", [1, 3])
def test_prediction(ax, m):
    true = square(50, m)
    predicted = true + 0.01
    assert plots.plot_prediction(true, predicted, ax, title="held out") is ax
    assert len(ax.lines) == m + 1
    for k in range(m):
        np.testing.assert_array_equal(ax.lines[k].get_xdata(), true[:, k])
        np.testing.assert_array_equal(ax.lines[k].get_ydata(), predicted[:, k])
    low, high = ax.get_xlim()
    assert low < true.min() < true.max() < high
    assert ax.get_ylim() == (low, high)
    # The last line is the diagonal.
    np.testing.assert_array_equal(*ax.lines[-1].get_data())


def test_neuron_sweep(ax):
    found = [[], [0.5, 0.01], [0.002, 0.003, 0.004]]
    refusals = np.array([1.0, 1 / 3, 0.0])
    assert plots.plot_neuron_sweep(np.array([2, 3, 5]), found, refusals, 5, ax, title="sweep") is ax
    assert ax.get_yscale() == "log"
    middle = next(line for line in ax.lines if line.get_label().startswith("held-out"))
    np.testing.assert_array_equal(middle.get_xdata(), [3, 5])
    np.testing.assert_allclose(middle.get_ydata(), [0.255, 0.003])
    (twin,) = [other for other in ax.figure.axes if other is not ax]
    assert [bar.get_height() for bar in twin.patches] == list(refusals)
    assert twin.get_ylim() == (0.0, 1.0)
    low, high = ax.get_ylim()
    assert low <= 0.002
    assert high >= 0.5
    assert ax.get_legend() is not None


def test_a_sweep_where_every_draw_was_refused(ax):
    assert plots.plot_neuron_sweep(np.array([2, 3]), [[], []], np.ones(2), 5, ax) is ax


def test_grid(ax):
    lines = np.random.default_rng(0).random((3, 10, 2))
    assert plots.plot_grid(lines, lines + 0.1, square(4), ax, title="input") is ax
    drawn = [np.column_stack(line.get_data()) for line in ax.get_lines()]
    np.testing.assert_array_equal(drawn[:3], lines)
    np.testing.assert_array_equal(drawn[3:6], lines + 0.1)
    np.testing.assert_array_equal(drawn[6], square(4))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["true", "reconstructed", "known"]
    assert ax.get_title() == "input"
