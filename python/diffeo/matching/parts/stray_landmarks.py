"""What a map misses of landmarks that it does not use, although it stands for the whole sample."""

from __future__ import annotations

import numpy as np

from diffeo import errors
from diffeo.matching.problem import MatchProblem
from diffeo.matching.transformation import Transformation


def missed_unused(problem: MatchProblem, t: Transformation) -> float:
    """Relative error of the map at these, spread over all landmarks: the geometric mean of both ways; 0 where there are none.

    Of the landmarks that a chart found no place for, of those in pieces that were left out or that no map reaches, and of
    those apart from the others; not of wrong ones. None of them could make the map better where it is compared, so that they
    say without a bias what it is worth beside one that is learned from all.
    """
    if t.landmarks is None or problem.landmarks is None:
        return 0.0
    kept = {row.tobytes() for row in np.hstack(t.landmarks)}
    off = np.flatnonzero([row.tobytes() not in kept for row in np.hstack(problem.landmarks.points)])
    off = np.setdiff1d(off, problem.positions(t.diagnostics.wrong_landmarks))
    if not len(off):
        return 0.0
    at_a, at_b = problem.landmarks.points
    # That they lie outside is what is asked.
    with errors.unsaid(errors.OutOfDomainWarning):
        ways = [(t.sent(at_a[off]).values, at_b)]
        if t.invertible:
            ways.append((t.sent_back(at_b[off]).values, at_a))
    tiny = float(np.finfo(float).tiny)
    missed = [
        float(np.linalg.norm(found - true[off])) / max(float(np.linalg.norm(true - true.mean(axis=0))), tiny)
        for found, true in ways
    ]
    return float(np.exp(np.mean(np.log(np.maximum(missed, tiny)))))
