"""The floor of the hardware: what a stage would take if only its unavoidable bytes and operations cost time.

Two rates are measured in each run, with the threads that diffeo uses:

- *bandwidth*: copying arrays far beyond the caches, bytes read plus bytes written a second;
- *dgemm rate*: multiply-adds of `numpy.matmul` on 2,000 x 2,000 matrices, two operations each.

A stage's bytes and operations are counted by the formulas below: every input read once, every output written once,
every useful operation done once, all at the best rates. Its floor is the larger of bytes / bandwidth and operations /
dgemm rate (both can go on at once), and the fraction shown is floor / seconds: 1 would be perfect. Searching,
sorting, exponentials beyond the 20 operations a pair, cache misses and checks count nothing, so no stage reaches 1.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from diffeo._support import core

# Bytes of one stored entry of the kernel: a column (int32) and a value (float64).
ENTRY_BYTES = 12
# Operations a pair beyond the products with the whitenings: squares, sums, the gates' comparisons, an exponential.
PAIR_OPERATIONS = 20


@dataclass(frozen=True)
class Floor:
    """Bytes and operations that a stage cannot avoid, and how they were counted."""

    bytes: float
    operations: float
    counted: str


@dataclass(frozen=True)
class Rates:
    """Bytes copied and operations done a second."""

    bandwidth: float
    dgemm: float

    def seconds(self, floor: Floor) -> float:
        """The larger of what the bytes and what the operations take."""
        return max(floor.bytes / self.bandwidth, floor.operations / self.dgemm)


def measure_rates(quick: bool = False) -> Rates:
    """Both rates, the best of five trials."""
    return Rates(_bandwidth(16 if quick else 256), _dgemm(500 if quick else 2000))


def _bandwidth(mebibytes: int) -> float:
    threads = core.n_threads(0)
    source = np.ones((threads, mebibytes * 2**20 // 8 // threads))
    target = np.zeros_like(source)
    with ThreadPoolExecutor(threads) as pool:  # copying releases the interpreter's lock
        times = [_timed(lambda: list(pool.map(np.copyto, target, source))) for _ in range(5)]
    return 2 * source.nbytes / min(times)


def _dgemm(n: int) -> float:
    a = np.ones((n, n))
    product = np.empty_like(a)
    return 2 * n**3 / min(_timed(lambda: np.matmul(a, a, out=product)) for _ in range(5))


def _timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def pair_operations(m: int, d: int) -> int:
    """8 m d + 20 for one unordered pair.

    Two one-sided distances take 4 m d; the transport W_i^T W_j 2 m d^2, which is 4 m d for d = 2.
    """
    return 8 * m * d + PAIR_OPERATIONS


def kernel_floor(n: int, m: int, d: int, stored: int, gated: int) -> Floor:
    """Points and whitenings read once, entries written once; each stored or gated pair computed once, no other."""
    pairs = (stored - n) / 2 + gated
    return Floor(
        8 * n * (m + m * d) + ENTRY_BYTES * stored,
        pairs * pair_operations(m, d),
        "8 n m (1 + d) bytes in, 12 an entry out; 8 m d + 20 operations a stored or gated pair",
    )


def dense_floor(n: int, m: int, d: int) -> Floor:
    """All n (n - 1) / 2 pairs; reading the input and writing the kernel are hidden behind them."""
    return Floor(0.0, n * (n - 1) / 2 * pair_operations(m, d), "8 m d + 20 operations for each of n (n - 1) / 2 pairs")


def whitening_floor(n: int, rows: int, columns: int, d: int) -> Floor:
    """Matrices (rows, columns) read once, whitenings written once.

    The Gram matrix of the smaller side k takes k^2 max(rows, columns) operations (half of it is known by symmetry),
    its reduction to tridiagonal form 4/3 k^3, the whitening 2 rows columns d.
    """
    k, long = min(rows, columns), max(rows, columns)
    return Floor(
        8 * n * (rows * columns + long * d + k),
        n * (k**2 * long + 4 / 3 * k**3 + 2 * rows * columns * d),
        "input and whitening once; k^2 l + 4/3 k^3 + 2 k l d operations a matrix, k <= l its sides",
    )


def eigenpairs_floor(n: int, stored: int, n_wanted: int, n_products: int) -> Floor:
    """The kernel streamed once a product, with a block of wanted vectors read and written; nothing else."""
    return Floor(
        n_products * (ENTRY_BYTES * stored + 16 * n * n_wanted),
        n_products * 2.0 * stored * n_wanted,
        "12 bytes an entry and 16 n k bytes for the block of k vectors, once an iteration",
    )
