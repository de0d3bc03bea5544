"""What plain fits to the landmarks achieve, and the method of the paper: the opponents of every transformation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray, float_array
from diffeo._support.dense import interruptible, thin_svd
from diffeo._support.progress import stage
from diffeo._support.threads import working
from diffeo._support.wording import SIDES, Names
from diffeo.matching.match_observations import match_problem, solved
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation

Map = Callable[[FloatArray], FloatArray]

# More pairs than these make the likelihood of a Gaussian process too slow (cubic, a hundred times over): kernel ridge.
MOST_PAIRS_FOR_PROCESS = 500
# A length scale for every measurement, as long as these are no more.
MOST_SCALES = 16
# Kernel ridge regression is chosen on some of its pairs, evenly spaced, and fitted to no more than fit into memory.
PAIRS_TO_CHOOSE, PAIRS_TO_FIT = 500, 4000
# Parts of the landmarks that cross-validation leaves out in turn; each landmark, where there are no more than ten.
FOLDS, FEW = 5, 10
# Ridge of canonical correlations, in units of the largest variance.
RIDGES = (1e-12, 1e-6, 1e-3, 1e-1)
# Numbers of canonical variates that are tried, where there are so many.
COMPONENTS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
PAPER = "diffusion coordinates (the paper)"
# A spread below this share of the values is rounding.
CONSTANT = 1e-13
# Singular values below this share of the largest are rounding.
DEPENDENT = 1e-12


@dataclass(frozen=True)
class Baseline:
    """Held-out relative error of a plain method that was fitted to the same landmarks.

    Attributes
    ----------
    name : str
    forward, backward : float or None
        Relative error from A to B and from B to A; None where the method cannot be fitted.
    note : str
        Why not, or what was chosen; may be empty.
    """

    name: str
    forward: float | None
    backward: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Fit:
    """A fitted map from (count, m_a) to (count, m_b), and what was chosen for it."""

    predict: Map
    note: str = ""

    def __call__(self, points: FloatArray) -> FloatArray:
        """Measurements of B, (count, m_b), at measurements of A, (count, m_a)."""
        return self.predict(points)


def affine_fit(points_a: Any, points_b: Any) -> Fit:
    """Affine map by ridge regression, its penalty chosen by leave-one-out error (generalised where that is singular).

    Parameters
    ----------
    points_a, points_b : array_like of shape (L, m_a) and (L, m_b)

    Returns
    -------
    Fit
        From (count, m_a) to (count, m_b).
    """
    from sklearn.linear_model import RidgeCV

    p, q = _pairs(points_a, points_b)
    centre, spread = _standard(p)
    model = RidgeCV(alphas=np.logspace(-8, 2, 21)).fit((p - centre) / spread, q)
    return Fit(lambda y: np.asarray(model.predict((y - centre) / spread)).reshape(len(y), -1))


def procrustes_fit(points_a: Any, points_b: Any) -> Fit:
    """Rotation or reflection, scale and shift (Schoenemann 1966); the narrower side is padded with zeros.

    Directions that no pair spans are mapped to zero.
    """
    p, q = _pairs(points_a, points_b)
    centre_a, centre_b = p.mean(axis=0), q.mean(axis=0)
    (u_a, s_a, v_a), (u_b, s_b, v_b) = _thin(p - centre_a), _thin(q - centre_b)
    if min(len(s_a), len(s_b)) == 0:
        return Fit(lambda y: np.tile(centre_b, (len(y), 1)))
    # The singular vectors of p^T q, found in the spans of the pairs.
    u, s, vt = np.linalg.svd(s_a[:, None] * (u_a.T @ u_b) * s_b, full_matrices=False)
    scale = s.sum() / (s_a**2).sum()
    left, right = v_a @ u * scale, vt @ v_b.T
    return Fit(lambda y: ((y - centre_a) @ left) @ right + centre_b)


def cca_fit(points_a: Any, points_b: Any) -> Fit:
    """Regression on canonical variates (Hotelling 1936), with a ridge (Vinod 1976), chosen by cross-validation.

    With P = U_a S_a V_a^T and Q alike the centred pairs, the k leading left singular vectors of
    (P^T P + c I)^-1/2 P^T Q (Q^T Q + c I)^-1/2 are the directions of A most correlated with B; B is regressed on A's
    coordinates along them. Number k and ridge c are those that predict landmarks left out best.
    """
    p, q = _pairs(points_a, points_b)
    misses: dict[tuple[float, int], float] = {}
    for train, test in _folds(len(p)):
        trials = _canonical_maps(p[train], q[train])
        for key, trial in trials.items():
            misses[key] = misses.get(key, 0.0) + float(((trial(p[test]) - q[test]) ** 2).sum())
    maps = _canonical_maps(p, q)
    # A fold may have fewer components than all pairs do, never more; ties go to fewer components and a larger ridge.
    ranked = sorted((key for key in misses if key in maps), key=lambda key: (misses[key], key[1], -key[0]))
    if not ranked:
        return Fit(lambda y: np.tile(q.mean(axis=0), (len(y), 1)), "no component")
    ridge, count = ranked[0]
    return Fit(maps[ridge, count], f"{count} component{'s' if count > 1 else ''}")


def gaussian_process_fit(points_a: Any, points_b: Any) -> Fit:
    """Gaussian process with a squared-exponential kernel, its scales by maximum likelihood (scikit-learn).

    One scale for each measurement of A; a common one of the standardised measurements where there are more than 16.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    p, q = _pairs(points_a, points_b)
    (centre, spread), (mean, unit) = _standard(p), _standard(q)
    x, y = (p - centre) / spread, (q - mean) / unit
    # The likelihood of all targets is that of their principal components: the leading ones choose the scales.
    chosen = y
    if y.shape[1] > MOST_SCALES:
        u, s, _ = thin_svd(y)
        chosen = (u * s)[:, :MOST_SCALES] / (u * s)[:, :MOST_SCALES].std()
    # Distances between standardised points grow like the root of their number of measurements.
    many = p.shape[1] > MOST_SCALES
    scales = np.sqrt(p.shape[1]) if many else np.ones(p.shape[1])
    prior = ConstantKernel(1.0, (1e-3, 1e4)) * RBF(scales, (1e-2, 1e3)) + WhiteKernel(1e-8, (1e-12, 1e-1))
    # The search of scikit-learn's own `fit`, without warnings of scales at their bounds: nobody could act on them.
    known = GaussianProcessRegressor(prior, optimizer=None).fit(x, chosen)

    def negative(theta: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = known.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
        return -value, -gradient

    found = minimize(negative, prior.theta, method="L-BFGS-B", jac=True, bounds=prior.bounds)
    model = GaussianProcessRegressor(prior.clone_with_theta(found.x), optimizer=None).fit(x, y)
    note = "one length scale" if many else ""
    return Fit(lambda new: np.asarray(model.predict((new - centre) / spread)).reshape(len(new), -1) * unit + mean, note)


def kernel_ridge_fit(points_a: Any, points_b: Any) -> Fit:
    """Kernel ridge regression, squared-exponential, its scale and penalty by cross-validation (scikit-learn).

    For pairs too many for a Gaussian process; above 4,000 it takes that many of them, evenly spaced.
    """
    from sklearn.kernel_ridge import KernelRidge
    from sklearn.model_selection import GridSearchCV

    p, q = (x[_spaced(len(x), PAIRS_TO_FIT)] for x in _pairs(points_a, points_b))
    (centre, spread), (mean, unit) = _standard(p), _standard(q)
    x, y = (p - centre) / spread, (q - mean) / unit
    some = _spaced(len(x), PAIRS_TO_CHOOSE)
    # Standardised points are sqrt(2 m) from each other.
    gamma = np.logspace(-3, 1, 9) / (2 * p.shape[1])
    grid, scoring = {"gamma": gamma, "alpha": np.logspace(-10, -1, 7)}, "neg_mean_squared_error"
    search = GridSearchCV(KernelRidge(kernel="rbf"), grid, cv=5, scoring=scoring, refit=False)
    interruptible(search.fit, x[some], y[some])
    model = interruptible(KernelRidge(kernel="rbf", **search.best_params_).fit, x, y)
    note = "" if len(points_a) == len(p) else f"fitted to {len(p)} of the landmarks"
    return Fit(lambda new: np.asarray(model.predict((new - centre) / spread)).reshape(len(new), -1) * unit + mean, note)


def paper_fit(
    obs_a: Observation, obs_b: Observation, landmarks: Any, *, n_jobs: int | None = None, names: Names = SIDES
) -> Transformation:
    """The paper's own method on the same observations: diffusion coordinates, aligned by the landmarks.

    Bertalan, Dietrich and Kevrekidis, arXiv 2007.05646; the local covariances are those that the observations have (the
    paper's are from bursts). Errors are those of `diffeo.match`.
    """
    with errors.unsaid(errors.DiffeoWarning), working(n_jobs):
        return solved(match_problem(obs_a, obs_b, "diffusion", n_jobs=n_jobs, names=names).given(landmarks))


def compare_baselines(
    landmarks: Any,
    held_out: Any,
    *,
    observations: tuple[Observation, Observation] | None = None,
    means: tuple[Any, Any] | None = None,
    n_jobs: int | None = None,
    names: Names = SIDES,
) -> list[Baseline]:
    """Fit every plain method to the landmarks, in both directions, and test it on the held-out pairs.

    Parameters
    ----------
    landmarks : tuple of array_like (points_a (L, m_a), points_b (L, m_b)), or None
    held_out : tuple of array_like (points_a (H, m_a), points_b (H, m_b))
    observations : tuple of Observation, optional
        Both sides, for the method of the paper, which is left out without them.
    means : tuple of array_like (m_a,) and (m_b,), optional
        Means from which relative errors measure the spread of the truth. Default: those of the held-out pairs.
    n_jobs, names
        Threads of the method of the paper, and what notes call the sides.

    Returns
    -------
    list of Baseline
        Affine, Procrustes, CCA, Gaussian process (kernel ridge above 500 landmarks), and the method of the paper. Error:
        Frobenius norm of (predicted - true) over that of (true - mean).
    """
    held = _given(held_out, "held_out")
    if means is None:
        means = held[0].mean(axis=0), held[1].mean(axis=0)
    centres = [
        float_array(mean, f"means[{i}]", 1, shape=(held[i].shape[1],), axes="(m,)") for i, mean in enumerate(means)
    ]
    pairs = None
    if landmarks is not None and len(landmarks[0]):
        pairs = _given(landmarks, "landmarks", (held[0].shape[1], held[1].shape[1]))
    regression: tuple[str, Callable[[Any, Any], Fit]] = ("Gaussian process", gaussian_process_fit)
    if pairs is not None and len(pairs[0]) > MOST_PAIRS_FOR_PROCESS:
        regression = ("kernel ridge", kernel_ridge_fit)
    with working(n_jobs), stage("baselines"):
        methods = ("affine", affine_fit), ("Procrustes", procrustes_fit), ("CCA", cca_fit), regression
        found = [_compared(name, fit, pairs, held, centres, names) for name, fit in methods]
        if observations is not None:
            found.append(_paper(observations, pairs, held, centres, names, n_jobs))
    return found


def linear_enough(baselines: list[Baseline], margin: float) -> str:
    """A sentence where a linear map is within the margin already, in both directions or in one; empty where in none."""
    affine = next((one for one in baselines if one.name == "affine"), None)
    if affine is None:
        return ""
    ways = [
        f"{100 * error:.2g} % {way}"
        for error, way in ((affine.forward, "from A to B"), (affine.backward, "from B to A"))
        if error is not None and error <= margin
    ]
    if not ways:
        return ""
    where = "" if len(ways) == 2 else " one way"
    return (
        f"a linear map already does it{where}: the affine fit to the landmarks has a held-out relative error of "
        f"{' and '.join(ways)}, within the margin of {100 * margin:.2g} %"
    )


def _compared(
    name: str,
    fit: Callable[[Any, Any], Fit],
    pairs: tuple[FloatArray, FloatArray] | None,
    held: tuple[FloatArray, FloatArray],
    centres: list[FloatArray],
    names: Names,
) -> Baseline:
    """One method in both directions."""
    if pairs is None:
        return Baseline(name, None, None, "no landmarks")
    found: list[float | None] = []
    notes = []
    for source, target in ((0, 1), (1, 0)):
        try:
            fitted = fit(pairs[source], pairs[target])
            found.append(_error(fitted(held[source]), held[target], centres[target]))
            notes.append(fitted.note)
        except errors.DiffeoError as error:
            found.append(None)
            notes.append(str(error))
    return Baseline(name, found[0], found[1], _both(notes[0], notes[1], names))


def _paper(
    observations: tuple[Observation, Observation],
    pairs: tuple[FloatArray, FloatArray] | None,
    held: tuple[FloatArray, FloatArray],
    centres: list[FloatArray],
    names: Names,
    n_jobs: int | None,
) -> Baseline:
    """The method of the paper: one match serves both directions."""
    if pairs is None:
        return Baseline(PAPER, None, None, "no landmarks")
    try:
        fitted = paper_fit(*observations, pairs, n_jobs=n_jobs, names=names)
        # A held-out pair outside of the sample is predicted as badly as this method does it.
        forward = _error(fitted.sent(held[0]).values, held[1], centres[1])
        return Baseline(PAPER, forward, _error(fitted.sent_back(held[1]).values, held[0], centres[0]))
    except errors.DiffeoError as error:
        return Baseline(PAPER, None, None, str(error))


def _both(forward: str, backward: str, names: Names) -> str:
    """Notes of both directions as one."""
    if forward == backward:
        return forward
    a, b = names
    ways = ((f"{a} to {b}", forward), (f"{b} to {a}", backward))
    return "; ".join(f"{way}: {note}" for way, note in ways if note)


def _error(predicted: FloatArray, true: FloatArray, mean: FloatArray) -> float:
    """Relative error, in units of the largest deviation, so that no square overflows or vanishes."""
    deviation = true - mean
    unit = float(np.abs(deviation).max())
    if not unit > CONSTANT * float(np.abs(true).max()):
        raise errors.InputError("the truth is constant over the held-out pairs: a relative error has no scale")
    return float(np.linalg.norm((predicted - true) / unit) / np.linalg.norm(deviation / unit))


def _pairs(points_a: Any, points_b: Any) -> tuple[FloatArray, FloatArray]:
    p = float_array(points_a, "points_a", 2, axes="(L, m_a)")
    q = float_array(points_b, "points_b", 2, shape=(len(p), None), axes="(L, m_b)")
    if len(p) < 2:
        raise errors.SampleSizeError(f"a baseline needs at least 2 pairs, got {len(p)}")
    return p, q


def _given(
    pairs: Any, name: str, widths: tuple[int | None, int | None] = (None, None)
) -> tuple[FloatArray, FloatArray]:
    """Measurements of common inputs on both sides."""
    if not (isinstance(pairs, (tuple, list)) and len(pairs) == 2):
        raise errors.ParameterError(f"{name} must be a pair (points_a, points_b) of measurements of common inputs")
    p = float_array(pairs[0], f"{name}[0]", 2, shape=(None, widths[0]), axes="(count, m_a)")
    return p, float_array(pairs[1], f"{name}[1]", 2, shape=(len(p), widths[1]), axes="(count, m_b)")


def _standard(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each measurement, 1 where it is constant."""
    spread = points.std(axis=0)
    return points.mean(axis=0), np.where(spread > CONSTANT * np.abs(points).max(axis=0), spread, 1.0)


def _thin(centred: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Singular value decomposition U, s, V without what is rounding."""
    u, s, vt = thin_svd(centred)
    rank = int((s > DEPENDENT * s[0]).sum())
    return u[:, :rank], s[:rank], vt[:rank].T


def _spaced(count: int, most: int) -> IntArray:
    """At most so many row numbers, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


def _folds(count: int) -> list[tuple[IntArray, IntArray]]:
    """Rows to fit and rows to test, in turn."""
    order, parts = np.random.default_rng(0).permutation(count), count if count <= FEW else FOLDS
    left_out = [np.sort(order[i::parts]) for i in range(parts)]
    return [(np.setdiff1d(order, rows), rows) for rows in left_out]


def _canonical_maps(p: FloatArray, q: FloatArray) -> dict[tuple[float, int], Map]:
    """Regressions of q on the leading canonical variates of p, by ridge and number."""
    (centre, spread), (mean, unit) = _standard(p), _standard(q)
    target = (q - mean) / unit
    (u_a, s_a, v_a), (u_b, s_b, _) = _thin((p - centre) / spread), _thin(target)
    most = min(len(s_a), len(s_b))
    maps: dict[tuple[float, int], Map] = {}
    for ridge in RIDGES if most else ():
        whitened_a, whitened_b = (np.sqrt(s**2 + ridge * s[0] ** 2) for s in (s_a, s_b))
        turn = np.linalg.svd((s_a / whitened_a)[:, None] * (u_a.T @ u_b) * (s_b / whitened_b), full_matrices=False)[0]
        turn = turn[:, : COMPONENTS[-1]]
        directions = v_a @ (turn / whitened_a[:, None])
        # The leading variates are spanned by the leading columns of their QR decomposition: one serves all numbers.
        basis, triangle = np.linalg.qr(u_a @ (turn * (s_a / whitened_a)[:, None]))
        along = basis.T @ target
        for count in sorted({min(most, k) for k in COMPONENTS}):
            weights = np.linalg.solve(triangle[:count, :count], along[:count]) * unit
            maps[ridge, count] = _regression(centre, spread, directions[:, :count], weights, mean)
    return maps


def _regression(
    centre: FloatArray, spread: FloatArray, directions: FloatArray, weights: FloatArray, mean: FloatArray
) -> Map:
    return lambda y: ((y - centre) / spread) @ directions @ weights + mean
