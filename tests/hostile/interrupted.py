"""Random Ctrl-C within one long call, in a process of its own: ``python interrupted.py CALL TRIES SEED SAMPLES``.

Prints one line of JSON: how many tries were interrupted, the longest CPU time and time from the signal to KeyboardInterrupt,
and whether the call still gives the bits that it gave at first.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tempfile
import threading
import time
import warnings

import diffeo
import numpy as np

WEIGHTS = np.random.default_rng(7).normal(size=(2, 2, 5))


def measured(x, side):
    y = np.tanh(x @ WEIGHTS[side] * 0.7)
    return y, 0.7 * (1.0 - y**2)[:, :, None] * WEIGHTS[side].T[None]


class Calls:
    """Every long call by its name, as a function that returns arrays."""

    def __init__(self, n):
        rng = np.random.default_rng(0)
        self.n, self.rng = n, rng
        self.x = rng.random((n, 2))
        inputs = rng.random((2, n, 2))
        self.seen = tuple(x[:, 0] + x[:, 1] ** 2 for x in inputs)
        self.a, self.b = (diffeo.Observation.from_jacobians(*measured(inputs[side], side)) for side in (0, 1))
        few, many, held = (rng.random((count, 2)) for count in (20, 150, 100))
        self.few, self.many, self.held = (tuple(measured(x, side)[0] for side in (0, 1)) for x in (few, many, held))
        self.pairs = diffeo.Pairs(self.many[0], self.many[1], measured(many, 0)[1], measured(many, 1)[1])

    def kernel(self):
        return [diffeo.mahalanobis_kernel(np.random.default_rng(4).random((30 * self.n, 2)), n_jobs=2).values]

    def neighbors(self):
        x = np.random.default_rng(1).random((40 * self.n, 2))
        return [diffeo.Observation.from_neighbors(measured(x, 0)[0], x, dim=2).whitening]

    def bursts(self):
        y, jacobians = measured(self.x, 0)
        steps = 1e-3 * np.random.default_rng(2).normal(size=(self.n, 16, 2))
        bursts = y[:, None] + np.einsum("nmp,nkp->nkm", jacobians, steps)
        return [diffeo.IsometricEmbedding().fit(diffeo.Observation.from_bursts(y, bursts, scale=1e-3)).embedding_]

    def diffusion(self):
        return [diffeo.DiffusionMap(n_components=6).fit(self.a).embedding_]

    def generator(self):
        x = np.random.default_rng(4).random((20 * self.n, 2))
        fitted = diffeo.DiffusionMap(n_components=12).fit(np.column_stack([x, x[:, 0] * x[:, 1]]))
        return [fitted.generator_eigenvalues_, fitted.generator_functions_]

    def many_dimensions(self):
        x = np.random.default_rng(5).random((self.n, 8))
        jacobians = np.broadcast_to(np.eye(20, 8), (len(x), 20, 8))
        observation = diffeo.Observation.from_jacobians(x @ np.eye(8, 20), jacobians)
        return [diffeo.DiffusionMap(n_components=12).fit(observation).generator_eigenvalues_]

    def rough(self):
        y, jacobians = measured(np.random.default_rng(6).random((3 * self.n, 2)), 0)
        off = 0.25 * np.sqrt((jacobians**2).mean()) * np.random.default_rng(7).normal(size=jacobians.shape)
        observation = diffeo.Observation.from_jacobians(y, jacobians + off)
        return [diffeo.IsometricEmbedding().fit(observation).embedding_]

    def isometry(self):
        return [diffeo.IsometricEmbedding().fit(self.a).embedding_]

    def match(self):
        return [diffeo.match(self.a, self.b, landmarks=self.few).transform(self.held[0])]

    def match_many(self):
        return [diffeo.match(self.a, self.b, landmarks=self.many, check=False).transform(self.held[0])]

    def match_small(self):
        few = self.a[:40]
        return [diffeo.match(few, self.b, landmarks=self.few).transform(self.held[0])]

    def match_diffusion(self):
        t = diffeo.match(self.a, self.b, landmarks=self.few, coordinates="diffusion", check=False)
        return [t.transform(self.held[0])]

    def match_observables(self):
        return [diffeo.match(self.a, self.b, observables=self.seen, check=False).transform(self.held[0])]

    def match_pairs(self):
        return [diffeo.match_pairs(self.pairs).transform(self.held[0])]

    def match_many_pairs(self):
        x = np.random.default_rng(8).random((2 * self.n, 2))
        (a, ja), (b, jb) = (measured(x, side) for side in (0, 1))
        return [diffeo.match_pairs(diffeo.Pairs(a, b, ja, jb)).transform(self.held[0])]

    def assess(self):
        t = diffeo.match(self.a, self.b, landmarks=self.few, check=False)
        return [np.array([diffeo.assess(t, self.held).forward.error])]

    def screen(self):
        return [np.array(diffeo.screen(self.a, self.b).summary().encode()).reshape(1)]

    def files(self):
        t = diffeo.match(self.a, self.b, landmarks=self.few, check=False)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "t.safetensors")
            for _ in range(5):
                t.save(path)
                loaded = diffeo.load(path)
        return [loaded.transform(self.held[0])]

    def observe(self):
        return [diffeo.observe(network(0), np.repeat(self.x, 20, axis=0), layer="1", batch_size=64).points]

    def suggest(self):
        return [np.asarray(diffeo.suggest_neurons(network(1), self.x, layer="1").neurons)]

    def layers(self):
        x = np.random.default_rng(3).random((2, 300, 2))
        found = diffeo.compare_layers(
            network(0), network(1), x[0], x[1], layers_a=["1"], layers_b=["1"],
            landmark_inputs=self.x[:30], held_out_inputs=self.x[30:80],
        )  # fmt: skip
        return [np.array(str(found).encode()).reshape(1)]


def network(seed):
    import torch

    torch.manual_seed(seed)
    layers = torch.nn.Linear(2, 24), torch.nn.Tanh(), torch.nn.Linear(24, 3)
    return torch.nn.Sequential(*layers).double()


def attempt(call, delay):
    """CPU time and time from the signal to KeyboardInterrupt; None where the call was over before, or nothing was raised."""
    sent = []

    def interrupt():
        sent.append((time.process_time(), time.monotonic()))
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, interrupt)
    heard = None
    try:
        timer.start()
        call()
        timer.cancel()
    except KeyboardInterrupt:
        heard = (time.process_time(), time.monotonic())
    while timer.is_alive():
        try:
            timer.join()
        except KeyboardInterrupt:
            heard = None
    return None if heard is None or not sent else tuple(b - a for a, b in zip(sent[0], heard, strict=True))


def main(name, tries, seed, samples):
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    calls, rng = Calls(samples), np.random.default_rng(seed)
    call = getattr(calls, name)
    call()
    start = time.monotonic()
    expected = call()
    took = time.monotonic() - start
    delays = []
    for _ in range(tries):
        try:
            delays.append(attempt(call, rng.uniform(0.0, took)))
        except KeyboardInterrupt:
            delays.append(None)
    gc.collect()
    same = all(np.array_equal(before, after) for before, after in zip(expected, call(), strict=True))
    heard = [one for one in delays if one is not None]
    cpu, wall = np.max(heard, axis=0).tolist() if heard else (0.0, 0.0)
    print(json.dumps({"interrupted": len(heard), "tries": tries, "cpu": cpu, "wall": wall, "took": took, "same": same}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
