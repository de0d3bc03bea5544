"""What is suspected of one side alone, as sentences: stretched layouts, folds, samples left out, pairs that fail the gates."""

from __future__ import annotations

import numpy as np

from diffeo._support.arrays import IntArray
from diffeo._support.point_tree import PointTree
from diffeo._support.threads import workers
from diffeo._support.wording import percent, rows_text
from diffeo.charts.diffusion import DiffusionChart
from diffeo.charts.isometric import IsometricChart
from diffeo.isometry.embedding import loose_texts
from diffeo.isometry.trust import OVERLAPPING, TURNED, UNSETTLED, is_strained, is_suspicious, too_many_strays
from diffeo.observation.curvature import SUGGESTED, or_samples
from diffeo.observation.folds import many_near_folds, near_folds
from diffeo.observation.observation import Observation

# Share of gated pairs beyond which the measurements are suspected not to embed the input.
SUSPICIOUS_GATED_SHARE = 0.1

# Each sentence begins with `where`: "on side A ", or nothing where there is one side only.


def layout_problems(where: str, chart: IsometricChart) -> list[str]:
    """Lengths that are not kept, layouts that had not settled or overlap, samples left out, folds."""
    problems = []
    stress, misfits = chart.embedding.stress_, chart.embedding.misfit_
    noise = chart.observation.length_noise
    if is_suspicious(stress, noise) and chart.roughness > 0.0:
        problems.append(
            f"{where}lengths are rough everywhere (relative stress {stress:.4f}; the two ends of the usual step differ by "
            f"{percent(2.0 * chart.roughness)}), as between the linear pieces of rectifiers and pooling; the coordinates "
            "average over all of them; measure the network smoothed at the spacing of the samples (smooth=)"
            + ("" if chart.observation.options.slopes else ', or by covariances="slopes"')
        )
    elif is_strained(stress, noise, chart.embedding.moved_):
        worst = np.argsort(-np.where(np.isfinite(misfits), misfits, 0.0), kind="stable")[:5]
        problems.append(
            f"{where}the coordinates cannot keep all local lengths (relative stress {stress:.4f}, worst "
            f"around {rows_text(worst)}): the measurements bend sharply or pass near themselves there, or the "
            f"domain is curved; add neurons{or_samples(chart.observation)}"
        )
    elif not chart.embedding.converged_ and stress > UNSETTLED:
        problems.append(
            f"{where}the layout had not settled after {chart.embedding.n_iter_} steps (relative stress "
            f"{stress:.4f}): a thin or sparse domain; use more samples: {SUGGESTED}"
        )
    return problems + _places_problems(where, chart)


def _places_problems(where: str, chart: IsometricChart) -> list[str]:
    """Samples left out, folds, a layout on top of itself."""
    problems = left_out_problems(where, chart.left_out, chart.observation)
    problems += fold_problems(where, chart.observation)
    if chart.embedding.overlap_ > OVERLAPPING:
        problems.append(
            f"{where}{100 * chart.embedding.overlap_:.0f} % of the samples lie on top of others in the layout, as "
            "two sheets do: it was caught in a local minimum, or the measurements do not tell inputs apart; add neurons"
        )
    return problems


def loose_problems(where: str, chart: IsometricChart) -> list[tuple[str, bool]]:
    """Parts that few edges hold, and of each whether it may be mirrored: which no comparison of halves would show."""
    known = chart.embedding.looseness_
    texts = loose_texts(chart.embedding.loose_part_, known)
    return [(where + text, bool(doubt >= TURNED)) for text, doubt in zip(texts, known, strict=True)]


def kernel_problems(where: str, chart: DiffusionChart) -> list[str]:
    """Pairs that fail the gates, samples left out, folds."""
    problems = []
    share = chart.diffusion_map.kernel_.gated_share
    if share > SUSPICIOUS_GATED_SHARE:
        problems.append(
            f"{where}{100 * share:.0f} % of the near pairs fail the gates: the measurements bend sharply or "
            f"cross themselves; add neurons, or samples: {SUGGESTED}"
        )
    return (
        problems + left_out_problems(where, chart.left_out, chart.observation) + fold_problems(where, chart.observation)
    )


def left_out_problems(where: str, rows: IntArray, observation: Observation) -> list[str]:
    """Samples that are not in the graph: how many, which, and next to what."""
    if len(rows) == 0:
        return []
    count, where_in = f"{len(rows)} samples", f"{percent(len(rows) / len(observation))}; {rows_text(rows)}"
    apart = np.setdiff1d(rows, observation.deficient)
    if not too_many_strays(len(apart), len(observation)):
        falls = "".join(f"; {text}" for text in observation.rank_map.falls(observation.dim))
        return [
            f"{where}{count} are rank-deficient or have no neighbours that pass the gates ({where_in}); they were left out of "
            f"the graph: the measurements fold or bend sharply there{falls}"
        ]
    beside = rows_text(_next_to(apart, rows, observation))
    return [
        f"{where}{count} ({where_in}) do not hang together with the others, next to {beside}; they were left out, and "
        "coordinates say nothing of them: the measurements fold or bend sharply in between, or samples are missing there; "
        f"{SUGGESTED}"
    ]


def _next_to(apart: IntArray, left_out: IntArray, observation: Observation) -> IntArray:
    """The samples of the graph that come nearest to those that are apart, nearest first."""
    spread = observation.points.std(axis=0)
    points = observation.points / np.where(spread > 0.0, spread, 1.0)
    inside = np.setdiff1d(np.arange(len(points)), left_out)
    distance, near = PointTree(points[inside]).query(points[apart], workers=workers())
    nearest = inside[near[np.argsort(distance, kind="stable")]]
    found: IntArray = nearest[np.sort(np.unique(nearest, return_index=True)[1])]
    return found


def fold_problems(where: str, observation: Observation) -> list[str]:
    """Samples at which the stretch in some direction nearly vanishes."""
    rows = near_folds(observation)
    if not many_near_folds(len(rows), len(observation)):
        return []
    return [
        f"{where}the Jacobian nearly vanishes in some direction at {len(rows)} samples ({rows_text(rows)}): the "
        "measurements fold there; add neurons that respond"
    ]
