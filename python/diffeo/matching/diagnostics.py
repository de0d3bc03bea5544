"""What is known of the trustworthiness of a match, as sentences that say where and what to do."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import SIDES, Names, percent, rows_text
from diffeo.alignment.curved.registration import Registration
from diffeo.alignment.linear import CONTRADICTION, SCALE_TOLERANCE, Alignment
from diffeo.alignment.noisy_landmarks import NO_NOISE, LandmarkNoise
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.charts.problems import (
    fold_problems,
    kernel_problems,
    layout_problems,
    left_out_problems,
    loose_problems,
)
from diffeo.matching.landmark_correction import LandmarkCorrection
from diffeo.observation.folds import near_folds

# A regression on the landmarks with this relative error says nothing.
USELESS = 0.3
# Generator eigenvalues of one domain agree within a few percent, and within about 1/sqrt(n) for small samples; beyond
# this factor (and twice that) the domains differ.
SPECTRUM_FACTOR = 1.25
# Standard errors by which noise may change the scale of the landmarks.
SCALE_ERRORS = 3.0
# Reach of the samples over the narrowest spread of the landmarks, beyond which small errors become large ones.
LEVERAGE = 25.0
# Beyond this the landmarks are not used in that direction.
MOST_LEVERAGE = 1000.0
# Samples of one side have no counterpart on the other if they are farther from all of its samples than these are from each
# other, by this factor times this quantile of their distances to the nearest other one (measured with uniform samples of cubes
# in 1 to 3 dimensions: 0.2 to 0.6 % of 300 and more are named in vain, and 1 to 4 % of 20).
NO_COUNTERPART, USUAL = 1.25, 0.99
# Samples nearer than this share of their spacing are twins.
TWINS = 1e-6
# More than this share of them, and what chance makes of few samples, means that the domains differ: one sample drawn alike is
# farther away than all of n others are from each other in one case of n + 1.
NO_COUNTERPART_SHARE = 0.02
# On a line, the samples beyond the last of the other side are as many as chance has it, each further one half as likely: two
# equal samples of 60 show one of a spacing and more in 17 of 100 cases, and more than so many in 4. That is no problem yet.
BY_CHANCE = 4.0


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """What is known of the trustworthiness of a transformation.

    Attributes
    ----------
    problems : list of str
        Each names what is suspected, where, and what to do; empty when nothing is. Where the map is expected to be wrong by
        more than 1 %, one of them says by how much.
    landmark_residual : float
        Relative misfit of the landmarks in B's coordinates, each predicted from the others where there are enough.
    stress : tuple of float, or None
        Relative stress of the isometric coordinates of A and of B.
    generator_eigenvalues : tuple of ndarray, or None
        Of A and of B, per squared input unit, nontrivial ones only; with diffusion coordinates.
    gated_share : tuple of float, or None
        Share of the pairs within the kernel radius that the gates dropped, on A and on B; with diffusion coordinates.
    near_folds : tuple of ndarray of int64
        Samples of A and of B whose smallest stretch is below 1 % of its median.
    reasons : list of str
        What may be at fault if the map is wrong: stretched layouts, folds, samples left out. Problems themselves where the
        error of the map is not known.
    expected_error, expected_error_back : float or None
        Relative error that `transform`, and `inverse_transform`, are expected to have; None where that is not known (with
        ``check=False``, or a problem says why) or there is no way back. Over all samples of the side that it starts from: those
        left out of a chart, and those whose partners lie there, count with what `predicted_error` says of them.
    competed : dict of str to float
        By what each kind of map competed that was tried, "isometric", "diffusion", "registered", "pairs": the geometric mean of
        the expected errors both ways, half of it for isometric coordinates that are charts by every other sign; or, where it is
        not known, four times what landmarks miss; and at least what it misses of landmarks for which a chart of the whole
        sample has no place. The smallest was taken.
    wrong_landmarks : ndarray of int64
        Landmarks that the others contradict, ascending: rows of the landmarks given. They were left out.
    apart_landmarks : ndarray of int64
        Landmarks that were left out of the motion too, but need not be wrong: it has no samples of the other side where their
        ends lie, so that a side folds, or is torn, or the inputs fill different domains; or a layout does not keep the lengths
        around them, and those next to them do not contradict them. The expected errors count them.
    """

    problems: list[str]
    landmark_residual: float
    stress: tuple[float, float] | None
    generator_eigenvalues: tuple[FloatArray, FloatArray] | None
    gated_share: tuple[float, float] | None
    near_folds: tuple[IntArray, IntArray]
    reasons: list[str] = field(default_factory=list)
    expected_error: float | None = None
    expected_error_back: float | None = None
    competed: dict[str, float] = field(default_factory=dict)
    wrong_landmarks: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    apart_landmarks: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))


def diagnose_isometric(
    a: IsometricChart,
    b: IsometricChart,
    alignment: Alignment,
    landmarks_b: FloatArray,
    known_unit: bool,
    names: Names = SIDES,
    noise: LandmarkNoise = NO_NOISE,
) -> Diagnostics:
    """Landmarks, scale, stress, coverage and folds of a match on isometric coordinates."""
    misfit = _misfit(alignment)
    problems, reasons = list[str](), _landmark_problems(misfit, "isometric")
    if noise.explains and reasons:
        reasons = [noise_problem(misfit, len(landmarks_b), noise, (a, b), names)]
    if not len(b.embedding.periods_):
        reasons += _leverage_problems(landmarks_b, b.coordinates)
    # Noise of landmarks changes how far apart they are, by less the more there are.
    by_noise = SCALE_ERRORS * misfit / np.sqrt(max(len(landmarks_b), 1)) if noise.explains else 0.0
    if known_unit and abs(np.log(alignment.scale)) > max(SCALE_TOLERANCE, by_noise):
        problems.append(
            f"the landmarks are {alignment.scale:.3f} times as far apart on {names[1]} as on {names[0]}, "
            "although both sides measure in input units: the inputs differ in scale, or a side folds"
        )
    for name, chart in zip(names, (a, b), strict=True):
        where = f"on side {name} "
        reasons += layout_problems(where, chart)
        for text, may_be_mirrored in loose_problems(where, chart):
            (problems if may_be_mirrored else reasons).append(text)
    if alignment.kind != "projection":
        for text, is_more in _coverage_problems(b.wrapped(alignment.forward(a.coordinates)), b.coordinates, names):
            (problems if is_more else reasons).append(text)
    return Diagnostics(
        problems,
        misfit,
        (a.embedding.stress_, b.embedding.stress_),
        None,
        None,
        (near_folds(a.observation), near_folds(b.observation)),
        reasons,
    )


def diagnose_diffusion(
    a: DiffusionChart, b: DiffusionChart, alignment: Alignment, known_unit: bool, names: Names = SIDES
) -> Diagnostics:
    """Landmarks, spectra, topology, gates and folds of a match on diffusion coordinates."""
    misfit = _misfit(alignment)
    reasons = _landmark_problems(misfit, "diffusion")
    n_a, n_b = (int(chart.selection.mixing.shape[1]) for chart in (a, b))
    if n_a != n_b:
        reasons.append(
            f"{names[0]} has {n_a} independent coordinates and {names[1]} has {n_b}: the two domains have "
            "different shapes or topologies; check that both inputs fill the same domain, and add neurons to the side "
            "that folds it"
        )
    spectra = [chart.diffusion_map.generator_eigenvalues_[1:] for chart in (a, b)]
    shared = min(len(spectrum) for spectrum in spectra)
    lambda_a, lambda_b = spectra[0][:shared], spectra[1][:shared]
    if known_unit:
        noise = 2.0 / np.sqrt(min(len(a.observation), len(b.observation)))
        reasons += _spectrum_problems(lambda_a[:6], lambda_b[:6], np.log(SPECTRUM_FACTOR) + noise, names)
    shares = tuple(chart.diffusion_map.kernel_.gated_share for chart in (a, b))
    for name, chart in zip(names, (a, b), strict=True):
        reasons += kernel_problems(f"on side {name} ", chart)
    return Diagnostics(
        [],
        misfit,
        None,
        (lambda_a, lambda_b),
        (shares[0], shares[1]),
        (near_folds(a.observation), near_folds(b.observation)),
        reasons,
    )


def regression_problems(misfit: float, model: LandmarkCorrection | None, names: Names = SIDES) -> list[str]:
    """Where no rigid motion fits the landmarks: whether the landmarks carry the map themselves."""
    if model is None or misfit <= CONTRADICTION["isometric"]:
        return []
    if not model.learned:
        return ["too few landmarks to learn the map from them instead; some tens would do"]
    if model.error > USELESS:
        return [
            f"nor do the landmarks carry the map by regression (error at landmarks left out: {percent(model.error)} of "
            f"their spread): what {names[0]} measures does not determine what {names[1]} measures"
        ]
    return [
        f"the map was therefore learned from the landmarks: its error at landmarks left out is {percent(model.error)} of "
        "their spread"
    ]


def _misfit(alignment: Alignment) -> float:
    return alignment.left_out if np.isfinite(alignment.left_out) else alignment.residual


def _landmark_problems(misfit: float, kind: str) -> list[str]:
    if misfit <= CONTRADICTION[kind]:
        return []
    return [
        f"the landmarks miss their partners by {100 * misfit:.0f} % of their spread: no rigid motion joins the two "
        "embeddings; a side folds the domain, the inputs fill different domains, or landmarks are wrong"
    ]


def noise_problem(
    misfit: float, count: int, noise: LandmarkNoise, sides: tuple[IsometricChart, IsometricChart], names: Names
) -> str:
    """What noise makes of landmarks."""
    noisy = [
        f"{percent(deviation / float(np.sqrt(side.observation.points.var(axis=0).mean())))} on side {name}"
        for name, deviation, side in zip(names, noise.deviations, sides, strict=True)
        if deviation > 0.0
    ]
    return (
        f"the {count} landmarks are noisy (by {' and '.join(noisy)}, in units of the spread of a measurement), and miss their "
        f"partners by {percent(misfit)} of their own spread, as that noise makes them: the map gets better with more of them, "
        "as one over the root of their number"
    )


def spectral_scale(lambda_a: FloatArray, lambda_b: FloatArray) -> float:
    """Unit of length of B over that of A from two spectra: the root of the mean ratio of generator eigenvalues."""
    return float(np.exp(0.5 * np.mean(_log_ratio(lambda_a, lambda_b))))


def _log_ratio(lambda_a: FloatArray, lambda_b: FloatArray) -> FloatArray:
    """Log of the ratio of generator eigenvalues; those that are 0 or infinite on both sides agree."""
    least, most = np.finfo(float).tiny, np.finfo(float).max
    ratio: FloatArray = np.log(np.clip(lambda_a, least, most)) - np.log(np.clip(lambda_b, least, most))
    return ratio


def _leverage_problems(landmarks: FloatArray, coordinates: FloatArray) -> list[str]:
    """Landmarks close together or nearly in a hyperplane turn their own errors into large ones far away."""
    if len(landmarks) <= landmarks.shape[1]:
        return []
    offsets = landmarks - landmarks.mean(axis=0)
    base = float(np.linalg.svd(offsets, compute_uv=False)[-1]) / np.sqrt(len(landmarks))
    reach = float(np.sqrt(((coordinates - landmarks.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if reach <= LEVERAGE * base or base <= reach / MOST_LEVERAGE:
        return []
    return [
        f"the {len(landmarks)} landmarks span {base:.3g} in their narrowest direction, the samples reach {reach:.3g} from "
        f"them: errors of the landmarks are multiplied by {reach / base:.0f}; spread the landmarks over the domain"
    ]


def _spectrum_problems(lambda_a: FloatArray, lambda_b: FloatArray, tolerance: float, names: Names) -> list[str]:
    ratio = np.abs(_log_ratio(lambda_a, lambda_b))
    if ratio.max() <= tolerance:
        return []
    k = int(ratio.argmax())
    return [
        f"the spectra differ: generator eigenvalue {k + 1} is {lambda_a[k]:.4g} on {names[0]} and "
        f"{lambda_b[k]:.4g} on {names[1]} (per squared input unit); the two sides do not see the same domain in the same unit"
    ]


def without_counterpart(own: FloatArray, there: FloatArray, usual: float = USUAL) -> IntArray:
    """Which of `own` samples (n, d) are farther from all samples `there` (count, d), two or more, than these from each other.

    `usual` is the quantile of these distances that counts.
    """
    tree = PointTree(there)
    distances = tree.query(there, min(len(there), there.shape[1] + 2), workers=workers())[0]
    # A twin is no distance away, and says nothing of how far apart others are.
    apart = np.where(distances > TWINS * distances[:, -1:], distances, distances[:, -1:]).min(axis=1)
    return np.flatnonzero(tree.query(own, workers=workers())[0] > NO_COUNTERPART * np.quantile(apart, usual))


def many_without(lost: IntArray, own: FloatArray, there: FloatArray, by_chance: float = 1.0) -> bool:
    """Whether so many of a side's samples (n, d) have no counterpart among others (count, d) that the domains may differ."""
    return len(lost) > (NO_COUNTERPART_SHARE + by_chance / len(there)) * len(own)


def _coverage_problems(aligned_a: FloatArray, coordinates_b: FloatArray, names: Names) -> list[tuple[str, bool]]:
    """Which share of each side's samples has nothing of the other side nearby, and whether chance does not make so many."""
    problems = []
    a, b = names
    for name, other, own, there in ((a, b, aligned_a, coordinates_b), (b, a, coordinates_b, aligned_a)):
        lost = without_counterpart(own, there)
        if many_without(lost, own, there):
            text = (
                f"{100 * len(lost) / len(own):.0f} % of {name}'s samples ({rows_text(lost)}) have no counterpart in {other}'s "
                "domain: the inputs fill different domains, or an embedding is distorted; restrict both to a common domain"
            )
            problems.append((text, many_without(lost, own, there, BY_CHANCE)))
    return problems


def diagnose_registered(
    a: DiffusionChart,
    b: DiffusionChart,
    registration: Registration,
    problems: list[str],
    misfit: float,
    names: Names = SIDES,
) -> Diagnostics:
    """Diagnostics of a registered match: lengths say more than spectra and gates, which only helped to find it."""
    problems, reasons = list(problems), list[str]()
    spectra = [chart.diffusion_map.generator_eigenvalues_[1:] for chart in (a, b)]
    shared = min(len(spectrum) for spectrum in spectra)
    for name, chart in zip(names, (a, b), strict=True):
        reasons += left_out_problems(f"on side {name} ", chart.left_out, chart.observation)
        reasons += fold_problems(f"on side {name} ", chart.observation)
    if a.observation.known_unit and b.observation.known_unit and abs(registration.scale - 1.0) > SCALE_TOLERANCE:
        problems.append(
            f"lengths on {names[1]} are {registration.scale:.3f} times those on {names[0]}, although both sides "
            "measure in input units: the inputs differ in scale, or a side folds"
        )
    return Diagnostics(
        problems,
        misfit,
        (registration.stress, registration.stress),
        (spectra[0][:shared], spectra[1][:shared]),
        (a.diffusion_map.kernel_.gated_share, b.diffusion_map.kernel_.gated_share),
        (near_folds(a.observation), near_folds(b.observation)),
        reasons,
    )
