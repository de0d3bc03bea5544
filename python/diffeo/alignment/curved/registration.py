"""The isometry between two sampled manifolds: A's samples moved on B's until all lengths agree."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.placed import Outside, Placed
from diffeo._support.threads import thread_count
from diffeo._support.wording import SIDES, Names, rows_text
from diffeo.alignment.curved.atlas import AtlasMap, atlas_of
from diffeo.alignment.curved.eigenmatch import Correspondence, correspondences, sample_alignment
from diffeo.alignment.curved.placement import FIRST_LANDMARK_WEIGHT, LAST_LANDMARK_WEIGHT, Placement, Places
from diffeo.alignment.linear import CONTRADICTION, Alignment
from diffeo.charts.coordinates import Marks
from diffeo.charts.diffusion import DiffusionChart
from diffeo.diffusion.independent import joint_blocks
from diffeo.isometry.trust import DOUBTFUL, is_isometry
from diffeo.observation.observation import Observation

# Rounds of placing samples anew that were caught folded over.
UNTANGLING_ROUNDS = 5
# Gaps between eigenvalues, beyond what sampling scatters, that may separate blocks.
BLOCK_RATIOS = (1.0, 1.05, 1.2)
# More than this share of B's samples without a counterpart means that the domains differ.
UNCOVERED_SHARE = 0.02
# More than this share of A's samples left folded over is a problem.
CAUGHT_SHARE = 5e-4


@dataclass(frozen=True, eq=False)
class Registration:
    """Every sample of A with its counterpart on B's manifold, and maps between measurements.

    Attributes
    ----------
    observation : Observation
        That of A.
    counterparts : Observation
        B's measurements and local metric at the inputs of A's samples, row by row those of A.
    stress : float
        sqrt(sum (l_B - scale l_A)^2 / sum (scale l_A)^2) over the edges of A, geodesic lengths on both sides.
    misfit : ndarray of shape (n,)
        The same over the edges of each sample.
    scale : float
        Length on B over length on A.
    noise : float
        Relative error of a length of A, by the disagreement of its two ends; near 0 with Jacobians.
    uncovered : ndarray of int64
        Samples of B without a counterpart among their neighbours.
    caught : ndarray of int64
        Samples of A that stayed folded over their neighbours, and those neighbours.
    n_iter : int
        Gauss-Newton steps.
    converged : bool
    """

    observation: Observation
    counterparts: Observation
    stress: float
    misfit: FloatArray
    scale: float
    noise: float
    uncovered: IntArray
    caught: IntArray
    n_iter: int
    converged: bool
    n_jobs: int | None = field(default=None, repr=False)
    _maps: dict[str, AtlasMap] = field(default_factory=dict, init=False, repr=False)

    def forward(self, points_a: FloatArray, n_threads: int) -> Placed:
        """Measurements of B (count, m_b) that belong to measurements of A (count, m_a).

        Which partners lie outside of B's samples is not known here.
        """
        return _mapped(self._map("forward", n_threads), points_a, n_threads)

    def backward(self, points_b: FloatArray, n_threads: int) -> Placed:
        """Measurements of A (count, m_a) that belong to measurements of B (count, m_b)."""
        return _mapped(self._map("backward", n_threads), points_b, n_threads)

    def _map(self, way: str, n_threads: int) -> AtlasMap:
        """From measurements of one side to those of the other; its atlas is made once, by the first who asks."""
        if way not in self._maps:
            source, target = self.observation, self.counterparts
            if way == "backward":
                source, target = target, source
            self._maps[way] = AtlasMap(atlas_of(source, n_threads), target.points)
        return self._maps[way]

    def misses(self, landmarks_a: FloatArray, landmarks_b: FloatArray) -> FloatArray:
        """Distance (L,) of each mapped landmark from its partner, relative to the spread of B's measurements."""
        there = self.forward(landmarks_a, thread_count(self.n_jobs)).values
        missed = np.linalg.norm(there - landmarks_b, axis=1)
        points = self.counterparts.points[self.counterparts.usable]
        relative: FloatArray = missed / np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean())
        return relative

    def problems(
        self, landmarks_a: FloatArray, landmarks_b: FloatArray, names: Names = SIDES, numbers: IntArray | None = None
    ) -> list[str]:
        """What speaks against the map, as sentences; landmarks as measurements (L, m_a), (L, m_b), with their numbers (L,)."""
        found = []
        a, b = names
        if self.stress > DOUBTFUL:
            worst = np.argsort(-np.where(np.isfinite(self.misfit), self.misfit, 0.0), kind="stable")[:5]
            found.append(
                f"{a}'s lengths cannot all be kept on {b} (relative stress {self.stress:.4f}, worst around {a}'s "
                f"{rows_text(worst)}): noise, measurements that bend sharply there, or domains that differ; add neurons, or "
                "samples"
            )
        if len(self.uncovered) > UNCOVERED_SHARE * len(self.counterparts):
            found.append(
                f"{len(self.uncovered)} of {b}'s samples ({rows_text(self.uncovered)}) have no counterpart in {a}'s domain: "
                "the inputs fill different domains, or a side folds its own; restrict both to a common domain"
            )
        if len(self.caught) > CAUGHT_SHARE * len(self.counterparts):
            found.append(
                f"{len(self.caught)} of {a}'s samples ({rows_text(self.caught)}) stayed folded over their neighbours on {b}, "
                "which shifts those around them: the start was rough beside the spacing of the samples; use fewer samples, or "
                "more landmarks"
            )
        missed = self.misses(landmarks_a, landmarks_b)
        wrong = np.flatnonzero(missed > CONTRADICTION["isometric"])
        if len(wrong):
            rows = rows_text(wrong if numbers is None else numbers[wrong])
            found.append(
                f"no isometry joins {len(wrong)} of {len(missed)} landmarks ({rows}), which miss their partners by "
                f"up to {100 * missed.max():.1f} % of the spread of {b}'s measurements: landmarks are wrong, or a side folds "
                "the domain"
            )
        return found


def _mapped(chart: AtlasMap, points: FloatArray, n_threads: int) -> Placed:
    values, outside = chart(points, n_threads)
    return Placed(values, Outside(len(points), outside))


def register(
    observation_a: Observation,
    observation_b: Observation,
    matched: IntArray,
    landmarks_a: FloatArray,
    landmarks_b: FloatArray,
    *,
    known_unit: bool,
    n_jobs: int | None,
) -> Registration:
    """Move A's samples on B's manifold until all edges of A have their lengths.

    The two sides see one Riemannian manifold, so the map between them is an isometry. Gauss-Newton minimises the
    stress sum_ij w_ij (l_B(p_i, p_j) - l_A(i, j))^2 over the places p_i on B, of which `Atlas.geodesics` gives lengths
    and their derivatives (unit tangents) to high order; each step is one sparse factorisation. Landmarks, predicted
    by local fits to the places of the samples around them, choose among the isometries of B itself.

    Parameters
    ----------
    observation_a, observation_b : Observation
    matched : ndarray of int64, shape (n_a,)
        The caller's row of B's sample, one of full rank, where each sample of A starts.
    landmarks_a, landmarks_b : ndarray of shape (L, m_a), (L, m_b)
        Measurements of the same L inputs.
    known_unit : bool
        Whether both sides measure length in the same unit; else their ratio is found.
    n_jobs : int or None

    Returns
    -------
    Registration
    """
    n_threads = thread_count(n_jobs)
    side_a, side_b = atlas_of(observation_a, n_threads), atlas_of(observation_b, n_threads)
    place_of = np.full(len(observation_b), -1)
    place_of[side_b.rows] = np.arange(len(side_b.rows))
    node = place_of[matched[side_a.rows]]
    problem = Placement(side_a, side_b, AtlasMap(side_a, side_a.points), landmarks_a, landmarks_b, known_unit)
    state = problem.smoothed(Places(node, np.zeros((len(node), side_a.dim))))
    state, steps, converged = problem.solve(state, FIRST_LANDMARK_WEIGHT)
    for _ in range(UNTANGLING_ROUNDS):
        caught = problem.caught(state)
        if not caught.any() or problem.is_hopeless(problem.stress(state)):
            break
        trial, more, settled = problem.solve(problem.placed(state, caught), LAST_LANDMARK_WEIGHT)
        steps += more
        if not problem.stress(trial) < problem.stress(state):
            break
        state, converged = trial, settled
    return _result(problem, state, observation_a, observation_b, steps, converged, n_jobs)


def _result(
    problem: Placement, places: Places, a: Observation, b: Observation, steps: int, converged: bool, n_jobs: int | None
) -> Registration:
    places = problem.on_manifold(places, problem.measurements(places))
    lengths = problem.edges(places)[0]
    missed = problem.misses(lengths)
    n, ends = len(a), np.concatenate([problem.i, problem.j])
    off, size = (np.bincount(ends, np.tile(x**2, 2), minlength=len(places.node)) for x in (missed, lengths))
    misfit = np.full(n, np.inf)
    misfit[problem.a.rows] = np.sqrt(off / np.maximum(size, np.finfo(float).tiny))
    frame = np.linalg.cholesky(problem.b.inverse_metric(places.node, places.u))
    jacobians = np.ascontiguousarray(problem.b.derivatives(places.node, places.u) @ frame)
    values, whitening = core.whitening_from_jacobians(jacobians, problem.a.dim, thread_count(n_jobs))
    m = b.points.shape[1]
    points, whitenings, singular = np.zeros((n, m)), np.zeros((n, m, problem.a.dim)), np.zeros((n, values.shape[1]))
    points[problem.a.rows], whitenings[problem.a.rows] = problem.measurements(places), whitening
    singular[problem.a.rows] = values
    missing = np.setdiff1d(np.arange(n), problem.a.rows)
    counterparts = Observation(points, whitenings, singular, problem.a.dim, missing, b.source, known_unit=b.known_unit)
    stress = float(np.linalg.norm(missed) / np.linalg.norm(lengths))
    host = np.zeros(len(problem.b.rows) + 1, dtype=bool)
    host[places.node] = True
    # Missing neighbours are -1, the last entry, which hosts nothing.
    uncovered = np.sort(problem.b.rows[~(host[:-1] | host[problem.b.neighbors].any(axis=1))])
    caught = np.sort(problem.a.rows[problem.caught(places)])
    unit = problem.scale(lengths)
    return Registration(
        a, counterparts, stress, misfit, unit, problem.noise, uncovered, caught, steps, converged, n_jobs
    )


class Registered(NamedTuple):
    """Two charts whose samples were registered.

    Attributes
    ----------
    alignments : list of Alignment
        All that the landmarks allow, best first.
    registration : Registration or None
        Of the first; None where the two sides are not isometric.
    problems : list of str
        What speaks against the map, and the choice among several alignments, as sentences.
    """

    alignments: list[Alignment]
    registration: Registration | None
    problems: list[str]


def registered_charts(
    a: DiffusionChart,
    b: DiffusionChart,
    marks: tuple[Marks, Marks],
    located: tuple[FloatArray, FloatArray],
    *,
    known_unit: bool,
    names: Names = SIDES,
    numbers: IntArray | None = None,
    n_jobs: int | None,
) -> Registered:
    """Align two charts by few landmarks and the whole sample, and register their samples.

    Parameters
    ----------
    a, b : DiffusionChart
    marks : pair of Marks
        Landmarks on A and on B.
    located : pair of ndarray of shape (L, c)
        Their coordinates in the charts.
    known_unit : bool
    names : tuple of str
        What messages call the sides.
    numbers : ndarray of int64, shape (L,), optional
        What messages call the landmarks.
    n_jobs : int or None
    """
    points = [one.points for one in marks]
    found = _candidates(a, b, marks)
    rows = a.observation.usable
    alignments = [sample_alignment(a.coordinates[rows], b.coordinates[one.matched[rows]], *located) for one in found]
    registration = register(
        a.observation, b.observation, found[0].matched, points[0], points[1], known_unit=known_unit, n_jobs=n_jobs
    )
    problems = []
    if len(found) > 1:
        problems.append(
            f"{len(found)} alignments fit the landmarks and the samples alike (misfits "
            f"{', '.join(f'{one.misfit:.3f}' for one in found)}): the domain has a symmetry that {len(points[0])} landmarks "
            "leave open; the first was taken, all are in t.candidates; add a landmark away from the symmetry planes"
        )
    if not is_isometry(registration.stress, registration.noise):
        problems.append(
            f"no isometry joins the two sides (relative stress {registration.stress:.3f} between their lengths): noise, "
            "neurons that do not embed, or domains that differ; only the alignment of diffusion coordinates was used, which "
            "is right to a few percent at best"
        )
        return Registered(alignments, None, problems)
    return Registered(alignments, registration, problems + registration.problems(points[0], points[1], names, numbers))


def _candidates(a: DiffusionChart, b: DiffusionChart, landmarks: tuple[Marks, Marks]) -> list[Correspondence]:
    """Matches of the samples by the eigenfunctions of two charts."""
    spectrum_a, spectrum_b = (chart.diffusion_map.plain_generator_eigenvalues_[1:] for chart in (a, b))
    # The last block may be cut off by the number of eigenvectors; a part of an eigenspace is arbitrary.
    blocks = joint_blocks(spectrum_a, spectrum_b)
    shared = blocks[max(0, len(blocks) - 2)][-1] + 1
    noise = 1.0 + 2.0 / np.sqrt(min(len(a.observation), len(b.observation)))
    partitions = [joint_blocks(spectrum_a[:shared], spectrum_b[:shared], noise * ratio) for ratio in BLOCK_RATIOS]
    leading = 1 + int(max(chart.selection.components.max(initial=0) for chart in (a, b)))
    samples = [chart.diffusion_map.embedding_[:, :shared] for chart in (a, b)]
    known = [
        embedding[marks.rows]
        if marks.rows is not None
        else chart.diffusion_map._extend(marks.points, None, thread_count(chart.diffusion_map.n_jobs)).values[
            :, :shared
        ]
        for chart, marks, embedding in zip((a, b), landmarks, samples, strict=True)
    ]
    rows = b.observation.usable
    found = correspondences(samples[0], samples[1][rows], known[0], known[1], partitions, min(leading, shared))
    return [replace(one, matched=rows[one.matched]) for one in found]
