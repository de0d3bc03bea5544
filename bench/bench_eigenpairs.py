"""Leading eigenpairs: against ARPACK, and against LOBPCG preconditioned by algebraic multigrid.

Every solver gets the same operator in tree order, the order that is good for all of them.
"""

from __future__ import annotations

import numpy as np
import pytest
from diffeo import _core, mahalanobis_kernel
from opponents import eigenpairs_by_arpack, eigenpairs_by_lobpcg, operator, residual

N_WANTED = 9
TOLERANCE = 1e-8


@pytest.mark.parametrize("solver", ["arpack", "lobpcg"])
@pytest.mark.parametrize("n", [10_000, 20_000], ids=["small", "large"])
def test_eigenpairs(mushroom, contest, opponent, record, size, n, solver):
    n = size(n)
    kernel = mahalanobis_kernel(mushroom(n))
    arrays = (kernel.indptr, kernel.indices, kernel.values)

    def solve():
        _, degree, scaling = _core.normalise(*arrays, 1.0, 0)
        return _core.leading_eigenpairs(*arrays, scaling, np.sqrt(degree), N_WANTED, TOLERANCE, 300, 0, 0)

    values, vectors = contest(solve)[:2]
    s, trivial = operator(kernel.in_tree_order())
    if solver == "arpack":
        found, seconds = opponent(eigenpairs_by_arpack, s, N_WANTED, TOLERANCE)
    else:
        found, seconds = opponent(eigenpairs_by_lobpcg, s, trivial, N_WANTED, TOLERANCE)
    np.testing.assert_allclose(values, found[0], atol=1e-8)
    record(
        n=n,
        entries=kernel.nnz / n,
        error=residual(s, values, vectors),
        error_of=f"residual (baseline: {residual(s, *found):.1e})",
        baseline={"arpack": "scipy eigsh", "lobpcg": "scipy lobpcg, pyamg"}[solver],
        baseline_seconds=seconds,
    )
