"""How alike two samples of one domain are after a motion: in shape and density, or in a quantity that both report."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from diffeo import _core
from diffeo._support.arrays import FloatArray
from diffeo.alignment.motion import Motion, Residuals
from diffeo.isometry.periods import shifts_around, wrapped

# Frequencies of the comparison, in standard deviations of a normal distribution over the size of the domain: the first
# alone guides the search, all together tell motions apart.
FREQUENCY_SCALES = (1.5, 3.0, 6.0, 12.0)
FREQUENCIES_PER_SCALE = 48
# Samples of each side that the search, its end, and the comparison of motions look at.
SEARCH_SAMPLES = 600
FINE_SAMPLES = 2000
COMPARED_SAMPLES = 4000
# A motion whose discrepancy is this many times that of the best (and of what chance makes) is told apart from it.
TOLD_APART = 1.5
# Observables tell motions apart beyond this share of their spread, and beyond so many standard errors of noise.
OBSERVABLE_FLOOR, OBSERVABLE_ERRORS = 0.01, 4.0
# Samples in one local fit of an observable, in multiples of its coefficients times 4: noise wants more of them.
OBSERVABLE_NEIGHBORS = (1, 4)
# Low-frequency misfit beyond which two samples are not drawn alike: 1 of 300 that are exceeds it.
DRAWN_ALIKE = 2.0


@dataclass(eq=False)
class Shape:
    """Two samples compared by their characteristic functions."""

    samples_a: FloatArray
    samples_b: FloatArray
    rng: np.random.Generator
    frequencies: FloatArray = field(init=False)
    transform_b: FloatArray = field(init=False)
    deviation: FloatArray = field(init=False)
    compared: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        d = self.samples_a.shape[1]
        size = np.sqrt(self.samples_b.var(axis=0).sum() / d)
        scale = np.repeat(FREQUENCY_SCALES, FREQUENCIES_PER_SCALE) / size
        self.frequencies = self.rng.normal(size=(len(scale), d)) * scale[:, None]
        self.compared = _thinned(self.samples_a, COMPARED_SAMPLES, self.rng)
        compared_b = _thinned(self.samples_b, COMPARED_SAMPLES, self.rng)
        self.transform_b = self._transform(compared_b, self.frequencies)
        # Variance of an empirical characteristic function: (1 - abs(phi)^2) / n on each side, real and imaginary
        # parts together.
        variance = (1.0 - np.abs(self.transform_b) ** 2) * (1.0 / len(self.compared) + 1.0 / len(compared_b))
        self.deviation = np.sqrt(np.maximum(variance, 1e-12))

    @property
    def coarse(self) -> tuple[Residuals, ...]:
        """Residuals to minimise first: low frequencies, few samples."""
        counts = (FREQUENCIES_PER_SCALE, 2 * FREQUENCIES_PER_SCALE)
        return tuple(self._residuals_of(count, SEARCH_SAMPLES) for count in counts)

    @property
    def fine(self) -> Residuals:
        """Residuals to minimise in the end."""
        return self._residuals_of(len(self.frequencies), FINE_SAMPLES)

    @property
    def floor(self) -> float:
        """Coarse misfit that chance makes."""
        return float(np.sqrt(len(self.compared) / min(SEARCH_SAMPLES, len(self.compared)) * 2 * FREQUENCIES_PER_SCALE))

    def rough(self, linear: FloatArray, shift: FloatArray) -> float:
        """Discrepancy on few samples and low frequencies."""
        few = slice(0, 2 * FREQUENCIES_PER_SCALE)
        moved = self.compared[:SEARCH_SAMPLES] @ linear + shift
        difference = self._transform(moved, self.frequencies[few]) - self.transform_b[few]
        return float((np.abs(difference) ** 2).sum())

    def residuals(self, linear: FloatArray, shift: FloatArray) -> FloatArray:
        """Differences of the characteristic functions in standard deviations."""
        return self._residuals_of(len(self.frequencies), len(self.compared))(linear, shift)

    def mismatch(self, motion: Motion) -> float:
        """The misfit at low frequencies, where a difference of densities is, and errors of coordinates hardly are."""
        count = 2 * FREQUENCIES_PER_SCALE
        residuals = self._residuals_of(count, len(self.compared))(motion.linear, motion.shift)
        return float(np.sqrt((residuals**2).sum() / count))

    def misfit(self, linear: FloatArray, shift: FloatArray) -> float:
        """Root mean square difference in standard deviations: 1 where only chance is left."""
        return float(np.sqrt((self.residuals(linear, shift) ** 2).sum() / len(self.frequencies)))

    def tied(self, found: list[Motion]) -> list[Motion]:
        """The motions that cannot be told apart from the best, best first."""
        limit = TOLD_APART * max(1.0, min(motion.misfit for motion in found))
        return sorted((m for m in found if m.misfit <= limit), key=lambda m: m.misfit)

    def _residuals_of(self, count: int, n_samples: int) -> Residuals:
        turned: dict[bytes, FloatArray] = {}

        def residuals(linear: FloatArray, shift: FloatArray) -> FloatArray:
            # A shift only turns the phases: the sum over the samples is kept.
            key = linear.tobytes()
            if key not in turned:
                turned.clear()
                turned[key] = self._transform(self.compared[:n_samples] @ linear, self.frequencies[:count])
            here = turned[key] * np.exp(1j * (self.frequencies[:count] @ shift))
            difference = (here - self.transform_b[:count]) / self.deviation[:count]
            return np.concatenate([difference.real, difference.imag])

        return residuals

    @staticmethod
    def _transform(samples: FloatArray, frequencies: FloatArray) -> FloatArray:
        phase = samples @ frequencies.T
        mean: FloatArray = np.cos(phase).mean(axis=0) + 1j * np.sin(phase).mean(axis=0)
        return mean


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
    tree: cKDTree = field(init=False)
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
        self.tree = cKDTree(self.samples_b)
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
        return _core.local_polynomial_fit(queries, nodes, values, rows, 2, self.n_threads)

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


def _thinned(samples: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    return samples if len(samples) <= count else samples[rng.permutation(len(samples))[:count]]
