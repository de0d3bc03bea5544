"""Tests of layer-by-layer comparison, and of real architectures matched from end to end."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffeo  # noqa: E402
from diffeo import errors  # noqa: E402
from diffeo.charts import isometric  # noqa: E402
from diffeo.report import plots  # noqa: E402
from diffeo.verdict.layer_comparison import NOT_MATCHED, percent  # noqa: E402
from support.architectures import Rendered, Tokens, blobs, conv_net, trained  # noqa: E402
from support.networks import mlp  # noqa: E402
from torch import nn  # noqa: E402

RNG = np.random.default_rng(0)
SAMPLES = RNG.random((600, 2)), RNG.random((600, 2))
LANDMARKS, HELD_OUT = RNG.random((10, 2)), 0.03 + 0.94 * RNG.random((60, 2))


class Blind(nn.Module):
    """A network whose last layers lose an input, and then everything."""

    def __init__(self):
        super().__init__()
        self.wide, self.narrow, self.nothing = mlp(2, 10, 9, seed=4), mlp(1, 8, 6, seed=5), mlp(1, 2, seed=6)

    def forward(self, x):
        return self.nothing(0 * self.narrow(self.wide(x)[:, :1])[:, :1])


@pytest.fixture(scope="module")
def compared():
    torch.manual_seed(0)
    model = mlp(2, 12, 12, seed=3)
    with pytest.MonkeyPatch.context() as patch:
        fitted = []
        fit = isometric.IsometricEmbedding.fit
        patch.setattr(isometric.IsometricEmbedding, "fit", lambda self, obs: fitted.append(obs) or fit(self, obs))
        found = diffeo.compare_layers(
            model,
            Blind(),
            *SAMPLES,
            layers_a=["0", "1"],
            layers_b=["wide", "narrow", "nothing"],
            landmark_inputs=LANDMARKS,
            held_out_inputs=HELD_OUT,
            n_jobs=1,
        )
    return found, fitted


def test_layers_that_keep_the_input_are_equivalent_and_others_not(compared):
    found, _ = compared
    assert (found.layers_a, found.layers_b) == (["0", "1"], ["wide", "narrow", "nothing"])
    assert found.verdicts[1, 0] == "equivalent", found.table()
    assert found.forward[1, 0] < 0.01
    assert found.backward[1, 0] < 0.01
    # `narrow` sees one direction of the input: it follows from A, A does not follow from it.
    assert found.verdicts[1, 1] == "a_to_b"
    assert found.forward[1, 1] < 0.03
    assert found.backward[1, 1] > 0.3
    assert (found.verdicts[:, 2] == NOT_MATCHED).all()
    assert all("B: " in row[2] and "does not depend on the input" in row[2] for row in found.reasons)
    assert np.isnan(found.forward[:, 2]).all()
    assert found.neurons_a["1"].shape == (5,)
    assert "nothing" not in found.neurons_b


def test_each_layer_gets_its_coordinates_once(compared):
    _, fitted = compared
    assert len(fitted) == len({id(observation) for observation in fitted}) <= 4


def test_a_cell_equals_match_and_assess(compared):
    found, _ = compared
    nets = mlp(2, 12, 12, seed=3), Blind()
    layers, neurons = ("1", "wide"), (found.neurons_a["1"], found.neurons_b["wide"])
    sides = [
        diffeo.observe(net, x, layer=layer, neurons=index)
        for net, x, layer, index in zip(nets, SAMPLES, layers, neurons, strict=True)
    ]
    marks, pairs = (
        tuple(
            diffeo.capture(net, x, layer)[layer][:, index]
            for net, layer, index in zip(nets, layers, neurons, strict=True)
        )
        for x in (LANDMARKS, HELD_OUT)
    )
    t = diffeo.match(*sides, landmarks=marks, n_jobs=1)
    assert found.forward[1, 0] == pytest.approx(diffeo.relative_error(t.transform(pairs[0]), pairs[1]), rel=0.05)


def test_the_table_says_errors_verdicts_and_reasons(compared):
    found, _ = compared
    lines = found.table().splitlines()
    assert lines[0].split() == ["A", "\\", "B", "wide", "narrow", "nothing"]
    assert "=" in lines[2]
    assert lines[2].startswith("1 ")
    assert any(line.startswith("- 0 / nothing, 1 / nothing: B: ") and "does not depend" in line for line in lines)
    assert "margin 5 %" in found.table()


@pytest.mark.parametrize(
    ("error", "text"),
    [(0.00012345, "0.012"), (0.0995, "10"), (0.0994, "9.9"), (0.998, "100"), (12.0, "1200"), (np.nan, "--")],
)
def test_errors_in_percent(error, text):
    assert percent(error) == text


def test_the_heat_map_draws_into_given_axes(compared):
    pytest.importorskip("matplotlib")
    found, _ = compared
    ax = plots.pyplot().subplots()[1]
    assert found.plot(ax) is ax
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("none") == int(np.isnan(found.forward).sum())
    assert [label.get_text() for label in ax.get_xticklabels()] == found.layers_b
    plots.pyplot().close(ax.figure)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"neurons": "best"}, errors.ParameterError, "neurons"),
        ({"neurons": 0}, errors.ParameterError, "neurons"),
        ({"margin": 2.0}, errors.ParameterError, "margin"),
        ({"reduce": ("mean", None, None)}, errors.ParameterError, "3 rules"),
        ({"layers_a": "9"}, errors.LayerError, "'9'"),
        ({"held_out_inputs": HELD_OUT[:, :1]}, errors.CaptureError, "fails on rows"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, error, message):
    given = {"layers_a": "0", "layers_b": "0", "landmark_inputs": LANDMARKS, "held_out_inputs": HELD_OUT, "neurons": 5}
    nets = mlp(2, 12, seed=3), mlp(2, 12, seed=4)
    with pytest.raises(error, match=message):
        diffeo.compare_layers(*nets, SAMPLES[0][:200], SAMPLES[1][:200], **given | arguments)


# --- real architectures ---


def test_convolutions_against_a_transformer_on_pictures():
    conv, tokens = Rendered(trained(conv_net(1, channels=4), 20)), Rendered(trained(Tokens(2, depth=1), 40))
    found = diffeo.compare_layers(
        conv,
        tokens,
        *SAMPLES,
        layers_a=["network.4"],
        layers_b=["network.encoder.layers.0"],
        reduce=("mean", None),
        landmark_inputs=LANDMARKS,
        held_out_inputs=HELD_OUT,
        neurons="suggest",
        n_jobs=1,
    )
    assert found.verdicts[0, 0] == "equivalent", found.table()
    assert max(found.forward[0, 0], found.backward[0, 0]) < 0.02


def tangents_of_blobs(x, step=1e-5):
    """Orthonormal tangents (n, 1, S, S, 2) of the set of pictures, and the pictures."""
    ways = [(blobs(x + step * e) - blobs(x - step * e)) / (2 * step) for e in np.eye(2)]
    columns = np.stack([way.reshape(len(x), -1) for way in ways], axis=2)
    return np.linalg.qr(columns)[0].reshape(*ways[0].shape, 2)


def test_pictures_with_tangents_measure_the_set_of_pictures():
    model = conv_net(1, channels=4)
    pictures, tangents = blobs(SAMPLES[0][:50]), tangents_of_blobs(SAMPLES[0][:50])
    found = diffeo.observe(model, pictures, layer="5", reduce="mean", tangents=tangents, dim=2)
    step = 1e-6 * tangents[..., 0]
    ahead, behind = (diffeo.capture(model, pictures + s * step, "5", reduce="mean")["5"] for s in (1, -1))
    along = np.einsum("nmd,nm->nd", found.whitening, (ahead - behind) / 2e-6)
    # Whitened, a unit step along the set of pictures has length one.
    np.testing.assert_allclose(np.linalg.norm(along, axis=1), 1.0, atol=1e-5)


def test_piecewise_linear_networks_need_slopes_or_smoothing_and_say_so():
    nets = [Rendered(trained(conv_net(s, channels=4, activation=nn.ReLU, pool=nn.MaxPool2d), 20)) for s in (1, 2)]
    rules = [diffeo.RandomProjection(12, rng=s) for s in (1, 2)]

    def matched(smooth, covariances="auto"):
        def seen(x):
            found = [
                diffeo.capture(net, x, "network.2", reduce=rule, smooth=smooth)["network.2"]
                for net, rule in zip(nets, rules, strict=True)
            ]
            return tuple(found)

        sides = [
            diffeo.observe(net, x, layer="network.2", reduce=rule, smooth=smooth, covariances=covariances, dim=2)
            for net, x, rule in zip(nets, SAMPLES, rules, strict=True)
        ]
        a, b = seen(HELD_OUT)
        return diffeo.relative_error(diffeo.match(*sides, landmarks=seen(LANDMARKS), n_jobs=1).transform(a), b)

    with pytest.warns(errors.PiecewiseLinearWarning, match=r"relu.*smooth="):
        plain = matched(None, "jacobians")
    with pytest.warns(errors.PiecewiseLinearWarning, match=r"relu.*bursts of 16"):
        slopes = matched(None)
    assert slopes < 0.95 * plain
    assert matched(0.05) < min(0.015, plain / 3)


def test_common_inputs_compare_all_layers_by_derivatives():
    a, b = mlp(2, 16, 12, 1, activation=torch.nn.ReLU), mlp(2, 20, 4, seed=3)
    found = diffeo.compare_layers(
        a, b, common_inputs=np.random.default_rng(0).random((300, 2)), layers_a=["1", ""], layers_b=["1", ""]
    )
    assert found.layers_a == ["1", ""]
    assert found.verdicts[0].tolist() == ["equivalent", "equivalent"]
    # The output of A is one number, which cannot determine two inputs.
    assert found.verdicts[1].tolist() == ["b_to_a", "b_to_a"]
    assert found.forward[0].max() < 0.05
    assert "4 comparisons were made, each at level 5 %" in found.table()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"common_inputs": np.zeros((50, 2)), "inputs_a": np.zeros((50, 2))}, "take the place of other inputs"),
        ({"common_inputs": np.zeros((50, 2)), "neurons": 5}, "take the place of other inputs"),
        ({"inputs_a": np.zeros((50, 2))}, "give common_inputs, or"),
    ],
)
def test_common_inputs_stand_alone(more, message):
    with pytest.raises(errors.ParameterError, match=message):
        diffeo.compare_layers(mlp(2, 8, 3), mlp(2, 8, 3, seed=1), layers_a="", layers_b="", **more)
