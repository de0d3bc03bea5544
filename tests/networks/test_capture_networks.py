"""Tests of passes: several networks over one loader, bounded memory, smoothed networks, precision, what fails and where."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import diffeo  # noqa: E402
from diffeo import errors  # noqa: E402
from diffeo.networks.batches import perturbed  # noqa: E402
from diffeo.networks.capture_activations import capture, capture_networks  # noqa: E402
from diffeo.networks.measurement import measure  # noqa: E402
from support.networks import Call, full_jacobian, mlp  # noqa: E402
from support.samples import random_orthogonal  # noqa: E402
from torch import nn  # noqa: E402


@pytest.fixture
def x():
    return np.random.default_rng(0).uniform(-1, 1, (20, 3))


# --- several networks in one pass ---


def test_networks_fed_from_one_shuffled_loader_pair_up(x, tmp_path):
    nets = {"a": mlp(3, 5, 2), "b": mlp(3, 4, 2, seed=1, dtype=torch.float32)}
    data = torch.utils.data.TensorDataset(torch.tensor(x), torch.arange(20))
    loader = torch.utils.data.DataLoader(data, batch_size=6, shuffle=True, generator=torch.Generator().manual_seed(0))
    for out in (None, tmp_path):
        found = capture_networks({**nets, "id": nn.Identity()}, loader, {"a": ["0", ""], "b": "1", "id": ""}, out=out)
        seen = np.array(found["id"][""])
        assert not np.array_equal(seen, x)  # shuffled
        np.testing.assert_array_equal(np.sort(seen, axis=0), np.sort(x, axis=0))
        np.testing.assert_allclose(found["a"][""], capture(nets["a"], seen, "")[""], atol=1e-14)
        np.testing.assert_allclose(found["b"]["1"], capture(nets["b"], seen, "1")["1"], atol=1e-6)
        assert [*found["a"]] == ["0", ""]
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*.npy")) == [
        "a/0.npy",
        "a/@output.npy",
        "b/1.npy",
        "id/@output.npy",
    ]


def test_arguments_of_capture_networks(x):
    nets = {"a": mlp(3, 2), "b": mlp(3, 2, seed=1)}
    rules = capture_networks(nets, x, "", reduce={"a": lambda y: y[:, :1], "b": None})
    assert [found[""].shape for found in rules.values()] == [(20, 1), (20, 2)]
    with pytest.raises(errors.ParameterError, match=r"\['a'\]; models \['a', 'b'\]"):
        capture_networks(nets, x, {"a": ""})
    for models in ([*nets.values()], {}, {1: nets["a"]}):
        with pytest.raises(errors.DataTypeError, match="mapping from names to networks"):
            capture_networks(models, x, "")
    with pytest.raises(errors.NonFiniteError, match="the output of 'b' in 20 of 20"):
        capture_networks({**nets, "b": Call(lambda y: y / 0)}, x, "")


# --- memory ---

LARGE = """
import resource, sys, tempfile
import numpy as np, torch
from diffeo import capture
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(8, 2048), torch.nn.Tanh(), torch.nn.Linear(2048, 256), torch.nn.Tanh())
x = np.random.default_rng(0).random((8000, 8)).astype(np.float32)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
capture(model, x[:64], ["1", "3"])
before = peak()
with tempfile.TemporaryDirectory() as folder:
    found = capture(model, x, ["1", "3"], out=folder, batch_size=8000, max_memory=int(sys.argv[1]))
    print(sum(values.nbytes for values in found.values()) / 2**20, peak() - before)
"""


def test_activations_larger_than_the_bound_stream_within_it():
    done = subprocess.run([sys.executable, "-c", LARGE, str(16 * 2**20)], capture_output=True, text=True, check=True)
    size, peak = map(float, done.stdout.split())
    assert size > 70
    assert peak < 32  # 16 MiB, and what the kernels take for themselves


def test_the_bound_counts_the_result_where_it_stays_in_memory(x, tmp_path, monkeypatch):
    model = mlp(3, 500)
    many = np.tile(x, (50, 1))
    with pytest.raises(errors.MemoryLimitError, match=r"1000 rows take 0.00373 GiB.*out=.*max_memory"):
        capture(model, many, "", max_memory=4_000_000)
    found = capture(model, many, "", max_memory=4_000_000, out=tmp_path)[""]
    np.testing.assert_allclose(found, capture(model, many, "")[""], atol=1e-14)
    with pytest.raises(errors.MemoryLimitError, match="a pass of one row"):
        capture(model, many, "", max_memory=1000, out=tmp_path)
    with pytest.raises(errors.MemoryLimitError, match="first 600 rows"):
        capture(model, (many[k : k + 200] for k in range(0, 1000, 200)), "", max_memory=4_000_000)
    monkeypatch.setenv("DIFFEO_MEMORY_LIMIT", "4e6")
    with pytest.raises(errors.MemoryLimitError, match="1000 rows"):
        capture(model, many, "")
    with pytest.raises(errors.MemoryLimitError, match=r"1000 samples of 500 neurons.*DIFFEO_MEMORY_LIMIT"):
        measure(model, many)
    with pytest.raises(errors.ParameterError, match="max_memory"):
        capture(model, x, "", max_memory=0)


# --- smoothed networks ---


def test_a_smoothed_network_is_its_mean_over_fixed_perturbations(x):
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)).double()
    found = measure(model, x, smooth=0.1, batch_size=64)  # no PiecewiseLinearWarning, which would be an error
    copies = perturbed(torch.tensor(x), 0.1).unflatten(0, (32, 20))
    offsets = (copies - torch.tensor(x)).numpy()
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:, :1], offsets.shape), atol=1e-15)
    np.testing.assert_allclose(offsets.mean(0), 0, atol=1e-15)
    assert offsets[:, 0].std() == pytest.approx(0.1, rel=0.2)
    shifted = np.stack([capture(model, x + offset[0], "")[""] for offset in offsets])
    np.testing.assert_allclose(found.points, shifted.mean(0), atol=1e-14)
    jacobians = np.stack([full_jacobian(model, x + offset[0]) for offset in offsets])
    np.testing.assert_allclose(found.jacobians, jacobians.mean(0), atol=1e-14)
    np.testing.assert_allclose(capture(model, x, "", smooth=0.1, batch_size=7)[""], found.points, atol=1e-14)
    linear = capture(model, x, "0", smooth=0.1)["0"]
    np.testing.assert_allclose(linear, capture(model, x, "0")["0"], atol=1e-14)


@pytest.fixture
def curve():
    """Inputs (40, 4) on a bent surface of two dimensions, orthonormal tangents (40, 4, 2), and others of the same span."""
    u, v = np.random.default_rng(4).random((2, 40))
    points = np.stack([u, v, u * u, np.sin(v)], axis=1)
    slopes = np.stack(
        [np.stack([o := np.ones(40), 0 * o, 2 * u, 0 * o], 1), np.stack([0 * o, o, 0 * o, np.cos(v)], 1)], 2
    )
    tangents = np.linalg.qr(slopes)[0]
    return points, tangents, tangents @ random_orthogonal(40, 2, 1)


@pytest.mark.parametrize("covariances", ["jacobians", "bursts"])
def test_smoothed_along_tangents_whatever_their_basis(curve, covariances):
    points, tangents, others = curve
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 5)).double()
    found = measure(model, points, smooth=0.1, tangents=tangents, covariances=covariances, batch_size=300)
    moved = perturbed(torch.tensor(points), 0.1, torch.tensor(tangents)).unflatten(0, (32, 40)).numpy() - points
    along = np.einsum("kip,ipd->kid", moved, tangents)
    np.testing.assert_allclose(np.einsum("kid,ipd->kip", along, tangents), moved, atol=1e-14)
    assert along.std() == pytest.approx(0.1, rel=0.1)
    mean = np.mean([capture(model, points + offset, "")[""] for offset in moved], axis=0)
    np.testing.assert_allclose(found.points, mean, atol=1e-13)
    turned = measure(model, points, smooth=0.1, tangents=others, covariances=covariances)
    np.testing.assert_allclose(turned.points, found.points, atol=1e-13)
    for batch_size in (7, 1024):
        again = capture(model, points, "", smooth=0.1, tangents=others, batch_size=batch_size)[""]
        np.testing.assert_allclose(again, found.points, atol=1e-13)
    if covariances == "jacobians":
        slopes = np.mean([full_jacobian(model, points + offset) for offset in moved], axis=0)
        np.testing.assert_allclose(found.jacobians, slopes @ tangents, atol=1e-13)
        # Perturbations of all coordinates are others.
        assert np.abs(capture(model, points, "", smooth=0.1)[""] - found.points).max() > 1e-3


def test_other_inputs_are_smoothed_along_their_tangents(curve):
    points, tangents, others = curve
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 5)).double()
    observation = diffeo.observe(model, points, smooth=0.1, tangents=tangents)
    np.testing.assert_allclose(
        observation.measure(model, points[:9], tangents=others[:9]), observation.points[:9], atol=1e-13
    )
    with pytest.raises(errors.ParameterError, match="give tangents= of these inputs"):
        observation.measure(model, points[:9])
    like = (observation, observation)
    for jacobians in (True, False):
        pairs = diffeo.measure_pairs(model, model, points[:9], like=like, tangents=others[:9], jacobians=jacobians)
        np.testing.assert_allclose(pairs.points_a, observation.points[:9], atol=1e-13)


def test_tangents_to_smooth_along_are_checked(curve):
    points, tangents, _ = curve
    model = mlp(4, 2)
    with pytest.raises(errors.ParameterError, match="give smooth="):
        capture(model, points, "", tangents=tangents)
    with pytest.raises(errors.ShapeError, match="tangents have shape"):
        capture(model, points, "", smooth=0.1, tangents=tangents[:5])
    with pytest.raises(errors.ParameterError, match="not orthonormal"):
        capture(model, points, "", smooth=0.1, tangents=2.0 * tangents)


def test_the_cost_of_smoothing_is_said(x, caplog):
    with caplog.at_level("INFO", logger="diffeo"):
        capture(mlp(3, 2), x, "", smooth=0.1)
    assert "32 perturbed copies of every input" in caplog.text


def test_what_cannot_be_smoothed(x):
    with pytest.raises(errors.ParameterError, match="smooth must be > 0"):
        capture(mlp(3, 2), x, "", smooth=0.0)
    with pytest.raises(errors.ParameterError, match="floating inputs; integers"):
        capture(nn.Embedding(4, 2), np.ones((5, 2), int), "", smooth=0.1)
    with pytest.raises(errors.DataTypeError, match="no mean over perturbed inputs"):
        capture(Call(lambda y: y.argmax(1)), x, "", smooth=0.1)


# --- precision ---


@pytest.mark.parametrize("covariances", ["jacobians", "bursts"])
def test_half_precision_is_said(x, covariances):
    scale = 0.3 if covariances == "bursts" else None
    for dtype, digits in ((torch.bfloat16, "bfloat16.*0.4 %"), (torch.float16, "float16.*0.05 %")):
        with pytest.warns(errors.PrecisionWarning, match=digits):
            found = measure(mlp(3, 4, dtype=dtype), x, covariances=covariances, scale=scale)
        assert found.points.dtype == np.float64
    with torch.autocast("cpu", torch.bfloat16), pytest.warns(errors.PrecisionWarning, match=r"model.float\(\)"):
        measure(mlp(3, 4, dtype=torch.float32), x, covariances=covariances, scale=scale)
    inside = Call(lambda y: y.bfloat16().float().tanh(), dtype=torch.float32)
    with pytest.warns(errors.PrecisionWarning, match="the output: computed in bfloat16"):
        measure(inside, x, covariances=covariances, scale=scale)
    measure(inside, x, layer="inner", covariances=covariances, scale=scale)  # before it: no warning


# --- operators without rules, and failures ---


class NoRules(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return x.sin()


def test_operators_without_any_rule_fall_back_to_differences(x):
    with pytest.warns(errors.ForwardModeWarning) as record:
        found = measure(Call(NoRules.apply), x)
    assert len(record) == 1
    assert "forward- and reverse-mode" in str(record[0].message)
    assert "central differences" in str(record[0].message)
    expected = full_jacobian(Call(torch.sin), x)
    np.testing.assert_allclose(found.jacobians, expected, atol=1e-9)
    with pytest.warns(errors.ForwardModeWarning):
        single = measure(Call(NoRules.apply).float(), x)
    np.testing.assert_allclose(single.jacobians, expected, atol=1e-3)


def test_a_failing_network_is_named_with_its_module_and_rows(x):
    def picky(y):
        if (y[:, 0] > 0.9).any():
            raise ZeroDivisionError("too large")
        return y

    model = nn.Sequential(nn.Identity(), nn.Sequential(nn.Tanh(), Call(picky))).double()
    model[1][1].inner = nn.Identity()
    late = np.concatenate([np.zeros((12, 3)), np.full((8, 3), 2.0)])
    message = r"Sequential, in its module '1.1' \(Call\), fails on rows 12 to 15: ZeroDivisionError: too large"
    for call in (lambda: capture(model, late, "1", batch_size=4), lambda: measure(model, late, batch_size=4)):
        with pytest.raises(errors.CaptureError, match=message) as caught:
            call()
        assert isinstance(caught.value.__cause__, ZeroDivisionError)
    with pytest.raises(errors.CaptureError, match=r"module '0' \(Linear\), fails on rows 0 to 19.*8x7|20x7"):
        capture(mlp(3, 2), np.ones((20, 7)), "")


def test_models_and_tensors_without_numbers(x):
    for model, message in (
        (nn.LazyLinear(3), "lazy parameters"),
        (nn.Linear(3, 2, device="meta"), "meta device"),
    ):
        with pytest.raises(errors.CaptureError, match=message):
            capture(model, x, "")
    tensor = torch.tensor(x)
    for bad, message in ((tensor.to_sparse(), "sparse_coo"), (tensor.to("meta"), "meta")):
        for call in (lambda v: capture(mlp(3, 2), v, ""), lambda v: measure(mlp(3, 2), v)):
            with pytest.raises(errors.DataTypeError, match=f"{message} tensor"):
                call(bad)
    layout = {"layout": torch.jagged}
    nested = Call(lambda y: torch.nested.as_nested_tensor([y[:2], y[2:]], **layout))
    with pytest.raises(errors.CaptureError, match="the output returns a nested tensor"):
        capture(nested, x, "")
    with pytest.raises(errors.DataTypeError, match="layers are a name or a list of names; got NoneType"):
        capture(mlp(3, 2), x, None)
    with pytest.raises(errors.ShapeError, match="neurons is not a rectangular array"):
        measure(mlp(3, 2), x, neurons=[[0], [1, 2]])


def test_compiled_and_scripted_models(x):
    model = mlp(3, 4, 2)

    class Compiled(nn.Module):  # as torch.compile wraps, without its compiler
        def __init__(self, original):
            super().__init__()
            self._orig_mod = original

        def forward(self, _x):
            raise AssertionError("the compiled code is not run")

    np.testing.assert_array_equal(capture(Compiled(model), x, "0")["0"], capture(model, x, "0")["0"])
    model[2].compile()  # a part of it, in place
    found = capture(nn.Sequential(model), x, ["0.0", "0.2"])
    np.testing.assert_array_equal(found["0.2"], capture(mlp(3, 4, 2), x, "")[""])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("script", [torch.jit.script, lambda model: torch.jit.trace(model, torch.zeros(2, 3).double())])
def test_of_torchscript_the_output_is_heard(x, script):
    model = mlp(3, 4, 2)
    np.testing.assert_array_equal(capture(script(model), x, "")[""], capture(model, x, "")[""])
    np.testing.assert_array_equal(measure(script(model), x).jacobians, measure(model, x).jacobians)
    with pytest.raises(errors.CaptureError, match="TorchScript"):
        capture(script(model), x, "0")
    assert script(model).train().training


def test_parametrised_modules_are_measured_as_they_act(x):
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(3, 4, dtype=torch.float64)), nn.Tanh())
    found = measure(model, x, layer="0")
    np.testing.assert_allclose(found.jacobians[0], model[0].weight.detach(), atol=1e-14)
    assert diffeo.observe(model, x).dim == 3
