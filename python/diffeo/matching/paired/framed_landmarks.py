"""Landmarks that carry derivatives: each fixes a frame beside a place, as some near landmarks would."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray, IntArray
from diffeo._support.wording import Names, rows_text
from diffeo.alignment.linear import Alignment, align_isometric
from diffeo.charts.isometric import IsometricChart
from diffeo.matching.pairs import Pairs

# A frame is told by places at this share of the size of the domain from the landmark: near enough that landmarks far apart
# weigh more than their frames, whose directions are those of a layout in one place.
REACH = 0.04
# Derivatives of a landmark that differ by more than this share from what a side's coordinates let them be, and frames that
# stretch by more than this factor from one side to the other, are not believed.
UNFIT, STRETCHED = 0.2, 2.0
# Of more landmarks than this none is left out of the alignment: by then a single one hardly bends it.
LEFT_OUT_ONE_BY_ONE = 50
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Frames:
    """Where landmarks, and inputs a step beside them, lie on both sides.

    Attributes
    ----------
    at_a, at_b : ndarray of shape (K, d)
        Coordinates: of the L landmarks, then of the inputs beside those whose derivatives are believed.
    group : ndarray of shape (K,), int64
        To which landmark each belongs.
    unfit : ndarray of int64
        Landmarks whose derivatives are not believed.
    """

    at_a: FloatArray
    at_b: FloatArray
    group: IntArray
    unfit: IntArray

    def problems(self, numbers: IntArray, names: Names) -> list[str]:
        """What is to be said of derivatives that do not fit; `numbers` are those of the landmarks."""
        if not len(self.unfit):
            return []
        return [
            f"the derivatives of {len(self.unfit)} landmarks ({rows_text(numbers[self.unfit])}) do not lie in the measured "
            f"tangents, or stretch otherwise on {names[0]} than on {names[1]}, and were not used: give derivatives of the "
            "measurements that were observed, by the same coordinates of the input on both sides"
        ]


def frames_of(
    pairs: Pairs,
    a: IsometricChart,
    b: IsometricChart,
    located: tuple[FloatArray, FloatArray],
    n_threads: int,
    *,
    known_unit: bool,
) -> Frames:
    """Frames of landmarks that carry derivatives, in the coordinates of both sides.

    With y = f(X(x)) and the slopes G = df/dX of a side's interpolant, J = G dX/dx gives dX/dx = G^+ J, (d, p): on both sides of
    the same change of the input. Along the principal directions of the input on A, a short step both ways moves the places on
    both sides, which a rigid motion must carry to each other.
    """
    jacobians = pairs.jacobians_a, pairs.jacobians_b
    moved, misfits = [], []
    for chart, at, derivatives in zip((a, b), located, jacobians, strict=True):
        if derivatives is None:
            raise errors.LandmarkError("these landmarks carry no derivatives")
        slopes = chart.slopes(at, n_threads)
        # One measurement may be a million times another.
        unit = np.sqrt((slopes**2).sum(axis=2).mean(axis=0))
        unit = (1.0 / np.where(unit > 0.0, unit, np.inf))[:, None]
        moves = np.linalg.pinv(slopes * unit) @ (derivatives * unit)
        missed = np.linalg.norm((derivatives - slopes @ moves) * unit, axis=(1, 2))
        misfits.append(missed / np.maximum(np.linalg.norm(derivatives * unit, axis=(1, 2)), TINY))
        moved.append(moves)
    # Directions of the input along which A moves, (L, p, d).
    directions = np.linalg.svd(moved[0], full_matrices=False)[2].transpose(0, 2, 1)
    frame_a, frame_b = (moves @ directions for moves in moved)
    fits = (np.maximum(*misfits) <= UNFIT) & (np.abs(np.linalg.det(frame_a)) > 0.0)
    if known_unit:
        stretch = np.ones((len(fits), a.observation.dim))
        stretch[fits] = np.linalg.svd(frame_b[fits] @ np.linalg.inv(frame_a[fits]), compute_uv=False)
        fits &= (stretch.max(axis=1) <= STRETCHED) & (stretch.min(axis=1) >= 1.0 / STRETCHED)
    count, d = located[0].shape
    samples = b.coordinates[b.used]
    size = float(np.sqrt(samples.var(axis=0).sum()))
    lengths = np.linalg.norm(frame_b[fits], axis=1).ravel()
    step = REACH * size / max(float(np.median(lengths)) if len(lengths) else 1.0, TINY)
    rows, places_a, places_b = [np.arange(count)], [located[0]], [located[1]]
    good = np.flatnonzero(fits)
    for k in range(d):
        for sign in (step, -step):
            rows.append(good)
            places_a.append(located[0][good] + sign * frame_a[good, :, k])
            places_b.append(located[1][good] + sign * frame_b[good, :, k])
    return Frames(
        np.concatenate(places_a),
        np.concatenate(places_b),
        np.concatenate(rows),
        np.flatnonzero(~fits),
    )


def left_out_frames(frames: Frames, alignment: Alignment, *, known_unit: bool) -> tuple[Alignment, FloatArray]:
    """The alignment with what it misses of landmarks left out with their frames, and their places (L, d) by those.

    Corrections learn from the landmarks alone: with places beside them as more landmarks, they were worse (0.01 % to 0.1 % with
    two landmarks of a trained pair, 0.3 % to 2 % with eight of another), since what a process misses of one of them left out
    says little where others stand beside it.
    """
    aligned = alignment.forward(frames.at_a)
    count = int(frames.group.max()) + 1
    if alignment.kind not in ("rigid", "similarity") or not 2 <= count <= LEFT_OUT_ONE_BY_ONE:
        return alignment, aligned[:count]
    for landmark in range(count):
        own, rest = np.flatnonzero(frames.group == landmark), np.flatnonzero(frames.group != landmark)
        try:
            without = align_isometric(frames.at_a[rest], frames.at_b[rest], known_unit=known_unit)
        except errors.LandmarkError:
            return alignment, alignment.forward(frames.at_a)[:count]
        aligned[own] = without.forward(frames.at_a[own])
    spread = float(np.sqrt(((frames.at_b - frames.at_b.mean(axis=0)) ** 2).sum(axis=1).mean()))
    missed = float(np.sqrt(((aligned - frames.at_b) ** 2).sum(axis=1).mean()))
    return replace(alignment, left_out=missed / max(spread, TINY)), aligned[:count]
