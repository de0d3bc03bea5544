"""Facts beside a verdict: spectra of both sides, numbers of the diagnostics, and what it takes to make a report again."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import scipy

from diffeo import __version__, errors
from diffeo._support import core
from diffeo._support.arrays import FloatArray, IntArray
from diffeo.diffusion.diffusion_map import DiffusionMap
from diffeo.matching.piecewise.by_pieces import ByPieces
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation

# Samples of each side, and eigenvalues, for the spectra that a report shows.
MOST_FOR_SPECTRA, N_EIGENVALUES = 4000, 10


def spectra_of(t: Transformation, n_jobs: int | None) -> tuple[FloatArray, FloatArray]:
    """Nontrivial generator eigenvalues of both sides; empty where a side has none."""
    known = t.diagnostics.generator_eigenvalues
    return known if known is not None else (_spectrum(t.a.observation, n_jobs), _spectrum(t.b.observation, n_jobs))


def _spectrum(observation: Observation, n_jobs: int | None) -> FloatArray:
    part = observation[spaced(len(observation), MOST_FOR_SPECTRA)]
    try:
        with errors.unsaid(errors.DiffeoWarning):  # a spectrum here is an illustration
            fitted = DiffusionMap(n_components=min(N_EIGENVALUES, len(part.usable) // 4), n_jobs=n_jobs).fit(part)
    except errors.DiffeoError:
        return np.empty(0)
    values: FloatArray = fitted.generator_eigenvalues_[1:]
    # Pieces have spectra of their own: nothing to compare.
    return values if fitted.n_connected_components_ == 1 else np.empty(0)


def diagnosed(t: Transformation) -> dict[str, Any]:
    """Numbers of the diagnostics by name."""
    known = t.diagnostics
    facts: dict[str, Any] = {"landmark_residual": float(known.landmark_residual), "scale": float(t.scale)}
    facts["near_folds"] = [len(rows) for rows in known.near_folds]
    if known.stress is not None:
        facts["stress"] = [float(value) for value in np.atleast_1d(known.stress)]
    if isinstance(t.map, ByPieces):
        facts["pieces"] = len(t.map.parts)
        sizes = len(t.a.observation), len(t.b.observation)
        facts["share_in_pieces"] = [sum(len(rows[k]) for rows in t.map.rows) / sizes[k] for k in (0, 1)]
    if known.expected_error is not None:
        # From A to B, from B to A.
        facts["expected_error"] = [known.expected_error, known.expected_error_back]
    if known.competed:
        facts["maps_tried"] = {name: error for name, error in known.competed.items() if np.isfinite(error)}
    return facts


def settings_of(t: Transformation, arguments: dict[str, float]) -> dict[str, Any]:
    """What it takes to make the report again."""
    return {
        "diffeo": __version__,
        "instruction_set": core.INSTRUCTION_SET,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "platform": platform.platform(),
        "arguments": arguments,
        "n_a": len(t.a.observation),
        "n_b": len(t.b.observation),
        "source_a": t.a.observation.source,
        "source_b": t.b.observation.source,
    }


def spaced(count: int, most: int) -> IntArray:
    """At most so many rows, evenly spaced."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)
