"""How alike two samples of one domain are after a motion, in shape and density."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo.alignment.motion import Motion, Residuals

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


def _thinned(samples: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    return samples if len(samples) <= count else samples[rng.permutation(len(samples))[:count]]
