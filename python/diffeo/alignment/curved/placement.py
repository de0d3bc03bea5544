"""A's samples placed on B's manifold so that all lengths agree: a sparse nonlinear least-squares problem."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.threads import workers
from diffeo.alignment.curved.atlas import Atlas, AtlasMap, local_weights
from diffeo.isometry.laplacian import diagonal_matrix, factored
from diffeo.isometry.trust import NOISE_FACTOR

# Edges from each sample, as many as isometric coordinates take.
N_NEIGHBORS = 12
# A geodesic whose two ends disagree by more than this share of its length leaves a chart: two sheets, or too few samples.
DISAGREEMENT = 0.1
# The usual share of edges whose ends agree.
MOST = 0.8
# Local quadratic fits that smooth the start: eigenfunctions scramble samples that are nearer than their error.
SMOOTHINGS = 6
# Gauss-Newton steps; 4 to 6 settle from a start that is right to a few percent.
MAX_STEPS = 40
# Settled when the root-mean-square move falls below this share of the median length: the next would be its square.
SETTLED = 1e-3
# ... or when it is below this share and the step gained less than that share of the stress.
STILL, LITTLE_GAIN = 0.1, 0.03
# A stress beyond this that a number of steps have not lowered by this share will not come down to that of an isometry: bad
# starts that unfold creep, by a percent a step, others grow.
HOPELESS_STRESS, PATIENCE, HOPELESS_GAIN = 0.3, 5, 0.002
# No sample moves by more than this many median lengths at once: charts reach about three.
LONGEST_MOVE = 1.0
# Weight of all landmarks together, in edges of one sample: at first they fix the isometry, which the lengths of a
# scrambled start would pull away; in the end they choose among isometries and hardly bend one.
FIRST_LANDMARK_WEIGHT, LAST_LANDMARK_WEIGHT, WEIGHT_FALL = 10.0, 0.3, 0.3
# Damping in units of the landmarks' weight on each sample: isometries that no landmark fixes are otherwise free.
DAMPING = 1e-3
# An edge off by this share of its length, and ten times the usual, has such a sample at an end.
CAUGHT = 0.1
# Edges shorter than this share of the median are judged as if they were that long.
TWINS = 1e-6
# Local linear fits that place caught samples by the ones around them.
PLACEMENTS = 60


@dataclass(frozen=True, eq=False)
class Places:
    """Places on B: nodes of its atlas (n,) and local coordinates (n, d)."""

    node: IntArray
    u: FloatArray


@dataclass(eq=False)
class Placement:
    """The least-squares problem: A, its edges and landmarks, and the manifold of B."""

    a: Atlas
    b: Atlas
    chart: AtlasMap
    landmarks_a: FloatArray
    landmarks_b: FloatArray
    known_unit: bool

    def __post_init__(self) -> None:
        self.i, self.j, self.lengths, self.noise = _edges(self.a)
        self.median = float(np.median(self.lengths))
        # Errors of lengths grow with a power of them: short edges count more.
        self.weights = self.median / np.maximum(self.lengths, 0.1 * self.median)
        # Each landmark is a combination of the samples around it.
        node, u, _ = self.chart.locate(self.landmarks_a, workers())
        self.around, self.shares = local_weights(self.a, node, u, 3)

    def on_manifold(self, places: Places, points: FloatArray) -> Places:
        """Places nearest to some measurements, which lie near the given ones."""
        node = self.b.nearer(places.node, points)
        return Places(node, self.b.local(node, points))

    def measurements(self, places: Places) -> FloatArray:
        """Measurements (n, m) of B at places."""
        return self.b.measurements(places.node, places.u)

    def smoothed(self, places: Places) -> Places:
        """Places after local quadratic fits over A."""
        every = np.arange(len(self.a.rows))
        around, shares = local_weights(self.a, every, np.zeros((len(every), self.a.dim)), 2, flat=True)
        for _ in range(SMOOTHINGS):
            y = self.measurements(places)
            places = self.on_manifold(places, np.einsum("nk,nkm->nm", shares, y[around]))
        return places

    def edges(self, places: Places) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lengths (e,) on B of A's edges and the unit tangents (e, d) at their two ends."""
        i, j, y = self.i, self.j, self.measurements(places)
        there, at_i = self.b.geodesics(places.node[i], places.u[i], y[j])
        back, at_j = self.b.geodesics(places.node[j], places.u[j], y[i])
        return 0.5 * (there + back), at_i, at_j

    def scale(self, lengths: FloatArray) -> float:
        """Length on B over length on A."""
        return float((self.lengths * lengths).sum() / (self.lengths**2).sum())

    def misses(self, lengths: FloatArray) -> FloatArray:
        """Differences of lengths, in units of B."""
        unit = 1.0 if self.known_unit else self.scale(lengths)
        missed: FloatArray = lengths - unit * self.lengths
        return missed

    def stress(self, places: Places) -> float:
        """sqrt(sum missed^2 / sum l_B^2) over the edges."""
        lengths = self.edges(places)[0]
        return float(np.linalg.norm(self.misses(lengths)) / np.linalg.norm(lengths))

    def is_hopeless(self, stress: float) -> bool:
        """Whether a stress is far from that of an isometry, of lengths as noisy as A's."""
        return stress > max(HOPELESS_STRESS, 2.0 * NOISE_FACTOR * self.noise)

    def solve(self, places: Places, weight: float) -> tuple[Places, int, bool]:
        """Gauss-Newton; returns the places of least stress, the steps, and whether they settled."""
        best, best_stress, moved, lows = places, np.inf, np.inf, list[float]()
        for step in range(MAX_STEPS):
            places = self.on_manifold(places, self.measurements(places))
            lengths, at_i, at_j = self.edges(places)
            missed = self.misses(lengths)
            stress = float(np.linalg.norm(missed) / np.linalg.norm(lengths))
            last = weight <= LAST_LANDMARK_WEIGHT
            # A motion of the whole sample leaves the stress as it is, and may take many steps of limited length.
            settled = last and moved < STILL * self.median and stress > (1.0 - LITTLE_GAIN) * best_stress
            # Of places as good as each other the later ones suit the landmarks better.
            if stress < (1.0 + LITTLE_GAIN) * best_stress:
                best, best_stress = places, min(stress, best_stress)
            if settled:
                return best, step, True
            lows.append(best_stress)
            if (
                self.is_hopeless(best_stress)
                and step >= PATIENCE
                and best_stress > (1.0 - HOPELESS_GAIN) * lows[-PATIENCE]
            ):
                return best, step, False
            weight = max(weight, LAST_LANDMARK_WEIGHT)
            frame = np.asarray(np.linalg.cholesky(self.b.inverse_metric(places.node, places.u)), dtype=np.float64)
            move = self.step(places, frame, missed, at_i, at_j, weight)
            size = np.linalg.norm(move, axis=1)
            move *= np.minimum(1.0, LONGEST_MOVE * self.median / np.maximum(size, np.finfo(float).tiny))[:, None]
            places = Places(places.node, places.u + np.einsum("nab,nb->na", frame, move))
            moved = float(np.sqrt((size**2).mean()))
            if last and moved < SETTLED * self.median:
                return places, step + 1, True
            weight *= WEIGHT_FALL
        return best, MAX_STEPS, False

    def step(
        self,
        places: Places,
        frame: FloatArray,
        missed: FloatArray,
        at_i: FloatArray,
        at_j: FloatArray,
        weight: float,
    ) -> FloatArray:
        """Solution (n, d) of the linearised problem, in the orthonormal frames of the places."""
        n, d = places.u.shape
        i, j = self.i, self.j
        root = np.sqrt(self.weights)
        edge = np.repeat(np.arange(len(i)), d)
        axes = np.arange(d)
        stretch = sp.coo_array(
            (
                np.concatenate([-(at_i * root[:, None]).ravel(), -(at_j * root[:, None]).ravel()]),
                (np.tile(edge, 2), np.concatenate([(end[:, None] * d + axes).ravel() for end in (i, j)])),
            ),
            shape=(len(i), n * d),
        ).tocsr()
        pull, off = self.landmark_rows(places, frame)
        per_landmark = weight * self.weights.sum() / n / len(off)
        normal = stretch.T @ stretch + per_landmark * (pull.T @ pull)
        damping = DAMPING * per_landmark * len(off) / n
        normal = (normal + diagonal_matrix(np.full(n * d, damping))).tocsc()
        right = -(stretch.T @ (root * missed)) - per_landmark * (pull.T @ off.ravel())
        solution: FloatArray = factored(normal, np.repeat(self.a.rows, d))(right).reshape(n, d)
        return solution

    def landmark_rows(self, places: Places, frame: FloatArray) -> tuple[sp.csr_array, FloatArray]:
        """What moves of the samples do to the landmarks, (L d, n d), and where the landmarks are, off by (L, d)."""
        n, d = places.u.shape
        count = len(self.around)
        y = self.measurements(places)
        predicted = np.einsum("lk,lkm->lm", self.shares, y[self.around])
        node = places.node[self.around[:, 0]]
        for _ in range(3):
            node = self.b.nearer(node, self.landmarks_b)
        whitening = self.b.whitening[node]
        off = np.einsum("lm,lmd->ld", predicted - self.landmarks_b, whitening)
        slopes = self.b.derivatives(places.node, places.u) @ frame
        entries = np.einsum("lma,lk,lkmb->lakb", whitening, self.shares, slopes[self.around])
        row = np.broadcast_to(np.arange(count * d).reshape(count, d, 1, 1), entries.shape)
        column = np.broadcast_to((self.around[:, :, None] * d + np.arange(d))[:, None], entries.shape)
        pull = sp.coo_array((entries.ravel(), (row.ravel(), column.ravel())), shape=(count * d, n * d)).tocsr()
        return pull, off

    def caught(self, places: Places) -> NDArray[np.bool_]:
        """Samples with lengths far off, and their neighbours."""
        n = len(places.node)
        relative = np.abs(self.misses(self.edges(places)[0])) / np.maximum(self.lengths, TWINS * self.median)
        worst = np.zeros(n)
        np.maximum.at(worst, self.i, relative)
        np.maximum.at(worst, self.j, relative)
        caught = worst > max(CAUGHT, 10.0 * float(np.median(worst)))
        around = caught.copy()
        around[self.i[caught[self.j]]] = True
        around[self.j[caught[self.i]]] = True
        return around

    def placed(self, places: Places, caught: NDArray[np.bool_]) -> Places:
        """Caught samples placed anew by local linear fits to those around them."""
        rows = np.flatnonzero(caught)
        around, shares = local_weights(self.a, rows, np.zeros((len(rows), self.a.dim)), 1, flat=True)
        y = self.measurements(places)
        for _ in range(PLACEMENTS):
            y[rows] = np.einsum("nk,nkm->nm", shares, y[around])
        moved = self.on_manifold(places, y)
        for _ in range(3):
            moved = self.on_manifold(moved, y)
        return moved


def _edges(side: Atlas) -> tuple[IntArray, IntArray, FloatArray, float]:
    """Both ends (e,) and geodesic lengths (e,) of the edges between near nodes, each edge once.

    The last result is the relative error that the disagreement of the two ends lets expect of a length.
    """
    near = side.neighbors[:, :N_NEIGHBORS]
    i, j = np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()
    i, j = i[j >= 0], j[j >= 0]
    low, high = np.minimum(i, j), np.maximum(i, j)
    first = np.unique(low * len(near) + high, return_index=True)[1]
    i, j = low[first], high[first]
    here = np.zeros((len(i), side.dim))
    there = side.geodesics(i, here, side.points[j])[0]
    back = side.geodesics(j, here, side.points[i])[0]
    sound = np.abs(there - back) <= DISAGREEMENT * np.minimum(there, back)
    # Noise makes most ends disagree; then all edges are needed to average it.
    if sound.mean() < MOST:
        sound[:] = True
    total = (there + back)[sound]
    return i[sound], j[sound], 0.5 * total, float(np.linalg.norm((there - back)[sound]) / np.linalg.norm(total))
