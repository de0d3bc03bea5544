from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

GATES: tuple[float, float, float, float]
INSTRUCTION_SET: str

def use_loops(loops: object) -> str: ...
def permute_rows(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    rows: NDArray[np.int64],
    n_rows: int,
    threads: int,
) -> tuple[Any, ...]: ...

class MetricTree:
    def __init__(self, points: NDArray[np.float64], whitening: NDArray[np.float64] | None, threads: int) -> None: ...
    @property
    def size(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def order(self) -> NDArray[np.int32]: ...
    @property
    def position(self) -> NDArray[np.int32]: ...
    def assemble(self, epsilon: float, truncation: float, threads: int) -> tuple[Any, ...]: ...
    def row_statistics(
        self, epsilon: float, truncation: float, rows: NDArray[np.int32], threads: int
    ) -> tuple[Any, ...]: ...
    def cross(
        self,
        epsilon: float,
        truncation: float,
        points: NDArray[np.float64],
        whitening: NDArray[np.float64] | None,
        threads: int,
    ) -> tuple[Any, ...]: ...
    def nearest_neighbors(
        self, k: int, threads: int, transport: float = 2.0
    ) -> tuple[NDArray[np.int32], NDArray[np.float64]]: ...

def edge_lengths(
    points: NDArray[np.float64],
    whitening: NDArray[np.float64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def n_threads(requested: int) -> int: ...
def set_progress(callback: Callable[[int, int], object] | None) -> None: ...
def whitening_from_jacobians(jacobians: NDArray[np.float64], dim: int, threads: int) -> tuple[Any, ...]: ...
def whitening_from_bursts(bursts: NDArray[np.float64], scale: float, dim: int, threads: int) -> tuple[Any, ...]: ...
def whitening_from_covariances(covariances: NDArray[np.float64], dim: int, threads: int) -> tuple[Any, ...]: ...
def jacobians_from_neighbors(
    points: NDArray[np.float64], reference: NDArray[np.float64], neighbors: NDArray[np.int64], threads: int
) -> tuple[Any, ...]: ...
def normalise(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float64], alpha: float, threads: int
) -> tuple[Any, ...]: ...
def leading_eigenpairs(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    scaling: NDArray[np.float64],
    trivial: NDArray[np.float64],
    n_wanted: int,
    tolerance: float,
    max_iterations: int,
    seed: int,
    threads: int,
    tree: MetricTree | None = None,
    epsilon: float | None = None,
    truncation: float | None = None,
    alpha: float | None = None,
) -> tuple[Any, ...]: ...
def connected_components(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float64]
) -> NDArray[np.int32]: ...
def power_sums(
    indptr: NDArray[np.int64], indices: NDArray[np.int32], values: NDArray[np.float64], least: float, threads: int
) -> NDArray[np.float64]: ...
def tangent_frames(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    dim: int,
    threads: int,
) -> NDArray[np.float64]: ...
def local_steps(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    points: NDArray[np.float64],
    frames: NDArray[np.float64],
    orthonormal: bool,
    unit: float,
    threads: int,
) -> NDArray[np.float32]: ...
def local_moments(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    power: int,
    least: float,
    sums: NDArray[np.float64],
    points: NDArray[np.float64],
    steps: NDArray[np.float32] | None,
    unit: float,
    ridge: float,
    threads: int,
) -> tuple[Any, ...]: ...
def local_slopes(
    indptr: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float64],
    power: int,
    least: float,
    sums: NDArray[np.float64],
    points: NDArray[np.float64],
    steps: NDArray[np.float32] | None,
    unit: float,
    mean: NDArray[np.float64],
    precision: NDArray[np.float64],
    functions: NDArray[np.float64],
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def local_polynomial_fit(
    queries: NDArray[np.float64],
    nodes: NDArray[np.float64],
    values: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    degree: int,
    threads: int,
) -> NDArray[np.float64]: ...
def local_hermite_fit(
    queries: NDArray[np.float64],
    nodes: NDArray[np.float64],
    values: NDArray[np.float64],
    gradients: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    degree: int,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
def pairs_of_fit(d: int, degree: int, with_slopes: bool) -> int: ...
def pair_fits(
    points: NDArray[np.float64],
    whitening: NDArray[np.float64],
    stretches: NDArray[np.float64],
    values: NDArray[np.float64],
    jacobians: NDArray[np.float64] | None,
    slopes: NDArray[np.float64] | None,
    queries: NDArray[np.float64],
    neighbors: NDArray[np.int64],
    degrees: NDArray[np.int64],
    tested: int,
    hidden: int,
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...

class LaplacianSolver:
    def __init__(
        self,
        n: int,
        i: NDArray[np.int64],
        j: NDArray[np.int64],
        weights: NDArray[np.float64],
        anchors: NDArray[np.float64] | None,
        threads: int,
    ) -> None: ...
    @property
    def levels(self) -> list[int]: ...
    def cycle(self, right: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def solve(
        self, right: NDArray[np.float64], tolerance: float, max_iterations: int
    ) -> tuple[NDArray[np.float64], int, float]: ...

class Stress:
    def __init__(
        self,
        n: int,
        i: NDArray[np.int64],
        j: NDArray[np.int64],
        lengths: NDArray[np.float64],
        weights: NDArray[np.float64],
        windings: NDArray[np.float64],
    ) -> None: ...
    def gradient(self, layout: NDArray[np.float64], threads: int) -> tuple[NDArray[np.float64], float]: ...
    def stiffness(
        self, unit: NDArray[np.float64], damping: float, move: NDArray[np.float64], threads: int
    ) -> NDArray[np.float64]: ...

def local_frames(
    points: NDArray[np.float64],
    whitening: NDArray[np.float64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    steps: NDArray[np.float64],
    rounds: int,
    threads: int,
) -> NDArray[np.float64]: ...
def corrected_lengths(
    points: NDArray[np.float64],
    gradients: NDArray[np.float64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    steps: NDArray[np.float64],
    lengths: NDArray[np.float64],
    believable: float,
    threads: int,
) -> NDArray[np.float64]: ...
def extend_layout(
    points: NDArray[np.float64],
    whitening: NDArray[np.float64],
    i: NDArray[np.int64],
    j: NDArray[np.int64],
    known: NDArray[np.bool_],
    layout: NDArray[np.float64],
    frames: NDArray[np.float64],
    threads: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...
