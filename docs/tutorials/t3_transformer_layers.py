"""
Layers of a transformer
=======================

Which layers of two transformers keep the same information? ``compare_layers`` measures all of them in a few passes and
judges every pair of layers.
"""

import diffeo
import matplotlib.pyplot as plt
import numpy as np
import torch

# %%
# A small transformer reads two numbers as two tokens. Trained twice, on two tasks: the first keeps both numbers, the second
# knows only their sum.


class Transformer(torch.nn.Module):
    """Two tokens, two blocks, and a head."""

    def __init__(self, outputs):
        super().__init__()
        self.embed, self.place = torch.nn.Linear(1, 16), torch.nn.Parameter(torch.randn(2, 16))
        self.blocks = torch.nn.ModuleList(
            torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
            for _ in range(2)
        )
        self.head = torch.nn.Linear(16, outputs)

    def forward(self, x):
        tokens = self.embed(x[..., None]) + self.place
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(dim=-2))


def trained(seed, task, outputs):
    """A transformer after 150 steps."""
    torch.manual_seed(seed)
    net = Transformer(outputs)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.005)
    for _ in range(150):
        x = torch.rand(128, 2)
        loss = (net(x) - task(x)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def both(x):
    """A task that needs both numbers."""
    return torch.stack([x[:, 0] * x[:, 1], x[:, 0] - x[:, 1]], dim=1)


def total(x):
    """A task that needs their sum only."""
    return torch.sin(2 * x.sum(dim=1, keepdim=True))


net_a, net_b = trained(0, both, outputs=2), trained(1, total, outputs=1)

# %%
# Every block of A against every block of B, and the outputs, at the same inputs. Blocks put out two tokens each:
# ``reduce`` says what to make of them. (For networks that share no inputs: ``inputs_a``, ``inputs_b`` and
# ``landmark_inputs``.)

found = diffeo.compare_layers(
    net_a,
    net_b,
    common_inputs=np.random.default_rng(0).random((200, 2)).astype("float32"),
    layers_a=("blocks.0", "blocks.1", ""),
    layers_b=("blocks.0", "blocks.1", ""),
    reduce=lambda tokens: tokens.mean(dim=-2) if tokens.dim() > 2 else tokens,
)
print(found.table())

# %%
# Each cell has the error of A's layer predicting B's, and back.

found.plot()
plt.show()

# %%
# Why a cell is what it is:

print(found.verdicts[0, 2], "-", found.reasons[0][2])
