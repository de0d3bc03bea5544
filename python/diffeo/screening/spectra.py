"""What a sample shows of its domain without coordinates, spectrum and density, and by how much its random halves differ."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher

from diffeo import errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray
from diffeo._support.progress import stage
from diffeo._support.threads import thread_count
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.diffusion.kernel import automatic_epsilon
from diffeo.observation.curvature import SUGGESTED
from diffeo.observation.observation import Observation

# Samples of each side that are looked at: beyond them only the noise shrinks, and the cost of a screen grows.
MOST_SAMPLES = 10_000
# Random halvings of each side's sample.
SPLITS = 10
# Eigenpairs are wanted to a small part of the sampling noise.
TOLERANCE = 1e-6
# Samples of a half for each eigenvalue: fewer leave nothing of a spectrum but noise.
SAMPLES_PER_EIGENVALUE = 8
# Share of the samples outside of the largest piece of the graph, around folds say, that may be left out.
STRAY_SHARE = 0.05
# Levels at which distributions of density are compared.
LEVELS = np.linspace(0.05, 0.95, 10)
# Generator eigenvalues below this share of the last one are those of nearly separate pieces: they count as this.
SMALLEST = 1e-4

# A probability of the densities, up to a factor, below which the samples are not drawn alike.
DRAWN_ALIKE = 0.01
# Factors by which the bandwidth grows until no half of a sample falls into pieces.
WIDER = (1.0, 2.0, 4.0)

# An observation, its bandwidth, and its name.
Job = tuple[Observation, float, str]


@dataclass(frozen=True, eq=False)
class Fingerprint:
    """Numbers of one sample: logarithms of its generator eigenvalues, quantiles of the logarithm of its density.

    `gated_share` of the near pairs fail the gates of the kernel; `errors` are those of the spectrum, as they are stated.
    """

    spectrum: FloatArray
    errors: FloatArray
    density: FloatArray
    gated_share: float


@dataclass(frozen=True, eq=False)
class Comparison:
    """Numbers of both sides beside those of random halves of each side's own sample.

    Attributes
    ----------
    values : tuple of ndarray of shape (k,)
        Of A and of B, from equally many samples and with one bandwidth, so that what these bias cancels.
    halves : tuple of ndarray of shape (splits, 2, k)
        Of both halves of A's sample, and of B's. They hold half as many samples, so that only their differences from each
        other compare with those of A and B.
    distance : float
        Root mean square over the numbers of (A - B) / s, where s^2 is half the mean square of the difference between halves
        of one side: about 1 for two samples of one domain. Where the densities of both vary differently, what biases the
        spectra does not cancel: s^2 of spectra is then larger by the squared errors stated for both.
    p_value : float
        Probability of such a distance for two samples of one domain, by Fisher's F distribution: its degrees of freedom are
        those that the covariance of the halves leaves of k (Satterthwaite 1946), and the number of splits.
    difference : float
        Root mean square over the numbers of A - B.
    """

    values: tuple[FloatArray, FloatArray]
    halves: tuple[FloatArray, FloatArray]
    distance: float
    p_value: float
    difference: float


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Both sides compared.

    Attributes
    ----------
    spectra, densities : Comparison
        Of logarithms of the generator eigenvalues, and of quantiles (5 % to 95 %) of the logarithm of the kernel's row sums.
    shapes : Comparison
        Of the spectra without their common factor: as far as they do not depend on the unit of length.
    epsilon : tuple of float
        Bandwidths on A and on B: the same, unless a unit is unknown or the dimensions differ.
    n_samples : int
        On each side.
    gated_share : tuple of float
        Share of the near pairs of A, and of B, that fail the gates: where it is large, the spectrum is that of the gates.
    """

    spectra: Comparison
    densities: Comparison
    shapes: Comparison
    epsilon: tuple[float, float]
    n_samples: int
    gated_share: tuple[float, float]

    @property
    def scale(self) -> float:
        """Unit of length of B over that of A, from the spectra."""
        a, b = self.spectra.values
        return math.exp(0.5 * float((a - b).mean()))


def compare_fingerprints(
    obs_a: Observation, obs_b: Observation, *, n_eigenvalues: int, seed_value: int, n_jobs: int | None
) -> Fingerprints:
    """Fingerprints of both samples and of random halves of each, all with one bandwidth.

    A statistic of n samples with variance v / n differs between two samples by 2 v / n, and between the halves of one by
    4 v / n: halves calibrate it, whatever it is.

    Parameters
    ----------
    obs_a, obs_b : Observation
    n_eigenvalues : int
    seed_value : int
    n_jobs : int, optional

    Raises
    ------
    SampleSizeError
        Fewer than 16 samples of the smaller side for each eigenvalue.
    DisconnectedError
        A sample, or a half of one, falls into pieces.
    """
    n = min(MOST_SAMPLES, len(obs_a.usable), len(obs_b.usable))
    if n // 2 < SAMPLES_PER_EIGENVALUE * n_eigenvalues:
        raise errors.SampleSizeError(
            f"{n} samples: {n_eigenvalues} eigenvalues need {2 * SAMPLES_PER_EIGENVALUE * n_eigenvalues} on each side"
        )
    known_unit = obs_a.known_unit and obs_b.known_unit
    sides = []
    for number, obs in enumerate((obs_a, obs_b)):
        rng = np.random.default_rng([seed_value, number])
        sides.append(obs[np.sort(rng.permutation(obs.usable)[:n])])
    epsilons = [automatic_epsilon(side, n_jobs) for side in sides]
    # Bandwidths for different dimensions are of different orders, and so are the spectra: no bias need cancel.
    if known_unit and obs_a.dim == obs_b.dim:
        epsilons = [max(epsilons)] * 2
    for factor in WIDER:
        widths = [factor * epsilon for epsilon in epsilons]
        try:
            found = _all(_jobs(sides, widths, seed_value), n_eigenvalues, n_jobs)
            break
        except errors.DisconnectedError:
            # A half has gaps that all samples bridge.
            if factor == WIDER[-1]:
                raise
    sides_found = (found[: 1 + 2 * SPLITS], found[1 + 2 * SPLITS :])
    spectra, densities = (
        [[getattr(one, name) for one in side] for side in sides_found] for name in ("spectrum", "density")
    )
    if not known_unit:
        # Only ratios mean anything.
        spectra, densities = _centred(spectra), _centred(densities)
    drawn = _comparison(densities)
    # Domains of another size have another density throughout; what biases spectra is how it varies.
    varied = _comparison(_centred(densities))
    first, second = (side[0].errors for side in sides_found)
    doubt = np.hypot(first, second) if varied.p_value < DRAWN_ALIKE else np.zeros(n_eigenvalues)
    return Fingerprints(
        _comparison(spectra, doubt),
        drawn,
        _comparison(_centred(spectra), doubt),
        (widths[0], widths[1]),
        n,
        (sides_found[0][0].gated_share, sides_found[1][0].gated_share),
    )


def _jobs(sides: list[Observation], epsilons: list[float], seed_value: int) -> list[Job]:
    """Both samples, each followed by its halves in pairs."""
    jobs: list[Job] = []
    for number, (side, epsilon) in enumerate(zip(sides, epsilons, strict=True)):
        name, n = f"observation {'AB'[number]}", len(side)
        jobs.append((side, epsilon, name))
        rng = np.random.default_rng([seed_value, number, 1])
        for _ in range(SPLITS):
            order = rng.permutation(n)
            halves = (order[: n // 2], order[n // 2 : 2 * (n // 2)])
            jobs += [(side[np.sort(rows)], epsilon, f"a half of {name}") for rows in halves]
    return jobs


def _all(jobs: list[Job], n_eigenvalues: int, n_jobs: int | None) -> list[Fingerprint]:
    """Fingerprints of all samples, side by side: small samples leave the threads of one nothing to do."""

    def one(job: Job) -> Fingerprint:
        # The screen says of the samples what is to be said.
        with errors.unsaid(errors.DiffeoWarning):
            return fingerprint(job[0], job[1], n_eigenvalues, job[2])

    with stage("spectra") as report, ThreadPoolExecutor(core.n_threads(thread_count(n_jobs))) as pool:
        found = []
        for done in pool.map(one, jobs):
            found.append(done)
            report(len(found), len(jobs))
    return found


def fingerprint(obs: Observation, epsilon: float, n_eigenvalues: int, name: str = "the observation") -> Fingerprint:
    """Fingerprint of one sample, in one thread; at most 5 % of its samples may lie outside of the largest piece.

    Raises
    ------
    DisconnectedError
        More of them do.
    """
    fitted = DiffusionMap(n_components=n_eigenvalues, epsilon=epsilon, tol=TOLERANCE, n_jobs=1).fit(obs)
    if fitted.n_connected_components_ > 1:
        strays = fitted.kernel_.stray_rows()
        if len(strays) > STRAY_SHARE * len(obs):
            sizes = fitted.kernel_.component_sizes()
            listed = f"{', '.join(map(str, sizes[:4]))}{', ...' if len(sizes) > 4 else ''}"
            raise errors.DisconnectedError(
                f"the kernel graph of {name} falls into {len(sizes)} pieces of {listed} of {len(obs)} samples: use neurons "
                f"that bend less, or more samples: {SUGGESTED}",
                fitted.kernel_.pieces(),
            )
        kept = np.setdiff1d(np.arange(len(obs)), strays)
        fitted = DiffusionMap(n_components=n_eigenvalues, epsilon=epsilon, tol=TOLERANCE, n_jobs=1).fit(obs[kept])
    values = fitted.generator_eigenvalues_[1:]
    finite = np.where(np.isfinite(values), values, np.max(values[np.isfinite(values)], initial=0.0))
    floored = np.maximum(finite, max(SMALLEST * finite.max(), np.finfo(float).tiny))
    # Of a logarithm; what is unknown may be anything.
    stated = np.minimum(fitted.generator_errors_[1:] / floored, 1.0)
    kernel = fitted.kernel_
    density = np.quantile(np.log(np.add.reduceat(kernel.values, kernel.indptr[:-1])), LEVELS)
    return Fingerprint(np.log(floored), stated, density, kernel.gated_share)


def _centred(sides: list[list[FloatArray]]) -> list[list[FloatArray]]:
    return [[values - values.mean() for values in side] for side in sides]


def _comparison(sides: list[list[FloatArray]], doubt: FloatArray | float = 0.0) -> Comparison:
    """Compare the numbers of both samples, first of each list, by those of their halves, which follow in pairs.

    `doubt` is how far they may be apart beyond that.
    """
    a, b = sides[0][0], sides[1][0]
    halves = [np.array(side[1:]).reshape(SPLITS, 2, -1) for side in sides]
    apart = np.concatenate([side[:, 0] - side[:, 1] for side in halves]) / np.sqrt(2.0)
    deviation = np.sqrt((apart**2).mean(axis=0))
    # Numbers without any noise (a density without a spread) are told apart by rounding alone.
    deviation = np.maximum(deviation, 1e-9)
    beyond = np.hypot(deviation, doubt)
    scores = apart / deviation
    correlation = scores.T @ scores / len(scores)
    freedom = float(np.trace(correlation) ** 2 / max(float((correlation**2).sum()), 1e-300))
    distance = float(np.sqrt((((a - b) / beyond) ** 2).mean()))
    p_value = float(fisher.sf(distance**2, max(freedom, 1.0), 2 * SPLITS))
    difference = float(np.sqrt(((a - b) ** 2).mean()))
    return Comparison((a, b), (halves[0], halves[1]), distance, p_value, difference)
