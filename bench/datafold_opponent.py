"""datafold's MahalanobisKernel, run by the interpreter of an environment of its own: ``python FILE in.npz out.npz``.

datafold pins an old NumPy, so `bench.opponents.kernel_by_datafold` starts this file with the interpreter that the
environment variable DIFFEO_DATAFOLD_PYTHON names. Two lines make it::

    python3.11 -m venv .venv-datafold && .venv-datafold/bin/pip install datafold==2.0.2
    export DIFFEO_DATAFOLD_PYTHON=$PWD/.venv-datafold/bin/python

The input holds points (n, m), whitening (n, m, d), epsilon and cut_off; the output the compressed rows of the kernel,
the seconds that datafold's call took and its version. Only that call is timed: not the start of the interpreter, the
files, or the inverse covariances W W^T, which datafold expects as its ``cov_matrices``.
"""

import sys
import time
import warnings

import numpy as np


def main() -> None:
    warnings.simplefilter("ignore")  # datafold calls this kernel experimental
    import datafold
    from datafold.pcfold.distance import init_distance_algorithm
    from datafold.pcfold.kernels import MahalanobisKernel

    with np.load(sys.argv[1]) as given:
        points, whitening = given["points"], given["whitening"]
        epsilon, cut_off = float(given["epsilon"]), float(given["cut_off"])
    inverse_covariances = whitening @ whitening.transpose(0, 2, 1)
    # datafold writes exp(-q / (2 epsilon)).
    distance = init_distance_algorithm(metric="euclidean", cut_off=cut_off)
    kernel = MahalanobisKernel(epsilon=2.0 * epsilon, distance=distance)
    start = time.perf_counter()
    matrix = kernel(points, cov_matrices=inverse_covariances)
    seconds = time.perf_counter() - start
    np.savez(
        sys.argv[2],
        data=matrix.data,
        indices=matrix.indices,
        indptr=matrix.indptr,
        seconds=seconds,
        version=datafold.__version__,
    )


if __name__ == "__main__":
    main()
