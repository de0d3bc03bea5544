"""Networks that refuse to be looked at: derivatives fall back, outputs may be cyclic, and only their own errors are theirs."""

from __future__ import annotations

import dataclasses

import diffeo
import numpy as np
import pytest

torch = pytest.importorskip("torch")
from diffeo import errors  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402

X = np.random.default_rng(0).random((40, 2))


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 6)).double()

    def forward(self, x):
        return self.body(x)


class Checkpointed(Net):
    def forward(self, x):
        return checkpoint(self.body, x, use_reentrant=True)


class ForwardOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise AssertionError("for inference only")


class Kernel(Net):
    def forward(self, x):
        return ForwardOnly.apply(self.body(x))


@pytest.mark.parametrize("kind", [Checkpointed, Kernel])
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_derivatives_fall_back_to_differences_on_any_failure_of_theirs(kind):
    with pytest.warns(errors.ForwardModeWarning, match="central differences"):
        found = diffeo.observe(kind(), X)
    exact = diffeo.observe(Net(), X)
    np.testing.assert_allclose(found.singular_values, exact.singular_values, rtol=1e-7)


class Head(Net):
    """Whose last step is any function."""

    def __init__(self, function, kinked=False):
        super().__init__()
        self.function, self.kinked = function, kinked

    def forward(self, x):
        y = self.body(x)
        return torch.relu(y + 1) + self.function(y) if self.kinked else self.function(y)


@torch.library.custom_op("diffeo_tests::sine", mutates_args=())
def sine(y: torch.Tensor) -> torch.Tensor:
    return torch.sin(y)


def attended(y):
    from torch.nn.attention.flex_attention import flex_attention

    heads = y[:, None, :, None].expand(-1, 1, -1, 2)
    return flex_attention(heads, heads, heads)[:, 0, :, 0]


def attended_plainly(y):
    heads = y[:, None, :, None].expand(-1, 1, -1, 2)
    return torch.nn.functional.scaled_dot_product_attention(heads, heads, heads)[:, 0, :, 0]


def branched(y):
    return torch.cond(y.sum() > -1e9, torch.sin, torch.cos, (y,))


HEADS = {
    "an operator without rules": (sine, torch.sin),
    "without gradients inside": (torch.inference_mode()(torch.sin), torch.sin),
    "a branch": (branched, torch.sin),
    "flexible attention": (attended, attended_plainly),
    "compiled": (torch.compile(torch.sin, backend="eager"), torch.sin),
}


@pytest.mark.parametrize("kinked", [False, True], ids=["smooth", "kinked"])
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_operators_that_refuse_to_be_looked_at_or_to_be_differentiated(name, kinked):
    function, plain = HEADS[name]
    model, same = Head(function, kinked), Head(plain, kinked)
    np.testing.assert_allclose(diffeo.capture(model, X, "")[""], diffeo.capture(same, X, "")[""], atol=1e-14)
    found, exact = diffeo.observe(model, X), diffeo.observe(same, X)
    np.testing.assert_allclose(found.singular_values, exact.singular_values, rtol=1e-6)
    assert len(diffeo.observe(model, X, covariances="bursts", n_bursts=5, dim=2)) == 40
    # The owner's own compiled code runs as before.
    with torch.no_grad():
        torch.testing.assert_close(model(torch.tensor(X)), same(torch.tensor(X)))


def test_kinks_within_branches_are_seen():
    model = Head(lambda y: torch.cond(y.sum() > -1e9, lambda z: torch.relu(z + 1), torch.cos, (y,)))
    with pytest.warns(errors.PiecewiseLinearWarning, match="relu"), pytest.warns(errors.ForwardModeWarning):
        diffeo.observe(model, X, dim=2, covariances="jacobians")


@pytest.mark.parametrize("size", [None, 16], ids=["any batch", "batches of 16"])
def test_exported_networks(size):
    shapes = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if size is None else {}
    exported = torch.export.export(Net().eval(), (torch.zeros(size or 20, 2).double(),), **shapes).module()
    np.testing.assert_allclose(diffeo.capture(exported, X, "")[""], diffeo.capture(Net(), X, "")[""], atol=1e-15)
    for options in ({}, {"smooth": 0.01}, {"covariances": "bursts"}):
        found, same = diffeo.observe(exported, X, **options), diffeo.observe(Net(), X, **options)
        np.testing.assert_allclose(found.singular_values, same.singular_values, rtol=1e-6)


def test_a_network_of_one_batch_size_that_nothing_tells():
    class Fixed(Net):
        def forward(self, x):
            return self.body(x.reshape(16, 2))

    with pytest.raises(errors.CaptureError, match="16"):
        diffeo.observe(Fixed(), X)
    found = diffeo.observe(Fixed(), X, batch_size=16)
    np.testing.assert_allclose(found.points, diffeo.observe(Net(), X).points, atol=1e-15)
    np.testing.assert_array_equal(diffeo.capture(Fixed(), X, "", batch_size=16)[""], found.points)
    loaded = diffeo.capture(Fixed(), iter([X[:16], X[16:32], X[32:]]), "")[""]
    np.testing.assert_array_equal(loaded, found.points)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_quantised_networks_take_single_precision():
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    net = torch.ao.quantization.quantize_dynamic(Net().float().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    found = diffeo.capture(net, X, "")[""]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, diffeo.capture(Net(), X, "")[""], atol=0.05)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_what_to_do_with_networks_that_are_quantised_dynamically():
    torch.backends.quantized.engine = torch.backends.quantized.supported_engines[-1]
    net = torch.ao.quantization.quantize_dynamic(Net().float().eval(), {torch.nn.Linear}, dtype=torch.qint8)
    with pytest.raises(errors.CaptureError, match=r"'body\.0' first.*as it was before it was quantised"):
        diffeo.observe(net, X)


def test_bursts_in_bfloat16_are_refused_with_the_scale_that_would_do():
    with pytest.raises(errors.ParameterError, match=r"0\.0078 of inputs of up to .*scale=0\.13 at least") as caught:
        diffeo.observe(Net().bfloat16(), X, covariances="bursts", n_bursts=32, dim=2)
    assert "model.float()" in str(caught.value)
    with pytest.warns(errors.PrecisionWarning, match="bfloat16"):
        diffeo.observe(Net().bfloat16(), X, covariances="bursts", dim=2, scale=0.13)


def test_bursts_in_half_precision_are_wide_enough_to_be_seen():
    with pytest.warns(errors.PrecisionWarning, match="float16"):
        found = diffeo.observe(Net().half(), X, covariances="bursts", dim=2)
    assert found.options.scale >= 16 * torch.finfo(torch.float16).eps * X.max()


def test_what_the_network_raises_itself_is_its_own():
    class Broken(Net):
        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(errors.CaptureError, match=r"KeyError.*mine") as caught:
        diffeo.observe(Broken(), X)
    assert isinstance(caught.value.__cause__, KeyError)


class Node:
    """With a link to itself, as trees and graphs have."""

    def __init__(self, value):
        self.root = self
        self.links = [self, {"back": self}]
        self.value = value


@dataclasses.dataclass(slots=True)
class Slots:
    name: str
    value: torch.Tensor


@pytest.mark.parametrize("wrap", [Node, lambda y: Slots("it", y), lambda y: {"a": (None, [y])}])
def test_outputs_may_be_cyclic_or_in_slots(wrap):
    class Wrapped(Net):
        def forward(self, x):
            return wrap(self.body(x))

    np.testing.assert_array_equal(diffeo.capture(Wrapped(), X, "")[""], diffeo.capture(Net(), X, "")[""])


def test_an_output_without_a_tensor_that_refers_to_itself_is_refused():
    class Empty(Net):
        def forward(self, x):
            return Node(None)

    with pytest.raises(errors.CaptureError, match="returns no tensor"):
        diffeo.capture(Empty(), X, "")
