"""Accuracy against burst size: the input recovered from bursts, plain, corrected, smoothed, and with noisy members.

``python -m bench.bench_bursts [--quick]`` prints the table that the docstring of ``Observation.from_bursts`` shows.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import replace

import numpy as np
from diffeo import IsometricEmbedding, Observation, errors
from diffeo.observation.burst_smoothing import smoothed

from bench.bench_isometry import inputs, observe_at, relative_error

SIZES = (8, 12, 20, 32, 64, 128, 320)
SAMPLES, QUICK_SAMPLES = 10_000, 1500
# Standard deviation of a burst in input units, near the default of `observe` for the unit square.
SCALE = 0.0058
# Standard deviation of the noise of each member, in units of SCALE: the stretches lie between 0.6 and 3.
NOISE = 0.2


def measure_bursts(x: np.ndarray, size: int, noise: float, seed: int = 1) -> np.ndarray:
    """Bursts (n, K, m) through the units of `observe_at`."""
    rng = np.random.default_rng(seed)
    units = np.random.default_rng(0)
    n, d = x.shape
    weights, biases = 1.5 * units.normal(size=(2 * d + 1, d)), units.normal(size=2 * d + 1)
    z = (x[:, None, :] + SCALE * rng.normal(size=(n, size, d))) @ weights.T + biases
    members: np.ndarray = np.tanh(z) + 0.3 * z
    return members + noise * rng.normal(size=members.shape)


def as_given(observation: Observation, *, corrected: bool = True) -> Observation:
    """The metric as it is: only what comes from bursts is smoothed by IsometricEmbedding."""
    whitening = observation.whitening
    if not corrected:
        gain = np.linalg.norm(whitening[:, :, 0], axis=1) * observation.singular_values[:, 0]
        whitening = whitening / np.where(gain > 0.0, gain, 1.0)[:, None, None]
    return replace(observation, whitening=whitening, source="covariances")


def error_and_stress(observation: Observation, x: np.ndarray) -> tuple[float, float]:
    """Relative rms error of the recovered input and stress; NaN where the graph falls into pieces."""
    try:
        fitted = IsometricEmbedding().fit(observation)
    except errors.DiffeoError:
        return np.nan, np.nan
    return relative_error(fitted.embedding_, x), fitted.stress_


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES} samples, three burst sizes")
    quick = parser.parse_args().quick
    warnings.simplefilter("ignore", errors.DiffeoWarning)
    n = QUICK_SAMPLES if quick else SAMPLES
    x = inputs("square", n)
    exact = observe_at(x)
    print(f"unit square, five measurements, n = {n}, scale {SCALE}; error of the recovered input in %")
    print(f"Jacobians: {100 * error_and_stress(exact, x)[0]:.4f}")
    print(f"{'':4}  {'':28}  noise of {NOISE} scale in each member    stress / length_noise")
    print(
        f"{'K':>4}  {'plain':>7} {'corrected':>10} {'smoothed':>9}  {'corrected':>10} {'smoothed':>9} {'shrunken':>9}",
        end="",
    )
    print(f"    {'corrected':>9} {'smoothed':>9}  {'seconds':>7}")
    for size in (8, 20, 64) if quick else SIZES:
        bursts = measure_bursts(x, size, 0.0)
        clean = Observation.from_bursts(exact.points, bursts, scale=SCALE, dim=2)
        start = time.perf_counter()
        smooth = smoothed(clean)
        seconds = time.perf_counter() - start
        bursts = measure_bursts(x, size, NOISE * SCALE)
        noisy = Observation.from_bursts(exact.points, bursts, scale=SCALE, dim=2)
        row = [as_given(clean, corrected=False), as_given(clean), smooth, as_given(noisy), smoothed(noisy)]
        results = [error_and_stress(observation, x) for observation in row]
        try:
            shrunken = Observation.from_bursts(exact.points, bursts, scale=SCALE, dim=2, shrinkage="optimal")
            results.append(error_and_stress(smoothed(shrunken), x))
        except errors.RankError:  # directions that drown in the noise of small bursts
            results.append((np.nan, np.nan))
        print(f"{size:4d}  ", end="")
        widths = (7, 10, 9, 11, 9, 9)
        print(" ".join(f"{100 * error:{width}.2f}" for (error, _), width in zip(results, widths, strict=True)), end="")
        ratios = [results[1][1] / as_given(clean).length_noise, results[2][1] / smooth.length_noise]
        print(f"    {ratios[0]:9.2f} {ratios[1]:9.2f}  {seconds:7.1f}", flush=True)


if __name__ == "__main__":
    main()
