"""Small multilayer perceptrons trained on the spot, reproducibly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from diffeo import errors

# Samples of a step: fresh uniform inputs each time, so nothing can be overfitted.
BATCH = 512


def import_torch() -> Any:
    """Torch, or the error that says how to get it."""
    try:
        import torch
    except ImportError as error:
        raise errors.MissingDependencyError("demos train networks with torch: pip install 'diffeo[demo]'") from error
    return torch


def perceptron(n_inputs: int, widths: Sequence[int], activation: str, n_outputs: int = 1) -> Any:
    """An untrained ``torch.nn.Sequential`` in double precision: layers "0", "2", ... are linear, "1", "3", ... units."""
    torch = import_torch()
    layers = []
    for width in widths:
        layers += [torch.nn.Linear(n_inputs, width), getattr(torch.nn, activation)()]
        n_inputs = width
    return torch.nn.Sequential(*layers, torch.nn.Linear(n_inputs, n_outputs)).double()


def train(
    target: Callable[[Any], Any],
    *,
    n_inputs: int,
    widths: Sequence[int],
    activation: str,
    seed: int,
    steps: int,
    name: str,
) -> tuple[Any, float]:
    """Train a perceptron on a function of uniform inputs in the unit cube; return it and its relative error.

    Adam with a cosine schedule on the mean squared error. The seed fixes initial weights and inputs.
    """
    from tqdm import trange

    torch = import_torch()
    with _reproducible(torch, seed):
        network = perceptron(n_inputs, widths, activation)
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in trange(steps, desc=f"training {name}", leave=False, disable=None):
            x = torch.rand(BATCH, n_inputs, dtype=torch.double)
            loss = ((network(x)[:, 0] - target(x)) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            x = torch.rand(4096, n_inputs, dtype=torch.double)
            truth = target(x)
            error = float(torch.linalg.norm(network(x)[:, 0] - truth) / torch.linalg.norm(truth - truth.mean()))
    return network.eval(), error


def fit(
    n_inputs: int,
    widths: Sequence[int],
    activation: str,
    data: tuple[Any, Any],
    *,
    seed: int,
    steps: int,
    polish: int,
    name: str,
) -> Any:
    """Train a perceptron on given pairs, inputs (n, n_inputs) and targets (n, n_outputs); return it.

    Adam with a cosine schedule on batches, then `polish` iterations of L-BFGS on all pairs, which gains another digit or two
    where the targets hold no noise. The seed fixes initial weights and batches.
    """
    from tqdm import tqdm

    torch = import_torch()
    x, y = (torch.as_tensor(values, dtype=torch.double) for values in data)
    with (
        _reproducible(torch, seed),
        tqdm(total=steps + polish, desc=f"training {name}", leave=False, disable=None) as bar,
    ):
        network = perceptron(n_inputs, widths, activation, y.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            rows = torch.randint(len(x), (min(len(x), BATCH),))
            loss = ((network(x[rows]) - y[rows]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            bar.update()
        # Without tolerances, which would end it at the accuracy of single precision.
        polisher = torch.optim.LBFGS(
            network.parameters(),
            max_iter=polish,
            history_size=50,
            line_search_fn="strong_wolfe",
            tolerance_grad=0.0,
            tolerance_change=0.0,
        )

        def closure() -> Any:
            polisher.zero_grad()
            loss = ((network(x) - y) ** 2).mean()
            loss.backward()
            bar.update(int(bar.n < bar.total))
            return loss

        if polish:
            polisher.step(closure)
    return network.eval()


@contextmanager
def _reproducible(torch: Any, seed: int) -> Iterator[None]:
    """A seed for what happens inside, and one thread: networks this small lose more to waking threads than they gain."""
    state, n_threads = torch.random.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.random.set_rng_state(state)
        torch.set_num_threads(n_threads)
