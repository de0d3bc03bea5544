"""What landmarks teach beyond the alignment: the aligned map and regressions on the landmarks, each where it is good."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.dense import cholesky_solve
from diffeo.alignment.noisy_landmarks import averaged, beyond
from diffeo.matching.gaussian_process import SEARCHED, Process, explained, fit_process, kernel_factor, sections

# Fewer landmarks than this per intrinsic coordinate, and one more, teach nothing beyond the alignment.
LANDMARKS_PER_COORDINATE = 2
# A variance is trusted to be in scale, before any landmark is seen, as if this many landmarks had shown it.
PRIOR_LANDMARKS = 3.0
# Share of the doubt of an aligned map which falls on a regression that has the coordinates among its inputs.
DOUBT_OF_INPUTS = 0.1
# A combination that misses landmarks left out by more than this is compared with ones that have plain fits among them: an
# affine one, and kernel ridge regression with one length scale for all measurements, both chosen by landmarks left out.
PLAIN_ABOVE = 0.01
AFFINE_PENALTIES, RIDGE_PENALTIES = np.logspace(-8, 2, 21), np.logspace(-10, -1, 10)
# Inverse squared length scales, over the mean squared distance of standardised landmarks.
RIDGE_SCALES = np.logspace(-3, 1, 9)
# Fewer landmarks than this are not worth an affine fit.
FEWEST_FOR_PLAIN = 4
# A combination that misses landmarks left out by more than this share of what the aligned map misses teaches nothing: where all
# misses are noise, independent of one another, 0.74 to 1.04 was measured with 8, 22, 23 and 60 landmarks; else 0.6 and less.
USEFUL = 0.8
# Queries evaluated at once: bounds the memory to this many times the number of landmarks.
CHUNK = 8192
# Of more landmarks than this, evenly spaced ones are used: time grows with their cube, memory with their square.
MAX_LANDMARKS = 2000


@dataclass(frozen=True, eq=False)
class LandmarkCorrection:
    """Combination of k predictors of the same m measurements, weighted at each query by their precisions there.

    Predictor j is ``base[j] * prediction + offset[j] + query @ linear[j] + k_j(query, landmarks) @ dual[j]`` with a
    squared-exponential kernel k_j over the f = c + m_a numbers (coordinates, points) of a query; its variance is
    ``spread[j]**2 * (amplitude[j] + noise[j] - known[j] - explained) + doubt[j]**2``. The sum of the predictions over that of
    the precisions is a generalised product of experts (Cao and Fleet, arXiv 1410.7827). Plain arrays only, so that it can be
    stored.

    Attributes
    ----------
    landmarks : ndarray of shape (L, f)
        Coordinates, then points, of the landmarks.
    kinds : tuple of str
        "aligned" (the prediction itself), "aligned + process" (of the coordinates), "process of coordinates", "of
        points" or "of both", "affine of points" and "ridge of points".
    base : ndarray of shape (k,)
        1 where the prediction is added, else 0.
    inverse_scales : ndarray of shape (k, f)
        0 where a predictor does not use an input.
    amplitude, noise : ndarray of shape (k,)
    offset, spread, doubt : ndarray of shape (k, m)
    linear : ndarray of shape (k, f, m)
        Coefficients of the inputs; 0 but for an affine predictor.
    dual : ndarray of shape (k, L, m)
    errors : dict of str to float
        Relative error at the landmarks, each predicted from the others, beyond their own noise: of every predictor, and
        "combined".
    known : ndarray of shape (k,)
        That part of `noise` which is the landmarks' own, and no error of the prediction; 0 where none is known.
    """

    landmarks: FloatArray
    kinds: tuple[str, ...]
    base: FloatArray
    inverse_scales: FloatArray
    amplitude: FloatArray
    noise: FloatArray
    offset: FloatArray
    spread: FloatArray
    doubt: FloatArray
    dual: FloatArray
    errors: dict[str, float]
    linear: FloatArray
    known: FloatArray = field(default_factory=lambda: np.empty(0))  # none given: 0
    _factors: dict[int, FloatArray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.known) == 0:
            object.__setattr__(self, "known", np.zeros_like(self.noise))
        rows = zip(self.inverse_scales, self.amplitude, self.noise, strict=True)
        factors = {
            j: kernel_factor(self.landmarks, scales, amplitude, noise)
            for j, (scales, amplitude, noise) in enumerate(rows)
            if amplitude > 0.0
        }
        object.__setattr__(self, "_factors", factors)

    @property
    def error(self) -> float:
        """Relative error of the combination at the landmarks, each predicted from the others."""
        return self.errors["combined"]

    @property
    def learned(self) -> bool:
        """Whether the landmarks add anything to the aligned prediction."""
        return len(self._factors) > 0 or bool(self.linear.any())

    def predict(self, points: FloatArray, coordinates: FloatArray, prediction: FloatArray | None = None) -> FloatArray:
        """Combined prediction.

        Parameters
        ----------
        points : ndarray of shape (count, m_a)
        coordinates : ndarray of shape (count, c)
            Common intrinsic coordinates of the points.
        prediction : ndarray of shape (count, m)
            By the aligned map; None only if there was none at the landmarks.

        Returns
        -------
        ndarray of shape (count, m)
        """
        if prediction is not None and not self.learned:
            return prediction
        combined = np.empty((len(points), self.offset.shape[1]))
        for start in range(0, len(points), CHUNK):
            rows = slice(start, start + CHUNK)
            queries = np.column_stack([coordinates[rows], points[rows]])
            given = None if prediction is None else prediction[rows]
            experts = [self._expert(j, queries, given) for j in range(len(self.kinds))]
            combined[rows] = _combine([e[0] for e in experts], [e[1] for e in experts])
        return combined

    def deviation(self, points: FloatArray, coordinates: FloatArray) -> FloatArray:
        """Expected errors (count,) by the predictors' own variances: of the best of them, since they err together.

        Arguments are those of `predict`; an aligned prediction does not change its variance.
        """
        found = np.empty(len(points))
        for start in range(0, len(points), CHUNK):
            rows = slice(start, start + CHUNK)
            queries = np.column_stack([coordinates[rows], points[rows]])
            variances = [self._expert(j, queries, None)[1] for j in range(len(self.kinds))]
            found[rows] = np.sqrt(np.min(variances, axis=0).sum(axis=1))
        return found

    def _expert(self, j: int, queries: FloatArray, prediction: FloatArray | None) -> tuple[FloatArray, FloatArray]:
        """Prediction (count, m) of predictor j, and its variance."""
        mean = np.tile(self.offset[j], (len(queries), 1))
        if self.linear[j].any():
            # No farther than the landmarks reach, and as far again; by einsum, whose rows do not depend on one another.
            low, high = self.landmarks.min(axis=0), self.landmarks.max(axis=0)
            mean += np.einsum("nf,fm->nm", np.clip(queries, 2.0 * low - high, 2.0 * high - low), self.linear[j])
        if prediction is not None:
            mean += self.base[j] * prediction
        left = np.full(len(queries), self.noise[j] - self.known[j])
        if j in self._factors:
            kernel = sections(queries, self.landmarks, self.inverse_scales[j], self.amplitude[j])
            mean += kernel @ self.dual[j]
            # Rounding may take away more than there is.
            left += np.maximum(self.amplitude[j] - explained(self._factors[j], kernel), 0.0)
        return mean, left[:, None] * self.spread[j] ** 2 + self.doubt[j] ** 2


def learn_correction(
    points: FloatArray,
    coordinates: FloatArray,
    values: FloatArray,
    prediction: FloatArray | None = None,
    *,
    doubt: float = 0.0,
    searched: int = SEARCHED,
    noise: FloatArray | None = None,
    explained_by_noise: bool = False,
) -> LandmarkCorrection:
    """Learn from landmarks what an aligned map still misses, so that the result is the best at every number of them.

    With few landmarks nothing comes near the aligned map, with hundreds a regression overtakes it, and where the
    observation does not embed the input only the regression is right. Every predictor states its own variance:
    processes by their posterior, the aligned map by its misses at the landmarks; all of them scaled by how the landmarks
    come out when each is predicted from the others.

    Parameters
    ----------
    points : ndarray of shape (L, m_a)
        What was measured of the landmarks on the side that is mapped.
    coordinates : ndarray of shape (L, c)
        Their common intrinsic coordinates; c = 0 where there are none (then without `prediction`).
    values : ndarray of shape (L, m)
        What is to be predicted.
    prediction : ndarray of shape (L, m), optional
        What the aligned map predicts, best by an alignment that leaves that landmark out.
    doubt : float
        Relative error that the aligned map is suspected of beyond what the landmarks show (`doubt_of_stress`). It does
        not fade as landmarks accumulate: a map can be torn where none of them is.
    searched : int
        Landmarks by which length scales are sought.
    noise : ndarray of shape (m,), optional
        Variance of `values`, and of what the noise of `points` and `coordinates` makes of them: no predictor is to be blamed
        for it, or trusted for following it.
    explained_by_noise : bool
        Whether that is all by which the aligned map misses the landmarks: then they teach nothing.

    Returns
    -------
    LandmarkCorrection
        With ``learned == False``, and the prediction as its result, for fewer than 2 c + 2 distinct landmarks, and for ones
        whose misses are noise.
    """
    seen = np.linspace(0, len(points) - 1, min(len(points), MAX_LANDMARKS)).astype(np.int64)
    landmarks, values = np.column_stack([coordinates, points])[seen], values[seen]
    c, spread = coordinates.shape[1], values.std(axis=0)
    own = np.zeros(values.shape[1]) if noise is None else noise
    rows = []
    if prediction is not None:
        missed, doubted = values - prediction[seen], doubt * spread
        aligned = _aligned(landmarks, missed, doubted, averaged(own, c, len(missed)), own)
        rows.append(aligned)
        enough = len(np.unique(landmarks, axis=0)) >= LANDMARKS_PER_COORDINATE * (c + 1)
        if enough and not explained_by_noise:
            rows.append(_process("aligned + process", landmarks, slice(0, c), missed, searched, own, doubted))
            rows.append(_process("process of points", landmarks, slice(c, None), values, searched, own))
            within = DOUBT_OF_INPUTS * doubted
            rows.append(_process("process of both", landmarks, slice(0, None), values, searched, own, within))
    elif c == 0:
        rows.append(_process("process of points", landmarks, slice(0, None), values, searched, own))
    else:
        rows.append(_process("process of coordinates", landmarks, slice(0, c), values, searched, own))
        rows.append(_process("process of both", landmarks, slice(0, None), values, searched, own))
    size = float(np.linalg.norm(values - values.mean(axis=0)))
    combined = _combine([row.misses for row in rows], [row.variances for row in rows])
    processes = prediction is None or len(rows) > 1
    if processes and len(landmarks) >= FEWEST_FOR_PLAIN and beyond(combined, own, c) > PLAIN_ABOVE * size:
        rows = _with_plain(rows, landmarks, c, values, searched, own)
        combined = _combine([row.misses for row in rows], [row.variances for row in rows])
    if prediction is not None and np.linalg.norm(combined) > USEFUL * np.linalg.norm(aligned.misses):
        # It would carry the errors of single landmarks into the map.
        rows, combined = [aligned], aligned.misses
    misses = {row.kind: row.misses for row in rows} | {"combined": combined}
    return LandmarkCorrection(
        landmarks=landmarks,
        kinds=tuple(row.kind for row in rows),
        base=np.array([float(row.kind.startswith("aligned")) for row in rows]),
        inverse_scales=np.stack([row.inverse_scales for row in rows]),
        amplitude=np.array([row.amplitude for row in rows]),
        noise=np.array([row.noise for row in rows]),
        offset=np.stack([row.offset for row in rows]),
        spread=np.stack([row.spread for row in rows]),
        doubt=np.stack([row.doubt for row in rows]),
        dual=np.stack([row.dual for row in rows]),
        linear=np.stack([_zeros(landmarks, values) if row.linear is None else row.linear for row in rows]),
        errors={kind: beyond(miss, own, c) / size if size > 0.0 else 0.0 for kind, miss in misses.items()},
        known=np.array([row.known for row in rows]),
    )


@dataclass(frozen=True, eq=False)
class _Row:
    """One predictor, with its misses (L, m) at the landmarks when each is left out, and their variances."""

    kind: str
    inverse_scales: FloatArray
    amplitude: float
    noise: float
    offset: FloatArray
    spread: FloatArray
    doubt: FloatArray
    dual: FloatArray
    misses: FloatArray
    variances: FloatArray
    linear: FloatArray | None = None
    known: float = 0.0


def _aligned(
    landmarks: FloatArray, missed: FloatArray, doubted: FloatArray, least: FloatArray, own: FloatArray
) -> _Row:
    """The prediction as it is: one variance everywhere, `least` where its misses are noise."""
    count, none = len(missed), np.zeros(missed.shape[1])
    spread = np.sqrt(np.maximum((missed**2).mean(axis=0) - own, least))
    variances = np.tile(spread**2 + doubted**2, (count, 1))
    scales = np.zeros(landmarks.shape[1])
    return _Row("aligned", scales, 0.0, 1.0, none, spread, doubted, np.zeros_like(missed), missed, variances)


def _process(
    kind: str,
    landmarks: FloatArray,
    used: slice,
    targets: FloatArray,
    searched: int,
    own: FloatArray,
    doubted: FloatArray | float = 0.0,
) -> _Row:
    """A process of some of the inputs."""
    share = _share(own, targets.std(axis=0))
    fitted = fit_process(np.ascontiguousarray(landmarks[:, used]), targets, searched, share)
    return _of_process(kind, landmarks, used, fitted, own, doubted)


def _share(own: FloatArray, spread: FloatArray) -> float:
    """Variance of the landmarks' own noise in units of the targets', which processes share; at most 1."""
    return float(min((own[spread > 0.0] / spread[spread > 0.0] ** 2).mean(), 1.0)) if own.any() else 0.0


def _of_process(
    kind: str, landmarks: FloatArray, used: slice, fitted: Process, own: FloatArray, doubted: FloatArray | float = 0.0
) -> _Row:
    """A fitted process, its variance scaled by how large the misses are beside it, and without that of the landmarks."""
    misses, variances = fitted.left_out()
    known = min(_share(own, fitted.spread), fitted.noise)
    ratio = misses**2 / np.where(variances > 0.0, variances, 1.0)
    scale = (PRIOR_LANDMARKS + ratio.sum(axis=0)) / (PRIOR_LANDMARKS + len(misses))
    scales = np.zeros(landmarks.shape[1])
    scales[used] = fitted.inverse_scales
    doubt = np.broadcast_to(doubted, fitted.spread.shape)
    spread = fitted.spread * np.sqrt(scale)
    least = averaged(own, 0, len(misses))
    variances = np.maximum(variances * scale - known * spread**2, least) + doubt**2
    fit = (fitted.amplitude, fitted.noise, fitted.offset)
    return _Row(kind, scales, *fit, spread, doubt, fitted.dual, misses, variances, None, known)


def _with_plain(
    rows: list[_Row], landmarks: FloatArray, c: int, values: FloatArray, searched: int, own: FloatArray
) -> list[_Row]:
    """The predictors with plain fits among them, without, or the best of all alone: whatever misses landmarks least."""
    plain = [_affine(landmarks, c, values, own), _ridge(landmarks, c, values, searched, own)]
    options = [rows, rows + plain, *([row] for row in rows + plain)]
    missed = [
        np.linalg.norm(_combine([row.misses for row in some], [row.variances for row in some])) for some in options
    ]
    return options[int(np.argmin(missed))]


def _affine(landmarks: FloatArray, c: int, values: FloatArray, own: FloatArray) -> _Row:
    """Ridge regression on the points, its penalty and its misses by landmarks left out, in closed form."""
    points, mean = landmarks[:, c:], values.mean(axis=0)
    centre, unit = points.mean(axis=0), points.std(axis=0)
    unit = np.where(unit > 0.0, unit, np.inf)
    u, s, vt = np.linalg.svd((points - centre) / unit, full_matrices=False)
    along, count = u.T @ (values - mean), len(values)
    fits = []
    for penalty in AFFINE_PENALTIES:
        kept = s**2 / (s**2 + penalty)
        share = np.minimum(1.0 / count + (u**2) @ kept, 1.0 - 1e-9)
        fits.append((values - mean - u @ (kept[:, None] * along)) / (1.0 - share)[:, None])
    best = int(np.argmin([np.linalg.norm(missed) for missed in fits]))
    weights = (vt.T @ ((s / (s**2 + AFFINE_PENALTIES[best]))[:, None] * along)) / unit[:, None]
    linear = _zeros(landmarks, values)
    linear[c:] = weights
    least = averaged(own, points.shape[1], count)
    spread = np.sqrt(np.maximum((fits[best] ** 2).mean(axis=0) - own, least))
    none = np.zeros(values.shape[1])
    variances = np.tile(spread**2, (count, 1))
    return _Row(
        "affine of points", np.zeros(landmarks.shape[1]), 0.0, 1.0, mean - centre @ weights, spread, none,
        np.zeros_like(values), fits[best], variances, linear,
    )  # fmt: skip


def _ridge(landmarks: FloatArray, c: int, values: FloatArray, searched: int, own: FloatArray) -> _Row:
    """Kernel ridge regression on the points, with the scale and penalty that miss landmarks left out least."""
    points, offset, spread = np.ascontiguousarray(landmarks[:, c:]), values.mean(axis=0), values.std(axis=0)
    unit = points.std(axis=0)
    unit = np.where(unit > 0.0, unit, np.inf)
    standard = (values - offset) / np.where(spread > 0.0, spread, 1.0)
    some = np.linspace(0, len(points) - 1, min(len(points), searched)).astype(np.int64)
    best = (np.inf, 0.0, 0.0)
    for scale in RIDGE_SCALES:
        inverse = np.sqrt(scale / np.isfinite(unit).sum().clip(1)) / unit
        size, axes = np.linalg.eigh(sections(points[some], points[some], inverse, 1.0))
        along = axes.T @ standard[some]
        for penalty in RIDGE_PENALTIES:
            gain = 1.0 / (np.maximum(size, 0.0) + penalty)
            missed = (axes @ (gain[:, None] * along)) / ((axes**2) @ gain)[:, None]
            best = min(best, (float(np.linalg.norm(missed)), float(scale), float(penalty)))
    inverse = np.sqrt(best[1] / np.isfinite(unit).sum().clip(1)) / unit
    factor = kernel_factor(points, inverse, 1.0, best[2])
    dual = cholesky_solve(factor, standard) * spread
    fitted = Process(points, inverse, 1.0, best[2], offset, spread, dual)
    return _of_process("ridge of points", landmarks, slice(c, None), fitted, own)


def _zeros(landmarks: FloatArray, values: FloatArray) -> FloatArray:
    return np.zeros((landmarks.shape[1], values.shape[1]))


def _combine(means: list[FloatArray], variances: list[FloatArray]) -> FloatArray:
    """Mean weighted by precision, entry by entry; the weights relative to the largest, so that none overflows."""
    floor = np.maximum(np.min(variances, axis=0), np.finfo(float).tiny)
    weights = [floor / np.maximum(variance, floor) for variance in variances]
    total = np.sum(weights, axis=0)
    combined: FloatArray = np.sum([w * mean for w, mean in zip(weights, means, strict=True)], axis=0) / total
    return combined
