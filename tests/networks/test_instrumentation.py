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
