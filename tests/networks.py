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
