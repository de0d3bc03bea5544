"""Section of the horse demo: the angle and the whole picture from a few neurons of the hidden layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.arrays import FloatArray
from diffeo.demos.horse import drawings
from diffeo.demos.horse.turntable import Eye, difference, observed
from diffeo.demos.page import Page
from diffeo.matching.reconstruction import reconstruct
from diffeo.networks.neuron_choice import suggest_neurons
from diffeo.verdict.error_bounds import relative_error

# Angles of the sample at which angle and code are known.
KNOWN = 30
COUNTS = range(1, 8)
# Sizes of the sets that are chosen rather than drawn.
SUGGESTED = (3, 4, 5, 6)


@dataclass(frozen=True, eq=False)
class Study:
    """The hidden layer at the sample (n, h), at bursts around it (n * K, h), and at held-out angles (count, h)."""

    eye: Eye
    points: FloatArray
    members: FloatArray
    angles: FloatArray
    seen: FloatArray
    measured: FloatArray

    def attempt(self, neurons: Any) -> tuple[FloatArray, FloatArray] | None:
        """Angles (count,) and pictures (count, size, size) reconstructed from some neurons, or None if refused."""
        rows = np.arange(KNOWN) * len(self.points) // KNOWN
        angles, codes = self.eye.angles[rows], self.eye.network.encode(self.eye.pictures[rows])
        known = np.column_stack([np.cos(angles), np.sin(angles), codes])
        points, members = (np.ascontiguousarray(x[:, neurons]) for x in (self.points, self.members))
        try:
            with errors.unsaid(errors.DiffeoWarning):
                found = reconstruct(observed(points, members), rows, known, kind="output")
                values = found.predict(np.ascontiguousarray(self.measured[:, neurons]))
        except errors.DiffeoError:
            return None
        return np.arctan2(values[:, 1], values[:, 0]), self.eye.network.decode(np.ascontiguousarray(values[:, 2:]))

    def errors(self, found: tuple[FloatArray, FloatArray]) -> tuple[float, float, float]:
        """Median and largest error of the angle in degrees, relative error of the pictures."""
        missed = np.abs(np.degrees(difference(found[0], self.angles)))
        return float(np.median(missed)), float(missed.max()), self.picture_error(found[1])

    def picture_error(self, pictures: FloatArray) -> float:
        """Relative error of pictures at the held-out angles."""
        count = len(self.angles)
        return relative_error(pictures.reshape(count, -1), self.seen.reshape(count, -1))


def neurons_section(eye: Eye, bursts: FloatArray, angles: FloatArray, draws: int, out: Path, page: Page) -> None:
    """Reconstruct angle and picture from 1 to 7 neurons of the hidden layer; print and draw.

    Parameters
    ----------
    eye : Eye
    bursts : ndarray of shape (n * K, size, size)
        Pictures of bursts around its sample.
    angles : ndarray of shape (count,)
        To test at.
    draws : int
        Random sets of neurons for each number.
    out : Path
        Folder for the picture.
    page : Page
    """
    print(f"\n(c) A's angle and picture from a few of its hidden neurons and {KNOWN} known angles")
    hidden, seen = eye.network.hidden, eye.see(angles)
    study = Study(eye, hidden(eye.pictures), hidden(bursts), angles, seen, hidden(seen))
    own = study.picture_error(eye.network.decode(eye.network.encode(seen)))
    lines = ["  neurons   angle, median   at worst   picture   refused   (medians of the draws)"]
    rng = np.random.default_rng(3)
    found, refused = [], []
    for count in COUNTS:
        tries = [study.attempt(rng.choice(study.points.shape[1], count, replace=False)) for _ in range(draws)]
        scores = np.array([study.errors(each) for each in tries if each is not None]).reshape(-1, 3)
        found.append(scores[:, 2])
        refused.append(1.0 - len(scores) / draws)
        lines.append(_line(f"{count}", scores, f"{draws - len(scores)} of {draws}"))
    suggested = [_suggested(study, count) for count in SUGGESTED]
    lines.append("  chosen by suggest_neurons:")
    for count, (_, advice, scores) in zip(SUGGESTED, suggested, strict=True):
        lines.append(_line(f"{count}", scores, advice))
    lines.append(f"  A's own decoding of its whole code: {own:.3f}")
    print("\n".join(lines))
    # The fewest against which nothing is to be said, or the most.
    best = next((k for k, (_, advice, _) in enumerate(suggested) if not advice), len(SUGGESTED) - 1)
    pictures = suggested[best][0]
    if pictures is None:
        raise errors.CaptureError(f"nothing could be reconstructed from {SUGGESTED[best]} neurons that were suggested")
    picture = out / "neurons.png"
    chosen = np.array(
        [(count, *scores[:, 2]) for count, (_, _, scores) in zip(SUGGESTED, suggested, strict=True) if len(scores)]
    )
    drawings.draw_neurons(
        (np.array(COUNTS, dtype=float), found, np.array(refused)),
        chosen,
        own,
        (SUGGESTED[best], angles, seen, pictures),
        picture,
    )
    page.add(
        "The picture from a few neurons",
        "A circle has one dimension, so three generic neurons (2d + 1) of the hidden layer hold all of it, if the sample is "
        "dense beside their curvature: suggest_neurons says when it is not, and which few do. diffeo recovers the circle "
        f"from them, and learns on it, from {KNOWN} known angles, the angle and the code, from which A's own decoder "
        "draws the picture.",
        lines,
        [(picture, "error against the number of neurons, and pictures drawn from a few neurons")],
        [Study],
    )


def _suggested(study: Study, count: int) -> tuple[FloatArray | None, str, FloatArray]:
    """Pictures from suggested neurons (None if refused), what is said against them, and the errors (1 or 0, 3)."""
    with errors.unsaid(errors.DiffeoWarning):
        chosen = suggest_neurons(observed(study.points, study.members), n_neurons=count)
    found = study.attempt(chosen.neurons)
    advice = f"advised against: they turn by {chosen.turning[-1]:.1f} between samples" if chosen.problems else ""
    if found is None:
        return None, advice or "refused", np.empty((0, 3))
    return found[1], advice, np.array([study.errors(found)])


def _line(name: str, scores: FloatArray, remark: str) -> str:
    if len(scores) == 0:
        return f"  {name:>9}   {'--':>13}   {'--':>8}   {'--':>7}   {remark}"
    median, worst, picture = np.median(scores, axis=0)
    return f"  {name:>9}   {median:>12.2f}\u00b0   {worst:>7.2f}\u00b0   {picture:>7.3f}   {remark}"
