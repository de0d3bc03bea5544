"""One default fit from Jacobians in a process of its own: seconds and peak memory as JSON.

``python -m bench.million [--n N] [--n-components K] [--torch]``
"""

from __future__ import annotations

import argparse
import json
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=1_000_000, help="samples (5 measurements of 2 inputs)")
    parser.add_argument("--n-components", type=int, default=9, help="nontrivial eigenpairs")
    parser.add_argument("--torch", action="store_true", help="load torch, and run it once, before diffeo")
    given = parser.parse_args()
    if given.torch:
        import torch

        torch.ones(500, 500) @ torch.ones(500, 500)  # starts its threads
    from diffeo import DiffusionMap, Observation

    from bench import memory, samples

    points, jacobians = samples.unit_derivatives(given.n)
    inputs = (points.nbytes + jacobians.nbytes) / memory.MEBIBYTE
    start = time.perf_counter()
    fitted = DiffusionMap(n_components=given.n_components).fit(Observation.from_jacobians(points, jacobians))
    seconds = time.perf_counter() - start
    result = {
        "seconds": seconds,
        "peak_mib": memory.peak_of_process(),
        "inputs_mib": inputs,
        "entries": fitted.kernel_.nnz / given.n,
        "residual": float(fitted.residuals_.max()),
        "eigenvalues": fitted.eigenvalues_.tolist(),
        "n_iterations": fitted.n_iter_,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
