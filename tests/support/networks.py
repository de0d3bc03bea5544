"""Small networks that the tests of the first stage share."""

from __future__ import annotations

from itertools import pairwise

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def mlp(*widths, activation=nn.Tanh, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    layers = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), activation()]
    return nn.Sequential(*layers[:-1]).to(dtype)


class Call(nn.Module):
    """A module that applies a function, with a little linear map so that it has parameters."""

    def __init__(self, function, p=3, m=3, dtype=torch.float64):
        super().__init__()
        torch.manual_seed(1)
        self.inner = nn.Linear(p, m, dtype=dtype)
        self.function = function

    def forward(self, x):
        return self.function(self.inner(x))


class Square(torch.autograd.Function):
    """Has a backward rule only."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


def full_jacobian(function, x):
    """(n, m, p) by torch.func.jacrev on one sample at a time."""
    rows = [torch.func.jacrev(lambda s: function(s[None])[0].flatten())(torch.tensor(row)) for row in x]
    return torch.stack(rows).flatten(2).detach().numpy()
