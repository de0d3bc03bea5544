"""What landmarks teach beyond the alignment: the aligned map and regressions on the landmarks, each where it is good."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from diffeo._support.arrays import FloatArray
from diffeo._support.threads import workers
from diffeo.alignment.noisy_landmarks import averaged, beyond
from diffeo.charts.cover import Cover
from diffeo.matching.gaussian_process import SEARCHED, explained, kernel_factor, sections
from diffeo.matching.predictors.among_samples import blamed, linear_part
from diffeo.matching.predictors.choice import chosen, combine, combined_misses, evenly, grouped_misses
from diffeo.matching.predictors.plain_fits import affine, procrustes, ridge
from diffeo.matching.predictors.predictor import FEW, Predictor, aligned_map, process
from diffeo.observation.observation import Observation

# Fewer landmarks than this per intrinsic coordinate, and one more, teach nothing beyond the alignment, nor which of several
# predictors are good where there is none.
LANDMARKS_PER_COORDINATE = 2
# Share of the doubt of an aligned map which falls on a regression that has the coordinates among its inputs.
DOUBT_OF_INPUTS = 0.1
# A combination that misses landmarks left out by more than this is compared with ones that have plain fits among them: an
# affine one, kernel ridge regression with one length scale for all measurements and, for few landmarks, a motion. Groups of
# landmarks left out decide.
PLAIN_ABOVE = 0.001
# Fewer landmarks than this are not worth an affine fit.
FEWEST_FOR_PLAIN = 3
# A combination that misses landmarks left out by more than this share of what the aligned map misses teaches nothing, nor does
# one that is less better than chance makes the best of several where all misses are noise (`_useful`).
USEFUL, BY_CHANCE = 0.8, 2.0
# The aligned map is left out where what the others say of themselves, over the samples that are mapped, is at most this share
# of what it misses of landmarks. Its misses are no guide beyond the outermost landmarks, where layouts are worst (three to
# four times as wrong as inside); the variances of the others grow with the distance from landmarks.
ENOUGH_ALONE = 0.5
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
        points" or "of both", "affine of points", "ridge of points" and "motion of points".
    base : ndarray of shape (k,)
        1 where the prediction is added, else 0.
    inverse_scales : ndarray of shape (k, f)
        0 where a predictor does not use an input.
    amplitude, noise : ndarray of shape (k,)
    offset, spread, doubt : ndarray of shape (k, m)
    linear : ndarray of shape (k, f, m)
        Coefficients of the inputs; 0 but for an affine predictor and a motion.
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
            combined[rows] = combine([e[0] for e in experts], [e[1] for e in experts])
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
            mean += linear_part(self.landmarks, queries, self.linear[j])
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
    samples: tuple[FloatArray, FloatArray] | None = None,
    target: Observation | None = None,
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
    samples : tuple of ndarray of shape (n, m_a) and (n, c), optional
        What was measured of samples of the side that is mapped, and their coordinates: where queries are to be expected.
    target : Observation, optional
        The side that is mapped to: predictions of `samples` that lie off its samples tell which predictors are wild.

    Returns
    -------
    LandmarkCorrection
        With ``learned == False``, and the prediction as its result, for fewer than 2 c + 2 distinct landmarks, for ones whose
        misses are noise, and where nothing is better than it by more than chance.
    """
    seen = np.linspace(0, len(points) - 1, min(len(points), MAX_LANDMARKS)).astype(np.int64)
    landmarks, values = np.column_stack([coordinates, points])[seen], values[seen]
    c, spread = coordinates.shape[1], values.std(axis=0)
    own = np.zeros(values.shape[1]) if noise is None else noise
    rows, aligned = list[Predictor](), None
    if prediction is not None:
        missed, doubted = values - prediction[seen], doubt * spread
        aligned = aligned_map(landmarks, missed, doubted, averaged(own, c, len(missed)), own)
        rows.append(aligned)
        enough = len(np.unique(landmarks, axis=0)) >= LANDMARKS_PER_COORDINATE * (c + 1)
        if enough and not explained_by_noise:
            rows.append(process("aligned + process", landmarks, slice(0, c), missed, searched, own, doubted))
            rows.append(process("process of points", landmarks, slice(c, None), values, searched, own))
            within = DOUBT_OF_INPUTS * doubted
            rows.append(process("process of both", landmarks, slice(0, None), values, searched, own, within))
    else:
        rows.append(process("process of coordinates", landmarks, slice(0, c), values, searched, own))
        rows.append(process("process of both", landmarks, slice(0, None), values, searched, own))
    deviation = values - values.mean(axis=0)
    combined = combined_misses(rows)
    above = beyond(combined, own, c) > PLAIN_ABOVE * float(np.linalg.norm(deviation))
    if above and (aligned is None or len(rows) > 1) and len(landmarks) >= FEWEST_FOR_PLAIN:
        if aligned is None and c > 0:
            rows.append(process("process of points", landmarks, slice(c, None), values, searched, own))
        rows += [affine(landmarks, c, values, own), ridge(landmarks, c, values, searched, own)]
        rows += [procrustes(landmarks, c, values, own)] * (len(landmarks) <= FEW)
        if samples is not None and target is not None:
            queries, cover = np.column_stack([samples[1], samples[0]]), Cover(target)
            rows = [blamed(row, landmarks, queries, cover, workers()) for row in rows]
        few = len(landmarks) < LANDMARKS_PER_COORDINATE * ((c if target is None else target.dim) + 1)
        rows = evenly(rows) if few else chosen(rows)
        combined = max(combined_misses(rows), grouped_misses(rows), key=np.linalg.norm)
    if aligned is not None and np.linalg.norm(combined) > _useful(c, len(landmarks)) * np.linalg.norm(aligned.misses):
        # It would carry the errors of single landmarks into the map.
        rows, combined = [aligned], aligned.misses
    found = _assembled(rows, landmarks, combined, own, c, deviation)
    if aligned is None or samples is None or len(rows) == 1:
        return found
    return _without_map(found, rows, aligned, own, c, deviation, samples)


def _useful(c: int, count: int) -> float:
    """Share of the aligned map's misses that must not be exceeded, for `count` landmarks in c coordinates.

    An alignment leaves f = c count - c (c + 1) / 2 numbers free, and the norm of as many independent ones scatters by
    1 / sqrt(2 f) of itself. Of maps whose landmarks are noisy, one in twenty learned combinations was measured below 0.23,
    0.37, 0.50 and 0.77 of the aligned map with 4, 6, 10 and 22 landmarks of a line, and below 0.57 and 0.68 with 6 and 10 of
    a square: about 1 - 2 / sqrt(2 f).
    """
    free = max(c * count - c * (c + 1) // 2, 1)
    return float(min(USEFUL, 1.0 - BY_CHANCE / np.sqrt(2.0 * free)))


def _assembled(
    rows: list[Predictor], landmarks: FloatArray, combined: FloatArray, own: FloatArray, c: int, deviation: FloatArray
) -> LandmarkCorrection:
    """These predictors together; `combined` are their misses, `deviation` that of the values from their mean (L, m)."""
    misses, size = {row.kind: row.misses for row in rows} | {"combined": combined}, float(np.linalg.norm(deviation))
    none = np.zeros((landmarks.shape[1], deviation.shape[1]))
    return LandmarkCorrection(
        landmarks=landmarks,
        kinds=tuple(row.kind for row in rows),
        base=np.array([row.base for row in rows]),
        inverse_scales=np.stack([row.inverse_scales for row in rows]),
        amplitude=np.array([row.amplitude for row in rows]),
        noise=np.array([row.noise for row in rows]),
        offset=np.stack([row.offset for row in rows]),
        spread=np.stack([row.spread for row in rows]),
        doubt=np.stack([row.doubt for row in rows]),
        dual=np.stack([row.dual for row in rows]),
        linear=np.stack([none if row.linear is None else row.linear for row in rows]),
        errors={kind: beyond(miss, own, c) / size if size > 0.0 else 0.0 for kind, miss in misses.items()},
        known=np.array([row.known for row in rows]),
    )


def _without_map(
    found: LandmarkCorrection,
    rows: list[Predictor],
    aligned: Predictor,
    own: FloatArray,
    c: int,
    deviation: FloatArray,
    samples: tuple[FloatArray, FloatArray],
) -> LandmarkCorrection:
    """The correction without what is built on the aligned map, where the others are far better by themselves."""
    rows = [row for row in rows if row.base == 0.0]
    if not 0 < len(rows) < len(found.kinds):
        return found
    combined = combined_misses(rows)
    missed = float(np.sqrt((aligned.spread**2 + aligned.doubt**2).sum()))
    if beyond(combined, own, c) > ENOUGH_ALONE * missed * np.sqrt(len(deviation)):
        return found
    alone = _assembled(rows, found.landmarks, combined, own, c, deviation)
    said = float(np.sqrt((alone.deviation(*samples) ** 2).mean()))
    return alone if said <= ENOUGH_ALONE * missed else found
