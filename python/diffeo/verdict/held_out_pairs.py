"""Held-out pairs as they are given, parsed, and refused where they cannot judge."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffeo import errors
from diffeo._support.wording import rows_text
from diffeo.matching.pairs import Pairs, as_pairs
from diffeo.matching.transformation import Transformation
from diffeo.observation.observation import Observation


def parsed_held_out(held_out: Any, obs_a: Observation, obs_b: Observation) -> Pairs:
    """Held-out pairs, of which there are some."""
    try:
        pairs = as_pairs(held_out, obs_a, obs_b, "held_out")
    except errors.LandmarkError as error:
        raise errors.InputError(str(error)) from error
    if pairs is None:
        raise errors.InputError(
            "held_out is empty: an assessment needs pairs of measurements (points_a, points_b) of common inputs that are "
            "no landmarks, or an (H, 2) array of row numbers"
        )
    return pairs


def check_apart(landmarks: Pairs | None, held_out: Pairs) -> None:
    """Refuse held-out pairs that have the identifiers of landmarks."""
    if landmarks is None or landmarks.ids is None or held_out.ids is None:
        return
    both = np.flatnonzero(np.isin(held_out.ids, landmarks.ids))
    if len(both):
        raise errors.InputError(
            f"{len(both)} of {len(held_out)} held-out pairs ({rows_text(both)}) have identifiers of landmarks: they cannot "
            "judge what was fitted to them; leave them out on one of the two sides"
        )


def check_held_out(pairs: Pairs, t: Transformation) -> None:
    """Refuse held-out pairs that are landmarks, or each other."""
    rows = np.hstack(pairs.points)
    _, first, group = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    again = np.flatnonzero(first[group.ravel()] != np.arange(len(rows)))
    if len(again):
        raise errors.InputError(
            f"{len(again)} held-out pairs ({rows_text(again)}) are the same as earlier ones: a pair counts once; remove them"
        )
    if t.landmarks is not None:
        known = {row.tobytes() for row in np.hstack(t.landmarks)}
        seen = np.flatnonzero([row.tobytes() in known for row in rows])
        if len(seen):
            raise errors.InputError(
                f"{len(seen)} of {len(rows)} held-out pairs ({rows_text(seen)}) are landmarks of the transformation: they "
                "cannot judge what was fitted to them; leave them out on one of the two sides"
            )
