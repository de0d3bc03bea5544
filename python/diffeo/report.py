"""The report of an assessment: verdict, reason, evidence, and what it takes to reproduce it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from diffeo._validation import FloatArray, IntArray
from diffeo.baselines import Baseline
from diffeo.equivalence import Direction


@dataclass(frozen=True, eq=False)
class Report:
    """Verdict on two observations of one domain; made by `diffeo.assess`.

    Attributes
    ----------
    verdict : {"equivalent", "a_to_b", "b_to_a", "not_equivalent", "undetermined"}
    reason : str
        One or two sentences: why, and what is lost where.
    forward, backward : Direction
        From A to B, and from B to A.
    margin, significance : float
    baselines : list of Baseline
        Plain methods on the same landmarks and held-out pairs.
    problems : list of str
        Those of the transformation's diagnostics; they do not change the verdict.
    n_landmarks : int
    coordinates : {"isometric", "diffusion", "regression"}
    embeddings : tuple of ndarray of shape (n_a, d_a), (n_b, d_b)
        Intrinsic coordinates of the samples of A, moved to B's, and of B (at most 2,000 of each, evenly spaced rows).
    held_out : tuple of ndarray of shape (H, d_a), (H, d_b)
        Intrinsic coordinates of the held-out pairs, as seen from A (moved to B's) and from B.
    spectra : tuple of ndarray
        Nontrivial generator eigenvalues of A and of B, per squared input unit.
    diagnostics : dict
        Numbers by name: stress, landmark residual, scale, near folds.
    settings : dict
        What reproduces it: versions, platform, arguments, sizes of both samples.
    rows : tuple of ndarray of int64, or None
        Which samples `embeddings` show, as rows of each observation; None: all of them.
    """

    verdict: str
    reason: str
    forward: Direction
    backward: Direction
    margin: float
    significance: float
    baselines: list[Baseline]
    problems: list[str]
    n_landmarks: int
    coordinates: str
    embeddings: tuple[FloatArray, FloatArray] = field(repr=False)
    held_out: tuple[FloatArray, FloatArray] = field(repr=False)
    spectra: tuple[FloatArray, FloatArray] = field(repr=False)
    diagnostics: dict[str, Any] = field(repr=False)
    settings: dict[str, Any] = field(repr=False)
    rows: tuple[IntArray, IntArray] | None = field(default=None, repr=False)
