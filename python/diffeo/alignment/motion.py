"""Rigid motions, what landmarks leave open of them, and least squares within that freedom."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diffeo._support.arrays import FloatArray

Residuals = Callable[[FloatArray, FloatArray], FloatArray]

GAUSS_NEWTON_STEPS = 12
# A search has settled when a step takes less than this share off the sum of squares.
SETTLED = 1e-3


@dataclass(frozen=True, eq=False)
class Motion:
    """x -> x @ linear + shift, and how badly it joins the samples.

    `misfit` is 1 where only chance is left of a comparison by shape, and the share of their spread by which observables
    differ otherwise. `density` is the misfit of shape at low frequencies alone, `border` the share of the size of the
    domain by which the borders of the samples miss each other (0 where they are not sharp enough to tell).
    """

    linear: FloatArray
    shift: FloatArray
    misfit: float
    density: float = 1.0
    border: float = 0.0


@dataclass(frozen=True, eq=False)
class Freedom:
    """What landmarks leave open: motions ``(x - centre_a) @ (known + open_a R open_b^T) + centre_b``, R orthogonal.

    `known` (d, d) has the rank of the landmarks; `open_a`, `open_b` (d, k) are bases of the rest. Without landmarks the
    centres are only a start (`free_shift`).
    """

    centre_a: FloatArray
    centre_b: FloatArray
    known: FloatArray
    open_a: FloatArray
    open_b: FloatArray
    free_shift: bool

    def motion(self, rotation: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Linear part and shift for a choice of R (k, k)."""
        linear = self.known + self.open_a @ rotation @ self.open_b.T
        return linear, self.centre_b - self.centre_a @ linear

    def moved(self, linear: FloatArray, shift: FloatArray, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The motion followed by a small one: turns in the planes of `open_b` about the centre, and a shift."""
        k, d = self.open_b.shape[1], len(linear)
        skew = np.zeros((k, k))
        pairs = list(itertools.combinations(range(k), 2))
        for value, (a, b) in zip(parameters, pairs, strict=False):
            skew[a, b], skew[b, a] = value, -value
        turn = np.eye(d)
        if skew.any():
            u, _, vt = np.linalg.svd(turn + self.open_b @ skew @ self.open_b.T)
            turn = u @ vt
        translation = parameters[len(pairs) :] if self.free_shift else np.zeros(d)
        return linear @ turn, (shift - self.centre_b) @ turn + self.centre_b + translation

    @property
    def n_open(self) -> int:
        """Dimensions that the landmarks leave open."""
        return int(self.open_a.shape[1])

    @property
    def n_parameters(self) -> int:
        """Parameters of `moved`."""
        k = self.n_open
        return k * (k - 1) // 2 + (len(self.known) if self.free_shift else 0)


def freedom(
    samples_a: FloatArray, samples_b: FloatArray, landmarks_a: FloatArray, landmarks_b: FloatArray, open_below: float
) -> Freedom:
    """What L landmarks (L, d) leave open of a motion between two samples; directions narrower than `open_below` count."""
    d = samples_a.shape[1]
    if len(landmarks_a) == 0:
        nothing, everything = np.zeros((d, d)), np.eye(d)
        return Freedom(samples_a.mean(axis=0), samples_b.mean(axis=0), nothing, everything, everything, True)
    centre_a, centre_b = landmarks_a.mean(axis=0), landmarks_b.mean(axis=0)
    u, s, vt = np.linalg.svd((landmarks_a - centre_a).T @ (landmarks_b - centre_b))
    rank = int((np.sqrt(s / len(landmarks_a)) > open_below).sum())
    return Freedom(centre_a, centre_b, u[:, :rank] @ vt[:rank], u[:, rank:], vt[rank:].T, False)


def gauss_newton(
    residuals: Residuals,
    free: Freedom,
    linear: FloatArray,
    shift: FloatArray,
    size: float,
    steps: int = GAUSS_NEWTON_STEPS,
) -> tuple[FloatArray, FloatArray]:
    """Minimise the sum of squared residuals over a freedom; slopes by differences, steps halved until they help."""
    count = free.n_parameters
    if count == 0:
        return linear, shift
    n_turns = count - (len(shift) if free.free_shift else 0)
    unit = np.where(np.arange(count) < n_turns, 1.0, size)
    current = residuals(linear, shift)
    for _ in range(steps):
        slopes = slopes_along(residuals, free, linear, shift, unit)
        move = -np.linalg.lstsq(slopes, current, rcond=1e-8)[0]
        move *= min(1.0, 0.2 / max(float(np.abs(move).max()), 1e-300))
        for _ in range(6):
            trial = free.moved(linear, shift, np.multiply(move, unit))
            there = residuals(*trial)
            if (there**2).sum() < (current**2).sum():
                break
            move = 0.5 * move
        else:
            break
        linear, shift = trial
        gain = 1.0 - (there**2).sum() / (current**2).sum()
        current = there
        if gain < SETTLED:
            break
    return linear, shift


def slopes_along(
    residuals: Residuals, free: Freedom, linear: FloatArray, shift: FloatArray, unit: FloatArray
) -> FloatArray:
    """Derivatives of residuals by the parameters of small motions, in their units, by central differences."""
    columns = []
    for p in range(len(unit)):
        step: FloatArray = np.zeros(len(unit))
        step[p] = 1e-4 * unit[p]
        ahead = residuals(*free.moved(linear, shift, step))
        behind = residuals(*free.moved(linear, shift, np.negative(step)))
        columns.append((ahead - behind) / 2e-4)
    return np.stack(columns, axis=1)
