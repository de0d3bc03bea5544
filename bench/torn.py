"""Sides that fall into pieces: smooth random networks on a square, of which other neurons respond behind each cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import diffeo
import numpy as np
from diffeo import errors

from bench.truth_maps import held_inputs, smooth

Measure = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
WIDTH, WRONG = 6, 0.01


def torn(measure: Measure, cuts: np.ndarray) -> Measure:
    """The same measurements, those behind each cut in x_0 by neurons of their own: values and derivatives."""

    def measured(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y, slopes = measure(x)
        piece, m = np.searchsorted(cuts, x[:, 0]), y.shape[1]
        values, found = np.zeros((len(x), m * (len(cuts) + 1))), np.zeros((len(x), m * (len(cuts) + 1), 2))
        for k in range(len(cuts) + 1):
            rows, columns = piece == k, slice(m * k, m * (k + 1))
            values[rows, columns], found[rows, columns] = y[rows] + 2.0 * k, slopes[rows]
        return values, found

    return measured


@dataclass(frozen=True)
class Draw:
    """Errors both ways, those that were expected, what was named, and what draw it was."""

    name: str
    errors: tuple[float, float]
    expected: tuple[float, float]
    named: bool
    coordinates: str

    @property
    def right(self) -> bool:
        return max(self.errors) <= WRONG

    @property
    def factor(self) -> float:
        """By which the expected error is off, both ways: the larger one."""
        return max(max(a / b, b / a) for a, b in zip(self.errors, self.expected, strict=True))


def drawn(number: int, n: int) -> Draw:
    """Two or three pieces on both sides, or on one; three landmarks in each, or two in the last."""
    rng = np.random.default_rng([number, 17])
    pieces = 2 + number % 2
    edges = np.linspace(0.0, 1.0, pieces + 1)
    cuts = edges[1:-1] + rng.uniform(-0.08, 0.08, pieces - 1)
    of_both, lacking = number % 5 != 3, number % 5 == 4
    sides = [torn(smooth(2, WIDTH, rng), own) for own in (cuts, cuts if of_both else cuts[:0])]
    edges = np.concatenate([[0.0], cuts, [1.0]])
    marks = []
    for k in range(pieces):
        corners = np.array([[0.2, 0.2], [0.8, 0.3], [0.4, 0.8]]) + rng.uniform(-0.1, 0.1, (3, 2))
        corners[:, 0] = edges[k] + corners[:, 0] * (edges[k + 1] - edges[k])
        marks.append(corners[: 2 if lacking and k == pieces - 1 else 3])
    inputs, new = np.vstack(marks), held_inputs(2, rng)
    with errors.unsaid(errors.ConstantNeuronWarning):
        a, b = (diffeo.Observation.from_jacobians(*side(rng.random((n, 2)))) for side in sides)
    known, held = ([side(x)[0] for side in sides] for x in (inputs, new))
    t = diffeo.match(a, b, landmarks=tuple(known))
    with errors.unsaid(errors.OutOfDomainWarning):
        ways = (
            diffeo.relative_error(t.transform(held[0]), held[1]),
            diffeo.relative_error(t.inverse_transform(held[1]), held[0]),
        )
    name = f"{pieces} on {'both' if of_both else 'A alone'}{', one with two landmarks' if lacking else ''}"
    expected = t.diagnostics.expected_error, t.diagnostics.expected_error_back
    return Draw(name, ways, expected, bool(t.diagnostics.problems), t.coordinates)
