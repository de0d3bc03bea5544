"""Prints a digest of what diffeo computes in this process with two threads: alone, before or after torch is imported.

The first word of the command line says which. Both use threads of their own OpenMP runtimes, whose libraries are printed
as well. The digests of all three must be the same.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np


def digest() -> str:
    """Of diffusion and isometric coordinates of a bent square in five measurements."""
    import diffeo

    rng = np.random.default_rng(0)
    x, slopes = rng.random((3000, 2)), rng.normal(size=(5, 2))
    points = np.tanh(x @ slopes.T)
    observation = diffeo.Observation.from_jacobians(points, (1.0 - points**2)[:, :, None] * slopes)
    sums = hashlib.sha256()
    for estimator in (diffeo.DiffusionMap(n_components=6, n_jobs=2), diffeo.IsometricEmbedding(n_jobs=2)):
        sums.update(np.ascontiguousarray(estimator.fit_transform(observation)).tobytes())
    return sums.hexdigest()


def use_torch() -> None:
    """A product that torch spreads over its threads, and its gradient."""
    import torch

    torch.set_num_threads(2)
    a = torch.ones(1500, 1500, requires_grad=True)
    (a @ a).sum().backward()


def main(order: str) -> None:
    """Compute in this order, and print the digests and the runtimes."""
    found = [] if order == "after" else [digest()]
    if order != "alone":
        for _ in range(2):
            use_torch()
            found.append(digest())
    from threadpoolctl import threadpool_info

    paths = [Path(one["filepath"]) for one in threadpool_info() if one["user_api"] == "openmp"]
    print(",".join(sorted(set(found))), *sorted(f"{path.parent.name}/{path.name}" for path in paths))


if __name__ == "__main__":
    main(sys.argv[1])
