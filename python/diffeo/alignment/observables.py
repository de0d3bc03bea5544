"""How alike two samples of one domain are after a motion, in a quantity that both sides report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.point_tree import PointTree
from diffeo.alignment.motion import Motion, Residuals
from diffeo.alignment.shape import COMPARED_SAMPLES, FINE_SAMPLES, SEARCH_SAMPLES
from diffeo.isometry.periods import shifts_around, wrapped

# Observables tell motions apart beyond this share of their spread, and beyond so many standard errors of noise.
OBSERVABLE_FLOOR, OBSERVABLE_ERRORS = 0.01, 4.0
# Samples in one local fit of an observable, in multiples of its coefficients times 4: noise wants more of them.
OBSERVABLE_NEIGHBORS = (1, 4)


@dataclass(eq=False)
class Observables:
    """A quantity that both sides report, compared after the motion."""

    samples_a: FloatArray
    samples_b: FloatArray
    values_a: FloatArray
    values_b: FloatArray
    rng: np.random.Generator
    n_threads: int
    periods: FloatArray = field(default_factory=lambda: np.empty((0, 0)))
    tree: PointTree = field(init=False)
    n_neighbors: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.periods):
            # Images of the samples all around the cell.
            shifts = shifts_around(self.periods)
            cell = wrapped(self.samples_b, self.periods)
            self.samples_b = (cell[None] + shifts[:, None]).reshape(-1, cell.shape[1])
            self.values_b = np.tile(self.values_b, (len(shifts), 1))
        chosen = self.rng.permutation(len(self.samples_a))[:COMPARED_SAMPLES]
        spread = self.values_b.std(axis=0)
        self.values_b = self.values_b / spread
        self.values_a = self.values_a[chosen] / spread
        self.samples_a = self.samples_a[chosen]
        self.tree = PointTree(self.samples_b)
        self.n_neighbors = self._smoothest()

    def _smoothest(self) -> int:
        """Samples in a local fit that predict samples left out best."""
        fewest = fewest_neighbors(self.samples_b.shape[1])
        chosen = self.rng.permutation(len(self.samples_b))[:SEARCH_SAMPLES]
        queries = np.ascontiguousarray(self.samples_b[chosen])
        misses: dict[int, float] = {}
        for k in (fewest * times for times in OBSERVABLE_NEIGHBORS):
            if misses and 2 * k >= len(self.samples_b):
                break
            near = self.tree.query(queries, min(k + 1, len(self.samples_b)), workers=self.n_threads or -1)[1][:, 1:]
            misses[k] = float(((self._fitted(queries, near) - self.values_b[chosen]) ** 2).mean())
        return min(min(misses, key=misses.__getitem__), len(self.samples_b))

    def _fitted(self, queries: FloatArray, neighbors: NDArray[np.int64]) -> FloatArray:
        nodes, values = np.ascontiguousarray(self.samples_b), np.ascontiguousarray(self.values_b)
        rows = np.ascontiguousarray(neighbors, dtype=np.int64)
        return core.local_polynomial_fit(queries, nodes, values, rows, 2, self.n_threads)

    @property
    def coarse(self) -> tuple[Residuals, ...]:
        """Residuals to minimise first, on few samples."""
        return (lambda linear, shift: self._residuals_at(slice(0, SEARCH_SAMPLES), linear, shift),)

    @property
    def fine(self) -> Residuals:
        """Residuals to minimise in the end."""
        return lambda linear, shift: self._residuals_at(slice(0, FINE_SAMPLES), linear, shift)

    @property
    def floor(self) -> float:
        """Coarse misfit that tells nothing apart."""
        return OBSERVABLE_FLOOR

    def rough(self, linear: FloatArray, shift: FloatArray) -> float:
        """Misfit of few samples to the nearest on the other side."""
        moved = wrapped(self.samples_a[:SEARCH_SAMPLES] @ linear + shift, self.periods)
        nearest = self.tree.query(moved, workers=self.n_threads or -1)[1]
        return float(((self.values_b[nearest] - self.values_a[:SEARCH_SAMPLES]) ** 2).mean())

    def residuals(self, linear: FloatArray, shift: FloatArray) -> FloatArray:
        """Misfits by local quadratic interpolation; samples that land outside of the other sample do not count."""
        return self._residuals_at(slice(None), linear, shift)

    def _residuals_at(self, chosen: slice, linear: FloatArray, shift: FloatArray) -> FloatArray:
        moved = np.ascontiguousarray(wrapped(self.samples_a[chosen] @ linear + shift, self.periods))
        d = moved.shape[1]
        distance, neighbors = self.tree.query(moved, self.n_neighbors, workers=self.n_threads or -1)
        fitted = self._fitted(moved, neighbors)
        # A sample in the interior has its nearest ones around it; the weight falls off smoothly towards the outside.
        weight = np.exp(-0.5 * (distance[:, 0] / np.median(distance[:, d])) ** 2)
        misfit: FloatArray = (weight[:, None] * (fitted - self.values_a[chosen])).ravel() / np.sqrt(weight.sum())
        return misfit

    def misfit(self, linear: FloatArray, shift: FloatArray) -> float:
        """Root mean square misfit over the spread of the observable."""
        residuals = self.residuals(linear, shift)
        return float(np.sqrt((residuals**2).sum() / self.values_b.shape[1]))

    def tied(self, found: list[Motion]) -> list[Motion]:
        """The motions that cannot be told apart from the best, best first."""
        # A mean of N squares of normal errors has a relative standard deviation of sqrt(2 / N).
        noise = 1.0 + OBSERVABLE_ERRORS * np.sqrt(2.0 / len(self.samples_a))
        limit = np.sqrt(noise * min(motion.misfit for motion in found) ** 2 + OBSERVABLE_FLOOR**2)
        return sorted((m for m in found if m.misfit <= limit), key=lambda m: m.misfit)


def fewest_neighbors(dim: int) -> int:
    """Samples in a local quadratic fit: four times its coefficients."""
    return 2 * (dim + 1) * (dim + 2)
